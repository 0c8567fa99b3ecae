//! A session against ws-proto's server role, without a socket: what it prints and how it ends.

use super::super::options::tests::options;
use super::*;
use ws_proto::{Answer, Handshake, HeadLimits};

fn ms(milliseconds: u64) -> Now {
    Duration::from_millis(milliseconds)
}

/// A session and the server it talks to.
struct Talk {
    session: Session,
    server: Connection,
    heard: Vec<String>,
}

fn session(line: &[&str]) -> Session {
    let line: Vec<_> = ["ws://example.org/a"].iter().chain(line).copied().collect();
    Session::new(ms(0), options(&line).unwrap(), &Nonce([7; 64])).unwrap()
}

/// Opens one with these flags.
fn open(line: &[&str]) -> Talk {
    let mut session = session(line);
    let mut handshake = Handshake::new(at(ms(0)), &HeadLimits::default());
    let mut request = session.out.take();
    let mut input = Input::new(&mut request);
    let mut out = Output::default();
    let now = at(ms(0));
    handshake
        .receive(now, &HeadLimits::default(), &mut input, &mut out)
        .unwrap();
    let limits = Arc::new(Limits::default());
    let answer = Answer::default();
    handshake.accept(now, &answer, limits, &mut out).unwrap();
    handshake
        .receive(now, &HeadLimits::default(), &mut input, &mut out)
        .unwrap();
    session.receive(ms(1), &mut out.take());
    Talk {
        session,
        server: handshake.into_connection(now).unwrap(),
        heard: Vec::new(),
    }
}

impl Talk {
    /// Carries bytes both ways until none are left.
    fn carry(&mut self, now: u64) {
        let mut out = Output::default();
        loop {
            let mut bytes = self.session.out.take();
            let mut input = Input::new(&mut bytes);
            while let Some(event) = self.server.receive(at(ms(now)), &mut input, &mut out) {
                if let Event::Message(message) = event {
                    self.heard.push(format!("{message:?}"));
                }
            }
            if out.is_empty() {
                return;
            }
            self.session.receive(ms(now), &mut out.take());
        }
    }

    fn say(&mut self, now: u64, message: Message<'_>) {
        let mut out = Output::default();
        self.server.send(at(ms(now)), message, &mut out).unwrap();
        self.session.receive(ms(now), &mut out.take());
    }

    fn close(&mut self, now: u64, code: u16, reason: &str) {
        let mut out = Output::default();
        let code = CloseCode::new(code).unwrap();
        self.server.close(at(ms(now)), code, reason, &mut out);
        self.session.receive(ms(now), &mut out.take());
    }
}

impl Session {
    fn printed(&mut self) -> (String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        for printed in self.printed.drain(..) {
            match printed {
                Printed::Out(bytes) => out += &String::from_utf8_lossy(&bytes),
                Printed::Err(bytes) => err += &String::from_utf8_lossy(&bytes),
            }
        }
        (out, err)
    }
}

const WIRES: [&str; 5] = ["hixie75", "hixie76", "hybi07", "hybi08", "rfc6455"];

