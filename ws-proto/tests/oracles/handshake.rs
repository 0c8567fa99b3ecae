//! An opening handshake, either role, against whatever a peer sends: no cut changes what comes of it; an answer is one
//! response with the lines that it should have and no other; nothing follows a refusal; memory stays within the limits.
//! Heads are judged by a second parser, plain and strict, and by tungstenite's accept key.

use super::Dials;
use crate::common::at;
use std::sync::Arc;
use ws_proto::{
    Answer, ClientError, ClientHandshake, ClientOptions, Connection, DeflateOffer, Event,
    Handshake, HeadLimits, Headers, Input, Limits, Message, Nonce, Output, Ready, Refusal,
    Rejection, SendError, Version, WindowBits,
};

/// Every client of this oracle draws the same keys, so that a right answer can stand in a corpus.
pub(crate) const NONCE: Nonce = Nonce([0x5a; 64]);

/// Bit 0: client. The other bits are for each role to read.
pub(crate) fn handshake(data: &[u8]) {
    let Some((dials, bytes)) = Dials::take(data) else {
        return;
    };
    if dials.is_set(0) {
        client(dials, bytes);
    } else {
        server(dials, bytes);
    }
}

/// What came of it, however it was cut.
#[derive(Debug, PartialEq)]
struct Outcome<E> {
    end: Option<E>,
    out: Vec<u8>,
    /// What was not taken; of no interest where the peer is refused.
    left: Option<Vec<u8>>,
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decision {
    Accept,
    Refuse,
    Reject,
    BeLate,
}

/// Bit 1: small limits; bit 2: TLS; bit 3: a host and headers of the app's; bits 4 and 5: the decision; bit 6: the last
/// subprotocol rather than the first; bit 7: 75 and 8 are off.
fn server(dials: Dials, bytes: &[u8]) {
    let mut limits = HeadLimits::default();
    if dials.is_set(1) {
        limits.max_head = 300;
        limits.max_headers = 8;
        limits.max_subprotocols = 2;
    }
    if dials.is_set(7) {
        limits.versions = [Version::Hixie76, Version::Hybi07, Version::Rfc6455]
            .into_iter()
            .collect();
    }
    let whole = serve(dials, &limits, bytes, &[usize::MAX]);
    let split = serve(dials, &limits, bytes, &dials.cuts(bytes.len()));
    assert_eq!(whole, split, "the cuts made a difference");
}

fn serve(
    dials: Dials,
    limits: &HeadLimits,
    all: &[u8],
    cuts: &[usize],
) -> Outcome<Option<Refusal>> {
    let mut handshake = Handshake::new(at(0), limits);
    let mut out = Output::default();
    let mut unread = Vec::new();
    let mut rest = all;
    let mut cuts = cuts.iter().copied().cycle();
    let mut end = None;
    while end.is_none() && !rest.is_empty() {
        let (piece, behind) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
        rest = behind;
        unread.extend_from_slice(piece);
        while end.is_none() {
            let mut bytes = unread.clone();
            let mut input = Input::new(&mut bytes);
            let owed = out.len();
            let result = handshake.receive(at(1), limits, &mut input, &mut out);
            unread = input.as_slice().to_vec();
            let most = limits.max_head + 16 * limits.max_headers;
            assert!(handshake.memory() <= most, "{}", handshake.memory());
            match result {
                Ok(None) => break,
                Ok(Some(Ready::Request)) => {
                    assert_eq!(out.len(), owed);
                    let taken = all.len() - unread.len() - rest.len();
                    let request = handshake.request().expect("a request to decide on");
                    check_head(&request, &all[..taken], limits);
                    end = decide(&mut handshake, dials, limits, &mut out).map(Some);
                }
                Ok(Some(Ready::Open)) => end = Some(None),
                Err(refusal) => {
                    assert_eq!(out.len(), owed, "a refusal is the caller's to write");
                    refuse(&mut handshake, refusal, &mut out);
                    end = Some(Some(refusal));
                }
            }
        }
    }
    let is_open = end == Some(None);
    assert_eq!(handshake.is_open(), is_open);
    let left = (is_open || end.is_none()).then(|| [&unread, rest].concat());
    let written = out.as_slice().to_vec();
    if end.is_none() && written.is_empty() {
        assert_eq!(handshake.poll_timeout(), Some(at(10_000)));
    }
    end_server(handshake, is_open, &written, left.as_deref(), limits);
    Outcome {
        end,
        out: written,
        left,
    }
}

/// Decides on a request; `None` where the handshake goes on (hixie-76, whose eight bytes are to come).
fn decide(
    handshake: &mut Handshake,
    dials: Dials,
    limits: &HeadLimits,
    out: &mut Output,
) -> Option<Refusal> {
    let request = handshake.request().expect("a request to decide on");
    assert!(limits.versions.contains(request.version()));
    let decision = [
        Decision::Accept,
        Decision::Refuse,
        Decision::Reject,
        Decision::BeLate,
    ][dials.number(4, 2)];
    // While somebody decides nothing is taken.
    let mut more = *b"more";
    let mut input = Input::new(&mut more);
    match decision {
        Decision::Accept => accept(handshake, dials, out),
        Decision::Refuse => {
            let result = handshake.receive(at(1), limits, &mut input, out);
            assert_eq!((result, input.len()), (Ok(None), 4));
            refuse(handshake, Refusal::Origin, out);
            Some(Refusal::Origin)
        }
        Decision::Reject => {
            let mut headers = Headers::default();
            for (name, value) in [("X-Why", "no"), ("Upgrade", "x"), ("content-length", "9")] {
                headers.add(name, value).expect("a clean header");
            }
            let rejection = Rejection {
                status: if dials.is_set(6) { 101 } else { 403 },
                headers,
                body: b"no\r\n\r\n".to_vec(),
            };
            handshake.reject(&rejection, out);
            let response = Head::parse(out.as_slice()).expect("one response");
            let names: Vec<_> = response.names().collect();
            assert_eq!(names, ["connection", "x-why", "content-length"]);
            check_refusal(
                handshake,
                if dials.is_set(6) { 502 } else { 403 },
                out.as_slice(),
            );
            Some(Refusal::Silent)
        }
        Decision::BeLate => {
            assert_eq!(handshake.handle_timeout(at(9_999)), Ok(()));
            let late = handshake.handle_timeout(at(10_000));
            assert_eq!(late, Err(Refusal::Unavailable));
            assert_eq!(handshake.poll_timeout(), None);
            refuse(handshake, Refusal::Unavailable, out);
            Some(Refusal::Unavailable)
        }
    }
}

fn accept(handshake: &mut Handshake, dials: Dials, out: &mut Output) -> Option<Refusal> {
    let request = handshake.request().expect("a request to decide on");
    let protocol = if dials.is_set(6) {
        request.protocols().last()
    } else {
        request.protocols().next()
    };
    let mut answer = Answer {
        protocol: protocol.map(str::to_owned),
        secure: dials.is_set(2),
        ..Answer::default()
    };
    if dials.is_set(3) {
        answer.host = Some("app.example:8443".into());
        let added = answer.headers.add("Set-Cookie", "a=b");
        added.expect("a clean header");
    }
    let expected = expected_answer(handshake, &answer);
    let version = request.version();
    let open = Arc::new(Limits::default());
    // What was not offered is no choice, and says nothing.
    let wrong = Answer {
        protocol: Some("never, offered".into()),
        ..answer.clone()
    };
    let offered = request.protocols().any(|name| name == "never, offered");
    if !offered {
        let result = handshake.accept(at(1), &wrong, Arc::clone(&open), out);
        assert_eq!(result, Err(SendError::Subprotocol));
        assert!(out.is_empty());
    }
    let result = handshake.accept(at(1), &answer, Arc::clone(&open), out);
    assert_eq!(result, Ok(()));
    let written = if quotes(handshake) {
        without_extensions(out.as_slice())
    } else {
        out.as_slice().to_vec()
    };
    assert_eq!(
        written.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
    let length = out.len();
    let head = Head::parse(out.as_slice()).expect("a 101");
    assert!(head.body.is_empty() && head.first.starts_with("HTTP/1.1 101 "));
    assert_eq!(handshake.is_open(), version != Version::Hixie76);
    let again = handshake.accept(at(1), &answer, open, out);
    assert_eq!(again, Err(SendError::State));
    if handshake.is_open() {
        handshake.refuse(Refusal::Keys, None, out);
        assert!(handshake.is_open());
    }
    assert_eq!(out.len(), length, "nothing follows a 101");
    None
}

/// Returns whether an extension is written with quotes, which the second reading of them does not know.
fn quotes(handshake: &Handshake) -> bool {
    let request = handshake.request().expect("a request to decide on");
    request.headers().any(|(name, value)| {
        name.eq_ignore_ascii_case("sec-websocket-extensions") && value.contains(&b'"')
    })
}

fn without_extensions(answer: &[u8]) -> Vec<u8> {
    let lines = answer.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.starts_with(b"Sec-WebSocket-Extensions: permessage-deflate"))
        .collect::<Vec<_>>()
        .concat()
}

/// Writes the answer as the drafts have it, from what the second parser read.
fn expected_answer(handshake: &Handshake, answer: &Answer) -> Vec<u8> {
    let request = handshake.request().expect("a request to decide on");
    let values = |name: &'static str| {
        let headers = request.headers();
        headers.filter(move |(found, _)| found.eq_ignore_ascii_case(name))
    };
    let value = |name| values(name).next().map(|(_, value)| value);
    let version = request.version();
    let (words, prefix) = match version {
        Version::Hixie75 => ("Web Socket Protocol Handshake", ""),
        Version::Hixie76 => ("WebSocket Protocol Handshake", "Sec-"),
        Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => ("Switching Protocols", "Sec-"),
    };
    let is_hixie = matches!(version, Version::Hixie75 | Version::Hixie76);
    let upgrade = if is_hixie { "WebSocket" } else { "websocket" };
    let mut lines = vec![
        format!("HTTP/1.1 101 {words}").into_bytes(),
        format!("Upgrade: {upgrade}").into_bytes(),
        b"Connection: Upgrade".to_vec(),
    ];
    if is_hixie {
        if let Some(origin) = value("origin") {
            lines.push([prefix.as_bytes(), b"WebSocket-Origin: ", origin].concat());
        }
        let scheme = if answer.secure { "wss" } else { "ws" };
        let host = value("host").expect("a host");
        let host = answer.host.as_deref().map_or(host, str::as_bytes);
        let (location, target) = (
            format!("{prefix}WebSocket-Location: {scheme}://"),
            request.target(),
        );
        lines.push([location.as_bytes(), host, target.as_bytes()].concat());
    } else {
        let key = value("sec-websocket-key").expect("a key");
        let accept = tungstenite::handshake::derive_accept_key(key);
        lines.push(format!("Sec-WebSocket-Accept: {accept}").into_bytes());
    }
    let mut extension = None;
    if version == Version::Rfc6455 && cfg!(feature = "deflate") {
        let values = values("sec-websocket-extensions").map(|(_, value)| value);
        extension = (!quotes(handshake)).then(|| expected_extension(values));
    }
    if let Some(protocol) = &answer.protocol {
        lines.push(format!("{prefix}WebSocket-Protocol: {protocol}").into_bytes());
    }
    if let Some(extension) = extension.flatten() {
        lines.push([b"Sec-WebSocket-Extensions: ", &extension[..]].concat());
    }
    for (name, value) in answer.headers.iter() {
        lines.push([name.as_bytes(), b": ", value].concat());
    }
    lines.push(Vec::new());
    let mut bytes = lines.join(&b"\r\n"[..]);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Negotiates permessage-deflate without takeover, as the tables of RFC 7692 have it: the first offer that is in order.
/// A line is read up to where it breaks the grammar.
fn expected_extension<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    for value in values {
        let value = String::from_utf8_lossy(value);
        for element in value.split(',').map(str::trim) {
            if element.is_empty() {
                continue;
            }
            let mut parts = element.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let parameters: Vec<(&str, Option<&str>)> = parts
                .map(|part| match part.split_once('=') {
                    Some((name, value)) => (name.trim(), Some(value.trim())),
                    None => (part, None),
                })
                .collect();
            let is_token = |text: &str| {
                let is_token_byte =
                    |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
                !text.is_empty() && text.bytes().all(is_token_byte)
            };
            let follows = is_token(name)
                && parameters
                    .iter()
                    .all(|(name, value)| is_token(name) && value.is_none_or(is_token));
            if !follows {
                break;
            }
            if name != "permessage-deflate" {
                continue;
            }
            let mut seen = Vec::new();
            let is_fine = parameters.iter().all(|(name, value)| {
                let is_new = !seen.contains(name);
                seen.push(name);
                let bits = value.map(|value| (8..=15).any(|bits: u8| bits.to_string() == value));
                is_new
                    && match *name {
                        "server_no_context_takeover" | "client_no_context_takeover" => {
                            bits.is_none()
                        }
                        // zlib cannot write the smallest window.
                        "server_max_window_bits" => bits == Some(true) && *value != Some("8"),
                        "client_max_window_bits" => bits != Some(false),
                        _ => false,
                    }
            });
            if is_fine {
                let window = parameters
                    .iter()
                    .find(|(name, _)| *name == "server_max_window_bits")
                    .and_then(|(_, value)| *value)
                    .map_or(String::new(), |bits| {
                        format!("; server_max_window_bits={bits}")
                    });
                let forgets = "; server_no_context_takeover; client_no_context_takeover";
                return Some(format!("permessage-deflate{forgets}{window}").into_bytes());
            }
        }
    }
    None
}

