//! The caller's bytes: what came (`Input`, taken from the front, in place) and what is to go (`Output`).
//! Knows nothing of what the bytes mean.

use crate::deflate::Codec;
use alloc::vec::Vec;

/// Bytes received and not yet taken, borrowed mutably so that payload is unmasked where it lies, or over its own head. What stands
/// there afterwards is nobody's.
///
/// ```
/// # use ws_proto::Input;
/// let mut buffer = [0; 16];
/// buffer[..5].copy_from_slice(b"bytes"); // As a read does.
/// let mut input = Input::new(&mut buffer[..5]);
/// assert_eq!(input.take(2), b"by");
/// assert_eq!((input.as_slice(), input.len()), (&b"tes"[..], 3));
/// ```
#[derive(Debug, Default)]
pub struct Input<'b> {
    bytes: &'b mut [u8],
}

impl<'b> Input<'b> {
    /// Wraps what a read returned.
    #[inline]
    pub fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes }
    }

    /// Takes the first `count` bytes, or all there are.
    #[inline]
    pub fn take(&mut self, count: usize) -> &'b mut [u8] {
        let bytes = core::mem::take(&mut self.bytes);
        let (taken, rest) = bytes.split_at_mut(count.min(bytes.len()));
        self.bytes = rest;
        taken
    }

    /// Returns what is left without taking it.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes
    }

    /// Returns how many bytes are left.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether all bytes are taken.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Bytes owed to the peer. It belongs to the caller's loop and is shared by all its connections: a method that
/// may owe the peer something appends here, the caller writes it out before it serves the next one.
///
/// What compresses and inflates lives here as well, made when it is first needed: some 400 KB for all connections.
///
/// ```
/// # use std::sync::Arc;
/// # use ws_proto::{Connection, Instant, Limits, Message, Output, Role, Version};
/// # let mut connection = Connection::new(Instant::at(0), Version::Rfc6455, Role::Server, Arc::<Limits>::default());
/// # let mut socket = Vec::new();
/// let mut out = Output::with_capacity(16 * 1024);
/// connection.send(Instant::at(1), Message::text("hi"), &mut out).unwrap();
/// socket.extend_from_slice(out.as_slice()); // As a write does.
/// out.clear(64 * 1024);
/// assert_eq!(socket, b"\x81\x02hi");
/// ```
///
/// A message for many, compressed once; each connection says whether [it takes that](crate::Connection::admits):
///
/// ```
/// # use ws_proto::{Message, Output};
/// let (mut out, mut bytes) = (Output::default(), Vec::new());
/// let message = "all the same, ".repeat(100);
/// if out.deflate(&Message::text(&message), &mut bytes) {
///     assert!(bytes.len() < 100);
/// }
/// ```
#[derive(Debug, Default)]
pub struct Output {
    pub(crate) bytes: Vec<u8>,
    pub(crate) codec: Codec,
}

impl Output {
    /// Makes an empty one with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            ..Self::default()
        }
    }

    /// Returns what is owed.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many bytes are owed.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether nothing is owed.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets all bytes and keeps the room, down to `keep` bytes of it.
    #[inline]
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        if self.bytes.capacity() > keep {
            self.bytes.shrink_to(keep);
        }
        self.codec.shrink(keep);
    }

    /// Takes the bytes along, leaving none.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.bytes)
    }

    /// Appends bytes that the caller has framed already with [`encode`](crate::encode).
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_has_the_room_it_was_made_with_and_says_how_much_is_owed() {
        let mut output = Output::with_capacity(100);
        assert!(output.bytes.capacity() >= 100);
        output.extend_from_slice(b"abc");
        assert_eq!((output.len(), output.is_empty()), (3, false));
    }

    #[test]
    fn taking_more_than_there_is_takes_what_there_is() {
        let mut bytes = *b"abc";
        let mut input = Input::new(&mut bytes);
        assert_eq!(input.take(2), b"ab");
        assert_eq!(input.as_slice(), b"c");
        assert_eq!(input.take(9), b"c");
        assert!(input.is_empty());
    }

    #[test]
    fn a_cleared_output_gives_back_the_room_of_a_burst() {
        let mut out = Output::with_capacity(16);
        out.extend_from_slice(&[0; 1000]);
        out.clear(64);
        assert!(out.is_empty() && out.bytes.capacity() < 1000);
    }
}
