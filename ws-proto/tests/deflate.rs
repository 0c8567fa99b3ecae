//! permessage-deflate in both roles: whatever was agreed, what arrives is what was sent; limits hold on every path; and a
//! peer that keeps its own zlib stream understands us, and we it.
#![cfg(all(feature = "deflate", not(miri)))]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, helpers too, a panic is a failure and what is printed is the seed"
)]

mod common;

use common::{at, client, feed, feed_into, frame, frame_length, limits, run, server};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};
use ws_proto::{
    Answer, Cause, ClientHandshake, ClientOptions, Connection, DeflateLimits, DeflateOffer,
    DeflateParameters, Event, Framing, Handshake, HeadLimits, Input, Limits, Message, Nonce,
    Output, ProtocolError, Ready, Variant, Version, WindowBits,
};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

const MAX: usize = 200_000;
const KEY: [u8; 4] = [1, 2, 3, 4];
const FORGETFUL: DeflateParameters = DeflateParameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: WindowBits::FULL,
    client_max_window_bits: WindowBits::FULL,
};

fn eager(max_message: usize) -> Limits {
    let deflate = DeflateLimits {
        min: 0,
        takeover: true,
    };
    Limits {
        deflate: Some(deflate),
        ..limits(max_message)
    }
}

fn parameters() -> impl Strategy<Value = DeflateParameters> {
    let bits = || (8..=15_u8).prop_map(|bits| WindowBits::new(bits).unwrap());
    (any::<[bool; 2]>(), bits(), bits()).prop_map(|(forgets, server, client)| DeflateParameters {
        server_no_context_takeover: forgets[0],
        client_no_context_takeover: forgets[1],
        server_max_window_bits: server,
        client_max_window_bits: client,
    })
}

/// Texts that repeat themselves and each other, some far back, and bytes that do not compress.
fn message() -> impl Strategy<Value = Message<'static>> {
    prop_oneof![
        4 => "[a-f]{0,40}".prop_map(|text| Message::Text(text.into())),
        4 => ("[a-zé日😀]{1,30}", 1..400_usize).prop_map(|(text, times)| Message::Text(text.repeat(times).into())),
        2 => (0..60_000_u32).prop_map(|length| {
            Message::Text((0..length / 5).map(|i| format!("{:05}", i.wrapping_mul(i) % 99_991)).collect())
        }),
        2 => vec(any::<u8>(), 0..600).prop_map(|bytes| Message::Binary(bytes.into())),
        1 => (0..MAX).prop_map(|length| Message::Binary(vec![0; length].into())),
    ]
}

/// Cuts a frame into fragments at these places.
fn fragmented(bytes: &[u8], cuts: &[usize], key: Option<[u8; 4]>) -> Vec<u8> {
    let (mut first, payload) = taken_apart(bytes);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
    cuts.sort_unstable();
    let mut fragments = Vec::new();
    let mut from = 0;
    for to in cuts {
        fragments.extend(frame(first & 0x7f, &payload[from..to], key));
        (first, from) = (0x80, to);
    }
    fragments.extend(frame(first, &payload[from..], key));
    fragments
}

/// Returns the first byte of a whole frame and its payload, unmasked.
fn taken_apart(bytes: &[u8]) -> (u8, Vec<u8>) {
    assert_eq!(frame_length(bytes), bytes.len());
    let key = bytes[1] & 0x80 != 0;
    let head = match bytes[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let payload = &bytes[head..];
    if !key {
        return (bytes[0], payload.to_vec());
    }
    let (key, payload) = payload.split_at(4);
    let payload = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b);
    (bytes[0], payload.collect())
}

