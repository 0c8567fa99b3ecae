//! The end of a connection in one line, with all that is needed to understand it, and the last of them for who looks. Knows
//! no socket; what clients said is kept as it came, and shown only escaped, cut and without its query.

use crate::command::{RouteId, SocketId};
use crate::config::Config;
use crate::log::escaped;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use ws_proto::{Instant, Version};

/// Lines a second, before the rest is counted: what a proxy's restart ends at once shall not drown everything else.
const LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);
/// Ends that are kept for who looks.
const KEPT: usize = 32;

/// What a client said of itself when it came, in one piece of heap: the parts' lengths, then the parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct About(Box<[u8]>);

const PARTS: usize = 5;
/// A part that there is none of.
const ABSENT: u16 = u16::MAX;

/// Cuts a part whose length would be none.
fn fitting(part: &str) -> &str {
    let mut end = part.len().min(usize::from(ABSENT) - 1);
    while !part.is_char_boundary(end) {
        end -= 1;
    }
    part.get(..end).unwrap_or_default()
}

impl About {
    /// Keeps peer, resource, origin, subprotocol and the request's id, of each at most 65,534 bytes.
    pub(crate) fn new(parts: [Option<&str>; PARTS]) -> Self {
        let parts = parts.map(|part| part.map(fitting));
        let length: usize = parts.iter().flatten().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(2 * PARTS + length);
        for part in parts {
            let length = part.map_or(ABSENT, |part| part.len() as u16);
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        for part in parts.iter().flatten() {
            bytes.extend_from_slice(part.as_bytes());
        }
        Self(bytes.into_boxed_slice())
    }

    fn part(&self, place: usize) -> Option<&str> {
        let (lengths, text) = self.0.split_at_checked(2 * PARTS)?;
        let (lengths, _) = lengths.as_chunks::<2>();
        let mut lengths = lengths.iter().map(|length| u16::from_le_bytes(*length));
        let before = lengths
            .by_ref()
            .take(place)
            .filter(|length| *length != ABSENT);
        let begin = before.map(usize::from).sum();
        let length = lengths.next().filter(|length| *length != ABSENT)?;
        std::str::from_utf8(text.get(begin..begin + usize::from(length))?).ok()
    }

    /// The client's address as far as the proxy is trusted.
    pub(crate) fn peer(&self) -> &str {
        self.part(0).unwrap_or_default()
    }

    /// Path and query as they came.
    pub(crate) fn resource(&self) -> &str {
        self.part(1).unwrap_or_default()
    }

    /// The origin, if one was named.
    pub(crate) fn origin(&self) -> Option<&str> {
        self.part(2)
    }

    /// The subprotocol, if one was chosen.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.part(3)
    }

    /// The request's id, if the proxy or the client gave it one.
    pub(crate) fn request(&self) -> Option<&str> {
        self.part(4)
    }

    /// The path, harmless and without a query, in which tokens are.
    pub(crate) fn path(&self) -> String {
        match self.resource().split_once('?') {
            Some((path, _)) => format!("{}?...", escaped(path)),
            None => escaped(self.resource()).to_string(),
        }
    }
}

/// A connection that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: SocketId,
    pub(crate) route: RouteId,
    pub(crate) version: Version,
    pub(crate) about: About,
    /// In seconds since 1970.
    pub(crate) at: u64,
    pub(crate) lasted: Duration,
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
    pub(crate) by: &'static str,
    pub(crate) clean: bool,
    /// Of the last ping.
    pub(crate) round_trip: Option<Duration>,
}

impl Ended {
    /// Writes the line, at the level info.
    fn log(&self, config: &Config) {
        let route = config.routes.get(usize::from(self.route.0));
        let origin = self.about.origin().map(|text| escaped(text).to_string());
        let protocol = self.about.protocol().map(|text| escaped(text).to_string());
        tracing::info!(
            target: "ws_worker::closed",
            id = %self.id,
            request = self.request(),
            route = route.map_or("", |route| route.path.as_str()),
            path = self.about.path(),
            version = self.version.name(),
            peer = escaped(self.about.peer()).to_string(),
            origin,
            protocol,
            seconds = self.lasted.as_secs_f64(),
            messages_in = self.messages_in,
            bytes_in = self.bytes_in,
            messages_out = self.messages_out,
            bytes_out = self.bytes_out,
            code = self.code,
            reason = escaped(&self.reason).to_string(),
            by = self.by,
            clean = self.clean,
            ping_seconds = self.round_trip.map(|time| time.as_secs_f64()),
            "closed"
        );
    }

    /// The request's id: the one it came with, or else the socket's.
    pub(crate) fn request(&self) -> String {
        match self.about.request() {
            Some(request) => escaped(request).to_string(),
            None => self.id.to_string(),
        }
    }
}

