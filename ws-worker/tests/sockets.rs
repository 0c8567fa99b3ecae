//! The worker over loopback, embedded: every version, every way in and out of a socket.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on says so by panicking"
)]

mod common;

use common::{Client, Message, PATIENCE, Version, ask, open, tcp, wait_for};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use ws_proto::{Cause, ClientOptions, CloseCode, Limits};
use ws_worker::command::{Action, Broadcast, Scope};
use ws_worker::handler::{Chat, Echo};
use ws_worker::{
    Accept, ClosedBy, Connecting, Decision, End, Handler, LateDecision, Rejection, Running, Socket,
    SocketId, Worker,
};

const ALL: [Version; 5] = Version::ALL;

fn echo() -> (Running, SocketAddr) {
    started(Worker::builder().route("/", || Echo))
}

fn started(builder: ws_worker::Builder) -> (Running, SocketAddr) {
    let running = builder.listen("127.0.0.1:0").start().expect("it starts");
    let address = running.addresses()[0];
    (running, address)
}

/// What a handler was told, for a test to look at.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Open(SocketId),
    Message(String),
    Close {
        clean: bool,
        code: Option<u16>,
        reason: String,
        by: ClosedBy,
    },
    Lost {
        by: ClosedBy,
    },
}

struct Teller(Sender<Told>);

impl Handler for Teller {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.0.send(Told::Open(socket.id())).unwrap();
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        if let Message::Text(text) = &message {
            self.0.send(Told::Message(text.to_string())).unwrap();
        }
        socket.send(message).unwrap();
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, end: &End<'_>) {
        assert!(socket.send(Message::text("too late")).is_err());
        let code = end.code.map(CloseCode::get);
        let reason = end.reason.to_owned();
        self.0
            .send(Told::Close {
                clean: end.clean,
                code,
                reason,
                by: end.by,
            })
            .unwrap();
    }

    fn on_lost(&mut self, _: SocketId, end: &End<'_>) {
        self.0.send(Told::Lost { by: end.by }).unwrap();
    }
}

fn teller() -> (impl Fn() -> Teller + Send + Sync + 'static, Receiver<Told>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    (move || Teller(sender.lock().unwrap().clone()), receiver)
}

fn next(told: &Receiver<Told>) -> Told {
    told.recv_timeout(PATIENCE).expect("the handler is told")
}

