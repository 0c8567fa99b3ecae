//! The opening handshake, client role, in all five versions: for tests and load. Randomness is passed in.
//! Knows no URLs, no redirects and no proxies; it opens nothing and asks once.

use crate::connection::{Connection, Role};
use crate::deflate::{DeflateOffer, DeflateParameters, negotiate};
use crate::digest::{self, Dice};
use crate::error::HeadError;
use crate::handshake::{self, hixie};
use crate::head::{Fields, HeadBuffer, ResponseLayout, protocol_header};
use crate::headers::{Headers, InvalidHeader, is_end_to_end, is_host, is_token, write_line};
use crate::input::{Input, Output};
use crate::limits::Limits;
use crate::server::Ready;
use crate::time::Instant;
use crate::version::{Framing, Version};
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Random bytes for the keys of one handshake, and for the masking keys of the connection.
///
/// ```
/// # use ws_proto::{ClientHandshake, ClientOptions, Instant, Nonce, Version};
/// let mut bytes = [0; 64];
/// // Here a random number generator fills them.
/// # bytes.fill(7);
/// let options = ClientOptions::new(Version::Rfc6455, "example.com", "/chat");
/// assert!(ClientHandshake::new(Instant::at(0), options, &Nonce(bytes)).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Nonce(pub [u8; 64]);

/// What a client asks for.
///
/// ```
/// # use ws_proto::{ClientOptions, Version};
/// let mut options = ClientOptions::new(Version::Hixie76, "example.com:8080", "/chat?room=1");
/// options.origin = Some("http://example.com".into());
/// options.headers.add("Cookie", "session=1")?;
/// # Ok::<(), ws_proto::InvalidHeader>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// The version to speak.
    pub version: Version,
    /// The URL's host, with its port unless that is the scheme's own.
    pub host: String,
    /// The URL's path and query; it begins with a slash.
    pub target: String,
    /// Whether the URL's scheme is `wss`: 75 and 76 compare it with the answer.
    pub secure: bool,
    /// The origin to name.
    pub origin: Option<String>,
    /// Subprotocols to offer; 75 and 76 can offer one.
    pub protocols: Vec<String>,
    /// permessage-deflate as it is to be offered (RFC 6455 and feature `deflate` only); none.
    pub deflate: Option<DeflateOffer>,
    /// More headers, such as `Cookie`.
    pub headers: Headers,
    /// Whether to take what proxies make of an answer: in 75 any order and spelling, in 75 and 76 any location and no
    /// subprotocol where one was asked for.
    pub relaxed: bool,
    /// From [`ClientHandshake::new`] until open; 10 s.
    pub timeout: Duration,
    /// The answer's status line and headers together, in bytes; 16 KiB.
    pub max_head: usize,
}

impl ClientOptions {
    /// Asks for this version at this host and target, and for nothing else.
    #[must_use]
    pub fn new(version: Version, host: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            version,
            host: host.into(),
            target: target.into(),
            secure: false,
            origin: None,
            protocols: Vec::new(),
            deflate: None,
            headers: Headers::default(),
            relaxed: false,
            timeout: Duration::from_secs(10),
            max_head: 16 * 1024,
        }
    }

    /// Returns the offer that is made in this version.
    fn offer(&self) -> Option<&DeflateOffer> {
        let deflate = self.deflate.as_ref();
        deflate.filter(|_| cfg!(feature = "deflate") && self.version == Version::Rfc6455)
    }

    fn location(&self) -> String {
        let scheme = if self.secure { "wss://" } else { "ws://" };
        [scheme, &self.host, &self.target].concat()
    }

    /// Checks that nothing here can break the request.
    fn check(&self) -> Result<(), InvalidHeader> {
        let framing = self.version.framing();
        let is_protocol = |name: &String| match framing {
            Framing::Hybi => is_token(name.as_bytes()),
            Framing::Hixie => !name.is_empty() && handshake::is_plain_text(name.as_bytes()),
        };
        let is_ours = |name: &str| {
            !is_end_to_end(name)
                || name.eq_ignore_ascii_case("host")
                || name.eq_ignore_ascii_case("origin")
        };
        let is_fine = is_host(self.host.as_bytes())
            && self.target.starts_with('/')
            && self.target.bytes().all(|byte| byte.is_ascii_graphic())
            && !self.target.contains('#')
            && self.origin.as_ref().is_none_or(|origin| {
                handshake::is_plain_text(origin.as_bytes()) && origin.trim() == origin
            })
            && self.protocols.iter().all(is_protocol)
            && (framing == Framing::Hybi || self.protocols.len() <= 1)
            && !self.headers.iter().any(|(name, _)| is_ours(name));
        if is_fine { Ok(()) } else { Err(InvalidHeader) }
    }
}

