//! An app's answer as bytes: pieces of an HTTP/1.x response in, one whole answer out. Strict where leniency smuggles.
//! Knows no socket, no clock and no hook, and leaves the head to `head`.

pub(crate) use super::head::{Fault, MAX_HEAD, MAX_HEADERS, decimal};

use super::head::{self, BEGINNING, Field, Head, Length};
use memchr::memchr_iter;

/// Buffers above this are given back between answers, in bytes; 16 KiB.
const KEPT: usize = 16 * 1024;

/// One whole answer, lent from where it lies.
#[derive(Debug)]
pub(crate) struct Answer<'b> {
    /// As it came: 100 to 999 but for 100, which is skipped.
    pub(crate) status: u16,
    head: &'b [u8],
    fields: &'b [Field],
    /// The body without its framing.
    pub(crate) body: &'b [u8],
    /// Whether the connection can carry another request.
    pub(crate) reusable: bool,
}

impl<'b> Answer<'b> {
    /// Walks through the headers as they came; values without white space at their ends.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        let fields = self.fields();
        fields.filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// Walks through the headers, names as bytes: they are tokens.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'b> {
        let head = self.head;
        self.fields.iter().filter_map(move |field| field.of(head))
    }

    /// Makes one of a status, a head, where in it the headers lie, and a body.
    pub(super) fn new(
        status: u16,
        head: &'b [u8],
        fields: &'b [Field],
        body: &'b [u8],
        reusable: bool,
    ) -> Self {
        Self {
            status,
            head,
            fields,
            body,
            reusable,
        }
    }

    /// Returns the same without its body.
    pub(crate) fn bodiless(&self) -> Self {
        Self::new(self.status, self.head, self.fields, b"", self.reusable)
    }

    /// Makes one of a status, valid header lines and a body.
    #[cfg(test)]
    pub(crate) fn made(status: u16, lines: &'b [u8], body: &'b [u8]) -> Self {
        let mut fields = Vec::new();
        head::split(lines, &mut fields);
        Self::new(status, lines, fields.leak(), body, true)
    }
}

#[derive(Debug)]
enum State {
    Head {
        /// How much of the held head was searched for its end.
        searched: usize,
    },
    Exactly(Head, usize),
    Chunked(Head, Chunks),
    Stream(Head),
}

/// Where a whole answer lies.
pub(crate) enum Whole {
    /// In the bytes just received: head and body.
    Lent {
        head: Head,
        start: usize,
        body: usize,
        end: usize,
    },
    /// In our own buffers.
    Held(Head),
}

/// Takes one answer at a time.
#[derive(Debug)]
pub(crate) struct Incoming {
    head: Vec<u8>,
    /// Where the headers lie in the head that was read last.
    fields: Vec<Field>,
    body: Vec<u8>,
    state: State,
    /// Bytes of 100s that were skipped.
    interim: usize,
    max_body: usize,
}

impl Incoming {
    /// Waits for a first answer, whose body may have `max_body` bytes.
    pub(crate) fn new(max_body: usize) -> Self {
        Self {
            head: Vec::new(),
            fields: Vec::new(),
            body: Vec::new(),
            state: State::Head { searched: 0 },
            interim: 0,
            max_body,
        }
    }

    /// Waits for the next answer.
    pub(crate) fn reset(&mut self, max_body: usize) {
        for buffer in [&mut self.head, &mut self.body] {
            buffer.clear();
            buffer.shrink_to(KEPT);
        }
        self.state = State::Head { searched: 0 };
        self.interim = 0;
        self.max_body = max_body;
    }

