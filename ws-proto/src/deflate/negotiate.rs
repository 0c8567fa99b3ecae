//! `Sec-WebSocket-Extensions`, both roles: read from left to right, each byte once, and taken at its word.
//! Knows one extension; names that it does not know are passed over, `deflate-stream` of the drafts among them.

use super::{DeflateOffer, DeflateParameters, WindowBits};
use crate::headers::is_token_byte;
use alloc::vec::Vec;

/// The header, in lower case as it is looked for.
pub(crate) const HEADER: &str = "sec-websocket-extensions";
const NAME: &[u8] = b"permessage-deflate";

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) parameters: DeflateParameters,
    /// A window that was offered is answered, the full one too. [RFC 7692, 7.1.2.1]
    names_server_bits: bool,
}

/// Accepts the first offer that can be, in the order of the client's preference. [RFC 7692, 5]
///
/// RFC 6455, 9.1: "If a value is received by either the client or the server during negotiation that does not conform to
/// the ABNF below, the recipient of such malformed data MUST immediately _Fail the WebSocket Connection_." A request
/// without any extension is as good, so the rest of a malformed line is passed over.
pub(crate) fn answer<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    takeover: bool,
) -> Option<Answered> {
    values
        .flat_map(|value| Scanner { rest: value }.map_while(Result::ok))
        .find_map(|extension| extension.deflate?.accept(takeover))
}

/// Checks a server's answer to an offer. [RFC 7692, 7.1]
///
/// # Errors
/// The server's fault: something that was not offered, or not in this way.
pub(crate) fn check<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    offer: Option<&DeflateOffer>,
) -> Result<Option<DeflateParameters>, Malformed> {
    let mut agreed = None;
    for extension in values.flat_map(|value| Scanner { rest: value }) {
        let (Some(written), Some(offer), None) = (extension?.deflate, offer, agreed) else {
            return Err(Malformed);
        };
        agreed = Some(written.check(offer)?);
    }
    Ok(agreed)
}

/// Appends what an answer says.
pub(crate) fn write_answer(answered: &Answered, bytes: &mut Vec<u8>) {
    let parameters = &answered.parameters;
    write(
        parameters.server_no_context_takeover,
        parameters.client_no_context_takeover,
        (answered.names_server_bits).then_some(parameters.server_max_window_bits),
        None,
        bytes,
    );
}

/// Appends what an offer says.
pub(crate) fn write_offer(offer: &DeflateOffer, bytes: &mut Vec<u8>) {
    write(
        offer.server_no_context_takeover,
        offer.client_no_context_takeover,
        offer.server_max_window_bits,
        offer.client_max_window_bits,
        bytes,
    );
}

fn write(
    server_forgets: bool,
    client_forgets: bool,
    server_bits: Option<WindowBits>,
    client_bits: Option<WindowBits>,
    bytes: &mut Vec<u8>,
) {
    bytes.extend_from_slice(NAME);
    if server_forgets {
        bytes.extend_from_slice(b"; server_no_context_takeover");
    }
    if client_forgets {
        bytes.extend_from_slice(b"; client_no_context_takeover");
    }
    if let Some(bits) = server_bits {
        bytes.extend_from_slice(b"; server_max_window_bits=");
        write_number(bits, bytes);
    }
    if let Some(bits) = client_bits {
        bytes.extend_from_slice(b"; client_max_window_bits");
        if bits != WindowBits::FULL {
            bytes.push(b'=');
            write_number(bits, bytes);
        }
    }
}

fn write_number(bits: WindowBits, bytes: &mut Vec<u8>) {
    if let Some(units) = bits.get().checked_sub(10) {
        bytes.extend_from_slice(&[b'1', b'0' + units]);
    } else {
        bytes.push(b'0' + bits.get());
    }
}

/// The four parameters as somebody wrote them, each once and in range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    server_forgets: bool,
    client_forgets: bool,
    server_bits: Option<WindowBits>,
    /// The inner one is absent where the parameter stands without a value.
    client_bits: Option<Option<WindowBits>>,
}

impl Written {
    /// Takes a parameter; `None` if it is unknown, stands twice, or has a value that it may not have.
    fn take(&mut self, name: &[u8], value: Option<Value>) -> Option<()> {
        let is_new = match (name, value) {
            (b"server_no_context_takeover", None) => {
                !core::mem::replace(&mut self.server_forgets, true)
            }
            (b"client_no_context_takeover", None) => {
                !core::mem::replace(&mut self.client_forgets, true)
            }
            (b"server_max_window_bits", Some(value)) => {
                self.server_bits.replace(value.bits()?).is_none()
            }
            (b"client_max_window_bits", None) => self.client_bits.replace(None).is_none(),
            (b"client_max_window_bits", Some(value)) => {
                self.client_bits.replace(Some(value.bits()?)).is_none()
            }
            _ => false,
        };
        is_new.then_some(())
    }

