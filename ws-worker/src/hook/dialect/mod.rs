//! How events look to an app, and what its answers mean: one file a dialect, two pure functions each. What all
//! dialects share is here: the meaning of a status, and which headers of an app may reach a client.

pub(crate) mod plain;
pub(crate) mod typhoonae;

use crate::hook::HookEvent;
use crate::hook::complaints::Kind;
use crate::hook::endpoint::{Endpoint, names};
use crate::hook::fastcgi;
use crate::hook::http::{Answer, decimal};
use crate::hook::http_date;
use crate::{config, handler::Accept};
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{CloseCode, Headers, Message, Rejection};

/// Bytes of an app's own refusal that reach the client; 64 KiB.
const MAX_REFUSAL: usize = 64 * 1024;

/// What a status means for a message or a closed, as the table of `docs/hooks.md` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// 2xx.
    Taken,
    /// 408, 425, 429, 5xx: again, not before so long.
    Again(Option<Duration>),
    /// Another 4xx.
    Refused,
    /// 1xx, 3xx, and what is no status.
    Misconfigured,
}

impl Verdict {
    /// Judges an answer. What day it is, in seconds since 1970, is asked only where the answer names a date.
    pub(crate) fn of(answer: &Answer<'_>, today: fn() -> u64) -> Self {
        match answer.status {
            200..=299 => Self::Taken,
            408 | 425 | 429 | 500..=599 => Self::Again(retry_after(answer, today)),
            400..=499 => Self::Refused,
            _ => Self::Misconfigured,
        }
    }
}

/// What an app wants done.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// Groups to join, before anything is sent.
    pub(crate) join: Vec<Arc<str>>,
    /// Groups to leave, before anything is sent.
    pub(crate) leave: Vec<Arc<str>>,
    /// Whom the body is for.
    pub(crate) to: Targets,
    /// The body, if it is for anybody.
    pub(crate) message: Option<Message<'static>>,
    /// The socket is closed after that.
    pub(crate) close: Option<(CloseCode, String)>,
    /// What to store (`None` removes).
    pub(crate) meta: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// The body should have been text and is not, or is encoded: the app's fault, and the socket's end. The last complaint
    /// says so.
    pub(crate) is_broken: bool,
    /// What else could not be followed.
    pub(crate) complaints: Vec<Complaint>,
}

/// Whom a body is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// The socket itself.
    pub(crate) itself: bool,
    /// Every socket of the route.
    pub(crate) all: bool,
    /// Members of these groups.
    pub(crate) groups: Vec<Arc<str>>,
    /// But not the socket itself.
    pub(crate) but_itself: bool,
}

impl Targets {
    /// Takes words of `Ws-To` that the configuration has checked.
    pub(crate) fn of(words: &[String]) -> Self {
        let mut targets = Self::default();
        for word in words {
            match word.as_str() {
                "self" => targets.itself = true,
                "all" => targets.all = true,
                group => targets.groups.push(group.into()),
            }
        }
        targets
    }
}

/// Something in an answer that could not be followed, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) kind: Kind,
    pub(crate) what: &'static str,
    pub(crate) value: Vec<u8>,
}

/// What an answer to a handshake means.
#[derive(Debug)]
pub(crate) enum Opening {
    /// 101, and then this.
    Accept(Accept, Box<Reply>),
    /// The app's own answer.
    Reject(Rejection, Vec<Complaint>),
    /// A 2xx that cannot be followed: 500 for the client, but the app believes that it accepted.
    Broken(Complaint),
    /// 1xx, or no status at all: 502.
    Misconfigured(u16),
}

/// Appends a request, in the app's protocol, but for its body, which is returned; empty if all was appended.
pub(crate) fn encode<'e>(
    endpoint: &Endpoint,
    event: &HookEvent<'e>,
    out: &mut Vec<u8>,
) -> &'e [u8] {
    let Some(script) = endpoint.script(event.what.name(), event.block) else {
        return encode_http(endpoint, event, out);
    };
    let mut request = Vec::with_capacity(2048);
    let body = encode_http(endpoint, event, &mut request);
    fastcgi::encode(&script, &request, body, out);
    &[]
}

fn encode_http<'e>(endpoint: &Endpoint, event: &HookEvent<'e>, out: &mut Vec<u8>) -> &'e [u8] {
    match endpoint.hooks.dialect {
        config::Dialect::Plain => plain::encode(endpoint, event, out),
        config::Dialect::TyphoonAe => {
            typhoonae::encode(endpoint, event, out);
            &[]
        }
    }
}

/// Reads what a taken event is answered with; the answer to a message may be for somebody without saying so.
pub(crate) fn decode(endpoint: &Endpoint, answer: &Answer<'_>, is_message: bool) -> Reply {
    match endpoint.hooks.dialect {
        config::Dialect::Plain => plain::decode(endpoint, answer, is_message),
        config::Dialect::TyphoonAe => typhoonae::decode(endpoint, answer),
    }
}

