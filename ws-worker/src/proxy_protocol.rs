//! The PROXY protocol's head, version 1 and 2, in front of a connection's own bytes: bytes → who the proxy says is behind it.
//! Knows no socket, and not whether the proxy is to be believed: that it stands on a listener is the operator's word.
//! [HAProxy, proxy-protocol.txt]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its line end included. [2.1]
const V1_MAX: usize = 107;
const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;
/// Addresses and what comes with them. The format allows 65 535; a proxy that sends certificates needs a few hundred.
const V2_MAX: usize = 4096;
const PP2_TYPE_SSL: u8 = 0x20;
const PP2_CLIENT_SSL: u8 = 0x01;

/// What a head says of the connection behind the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxied {
    /// Where it comes from; `None` if the proxy speaks for itself (a health check) or does not know.
    pub(crate) source: Option<SocketAddr>,
    /// The proxy took it over TLS. Only version 2 can say so (`send-proxy-v2-ssl`).
    pub(crate) secure: bool,
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a head; ask again with more. At most 4112 bytes are ever wanted.
    Partial,
    /// A whole head.
    Done {
        /// So many bytes are the head's; the rest is the connection's.
        consumed: usize,
        /// What it says.
        proxied: Proxied,
    },
    /// No head: drop the connection without an answer.
    Invalid,
}

/// Parses all bytes that came so far, from the first one.
pub(crate) fn parse(input: &[u8]) -> Parsed {
    if starts_alike(input, V2_START) {
        version_2(input)
    } else if starts_alike(input, V1_START) {
        version_1(input)
    } else {
        Parsed::Invalid
    }
}

/// Returns whether `input` is, or may still become, something that begins with `start`.
fn starts_alike(input: &[u8], start: &[u8]) -> bool {
    input.iter().zip(start).all(|(byte, wanted)| byte == wanted)
}

fn version_1(input: &[u8]) -> Parsed {
    let window = input.get(..V1_MAX).unwrap_or(input);
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if input.len() < V1_MAX {
            Parsed::Partial
        } else {
            Parsed::Invalid
        };
    };
    match window.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([b'\r']) if input.len() < V1_MAX => return Parsed::Partial,
        _ => return Parsed::Invalid,
    }
    let source = window
        .get(..end)
        .and_then(|line| std::str::from_utf8(line).ok())
        .and_then(source_of_line);
    match source {
        Some(source) => Parsed::Done {
            consumed: end + 2,
            proxied: Proxied {
                source,
                secure: false,
            },
        },
        None => Parsed::Invalid,
    }
}

/// Reads a line of version 1. The outer `None` is a line that is none.
fn source_of_line(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return None;
    }
    let (source, destination): (IpAddr, IpAddr) = match words.next()? {
        // What follows is to be ignored. [2.1]
        "UNKNOWN" => return Some(None),
        "TCP4" => {
            let (source, destination) = (words.next()?, words.next()?);
            let pair: (Ipv4Addr, Ipv4Addr) = (source.parse().ok()?, destination.parse().ok()?);
            (pair.0.into(), pair.1.into())
        }
        "TCP6" => {
            let (source, destination) = (words.next()?, words.next()?);
            let pair: (Ipv6Addr, Ipv6Addr) = (source.parse().ok()?, destination.parse().ok()?);
            (pair.0.into(), pair.1.into())
        }
        _ => return None,
    };
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let _ = (destination, destination_port); // Only to be there and well-formed.
    Some(Some(SocketAddr::new(source, source_port)))
}