    /// Returns how many bytes of heap it holds.
    pub(crate) fn memory(&self) -> usize {
        self.head.capacity() + self.body.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// Takes bytes; says where the answer lies once it is whole. Bytes behind it make the connection unfit for another.
    ///
    /// # Errors
    /// The app's fault.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<Option<Whole>, Fault> {
        let mut at = 0;
        while let State::Head { searched } = self.state {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.head.is_empty() {
                let Some((mut head, end)) = head::parse(rest, &mut self.fields)? else {
                    if !rest
                        .iter()
                        .zip(BEGINNING)
                        .all(|(found, wanted)| found == wanted)
                    {
                        return Err(Fault::Syntax); // Another protocol: do not wait for what never comes.
                    }
                    if rest.len() + self.interim > MAX_HEAD {
                        return Err(Fault::HeadTooLarge);
                    }
                    self.head.extend_from_slice(rest);
                    self.state = State::Head {
                        searched: rest.len(),
                    };
                    return Ok(None);
                };
                if !self.admits(&head, end)? {
                    at += end;
                    continue;
                }
                let (text, after) = rest.split_at_checked(end).ok_or(Fault::Syntax)?;
                if let Length::Exactly(length) = head.length
                    && length <= after.len()
                {
                    head.reusable &= length == after.len();
                    let body = at + end;
                    return Ok(Some(Whole::Lent {
                        head,
                        start: at,
                        body,
                        end: body + length,
                    }));
                }
                self.head.extend_from_slice(text);
                at += end;
                self.begin_body(head);
            } else {
                // Never more than a head is held, whatever comes in one piece.
                let before = self.head.len();
                let room = (MAX_HEAD + 1).saturating_sub(before + self.interim);
                let piece = rest.get(..room.min(rest.len())).unwrap_or_default();
                self.head.extend_from_slice(piece);
                let Some(end) = empty_line(&self.head, searched) else {
                    if self.head.len() + self.interim > MAX_HEAD {
                        return Err(Fault::HeadTooLarge);
                    }
                    self.state = State::Head {
                        searched: self.head.len(),
                    };
                    return Ok(None);
                };
                at += end.saturating_sub(before);
                let mut text = std::mem::take(&mut self.head);
                text.truncate(end);
                let (head, end) = head::parse(&text, &mut self.fields)?.ok_or(Fault::Syntax)?;
                if self.admits(&head, end)? {
                    self.head = text;
                    self.begin_body(head);
                } else {
                    self.state = State::Head { searched: 0 };
                }
            }
        }
        self.take_body(bytes.get(at..).unwrap_or_default())
    }

    /// Lends a whole answer; `bytes` are those that made it whole.
    pub(crate) fn answer<'b>(&'b self, bytes: &'b [u8], whole: &Whole) -> Answer<'b> {
        match *whole {
            Whole::Held(head) => self.held(head),
            Whole::Lent {
                head,
                start,
                body,
                end,
            } => Answer::new(
                head.status,
                bytes.get(start..body).unwrap_or_default(),
                &self.fields,
                bytes.get(body..end).unwrap_or_default(),
                head.reusable,
            ),
        }
    }

