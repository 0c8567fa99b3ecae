//! What `connect` is told on its command line, and what of it contradicts the version. Opens nothing.

use super::url::{BadUrl, Url};
use crate::config::unit;
use clap::{Args, ValueEnum};
use std::time::Duration;
use ws_proto::{ClientOptions, CloseCode, DeflateOffer, Headers, Version};

/// Where to connect and what to say.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// ws://host:port/path or ws+unix:/path/to/socket:/path
    #[arg(value_name = "URL", value_parser = parse_url)]
    pub(crate) url: Url,

    /// Version to speak: hixie75, hixie76, hybi07, hybi08, rfc6455
    #[arg(long, value_name = "VERSION", value_parser = parse_version, default_value = "rfc6455", help_heading = "Handshake")]
    pub(crate) wire: Version,
    /// Origin to send [default: http://HOST in hixie75 and 76, which need one, otherwise none]; '' sends none
    #[arg(long, value_name = "ORIGIN", help_heading = "Handshake")]
    pub(crate) origin: Option<String>,
    /// Subprotocol to offer; may be repeated, best first
    #[arg(long, value_name = "NAME", help_heading = "Handshake")]
    pub(crate) protocol: Vec<String>,
    /// Header to send, 'Name: value'; may be repeated
    #[arg(long, value_name = "HEADER", value_parser = parse_header, help_heading = "Handshake")]
    pub(crate) header: Vec<(String, String)>,
    /// Offer permessage-deflate (rfc6455)
    #[arg(long, help_heading = "Handshake")]
    pub(crate) deflate: bool,
    /// Accept a hixie75 or 76 answer as proxies change it: other order and spelling, another location
    #[arg(long, help_heading = "Handshake")]
    pub(crate) relaxed: bool,

    /// Send lines as binary messages
    #[arg(long, help_heading = "Messages")]
    pub(crate) binary: bool,
    /// How binary messages are printed
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        default_value = "hex",
        help_heading = "Messages"
    )]
    pub(crate) print: Print,
    /// End after this number of messages was received; the end of stdin then ends nothing
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Messages")]
    pub(crate) count: Option<u64>,
    /// Do not close when stdin ends: stay until the server closes, or until --timeout
    #[arg(long, help_heading = "Messages")]
    pub(crate) stay: bool,
    /// Size of the largest message that is accepted, and of the longest line that is sent
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64MiB", help_heading = "Messages")]
    pub(crate) max_message: usize,

    /// Ping at once and then at this interval [1s], and print the round trips to stderr
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "1s",
          value_parser = parse_duration, help_heading = "Time")]
    pub(crate) ping: Option<Duration>,
    /// Time for everything together; exit 124 when it is over [default: none]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Time")]
    pub(crate) timeout: Option<Duration>,
    /// Time to connect, and time for the handshake
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s", help_heading = "Time")]
    pub(crate) handshake_timeout: Duration,
    /// Time for the closing handshake
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s", help_heading = "Time")]
    pub(crate) close_timeout: Duration,

    /// Code to close with [default: 1000]
    #[arg(long, value_name = "CODE", help_heading = "Closing")]
    pub(crate) close_code: Option<u16>,
    /// Reason to close with, at most 123 bytes
    #[arg(long, value_name = "TEXT", help_heading = "Closing")]
    pub(crate) reason: Option<String>,

    /// Print messages and errors only
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Print the heads of the handshake to stderr, > sent, < received
    #[arg(short, long, help_heading = "Output")]
    pub(crate) verbose: bool,
}

/// How a binary message is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Print {
    /// hex:00ff10
    Hex,
    /// base64:AP8Q
    Base64,
    /// The bytes as they are
    Raw,
}

impl Options {
    /// Makes the request's options.
    ///
    /// # Errors
    /// The caller's: something that the version does not have, or that would break the request.
    pub(crate) fn request(&self) -> Result<ClientOptions, String> {
        let version = self.wire;
        if self.binary && !version.has_binary() {
            return Err(format!("{version} has no binary messages"));
        }
        if self.ping.is_some() && !version.has_ping() {
            return Err(format!("{version} has no pings"));
        }
        if self.deflate && version != Version::Rfc6455 {
            return Err(format!("{version} has no permessage-deflate"));
        }
        if (self.close_code.is_some() || self.reason.is_some()) && !version.has_close_code() {
            return Err(format!("{version} has neither close codes nor reasons"));
        }
        if self.code().is_none() {
            return Err(
                "--close-code: write 1000 to 1003, 1007 to 1014 or 3000 to 4999".to_owned(),
            );
        }
        if self.reason.as_ref().is_some_and(|text| text.len() > 123) {
            return Err("--reason: 123 bytes is the most".to_owned());
        }
        if self.protocol.len() > 1 && matches!(version, Version::Hixie75 | Version::Hixie76) {
            return Err(format!("{version} can offer one subprotocol only"));
        }
        let mut options =
            ClientOptions::new(version, self.url.host.as_str(), self.url.target.as_str());
        options.relaxed = self.relaxed;
        options.deflate = self.deflate.then(DeflateOffer::default);
        options.timeout = self.handshake_timeout;
        options.protocols.clone_from(&self.protocol);
        options.headers = Headers::default();
        for (name, value) in &self.header {
            if name.eq_ignore_ascii_case("host") {
                options.host.clone_from(value);
            } else if name.eq_ignore_ascii_case("origin") {
                options.origin = Some(value.clone());
            } else if options.headers.add(name, value) != Ok(()) {
                return Err(format!("--header: {name}: {value} is no header"));
            }
        }
        // The drafts want an origin, and servers of their time refuse without.
        if options.origin.is_none() && matches!(version, Version::Hixie75 | Version::Hixie76) {
            options.origin = Some(format!("http://{}", options.host));
        }
        if let Some(origin) = &self.origin {
            options.origin = Some(origin.clone()).filter(|origin| !origin.is_empty());
        }
        Ok(options)
    }

