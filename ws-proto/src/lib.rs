//! Every WebSocket protocol that browsers ever spoke, as a pure state machine: bytes and time in,
//! events and bytes out. It opens no socket, reads no clock, draws no random number and logs nothing.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "simd"), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

// Floor 0: knows nothing else here, but that an `Output` lends out the compressor of `deflate`.
mod digest;
mod input;
mod mask;
mod time;
mod utf8;
// Floor 1: the vocabulary.
mod close;
mod error;
mod limits;
mod message;
mod version;
// Floor 2: heads and frames.
mod frame;
mod head;
mod headers;
// Floor 3: the parts of a handshake and of a connection.
mod assemble;
mod deflate;
mod framed;
mod gear;
mod handshake;
mod keepalive;
// Floor 4: the two roles.
mod client;
mod connection;
mod server;

pub use client::{ClientError, ClientHandshake, ClientOptions, Nonce};
pub use close::{Cause, CloseCode, CloseFrame, Closed};
pub use connection::{Connection, Role};
pub use deflate::{DeflateOffer, DeflateParameters, WindowBits};
pub use error::{HeadError, ProtocolError, Refusal, SendError};
pub use framed::{Framed, Variant, encode};
pub use handshake::Answer;
pub use head::{Request, RequestHead};
pub use headers::{HeaderName, HeaderValue, Headers, InvalidHeader, Rejection};
pub use input::{Input, Output};
pub use limits::{DeflateLimits, HeadLimits, Limits};
pub use message::{Event, Message};
pub use server::{Handshake, Ready};
pub use time::Instant;
pub use version::{Framing, Version, Versions};
