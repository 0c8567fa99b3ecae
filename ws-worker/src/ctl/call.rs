//! One request to the control API and its answer, over TCP or a unix socket, with a deadline. Knows HTTP; not what is asked.

use super::exit;
use crate::config::Address;
use crate::log::escaped;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// An answer is at most so long: a page of sockets has about 1 MiB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
const MAX_HEADERS: usize = 64;
/// Between two looks at a queue that is full; no event tells when it is not.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Where a worker is, and what it is shown.
pub(super) struct Caller {
    pub(super) address: Address,
    pub(super) token: Option<Vec<u8>>,
    pub(super) patience: Duration,
}

/// Why there is no answer to print.
#[derive(Debug)]
pub(super) enum Failure {
    /// The operator's: a flag or an argument.
    Usage(String),
    /// The operator's: the file.
    Configuration(String),
    /// Nobody is there.
    Nobody(Address, io::Error),
    /// It does not answer.
    Timeout(Address, Duration),
    /// It wants another token.
    Token { shown: bool, words: String },
    /// It said no.
    Refused(u16, String),
    /// It said something else than a worker would.
    Stranger(Address),
}

impl Failure {
    /// Returns the exit code and what an operator reads.
    pub(super) fn words(&self) -> (u8, String) {
        match self {
            Self::Usage(text) => (exit::USAGE, text.clone()),
            Self::Configuration(text) => (exit::CONFIGURATION, text.clone()),
            Self::Nobody(address, error) if error.kind() == ErrorKind::PermissionDenied => {
                let text = format!(
                    "{address} may not be used: {error}; the socket's file mode is the permission, which its group has"
                );
                (exit::TOKEN, text)
            }
            Self::Nobody(address, error) => {
                let kind = error.kind();
                let hint = if matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
                    "; does the worker run, and is this its control listener?"
                } else {
                    ""
                };
                let text = format!("no worker at {address}: {error}{hint}");
                (exit::NOBODY, text)
            }
            Self::Timeout(address, patience) => {
                let text = format!("the worker at {address} did not answer within {patience:?}");
                (exit::TIMEOUT, text)
            }
            Self::Token { shown: false, .. } => {
                let text = "the worker wants a token; --token-file names the file that has it";
                (exit::TOKEN, text.to_owned())
            }
            Self::Token { shown: true, words } => (
                exit::TOKEN,
                format!("the worker does not take this token: {words}"),
            ),
            Self::Refused(status, words) => (
                exit::REFUSED,
                format!("the worker refused: {words} ({status})"),
            ),
            Self::Stranger(address) => {
                let text = format!("what answers at {address} is no control listener of a worker");
                (exit::NOBODY, text)
            }
        }
    }
}

impl Caller {
    pub(super) fn get(&self, target: &str) -> Result<Value, Failure> {
        self.call("GET", target, b"", false)
    }

    pub(super) fn post(&self, target: &str, body: &[u8], binary: bool) -> Result<Value, Failure> {
        self.call("POST", target, body, binary)
    }

    pub(super) fn delete(&self, target: &str) -> Result<Value, Failure> {
        self.call("DELETE", target, b"", false)
    }

    fn call(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        binary: bool,
    ) -> Result<Value, Failure> {
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n");
        if method == "POST" {
            let kind = if binary {
                "application/octet-stream"
            } else {
                "text/plain; charset=utf-8"
            };
            let _ = write!(
                request,
                "Content-Type: {kind}\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        let mut request = request.into_bytes();
        if let Some(token) = &self.token {
            request.extend_from_slice(b"Authorization: Bearer ");
            request.extend_from_slice(token);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        let bytes = self.exchange(&request).map_err(|error| {
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                Failure::Timeout(self.address.clone(), self.patience)
            } else {
                Failure::Nobody(self.address.clone(), error)
            }
        })?;
        self.understand(&bytes)
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let until = Instant::now() + self.patience;
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, self.patience)?;
                talk(&stream, request, until, |limit| {
                    stream.set_read_timeout(Some(limit))?;
                    stream.set_write_timeout(Some(limit))
                })
            }
            Address::Unix(path) => {
                let stream = connect(path, until)?;
                talk(&stream, request, until, |limit| {
                    stream.set_read_timeout(Some(limit))?;
                    stream.set_write_timeout(Some(limit))
                })
            }
            Address::Systemd(_) | Address::Descriptor(_) => Err(io::Error::new(
                ErrorKind::Unsupported,
                "only systemd knows where that is; say it by --control",
            )),
        }
    }

    fn understand(&self, bytes: &[u8]) -> Result<Value, Failure> {
        let stranger = || Failure::Stranger(self.address.clone());
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = answer.parse(bytes) else {
            return Err(stranger());
        };
        let status = answer.code.unwrap_or_default();
        let body = bytes.get(length..).unwrap_or_default();
        let body: Value = if body.is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            serde_json::from_slice(body).map_err(|_| stranger())?
        };
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let words = body
            .get("error")
            .and_then(Value::as_str)
            .ok_or_else(stranger)?;
        // A configuration's fault has several lines, which are to be read as such.
        let words: Vec<String> = words
            .lines()
            .map(|line| escaped(line).to_string())
            .collect();
        let words = words.join("\n");
        Err(match status {
            401 | 403 => Failure::Token {
                shown: self.token.is_some(),
                words,
            },
            _ => Failure::Refused(status, words),
        })
    }
}

