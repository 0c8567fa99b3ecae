//! Where a client goes: `ws://host:port/path?query`, `ws+unix:/path/to/socket:/path?query`. Knows no socket.

use std::fmt;
use std::path::PathBuf;

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) place: Place,
    /// The `Host` header: lower case, without the port where it is the scheme's own.
    pub(crate) host: String,
    /// Path and query, as they go onto the request line.
    pub(crate) target: String,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { name: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A text that is no URL of ours, and what would be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadUrl(&'static str);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadUrl {}

impl std::str::FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        if text.contains('#') {
            return Err(BadUrl("a WebSocket's URL has no fragment; write # as %23"));
        }
        match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => tcp(rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws+unix") => unix(rest),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("wss") => Err(BadUrl(
                "there is no TLS in this build; connect to what stands behind the proxy by ws:// or ws+unix:, \
                 or through a tunnel such as stunnel or socat",
            )),
            _ => Err(BadUrl(
                "write ws://host:port/path or ws+unix:/path/to/socket:/path",
            )),
        }
    }
}

fn tcp(rest: &str) -> Result<Url, BadUrl> {
    let rest = rest
        .strip_prefix("//")
        .ok_or(BadUrl("write ws://host:port/path"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        return Err(BadUrl(
            "a name and password go into --header 'Authorization: Basic …'",
        ));
    }
    let (name, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (name, rest) = literal.split_once(']').ok_or(BadUrl("no ] in the host"))?;
            (name, rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    if name.is_empty() {
        return Err(BadUrl("there is no host"));
    }
    if !name.is_ascii() {
        return Err(BadUrl("write the host in ASCII: xn--…"));
    }
    let port = match port {
        None | Some("") => 80,
        Some(port) => (port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or(BadUrl("the port is a number from 1 to 65535"))?,
    };
    let place = Place::Tcp {
        name: name.to_ascii_lowercase(),
        port,
    };
    let host = place.to_string();
    let host = match port {
        80 => host.strip_suffix(":80").unwrap_or(&host).to_owned(),
        _ => host,
    };
    Ok(Url {
        place,
        host,
        target: on_wire(target),
    })
}

fn unix(rest: &str) -> Result<Url, BadUrl> {
    let rest = match rest.strip_prefix("//") {
        Some(rest) => rest,
        None => rest,
    };
    let (path, target) = match rest.split_once(":/") {
        Some((path, _)) => (path, rest.get(path.len() + 1..).unwrap_or_default()),
        None => (rest.strip_suffix(':').unwrap_or(rest), ""),
    };
    if path.is_empty() {
        return Err(BadUrl("write ws+unix:/path/to/socket:/path"));
    }
    Ok(Url {
        place: Place::Unix(path.into()),
        host: "localhost".to_owned(),
        target: on_wire(target),
    })
}

/// Writes a path and query as browsers do: it begins with a slash, and what a request line cannot hold is percent-encoded.
fn on_wire(target: &str) -> String {
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut wire = slash.to_owned();
    for byte in target.bytes() {
        if byte.is_ascii_graphic() {
            wire.push(char::from(byte));
        } else {
            wire += &format!("%{byte:02X}");
        }
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_as_a_browser_does() {
        #[track_caller]
        fn check(text: &str, place: &str, host: &str, target: &str) {
            let url: Url = text.parse().unwrap();
            assert_eq!(
                (
                    url.place.to_string().as_str(),
                    url.host.as_str(),
                    url.target.as_str()
                ),
                (place, host, target)
            );
        }
        check("ws://example.org", "example.org:80", "example.org", "/");
        check(
            "WS://Example.org:80/a?b",
            "example.org:80",
            "example.org",
            "/a?b",
        );
        check(
            "ws://127.0.0.1:9000?x=ws://y",
            "127.0.0.1:9000",
            "127.0.0.1:9000",
            "/?x=ws://y",
        );
        check(
            "ws://[::1]:8080/a b/é",
            "[::1]:8080",
            "[::1]:8080",
            "/a%20b/%C3%A9",
        );
        check("ws://[::1]/", "[::1]:80", "[::1]", "/");
        check(
            "ws+unix:/run/w.sock:/echo?a=b:/c",
            "/run/w.sock",
            "localhost",
            "/echo?a=b:/c",
        );
        check("ws+unix:///run/w.sock", "/run/w.sock", "localhost", "/");
        check("ws+unix:w.sock:", "w.sock", "localhost", "/");
    }

    #[test]
    fn what_is_no_url_is_refused_with_what_would_be_one() {
        for (text, expected) in [
            ("wss://example.org/", "no TLS"),
            ("http://example.org/", "write ws://"),
            ("example.org", "write ws://"),
            ("example.org:9000", "write ws://"),
            ("ws:/example.org", "write ws://"),
            ("ws:///path", "no host"),
            ("ws://a:0/", "port"),
            ("ws://a:b/", "port"),
            ("ws://a:65536/", "port"),
            ("ws://[::1/", "no ]"),
            ("ws://u:p@a/", "Authorization"),
            ("ws://a/#b", "fragment"),
            ("ws://bücher.example/", "ASCII"),
            ("ws+unix::/path", "write ws+unix:"),
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
