//! The `plain` dialect: one POST an event, the message as its body; answers speak by headers. Pure.

use super::{Complaint, Reply, Targets};
use crate::command::is_group_name;
use crate::hook::complaints::Kind;
use crate::hook::endpoint::{Endpoint, push_decimal, push_encoded, push_header};
use crate::hook::head::is_named;
use crate::hook::http::Answer;
use crate::hook::{HookEvent, What};
use std::borrow::Cow;
use std::sync::Arc;
use ws_proto::{CloseCode, Message};

/// Appends a request but for its body, which is returned.
pub(crate) fn encode<'e>(
    endpoint: &Endpoint,
    event: &HookEvent<'e>,
    out: &mut Vec<u8>,
) -> &'e [u8] {
    begin(endpoint, event, out);
    let mut body: &[u8] = &[];
    if let What::Message { message, .. } = &event.what {
        body = message.payload();
        out.extend_from_slice(if message.is_binary() {
            b"Content-Type: application/octet-stream\r\n"
        } else {
            b"Content-Type: text/plain; charset=utf-8\r\n"
        });
    }
    finish(endpoint, event, body, out);
    body
}

/// Appends request line and headers, as far as they do not depend on the body: what every dialect says of an event.
pub(super) fn begin(endpoint: &Endpoint, event: &HookEvent<'_>, out: &mut Vec<u8>) {
    endpoint.push_head(event.what.name(), event.block, out);
    out.extend_from_slice(match event.what {
        What::Started => b"Ws-Event: started\r\nIdempotency-Key: ",
        What::Handshake { .. } => b"Ws-Event: handshake\r\nIdempotency-Key: ",
        What::Message { .. } => b"Ws-Event: message\r\nIdempotency-Key: ",
        What::Closed { .. } => b"Ws-Event: closed\r\nIdempotency-Key: ",
    });
    event.push_key(endpoint, out);
    out.extend_from_slice(b"\r\n");
    if event.attempt > 1 {
        push_number(out, "Ws-Attempt", u64::from(event.attempt));
    }
    match &event.what {
        What::Started | What::Message { .. } => {}
        What::Handshake { protocols } => {
            if !protocols.is_empty() {
                push_header(out, "Ws-Protocols", protocols.join(", ").as_bytes());
            }
        }
        What::Closed { end, undelivered } => {
            if let Some(code) = end.code {
                push_number(out, "Ws-Close-Code", u64::from(code.get()));
            }
            out.extend_from_slice(b"Ws-Close-Reason: ");
            for byte in end.reason.bytes() {
                match byte {
                    b'!'..=b'~' if byte != b'%' => out.push(byte),
                    _ => push_encoded(out, byte),
                }
            }
            out.extend_from_slice(b"\r\n");
            push_number(out, "Ws-Clean", u64::from(end.clean));
            push_header(out, "Ws-Closed-By", end.by.name().as_bytes());
            if let Some(undelivered) = undelivered {
                push_number(out, "Ws-Undelivered", *undelivered);
            }
        }
    }
}

