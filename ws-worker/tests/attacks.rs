//! What hostile peers do to an embedded worker, where no request from outside could show it so exactly.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "a test that cannot go on says so by panicking"
)]

mod common;

use common::{Message, PATIENCE, Version, ask, open, tcp, wait_for};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;
use ws_proto::ClientOptions;
use ws_worker::handler::{Chat, Echo};
use ws_worker::{
    Accept, ClosedBy, Connecting, Decision, End, Handler, LateDecision, Running, Socket, SocketId,
    Worker,
};

fn started(builder: ws_worker::Builder) -> (Running, SocketAddr) {
    let running = builder.listen("127.0.0.1:0").start().expect("it starts");
    let address = running.addresses()[0];
    (running, address)
}

/// Returns how many of these have an answer or their end.
fn answered(streams: &[TcpStream]) -> usize {
    let is_answered = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    streams.iter().filter(is_answered).count()
}

/// Never decides; says who asked and who was lost.
struct Undecided(Sender<(SocketId, Option<ClosedBy>)>);

impl Handler for Undecided {
    fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
        self.0.send((request.id(), None)).unwrap();
        Decision::Later
    }

    fn on_open(&mut self, _: &mut Socket<'_>) {
        panic!("as asked");
    }

    fn on_lost(&mut self, id: SocketId, end: &End<'_>) {
        // The test may be over.
        let _ = self.0.send((id, Some(end.by)));
    }
}

#[test]
fn handshakes_that_wait_for_a_decision_are_bounded_too() {
    let (sender, told) = channel();
    let sender = Mutex::new(sender);
    let (_running, address) = started(
        Worker::builder()
            .route("/", move || Undecided(sender.lock().unwrap().clone()))
            .configure(|config| {
                config.bounds.max_handshakes = 4;
                config.head.handshake_timeout = Duration::from_secs(60);
            }),
    );
    let head = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = tcp(address);
            stream.write_all(head.as_bytes()).unwrap();
            assert_eq!(told.recv_timeout(PATIENCE).unwrap().1, None);
            stream
        })
        .collect();
    let answer = ask(address, ClientOptions::new(Version::Rfc6455, "h", "/"))
        .err()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "),
        "{answer}"
    );
    let (asked, _) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        told.recv_timeout(PATIENCE).unwrap(),
        (asked, Some(ClosedBy::Worker))
    );
    assert_eq!(answered(&waiting), 0);
}

#[test]
fn who_was_silent_while_others_were_turned_away_is_bounded_later() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).configure(|config| {
        config.bounds.max_handshakes = 4;
        config.head.handshake_timeout = Duration::from_secs(60);
    }));
    let mut silent: Vec<_> = (0..20).map(|_| tcp(address)).collect();
    let mut speaking: Vec<_> = (0..10).map(|_| tcp(address)).collect();
    for stream in &mut speaking {
        stream.write_all(b"GET").unwrap();
    }
    wait_for("six to be turned away", || answered(&speaking) == 6);
    for stream in &mut silent {
        stream.write_all(b"GET").unwrap();
    }
    wait_for("all but four to be turned away", || {
        answered(&speaking) + answered(&silent) == 26
    });
    let mut client = open(address, Version::Rfc6455, "/");
    client.text("quick");
    assert_eq!(client.receive_text(), "quick");
}

