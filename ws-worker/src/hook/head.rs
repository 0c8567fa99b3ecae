//! The head of an app's answer: bytes → status, where the body ends, where the headers lie. In one pass, since every hook has
//! one, and strict where leniency smuggles. Knows no body and no state between pieces.

use memchr::{memchr, memchr_iter};

/// Bytes of a head, and of all that is framing in a chunked body; 64 KiB.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// How every answer begins.
pub(super) const BEGINNING: &[u8] = b"HTTP/1.";

/// Headers in a head; 128.
pub(crate) const MAX_HEADERS: usize = 128;

/// What is wrong with an answer: the app's fault, or its network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not HTTP/1.x.
    Syntax,
    /// The end of the body is ambiguous: two lengths, a length and a coding, a coding we do not know.
    Framing,
    /// The head is over 64 KiB or has too many headers.
    HeadTooLarge,
    /// The body is over `max_hook_answer`.
    BodyTooLarge,
    /// The stream ended before the answer did.
    Cut,
    /// FastCGI: it has too much to do, and has not begun.
    Overloaded,
    /// FastCGI: it has another request on this connection, and has not begun.
    OneAtATime,
    /// FastCGI: it is no responder.
    Role,
}

impl Fault {
    /// Returns whether the same answer would come again: it was understood, and there is too much of it, or it will never be
    /// an answer. Whatever was not understood leaves the outcome unknown.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::HeadTooLarge | Self::BodyTooLarge | Self::Role)
    }

    /// Returns whether the app has certainly not looked at the hook.
    pub(crate) const fn is_unseen(self) -> bool {
        matches!(self, Self::Overloaded | Self::OneAtATime)
    }

    /// Returns a short, stable phrase for logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Syntax => "the answer makes no sense",
            Self::Framing => "the answer's length is ambiguous",
            Self::HeadTooLarge => "the answer's head is too large",
            Self::BodyTooLarge => "the answer's body is too large",
            Self::Cut => "the answer was cut short",
            Self::Overloaded => "the app is overloaded",
            Self::OneAtATime => "the app takes one request at a time on a connection",
            Self::Role => "the app is no FastCGI responder",
        }
    }
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// After so many bytes.
    Exactly(usize),
    /// Where the chunks say.
    Chunked,
    /// With the stream.
    Stream,
}

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) length: Length,
    pub(super) reusable: bool,
}

/// Where one header lies in its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    name: u32,
    colon: u32,
    value: u32,
    end: u32,
}

impl Field {
    fn new(name: usize, colon: usize, value: usize, end: usize) -> Self {
        // A head is no longer than a read, or than what is held of it.
        let [name, colon, value, end] = [name, colon, value, end].map(|at| at as u32);
        Self {
            name,
            colon,
            value,
            end,
        }
    }

    /// Returns name and value; the value is without white space at its ends.
    pub(super) fn of(self, head: &[u8]) -> Option<(&[u8], &[u8])> {
        let name = head.get(self.name as usize..self.colon as usize)?;
        Some((name, head.get(self.value as usize..self.end as usize)?))
    }
}

