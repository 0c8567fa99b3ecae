//! The codec without sockets, by divan: `cargo bench -p ws-proto`. Steadier than times are the instructions that
//! `ws-proto/benches/instructions` counts: 5 % of time mean nothing, one of instructions does.
#![allow(
    clippy::unwrap_used,
    reason = "a measuring tool for developers may stop"
)]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use std::sync::Arc;
use ws_proto::{
    Connection, DeflateLimits, DeflateParameters, Event, Input, Instant, Limits, Message, Output,
    Role, Version,
};

const NOW: Instant = Instant::at(1);
const CLIENT: Role = Role::Client { mask_seed: [7; 16] };
const SIZES: [usize; 6] = [16, 125, 1_024, 16_384, 65_536, 1_048_576];
const VERSIONS: [Version; 2] = [Version::Hixie76, Version::Rfc6455];

fn main() {
    divan::main();
}

fn open(version: Version, role: Role) -> Connection {
    let limits = Limits {
        deflate: Some(DeflateLimits {
            min: 0,
            takeover: true,
        }),
        ..Limits::default()
    };
    Connection::new(NOW, version, role, Arc::new(limits))
}

fn text(size: usize) -> String {
    "The quick brown fox jumps over it. "
        .chars()
        .cycle()
        .take(size)
        .collect()
}

/// Two-, three- and four-byte characters among ASCII; a little shorter than `size`, which may fall into a character.
fn mixed(size: usize) -> String {
    let mut text = "Grüße, 世界! naïve café – hello 😀 ".repeat(size / 40 + 2);
    while text.len() > size {
        text.pop();
    }
    text
}

/// Returns a message as a client sends it.
fn sent(version: Version, text: &str) -> Vec<u8> {
    let mut out = Output::default();
    let mut client = open(version, CLIENT);
    client.send(NOW, Message::text(text), &mut out).unwrap();
    out.take()
}

fn receive(connection: &mut Connection, bytes: &mut [u8], out: &mut Output) -> usize {
    let mut input = Input::new(bytes);
    let mut payload = 0;
    while let Some(event) = connection.receive(NOW, &mut input, out) {
        if let Event::Message(message) = event {
            payload += message.payload().len();
        }
    }
    payload
}

#[divan::bench(args = SIZES, consts = [0, 1])]
fn receive_whole<const VERSION: usize>(bencher: Bencher<'_, '_>, size: usize) {
    let version = VERSIONS.get(VERSION).copied().unwrap();
    let bytes = sent(version, &text(size));
    let mut server = open(version, Role::Server);
    let mut out = Output::default();
    bencher
        .counter(BytesCount::new(size))
        .with_inputs(|| bytes.clone())
        .bench_local_refs(|bytes| receive(&mut server, black_box(bytes), &mut out));
}

#[divan::bench(args = SIZES, consts = [0, 1])]
fn receive_mixed<const VERSION: usize>(bencher: Bencher<'_, '_>, size: usize) {
    let version = VERSIONS.get(VERSION).copied().unwrap();
    let bytes = sent(version, &mixed(size));
    let mut server = open(version, Role::Server);
    let mut out = Output::default();
    bencher
        .counter(BytesCount::new(size))
        .with_inputs(|| bytes.clone())
        .bench_local_refs(|bytes| receive(&mut server, black_box(bytes), &mut out));
}

/// What a server sends is not masked.
#[divan::bench(args = SIZES)]
fn receive_as_client(bencher: Bencher<'_, '_>, size: usize) {
    let (mut out, text) = (Output::default(), text(size));
    let mut server = open(Version::Rfc6455, Role::Server);
    server.send(NOW, Message::text(&text), &mut out).unwrap();
    let bytes = out.take();
    let mut client = open(Version::Rfc6455, CLIENT);
    bencher
        .counter(BytesCount::new(size))
        .with_inputs(|| bytes.clone())
        .bench_local_refs(|bytes| receive(&mut client, black_box(bytes), &mut out));
}

#[divan::bench(args = SIZES)]
fn receive_cut(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = sent(Version::Rfc6455, &text(size));
    let mut server = open(Version::Rfc6455, Role::Server);
    let mut out = Output::default();
    bencher
        .counter(BytesCount::new(size))
        .with_inputs(|| bytes.clone())
        .bench_local_refs(|bytes| {
            let (front, back) = bytes.split_at_mut(size / 2);
            receive(&mut server, front, &mut out) + receive(&mut server, back, &mut out)
        });
}

#[divan::bench(args = SIZES, consts = [0, 1])]
fn send<const VERSION: usize>(bencher: Bencher<'_, '_>, size: usize) {
    let version = VERSIONS.get(VERSION).copied().unwrap();
    let text = text(size);
    let mut server = open(version, Role::Server);
    let mut out = Output::with_capacity(2 * size + 64);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let result = server.send(NOW, Message::text(black_box(&text)), &mut out);
        out.clear(usize::MAX);
        result
    });
}

#[divan::bench(args = SIZES)]
fn send_as_client(bencher: Bencher<'_, '_>, size: usize) {
    let text = text(size);
    let mut client = open(Version::Rfc6455, CLIENT);
    let mut out = Output::with_capacity(2 * size + 64);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let result = client.send(NOW, Message::text(black_box(&text)), &mut out);
        out.clear(usize::MAX);
        result
    });
}

#[divan::bench(args = SIZES, consts = [false, true])]
fn send_compressed<const TAKEOVER: bool>(bencher: Bencher<'_, '_>, size: usize) {
    let text = text(size);
    let mut server = open(Version::Rfc6455, Role::Server).deflating(agreed(TAKEOVER));
    let mut out = Output::with_capacity(2 * size + 64);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let result = server.send(NOW, Message::text(black_box(&text)), &mut out);
        out.clear(usize::MAX);
        result
    });
}

#[divan::bench(args = SIZES)]
fn receive_compressed(bencher: Bencher<'_, '_>, size: usize) {
    let mut out = Output::default();
    let text = text(size);
    let mut client = open(Version::Rfc6455, CLIENT).deflating(agreed(false));
    client.send(NOW, Message::text(&text), &mut out).unwrap();
    let bytes = out.take();
    let mut server = open(Version::Rfc6455, Role::Server).deflating(agreed(false));
    bencher
        .counter(BytesCount::new(size))
        .with_inputs(|| bytes.clone())
        .bench_local_refs(|bytes| receive(&mut server, black_box(bytes), &mut out));
}

fn agreed(takeover: bool) -> DeflateParameters {
    DeflateParameters {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        ..DeflateParameters::default()
    }
}
