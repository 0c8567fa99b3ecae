//! What is counted. What happens often each thread counts for itself, on cache lines of its own and without a locked
//! instruction; what is rare, and what bounds the process, stands in atomics that all share. Knows no format.

mod durations;

pub use durations::{BOUNDS, Spread};

use crate::config::RouteId;
use durations::Durations;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use ws_proto::Version;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the sum.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

impl Gauge {
    /// Adds `count` and returns the new value.
    pub fn add(&self, count: usize) -> usize {
        self.0
            .fetch_add(count, Ordering::Relaxed)
            .wrapping_add(count)
    }

    /// Subtracts `count`, which was added before.
    pub fn subtract(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Returns the value.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that one thread alone changes: a plain addition, though any thread may read it.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds `count`; for the thread whose number it is.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Says what it is now; for the thread whose number it is.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns it.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one thread counts of one route: two cache lines that no other route and no other thread writes to.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteCounts {
    /// Messages from clients.
    pub messages_in: Tally,
    /// Bytes of their payloads.
    pub bytes_in: Tally,
    /// Messages to clients.
    pub messages_out: Tally,
    /// Bytes of their payloads.
    pub bytes_out: Tally,
    opened: [Tally; Version::ALL.len()],
    closed: [Tally; Version::ALL.len()],
}

impl RouteCounts {
    pub(crate) fn opened(&self, version: Version) {
        if let Some(tally) = self.opened.get(version as usize) {
            tally.add(1);
        }
    }

    pub(crate) fn closed(&self, version: Version) {
        if let Some(tally) = self.closed.get(version as usize) {
            tally.add(1);
        }
    }
}

/// What a turn counts of one client, before it is added to the client's route: some additions for many messages.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
}

impl Totals {
    /// Adds them to a route's.
    #[inline]
    pub(crate) fn flush(&mut self, route: &RouteCounts) {
        if (self.messages_in | self.messages_out) == 0 {
            return;
        }
        let Self {
            messages_in,
            bytes_in,
            messages_out,
            bytes_out,
        } = std::mem::take(self);
        route.messages_in.add(messages_in);
        route.bytes_in.add(bytes_in);
        route.messages_out.add(messages_out);
        route.bytes_out.add(bytes_out);
    }
}

/// What a hook was about, in the order of [`EVENTS`].
pub const EVENTS: [&str; 4] = ["started", "handshake", "message", "closed"];

/// What became of one attempt at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookResult {
    /// 2xx.
    Taken,
    /// Another 4xx; on a handshake any status that goes to the client.
    Refused,
    /// The app asks to be asked again: 408, 425, 429, 5xx.
    Again,
    /// The answer makes no sense: 3xx, 1xx, no HTTP, cut off.
    Invalid,
    /// No answer in time.
    Timeout,
    /// No connection, or it was lost.
    Connection,
}

impl HookResult {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Taken,
        Self::Refused,
        Self::Again,
        Self::Invalid,
        Self::Timeout,
        Self::Connection,
    ];

    /// Those by which the app, or the way to it, is not as it should be.
    pub(crate) const FAILED: [Self; 3] = [Self::Invalid, Self::Timeout, Self::Connection];

    /// Returns its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Again => "again",
            Self::Invalid => "invalid",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
        }
    }
}

/// What one thread counts of one app.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct AppCounts {
    /// Hooks begun on a connection.
    pub(crate) begun: Tally,
    /// Those that have ended, however.
    pub(crate) ended: Tally,
    /// Attempts after the first.
    pub(crate) retries: Tally,
    /// Times that it had failed so often in a row that its breaker opened.
    pub(crate) outages: Tally,
    /// Handshakes refused without asking it, while the breaker was open.
    pub(crate) spared: Tally,
    /// From the beginning of an attempt to its end, connecting included.
    pub(crate) durations: Durations,
    /// Messages that wait for the app, and their bytes.
    pub(crate) queued: Tally,
    pub(crate) queued_bytes: Tally,
    results: [[Tally; HookResult::ALL.len()]; EVENTS.len()],
}

