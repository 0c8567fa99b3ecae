//! The parser against what smugglers, old clients and slow networks send.

use super::*;

/// Parses a head that comes byte by byte, and checks that all at once is the same.
fn head(text: &str) -> Result<Head, u16> {
    let bytes = text.as_bytes();
    let mut scan = Scan::default();
    let mut found = Ok(None);
    for end in 0..=bytes.len() {
        found = scan.find_end(&bytes[..end]);
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    assert_eq!(Scan::default().find_end(bytes), found);
    let length = found
        .map_err(|answer| answer.status)?
        .expect("the end of a head");
    parse(&bytes[..length]).map_err(|answer| {
        assert!(answer.close, "{text:?}");
        answer.status
    })
}

#[test]
fn a_head_is_read_however_it_comes() {
    let found = head(
        "POST /sockets/x?a=b HTTP/1.1\r\nhost: 127.0.0.1:9001\r\nContent-length: 5\r\n\
         CONTENT-TYPE: Application/Octet-Stream; x=y\r\nAuthorization: Bearer abc\r\nExpect: 100-Continue\r\n\r\nhello",
    );
    let expected = Head {
        method: Method::Post,
        target: "/sockets/x?a=b".to_owned(),
        length: Length::Fixed(5),
        socket: None,
        server_name: None,
        authorization: Some(b"Bearer abc".to_vec()),
        binary: true,
        encoded: false,
        browser: false,
        visit: false,
        rebound: false,
        expects_continue: true,
        keep_alive: true,
    };
    assert_eq!(found, Ok(expected));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for (text, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400), // no Host
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400), // obs-fold
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\x07\r\n\r\n", 400),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\x16\x03\x01\r\n\r\n", 400),
    ] {
        assert_eq!(head(text), Err(status), "{text:?}");
    }
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: -1",
        "Content-Length:",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:",
        "Authorization: Bearer a\r\nAuthorization: Bearer b",
        "Content-Type: text/plain\r\nContent-Type: application/octet-stream",
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        assert_eq!(head(&text), Err(400), "{fields:?}");
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head(old), Err(400));
    let hopeful = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n";
    assert_eq!(head(hopeful), Err(417));
    let huge = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n";
    assert_eq!(head(huge), Err(413));
}

#[test]
fn a_head_has_bounds() {
    let with = |count: usize| {
        let fields = "X: y\r\n".repeat(count - 1);
        head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).map(|_| ())
    };
    assert_eq!((with(100), with(101)), (Ok(()), Err(431)));
    let long = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        let value = "y".repeat(length - start.len() - 4);
        let text = format!("{start}{value}\r\n\r\n");
        assert_eq!(text.len(), length);
        head(&text).map(|_| ())
    };
    assert_eq!((long(MAX_HEAD), long(MAX_HEAD + 1)), (Ok(()), Err(431)));
    let endless = vec![b'x'; MAX_HEAD + 1];
    let found = Scan::default().find_end(&endless).unwrap_err();
    assert!(found.status == 431 && found.close);
}

#[test]
fn who_keeps_the_connection_and_who_does_not() {
    let kept = |text: &str| head(text).unwrap().keep_alive;
    assert!(kept("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!kept(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"
    ));
    assert!(!kept(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n"
    ));
    assert!(!kept(
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    ));
    assert!(!kept("GET /healthz HTTP/1.0\r\n\r\n"));
}

#[test]
fn a_person_who_opens_an_address_is_sent_by_nobody() {
    for (fields, expected) in [
        ("Sec-Fetch-Site: none", true),
        ("Sec-Fetch-Site: same-origin", true),
        ("Sec-Fetch-Site: same-site", false),
        ("Sec-Fetch-Site: cross-site", false),
        ("Sec-Fetch-Site: none\r\nOrigin: null", false),
        ("Origin: http://worker", false),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        assert_eq!(head(&text).unwrap().visit, expected, "{fields}");
    }
}

#[test]
fn a_name_that_anybody_can_own_is_no_host_for_a_browser() {
    let browser = "Accept-Language: *";
    for (host, fields, expected) in [
        ("evil.example", browser, true),
        ("evil.example.:9001", browser, true),
        ("evil.example", "Sec-Fetch-Site: none", true),
        ("evil.example", "User-Agent: curl/8", false),
        ("127.0.0.1:9001", browser, false),
        ("[::1]:9001", browser, false),
        ("localhost:9001", browser, false),
        ("worker", browser, false),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n");
        assert_eq!(head(&text).unwrap().rebound, expected, "{host} {fields}");
    }
}

#[test]
fn a_browser_is_known_by_its_headers() {
    for field in ["Origin: null", "sec-fetch-site: none", "ORIGIN:"] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        assert!(head(&text).unwrap().browser, "{field}");
    }
}

