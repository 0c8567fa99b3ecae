//! Records out and in: what php-fpm is told, and what an app may say, cut anywhere.

use super::*;
use crate::hook::HookEvent;
use crate::hook::What;
use crate::hook::dialect;
use crate::hook::endpoint::{Block, Endpoint, Facts};
use crate::hook::testing::{endpoint_with, facts, hooks};
use ws_proto::Message;

type Record = (u8, Vec<u8>);

/// Takes records apart, and checks their framing.
fn records(mut bytes: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header = &bytes[..8];
        assert_eq!((header[0], &header[2..4], header[7]), (1, &[0, 1][..], 0));
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let padding = usize::from(header[6]);
        assert_eq!((length + padding) % 8, 0);
        found.push((header[1], bytes[8..8 + length].to_vec()));
        bytes = &bytes[8 + length + padding..];
    }
    found
}

/// Puts the contents of one kind together; the last record of a stream is empty, and no other.
fn stream(records: &[Record], kind: u8) -> Vec<u8> {
    let all: Vec<&Vec<u8>> = records
        .iter()
        .filter(|(found, _)| *found == kind)
        .map(|(_, content)| content)
        .collect();
    let (last, before) = all.split_last().unwrap();
    assert!(last.is_empty() && before.iter().all(|content| !content.is_empty()));
    before.iter().flat_map(|content| content.to_vec()).collect()
}

fn read_length(bytes: &mut &[u8]) -> usize {
    let (length, used) = match bytes[0] {
        short @ ..128 => (usize::from(short), 1),
        _ => {
            let four = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            ((four & 0x7fff_ffff) as usize, 4)
        }
    };
    *bytes = &bytes[used..];
    length
}

fn pairs(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (name, value) = (read_length(&mut bytes), read_length(&mut bytes));
        let text = String::from_utf8(bytes[..name].to_vec()).unwrap();
        found.push((text, bytes[name..name + value].to_vec()));
        bytes = &bytes[name + value..];
    }
    found
}

fn endpoint(path: &str, change: impl FnOnce(&mut crate::config::Hooks)) -> Endpoint {
    let mut hooks = hooks();
    hooks.url.scheme = crate::config::Scheme::FastCgi;
    hooks.url.path = path.to_owned();
    change(&mut hooks);
    endpoint_with(hooks)
}

fn told(endpoint: &Endpoint, facts: &Facts<'_>, message: &Message<'static>) -> Vec<Record> {
    let block = Block::new(endpoint, facts).unwrap();
    let event = HookEvent {
        what: What::Message { seq: 1, message },
        block: &block,
        attempt: 1,
        timestamp: 0,
    };
    let mut out = Vec::new();
    assert!(dialect::encode(endpoint, &event, &mut out).is_empty());
    records(&out)
}

fn variables(endpoint: &Endpoint, facts: &Facts<'_>) -> Vec<(String, String)> {
    let message = Message::text("hi").into_owned();
    let params = stream(&told(endpoint, facts, &message), PARAMS);
    let mut found: Vec<_> = pairs(&params)
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8(value).unwrap()))
        .collect();
    found.sort();
    assert!(
        found.windows(2).all(|two| two[0].0 != two[1].0),
        "{found:?}"
    );
    found
}

fn variable(variables: &[(String, String)], name: &str) -> Option<String> {
    let found = variables.iter().find(|(found, _)| found == name);
    found.map(|(_, value)| value.clone())
}

