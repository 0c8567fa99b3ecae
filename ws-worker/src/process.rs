//! What the threads of one process share: the counters, the clock, this life's name, and the configuration, of which each
//! thread has the one that it has come to. Nothing here is locked on the hot path.

use crate::breaker::Breaker;
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::counters::Counters;
use crate::ends::Ends;
use crate::reload::Reloader;
use crate::service::Service;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use ws_proto::DeflateParameters;

/// The breakers of all apps, by the apps' numbers.
pub(crate) type Breakers = Arc<[Arc<Breaker>]>;

/// One process, as a thread sees it. A reload brings another, with the same things shared.
#[derive(Debug)]
pub(crate) struct Process {
    /// As this thread knows it.
    pub(crate) config: Arc<Config>,
    /// What keeps handshakes from an app that fails; by the app's number, [`crate::config::Hooks::app`].
    pub(crate) breakers: Breakers,
    shared: Arc<Shared>,
}

impl std::ops::Deref for Process {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// What all threads have in common, from the start to the end.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What is counted.
    pub(crate) counters: Counters,
    /// How connections ended.
    pub(crate) ends: Ends,
    /// One start for all threads.
    pub(crate) clock: Clock,
    /// When this life began, in seconds since 1970.
    pub(crate) started: u64,
    /// `Ws-Boot`: 128 random bits, 22 URL-safe characters.
    pub(crate) boot: String,
    /// The mark at the start of every socket id.
    pub(crate) boot_mark: [u8; 3],
    /// A drain has begun: no accept, `/readyz` says 503.
    pub(crate) draining: AtomicBool,
    /// What an earlier life left in the journal was not tried yet: no accept, `/readyz` says 503. Five seconds at most.
    pub(crate) starting: AtomicBool,
    /// Handshakes that were refused for want of memory.
    pub(crate) turned_away: AtomicU64,
    /// What brings threads another configuration.
    pub(crate) reloader: OnceLock<Reloader>,
    /// Who started us and wants to know how we are.
    pub(crate) service: OnceLock<Service>,
    /// Sockets of each client address, where `max_per_peer` bounds them. Locked once a handshake.
    peers: Mutex<HashMap<IpAddr, usize>>,
    /// Three quarters of the memory budget, and nine tenths; whoever has the newest configuration says so to all.
    short_of_memory: AtomicUsize,
    out_of_memory: AtomicUsize,
}

impl Process {
    /// Names a new life.
    ///
    /// # Errors
    /// The system has no random bytes to give.
    pub(crate) fn new(config: Arc<Config>) -> Result<Arc<Self>, getrandom::Error> {
        let mut boot = [0; 16];
        getrandom::fill(&mut boot)?;
        let boot = without_dash(boot);
        let [a, b, c, ..] = boot;
        let shared = Shared {
            counters: Counters::new(config.threads),
            ends: Ends::default(),
            clock: Clock::start(),
            started: clock::unix_seconds(),
            boot: URL_SAFE_NO_PAD.encode(boot),
            boot_mark: [a, b, c],
            draining: AtomicBool::new(false),
            starting: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
            reloader: OnceLock::new(),
            service: OnceLock::new(),
            peers: Mutex::default(),
            short_of_memory: AtomicUsize::new(0),
            out_of_memory: AtomicUsize::new(0),
        };
        let breakers = breakers(&[], &config);
        Ok(Arc::new(Self::view(config, breakers, Arc::new(shared))))
    }

    /// Returns the same process under another configuration.
    pub(crate) fn with(&self, config: Arc<Config>, breakers: Breakers) -> Arc<Self> {
        Arc::new(Self::view(config, breakers, Arc::clone(&self.shared)))
    }

    fn view(config: Arc<Config>, breakers: Breakers, shared: Arc<Shared>) -> Self {
        let memory = config.bounds.memory;
        shared
            .short_of_memory
            .store(memory / 4 * 3, Ordering::Relaxed);
        shared
            .out_of_memory
            .store(memory / 10 * 9, Ordering::Relaxed);
        Self {
            config,
            breakers,
            shared,
        }
    }

    /// Gives it a name that a test knows.
    #[cfg(test)]
    pub(crate) fn rename(&mut self, boot: &str) {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.boot = boot.to_owned();
        }
    }

    /// Above half of the budget a socket that has hooks queued is not read: an app that hangs leaves room for others.
    pub(crate) fn is_pressed(&self) -> bool {
        self.counters.memory.get() > self.config.bounds.memory / 2
    }

    /// Above three quarters of the budget no handshake is taken.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.counters.memory.get() > self.short_of_memory.load(Ordering::Relaxed)
    }

    /// Above nine tenths nobody is read.
    #[inline]
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.counters.memory.get() > self.out_of_memory.load(Ordering::Relaxed)
    }

    /// Takes room for what compression remembers of one socket; false if `deflate_memory` is used up.
    pub(crate) fn take_context(&self) -> bool {
        let most = self.config.bounds.deflate_memory / DeflateParameters::CONTEXT;
        let has_room = self.counters.contexts.add(1) <= most;
        if !has_room {
            self.counters.contexts.subtract(1);
        }
        has_room
    }
}

impl Shared {
    /// Gives back what [`Process::take_context`] took.
    pub(crate) fn return_context(&self) {
        self.counters.contexts.subtract(1);
    }

    /// Counts a socket of this address; false if it has its share already.
    pub(crate) fn count_peer(&self, address: IpAddr, limit: usize) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(address).or_default();
        if *count >= limit {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts one less.
    pub(crate) fn uncount_peer(&self, address: IpAddr) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&address);
            }
        }
    }
}

/// Makes a breaker for each app of a configuration that has none yet.
pub(crate) fn breakers(old: &[Arc<Breaker>], config: &Config) -> Breakers {
    let new = (old.len()..config.apps()).map(|_| Arc::default());
    old.iter().map(Arc::clone).chain(new).collect()
}

/// Changes a boot's id if its text, with which the ids of all its sockets begin, began with a dash: on a command line that
/// would be an option.
fn without_dash(mut boot: [u8; 16]) -> [u8; 16] {
    const DASH: u8 = 62; // In base64url.
    let [first, ..] = &mut boot;
    if *first >> 2 == DASH {
        *first ^= 0x80;
    }
    boot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_begins_with_a_dash() {
        for first in 0..=u8::MAX {
            let boot = without_dash([first; 16]);
            assert!(!URL_SAFE_NO_PAD.encode(boot).starts_with('-'), "{first}");
        }
    }
}
