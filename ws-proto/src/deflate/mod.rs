//! permessage-deflate: what two ends agree on, and what one of them remembers between messages. [RFC 7692]
//! Knows no frames. Without the feature `deflate` nothing is ever agreed, and everything is sent as it is.

#[cfg(feature = "deflate")]
mod codec;
#[cfg(not(feature = "deflate"))]
#[path = "without.rs"]
mod codec;
pub(crate) mod negotiate;

pub(crate) use codec::Codec;

use crate::error::ProtocolError;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The compression of a message for one peer. Measured on JSON: the next level makes a third less of it and takes more
/// than twice as long, which one peer's bytes are not worth.
const LEVEL: i32 = 1;
/// The compression of a broadcast, which is compressed once for many peers.
const BROADCAST_LEVEL: i32 = 2;
/// How much of what was sent is remembered with context takeover. All 32 KiB would be allowed, and hashing them again
/// before each message would cost 30 µs instead of 7; what repeats in messages repeats soon.
const SENT: usize = 8 * 1024;
/// How much of what came has to be remembered: the largest window.
const RECEIVED: usize = 32 * 1024;

/// The size of an LZ77 window as its base-2 logarithm: 8 to 15.
///
/// ```
/// # use ws_proto::WindowBits;
/// assert_eq!(WindowBits::new(10).map(WindowBits::get), Some(10));
/// assert_eq!(WindowBits::new(16), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowBits(u8);

impl WindowBits {
    /// 32 KiB, which everybody may use unless something else was agreed.
    pub const FULL: Self = Self(15);
    /// The smallest that zlib can write: raw streams with a window of 256 bytes are beyond it.
    const SMALLEST_TO_SEND: Self = Self(9);

    /// Makes one, if it is in range.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        match bits {
            8..=15 => Some(Self(bits)),
            _ => None,
        }
    }

    /// Returns the logarithm.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for WindowBits {
    fn default() -> Self {
        Self::FULL
    }
}

/// What a client offers; the default wants no context takeover and leaves the server its choice of our window.
/// [RFC 7692, 7.1]
///
/// ```
/// # use ws_proto::{ClientOptions, DeflateOffer, Version};
/// let mut options = ClientOptions::new(Version::Rfc6455, "example.com", "/");
/// options.deflate = Some(DeflateOffer { server_no_context_takeover: false, ..DeflateOffer::default() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateOffer {
    /// The server shall forget each message it sent.
    pub server_no_context_takeover: bool,
    /// We are going to forget each message we sent.
    pub client_no_context_takeover: bool,
    /// The server's window shall not be larger.
    pub server_max_window_bits: Option<WindowBits>,
    /// Our window is not going to be larger, and the server may make it smaller still. [`WindowBits::FULL`] is said
    /// without a value.
    pub client_max_window_bits: Option<WindowBits>,
}

impl Default for DeflateOffer {
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: None,
            client_max_window_bits: Some(WindowBits::FULL),
        }
    }
}

/// What was agreed; the default is what an answer without parameters means. [RFC 7692, 7.1]
///
/// ```
/// # use ws_proto::DeflateParameters;
/// let agreed = DeflateParameters { server_no_context_takeover: true, ..DeflateParameters::default() };
/// assert!(agreed.has_context()); // Of what the client sent.
/// assert!(DeflateParameters::CONTEXT < 48 * 1024);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeflateParameters {
    /// The server forgets each message it sent.
    pub server_no_context_takeover: bool,
    /// The client forgets each message it sent.
    pub client_no_context_takeover: bool,
    /// The server's window.
    pub server_max_window_bits: WindowBits,
    /// The client's window.
    pub client_max_window_bits: WindowBits,
}

impl DeflateParameters {
    /// Bytes that a connection with context takeover keeps at most between messages; one without keeps none.
    pub const CONTEXT: usize = SENT + RECEIVED + size_of::<Context>();

    /// Returns whether an end remembers messages, so that a connection has a context of its own.
    #[must_use]
    pub const fn has_context(&self) -> bool {
        !(self.server_no_context_takeover && self.client_no_context_takeover)
    }
}

/// One connection's compression. The transforms are the loop's; what is remembered of messages is our own.
#[derive(Debug)]
pub(crate) struct Deflate {
    parameters: DeflateParameters,
    is_server: bool,
    /// There is none without context takeover, nor before the first message.
    context: Option<Box<Context>>,
}

