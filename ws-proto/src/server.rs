//! The opening handshake, server role: bytes → request → accept or refuse → connection.
//! Takes the head (and hixie-76's eight bytes) and not one byte more; knows no routes and makes no decision of its own.

use crate::connection::{Connection, Role};
use crate::deflate::{DeflateParameters, negotiate};
use crate::digest;
use crate::error::{Refusal, SendError};
use crate::handshake::{self, Answer, Asked, hixie, hybi, refusal};
use crate::head::{HeadBuffer, Request, RequestHead, RequestLayout};
use crate::headers::{Rejection, is_end_to_end, is_host, write_line};
use crate::input::{Input, Output};
use crate::limits::{HeadLimits, Limits};
use crate::time::Instant;
use crate::version::{Framing, Version, Versions};
use alloc::sync::Arc;

/// What [`Handshake::receive`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// The request is whole and valid: look at it, then accept or refuse, now or later.
    Request,
    /// The connection is open; for hixie-76 the sixteen bytes are in the output.
    Open,
}

/// An opening handshake, server role.
///
/// It ends in one of three ways: [`is_open`](Self::is_open), a refusal that was answered, or silence.
///
/// ```
/// # use std::sync::Arc;
/// # use ws_proto::{Answer, Handshake, HeadLimits, Input, Instant, Limits, Output, Ready};
/// let (now, heads, mut out) = (Instant::at(0), HeadLimits::default(), Output::default());
/// let mut handshake = Handshake::new(now, &heads);
/// let mut bytes = *b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// let mut input = Input::new(&mut bytes);
/// assert_eq!(handshake.receive(now, &heads, &mut input, &mut out), Ok(Some(Ready::Request)));
/// assert_eq!(handshake.request().unwrap().path(), "/chat");
/// handshake.accept(now, &Answer::default(), Arc::<Limits>::default(), &mut out).unwrap();
/// let connection = handshake.into_connection(now).unwrap();
/// ```
#[derive(Debug)]
pub struct Handshake {
    /// Holds from accept until open, whatever comes.
    deadline: Instant,
    allowed: Versions,
    head: HeadBuffer,
    layout: Option<RequestLayout>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The head is not whole.
    Head,
    /// Somebody decides.
    Deciding(Asked),
    /// hixie-76: the 101 is out, `have` of the eight bytes are here.
    Challenge {
        numbers: [u32; 2],
        bytes: [u8; 8],
        have: usize,
        limits: Arc<Limits>,
    },
    Open {
        version: Version,
        limits: Arc<Limits>,
        deflate: Option<DeflateParameters>,
    },
    /// Something is wrong, and it may still be told.
    Refused(Refusal),
    /// Answered, or past answering.
    Over,
}

impl Handshake {
    /// Begins at the moment of accept. The route is not known yet, so only the bounds of the head are.
    #[must_use]
    pub fn new(now: Instant, limits: &HeadLimits) -> Self {
        Self {
            deadline: now + limits.handshake_timeout,
            allowed: limits.versions,
            head: HeadBuffer::default(),
            layout: None,
            state: State::Head,
        }
    }

