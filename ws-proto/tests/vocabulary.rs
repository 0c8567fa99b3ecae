//! The words of the public types: what goes into logs, counters and status lines, each told once and told apart.

#![allow(
    clippy::unwrap_used,
    reason = "in a test, helpers too, a panic is a failure"
)]

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use ws_proto::{
    Answer, ClientError, ClientHandshake, ClientOptions, CloseCode, Framing, Handshake, HeadError,
    HeadLimits, HeaderName, HeaderValue, Headers, Input, Instant, InvalidHeader, Limits, Nonce,
    Output, ProtocolError, Ready, Refusal, Rejection, SendError, Version, Versions,
};

const HEAD_ERRORS: [HeadError; 9] = [
    HeadError::Syntax,
    HeadError::TooLarge,
    HeadError::TooManyHeaders,
    HeadError::HttpVersion,
    HeadError::Host,
    HeadError::Duplicate,
    HeadError::Body,
    HeadError::Subprotocols,
    HeadError::Target,
];

fn refusals() -> Vec<Refusal> {
    let others = [
        Refusal::NotWebSocket,
        Refusal::Version(Versions::ALL),
        Refusal::Keys,
        Refusal::Origin,
        Refusal::NotFound,
        Refusal::Timeout,
        Refusal::Unavailable,
        Refusal::Silent,
    ];
    (HEAD_ERRORS.map(Refusal::Head).into_iter())
        .chain(others)
        .collect()
}

/// Checks that each says something, and no two the same.
fn check_words<T: Debug + Display>(all: &[T]) {
    let words: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), all.len(), "{all:?} say {words:?}");
    assert!(words.iter().all(|word| !word.is_empty()));
}

#[test]
fn every_fault_has_words_of_its_own() {
    check_words(&refusals());
    check_words(&[
        ProtocolError::ReservedBits,
        ProtocolError::Opcode,
        ProtocolError::Masking,
        ProtocolError::Length,
        ProtocolError::ControlFrame,
        ProtocolError::Fragmentation,
        ProtocolError::CloseFrame,
        ProtocolError::Utf8,
        ProtocolError::TooBig,
        ProtocolError::TooManyFrames,
    ]);
    check_words(&[
        SendError::Closed,
        SendError::NoBinary,
        SendError::NoPing,
        SendError::Subprotocol,
        SendError::Header,
        SendError::State,
    ]);
    let mut client: Vec<ClientError> = HEAD_ERRORS.map(ClientError::Head).into();
    client.extend([
        ClientError::Status(403),
        ClientError::Status(404),
        ClientError::Upgrade,
        ClientError::Proof,
        ClientError::Origin,
        ClientError::Location,
        ClientError::Protocol,
        ClientError::Extension,
        ClientError::Timeout,
        ClientError::Eof,
    ]);
    check_words(&client);
    check_words(&[InvalidHeader]);
    check_words(&Version::ALL);
    check_words(&[CloseCode::NORMAL, CloseCode::GOING_AWAY]);
    assert_eq!(CloseCode::NORMAL.to_string(), "1000");
}

/// Begins a handshake and gives it this request.
fn begin(request: &str) -> Handshake {
    let limits = HeadLimits::default();
    let mut handshake = Handshake::new(Instant::at(0), &limits);
    let mut bytes = request.as_bytes().to_vec();
    let _ = handshake.receive(
        Instant::at(0),
        &limits,
        &mut Input::new(&mut bytes),
        &mut Output::default(),
    );
    handshake
}

#[test]
fn every_refusal_is_answered_with_its_status_and_a_body_that_helps() {
    for refusal in refusals() {
        let mut out = Output::default();
        begin("GET / HTTP/1.1\r\n").refuse(refusal, None, &mut out);
        let written = String::from_utf8(out.take()).unwrap();
        let Some(status) = refusal.status() else {
            assert_eq!((refusal, written.as_str()), (Refusal::Silent, ""));
            continue;
        };
        assert!(written.starts_with(&format!("HTTP/1.1 {status} ")));
        let (head, body) = written.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(body.len() > 40 && body.ends_with(".\n") || body.contains("Connection"));
    }
}