    /// Accepts it as an offer, unless it wants a window that we cannot write. What the client said of its own window
    /// needs no answer: any is read.
    fn accept(self, takeover: bool) -> Option<Answered> {
        if (self.server_bits).is_some_and(|bits| bits < WindowBits::SMALLEST_TO_SEND) {
            return None;
        }
        Some(Answered {
            parameters: DeflateParameters {
                server_no_context_takeover: self.server_forgets || !takeover,
                client_no_context_takeover: self.client_forgets || !takeover,
                server_max_window_bits: self.server_bits.unwrap_or_default(),
                client_max_window_bits: WindowBits::FULL,
            },
            names_server_bits: self.server_bits.is_some(),
        })
    }

    /// Checks it as an answer to `offer`.
    fn check(self, offer: &DeflateOffer) -> Result<DeflateParameters, Malformed> {
        let forgets_enough = self.server_forgets || !offer.server_no_context_takeover;
        let server_bits = match (self.server_bits, offer.server_max_window_bits) {
            (None, None) => Ok(WindowBits::FULL),
            (Some(bits), None) => Ok(bits),
            (Some(bits), Some(most)) if bits <= most => Ok(bits),
            (_, Some(_)) => Err(Malformed),
        };
        let client_bits = match (self.client_bits, offer.client_max_window_bits) {
            (None, most) => Ok(most.unwrap_or_default()),
            (Some(Some(bits)), Some(most)) if bits <= most => Ok(bits),
            (Some(_), _) => Err(Malformed),
        };
        if !forgets_enough {
            return Err(Malformed);
        }
        Ok(DeflateParameters {
            server_no_context_takeover: self.server_forgets,
            client_no_context_takeover: self.client_forgets || offer.client_no_context_takeover,
            server_max_window_bits: server_bits?,
            client_max_window_bits: client_bits?,
        })
    }
}

/// A line that does not follow the grammar, or an answer that does not follow the offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One element of the list.
struct Extension {
    /// The parameters of permessage-deflate; `None` for any other extension, and where one of them is wrong.
    deflate: Option<Written>,
}

/// A parameter's value after unquoting: its first two bytes are all that a number here may have.
#[derive(Clone, Copy)]
struct Value {
    bytes: [u8; 2],
    len: usize,
}

impl Value {
    fn bits(self) -> Option<WindowBits> {
        match (self.len, self.bytes) {
            (1, [digit @ b'8'..=b'9', _]) => WindowBits::new(digit - b'0'),
            (2, [b'1', digit @ b'0'..=b'5']) => WindowBits::new(10 + digit - b'0'),
            _ => None,
        }
    }
}

/// Walks through a line: `name; parameter; parameter=value, name`, with blanks between all of them. [RFC 6455, 9.1]
struct Scanner<'a> {
    rest: &'a [u8],
}

impl Iterator for Scanner<'_> {
    type Item = Result<Extension, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.takes(b',') {} // Empty elements are no elements.
        if self.rest.is_empty() {
            return None;
        }
        let extension = self.extension();
        if extension.is_none() {
            self.rest = &[];
        }
        Some(extension.ok_or(Malformed))
    }
}

impl<'a> Scanner<'a> {
    fn extension(&mut self) -> Option<Extension> {
        let name = self.token()?;
        let mut deflate = (name == NAME).then(Written::default);
        while self.takes(b';') {
            let name = self.token()?;
            let value = if self.takes(b'=') {
                Some(self.value()?)
            } else {
                None
            };
            deflate = deflate.and_then(|mut written| {
                written.take(name, value)?;
                Some(written)
            });
        }
        (self.rest.is_empty() || self.rest.first() == Some(&b',')).then_some(Extension { deflate })
    }