fn opened(told: &Receiver<Told>) -> SocketId {
    match next(told) {
        Told::Open(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_version_is_echoed_text_and_where_it_exists_binary() {
    let (running, address) = echo();
    for version in ALL {
        let mut client = open(address, version, "/any/where?x=1");
        for text in ["hello", "", "日本語 🎉", &"x".repeat(70_000)] {
            client.text(text);
            assert_eq!(client.receive_text(), text, "{version}");
        }
        if version.has_binary() {
            let bytes: Vec<u8> = (0..900_000_u32).map(|i| (i * 31) as u8).collect();
            client.send(Message::binary(&bytes));
            assert_eq!(client.receive(), Some(Message::binary(&bytes)), "{version}");
        }
    }
    running.stop().unwrap();
}

#[test]
fn messages_in_one_segment_come_back_in_order() {
    let (_running, address) = echo();
    for version in ALL {
        let mut client = open(address, version, "/");
        let texts: Vec<String> = (0..5_000).map(|i| format!("message {i}")).collect();
        for text in &texts {
            client.text(text);
        }
        for text in &texts {
            assert_eq!(&client.receive_text(), text);
        }
    }
}

#[test]
fn a_client_that_closes_hears_it_back_and_then_the_end() {
    let (make, told) = teller();
    let (_running, address) = started(Worker::builder().route("/", make));
    for version in ALL {
        let mut client = open(address, version, "/");
        opened(&told);
        client.close(4001, "gone fishing");
        let closed = client.closed();
        assert!(
            closed.clean || !version.has_closing_handshake(),
            "{version}: {closed:?}"
        );
        let Told::Close {
            clean,
            code,
            reason,
            by,
        } = next(&told)
        else {
            panic!()
        };
        assert!(clean, "{version}");
        assert_eq!(by, ClosedBy::Client);
        if version.has_close_code() {
            assert_eq!((code, reason.as_str()), (Some(4001), "gone fishing"));
        } else {
            assert_eq!((code, reason.as_str()), (None, ""));
        }
    }
}

#[test]
fn a_stream_that_ends_is_abnormal_but_in_75_where_nothing_else_exists() {
    let (make, told) = teller();
    let (_running, address) = started(Worker::builder().route("/", make));
    for version in ALL {
        let mut client = open(address, version, "/");
        opened(&told);
        client.text("last words");
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(next(&told), Told::Message("last words".to_owned()));
        assert_eq!(
            client.receive_text(),
            "last words",
            "what was sent before is still answered"
        );
        let Told::Close {
            clean, code, by, ..
        } = next(&told)
        else {
            panic!()
        };
        let is_75 = version == Version::Hixie75;
        assert_eq!(
            (clean, code, by),
            (is_75, (!is_75).then_some(1006), ClosedBy::Client),
            "{version}"
        );
        assert!(client.receive().is_none());
    }
}

#[test]
fn another_thread_sends_and_closes_through_a_handle() {
    let (make, told) = teller();
    let (running, address) = started(Worker::builder().threads(2).route("/", make));
    for version in ALL {
        let mut client = open(address, version, "/");
        let id = opened(&told);
        running
            .handle()
            .send(id, Message::text("from afar"))
            .unwrap();
        assert_eq!(client.receive_text(), "from afar");
        running
            .handle()
            .close(id, CloseCode::new(4000).unwrap(), "enough");
        let closed = client.closed();
        if version.has_close_code() {
            assert_eq!(
                (closed.code.map(CloseCode::get), closed.reason.as_str()),
                (Some(4000), "enough")
            );
        }
        let told = next(&told);
        assert!(
            matches!(
                &told,
                Told::Close {
                    clean: true,
                    code: Some(4000),
                    by: ClosedBy::App,
                    ..
                }
            ),
            "{version}: {told:?}"
        );
        running.handle().send(id, Message::text("nobody")).unwrap();
    }
}

#[test]
fn a_broadcast_reaches_all_versions_on_all_threads_and_keeps_its_order() {
    let (_running, address) = started(
        Worker::builder()
            .threads(3)
            .route("/chat", || Chat)
            .route("/", || Echo),
    );
    let mut clients: Vec<Client> = (0..30)
        .map(|i| open(address, ALL[i % 5], "/chat"))
        .collect();
    let mut outsider = open(address, Version::Rfc6455, "/");
    // Whoever hears the first line is among the members, so all have to.
    for (index, client) in clients.iter_mut().enumerate() {
        client.text(&format!("here is {index}"));
        while client.receive_text() != format!("here is {index}") {}
    }
    for i in 0..300 {
        clients[7].text(&format!("line {i}"));
    }
    for client in &mut clients {
        while client.receive_text() != "line 0" {}
        for i in 1..300 {
            assert_eq!(client.receive_text(), format!("line {i}"));
        }
    }
    outsider.text("alone");
    assert_eq!(outsider.receive_text(), "alone");
}

#[test]
fn groups_hear_what_is_for_them() {
    struct Rooms;
    impl Handler for Rooms {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            let Message::Text(text) = &message else {
                return;
            };
            match text.split_once(' ') {
                Some(("join", room)) => socket.join(room),
                Some(("leave", room)) => socket.leave(room),
                Some(("others", _)) => return socket.broadcast_to_others(message),
                _ => socket.send_to_group("red", message.as_borrowed()),
            }
            let _ = socket.send(Message::text("done"));
        }
    }
    let (_running, address) = started(Worker::builder().threads(2).route("/", || Rooms));
    let mut clients: Vec<Client> = (0..6)
        .map(|_| open(address, Version::Rfc6455, "/"))
        .collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.text(if index % 2 == 0 {
            "join red"
        } else {
            "join blue"
        });
        assert_eq!(client.receive_text(), "done");
    }
    clients[1].text("hello reds");
    assert_eq!(clients[1].receive_text(), "done");
    for index in [0, 2, 4] {
        assert_eq!(clients[index].receive_text(), "hello reds");
    }
    clients[0].text("leave red");
    assert_eq!(clients[0].receive_text(), "done");
    clients[3].text("hello again");
    assert_eq!(clients[3].receive_text(), "done");
    assert_eq!(clients[2].receive_text(), "hello again");
    clients[5].text("others only");
    for index in [0, 1, 2, 3] {
        assert_eq!(clients[index].receive_text(), "others only");
    }
    clients[5].text("x y");
    assert_eq!(
        clients[5].receive_text(),
        "done",
        "the sender of `others` did not hear it"
    );
}

#[test]
fn a_handler_reads_cookies_refuses_origins_and_chooses_a_subprotocol() {
    struct Picky;
    impl Handler for Picky {
        fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
            if request.origin() != Some("http://example.org") {
                return Decision::refuse(403, "not you");
            }
            assert!(
                request.peer().starts_with("tcp:127.0.0.1:"),
                "{}",
                request.peer()
            );
            assert!(
                request.location().ends_with("/picky?q=%20"),
                "{}",
                request.location()
            );
            let mut accept = Accept::default();
            if let Some(user) = request.cookie("user") {
                accept
                    .headers
                    .add("Set-Cookie", format!("seen={user}; Path=/"))
                    .unwrap();
                accept.headers.add("X-Hello", "yes").unwrap();
            }
            accept.protocol = request
                .protocols()
                .find(|name| *name == "second")
                .map(str::to_owned);
            Decision::Accept(accept)
        }
    }
    let (_running, address) = started(Worker::builder().route("/picky", || Picky));
    for version in ALL {
        let mut options = ClientOptions::new(version, address.to_string(), "/picky?q=%20");
        options.origin = Some("http://example.org".to_owned());
        options.headers.add("Cookie", "a=b; user=ada").unwrap();
        options.protocols = if version.has_binary() {
            vec!["first".into(), "second".into()]
        } else {
            vec!["second".into()]
        };
        let client =
            ask(address, options.clone()).unwrap_or_else(|answer| panic!("{version}: {answer}"));
        assert_eq!(client.protocol.as_deref(), Some("second"), "{version}");
        assert!(
            client
                .headers
                .contains(&("Set-Cookie".to_owned(), "seen=ada; Path=/".to_owned())),
            "{version}"
        );
        options.origin = Some("http://evil.example".to_owned());
        let answer = ask(address, options).err().expect("it is refused");
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("Connection: close\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("not you"), "{answer}");
    }
    let answer = ask(
        address,
        ClientOptions::new(Version::Rfc6455, "x", "/pickyish"),
    )
    .err()
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn a_decision_may_come_later_from_another_thread() {
    struct Later(Sender<SocketId>);
    impl Handler for Later {
        fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
            self.0.send(request.id()).unwrap();
            Decision::Later
        }
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            Echo.on_message(socket, message);
        }
    }
    let (sender, ids) = channel();
    let sender = Mutex::new(sender);
    let (running, address) = started(
        Worker::builder()
            .threads(2)
            .route("/", move || Later(sender.lock().unwrap().clone())),
    );
    for version in ALL {
        let handle = running.handle();
        std::thread::scope(|scope| {
            let client = scope.spawn(move || open(address, version, "/"));
            let id = ids.recv_timeout(PATIENCE).unwrap();
            handle.decide(id, LateDecision::Accept(Accept::default()));
            let mut client = client.join().unwrap();
            client.text("at last");
            assert_eq!(client.receive_text(), "at last");
        });
        std::thread::scope(|scope| {
            let client = scope.spawn(move || {
                ask(address, ClientOptions::new(version, "h", "/"))
                    .err()
                    .unwrap()
            });
            let id = ids.recv_timeout(PATIENCE).unwrap();
            let rejection = Rejection {
                status: 402,
                headers: ws_worker::Headers::default(),
                body: b"pay".to_vec(),
            };
            handle.decide(id, LateDecision::Reject(rejection));
            assert!(client.join().unwrap().starts_with("HTTP/1.1 402 "));
        });
    }
}

