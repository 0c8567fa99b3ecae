//! The body of an answer that is no 101, as far as it is worth showing. Knows the two ways in which its end is told.

/// No more of a body is kept; the rest is for a browser.
const MOST: usize = 64 * 1024;

/// How the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    After(usize),
    ByChunk,
    ByEof,
}

/// An answer whose body is coming.
#[derive(Debug)]
pub(crate) struct Refused {
    ends: Ends,
    bytes: Vec<u8>,
}

impl Refused {
    pub(crate) fn new<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>, status: u16) -> Self {
        let mut ends = match status {
            100..=199 | 204 | 304 => Ends::After(0),
            _ => Ends::ByEof,
        };
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value).to_ascii_lowercase();
            if name.eq_ignore_ascii_case("transfer-encoding") && value.ends_with("chunked") {
                ends = Ends::ByChunk;
            } else if name.eq_ignore_ascii_case("content-length") && ends == Ends::ByEof {
                ends = value.parse().map_or(Ends::ByEof, Ends::After);
            }
        }
        Self {
            ends,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        let room = MOST.saturating_sub(self.bytes.len());
        self.bytes
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Returns whether nothing more of it is wanted.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() >= MOST
            || match self.ends {
                Ends::After(length) => self.bytes.len() >= length,
                Ends::ByChunk => chunks(&self.bytes).1,
                Ends::ByEof => false,
            }
    }

    pub(crate) fn into_body(mut self) -> Vec<u8> {
        match self.ends {
            Ends::After(length) => self.bytes.truncate(length),
            Ends::ByChunk => return chunks(&self.bytes).0,
            Ends::ByEof => {}
        }
        self.bytes
    }
}

/// Joins chunks as far as they go, and says whether the last one is there. [RFC 9112, 7.1]
fn chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return (body, false);
        };
        let line = rest.get(..end).unwrap_or_default();
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size.trim_ascii()).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else {
            return (body, true); // The last one, or nothing that makes sense.
        };
        rest = rest.get(end + 2..).unwrap_or_default();
        let part = rest.get(..size).unwrap_or(rest);
        body.extend_from_slice(part);
        rest = rest.get(part.len()..).unwrap_or_default();
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        if rest.is_empty() {
            return (body, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], status: u16, body: &str, whole: bool, expected: &str) {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        let mut refused = Refused::new(headers, status);
        for byte in body.bytes() {
            refused.receive(&[byte]);
        }
        assert_eq!(refused.is_whole(), whole);
        assert_eq!(refused.into_body(), expected.as_bytes());
    }

    #[test]
    fn a_body_ends_as_its_head_says() {
        check(&[], 403, "no", false, "no");
        check(&[("Content-Length", "2")], 403, "no", true, "no");
        check(&[("content-length", "2")], 403, "n", false, "n");
        check(&[("Content-Length", "2")], 403, "no and more", true, "no");
        check(&[], 204, "", true, "");
        let chunked = [("Transfer-Encoding", "chunked")];
        check(
            &chunked,
            403,
            "2\r\nno\r\n3;x=y\r\nway\r\n0\r\n\r\n",
            true,
            "noway",
        );
        check(&chunked, 403, "2\r\nno\r\n3\r\nwa", false, "nowa");
        check(&chunked, 403, "what\r\n", true, "");
    }
}