impl AppCounts {
    /// Counts what became of an attempt; `event` is a place in [`EVENTS`].
    pub(crate) fn result(&self, event: usize, result: HookResult) {
        let tally = self.results.get(event);
        if let Some(tally) = tally.and_then(|results| results.get(result as usize)) {
            tally.add(1);
        }
    }
}

/// Things by their number, made when their thread first asks for them: a reload may bring more, and who reads need not wait.
#[derive(Debug)]
struct Pages<T>(Box<[OnceLock<Box<[T]>>]>);

/// Things a page, and pages: what has a higher number is not told apart from the other such things.
const PAGE: usize = 8;
const PAGES: usize = 256;

impl<T: Default> Default for Pages<T> {
    fn default() -> Self {
        Self((0..PAGES).map(|_| OnceLock::new()).collect())
    }
}

impl<T: Default> Pages<T> {
    #[inline]
    fn of(&self, number: usize) -> &T {
        let number = number.min(PAGE * PAGES - 1);
        let page = self
            .0
            .get(number / PAGE)
            .map(|page| page.get_or_init(|| (0..PAGE).map(|_| T::default()).collect()));
        page.and_then(|page| page.get(number % PAGE))
            .expect("a page has PAGE things, and there are PAGES of them")
    }

    fn get(&self, number: usize) -> Option<&T> {
        self.0.get(number / PAGE)?.get()?.get(number % PAGE)
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).flatten()
    }
}

/// What one thread counts.
#[derive(Debug, Default)]
pub struct ThreadCounts {
    routes: Pages<RouteCounts>,
    apps: Pages<AppCounts>,
    /// From a ping to its pong.
    pub(crate) round_trip: Durations,
    /// How late the loop was for a deadline.
    pub(crate) lag: Durations,
}

impl ThreadCounts {
    /// Returns how many messages came on all routes.
    pub(crate) fn messages_in(&self) -> u64 {
        self.routes
            .iter()
            .map(|route| route.messages_in.get())
            .sum()
    }

    /// Returns what is counted of a route; for the thread itself.
    #[inline]
    pub(crate) fn route(&self, route: RouteId) -> &RouteCounts {
        self.routes.of(usize::from(route.0))
    }

    /// Returns what is counted of an app; for the thread itself.
    pub(crate) fn app(&self, app: usize) -> &AppCounts {
        self.apps.of(app)
    }
}

/// Why handshakes are refused: the words of [`Refusal`](ws_proto::Refusal), and those of the worker.
pub const REFUSALS: [&str; 21] = [
    "syntax",
    "head-too-large",
    "too-many-headers",
    "http-version",
    "host",
    "duplicate-header",
    "body",
    "subprotocols",
    "target",
    "not-websocket",
    "version",
    "keys",
    "origin",
    "not-found",
    "timeout",
    "unavailable",
    "silent",
    APP,
    APP_SILENT,
    CONNECTIONS,
    OTHER,
];
/// The app said no.
pub(crate) const APP: &str = "app";
/// The app did not answer, or cannot be reached.
pub(crate) const APP_SILENT: &str = "app-silent";
/// As many connections as `max_connections`.
pub(crate) const CONNECTIONS: &str = "connections";
const OTHER: &str = "other";

/// Why sockets are dropped without a closing handshake.
pub const DROPS: [&str; 6] = [
    "output-full",
    "no-progress",
    "panic",
    "drain-over",
    "route-removed",
    "out-of-memory",
];

/// What ended sockets, as a label: a code, a range of codes, or none. Clients choose among thousands.
const CODES: [&str; 18] = [
    "none",
    "1000",
    "1001",
    "1002",
    "1003",
    "1004",
    "1005",
    "1006",
    "1007",
    "1008",
    "1009",
    "1010",
    "1011",
    "1012",
    "1013",
    "1014",
    "3000-3999",
    "4000-4999",
];

