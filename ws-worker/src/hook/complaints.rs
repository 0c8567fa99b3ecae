//! What is logged about apps: once a minute an app and kind, however often it happens, and never with what a client
//! or an app may have put in to mislead a reader. Knows no event.

use std::fmt;
use std::time::Duration;
use ws_proto::Instant;

/// How often the same is said.
const EVERY: Duration = Duration::from_secs(60);

/// Bytes of a foreign string that are shown.
const SHOWN: usize = 200;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No connection to the app.
    Connection,
    /// It did not answer in time.
    Timeout,
    /// Its answer was cut off or is no HTTP.
    Answer,
    /// It wrote to its standard error (FastCGI).
    Errors,
    /// It asks to be asked again: 408, 425, 429, 5xx.
    Again,
    /// It refuses: another 4xx.
    Refused,
    /// It redirects or switches protocols.
    Misconfigured,
    /// It was given up.
    GivenUp,
    /// A `Ws-*` header that cannot be followed.
    Header,
    /// A body that is no text.
    Text,
    /// A subprotocol that was not offered.
    Protocol,
    /// Something that was owed at the end.
    Lost,
}

const KINDS: usize = Kind::Lost as usize + 1;

/// When what was last said.
#[derive(Debug)]
pub(crate) struct Complaints {
    apps: Vec<[Said; KINDS]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Said {
    last: Option<Instant>,
    swallowed: u64,
}

impl Complaints {
    /// Nothing was said yet.
    pub(crate) fn new(apps: usize) -> Self {
        Self {
            apps: vec![[Said::default(); KINDS]; apps],
        }
    }

    /// Takes more apps in; nothing was said of them yet.
    pub(crate) fn resize(&mut self, apps: usize) {
        self.apps.resize(apps, [Said::default(); KINDS]);
    }

    /// Returns whether this may be said now, and then how often it was not since the last time.
    pub(crate) fn may_say(&mut self, now: Instant, app: usize, kind: Kind) -> Option<u64> {
        let said = self.apps.get_mut(app)?.get_mut(kind as usize)?;
        if said.last.is_some_and(|last| now.since(last) < EVERY) {
            said.swallowed += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.swallowed))
    }
}

/// Shows foreign bytes: escaped, and cut after 200.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN).unwrap_or(self.0);
        fmt::Display::fmt(&shown.escape_ascii(), f)?;
        f.write_str(if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_the_rest_is_counted() {
        let mut complaints = Complaints::new(2);
        let mut say = |at, app, kind| complaints.may_say(Instant::at(at), app, kind);
        assert_eq!(say(0, 0, Kind::Again), Some(0));
        assert_eq!(say(1, 0, Kind::Again), None);
        assert_eq!(say(2, 0, Kind::Again), None);
        assert_eq!(say(2, 0, Kind::Lost), Some(0));
        assert_eq!(say(2, 1, Kind::Again), Some(0));
        assert_eq!(say(60_000, 0, Kind::Again), Some(2));
        assert_eq!(say(60_001, 9, Kind::Again), None);
    }

    #[test]
    fn foreign_bytes_cannot_forge_a_line() {
        assert_eq!(Escaped(b"a\nb\x1b\xff").to_string(), "a\\nb\\x1b\\xff");
        assert_eq!(Escaped(&[b'x'; 300]).to_string().len(), 200 + "…".len());
    }
}
