//! What the loop lends to the things that live in it besides clients: hooks and the control API. They own their
//! sockets; only the loop polls and reads the clock.

pub(crate) use crate::router::Router;

use mio::{Registry, Token};
use ws_proto::Instant;

/// What a source may use in its turn.
pub(crate) struct Turn<'a> {
    /// The time of this turn.
    pub(crate) now: Instant,
    /// Where sockets are registered, once, READABLE | WRITABLE, edge-triggered.
    pub(crate) registry: &'a Registry,
    /// Commands for this thread's own sockets and, through [`Router`], for those of others.
    pub(crate) router: &'a mut Router,
    /// The loop's read buffer: whatever a source reads goes here first.
    pub(crate) scratch: &'a mut [u8],
}

/// Readiness as an event says it; edge-triggered, so a source remembers it until `WouldBlock`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer's end or an error: read on to 0 or the error.
    pub(crate) closed: bool,
}

/// Which part of the loop a token belongs to; the source's own number is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Client,
    Listener,
    Waker,
    Hook,
    Control,
}

const PART_SHIFT: u32 = 56;

/// Makes a token of a part and its own number (below 2^56; a source puts its generation there as well).
pub(crate) fn token(part: Part, number: usize) -> Token {
    Token((part as usize) << PART_SHIFT | number)
}

/// Splits a token.
pub(crate) fn split(token: Token) -> (Part, usize) {
    let part = match token.0 >> PART_SHIFT {
        0 => Part::Client,
        1 => Part::Listener,
        2 => Part::Waker,
        3 => Part::Hook,
        _ => Part::Control,
    };
    (part, token.0 & ((1 << PART_SHIFT) - 1))
}
