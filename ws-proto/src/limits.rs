//! Every bound and every timeout, each with its reason. Units: bytes and durations.

use crate::version::Versions;
use core::time::Duration;

/// Bounds of the opening handshake, which hold before the route is known.
///
/// ```
/// # use ws_proto::{HeadLimits, Version, Versions};
/// let heads = HeadLimits { versions: Versions::NONE.with(Version::Rfc6455), ..HeadLimits::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Request line and headers together, in bytes. Browsers with many cookies send up to 8 KiB; 16 KiB.
    pub max_head: usize,
    /// Headers in a head; 100.
    pub max_headers: usize,
    /// Subprotocols offered; 32.
    pub max_subprotocols: usize,
    /// From accept until open, not moved by bytes (a slow handshake is an attack); 10 s.
    pub handshake_timeout: Duration,
    /// Versions that are on; all five.
    pub versions: Versions,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            max_head: 16 * 1024,
            max_headers: 100,
            max_subprotocols: 32,
            handshake_timeout: Duration::from_secs(10),
            versions: Versions::ALL,
        }
    }
}

/// Bounds and timeouts of an open connection; one value is shared by all connections of a route.
///
/// ```
/// # use std::time::Duration;
/// # use ws_proto::Limits;
/// let limits = Limits {
///     max_message: 64 * 1024,
///     idle_timeout: Some(Duration::from_secs(300)),
///     ..Limits::default()
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A message's payload, whole, put together or inflated, in bytes; 1 MiB. Of a compressed payload a sixteenth more is
    /// taken, and a few bytes for each fragment: what does not compress grows. Hixie text that is not UTF-8
    /// comes to three bytes for each wrong one. Of frames that hixie discards, between two texts,
    /// sixteen times as much is taken, and 16 MiB at least.
    pub max_message: usize,
    /// Fragments of one message, an empty last one not counted (tiny fragments cost more than they carry); 16 384.
    pub max_fragments: u32,
    /// Empty fragments of one message, the last not counted; 256.
    pub max_empty_fragments: u32,
    /// Control frames inside one fragmented message; 1 024. Between messages they are not counted.
    pub max_control_frames: u32,
    /// Base-128 digits of a hixie length frame, leading zeros not counted; 9.
    pub max_length_digits: u8,
    /// Ping when nothing came for so long; 25 s. `None`: no pings.
    pub heartbeat: Option<Duration>,
    /// Without any byte for so long after a ping the peer is given up; 20 s.
    pub pong_timeout: Duration,
    /// Close with 1001 when no message came for so long. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// The closing handshake may take so long; 5 s.
    pub close_timeout: Duration,
    /// permessage-deflate where a client offers it (feature `deflate`). `None`: never.
    pub deflate: Option<DeflateLimits>,
}

/// What is compressed, and what may be remembered for it.
///
/// ```
/// # use ws_proto::{DeflateLimits, Limits};
/// let limits = Limits { deflate: Some(DeflateLimits { min: 512, takeover: true }), ..Limits::default() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateLimits {
    /// Smaller payloads are sent as they are, in bytes: little is gained, and it costs as much as the send itself; 128.
    pub min: usize,
    /// Whether a connection may remember messages to compress the next ones better, for
    /// [`DeflateParameters::CONTEXT`](crate::DeflateParameters::CONTEXT) bytes each. The driver must have room for it
    /// as well: [`Answer::deflate_takeover`](crate::Answer::deflate_takeover). No.
    pub takeover: bool,
}

impl Default for DeflateLimits {
    fn default() -> Self {
        Self {
            min: 128,
            takeover: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 1024 * 1024,
            max_fragments: 16_384,
            max_empty_fragments: 256,
            max_control_frames: 1_024,
            max_length_digits: 9,
            heartbeat: Some(Duration::from_secs(25)),
            pong_timeout: Duration::from_secs(20),
            idle_timeout: None,
            close_timeout: Duration::from_secs(5),
            deflate: Some(DeflateLimits::default()),
        }
    }
}