#[test]
fn php_gets_the_variables_that_it_knows() {
    let endpoint = endpoint("/srv/www/ws.php", |hooks| {
        hooks.forward_headers = vec!["cookie".into(), "proxy".into()];
        hooks.server_name = Some("www.example.org".into());
    });
    let facts = Facts {
        headers: vec![("Cookie", b"a=1"), ("Proxy", b"evil")],
        ..facts()
    };
    let variables = variables(&endpoint, &facts);
    for (name, expected) in [
        ("SCRIPT_FILENAME", "/srv/www/ws.php"),
        ("SCRIPT_NAME", "/ws.php"),
        ("DOCUMENT_ROOT", "/srv/www"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/ws.php?x=1"),
        ("QUERY_STRING", "x=1"),
        ("CONTENT_TYPE", "text/plain; charset=utf-8"),
        ("HTTP_CONTENT_TYPE", "text/plain; charset=utf-8"),
        ("CONTENT_LENGTH", "2"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("REMOTE_PORT", "4711"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_NAME", "www.example.org"),
        ("HTTP_HOST", "www.example.org"),
        ("SERVER_PORT", "80"),
        ("HTTP_WS_EVENT", "message"),
        ("HTTP_COOKIE", "a=1"),
        ("HTTP_WS_RESOURCE", "/chat/room?x=1"),
    ] {
        let found = variable(&variables, name);
        assert_eq!(found.as_deref(), Some(expected), "{name}");
    }
    for name in ["HTTP_PROXY", "PATH_INFO", "HTTPS", "HTTP_CONTENT_LENGTH"] {
        assert_eq!(variable(&variables, name), None, "{name}");
    }
}

#[test]
fn no_dialect_could_set_http_proxy() {
    let script = Script {
        root: "/srv",
        name: 2,
        keep: true,
    };
    let mut out = Vec::new();
    encode(
        &script,
        b"POST /x HTTP/1.1\r\nPROXY: evil\r\n\r\n",
        b"",
        &mut out,
    );
    let records = records(&out);
    assert_eq!(records[0], (BEGIN_REQUEST, vec![0, 1, 1, 0, 0, 0, 0, 0]));
    let params = stream(&records, PARAMS);
    assert!(!params.windows(4).any(|four| four == b"evil"));
}

#[test]
fn a_path_behind_the_script_is_its_info() {
    let endpoint = endpoint("/srv/ws.php/on/{event}/{path}?k=v", |_| {});
    let facts = Facts {
        path: "/chat/a%20b/%00",
        location: "wss://www.example.org/",
        peer: "tcp:[2001:db8::1]:5",
        ..facts()
    };
    let variables = variables(&endpoint, &facts);
    for (name, expected) in [
        ("SCRIPT_FILENAME", "/srv/ws.php"),
        ("PATH_INFO", "/on/message/a b/%00"),
        ("REQUEST_URI", "/ws.php/on/message/a%20b/%00?k=v&x=1"),
        ("QUERY_STRING", "k=v&x=1"),
        ("HTTPS", "on"),
        ("SERVER_PORT", "443"),
        ("REMOTE_ADDR", "2001:db8::1"),
        ("REMOTE_PORT", "5"),
    ] {
        let found = variable(&variables, name);
        assert_eq!(found.as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn an_event_may_have_a_script_of_its_own_and_a_unix_peer_no_address() {
    let endpoint = endpoint("/srv/{event}.php", |_| {});
    let facts = Facts {
        peer: "unix:",
        ..facts()
    };
    let variables = variables(&endpoint, &facts);
    let script = variable(&variables, "SCRIPT_FILENAME");
    assert_eq!(script.as_deref(), Some("/srv/message.php"));
    assert_eq!(
        variable(&variables, "REMOTE_ADDR").as_deref(),
        Some("unix:")
    );
}

#[test]
fn a_docroot_makes_scripts_of_paths() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a b_wsh.php"), "").unwrap();
    let root = folder.path().to_owned();
    let endpoint = endpoint("/", |hooks| {
        hooks.docroot = Some(crate::config::Docroot {
            root,
            suffix: "_wsh.php".into(),
        });
    });
    let facts = Facts {
        path: "/chat/a%20b",
        ..facts()
    };
    let variables = variables(&endpoint, &facts);
    let script = variable(&variables, "SCRIPT_FILENAME").unwrap();
    assert_eq!(script, folder.path().join("a b_wsh.php").to_str().unwrap());
    let uri = variable(&variables, "REQUEST_URI");
    assert_eq!(uri.as_deref(), Some("/a%20b_wsh.php?x=1"));
    assert_eq!(variable(&variables, "PATH_INFO"), None);
    let facts = Facts {
        path: "/chat/b",
        ..facts
    };
    assert!(Block::new(&endpoint, &facts).is_err());
}

#[test]
fn lengths_have_two_forms() {
    for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 20] {
        let mut out = Vec::new();
        push_length(&mut out, length);
        assert_eq!(out.len(), if length < 128 { 1 } else { 4 });
        assert_eq!(read_length(&mut &out[..]), length);
    }
}

#[test]
fn a_pair_is_in_one_record_and_a_body_in_as_many_as_it_takes() {
    let endpoint = endpoint("/srv/ws.php", |hooks| {
        hooks.forward_headers = (0..10).map(|n| format!("x-{n}")).collect();
    });
    let value = vec![b'v'; 20_000];
    let names: Vec<String> = (0..10).map(|n| format!("x-{n}")).collect();
    let headers = names.iter().map(|name| (name.as_str(), &value[..]));
    let facts = Facts {
        headers: headers.collect(),
        ..facts()
    };
    for size in [0, 1, 65_527, 65_528, 65_529, 300_000] {
        let message = Message::text(&"m".repeat(size)).into_owned();
        let records = told(&endpoint, &facts, &message);
        assert_eq!(stream(&records, STDIN), message.payload());
        let params: Vec<_> = records.iter().filter(|(kind, _)| *kind == PARAMS).collect();
        assert!(params.len() > 3);
        let found: usize = params.iter().map(|(_, content)| pairs(content).len()).sum();
        assert!(found > 30); // Each record is whole pairs: `pairs` would have failed.
    }
    // One that no record holds spans two.
    let huge = vec![b'v'; 70_000];
    let facts = Facts {
        headers: vec![("x-1", &huge)],
        ..facts
    };
    let records = told(&endpoint, &facts, &Message::text("").into_owned());
    let found = pairs(&stream(&records, PARAMS));
    assert!(found.contains(&("HTTP_X_1".to_owned(), huge.clone())));
}

// Answers.

fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut bytes = vec![1, kind, 0, 1, high, low, padding, 0];
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(padding), b'?');
    bytes
}

fn end(status: u8) -> Vec<u8> {
    record(END_REQUEST, &[0, 0, 0, 0, status, 0, 0, 0], 0)
}

type Seen = (u16, Vec<u8>, Vec<(String, Vec<u8>)>, bool);

fn receive(bytes: &[u8], pieces: &[usize]) -> Result<Option<Seen>, Fault> {
    let mut incoming = Incoming::new(1000);
    incoming.reset(1000, true);
    let mut rest = bytes;
    for piece in pieces.iter().copied().chain([usize::MAX]) {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        rest = later;
        if incoming.advance(now)? {
            let answer = incoming.answer();
            let headers = answer.headers();
            return Ok(Some((
                answer.status,
                answer.body.to_vec(),
                headers.map(|(n, v)| (n.to_owned(), v.to_vec())).collect(),
                answer.reusable && rest.is_empty(),
            )));
        }
    }
    Ok(None)
}

#[track_caller]
fn check(bytes: &[u8], expected: Result<Option<(u16, &[u8])>, Fault>) {
    let whole = receive(bytes, &[]);
    let found = whole
        .as_ref()
        .map(|seen| seen.as_ref().map(|seen| (seen.0, &seen.1[..])));
    assert_eq!(found, expected.as_ref().map(|seen| *seen));
    for at in (0..=bytes.len()).step_by(1 + bytes.len() / 1000) {
        assert_eq!(receive(bytes, &[at]), whole, "split at {at}");
    }
    assert_eq!(receive(bytes, &vec![1; bytes.len()]), whole, "byte by byte");
}

fn printed(text: &str) -> Vec<u8> {
    [
        record(STDOUT, text.as_bytes(), 3),
        record(STDOUT, b"", 0),
        end(0),
    ]
    .concat()
}

#[test]
fn an_answer_is_what_the_script_printed() {
    let php = printed("X-Powered-By: PHP\r\nWs-To: self\r\nContent-type: text/html\r\n\r\nhello");
    check(&php, Ok(Some((200, b"hello"))));
    let seen = receive(&php, &[]).unwrap().unwrap();
    assert!(seen.3 && seen.2.contains(&("Ws-To".to_owned(), b"self".to_vec())));
    check(
        &printed("Status: 404 Not Found\n\nno"),
        Ok(Some((404, b"no"))),
    );
    check(&printed("status:503\r\n\r\n"), Ok(Some((503, b""))));
    check(&printed("Location: /x\r\n\r\n"), Ok(Some((302, b""))));
    check(&printed("Status: 204\r\n\r\nx"), Ok(Some((204, b""))));
    check(
        &printed("Content-Length: 2\r\n\r\nabc"),
        Ok(Some((200, b"ab"))),
    );
    check(&printed("\r\nbare"), Ok(Some((200, b"bare"))));
    check(&printed("\nbare"), Ok(Some((200, b"bare"))));
    // In pieces, with errors between them.
    let pieces = [
        record(STDOUT, b"A: b\r", 0),
        record(STDERR, b"PHP Warning: x\n", 1),
        record(STDOUT, b"\n\r\nab", 255),
        record(STDERR, b"", 0),
        record(STDOUT, b"cd", 7),
        end(0),
    ]
    .concat();
    check(&pieces, Ok(Some((200, b"abcd"))));
    let mut incoming = Incoming::new(1000);
    incoming.advance(&pieces).unwrap();
    assert_eq!(incoming.errors(), b"PHP Warning: x\n");
}

#[test]
fn how_a_request_ended_is_told_apart() {
    for (status, fault) in [
        (1, Fault::OneAtATime),
        (2, Fault::Overloaded),
        (3, Fault::Role),
        (4, Fault::Syntax),
    ] {
        check(&end(status), Err(fault));
    }
    check(&end(0), Err(Fault::Syntax)); // Nothing was printed at all.
    check(&printed("A: b\r\n\r\nx")[..10], Ok(None));
}

#[test]
fn what_is_no_answer_is_refused() {
    for (text, fault) in [
        ("no head", Fault::Syntax),
        ("A: b\r\n", Fault::Syntax),
        ("no header\r\n\r\n", Fault::Syntax),
        ("A: b\r\n c\r\n\r\n", Fault::Syntax),
        ("A: \0\r\n\r\n", Fault::Syntax),
        ("Status: 20\r\n\r\n", Fault::Syntax),
        ("Status: OK\r\n\r\n", Fault::Syntax),
        ("Status: 1000\r\n\r\n", Fault::Syntax),
        ("Status: 200\r\nStatus: 404\r\n\r\n", Fault::Framing),
        (
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Fault::Framing,
        ),
        ("Content-Length: x\r\n\r\n", Fault::Framing),
        (
            "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            Fault::Framing,
        ),
        ("Content-Length: 5\r\n\r\nabc", Fault::Cut),
    ] {
        check(&printed(text), Err(fault));
    }
    check(&printed(&"A: b\r\n".repeat(129)), Err(Fault::Syntax));
    let many = format!("{}\r\n", "A: b\r\n".repeat(129));
    check(&printed(&many), Err(Fault::HeadTooLarge));
    let long = printed(&format!("A: b\r\n\r\n{}", "x".repeat(1001)));
    check(&long, Err(Fault::BodyTooLarge));
    let endless = record(STDOUT, &[b'a'; 60_000], 0).repeat(2);
    check(&endless, Err(Fault::HeadTooLarge));
    // Records that nobody asked for.
    for bytes in [
        &[2, STDOUT, 0, 1, 0, 0, 0, 0],
        &[1, STDOUT, 0, 2, 0, 0, 0, 0],
        &[1, STDOUT, 0, 0, 0, 0, 0, 0],
        &[1, STDIN, 0, 1, 0, 0, 0, 0],
        &[1, 11, 0, 0, 0, 8, 0, 0],
        &[1, END_REQUEST, 0, 1, 0, 7, 0, 0],
        b"HTTP/1.1",
    ] {
        check(bytes, Err(Fault::Syntax));
    }
}

#[test]
fn bytes_behind_an_answer_spoil_the_connection_and_the_next_begins_afresh() {
    let answer = printed("A: b\r\n\r\nx");
    let two = [&answer[..], b"?"].concat();
    assert!(!receive(&two, &[]).unwrap().unwrap().3);
    let mut incoming = Incoming::new(1000);
    for (text, keep) in [("first", true), ("2nd", false)] {
        incoming.reset(1000, keep);
        let body = format!("Status: 201\r\n\r\n{text}");
        assert!(incoming.advance(&printed(&body)).unwrap());
        let answer = incoming.answer();
        assert_eq!((answer.status, answer.body), (201, text.as_bytes()));
        assert_eq!(answer.reusable, keep);
        assert!(incoming.errors().is_empty());
    }
}

#[test]
fn errors_are_kept_up_to_a_bound() {
    let mut incoming = Incoming::new(10);
    for _ in 0..100 {
        assert!(!incoming.advance(&record(STDERR, &[b'e'; 1000], 0)).unwrap());
    }
    assert_eq!(incoming.errors().len(), MAX_ERRORS);
    assert!(incoming.memory() < 4096);
}
