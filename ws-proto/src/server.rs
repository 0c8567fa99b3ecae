//! The opening handshake, server role: bytes → request → accept or refuse → connection.
//! Takes the head (and hixie-76's eight bytes) and not one byte more.

use crate::connection::Connection;
use crate::error::{Refusal, SendError};
use crate::head::{Headers, Rejection, Request, RequestHead};
use crate::input::{Input, Output};
use crate::limits::{HeadLimits, Limits};
use crate::time::Instant;
use alloc::string::String;
use alloc::sync::Arc;

/// What [`Handshake::receive`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// The request is whole and valid: look at it, then accept or refuse, now or later.
    Request,
    /// The connection is open; for hixie-76 the sixteen bytes are in the output.
    Open,
}

/// What an app adds to a 101.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// One of the subprotocols offered.
    pub protocol: Option<String>,
    /// `Set-Cookie` and other end-to-end headers; hop-by-hop ones and `Sec-WebSocket-*` are refused.
    pub headers: Headers,
    /// Whether the client came over TLS: `wss` in the Location of 75 and 76.
    pub secure: bool,
    /// The host the client used, if not what `Host` says.
    pub host: Option<String>,
}

/// An opening handshake, server role.
#[derive(Debug)]
pub struct Handshake {}

impl Handshake {
    /// Begins at the moment of accept. The route is not known yet, so only the bounds of the head are.
    #[must_use]
    pub fn new(now: Instant, limits: &HeadLimits) -> Self {
        let _ = (now, limits);
        todo!()
    }

    /// Takes bytes of the head, or of hixie-76's challenge after [`accept`](Self::accept).
    ///
    /// # Errors
    /// The client's fault: answer with [`refuse`](Self::refuse), flush, close; take nothing more.
    pub fn receive(
        &mut self,
        now: Instant,
        limits: &HeadLimits,
        input: &mut Input<'_>,
        out: &mut Output,
    ) -> Result<Option<Ready>, Refusal> {
        let _ = (now, limits, input, out);
        todo!()
    }

    /// Returns the request, once it is whole and valid, as often as wanted.
    #[must_use]
    pub fn request(&self) -> Option<Request<'_>> {
        todo!()
    }

    /// Returns the head, once it is whole, also of a request that asks for no WebSocket.
    #[must_use]
    pub fn head(&self) -> Option<RequestHead<'_>> {
        todo!()
    }

    /// Answers 101. Open at once but for hixie-76, which waits for its eight bytes: [`is_open`](Self::is_open).
    ///
    /// # Errors
    /// Our fault: the subprotocol was not offered, or a header may not be set. Nothing was written.
    pub fn accept(
        &mut self,
        now: Instant,
        answer: &Answer,
        limits: Arc<Limits>,
        out: &mut Output,
    ) -> Result<(), SendError> {
        let _ = (now, answer, limits, out);
        todo!()
    }

    /// Returns whether [`into_connection`](Self::into_connection) may be called.
    #[must_use]
    pub fn is_open(&self) -> bool {
        todo!()
    }

    /// Answers a refusal, once; nothing after a 101 and nothing for [`Refusal::Silent`]. `retry_after` in seconds, for 503.
    pub fn refuse(&mut self, refusal: Refusal, retry_after: Option<u32>, out: &mut Output) {
        let _ = (refusal, retry_after, out);
        todo!()
    }

    /// Answers with the app's own words, once.
    pub fn reject(&mut self, rejection: &Rejection, out: &mut Output) {
        let _ = (rejection, out);
        todo!()
    }

    /// Becomes the connection. `None` unless it is open.
    #[must_use]
    pub fn into_connection(self, now: Instant) -> Option<Connection> {
        let _ = now;
        todo!()
    }

    /// Says what `now` demands: 408 without a whole head, 503 if the app was silent, silence if hixie-76's bytes are missing.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Refusal> {
        let _ = now;
        todo!()
    }

    /// Returns the deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Returns how many bytes of heap it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        todo!()
    }
}