/// Returns whether ends are logged, so that what they say has to be kept.
pub(crate) fn are_logged() -> bool {
    tracing::enabled!(target: "ws_worker::closed", Level::INFO)
}

fn are_all_logged() -> bool {
    tracing::enabled!(target: "ws_worker::closed", Level::DEBUG)
}

/// The ends of all threads. Locked once when a connection ends, twice where that is logged.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: VecDeque<Ended>,
    window: Option<Instant>,
    said: u32,
    unsaid: u32,
}

impl State {
    /// Returns whether a line may be written now, and how many were not in the window before.
    fn admit(&mut self, now: Instant) -> (bool, u32) {
        let unsaid = self.turn_over(now);
        let may = self.said < LINES;
        *(if may {
            &mut self.said
        } else {
            &mut self.unsaid
        }) += 1;
        (may, unsaid)
    }

    fn keep(&mut self, ended: Ended) {
        if self.last.len() == KEPT {
            self.last.pop_back();
        }
        self.last.push_front(ended);
    }

    fn turn_over(&mut self, now: Instant) -> u32 {
        if self.window.is_some_and(|window| now < window + WINDOW) {
            return 0;
        }
        self.window = Some(now);
        self.said = 0;
        std::mem::take(&mut self.unsaid)
    }
}

impl Ends {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs an end and keeps it.
    pub(crate) fn note(&self, now: Instant, ended: Ended, config: &Config) {
        let mut state = self.state();
        // Whether anybody reads the line is asked only where there is to be one: that is not cheap.
        let (may, unsaid) = match LevelFilter::current() {
            level if level >= LevelFilter::INFO => state.admit(now),
            _ => (false, 0),
        };
        if may || are_all_logged() {
            drop(state); // Others shall not wait while a line is made.
            summarize(unsaid);
            ended.log(config);
            state = self.state();
        }
        state.keep(ended);
    }

    /// Says how many were not logged, once their second is over, or now if it is the end.
    pub(crate) fn flush(&self, now: Instant, is_last: bool) {
        let unsaid = {
            let mut state = self.state();
            if is_last {
                std::mem::take(&mut state.unsaid)
            } else {
                state.turn_over(now)
            }
        };
        summarize(unsaid);
    }

    /// Returns whether a [`flush`](Self::flush) is due some time.
    pub(crate) fn owes(&self) -> bool {
        self.state().unsaid > 0
    }

    /// Shows the last ends, the newest first.
    pub(crate) fn last<T>(&self, show: impl FnMut(&Ended) -> T) -> Vec<T> {
        self.state().last.iter().map(show).collect()
    }
}

fn summarize(unsaid: u32) {
    if unsaid > 0 && !are_all_logged() {
        tracing::info!(
            target: "ws_worker::closed",
            count = unsaid,
            "closed: so many more within a second; the level debug shows each"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_client_reads_back() {
        let about = About::new([
            Some("tcp:192.0.2.1"),
            Some("/a?token=x"),
            None,
            Some(""),
            None,
        ]);
        assert_eq!(about.peer(), "tcp:192.0.2.1");
        assert_eq!(about.resource(), "/a?token=x");
        assert_eq!(
            (about.origin(), about.protocol(), about.request()),
            (None, Some(""), None)
        );
        let about = About::new([None, Some("/"), Some("http://あ"), None, Some("r1")]);
        assert_eq!(
            (about.peer(), about.origin(), about.request()),
            ("", Some("http://あ"), Some("r1"))
        );
        assert_eq!(About::default().resource(), "");
        let long = "あ".repeat(30_000);
        let about = About::new([None, Some(&long), Some("o"), None, None]);
        assert_eq!(
            (about.resource().len(), about.origin()),
            (65_532, Some("o"))
        );
    }

    #[test]
    fn a_path_is_shown_without_its_query() {
        let path = |resource| About::new([None, Some(resource), None, None, None]).path();
        assert_eq!(path("/chat"), "/chat");
        assert_eq!(path("/chat?token=secret"), "/chat?...");
        assert_eq!(path("/\x1b[31m\n?x"), "/\\x1b[31m\\x0a?...");
        assert!(path(&format!("/{}", "a".repeat(8000))).len() < 220);
    }

    #[test]
    fn of_ten_thousand_ends_a_second_a_hundred_are_said_and_the_rest_is_counted() {
        let mut state = State::default();
        let said = (0..10_000)
            .filter(|_| state.admit(Instant::at(7)).0)
            .count();
        assert_eq!((said, state.unsaid), (100, 9_900));
        assert_eq!(state.admit(Instant::at(1_006)), (false, 0));
        assert_eq!(state.admit(Instant::at(1_007)), (true, 9_901));
        assert_eq!(state.admit(Instant::at(1_007)), (true, 0));
    }
}
