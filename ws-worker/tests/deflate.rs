//! permessage-deflate over loopback: who is answered what, who hears a broadcast in which bytes, and what a budget allows.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "a test that cannot go on says so by panicking"
)]

mod common;

use common::{Client, Message, PATIENCE, Version, ask, open, wait_for};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant as Clock;
use ws_proto::{
    ClientOptions, CloseCode, DeflateLimits, DeflateOffer, DeflateParameters, Limits, WindowBits,
};
use ws_worker::handler::{Chat, Echo, Handler, Socket};
use ws_worker::{Builder, Running, Worker};

/// What a client says that wants to keep all it can.
const KEEPING: DeflateOffer = DeflateOffer {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: None,
    client_max_window_bits: Some(WindowBits::FULL),
};

fn started(builder: Builder) -> (Running, SocketAddr) {
    let running = builder.listen("127.0.0.1:0").start().expect("it starts");
    let address = running.addresses()[0];
    (running, address)
}

fn deflating(address: SocketAddr, target: &str, offer: DeflateOffer) -> Client {
    let mut options = ClientOptions::new(Version::Rfc6455, address.to_string(), target);
    options.deflate = Some(offer);
    ask(address, options).unwrap_or_else(|answer| panic!("{answer}"))
}

fn agreed(client: &Client) -> Option<&str> {
    let mut headers = client.headers.iter();
    headers
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"))
        .map(|(_, value)| value.as_str())
}

/// Returns the first byte that is to be read, and leaves it there.
fn first_byte(client: &Client) -> u8 {
    let mut byte = [0];
    assert_eq!(client.stream.peek(&mut byte).expect("it comes"), 1);
    byte[0]
}

const NO_TAKEOVER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn with_takeover(limits: &mut Limits) {
    limits.deflate = Some(DeflateLimits {
        takeover: true,
        ..DeflateLimits::default()
    });
}