#[test]
fn a_decision_that_never_comes_is_a_503_and_the_handler_hears_of_it() {
    struct Never(Sender<Told>);
    impl Handler for Never {
        fn on_connect(&mut self, _: &Connecting<'_>) -> Decision {
            Decision::Later
        }
        fn on_lost(&mut self, _: SocketId, end: &End<'_>) {
            self.0.send(Told::Lost { by: end.by }).unwrap();
        }
    }
    let (sender, told) = channel();
    let sender = Mutex::new(sender);
    let (_running, address) = started(
        Worker::builder()
            .route("/", move || Never(sender.lock().unwrap().clone()))
            .configure(|config| config.head.handshake_timeout = Duration::from_millis(200)),
    );
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "),
        "{answer}"
    );
    assert_eq!(
        next(&told),
        Told::Lost {
            by: ClosedBy::Worker
        }
    );
}

#[test]
fn a_panic_costs_its_client_and_nobody_else() {
    struct Fragile;
    impl Handler for Fragile {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            assert!(message.payload() != b"panic", "as asked");
            let _ = socket.send(message);
        }
    }
    let (_running, address) = started(Worker::builder().route("/", || Fragile));
    let mut bystander = open(address, Version::Rfc6455, "/");
    for version in ALL {
        let mut client = open(address, version, "/");
        client.text("panic");
        assert!(client.receive().is_none());
        bystander.text("still here");
        assert_eq!(bystander.receive_text(), "still here");
    }
}