/// Who ends sockets, in the order of [`ClosedBy`](crate::ClosedBy).
const ENDERS: [&str; 3] = ["client", "app", "worker"];

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sockets accepted on a listener and not yet gone, in any state.
    pub connections: Gauge,
    /// Handshakes in flight: accepted, neither open nor refused.
    pub handshakes: Gauge,
    /// Bytes of all buffers that a peer can make grow: unread, unfinished, queued, unsent. Bounded by `memory`.
    pub memory: Gauge,
    /// Sockets whose compression remembers messages: context takeover was agreed. Bounded by `deflate_memory`.
    pub contexts: Gauge,
    /// Binary messages of an app that did not ask what came of them, to versions that have none.
    pub unsupported: Counter,
    /// Messages that found their client's output full.
    pub full: Counter,
    /// Turns that panicked and cost their client.
    pub panics: Counter,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: Counter,
    /// Messages that got no answer when their socket was closed, as `Ws-Undelivered` says.
    pub undelivered: Counter,
    /// Closed hooks that were still owed at the end and had no journal.
    pub closed_lost: Counter,
    /// Closed hooks that an earlier life left in the journal.
    pub closed_recovered: Counter,
    /// Writes to the journal that failed.
    pub journal_errors: Counter,
    /// Handshakes answered 503, or let in without the journal, because it could not be written.
    pub journal_refused: Counter,
    refused: [Counter; REFUSALS.len()],
    dropped: [Counter; DROPS.len()],
    ended: [[Counter; CODES.len()]; ENDERS.len()],
    threads: Box<[Arc<ThreadCounts>]>,
}

impl Counters {
    /// Prepares what so many threads count.
    #[must_use]
    pub fn new(threads: u8) -> Self {
        Self {
            threads: (0..threads.max(1)).map(|_| Arc::default()).collect(),
            ..Self::default()
        }
    }

    /// Returns what a thread counts for itself.
    pub(crate) fn of_thread(&self, thread: u8) -> Arc<ThreadCounts> {
        self.threads
            .get(usize::from(thread))
            .map(Arc::clone)
            .unwrap_or_default()
    }

    pub(crate) fn refuse(&self, reason: &str) {
        let known = REFUSALS.iter().position(|name| *name == reason);
        let place = known.unwrap_or(REFUSALS.len() - 1);
        if let Some(counter) = self.refused.get(place) {
            counter.one();
        }
    }

    pub(crate) fn drop_client(&self, reason: usize) {
        if let Some(counter) = self.dropped.get(reason) {
            counter.one();
        }
    }

    /// Counts the end of an open socket; `by` is a place in the order of `ClosedBy`.
    pub(crate) fn end(&self, by: usize, code: Option<u16>) {
        let place = match code {
            None => 0,
            Some(code @ 1000..=1014) => usize::from(code - 999),
            Some(3000..=3999) => CODES.len() - 2,
            Some(_) => CODES.len() - 1,
        };
        let counter = self.ended.get(by);
        if let Some(counter) = counter.and_then(|codes| codes.get(place)) {
            counter.one();
        }
    }

    fn sum(&self, of: impl Fn(&RouteCounts) -> u64) -> u64 {
        let routes = self.threads.iter().flat_map(|thread| thread.routes.iter());
        routes.map(of).sum()
    }

    /// Returns how many messages came from clients.
    #[must_use]
    pub fn messages_in(&self) -> u64 {
        self.sum(|route| route.messages_in.get())
    }

    /// Returns how many messages went to clients.
    #[must_use]
    pub fn messages_out(&self) -> u64 {
        self.sum(|route| route.messages_out.get())
    }