/// Reads the answer to a handshake that offered these subprotocols.
pub(crate) fn decode_opening(
    endpoint: &Endpoint,
    offered: &[Box<str>],
    answer: &Answer<'_>,
) -> Opening {
    match answer.status {
        200..=299 => {}
        300..=599 => return reject(answer),
        status => return Opening::Misconfigured(status),
    }
    let mut reply = decode(endpoint, answer, false);
    let protocol = match single(answer, "ws-protocol") {
        None => None,
        Some(chosen) => match offered.iter().find(|offered| offered.as_bytes() == chosen) {
            Some(protocol) => Some(protocol.to_string()),
            None => {
                return Opening::Broken(Complaint {
                    kind: Kind::Protocol,
                    what: "a subprotocol that was not offered",
                    value: chosen.to_vec(),
                });
            }
        },
    };
    if reply.is_broken
        && let Some(complaint) = reply.complaints.pop()
    {
        return Opening::Broken(complaint);
    }
    let headers = end_to_end(answer, true, &mut reply.complaints);
    Opening::Accept(Accept { protocol, headers }, Box::new(reply))
}

fn reject(answer: &Answer<'_>) -> Opening {
    let mut complaints = Vec::new();
    let body = answer.body.get(..MAX_REFUSAL).unwrap_or(answer.body);
    let rejection = Rejection {
        status: answer.status,
        headers: end_to_end(answer, false, &mut complaints),
        body: body.to_vec(),
    };
    Opening::Reject(rejection, complaints)
}

/// Copies the headers that are meant for the client. A 101 has no body, so nothing is said about one.
fn end_to_end(answer: &Answer<'_>, is_switch: bool, complaints: &mut Vec<Complaint>) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in answer.headers() {
        let lower = name.to_ascii_lowercase();
        // `Status` is CGI's status line.
        let ours = lower.starts_with("ws-") || lower == "status";
        let of_the_body = lower == "content-length"
            || (is_switch && (lower.starts_with("content-") || lower == "host"));
        let of_the_hop = answer
            .headers()
            .any(|(other, list)| other.eq_ignore_ascii_case("connection") && names(list, &lower));
        if ours || of_the_body || of_the_hop {
            continue;
        }
        if headers.add_end_to_end(name, value).is_err() {
            complaints.push(Complaint {
                kind: Kind::Header,
                what: "a header that cannot be passed on",
                value: name.as_bytes().to_vec(),
            });
        }
    }
    headers
}

/// Returns the first value under a name.
fn single<'b>(answer: &Answer<'b>, name: &str) -> Option<&'b [u8]> {
    answer
        .headers()
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Reads `Retry-After`, in seconds or as a date: one that has passed means at once. Its distance is taken from the app's own
/// `Date`, if there is one, so that clocks need not agree. [RFC 9110, 10.2.3]
fn retry_after(answer: &Answer<'_>, today: fn() -> u64) -> Option<Duration> {
    let value = single(answer, "retry-after")?;
    if let Some(seconds) = decimal(value) {
        return Some(Duration::from_secs(u64::try_from(seconds).ok()?));
    }
    let today = today();
    let until = http_date::parse(value, today)?;
    let since = single(answer, "date").and_then(|date| http_date::parse(date, today));
    Some(Duration::from_secs(
        until.saturating_sub(since.unwrap_or(today)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_becomes_of_a_message() {
        let verdict = |status| Verdict::of(&Answer::made(status, b"", b""), || 0);
        for status in [200, 201, 204, 226, 299] {
            assert_eq!(verdict(status), Verdict::Taken, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(verdict(status), Verdict::Again(None), "{status}");
        }
        for status in [400, 401, 403, 404, 413, 422, 499] {
            assert_eq!(verdict(status), Verdict::Refused, "{status}");
        }
        for status in [101, 103, 300, 301, 302, 304, 307, 399, 600, 999] {
            assert_eq!(verdict(status), Verdict::Misconfigured, "{status}");
        }
    }

    #[test]
    fn an_app_says_when_to_come_again_in_seconds_or_by_a_date() {
        let check = |lines: &'static str, expected: Option<u64>| {
            let answer = Answer::made(503, lines.as_bytes(), b"");
            let verdict = Verdict::of(&answer, || 1_792_567_680 - 20); // 20 s before the date below.
            let expected = Verdict::Again(expected.map(Duration::from_secs));
            assert_eq!(verdict, expected, "{lines}");
        };
        check("Retry-After: 7\r\n", Some(7));
        check("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", Some(20));
        check(
            "Retry-After: Wednesday, 21-Oct-26 07:28:00 GMT\r\n",
            Some(20),
        );
        check("Retry-After: Wed Oct 21 07:28:00 2026\r\n", Some(20));
        check("Retry-After: Wed, 21 Oct 2026 07:27:00 GMT\r\n", Some(0));
        // The app's clock is an hour late; both of its dates are.
        check(
            "Date: Wed, 21 Oct 2026 06:27:55 GMT\r\nRetry-After: Wed, 21 Oct 2026 06:28:00 GMT\r\n",
            Some(5),
        );
        for nonsense in ["soon", "-1", "1.5", "", "2026-10-21T07:28:00Z"] {
            let lines = format!("Retry-After: {nonsense}\r\n");
            let answer = Answer::made(503, lines.as_bytes(), b"");
            assert_eq!(Verdict::of(&answer, || 0), Verdict::Again(None));
        }
    }
}
