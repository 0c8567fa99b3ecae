//! What the tests of a connection share: limits, a run over bytes, a reader of what was sent.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::Arc;
use ws_proto::{Closed, Connection, Event, Framing, Input, Instant, Limits, Output, Role, Version};

pub(crate) const CLIENT: Role = Role::Client {
    mask_seed: *b"sixteen so-so by",
};

/// Milliseconds since the start.
pub(crate) fn at(milliseconds: u64) -> Instant {
    Instant::at(milliseconds)
}

pub(crate) fn limits(max_message: usize) -> Limits {
    Limits {
        max_message,
        ..Limits::default()
    }
}

pub(crate) fn server(version: Version, limits: &Limits) -> Connection {
    Connection::new(at(0), version, Role::Server, Arc::new(limits.clone()))
}

pub(crate) fn client(version: Version, limits: &Limits) -> Connection {
    Connection::new(at(0), version, CLIENT, Arc::new(limits.clone()))
}

pub(crate) fn into_owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Message(message) => Event::Message(message.into_owned()),
        Event::Pong(duration) => Event::Pong(duration),
        Event::Ping => Event::Ping,
    }
}

/// Gives `bytes` to a connection as one read, and takes all events.
pub(crate) fn feed(
    connection: &mut Connection,
    now: Instant,
    bytes: &[u8],
    out: &mut Output,
) -> Vec<Event<'static>> {
    let mut bytes = bytes.to_vec();
    let mut input = Input::new(&mut bytes);
    let mut events = Vec::new();
    while let Some(event) = connection.receive(now, &mut input, out) {
        events.push(into_owned(event));
    }
    assert!(input.is_empty(), "bytes were left");
    events
}

/// As [`feed`], but through the connection's own room where it offers some.
pub(crate) fn feed_into(
    connection: &mut Connection,
    now: Instant,
    mut bytes: &[u8],
    out: &mut Output,
) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let Some(room) = connection.read_into() else {
            // As much as a head may have, so that the room is asked for again inside a frame.
            let (front, rest) = bytes.split_at(bytes.len().min(14));
            events.extend(feed(connection, now, front, out));
            bytes = rest;
            continue;
        };
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        events.extend(connection.received(now, count, out));
        bytes = &bytes[count..];
    }
    events
}

/// What became of a stream: comparable, whatever the way it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event<'static>>,
    pub(crate) out: Vec<u8>,
    pub(crate) closed: Option<Closed>,
}

/// Reads a stream in pieces of these lengths, in turn; no lengths: whole.
pub(crate) fn run(
    mut connection: Connection,
    bytes: &[u8],
    lengths: &[usize],
    own_room: bool,
) -> Outcome {
    let mut out = Output::default();
    let mut events = Vec::new();
    let mut rest = bytes;
    let mut lengths = lengths.iter().copied().cycle();
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(length);
        events.extend(if own_room {
            feed_into(&mut connection, at(1), piece, &mut out)
        } else {
            feed(&mut connection, at(1), piece, &mut out)
        });
        rest = behind;
    }
    Outcome {
        events,
        out: out.take(),
        closed: connection.closed().cloned(),
    }
}

/// Counts the closes in what was sent and checks that the frames are whole and nothing follows a close.
pub(crate) fn count_closes(version: Version, sent: &[u8]) -> usize {
    let mut closes = 0;
    let mut rest = sent;
    while !rest.is_empty() {
        assert_eq!(closes, 0, "something follows a close: {rest:x?}");
        let length = match version.framing() {
            Framing::Hixie if rest.starts_with(&[0xff, 0x00]) => {
                closes += 1;
                2
            }
            Framing::Hixie => {
                assert_eq!(rest[0], 0x00);
                rest.iter().position(|byte| *byte == 0xff).unwrap() + 1
            }
            Framing::Hybi => {
                closes += usize::from(rest[0] == 0x88);
                frame_length(rest)
            }
        };
        rest = &rest[length..];
    }
    closes
}

/// Returns the length of the hybi frame that `bytes` begin with.
pub(crate) fn frame_length(bytes: &[u8]) -> usize {
    let key = if bytes[1] & 0x80 != 0 { 4 } else { 0 };
    key + match bytes[1] & 0x7f {
        126 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => 10 + u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize,
        length => 2 + usize::from(length),
    }
}

/// Makes a frame as a client sends it (key given) or a server (none), right or wrong.
pub(crate) fn frame(first: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(masked | length as u8),
        length @ 126..=0xffff => {
            bytes.push(masked | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(key.iter().flatten());
    let key = key.unwrap_or_default();
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}
