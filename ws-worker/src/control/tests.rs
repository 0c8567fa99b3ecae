//! The source as a loop drives it: real sockets, made-up time, and threads that are played.

use super::*;
use crate::clock::Clock;
use crate::command::{
    Action, Command, Counted, Found, MAX_PAGE_BYTES, RouteId, Sent, SocketId, SocketInfo,
};
use crate::config::{self, Address, Bounds, Config, Route, Secret, Target};
use crate::mailbox::{Inbox, Mail, mailbox};
use crate::source::{Router, split};
use mio::net::{TcpListener, UnixListener};
use mio::{Events, Poll, Waker};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use ws_proto::Version;

const BODY: usize = 64 * 1024;

/// A socket's id on a thread.
pub(super) fn id(thread: u8, slot: u32) -> SocketId {
    SocketId {
        boot: [1, 2, 3],
        thread,
        slot,
        key: [(slot as u8).wrapping_mul(77); 16],
    }
}

/// What a thread knows of it.
pub(super) fn info(id: SocketId) -> SocketInfo {
    SocketInfo {
        id,
        route: RouteId(1),
        version: Version::Rfc6455,
        peer: "tcp:192.0.2.1:4711".to_owned(),
        resource: "/chat?x=y".to_owned(),
        origin: None,
        protocol: None,
        groups: Vec::new(),
        meta: Vec::new(),
        since: 1_700_000_000,
        messages_in: 1,
        messages_out: 2,
        queue: 3,
    }
}

/// Two routes, `/` and `/chat`.
pub(super) fn process(token: Option<&str>) -> Arc<Process> {
    let route = |number, path: &str| Arc::new(Route::new(RouteId(number), path, Target::Echo));
    Process::new(Arc::new(Config {
        threads: 2,
        control: Some(config::Control {
            address: Address::Descriptor(0),
            token: token.map(|token| Secret(token.as_bytes().to_vec())),
        }),
        routes: vec![route(0, "/"), route(1, "/chat")],
        bounds: Bounds {
            memory: 16 * 1024 * 1024,
            max_control_body: BODY,
            ..Bounds::default()
        },
        ..Config::default()
    }))
    .unwrap()
}

/// A loop with nothing in it but the control API, and a second thread that is only a mailbox.
struct World {
    poll: Poll,
    events: Events,
    control: Control,
    router: Router,
    inboxes: Vec<Inbox>,
    process: Arc<Process>,
    now: Instant,
    scratch: Vec<u8>,
    /// The second thread says nothing; its commands lie here.
    silent: bool,
    unanswered: Vec<Command>,
    path: std::path::PathBuf,
    #[expect(dead_code, reason = "removed with the world")]
    folder: Option<tempfile::TempDir>,
}

impl World {
    fn new(token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = Listening::Unix(UnixListener::bind(&path).unwrap());
        Self {
            path,
            folder: Some(folder),
            ..Self::on(token, listener)
        }
    }

