//! The handshake of hybi-07, hybi-08 and RFC 6455: one key, one digest.
//! Knows no subprotocol rules and no extra headers: who calls has checked them.

use crate::deflate::negotiate::{self, Answered};
use crate::digest;
use crate::error::Refusal;
use crate::head::{Request, protocol_header};
use crate::headers::write_line;
use crate::version::Version;
use alloc::vec::Vec;

/// Checks the key. [RFC 6455, 4.2.1, 5]
///
/// In 7 and 8 the drafts say the same, but npm `ws` up to 1.x sends fifteen bytes there, so anything visible is taken.
pub(crate) fn check_key(request: &Request<'_>) -> Result<(), Refusal> {
    let key = key(request);
    let is_fine = match request.version() {
        Version::Hybi07 | Version::Hybi08 => {
            (1..=64).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
        }
        Version::Rfc6455 | Version::Hixie75 | Version::Hixie76 => digest::is_sixteen_bytes(key),
    };
    if is_fine { Ok(()) } else { Err(Refusal::Keys) }
}

/// Appends the answer's own lines, without the empty one. [RFC 6455, 4.2.2]
pub(crate) fn write_answer(
    request: &Request<'_>,
    protocol: Option<&str>,
    deflate: Option<&Answered>,
    bytes: &mut Vec<u8>,
) {
    bytes.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    let accept = digest::accept_key(key(request));
    write_line("Sec-WebSocket-Accept", &accept, bytes);
    if let Some(protocol) = protocol {
        write_line(
            protocol_header(request.version()),
            protocol.as_bytes(),
            bytes,
        );
    }
    // Any other extension is declined by silence.
    if let Some(answered) = deflate {
        bytes.extend_from_slice(b"Sec-WebSocket-Extensions: ");
        negotiate::write_answer(answered, bytes);
        bytes.extend_from_slice(b"\r\n");
    }
}

fn key<'a>(request: &Request<'a>) -> &'a [u8] {
    let mut keys = request.fields().values("sec-websocket-key");
    keys.next().unwrap_or_default()
}
