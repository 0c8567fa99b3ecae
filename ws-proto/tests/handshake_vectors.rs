//! Runs the readable vectors in `vectors/handshake`: see the page there for their grammar. Every case in one piece,
//! byte by byte, and cut in two at every place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ws_proto::{
    Answer, DeflateLimits, Handshake, HeadLimits, Input, Instant, Limits, Output, Ready, Refusal,
    SendError, Version, Versions,
};

#[derive(Debug, Default)]
struct Case {
    title: String,
    limits: HeadLimits,
    open_limits: Limits,
    answer: Answer,
    sent: Vec<u8>,
    /// How many of the bytes sent must be left over.
    rest: usize,
    outcome: String,
    expected: Option<Vec<u8>>,
    lines: Vec<Vec<u8>>,
}

/// What came of a case.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    outcome: String,
    written: Vec<u8>,
    left: usize,
    version: Option<Version>,
    expected_names: BTreeSet<String>,
}

#[test]
fn every_vector_gives_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/handshake");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of vectors")
        .map(|entry| entry.expect("a file of it").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let mut count = 0;
    if !cfg!(feature = "deflate") {
        files.retain(|file| !file.ends_with("deflate.txt"));
    }
    for file in &files {
        for case in parse(&fs::read_to_string(file).expect("readable text")) {
            let name = format!("{}: {}", file.display(), case.title);
            check(&case, &name);
            count += 1;
        }
    }
    assert!(count > 150, "only {count} cases were found");
}

fn check(case: &Case, name: &str) {
    let whole = run(case, &[&case.sent]);
    assert_eq!(whole.outcome, case.outcome, "{name}");
    assert_eq!(whole.left, case.rest, "{name}: bytes left over");
    if let Some(expected) = &case.expected {
        assert_eq!(
            whole.written.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{name}"
        );
    }
    for line in &case.lines {
        assert!(
            lines(&whole.written).any(|written| written == &line[..]),
            "{name}: no line {:?} in {:?}",
            line.escape_ascii().to_string(),
            whole.written.escape_ascii().to_string(),
        );
    }
    if case.outcome.starts_with("refused") {
        check_refusal(case, &whole, name);
    } else if !whole.written.is_empty() {
        check_acceptance(&whole, name);
    }
    let bytes: Vec<&[u8]> = case.sent.chunks(1).collect();
    assert_eq!(run(case, &bytes), whole, "{name}: byte by byte");
    for cut in 0..=case.sent.len() {
        let (first, second) = case.sent.split_at(cut);
        assert_eq!(run(case, &[first, second]), whole, "{name}: cut at {cut}");
    }
}

/// Drives a handshake as a worker does: what is not taken is handed in again in front of what comes next.
fn run(case: &Case, pieces: &[&[u8]]) -> Run {
    let now = Instant::at(0);
    let mut handshake = Handshake::new(now, &case.limits);
    let mut out = Output::default();
    let mut unread = Vec::new();
    let mut outcome = "waiting".to_owned();
    let mut expected_names = BTreeSet::new();
    let mut is_over = false;
    for piece in pieces {
        unread.extend_from_slice(piece);
        while !is_over {
            let mut bytes = unread.clone();
            let mut input = Input::new(&mut bytes);
            let result = handshake.receive(now, &case.limits, &mut input, &mut out);
            unread = input.as_slice().to_vec();
            match result {
                Ok(None) => break,
                Ok(Some(Ready::Request)) => {
                    expected_names = names_of_answer(&handshake, case);
                    let limits = Arc::new(case.open_limits.clone());
                    let before = out.len();
                    if let Err(error) = handshake.accept(now, &case.answer, limits, &mut out) {
                        assert_eq!(out.len(), before);
                        outcome = format!("cannot {error:?}");
                        is_over = true;
                    }
                }
                Ok(Some(Ready::Open)) => {
                    assert!(handshake.is_open() && handshake.poll_timeout().is_none());
                    outcome = "open".to_owned();
                    is_over = true;
                }
                Err(refusal) => {
                    outcome = refused(refusal);
                    handshake.refuse(refusal, Some(7), &mut out);
                    let once = out.len();
                    handshake.refuse(Refusal::Unavailable, None, &mut out);
                    assert_eq!(out.len(), once, "nothing follows a refusal");
                    is_over = true;
                }
            }
        }
    }
    let limits = Arc::new(Limits::default());
    if handshake.is_open() || outcome == "waiting" && !out.is_empty() {
        let once = out.len();
        handshake.refuse(Refusal::Keys, None, &mut out);
        let again = handshake.accept(now, &case.answer, limits, &mut out);
        assert_eq!(again, Err(SendError::State));
        assert_eq!(out.len(), once, "nothing follows a 101");
    }
    let request = handshake.request();
    Run {
        version: request.map(|request| request.version()),
        // How much of a bad head was taken before it was known to be bad depends on how it came.
        left: match handshake.head() {
            None if outcome.starts_with("refused") => case.rest,
            _ => unread.len(),
        },
        outcome,
        written: out.take(),
        expected_names,
    }
}

