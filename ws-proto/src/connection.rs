//! After the handshake, both roles: events out, bytes out, deadline out.
//! Knows no socket and no clock; one method call is one input.

use crate::close::{CloseCode, Closed};
use crate::error::SendError;
use crate::input::{Input, Output};
use crate::limits::Limits;
use crate::message::{Event, Message};
use crate::time::Instant;
use crate::version::{Framing, Version};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes masked frames, sends plain ones.
    Server,
    /// Masks what it sends; keys come from this seed, which must be random.
    Client {
        /// Sixteen random bytes.
        mask_seed: [u8; 16],
    },
}

/// What stands before and behind a payload, for a driver that writes the payload from where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Framed {
    head: [u8; 10],
    head_len: u8,
    tail: &'static [u8],
}

impl Framed {
    /// Returns the bytes before the payload.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.head
            .get(..usize::from(self.head_len))
            .unwrap_or_default()
    }

    /// Returns the bytes behind the payload.
    #[must_use]
    pub const fn tail(&self) -> &'static [u8] {
        self.tail
    }
}

/// Appends a whole message as a server sends it in this framing, for many receivers at once.
///
/// # Errors
/// Our fault: binary in the hixie framing.
pub fn encode(
    framing: Framing,
    message: &Message<'_>,
    bytes: &mut Vec<u8>,
) -> Result<(), SendError> {
    let _ = (framing, message, bytes);
    todo!()
}

/// An open (or closing, or closed) connection.
#[derive(Debug)]
pub struct Connection {}

impl Connection {
    /// Opens one as the handshake leaves it.
    #[must_use]
    pub fn new(now: Instant, version: Version, role: Role, limits: Arc<Limits>) -> Self {
        let _ = (now, version, role, limits);
        todo!()
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> Version {
        todo!()
    }

    /// Takes bytes up to the next event. Call until `None`, or stop after any event: what `input` still holds is the caller's.
    /// Replies that the protocol owes (pong, close) are appended to `out`. After the end everything is taken and dropped.
    pub fn receive<'b>(
        &mut self,
        now: Instant,
        input: &mut Input<'b>,
        out: &mut Output,
    ) -> Option<Event<'b>> {
        let _ = (now, input, out);
        todo!()
    }

    /// In a long frame: room at the end of the message to read straight into; never past the frame.
    pub fn read_into(&mut self) -> Option<&mut [u8]> {
        todo!()
    }

    /// Says that `count` bytes were read into [`read_into`](Self::read_into)'s room.
    pub fn received(
        &mut self,
        now: Instant,
        count: usize,
        out: &mut Output,
    ) -> Option<Event<'static>> {
        let _ = (now, count, out);
        todo!()
    }

    /// Appends a message.
    ///
    /// # Errors
    /// Ours: the connection is closing, or the version has no binary. Nothing was appended.
    pub fn send(
        &mut self,
        now: Instant,
        message: Message<'_>,
        out: &mut Output,
    ) -> Result<(), SendError> {
        let _ = (now, message, out);
        todo!()
    }

    /// Returns what to write around a payload that the driver writes itself (server role only).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn frame(&mut self, now: Instant, message: &Message<'_>) -> Result<Framed, SendError> {
        let _ = (now, message);
        todo!()
    }

    /// Returns which bytes of a broadcast are for this peer.
    ///
    /// # Errors
    /// As [`send`](Self::send); decides, so that nothing follows a close.
    pub fn admits(&self, binary: bool) -> Result<Framing, SendError> {
        let _ = binary;
        todo!()
    }

    /// Begins the closing handshake; a reason over 123 bytes is cut. No-op when closing already.
    /// hixie-75 is closed at once: the driver flushes and shuts down.
    pub fn close(&mut self, now: Instant, code: CloseCode, reason: &str, out: &mut Output) {
        let _ = (now, code, reason, out);
        todo!()
    }

    /// Stops the pong and idle deadlines while the driver does not read; pings still go out. Closing is never paused.
    pub fn pause(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Starts them again in full.
    pub fn resume(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// The peer's stream ended.
    pub fn handle_eof(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Does what `now` demands: ping, give up, close. Early or repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        let _ = (now, out);
        todo!()
    }

    /// Returns the next deadline. After `handle_timeout(now)` it is never `<= now`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Returns whether our close was sent or the peer's came: nothing can be sent any more.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        todo!()
    }

    /// Returns how it ended, once it has: flush, then close the socket.
    #[must_use]
    pub fn closed(&self) -> Option<&Closed> {
        todo!()
    }

    /// Returns how many bytes of heap it holds: an unfinished message, a close reason.
    #[must_use]
    pub fn memory(&self) -> usize {
        todo!()
    }
}