    /// Takes bytes of the head, or of hixie-76's challenge after [`accept`](Self::accept). `limits` are those given to
    /// [`new`](Self::new). While somebody decides it takes nothing and returns `None`; once open, nothing and `Open`.
    ///
    /// # Errors
    /// The client's fault: answer with [`refuse`](Self::refuse), flush, close; take nothing more.
    pub fn receive(
        &mut self,
        now: Instant,
        limits: &HeadLimits,
        input: &mut Input<'_>,
        out: &mut Output,
    ) -> Result<Option<Ready>, Refusal> {
        let _ = now; // The deadline is not moved by bytes, and what came in time is not late.
        match &mut self.state {
            State::Head => {}
            State::Deciding(_) => return Ok(None),
            State::Challenge {
                numbers,
                bytes,
                have,
                limits,
            } => {
                let taken = input.take(bytes.len().saturating_sub(*have));
                for (to, from) in bytes.iter_mut().skip(*have).zip(taken.iter()) {
                    *to = *from;
                    *have += 1;
                }
                if *have < bytes.len() {
                    return Ok(None);
                }
                out.extend_from_slice(&digest::challenge_answer(*numbers, *bytes));
                self.state = State::Open {
                    version: Version::Hixie76,
                    limits: Arc::clone(limits),
                    deflate: None,
                };
                return Ok(Some(Ready::Open));
            }
            State::Open { .. } => return Ok(Some(Ready::Open)),
            State::Refused(refusal) => return Err(*refusal),
            State::Over => return Err(Refusal::Silent),
        }
        let result = match self.head.collect(input, limits.max_head) {
            Ok(false) => return Ok(None),
            Ok(true) => self.read_head(limits),
            Err(error) => Err(Refusal::Head(error)),
        };
        match result {
            Ok(asked) => {
                self.state = State::Deciding(asked);
                Ok(Some(Ready::Request))
            }
            Err(refusal) => {
                self.state = State::Refused(refusal);
                Err(refusal)
            }
        }
    }

    fn read_head(&mut self, limits: &HeadLimits) -> Result<Asked, Refusal> {
        let bytes = self.head.as_slice();
        let layout = RequestLayout::parse(bytes, limits.max_headers).map_err(Refusal::Head)?;
        let layout = self.layout.insert(layout);
        handshake::check(RequestHead::new(bytes, layout), limits)
    }

