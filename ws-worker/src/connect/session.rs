//! One conversation as a state machine: bytes, lines and time in; bytes, prints and an exit code out. Opens nothing,
//! so that each of its endings can be played without a socket.

use super::exit;
use super::options::{Options, Print};
use super::refused::Refused;
use super::stdio::Printed;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{
    Cause, ClientError, ClientHandshake, CloseCode, Closed, Connection, Event, Input, Instant,
    Limits, Message, Nonce, Output, Version,
};

/// Time since the start; finer than a connection's, for round trips.
pub(crate) type Now = Duration;

fn at(now: Now) -> Instant {
    Instant::at(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn since_start(instant: Instant) -> Now {
    Duration::from_millis(instant.as_millis())
}

/// How far it is.
#[derive(Debug)]
enum Phase {
    Handshake(Box<ClientHandshake>),
    /// The answer was no 101; its body is collected.
    Refused(Refused),
    Open(Box<Connection>),
    /// The exit code is known.
    Over,
}

/// A conversation.
pub(crate) struct Session {
    options: Options,
    phase: Phase,
    /// What is owed to the server.
    pub(crate) out: Output,
    /// What is to be printed, in order.
    pub(crate) printed: VecDeque<Printed>,
    /// When the answer must be whole, its body too if it is a refusal.
    answer_by: Now,
    /// What came so far of the answer's head.
    answer: Vec<u8>,
    received: u64,
    /// When the ping left that is not answered yet.
    pinged: Option<Now>,
    next_ping: Option<Now>,
    /// stdin has ended, and the pong may take until then.
    close_at: Option<Now>,
    /// hixie-75: our stream has ended, and the server's may take until then.
    ends_by: Option<Now>,
    /// The exit code, decided before the connection has ended.
    verdict: Option<u8>,
    exit: Option<u8>,
    lingers: bool,
}

impl Session {
    /// Begins: the request is in `out`.
    ///
    /// # Errors
    /// The caller's: wrong usage, in words.
    pub(crate) fn new(now: Now, options: Options, nonce: &Nonce) -> Result<Self, String> {
        let request = options.request()?;
        let mut handshake = ClientHandshake::new(at(now), request, nonce).map_err(|_| {
            "the host, origin, a subprotocol or a header would break the request".to_owned()
        })?;
        let mut out = Output::default();
        handshake.start(&mut out);
        let mut session = Self {
            answer_by: now + options.handshake_timeout,
            options,
            phase: Phase::Handshake(Box::new(handshake)),
            out,
            printed: VecDeque::new(),
            answer: Vec::new(),
            received: 0,
            pinged: None,
            next_ping: None,
            close_at: None,
            ends_by: None,
            verdict: None,
            exit: None,
            lingers: false,
        };
        let request = session.out.as_slice().to_vec();
        session.show_head('>', &request);
        Ok(session)
    }

    /// Returns the exit code once it is known; what is in `out` is still to be written.
    pub(crate) const fn exit(&self) -> Option<u8> {
        self.exit
    }

    /// Returns whether the server may still be sending, so that closing at once would cut off what we said last.
    pub(crate) const fn lingers(&self) -> bool {
        self.lingers
    }

    /// Returns whether our stream is to end behind what is in `out`, which is how hixie-75 closes.
    pub(crate) const fn ends_stream(&self) -> bool {
        self.ends_by.is_some()
    }

    /// Returns whether lines of stdin can be sent.
    pub(crate) fn takes_lines(&self) -> bool {
        match &self.phase {
            Phase::Open(connection) => {
                !connection.is_closing() && self.ends_by.is_none() && self.close_at.is_none()
            }
            Phase::Handshake(_) | Phase::Refused(_) | Phase::Over => false,
        }
    }

    /// Takes what the server sent.
    pub(crate) fn receive(&mut self, now: Now, bytes: &mut [u8]) {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                let mut input = Input::new(bytes);
                let before = input.as_slice().to_vec();
                let result = handshake.receive(at(now), &mut input, &mut self.out);
                let taken = before.len() - input.len();
                self.answer
                    .extend_from_slice(before.get(..taken).unwrap_or_default());
                let behind = input.take(usize::MAX);
                match result {
                    Ok(None) => {}
                    Ok(Some(_)) => {
                        self.open(now);
                        self.receive(now, behind);
                    }
                    Err(ClientError::Status(status)) => {
                        let refused = Refused::new(handshake.headers(), status);
                        self.show_answer();
                        self.phase = Phase::Refused(refused);
                        self.receive(now, behind);
                    }
                    Err(error) => self.fail_handshake(error),
                }
            }
            Phase::Refused(refused) => {
                refused.receive(bytes);
                if refused.is_whole() {
                    self.end_refused();
                }
            }
            Phase::Open(_) => self.receive_open(now, bytes),
            Phase::Over => {}
        }
    }

    /// The server's stream has ended.
    pub(crate) fn handle_eof(&mut self, now: Now) {
        self.lingers = false;
        match &mut self.phase {
            Phase::Handshake(_) => self.fail_handshake(ClientError::Eof),
            Phase::Refused(_) => self.end_refused(),
            Phase::Open(connection) => {
                connection.handle_eof(at(now));
                self.settle();
                self.lingers = false;
            }
            Phase::Over => {}
        }
    }

    /// The stream broke: reset, no route.
    pub(crate) fn handle_error(&mut self, now: Now, error: &std::io::Error) {
        if self.exit.is_none() {
            self.notice(&format!("the connection broke: {error}"));
        }
        self.handle_eof(now);
    }

    /// Does what `now` demands.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if self.options.timeout.is_some_and(|timeout| timeout <= now) && self.exit.is_none() {
            self.close(now);
            return self.end(exit::TIMEOUT, "--timeout has passed");
        }
        if self.close_at.is_some_and(|at| at <= now) {
            self.close(now);
        }
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                if let Err(error) = handshake.handle_timeout(at(now)) {
                    self.fail_handshake(error);
                }
            }
            Phase::Refused(_) => {
                if self.answer_by <= now {
                    self.end_refused();
                }
            }
            Phase::Open(connection) => {
                connection.handle_timeout(at(now), &mut self.out);
                if self.next_ping.is_some_and(|next| next <= now) {
                    self.next_ping = self.options.ping.map(|interval| now + interval);
                    if self.pinged.is_none() && connection.ping(at(now), &mut self.out).is_ok() {
                        self.pinged = Some(now);
                    }
                }
                if self.ends_by.is_some_and(|by| by <= now) {
                    return self.end(exit::TIMEOUT, "the server does not end its stream");
                }
                self.settle();
            }
            Phase::Over => {}
        }
    }

    /// Returns the next deadline.
    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let own = match &self.phase {
            Phase::Handshake(handshake) => handshake.poll_timeout().map(since_start),
            Phase::Refused(_) => Some(self.answer_by),
            Phase::Open(connection) => connection.poll_timeout().map(since_start),
            Phase::Over => return None,
        };
        [
            own,
            self.next_ping,
            self.close_at,
            self.ends_by,
            self.options.timeout,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// While what is printed is not read, the server is not called silent.
    pub(crate) fn pause(&mut self, now: Now, is_paused: bool) {
        if let Phase::Open(connection) = &mut self.phase {
            if is_paused {
                connection.pause(at(now));
            } else {
                connection.resume(at(now));
            }
        }
    }

    /// Sends a line of stdin.
    pub(crate) fn send(&mut self, now: Now, line: &[u8]) {
        let message = if self.options.binary {
            Message::binary(line)
        } else if let Ok(text) = std::str::from_utf8(line) {
            Message::text(text)
        } else {
            return self.stop(
                now,
                exit::USAGE,
                "a line of stdin is not UTF-8: --binary sends it",
            );
        };
        if let Phase::Open(connection) = &mut self.phase {
            // Refused only while closing, when no lines are taken.
            let _ = connection.send(at(now), message, &mut self.out);
        }
    }

    /// stdin has ended: closes, unless told to wait for something.
    pub(crate) fn end_of_input(&mut self, now: Now) {
        if self.options.count.is_some() || self.options.stay {
            return;
        }
        if self.pinged.is_some() {
            self.close_at = Some(now + self.options.close_timeout);
        } else {
            self.close(now);
        }
    }

    /// Closes and ends by this code, whatever the server says to it.
    pub(crate) fn stop(&mut self, now: Now, code: u8, why: &str) {
        self.verdict = Some(code);
        self.notice(why);
        match self.phase {
            Phase::Open(_) => self.close(now),
            Phase::Handshake(_) | Phase::Refused(_) => self.exit = Some(code),
            Phase::Over => {}
        }
    }

    fn open(&mut self, now: Now) {
        self.show_answer();
        let Phase::Handshake(handshake) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return;
        };
        let chosen = handshake.protocol().map(str::to_owned);
        let limits = Limits {
            max_message: self.options.max_message,
            max_fragments: u32::MAX,
            close_timeout: self.options.close_timeout,
            ..Limits::default()
        };
        let Some(connection) = handshake.into_connection(at(now), Arc::new(limits)) else {
            return;
        };
        let version = connection.version();
        self.phase = Phase::Open(Box::new(connection));
        self.next_ping = self.options.ping.map(|_| now);
        if !self.options.quiet {
            match chosen {
                Some(chosen) => self.notice(&format!("open: {version}, subprotocol {chosen}")),
                None => self.notice(&format!("open: {version}")),
            }
        }
        self.handle_timeout(now); // The first ping.
    }

    fn receive_open(&mut self, now: Now, bytes: &mut [u8]) {
        let mut input = Input::new(bytes);
        while let Phase::Open(connection) = &mut self.phase {
            let Some(event) = connection.receive(at(now), &mut input, &mut self.out) else {
                return self.settle();
            };
            match event {
                Event::Message(message) => {
                    let is_wanted = (self.options.count).is_none_or(|count| self.received < count);
                    if is_wanted {
                        self.received += 1;
                        let line = to_line(&message, self.options.print);
                        // What comes in one go is printed in one go.
                        match self.printed.back_mut() {
                            Some(Printed::Out(lines)) => lines.extend_from_slice(&line),
                            Some(Printed::Err(_)) | None => {
                                self.printed.push_back(Printed::Out(line));
                            }
                        }
                        if self.options.count == Some(self.received) {
                            self.verdict = self.verdict.or(Some(exit::CLEAN));
                            self.close_connection(now);
                        }
                    }
                }
                Event::Pong(coarse) => {
                    if self.options.ping.is_some() {
                        let took = self.pinged.take().map_or(coarse, |pinged| now - pinged);
                        self.notice(&format!("pong after {:.3} ms", took.as_secs_f64() * 1000.0));
                        if self.close_at.is_some() {
                            self.close(now);
                        }
                    }
                }
                Event::Ping => {}
            }
        }
    }

    /// Begins to close: where there is no closing handshake, by the end of our stream, so that answers can still come.
    fn close(&mut self, now: Now) {
        self.close_at = None;
        self.next_ping = None;
        match &self.phase {
            Phase::Open(connection) if !connection.version().has_closing_handshake() => {
                if connection.closed().is_none() && self.ends_by.is_none() {
                    self.ends_by = Some(now + self.options.close_timeout);
                }
            }
            Phase::Open(_) => self.close_connection(now),
            Phase::Handshake(_) | Phase::Refused(_) | Phase::Over => {}
        }
    }

    fn close_connection(&mut self, now: Now) {
        self.next_ping = None;
        let Phase::Open(connection) = &mut self.phase else {
            return;
        };
        let code = self.options.code().unwrap_or(CloseCode::NORMAL);
        let reason = self.options.reason.as_deref().unwrap_or_default();
        connection.close(at(now), code, reason, &mut self.out);
        self.settle();
    }

    /// Sees whether the connection has ended, and says how.
    fn settle(&mut self) {
        let Phase::Open(connection) = &self.phase else {
            return;
        };
        let Some(closed) = connection.closed().cloned() else {
            return;
        };
        // In 76 whoever began closes TCP; else that is the server's part, and what it still sends must not meet a reset.
        self.lingers = connection.version() != Version::Hixie76
            || matches!(closed.cause, Cause::ClosedByPeer | Cause::Protocol(_));
        let (code, how) = judge(&closed, connection.version());
        let is_short = code == exit::CLEAN
            && (self.options.count).is_some_and(|count| self.received < count)
            && self.verdict.is_none();
        if is_short {
            let count = self.options.count.unwrap_or_default();
            let how = format!("{how}, after {} of {count} messages", self.received);
            return self.end(exit::LOST, &how);
        }
        self.end(code, &how);
    }

    fn fail_handshake(&mut self, error: ClientError) {
        self.show_answer();
        let code = match error {
            ClientError::Timeout => exit::TIMEOUT,
            ClientError::Eof => exit::LOST,
            ClientError::Head(_)
            | ClientError::Status(_)
            | ClientError::Upgrade
            | ClientError::Proof
            | ClientError::Origin
            | ClientError::Location
            | ClientError::Protocol
            | ClientError::Extension
            | _ => exit::PROTOCOL,
        };
        self.end(code, &error.to_string());
    }

    fn end_refused(&mut self) {
        let Phase::Refused(refused) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return;
        };
        let line = self.answer.split(|byte| *byte == b'\r').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
        self.end(exit::REFUSED, &format!("refused: {line}"));
        let mut body = refused.into_body();
        if !body.is_empty() {
            if body.last() != Some(&b'\n') {
                body.push(b'\n');
            }
            self.printed.push_back(Printed::Err(body));
        }
    }

    /// Ends, by the code decided before or else by this one. Good news is told only where it is wanted.
    fn end(&mut self, code: u8, how: &str) {
        if self.exit.is_some() {
            return;
        }
        if code != exit::CLEAN || !self.options.quiet {
            self.notice(how);
        }
        self.exit = Some(match (self.verdict, code) {
            // What the server broke counts before what we wanted; that it took its time to close does not.
            (Some(exit::CLEAN), exit::PROTOCOL) | (None, _) => code,
            (Some(verdict), _) => verdict,
        });
        self.phase = Phase::Over;
    }

    fn notice(&mut self, text: &str) {
        let line = format!("ws-worker: {text}\n");
        self.printed.push_back(Printed::Err(line.into_bytes()));
    }

    fn show_answer(&mut self) {
        let answer = std::mem::take(&mut self.answer);
        self.show_head('<', &answer);
        self.answer = answer;
    }

    /// Shows a head line by line, and what follows it in hex: hixie-76's eight and sixteen bytes.
    fn show_head(&mut self, mark: char, head: &[u8]) {
        if !self.options.verbose || head.is_empty() {
            return;
        }
        let end = head.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, behind) = head
            .split_at_checked(end.map_or(head.len(), |end| end + 4))
            .unwrap_or((head, &[]));
        let mut text = String::new();
        for line in String::from_utf8_lossy(head).trim_end().lines() {
            text += &format!("{mark} {}\n", line.escape_debug());
        }
        if !behind.is_empty() {
            text += &format!("{mark} hex:{}\n", hex(behind));
        }
        self.printed.push_back(Printed::Err(text.into_bytes()));
    }
}

