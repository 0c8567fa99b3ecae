//! Takes another configuration into a running worker: it is read and checked as a whole, then every thread gets it by mail
//! and takes it in its turn. Knows where the configuration comes from; not what threads do with it.

use crate::config::{Changes, Config};
use crate::mailbox::{Mail, Mailbox, Reload};
use crate::permits::{AllPermits, Permits};
use crate::process::{self, Breakers, Process};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Reads the configuration anew; an error is the operator's, and worded for him.
pub type Source = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// How long threads have to take it. They turn within milliseconds unless a handler blocks one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Reloads under way and waiting; what comes then is refused.
const MAX_WAITING: usize = 16;

/// Why nothing was reloaded; everything is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReloadError {
    /// The configuration was made by a program or by flags alone: there is nothing to read again.
    NoSource,
    /// The worker stops.
    Stopping,
    /// Too many reloads wait already.
    Busy,
    /// What was read cannot be used: where, what, and what would be right.
    Config(String),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSource => "there is no file to read again",
            Self::Stopping => "the worker stops",
            Self::Busy => "too many reloads wait already",
            Self::Config(what) => what,
        })
    }
}

impl std::error::Error for ReloadError {}

/// Carries configurations to the threads. Holds no mailbox: these hold the process, which holds this.
pub(crate) struct Reloader {
    source: Option<Source>,
    /// One reload at a time, from reading to the last thread.
    turn: Mutex<()>,
    waiting: AtomicUsize,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<Config>,
    permits: AllPermits,
    breakers: Breakers,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloader")
    }
}

impl Reloader {
    pub(crate) fn new(source: Option<Source>, process: &Process, permits: AllPermits) -> Self {
        Self {
            source,
            turn: Mutex::new(()),
            waiting: AtomicUsize::new(0),
            current: Mutex::new(Current {
                config: Arc::clone(&process.config),
                permits,
                breakers: Arc::clone(&process.breakers),
            }),
        }
    }

    /// Returns the configuration that was read last.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.current().config)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls what reloads, one caller at a time.
    pub(crate) fn in_turn(
        &self,
        reload: impl FnOnce() -> Result<Changes, ReloadError>,
    ) -> Result<Changes, ReloadError> {
        let is_one_too_many = self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING;
        let result = if is_one_too_many {
            Err(ReloadError::Busy)
        } else {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            reload()
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Reads the configuration and brings it to the threads; in turn. Blocks, on files and names and until the threads have
    /// it: not to be called in a loop.
    pub(crate) fn reload(
        &self,
        mailboxes: &[Mailbox],
        is_stopping: impl Fn() -> bool,
    ) -> Result<Changes, ReloadError> {
        let source = self.source.as_ref().ok_or(ReloadError::NoSource)?;
        if is_stopping() {
            return Err(ReloadError::Stopping);
        }
        let read = source().map_err(ReloadError::Config)?;
        let old = self.config();
        let (config, changes) = read.follow(&old).map_err(ReloadError::Config)?;
        crate::log::set_level(config.log_level);
        self.bring(mailboxes, Arc::new(config));
        Ok(changes)
    }

    /// Gives the threads a configuration and waits until they have it.
    fn bring(&self, mailboxes: &[Mailbox], config: Arc<Config>) {
        let is_taken = self.post(mailboxes, config);
        for _ in mailboxes {
            match is_taken.recv_timeout(PATIENCE) {
                Ok(()) => {}
                // A thread that has ended in the meantime needs none.
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    tracing::error!(
                        "a loop has not taken the new configuration within 10 s; it will, if it ever turns"
                    );
                    return;
                }
            }
        }
    }

    /// Mails a configuration to the threads, each of which says when it has taken it.
    pub(crate) fn post(&self, mailboxes: &[Mailbox], config: Arc<Config>) -> Receiver<()> {
        let (taken, is_taken) = std::sync::mpsc::channel();
        let (permits, breakers, told) = {
            let mut current = self.current();
            let (permits, told) = Permits::follow(&current.permits, &config);
            let breakers = process::breakers(&current.breakers, &config);
            current.permits = Arc::clone(&permits);
            current.breakers = Arc::clone(&breakers);
            current.config = Arc::clone(&config);
            (permits, breakers, told)
        };
        for mailbox in mailboxes {
            mailbox.post(Mail::Reload(Box::new(Reload {
                config: Arc::clone(&config),
                permits: Arc::clone(&permits),
                breakers: Arc::clone(&breakers),
                taken: taken.clone(),
            })));
        }
        drop(taken);
        for (thread, app) in told {
            if let Some(mailbox) = mailboxes.get(usize::from(thread)) {
                mailbox.post(Mail::Permit(app));
            }
        }
        is_taken
    }
}

/// Logs how a reload ended.
pub(crate) fn tell(result: &Result<Changes, ReloadError>) {
    let changes = match result {
        Ok(changes) => changes,
        // Nobody's mistake: the file was not even read.
        Err(error @ ReloadError::Stopping) => {
            return tracing::info!("nothing was reloaded: {error}");
        }
        Err(error) => return tracing::error!("nothing was reloaded: {error}"),
    };
    for warning in &changes.warnings {
        tracing::warn!("{warning}");
    }
    if !changes.at_next_start.is_empty() {
        let keys = changes.at_next_start.join(", ");
        tracing::warn!("{keys}: changed in the file, left as it was until the next start");
    }
    tracing::info!(
        added = changes.added.join(" "),
        removed = changes.removed.join(" "),
        "reloaded"
    );
}
