//! Hooks against a scripted app on the loopback: real sockets, made-up time. Nothing sleeps; everything waits for what it
//! expects.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what else was said makes the test fail"
)]

mod delivery;
mod keeping;
mod memory;
mod opening;
mod pooling;
mod reloading;
pub(in crate::hook) mod simulation;
mod sparing;

use super::backoff::Random;
use super::testing::{endpoint_with, facts, hooks, id, process, route};
use super::*;
use crate::command::{Action, LateDecision, RouteId};
use crate::config::{AppAddress, Target};
use crate::counters::HookResult;
use crate::handler::{Lent, SendError};
use crate::mailbox::{Inbox, Mail, mailbox};
use crate::permits::Permits;
use crate::process::Process;
use crate::source::{Part, Readiness, Router, Turn, split};
use mio::{Events, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use ws_proto::{Instant, Version};

/// As long as anything real may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer with this status and nothing else.
fn plain(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
}

/// A request as the app got it.
#[derive(Clone, Debug)]
struct Got {
    connection: usize,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn event(&self) -> &str {
        self.header("Ws-Event").unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The app: takes requests, and answers when the test says so.
struct App {
    listener: Option<TcpListener>,
    address: SocketAddr,
    connections: Vec<Option<(TcpStream, Vec<u8>)>>,
    got: VecDeque<Got>,
    /// Leaves what comes in the kernel's buffers.
    deaf: bool,
}

impl App {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener: Some(listener),
            connections: Vec::new(),
            got: VecDeque::new(),
            deaf: false,
        }
    }

    fn stop(&mut self) {
        self.listener = None;
        self.connections.iter_mut().for_each(|slot| *slot = None);
    }

    fn start(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.listener = Some(listener);
    }

    fn poll(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) {
            stream.set_nonblocking(true).unwrap();
            self.connections.push(Some((stream, Vec::new())));
        }
        if self.deaf {
            return;
        }
        for (connection, slot) in self.connections.iter_mut().enumerate() {
            let Some((stream, bytes)) = slot else {
                continue;
            };
            let mut buffer = [0; 65536];
            let is_over = loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break true,
                    Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                    Err(error) => break error.kind() != ErrorKind::WouldBlock,
                }
            };
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(bytes[..end + 2].to_vec()).unwrap();
                let mut got = Got {
                    connection,
                    head,
                    body: Vec::new(),
                };
                let length: usize = got.header("Content-Length").unwrap().parse().unwrap();
                if bytes.len() >= end + 4 + length {
                    got.body = bytes[end + 4..end + 4 + length].to_vec();
                    bytes.drain(..end + 4 + length);
                    assert!(bytes.is_empty(), "one request at a time");
                    self.got.push_back(got);
                }
            }
            if is_over {
                *slot = None;
            }
        }
    }

    fn write(&mut self, connection: usize, bytes: &[u8]) {
        let (stream, _) = self.connections[connection].as_mut().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_nonblocking(true).unwrap();
    }

    fn close(&mut self, connection: usize) {
        self.connections[connection] = None;
    }

    fn open_connections(&self) -> usize {
        self.connections.iter().flatten().count()
    }
}

/// One thread's loop, as far as hooks see it.
struct World {
    poll: Poll,
    events: Events,
    pool: Rc<RefCell<Pool>>,
    handler: HookHandler,
    router: Router,
    inbox: Inbox,
    scratch: Vec<u8>,
    now: Instant,
    process: Arc<Process>,
    app: App,
    /// Commands of the hooks, in order.
    said: VecDeque<Action>,
    /// What sockets were told directly.
    heard: Vec<String>,
    paused: bool,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// Returns how many attempts ended so.
    fn attempts(&self, result: HookResult) -> u64 {
        self.process.counters.hooks(result)
    }

    fn with(change: impl FnOnce(&mut Hooks)) -> Self {
        let app = App::new();
        let mut hooks = hooks();
        hooks.url.address = AppAddress::Tcp(vec![app.address]);
        change(&mut hooks);
        let route = route(hooks);
        let process = process(&route, 2);
        let permits = Permits::of(&process.config);
        let mut worlds = Self::threads(&process, &permits, app, 1);
        worlds.remove(0)
    }

    /// As many threads as are wanted; the app is the first one's.
    fn threads(
        process: &Arc<Process>,
        permits: &Arc<[Arc<Permits>]>,
        app: App,
        count: u8,
    ) -> Vec<Self> {
        let polls: Vec<Poll> = (0..count).map(|_| Poll::new().unwrap()).collect();
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = polls
            .iter()
            .map(|poll| {
                let token = Token(crate::source::token(Part::Waker, 0).0);
                let waker = Arc::new(Waker::new(poll.registry(), token).unwrap());
                mailbox(Arc::clone(process), waker)
            })
            .unzip();
        let mailboxes: Arc<[_]> = mailboxes.into();
        let route = &process.config.routes[0];
        let Target::Hooks(hooks) = &route.target else {
            unreachable!()
        };
        let mut app = Some(app);
        (0..)
            .zip(polls.into_iter().zip(inboxes))
            .map(|(thread, (poll, inbox))| {
                let mut pool = Pool::new(Arc::clone(process), Arc::clone(permits), thread);
                // The same pauses in every run: one that chance makes nothing would change who comes first.
                pool.random = Random::new(u64::from(thread));
                let pool = Rc::new(RefCell::new(pool));
                Self {
                    poll,
                    events: Events::with_capacity(64),
                    handler: HookHandler::new(&pool, route, hooks),
                    pool,
                    router: Router::new(thread, Arc::clone(&mailboxes), Arc::clone(process)),
                    inbox,
                    scratch: vec![0; 65536],
                    now: Instant::at(1000),
                    process: Arc::clone(process),
                    app: app.take().unwrap_or_else(App::new),
                    said: VecDeque::new(),
                    heard: Vec::new(),
                    paused: false,
                }
            })
            .collect()
    }