    /// Takes blanks, and this byte if it stands behind them.
    fn takes(&mut self, byte: u8) -> bool {
        self.rest = self.rest.trim_ascii_start();
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        found
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        self.rest = self.rest.trim_ascii_start();
        let length = self.rest.iter().position(|&byte| !is_token_byte(byte));
        let (token, rest) = self
            .rest
            .split_at_checked(length.unwrap_or(self.rest.len()))?;
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// Takes a token, or a quoted string that is one when unquoted.
    fn value(&mut self) -> Option<Value> {
        let mut value = Value {
            bytes: [0; 2],
            len: 0,
        };
        let mut push = |byte: u8| {
            if let Some(place) = value.bytes.get_mut(value.len) {
                *place = byte;
            }
            value.len += 1;
            is_token_byte(byte).then_some(())
        };
        if self.takes(b'"') {
            let mut bytes = self.rest.iter();
            loop {
                match *bytes.next()? {
                    b'"' => break,
                    b'\\' => push(*bytes.next()?)?,
                    byte => push(byte)?,
                }
            }
            self.rest = bytes.as_slice();
        } else {
            for &byte in self.token()? {
                push(byte)?;
            }
        }
        (value.len > 0).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    /// Offers a line and checks what is answered.
    #[track_caller]
    fn check_answer(offer: &str, takeover: bool, expected: Option<&str>) {
        let found = answer([offer.as_bytes()].into_iter(), takeover).map(|answered| {
            let mut bytes = Vec::new();
            write_answer(&answered, &mut bytes);
            String::from_utf8(bytes).expect("tokens")
        });
        let expected = expected.map(|rest| alloc::format!("permessage-deflate{rest}"));
        assert_eq!(found, expected, "{offer}");
    }

    const FORGETS: &str = "; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn a_full_window_of_the_client_is_offered_without_a_value() {
        let written = |bits| {
            let offer = DeflateOffer {
                client_max_window_bits: Some(bits),
                ..DeflateOffer::default()
            };
            let mut bytes = Vec::new();
            write_offer(&offer, &mut bytes);
            bytes
        };
        assert!(written(WindowBits::FULL).ends_with(b"; client_max_window_bits"));
        let ten = WindowBits::new(10).expect("10 is one");
        assert!(written(ten).ends_with(b"; client_max_window_bits=10"));
    }

    #[test]
    fn what_can_be_is_accepted() {
        for offer in [
            "permessage-deflate",
            " \tpermessage-deflate ,",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=\"15\"",
            "permessage-deflate ; client_no_context_takeover;server_no_context_takeover",
            "x-webkit-deflate-frame, deflate-stream, permessage-deflate",
            "a; b=\"c\"; d, permessage-deflate",
        ] {
            check_answer(offer, false, Some(FORGETS));
        }
        check_answer("permessage-deflate", true, Some(""));
        check_answer(
            "permessage-deflate; client_no_context_takeover",
            true,
            Some("; client_no_context_takeover"),
        );
        check_answer(
            "permessage-deflate; server_no_context_takeover; server_max_window_bits = 15",
            true,
            Some("; server_no_context_takeover; server_max_window_bits=15"),
        );
        for bits in 9..=15 {
            let name = "permessage-deflate; server_max_window_bits";
            let answer = alloc::format!("; server_max_window_bits={bits}");
            check_answer(&alloc::format!("{name}={bits}"), true, Some(&answer));
            check_answer(&alloc::format!("{name}=\"{bits}\""), true, Some(&answer));
        }
        check_answer(
            "permessage-deflate; server_max_window_bits=\"1\\0\"",
            true,
            Some("; server_max_window_bits=10"),
        );
    }

    #[test]
    fn what_is_wrong_is_declined_and_the_next_offer_looked_at() {
        for parameter in [
            "unknown",
            "unknown=1",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits=10",
            "client_max_window_bits=10; client_max_window_bits",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_max_window_bits",
            "server_max_window_bits=8",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=010",
            "server_max_window_bits=1000",
            "server_max_window_bits=+9",
            "server_max_window_bits=-9",
            "server_max_window_bits=1x",
            "server_max_window_bits=\"9x\"",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=08",
            "client_max_window_bits=4294967304",
            "Client_max_window_bits",
        ] {
            let offer = alloc::format!("permessage-deflate; {parameter}");
            check_answer(&offer, true, None);
            let two = alloc::format!("{offer}, permessage-deflate; client_no_context_takeover");
            check_answer(&two, true, Some("; client_no_context_takeover"));
        }
    }

    #[test]
    fn what_is_malformed_ends_the_line() {
        for line in [
            "permessage-deflate;",
            "permessage-deflate; =",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate; client_max_window_bits=\"10\\",
            "permessage-deflate; client_max_window_bits=\" 10\"",
            "permessage-deflate; client_max_window_bits=\"10\"x",
            "permessage-deflate; client_max_window_bits=1\"0\"",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate/x",
            "=",
            ";",
            "\"permessage-deflate\"",
            "",
            ", ,",
        ] {
            check_answer(line, true, None);
            let more = alloc::format!("{line}(, permessage-deflate");
            check_answer(&more, true, None);
            let lines = [more.as_bytes(), b"permessage-deflate"];
            assert!(answer(lines.into_iter(), true).is_some(), "{line}");
        }
        // Inside quotes a comma is no border, and the quotes around it no way in.
        check_answer("a; b=\"x, permessage-deflate\"", true, None);
    }

    #[test]
    fn a_line_twice_as_long_takes_twice_as_many_steps() {
        // Every byte that is taken shortens what is left, and nothing is looked at again: the longest lines of each kind
        // end at once.
        for piece in [
            "a,",
            ",",
            "a;b=\"\\x\",",
            "permessage-deflate;x,",
            "; ",
            "\"",
        ] {
            let times = if cfg!(miri) { 64 } else { 1 << 16 };
            check_answer(&piece.repeat(times), true, None);
        }
    }

    #[test]
    fn an_answer_follows_the_offer() {
        let offer = DeflateOffer {
            server_no_context_takeover: true,
            client_no_context_takeover: false,
            server_max_window_bits: WindowBits::new(12),
            client_max_window_bits: WindowBits::new(11),
        };
        let check = |line: &str, offer: Option<&DeflateOffer>| {
            let values = line.split('|').map(str::as_bytes);
            check(values.filter(|value| !value.is_empty()), offer)
        };
        let least = "permessage-deflate; server_no_context_takeover; server_max_window_bits=12";
        let bits = |bits| WindowBits::new(bits).expect("in range");
        let parameters = DeflateParameters {
            server_no_context_takeover: true,
            client_no_context_takeover: false,
            server_max_window_bits: bits(12),
            client_max_window_bits: bits(11),
        };
        assert_eq!(check(least, Some(&offer)), Ok(Some(parameters)));
        assert_eq!(check("", Some(&offer)), Ok(None));
        assert_eq!(check("", None), Ok(None));
        let more = alloc::format!("{least}; client_no_context_takeover; client_max_window_bits=8");
        let smaller = DeflateParameters {
            client_no_context_takeover: true,
            client_max_window_bits: bits(8),
            ..parameters
        };
        assert_eq!(check(&more, Some(&offer)), Ok(Some(smaller)));
        for wrong in [
            "permessage-deflate".into(),
            "permessage-deflate; server_no_context_takeover".into(),
            "permessage-deflate; server_max_window_bits=12".into(),
            least.replace("12", "13"),
            least.replace("12", "7"),
            alloc::format!("{least}; client_max_window_bits"),
            alloc::format!("{least}; client_max_window_bits=12"),
            alloc::format!("{least}; client_max_window_bits=16"),
            alloc::format!("{least}; unknown"),
            alloc::format!("{least}; server_no_context_takeover"),
            alloc::format!("{least}, permessage-deflate"),
            alloc::format!("{least}|{least}"),
            alloc::format!("{least}, other"),
            "other".into(),
            "permessage-deflate;".into(),
        ] {
            assert_eq!(check(&wrong, Some(&offer)), Err(Malformed), "{wrong}");
            assert_eq!(check(&wrong, None), Err(Malformed), "{wrong}");
        }
        let bare = DeflateOffer {
            server_no_context_takeover: false,
            client_max_window_bits: None,
            server_max_window_bits: None,
            ..DeflateOffer::default()
        };
        let unasked = "permessage-deflate; server_max_window_bits=9; server_no_context_takeover";
        let parameters = DeflateParameters {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: bits(9),
            client_max_window_bits: WindowBits::FULL,
        };
        assert_eq!(check(unasked, Some(&bare)), Ok(Some(parameters)));
        let limited = "permessage-deflate; client_max_window_bits=10";
        assert_eq!(check(limited, Some(&bare)), Err(Malformed));
    }

    #[test]
    fn an_offer_is_what_a_server_reads() {
        for (server, client) in [(None, None), (Some(9), Some(8)), (Some(15), Some(15))] {
            for forgets in [false, true] {
                let offer = DeflateOffer {
                    server_no_context_takeover: forgets,
                    client_no_context_takeover: !forgets,
                    server_max_window_bits: server.and_then(WindowBits::new),
                    client_max_window_bits: client.and_then(WindowBits::new),
                };
                let mut line = Vec::new();
                write_offer(&offer, &mut line);
                let answered = answer([line.as_slice()].into_iter(), true).expect("an offer");
                let mut back = Vec::new();
                write_answer(&answered, &mut back);
                let agreed = check([back.as_slice()].into_iter(), Some(&offer));
                let client_max_window_bits = offer.client_max_window_bits.unwrap_or_default();
                let expected = DeflateParameters {
                    client_max_window_bits,
                    ..answered.parameters
                };
                assert_eq!(agreed, Ok(Some(expected)));
            }
        }
    }
}