/// Reads a port as the format writes it: digits alone, no leading zero.
fn port(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

fn version_2(input: &[u8]) -> Parsed {
    let Some(&[.., version_command, family, high, low]) = input.first_chunk::<V2_FIXED>() else {
        return Parsed::Partial;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Parsed::Invalid,
    };
    if length > V2_MAX {
        return Parsed::Invalid;
    }
    let consumed = V2_FIXED + length;
    let Some(payload) = input.get(V2_FIXED..consumed) else {
        return Parsed::Partial;
    };
    let proxied = if local {
        // Whatever it says of addresses is to be discarded. [2.2]
        Some(Proxied::default())
    } else {
        proxied(family, payload)
    };
    match proxied {
        Some(proxied) => Parsed::Done { consumed, proxied },
        None => Parsed::Invalid,
    }
}

/// Reads the address block and what follows it. `None` if it is too short or no stream.
fn proxied(family: u8, payload: &[u8]) -> Option<Proxied> {
    let (source, rest) = match family {
        // Unspecified: neither addresses nor what follows them can be told apart.
        0x00 => return Some(Proxied::default()),
        0x11 => {
            let (block, rest) = payload.split_first_chunk::<12>()?;
            let &[a, b, c, d, _, _, _, _, high, low, ..] = block;
            let address = Ipv4Addr::new(a, b, c, d);
            let port = u16::from_be_bytes([high, low]);
            (Some(SocketAddr::from((address, port))), rest)
        }
        0x21 => {
            let (address, rest) = payload.split_first_chunk::<16>()?;
            let (_, rest) = rest.split_first_chunk::<16>()?;
            let (&[high, low, ..], rest) = rest.split_first_chunk::<4>()?;
            let port = u16::from_be_bytes([high, low]);
            (Some(SocketAddr::from((*address, port))), rest)
        }
        0x31 => (None, payload.split_first_chunk::<216>()?.1),
        _ => return None,
    };
    Some(Proxied {
        source,
        secure: over_tls(rest),
    })
}

/// Looks for the TLS block among what follows the addresses. What cannot be read says nothing.
fn over_tls(mut rest: &[u8]) -> bool {
    while let Some((&[kind, high, low], behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, behind)) = behind.split_at_checked(length) else {
            return false;
        };
        if kind == PP2_TYPE_SSL {
            return value
                .first()
                .is_some_and(|client| client & PP2_CLIENT_SSL != 0);
        }
        rest = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(consumed: usize, source: Option<&str>) -> Parsed {
        Parsed::Done {
            consumed,
            proxied: Proxied {
                source: source.map(|text| text.parse().unwrap()),
                secure: false,
            },
        }
    }

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut head = V2_START.to_vec();
        head.extend([command, family]);
        head.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        head.extend(payload);
        head
    }

    const FOUR: [u8; 12] = [192, 0, 2, 1, 127, 0, 0, 1, 0x12, 0x67, 0x23, 0x28];

    /// Every shorter input is the beginning of it, and bytes behind it are left alone.
    fn check(head: &[u8], expected: Parsed) {
        for cut in 0..head.len() {
            assert_eq!(parse(&head[..cut]), Parsed::Partial, "cut at {cut}");
        }
        let mut longer = head.to_vec();
        assert_eq!(parse(&longer), expected);
        longer.extend(b"GET / HTTP/1.1\r\n");
        assert_eq!(parse(&longer), expected);
    }

    #[test]
    fn version_1_names_the_source() {
        let line = b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 9000\r\n";
        check(line, done(line.len(), Some("192.0.2.1:4711")));
        let line = b"PROXY TCP6 2001:db8::1 ::1 5 9000\r\n";
        check(line, done(line.len(), Some("[2001:db8::1]:5")));
        check(b"PROXY UNKNOWN\r\n", done(15, None));
        let longest = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), V1_MAX);
        check(longest, done(V1_MAX, None));
    }

    #[test]
    fn what_is_no_line_of_version_1_is_refused() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n",
            "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
            "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 \u{ff12}\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Parsed::Invalid, "{line:?}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!(parse(&endless), Parsed::Invalid);
        assert_eq!(parse(&endless[..V1_MAX]), Parsed::Invalid);
        assert_eq!(parse(&endless[..V1_MAX - 1]), Parsed::Partial);
    }

    #[test]
    fn version_2_names_the_source() {
        check(&v2(0x21, 0x11, &FOUR), done(28, Some("192.0.2.1:4711")));
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        six[15] = 1;
        six[33] = 5;
        check(&v2(0x21, 0x21, &six), done(52, Some("[2001:db8::1]:5")));
        check(&v2(0x21, 0x31, &[0; 216]), done(232, None));
        check(&v2(0x21, 0x00, b"anything"), done(24, None));
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_nobody() {
        check(&v2(0x20, 0x00, b""), done(16, None));
        check(&v2(0x20, 0x11, &FOUR), done(28, None));
    }

    #[test]
    fn version_2_says_whether_it_was_tls() {
        let tls = |client: u8| {
            let more: &[u8] = &[4, 0, 1, 0, PP2_TYPE_SSL, 0, 5, client, 0, 0, 0, 0];
            match parse(&v2(0x21, 0x11, &[&FOUR, more].concat())) {
                Parsed::Done { proxied, .. } => proxied.secure,
                Parsed::Partial | Parsed::Invalid => panic!("a whole head"),
            }
        };
        assert!(tls(0x01) && tls(0x07) && !tls(0x02) && !tls(0));
        // A block that is cut short says nothing.
        let cut = v2(0x21, 0x11, &[&FOUR[..], &[PP2_TYPE_SSL, 0, 9, 1]].concat());
        assert_eq!(parse(&cut), done(32, Some("192.0.2.1:4711")));
    }

    #[test]
    fn what_is_no_head_of_version_2_is_refused() {
        for (command, family, payload) in [
            (0x11, 0x11, &FOUR[..]), // a version 1 in binary
            (0x22, 0x11, &FOUR),     // an unknown command
            (0x21, 0x12, &FOUR),     // datagrams
            (0x21, 0x41, &FOUR),     // an unknown family
            (0x21, 0x11, &FOUR[..11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x31, &[0; 215]),
        ] {
            let head = v2(command, family, payload);
            assert_eq!(parse(&head), Parsed::Invalid, "{command:x} {family:x}");
        }
        let long = v2(0x21, 0x00, &[0; V2_MAX + 1]);
        assert_eq!(parse(&long[..V2_FIXED]), Parsed::Invalid);
        let mut almost = v2(0x21, 0x11, &FOUR);
        almost[11] = b'\r';
        assert_eq!(parse(&almost), Parsed::Invalid);
    }
}