    /// Returns the request, once it is whole and valid, as often as wanted.
    #[must_use]
    pub fn request(&self) -> Option<Request<'_>> {
        let version = match &self.state {
            State::Deciding(asked) => asked.version,
            State::Challenge { .. } => Version::Hixie76,
            State::Open { version, .. } => *version,
            State::Head | State::Refused(_) | State::Over => return None,
        };
        Some(Request::new(self.head()?, version))
    }

    /// Returns the head, once it is whole, also of a request that asks for no WebSocket.
    #[must_use]
    pub fn head(&self) -> Option<RequestHead<'_>> {
        let layout = self.layout.as_ref()?;
        Some(RequestHead::new(self.head.as_slice(), layout))
    }

    /// Answers 101. Open at once but for hixie-76, which waits for its eight bytes: [`is_open`](Self::is_open).
    /// They may be among what was read already: call [`receive`](Self::receive) again.
    ///
    /// # Errors
    /// Our fault: the subprotocol was not offered, a header may not be set, `host` is no host (also
    /// [`SendError::Header`]), or there is nothing to decide. Nothing was written.
    pub fn accept(
        &mut self,
        now: Instant,
        answer: &Answer,
        limits: Arc<Limits>,
        out: &mut Output,
    ) -> Result<(), SendError> {
        let _ = now;
        let (State::Deciding(asked), Some(request)) = (&self.state, self.request()) else {
            return Err(SendError::State);
        };
        let asked = *asked;
        let protocol = answer.protocol.as_deref();
        if protocol.is_some_and(|chosen| request.protocols().all(|offered| offered != chosen)) {
            return Err(SendError::Subprotocol);
        }
        let host = answer.host.as_deref();
        if !answer.headers.iter().all(|(name, _)| is_end_to_end(name))
            || host.is_some_and(|host| !is_host(host.as_bytes()))
        {
            return Err(SendError::Header);
        }
        // Only RFC 6455: extensions of the drafts are others.
        let deflate = limits
            .deflate
            .filter(|_| cfg!(feature = "deflate") && asked.version == Version::Rfc6455)
            .and_then(|deflate| {
                let offers = request.fields().values(negotiate::HEADER);
                negotiate::answer(offers, deflate.takeover && answer.deflate_takeover)
            });
        match asked.version.framing() {
            Framing::Hixie => hixie::write_answer(&request, answer, &mut out.bytes),
            Framing::Hybi => {
                hybi::write_answer(&request, protocol, deflate.as_ref(), &mut out.bytes);
            }
        }
        for (name, value) in answer.headers.iter() {
            write_line(name, value, &mut out.bytes);
        }
        out.extend_from_slice(b"\r\n");
        self.state = if asked.version == Version::Hixie76 {
            // The head goes out before the eight bytes are here: proxies hold them back until they have seen it.
            State::Challenge {
                numbers: asked.numbers,
                bytes: [0; 8],
                have: 0,
                limits,
            }
        } else {
            State::Open {
                version: asked.version,
                limits,
                deflate: deflate.map(|answered| answered.parameters),
            }
        };
        Ok(())
    }

    /// Returns whether [`into_connection`](Self::into_connection) may be called.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Answers a refusal, once; nothing after a 101 and nothing for [`Refusal::Silent`]. `retry_after` in seconds, for 503.
    pub fn refuse(&mut self, refusal: Refusal, retry_after: Option<u32>, out: &mut Output) {
        if self.end() {
            let is_head = self.is_head_request();
            let bytes = &mut out.bytes;
            // A route may have fewer versions on than the handshake was told of.
            let allowed = if let Refusal::Version(on) = refusal {
                on
            } else {
                self.allowed
            };
            refusal::write_refusal(refusal, allowed, retry_after, is_head, bytes);
        }
    }

    /// Answers with the app's own words, once; nothing after a 101.
    pub fn reject(&mut self, rejection: &Rejection, out: &mut Output) {
        if self.end() {
            refusal::write_rejection(rejection, self.is_head_request(), &mut out.bytes);
        }
    }

    /// Ends the handshake unless it is open, and returns whether an answer may be given.
    fn end(&mut self) -> bool {
        let may_answer = match self.state {
            State::Open { .. } => return false,
            State::Head | State::Deciding(_) | State::Refused(_) => true,
            State::Challenge { .. } | State::Over => false,
        };
        self.state = State::Over;
        may_answer
    }

    fn is_head_request(&self) -> bool {
        self.head().is_some_and(|head| head.method() == "HEAD")
    }

    /// Becomes the connection. `None` unless it is open.
    #[must_use]
    pub fn into_connection(self, now: Instant) -> Option<Connection> {
        match self.state {
            State::Open {
                version,
                limits,
                deflate,
            } => {
                let connection = Connection::new(now, version, Role::Server, limits);
                Some(match deflate {
                    Some(parameters) => connection.deflating(parameters),
                    None => connection,
                })
            }
            State::Head
            | State::Deciding(_)
            | State::Challenge { .. }
            | State::Refused(_)
            | State::Over => None,
        }
    }

    /// Says what the end of the peer's stream means: silence, unless it is open already. A client that stops sending
    /// before it has its answer is gone; behind most proxies nothing would reach it.
    ///
    /// # Errors
    /// [`Refusal::Silent`]: close.
    pub fn handle_eof(&mut self, now: Instant) -> Result<(), Refusal> {
        let _ = now;
        if self.is_open() {
            return Ok(());
        }
        self.state = State::Over;
        Err(Refusal::Silent)
    }

    /// Says what `now` demands: 408 without a whole head, 503 if the app was silent, silence if hixie-76's bytes are
    /// missing. Early and repeated calls are harmless.
    ///
    /// # Errors
    /// The deadline has passed: answer with [`refuse`](Self::refuse), flush, close.
    ///
    /// ```
    /// # use ws_proto::{Handshake, HeadLimits, Instant, Output, Refusal};
    /// let mut handshake = Handshake::new(Instant::at(0), &HeadLimits::default());
    /// assert_eq!(handshake.handle_timeout(Instant::at(9_999)), Ok(()));
    /// assert_eq!(handshake.handle_timeout(Instant::at(10_000)), Err(Refusal::Timeout));
    /// ```
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Refusal> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let refusal = match self.state {
            State::Head => Refusal::Timeout,
            State::Deciding(_) => Refusal::Unavailable,
            State::Challenge { .. } | State::Open { .. } | State::Refused(_) | State::Over => {
                self.state = State::Over;
                return Err(Refusal::Silent);
            }
        };
        self.state = State::Refused(refusal);
        Err(refusal)
    }

    /// Returns the deadline, while something is waited for.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Head | State::Deciding(_) | State::Challenge { .. } => Some(self.deadline),
            State::Open { .. } | State::Refused(_) | State::Over => None,
        }
    }

    /// Returns how many bytes of heap it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        let layout = self.layout.as_ref().map_or(0, RequestLayout::memory);
        self.head.memory() + layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Headers;
    use alloc::borrow::ToOwned as _;
    use alloc::string::ToString as _;

    const HIXIE_76: &str = "GET /a?b HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                            Sec-WebSocket-Key1: 1 2\r\nSec-WebSocket-Key2: 3 4\r\n\r\n";
    const HYBI_08: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: second\r\n\
                           Sec-WebSocket-Origin: first\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 8\r\n\r\n";

    /// Begins at 5 ms with ten seconds to go, and takes `text`.
    fn begin(text: &str) -> (Handshake, Result<Option<Ready>, Refusal>) {
        let mut handshake = Handshake::new(Instant::at(5), &HeadLimits::default());
        let result = take(&mut handshake, text, &mut Output::default());
        (handshake, result)
    }

    fn take(
        handshake: &mut Handshake,
        text: &str,
        out: &mut Output,
    ) -> Result<Option<Ready>, Refusal> {
        let mut bytes = text.as_bytes().to_vec();
        let mut input = Input::new(&mut bytes);
        handshake.receive(Instant::at(5), &HeadLimits::default(), &mut input, out)
    }

    fn accept(handshake: &mut Handshake, out: &mut Output) -> Result<(), SendError> {
        let limits = Arc::new(Limits::default());
        handshake.accept(Instant::at(6), &Answer::default(), limits, out)
    }

    #[test]
    fn what_a_request_holds_is_counted() {
        let (cut, rest) = HIXIE_76.split_at(40);
        let (mut handshake, result) = begin(cut);
        assert_eq!(result, Ok(None));
        assert!(handshake.memory() >= cut.len());
        let result = take(&mut handshake, rest, &mut Output::default());
        assert_eq!(result, Ok(Some(Ready::Request)));
        // Five fields, of two words at least, beside the head itself.
        assert!(handshake.memory() >= HIXIE_76.len() + 5 * 2 * size_of::<usize>());
    }

    /// Passes the deadline and checks what it comes to, once.
    fn check_late(mut handshake: Handshake, expected: Refusal, status: Option<&str>) {
        assert_eq!(handshake.poll_timeout(), Some(Instant::at(10_005)));
        assert_eq!(handshake.handle_timeout(Instant::at(10_004)), Ok(()));
        let late = Instant::at(10_005);
        assert_eq!(handshake.handle_timeout(late), Err(expected));
        assert_eq!(handshake.poll_timeout(), None);
        assert_eq!(handshake.handle_timeout(late), Ok(()));
        let mut out = Output::default();
        assert_eq!(accept(&mut handshake, &mut out), Err(SendError::State));
        handshake.refuse(expected, None, &mut out);
        let written = core::str::from_utf8(out.as_slice()).expect("a head and plain English");
        assert_eq!(written.get(9..12), status);
        assert_eq!(take(&mut handshake, "more", &mut out), Err(Refusal::Silent));
    }

    #[test]
    fn the_deadline_says_whose_fault_it_is() {
        check_late(begin("").0, Refusal::Timeout, Some("408"));
        check_late(begin("GET / HTTP").0, Refusal::Timeout, Some("408"));
        check_late(begin(HIXIE_76).0, Refusal::Unavailable, Some("503"));
        let (mut handshake, _) = begin(HIXIE_76);
        assert_eq!(accept(&mut handshake, &mut Output::default()), Ok(()));
        check_late(handshake, Refusal::Silent, None);
    }

    #[test]
    fn an_end_of_the_stream_before_the_eight_bytes_is_silent() {
        let (mut handshake, result) = begin(HIXIE_76);
        assert_eq!(result, Ok(Some(Ready::Request)));
        let mut out = Output::default();
        assert_eq!(accept(&mut handshake, &mut out), Ok(()));
        assert_eq!(take(&mut handshake, "1234567", &mut out), Ok(None));
        let before = out.len();
        assert_eq!(handshake.handle_eof(Instant::at(7)), Err(Refusal::Silent));
        handshake.refuse(Refusal::Keys, None, &mut out);
        assert_eq!(out.len(), before);
        assert!(handshake.into_connection(Instant::at(8)).is_none());
    }

    #[test]
    fn while_somebody_decides_nothing_is_taken_and_the_request_stays() {
        let (mut handshake, result) = begin(HYBI_08);
        assert_eq!(result, Ok(Some(Ready::Request)));
        let mut bytes = b"frame".to_owned();
        let mut input = Input::new(&mut bytes);
        let mut out = Output::default();
        let limits = HeadLimits::default();
        let result = handshake.receive(Instant::at(9), &limits, &mut input, &mut out);
        assert_eq!((result, input.len(), out.len()), (Ok(None), 5, 0));
        for _ in 0..2 {
            let request = handshake.request().expect("a request to decide on");
            assert_eq!(request.origin(), Some("first"));
            assert_eq!(request.location(true, None), "wss://h/");
            assert_eq!(request.location(false, Some("a:1")), "ws://a:1/");
        }
    }

    #[test]
    fn a_page_may_be_served_where_no_websocket_is_asked_for() {
        let (mut handshake, result) = begin("GET /page?q HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(result, Err(Refusal::NotWebSocket));
        assert!(handshake.request().is_none());
        assert_eq!(handshake.head().map(|head| head.path()), Some("/page"));
        let mut out = Output::default();
        let mut headers = Headers::default();
        assert_eq!(headers.add("Content-Type", "text/html"), Ok(()));
        assert_eq!(headers.add("Upgrade", "h2c"), Ok(()));
        assert_eq!(headers.add("Content-Length", "999"), Ok(()));
        assert_eq!(headers.add("Sec-WebSocket-Accept", "x"), Ok(()));
        let rejection = Rejection {
            status: 200,
            headers,
            body: b"<p>".to_vec(),
        };
        handshake.reject(&rejection, &mut out);
        handshake.reject(&rejection, &mut out);
        assert_eq!(
            out.as_slice().escape_ascii().to_string(),
            "HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Type: text/html\\r\\nContent-Length: 3\\r\\n\\r\\n<p>"
        );
    }

    #[test]
    fn an_app_cannot_say_what_would_open_a_tunnel() {
        for (status, expected) in [
            (101, "HTTP/1.1 502 Bad Gateway\r\n"),
            (100, "HTTP/1.1 502 Bad Gateway\r\n"),
            (0, "HTTP/1.1 502 Bad Gateway\r\n"),
            (600, "HTTP/1.1 502 Bad Gateway\r\n"),
            (204, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
            (
                304,
                "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
            ),
            (299, "HTTP/1.1 299 \r\n"),
        ] {
            let (mut handshake, _) = begin(HYBI_08);
            let mut out = Output::default();
            let rejection = Rejection {
                status,
                headers: Headers::default(),
                body: b"body".to_vec(),
            };
            handshake.reject(&rejection, &mut out);
            assert!(out.as_slice().starts_with(expected.as_bytes()), "{status}");
            assert_eq!(
                out.as_slice().ends_with(b"body"),
                !matches!(status, 204 | 304)
            );
        }
    }

    #[test]
    fn headers_of_the_handshake_itself_are_not_the_apps_to_set() {
        for name in [
            "Connection",
            "Sec-WebSocket-Protocol",
            "Content-Length",
            "WebSocket-Origin",
        ] {
            let (mut handshake, _) = begin(HYBI_08);
            let mut answer = Answer::default();
            assert_eq!(answer.headers.add(name, "x"), Ok(()));
            let mut out = Output::default();
            let limits = Arc::new(Limits::default());
            let result = handshake.accept(Instant::at(6), &answer, limits, &mut out);
            assert_eq!((result, out.len()), (Err(SendError::Header), 0), "{name}");
            assert_eq!(accept(&mut handshake, &mut out), Ok(()));
            assert!(handshake.is_open());
        }
    }
}