/// Why a server's answer opens nothing.
///
/// ```
/// # use ws_proto::{ClientError, ClientHandshake, ClientOptions, Input, Instant, Nonce, Output, Version};
/// let options = ClientOptions::new(Version::Rfc6455, "example.com", "/");
/// let mut handshake = ClientHandshake::new(Instant::at(0), options, &Nonce([7; 64])).unwrap();
/// let mut answer = *b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
/// let result = handshake.receive(Instant::at(1), &mut Input::new(&mut answer), &mut Output::default());
/// assert_eq!(result, Err(ClientError::Status(403)));
/// assert_eq!(handshake.header("content-length"), Some("0"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The answer is no proper HTTP/1.1 head.
    Head(HeadError),
    /// Another status than 101: [`ClientHandshake::headers`] has the headers, what follows them is the body.
    Status(u16),
    /// The status line, `Upgrade` or `Connection` is not what this version wants.
    Upgrade,
    /// The proof is wrong: `Sec-WebSocket-Accept`, or hixie-76's sixteen bytes.
    Proof,
    /// 75 and 76: the origin came back changed.
    Origin,
    /// 75 and 76: the location is not the URL.
    Location,
    /// A subprotocol that was not offered.
    Protocol,
    /// An extension that was not offered, or not in this way.
    Extension,
    /// Not open in time.
    Timeout,
    /// The stream ended.
    Eof,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => write!(f, "the answer's head: {}", error.name()),
            Self::Status(status) => write!(f, "the answer's status is {status}"),
            Self::Upgrade => f.write_str("the answer does not upgrade as this version does"),
            Self::Proof => f.write_str("the server did not understand the key"),
            Self::Origin => f.write_str("the answer names another origin"),
            Self::Location => f.write_str("the answer names another location"),
            Self::Protocol => f.write_str("the answer names a subprotocol that was not offered"),
            Self::Extension => f.write_str("the answer does not follow the extensions offered"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Eof => f.write_str("the stream ended before the answer was whole"),
        }
    }
}

impl core::error::Error for ClientError {}

/// An opening handshake, client role.
///
/// Both roles, without a wire between them:
///
/// ```
/// # use std::sync::Arc;
/// # use ws_proto::{Answer, ClientHandshake, ClientOptions, Event, Handshake, HeadLimits, Input, Instant};
/// # use ws_proto::{Limits, Message, Nonce, Output, Ready, Version};
/// let (now, heads, limits) = (Instant::at(0), HeadLimits::default(), Arc::new(Limits::default()));
/// let (mut request, mut answer) = (Output::default(), Output::default());
/// let mut options = ClientOptions::new(Version::Rfc6455, "example.com", "/chat");
/// options.protocols.push("talk".into());
/// let mut client = ClientHandshake::new(now, options, &Nonce([7; 64])).unwrap();
/// client.start(&mut request);
///
/// let mut server = Handshake::new(now, &heads);
/// let mut bytes = request.take();
/// assert_eq!(server.receive(now, &heads, &mut Input::new(&mut bytes), &mut answer), Ok(Some(Ready::Request)));
/// let talk = Answer { protocol: Some("talk".into()), ..Answer::default() };
/// server.accept(now, &talk, Arc::clone(&limits), &mut answer).unwrap();
/// let mut server = server.into_connection(now).unwrap();
///
/// let mut bytes = answer.take();
/// assert_eq!(client.receive(now, &mut Input::new(&mut bytes), &mut request), Ok(Some(Ready::Open)));
/// assert_eq!((client.status(), client.protocol()), (Some(101), Some("talk")));
/// let mut client = client.into_connection(now, limits).unwrap();
///
/// client.send(now, Message::text("hello"), &mut request).unwrap();
/// let mut bytes = request.take();
/// let event = server.receive(now, &mut Input::new(&mut bytes), &mut answer);
/// assert_eq!(event, Some(Event::Message(Message::text("hello"))));
/// ```
#[derive(Debug)]
pub struct ClientHandshake {
    options: Arc<ClientOptions>,
    deadline: Instant,
    request: Vec<u8>,
    proof: Proof,
    mask_seed: [u8; 16],
    head: HeadBuffer,
    layout: Option<ResponseLayout>,
    deflate: Option<DeflateParameters>,
    state: State,
}