    fn on(token: Option<&str>, listener: Listening) -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), token_of_waker()).unwrap());
        let process = process(token);
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| mailbox(Arc::clone(&process), Arc::clone(&waker)))
            .unzip();
        let control = Control::new(Arc::clone(&process), listener, poll.registry()).unwrap();
        Self {
            poll,
            events: Events::with_capacity(64),
            control,
            router: Router::new(0, mailboxes.into(), Arc::clone(&process)),
            inboxes,
            process,
            now: Instant::at(1000),
            scratch: vec![0; 16 * 1024],
            silent: false,
            unanswered: Vec::new(),
            path: std::path::PathBuf::new(),
            folder: None,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    fn with_turn(&mut self, act: impl FnOnce(&mut Control, &mut Turn<'_>)) {
        let mut turn = Turn {
            now: self.now,
            registry: self.poll.registry(),
            router: &mut self.router,
            scratch: &mut self.scratch,
        };
        act(&mut self.control, &mut turn);
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        let busy = self.control.poll_timeout().is_some_and(|at| at <= self.now);
        let wait = Duration::from_millis(if busy { 0 } else { 2 });
        self.poll.poll(&mut self.events, Some(wait)).unwrap();
        let events: Vec<_> = self
            .events
            .iter()
            .map(|event| {
                let readiness = Readiness {
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    closed: event.is_read_closed() || event.is_error(),
                };
                (split(event.token()), readiness)
            })
            .collect();
        for ((part, number), readiness) in events {
            if part == Part::Control {
                self.with_turn(|control, turn| control.ready(turn, number, readiness));
            }
        }
        if self.control.poll_timeout().is_some_and(|at| at <= self.now) {
            self.with_turn(|control, turn| control.handle_timeout(turn));
        }
        while let Some(command) = self.router.own.pop_front() {
            self.play(0, command);
        }
        let mail: Vec<Mail> = self.inboxes[1].take().collect();
        for mail in mail {
            match mail {
                Mail::Command(command) if self.silent => self.unanswered.push(command),
                Mail::Command(command) => self.play(1, command),
                Mail::Outcome(..)
                | Mail::Permit(_)
                | Mail::Written(_)
                | Mail::Drain { .. }
                | Mail::Reload(_) => {
                    panic!("{mail:?}")
                }
            }
        }
        while let Some((ticket, outcome)) = self.router.outcomes.pop_front() {
            self.with_turn(|control, turn| control.outcome(turn, ticket, outcome));
        }
    }

    /// What a thread would say: sockets in slots below 5 are there.
    fn play(&mut self, thread: u8, command: Command) {
        let there = |id: &SocketId| id.slot < 5;
        let found = |id| Outcome::Found(if there(id) { Found::Yes } else { Found::No });
        let outcome = match &command.action {
            Action::Send(ids, _) => {
                assert!(ids.iter().all(|id| id.thread == thread));
                let sent = |id: &SocketId| if there(id) { Sent::Queued } else { Sent::Gone };
                Outcome::Sent(ids.iter().map(|id| (*id, sent(id))).collect())
            }
            Action::Broadcast(..) => Outcome::Counted(Counted {
                queued: 10_usize.pow(u32::from(thread)),
                ..Counted::default()
            }),
            Action::Join(id, _) | Action::Leave(id, _) | Action::Close(id, ..) => found(id),
            Action::List(_) => Outcome::Listed(vec![info(id(thread, 1))]),
            Action::Inspect(id) => Outcome::Inspected(there(id).then(|| Box::new(info(*id)))),
            Action::Say(..) | Action::Resume(_) | Action::Decide(..) | Action::SetMeta(..) => {
                panic!("{command:?}")
            }
        };
        let ticket = command.reply.unwrap();
        self.router.outcomes.push_back((ticket, outcome));
    }

    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let clock = Clock::start();
        while !done(self) {
            assert!(clock.now() < Instant::at(20_000), "it never happened");
            self.turn();
        }
    }

    /// Sends as the worker takes it, and reads until the text so far satisfies, or the end.
    fn talk(
        &mut self,
        client: &mut (impl Read + Write),
        mut bytes: &[u8],
        enough: impl Fn(&str) -> bool,
    ) -> (String, bool) {
        let mut text = Vec::new();
        let mut ended = false;
        self.until(|_| {
            match client.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => bytes = &[], // It may refuse the rest.
            }
            let mut buffer = [0; 4096];
            match client.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(count) => text.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            bytes.is_empty() && (ended || enough(&String::from_utf8_lossy(&text)))
        });
        (String::from_utf8(text).unwrap(), ended)
    }

    /// One request, one answer: status and body.
    fn ask(&mut self, client: &mut (impl Read + Write), request: &str) -> (u16, String) {
        let (text, _) = self.talk(client, request.as_bytes(), is_whole);
        status_and_body(&text)
    }

    fn quiet(&mut self) {
        self.until(|world| world.control.open() == 0);
        assert_eq!(self.process.counters.memory.get(), 0);
    }
}

fn token_of_waker() -> mio::Token {
    token(Part::Waker, 0)
}

/// Whether a text begins with a whole answer.
fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap());
    body.len() >= length
}