#[test]
fn a_client_that_does_not_read_is_not_read_and_misses_nothing_when_it_comes_back() {
    let (_running, address) = echo();
    for version in ALL {
        let mut client = open(address, version, "/");
        client
            .stream
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let line = "0123456789".repeat(100);
        let frame = match version.has_binary() {
            true => [&[0x81, 0xfe, 0x03, 0xe8, 0, 0, 0, 0], line.as_bytes()].concat(),
            false => [b"\x00", line.as_bytes(), b"\xff"].concat(),
        };
        // Writes until the pipe is full both ways.
        let mut sent = 0;
        let partial = 'full: loop {
            let mut rest = frame.as_slice();
            while !rest.is_empty() {
                match client.stream.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(_) => break 'full frame.len() - rest.len(),
                }
            }
            sent += 1;
            assert!(sent < 200_000, "somebody buffers without end");
        };
        for _ in 0..sent {
            assert_eq!(client.receive_text(), line);
        }
        client.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        client.raw(&frame[partial..]);
        assert_eq!(client.receive_text(), line);
    }
}

#[test]
fn a_client_that_takes_nothing_is_dropped_in_time_and_its_handler_told_why() {
    let (make, told) = teller();
    let (running, address) = started(Worker::builder().route_with("/", make, |route| {
        route.stall_timeout = Duration::from_millis(300);
        route.max_output = 64 << 20;
    }));
    let client = open(address, Version::Rfc6455, "/");
    let id = opened(&told);
    let big = "x".repeat(8 << 20);
    for _ in 0..3 {
        running.handle().send(id, Message::text(&big)).unwrap();
    }
    let Told::Close {
        clean, reason, by, ..
    } = next(&told)
    else {
        panic!()
    };
    assert_eq!(
        (clean, reason.as_str(), by),
        (false, "no progress", ClosedBy::Worker)
    );
    drop(client);
}