/// What shows that the server read the request as a WebSocket's.
#[derive(Clone, Copy, Debug)]
enum Proof {
    /// 75 has none.
    None,
    /// hixie-76: these bytes behind the head.
    Bytes([u8; 16]),
    /// The value of `Sec-WebSocket-Accept`.
    Accept([u8; 28]),
}

#[derive(Debug)]
enum State {
    Head,
    /// hixie-76: the head is fine, so many of the sixteen bytes are here, all of them right.
    Proof {
        expected: [u8; 16],
        have: usize,
    },
    Open,
    Failed(ClientError),
}

impl ClientHandshake {
    /// Makes the request. One `Arc` of options serves as many clients as wanted.
    ///
    /// # Errors
    /// The caller's fault: something in the options would break the request, or does not belong there.
    pub fn new(
        now: Instant,
        options: impl Into<Arc<ClientOptions>>,
        nonce: &Nonce,
    ) -> Result<Self, InvalidHeader> {
        let options = options.into();
        options.check()?;
        let [key, mask_seed, ..] = nonce.0.as_chunks::<16>().0 else {
            return Err(InvalidHeader); // 64 bytes are four chunks.
        };
        let mut request = Vec::with_capacity(512);
        let proof = write_request(&options, *key, nonce, &mut request);
        Ok(Self {
            deadline: now + options.timeout,
            request,
            proof,
            mask_seed: *mask_seed,
            head: HeadBuffer::default(),
            layout: None,
            deflate: None,
            state: State::Head,
            options,
        })
    }

    /// Appends the request, once; in 76 the eight bytes with it.
    pub fn start(&mut self, out: &mut Output) {
        out.extend_from_slice(&core::mem::take(&mut self.request));
    }