fn refused(refusal: Refusal) -> String {
    let status = refusal.status().expect("a status before any 101");
    format!("refused {} {status}", refusal.name())
}

/// Names the headers that a 101 to this request has.
fn names_of_answer(handshake: &Handshake, case: &Case) -> BTreeSet<String> {
    let answer = &case.answer;
    let request = handshake.request().expect("a request to decide on");
    let mut names: BTreeSet<String> = ["upgrade", "connection"].map(str::to_owned).into();
    let prefix = match request.version() {
        Version::Hixie75 => "websocket",
        Version::Hixie76 | Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => "sec-websocket",
    };
    match request.version() {
        Version::Hixie75 | Version::Hixie76 => {
            names.insert(format!("{prefix}-location"));
            if request.origin().is_some() {
                names.insert(format!("{prefix}-origin"));
            }
        }
        Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => {
            names.insert(format!("{prefix}-accept"));
        }
    }
    // Which extension, if any, a case says itself.
    let written = (case.expected.iter().flat_map(|bytes| lines(bytes)))
        .chain(case.lines.iter().map(Vec::as_slice));
    names.extend(
        written
            .filter(|line| line.starts_with(b"Sec-WebSocket-Extensions: "))
            .map(|_| format!("{prefix}-extensions")),
    );
    if answer.protocol.is_some() {
        names.insert(format!("{prefix}-protocol"));
    }
    names.extend(
        answer
            .headers
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase()),
    );
    names
}

type NameAndValue = (String, Vec<u8>);

/// Takes a response apart with a parser that is not ours to test: status, names in lower case with values, and the rest.
fn take_apart(bytes: &[u8]) -> (u16, Vec<NameAndValue>, &[u8]) {
    let mut room = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut room);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        other => panic!("no response: {other:?} in {}", bytes.escape_ascii()),
    };
    let headers = response
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()))
        .collect();
    let (_, rest) = bytes.split_at(length);
    (response.code.expect("a status"), headers, rest)
}

fn check_acceptance(run: &Run, name: &str) {
    let (status, headers, rest) = take_apart(&run.written);
    assert_eq!(status, 101, "{name}");
    let names: BTreeSet<String> = headers.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, run.expected_names, "{name}");
    let expected = match run.version {
        Some(Version::Hixie76) if run.outcome == "open" => 16,
        _ => 0,
    };
    assert_eq!(rest.len(), expected, "{name}: bytes behind the head");
}

fn check_refusal(case: &Case, run: &Run, name: &str) {
    let (status, headers, rest) = take_apart(&run.written);
    assert!(run.outcome.ends_with(&status.to_string()), "{name}");
    let single = |wanted: &str| {
        let mut values = headers.iter().filter(|(name, _)| name == wanted);
        let value = values.next().map(|(_, value)| value.as_slice());
        assert!(values.next().is_none(), "{name}: {wanted} twice");
        value
    };
    assert_eq!(single("connection"), Some(&b"close"[..]), "{name}");
    assert_eq!(single("retry-after"), Some(&b"7"[..]), "{name}");
    let length = single("content-length").expect("a length");
    let length: usize = String::from_utf8_lossy(length).parse().expect("a number");
    let body = if case.sent.starts_with(b"HEAD ") {
        0
    } else {
        length
    };
    assert!(length > 20, "{name}: a body that helps");
    assert_eq!(rest.len(), body, "{name}: exactly one response");
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().skip(1) {
        if let Some(title) = line.strip_prefix("# ") {
            cases.push(Case {
                title: title.to_owned(),
                ..Case::default()
            });
            continue;
        }
        if line.is_empty() || line.starts_with("; ") {
            continue;
        }
        let case = cases.last_mut().expect("a title before the first line");
        let (word, text) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "!" => set(case, text),
            ">" => {
                case.sent.extend(unescape(text));
                case.sent.extend(b"\r\n");
            }
            ">|" => case.sent.extend(unescape(text)),
            ">hex" => case.sent.extend(unhex(text)),
            ">rest" => {
                case.rest = unhex(text).len();
                case.sent.extend(unhex(text));
            }
            "=" => text.clone_into(&mut case.outcome),
            "<" => {
                let expected = case.expected.get_or_insert_default();
                expected.extend(unescape(text));
                expected.extend(b"\r\n");
            }
            "<hex" => case.expected.get_or_insert_default().extend(unhex(text)),
            "<line" => case.lines.push(unescape(text)),
            _ => panic!("no such line: {line}"),
        }
    }
    cases
}

