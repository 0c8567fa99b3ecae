//! Measures the receive path without sockets: nanoseconds a frame, and the speed beside `memcpy` and UTF-8 validation
//! alone. Best of several rounds. Run with `cargo run --release --example codec`; divide nothing by the clock of another run.
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring tool for developers: it prints, and may stop"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant as Clock;
use ws_proto::{Connection, Event, Input, Instant, Limits, Message, Output, Role, Version};

/// Bytes of one read, as large as the worker's buffer.
const READ: usize = 256 * 1024;

fn connection(version: Version, role: Role) -> Connection {
    let limits = Limits {
        max_message: 1 << 24,
        ..Limits::default()
    };
    Connection::new(Instant::at(0), version, role, Arc::new(limits))
}

/// Returns a stream of as many equal frames as fit `READ`, at least one, as a client sends them.
fn stream(version: Version, message: &Message<'_>) -> (Vec<u8>, usize) {
    let role = Role::Client { mask_seed: [7; 16] };
    let mut client = connection(version, role);
    let mut out = Output::default();
    let mut frames = 0;
    let mut one = 0;
    while frames == 0 || out.len() + one <= READ {
        client
            .send(Instant::at(0), message.as_borrowed(), &mut out)
            .unwrap();
        frames += 1;
        one = out.len() / frames;
    }
    (out.take(), frames)
}

/// Runs `work` on fresh copies of `bytes` and returns the best time of one run without the copying, in nanoseconds.
fn best(bytes: &[u8], mut work: impl FnMut(&mut [u8])) -> f64 {
    let mut copy = bytes.to_vec();
    (0..60)
        .map(|_| {
            copy.copy_from_slice(bytes);
            let start = Clock::now();
            work(black_box(&mut copy));
            start.elapsed().as_nanos() as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn receive(connection: &mut Connection, bytes: &mut [u8], out: &mut Output) -> usize {
    let mut input = Input::new(bytes);
    let mut payload = 0;
    while let Some(event) = connection.receive(Instant::at(1), &mut input, out) {
        if let Event::Message(message) = black_box(event) {
            payload += message.payload().len();
        }
    }
    payload
}

/// Gives the stream in reads that fill `shared`, or into the connection's own room where there is some.
fn receive_in_reads(
    connection: &mut Connection,
    bytes: &mut [u8],
    shared: &mut [u8],
    own_room: bool,
    out: &mut Output,
) -> usize {
    let mut payload = 0;
    let mut at = 0;
    while at < bytes.len() {
        if own_room && let Some(room) = connection.read_into() {
            let count = room.len().min(bytes.len() - at);
            room[..count].copy_from_slice(&bytes[at..at + count]);
            at += count;
            if let Some(Event::Message(message)) = connection.received(Instant::at(1), count, out) {
                payload += black_box(message).payload().len();
            }
        } else {
            let count = shared.len().min(bytes.len() - at);
            shared[..count].copy_from_slice(&bytes[at..at + count]);
            at += count;
            payload += receive(connection, &mut shared[..count], out);
        }
    }
    payload
}

fn beginning(text: &str, size: usize) -> &str {
    let end = (0..=size).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn main() {
    let mixed: String = "Grüße, 世界! naïve café – hello 😀 ".repeat(40_000);
    let ascii = "The quick brown fox jumps over it. ".repeat(40_000);
    println!(
        "payload            ns/frame: rfc6455  binary hixie-76   GB/s: rfc6455 hixie-76  memcpy   utf8"
    );
    for (name, text) in [("ascii", &ascii), ("mixed", &mixed)] {
        for size in [16, 125, 1 << 10, 4 << 10, 16 << 10, 100 << 10] {
            let text = beginning(text, size);
            let mut out = Output::default();
            let mut time = |version, message: Message<'_>| {
                let (bytes, frames) = stream(version, &message);
                let mut server = connection(version, Role::Server);
                let expected = frames * text.len();
                let total = best(&bytes, |bytes| {
                    assert_eq!(receive(&mut server, bytes, &mut out), expected);
                });
                (total / frames as f64, bytes, frames)
            };
            let (rfc, bytes, frames) = time(Version::Rfc6455, Message::text(text));
            let (binary, ..) = time(Version::Rfc6455, Message::binary(text.as_bytes()));
            let (hixie, ..) = time(Version::Hixie76, Message::text(text));
            let plain: Vec<u8> = text.as_bytes().repeat(frames);
            let mut to = vec![0; bytes.len()];
            let copied = best(&plain, |bytes| {
                for (from, to) in bytes
                    .chunks_exact(text.len())
                    .zip(to.chunks_exact_mut(text.len()))
                {
                    to.copy_from_slice(black_box(from));
                }
            });
            let proven = best(&plain, |bytes| {
                for piece in bytes.chunks_exact(text.len()) {
                    black_box(simdutf8::basic::from_utf8(black_box(piece)).unwrap());
                }
            });
            let size = text.len() as f64;
            let all = plain.len() as f64;
            println!(
                "{name} {size:>9}          {rfc:>8.1}{binary:>8.1}{hixie:>9.1}            {:>8.1}{:>9.1}{:>8.1}{:>7.1}",
                size / rfc,
                size / hixie,
                all / copied,
                all / proven,
            );
        }
        let text = beginning(text, 1 << 20);
        let mut to = text.as_bytes().to_vec();
        let size = text.len() as f64;
        let copied = size
            / best(text.as_bytes(), |bytes| {
                to.copy_from_slice(black_box(bytes))
            });
        let proven = size
            / best(text.as_bytes(), |bytes| {
                black_box(simdutf8::basic::from_utf8(black_box(bytes)).unwrap());
            });
        for (kind, message) in [
            ("text", Message::text(text)),
            ("binary", Message::binary(text.as_bytes())),
        ] {
            let (bytes, _) = stream(Version::Rfc6455, &message);
            let mut server = connection(Version::Rfc6455, Role::Server);
            let mut out = Output::default();
            let mut time = |read: usize, own_room| {
                let mut shared = vec![0; read];
                let mut receive = |bytes: &mut [u8]| {
                    receive_in_reads(&mut server, bytes, &mut shared, own_room, &mut out)
                };
                size / best(&bytes, |bytes| assert_eq!(receive(bytes), text.len()))
            };
            println!(
                "{name} 1 MiB {kind} in reads, GB/s: one {:.1}, shared buffer {:.1}, own room {:.1}; memcpy {copied:.1}, utf8 {proven:.1}",
                time(bytes.len(), false),
                time(READ, false),
                time(READ, true)
            );
        }
    }
}
