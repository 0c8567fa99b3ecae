//! Runs every file of `vectors/`: hex in, events and bytes out. The first line names the section. Each case is read
//! whole and byte by byte.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, helpers too, a panic is a failure and what is printed is the seed"
)]

mod common;

use common::{CLIENT, Outcome, at, run};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use ws_proto::{Connection, DeflateParameters, Event, Limits, Message, Role, Version, WindowBits};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads hex with spaces; `20*ff` stands for twenty bytes `ff`.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        let (count, word) = word
            .split_once('*')
            .map_or((1, word), |(count, word)| (count.parse().unwrap(), word));
        for _ in 0..count {
            let pairs = word.as_bytes().chunks(2);
            bytes.extend(
                pairs.map(|pair| {
                    u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()
                }),
            );
        }
    }
    bytes
}

fn describe(outcome: &Outcome) -> Vec<String> {
    let mut lines: Vec<String> = outcome
        .events
        .iter()
        .map(|event| match event {
            Event::Message(Message::Text(text)) => format!("text {}", hex(text.as_bytes())),
            Event::Message(Message::Binary(bytes)) => format!("binary {}", hex(bytes)),
            Event::Pong(_) => "pong".into(),
            Event::Ping => "ping".into(),
        })
        .map(|line| line.trim_end().into())
        .collect();
    if !outcome.out.is_empty() {
        lines.push(format!("out {}", hex(&outcome.out)));
    }
    lines.push(match &outcome.closed {
        None => "open".into(),
        Some(closed) => format!(
            "closed {} {} {}",
            if closed.clean { "clean" } else { "unclean" },
            closed
                .code
                .map_or("-".into(), |code| code.get().to_string()),
            closed.reason
        )
        .trim_end()
        .into(),
    });
    lines
}

struct Case {
    version: Version,
    role: Role,
    limits: Limits,
    deflate: Option<DeflateParameters>,
    input: Vec<u8>,
    expected: Vec<String>,
}

/// Reads what was agreed, in the words of the header.
fn parameters(text: &str) -> DeflateParameters {
    let mut parameters = DeflateParameters::default();
    for word in text.split_whitespace() {
        let (name, bits) = word.split_once('=').unwrap_or((word, "15"));
        let bits = WindowBits::new(bits.parse().unwrap()).unwrap();
        match name {
            "server_no_context_takeover" => parameters.server_no_context_takeover = true,
            "client_no_context_takeover" => parameters.client_no_context_takeover = true,
            "server_max_window_bits" => parameters.server_max_window_bits = bits,
            "client_max_window_bits" => parameters.client_max_window_bits = bits,
            _ => panic!("what is {word:?}?"),
        }
    }
    parameters
}

fn parse(text: &str) -> Case {
    let mut case = Case {
        version: Version::Rfc6455,
        role: Role::Server,
        limits: Limits::default(),
        deflate: None,
        input: Vec::new(),
        expected: Vec::new(),
    };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "version" => {
                case.version = Version::ALL
                    .into_iter()
                    .find(|version| version.name() == rest)
                    .unwrap();
            }
            "client" => case.role = CLIENT,
            "deflate" => case.deflate = Some(parameters(rest)),
            "max_message" => case.limits.max_message = rest.parse().unwrap(),
            "max_fragments" => case.limits.max_fragments = rest.parse().unwrap(),
            "max_empty_fragments" => case.limits.max_empty_fragments = rest.parse().unwrap(),
            "max_control_frames" => case.limits.max_control_frames = rest.parse().unwrap(),
            "in" => case.input.extend(bytes(rest)),
            "text" | "binary" | "out" => {
                let line = format!("{word} {}", hex(&bytes(rest)));
                case.expected.push(line.trim_end().into());
            }
            "ping" | "pong" | "open" | "closed" => case.expected.push(line.into()),
            _ => panic!("what is {line:?}?"),
        }
    }
    case
}

#[test]
fn every_vector_comes_out_as_written_whole_and_byte_by_byte() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    for entry in std::fs::read_dir(&vectors).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_dir(), "nothing runs {path:?}");
    }
    let folder = vectors.join("connection");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ["), "{path:?} names no section");
        let case = parse(&text);
        if case.deflate.is_some() && !cfg!(feature = "deflate") {
            continue;
        }
        for lengths in [&[][..], &[1], &[2, 3]] {
            let limits = Arc::new(case.limits.clone());
            let mut connection = Connection::new(at(0), case.version, case.role, limits);
            if let Some(parameters) = case.deflate {
                connection = connection.deflating(parameters);
            }
            let outcome = run(connection, &case.input, lengths, false);
            assert_eq!(describe(&outcome), case.expected, "{path:?} {lengths:?}");
        }
        count += 1;
    }
    assert!(
        count >= 140 || cfg!(not(feature = "deflate")),
        "only {count} vectors were found"
    );
}
