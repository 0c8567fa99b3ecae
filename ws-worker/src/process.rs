//! What the threads of one process share: the configuration, the counters, the clock, and this life's name.
//! Nothing here is locked on the hot path.

use crate::clock::Clock;
use crate::config::Config;
use crate::counters::Counters;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
        Ok(Arc::new(Self {
            config,
            counters: Counters::default(),
            clock: Clock::start(),
            boot: URL_SAFE_NO_PAD.encode(boot),
            boot_mark: [a, b, c],
            draining: AtomicBool::new(false),
            starting: AtomicBool::new(false),
        }))
    }
}