/// Checks a request that came through against the second parser's reading of the same bytes.
fn check_head(request: &ws_proto::Request<'_>, bytes: &[u8], limits: &HeadLimits) {
    let headers: Vec<(&str, &[u8])> = request.headers().collect();
    let head = Head::parse(bytes).expect("what is taken is a whole head");
    assert!(head.body.is_empty() && bytes.len() <= limits.max_head);
    let asked = head.first.strip_prefix("GET ").expect("only GET is taken");
    let asked = asked.strip_suffix(" HTTP/1.1").expect("and only HTTP/1.1");
    let host = request.host().to_ascii_lowercase();
    let forms = ["", "http://", "https://"].map(|scheme| match scheme {
        "" => request.target().to_owned(),
        _ => format!("{scheme}{host}{}", request.target()),
    });
    // Scheme and host in any case; the target as it came.
    assert!(request.target().starts_with('/') && asked.ends_with(request.target()));
    assert!(
        forms.iter().any(|form| form.eq_ignore_ascii_case(asked)),
        "{asked}"
    );
    let names = headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    assert!(
        head.lines
            .iter()
            .map(|(name, _)| name)
            .eq(&names.collect::<Vec<_>>())
    );
    let values = headers.iter().map(|(_, value)| *value);
    assert!(head.lines.iter().map(|(_, value)| *value).eq(values));
    let lists = |name: &str, token: &[u8]| {
        headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .flat_map(|(_, value)| value.split(|byte| *byte == b','))
            .any(|element| element.trim_ascii().eq_ignore_ascii_case(token))
    };
    let count = |name: &str| {
        let named = |(found, _): &&(&str, &[u8])| found.eq_ignore_ascii_case(name);
        headers.iter().filter(named).count()
    };
    assert_eq!(request.method(), "GET");
    assert!(request.target().starts_with('/') && !request.target().contains('#'));
    assert!(
        !request
            .target()
            .bytes()
            .any(|byte| byte <= b' ' || byte == 0x7f)
    );
    assert!(headers.len() <= limits.max_headers);
    assert!(lists("upgrade", b"websocket") && lists("connection", b"upgrade"));
    assert_eq!(count("transfer-encoding"), 0);
    assert_eq!(count("host"), 1);
    let keys = [count("sec-websocket-key1"), count("sec-websocket-key2")];
    assert_eq!(
        (
            count("sec-websocket-version"),
            count("sec-websocket-key"),
            keys
        ),
        match request.version() {
            Version::Hixie75 => (0, 0, [0, 0]),
            Version::Hixie76 => (0, 0, [1, 1]),
            // Keys of 76 beside a version mean nothing, but not twice.
            Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => (1, 1, keys.map(|n| n.min(1))),
        }
    );
    assert!(request.protocols().count() <= limits.max_subprotocols);
    for (name, value) in headers {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(
            !value
                .iter()
                .any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f)
        );
        assert_eq!(value, value.trim_ascii());
    }
}

