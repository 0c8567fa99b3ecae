//! The `typhoonae` dialect: the WebSocket service of 2010, as its apps know it. One POST an event to a URL that names it, a
//! form with the parts `body` and `from`; apps speak by the control API. Pure.

use super::{Reply, Targets, plain};
use crate::hook::endpoint::{Endpoint, push_header};
use crate::hook::http::Answer;
use crate::hook::{HookEvent, What};

/// How every boundary begins; a number follows.
const BOUNDARY: &[u8] = b"ws-worker-";

/// Appends a whole request. What `plain` says of an event in headers is said here too: apps of old do not look.
pub(crate) fn encode(endpoint: &Endpoint, event: &HookEvent<'_>, out: &mut Vec<u8>) {
    plain::begin(endpoint, event, out);
    let id = event.block.id();
    push_header(out, "X-TyphoonAE-WebSocket", id);
    if let Some(name) = &endpoint.hooks.server_name {
        push_header(out, "X-TyphoonAE-ServerName", name.as_bytes());
    }
    if let Some(origin) = event.block.origin() {
        push_header(out, "WebSocket-Origin", origin);
    }
    let (message, is_binary) = match &event.what {
        What::Message { message, .. } => (message.payload(), message.is_binary()),
        What::Started | What::Handshake { .. } | What::Closed { .. } => (&[][..], false),
    };
    let boundary = boundary(message);
    let mut form = Vec::with_capacity(message.len() + 256);
    let kind: &[u8] = if is_binary {
        b"\r\nContent-Type: application/octet-stream"
    } else {
        b"" // Text is UTF-8 by default, and some parsers take a part with a type for a file.
    };
    push_part(&mut form, &boundary, b"body", kind, message);
    push_part(&mut form, &boundary, b"from", b"", id);
    form.extend_from_slice(b"--");
    form.extend_from_slice(&boundary);
    form.extend_from_slice(b"--\r\n");
    out.extend_from_slice(b"Content-Type: multipart/form-data; boundary=");
    out.extend_from_slice(&boundary);
    out.extend_from_slice(b"\r\n");
    plain::finish(endpoint, event, &form, out);
    out.extend_from_slice(&form);
}

/// Reads what an answer wants done: its headers are those of `plain`, its body goes nowhere.
pub(crate) fn decode(endpoint: &Endpoint, answer: &Answer<'_>) -> Reply {
    Reply {
        to: Targets::default(),
        message: None,
        ..plain::decode(endpoint, &answer.bodiless(), false)
    }
}

fn push_part(form: &mut Vec<u8>, boundary: &[u8], name: &[u8], kind: &[u8], content: &[u8]) {
    for piece in [
        b"--",
        boundary,
        b"\r\nContent-Disposition: form-data; name=\"",
        name,
        b"\"",
        kind,
        b"\r\n\r\n",
        content,
        b"\r\n",
    ] {
        form.extend_from_slice(piece);
    }
}

/// Makes a boundary that is nowhere in the body, in one pass however the body was made up: every number that stands behind a
/// boundary's beginning is taken, and the first that is not is free.
fn boundary(body: &[u8]) -> Vec<u8> {
    let mut taken = Vec::new();
    let mut rest = body;
    while let Some(at) = rest
        .windows(BOUNDARY.len())
        .position(|piece| piece == BOUNDARY)
    {
        rest = rest.get(at + BOUNDARY.len()..).unwrap_or_default();
        let digits = rest.get(..DIGITS).unwrap_or_default();
        let number = digits.iter().try_fold(0_u32, |number, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            Some(number * 10 + u32::from(digit))
        });
        if digits.len() == DIGITS {
            taken.extend(number);
        }
    }
    taken.sort_unstable();
    taken.dedup();
    let free = (0..).zip(&taken).find(|(free, taken)| free != *taken);
    let free = free.map_or(taken.len(), |(free, _)| free as usize);
    [BOUNDARY, format!("{free:0DIGITS$}").as_bytes()].concat()
}

