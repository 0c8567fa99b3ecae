//! The client under test by Autobahn|Testsuite's fuzzing server: asks how many cases there are, echoes through each,
//! has the report written. `tests/autobahn/run` starts it; by hand: `cargo run --example autobahn -- 127.0.0.1:9001`.
//!
//! It is also how ws-proto's client role is driven over a blocking socket: the handshake, then what came in, what is owed out.

use std::error::Error;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{
    ClientHandshake, ClientOptions, CloseCode, Connection, DeflateOffer, Event, Input, Limits,
    Message, Nonce, Output, Version,
};
use ws_worker::clock::Clock;

const AGENT: &str = "ws-proto";
/// A fuzzer that is silent for so long has forgotten us.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let host = std::env::args()
        .nth(1)
        .ok_or("usage: autobahn HOST:PORT, where wstest -m fuzzingserver listens")?;
    let mut count = 0;
    talk(&host, "/getCaseCount", |message| {
        if let Message::Text(text) = message {
            count = text.parse().unwrap_or(0);
        }
        false
    })?;
    for case in 1..=count {
        let target = format!("/runCase?case={case}&agent={AGENT}");
        if let Err(error) = talk(&host, &target, |_| true) {
            eprintln!("case {case} of {count}: {error}");
        }
    }
    talk(&host, &format!("/updateReports?agent={AGENT}"), |_| false)
}

/// Opens a connection and stays until it ends; messages for which `echoes` says so go back.
fn talk(
    host: &str,
    target: &str,
    mut echoes: impl FnMut(&Message<'_>) -> bool,
) -> Result<(), Box<dyn Error>> {
    let clock = Clock::start();
    let limits = Arc::new(Limits {
        max_message: 16 << 20,
        max_fragments: 65_536,
        ..Limits::default()
    });
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut out = Output::default();
    let mut room = vec![0; 64 * 1024];

    let mut nonce = [0; 64];
    getrandom::fill(&mut nonce).map_err(|error| error.to_string())?;
    let mut options = ClientOptions::new(Version::Rfc6455, host, target);
    // Both windows are remembered, which is the harder way.
    options.deflate = Some(DeflateOffer {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..DeflateOffer::default()
    });
    let mut handshake = ClientHandshake::new(clock.now(), options, &Nonce(nonce))?;
    handshake.start(&mut out);
    stream.write_all(&out.take())?;
    let (mut connection, early) = loop {
        let count = stream.read(&mut room)?;
        if count == 0 {
            handshake.handle_eof(clock.now())?;
        }
        let mut input = Input::new(room.get_mut(..count).unwrap_or_default());
        if (handshake.receive(clock.now(), &mut input, &mut out)?).is_some() {
            let early = input.as_slice().to_vec();
            let connection = handshake.into_connection(clock.now(), limits);
            break (connection.ok_or("it is not open")?, early);
        }
    };

    let mut bytes = early;
    loop {
        let mut input = Input::new(&mut bytes);
        take(&clock, &mut connection, &mut input, &mut out, &mut echoes);
        // A peer that has gone has nothing to hear.
        let _ = stream.write_all(&out.take());
        let count = match stream.read(&mut room) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            connection.handle_eof(clock.now());
            return Ok(());
        }
        bytes.clear();
        bytes.extend_from_slice(room.get(..count).unwrap_or_default());
    }
}

/// Takes what came, and appends what is owed for it.
fn take(
    clock: &Clock,
    connection: &mut Connection,
    input: &mut Input<'_>,
    out: &mut Output,
    echoes: &mut impl FnMut(&Message<'_>) -> bool,
) {
    while let Some(event) = connection.receive(clock.now(), input, out) {
        match event {
            Event::Message(message) if echoes(&message) => {
                // Refused only once a close has been sent, after which nothing may follow.
                let _ = connection.send(clock.now(), message, out);
            }
            Event::Message(_) => connection.close(clock.now(), CloseCode::NORMAL, "", out),
            Event::Ping | Event::Pong(_) => {}
        }
    }
}