#[test]
fn a_broadcast_that_a_client_cannot_take_drops_it_rather_than_leave_a_hole() {
    let (make, told) = teller();
    let (running, address) =
        started(Worker::builder().route_with("/", make, |route| route.max_output = 100_000));
    let mut slow = open(address, Version::Rfc6455, "/");
    opened(&told);
    let mut lively = open(address, Version::Rfc6455, "/");
    opened(&told);
    let line = "y".repeat(50_000);
    let mut heard = 0;
    for sent in 0..400 {
        running
            .handle()
            .broadcast(Message::text(&format!("{sent} {line}")))
            .unwrap();
        assert_eq!(lively.receive_text(), format!("{sent} {line}"));
        if let Ok(Told::Close { reason, by, .. }) = told.try_recv() {
            assert_eq!((reason.as_str(), by), ("output full", ClosedBy::Worker));
            heard = sent;
            break;
        }
    }
    assert!(heard > 0, "the slow one was dropped");
    // It hears a prefix, in order, and then the end.
    let mut expected = 0;
    while let Some(Message::Text(text)) = slow.receive() {
        assert_eq!(text, format!("{expected} {line}"));
        expected += 1;
    }
    assert!(expected > 0);
}

#[test]
fn a_paused_client_waits_and_goes_on_where_it_stopped() {
    struct Gate(Sender<Told>);
    impl Handler for Gate {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            self.0.send(Told::Open(socket.id())).unwrap();
            let _ = socket.send(message);
            socket.pause();
        }
    }
    let (sender, told) = channel();
    let sender = Mutex::new(sender);
    let (running, address) =
        started(Worker::builder().route("/", move || Gate(sender.lock().unwrap().clone())));
    for version in ALL {
        let mut client = open(address, version, "/");
        for i in 0..10 {
            client.text(&format!("{i}"));
        }
        for i in 0..10 {
            let id = opened(&told);
            assert_eq!(client.receive_text(), format!("{i}"));
            assert!(
                told.try_recv().is_err(),
                "nobody passes before the gate opens"
            );
            running.handle().resume(id);
        }
    }
}

#[test]
fn a_silent_client_is_pinged_then_dropped_and_an_idle_one_is_closed() {
    let (make, told) = teller();
    let (_running, address) = started(Worker::builder().route_with("/", make, |route| {
        route.limits = Arc::new(Limits {
            heartbeat: Some(Duration::from_millis(100)),
            pong_timeout: Duration::from_millis(200),
            idle_timeout: Some(Duration::from_millis(900)),
            ..Limits::default()
        });
    }));
    let mut silent = open(address, Version::Hybi08, "/");
    opened(&told);
    let Told::Close {
        code, by, clean, ..
    } = next(&told)
    else {
        panic!()
    };
    assert_eq!((code, by, clean), (Some(1006), ClosedBy::Worker, false));
    let mut seen = [0; 2];
    silent.stream.read_exact(&mut seen).unwrap();
    assert_eq!(seen[0], 0x89, "it was pinged");
    let mut idle = open(address, Version::Rfc6455, "/");
    opened(&told);
    assert_eq!(idle.closed().code, Some(CloseCode::GOING_AWAY)); // It answers pings, and that is not enough.
    let Told::Close { code, by, .. } = next(&told) else {
        panic!()
    };
    assert_eq!((code, by), (Some(1001), ClosedBy::Worker));
}

