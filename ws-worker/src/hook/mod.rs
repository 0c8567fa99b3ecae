//! Hooks: what an app is told about sockets, one HTTP request an event, and the handler that tells it.
//! Knows neither bytes nor connections; the [`pool`] sends what is queued here.

mod backoff;
#[cfg(feature = "bench")]
pub(crate) mod bench;
mod complaints;
mod connection;
mod dialect;
mod docroot;
mod endpoint;
mod fastcgi;
mod head;
mod http;
mod http_date;
mod kept;
mod link;
mod member;
mod pool;
mod settle;
mod signature;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use kept::lost;
pub(crate) use pool::Pool;

use crate::command::SocketId;
use crate::config::{Hooks, Route};
use crate::handler::{ClosedBy, Connecting, Decision, End, Handler, Socket};
use endpoint::{Block, Endpoint, Facts, NoPath, push_decimal};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use ws_proto::{CloseCode, Message};

/// One event, as a dialect sees it.
pub(crate) struct HookEvent<'a> {
    /// What happened.
    pub(crate) what: What<'a>,
    /// What is known of the socket.
    pub(crate) block: &'a Block,
    /// From 1.
    pub(crate) attempt: u32,
    /// Of this attempt, in seconds since 1970.
    pub(crate) timestamp: u64,
}

/// What happened.
#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    /// This worker began a life.
    Started,
    /// A client asks to come in.
    Handshake {
        /// The subprotocols it offers.
        protocols: &'a [Box<str>],
    },
    /// It said something.
    Message {
        /// From 1.
        seq: u64,
        /// What.
        message: &'a Message<'static>,
    },
    /// It is gone.
    Closed {
        /// How it ended.
        end: &'a Ended,
        /// Messages without an answer; unknown where the worker was killed before it had told.
        undelivered: Option<u64>,
    },
}

impl What<'_> {
    /// Returns the word used in hooks.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Handshake { .. } => "handshake",
            Self::Message { .. } => "message",
            Self::Closed { .. } => "closed",
        }
    }
}

impl HookEvent<'_> {
    /// Appends the key that is the same on every attempt.
    pub(crate) fn push_key(&self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.what {
            What::Started => endpoint.boot.as_bytes(),
            What::Handshake { .. } | What::Message { .. } | What::Closed { .. } => self.block.id(),
        });
        out.push(b'/');
        match self.what {
            What::Message { seq, .. } => push_decimal(out, seq),
            What::Started | What::Handshake { .. } | What::Closed { .. } => {
                out.extend_from_slice(self.what.name().as_bytes());
            }
        }
    }
}

/// How a socket ended, kept until the app knows.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) clean: bool,
    pub(crate) code: Option<CloseCode>,
    pub(crate) reason: Box<str>,
    pub(crate) by: ClosedBy,
    /// How many messages got no answer is not known: an earlier life took it along.
    pub(crate) is_unknown: bool,
}

impl Ended {
    /// Keeps it.
    fn of(end: &End<'_>) -> Self {
        Self {
            clean: end.clean,
            code: end.code,
            reason: end.reason.into(),
            by: end.by,
            is_unknown: false,
        }
    }

    /// An end that no connection has seen: the handshake was answered without the app's word.
    fn unseen(reason: &str) -> Self {
        Self {
            clean: false,
            code: Some(CloseCode::ABNORMAL),
            reason: reason.into(),
            by: ClosedBy::Worker,
            is_unknown: false,
        }
    }
}

/// Tells an app about the sockets of one route on one thread. All of its state is in the thread's [`Pool`].
pub(crate) struct HookHandler {
    pool: Rc<RefCell<Pool>>,
    endpoint: Rc<Endpoint>,
}

impl HookHandler {
    /// Prepares a route.
    pub(crate) fn new(pool: &Rc<RefCell<Pool>>, route: &Route, hooks: &Arc<Hooks>) -> Self {
        let endpoint = Rc::new(Endpoint::new(pool.borrow().process(), route, hooks));
        pool.borrow_mut().lead(&endpoint);
        Self {
            pool: Rc::clone(pool),
            endpoint,
        }
    }

    fn connect(&mut self, facts: &Facts<'_>) -> Decision {
        match Block::new(&self.endpoint, facts) {
            Ok(block) => {
                let protocols = facts.protocols.iter().map(|&name| name.into()).collect();
                self.pool
                    .borrow_mut()
                    .connect(facts.id, &self.endpoint, block, protocols);
                Decision::Later
            }
            Err(NoPath::Climbs) => Decision::refuse(400, "The path must not contain \"..\".\n"),
            Err(NoPath::Missing) => Decision::refuse(404, "There is nothing here.\n"),
        }
    }
}

impl Handler for HookHandler {
    fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
        self.connect(&Facts::of(request))
    }

    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.pool.borrow_mut().open(socket);
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        self.pool.borrow_mut().message(socket, message);
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, end: &End<'_>) {
        self.pool.borrow_mut().close(socket.id(), end);
    }

    fn on_lost(&mut self, id: SocketId, end: &End<'_>) {
        self.pool.borrow_mut().close(id, end);
    }
}
