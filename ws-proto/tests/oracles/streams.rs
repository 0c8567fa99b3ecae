//! A stream of frames into an open connection, right or wrong: no cut of it changes what comes of it, the limits hold, and
//! at most one close goes out, with nothing after it. For hixie a second decoder, slow and plain, says what should come.

use super::Dials;
use crate::common::{CLIENT, Outcome, at, count_closes, feed, feed_into, run};
use std::sync::Arc;
use ws_proto::{
    Cause, Connection, DeflateParameters, Event, Framing, Limits, Message, Output, ProtocolError,
    Role, Version,
};

/// hixie-75 and hixie-76. Bit 0: 76; bit 1: client; bits 2 and 3: the limit; bits 4 and 5: the digits of a length.
pub(crate) fn hixie(data: &[u8]) {
    let Some((dials, bytes)) = Dials::take(data) else {
        return;
    };
    let version = [Version::Hixie75, Version::Hixie76][dials.number(0, 1)];
    let limits = Limits {
        max_message: [1 << 20, 1_000, 20, 0][dials.number(2, 2)],
        max_length_digits: [9, 3, 1, 20][dials.number(4, 2)],
        ..Limits::default()
    };
    let limits = Arc::new(limits);
    let role = if dials.is_set(1) {
        CLIENT
    } else {
        Role::Server
    };
    let open = || Connection::new(at(0), version, role, Arc::clone(&limits));
    let whole = check(&open, dials, &limits, bytes);
    let expected = Model::read(version, &limits, bytes);
    let texts: Vec<&str> = whole
        .events
        .iter()
        .map(|event| match event {
            Event::Message(Message::Text(text)) => &**text,
            other @ (Event::Message(_) | Event::Pong(_) | Event::Ping) => {
                panic!("hixie has only text, not {other:?}")
            }
        })
        .collect();
    assert_eq!(texts, expected.texts, "the plain decoder says otherwise");
    assert_eq!(
        whole.closed.map(|closed| closed.cause),
        expected.end,
        "the plain decoder says otherwise"
    );
    let closes: &[u8] = match expected.end {
        Some(_) if version == Version::Hixie76 => &[0xff, 0x00],
        _ => &[],
    };
    assert_eq!(whole.out, closes);
}

/// hybi-07, hybi-08 and RFC 6455. Bits 0 and 1: the version; bit 2: client; bits 3 to 5: the limits.
pub(crate) fn hybi(data: &[u8]) {
    let Some((dials, bytes)) = Dials::take(data) else {
        return;
    };
    let version = [
        Version::Rfc6455,
        Version::Hybi08,
        Version::Hybi07,
        Version::Rfc6455,
    ][dials.number(0, 2)];
    let dials = Dials {
        flags: dials.flags >> 1,
        ..dials
    };
    let mut limits = Limits {
        max_message: [1 << 20, 100_000, 1_000, 125][dials.number(2, 2)],
        ..Limits::default()
    };
    if dials.is_set(4) {
        limits.max_fragments = 3;
        limits.max_empty_fragments = 1;
        limits.max_control_frames = 2;
    }
    let limits = Arc::new(limits);
    let role = if dials.is_set(1) {
        CLIENT
    } else {
        Role::Server
    };
    let open = || Connection::new(at(0), version, role, Arc::clone(&limits));
    let whole = check(&open, dials, &limits, bytes);
    for event in &whole.events {
        if let Event::Message(message) = event {
            assert!(message.payload().len() <= limits.max_message);
        }
    }
    // What we sent: pongs, then perhaps a close. Each ping that is told is answered.
    let pings = whole
        .events
        .iter()
        .filter(|event| matches!(event, Event::Ping))
        .count();
    let mut frames = 0;
    let mut rest = whole.out.as_slice();
    while let Some(&first) = rest.first() {
        assert!(matches!(first, 0x88 | 0x8a), "{first:x}");
        assert_eq!(rest[1] & 0x80 != 0, dials.is_set(1), "masking is by role");
        frames += usize::from(first == 0x8a);
        rest = &rest[crate::common::frame_length(rest)..];
    }
    assert_eq!(pings, frames);
}

/// Runs a stream whole, and cut as the dials say, with an odd seed into the connection's own room.
pub(crate) fn check(
    open: &dyn Fn() -> Connection,
    dials: Dials,
    limits: &Limits,
    bytes: &[u8],
) -> Outcome {
    let version = open().version();
    let whole = run(open(), bytes, &[], false);
    let cuts = dials.cuts(bytes.len());
    let own_room = dials.seed % 2 == 1;
    let mut connection = open();
    let mut out = Output::default();
    let mut events = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.into_iter().cycle();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
        rest = behind;
        let feed = if own_room { feed_into } else { feed };
        events.extend(feed(&mut connection, at(1), piece, &mut out));
        check_memory(&connection, limits);
        let owed = out.len();
        connection.handle_timeout(at(1), &mut out);
        assert_eq!(out.len(), owed, "nothing is due");
        assert!(connection.poll_timeout().is_none_or(|next| next > at(1)));
        assert_eq!(
            connection.is_closing(),
            connection.closed().is_some(),
            "we began no close"
        );
    }
    let split = Outcome {
        events,
        out: out.as_slice().to_vec(),
        closed: connection.closed().cloned(),
    };
    assert_eq!(whole, split, "the cuts made a difference");
    let closes = count_closes(version, &whole.out);
    let answers = version.has_closing_handshake() && whole.closed.is_some();
    assert_eq!(closes, usize::from(answers));
    check_after(&mut connection, version, &mut out);
    whole
}