#[test]
fn pings_follow_the_heartbeat_however_long_a_pong_may_take() {
    let (make, _told) = teller();
    let (_running, address) = started(Worker::builder().route_with("/", make, |route| {
        route.limits = Arc::new(Limits {
            heartbeat: Some(Duration::from_millis(50)),
            pong_timeout: Duration::from_secs(60),
            ..Limits::default()
        });
    }));
    let mut client = open(address, Version::Rfc6455, "/");
    let patience = Some(Duration::from_secs(10));
    client.stream.set_read_timeout(patience).unwrap();
    for _ in 0..3 {
        let mut ping = [0; 6];
        client.stream.read_exact(&mut ping).unwrap();
        assert_eq!(ping[..2], [0x89, 4]);
        let pong = [&[0x8a, 0x84, 0, 0, 0, 0], &ping[2..]].concat();
        client.stream.write_all(&pong).unwrap();
    }
}

#[test]
fn a_heartbeat_text_is_swallowed_and_answered_as_configured() {
    let (make, told) = teller();
    let (_running, address) = started(Worker::builder().route_with("/", make, |route| {
        route.heartbeat_text = Some(ws_worker::config::HeartbeatText {
            receive: "Heartbeat".to_owned(),
            answer: Some("alive".to_owned()),
        });
    }));
    for version in ALL {
        let mut client = open(address, version, "/");
        opened(&told);
        client.text("Heartbeat");
        assert_eq!(client.receive_text(), "alive");
        client.text("heartbeat");
        assert_eq!(client.receive_text(), "heartbeat");
        assert_eq!(next(&told), Told::Message("heartbeat".to_owned()));
        drop(client);
        assert!(matches!(next(&told), Told::Close { .. }));
    }
}

#[test]
fn a_drain_closes_everybody_with_1012_and_ends() {
    let (make, told) = teller();
    let (running, address) = started(
        Worker::builder()
            .threads(2)
            .route("/", make)
            .configure(|config| config.drain = Duration::from_secs(2)),
    );
    let mut clients: Vec<Client> = ALL
        .iter()
        .map(|version| open(address, *version, "/"))
        .collect();
    for _ in 0..clients.len() {
        opened(&told);
    }
    let stopping = std::thread::spawn(move || running.stop());
    for client in &mut clients {
        let closed = client.closed();
        if closed.code.is_some() {
            assert!(
                matches!(closed.code.map(CloseCode::get), Some(1012 | 1001)),
                "{closed:?}"
            );
        }
        client.close(1000, "");
    }
    for _ in 0..clients.len() {
        let told = next(&told);
        assert!(
            matches!(
                told,
                Told::Close {
                    code: Some(1012),
                    by: ClosedBy::Worker,
                    ..
                }
            ),
            "{told:?}"
        );
    }
    stopping.join().unwrap().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn who_sends_nothing_does_not_keep_others_out() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.bounds.max_handshakes = 8;
    }));
    let mut dawdlers: Vec<_> = (0..30)
        .map(|_| {
            let mut stream = tcp(address);
            stream.write_all(b"GET / HT").unwrap();
            stream
        })
        .collect();
    let mut client = open(address, Version::Rfc6455, "/");
    client.text("quick");
    assert_eq!(client.receive_text(), "quick");
    // The oldest were told to come back.
    let mut answer = String::new();
    dawdlers[0].read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[test]
fn a_slow_head_is_a_408_at_its_deadline_however_it_trickles() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.head.handshake_timeout = Duration::from_millis(300);
    }));
    let mut stream = tcp(address);
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut answer = Vec::new();
    let mut bytes = [0; 1024];
    wait_for("the refusal", || {
        let _ = stream.write_all(b"X"); // It may have been refused already.
        if let Ok(count) = stream.read(&mut bytes) {
            answer.extend_from_slice(&bytes[..count]);
        }
        !answer.is_empty()
    });
    assert!(
        answer.starts_with(b"HTTP/1.1 408 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn too_many_sockets_are_told_to_come_back_and_room_is_found_again() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.bounds.max_connections = 3;
    }));
    let mut clients: Vec<Client> = (0..3)
        .map(|_| open(address, Version::Rfc6455, "/"))
        .collect();
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    clients.pop().unwrap().close(1000, "");
    wait_for("room", || {
        ask(address, ClientOptions::new(Version::Rfc6455, "h", "/")).is_ok()
    });
}