    /// The stream ended; returns the answer that only this could end.
    ///
    /// # Errors
    /// [`Fault::Cut`].
    pub(crate) fn end(&mut self) -> Result<Answer<'_>, Fault> {
        match self.state {
            State::Stream(head) => Ok(self.held(head)),
            State::Head { .. } | State::Exactly(..) | State::Chunked(..) => Err(Fault::Cut),
        }
    }

    fn held(&self, head: Head) -> Answer<'_> {
        let Head {
            status, reusable, ..
        } = head;
        Answer::new(status, &self.head, &self.fields, &self.body, reusable)
    }

    /// Returns whether an answer begins with this head, of so many bytes; not with a 100, which says nothing.
    fn admits(&mut self, head: &Head, bytes: usize) -> Result<bool, Fault> {
        if bytes + self.interim > MAX_HEAD {
            return Err(Fault::HeadTooLarge);
        }
        if head.status == 100 {
            self.interim += bytes;
            return Ok(false);
        }
        match head.length {
            Length::Exactly(length) if length > self.max_body => Err(Fault::BodyTooLarge),
            Length::Exactly(_) | Length::Chunked | Length::Stream => Ok(true),
        }
    }

    fn begin_body(&mut self, head: Head) {
        self.state = match head.length {
            Length::Exactly(length) => State::Exactly(head, length),
            Length::Chunked => State::Chunked(head, Chunks::default()),
            Length::Stream => State::Stream(head),
        };
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<Option<Whole>, Fault> {
        let (mut head, used) = match &mut self.state {
            State::Head { .. } => return Ok(None),
            State::Exactly(head, left) => {
                let used = (*left).min(bytes.len());
                self.body
                    .extend_from_slice(bytes.get(..used).unwrap_or_default());
                *left -= used;
                if *left > 0 {
                    return Ok(None);
                }
                (*head, used)
            }
            State::Chunked(head, chunks) => {
                let used = chunks.take(bytes, &mut self.body, self.max_body)?;
                if !matches!(chunks.at, At::Done) {
                    return Ok(None);
                }
                (*head, used)
            }
            State::Stream(_) => {
                if self.body.len().saturating_add(bytes.len()) > self.max_body {
                    return Err(Fault::BodyTooLarge);
                }
                self.body.extend_from_slice(bytes);
                return Ok(None);
            }
        };
        head.reusable &= used == bytes.len();
        Ok(Some(Whole::Held(head)))
    }
}

/// Finds the end of a head: an empty line, bare line feeds included, which [`head::parse`] then refuses.
pub(crate) fn empty_line(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let bytes_left = bytes.get(from..)?;
    memchr_iter(b'\n', bytes_left).find_map(|feed| match bytes_left.get(feed + 1..)? {
        [b'\n', ..] => Some(from + feed + 2),
        [b'\r', b'\n', ..] => Some(from + feed + 3),
        _ => None,
    })
}

