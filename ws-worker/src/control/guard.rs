//! Who may use the control API: a token, compared in constant time, and a brake on guessing. Knows no call and no socket.

use super::http::Answer;
use crate::config::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;
use ws_proto::Instant;

/// Wrong tokens from one address within [`WINDOW`]; what comes then is not even looked at.
const MAX_FAILURES: u8 = 5;
const WINDOW: Duration = Duration::from_secs(1);
/// Addresses whose failures are remembered; the one that failed first is forgotten.
const MAX_ADDRESSES: usize = 64;

/// The token, and who got it wrong lately. Counted by address, so that nobody but a neighbour can lock the app out.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<[u8; 32]>,
    failures: Vec<Failures>,
}

#[derive(Debug)]
struct Failures {
    address: Option<IpAddr>,
    since: Instant,
    count: u8,
}

impl Guard {
    /// Without a token everybody may come in: a unix socket, whose file mode is the permission.
    pub(super) fn new(token: Option<&Secret>) -> Self {
        Self {
            token: token.map(|Secret(token)| Sha256::digest(token).into()),
            failures: Vec::new(),
        }
    }

    /// Returns whether callers have to show a token.
    pub(super) fn wants_token(&self) -> bool {
        self.token.is_some()
    }

    /// Wants another token from now on. Who guessed at the old one has not guessed less.
    pub(super) fn replace(&mut self, token: Option<&Secret>) {
        self.token = token.map(|Secret(token)| Sha256::digest(token).into());
    }

    /// Looks at what a caller shows.
    ///
    /// # Errors
    /// The caller's fault: 401 without the token, 429 after too many wrong ones.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        peer: Option<IpAddr>,
        authorization: Option<&[u8]>,
        takes_basic: bool,
    ) -> Result<(), Answer> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let address = peer.map(neighbourhood);
        self.failures
            .retain(|failures| now < failures.since + WINDOW);
        let known = self
            .failures
            .iter_mut()
            .find(|failures| failures.address == address);
        if known
            .as_ref()
            .is_some_and(|failures| failures.count >= MAX_FAILURES)
        {
            return Err(Answer::error(429, "too many wrong tokens").with("Retry-After", "1"));
        }
        let scheme = if takes_basic {
            r#"Basic realm="ws-worker: any name, the token as password", charset="UTF-8""#
        } else {
            "Bearer"
        };
        let refused =
            Answer::error(401, "the token is missing or wrong").with("WWW-Authenticate", scheme);
        // No token is no guess.
        let password = authorization.filter(|_| takes_basic).and_then(basic);
        let shown = authorization.and_then(bearer).or(password.as_deref());
        let shown = shown.ok_or(refused.clone())?;
        if same(&Sha256::digest(shown).into(), token) {
            return Ok(());
        }
        match known {
            Some(failures) => {
                failures.count += 1;
                if failures.count == MAX_FAILURES {
                    tracing::warn!(peer = ?address, "wrong control tokens, brake on");
                }
            }
            None => {
                if self.failures.len() >= MAX_ADDRESSES {
                    self.failures.remove(0);
                }
                self.failures.push(Failures {
                    address,
                    since: now,
                    count: 1,
                });
            }
        }
        Err(refused)
    }
}

/// Takes the token out of `Bearer <token>`. [RFC 6750, 2.1]
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Takes the password out of `Basic <base64>`: what a browser can show. [RFC 7617, 2]
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

/// Compares without an early exit. Digests, so that neither length nor content of the token shows in the time.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one
        .iter()
        .zip(other)
        .fold(0, |sum, (one, other)| black_box(sum | (one ^ other)));
    black_box(difference) == 0
}

/// One caller has one IPv4 address, but 2^64 of IPv6.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(Some(&Secret(b"open sesame".to_vec())))
    }

    fn status(guard: &mut Guard, millis: u64, peer: &str, shown: &str) -> u16 {
        let peer = Some(peer.parse().unwrap());
        match guard.admit(Instant::at(millis), peer, Some(shown.as_bytes()), false) {
            Ok(()) => 200,
            Err(answer) => answer.status,
        }
    }

    #[test]
    fn only_the_whole_token_opens() {
        for (shown, expected) in [
            ("Bearer open sesame", 200),
            ("bearer  open sesame ", 200),
            ("Bearer open sesam", 401),
            ("Bearer open sesame!", 401),
            ("Bearer", 401),
            ("Bearer ", 401),
            ("Basic open sesame", 401),
            ("open sesame", 401),
            ("", 401),
        ] {
            assert_eq!(
                status(&mut guard(), 0, "192.0.2.1", shown),
                expected,
                "{shown:?}"
            );
        }
        let answer = guard()
            .admit(Instant::at(0), None, None, false)
            .unwrap_err();
        assert_eq!(answer.header, Some(("WWW-Authenticate", "Bearer")));
    }

    #[test]
    fn a_browser_may_show_the_token_as_a_password_where_that_is_taken() {
        for (shown, expected) in [
            ("Basic YW55Ym9keTpvcGVuIHNlc2FtZQ==", true), // anybody:open sesame
            ("basic OnI6b3BlbiBzZXNhbWU=", false),        // :r:open sesame
            ("Basic b3BlbiBzZXNhbWU=", false),            // no name
            ("Basic !", false),
            ("Bearer open sesame", true),
        ] {
            let shown = Some(shown.as_bytes());
            let result = guard().admit(Instant::at(0), None, shown, true);
            assert_eq!(result.is_ok(), expected, "{shown:?}");
        }
        assert_eq!(
            status(
                &mut guard(),
                0,
                "192.0.2.1",
                "Basic YW55Ym9keTpvcGVuIHNlc2FtZQ=="
            ),
            401
        );
    }

    #[test]
    fn without_a_token_the_file_mode_is_the_permission() {
        assert_eq!(
            Guard::new(None).admit(Instant::at(0), None, None, false),
            Ok(())
        );
    }

    #[test]
    fn five_wrong_tokens_a_second_are_enough() {
        let mut guard = guard();
        for millis in 0..5 {
            assert_eq!(status(&mut guard, millis, "192.0.2.1", "Bearer x"), 401);
        }
        assert_eq!(status(&mut guard, 5, "192.0.2.1", "Bearer x"), 429);
        assert_eq!(
            status(&mut guard, 6, "192.0.2.1", "Bearer open sesame"),
            429
        );
        // Nobody else is locked out, and not for long.
        assert_eq!(
            status(&mut guard, 7, "192.0.2.2", "Bearer open sesame"),
            200
        );
        assert_eq!(status(&mut guard, 999, "192.0.2.1", "Bearer x"), 429);
        assert_eq!(
            status(&mut guard, 1000, "192.0.2.1", "Bearer open sesame"),
            200
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let mut guard = guard();
        for host in 1..=5 {
            status(&mut guard, 0, &format!("2001:db8::{host}"), "Bearer x");
        }
        assert_eq!(status(&mut guard, 0, "2001:db8::6", "Bearer x"), 429);
        assert_eq!(status(&mut guard, 0, "2001:db8:0:1::6", "Bearer x"), 401);
    }

    #[test]
    fn memory_of_failures_is_bounded() {
        let mut guard = guard();
        for host in 0..500_u32 {
            let peer = std::net::Ipv4Addr::from_bits(host).to_string();
            assert_eq!(status(&mut guard, 0, &peer, "Bearer x"), 401);
        }
        assert_eq!(guard.failures.len(), MAX_ADDRESSES);
    }
}
