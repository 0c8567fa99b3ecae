//! Who is really behind the proxy: a connection's peer, what the PROXY protocol said, and a request's forwarding headers →
//! one address, scheme and host. Pure; knows no socket and no route, and believes nobody who is not configured.

use crate::proxy_protocol::Proxied;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The other end of an accepted socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket: always trusted, the file mode is the permission.
    Unix,
}

/// What is known of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// `tcp:192.0.2.1:4711`, `tcp:[2001:db8::1]:5`, without a port where none is known, or `unix:`.
    pub(crate) peer: String,
    /// The client's address, if there is one: what `max_per_peer` counts.
    pub(crate) address: Option<IpAddr>,
    /// The client came over TLS.
    pub(crate) secure: bool,
    /// The host the client used, if it is not what `Host` says.
    pub(crate) host: Option<String>,
    /// The request's forwarding headers were believed, and may be passed on.
    pub(crate) trusted: bool,
}

/// Finds out who is behind a connection.
///
/// `proxied` is what the PROXY protocol said on a listener that demands it: whoever configured that listener trusts its
/// peers. Behind such a head the headers are those of the connection it tells of, so they are believed only if *that* comes
/// from a trusted proxy: in TCP mode nobody has looked at them.
pub(crate) fn forwarded<'a>(
    peer: Peer,
    proxied: Option<Proxied>,
    trusted_proxies: &[IpNet],
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Forwarded {
    let direct = match peer {
        Peer::Tcp(address) => Hop::from(address),
        Peer::Unix => Hop::default(),
    };
    let is_trusted = |hop: Hop| match hop.address {
        Some(address) => trusted_proxies.iter().any(|net| net.contains(&address)),
        None => true,
    };
    let (hop, trusted) = match proxied {
        None => (direct, is_trusted(direct)),
        Some(Proxied { source: None, .. }) => (direct, false),
        Some(Proxied {
            source: Some(source),
            ..
        }) => (Hop::from(source), is_trusted(Hop::from(source))),
    };
    let mut result = Forwarded {
        peer: String::new(),
        address: None,
        secure: proxied.is_some_and(|proxied| proxied.secure),
        host: None,
        trusted,
    };
    let mut client = hop;
    if trusted {
        let lines = Lines::collect(headers);
        let said = if lines.has_x() {
            lines.x()
        } else {
            lines.standard()
        };
        for element in said.chain {
            // Garbage ends the walk: what stands behind it was not written by anybody we trust.
            let Some(next) = Hop::parse(element) else {
                break;
            };
            client = next;
            if !is_trusted(next) {
                break;
            }
        }
        if let Some(proto) = said.proto {
            result.secure = ["https", "wss"]
                .iter()
                .any(|name| proto.eq_ignore_ascii_case(name));
        }
        result.host = said.host.filter(|host| is_host(host)).map(str::to_owned);
    }
    result.address = client.address;
    result.peer = client.text();
    result
}

/// Returns whether `text` can be a host with or without a port: nothing in it that could mean something in a URL or a header.
pub(crate) fn is_host(text: &str) -> bool {
    let (name, rest) = if let Some(inner) = text.strip_prefix('[') {
        match inner.split_once(']') {
            Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => ("", rest),
            Some(_) | None => return false,
        }
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || !name.bytes().all(sane) {
            return false;
        }
        (name, rest)
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit()),
        None => rest.is_empty(),
    };
    port && name.len() <= 255
}

/// One end of a way; without an address it is a unix socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hop {
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl From<SocketAddr> for Hop {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip(), Some(address.port()))
    }
}

impl Hop {
    /// An IPv4 address in IPv6 clothes, as dual-stack listeners see it, is an IPv4 address.
    fn new(address: IpAddr, port: Option<u16>) -> Self {
        Self {
            address: Some(address.to_canonical()),
            port,
        }
    }

    /// Reads `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:5`.
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::new(address, None));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self::from(address));
        }
        let address: Ipv6Addr = text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
        Some(Self::new(address.into(), None))
    }
}

impl Hop {
    /// Shows it as [`Forwarded::peer`] says. Every handshake needs it, and nearly all of them with an IPv4 address, so that
    /// is written by hand: through `fmt` it costs as much as the parsing of the head.
    fn text(self) -> String {
        match self.address {
            None => "unix:".to_owned(),
            Some(IpAddr::V6(address)) => match self.port {
                None => format!("tcp:[{address}]"),
                Some(port) => format!("tcp:[{address}]:{port}"),
            },
            Some(IpAddr::V4(address)) => {
                let mut text = String::with_capacity("tcp:255.255.255.255:65535".len());
                text.push_str("tcp");
                let mut sign = ':';
                for octet in address.octets() {
                    text.push(sign);
                    push_number(&mut text, octet.into());
                    sign = '.';
                }
                if let Some(port) = self.port {
                    text.push(':');
                    push_number(&mut text, port);
                }
                text
            }
        }
    }
}

