//! FastCGI 1.0 as a responder's client: a hook's HTTP head and body → records, records → one CGI answer. Knows no socket,
//! no clock and no dialect: what a dialect renders for HTTP becomes the variables that php-fpm expects.

use crate::hook::head::{self, Field};
use crate::hook::http::{Answer, Fault, MAX_HEAD, MAX_HEADERS, decimal, empty_line};

/// The only request on its connection.
const ID: [u8; 2] = [0, 1];
const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
/// Bytes of one record's content: the most that needs no padding.
const MAX_CONTENT: usize = 65_528;
/// Bytes of a request's errors that are kept for the log.
const MAX_ERRORS: usize = 1024;
/// Buffers above this are given back between answers, in bytes; 16 KiB.
const KEPT: usize = 16 * 1024;

/// What runs, and what it is told besides its request.
pub(crate) struct Script<'a> {
    /// The folder that the target's path is looked up in.
    pub(crate) root: &'a str,
    /// How many bytes of the request's target name the script; what follows is its `PATH_INFO`.
    pub(crate) name: usize,
    /// Whether the connection is to be kept.
    pub(crate) keep: bool,
}

/// Appends a whole request, given as the HTTP head that a dialect rendered and what follows it.
pub(crate) fn encode(script: &Script<'_>, request: &[u8], body: &[u8], out: &mut Vec<u8>) {
    let end = empty_line(request, 0).unwrap_or(request.len());
    let (head, first) = request.split_at_checked(end).unwrap_or((request, &[]));
    let role = [0, 1, u8::from(script.keep), 0, 0, 0, 0, 0];
    push_record(out, BEGIN_REQUEST, &role);
    let mut params = Params {
        out,
        pairs: Vec::with_capacity(2048),
    };
    params.push_all(script, head);
    params.flush();
    push_record(out, PARAMS, &[]);
    for part in [first, body] {
        for piece in part.chunks(MAX_CONTENT) {
            push_record(out, STDIN, piece);
        }
    }
    push_record(out, STDIN, &[]);
}

fn push_record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX); // `MAX_CONTENT` is less.
    let [high, low] = length.to_be_bytes();
    let padding = length.wrapping_neg() as u8 & 7;
    out.extend_from_slice(&[VERSION, kind, ID[0], ID[1], high, low, padding, 0]);
    out.extend_from_slice(content);
    out.extend_from_slice([0; 7].get(..usize::from(padding)).unwrap_or_default());
}

/// Names and values, gathered into records. php-fpm reads no pair that spans two, so none does that need not.
struct Params<'o> {
    out: &'o mut Vec<u8>,
    pairs: Vec<u8>,
}