/// Writes a refusal and checks that it is one response, and the last one.
fn refuse(handshake: &mut Handshake, refusal: Refusal, out: &mut Output) {
    let before = out.len();
    handshake.refuse(refusal, Some(7), out);
    match refusal.status() {
        Some(status) if before == 0 => check_refusal(handshake, status, out.as_slice()),
        Some(_) | None => assert_eq!(out.len(), before, "nothing follows a 101"),
    }
}

fn check_refusal(handshake: &mut Handshake, status: u16, written: &[u8]) {
    let response = Head::parse(written).expect("one response");
    let first = format!("HTTP/1.1 {status} ");
    assert!(response.first.starts_with(&first), "{}", response.first);
    assert_eq!(response.value("connection"), Some(&b"close"[..]));
    let length = response.value("content-length").expect("a length");
    let length: usize = String::from_utf8_lossy(length).parse().expect("a number");
    let is_head = handshake.head().is_some_and(|head| head.method() == "HEAD");
    assert_eq!(response.body.len(), if is_head { 0 } else { length });
    assert!(!handshake.is_open() && handshake.poll_timeout().is_none());
}

/// Checks that nothing can follow, and that what was open goes on.
fn end_server(
    mut handshake: Handshake,
    is_open: bool,
    written: &[u8],
    left: Option<&[u8]>,
    limits: &HeadLimits,
) {
    let mut out = Output::default();
    if is_open {
        assert_eq!(handshake.handle_timeout(at(u64::MAX)), Ok(()));
        assert_eq!(handshake.handle_eof(at(2)), Ok(()));
        assert_eq!(handshake.poll_timeout(), None);
        let request = handshake.request().expect("still there");
        let (version, target) = (request.version(), request.target().to_owned());
        if version == Version::Hixie76 {
            check_proof(written);
        }
        let connection = handshake.into_connection(at(2)).expect("it is open");
        assert_eq!(connection.version(), version);
        assert!(!target.is_empty());
        go_on(connection, left.unwrap_or_default());
        return;
    }
    // Late, ended, or over already: whatever is still said leads nowhere.
    let _ = handshake.handle_timeout(at(10_000));
    assert_eq!(handshake.poll_timeout(), None);
    assert_eq!(handshake.handle_timeout(at(20_000)), Ok(()));
    assert!(handshake.handle_eof(at(2)).is_err());
    let mut bytes = *b"GET / HTTP/1.1\r\n\r\n";
    let mut input = Input::new(&mut bytes);
    let result = handshake.receive(at(2), limits, &mut input, &mut out);
    assert_eq!((result, input.len()), (Err(Refusal::Silent), 18));
    handshake.refuse(Refusal::Keys, None, &mut out);
    let limits = Arc::new(Limits::default());
    let result = handshake.accept(at(2), &Answer::default(), limits, &mut out);
    assert_eq!(result, Err(SendError::State));
    assert!(out.is_empty(), "something follows the end");
    assert!(handshake.into_connection(at(2)).is_none());
}

