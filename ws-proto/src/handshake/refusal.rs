//! Answers that are no 101: one response, its length told, the connection's end announced.
//! Knows no state: who calls sees to it that there is only one.

use crate::error::{HeadError, Refusal};
use crate::headers::{Rejection, is_end_to_end, write_line};
use crate::version::{Framing, Versions};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Appends the answer to a refusal: what is wrong, whose fault it is, and what would be right. Nothing for a silent one.
pub(crate) fn write_refusal(
    refusal: Refusal,
    allowed: Versions,
    retry_after: Option<u32>,
    is_head: bool,
    bytes: &mut Vec<u8>,
) {
    let Some(status) = refusal.status() else {
        return;
    };
    write_status(status, bytes);
    if status == 426 {
        // [RFC 9110, 15.5.22] [RFC 6455, 4.4]
        write_line("Upgrade", b"websocket", bytes);
        let numbers = numbers(allowed);
        if !numbers.is_empty() {
            write_line("Sec-WebSocket-Version", numbers.as_bytes(), bytes);
        }
    }
    if let Some(seconds) = retry_after {
        write_line("Retry-After", format!("{seconds}").as_bytes(), bytes);
    }
    write_line("Content-Type", b"text/plain; charset=utf-8", bytes);
    write_body(words(refusal).as_bytes(), is_head, bytes);
}

/// Appends the app's own answer, without the headers that are not the app's to set.
pub(crate) fn write_rejection(rejection: &Rejection, is_head: bool, bytes: &mut Vec<u8>) {
    // An app that says 101, or nonsense, does not get to say it: a proxy would open a tunnel.
    let status = match rejection.status {
        status @ 200..=599 => status,
        _ => 502,
    };
    write_status(status, bytes);
    for (name, value) in rejection.headers.iter() {
        if is_end_to_end(name) {
            write_line(name, value, bytes);
        }
    }
    match status {
        204 | 304 => bytes.extend_from_slice(b"\r\n"),
        205 => write_body(b"", is_head, bytes),
        _ => write_body(&rejection.body, is_head, bytes),
    }
}

fn write_status(status: u16, bytes: &mut Vec<u8>) {
    let line = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    bytes.extend_from_slice(line.as_bytes());
    // Proxies hold an answer back, or use the connection again, unless it says that it ends.
    write_line("Connection", b"close", bytes);
}

/// Appends the last header, the empty line, and the body unless the request was a `HEAD`.
fn write_body(body: &[u8], is_head: bool, bytes: &mut Vec<u8>) {
    write_line(
        "Content-Length",
        format!("{}", body.len()).as_bytes(),
        bytes,
    );
    bytes.extend_from_slice(b"\r\n");
    if !is_head {
        bytes.extend_from_slice(body);
    }
}

/// Lists the versions that a version header can name, newest first.
fn numbers(allowed: Versions) -> String {
    let numbers: Vec<_> = allowed
        .newest_first()
        .filter(|version| version.framing() == Framing::Hybi)
        .map(|version| format!("{}", version.number()))
        .collect();
    numbers.join(", ")
}

const fn words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Head(error) => match error {
            HeadError::Syntax => {
                "The client, or a proxy in between, sent something that is no proper HTTP/1.1 request.\n\
                 Lines end in CR LF; headers hold no control characters, are not folded, and have no space before the colon.\n"
            }
            HeadError::TooLarge => {
                "The client sent more bytes of request line and headers than this server takes.\n\
                 Often these are cookies: clear them, or send fewer.\n"
            }
            HeadError::TooManyHeaders => {
                "The client, or a proxy in between, sent more headers than this server takes.\n"
            }
            HeadError::HttpVersion => {
                "This request does not speak HTTP/1.1, without which there is no WebSocket.\n\
                 Most likely a proxy in between is not set up for it. nginx needs these three lines:\n\
                 \x20   proxy_http_version 1.1;\n\
                 \x20   proxy_set_header Upgrade $http_upgrade;\n\
                 \x20   proxy_set_header Connection \"upgrade\";\n"
            }
            HeadError::Host => {
                "The client, or a proxy in between, sent no Host header, or one that is not a host.\n\
                 It should be the host of the URL, and its port if it has one.\n"
            }
            HeadError::Duplicate => {
                "The client, or a proxy in between, sent a header twice that may stand once.\n"
            }
            HeadError::Body => {
                "The client, or a proxy in between, announced a body, but a WebSocket begins with a request that has none.\n\
                 Leave out Content-Length and Transfer-Encoding.\n"
            }
            HeadError::Subprotocols => {
                "The client offered subprotocols that are no names, or too many of them.\n\
                 A name is made of letters, digits and !#$%&'*+-.^_`|~, without spaces.\n"
            }
            HeadError::Target => {
                "The client, or a proxy in between, did not ask for a path.\n\
                 It should begin with a slash and hold no fragment (#) and no control characters.\n"
            }
        },
        Refusal::NotWebSocket => {
            "This is a WebSocket endpoint, and this request does not ask for a WebSocket.\n\
             If a browser's address bar sent it: nothing is broken, open the page that uses the endpoint.\n\
             If a WebSocket client sent it: a proxy in between dropped the Upgrade and Connection headers.\n\
             nginx needs proxy_set_header for both, Apache needs upgrade=websocket in its ProxyPass.\n"
        }
        Refusal::Version(_) => {
            "The client asked for a version of the WebSocket protocol that is unknown or switched off here.\n\
             The Sec-WebSocket-Version header of this answer, if there is one, lists those that are on; 13 is RFC 6455.\n"
        }
        Refusal::Keys => {
            "The client, or a proxy in between, sent a handshake whose Sec-WebSocket-Key is missing or wrong.\n\
             It should be sixteen random bytes in base64; hixie-76 has two keys, Sec-WebSocket-Key1 and -Key2.\n"
        }
        Refusal::Origin => "Pages of this origin may not open a WebSocket here.\n",
        Refusal::NotFound => {
            "There is no WebSocket endpoint at this path. The client's URL is wrong, or a proxy in between changed it.\n"
        }
        Refusal::Timeout => {
            "The client, or a proxy in between, took too long to send its request.\n"
        }
        Refusal::Unavailable => {
            "The client did nothing wrong: this server is busy, or the app behind it does not answer. Try again later.\n"
        }
        Refusal::Silent => "",
    }
}

/// Returns the customary words for a status; none for the rare ones, which HTTP allows.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        205 => "Reset Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        _ => "",
    }
}