#[test]
fn one_peer_has_its_share_of_sockets_and_no_more() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.bounds.max_per_peer = Some(2);
    }));
    let first = open(address, Version::Rfc6455, "/");
    let _second = open(address, Version::Hixie76, "/");
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(first);
    wait_for("the share", || {
        ask(address, ClientOptions::new(Version::Rfc6455, "h", "/")).is_ok()
    });
}

#[test]
fn a_proxy_protocol_head_is_required_where_it_is_configured_and_believed() {
    let (sender, peers) = channel();
    let sender = Mutex::new(sender);
    struct Peers(Sender<String>);
    impl Handler for Peers {
        fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
            self.0.send(request.peer().to_owned()).unwrap();
            Decision::accept()
        }
    }
    let (_running, address) = started(
        Worker::builder()
            .listen("127.0.0.1:0")
            .route("/", move || Peers(sender.lock().unwrap().clone()))
            .configure(|config| config.listeners[0].proxy_protocol = true),
    );
    // `started` added a second listener; the first one is the one that asks for the head.
    let mut stream = tcp(address);
    for byte in b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let _client = common::ask_on(stream, ClientOptions::new(Version::Hixie76, "h", "/"))
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(peers.recv_timeout(PATIENCE).unwrap(), "tcp:192.0.2.7:4711");
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert_eq!(answer, "", "nothing is said to who speaks without it");
}

#[test]
fn nothing_behind_a_refusal_is_answered() {
    let (_running, address) = echo();
    let mut stream = tcp(address);
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 9\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nGET /admin HTTP/1.1\r\nHost: h\r\n\r\n",
        )
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert!(
        answer.contains("\r\nSec-WebSocket-Version: 13, 8, 7\r\n"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[test]
fn a_broken_frame_is_answered_with_its_code_and_a_fin() {
    let (make, told) = teller();
    let (_running, address) = started(Worker::builder().route("/", make));
    for (bytes, code) in [
        (&b"\x83\x80aaaa"[..], 1002),
        (b"\x81\x05hello", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x00aaaa", 1009),
    ] {
        let mut client = open(address, Version::Rfc6455, "/");
        opened(&told);
        client.raw(bytes);
        let closed = client.closed();
        assert_eq!(
            (closed.cause, closed.code.map(CloseCode::get)),
            (Cause::ClosedByPeer, Some(code))
        );
        let Told::Close {
            code: told_code,
            by,
            ..
        } = next(&told)
        else {
            panic!()
        };
        assert_eq!((told_code, by), (Some(code), ClosedBy::Worker));
    }
}

#[test]
fn what_is_sent_behind_a_broadcast_stays_behind_it() {
    struct Both;
    impl Handler for Both {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            let all = Arc::new(Broadcast::new(message.into_owned()));
            socket.command(Action::Broadcast(Scope::All, None, all));
            socket.send(Message::text("after it")).unwrap();
            socket.close(CloseCode::NORMAL, "and the end");
        }
    }
    let (_running, address) = started(Worker::builder().route("/", || Both));
    let mut client = open(address, Version::Rfc6455, "/");
    client.text("first");
    assert_eq!(client.receive_text(), "first");
    assert_eq!(client.receive_text(), "after it");
    let closed = client.closed();
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(CloseCode::NORMAL), "and the end")
    );
}

#[test]
fn versions_can_be_narrowed_by_route() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).route_with(
        "/new",
        || Echo,
        |route| {
            route.versions = [Version::Rfc6455, Version::Hybi08].into_iter().collect();
        },
    ));
    open(address, Version::Hixie75, "/");
    let answer = ask(address, ClientOptions::new(Version::Hixie75, "h", "/new"))
        .err()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert!(
        answer.contains("\r\nSec-WebSocket-Version: 13, 8\r\n"),
        "{answer}"
    );
}