/// Checks that sixteen bytes, and no more, stand behind a 101.
fn check_proof(written: &[u8]) {
    let end = written.windows(4).position(|four| four == b"\r\n\r\n");
    assert_eq!(written.len() - end.expect("a head"), 4 + 16);
}

/// Hands what is left to the connection, which has limits of its own.
fn go_on(mut connection: Connection, left: &[u8]) {
    let mut out = Output::default();
    for event in crate::common::feed(&mut connection, at(3), left, &mut out) {
        if let Event::Message(Message::Text(text)) = event {
            assert!(text.len() <= left.len() * 3);
        }
    }
    crate::common::count_closes(connection.version(), out.as_slice());
}

/// The client of these dials: bits 1 to 3, the version, the last two with permessage-deflate; bit 4: TLS; bit 5: relaxed; bit 6: an origin and subprotocols.
pub(crate) fn options(dials: Dials) -> ClientOptions {
    let number = dials.number(1, 3);
    let version = Version::ALL[number.min(4)];
    let mut options = ClientOptions::new(version, "example.com", "/chat?x");
    if number >= 6 {
        options.deflate = Some(DeflateOffer {
            client_no_context_takeover: number == 6,
            server_no_context_takeover: number == 6,
            server_max_window_bits: (number == 7).then(WindowBits::default),
            client_max_window_bits: WindowBits::new(number as u8 + 3),
        });
    }
    options.secure = dials.is_set(4);
    options.relaxed = dials.is_set(5);
    if dials.is_set(6) {
        options.origin = Some("http://example.com".into());
        options.protocols = vec!["chat".into()];
        if version > Version::Hixie76 {
            options.protocols.push("superchat".into());
        }
    }
    options.max_head = 1_000;
    options
}

