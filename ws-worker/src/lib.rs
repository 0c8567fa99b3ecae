//! A WebSocket worker: it performs the handshake, holds the sockets and asks a [`Handler`], or an ordinary web
//! application by hooks, what to do. One thread is one loop; nothing is shared but mailboxes and counters.
#![deny(unsafe_code)]

// Floor 0: knows nothing else here.
pub mod clock;
pub mod config;
pub mod counters;
// Floor 1: the vocabulary and the parts of a turn.
pub mod command;
mod forwarded;
pub mod log;
mod mailbox;
mod process;
mod proxy_protocol;
mod source;
// Floor 2: handlers and the things that live in the loop.
mod control;
pub mod handler;
pub mod hook;
// Floor 4: threads and signals.
pub mod supervisor;

pub use command::SocketId;
pub use config::Config;
pub use handler::{Connecting, Decision, End, Handler, Socket};
pub use ws_proto::{CloseCode, Headers, Message, Rejection, Version};