    /// Returns how many sockets were opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.sum(|route| route.opened.iter().map(Tally::get).sum())
    }

    /// Returns how many sockets ended after they were open.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.sum(|route| route.closed.iter().map(Tally::get).sum())
    }

    /// Returns how many handshakes were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.iter().map(Counter::get).sum()
    }

    /// Returns handshakes refused, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REFUSALS
            .into_iter()
            .zip(self.refused.iter().map(Counter::get))
    }

    /// Returns sockets dropped, by reason.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        DROPS.into_iter().zip(self.dropped.iter().map(Counter::get))
    }

    /// Returns ended sockets, by who ended them and the code; only what has happened.
    pub fn ends(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let all = ENDERS.into_iter().zip(&self.ended);
        let all = all.flat_map(|(by, codes)| {
            let codes = CODES.into_iter().zip(codes.iter().map(Counter::get));
            codes.map(move |(code, count)| (by, code, count))
        });
        all.filter(|(_, _, count)| *count > 0)
    }

    /// Returns how many attempts at hooks ended so.
    #[must_use]
    pub fn hooks(&self, result: HookResult) -> u64 {
        let apps = self.threads.iter().flat_map(|thread| thread.apps.iter());
        let tallies = apps.flat_map(|counts| &counts.results);
        tallies
            .filter_map(|results| results.get(result as usize))
            .map(Tally::get)
            .sum()
    }

    /// Returns what all threads counted of a route.
    #[must_use]
    pub fn of_route(&self, route: RouteId) -> RouteSums {
        let mut sums = RouteSums::default();
        let number = usize::from(route.0);
        for counts in self
            .threads
            .iter()
            .filter_map(|thread| thread.routes.get(number))
        {
            sums.messages_in += counts.messages_in.get();
            sums.bytes_in += counts.bytes_in.get();
            sums.messages_out += counts.messages_out.get();
            sums.bytes_out += counts.bytes_out.get();
            for (sum, more) in sums.opened.iter_mut().zip(&counts.opened) {
                *sum += more.get();
            }
            for (sum, more) in sums.closed.iter_mut().zip(&counts.closed) {
                *sum += more.get();
            }
        }
        sums
    }

    /// Returns what all threads counted of an app.
    #[must_use]
    pub fn of_app(&self, app: usize) -> AppSums {
        let mut sums = AppSums {
            durations: Spread::of(self.of_app_by_thread(app).map(|counts| &counts.durations)),
            ..AppSums::default()
        };
        for counts in self.of_app_by_thread(app) {
            // An end may be seen before its beginning.
            let in_flight = counts.begun.get().saturating_sub(counts.ended.get());
            sums.in_flight += in_flight;
            sums.retries += counts.retries.get();
            sums.outages += counts.outages.get();
            sums.spared += counts.spared.get();
            sums.queued += counts.queued.get();
            sums.queued_bytes += counts.queued_bytes.get();
            for (sums, results) in sums.results.iter_mut().zip(&counts.results) {
                for (sum, more) in sums.iter_mut().zip(results) {
                    *sum += more.get();
                }
            }
        }
        sums
    }

    fn of_app_by_thread(&self, app: usize) -> impl Iterator<Item = &AppCounts> {
        self.threads
            .iter()
            .filter_map(move |thread| thread.apps.get(app))
    }

    /// Returns how long pongs took.
    #[must_use]
    pub fn round_trips(&self) -> Spread {
        Spread::of(self.threads.iter().map(|thread| &thread.round_trip))
    }

    /// Returns how late loops were for a deadline.
    #[must_use]
    pub fn lags(&self) -> Spread {
        Spread::of(self.threads.iter().map(|thread| &thread.lag))
    }
}

/// [`RouteCounts`] of all threads, added up. Versions are in the order of [`Version::ALL`].
#[derive(Clone, Debug, Default)]
pub struct RouteSums {
    /// Messages from clients.
    pub messages_in: u64,
    /// Bytes of their payloads.
    pub bytes_in: u64,
    /// Messages to clients.
    pub messages_out: u64,
    /// Bytes of their payloads.
    pub bytes_out: u64,
    /// Sockets opened.
    pub opened: [u64; Version::ALL.len()],
    /// Sockets ended.
    pub closed: [u64; Version::ALL.len()],
}