fn events(messages: &[Message<'static>]) -> Vec<Event<'static>> {
    messages.iter().cloned().map(Event::Message).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn whatever_was_agreed_what_arrives_is_what_was_sent(
        parameters in parameters(),
        messages in vec(message(), 1..8),
        cuts in vec(any::<usize>(), 0..4),
        lengths in vec(prop_oneof![1..20_usize, 1..3_000_usize, 1..60_000_usize], 0..5),
        from_client: bool,
        own_room: bool,
    ) {
        let limits = eager(MAX);
        let (mut from, to, key) = if from_client {
            (client(Version::Rfc6455, &limits), server(Version::Rfc6455, &limits), Some(KEY))
        } else {
            (server(Version::Rfc6455, &limits), client(Version::Rfc6455, &limits), None)
        };
        from = from.deflating(parameters);
        let mut out = Output::default();
        let mut stream = Vec::new();
        for message in &messages {
            prop_assert_eq!(from.send(at(1), message.as_borrowed(), &mut out), Ok(()));
            let sent = out.take();
            prop_assert!(sent.len() <= message.payload().len() + 14);
            stream.extend(fragmented(&sent, &cuts, key));
        }
        prop_assert!(from.memory() <= DeflateParameters::CONTEXT + 100);
        let outcome = run(to.deflating(parameters), &stream, &lengths, own_room);
        prop_assert_eq!(outcome.events, events(&messages));
        prop_assert_eq!((outcome.out, outcome.closed), (vec![], None));
    }

    #[test]
    fn any_split_of_the_input_gives_the_same_events(
        parameters in parameters(),
        messages in vec((message(), vec(any::<usize>(), 0..4)), 0..6),
        faults in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        lengths in vec(prop_oneof![1..20_usize, 1..3_000_usize, 1..60_000_usize], 1..10),
        own_room: bool,
        max in prop_oneof![1..500_usize, Just(MAX)],
    ) {
        let limits = eager(max);
        let mut peer = client(Version::Rfc6455, &limits).deflating(parameters);
        let mut out = Output::default();
        let mut stream = Vec::new();
        for (message, cuts) in messages {
            prop_assert_eq!(peer.send(at(1), message, &mut out), Ok(()));
            stream.extend(fragmented(&out.take(), &cuts, Some(KEY)));
        }
        for (index, byte) in faults {
            if !stream.is_empty() {
                let index = index.index(stream.len());
                stream[index] = byte;
            }
        }
        let ours = || server(Version::Rfc6455, &limits).deflating(parameters);
        let whole = run(ours(), &stream, &[], false);
        let split = run(ours(), &stream, &lengths, own_room);
        prop_assert_eq!(&whole, &split);
        for event in whole.events {
            if let Event::Message(message) = event {
                prop_assert!(message.payload().len() <= max);
            }
        }
        let mut connection = ours();
        for piece in stream.chunks(7) {
            feed_into(&mut connection, at(1), piece, &mut out);
            prop_assert!(connection.memory() <= max + max / 16 + 1_000 + DeflateParameters::CONTEXT);
        }
    }

    #[test]
    fn a_peer_with_a_stream_of_its_own_understands_us(
        mut parameters in parameters(),
        messages in vec(message(), 1..8),
    ) {
        parameters.client_max_window_bits = WindowBits::FULL;
        let mut ours = server(Version::Rfc6455, &eager(MAX)).deflating(parameters);
        let bits = parameters.server_max_window_bits.get();
        let mut inflate = Inflate::new(false, bits);
        let mut out = Output::default();
        for message in messages {
            prop_assert_eq!(ours.send(at(1), message.as_borrowed(), &mut out), Ok(()));
            let (first, mut payload) = taken_apart(&out.take());
            if first & 0x40 == 0 {
                continue;
            }
            payload.extend([0, 0, 0xff, 0xff]);
            if parameters.server_no_context_takeover {
                inflate = Inflate::new(false, bits);
            }
            let mut room = vec![0; message.payload().len() + 100];
            let before = inflate.total_out();
            let result = inflate.decompress(&payload, &mut room, InflateFlush::SyncFlush);
            prop_assert!(result.is_ok(), "{:?}", result);
            room.truncate((inflate.total_out() - before) as usize);
            prop_assert_eq!(room, message.payload());
        }
    }

    #[test]
    fn we_understand_a_peer_with_a_stream_of_its_own(
        parameters in parameters(),
        messages in vec((message(), 0..3_u8), 1..8),
        level in 0..=9_i32,
        cuts in vec(any::<usize>(), 0..4),
    ) {
        // Its window is as large as may be: what we keep must reach as far.
        let mut deflate = Deflate::new(level, false, 15);
        let mut ours = server(Version::Rfc6455, &eager(MAX)).deflating(parameters);
        let mut out = Output::default();
        for (message, end) in messages {
            if parameters.client_no_context_takeover {
                deflate = Deflate::new(level, false, 15);
            }
            let mut payload = vec![0; message.payload().len() * 2 + 100];
            let before = deflate.total_out();
            let flush = if end == 0 { DeflateFlush::FullFlush } else { DeflateFlush::SyncFlush };
            prop_assert!(deflate.compress(message.payload(), &mut payload, flush).is_ok());
            payload.truncate((deflate.total_out() - before) as usize);
            if payload.is_empty() {
                payload = vec![0, 0, 0, 0xff, 0xff]; // Nothing new, so nothing was flushed.
            }
            prop_assert!(payload.ends_with(&[0, 0, 0xff, 0xff]));
            payload.truncate(payload.len() - 4);
            let first = if message.is_binary() { 0xc2 } else { 0xc1 };
            let bytes = fragmented(&frame(first, &payload, None), &cuts, Some(KEY));
            prop_assert_eq!(feed(&mut ours, at(1), &bytes, &mut out), events(&[message]));
        }
        prop_assert!(ours.closed().is_none() && out.is_empty());
    }

    #[test]
    fn two_handshakes_agree_and_two_connections_talk(
        forgets: [bool; 2],
        server_bits in prop::option::of(8..=15_u8),
        client_bits in prop::option::of(8..=15_u8),
        takeover: [bool; 2],
        messages in vec((message(), any::<bool>()), 1..6),
    ) {
        let offer = DeflateOffer {
            server_no_context_takeover: forgets[0],
            client_no_context_takeover: forgets[1],
            server_max_window_bits: server_bits.and_then(WindowBits::new),
            client_max_window_bits: client_bits.and_then(WindowBits::new),
        };
        let limits = Limits {
            deflate: Some(DeflateLimits { min: 20, takeover: takeover[0] }),
            ..limits(MAX)
        };
        let (mut server, mut client) = opened(Some(offer), &limits, takeover[1]);
        let agreed = server.deflate();
        if server_bits == Some(8) {
            prop_assert_eq!((agreed, client.deflate()), (None, None));
        } else {
            let (server_side, client_side) = (agreed.unwrap(), client.deflate().unwrap());
            let keeps = takeover == [true; 2];
            prop_assert_eq!(server_side.server_no_context_takeover, forgets[0] || !keeps);
            prop_assert_eq!(server_side.client_no_context_takeover, forgets[1] || !keeps);
            prop_assert_eq!(client_side.client_max_window_bits.get(), client_bits.unwrap_or(15));
            let client_max_window_bits = server_side.client_max_window_bits;
            prop_assert_eq!(DeflateParameters { client_max_window_bits, ..client_side }, server_side);
        }
        let mut out = Output::default();
        for (message, from_client) in messages {
            let (from, to) = if from_client { (&mut client, &mut server) } else { (&mut server, &mut client) };
            prop_assert_eq!(from.send(at(1), message.as_borrowed(), &mut out), Ok(()));
            let bytes = out.take();
            prop_assert_eq!(feed(to, at(1), &bytes, &mut out), events(&[message]));
        }
        if agreed.is_none_or(|agreed| !agreed.has_context()) {
            prop_assert_eq!(server.memory(), 0);
        }
    }
}

/// Opens a pair through both handshakes.
fn opened(
    offer: Option<DeflateOffer>,
    limits: &Limits,
    has_room: bool,
) -> (Connection, Connection) {
    let mut options = ClientOptions::new(Version::Rfc6455, "h", "/");
    options.deflate = offer;
    let mut client = ClientHandshake::new(at(0), options, &Nonce([3; 64])).unwrap();
    let mut server = Handshake::new(at(0), &HeadLimits::default());
    let mut out = Output::default();
    client.start(&mut out);
    let mut bytes = out.take();
    let head_limits = HeadLimits::default();
    let ready = server.receive(at(0), &head_limits, &mut Input::new(&mut bytes), &mut out);
    assert_eq!(ready, Ok(Some(Ready::Request)));
    let answer = Answer {
        deflate_takeover: has_room,
        ..Answer::default()
    };
    let limits = Arc::new(limits.clone());
    let accepted = server.accept(at(0), &answer, Arc::clone(&limits), &mut out);
    assert_eq!(accepted, Ok(()));
    let mut bytes = out.take();
    let ready = client.receive(at(0), &mut Input::new(&mut bytes), &mut out);
    assert_eq!(ready, Ok(Some(Ready::Open)));
    (
        server.into_connection(at(0)).unwrap(),
        client.into_connection(at(0), limits).unwrap(),
    )
}

/// Compresses as another end would, with all of zlib's effort.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut deflate = Deflate::new(9, false, 15);
    let mut bytes = vec![0; payload.len() * 2 + 100];
    let result = deflate.compress(payload, &mut bytes, DeflateFlush::SyncFlush);
    assert!(result.is_ok());
    bytes.truncate(deflate.total_out() as usize - 4);
    bytes
}

fn cause(connection: &Connection) -> Option<Cause> {
    connection.closed().map(|closed| closed.cause)
}

const TOO_BIG: Option<Cause> = Some(Cause::Protocol(ProtocolError::TooBig));

#[test]
fn a_limit_is_exact_on_every_path() {
    let takeover = DeflateParameters::default();
    for max in [1, 100, 4_096, 65_536, 100_000, 131_072] {
        let limits = eager(max);
        // What compresses well, what does not at all, and text of long characters.
        let zeros = vec![b'0'; max + 1];
        let noise: Vec<u8> = (0..=max as u32)
            .map(|i| (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for (payload, first) in [(&zeros, 0xc1), (&zeros, 0xc2), (&noise, 0xc2)] {
            for (size, fits) in [(max, true), (max + 1, false)] {
                let bytes = frame(first, &compressed(&payload[..size]), None);
                for parameters in [FORGETFUL, takeover] {
                    for cuts in [&[][..], &[0], &[1, 2, 3], &[usize::MAX / 3, usize::MAX / 2]] {
                        for lengths in [&[][..], &[1_000], &[7]] {
                            let bytes = fragmented(&bytes, cuts, Some(KEY));
                            let connection =
                                server(Version::Rfc6455, &limits).deflating(parameters);
                            let outcome = run(connection, &bytes, lengths, true);
                            let cause = outcome.closed.map(|closed| closed.cause);
                            assert_eq!(cause, if fits { None } else { TOO_BIG });
                            assert_eq!(outcome.events.len(), usize::from(fits), "{max} {cuts:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_fragment_may_be_flushed_by_itself() {
    let limits = eager(1000);
    let mut deflate = Deflate::new(1, false, 15);
    let mut stream = Vec::new();
    for number in 0..1000 {
        let mut bytes = [0; 40];
        let before = deflate.total_out();
        let byte = [number as u8 ^ 0x5a];
        let result = deflate.compress(&byte, &mut bytes, DeflateFlush::SyncFlush);
        assert!(result.is_ok());
        let (first, kept) = match number {
            0 => (0x42, 0),
            999 => (0x80, 4),
            _ => (0, 0),
        };
        let bytes = &bytes[..(deflate.total_out() - before) as usize - kept];
        stream.extend(frame(first, bytes, Some(KEY)));
    }
    let connection = server(Version::Rfc6455, &limits).deflating(FORGETFUL);
    let outcome = run(connection, &stream, &[], true);
    assert!(
        matches!(&outcome.events[..], [Event::Message(message)] if message.payload().len() == 1000)
    );
}

#[test]
fn a_bomb_goes_off_within_memory_and_time() {
    let limits = eager(1 << 20);
    let bomb = frame(0xc2, &compressed(&vec![0; 64 << 20]), Some(KEY));
    assert!(bomb.len() < 70_000);
    // Blocks without content, and the byte that every message ends with.
    let blocks = |block: &[u8], count| [&block.repeat(count), &[0][..]].concat();
    let stored = blocks(&[0, 0, 0, 0xff, 0xff], 200_000);
    let fixed = blocks(&[0x02, 0x08, 0x20, 0x80, 0x00], 200_000);
    let last = blocks(&[0x03, 0x00], 500_000);
    let starts = Clock::now();
    for parameters in [FORGETFUL, DeflateParameters::default()] {
        let mut out = Output::default();
        for (payload, expected) in [
            (bomb.clone(), TOO_BIG),
            (frame(0xc1, &stored, Some(KEY)), None),
            (frame(0xc1, &fixed, Some(KEY)), None),
            (
                frame(0xc1, &last, Some(KEY)),
                Some(Cause::Protocol(ProtocolError::Deflate)),
            ),
        ] {
            let mut connection = server(Version::Rfc6455, &limits).deflating(parameters);
            for piece in payload.chunks(65_536) {
                feed_into(&mut connection, at(1), piece, &mut out);
                assert!(connection.memory() < (1 << 20) + (1 << 17));
            }
            assert_eq!(cause(&connection), expected);
            assert!(expected.is_none() || connection.memory() < 1_000);
        }
    }
    assert!(
        starts.elapsed() < Duration::from_secs(10),
        "even unoptimized, on a busy machine"
    );
}

#[test]
fn nobody_reads_what_another_connection_sent() {
    // "Hello", then a reference to the five bytes before the beginning.
    let hello = frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], Some(KEY));
    let again = frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00], Some(KEY));
    for parameters in [FORGETFUL, DeflateParameters::default()] {
        let mut out = Output::default();
        let connect = || server(Version::Rfc6455, &eager(100)).deflating(parameters);
        let (mut one, mut two) = (connect(), connect());
        assert_eq!(feed(&mut one, at(1), &hello, &mut out).len(), 1);
        assert_eq!(feed(&mut two, at(1), &again, &mut out), []);
        let refused = Some(Cause::Protocol(ProtocolError::Deflate));
        assert_eq!(cause(&two), refused);
        out.clear(0);
        // Likewise the other way: what one is sent does not depend on what another was.
        let text = "a text that was said before, and is said again".repeat(5);
        let mut fresh = Output::default();
        let sent = |out: &mut Output| {
            let result = connect().send(at(1), Message::text(&text), out);
            assert_eq!(result, Ok(()));
            out.take()
        };
        assert_eq!(sent(&mut out), sent(&mut fresh));
        assert_eq!(sent(&mut out), sent(&mut fresh));
    }
}

#[test]
fn a_broadcast_is_compressed_for_those_who_can_read_it() {
    let limits = Limits {
        deflate: Some(DeflateLimits::default()),
        ..limits(MAX)
    };
    let plain = Variant::Plain(Framing::Hybi);
    let with = |parameters: DeflateParameters| {
        server(Version::Rfc6455, &limits)
            .deflating(parameters)
            .admits(false, 128)
    };
    assert_eq!(with(FORGETFUL), Ok(Variant::Deflated));
    let client_keeps = DeflateParameters {
        client_no_context_takeover: false,
        client_max_window_bits: WindowBits::new(9).unwrap(),
        ..FORGETFUL
    };
    assert_eq!(with(client_keeps), Ok(Variant::Deflated));
    assert_eq!(with(DeflateParameters::default()), Ok(plain));
    let small_window = DeflateParameters {
        server_max_window_bits: WindowBits::new(14).unwrap(),
        ..FORGETFUL
    };
    assert_eq!(with(small_window), Ok(plain));
    let connection = server(Version::Rfc6455, &limits).deflating(FORGETFUL);
    assert_eq!(connection.admits(false, 127), Ok(plain));
    let without = server(Version::Rfc6455, &limits);
    assert_eq!(without.admits(true, 1_000), Ok(plain));
    let hixie = server(Version::Hixie76, &limits).deflating(FORGETFUL);
    assert_eq!(
        hixie.admits(false, 1_000),
        Ok(Variant::Plain(Framing::Hixie))
    );

    let text = "to whom it may concern ".repeat(100);
    let mut out = Output::default();
    let mut bytes = Vec::new();
    assert!(out.deflate(&Message::text(&text), &mut bytes));
    assert!(bytes.len() < 200 && out.is_empty());
    let mut receiver = client(Version::Rfc6455, &limits).deflating(FORGETFUL);
    let heard = feed(&mut receiver, at(1), &bytes, &mut out);
    assert_eq!(heard, [Event::Message(Message::text(&text))]);
    // Noise does not shrink, nor does nothing.
    bytes.clear();
    for short in ["", "x", "qwertyuiop"] {
        assert!(!out.deflate(&Message::text(short), &mut bytes) && bytes.is_empty());
    }
}

#[test]
fn what_is_small_or_does_not_shrink_is_sent_as_it_is() {
    let limits = limits(MAX);
    let mut out = Output::default();
    for parameters in [FORGETFUL, DeflateParameters::default()] {
        let mut ours = server(Version::Rfc6455, &limits).deflating(parameters);
        let mut first = |payload: &[u8]| {
            let result = ours.send(at(1), Message::binary(payload), &mut out);
            assert_eq!(result, Ok(()));
            out.take()[0]
        };
        assert_eq!(first(&[0; 127]), 0x82);
        assert_eq!(first(&[0; 128]), 0xc2);
        let noise: Vec<u8> = (0..100_000_u32)
            .map(|i| (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        assert_eq!(first(&noise[..200]), 0x82);
        // A window that zlib cannot write: nothing is compressed.
        let mut client = client(Version::Rfc6455, &limits).deflating(DeflateParameters {
            client_max_window_bits: WindowBits::new(8).unwrap(),
            ..parameters
        });
        let result = client.send(at(1), Message::binary(&[0; 1_000]), &mut out);
        assert_eq!((result, out.take()[0]), (Ok(()), 0x82));
    }
}

#[test]
fn without_takeover_nothing_is_kept_and_with_it_no_more_than_a_context() {
    let limits = eager(MAX);
    let payload: Vec<u8> = (0..60_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let mut out = Output::default();
    let mut forgetful = server(Version::Rfc6455, &limits).deflating(FORGETFUL);
    let mut keeping = server(Version::Rfc6455, &limits).deflating(DeflateParameters::default());
    assert_eq!(keeping.memory(), 0);
    for length in [10, 300, 20_000, 60_000, 5] {
        for connection in [&mut forgetful, &mut keeping] {
            let bytes = frame(0xc2, &compressed(&payload[..length]), Some(KEY));
            assert_eq!(feed(connection, at(1), &bytes, &mut out).len(), 1);
            let message = Message::binary(&payload[..length]);
            assert_eq!(connection.send(at(1), message, &mut out), Ok(()));
        }
        assert_eq!(forgetful.memory(), 0);
        assert!(keeping.memory() <= DeflateParameters::CONTEXT);
    }
    assert!(keeping.memory() > 32_768);
    keeping.handle_eof(at(2));
    assert_eq!(keeping.deflate(), None);
    assert!(keeping.memory() < 200);
}
