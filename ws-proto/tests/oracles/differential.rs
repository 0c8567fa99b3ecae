//! tungstenite against ours on a stream of RFC 6455: both hear the same messages, and both fail or neither does.

use super::Dials;
use crate::common::{CLIENT, at, run};
use std::io::{self, Cursor, Read, Write};
use std::sync::Arc;
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use ws_proto::{Cause, Connection, Event, Limits, Message, ProtocolError, Role, Version};

/// Bit 0: the client role; bit 1: a small limit.
pub(crate) fn differential(data: &[u8]) {
    if let Some((dials, bytes)) = Dials::take(data) {
        let max_message = [100_000, 1_000][dials.number(1, 1)];
        let cuts = dials.cuts(bytes.len());
        compare(bytes, &cuts, dials.is_set(0), max_message);
    }
}

/// Compares what both make of `bytes`, ours in pieces of these lengths.
pub(crate) fn compare(bytes: &[u8], cuts: &[usize], is_client: bool, max_message: usize) {
    let (role, their_role) = if is_client {
        (CLIENT, TheirRole::Client)
    } else {
        (Role::Server, TheirRole::Server)
    };
    // Theirs counts no fragments.
    let limits = Limits {
        max_message,
        max_fragments: u32::MAX,
        max_empty_fragments: u32::MAX,
        max_control_frames: u32::MAX,
        ..Limits::default()
    };
    let connection = Connection::new(at(0), Version::Rfc6455, role, Arc::new(limits));
    let outcome = run(connection, bytes, cuts, false);
    let ours: Vec<Message<'_>> = outcome
        .events
        .into_iter()
        .filter_map(|event| match event {
            Event::Message(message) => Some(message),
            Event::Ping | Event::Pong(_) => None,
        })
        .collect();
    let theirs = Heard::by(their_role, bytes, max_message);
    match outcome.closed.map(|closed| closed.cause) {
        // It takes lengths longer than need be, in control frames too.
        Some(Cause::Protocol(ProtocolError::Length | ProtocolError::ControlFrame)) => {
            assert!(theirs.messages.starts_with(&ours));
        }
        // It answers a code that must not be sent with a close of its own, and calls that no failure.
        Some(Cause::Protocol(ProtocolError::CloseFrame)) => {
            assert_eq!(theirs.messages, ours);
            assert!(theirs.has_failed || theirs.has_closed);
        }
        // We fail at the first byte that cannot be right, it at the end of a frame: it is given as much as that takes.
        Some(Cause::Protocol(error)) => {
            assert_eq!(theirs.messages, ours);
            let padded = [bytes, &vec![0; max_message + 64]].concat();
            let theirs = Heard::by(their_role, &padded, max_message);
            assert_eq!(theirs.messages, ours);
            assert!(theirs.has_failed, "only ours fails: {error}");
        }
        end => {
            assert_eq!(theirs.messages, ours);
            assert!(!theirs.has_failed, "only theirs fails");
            assert_eq!(theirs.has_closed, end == Some(Cause::ClosedByPeer));
        }
    }
}

/// What tungstenite makes of a stream.
struct Heard {
    messages: Vec<Message<'static>>,
    has_failed: bool,
    has_closed: bool,
}

impl Heard {
    fn by(role: TheirRole, bytes: &[u8], max_message: usize) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        let stream = Only(Cursor::new(bytes.to_vec()));
        let mut socket = tungstenite::WebSocket::from_raw_socket(stream, role, Some(config));
        let mut heard = Self {
            messages: Vec::new(),
            has_failed: false,
            has_closed: false,
        };
        loop {
            match socket.read() {
                Ok(tungstenite::Message::Text(text)) => {
                    let text = text.as_str().to_owned();
                    heard.messages.push(Message::Text(text.into()));
                }
                Ok(tungstenite::Message::Binary(bytes)) => {
                    heard.messages.push(Message::Binary(bytes.to_vec().into()));
                }
                Ok(tungstenite::Message::Close(_)) => {
                    heard.has_closed = true;
                    return heard;
                }
                Ok(_) => {}
                Err(error) => {
                    use tungstenite::error::{Error, ProtocolError};
                    heard.has_failed = !matches!(
                        error,
                        Error::Io(_)
                            | Error::ConnectionClosed
                            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
                    );
                    return heard;
                }
            }
        }
    }
}

/// A stream that has only these bytes, and swallows what is written.
struct Only(Cursor<Vec<u8>>);

impl Read for Only {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Only {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