#[test]
fn lines_go_out_messages_are_printed_and_the_end_of_stdin_closes() {
    for wire in WIRES {
        let mut talk = open(&["--wire", wire]);
        assert!(talk.session.takes_lines(), "{wire}");
        talk.session.send(ms(2), "こんにちは".as_bytes());
        talk.session.send(ms(2), b"");
        talk.session.end_of_input(ms(2));
        assert!(!talk.session.takes_lines());
        talk.say(3, Message::text("still\n printed"));
        talk.carry(3);
        assert_eq!(
            talk.heard,
            [r#"Text("こんにちは")"#, r#"Text("")"#],
            "{wire}"
        );
        if wire == "hixie75" {
            assert!(talk.session.ends_stream());
            assert_eq!(talk.session.exit(), None);
            talk.session.handle_eof(ms(4));
        } else {
            assert_eq!(talk.server.closed().map(|closed| closed.clean), Some(true));
        }
        assert_eq!(talk.session.exit(), Some(exit::CLEAN), "{wire}");
        assert_eq!(talk.session.printed().0, "still\n printed\n");
    }
}

#[test]
fn binary_is_printed_as_asked_for_and_sent_if_asked_to() {
    for (flag, expected) in [("hex", "hex:00ff10\n"), ("base64", "base64:AP8Q\n")] {
        let mut talk = open(&["--print", flag, "--binary"]);
        talk.say(1, Message::binary(b"\x00\xff\x10"));
        assert_eq!(talk.session.printed().0, expected);
        talk.session.send(ms(1), b"\xff");
        talk.carry(1);
        assert_eq!(talk.heard, ["Binary([255])"]);
    }
    let mut talk = open(&["--print", "raw"]);
    talk.say(1, Message::binary(b"a"));
    talk.say(1, Message::binary(b"b"));
    assert_eq!(talk.session.printed().0, "ab");
}

#[test]
fn a_count_of_messages_ends_it_and_the_end_of_stdin_does_not() {
    for wire in WIRES {
        let mut talk = open(&["--wire", wire, "--count", "2"]);
        talk.session.end_of_input(ms(1));
        for text in ["one", "two", "three"] {
            talk.say(2, Message::text(text));
        }
        talk.carry(3);
        assert_eq!(talk.session.exit(), Some(exit::CLEAN), "{wire}");
        assert_eq!(talk.session.printed().0, "one\ntwo\n");

        let mut talk = open(&["--wire", wire, "--count", "2"]);
        talk.say(2, Message::text("one"));
        talk.close(3, 1000, "");
        talk.session.handle_eof(ms(4));
        assert_eq!(talk.session.exit(), Some(exit::LOST), "{wire}");
        assert!(talk.session.printed().1.contains("after 1 of 2 messages"));
    }
}

#[test]
fn how_the_server_closes_is_the_exit_code() {
    for (code, reason, expected) in [
        (1000, "bye", exit::CLEAN),
        (1001, "", exit::CLEAN),
        (1011, "oh\u{1b}", exit::CLOSED),
        (4000, "", exit::CLOSED),
    ] {
        let mut talk = open(&[]);
        talk.close(1, code, reason);
        assert_eq!(talk.session.exit(), Some(expected), "{code}");
        let expected = format!("closed by the server: {code} {}", reason.escape_debug());
        let (_, err) = talk.session.printed();
        assert!(err.contains(expected.trim_end()), "{err}");
        talk.carry(2);
        assert!(talk.server.closed().is_some_and(|closed| closed.clean));
    }
}

#[test]
fn our_close_carries_the_code_and_the_reason_that_were_asked_for() {
    let mut talk = open(&["--close-code", "4001", "--reason", "enough"]);
    talk.session.end_of_input(ms(1));
    talk.carry(1);
    let closed = talk.server.closed().unwrap();
    assert_eq!(closed.code, CloseCode::new(4001));
    assert_eq!(closed.reason, "enough");
    assert_eq!(talk.session.exit(), Some(exit::CLEAN));
}

#[test]
fn a_lost_connection_and_a_broken_protocol_are_told_apart() {
    for wire in WIRES {
        let mut talk = open(&["--wire", wire, "--quiet"]);
        talk.session.handle_eof(ms(1));
        let clean = wire == "hixie75";
        assert_eq!(talk.session.exit() == Some(exit::CLEAN), clean, "{wire}");
        assert_eq!(talk.session.exit() == Some(exit::LOST), !clean, "{wire}");
    }
    let mut talk = open(&["--quiet"]);
    talk.session.receive(ms(1), &mut b"\x83\x00".to_vec());
    assert_eq!(talk.session.exit(), Some(exit::PROTOCOL));
    assert!(talk.session.lingers());
    let (_, err) = talk.session.printed();
    assert_eq!(
        err,
        "ws-worker: the server broke the protocol: unknown opcode\n"
    );
    let mut talk = open(&[]);
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    talk.session.handle_error(ms(1), &reset);
    assert_eq!(talk.session.exit(), Some(exit::LOST));
}

#[test]
fn an_answer_that_opens_nothing_says_why() {
    #[track_caller]
    fn check(answer: &str, code: u8, expected: &str) {
        let mut session = session(&[]);
        for byte in answer.bytes() {
            session.receive(ms(1), &mut [byte]);
        }
        session.handle_eof(ms(2));
        assert_eq!(session.exit(), Some(code), "{answer}");
        let (out, err) = session.printed();
        assert_eq!(out, "");
        assert!(err.contains(expected), "{err}");
    }
    check(
        "HTTP/1.1 403 Go Away\r\nContent-Length: 6\r\n\r\nshort\n",
        exit::REFUSED,
        "ws-worker: refused: HTTP/1.1 403 Go Away\nshort\n",
    );
    check(
        "HTTP/1.1 500 Oh\r\n\r\nhalf",
        exit::REFUSED,
        "500 Oh\nhalf\n",
    );
    check("SSH-2.0-x\r\n", exit::LOST, "stream ended");
    check("\0", exit::PROTOCOL, "syntax");
    check("HTTP/1.1 101 a\r\n\r\n", exit::PROTOCOL, "does not upgrade");
    check("", exit::LOST, "stream ended");
}

#[test]
fn every_wait_has_a_deadline() {
    #[track_caller]
    fn check(mut session: Session, now: u64, by: u64, code: u8, expected: &str) {
        session.handle_timeout(ms(now));
        assert_eq!(session.poll_timeout(), Some(ms(by)));
        session.handle_timeout(ms(by) - Duration::from_micros(1));
        assert_eq!(session.exit(), None);
        session.handle_timeout(ms(by));
        assert_eq!(session.exit(), Some(code));
        let (_, err) = session.printed();
        assert!(err.contains(expected), "{err}");
    }
    let flags = ["--handshake-timeout", "3s"];
    check(session(&flags), 1, 3000, exit::TIMEOUT, "no answer in time");
    let mut refused = session(&flags);
    refused.receive(ms(1), &mut b"HTTP/1.1 403 No\r\n\r\n".to_vec());
    check(refused, 1, 3000, exit::REFUSED, "403 No");
    let talk = open(&["--timeout", "9s"]);
    check(talk.session, 1, 9000, exit::TIMEOUT, "--timeout has passed");
    for wire in WIRES {
        let mut talk = open(&["--wire", wire, "--close-timeout", "4s"]);
        talk.session.end_of_input(ms(10));
        check(talk.session, 11, 4010, exit::TIMEOUT, "the server does not");
    }
    let mut talk = open(&[]);
    talk.session.handle_timeout(ms(25_001));
    check(talk.session, 25_002, 45_001, exit::LOST, "silent");
}

#[test]
fn while_nobody_reads_the_server_is_not_called_silent() {
    let mut talk = open(&[]);
    talk.session.handle_timeout(ms(25_001));
    talk.session.pause(ms(25_002), true);
    talk.session.handle_timeout(ms(60_000));
    assert_eq!(talk.session.exit(), None);
    talk.session.pause(ms(60_000), false);
    talk.session.handle_timeout(ms(80_000));
    assert_eq!(talk.session.exit(), Some(exit::LOST));
}

#[test]
fn pings_go_out_at_once_and_then_so_often_and_stdins_end_waits_for_the_pong() {
    let mut talk = open(&["--ping=500ms"]);
    assert_eq!(talk.session.out.len(), 10);
    talk.session.end_of_input(ms(1));
    assert!(!talk.session.out.is_empty() && talk.session.exit().is_none());
    talk.carry(3);
    assert_eq!(talk.session.exit(), Some(exit::CLEAN));
    let (_, err) = talk.session.printed();
    assert!(err.contains("pong after 2.000 ms\n"), "{err}");

    let mut talk = open(&["--ping=500ms"]);
    talk.carry(3);
    assert_eq!(talk.session.poll_timeout(), Some(ms(501)));
    talk.session.handle_timeout(ms(501));
    talk.carry(502);
    let (_, err) = talk.session.printed();
    assert_eq!(err.matches("pong after").count(), 2, "{err}");
    // A server that does not answer holds up the end only so long.
    talk.session.handle_timeout(ms(1001));
    talk.session.out.clear(0);
    talk.session.end_of_input(ms(1002));
    assert!(talk.session.out.is_empty());
    talk.session.handle_timeout(ms(6002));
    assert!(!talk.session.out.is_empty());
}

#[test]
fn a_line_that_is_no_text_ends_it_as_wrong_usage() {
    let mut talk = open(&[]);
    talk.session.send(ms(1), b"\xff");
    talk.carry(2);
    assert_eq!(talk.session.exit(), Some(exit::USAGE));
    assert!(talk.session.printed().1.contains("--binary sends it"));
    assert_eq!(talk.heard, [""; 0]);
}

#[test]
fn both_heads_are_shown_if_wanted_and_bytes_behind_them_in_hex() {
    let mut talk = open(&["--wire", "hixie76", "-v"]);
    let (out, err) = talk.session.printed();
    assert_eq!(out, "");
    for expected in [
        "> GET /a HTTP/1.1\n",
        "> Sec-WebSocket-Key1: ",
        "> hex:",
        "< HTTP/1.1 101 WebSocket Protocol Handshake\n",
        "< Sec-WebSocket-Location: ws://example.org/a\n",
        "< hex:",
        "ws-worker: open: hixie-76\n",
    ] {
        assert!(err.contains(expected), "{expected}: {err}");
    }
    let mut talk = open(&["--quiet"]);
    assert_eq!(talk.session.printed(), (String::new(), String::new()));
}

#[test]
fn a_seed_of_its_own_masks_what_it_sends() {
    let mut talk = open(&[]);
    talk.session.send(ms(1), b"secret");
    let sent = talk.session.out.as_slice();
    assert!(sent.get(1).is_some_and(|length| length & 0x80 != 0));
    assert!(!sent.windows(6).any(|six| six == b"secret"));
    talk.carry(1);
    assert_eq!(talk.heard, [r#"Text("secret")"#]);
}
