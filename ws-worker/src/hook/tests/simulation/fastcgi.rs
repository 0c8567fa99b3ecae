//! The dialect of a scripted app that speaks FastCGI: records in, records out. Written from the specification, not from the
//! worker's own code, so that both would have to be wrong in the same way.

use std::collections::HashMap;

const STDOUT: u8 = 6;
const END_REQUEST: u8 = 3;
/// The end of a request that was served, and of one that the app has not begun.
pub(super) const SERVED: u8 = 0;
pub(super) const OVERLOADED: u8 = 2;

/// A request, as far as it is there.
pub(super) struct Request {
    pub(super) fields: HashMap<String, String>,
    /// `None` while it is not whole.
    pub(super) body: Option<Vec<u8>>,
    pub(super) used: usize,
    pub(super) keeps: bool,
}

/// Reads what came on a connection; `None` before all variables are there.
pub(super) fn request(bytes: &[u8]) -> Option<Request> {
    let (mut pairs, mut body, mut used, mut keeps) = (Vec::new(), Vec::new(), 0, false);
    let mut fields = None;
    while let Some(header) = bytes.get(used..used + 8) {
        if (header[0], &header[2..4]) != (1, &[0, 1][..]) {
            return None; // The rest of a request that was answered before it was read.
        }
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let end = used + 8 + length + usize::from(header[6]);
        let Some(content) = bytes.get(used + 8..end).map(|all| &all[..length]) else {
            break;
        };
        used = end;
        match (header[1], length) {
            (1, 8) => keeps = content[2] & 1 == 1,
            (4, 0) => fields = Some(variables(&pairs)),
            (4, _) => pairs.extend_from_slice(content),
            (5, 0) => {
                return Some(Request {
                    fields: fields?, // Without them it is again such a rest.
                    body: Some(body),
                    used,
                    keeps,
                });
            }
            (5, _) => body.extend_from_slice(content),
            other => panic!("a record of {other:?}"),
        }
    }
    Some(Request {
        fields: fields?,
        body: None,
        used,
        keeps,
    })
}

/// Names as in HTTP again: `HTTP_WS_EVENT` is `ws-event`.
fn variables(mut pairs: &[u8]) -> HashMap<String, String> {
    let mut found = HashMap::new();
    while !pairs.is_empty() {
        let mut lengths = [0; 2];
        for length in &mut lengths {
            if pairs[0] < 128 {
                *length = usize::from(pairs[0]);
                pairs = &pairs[1..];
            } else {
                *length =
                    u32::from_be_bytes([pairs[0] & 127, pairs[1], pairs[2], pairs[3]]) as usize;
                pairs = &pairs[4..];
            }
        }
        let (name, rest) = pairs.split_at(lengths[0]);
        let (value, rest) = rest.split_at(lengths[1]);
        pairs = rest;
        let name = String::from_utf8(name.to_vec()).unwrap();
        let name = name.strip_prefix("HTTP_").unwrap_or(&name);
        let value = String::from_utf8(value.to_vec()).unwrap();
        found.insert(name.replace('_', "-").to_ascii_lowercase(), value);
    }
    found
}

fn record(kind: u8, content: &[u8], padding: u8, out: &mut Vec<u8>) {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&[1, kind, 0, 1, high, low, padding, 0]);
    out.extend_from_slice(content);
    out.extend(std::iter::repeat_n(0, usize::from(padding)));
}

/// Says what a script says in HTTP's words, whose status line becomes CGI's.
pub(super) fn answer(http: &[u8], is_whole: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(&http[..http.len().min(40)]).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let status = line.split_once(' ').map_or("", |(_, status)| status);
    let mut content = format!("Status: {status}").into_bytes();
    content.extend_from_slice(&http[line.len()..]);
    let mut out = Vec::new();
    for (number, piece) in content.chunks(40_000).enumerate() {
        record(STDOUT, piece, (number as u8 + 3) % 8, &mut out);
    }
    if is_whole {
        record(STDOUT, b"", 0, &mut out);
        out.extend(end(SERVED));
    }
    out
}

/// The record that ends a request.
pub(super) fn end(status: u8) -> Vec<u8> {
    let mut out = Vec::new();
    record(END_REQUEST, &[0, 0, 0, 0, status, 0, 0, 0], 0, &mut out);
    out
}
