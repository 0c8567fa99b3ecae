//! Hooks: what an app is told about sockets, one HTTP request an event. So far its pure parts.

mod backoff;
mod complaints;
mod http;
mod permits;
mod signature;