/// Reads the head that `bytes` begin with, and says how long it is; nothing if its end has not come. `fields` are then those of
/// this head alone.
///
/// # Errors
/// The app's fault: also of a head whose end is still to come.
pub(super) fn parse(bytes: &[u8], fields: &mut Vec<Field>) -> Result<Option<(Head, usize)>, Fault> {
    fields.clear();
    let mut feeds = memchr_iter(b'\n', bytes);
    let Some(first) = feeds.next() else {
        return Ok(None);
    };
    let (status, minor) = line(bytes, 0, first)
        .and_then(status_line)
        .ok_or(Fault::Syntax)?;
    let (mut length, mut coding, mut close, mut keep) = (None, None, false, false);
    let mut start = first + 1;
    for feed in feeds {
        let line = line(bytes, start, feed).ok_or(Fault::Syntax)?;
        if line.is_empty() {
            let whole = bytes.get(..=feed).unwrap_or_default();
            // What is no line's end is in a value: the names are tokens.
            if controls(whole) != 2 * (fields.len() + 2) {
                return Err(Fault::Syntax);
            }
            let length = body(length, coding, minor)?;
            let persistent = !close && (minor == 1 || keep) && status >= 200;
            return Ok(Some((Head::new(status, length, persistent), feed + 1)));
        }
        let colon = token(line);
        let Some((name, [b':', rest @ ..])) = line.split_at_checked(colon).filter(|_| colon > 0)
        else {
            return Err(Fault::Syntax);
        };
        if fields.len() == MAX_HEADERS {
            return Err(Fault::HeadTooLarge);
        }
        let value = rest.trim_ascii_start();
        let at = start + line.len() - value.len();
        let value = value.trim_ascii_end();
        fields.push(Field::new(start, start + colon, at, at + value.len()));
        start = feed + 1;
        if is_named(name, b"content-length") {
            if length.replace(value).is_some() {
                return Err(Fault::Framing);
            }
        } else if is_named(name, b"transfer-encoding") {
            if coding.replace(value).is_some() {
                return Err(Fault::Framing);
            }
        } else if is_named(name, b"connection") {
            for token in value.split(|byte| *byte == b',') {
                close |= token.trim_ascii().eq_ignore_ascii_case(b"close");
                keep |= token.trim_ascii().eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }
    Ok(None)
}

/// Finds where the headers of lines lie that were found valid by others, bare line feeds included.
pub(super) fn split(lines: &[u8], fields: &mut Vec<Field>) {
    fields.clear();
    let mut start = 0;
    for feed in memchr_iter(b'\n', lines) {
        let line = lines.get(start..feed).unwrap_or_default();
        if let Some(colon) = memchr(b':', line)
            && let Some(rest) = line.get(colon + 1..)
        {
            let value = rest.trim_ascii_start();
            let at = start + line.len() - value.len();
            let end = at + value.trim_ascii_end().len();
            fields.push(Field::new(start, start + colon, at, end));
        }
        start = feed + 1;
    }
}

impl Head {
    fn new(status: u16, length: Length, persistent: bool) -> Self {
        // These have no body, whatever their head says. [RFC 9112, 6.3]
        let bodiless = matches!(status, 100..=199 | 204 | 304);
        Self {
            status,
            reusable: persistent
                && match length {
                    Length::Exactly(length) => !bodiless || length == 0 || status == 304,
                    Length::Chunked => !bodiless,
                    Length::Stream => bodiless,
                },
            length: if bodiless { Length::Exactly(0) } else { length },
        }
    }
}

/// Returns a line without its end, which has to be both bytes.
fn line(bytes: &[u8], start: usize, feed: usize) -> Option<&[u8]> {
    bytes.get(start..feed)?.strip_suffix(b"\r")
}

/// `HTTP/1.1 200 OK`: status and minor version. The reason may be missing.
fn status_line(line: &[u8]) -> Option<(u16, u8)> {
    let rest = line.strip_prefix(BEGINNING)?;
    let [minor @ (b'0' | b'1'), b' ', code @ ..] = rest else {
        return None;
    };
    let (code, reason) = code.split_at_checked(3)?;
    let code = u16::try_from(decimal(code)?).ok()?;
    let is_whole = reason.is_empty() || reason.starts_with(b" ");
    (is_whole && code >= 100).then_some((code, minor - b'0'))
}

/// Where the body of an answer ends, of whatever status. [RFC 9112, 6.3]
fn body(length: Option<&[u8]>, coding: Option<&[u8]>, minor: u8) -> Result<Length, Fault> {
    match (length, coding) {
        (Some(_), Some(_)) => Err(Fault::Framing),
        (None, Some(coding)) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Length::Chunked)
        }
        (None, Some(_)) => Err(Fault::Framing),
        (Some(digits), None) => decimal(digits).map(Length::Exactly).ok_or(Fault::Framing),
        (None, None) => Ok(Length::Stream),
    }
}

/// Reads digits and nothing else.
pub(crate) fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_usize, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(usize::from(digit))
    })
}

/// Counts the control characters but for tabs.
fn controls(bytes: &[u8]) -> usize {
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    // So few at once that a byte counts them, as many of which are added up at a time.
    let chunks = bytes.chunks(128);
    let counts = chunks.map(|chunk| chunk.iter().map(|byte| u8::from(is_control(byte))).sum());
    counts.map(|count: u8| usize::from(count)).sum()
}

/// Returns how many bytes a line begins with that a name may have, four at a time.
#[inline(never)] // Among its caller's many variables the loop costs twice as much.
fn token(line: &[u8]) -> usize {
    let mut rest = line;
    while let Some((four, more)) = rest.split_first_chunk::<4>()
        && four.iter().all(|byte| is_token(*byte))
    {
        rest = more;
    }
    while let Some((byte, more)) = rest.split_first()
        && is_token(*byte)
    {
        rest = more;
    }
    line.len() - rest.len()
}

/// Whether a name may have this byte. [RFC 9110, 5.6.2]
fn is_token(byte: u8) -> bool {
    const TOKENS: [bool; 256] = {
        let mut tokens = [false; 256];
        let mut rest: &mut [bool] = &mut tokens;
        let mut byte = 0_u8;
        while let Some((is_token, more)) = rest.split_first_mut() {
            *is_token = byte.is_ascii_alphanumeric()
                || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
            byte = byte.wrapping_add(1);
            rest = more;
        }
        tokens
    };
    TOKENS.get(usize::from(byte)).is_some_and(|token| *token)
}

