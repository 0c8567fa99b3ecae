//! permessage-deflate between open connections: any stream, cut anywhere, comes to the same within the limits; what a
//! second inflater (miniz_oxide) makes of a payload is what we make of it; and what either role compresses, the other
//! reads again, with and without a memory of earlier messages.

use super::Dials;
use super::streams::check;
use crate::common::{CLIENT, at, client, count_closes, feed, frame, server};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, inflate_flags};
use std::sync::Arc;
use ws_proto::{
    Cause, Connection, DeflateLimits, DeflateParameters, Event, Limits, Message, Output,
    ProtocolError, Role, Version, WindowBits,
};

/// Bits 0 and 1: who forgets; bits 2 and 3: the windows; bit 4: client; bits 5 and 6: the limit. The byte behind the
/// dials says what the rest is: frames, one compressed payload, or messages to send.
pub(crate) fn deflate(data: &[u8]) {
    let Some((dials, bytes)) = Dials::take(data) else {
        return;
    };
    let Some((&kind, bytes)) = bytes.split_first() else {
        return;
    };
    let window = |bits| WindowBits::new(bits).expect("in range");
    let bits = [15, 9, 8, 12][dials.number(2, 2)];
    let parameters = DeflateParameters {
        server_no_context_takeover: dials.is_set(0),
        client_no_context_takeover: dials.is_set(1),
        server_max_window_bits: window(bits),
        client_max_window_bits: window(bits),
    };
    let limits = Limits {
        max_message: [200_000, 70_000, 1_000, 10][dials.number(5, 2)],
        deflate: Some(DeflateLimits {
            min: 0,
            takeover: true,
        }),
        ..Limits::default()
    };
    let role = if dials.is_set(4) {
        CLIENT
    } else {
        Role::Server
    };
    match kind % 4 {
        0 => {
            let limits = Arc::new(limits);
            let open = || {
                Connection::new(at(0), Version::Rfc6455, role, Arc::clone(&limits))
                    .deflating(parameters)
            };
            let outcome = check(&open, dials, &limits, bytes);
            check_sizes(&outcome.events, limits.max_message);
        }
        1 | 2 => inflate(dials, parameters, &limits, kind % 4 == 2, bytes),
        _ => send(dials, parameters, &limits, bytes),
    }
}

fn check_sizes(events: &[Event<'_>], max: usize) {
    for event in events {
        if let Event::Message(message) = event {
            assert!(message.payload().len() <= max);
        }
    }
}

/// Wraps a payload in frames, cut where the dials say, and compares what comes of it with what miniz makes of it.
fn inflate(
    dials: Dials,
    parameters: DeflateParameters,
    limits: &Limits,
    is_text: bool,
    payload: &[u8],
) {
    let key = [1, 2, 3, 4];
    let mut stream = Vec::new();
    let mut first = if is_text { 0x41 } else { 0x42 };
    let mut rest = payload;
    // Few fragments: there is a limit to them, and another oracle for it.
    for cut in dials.cuts(usize::MAX).into_iter().take(3) {
        let (piece, behind) = rest.split_at(cut.min(rest.len()));
        stream.extend(frame(first, piece, Some(key)));
        (first, rest) = (0, behind);
    }
    stream.extend(frame(first | 0x80, rest, Some(key)));
    let open = || server(Version::Rfc6455, limits).deflating(parameters);
    let outcome = check(&open, dials, limits, &stream);
    check_sizes(&outcome.events, limits.max_message);
    if payload.is_empty() {
        return; // An empty message, for those who send it so; no stream at all for theirs.
    }
    // Theirs reads one stream, up to a final block: an empty one is put where ours ends a message.
    let whole = [payload, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat();
    let mut room = vec![0; limits.max_message + 1];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, taken, given) = miniz_oxide::inflate::core::decompress(
        &mut DecompressorOxide::new(),
        &whole,
        &mut room,
        0,
        flags,
    );
    room.truncate(given);
    if status == TINFLStatus::Done && taken < whole.len() {
        return; // A final block of the sender's; ours goes on behind it.
    }
    let theirs = if status == TINFLStatus::Done {
        Ok(room)
    } else {
        Err(status)
    };
    let ours = outcome.events.first();
    let cause = outcome.closed.map(|closed| closed.cause);
    match (ours, theirs) {
        (Some(Event::Message(message)), Ok(theirs)) => {
            assert!(message.payload() == theirs, "inflated to something else");
        }
        (None, Ok(theirs)) => match cause {
            Some(Cause::Protocol(ProtocolError::TooBig)) => {
                let most = limits.max_message;
                assert!(theirs.len() > most || payload.len() > most);
            }
            Some(Cause::Protocol(ProtocolError::Utf8)) => {
                assert!(is_text && std::str::from_utf8(&theirs).is_err());
            }
            other => panic!("{other:?} for {theirs:x?}"),
        },
        (None, Err(_)) => assert!(matches!(cause, Some(Cause::Protocol(_)))),
        (Some(event), theirs) => panic!("{event:?}, where theirs says {theirs:x?}"),
    }
}

/// Sends messages in both directions, a broadcast among them, and reads them again.
fn send(dials: Dials, parameters: DeflateParameters, limits: &Limits, bytes: &[u8]) {
    let mut ends = [
        server(Version::Rfc6455, limits).deflating(parameters),
        client(Version::Rfc6455, limits).deflating(parameters),
    ];
    let mut out = Output::default();
    // Each message: how often its bytes are repeated, who sends it and how, how many bytes, the bytes. All together no
    // more than goes beyond every limit, so that an input is played in a moment.
    let mut left = 300_000;
    let mut rest = bytes;
    while let Some((&[times, how, length], behind)) = rest.split_first_chunk() {
        let (piece, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let mut payload = piece.repeat(usize::from(times) * if how & 8 == 0 { 1 } else { 9 });
        payload.truncate(left);
        left -= payload.len();
        let message = match String::from_utf8(payload) {
            Ok(text) if how & 1 == 0 => Message::Text(text.into()),
            Ok(text) => Message::Binary(text.into_bytes().into()),
            Err(error) => Message::Binary(error.into_bytes().into()),
        };
        let who = usize::from(how >> 1 & 1);
        let [one, two] = &mut ends;
        let (from, to) = if who == 0 { (one, two) } else { (two, one) };
        let mut sent = Vec::new();
        let is_broadcast = how & 4 != 0
            && from.admits(message.is_binary(), message.payload().len())
                == Ok(ws_proto::Variant::Deflated)
            && out.deflate(&message, &mut sent);
        if !is_broadcast {
            assert_eq!(from.send(at(1), message.as_borrowed(), &mut out), Ok(()));
            sent = out.take();
        }
        assert!(sent.len() <= message.payload().len() + 14);
        let cut = dials.cuts(sent.len())[0].min(sent.len());
        let mut events = feed(to, at(1), &sent[..cut], &mut out);
        events.extend(feed(to, at(1), &sent[cut..], &mut out));
        for end in [&*from, &*to] {
            let most = limits.max_message + DeflateParameters::CONTEXT + 1_000;
            assert!(end.memory() <= most, "{}", end.memory());
        }
        if message.payload().len() > limits.max_message {
            assert!(events.is_empty() && to.closed().is_some());
            assert_eq!(count_closes(Version::Rfc6455, &out.take()), 1);
            return;
        }
        assert!(
            events == [Event::Message(message)],
            "read as something else"
        );
        assert!(out.is_empty());
        if how & 16 != 0 {
            out.clear(64);
        }
    }
}