fn status_and_body(text: &str) -> (u16, String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn one_connection_serves_many_calls_of_both_threads() {
    let mut world = World::new(None);
    let mut client = world.connect();
    for _ in 0..3 {
        let (a, far, gone) = (id(0, 1), id(1, 1), id(1, 9));
        let sent = world.ask(&mut client, &post(&format!("/sockets/{far}"), "hi"));
        assert_eq!(sent.0, 202);
        let target = format!("/sockets?id={gone}&id={far}&id={a}");
        let expected =
            format!(r#"{{"queued":["{far}","{a}"],"gone":["{gone}"],"full":[],"unsupported":[]}}"#);
        let sent = world.ask(&mut client, &post(&target, "hi"));
        assert_eq!(sent, (200, expected));
        let expected = r#"{"queued":11,"full":0,"unsupported":0}"#.to_owned();
        let counted = world.ask(&mut client, &post("/broadcast", "hi"));
        assert_eq!(counted, (200, expected));
        let request = format!("PUT /groups/g/sockets/{a} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(world.ask(&mut client, &request).0, 204);
        let (status, listed) = world.ask(&mut client, &get("/sockets"));
        assert!(status == 200 && listed.contains(&a.to_string()));
        assert!(listed.find(&a.to_string()) < listed.find(&far.to_string()));
        let (status, _) = world.ask(&mut client, &get(&format!("/sockets/{gone}")));
        assert_eq!(status, 404);
        // An id of a thread that does not exist.
        let nowhere = id(7, 1);
        assert_eq!(
            world
                .ask(&mut client, &get(&format!("/sockets/{nowhere}")))
                .0,
            404
        );
    }
    drop(client);
    world.quiet();
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let mut world = World::new(None);
    let mut client = world.connect();
    let chunked = "POST /broadcast HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let requests = [
        get("/healthz"),
        post("/broadcast", "hi"),
        get("/nothing"),
        chunked.to_owned(),
        get("/readyz"),
    ];
    let last = "GET /healthz HTTP/1.0\r\n\r\n";
    let all = requests.concat().repeat(20) + last;
    let (text, ended) = world.talk(&mut client, all.as_bytes(), |_| false);
    assert!(ended);
    let answers = text.split("HTTP/1.1 ").skip(1);
    let statuses: Vec<&str> = answers.map(|answer| &answer[..3]).collect();
    let mut expected = ["200", "200", "404", "200", "200"].repeat(20);
    expected.push("200");
    assert_eq!(statuses, expected);
    assert_eq!(text.matches("Connection: close").count(), 1);
    drop(client);
    world.quiet();
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut world = World::new(None);
    let mut client = world.connect();
    let request = post("/broadcast", "hello");
    let (start, end) = request.split_at(request.len() - 1);
    for byte in start.bytes() {
        let (text, _) = world.talk(&mut client, &[byte], |_| true);
        assert_eq!(text, "");
        world.turn();
    }
    let (status, _) = world.ask(&mut client, end);
    assert_eq!(status, 200);
}

#[test]
fn a_body_that_waits_for_a_word_gets_it_only_if_it_is_wanted() {
    let mut world = World::new(None);
    let mut client = world.connect();
    let expect = |target: &str, length: usize| {
        format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let (text, _) = world.talk(&mut client, expect("/broadcast", 2).as_bytes(), is_whole);
    assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(world.ask(&mut client, "hi").0, 200);
    let too_long = expect("/broadcast", BODY + 1);
    let (text, ended) = world.talk(&mut client, too_long.as_bytes(), |_| false);
    assert!(text.starts_with("HTTP/1.1 413 ") && ended);
}

#[test]
fn a_body_too_large_is_refused_before_it_is_read_and_the_answer_arrives() {
    let mut world = World::new(None);
    for length in [BODY + 1, 4 * 1024 * 1024] {
        let mut client = world.connect();
        let request = post("/broadcast", &"x".repeat(length));
        let (text, ended) = world.talk(&mut client, request.as_bytes(), |_| false);
        assert!(text.starts_with("HTTP/1.1 413 ") && ended, "{text}");
        assert!(text.contains("Connection: close\r\n"));
        assert!(world.process.counters.memory.get() < BODY);
    }
    let mut client = world.connect();
    let largest = post("/broadcast", &"x".repeat(BODY));
    assert_eq!(world.ask(&mut client, &largest).0, 200);
    let needless = get("/healthz").replace("Host: a", "Host: a\r\nContent-Length: 1");
    let (text, ended) = world.talk(&mut client, needless.as_bytes(), |_| false);
    assert!(text.starts_with("HTTP/1.1 413 ") && ended);
    drop(client);
    world.quiet();
}

#[test]
fn over_tcp_no_reset_overtakes_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut world = World::on(Some("open sesame"), Listening::Tcp(listener));
    let connect = || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let with_token =
        |request: &str| request.replace("Host: a", "Host: a\r\nAuthorization: Bearer open sesame");
    let large = "x".repeat(2 * 1024 * 1024);
    for (request, status) in [
        (post("/broadcast", &large), 401),
        (with_token(&post("/broadcast", &large)), 413),
        ("GET / HTTP/1.1\r\n\r\n".to_owned() + &large, 400),
    ] {
        let mut client = connect();
        let (text, ended) = world.talk(&mut client, request.as_bytes(), |_| false);
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")) && ended,
            "{text}"
        );
    }
    let mut client = connect();
    let request = with_token(&post("/broadcast", "hi"));
    assert_eq!(world.ask(&mut client, &request).0, 200);
    drop(client);
    world.quiet();
}

#[test]
fn what_is_malformed_ends_the_connection_and_nothing_behind_it_is_done() {
    let mut world = World::new(None);
    for (bad, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("x".repeat(20_000), 431),
        (
            "POST /broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            400,
        ),
        (
            "POST /broadcast HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
            400,
        ),
        (
            "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody".to_owned(),
            404,
        ),
        (
            "POST /broadcast HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\nbody".to_owned(),
            415,
        ),
    ] {
        let mut client = world.connect();
        let all = bad.clone() + &post("/broadcast", "hi");
        let (text, ended) = world.talk(&mut client, all.as_bytes(), |_| false);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{bad:?}: {text}");
        assert!(ended && text.matches("HTTP/1.1").count() == 1, "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"));
    }
    world.quiet();
}