fn push_number(text: &mut String, number: u16) {
    if number > 9 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

/// The lines of a request that tell of forwarding, in their order. Allocates only for those that are there.
#[derive(Default)]
struct Lines<'a> {
    x_for: Vec<&'a [u8]>,
    x_proto: Option<&'a [u8]>,
    x_host: Option<&'a [u8]>,
    standard: Vec<&'a [u8]>,
}

/// What they tell: addresses from the nearest to the farthest, and the nearest proxy's word on scheme and host.
#[derive(Default)]
struct Said<'a> {
    chain: Vec<&'a str>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Lines<'a> {
    fn collect(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut lines = Self::default();
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("x-forwarded-for") {
                lines.x_for.push(value);
            } else if name.eq_ignore_ascii_case("x-forwarded-proto") {
                lines.x_proto = Some(value);
            } else if name.eq_ignore_ascii_case("x-forwarded-host") {
                lines.x_host = Some(value);
            } else if name.eq_ignore_ascii_case("forwarded") {
                lines.standard.push(value);
            }
        }
        lines
    }

    /// A proxy that writes `X-Forwarded-*` does not look at `Forwarded`, so beside them that one is the client's own.
    fn has_x(&self) -> bool {
        !self.x_for.is_empty() || self.x_proto.is_some() || self.x_host.is_some()
    }

    fn x(&self) -> Said<'a> {
        let last = |line: Option<&'a [u8]>| line.and_then(|line| elements(line).next());
        Said {
            chain: self
                .x_for
                .iter()
                .rev()
                .flat_map(|line| elements(line))
                .collect(),
            proto: last(self.x_proto),
            host: last(self.x_host),
        }
    }

    fn standard(&self) -> Said<'a> {
        let mut said = Said::default();
        let mut nearest = true;
        for line in self.standard.iter().rev() {
            // A line that cannot be read as a whole, say for an open quote, hides who wrote which part of it.
            let Some(elements) = std::str::from_utf8(line).ok().and_then(standard_elements) else {
                break;
            };
            for element in elements.into_iter().rev() {
                if nearest {
                    (said.proto, said.host) = (element.proto, element.host);
                    nearest = false;
                }
                said.chain.push(element.node.unwrap_or_default());
            }
        }
        said
    }
}