/// Feeds a body in two pieces, cut everywhere, with a next request behind it.
fn body(length: Length, limit: usize, text: &str) -> Result<Vec<u8>, u16> {
    let all = [text.as_bytes(), b"GET /"].concat();
    let feed = |pieces: &[&[u8]]| -> Result<Vec<u8>, u16> {
        let status = |answer: Answer| {
            assert!(answer.close);
            answer.status
        };
        let mut body = Body::new(length, limit).map_err(status)?;
        let mut consumed = 0;
        for piece in pieces {
            consumed += body.receive(piece).map_err(status)?;
        }
        assert!(body.is_whole(), "{text:?}");
        assert_eq!(consumed, text.len());
        Ok(body.into_bytes())
    };
    let whole = feed(&[&all]);
    for cut in 0..=text.len() {
        let (one, other) = all.split_at(cut);
        assert_eq!(feed(&[one, other]), whole, "{text:?} cut at {cut}");
    }
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    assert_eq!(feed(&bytes), whole);
    whole
}

#[test]
fn a_body_is_read_however_it_comes() {
    let check = |length, limit, text, expected: Result<&[u8], u16>| {
        assert_eq!(
            body(length, limit, text),
            expected.map(<[u8]>::to_vec),
            "{text:?}"
        );
    };
    check(Length::Fixed(5), 5, "hello", Ok(b"hello"));
    check(Length::Fixed(0), 0, "", Ok(b""));
    check(Length::Absent, 0, "", Ok(b""));
    check(Length::Fixed(6), 5, "hello!", Err(413));
    for (text, expected) in [
        ("5\r\nhello\r\n0\r\n\r\n", Ok(b"hello".as_slice())),
        ("2\r\nhe\r\n03\r\nllo\r\n000\r\n\r\n", Ok(b"hello")),
        ("A\r\n0123456789\r\n0\r\n\r\n", Ok(b"0123456789")),
        ("a\r\n0123456789\r\n0\r\n\r\n", Ok(b"0123456789")),
        ("0\r\n\r\n", Ok(b"")),
        ("b\r\n0123456789A\r\n0\r\n\r\n", Err(413)),
        ("9\r\n012345678\r\n2\r\n12\r\n0\r\n\r\n", Err(413)),
        ("ffffffffffffffff\r\n", Err(413)),
        ("10000000000000005\r\n", Err(413)),
        ("0000000000005\r\n", Err(400)),
        ("5;a=b\r\nhello\r\n0\r\n\r\n", Err(400)),
        ("5 \r\nhello\r\n0\r\n\r\n", Err(400)),
        (" 5\r\nhello\r\n0\r\n\r\n", Err(400)),
        ("0x5\r\nhello\r\n0\r\n\r\n", Err(400)),
        ("-5\r\nhello\r\n0\r\n\r\n", Err(400)),
        ("\r\nhello\r\n0\r\n\r\n", Err(400)),
        ("5\nhello\r\n0\r\n\r\n", Err(400)),
        ("5\r\nhello0\r\n\r\n", Err(400)),
        ("5\r\nhello\n0\r\n\r\n", Err(400)),
        ("5\r\nhello\r\n0\r\nX: y\r\n\r\n", Err(400)),
    ] {
        check(Length::Chunked, 10, text, expected);
    }
}

#[test]
fn percent_encoding_is_taken_at_its_word() {
    let check = |text, plus, expected: Result<&str, u16>| {
        let found = decode(text, plus).map_err(|answer| answer.status);
        assert_eq!(found.as_deref(), expected.as_deref(), "{text}");
    };
    check("a%20b", false, Ok("a b"));
    check("a+b", false, Ok("a+b"));
    check("a+b%2B", true, Ok("a b+"));
    check("%E3%81%82%2f", false, Ok("\u{3042}/"));
    for bad in [
        "%", "%2", "%g0", "%0g", "%+1", "a%", "%ff", "%00", "%0d%0A", "%7f",
    ] {
        check(bad, true, Err(400));
    }
}

#[test]
fn an_answer_says_how_long_it_is_and_who_may_keep_it() {
    let text = |answer: &Answer, head_only, close| {
        let mut out = Vec::new();
        answer.encode(head_only, close, &mut out);
        String::from_utf8(out).unwrap()
    };
    let answer = Answer::error(405, "no").with("Allow", "POST");
    let expected = "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\
                    Cache-Control: no-store\r\nAllow: POST\r\nConnection: close\r\n\r\n{\"error\":\"no\"}";
    assert_eq!(text(&answer, false, true), expected);
    assert!(
        text(&answer, true, false)
            .ends_with("Content-Length: 14\r\nCache-Control: no-store\r\nAllow: POST\r\n\r\n")
    );
    let nothing = text(&Answer::json(204, "{}"), false, false);
    assert_eq!(
        nothing,
        "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n"
    );
}