    /// Returns the code to close with; `None` for one that may not be sent.
    pub(crate) fn code(&self) -> Option<CloseCode> {
        match self.close_code {
            None => Some(CloseCode::NORMAL),
            Some(code) => CloseCode::new(code),
        }
    }
}

fn parse_url(text: &str) -> Result<Url, BadUrl> {
    text.parse()
}

fn parse_version(text: &str) -> Result<Version, String> {
    let plain = text.to_ascii_lowercase().replace(['-', '_'], "");
    Version::ALL
        .into_iter()
        .find(|version| {
            version.name().replace('-', "") == plain || version.number().to_string() == plain
        })
        .ok_or_else(|| "write hixie75, hixie76, hybi07, hybi08 or rfc6455".to_owned())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.trim().to_owned())),
        Some(_) | None => Err("write 'Name: value'".to_owned()),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    unit::duration(text).map_err(|no| format!("{}; {}", no.message, no.help))
}

fn parse_size(text: &str) -> Result<usize, String> {
    unit::size(text).map_err(|no| format!("{}; {}", no.message, no.help))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    /// Reads a command line as `ws-worker connect` does.
    pub(crate) fn options(line: &[&str]) -> Result<Options, String> {
        Line::try_parse_from(["connect"].iter().chain(line))
            .map(|line| line.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn versions_are_known_by_any_of_their_names() {
        for (name, version) in [
            ("hixie75", Version::Hixie75),
            ("hixie-76", Version::Hixie76),
            ("7", Version::Hybi07),
            ("hybi-08", Version::Hybi08),
            ("RFC6455", Version::Rfc6455),
            ("13", Version::Rfc6455),
        ] {
            assert_eq!(parse_version(name), Ok(version), "{name}");
        }
        assert!(parse_version("hybi06").is_err());
    }

    #[test]
    fn what_a_version_does_not_have_is_told_before_anything_is_opened() {
        for (line, expected) in [
            ("--wire 75 --binary", "hixie-75 has no binary messages"),
            ("--wire 76 --ping", "hixie-76 has no pings"),
            ("--wire 8 --deflate", "hybi-08 has no permessage-deflate"),
            ("--wire 76 --reason x", "hixie-76 has neither close codes"),
            (
                "--wire 75 --protocol a --protocol b",
                "one subprotocol only",
            ),
            ("--close-code 1005", "--close-code: write 1000"),
            ("--header X:a\u{7}b", "is no header"),
        ] {
            let line: Vec<_> = ["ws://a/"].into_iter().chain(line.split(' ')).collect();
            let error = options(&line).unwrap().request().unwrap_err();
            assert!(error.contains(expected), "{line:?}: {error}");
        }
        for line in [
            &["wss://a/"][..],
            &["ws://a/", "--wire", "14"],
            &["ws://a/", "--count", "0"],
            &["ws://a/", "--timeout", "5"],
            &["ws://a/", "--header", "x"],
            &["ws://a/", "-q", "-v"],
            &[],
        ] {
            assert!(options(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_old_versions_name_an_origin_unless_told_otherwise() {
        let origin = |line: &[&str]| options(line).unwrap().request().unwrap().origin;
        assert_eq!(
            origin(&["ws://a:81/", "--wire=76"]).as_deref(),
            Some("http://a:81")
        );
        assert_eq!(origin(&["ws://a:81/", "--wire=76", "--origin="]), None);
        assert_eq!(origin(&["ws://a/"]), None);
        assert_eq!(
            origin(&["ws://a/", "--origin=null"]).as_deref(),
            Some("null")
        );
    }

    #[test]
    fn host_may_be_told_apart_from_where_it_goes() {
        let line = ["ws+unix:/w:/", "--header", "Host: www.example.org"];
        let request = options(&line).unwrap().request().unwrap();
        assert_eq!(request.host, "www.example.org");
        assert!(request.headers.is_empty());
    }
}