fn client(dials: Dials, bytes: &[u8]) {
    let options = Arc::new(options(dials));
    let whole = ask(&options, bytes, &[usize::MAX]);
    let split = ask(&options, bytes, &dials.cuts(bytes.len()));
    assert_eq!(whole, split, "the cuts made a difference");
}

fn ask(options: &Arc<ClientOptions>, bytes: &[u8], cuts: &[usize]) -> Outcome<Option<ClientError>> {
    let mut client =
        ClientHandshake::new(at(0), Arc::clone(options), &NONCE).expect("clean options");
    let mut out = Output::default();
    client.start(&mut out);
    let request = out.take();
    let mut unread = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().copied().cycle();
    let mut end = None;
    while end.is_none() && !rest.is_empty() {
        let (piece, behind) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
        rest = behind;
        unread.extend_from_slice(piece);
        let mut bytes = unread.clone();
        let mut input = Input::new(&mut bytes);
        let result = client.receive(at(1), &mut input, &mut out);
        unread = input.as_slice().to_vec();
        match result {
            Ok(None) => assert!(unread.is_empty()),
            Ok(Some(Ready::Open)) => end = Some(None),
            Ok(Some(Ready::Request)) => panic!("a client is asked for nothing"),
            Err(error) => end = Some(Some(error)),
        }
    }
    assert!(out.is_empty(), "a client says nothing but its request");
    let is_open = end == Some(None);
    let left = (is_open || end.is_none()).then(|| [&unread, rest].concat());
    if is_open {
        let taken = &bytes[..bytes.len() - left.as_ref().map_or(0, Vec::len)];
        check_opened(&client, options, &request, taken);
        let limits = Arc::new(Limits::default());
        assert_eq!(client.handle_timeout(at(u64::MAX)), Ok(()));
        let connection = client.into_connection(at(2), limits).expect("it is open");
        assert_eq!(connection.version(), options.version);
        go_on(connection, left.as_deref().unwrap_or_default());
    } else {
        let expected = end.flatten().unwrap_or(ClientError::Timeout);
        assert_eq!(client.poll_timeout().is_none(), end.is_some());
        let late = client.handle_timeout(at(10_000));
        assert_eq!(late, end.map_or(Err(ClientError::Timeout), |_| Ok(())));
        assert_eq!(client.handle_eof(at(2)), Err(expected));
        let mut more = *b"HTTP/1.1 101 x\r\n\r\n";
        let result = client.receive(at(2), &mut Input::new(&mut more), &mut out);
        assert_eq!(result, Err(expected));
        assert!(client.into_connection(at(2), Arc::default()).is_none());
    }
    Outcome {
        end,
        out: Vec::new(),
        left,
    }
}

