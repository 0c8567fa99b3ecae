//! An opening handshake without sockets, by divan: a browser's request, parsed and accepted, in each version.
#![allow(
    clippy::unwrap_used,
    reason = "a measuring tool for developers may stop"
)]

use divan::{Bencher, black_box};
use std::sync::Arc;
use ws_proto::{Answer, Handshake, HeadLimits, Input, Instant, Limits, Output};

const NOW: Instant = Instant::at(1);
const VERSIONS: [&str; 5] = ["hixie-75", "hixie-76", "hybi-07", "hybi-08", "rfc6455"];
/// What a browser sends along with every request.
const COMMON: &str = "Host: www.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nCookie: session=0123456789abcdef\r\n\
    Accept-Language: en\r\nCache-Control: no-cache\r\n";

fn main() {
    divan::main();
}

fn request(version: &str) -> Vec<u8> {
    let own = match version {
        "hixie-75" => "Upgrade: WebSocket\r\nConnection: Upgrade\r\nOrigin: http://www.example.org\r\n\r\n".to_owned(),
        "hixie-76" => "Upgrade: WebSocket\r\nConnection: Upgrade\r\nOrigin: http://www.example.org\r\n\
            Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n\r\n^n:ds[4U"
            .to_owned(),
        _ => {
            let (number, origin) = match version {
                "hybi-07" => (7, "Sec-WebSocket-Origin"),
                "hybi-08" => (8, "Sec-WebSocket-Origin"),
                _ => (13, "Origin"),
            };
            format!(
                "Upgrade: websocket\r\nConnection: Upgrade\r\n{origin}: http://www.example.org\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {number}\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
            )
        }
    };
    format!("GET /chat HTTP/1.1\r\n{COMMON}{own}").into_bytes()
}

#[divan::bench(args = VERSIONS)]
fn parse_and_accept(bencher: Bencher<'_, '_>, version: &str) {
    let bytes = request(version);
    let (heads, limits, answer) = (
        HeadLimits::default(),
        Arc::<Limits>::default(),
        Answer::default(),
    );
    let mut out = Output::default();
    bencher
        .with_inputs(|| bytes.clone())
        .bench_local_refs(|bytes| {
            let mut handshake = Handshake::new(NOW, &heads);
            let mut input = Input::new(black_box(bytes));
            handshake
                .receive(NOW, &heads, &mut input, &mut out)
                .unwrap();
            handshake
                .accept(NOW, &answer, Arc::clone(&limits), &mut out)
                .unwrap();
            // The eight bytes of hixie-76; the others are open.
            handshake
                .receive(NOW, &heads, &mut input, &mut out)
                .unwrap();
            out.clear(usize::MAX);
            handshake.into_connection(NOW).unwrap()
        });
}

/// The head alone, as any request has to be read before it is known what it is.
#[divan::bench(args = VERSIONS)]
fn parse(bencher: Bencher<'_, '_>, version: &str) {
    let bytes = request(version);
    let heads = HeadLimits::default();
    let mut out = Output::default();
    bencher
        .with_inputs(|| bytes.clone())
        .bench_local_refs(|bytes| {
            let mut handshake = Handshake::new(NOW, &heads);
            let mut input = Input::new(black_box(bytes));
            handshake
                .receive(NOW, &heads, &mut input, &mut out)
                .unwrap()
        });
}
