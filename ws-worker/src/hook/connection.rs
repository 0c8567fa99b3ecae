//! One connection to an app: a non-blocking socket, one request at a time, and what readiness it has.
//! Knows no queue and no clock; deadlines are kept here for the pool.

use crate::config::Scheme;
use crate::hook::http::{Answer, Fault};
use crate::hook::link::Link;
use crate::hook::member::Key;
use crate::hook::{fastcgi, http};
use crate::source::Readiness;
use crate::tls;
use std::io::{self, ErrorKind, IoSlice};
use ws_proto::Instant;

/// A head's buffer above this is given back between hooks, in bytes; 16 KiB.
const KEPT: usize = 16 * 1024;

/// Why an attempt came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// Whether a byte of the request may have reached the app.
    pub(crate) sent: bool,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The connection could not be made, or broke.
    Connection(ErrorKind),
    /// It was made, and no TLS came about on it.
    Tls(tls::Fault),
    /// A kept connection was closed before a byte of the answer: nobody's fault.
    Stale,
    /// The deadline passed.
    Timeout,
    /// The answer was no answer.
    Fault(Fault),
}

/// What comes back, by the app's protocol.
#[derive(Debug)]
enum Incoming {
    Http(http::Incoming),
    FastCgi(fastcgi::Incoming),
}

/// Where a whole answer lies.
enum Whole {
    Http(http::Whole),
    FastCgi,
}

