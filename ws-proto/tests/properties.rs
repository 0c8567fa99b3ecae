//! What holds for every input: how it was cut does not matter, nothing panics, decoding undoes encoding, deadlines lie
//! ahead, one close at most, memory within the limits, and an independent decoder agrees.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, helpers too, a panic is a failure and what is printed is the seed"
)]

mod common;
mod oracles;

use common::{at, client, count_closes, feed, feed_into, frame, limits, run, server};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;
use ws_proto::{CloseCode, Connection, Event, Framing, Limits, Message, Output, Version};

const MAX: usize = 50_000;

fn version() -> impl Strategy<Value = Version> {
    proptest::sample::select(Version::ALL.to_vec())
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[ -~]{0,40}".prop_map(String::into_bytes),
        3 => "\\PC{0,60}".prop_map(String::into_bytes),
        1 => (20_000..MAX + 2).prop_map(|length| vec![b'a'; length]),
        1 => "[é日😀]{900}".prop_map(|text| text.repeat(9).into_bytes()),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        5 => text(),
        1 => vec(any::<u8>(), 0..200),
        1 => (text(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut text, index, byte)| {
            if !text.is_empty() {
                let index = index.index(text.len());
                text[index] = byte;
            }
            text
        }),
    ]
}

/// A message of RFC 6455, mostly in order, as frames of a client.
fn hybi_chunk() -> impl Strategy<Value = Vec<u8>> {
    let data = (
        prop::bool::ANY,
        payload(),
        vec(any::<prop::sample::Index>(), 0..4),
        any::<[u8; 4]>(),
    )
        .prop_map(|(binary, payload, cuts, key)| {
            let mut cuts: Vec<usize> = cuts.iter().map(|at| at.index(payload.len() + 1)).collect();
            cuts.sort_unstable();
            let mut bytes = Vec::new();
            let mut opcode = if binary { 2 } else { 1 };
            let mut from = 0;
            for to in cuts {
                bytes.extend(frame(opcode, &payload[from..to], Some(key)));
                (opcode, from) = (0, to);
            }
            bytes.extend(frame(0x80 | opcode, &payload[from..], Some(key)));
            bytes
        });
    let control = (0x88..=0x8a_u8, vec(b'a'..=b'z', 0..126), any::<[u8; 4]>()).prop_map(
        |(first, mut payload, key)| {
            if first == 0x88 && payload.len() >= 2 {
                payload[..2].copy_from_slice(&1000_u16.to_be_bytes());
            }
            frame(first, &payload, Some(key))
        },
    );
    let odd = (any::<u8>(), payload(), prop::option::of(any::<[u8; 4]>()))
        .prop_map(|(first, payload, key)| frame(first, &payload, key));
    prop_oneof![20 => data, 5 => control, 1 => odd, 1 => vec(any::<u8>(), 0..20)]
}

fn hixie_chunk() -> impl Strategy<Value = Vec<u8>> {
    let delimited = |kind: u8, payload: Vec<u8>| {
        let mut bytes = vec![kind];
        bytes.extend(payload.into_iter().filter(|byte| *byte != 0xff));
        bytes.push(0xff);
        bytes
    };
    prop_oneof![
        20 => payload().prop_map(move |payload| delimited(0, payload)),
        3 => (1..0x80_u8, payload()).prop_map(move |(kind, payload)| delimited(kind, payload)),
        3 => (0x80..=0xff_u8, vec(any::<u8>(), 1..300)).prop_map(|(kind, payload)| {
            let length = payload.len();
            let digits = [kind, 0x80 | (length >> 7) as u8, length as u8 & 0x7f];
            [&digits, payload.as_slice()].concat()
        }),
        1 => vec(any::<u8>(), 0..20),
        1 => Just(vec![0xff, 0x00]),
    ]
}

fn stream(version: Version) -> BoxedStrategy<Vec<u8>> {
    let chunks = match version.framing() {
        Framing::Hybi => vec(hybi_chunk(), 0..8).boxed(),
        Framing::Hixie => vec(hixie_chunk(), 0..8).boxed(),
    };
    chunks.prop_map(|chunks| chunks.concat()).boxed()
}