/// Connects to a unix socket. Where nobody accepts, and the queue before it is full, the system would wait for ever.
fn connect(path: &Path, until: Instant) -> io::Result<UnixStream> {
    loop {
        match mio::net::UnixStream::connect(path) {
            Ok(stream) => {
                let stream = UnixStream::from(OwnedFd::from(stream));
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock || Instant::now() >= until => {
                return Err(error);
            }
            Err(_) => thread::sleep(CONNECT_PAUSE),
        }
    }
}

fn talk<S>(
    mut stream: S,
    request: &[u8],
    until: Instant,
    limit: impl Fn(Duration) -> io::Result<()>,
) -> io::Result<Vec<u8>>
where
    S: Read + Write,
{
    let left = || {
        until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1))
    };
    let in_time = || {
        (Instant::now() < until)
            .then_some(())
            .ok_or(ErrorKind::TimedOut)
    };
    let mut rest = request;
    while !rest.is_empty() {
        in_time()?;
        limit(left())?;
        let count = stream.write(rest)?;
        if count == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        rest = rest.get(count..).unwrap_or_default();
    }
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        in_time()?;
        limit(left())?;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(answer);
        }
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if answer.len() > MAX_ANSWER {
            return Err(io::Error::other("the answer does not end"));
        }
    }
}

/// Puts a path and the parameters that are there together.
pub(super) fn target(path: &str, query: &[(&str, Option<&str>)]) -> String {
    let mut target = path.to_owned();
    let mut before = '?';
    for (name, value) in query {
        if let Some(value) = value {
            let _ = write!(target, "{before}{name}={}", encoded(value));
            before = '&';
        }
    }
    target
}

/// Percent-encodes everything that could mean something in a URL.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_cannot_become_another_call() {
        assert_eq!(encoded("a/b?c&d #\r\n"), "a%2Fb%3Fc%26d%20%23%0D%0A");
        let query = [
            ("route", Some("/chat")),
            ("after", None),
            ("reason", Some("あ")),
        ];
        assert_eq!(target("/x", &query), "/x?route=%2Fchat&reason=%E3%81%82");
    }

    #[test]
    fn an_answer_is_understood_or_its_sender_is_a_stranger() {
        let caller = Caller {
            address: Address::Unix("/a".into()),
            token: None,
            patience: Duration::from_secs(1),
        };
        let code = |text: &str| match caller.understand(text.as_bytes()) {
            Ok(_) => exit::DONE,
            Err(failure) => failure.words().0,
        };
        assert_eq!(code("HTTP/1.1 200 OK\r\n\r\n{}"), exit::DONE);
        assert_eq!(code("HTTP/1.1 204 No Content\r\n\r\n"), exit::DONE);
        assert_eq!(
            code("HTTP/1.1 404 Not Found\r\n\r\n{\"error\":\"no\"}"),
            exit::REFUSED
        );
        assert_eq!(
            code("HTTP/1.1 401 Unauthorized\r\n\r\n{\"error\":\"no\"}"),
            exit::TOKEN
        );
        assert_eq!(code("HTTP/1.1 200 OK\r\n\r\n<html>"), exit::NOBODY);
        assert_eq!(code("HTTP/1.1 404 Not Found\r\n\r\n{}"), exit::NOBODY);
        assert_eq!(code("SSH-2.0"), exit::NOBODY);
        assert_eq!(code(""), exit::NOBODY);
    }
}
