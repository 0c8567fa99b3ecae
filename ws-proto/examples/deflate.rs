//! Measures permessage-deflate without sockets: microseconds to send and to receive a message, and what is left of it,
//! with and without context takeover. Best of several rounds. Run with `cargo run --release --example deflate`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring tool for developers: it prints, and may stop"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant as Clock;
use ws_proto::{
    Connection, DeflateParameters, Event, Input, Instant, Limits, Message, Output, Role, Version,
};

/// Messages a round: enough to fill a context.
const MESSAGES: usize = 64;

/// Makes JSON in which little repeats but its form.
fn json(size: usize, seed: u64) -> String {
    let mut text = String::new();
    let mut random = seed;
    while text.len() < size {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (id, user, word) = (random >> 40, random >> 58, random >> 50);
        let _ = write!(
            text,
            "{{\"id\":{id},\"user\":\"user{user}\",\"text\":\"the quick brown fox {word}\"}},"
        );
    }
    text.truncate(size);
    text
}

fn connection(role: Role, parameters: DeflateParameters) -> Connection {
    let limits = Arc::new(Limits::default());
    Connection::new(Instant::at(0), Version::Rfc6455, role, limits).deflating(parameters)
}

fn main() {
    println!("payload   takeover   µs: send  receive   bytes of a message   bytes kept");
    for size in [128, 256, 1 << 10, 16 << 10, 1 << 20] {
        let messages: Vec<String> = (0..MESSAGES as u64).map(|seed| json(size, seed)).collect();
        for takeover in [false, true] {
            let parameters = DeflateParameters {
                server_no_context_takeover: !takeover,
                client_no_context_takeover: !takeover,
                ..DeflateParameters::default()
            };
            let (mut send, mut receive) = (f64::INFINITY, f64::INFINITY);
            let (mut sent, mut kept) = (0, 0);
            let mut out = Output::default();
            for _ in 0..5 {
                let mut server = connection(Role::Server, parameters);
                let mut client = connection(Role::Client { mask_seed: [7; 16] }, parameters);
                let mut frames = Vec::new();
                let start = Clock::now();
                for message in &messages {
                    let message = Message::text(black_box(message));
                    server.send(Instant::at(1), message, &mut out).unwrap();
                    frames.push(out.take());
                }
                send = send.min(start.elapsed().as_secs_f64());
                sent = frames.iter().map(Vec::len).sum();
                let start = Clock::now();
                for frame in &mut frames {
                    let mut input = Input::new(frame);
                    let event = client.receive(Instant::at(1), &mut input, &mut out);
                    assert!(matches!(black_box(event), Some(Event::Message(_))));
                }
                receive = receive.min(start.elapsed().as_secs_f64());
                kept = server.memory() + client.memory();
            }
            let each = 1e6 / MESSAGES as f64;
            println!(
                "{size:>7} {takeover:>10} {:>10.2} {:>8.2} {:>20} {kept:>12}",
                send * each,
                receive * each,
                sent / MESSAGES
            );
        }
    }
}