    /// Takes bytes of the answer and not one more; [`Ready::Open`] once, and as often as it is asked again.
    /// `now` and `out` stand here as in every other `receive`: no bytes are owed, and no bytes move the deadline.
    ///
    /// # Errors
    /// The server's fault: close.
    pub fn receive(
        &mut self,
        now: Instant,
        input: &mut Input<'_>,
        out: &mut Output,
    ) -> Result<Option<Ready>, ClientError> {
        let _ = (now, out);
        let result = self.advance(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    fn advance(&mut self, input: &mut Input<'_>) -> Result<Option<Ready>, ClientError> {
        if let State::Head = self.state {
            let is_whole =
                (self.head.collect(input, self.options.max_head)).map_err(ClientError::Head)?;
            if !is_whole {
                return Ok(None);
            }
            let bytes = self.head.as_slice();
            let layout = ResponseLayout::parse(bytes, 128).map_err(ClientError::Head)?;
            self.layout = Some(layout);
            self.deflate = self.check_answer()?;
            self.state = match self.proof {
                Proof::Bytes(expected) => State::Proof { expected, have: 0 },
                Proof::None | Proof::Accept(_) => State::Open,
            };
        }
        match &mut self.state {
            State::Head => Ok(None),
            State::Proof { expected, have } => {
                let rest = expected.get(*have..).unwrap_or_default();
                let taken = input.take(rest.len());
                if rest.get(..taken.len()) != Some(&*taken) {
                    return Err(ClientError::Proof);
                }
                if taken.len() < rest.len() {
                    *have += taken.len();
                    return Ok(None);
                }
                self.state = State::Open;
                Ok(Some(Ready::Open))
            }
            State::Open => Ok(Some(Ready::Open)),
            State::Failed(error) => Err(*error),
        }
    }

    /// Checks the head as this version's draft demands, and returns what was agreed beyond it.
    /// [hixie-75, 4.1] [hixie-76, 4.1, steps 28 to 43] [RFC 6455, 4.1]
    fn check_answer(&self) -> Result<Option<DeflateParameters>, ClientError> {
        let Some(fields) = self.fields() else {
            return Ok(None);
        };
        let options = &*self.options;
        let status = self.status().unwrap_or_default();
        if status != 101 {
            return Err(ClientError::Status(status));
        }
        let single = |name: &str| fields.single(name).map_err(ClientError::Head);
        let is_exact = options.version != Version::Hixie75
            || options.relaxed
            || self.head.as_slice().starts_with(
                b"HTTP/1.1 101 Web Socket Protocol Handshake\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n",
            );
        let is_upgrade =
            single("upgrade")?.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
        if !is_exact || !is_upgrade || !fields.lists("connection", "upgrade") {
            return Err(ClientError::Upgrade);
        }
        let mut deflate = None;
        match self.proof {
            Proof::Accept(accept) => {
                if single("sec-websocket-accept")? != Some(&accept) {
                    return Err(ClientError::Proof);
                }
                let values = fields.values(negotiate::HEADER);
                deflate = negotiate::check(values, options.offer())
                    .map_err(|_| ClientError::Extension)?;
            }
            Proof::None => {
                self.check_echo(single("websocket-origin")?, single("websocket-location")?)?;
            }
            Proof::Bytes(_) => {
                let origin = single("sec-websocket-origin")?;
                self.check_echo(origin, single("sec-websocket-location")?)?;
            }
        }
        let is_offered = match single(protocol_header(options.version))? {
            Some(chosen) => (options.protocols.iter()).any(|offered| offered.as_bytes() == chosen),
            None => {
                options.version.framing() == Framing::Hybi
                    || options.relaxed
                    || options.protocols.is_empty()
            }
        };
        if is_offered {
            Ok(deflate)
        } else {
            Err(ClientError::Protocol)
        }
    }

    /// Checks what 75 and 76 have a server say back.
    fn check_echo(
        &self,
        origin: Option<&[u8]>,
        location: Option<&[u8]>,
    ) -> Result<(), ClientError> {
        let options = &*self.options;
        if options.origin.as_deref().map(str::as_bytes) != origin {
            return Err(ClientError::Origin);
        }
        if !options.relaxed && location != Some(options.location().as_bytes()) {
            return Err(ClientError::Location);
        }
        Ok(())
    }

    fn fields(&self) -> Option<Fields<'_>> {
        let layout = self.layout.as_ref()?;
        Some(layout.fields(self.head.as_slice()))
    }

    /// Returns the answer's status, once its head is whole.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.layout.as_ref().map(ResponseLayout::status)
    }

    /// Walks through the answer's headers, once its head is whole.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields().into_iter().flat_map(Fields::iter)
    }

    /// Returns the first value under this name (any case) in the answer, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.fields()?.values(name).next()?;
        core::str::from_utf8(value).ok()
    }

    /// Returns the subprotocol the server chose, once it is known.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.header(protocol_header(self.options.version))
    }

    /// Returns whether [`into_connection`](Self::into_connection) may be called.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Becomes the connection. `None` unless it is open.
    #[must_use]
    pub fn into_connection(self, now: Instant, limits: Arc<Limits>) -> Option<Connection> {
        let mask_seed = self.mask_seed;
        let role = Role::Client { mask_seed };
        if !self.is_open() {
            return None;
        }
        let connection = Connection::new(now, self.options.version, role, limits);
        Some(match self.deflate {
            Some(parameters) => connection.deflating(parameters),
            None => connection,
        })
    }

    /// Says what the end of the server's stream means.
    ///
    /// # Errors
    /// [`ClientError::Eof`], or what it failed with before; none once open.
    pub fn handle_eof(&mut self, now: Instant) -> Result<(), ClientError> {
        let _ = now;
        self.fail(ClientError::Eof)
    }

    /// Says what `now` demands. Early and repeated calls are harmless.
    ///
    /// # Errors
    /// [`ClientError::Timeout`]: the deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        self.fail(ClientError::Timeout)
    }

    fn fail(&mut self, error: ClientError) -> Result<(), ClientError> {
        match self.state {
            State::Head | State::Proof { .. } => {
                self.state = State::Failed(error);
                Err(error)
            }
            State::Open => Ok(()),
            State::Failed(error) => Err(error),
        }
    }

    /// Returns the deadline, while something is waited for.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Head | State::Proof { .. } => Some(self.deadline),
            State::Open | State::Failed(_) => None,
        }
    }
}