fn version_and_stream() -> impl Strategy<Value = (Version, Vec<u8>)> {
    version().prop_flat_map(|version| (Just(version), stream(version)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_split_of_the_input_gives_the_same_events(
        (version, bytes) in version_and_stream(),
        lengths in vec(prop_oneof![1..20_usize, 1..3_000_usize, 1..60_000_usize], 1..10),
        own_room: bool,
    ) {
        let limits = Limits { max_fragments: 3, ..limits(MAX) };
        let whole = run(server(version, &limits), &bytes, &[], false);
        let split = run(server(version, &limits), &bytes, &lengths, own_room);
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn decoding_undoes_encoding(
        version in version(),
        payloads in vec((any::<bool>(), "\\PC{0,300}", 0..3_usize), 0..6),
        lengths in vec(1..3_000_usize, 0..4),
        from_client: bool,
    ) {
        let limits = limits(1 << 20);
        let (mut from, to) = if from_client {
            (client(version, &limits), server(version, &limits))
        } else {
            (server(version, &limits), client(version, &limits))
        };
        let mut out = Output::default();
        let mut said = Vec::new();
        for (binary, text, times) in payloads {
            let text = text.repeat([1, 20, 200][times]);
            let message = if binary && version.has_binary() {
                Message::Binary(text.into_bytes().into())
            } else {
                Message::Text(text.into())
            };
            prop_assert_eq!(from.send(at(1), message.as_borrowed(), &mut out), Ok(()));
            said.push(Event::Message(message));
        }
        let outcome = run(to, out.as_slice(), &lengths, true);
        prop_assert_eq!(outcome.events, said);
        prop_assert_eq!((outcome.out, outcome.closed), (vec![], None));
    }

    #[test]
    fn whatever_is_called_the_promises_hold(
        (version, bytes) in version_and_stream(),
        is_server: bool,
        calls in vec((0..12_u8, 0..30_000_u64), 0..60),
        quick: bool,
    ) {
        let mut limits = Limits { idle_timeout: Some(Duration::from_secs(40)), ..limits(MAX) };
        if quick {
            limits.heartbeat = Some(Duration::ZERO);
            limits.pong_timeout = Duration::ZERO;
            limits.close_timeout = Duration::ZERO;
        }
        let mut connection = if is_server { server(version, &limits) } else { client(version, &limits) };
        check_promises(&mut connection, &bytes, &calls)?;
    }

    #[test]
    fn tungstenite_hears_the_same(
        chunks in vec(hybi_chunk(), 0..8),
        lengths in vec(1..3_000_usize, 0..4),
    ) {
        oracles::differential::compare(&chunks.concat(), &lengths, false, MAX);
    }
}

/// Makes the calls, spread over the bytes, and checks after each what holds always.
fn check_promises(
    connection: &mut Connection,
    bytes: &[u8],
    calls: &[(u8, u64)],
) -> Result<(), TestCaseError> {
    let version = connection.version();
    let mut out = Output::default();
    let mut now = 0;
    let mut rest = bytes;
    for &(call, number) in calls {
        let (piece, behind) = rest.split_at(rest.len().min(number as usize));
        match call {
            0 => drop(connection.send(at(now), Message::text("text"), &mut out)),
            1 => drop(connection.send(at(now), Message::binary(b"\xff"), &mut out)),
            2 if number < 3_000 => {
                connection.close(at(now), CloseCode::POLICY, "reason", &mut out);
            }
            3 => connection.pause(at(now)),
            4 => connection.resume(at(now)),
            5 if number < 3_000 => connection.handle_eof(at(now)),
            6 => drop(connection.received(at(now), number as usize, &mut out)),
            7 => now += number,
            8 => {
                feed_into(connection, at(now), piece, &mut out);
                rest = behind;
            }
            _ => {
                feed(connection, at(now), piece, &mut out);
                rest = behind;
            }
        }
        // A few words of its own (what was counted, a close reason, keys), and of lossy text three bytes for one.
        let largest = if version.has_binary() { MAX } else { 3 * MAX };
        prop_assert!(connection.memory() <= largest + 1_000);
        let sent_before = out.len();
        let was_closing = connection.is_closing();
        connection.handle_timeout(at(now), &mut out);
        prop_assert!(connection.poll_timeout().is_none_or(|next| next > at(now)));
        prop_assert!(!was_closing || out.len() == sent_before);
    }
    // A client's frames are masked; only the first byte and the length are looked at.
    prop_assert!(count_closes(version, out.as_slice()) <= 1);
    if connection.closed().is_some() {
        prop_assert!(connection.is_closing() && connection.memory() < 400);
    }
    Ok(())
}