#[test]
fn what_is_large_enough_comes_back_compressed() {
    let (_running, address) = started(Worker::builder().route("/", || Echo).route_with(
        "/off",
        || Echo,
        |route| {
            Arc::make_mut(&mut route.limits).deflate = None;
        },
    ));
    let mut client = deflating(address, "/", KEEPING);
    assert_eq!(agreed(&client), Some(NO_TAKEOVER));
    for (length, first) in [(127, 0x81), (128, 0xc1), (20_000, 0xc1), (900_000, 0xc1)] {
        let text = "日本語".repeat(length / 9 + 1);
        let text = &text[..length - length % 9];
        let text = format!("{text}{}", "x".repeat(length % 9));
        client.text(&text);
        assert_eq!(first_byte(&client), first, "{length}");
        assert!(client.receive_text() == text);
    }
    let noise: Vec<u8> = (0..300_000_u32)
        .map(|i| (i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    client.send(Message::binary(&noise));
    assert!(client.receive() == Some(Message::binary(&noise)));

    let mut client = deflating(address, "/off", KEEPING);
    assert_eq!(agreed(&client), None);
    client.text(&"x".repeat(1_000));
    assert_eq!(first_byte(&client), 0x81);
    for version in Version::ALL {
        let mut client = open(address, version, "/");
        assert_eq!(agreed(&client), None);
        client.text(&"x".repeat(1_000));
        assert!(client.receive_text().len() == 1_000);
    }
}

#[test]
fn a_broadcast_comes_to_everybody_in_bytes_that_he_can_read() {
    let (running, address) = started(Worker::builder().threads(2).route_with(
        "/",
        || Chat,
        |route| {
            with_takeover(Arc::make_mut(&mut route.limits));
        },
    ));
    let forgetful = DeflateOffer::default();
    let narrow = DeflateOffer {
        server_max_window_bits: WindowBits::new(12),
        ..forgetful
    };
    let mut clients: Vec<(Client, u8)> = Vec::new();
    for version in Version::ALL {
        let first = if version.has_binary() { 0x81 } else { 0x00 };
        clients.push((open(address, version, "/"), first));
    }
    for (offer, first) in [(forgetful, 0xc1), (KEEPING, 0x81), (narrow, 0x81)] {
        for _ in 0..3 {
            clients.push((deflating(address, "/", offer), first));
        }
    }
    // Whoever hears the first line is a member.
    for index in 0..clients.len() {
        let client = &mut clients[index].0;
        client.text(&format!("here is {index}"));
        while client.receive_text() != format!("here is {index}") {}
    }
    running
        .handle()
        .broadcast(Message::text("all here"))
        .unwrap();
    for (client, _) in &mut clients {
        while client.receive_text() != "all here" {}
    }
    let text = "to whom it may concern ".repeat(200);
    running.handle().broadcast(Message::text(&text)).unwrap();
    for (client, first) in &mut clients {
        assert_eq!(first_byte(client), *first);
        assert!(client.receive_text() == text);
    }
    // Many at once, short and long, keep their order.
    for number in 0..100 {
        let line = format!("line {number} ").repeat(1 + number % 3 * 30);
        running.handle().broadcast(Message::text(&line)).unwrap();
    }
    for (client, _) in &mut clients {
        for number in 0..100 {
            let line = format!("line {number} ").repeat(1 + number % 3 * 30);
            assert_eq!(client.receive_text(), line);
        }
    }
}

#[test]
fn takeover_is_for_as_many_as_the_budget_has_room_for() {
    let (_running, address) = started(
        Worker::builder()
            .route_with(
                "/",
                || Echo,
                |route| {
                    with_takeover(Arc::make_mut(&mut route.limits));
                },
            )
            .configure(|config| config.bounds.deflate_memory = 2 * DeflateParameters::CONTEXT),
    );
    let talk = |client: &mut Client| {
        for number in 0..50 {
            let text = format!("number {number} says the same as all the others").repeat(9);
            client.text(&text);
            assert_eq!(client.receive_text(), text);
        }
    };
    // Who wants no context takes no room.
    let mut forgetful = deflating(address, "/", DeflateOffer::default());
    let _plain = open(address, Version::Rfc6455, "/");
    let mut first = deflating(address, "/", KEEPING);
    let mut second = deflating(address, "/", KEEPING);
    let mut third = deflating(address, "/", KEEPING);
    assert_eq!(agreed(&forgetful), Some(NO_TAKEOVER));
    assert_eq!(agreed(&first), Some("permessage-deflate"));
    assert_eq!(agreed(&second), Some("permessage-deflate"));
    assert_eq!(agreed(&third), Some(NO_TAKEOVER));
    for client in [&mut forgetful, &mut first, &mut second, &mut third] {
        talk(client);
    }
    first.close(1000, "");
    first.closed();
    wait_for("the room that was given back", || {
        let client = deflating(address, "/", KEEPING);
        agreed(&client) == Some("permessage-deflate")
    });
}

/// Answers whatever comes with something that is worth compressing.
struct Long;

impl Handler for Long {
    fn on_message(&mut self, socket: &mut Socket<'_>, _: Message<'_>) {
        let text = "long ".repeat(200);
        socket.send(Message::text(&text)).unwrap();
    }
}

#[test]
fn what_is_remembered_of_an_answer_counts_though_the_question_was_plain() {
    let (running, address) = started(Worker::builder().route_with(
        "/",
        || Long,
        |route| {
            with_takeover(Arc::make_mut(&mut route.limits));
        },
    ));
    let mut client = deflating(address, "/", KEEPING);
    assert_eq!(agreed(&client), Some("permessage-deflate"));
    client.text("short");
    assert_eq!(first_byte(&client), 0xc1);
    assert_eq!(client.receive_text().len(), 1_000);
    let memory = || running.handle().counters().memory.get();
    wait_for("it to be counted", || memory() > 0);
    drop(client);
    wait_for("it to be given back", || memory() == 0);
}

#[test]
fn a_bomb_costs_its_sender_the_socket_and_nobody_else_the_time() {
    let (_running, address) = started(Worker::builder().route("/", || Echo));
    let mut bystander = open(address, Version::Rfc6455, "/");
    let started = Clock::now();
    let zeros = vec![0; 1 << 20];
    for excess in [0, 1] {
        let mut client = deflating(address, "/", DeflateOffer::default());
        let payload = vec![0; (1 << 20) + excess];
        client.send(Message::binary(&payload));
        bystander.text("still there?");
        assert_eq!(bystander.receive_text(), "still there?");
        if excess == 0 {
            assert!(client.receive() == Some(Message::binary(&zeros)));
        } else {
            assert_eq!(client.closed().code, Some(CloseCode::TOO_BIG));
        }
    }
    assert!(started.elapsed() < PATIENCE);
}
