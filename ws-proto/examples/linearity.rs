//! Takes an input of a kind and a size, for `benches/linearity` to count what it costs. Every kind is one that could cost a
//! peer little and us the square of it: many small things, or one long thing in many reads.
#![allow(
    clippy::unwrap_used,
    reason = "a measuring tool for developers may stop"
)]

use std::hint::black_box;
use std::sync::Arc;
use ws_proto::{
    Answer, ClientHandshake, ClientOptions, Connection, Handshake, HeadLimits, Input, Instant,
    Limits, Nonce, Output, Ready, Role, Version,
};

/// Each kind, and how many bytes a read brings.
const KINDS: [(&str, usize); 15] = [
    ("fragments", 16_384),
    ("fragments-of-two-bytes-read-singly", 1),
    ("empty-fragments", 16_384),
    ("tiny-frames", 16_384),
    ("pings-inside-a-message", 16_384),
    ("text-read-by-seven", 7),
    ("binary-read-by-seven", 7),
    ("hixie-text", 16_384),
    ("hixie-text-read-by-seven", 7),
    ("hixie-wrong-text-read-by-seven", 7),
    ("hixie-discarded-read-by-seven", 7),
    ("headers", 16_384),
    ("one-long-header-read-by-seven", 7),
    ("subprotocols", 16_384),
    ("answer-headers-read-by-seven", 7),
];

/// No kind of ours, and so on no list: what the judge must find too dear.
const QUADRATIC: &str = "searched-from-the-start-by-seven";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(kind) = arguments.next() else {
        for (kind, _) in KINDS {
            #[expect(clippy::print_stdout, reason = "it is the list that is asked for")]
            let () = println!("{kind}");
        }
        return;
    };
    let size: usize = arguments.next().unwrap().parse().unwrap();
    if kind == QUADRATIC {
        search_from_the_start(&b"a".repeat(size), 7);
        return;
    }
    let (kind, read) = KINDS.into_iter().find(|(name, _)| *name == kind).unwrap();
    let mut out = Output::default();
    match kind {
        "answer-headers-read-by-seven" => {
            let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
            bytes.extend(b"X-Header: value\r\n".repeat(size / 100));
            bytes.extend(b"X: ".iter().chain(&b"a".repeat(size)));
            let mut options = ClientOptions::new(Version::Rfc6455, "example.com", "/");
            options.max_head = usize::MAX;
            let mut client =
                ClientHandshake::new(Instant::at(0), options, &Nonce([7; 64])).unwrap();
            for piece in bytes.chunks_mut(read) {
                let _ = client.receive(Instant::at(1), &mut Input::new(piece), &mut out);
            }
        }
        "headers" | "one-long-header-read-by-seven" | "subprotocols" => {
            shake(&mut request(kind, size), read, &mut out);
        }
        _ => {
            let (version, mut bytes) = stream(kind, size);
            let limits = Limits {
                max_message: usize::MAX / 4,
                max_fragments: u32::MAX,
                max_empty_fragments: u32::MAX,
                max_control_frames: u32::MAX,
                ..Limits::default()
            };
            let limits = Arc::new(limits);
            let mut connection = Connection::new(Instant::at(0), version, Role::Server, limits);
            for piece in bytes.chunks_mut(read) {
                let mut input = Input::new(piece);
                while let Some(event) = connection.receive(Instant::at(1), &mut input, &mut out) {
                    black_box(event);
                }
                out.clear(usize::MAX);
            }
            assert!(connection.closed().is_none(), "{:?}", connection.closed());
        }
    }
    black_box(out);
}

/// Makes the mistake that is easiest to make: after each read it looks for the end of a head among all that came.
fn search_from_the_start(bytes: &[u8], read: usize) {
    let mut head = Vec::new();
    for piece in bytes.chunks(read) {
        head.extend_from_slice(piece);
        black_box(head.windows(4).position(|window| window == b"\r\n\r\n"));
    }
}

/// Makes a stream of `size` bytes or things.
fn stream(kind: &str, size: usize) -> (Version, Vec<u8>) {
    let long = |first: u8| {
        let length = u16::try_from(size).unwrap().to_be_bytes();
        [&[first, 0xfe][..], &length, &[0; 4], &b"a".repeat(size)].concat()
    };
    let hixie = |first: u8, byte: u8| [&[first][..], &vec![byte; size], b"\xff"].concat();
    let fragments = |more: &[u8]| [b"\x01\x81\0\0\0\0a", &*more.repeat(size)].concat();
    match kind {
        "fragments" => (Version::Rfc6455, fragments(b"\x00\x81\0\0\0\0a")),
        "fragments-of-two-bytes-read-singly" => {
            (Version::Rfc6455, fragments(b"\x00\x82\0\0\0\0\xc3\xa9"))
        }
        "empty-fragments" => (Version::Rfc6455, fragments(b"\x00\x80\0\0\0\0")),
        "tiny-frames" => (Version::Rfc6455, b"\x81\x81\0\0\0\0a".repeat(size)),
        "pings-inside-a-message" => (Version::Rfc6455, fragments(b"\x89\x81\0\0\0\0a")),
        "text-read-by-seven" => (Version::Rfc6455, long(0x81)),
        "binary-read-by-seven" => (Version::Rfc6455, long(0x82)),
        "hixie-wrong-text-read-by-seven" => (Version::Hixie76, hixie(0x00, 0xd7)),
        "hixie-discarded-read-by-seven" => (Version::Hixie76, hixie(0x01, b'a')),
        "hixie-text" => (
            Version::Hixie76,
            [&b"\0"[..], &b"a".repeat(size * 100), b"\xff"].concat(),
        ),
        _ => (Version::Hixie76, hixie(0x00, b'a')),
    }
}

/// Makes a request that grows by `size` bytes or things.
fn request(kind: &str, size: usize) -> Vec<u8> {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: example.com\r\n".to_vec();
    match kind {
        "headers" => bytes.extend(b"X-Header: value\r\n".repeat(size)),
        "subprotocols" => {
            let names: Vec<String> = (0..size).map(|i| format!("p{i}")).collect();
            bytes.extend(format!("Sec-WebSocket-Protocol: {}\r\n", names.join(", ")).into_bytes());
        }
        _ => bytes.extend([b"Cookie: a=", &*b"a".repeat(size), b"\r\n"].concat()),
    }
    bytes.extend(
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    bytes
}

fn shake(bytes: &mut [u8], read: usize, out: &mut Output) {
    let heads = HeadLimits {
        max_head: usize::MAX,
        max_headers: 20_000, // Room is made for as many.
        max_subprotocols: usize::MAX,
        ..HeadLimits::default()
    };
    let mut handshake = Handshake::new(Instant::at(0), &heads);
    let mut ready = None;
    for piece in bytes.chunks_mut(read) {
        let mut input = Input::new(piece);
        ready = (handshake.receive(Instant::at(1), &heads, &mut input, out)).unwrap();
    }
    assert_eq!(ready, Some(Ready::Request));
    let request = handshake.request().unwrap();
    black_box((request.cookie("b"), request.protocols().count()));
    let limits = Arc::<Limits>::default();
    (handshake.accept(Instant::at(1), &Answer::default(), limits, out)).unwrap();
}