/// Checks that a client opened for the right proof only.
fn check_opened(client: &ClientHandshake, options: &ClientOptions, request: &[u8], taken: &[u8]) {
    let answer = Head::parse(taken).expect("an answer that opens is one");
    let asked = Head::parse(request).expect("our own request");
    assert!(answer.first.starts_with("HTTP/1.1 101"));
    assert_eq!(client.status(), Some(101));
    assert!(
        answer
            .value("upgrade")
            .is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
    );
    if options.version > Version::Hixie76 {
        let mut extensions = answer
            .lines
            .iter()
            .filter(|(name, _)| name == "sec-websocket-extensions");
        assert!(extensions.all(|(_, value)| value.is_empty()
            || value == b","
            || options.deflate.is_some() && cfg!(feature = "deflate")));
    }
    match options.version {
        Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => {
            let key = asked.value("sec-websocket-key").expect("a key");
            let accept = tungstenite::handshake::derive_accept_key(key);
            assert_eq!(
                answer.value("sec-websocket-accept"),
                Some(accept.as_bytes())
            );
            assert!(answer.body.is_empty());
        }
        Version::Hixie76 => {
            assert_eq!(answer.body.len(), 16);
            // As our server would say it: the request through a server handshake.
            let mut server = Handshake::new(at(0), &HeadLimits::default());
            let mut bytes = request.to_vec();
            let mut input = Input::new(&mut bytes);
            let mut out = Output::default();
            let limits = HeadLimits::default();
            let ready = server.receive(at(0), &limits, &mut input, &mut out);
            assert_eq!(ready, Ok(Some(Ready::Request)));
            let accepted = server.accept(at(0), &Answer::default(), Arc::default(), &mut out);
            assert_eq!(accepted, Ok(()));
            let ready = server.receive(at(0), &limits, &mut input, &mut out);
            assert_eq!(ready, Ok(Some(Ready::Open)));
            assert!(out.as_slice().ends_with(answer.body));
        }
        Version::Hixie75 => assert!(answer.body.is_empty()),
    }
    if let Some(protocol) = client.protocol() {
        assert!(options.protocols.iter().any(|offered| offered == protocol));
    }
    if !options.relaxed && options.version <= Version::Hixie76 {
        let prefix = if options.version == Version::Hixie75 {
            ""
        } else {
            "sec-"
        };
        let scheme = if options.secure { "wss" } else { "ws" };
        assert_eq!(
            answer.value(&format!("{prefix}websocket-location")),
            Some(format!("{scheme}://example.com/chat?x").as_bytes())
        );
        assert_eq!(
            answer.value(&format!("{prefix}websocket-origin")),
            options.origin.as_deref().map(str::as_bytes)
        );
    }
}

/// A head as a strict reader sees it: lines end in CR LF, each but the first is a name, a colon and a value.
struct Head<'a> {
    first: String,
    lines: Vec<(String, &'a [u8])>,
    body: &'a [u8],
}

impl<'a> Head<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let body = &bytes[end + 4..];
        let text = &bytes[..end];
        let mut lines = Vec::new();
        let mut first = None;
        for line in text.split(|byte| *byte == b'\n') {
            // The last has lost its ending already.
            let is_last = std::ptr::eq(line.as_ptr_range().end, text.as_ptr_range().end);
            let line = if is_last {
                line
            } else {
                line.strip_suffix(b"\r")?
            };
            if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
                return None;
            }
            if first.is_none() {
                // The words behind a status may hold any byte.
                first = Some(String::from_utf8_lossy(line).into_owned());
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at(colon);
            if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
                return None;
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            lines.push((name, value[1..].trim_ascii()));
        }
        Some(Self {
            first: first?,
            lines,
            body,
        })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the value under a name in lower case that may stand once.
    fn value(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.lines.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| *value);
        assert!(values.next().is_none(), "{name} twice");
        value
    }
}