    fn turn(&mut self) {
        let wait = Some(Duration::from_millis(1));
        let _ = self.poll.poll(&mut self.events, wait); // Interrupted: the next turn is near.
        let mut pool = self.pool.borrow_mut();
        let mut turn = Turn {
            now: self.now,
            registry: self.poll.registry(),
            router: &mut self.router,
            scratch: &mut self.scratch,
        };
        for mail in self.inbox.take() {
            match mail {
                Mail::Permit(app) => pool.permit(&mut turn, app),
                Mail::Written(written) => pool.written(&mut turn, &written),
                _ => {}
            }
        }
        for event in &self.events {
            if let (Part::Hook, number) = split(event.token()) {
                let readiness = Readiness {
                    readable: event.is_readable(),
                    writable: event.is_writable(),
                    closed: event.is_read_closed() || event.is_error(),
                };
                pool.ready(&mut turn, number, readiness);
            }
        }
        pool.handle_timeout(&mut turn);
        pool.flush(&mut turn);
        for command in self.router.own.drain(..) {
            if let Action::Resume(_) = command.action {
                self.paused = false;
            }
            self.said.push_back(command.action);
        }
        drop(pool);
        self.app.poll();
    }

    #[track_caller]
    fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = std::time::Instant::now();
        loop {
            self.turn();
            if let Some(value) = condition(self) {
                return value;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no {what}; said {:?}, got {:?}",
                self.said,
                self.app.got
            );
        }
    }

    /// Turns that must change nothing, as far as can be told.
    fn settle(&mut self) {
        for _ in 0..5 {
            self.turn();
        }
    }

    fn advance(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
    }

    /// Waits for a request.
    #[track_caller]
    fn request(&mut self) -> Got {
        self.until("request", |world| world.app.got.pop_front())
    }

    /// Waits for a request that comes only when pauses are over.
    #[track_caller]
    fn request_later(&mut self) -> Got {
        self.until("request, later", |world| {
            world.advance(50);
            world.app.got.pop_front()
        })
    }

    /// Waits for a request and answers it.
    #[track_caller]
    fn serve(&mut self, answer: &str) -> Got {
        let got = self.request();
        self.app.write(got.connection, answer.as_bytes());
        got
    }

    /// Waits for a command.
    #[track_caller]
    fn said(&mut self) -> Action {
        self.until("command", |world| world.said.pop_front())
    }

    #[track_caller]
    fn decision(&mut self) -> LateDecision {
        match self.said() {
            Action::Decide(_, decision) => *decision,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a close of ours.
    #[track_caller]
    fn closed_with(&mut self) -> u16 {
        self.until("close", |world| match world.said.pop_front() {
            Some(Action::Close(_, code, ..)) => Some(code.get()),
            _ => None,
        })
    }

    fn with_socket(&mut self, slot: u32, act: impl FnOnce(&mut HookHandler, &mut Socket<'_>)) {
        let mut fake = Fake {
            id: SocketId {
                thread: self.router.thread,
                ..id(slot)
            },
            router: &mut self.router,
            heard: &mut self.heard,
            paused: &mut self.paused,
        };
        act(&mut self.handler, &mut Socket { inner: &mut fake });
    }

    fn id(&self, slot: u32) -> SocketId {
        SocketId {
            thread: self.router.thread,
            ..id(slot)
        }
    }

    fn connect(&mut self, slot: u32) {
        let facts = Facts {
            id: self.id(slot),
            protocols: vec!["chat.v2", "chat.v1"],
            ..facts()
        };
        let decision = self.handler.connect(&facts);
        assert!(matches!(decision, Decision::Later));
    }

    /// Brings a socket in: handshake, yes, open.
    #[track_caller]
    fn open(&mut self, slot: u32) {
        self.connect(slot);
        assert_eq!(self.serve(&plain(200)).event(), "handshake");
        assert!(matches!(self.decision(), LateDecision::Accept(_)));
        self.with_socket(slot, |handler, socket| handler.on_open(socket));
    }

    fn say(&mut self, slot: u32, text: &str) {
        self.with_socket(slot, |handler, socket| {
            handler.on_message(socket, Message::text(text));
        });
    }

    fn leave(&mut self, slot: u32) {
        self.with_socket(slot, |handler, socket| {
            handler.on_close(socket, &END);
        });
    }

    /// Nothing more is owed to anybody.
    #[track_caller]
    fn is_over(&mut self) {
        self.until("end", |world| world.pool.borrow().is_idle().then_some(()));
        self.settle();
        assert!(self.app.got.is_empty(), "{:?}", self.app.got);
    }
}

const END: End<'static> = End {
    clean: true,
    code: Some(CloseCode::NORMAL),
    reason: "bye",
    by: ClosedBy::Client,
};

struct Fake<'a> {
    id: SocketId,
    router: &'a mut Router,
    heard: &'a mut Vec<String>,
    paused: &'a mut bool,
}

impl Lent for Fake<'_> {
    fn id(&self) -> SocketId {
        self.id
    }

    fn version(&self) -> Version {
        Version::Rfc6455
    }

    fn route(&self) -> RouteId {
        RouteId(0)
    }

    fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        let text = String::from_utf8_lossy(message.payload());
        self.heard.push(text.into_owned());
        Ok(())
    }

    fn ping(&mut self) -> Result<(), SendError> {
        Err(SendError::NoPing)
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.heard.push(format!("close {code} {reason}"));
    }

    fn pause(&mut self) {
        assert!(!*self.paused);
        *self.paused = true;
    }

    fn router(&mut self) -> &mut Router {
        self.router
    }
}