#[test]
fn a_browser_and_a_stranger_are_refused() {
    let mut world = World::new(Some("open sesame"));
    let mut client = world.connect();
    let with =
        |target: &str, field: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    let good = "Authorization: Bearer open sesame";
    assert_eq!(world.ask(&mut client, &with("/sockets", good)).0, 200);
    assert_eq!(world.ask(&mut client, &get("/healthz")).0, 200);
    assert_eq!(world.ask(&mut client, &get("/readyz")).0, 200);
    assert_eq!(world.ask(&mut client, &get("/nothing")).0, 401);
    assert_eq!(world.ask(&mut client, &get("/healthz/")).0, 401);
    let browser = format!("{good}\r\nOrigin: null");
    assert_eq!(world.ask(&mut client, &with("/sockets", &browser)).0, 403);
    for _ in 0..5 {
        let wrong = with("/sockets", "Authorization: Bearer x");
        assert_eq!(world.ask(&mut client, &wrong).0, 401);
    }
    assert_eq!(world.ask(&mut client, &with("/sockets", good)).0, 429);
    assert_eq!(world.ask(&mut client, &get("/healthz")).0, 200);
    world.now = world.now + Duration::from_secs(1);
    assert_eq!(world.ask(&mut client, &with("/sockets", good)).0, 200);
    // On TCP there is no way without a token.
    let tcp = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let tcp = Listening::Tcp(tcp);
    let error = Control::new(process(None), tcp, world.poll.registry());
    assert_eq!(error.err().unwrap().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_thread_that_says_nothing_costs_one_call() {
    let mut world = World::new(None);
    world.silent = true;
    let mut client = world.connect();
    let request = post("/broadcast", "hi");
    world.talk(&mut client, request.as_bytes(), |_| true);
    world.until(|world| !world.unanswered.is_empty());
    world.now = world.now + Duration::from_millis(4999);
    world.turn();
    world.now = world.now + Duration::from_millis(1);
    let (status, _) = world.ask(&mut client, "");
    assert_eq!(status, 503);
    // Its answer comes while the next call waits for another one.
    let late = world.unanswered.remove(0);
    world.talk(&mut client, request.as_bytes(), |_| true);
    world.until(|world| !world.unanswered.is_empty());
    world.play(1, late);
    world.silent = false;
    world.turn();
    let command = world.unanswered.remove(0);
    world.play(1, command);
    let expected = r#"{"queued":11,"full":0,"unsupported":0}"#.to_owned();
    assert_eq!(world.ask(&mut client, ""), (200, expected));
}

#[test]
fn whatever_can_hang_has_a_deadline() {
    let mut world = World::new(None);
    let mut mute = world.connect();
    let mut slow = world.connect();
    let mut half = world.connect();
    let mut idle = world.connect();
    world.talk(&mut slow, b"GET / HTTP/1.1\r\nHo", |_| true);
    let start = "POST /broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel";
    world.talk(&mut half, start.as_bytes(), |_| true);
    assert_eq!(world.ask(&mut idle, &get("/healthz")).0, 200);
    world.until(|world| world.control.open() == 4 && world.process.counters.memory.get() > 0);
    for _ in 0..5 {
        world.turn();
    }
    // One byte now and then moves nothing.
    world.now = world.now + Duration::from_secs(9);
    world.talk(&mut slow, b"s", |_| true);
    world.turn();
    world.now = world.now + Duration::from_secs(1);
    let (text, ended) = world.talk(&mut slow, b"", |_| false);
    assert!(text.starts_with("HTTP/1.1 408 ") && ended);
    assert_eq!(world.talk(&mut mute, b"", |_| false), (String::new(), true));
    world.now = world.now + Duration::from_secs(20);
    let (text, ended) = world.talk(&mut half, b"", |_| false);
    assert!(text.starts_with("HTTP/1.1 408 ") && ended);
    world.now = world.now + Duration::from_secs(30);
    assert_eq!(world.talk(&mut idle, b"", |_| false), (String::new(), true));
    // Those that were answered and never close themselves are let go as well.
    world.now = world.now + Duration::from_secs(5);
    world.quiet();
}

#[test]
fn a_caller_who_takes_no_answer_is_dropped() {
    let mut world = World::new(None);
    let mut client = world.connect();
    let requests = get("/nothing").repeat(100_000);
    let mut sent = 0;
    // Until neither direction takes any more.
    let mut idle = 0;
    while idle < 50 {
        match client.write(&requests.as_bytes()[sent % requests.len()..]) {
            Ok(count) => {
                sent += count;
                idle = 0;
            }
            Err(_) => idle += 1,
        }
        world.turn();
    }
    assert!(world.process.counters.memory.get() < 128 * 1024);
    world.now = world.now + Duration::from_secs(30);
    world.quiet();
}

#[test]
fn connections_are_counted_and_the_rest_is_told_so() {
    let mut world = World::new(None);
    let mut clients: Vec<UnixStream> = Vec::new();
    for count in 1..=MAX_CONNECTIONS {
        let mut client = world.connect();
        assert_eq!(world.ask(&mut client, &get("/sockets")).0, 200);
        clients.push(client);
        world.until(|world| world.control.open() == count);
    }
    let mut late = world.connect();
    let (text, ended) = world.talk(&mut late, get("/healthz").as_bytes(), |_| false);
    assert!(text.starts_with("HTTP/1.1 503 ") && ended);
    drop(late);
    let mut first = clients.remove(0);
    assert_eq!(world.ask(&mut first, &get("/healthz")).0, 200);
    drop((clients, first));
    world.quiet();
    let mut again = world.connect();
    assert_eq!(world.ask(&mut again, &get("/healthz")).0, 200);
}

#[test]
fn who_has_not_shown_a_token_gives_way_the_oldest_first() {
    let mut world = World::new(Some("open sesame"));
    let with_token =
        "GET /sockets HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer open sesame\r\n\r\n";
    let mut app = world.connect();
    assert_eq!(world.ask(&mut app, with_token).0, 200);
    let mut idle = Vec::new();
    for count in 2..=MAX_CONNECTIONS {
        world.now = world.now + Duration::from_millis(1);
        let mut client = world.connect();
        match count % 3 {
            0 => assert_eq!(world.ask(&mut client, &get("/healthz")).0, 200),
            1 => client.write_all(b"GET /so").unwrap(),
            _ => {}
        }
        idle.push(client);
        world.until(|world| world.control.open() == count);
    }
    let mut late = world.connect();
    assert_eq!(world.ask(&mut late, with_token).0, 200);
    assert_eq!(world.control.open(), MAX_CONNECTIONS);
    let over = |client: &mut UnixStream| matches!(client.read(&mut [0; 16]), Ok(0));
    assert!(over(&mut idle[0]) && !over(&mut idle[1]));
    assert_eq!(world.ask(&mut app, with_token).0, 200);
    drop((app, late, idle));
    world.quiet();
}

#[test]
fn over_budget_no_body_is_read() {
    let mut world = World::new(None);
    let mut client = world.connect();
    let budget = world.process.config.bounds.memory;
    world.process.counters.memory.add(budget);
    assert_eq!(world.ask(&mut client, &get("/readyz")).0, 503);
    let body = "x".repeat(BODY);
    let (text, ended) = world.talk(&mut client, post("/broadcast", &body).as_bytes(), |_| false);
    assert!(text.starts_with("HTTP/1.1 503 ") && ended);
    world.process.counters.memory.subtract(budget);
    drop(client);
    world.quiet();
}

#[test]
fn lists_are_asked_for_as_far_as_their_answers_would_fit_into_the_budget() {
    let mut world = World::new(None);
    world.silent = true;
    let budget = world.process.config.bounds.memory;
    let fitting = budget / (2 * MAX_PAGE_BYTES) - 1; // Of two threads; and what is held is counted too.
    let ask = |world: &mut World| {
        let asked = world.unanswered.len() + 1;
        let mut caller = world.connect();
        caller.write_all(get("/sockets").as_bytes()).unwrap();
        world.until(|world| world.unanswered.len() == asked);
        caller
    };
    let callers: Vec<_> = (0..fitting).map(|_| ask(&mut world)).collect();
    let held = world.process.counters.memory.get();
    let answers = fitting * info(id(0, 1)).memory(); // Of the thread that speaks.
    assert!((answers..answers + 1024 * 1024).contains(&held), "{held}");
    let mut other = world.connect();
    assert_eq!(world.ask(&mut other, &get("/sockets")).0, 503);
    assert_eq!(world.ask(&mut other, &get("/readyz")).0, 200);
    // Whoever gives up makes room for another; what comes too late for him is thrown away.
    world.now = world.now + Duration::from_secs(6);
    world.until(|world| world.control.shared.expected.get() == 0);
    for command in std::mem::take(&mut world.unanswered) {
        world.play(1, command);
    }
    let mut late = ask(&mut world);
    let command = world.unanswered.remove(0);
    world.play(1, command);
    let (text, _) = world.talk(&mut late, b"", is_whole);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    drop((callers, other, late));
    world.quiet();
}

#[test]
fn a_stop_lets_the_last_answer_out() {
    let mut world = World::new(None);
    world.silent = true;
    let _idle = world.connect();
    let mut busy = world.connect();
    world.talk(&mut busy, post("/broadcast", "hi").as_bytes(), |_| true);
    world.until(|world| !world.unanswered.is_empty() && world.control.open() == 2);
    world.process.draining.store(true, Ordering::Relaxed);
    world.control.stop();
    assert_eq!(world.control.open(), 1);
    let command = world.unanswered.remove(0);
    world.play(1, command);
    let (text, ended) = world.talk(&mut busy, b"", |_| false);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("Connection: close") && ended);
    drop(busy);
    world.quiet();
    assert!(world.control.poll_timeout().is_none_or(|at| at > world.now));
}

#[test]
fn a_caller_that_sent_its_end_still_gets_its_answer() {
    let mut world = World::new(None);
    let mut client = world.connect();
    client
        .write_all(post("/broadcast", "hi").as_bytes())
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (text, ended) = world.talk(&mut client, b"", |_| false);
    assert!(text.starts_with("HTTP/1.1 200 ") && ended);
    world.quiet();
}

#[test]
fn numbers_find_their_way_back() {
    for (slot, generation) in [(0, 1), (287, GENERATIONS)] {
        let number = number(slot, generation);
        assert_eq!(slot_of(number), Some((slot, generation)));
        assert_eq!(split(token(Part::Control, number)), (Part::Control, number));
        assert_eq!(slot_of_ticket(ticket_number(99, slot)), slot);
    }
    assert_eq!(slot_of(0), None);
}