/// Walks through a comma list from its end, empty elements left out. What is not UTF-8 is an element that means nothing.
fn elements(line: &[u8]) -> impl Iterator<Item = &str> {
    line.rsplit(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
        .map(|element| std::str::from_utf8(element).unwrap_or("?"))
}

/// One element of `Forwarded`. [RFC 7239, 4]
#[derive(Clone, Copy, Default)]
struct Element<'a> {
    node: Option<&'a str>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

/// Reads a whole line of `Forwarded`. `None` if it breaks the grammar anywhere, or escapes something in quotes.
fn standard_elements(line: &str) -> Option<Vec<Element<'_>>> {
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
    let mut elements = vec![Element::default()];
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=')?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let value;
        if let Some(quoted) = behind.strip_prefix('"') {
            (value, rest) = quoted.split_once('"')?;
            if value.contains('\\') {
                return None;
            }
        } else {
            // Addresses with a colon ought to be quoted; not every proxy does it.
            let end = behind
                .find(|c: char| matches!(c, ',' | ';' | '"') || c.is_whitespace())
                .unwrap_or(behind.len());
            (value, rest) = behind.split_at(end);
        }
        let element = elements.last_mut()?;
        let slot = match () {
            () if name.eq_ignore_ascii_case("for") => Some(&mut element.node),
            () if name.eq_ignore_ascii_case("proto") => Some(&mut element.proto),
            () if name.eq_ignore_ascii_case("host") => Some(&mut element.host),
            () => None,
        };
        // No parameter may stand twice in an element.
        if slot.is_some_and(|slot| slot.replace(value).is_some()) {
            return None;
        }
        rest = rest.trim_ascii_start();
        if let Some(next) = rest.strip_prefix(';') {
            rest = next.trim_ascii_start();
        } else if let Some(next) = rest.strip_prefix(',') {
            elements.push(Element::default());
            rest = next.trim_ascii_start();
        } else if !rest.is_empty() {
            return None;
        }
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Peer {
        Peer::Tcp(text.parse().unwrap())
    }

    fn ask(peer: Peer, proxied: Option<Proxied>, headers: &[(&str, &str)]) -> Forwarded {
        let trusted: Vec<IpNet> = ["127.0.0.1/32", "10.0.0.0/8", "::1/128", "2001:db8:f::/48"]
            .iter()
            .map(|net| net.parse().unwrap())
            .collect();
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        forwarded(peer, proxied, &trusted, headers)
    }

    /// Through a trusted proxy on the same machine.
    fn check(headers: &[(&str, &str)], peer: &str) {
        let found = ask(tcp("127.0.0.1:999"), None, headers);
        assert_eq!(found.peer, peer, "{headers:?}");
        assert!(found.trusted);
    }

    #[test]
    fn without_a_word_it_is_the_peer_itself() {
        let found = ask(tcp("192.0.2.1:4711"), None, &[]);
        let expected = Forwarded {
            peer: "tcp:192.0.2.1:4711".to_owned(),
            address: Some("192.0.2.1".parse().unwrap()),
            secure: false,
            host: None,
            trusted: false,
        };
        assert_eq!(found, expected);
        assert_eq!(
            ask(tcp("[2001:db8::1]:5"), None, &[]).peer,
            "tcp:[2001:db8::1]:5"
        );
        assert_eq!(
            ask(tcp("[::ffff:192.0.2.1]:5"), None, &[]).peer,
            "tcp:192.0.2.1:5"
        );
        let unix = ask(Peer::Unix, None, &[]);
        assert_eq!(
            (unix.peer.as_str(), unix.address, unix.trusted),
            ("unix:", None, true)
        );
        check(&[], "tcp:127.0.0.1:999");
    }

    #[test]
    fn an_untrusted_peer_is_not_listened_to() {
        let lies = [
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "bank.example"),
            ("Forwarded", "for=127.0.0.1;proto=https;host=bank.example"),
        ];
        let found = ask(tcp("192.0.2.1:4711"), None, &lies);
        assert_eq!(found, ask(tcp("192.0.2.1:4711"), None, &[]));
        assert!(!found.trusted && !found.secure && found.host.is_none());
    }

    #[test]
    fn the_rightmost_untrusted_element_is_the_client() {
        for (line, peer) in [
            ("192.0.2.7", "tcp:192.0.2.7"),
            ("192.0.2.7:80", "tcp:192.0.2.7:80"),
            ("2001:db8::7", "tcp:[2001:db8::7]"),
            ("[2001:db8::7]", "tcp:[2001:db8::7]"),
            ("[2001:db8::7]:80", "tcp:[2001:db8::7]:80"),
            ("::ffff:192.0.2.7", "tcp:192.0.2.7"),
            ("6.6.6.6, 192.0.2.7", "tcp:192.0.2.7"), // what the client said of itself
            ("6.6.6.6, 192.0.2.7, 10.1.1.1", "tcp:192.0.2.7"),
            ("192.0.2.7,10.1.1.1 ,\t2001:db8:f::2", "tcp:192.0.2.7"),
            ("10.2.2.2, 10.1.1.1", "tcp:10.2.2.2"), // trusted all along: the farthest
            ("192.0.2.7, garbage, 10.1.1.1", "tcp:10.1.1.1"),
            ("192.0.2.7, unknown", "tcp:127.0.0.1:999"),
            ("192.0.2.7, , 10.1.1.1,", "tcp:192.0.2.7"),
            ("192.0.2.7, 192.0.2.8 192.0.2.9", "tcp:127.0.0.1:999"),
            ("192.0.2.300", "tcp:127.0.0.1:999"),
            ("192.0.2.7:99999", "tcp:127.0.0.1:999"),
            ("", "tcp:127.0.0.1:999"),
        ] {
            check(&[("x-forwarded-for", line)], peer);
        }
        let unix = ask(Peer::Unix, None, &[("X-Forwarded-For", "192.0.2.7")]);
        assert_eq!(unix.peer, "tcp:192.0.2.7");
    }

    #[test]
    fn repeated_lines_are_one_list() {
        let headers = [
            ("x-forwarded-for", "6.6.6.6"),
            ("Cookie", "a=b"),
            ("X-Forwarded-For", "192.0.2.7"),
            ("X-FORWARDED-FOR", "10.1.1.1"),
        ];
        check(&headers, "tcp:192.0.2.7");
    }

    #[test]
    fn what_is_not_utf_8_is_garbage() {
        let headers: [(&str, &[u8]); 1] = [("x-forwarded-for", b"192.0.2.7, \xff")];
        let found = forwarded(Peer::Unix, None, &[], headers);
        assert_eq!(found.peer, "unix:");
    }

    #[test]
    fn the_last_scheme_and_host_count() {
        for (proto, secure) in [
            ("https", true),
            ("WSS", true),
            ("http", false),
            ("https, http", false),
            ("http, https", true),
            ("httpsx", false),
            ("", false),
        ] {
            let found = ask(Peer::Unix, None, &[("X-Forwarded-Proto", proto)]);
            assert_eq!(found.secure, secure, "{proto}");
        }
        for (host, expected) in [
            ("chat.example.org", Some("chat.example.org")),
            (
                "spoof.example, chat.example.org:8443",
                Some("chat.example.org:8443"),
            ),
            ("[2001:db8::1]:80", Some("[2001:db8::1]:80")),
            ("a b", None),
            ("a/b", None),
            ("user@a", None),
            ("a\r\nb", None),
            ("a:b", None),
            ("a:+80", None),
            ("a:", None),
            (":80", None),
            ("[::1", None),
            ("", None),
        ] {
            let found = ask(Peer::Unix, None, &[("X-Forwarded-Host", host)]);
            assert_eq!(found.host.as_deref(), expected, "{host:?}");
        }
        assert!(!is_host(&"a".repeat(256)));
    }

    #[test]
    fn the_standard_header_says_the_same() {
        for (line, peer) in [
            ("for=192.0.2.7", "tcp:192.0.2.7"),
            (
                "For=\"[2001:db8::7]:80\";proto=https",
                "tcp:[2001:db8::7]:80",
            ),
            ("for=6.6.6.6, for=192.0.2.7;by=10.0.0.1", "tcp:192.0.2.7"),
            ("for=192.0.2.7, for=10.1.1.1 ; proto=https", "tcp:192.0.2.7"),
            ("for=192.0.2.7:80", "tcp:192.0.2.7:80"),
            ("for=unknown", "tcp:127.0.0.1:999"),
            ("for=_hidden", "tcp:127.0.0.1:999"),
            ("for=192.0.2.7, proto=https", "tcp:127.0.0.1:999"),
            // A client's open quote cannot swallow what the proxy appends.
            ("for=\"6.6.6.6, for=192.0.2.7", "tcp:127.0.0.1:999"),
            ("for=\"6.6.6.6, for=\"[2001:db8::7]\"", "tcp:127.0.0.1:999"),
            ("for=\"6.6.6.6\\\", for=192.0.2.7", "tcp:127.0.0.1:999"),
            ("for=6.6.6.6;for=192.0.2.7", "tcp:127.0.0.1:999"),
            ("=6.6.6.6", "tcp:127.0.0.1:999"),
            ("192.0.2.7", "tcp:127.0.0.1:999"),
        ] {
            check(&[("Forwarded", line)], peer);
        }
        let lines = [
            ("Forwarded", "for=\"broken"),
            (
                "Forwarded",
                "for=192.0.2.7;host=a.example;proto=http, for=10.1.1.1;host=b.example;proto=https",
            ),
        ];
        let found = ask(Peer::Unix, None, &lines);
        assert_eq!(
            (found.peer.as_str(), found.host.as_deref(), found.secure),
            ("tcp:192.0.2.7", Some("b.example"), true)
        );
    }

    #[test]
    fn beside_the_usual_headers_the_standard_one_is_the_clients() {
        let headers = [
            ("Forwarded", "for=6.6.6.6;proto=https;host=spoof.example"),
            ("X-Forwarded-For", "192.0.2.7"),
        ];
        check(&headers, "tcp:192.0.2.7");
        let found = ask(Peer::Unix, None, &headers);
        assert!(!found.secure && found.host.is_none());
    }

    #[test]
    fn behind_a_proxy_protocol_head_the_headers_are_the_clients() {
        let proxied = |source: Option<&str>, secure| {
            Some(Proxied {
                source: source.map(|text| text.parse().unwrap()),
                secure,
            })
        };
        let lies = [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-Proto", "https"),
        ];
        let found = ask(
            tcp("127.0.0.1:999"),
            proxied(Some("192.0.2.7:80"), false),
            &lies,
        );
        assert_eq!(
            (found.peer.as_str(), found.secure, found.trusted),
            ("tcp:192.0.2.7:80", false, false)
        );
        // A TCP balancer in front of an HTTP proxy that is trusted.
        let found = ask(
            tcp("127.0.0.1:999"),
            proxied(Some("10.1.1.1:80"), false),
            &lies,
        );
        assert_eq!(
            (found.peer.as_str(), found.secure, found.trusted),
            ("tcp:6.6.6.6", true, true)
        );
        // The balancer's own check, or it does not know.
        let found = ask(Peer::Unix, proxied(None, false), &lies);
        assert_eq!(
            (found.peer.as_str(), found.secure, found.trusted),
            ("unix:", false, false)
        );
        // The balancer ends TLS.
        let found = ask(Peer::Unix, proxied(Some("192.0.2.7:80"), true), &[]);
        assert!(found.secure && !found.trusted);
    }
}