/// Appends a request in the order of the browsers that spoke the version, and returns what proves an answer to it.
fn write_request(
    options: &ClientOptions,
    key: [u8; 16],
    nonce: &Nonce,
    bytes: &mut Vec<u8>,
) -> Proof {
    let version = options.version;
    bytes.extend_from_slice(b"GET ");
    bytes.extend_from_slice(options.target.as_bytes());
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    let upgrade: &[u8] = match version.framing() {
        Framing::Hixie => b"WebSocket",
        Framing::Hybi => b"websocket",
    };
    write_line("Upgrade", upgrade, bytes);
    write_line("Connection", b"Upgrade", bytes);
    write_line("Host", options.host.as_bytes(), bytes);
    if let Some(origin) = &options.origin {
        let name = match version {
            Version::Hybi07 | Version::Hybi08 => "Sec-WebSocket-Origin",
            Version::Hixie75 | Version::Hixie76 | Version::Rfc6455 => "Origin",
        };
        write_line(name, origin.as_bytes(), bytes);
    }
    if !options.protocols.is_empty() {
        let protocols = options.protocols.join(", ");
        write_line(protocol_header(version), protocols.as_bytes(), bytes);
    }
    if let Some(offer) = options.offer() {
        bytes.extend_from_slice(b"Sec-WebSocket-Extensions: ");
        negotiate::write_offer(offer, bytes);
        bytes.extend_from_slice(b"\r\n");
    }
    for (name, value) in options.headers.iter() {
        write_line(name, value, bytes);
    }
    match version {
        Version::Hixie75 => {
            bytes.extend_from_slice(b"\r\n");
            Proof::None
        }
        Version::Hixie76 => write_challenge(nonce, bytes),
        Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => {
            let key = digest::encode_key(key);
            write_line("Sec-WebSocket-Key", &key, bytes);
            let number = version.number().to_string();
            write_line("Sec-WebSocket-Version", number.as_bytes(), bytes);
            bytes.extend_from_slice(b"\r\n");
            Proof::Accept(digest::accept_key(&key))
        }
    }
}