impl Params<'_> {
    fn push(&mut self, name: &str, value: &[u8]) {
        if self.pairs.len() + name.len() + value.len() + 8 > MAX_CONTENT {
            self.flush();
        }
        push_length(&mut self.pairs, name.len());
        push_length(&mut self.pairs, value.len());
        self.pairs.extend_from_slice(name.as_bytes());
        self.pairs.extend_from_slice(value);
    }

    fn flush(&mut self) {
        for piece in self.pairs.chunks(MAX_CONTENT) {
            push_record(self.out, PARAMS, piece);
        }
        self.pairs.clear();
    }

    fn push_all(&mut self, script: &Script<'_>, head: &[u8]) {
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        self.push("REQUEST_METHOD", words.next().unwrap_or_default());
        let target = words.next().unwrap_or_default();
        let (path, query) = match target.iter().position(|byte| *byte == b'?') {
            Some(at) => target.split_at_checked(at).unwrap_or((target, b"")),
            None => (target, &b""[..]),
        };
        let (name, info) = path.split_at_checked(script.name).unwrap_or((path, b""));
        let (name, info) = (decoded(name), decoded(info));
        let root = script.root.trim_end_matches('/');
        self.push("SCRIPT_FILENAME", &[root.as_bytes(), &name].concat());
        self.push("SCRIPT_NAME", &name);
        let document_root = if root.is_empty() { "/" } else { root };
        self.push("DOCUMENT_ROOT", document_root.as_bytes());
        self.push("DOCUMENT_URI", &[&name[..], &info].concat());
        if !info.is_empty() {
            self.push("PATH_INFO", &info);
        }
        self.push("REQUEST_URI", target);
        self.push("QUERY_STRING", query.get(1..).unwrap_or_default());
        self.push("SERVER_PROTOCOL", b"HTTP/1.1");
        let software = concat!("ws-worker/", env!("CARGO_PKG_VERSION"));
        self.push("SERVER_SOFTWARE", software.as_bytes());
        self.push("GATEWAY_INTERFACE", b"CGI/1.1");
        self.push("REDIRECT_STATUS", b"200"); // Without it php-cgi takes this for a visit by URL.
        for line in lines {
            if let Some(colon) = line.iter().position(|byte| *byte == b':')
                && let Some((name, value)) = line.split_at_checked(colon)
                && let Ok(name) = std::str::from_utf8(name)
            {
                self.push_header(name, value.get(1..).unwrap_or_default().trim_ascii());
            }
        }
    }

    fn push_header(&mut self, name: &str, value: &[u8]) {
        let upper = name.to_ascii_uppercase().replace('-', "_");
        match upper.as_str() {
            // What libraries take for the address of a proxy.
            "PROXY" => return,
            "CONTENT_LENGTH" => return self.push("CONTENT_LENGTH", value),
            "CONTENT_TYPE" => self.push("CONTENT_TYPE", value),
            "HOST" => self.push("SERVER_NAME", value),
            "WS_PEER" => self.push_peer(value),
            "WS_LOCATION" => {
                let is_secure = value.starts_with(b"wss:");
                if is_secure {
                    self.push("HTTPS", b"on");
                }
                let (scheme, port): (&[u8], &[u8]) = if is_secure {
                    (b"https", b"443")
                } else {
                    (b"http", b"80")
                };
                self.push("REQUEST_SCHEME", scheme);
                self.push("SERVER_PORT", port);
            }
            _ => {}
        }
        self.push(&format!("HTTP_{upper}"), value);
    }

    /// `tcp:192.0.2.1:4711`, `tcp:[2001:db8::1]:5`, without a port, or `unix:`.
    fn push_peer(&mut self, peer: &[u8]) {
        let peer = std::str::from_utf8(peer).unwrap_or_default();
        let Some(peer) = peer.strip_prefix("tcp:") else {
            return self.push("REMOTE_ADDR", b"unix:"); // As nginx says it.
        };
        let (address, port) = match peer.rsplit_once(':') {
            Some((address, port)) if !port.ends_with(']') => (address, port),
            Some(_) | None => (peer, ""),
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        self.push("REMOTE_ADDR", address.as_bytes());
        if !port.is_empty() {
            self.push("REMOTE_PORT", port.as_bytes());
        }
    }
}

/// One byte up to 127, else four. [FastCGI, 3.4]
fn push_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ ..128) => out.push(short),
        Ok(_) | Err(_) => {
            let long = u32::try_from(length).unwrap_or(0) | 1 << 31;
            out.extend_from_slice(&long.to_be_bytes());
        }
    }
}

