//! Receives and answers messages, so many as it is told, for `benches/instructions` to count what each costs.
#![allow(
    clippy::unwrap_used,
    reason = "a measuring tool for developers may stop"
)]

use std::hint::black_box;
use std::sync::Arc;
use ws_proto::{
    Connection, DeflateParameters, Event, Input, Instant, Limits, Message, Output, Role, Version,
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().unwrap().parse::<usize>().unwrap();
    let (version, deflates, size, count) = (number(), number() == 1, number(), number());
    let version = Version::from_number(version as u8).unwrap();
    let open = |role| {
        let connection = Connection::new(Instant::at(0), version, role, Arc::<Limits>::default());
        if deflates {
            let forgetful = DeflateParameters {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                ..DeflateParameters::default()
            };
            connection.deflating(forgetful)
        } else {
            connection
        }
    };
    let mut client = open(Role::Client { mask_seed: [7; 16] });
    let mut server = open(Role::Server);
    let text: String = "The quick brown fox jumps over it. "
        .chars()
        .cycle()
        .take(size)
        .collect();
    let mut out = Output::default();
    let now = Instant::at(1);
    client.send(now, Message::text(&text), &mut out).unwrap();
    let sent = out.take();
    let mut bytes = sent.clone();
    for _ in 0..count {
        bytes.copy_from_slice(&sent);
        let mut input = Input::new(&mut bytes);
        let Some(Event::Message(message)) = server.receive(now, &mut input, &mut out) else {
            return;
        };
        server.send(now, black_box(message), &mut out).unwrap();
        out.clear(usize::MAX);
    }
}