fn set(case: &mut Case, text: &str) {
    let (key, value) = text.split_once(' ').unwrap_or((text, ""));
    let number = || value.parse().expect("a number");
    match key {
        "versions" => {
            let version = |number: &str| {
                Version::from_number(number.parse().expect("a number")).expect("a version")
            };
            case.limits.versions = value.split(' ').map(version).collect::<Versions>();
        }
        "max-head" => case.limits.max_head = number(),
        "max-headers" => case.limits.max_headers = number(),
        "max-subprotocols" => case.limits.max_subprotocols = number(),
        "deflate" => {
            case.answer.deflate_takeover = value == "takeover";
            case.open_limits.deflate = (value != "off").then(|| DeflateLimits {
                takeover: value != "on",
                ..DeflateLimits::default()
            });
        }
        "secure" => case.answer.secure = true,
        "host" => case.answer.host = Some(value.to_owned()),
        "protocol" => case.answer.protocol = Some(value.to_owned()),
        "header" => {
            let (name, value) = value.split_once(": ").expect("a header");
            case.answer.headers.add(name, value).expect("a clean one");
        }
        _ => panic!("no such setting: {text}"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'0') => bytes.push(0),
            Some(b't') => bytes.push(b'\t'),
            Some(b'\\') => bytes.push(b'\\'),
            Some(b'x') => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.extend(unhex(&String::from_utf8_lossy(&digits)));
            }
            other => panic!("no such escape: {other:?} in {text}"),
        }
    }
    bytes
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte: {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

/// Tries to get a header of its own into a 101 by every way there is, in every version.
#[test]
fn no_client_writes_into_an_answer() {
    const EVIL: [&[u8]; 9] = [
        b"x\r\nSet-Cookie: a=b",
        b"x\rSet-Cookie: a=b",
        b"x\nSet-Cookie: a=b",
        b"x\r\n Set-Cookie: a=b",
        b"x\0Set-Cookie: a=b",
        b"x%0d%0aSet-Cookie:%20a=b",
        b"x\xc2\x85Set-Cookie:a=b",
        b"x\xe5\x98\x8a\xe5\x98\x8dSet-Cookie:a=b",
        b"x\x7f\x1b[2J",
    ];
    for version in Version::ALL {
        for evil in EVIL {
            for place in 0..4 {
                let (text, protocol) = tampered(version, place, evil);
                let mut case = Case {
                    title: format!("{version}, place {place}, {:?}", evil.escape_ascii()),
                    sent: text,
                    ..Case::default()
                };
                case.answer.protocol = Some(protocol);
                let run = run(&case, &[&case.sent]);
                match run.outcome.as_str() {
                    "open" => check_acceptance(&run, &case.title),
                    // The line break made a header of its own in the *request*: the protocol is another one now.
                    "cannot Subprotocol" => assert!(run.written.is_empty()),
                    _ => check_refusal(&case, &run, &case.title),
                }
            }
        }
    }
}

/// Writes a handshake with `evil` in its target, host, origin or subprotocol, and the subprotocol that the app would choose.
fn tampered(version: Version, place: usize, evil: &[u8]) -> (Vec<u8>, String) {
    let part = |at: usize, usual: &str| {
        let evil = if at == place { evil } else { b"" };
        [usual.as_bytes(), evil].concat()
    };
    let protocol = part(3, "chat");
    let chosen = String::from_utf8_lossy(&protocol).into_owned();
    let (origin, name): (&[u8], &[u8]) = match version {
        Version::Hixie75 => (b"Origin", b"WebSocket-Protocol"),
        Version::Hybi07 | Version::Hybi08 => (b"Sec-WebSocket-Origin", b"Sec-WebSocket-Protocol"),
        Version::Hixie76 | Version::Rfc6455 => (b"Origin", b"Sec-WebSocket-Protocol"),
    };
    let keys = match version {
        Version::Hixie75 => String::new(),
        Version::Hixie76 => "Sec-WebSocket-Key1: 1 2\r\nSec-WebSocket-Key2: 3 4\r\n".to_owned(),
        Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => format!(
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {}\r\n",
            version.number()
        ),
    };
    let behind: &[u8] = match version {
        Version::Hixie76 => b"12345678",
        Version::Hixie75 | Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => b"",
    };
    let text = [
        &b"GET "[..],
        &part(0, "/a")[..],
        b" HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nHost: ",
        &part(1, "host"),
        b"\r\n",
        origin,
        b": ",
        &part(2, "http://host"),
        b"\r\n",
        name,
        b": ",
        &protocol,
        b"\r\n",
        keys.as_bytes(),
        b"\r\n",
        behind,
    ]
    .concat();
    (text, chosen)
}
