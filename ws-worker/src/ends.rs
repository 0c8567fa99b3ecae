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

/// What a client said of itself when it came, in one piece of heap: its parts, as far as there are any, with a byte between
/// them that no text has. Every socket has it, so each byte counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct About(Box<[u8]>);

const PARTS: usize = 5;
/// Stands between two parts. None of these is ever in UTF-8.
const BETWEEN: u8 = 0xff;
/// A part that there is none of, before one that there is.
const ABSENT: u8 = 0xfe;
/// Stands for how nearly all peers begin.
const TCP: u8 = 0xfd;
const TCP_WORDS: &str = "tcp:";

impl About {
    /// Keeps peer, resource, origin, subprotocol and the request's id.
    pub(crate) fn new(parts: [Option<&str>; PARTS]) -> Self {
        let count = PARTS - parts.iter().rev().take_while(|part| part.is_none()).count();
        let parts = parts
            .into_iter()
            .take(count)
            .enumerate()
            .map(|(place, part)| {
                let tcp = part.filter(|_| place == 0);
                match (part, tcp.and_then(|part| part.strip_prefix(TCP_WORDS))) {
                    (_, Some(address)) => (Some(TCP), address),
                    (Some(part), None) => (None, part),
                    (None, None) => (Some(ABSENT), ""),
                }
            });
        // Exactly so much: what is given back of a few bytes too many, nobody else can use.
        let lengths = parts
            .clone()
            .map(|(mark, text)| usize::from(mark.is_some()) + text.len());
        let mut bytes = Vec::with_capacity(lengths.sum::<usize>() + count.saturating_sub(1));
        for (place, (mark, text)) in parts.enumerate() {
            bytes.extend((place > 0).then_some(BETWEEN));
            bytes.extend(mark);
            bytes.extend_from_slice(text.as_bytes());
        }
        Self(bytes.into_boxed_slice())
    }

    fn part(&self, place: usize) -> Option<&str> {
        text(&self.0, place)
    }

    /// The client's address as far as the proxy is trusted.
    pub(crate) fn peer(&self) -> String {
        match self.0.split_first() {
            Some((&TCP, rest)) => TCP_WORDS.to_owned() + text(rest, 0).unwrap_or_default(),
            _ => text(&self.0, 0).unwrap_or_default().to_owned(),
        }
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

/// Returns the text between two marks.
fn text(bytes: &[u8], place: usize) -> Option<&str> {
    let part = bytes.split(|byte| *byte == BETWEEN).nth(place)?;
    std::str::from_utf8(part).ok()
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
            peer = escaped(&self.about.peer()).to_string(),
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
            (String::new(), Some("http://あ"), Some("r1"))
        );
        assert_eq!(About::default().resource(), "");
        let long = "あ".repeat(30_000);
        let about = About::new([None, Some(&long), Some("o"), None, None]);
        assert_eq!(
            (about.resource(), about.origin()),
            (long.as_str(), Some("o"))
        );
        let about = About::new([Some("127.0.0.1:50000"), Some("/echo"), None, None, None]);
        assert_eq!(about.0.len(), 21);
        let about = About::new([Some("tcp:127.0.0.1:50000"), Some("/echo"), None, None, None]);
        assert_eq!((about.0.len(), about.resource()), (22, "/echo"));
        assert_eq!(about.peer(), "tcp:127.0.0.1:50000");
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
