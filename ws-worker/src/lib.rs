//! A WebSocket worker: it performs the handshake, holds the sockets and asks a [`Handler`], or an ordinary web
//! application by hooks, what to do. One thread is one loop; nothing is shared but mailboxes and counters.
#![doc = ""]
#![doc = include_str!("../docs/embedding.md")]
#![deny(unsafe_code)]
#![warn(missing_docs)]

// Floor 0: knows nothing else here.
pub mod clock;
pub mod config;
pub mod counters;
mod inherited;
pub mod log;
mod pages;
mod random;
mod stream;
mod tls;
// Floor 1: the vocabulary and the parts of a turn.
mod breaker;
pub mod command;
mod ends;
mod forwarded;
mod groups;
mod handle;
mod journal;
mod mailbox;
mod metrics;
mod outbound;
mod overview;
mod permits;
mod process;
mod proxy_protocol;
pub mod reload;
mod router;
mod service;
mod source;
mod status;
mod timers;
// Floor 2: handlers and the things that live in the loop.
mod client;
mod clients;
mod control;
pub mod handler;
mod hook;
mod listener;
// Floor 3: the loop.
mod worker;
// Floor 4: threads and signals.
pub mod supervisor;
// Beside the floors: two programs of their own, a client and an operator's words. They know floor 0 alone.
pub mod connect;
pub mod ctl;
// And an entrance for measuring.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;

pub use command::{LateDecision, SocketId};
pub use config::Config;
pub use handle::Handle;
pub use handler::{
    Accept, ClosedBy, Connecting, Decision, End, Handler, PerSocket, SendError, Socket,
};
pub use journal::JournalError;
pub use supervisor::{Builder, Running, StartError, Worker};
pub use ws_proto::{CloseCode, Headers, Message, Rejection, Version};