impl Incoming {
    fn new(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Http | Scheme::Https => Self::Http(http::Incoming::new(0)),
            Scheme::FastCgi => Self::FastCgi(fastcgi::Incoming::new(0)),
        }
    }

    fn reset(&mut self, max_body: usize, keep: bool) {
        match self {
            Self::Http(incoming) => incoming.reset(max_body),
            Self::FastCgi(incoming) => incoming.reset(max_body, keep),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Http(incoming) => incoming.memory(),
            Self::FastCgi(incoming) => incoming.memory(),
        }
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<Option<Whole>, Fault> {
        Ok(match self {
            Self::Http(incoming) => incoming.advance(bytes)?.map(Whole::Http),
            Self::FastCgi(incoming) => incoming.advance(bytes)?.then_some(Whole::FastCgi),
        })
    }

    fn answer<'b>(&'b self, bytes: &'b [u8], whole: &Whole) -> Result<Answer<'b>, Fault> {
        match (self, whole) {
            (Self::Http(incoming), Whole::Http(whole)) => Ok(incoming.answer(bytes, whole)),
            (Self::FastCgi(incoming), Whole::FastCgi) => Ok(incoming.answer()),
            (Self::Http(_) | Self::FastCgi(_), _) => Err(Fault::Syntax), // Never: a connection has one protocol.
        }
    }

    fn end(&mut self) -> Result<Answer<'_>, Fault> {
        match self {
            Self::Http(incoming) => incoming.end(),
            Self::FastCgi(_) => Err(Fault::Cut),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    link: Link,
    /// Tells this use of its place from others; part of the token.
    pub(crate) serial: u32,
    pub(crate) app: usize,
    /// The number of its address.
    pub(crate) address: usize,
    /// Whose hook it carries; idle without.
    pub(crate) job: Option<Key>,
    /// What is waited for must have come by now: the connection, the answer, or, idle, another hook.
    pub(crate) deadline: Instant,
    /// Its address is tried until then.
    pub(crate) dial_by: Instant,
    /// The attempt's own deadline.
    pub(crate) answer_by: Instant,
    /// When its request was begun.
    pub(crate) since: Instant,
    /// Bytes of heap that were counted.
    pub(crate) counted: usize,
    /// The app's kernel has taken it; TLS may have to follow.
    reached: bool,
    /// When it was made.
    made_at: Option<Instant>,
    /// A byte came on it, whichever answer's.
    accepted: bool,
    kept: bool,
    head: Vec<u8>,
    /// Bytes of body behind the head.
    body: usize,
    sent: usize,
    to_send: usize,
    incoming: Incoming,
    readable: bool,
    writable: bool,
    /// The peer's end was announced: reading goes on to it.
    over: bool,
    /// A byte of the answer came.
    begun: bool,
}

impl Connection {
    /// Makes one whose link is being connected, until `dial_by`.
    pub(crate) fn new(
        link: Link,
        serial: u32,
        app: usize,
        address: usize,
        dial_by: Instant,
        scheme: Scheme,
    ) -> Self {
        Self {
            link,
            serial,
            app,
            address,
            job: None,
            deadline: dial_by,
            dial_by,
            answer_by: dial_by,
            since: dial_by,
            counted: 0,
            reached: false,
            made_at: None,
            accepted: false,
            kept: false,
            head: Vec::new(),
            sent: 0,
            to_send: 0,
            body: 0,
            incoming: Incoming::new(scheme),
            readable: false,
            writable: false,
            over: false,
            begun: false,
        }
    }

    /// Tries another address, with the same request.
    pub(crate) fn replace(&mut self, link: Link, serial: u32, address: usize) {
        self.link = link;
        self.reached = false;
        self.serial = serial;
        self.address = address;
        self.readable = false;
        self.writable = false;
        self.over = false;
    }

    /// Takes a request: `encode` appends its head and returns how many bytes of body follow, for [`exchange`](Self::exchange)
    /// to lend: none if all is in the head.
    pub(crate) fn begin(
        &mut self,
        job: Key,
        max_answer: usize,
        keep: bool,
        encode: impl FnOnce(&mut Vec<u8>) -> usize,
    ) {
        self.head.clear();
        self.body = encode(&mut self.head);
        self.to_send = self.head.len() + self.body;
        self.sent = 0;
        self.begun = false;
        self.kept = self.made_at.is_some();
        self.incoming.reset(max_answer, keep);
        self.job = Some(job);
    }

    /// Remembers what an event said.
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable || readiness.closed;
        self.writable |= readiness.writable || readiness.closed;
        self.over |= readiness.closed;
    }

    /// Goes on making the connection; returns whether it is made.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn connect(&mut self, now: Instant) -> Result<bool, Cause> {
        if self.made_at.is_some() {
            return Ok(true);
        }
        if !self.reached {
            let is_reached = self.writable && self.link.is_reached().map_err(of_stream)?;
            if !is_reached {
                return Ok(false);
            }
            self.reached = true;
        }
        if !self.link.secure().map_err(Cause::Tls)? {
            return Ok(false);
        }
        self.made_at = Some(now);
        // What came with the end of TLS's handshake lies in the session, and no event will tell.
        self.readable = true;
        self.accepted |= self.link.is_secure();
        Ok(true)
    }

    /// Returns whether the app's kernel has taken it: what is waited for now is the app.
    pub(crate) fn is_reached(&self) -> bool {
        self.reached
    }

    /// Returns whether it is made, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.made_at.is_some()
    }

    /// Returns when it was made.
    pub(crate) fn made_at(&self) -> Option<Instant> {
        self.made_at
    }

    /// Returns whether the app itself, and not its kernel alone, is known to have taken it.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Returns whether a byte of the request may have left.
    pub(crate) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Returns whether another request may follow on this connection.
    pub(crate) fn is_fit(&self) -> bool {
        self.is_connected() && !self.over && self.sent == self.to_send
    }

    /// Lets no other request follow on this connection.
    pub(crate) fn retire(&mut self) {
        self.over = true;
    }

    /// Returns how many bytes of heap it holds.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.head.capacity() + self.incoming.memory() + self.link.memory()
    }

    /// Gives back what a large answer took.
    pub(crate) fn rest(&mut self) {
        self.incoming.reset(0, false);
        self.head.clear();
        self.head.shrink_to(KEPT);
        self.sent = 0;
        self.to_send = 0;
    }

    /// Looks whether an idle connection still lives: nothing may come on it, and it may not end.
    pub(crate) fn is_stale(&mut self, scratch: &mut [u8]) -> bool {
        match self.link.read(scratch) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                self.over
            }
            Ok(_) | Err(_) => true,
        }
    }

    /// Writes what can be written and reads what has come; returns the answer once it is whole.
    ///
    /// # Errors
    /// The attempt has failed.
    pub(crate) fn exchange<'b>(
        &'b mut self,
        body: &[u8],
        scratch: &'b mut [u8],
    ) -> Result<Option<Answer<'b>>, Failure> {
        let body = body.get(..self.body).unwrap_or_default();
        // An app may answer and close without having read everything: its answer is looked for even so.
        let broken = self.write(body).err().map(|error| error.kind());
        if broken.is_some() {
            self.readable = true;
        }
        while self.readable {
            let count = match self.link.read(scratch) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    break;
                }
                Err(error) => return Err(self.failure(of_stream(error))),
            };
            if count == 0 {
                self.over = true;
                self.readable = false;
                let failure = self.failure(Cause::Fault(Fault::Cut));
                return self.incoming.end().map(Some).map_err(|_| failure);
            }
            self.begun = true;
            self.accepted = true;
            // Edge-triggered: a short read has emptied the socket, unless its end was announced.
            self.readable = self.over || !self.link.is_emptied(count, scratch.len());
            let whole = match self
                .incoming
                .advance(scratch.get(..count).unwrap_or_default())
            {
                Ok(None) => continue,
                Ok(Some(whole)) => whole,
                Err(fault) => return Err(self.failure(Cause::Fault(fault))),
            };
            let bytes = scratch.get(..count).unwrap_or_default();
            let sent = self.has_sent();
            let answer = self.incoming.answer(bytes, &whole).map(Some);
            return answer.map_err(|fault| Failure {
                cause: Cause::Fault(fault),
                sent,
            });
        }
        match broken {
            Some(kind) => Err(self.failure(Cause::Connection(kind))),
            None => Ok(None),
        }
    }

    /// Says what an attempt that ends now has come to.
    pub(crate) fn failure(&self, cause: Cause) -> Failure {
        let closed = matches!(cause, Cause::Connection(_) | Cause::Fault(Fault::Cut));
        Failure {
            cause: if closed && self.kept && !self.begun {
                Cause::Stale
            } else {
                cause
            },
            sent: self.has_sent() && !matches!(cause, Cause::Fault(fault) if fault.is_unseen()),
        }
    }

    /// Returns what the app wrote to its standard error, where it has one.
    pub(crate) fn errors(&self) -> &[u8] {
        match &self.incoming {
            Incoming::Http(_) => &[],
            Incoming::FastCgi(incoming) => incoming.errors(),
        }
    }

    fn write(&mut self, body: &[u8]) -> io::Result<()> {
        if self.writable && !self.link.is_flushed() {
            match self.link.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                result => result?,
            }
        }
        while self.writable && self.sent < self.to_send {
            let head = self.head.get(self.sent..).unwrap_or_default();
            let body = body
                .get(self.sent.saturating_sub(self.head.len())..)
                .unwrap_or_default();
            let slices = [IoSlice::new(head), IoSlice::new(body)];
            let from = usize::from(head.is_empty());
            let to = slices.len() - usize::from(body.is_empty());
            let slices = slices.get(from..to).unwrap_or_default();
            match self.link.write(slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        if !self.link.is_flushed() {
            self.writable = false; // The last write was not all that it seemed.
        }
        Ok(())
    }
}

fn of_stream(error: io::Error) -> Cause {
    Cause::Connection(error.kind())
}