/// Checks the end of the stream, and that nothing follows an end.
fn check_after(connection: &mut Connection, version: Version, out: &mut Output) {
    let owed = out.len();
    connection.handle_eof(at(2));
    let closed = connection.closed().cloned().expect("the stream ended");
    if closed.cause == Cause::Eof {
        assert!(!closed.clean || version == Version::Hixie75);
    }
    let text = Message::text("late");
    assert!(connection.send(at(3), text.as_borrowed(), out).is_err());
    assert!(connection.admits(false, 4).is_err() && connection.frame(at(3), &text).is_err());
    connection.close(at(3), ws_proto::CloseCode::NORMAL, "late", out);
    assert!(feed(connection, at(3), b"\x81\x01a\x00b\xff\x00", out).is_empty());
    connection.handle_timeout(at(u64::MAX), out);
    connection.handle_eof(at(4));
    assert_eq!(out.len(), owed, "something follows the end");
    assert_eq!(connection.closed(), Some(&closed), "the end changed");
    assert_eq!(connection.poll_timeout(), None);
    assert!(connection.read_into().is_none());
    assert!(connection.memory() < 400, "the end gives everything back");
}

/// Checks that a connection holds no more than a message and a few words of its own (counters, a close, keys). Of lossy
/// text three bytes may come from one.
pub(crate) fn check_memory(connection: &Connection, limits: &Limits) {
    let message = limits.max_message;
    let largest = match connection.version().framing() {
        // A compressed message is collected as it is, and inflated when whole.
        Framing::Hybi if connection.deflate().is_some() => message + DeflateParameters::CONTEXT,
        Framing::Hybi => message,
        Framing::Hixie => 3 * message,
    };
    let holds = connection.memory();
    assert!(holds <= largest + 1_000, "{holds} bytes for {message}");
}

/// What should come of a hixie stream.
struct Model {
    texts: Vec<String>,
    end: Option<Cause>,
}

impl Model {
    /// Reads a whole stream, a byte at a time. [hixie-76, 4.2 and 5.3]
    fn read(version: Version, limits: &Limits, bytes: &[u8]) -> Self {
        let mut texts = Vec::new();
        let end = Self::frames(version, limits, bytes, &mut texts).err();
        Self { texts, end }
    }

    fn frames(
        version: Version,
        limits: &Limits,
        bytes: &[u8],
        texts: &mut Vec<String>,
    ) -> Result<(), Cause> {
        let max = limits.max_message as u64;
        let allowed = (max * 16).max(16 << 20);
        let too_much = |discarded| {
            if discarded > allowed {
                return Err(Cause::Protocol(ProtocolError::TooManyFrames));
            }
            Ok(())
        };
        let mut discarded = 0;
        let mut rest = bytes.iter().copied();
        while let Some(kind) = rest.next() {
            if kind == 0 {
                let mut text = Vec::new();
                loop {
                    match rest.next() {
                        None => return Ok(()),
                        Some(0xff) => break,
                        Some(_) if text.len() as u64 == max => {
                            return Err(Cause::Protocol(ProtocolError::TooBig));
                        }
                        Some(byte) => text.push(byte),
                    }
                }
                texts.push(String::from_utf8_lossy(&text).into_owned());
                discarded = 0;
                continue;
            }
            discarded += 1;
            too_much(discarded)?;
            if kind < 0x80 {
                for byte in rest.by_ref() {
                    discarded += 1;
                    too_much(discarded)?;
                    if byte == 0xff {
                        break;
                    }
                }
                continue;
            }
            let mut length = 0_u128;
            let mut digits = 0;
            loop {
                let Some(byte) = rest.next() else {
                    return Ok(());
                };
                discarded += 1;
                too_much(discarded)?;
                length = length * 128 + u128::from(byte & 0x7f);
                digits += u8::from(length > 0);
                if digits > limits.max_length_digits || length >> 64 != 0 {
                    return Err(Cause::Protocol(ProtocolError::Length));
                }
                if byte < 0x80 {
                    break;
                }
            }
            if length == 0 && kind == 0xff && version == Version::Hixie76 {
                return Err(Cause::ClosedByPeer);
            }
            if length > u128::from(max) {
                return Err(Cause::Protocol(ProtocolError::TooBig));
            }
            discarded += length as u64;
            too_much(discarded)?;
            rest.by_ref().take(length as usize).for_each(drop);
        }
        Ok(())
    }
}