/// Appends hixie-76's two keys, the end of the head, and the eight bytes. [hixie-76, 4.1, steps 16 to 26]
fn write_challenge(nonce: &Nonce, bytes: &mut Vec<u8>) -> Proof {
    let mut dice = Dice::new(&nonce.0);
    let mut numbers = [0; 2];
    for (name, number) in ["Sec-WebSocket-Key1", "Sec-WebSocket-Key2"]
        .into_iter()
        .zip(&mut numbers)
    {
        let spaces = 1 + dice.up_to(11);
        *number = dice.up_to(u32::MAX / spaces);
        write_line(name, &hixie::make_key(*number, spaces, &mut dice), bytes);
    }
    bytes.extend_from_slice(b"\r\n");
    let last: [u8; 8] = core::array::from_fn(|_| dice.up_to(255) as u8);
    bytes.extend_from_slice(&last);
    Proof::Bytes(digest::challenge_answer(numbers, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(version: Version) -> ClientOptions {
        ClientOptions {
            origin: Some("http://example.com".into()),
            protocols: alloc::vec!["chat".into()],
            ..ClientOptions::new(version, "example.com", "/a?b")
        }
    }

    fn check(options: ClientOptions, answer: &str) -> Result<Option<Ready>, ClientError> {
        let mut client =
            ClientHandshake::new(Instant::at(0), options, &Nonce([7; 64])).expect("fine options");
        let accept = match client.proof {
            Proof::Accept(accept) => accept,
            Proof::None | Proof::Bytes(_) => [0; 28],
        };
        let accept = core::str::from_utf8(&accept).expect("base64");
        let answer = answer.replace("ACCEPT", accept).replace('\n', "\r\n");
        let mut bytes = answer.into_bytes();
        if let Proof::Bytes(proof) = client.proof {
            bytes.extend_from_slice(&proof);
        }
        let mut input = Input::new(&mut bytes);
        let result = client.receive(Instant::at(0), &mut input, &mut Output::default());
        assert_eq!(client.is_open(), result == Ok(Some(Ready::Open)));
        assert!(result.is_err() || input.is_empty());
        result
    }

    /// What a right answer says once, it may not say twice.
    fn check_doubled(version: Version, answer: &str) {
        let lines = answer.split_inclusive('\n').skip(1);
        for line in lines.filter(|line| *line != "\n" && !line.starts_with("Connection")) {
            let twice = answer.replace(line, &line.repeat(2));
            let refused = Err(ClientError::Head(HeadError::Duplicate));
            assert_eq!(check(options(version), &twice), refused, "{twice}");
        }
    }

    const OPEN: Result<Option<Ready>, ClientError> = Ok(Some(Ready::Open));

    #[test]
    fn a_client_of_rfc_6455_takes_a_right_answer_and_no_other() {
        let head = "HTTP/1.1 101 Welcome\nUpgrade: WebSocket\nConnection: close, upgrade\n";
        let accept = "Sec-WebSocket-Accept: ACCEPT\n";
        let chosen = "Sec-WebSocket-Protocol: chat\n";
        check_doubled(
            Version::Rfc6455,
            &alloc::format!("{head}{accept}{chosen}\n"),
        );
        for (answer, expected) in [
            (alloc::format!("{head}{accept}\n"), OPEN),
            (
                alloc::format!("{head}{accept}Sec-WebSocket-Protocol: chat\n\n"),
                OPEN,
            ),
            (
                alloc::format!("{head}{accept}Sec-WebSocket-Protocol: Chat\n\n"),
                Err(ClientError::Protocol),
            ),
            (
                alloc::format!("{head}{accept}Sec-WebSocket-Extensions: x\n\n"),
                Err(ClientError::Extension),
            ),
            (
                alloc::format!("{head}Sec-WebSocket-Accept: accept\n\n"),
                Err(ClientError::Proof),
            ),
            (alloc::format!("{head}\n"), Err(ClientError::Proof)),
            (
                alloc::format!("HTTP/1.1 101 OK\n{accept}\n"),
                Err(ClientError::Upgrade),
            ),
            (
                "HTTP/1.1 403 Forbidden\n\n".into(),
                Err(ClientError::Status(403)),
            ),
            (
                "HTTP/1.0 101 OK\n\n".into(),
                Err(ClientError::Head(HeadError::HttpVersion)),
            ),
        ] {
            assert_eq!(
                check(options(Version::Rfc6455), &answer),
                expected,
                "{answer}"
            );
        }
    }

    #[test]
    fn an_answer_names_the_upgrade_and_the_connection() {
        for lines in [
            "Upgrade: websocket\n",
            "Connection: upgrade\n",
            "Upgrade: h2c\nConnection: upgrade\n",
            "Upgrade: websocket\nConnection: close\n",
        ] {
            let answer = alloc::format!("HTTP/1.1 101 OK\n{lines}Sec-WebSocket-Accept: ACCEPT\n\n");
            assert_eq!(
                check(options(Version::Rfc6455), &answer),
                Err(ClientError::Upgrade),
                "{answer}"
            );
        }
    }

    #[test]
    fn only_rfc_6455_is_offered_compression() {
        for version in Version::ALL {
            let options = ClientOptions {
                deflate: Some(DeflateOffer::default()),
                ..options(version)
            };
            let mut client = ClientHandshake::new(Instant::at(0), options, &Nonce([7; 64]))
                .expect("fine options");
            let mut out = Output::default();
            client.start(&mut out);
            let request = String::from_utf8_lossy(out.as_slice());
            let offers = cfg!(feature = "deflate") && version == Version::Rfc6455;
            assert_eq!(request.contains("Extensions"), offers, "{request}");
        }
    }

    #[test]
    fn a_client_of_hixie_75_compares_three_lines_and_the_echo() {
        let head =
            "HTTP/1.1 101 Web Socket Protocol Handshake\nUpgrade: WebSocket\nConnection: Upgrade\n";
        let origin = "WebSocket-Origin: http://example.com\n";
        let location = "WebSocket-Location: ws://example.com/a?b\n";
        let protocol = "WebSocket-Protocol: chat\n";
        let whole = alloc::format!("{head}{origin}{location}{protocol}\n");
        assert_eq!(check(options(Version::Hixie75), &whole), OPEN);
        check_doubled(Version::Hixie75, &whole);
        for (from, to, expected) in [
            ("Web Socket P", "WebSocket P", ClientError::Upgrade),
            (": WebSocket\n", ": websocket\n", ClientError::Upgrade),
            ("example.com\nW", "example.com:80\nW", ClientError::Origin),
            ("ws://", "wss://", ClientError::Location),
            ("chat", "other", ClientError::Protocol),
            (protocol, "", ClientError::Protocol),
            (origin, "Server: x\n", ClientError::Origin),
        ] {
            let answer = whole.replace(from, to);
            assert_eq!(
                check(options(Version::Hixie75), &answer),
                Err(expected),
                "{answer}"
            );
        }
        let relaxed = ClientOptions {
            relaxed: true,
            ..options(Version::Hixie75)
        };
        // As nginx hands it on.
        let answer = alloc::format!(
            "HTTP/1.1 101 Web Socket Protocol Handshake\nServer: nginx\nConnection: upgrade\nUpgrade: WebSocket\n{origin}\n"
        );
        assert_eq!(check(relaxed, &answer), OPEN);
    }

    #[test]
    fn a_client_of_hixie_76_wants_sixteen_bytes() {
        let head = "HTTP/1.1 101 x\nUpgrade: WebSocket\nConnection: Upgrade\nSec-WebSocket-Origin: http://example.com\n\
                    Sec-WebSocket-Location: ws://example.com/a?b\nSec-WebSocket-Protocol: chat\n\n";
        assert_eq!(check(options(Version::Hixie76), head), OPEN);
        check_doubled(Version::Hixie76, head);
        let wrong = alloc::format!("{head}0123456789abcdef");
        assert_eq!(
            check(options(Version::Hixie76), &wrong),
            Err(ClientError::Proof)
        );
    }

    #[test]
    fn nothing_in_the_options_breaks_the_request() {
        let refused = |change: fn(&mut ClientOptions)| {
            let mut options = options(Version::Rfc6455);
            change(&mut options);
            ClientHandshake::new(Instant::at(0), options, &Nonce([0; 64])).is_err()
        };
        assert!(!refused(|_| {}));
        assert!(refused(|options| options.host = "a\r\nb".into()));
        assert!(refused(|options| options.target = "a".into()));
        assert!(refused(|options| options.target = "/a b".into()));
        assert!(refused(|options| options.target = "/a#b".into()));
        assert!(refused(|options| options.origin = Some("a\nb".into())));
        assert!(refused(
            |options| options.protocols = alloc::vec!["a b".into()]
        ));
        assert!(refused(|options| {
            options.version = Version::Hixie76;
            options.protocols.push("second".into());
        }));
        for protocol in ["", "a\nb"] {
            let mut options = options(Version::Hixie76);
            options.protocols = alloc::vec![protocol.into()];
            let made = ClientHandshake::new(Instant::at(0), options, &Nonce([0; 64]));
            assert!(made.is_err(), "{protocol:?}");
        }
        assert!(refused(|options| {
            let added = options.headers.add("Host", "other");
            assert_eq!(added, Ok(()));
        }));
    }

    #[test]
    fn a_silent_server_is_given_up_and_an_early_call_is_harmless() {
        let mut client =
            ClientHandshake::new(Instant::at(5), options(Version::Hixie75), &Nonce([0; 64]))
                .expect("fine options");
        assert_eq!(client.poll_timeout(), Some(Instant::at(10_005)));
        assert_eq!(client.handle_timeout(Instant::at(10_004)), Ok(()));
        let late = Instant::at(10_005);
        assert_eq!(client.handle_timeout(late), Err(ClientError::Timeout));
        assert_eq!(client.poll_timeout(), None);
        assert_eq!(client.handle_eof(late), Err(ClientError::Timeout));
    }
}
