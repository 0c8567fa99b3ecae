//! What the threads of one process share: the configuration, the counters, the clock, and this life's name.
//! Nothing here is locked on the hot path.

use crate::breaker::Breaker;
use crate::clock::Clock;
use crate::config::Config;
use crate::counters::Counters;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use ws_proto::DeflateParameters;

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    /// As started.
    pub(crate) config: Arc<Config>,
    /// What is counted.
    pub(crate) counters: Counters,
    /// One start for all threads.
    pub(crate) clock: Clock,
    /// `Ws-Boot`: 128 random bits, 22 URL-safe characters.
    pub(crate) boot: String,
    /// The mark at the start of every socket id.
    pub(crate) boot_mark: [u8; 3],
    /// A drain has begun: no accept, `/readyz` says 503.
    pub(crate) draining: AtomicBool,
    /// What an earlier life left in the journal is not yet told: no accept, `/readyz` says 503.
    pub(crate) starting: AtomicBool,
    /// What keeps handshakes from an app that fails; by the app's number, [`crate::config::Hooks::app`].
    pub(crate) breakers: Box<[Breaker]>,
    /// Sockets of each client address, where `max_per_peer` bounds them. Locked once a handshake.
    peers: Mutex<HashMap<IpAddr, usize>>,
    /// Three quarters of the memory budget, and nine tenths.
    short_of_memory: usize,
    out_of_memory: usize,
}

impl Process {
    /// Names a new life.
    ///
    /// # Errors
    /// The system has no random bytes to give.
    pub(crate) fn new(config: Arc<Config>) -> Result<Arc<Self>, getrandom::Error> {
        let mut boot = [0; 16];
        getrandom::fill(&mut boot)?;
        let [a, b, c, ..] = boot;
        let memory = config.bounds.memory;
        let breakers = (0..config.apps()).map(|_| Breaker::default()).collect();
        let (short_of_memory, out_of_memory) = (memory / 4 * 3, memory / 10 * 9);
        Ok(Arc::new(Self {
            config,
            counters: Counters::default(),
            clock: Clock::start(),
            boot: URL_SAFE_NO_PAD.encode(boot),
            boot_mark: [a, b, c],
            draining: AtomicBool::new(false),
            starting: AtomicBool::new(false),
            breakers,
            peers: Mutex::default(),
            short_of_memory,
            out_of_memory,
        }))
    }

    /// Above three quarters of the budget no handshake is taken.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.counters.memory.get() > self.short_of_memory
    }

    /// Above nine tenths nobody is read.
    #[inline]
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.counters.memory.get() > self.out_of_memory
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

    /// Gives it back.
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