/// Takes the framing off a chunked body. [RFC 9112, 7.1]
#[derive(Debug, Default)]
struct Chunks {
    at: At,
    /// Of this chunk, what is still to come.
    left: usize,
    /// Digits of this chunk's size.
    digits: u8,
    /// Bytes of extensions and trailers.
    idle: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    SizeFeed,
    Data,
    DataReturn,
    DataFeed,
    TrailerStart,
    Trailer,
    TrailerFeed,
    LastFeed,
    Done,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8], body: &mut Vec<u8>, max: usize) -> Result<usize, Fault> {
        let mut rest = bytes;
        while let (Some((&byte, after)), true) = (rest.split_first(), self.at != At::Done) {
            if self.at == At::Data {
                let count = self.left.min(rest.len());
                let (data, behind) = rest.split_at_checked(count).ok_or(Fault::Syntax)?;
                body.extend_from_slice(data);
                self.left -= count;
                rest = behind;
                if self.left == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            rest = after;
            self.at = match (self.at, byte) {
                (At::Size, b'\r') if self.digits > 0 => At::SizeFeed,
                (At::Size, b';' | b' ' | b'\t') if self.digits > 0 => At::Extension,
                (At::Size, _) => {
                    let digit = char::from(byte).to_digit(16).ok_or(Fault::Syntax)?;
                    self.digits += 1;
                    if self.digits > 16 {
                        return Err(Fault::Framing);
                    }
                    self.left = self
                        .left
                        .checked_mul(16)
                        .and_then(|left| left.checked_add(digit as usize))
                        .ok_or(Fault::BodyTooLarge)?;
                    if self.left.saturating_add(body.len()) > max {
                        return Err(Fault::BodyTooLarge);
                    }
                    At::Size
                }
                (At::SizeFeed, b'\n') => {
                    self.digits = 0;
                    if self.left == 0 {
                        At::TrailerStart
                    } else {
                        At::Data
                    }
                }
                (At::DataReturn, b'\r') => At::DataFeed,
                (At::DataFeed, b'\n') => At::Size,
                (At::TrailerFeed, b'\n') => At::TrailerStart,
                (At::TrailerStart, b'\r') => At::LastFeed,
                (At::LastFeed, b'\n') => At::Done,
                (At::Extension, b'\r') => At::SizeFeed,
                (At::Trailer, b'\r') => At::TrailerFeed,
                (At::Extension | At::Trailer | At::TrailerStart, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.idle += 1;
                    if self.idle > MAX_HEAD {
                        return Err(Fault::HeadTooLarge);
                    }
                    if self.at == At::Extension {
                        At::Extension
                    } else {
                        At::Trailer
                    }
                }
                _ => return Err(Fault::Syntax),
            };
        }
        Ok(bytes.len() - rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = (u16, Vec<(String, Vec<u8>)>, Vec<u8>, bool);

    fn seen(answer: &Answer<'_>) -> Seen {
        (
            answer.status,
            answer
                .headers()
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect(),
            answer.body.to_vec(),
            answer.reusable,
        )
    }

    /// Receives `bytes` in pieces of these sizes, the rest at once; then the end of the stream.
    fn receive(bytes: &[u8], pieces: &[usize]) -> Result<Option<Seen>, Fault> {
        let mut incoming = Incoming::new(1000);
        let mut rest = bytes;
        for piece in pieces.iter().copied().chain([usize::MAX]) {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            rest = later;
            if now.is_empty() {
                continue;
            }
            if let Some(whole) = incoming.advance(now)? {
                let mut seen = seen(&incoming.answer(now, &whole));
                seen.3 &= rest.is_empty();
                return Ok(Some(seen));
            }
        }
        incoming.end().map(|answer| Some(seen(&answer)))
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<(u16, &[u8], bool), Fault>) {
        let all = receive(bytes, &[]);
        let found = all.clone().map(|seen| seen.unwrap());
        match (&found, expected) {
            (Ok(found), Ok((status, body, reusable))) => {
                assert_eq!((found.0, &found.2[..], found.3), (status, body, reusable));
            }
            (Err(found), Err(expected)) => assert_eq!(*found, expected),
            _ => panic!("{found:?} is not {expected:?}"),
        }
        // Every place; of long ones, some.
        for at in (0..=bytes.len()).step_by(1 + bytes.len() / 1000) {
            assert_eq!(receive(bytes, &[at]), all, "split at {at}");
        }
        assert_eq!(receive(bytes, &vec![1; bytes.len()]), all, "byte by byte");
    }

    #[test]
    fn an_answer_ends_where_its_length_says() {
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nWs-To: self \r\n\r\nhello",
            Ok((200, b"hello", true)),
        );
        check(b"HTTP/1.1 204 No Content\r\n\r\n", Ok((204, b"", true)));
        check(
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Ok((200, b"hi", false)),
        );
        check(
            b"HTTP/1.0 200 OK\r\nConnection: x, Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
            Ok((200, b"hi", true)),
        );
        check(
            b"HTTP/1.1 200\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            Ok((200, b"", false)),
        );
        check(
            b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nuntil the end",
            Ok((200, b"until the end", false)),
        );
    }

    #[test]
    fn chunks_are_put_together() {
        check(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00a;x=\"y\"\r\n, world. :\r\n0\r\nX: y\r\n\r\n",
            Ok((200, b"hello, world. :", true)),
        );
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (chunks, fault) in [
            ("g\r\n", Fault::Syntax),
            ("\r\n", Fault::Syntax),
            ("-1\r\n", Fault::Syntax),
            ("0x1\r\na\r\n0\r\n\r\n", Fault::Syntax),
            ("1\na\n0\n\n", Fault::Syntax),
            ("1\r\nab\r\n0\r\n\r\n", Fault::Syntax),
            ("00000000000000001\r\n", Fault::Framing),
            ("3e9\r\n", Fault::BodyTooLarge),
            ("ffffffffffffffff\r\n", Fault::BodyTooLarge),
            ("1\r\na\r\n", Fault::Cut),
            ("1\r\na\r\n0\r\nX\0\r\n\r\n", Fault::Syntax),
        ] {
            check(format!("{head}{chunks}").as_bytes(), Err(fault));
        }
    }

    #[test]
    fn a_hundred_is_skipped_and_other_interim_answers_are_not() {
        check(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            Ok((200, b"x", true)),
        );
        check(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            Ok((101, b"", false)),
        );
        check(b"HTTP/1.1 103 Early Hints\r\n\r\n", Ok((103, b"", false)));
        check(
            &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 25 + 1),
            Err(Fault::HeadTooLarge),
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (headers, fault) in [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", Fault::Framing),
            ("Content-Length: 1, 1\r\n", Fault::Framing),
            ("Content-Length: +1\r\n", Fault::Framing),
            ("Content-Length: 0x1\r\n", Fault::Framing),
            ("Content-Length:\r\n", Fault::Framing),
            ("Content-Length: 18446744073709551617\r\n", Fault::Framing),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                Fault::Framing,
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", Fault::Framing),
            ("Transfer-Encoding: identity\r\n", Fault::Framing),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Fault::Framing,
            ),
            ("Content-Length: 1001\r\n", Fault::BodyTooLarge),
            ("Content-Length : 1\r\n", Fault::Syntax),
            ("A: b\r\n c\r\n", Fault::Syntax),
            ("A: b\nC: d\r\n", Fault::Syntax),
            ("A: b\rC: d\r\n", Fault::Syntax),
            ("A: \0\r\n", Fault::Syntax),
            (": b\r\n", Fault::Syntax),
        ] {
            check(
                format!("HTTP/1.1 200 OK\r\n{headers}\r\nx").as_bytes(),
                Err(fault),
            );
        }
        check(
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Err(Fault::Framing),
        );
        check(b"HTTP/1.1 200 OK\n\nx", Err(Fault::Syntax));
        check(b"HTTP/2.0 200 OK\r\n\r\n", Err(Fault::Syntax));
        check(b"HTTP/1.1 020 OK\r\n\r\n", Err(Fault::Syntax));
        check(b"\x16\x03\x01\x02\0\r\n\r\n", Err(Fault::Syntax));
        check(b"HTTP/1.1 200 OK\r\nContent-Le", Err(Fault::Cut));
        check(b"", Err(Fault::Cut));
    }

    #[test]
    fn bytes_behind_an_answer_spoil_the_connection_and_nothing_else() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 500 Oops\r\n\r\n";
        let answer = receive(bytes, &[]).unwrap().unwrap();
        assert_eq!((answer.0, &answer.2[..], answer.3), (200, &b"x"[..], false));
        let answer = receive(b"HTTP/1.1 204 None\r\nContent-Length: 1\r\n\r\nx", &[]);
        assert!(!answer.unwrap().unwrap().3);
    }

    #[test]
    fn a_head_is_held_up_to_its_limit_and_no_further() {
        let mut incoming = Incoming::new(10);
        let head = b"HTTP/1.1 200 OK\r\nX: ";
        assert!(incoming.advance(head).unwrap().is_none());
        let fault = loop {
            match incoming.advance(&[b'x'; 5000]) {
                Ok(None) => assert!(incoming.head.len() <= MAX_HEAD),
                Ok(Some(_)) => panic!("an answer"),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault, Fault::HeadTooLarge);
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(129));
        check(many.as_bytes(), Err(Fault::HeadTooLarge));
    }

    #[test]
    fn the_next_answer_begins_afresh() {
        let mut incoming = Incoming::new(1000);
        let first = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab";
        assert!(incoming.advance(first).unwrap().is_none());
        let whole = incoming.advance(b"c").unwrap().unwrap();
        assert_eq!(incoming.answer(b"c", &whole).body, b"abc");
        incoming.reset(1000);
        let second = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nWs-To:\tself\r\n\r\nd";
        let whole = incoming.advance(second).unwrap().unwrap();
        let answer = incoming.answer(second, &whole);
        assert_eq!(answer.body, b"d");
        assert!(answer.headers().any(|header| header == ("Ws-To", b"self")));
    }
}