#[test]
fn a_panic_behind_a_late_decision_costs_its_client_and_nobody_else() {
    let (sender, told) = channel();
    let sender = Mutex::new(sender);
    let (running, address) = started(
        Worker::builder()
            .route("/late", move || Undecided(sender.lock().unwrap().clone()))
            .route("/", || Echo),
    );
    let mut bystander = open(address, Version::Rfc6455, "/");
    for version in Version::ALL {
        std::thread::scope(|scope| {
            let client = scope.spawn(move || {
                let mut stream = match ask(address, ClientOptions::new(version, "h", "/late")) {
                    Ok(client) => client.stream,
                    Err(_) => return,
                };
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let (id, _) = told.recv_timeout(PATIENCE).unwrap();
            let accept = LateDecision::Accept(Accept::default());
            running.handle().decide(id, accept);
            client.join().unwrap();
        });
        bystander.send(Message::text(version.name()));
        assert_eq!(bystander.receive_text(), version.name());
    }
    assert_eq!(running.handle().counters().panics.get(), 5);
}

#[test]
fn a_flood_of_broadcasts_loses_none_though_each_turn_takes_few() {
    let (_running, address) = started(Worker::builder().route("/", || Chat));
    let mut sender = open(address, Version::Rfc6455, "/");
    let mut frames = Vec::new();
    for number in 0..20_000 {
        let text = format!("{number}");
        frames.extend_from_slice(&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        frames.extend_from_slice(text.as_bytes());
    }
    let mut stream = sender.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || stream.write_all(&frames).unwrap());
    for number in 0..20_000 {
        assert_eq!(sender.receive_text(), number.to_string());
    }
    writer.join().unwrap();
}

/// Echoes, but for a text that stops the loop until the test lets it go on.
struct Stopping(Arc<Barrier>);

impl Handler for Stopping {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        if message.payload() == b"stop" {
            self.0.wait();
            self.0.wait();
        }
        Echo.on_message(socket, message);
    }
}

#[test]
fn the_budget_is_not_overdrawn_within_a_turn_and_who_holds_most_gives_way() {
    const BUDGET: usize = 8 << 20;
    let barrier = Arc::new(Barrier::new(2));
    let shared = Arc::clone(&barrier);
    let (running, address) = started(
        Worker::builder()
            .route("/", move || Stopping(Arc::clone(&shared)))
            .configure(|config| config.bounds.memory = BUDGET),
    );
    let mut bystander = open(address, Version::Rfc6455, "/");
    let mut greedy: Vec<_> = (0..100)
        .map(|_| open(address, Version::Rfc6455, "/"))
        .collect();
    bystander.text("stop");
    barrier.wait();
    let mut waiting = 0;
    for client in &mut greedy {
        client.raw(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x0f, 0, 0, 0, 0, 0, 0]);
        client.stream.set_nonblocking(true).unwrap();
        while let Ok(count) = client.stream.write(&[0; 65_536]) {
            waiting += count;
        }
    }
    assert!(waiting > 2 * BUDGET, "{waiting}");
    barrier.wait();
    assert_eq!(bystander.receive_text(), "stop");
    let memory = || running.handle().counters().memory.get();
    wait_for("the budget to be used up", || memory() > BUDGET / 10 * 9);
    let most = memory();
    assert!(most < BUDGET, "{most}");
    bystander.text("once somebody has given way");
    assert_eq!(bystander.receive_text(), "once somebody has given way");
    drop(greedy);
    wait_for("all of it to be given back", || memory() == 0);
}

#[test]
fn what_is_broadcast_when_the_budget_has_room_again_leaves_at_once() {
    const BUDGET: usize = 8 << 20;
    let (running, address) = started(
        Worker::builder()
            .route("/", || Chat)
            .configure(|config| config.bounds.memory = BUDGET),
    );
    let mut speaker = open(address, Version::Rfc6455, "/");
    // Together they are over nine tenths; once one of them has given way, they are not, and nobody has more to say.
    let mut greedy: Vec<_> = (0..8)
        .map(|_| open(address, Version::Rfc6455, "/"))
        .collect();
    for client in &mut greedy {
        client.raw(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]);
        client.raw(&vec![0; 1_000_000]);
    }
    let memory = || running.handle().counters().memory.get();
    wait_for("the budget to be used up", || memory() > BUDGET / 10 * 9);
    speaker.text("to all");
    assert_eq!(speaker.receive_text(), "to all");
}

#[test]
fn mail_that_a_loop_does_not_take_is_bounded_by_the_budget() {
    const BUDGET: usize = 8 << 20;
    let barrier = Arc::new(Barrier::new(2));
    let shared = Arc::clone(&barrier);
    let (running, address) = started(
        Worker::builder()
            .route("/", move || Stopping(Arc::clone(&shared)))
            .configure(|config| config.bounds.memory = BUDGET),
    );
    let mut client = open(address, Version::Rfc6455, "/");
    client.text("stop");
    barrier.wait();
    let handle = running.handle();
    let text = "x".repeat(1000);
    let mut posted = 0;
    while handle.send_to_group("nobody", Message::text(&text)).is_ok() {
        posted += 1;
        assert!(posted < BUDGET / text.len(), "as if it weighed nothing");
    }
    let memory = || handle.counters().memory.get();
    assert!(
        memory() > BUDGET / 10 * 9 && memory() < BUDGET,
        "{}",
        memory()
    );
    barrier.wait();
    assert_eq!(client.receive_text(), "stop");
    wait_for("the mail to be taken", || memory() == 0);
    handle
        .send_to_group("nobody", Message::text("again"))
        .unwrap();
}

#[test]
fn a_peer_that_ignores_the_close_is_dropped_at_its_deadline_and_not_later() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let route = |route: &mut ws_worker::config::Route| {
        Arc::make_mut(&mut route.limits).close_timeout = TIMEOUT;
        Arc::make_mut(&mut route.limits).idle_timeout = Some(Duration::from_millis(50));
    };
    let (running, address) = started(Worker::builder().route_with("/", || Echo, route));
    let start = std::time::Instant::now();
    let _clients = Version::ALL.map(|version| open(address, version, "/"));
    let connections = || running.handle().counters().connections.get();
    assert_eq!(connections(), 5);
    wait_for("all to be dropped", || connections() == 0);
    assert!(start.elapsed() < TIMEOUT * 7 / 4, "{:?}", start.elapsed());
}
