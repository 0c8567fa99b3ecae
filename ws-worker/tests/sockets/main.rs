//! The worker over loopback, embedded: every version, every way in and out of a socket.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod handlers;
mod limits;

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