/// The last bytes of compressed messages, uncompressed.
#[derive(Debug, Default)]
struct Context {
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Deflate {
    pub(crate) const fn new(parameters: DeflateParameters, is_server: bool) -> Self {
        Self {
            parameters,
            is_server,
            context: None,
        }
    }

    pub(crate) const fn parameters(&self) -> DeflateParameters {
        self.parameters
    }

    /// Returns whether the peer understands what was compressed for nobody in particular.
    pub(crate) fn takes_broadcasts(&self) -> bool {
        self.is_server
            && self.parameters.server_no_context_takeover
            && self.parameters.server_max_window_bits == WindowBits::FULL
    }

    /// Returns whether we forget what we sent, the size of our window, and whether the peer forgets.
    const fn ours(&self) -> (bool, WindowBits, bool) {
        let DeflateParameters {
            server_no_context_takeover,
            client_no_context_takeover,
            server_max_window_bits,
            client_max_window_bits,
        } = self.parameters;
        if self.is_server {
            (
                server_no_context_takeover,
                server_max_window_bits,
                client_no_context_takeover,
            )
        } else {
            (
                client_no_context_takeover,
                client_max_window_bits,
                server_no_context_takeover,
            )
        }
    }

    /// Compresses a payload that is going to be sent if the result is smaller than it.
    pub(crate) fn compress<'c>(
        &mut self,
        payload: &[u8],
        codec: &'c mut Codec,
    ) -> Option<&'c [u8]> {
        let (forgets, bits, _) = self.ours();
        if bits < WindowBits::SMALLEST_TO_SEND {
            return None; // Nobody has to compress, and we cannot.
        }
        if forgets {
            return codec.compress(payload, LEVEL, bits, &[]);
        }
        let context = self.context.get_or_insert_default();
        let compressed = codec.compress(payload, LEVEL, bits, &context.sent)?;
        remember(payload, SENT, &mut context.sent);
        Some(compressed)
    }

    /// Inflates a whole message of at most `max` bytes, piece by piece.
    ///
    /// # Errors
    /// The peer's fault: it is corrupt or too large, or `push` says so.
    pub(crate) fn inflate(
        &mut self,
        payload: &[u8],
        max: usize,
        codec: &mut Codec,
        push: &mut dyn FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let (_, _, peer_forgets) = self.ours();
        if peer_forgets {
            codec.inflate(payload, max, &[], push)?;
            return Ok(());
        }
        let context = self.context.get_or_insert_default();
        let recent = codec.inflate(payload, max, &context.received, push)?;
        context.received.clear();
        remember(recent, RECEIVED, &mut context.received);
        Ok(())
    }

    /// Returns how many bytes of heap it holds.
    pub(crate) fn memory(&self) -> usize {
        self.context.as_ref().map_or(0, |context| {
            size_of::<Context>() + context.sent.capacity() + context.received.capacity()
        })
    }
}

/// Compresses a message for all whose [`Deflate::takes_broadcasts`], if the result is smaller than it.
pub(crate) fn compress_broadcast<'c>(payload: &[u8], codec: &'c mut Codec) -> Option<&'c [u8]> {
    codec.compress(payload, BROADCAST_LEVEL, WindowBits::FULL, &[])
}

/// Appends what is new and forgets what is older than the last `most` bytes, which is all the room there will be.
fn remember(new: &[u8], most: usize, history: &mut Vec<u8>) {
    let new = new
        .get(new.len().saturating_sub(most)..)
        .unwrap_or_default();
    let kept = history.len().min(most - new.len());
    history.drain(..history.len() - kept);
    let needed = kept + new.len();
    if needed > history.capacity() {
        let doubled = history.capacity().saturating_mul(2).min(most);
        history.reserve_exact(doubled.max(needed) - kept);
    }
    history.extend_from_slice(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_holds_the_last_bytes_and_no_more_room() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        for step in [1, 3, 7, 10, 11, 40] {
            let mut history = Vec::new();
            let mut said = 0;
            for new in all.chunks(step) {
                remember(new, 10, &mut history);
                said += new.len();
                let from = said.saturating_sub(10);
                assert_eq!(Some(history.as_slice()), all.get(from..said));
                assert!(history.capacity() <= 10);
            }
        }
    }

    #[test]
    fn a_context_is_what_either_end_remembers() {
        for (ours, theirs) in [(false, false), (false, true), (true, false), (true, true)] {
            let parameters = DeflateParameters {
                server_no_context_takeover: ours,
                client_no_context_takeover: theirs,
                server_max_window_bits: WindowBits::FULL,
                client_max_window_bits: WindowBits::FULL,
            };
            assert_eq!(parameters.has_context(), !(ours && theirs));
        }
        // The largest window and a quarter of one, and what holds them.
        let histories = 40 * 1024;
        assert!((histories..histories + 200).contains(&DeflateParameters::CONTEXT));
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn the_smallest_window_that_is_compressed_for_has_nine_bits() {
        for (bits, compresses) in [(8, false), (9, true)] {
            let bits = WindowBits::new(bits).expect("8 to 15");
            let parameters = DeflateParameters {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                server_max_window_bits: bits,
                client_max_window_bits: WindowBits::FULL,
            };
            let mut codec = Codec::default();
            let found = Deflate::new(parameters, true).compress(&[b'a'; 1000], &mut codec);
            assert_eq!(found.is_some(), compresses);
        }
    }

    #[test]
    fn a_window_has_8_to_15_bits() {
        for bits in 0..=u8::MAX {
            assert_eq!(WindowBits::new(bits).is_some(), (8..=15).contains(&bits));
        }
    }
}
