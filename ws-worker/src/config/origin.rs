//! Origins: how an operator names them, and whether the one a client sent is among them. Knows no header and no route.

use std::fmt;

/// An origin that may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `https://www.example.org`, lower case, default port left out.
    Exact(String),
    /// `https://*.example.org:8443`: every subdomain, but not the domain itself.
    Subdomains {
        /// `https`, or any.
        scheme: Option<String>,
        /// `.example.org`, lower case.
        suffix: String,
        /// The port, or the scheme's own.
        port: Option<u16>,
    },
    /// The literal `null`: sandboxed frames and files.
    Null,
    /// No origin at all: programs that are no browsers.
    Absent,
}

/// Why a text names no origin, and what would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotAnOrigin(pub(crate) &'static str, pub(crate) String);

impl Origin {
    /// Reads `https://www.example.org`, `https://*.example.org`, `*.example.org`, `null` or `absent`.
    pub(crate) fn parse(text: &str) -> Result<Self, NotAnOrigin> {
        match text {
            "null" => return Ok(Self::Null),
            "absent" => return Ok(Self::Absent),
            "*" => {
                return Err(NotAnOrigin(
                    "`*` would let every page in",
                    "leave `allowed_origins` out and let the app decide, or name the origins"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None if text.starts_with("*.") => (None, text),
            None => {
                return Err(NotAnOrigin(
                    "an origin begins with its scheme",
                    format!("write \"https://{text}\""),
                ));
            }
        };
        if let Some((origin, _)) = rest.split_once('/').filter(|(host, _)| !host.is_empty()) {
            let scheme = scheme.map(|scheme| scheme + "://").unwrap_or_default();
            return Err(NotAnOrigin(
                "an origin ends after host and port",
                format!("write \"{scheme}{origin}\""),
            ));
        }
        let Some(subdomains) = rest.strip_prefix("*.") else {
            return Parts::of(text)
                .map(|parts| Self::Exact(parts.to_string()))
                .ok_or_else(unclear);
        };
        let scheme_or_any = scheme.as_deref().unwrap_or("any");
        let parts = Parts::of_host(scheme_or_any, subdomains).ok_or_else(unclear)?;
        if !parts.host.contains('.') || parts.host.starts_with('[') {
            return Err(NotAnOrigin(
                "`*.` wants a domain behind it",
                "write \"https://*.example.org\"".to_owned(),
            ));
        }
        Ok(Self::Subdomains {
            suffix: format!(".{}", parts.host),
            port: parts.port,
            scheme,
        })
    }

    fn matches(&self, parts: &Parts) -> bool {
        match self {
            Self::Null | Self::Absent => false,
            Self::Exact(origin) => *origin == parts.to_string(),
            Self::Subdomains {
                scheme,
                suffix,
                port,
            } => {
                scheme.as_ref().is_none_or(|scheme| *scheme == parts.scheme)
                    && parts.host.len() > suffix.len()
                    && parts.host.ends_with(suffix.as_str())
                    && (*port == parts.port || *port == Some(parts.port_or_default()))
            }
        }
    }
}

fn unclear() -> NotAnOrigin {
    NotAnOrigin(
        "this is no origin",
        "write scheme, host and, if it is not the scheme's own, port: \"https://www.example.org:8443\"; \
         a host outside ASCII in its xn-- form"
            .to_owned(),
    )
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(origin) => f.write_str(origin),
            Self::Subdomains {
                scheme,
                suffix,
                port,
            } => {
                if let Some(scheme) = scheme {
                    write!(f, "{scheme}://")?;
                }
                write!(f, "*{suffix}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Null => f.write_str("null"),
            Self::Absent => f.write_str("absent"),
        }
    }
}

/// Returns whether a client that sent `origin` may come in: scheme, host and port must be one that is named. Case does
/// not count, nor whether the scheme's own port is written; a trailing dot does.
#[must_use]
pub fn origin_allowed(allowed: &[Origin], origin: Option<&str>) -> bool {
    match origin {
        None => allowed.contains(&Origin::Absent),
        Some("null") => allowed.contains(&Origin::Null),
        Some(origin) => Parts::of(origin)
            .is_some_and(|parts| allowed.iter().any(|origin| origin.matches(&parts))),
    }
}

/// An origin taken apart: lower case, the scheme's own port left out.
struct Parts {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Parts {
    fn of(origin: &str) -> Option<Self> {
        let (scheme, rest) = origin.split_once("://")?;
        // Old WebViews and extensions have origins without a host: "file://".
        if rest.is_empty() && is_scheme(scheme) {
            return Some(Self {
                scheme: scheme.to_ascii_lowercase(),
                host: String::new(),
                port: None,
            });
        }
        Self::of_host(scheme, rest)
    }

    fn of_host(scheme: &str, rest: &str) -> Option<Self> {
        let (host, port) = if rest.starts_with('[') {
            let end = rest.find(']')?;
            let (host, port) = rest.split_at_checked(end + 1)?;
            let address = host.strip_prefix('[')?.strip_suffix(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        } else {
            let (host, port) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
            host.split('.').all(is_label).then_some((host, port))?
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.starts_with('0') || digits.starts_with('+') => return None,
            Some(digits) => Some(digits.parse::<u16>().ok()?),
            None if port.is_empty() => None,
            None => return None,
        };
        let scheme = scheme.to_ascii_lowercase();
        is_scheme(&scheme).then(|| Self {
            host: host.to_ascii_lowercase(),
            port: port.filter(|port| Some(*port) != default_port(&scheme)),
            scheme,
        })
    }

    fn port_or_default(&self) -> u16 {
        self.port
            .or_else(|| default_port(&self.scheme))
            .unwrap_or(0)
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_comes_in_only_if_it_is_named() {
        fn check(allowed: &[&str], origin: &str, expected: bool) {
            let allowed: Vec<_> = allowed
                .iter()
                .map(|text| Origin::parse(text).unwrap())
                .collect();
            assert_eq!(
                origin_allowed(&allowed, Some(origin)),
                expected,
                "{allowed:?} {origin}"
            );
        }
        let app = &["https://app.test"];
        check(app, "https://app.test", true);
        check(app, "HTTPS://App.Test", true);
        check(app, "https://app.test:443", true);
        check(app, "https://app.test:8443", false);
        check(app, "https://app.test:0443", false);
        check(app, "https://app.test:", false);
        check(app, "http://app.test", false);
        check(app, "http://app.test:443", false);
        check(app, "https://evil-app.test", false);
        check(app, "https://app.test.evil", false);
        check(app, "https://app.test.", false);
        check(app, "https://sub.app.test", false);
        check(app, "https://app.test/", false);
        check(app, "https://user@app.test", false);
        check(app, "https://app.test https://app.test", false);
        check(app, "null", false);
        check(app, "", false);
        check(app, "app.test", false);
        check(app, "https://", false);

        let ports = &[
            "HTTP://LOCALHOST:8080",
            "http://[::1]:8080",
            "http://a.test:80",
        ];
        check(ports, "http://localhost:8080", true);
        check(ports, "http://localhost", false);
        check(ports, "http://[::1]:8080", true);
        check(ports, "http://[::1]", false);
        check(ports, "http://a.test", true);

        let below = &["https://*.example.org"];
        check(below, "https://www.example.org", true);
        check(below, "https://a.b.Example.org:443", true);
        check(below, "https://example.org", false);
        check(below, "https://.example.org", false);
        check(below, "https://evilexample.org", false);
        check(below, "https://www.example.org.", false);
        check(below, "https://www.example.org:8443", false);
        check(below, "http://www.example.org", false);
        check(below, "https://evil.test/.example.org", false);
        check(below, "https://evil.test#.example.org", false);
        check(below, "https://evil.test:1.example.org", false);
        check(&["*.example.org"], "http://www.example.org", true);
        check(&["*.example.org"], "http://www.example.org:8080", false);
        check(&["*.example.org:443"], "https://www.example.org", true);
        check(&["*.example.org:443"], "http://www.example.org", false);
        check(
            &["https://*.example.org:8443"],
            "https://www.example.org:8443",
            true,
        );

        check(&["null"], "null", true);
        check(&["null"], "NULL", false);
        check(&["file://"], "file://", true);
        check(&["file://"], "file:///etc", false);
        check(
            &["chrome-extension://abcdef"],
            "chrome-extension://abcdef",
            true,
        );
    }

    #[test]
    fn no_origin_comes_in_only_if_that_is_named() {
        assert!(origin_allowed(&[Origin::Absent], None));
        assert!(!origin_allowed(&[Origin::Null], None));
        assert!(!origin_allowed(&[Origin::Absent], Some("null")));
        assert!(!origin_allowed(&[], None));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_what_would_be() {
        fn check(text: &str, message: &str, help: &str) {
            let NotAnOrigin(found, found_help) = Origin::parse(text).unwrap_err();
            assert_eq!((found, found_help.as_str()), (message, help));
        }
        check(
            "*",
            "`*` would let every page in",
            "leave `allowed_origins` out and let the app decide, or name the origins",
        );
        check(
            "www.example.org",
            "an origin begins with its scheme",
            "write \"https://www.example.org\"",
        );
        check(
            "https://www.example.org/",
            "an origin ends after host and port",
            "write \"https://www.example.org\"",
        );
        check(
            "https://*.org",
            "`*.` wants a domain behind it",
            "write \"https://*.example.org\"",
        );
        for text in [
            "",
            "https://www.*.org",
            "https://www.example.org.",
            "https://bücher.example",
            "https://user@example.org",
            "https://example.org:99999",
            "https://*",
            "https://*.",
            "://example.org",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