#[test]
fn what_an_app_sends_during_the_handshake_waits_until_the_socket_is_open() {
    struct Later(Sender<SocketId>);
    impl Handler for Later {
        fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
            self.0.send(request.id()).unwrap();
            Decision::Later
        }
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            socket.send(Message::text("open")).unwrap();
        }
    }
    let (sender, ids) = channel();
    let sender = Mutex::new(sender);
    let (running, address) = started(
        Worker::builder()
            .threads(2)
            .route("/", move || Later(sender.lock().unwrap().clone())),
    );
    for version in ALL {
        let handle = running.handle();
        std::thread::scope(|scope| {
            let client = scope.spawn(move || open(address, version, "/"));
            let id = ids.recv_timeout(PATIENCE).unwrap();
            handle.send(id, Message::text("early")).unwrap();
            handle
                .send(id, Message::binary(b"only where it exists"))
                .unwrap();
            handle.join(id, "early birds");
            handle.decide(id, LateDecision::Accept(Accept::default()));
            let mut client = client.join().unwrap();
            assert_eq!(client.receive_text(), "open");
            assert_eq!(client.receive_text(), "early");
            if version.has_binary() {
                let expected = Some(Message::binary(b"only where it exists"));
                assert_eq!(client.receive(), expected);
            }
            handle
                .send_to_group("early birds", Message::text("worms"))
                .unwrap();
            assert_eq!(client.receive_text(), "worms");
        });
    }
}

#[test]
fn a_handler_of_its_own_for_each_socket_remembers_and_is_dropped() {
    #[derive(Default)]
    struct Counts(u32, Option<Sender<u32>>);
    impl Handler for Counts {
        fn on_message(&mut self, socket: &mut Socket<'_>, _: Message<'_>) {
            self.0 += 1;
            socket.send(Message::text(&self.0.to_string())).unwrap();
        }
        fn on_close(&mut self, _: &mut Socket<'_>, _: &End<'_>) {
            self.1.take().unwrap().send(self.0).unwrap();
        }
    }
    let (sender, ends) = channel();
    let sender = Arc::new(Mutex::new(sender));
    let (_running, address) = started(Worker::builder().route("/", move || {
        let sender = Arc::clone(&sender);
        ws_worker::PerSocket::new(move || Counts(0, Some(sender.lock().unwrap().clone())))
    }));
    let mut first = open(address, Version::Rfc6455, "/");
    let mut second = open(address, Version::Hixie75, "/");
    for count in 1..4 {
        first.text("x");
        assert_eq!(first.receive_text(), count.to_string());
    }
    second.text("x");
    assert_eq!(second.receive_text(), "1");
    first.close(1000, "");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(3));
}

#[test]
fn a_handler_pings_and_hears_how_long_it_took() {
    struct Pings(Sender<Duration>);
    impl Handler for Pings {
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            let has_ping = socket.version().has_ping();
            assert_eq!(socket.ping().is_ok(), has_ping);
        }
        fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
            Echo.on_message(socket, message);
        }
        fn on_pong(&mut self, _: &mut Socket<'_>, round_trip: Duration) {
            self.0.send(round_trip).unwrap();
        }
    }
    let (sender, pongs) = channel();
    let sender = Mutex::new(sender);
    let (_running, address) =
        started(Worker::builder().route("/", move || Pings(sender.lock().unwrap().clone())));
    for version in ALL {
        let mut client = open(address, version, "/");
        // The ping comes before the answer to this, and is answered on the way to it.
        client.text("x");
        assert_eq!(client.receive_text(), "x");
        if version.has_ping() {
            assert!(pongs.recv_timeout(PATIENCE).unwrap() < PATIENCE);
        }
    }
    assert!(pongs.try_recv().is_err());
}