impl RouteSums {
    /// Returns how many sockets are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        let pairs = self.opened.iter().zip(&self.closed);
        pairs
            .map(|(opened, closed)| opened.saturating_sub(*closed))
            .sum()
    }

    /// Adds another route's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.messages_in += other.messages_in;
        self.bytes_in += other.bytes_in;
        self.messages_out += other.messages_out;
        self.bytes_out += other.bytes_out;
        let opened = self.opened.iter_mut().zip(&other.opened);
        let closed = self.closed.iter_mut().zip(&other.closed);
        opened.chain(closed).for_each(|(sum, more)| *sum += more);
    }
}

/// [`AppCounts`] of all threads, added up.
#[derive(Clone, Debug, Default)]
pub struct AppSums {
    /// Hooks in flight.
    pub in_flight: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Times that its breaker opened.
    pub outages: u64,
    /// Handshakes refused without asking it.
    pub spared: u64,
    /// Messages that wait.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// From the beginning of an attempt to its end, connecting included.
    pub durations: Spread,
    /// Attempts, by event (the place in [`EVENTS`]) and result (in [`HookResult::ALL`]).
    pub results: [[u64; HookResult::ALL.len()]; EVENTS.len()],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_refusal_has_a_counter() {
        use ws_proto::{HeadError, Refusal, Versions};
        let heads = [
            HeadError::Syntax,
            HeadError::TooLarge,
            HeadError::TooManyHeaders,
            HeadError::HttpVersion,
            HeadError::Host,
            HeadError::Duplicate,
            HeadError::Body,
            HeadError::Subprotocols,
            HeadError::Target,
        ];
        let all = heads.map(Refusal::Head).into_iter().chain([
            Refusal::NotWebSocket,
            Refusal::Version(Versions::ALL),
            Refusal::Keys,
            Refusal::Origin,
            Refusal::NotFound,
            Refusal::Timeout,
            Refusal::Unavailable,
            Refusal::Silent,
        ]);
        let counters = Counters::default();
        for refusal in all {
            counters.refuse(refusal.name());
        }
        counters.refuse("a word of tomorrow");
        let counts: Vec<u64> = counters.refusals().map(|(_, count)| count).collect();
        assert_eq!(counts, [[1; 17].as_slice(), &[0, 0, 0, 1]].concat());
    }

    #[test]
    fn codes_that_clients_choose_are_few_labels() {
        let counters = Counters::default();
        for code in [
            None,
            Some(1000),
            Some(1014),
            Some(3000),
            Some(3999),
            Some(4000),
            Some(4999),
        ] {
            counters.end(0, code);
        }
        let found: Vec<_> = counters.ends().collect();
        let label = |code, count| ("client", code, count);
        assert_eq!(
            found,
            [
                label("none", 1),
                label("1000", 1),
                label("1014", 1),
                label("3000-3999", 2),
                label("4000-4999", 2)
            ]
        );
    }

    #[test]
    fn threads_are_added_up() {
        let counters = Counters::new(2);
        for thread in [0, 1] {
            let counts = counters.of_thread(thread);
            counts.route(RouteId(0)).messages_in.add(2);
            counts.route(RouteId(0)).opened(Version::Hixie76);
            counts.route(RouteId(999)).opened(Version::Rfc6455);
            counts.route(RouteId(u16::MAX)).messages_in.add(1); // More than there are places for.
        }
        assert_eq!((counters.messages_in(), counters.opened()), (6, 4));
        assert_eq!(counters.of_route(RouteId(999)).opened, [0, 0, 0, 0, 2]);
        assert_eq!(counters.of_route(RouteId(7)).messages_in, 0);
        assert_eq!(counters.of_route(RouteId(0)).opened, [0, 2, 0, 0, 0]);
    }

    #[test]
    fn a_threads_numbers_share_no_cache_line() {
        assert_eq!(size_of::<RouteCounts>() % 128, 0);
        assert_eq!(align_of::<RouteCounts>(), 128);
    }
}