/// Whether a name is this one, which is written in lower-case letters and hyphens. It is a token already, so that the bit that
/// tells letters' cases apart makes nothing else of a hyphen.
pub(crate) fn is_named<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else {
        return false;
    };
    let pairs = name.iter().zip(lower);
    pairs.fold(0, |odd, (byte, lower)| odd | ((byte | 0x20) ^ lower)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::backoff::Random;

    type Seen<'a> = (u16, usize, Vec<(&'a [u8], &'a [u8])>);

    fn ours(bytes: &[u8]) -> Result<Option<Seen<'_>>, Fault> {
        let mut fields = Vec::new();
        let Some((head, length)) = parse(bytes, &mut fields)? else {
            return Ok(None);
        };
        let fields = fields.iter().map(|field| field.of(bytes).unwrap());
        Ok(Some((head.status, length, fields.collect())))
    }

    /// What httparse makes of a head whose lines all end in both bytes.
    fn theirs(bytes: &[u8]) -> Option<Seen<'_>> {
        let mut storage = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut storage);
        let Ok(httparse::Status::Complete(length)) = response.parse(bytes) else {
            return None;
        };
        let head = &bytes[..length];
        let is_bare = |at: usize| at == 0 || head[at - 1] != b'\r';
        if !head.starts_with(BEGINNING) || memchr_iter(b'\n', head).any(is_bare) {
            return None;
        }
        let fields = response.headers.iter();
        let fields = fields.map(|field| (field.name.as_bytes(), field.value.trim_ascii()));
        let status = response.code.filter(|code| *code >= 100)?;
        Some((status, length, fields.collect()))
    }

    #[test]
    fn a_head_is_read_as_others_read_it_or_not_at_all() {
        let heads: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nWs-To: self\r\nX:\t a b \r\n\r\nhello",
            b"HTTP/1.0 599\r\nServer: caf\xc3\xa9\r\nA:\r\n\r\n",
            b"HTTP/1.1 404 Not  Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
            b"HTTP/1.1 204 \r\n\r\n",
        ];
        let odd = b"\r\n\t :;,\0\x0b\x0c\x1f\x7f\x80\xff09azAZ_~!\"(/@[\\{}HT";
        let mut random = Random::new(1);
        let mut below = |limit: usize| random.next() as usize % limit;
        let mut whole = 0;
        for round in 0..100_000 {
            let mut head = heads[round % heads.len()].to_vec();
            for _ in 0..below(4) {
                let (at, byte) = (below(head.len()), odd[below(odd.len())]);
                match below(3) {
                    0 => head[at] = byte,
                    1 => head.insert(at, byte),
                    _ => drop(head.remove(at)),
                }
            }
            match ours(&head) {
                Ok(Some(seen)) => {
                    whole += 1;
                    assert_eq!(Some(seen), theirs(&head), "{}", head.escape_ascii());
                }
                // Two lengths, or one that is no number: they do not look.
                Err(Fault::Framing) => {}
                Ok(None) | Err(_) => assert_eq!(None, theirs(&head), "{}", head.escape_ascii()),
            }
        }
        assert!(whole > 20_000, "{whole} of these were heads");
    }

    #[test]
    fn what_is_no_end_of_a_line_is_no_part_of_a_value_however_long_the_head() {
        let long = "x".repeat(300);
        for byte in (0..=255_u8).filter(|byte| *byte != b'\n') {
            let mut head = format!("HTTP/1.1 200 OK\r\nA: {long}").into_bytes();
            head.push(byte);
            head.extend_from_slice(format!("{long}\r\n\r\n").as_bytes());
            let is_text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            assert_eq!(ours(&head).is_ok(), is_text, "{byte}");
            assert_eq!(theirs(&head).is_some(), is_text, "{byte}");
        }
    }

    #[test]
    fn a_name_is_known_in_any_case_and_by_nothing_else() {
        for name in ["ws-to", "Ws-To", "WS-TO", "wS-tO"] {
            assert!(is_named(name.as_bytes(), b"ws-to"), "{name}");
        }
        for byte in (0..=255_u8).filter(|byte| is_token(*byte)) {
            let is_letter = byte.eq_ignore_ascii_case(&b'w');
            assert_eq!(is_named(&[byte, b'-'], b"w-"), is_letter, "{byte}");
            assert_eq!(is_named(&[b'w', byte], b"w-"), byte == b'-', "{byte}");
        }
        assert!(!is_named(b"ws-t", b"ws-to") && !is_named(b"ws-too", b"ws-to"));
    }
}