/// Appends the headers that depend on the body, and the end of the head.
pub(super) fn finish(endpoint: &Endpoint, event: &HookEvent<'_>, body: &[u8], out: &mut Vec<u8>) {
    if !endpoint.signer.is_empty() {
        let mut key = Vec::with_capacity(64);
        event.push_key(endpoint, &mut key);
        let timestamp = event.timestamp.to_string();
        push_header(out, "webhook-id", &key);
        push_header(out, "webhook-timestamp", timestamp.as_bytes());
        out.extend_from_slice(b"webhook-signature: ");
        endpoint.signer.sign(&key, timestamp.as_bytes(), body, out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
}

fn push_number(out: &mut Vec<u8>, name: &str, number: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    push_decimal(out, number);
    out.extend_from_slice(b"\r\n");
}

/// Reads what an answer wants done.
pub(crate) fn decode(endpoint: &Endpoint, answer: &Answer<'_>, is_message: bool) -> Reply {
    let mut reply = Reply::default();
    let (mut is_binary, mut is_addressed, mut coding) = (false, false, None);
    for (name, value) in answer.fields() {
        if is_named(name, b"content-type") {
            is_binary = is_octets(value);
            continue;
        }
        if is_named(name, b"content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
            coding = Some(value);
        }
        let Some((b"ws-" | b"Ws-" | b"WS-" | b"wS-", kind)) = name.split_at_checked(3) else {
            continue;
        };
        if kind.eq_ignore_ascii_case(b"to") {
            is_addressed = true;
            take_targets(endpoint, value, &mut reply);
        } else if kind.eq_ignore_ascii_case(b"except") {
            for who in list(value) {
                if who == b"self" {
                    reply.to.but_itself = true;
                } else {
                    reply.complain("Ws-Except knows only self", who);
                }
            }
        } else if kind.eq_ignore_ascii_case(b"join") {
            let groups = take_groups(endpoint, value, &mut reply);
            reply.join.extend(groups);
        } else if kind.eq_ignore_ascii_case(b"leave") {
            let groups = take_groups(endpoint, value, &mut reply);
            reply.leave.extend(groups);
        } else if kind.eq_ignore_ascii_case(b"close") {
            match close(value) {
                Some(close) => reply.close = Some(close),
                None => reply.complain("Ws-Close is not a code and a reason", value),
            }
        } else if let Some((prefix, name)) = kind.split_at_checked(9)
            && prefix.eq_ignore_ascii_case(b"set-meta-")
        {
            match (std::str::from_utf8(name), std::str::from_utf8(value)) {
                (Ok(name), Ok(value)) if !name.is_empty() => reply.meta.push((
                    name.to_ascii_lowercase().into(),
                    (!value.is_empty()).then(|| value.into()),
                )),
                _ => reply.complain("Ws-Set-Meta- wants a name and UTF-8", value),
            }
        } else if !kind.eq_ignore_ascii_case(b"protocol") {
            // Most likely a slip; nothing else would tell its author.
            reply.complain("an answer's header has no meaning", name);
        }
    }
    if is_message && !is_addressed && !answer.body.is_empty() {
        let to = endpoint.answer_to.clone();
        reply.to = Targets {
            but_itself: reply.to.but_itself,
            ..to
        };
    }
    // Without Ws-To a body goes nowhere, unless the route says where; a 204 says that there is none, which an empty 200 does not.
    if reply.to.is_empty() || answer.status == 204 {
        reply.to = Targets::default();
        return reply;
    }
    reply.to.groups.sort_unstable();
    reply.to.groups.dedup();
    if let Some(coding) = coding.filter(|_| !answer.body.is_empty()) {
        return reply.broken("a body has a Content-Encoding", coding); // Which no hook asks for.
    }
    let message = if is_binary {
        Message::Binary(Cow::Owned(answer.body.to_vec()))
    } else {
        match String::from_utf8(answer.body.to_vec()) {
            Ok(text) => Message::Text(Cow::Owned(text)),
            Err(_) => return reply.broken("a body is no UTF-8 text", b""),
        }
    };
    reply.message = Some(message);
    reply
}

impl Reply {
    /// Makes one whose body nobody can be given.
    fn broken(mut self, what: &'static str, value: &[u8]) -> Self {
        self.is_broken = true;
        self.complaints.push(Complaint {
            kind: Kind::Text,
            what,
            value: value.to_vec(),
        });
        self
    }

    fn complain(&mut self, what: &'static str, value: &[u8]) {
        self.complaints.push(Complaint {
            kind: Kind::Header,
            what,
            value: value.to_vec(),
        });
    }
}

impl Targets {
    fn is_empty(&self) -> bool {
        !self.itself && !self.all && self.groups.is_empty()
    }
}

/// Whether a media type is that of bytes, whatever its parameters.
fn is_octets(value: &[u8]) -> bool {
    const OCTETS: &[u8] = b"application/octet-stream";
    let Some((media, rest)) = value.split_at_checked(OCTETS.len()) else {
        return false;
    };
    let rest = rest.trim_ascii_start();
    media.eq_ignore_ascii_case(OCTETS) && (rest.is_empty() || rest.starts_with(b";"))
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

fn take_targets(endpoint: &Endpoint, value: &[u8], reply: &mut Reply) {
    for who in list(value) {
        match who {
            b"self" => reply.to.itself = true,
            b"all" => reply.to.all = true,
            _ => match group(endpoint, who) {
                Some(group) => reply.to.groups.push(group),
                None => reply.complain("no name of a group", who),
            },
        }
    }
}

fn take_groups(endpoint: &Endpoint, value: &[u8], reply: &mut Reply) -> Vec<Arc<str>> {
    let mut groups = Vec::new();
    for name in list(value) {
        match group(endpoint, name) {
            Some(group) => groups.push(group),
            None => reply.complain("no name of a group", name),
        }
    }
    groups
}

fn group(endpoint: &Endpoint, name: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(name).ok()?;
    (text.len() <= endpoint.max_group_name && is_group_name(text)).then(|| text.into())
}

/// `4000 reason`.
fn close(value: &[u8]) -> Option<(CloseCode, String)> {
    let text = std::str::from_utf8(value).ok()?;
    let (code, reason) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let code = crate::hook::http::decimal(code.as_bytes())?;
    let code = CloseCode::new(u16::try_from(code).ok()?)?;
    Some((code, reason.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::handler::ClosedBy;
    use crate::hook::Ended;
    use crate::hook::endpoint::Block;
    use crate::hook::testing::{endpoint_with, facts, hooks, id};

    const HEAD: &str =
        "POST /ws?x=1 HTTP/1.1\r\nHost: app.example\r\nWs-Worker: web1\r\nWs-Boot: BOOT\r\n";
    const COMMON: &str = "Ws-Version: rfc6455\r\nWs-Resource: /chat/room?x=1\r\nWs-Location: ws://www.example.org/chat/room?x=1\r\nWs-Peer: tcp:192.0.2.1:4711\r\n";

    fn encoded(what: What<'_>, attempt: u32, meta: bool) -> String {
        let endpoint = endpoint_with(hooks());
        let mut block = Block::new(&endpoint, &facts()).unwrap();
        if meta {
            block.change(Some("chat.v1"), &[("user".into(), "7".into())]);
        }
        let event = HookEvent {
            what,
            block: &block,
            attempt,
            timestamp: 0,
        };
        let mut out = Vec::new();
        let body = encode(&endpoint, &event, &mut out);
        out.extend_from_slice(body);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_is_a_post_with_its_bytes_as_the_body() {
        let id = id(7);
        let message = Message::text("h\u{e4}llo");
        assert_eq!(
            encoded(
                What::Message {
                    seq: 3,
                    message: &message
                },
                1,
                true
            ),
            format!(
                "{HEAD}Ws-Socket: {id}\r\n{COMMON}Ws-Protocol: chat.v1\r\nWs-Meta-user: 7\r\nWs-Event: message\r\nIdempotency-Key: {id}/3\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n\r\nh\u{e4}llo"
            )
        );
        let message = Message::binary(b"\x01\x02");
        assert_eq!(
            encoded(
                What::Message {
                    seq: 4,
                    message: &message
                },
                2,
                false
            ),
            format!(
                "{HEAD}Ws-Socket: {id}\r\n{COMMON}Ws-Event: message\r\nIdempotency-Key: {id}/4\r\nWs-Attempt: 2\r\nContent-Type: application/octet-stream\r\nContent-Length: 2\r\n\r\n\x01\x02"
            )
        );
    }

    #[test]
    fn a_handshake_names_what_was_offered_and_a_closed_how_it_ended() {
        let id = id(7);
        let offered: [Box<str>; 2] = ["chat.v2".into(), "chat.v1".into()];
        assert_eq!(
            encoded(
                What::Handshake {
                    protocols: &offered
                },
                1,
                false
            ),
            format!(
                "{HEAD}Ws-Socket: {id}\r\n{COMMON}Ws-Event: handshake\r\nIdempotency-Key: {id}/handshake\r\nWs-Protocols: chat.v2, chat.v1\r\nContent-Length: 0\r\n\r\n"
            )
        );
        let end = Ended {
            clean: true,
            code: CloseCode::new(4000),
            reason: "50% \u{e4}\r\n".into(),
            by: ClosedBy::Client,
            is_unknown: false,
        };
        assert_eq!(
            encoded(
                What::Closed {
                    end: &end,
                    undelivered: Some(2)
                },
                1,
                false
            ),
            format!(
                "{HEAD}Ws-Socket: {id}\r\n{COMMON}Ws-Event: closed\r\nIdempotency-Key: {id}/closed\r\nWs-Close-Code: 4000\r\nWs-Close-Reason: 50%25%20%C3%A4%0D%0A\r\nWs-Clean: 1\r\nWs-Closed-By: client\r\nWs-Undelivered: 2\r\nContent-Length: 0\r\n\r\n"
            )
        );
    }

    #[test]
    fn a_start_has_no_socket_and_is_signed_like_all_else() {
        let mut hooks = hooks();
        hooks.secrets = vec![Secret(b"key".to_vec())];
        let endpoint = endpoint_with(hooks);
        let event = HookEvent {
            what: What::Started,
            block: &Block::default(),
            attempt: 1,
            timestamp: 1_700_000_000,
        };
        let mut out = Vec::new();
        encode(&endpoint, &event, &mut out);
        let mut signature = Vec::new();
        endpoint
            .signer
            .sign(b"BOOT/started", b"1700000000", b"", &mut signature);
        let signature = String::from_utf8(signature).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "POST /ws HTTP/1.1\r\nHost: app.example\r\nWs-Worker: web1\r\nWs-Boot: BOOT\r\nWs-Event: started\r\nIdempotency-Key: BOOT/started\r\nwebhook-id: BOOT/started\r\nwebhook-timestamp: 1700000000\r\nwebhook-signature: {signature}\r\nContent-Length: 0\r\n\r\n"
            )
        );
    }

    fn decoded(lines: &str, body: &[u8]) -> Reply {
        decode(
            &endpoint_with(hooks()),
            &Answer::made(200, lines.as_bytes(), body),
            true,
        )
    }

    #[test]
    fn targets_are_found_in_every_spelling() {
        let reply = decoded(
            "ws-to: self, room/1,\r\nWS-TO: all ,room/1\r\nWs-Except: self\r\n",
            b"hi",
        );
        assert_eq!(
            reply.to,
            Targets {
                itself: true,
                all: true,
                groups: vec!["room/1".into()],
                but_itself: true
            }
        );
        let message = reply.message.unwrap();
        assert_eq!(message, Message::text("hi"));
        let reply = decoded(
            "Content-Type: Application/Octet-Stream; x=y\r\nWs-To: self\r\n",
            b"\xff",
        );
        assert!(reply.message.unwrap().is_binary());
    }

    #[test]
    fn a_body_without_a_target_goes_nowhere_and_one_that_is_no_text_is_a_fault() {
        let reply = decoded("Content-Type: text/html\r\n", b"\xff warning on line 3");
        assert!(reply.message.is_none() && !reply.is_broken);
        let reply = decoded("Ws-To: self\r\n", b"\xff");
        assert!(reply.message.is_none() && reply.is_broken);
        assert!(decoded("Ws-To: self\r\n", b"").message.is_some());
        let binary = "Content-Type: application/octet-stream\r\nContent-Encoding:";
        let zipped = |more: &str| decoded(&format!("{binary} {more}\r\n"), b"\x1f\x8b");
        assert!(zipped("gzip\r\nWs-To: self").is_broken && !zipped("gzip").is_broken);
        assert!(zipped("Identity\r\nWs-To: self").message.is_some());
        let endpoint = endpoint_with(hooks());
        let nothing = decode(&endpoint, &Answer::made(204, b"Ws-To: self\r\n", b""), true);
        assert!(nothing.message.is_none());
    }

    #[test]
    fn an_answer_to_a_message_that_names_nobody_is_for_whom_the_route_says() {
        let mut hooks = hooks();
        hooks.answer_to = vec!["self".into(), "red".into()];
        let endpoint = endpoint_with(hooks);
        let to = |lines: &str, body: &[u8], is_message| {
            let answer = Answer::made(200, lines.as_bytes(), body);
            let reply = decode(&endpoint, &answer, is_message);
            assert_eq!(reply.message.is_some(), reply.to != Targets::default());
            reply.to
        };
        let expected = Targets {
            itself: true,
            groups: vec!["red".into()],
            ..Targets::default()
        };
        assert_eq!(to("X: y\r\n", b"hi", true), expected);
        let others = Targets {
            but_itself: true,
            ..expected
        };
        assert_eq!(to("Ws-Except: self\r\n", b"hi", true), others);
        let all = Targets {
            all: true,
            ..Targets::default()
        };
        assert_eq!(to("Ws-To: all\r\n", b"hi", true), all);
        // Nobody is somebody's word, too; and an empty body is no message here.
        assert_eq!(to("Ws-To:\r\n", b"hi", true), Targets::default());
        assert_eq!(to("X: y\r\n", b"", true), Targets::default());
        assert_eq!(to("X: y\r\n", b"hi", false), Targets::default());
        let nothing = decode(&endpoint, &Answer::made(204, b"X: y\r\n", b""), true);
        assert!(nothing.message.is_none());
    }

    #[test]
    fn groups_meta_and_close_are_checked() {
        let long = "x".repeat(129);
        let reply = decoded(
            &format!(
                "Ws-Join: a, self, b c,{long}, \u{e4}\r\nWs-Leave: d,all\r\nWs-Close: 4000 go away\r\nWs-Set-Meta-User: 7\r\nWs-Set-Meta-Old:\r\nWs-Set-Meta-: x\r\n"
            ),
            b"",
        );
        assert_eq!(reply.join, ["a".into(), "b c".into(), Arc::from("\u{e4}")]);
        assert_eq!(reply.leave, [Arc::from("d")]);
        assert_eq!(
            reply.close,
            Some((CloseCode::new(4000).unwrap(), "go away".to_owned()))
        );
        assert_eq!(
            reply.meta,
            [("user".into(), Some("7".into())), (Arc::from("old"), None)]
        );
        assert_eq!(reply.complaints.len(), 4);
        let reply = decoded(
            "Ws-Too: all\r\nWs-Meta-User: 7\r\nWs-Protocol: a\r\nWs: x\r\nX-Ws-To: all\r\n",
            b"x",
        );
        let told: Vec<_> = reply
            .complaints
            .iter()
            .map(|complaint| complaint.value.as_slice())
            .collect();
        assert_eq!(told, [&b"Ws-Too"[..], b"Ws-Meta-User"]);
        for bad in ["", "1005", "1006 x", "99999", "abc", "4000x"] {
            let reply = decoded(&format!("Ws-Close: {bad}\r\n"), b"");
            assert_eq!((reply.close, reply.complaints.len()), (None, 1), "{bad}");
        }
        let reply = decoded("Ws-Close: 1000\r\n", b"");
        assert_eq!(reply.close, Some((CloseCode::NORMAL, String::new())));
    }
}