#[test]
fn an_app_may_answer_with_any_status_but_those_that_would_open_a_tunnel() {
    for status in 0..=1_000 {
        let mut headers = Headers::default();
        headers.add("X-Why", "because").unwrap();
        let rejection = Rejection {
            status,
            headers,
            body: b"body".to_vec(),
        };
        let mut out = Output::default();
        begin("GET / HTTP/1.1\r\n").reject(&rejection, &mut out);
        let written = String::from_utf8(out.take()).unwrap();
        let said = if (200..=599).contains(&status) {
            status
        } else {
            502
        };
        let (first, rest) = written.split_once("\r\n").unwrap();
        let words = first.strip_prefix(&format!("HTTP/1.1 {said} ")).unwrap();
        assert!(words.bytes().all(|b| b.is_ascii_alphabetic() || b == b' '));
        assert!(rest.starts_with("Connection: close\r\nX-Why: because\r\n"));
        let end = match said {
            204 | 304 => "because\r\n\r\n",
            205 => "Content-Length: 0\r\n\r\n",
            _ => "Content-Length: 4\r\n\r\nbody",
        };
        assert!(written.ends_with(end), "{written}");
    }
}

#[test]
fn what_is_made_can_be_read_again() {
    assert_eq!(Instant::at(7).as_millis(), 7);
    assert!(format!("{:?}", Output::default()).starts_with("Output"));
    let name = HeaderName::new("X-A").unwrap();
    assert_eq!((name.as_str(), name.is_end_to_end()), ("X-A", true));
    assert!(!HeaderName::new("UPGRADE").unwrap().is_end_to_end());
    assert_eq!(HeaderValue::new(b"a b").unwrap().as_bytes(), b"a b");
    for version in Version::ALL {
        assert_eq!(version.has_close_code(), version.framing() == Framing::Hybi);
    }
}

#[test]
fn a_client_sends_headers_of_its_own_and_reads_those_of_the_answer() {
    let mut options = ClientOptions::new(Version::Rfc6455, "a", "/");
    options.headers.add("Cookie", "a=b").unwrap();
    let mut out = Output::default();
    let ask = |options: &ClientOptions| {
        ClientHandshake::new(Instant::at(0), options.clone(), &Nonce([1; 64]))
    };
    let mut client = ask(&options).unwrap();
    client.start(&mut out);
    let mut request = out.take();
    let text = String::from_utf8(request.clone()).unwrap();
    assert!(text.contains("\r\nCookie: a=b\r\n"));
    let mut server = begin("");
    let limits = HeadLimits::default();
    let mut input = Input::new(&mut request);
    let ready = server.receive(Instant::at(0), &limits, &mut input, &mut out);
    assert_eq!(ready, Ok(Some(Ready::Request)));
    let answer = Answer::default();
    let open = Arc::new(Limits::default());
    assert_eq!(
        server.accept(Instant::at(0), &answer, open, &mut out),
        Ok(())
    );
    let mut bytes = out.take();
    let ready = client.receive(Instant::at(0), &mut Input::new(&mut bytes), &mut out);
    assert_eq!(ready, Ok(Some(Ready::Open)));
    let names: Vec<&str> = client.headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["Upgrade", "Connection", "Sec-WebSocket-Accept"]);
    assert_eq!(client.handle_eof(Instant::at(1)), Ok(()));
    // What belongs to the handshake is not the caller's to set.
    for name in ["Host", "origin", "Sec-WebSocket-Key", "Connection"] {
        let mut options = options.clone();
        options.headers.add(name, "x").unwrap();
        assert_eq!(ask(&options).err(), Some(InvalidHeader), "{name}");
    }
}

#[test]
fn a_refusal_is_told_as_often_as_it_is_asked_for() {
    let mut server = begin("BAD\r\n\r\n");
    let limits = HeadLimits::default();
    for _ in 0..2 {
        let mut bytes = *b"more";
        let mut input = Input::new(&mut bytes);
        let again = server.receive(Instant::at(0), &limits, &mut input, &mut Output::default());
        assert_eq!(again, Err(Refusal::Head(HeadError::Syntax)));
    }
}
