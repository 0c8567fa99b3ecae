//! The head of an app's answer: bytes → status, where the body ends, where the headers lie. httparse reads it, once; what it
//! is lenient with, where leniency smuggles, is refused here. ureq-proto's client wants to make the request as well, from a
//! header map built for every attempt, where ours is bytes that were rendered once a socket. Knows no body and no state
//! between pieces.

use memchr::{memchr, memchr_iter};
use std::mem::MaybeUninit;

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
    if !BEGINNING.starts_with(bytes) && !bytes.starts_with(BEGINNING) {
        return Err(Fault::Syntax);
    }
    let mut storage = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut storage,
    );
    let end = match parsed {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::HeadTooLarge),
        Err(_) => return Err(Fault::Syntax),
    };
    // httparse takes a bare line feed for a line's end, and no line feed for anything else: one stands before every name, and
    // two at the end.
    let text = bytes.get(..end).unwrap_or_default();
    if !text.ends_with(b"\r\n\r\n") {
        return Err(Fault::Syntax);
    }
    let (Some(status @ 100..), Some(minor)) = (response.code, response.version) else {
        return Err(Fault::Syntax);
    };
    let (mut length, mut coding, mut close, mut keep) = (None, None, false, false);
    let place = |part: &[u8]| part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    for header in response.headers.iter() {
        let (name, value) = (header.name.as_bytes(), header.value.trim_ascii());
        let start = place(name);
        if !matches!(text.get(..start), Some([.., b'\r', b'\n'])) {
            return Err(Fault::Syntax);
        }
        let colon = start + name.len();
        // A value without bytes may lie anywhere.
        let at = if value.is_empty() {
            colon
        } else {
            place(value)
        };
        fields.push(Field::new(start, colon, at, at + value.len()));
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
    let length = body(length, coding, minor)?;
    let persistent = !close && (minor == 1 || keep) && status >= 200;
    Ok(Some((Head::new(status, length, persistent), end)))
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

    type Seen<'a> = (u16, usize, Vec<(&'a [u8], &'a [u8])>);

    fn seen(bytes: &[u8]) -> Result<Option<Seen<'_>>, Fault> {
        let mut fields = vec![Field::new(0, 1, 2, 3)]; // Of an answer before.
        let Some((head, length)) = parse(bytes, &mut fields)? else {
            return Ok(None);
        };
        let fields = fields.iter().map(|field| field.of(bytes).unwrap());
        Ok(Some((head.status, length, fields.collect())))
    }

    #[test]
    fn headers_are_found_where_they_lie() {
        let head = b"HTTP/1.1 299 As  Is\r\nWs-To: self\r\nX:\t a b \r\nEmpty:\r\nB: \r\nC:caf\xc3\xa9\r\n\r\nhello";
        let fields: Vec<(&[u8], &[u8])> = vec![
            (b"Ws-To", b"self"),
            (b"X", b"a b"),
            (b"Empty", b""),
            (b"B", b""),
            (b"C", b"caf\xc3\xa9"),
        ];
        assert_eq!(seen(head), Ok(Some((299, head.len() - 5, fields))));
        for end in 0..head.len() - 5 {
            assert_eq!(seen(&head[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn lines_end_in_both_bytes() {
        let head = b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n";
        assert!(seen(head).is_ok_and(|seen| seen.is_some()));
        let returns = (0..head.len()).filter(|at| head[*at] == b'\r');
        for at in returns {
            let mut bare = head.to_vec();
            bare.remove(at);
            assert_eq!(seen(&bare), Err(Fault::Syntax), "{}", bare.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_text_is_no_part_of_a_value() {
        for byte in (0..=255_u8).filter(|byte| *byte != b'\n') {
            let head = [b"HTTP/1.1 200 OK\r\nA: x", &[byte][..], b"x\r\n\r\n"].concat();
            let is_text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
            assert_eq!(seen(&head).is_ok(), is_text, "{byte}");
        }
    }

    #[test]
    fn a_name_is_known_in_any_case_and_by_nothing_else() {
        for name in ["ws-to", "Ws-To", "WS-TO", "wS-tO"] {
            assert!(is_named(name.as_bytes(), b"ws-to"), "{name}");
        }
        for byte in (b'!'..=b'~').filter(|byte| !b"\"(),/:;<=>?@[\\]{}".contains(byte)) {
            let is_letter = byte.eq_ignore_ascii_case(&b'w');
            assert_eq!(is_named(&[byte, b'-'], b"w-"), is_letter, "{byte}");
            assert_eq!(is_named(&[b'w', byte], b"w-"), byte == b'-', "{byte}");
        }
        assert!(!is_named(b"ws-t", b"ws-to") && !is_named(b"ws-too", b"ws-to"));
    }
}