/// Digits of a boundary: more than a body could hold of them, were it a gigabyte.
const DIGITS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;
    use crate::handler::ClosedBy;
    use crate::hook::Ended;
    use crate::hook::endpoint::{Block, Facts};
    use crate::hook::testing::{endpoint_with, facts, hooks, id};
    use ws_proto::{CloseCode, Message};

    fn endpoint() -> Endpoint {
        let mut hooks = hooks();
        hooks.dialect = Dialect::TyphoonAe;
        hooks.url.path = "/_ah/websocket/{event}/{path}".into();
        hooks.server_name = Some("www.example.org".into());
        endpoint_with(hooks)
    }

    fn encoded(what: What<'_>) -> String {
        let endpoint = endpoint();
        let facts = Facts {
            origin: Some("https://www.example.org"),
            ..facts()
        };
        let event = HookEvent {
            what,
            block: &Block::new(&endpoint, &facts).unwrap(),
            attempt: 1,
            timestamp: 0,
        };
        let mut out = Vec::new();
        assert!(super::super::encode(&endpoint, &event, &mut out).is_empty());
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(what: What<'_>, event: &str, body: &str) {
        let id = id(7);
        let text = encoded(what);
        let (head, form) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            head.lines().next().unwrap(),
            format!("POST /_ah/websocket/{event}/room?x=1 HTTP/1.1")
        );
        for line in [
            format!("X-TyphoonAE-WebSocket: {id}"),
            "X-TyphoonAE-ServerName: www.example.org".to_owned(),
            "WebSocket-Origin: https://www.example.org".to_owned(),
            "Content-Type: multipart/form-data; boundary=ws-worker-00000000".to_owned(),
            format!("Content-Length: {}", form.len()),
        ] {
            assert!(head.lines().any(|found| found == line), "{line}\n{head}");
        }
        assert_eq!(
            form,
            format!(
                "--ws-worker-00000000\r\nContent-Disposition: form-data; name=\"body\"\r\n\r\n{body}\r\n--ws-worker-00000000\r\nContent-Disposition: form-data; name=\"from\"\r\n\r\n{id}\r\n--ws-worker-00000000--\r\n"
            )
        );
    }

    #[test]
    fn every_event_is_a_form_with_body_and_from() {
        let message = Message::text("h\u{e4}llo\r\n--x");
        let what = What::Message {
            seq: 1,
            message: &message,
        };
        check(what, "message", "h\u{e4}llo\r\n--x");
        check(What::Handshake { protocols: &[] }, "handshake", "");
        let end = Ended {
            clean: true,
            code: Some(CloseCode::NORMAL),
            reason: "".into(),
            by: ClosedBy::Client,
            is_unknown: false,
        };
        let what = What::Closed {
            end: &end,
            undelivered: Some(0),
        };
        check(what, "closed", "");
    }

    #[test]
    fn binary_says_so() {
        let message = Message::binary(b"x");
        let text = encoded(What::Message {
            seq: 1,
            message: &message,
        });
        assert!(
            text.contains("name=\"body\"\r\nContent-Type: application/octet-stream\r\n\r\nx\r\n")
        );
    }

    #[test]
    fn a_boundary_is_nowhere_in_the_body() {
        let free = |body: &str| String::from_utf8(boundary(body.as_bytes())).unwrap();
        assert_eq!(free(""), "ws-worker-00000000");
        assert_eq!(free("ws-worker-00000000"), "ws-worker-00000001");
        assert_eq!(free("ws-worker-0000000"), "ws-worker-00000000");
        assert_eq!(
            free("ws-worker-00000002ws-worker-ws-worker-00000000"),
            "ws-worker-00000001"
        );
        assert_eq!(
            free("ws-worker-0000000xws-worker-99999999"),
            "ws-worker-00000000"
        );
        let many: String = (0..50_000).map(|n| format!("ws-worker-{n:08}")).collect();
        assert_eq!(free(&many), "ws-worker-00050000");
    }

    #[test]
    fn an_answers_body_goes_nowhere_and_its_headers_may_do_something() {
        let lines = b"Ws-To: self\r\nWs-Join: room\r\nWs-Set-Meta-User: 7\r\n";
        let reply = decode(&endpoint(), &Answer::made(200, lines, b"\xff"));
        assert!(reply.message.is_none() && !reply.is_broken);
        assert_eq!(reply.to, Targets::default());
        assert_eq!((reply.join.len(), reply.meta.len()), (1, 1));
    }
}