/// Takes percent-encoding off, but for control characters: they have no business in a variable.
pub(crate) fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let plain = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high << 4 | low).ok(),
            _ => None,
        };
        match plain.filter(|plain| !plain.is_ascii_control()) {
            Some(plain) => {
                out.push(plain);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Takes one answer at a time.
#[derive(Debug)]
pub(crate) struct Incoming {
    header: [u8; 8],
    /// Bytes of the header that are there.
    have: usize,
    content: usize,
    padding: usize,
    /// What the script printed: head and body.
    out: Vec<u8>,
    /// Where its headers lie.
    fields: Vec<Field>,
    /// Where its body begins.
    body: Option<usize>,
    errors: Vec<u8>,
    ending: Vec<u8>,
    status: u16,
    body_end: usize,
    is_reusable: bool,
    max_body: usize,
}

impl Incoming {
    /// Waits for a first answer, whose body may have `max_body` bytes.
    pub(crate) fn new(max_body: usize) -> Self {
        Self {
            header: [0; 8],
            have: 0,
            content: 0,
            padding: 0,
            out: Vec::new(),
            fields: Vec::new(),
            body: None,
            errors: Vec::new(),
            ending: Vec::new(),
            status: 0,
            body_end: 0,
            is_reusable: false,
            max_body,
        }
    }

    /// Waits for the next answer, on a connection that may be kept.
    pub(crate) fn reset(&mut self, max_body: usize, keep: bool) {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        out.shrink_to(KEPT);
        *self = Self {
            out,
            fields: std::mem::take(&mut self.fields),
            is_reusable: keep,
            ..Self::new(max_body)
        };
    }

    /// Returns how many bytes of heap it holds.
    pub(crate) fn memory(&self) -> usize {
        let fields = self.fields.capacity() * size_of::<Field>();
        self.out.capacity() + self.errors.capacity() + self.ending.capacity() + fields
    }

    /// Returns what the script wrote to its standard error, up to a bound.
    pub(crate) fn errors(&self) -> &[u8] {
        &self.errors
    }

    /// Takes bytes; says whether the answer is whole.
    ///
    /// # Errors
    /// The app's fault.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.content > 0 {
                let (piece, after) = rest.split_at(self.content.min(rest.len()));
                rest = after;
                self.content -= piece.len();
                self.take(piece)?;
            } else if self.padding > 0 {
                let (piece, after) = rest.split_at(self.padding.min(rest.len()));
                rest = after;
                self.padding -= piece.len();
            } else if let Some((&byte, after)) = rest.split_first() {
                rest = after;
                if let Some(place) = self.header.get_mut(self.have) {
                    *place = byte;
                }
                self.have += 1;
                if self.have == self.header.len() {
                    self.begin_record()?;
                }
            }
            if self.ending.len() == 8 && self.padding == 0 {
                self.is_reusable &= rest.is_empty();
                return self.finish().map(|()| true);
            }
        }
        Ok(false)
    }

    /// Lends a whole answer.
    pub(crate) fn answer(&self) -> Answer<'_> {
        let body = self.body.unwrap_or_default();
        Answer::new(
            self.status,
            self.out.get(..body).unwrap_or_default(),
            &self.fields,
            self.out.get(body..self.body_end).unwrap_or_default(),
            self.is_reusable,
        )
    }

    fn begin_record(&mut self) -> Result<(), Fault> {
        let [version, kind, high_id, low_id, high, low, padding, _] = self.header;
        self.have = 0;
        self.content = usize::from(u16::from_be_bytes([high, low]));
        self.padding = usize::from(padding);
        let is_ours = version == VERSION && [high_id, low_id] == ID;
        match kind {
            STDOUT | STDERR if is_ours => Ok(()),
            END_REQUEST if is_ours && self.content == 8 => Ok(()),
            _ => Err(Fault::Syntax),
        }
    }

    /// Takes content of the record that has begun.
    fn take(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let [_, kind, ..] = self.header;
        match kind {
            STDERR => {
                let room = MAX_ERRORS.saturating_sub(self.errors.len());
                let kept = piece.get(..room.min(piece.len())).unwrap_or_default();
                self.errors.extend_from_slice(kept);
            }
            END_REQUEST => self.ending.extend_from_slice(piece),
            _ => {
                let searched = self.out.len();
                self.out.extend_from_slice(piece);
                if self.body.is_none() {
                    self.body = match &self.out[..] {
                        [b'\n', ..] => Some(1),
                        [b'\r', b'\n', ..] => Some(2),
                        out => empty_line(out, searched),
                    };
                }
                if self.body.unwrap_or(self.out.len()) > MAX_HEAD {
                    return Err(Fault::HeadTooLarge);
                }
                if let Some(body) = self.body
                    && self.out.len() - body > self.max_body
                {
                    return Err(Fault::BodyTooLarge);
                }
            }
        }
        Ok(())
    }

    /// Reads how the request ended, and what the script printed as the CGI answer that it is. [RFC 3875, 6]
    fn finish(&mut self) -> Result<(), Fault> {
        match self.ending.get(4) {
            Some(0) => {}
            Some(1) => return Err(Fault::OneAtATime),
            Some(2) => return Err(Fault::Overloaded),
            Some(3) => return Err(Fault::Role),
            Some(_) | None => return Err(Fault::Syntax),
        }
        let body = self.body.ok_or(Fault::Syntax)?;
        let mut storage = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let head = self.out.get(..body).unwrap_or_default();
        let headers = match httparse::parse_headers(head, &mut storage) {
            Ok(httparse::Status::Complete((length, headers))) if length == body => headers,
            Err(httparse::Error::TooManyHeaders) => return Err(Fault::HeadTooLarge),
            Ok(_) | Err(_) => return Err(Fault::Syntax),
        };
        let single = |name: &str| -> Result<Option<&[u8]>, Fault> {
            let mut found = headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case(name));
            let first = found.next().map(|header| header.value.trim_ascii());
            found.next().map_or(Ok(first), |_| Err(Fault::Framing))
        };
        if single("transfer-encoding")?.is_some() {
            return Err(Fault::Framing);
        }
        self.status = match single("status")? {
            Some(line) => {
                let code = line.split(|byte| *byte == b' ').next().unwrap_or_default();
                let code = decimal(code).filter(|code| (100..1000).contains(code));
                code.and_then(|code| u16::try_from(code).ok())
                    .ok_or(Fault::Syntax)?
            }
            None if single("location")?.is_some() => 302,
            None => 200,
        };
        let there = self.out.len() - body;
        let length = match single("content-length")? {
            _ if matches!(self.status, 100..=199 | 204 | 304) => 0,
            Some(digits) => decimal(digits).ok_or(Fault::Framing)?,
            None => there,
        };
        if length > there {
            return Err(Fault::Cut);
        }
        self.body_end = body + length;
        head::split(head, &mut self.fields);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