/// Says what an end is worth, and puts it into words.
fn judge(closed: &Closed, version: Version) -> (u8, String) {
    let code = closed.code.map_or(String::new(), |code| format!(" {code}"));
    let reason = match closed.reason.as_str() {
        "" => String::new(),
        reason => format!(" {}", reason.escape_debug()),
    };
    match closed.cause {
        Cause::ClosedByUs if closed.clean => (exit::CLEAN, "closed".to_owned()),
        // Servers of that time just dropped TCP, and so did browsers.
        Cause::ClosedByUs if version == Version::Hixie76 => {
            (exit::CLEAN, "closed, unanswered".to_owned())
        }
        Cause::ClosedByUs => (exit::LOST, "lost while closing".to_owned()),
        Cause::ClosedByPeer => {
            let is_fine = closed
                .code
                .is_none_or(|code| matches!(code, CloseCode::NORMAL | CloseCode::GOING_AWAY));
            let exit = if is_fine { exit::CLEAN } else { exit::CLOSED };
            (
                exit,
                format!("closed by the server:{code}{reason}")
                    .trim_end_matches(':')
                    .to_owned(),
            )
        }
        Cause::Eof if closed.clean => (exit::CLEAN, "closed by the server".to_owned()),
        Cause::Eof => (
            exit::LOST,
            "lost: the server's stream ended without a closing handshake".to_owned(),
        ),
        Cause::Protocol(error) => (
            exit::PROTOCOL,
            format!("the server broke the protocol: {error}"),
        ),
        Cause::PongMissed => (exit::LOST, "lost: the server is silent".to_owned()),
        Cause::CloseTimeout => (
            exit::TIMEOUT,
            "the server does not answer the closing handshake".to_owned(),
        ),
        Cause::Idle | _ => (exit::LOST, "lost".to_owned()),
    }
}

fn to_line(message: &Message<'_>, print: Print) -> Vec<u8> {
    match (message, print) {
        (Message::Text(text), _) => format!("{text}\n").into_bytes(),
        (Message::Binary(bytes), Print::Hex) => format!("hex:{}\n", hex(bytes)).into_bytes(),
        (Message::Binary(bytes), Print::Base64) => {
            format!("base64:{}\n", STANDARD.encode(bytes)).into_bytes()
        }
        (Message::Binary(bytes), Print::Raw) => bytes.to_vec(),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // A String takes everything.
    }
    text
}

#[cfg(test)]
mod tests;
