//! How things are, in a line: for the log (SIGUSR1) and for the service manager. Knows the counters alone.

use crate::config::unit::Size;
use crate::counters::HookResult;
use crate::process::Process;
use std::fmt;
use std::sync::atomic::Ordering;

/// How things are at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    /// `serving`, `starting` or `draining`.
    pub(crate) state: &'static str,
    /// Sockets that are open.
    pub(crate) open: u64,
    /// Handshakes in flight.
    pub(crate) handshakes: usize,
    /// Bytes of the budget that are taken, and all of it.
    pub(crate) memory: (usize, usize),
}

impl Status {
    pub(crate) fn of(process: &Process) -> Self {
        let counters = &process.counters;
        let state = if process.draining.load(Ordering::Relaxed) {
            "draining"
        } else if process.starting.load(Ordering::Relaxed) {
            "starting"
        } else {
            "serving"
        };
        // The one that ends is read first, so that nothing is ended that was never opened.
        let closed = counters.closed();
        Self {
            state,
            open: counters.opened().saturating_sub(closed),
            handshakes: counters.handshakes.get(),
            memory: (counters.memory.get(), process.config.bounds.memory),
        }
    }

    /// Logs it, with what was counted since the start.
    pub(crate) fn log(self, process: &Process) {
        let counters = &process.counters;
        tracing::info!(
            state = self.state,
            open = self.open,
            handshakes = self.handshakes,
            connections = counters.connections.get(),
            memory = self.memory.0,
            opened = counters.opened(),
            closed = counters.closed(),
            refused = counters.refused(),
            messages_in = counters.messages_in(),
            messages_out = counters.messages_out(),
            hooks_taken = counters.hooks(HookResult::Taken),
            hooks_refused = counters.hooks(HookResult::Refused),
            hooks_again = counters.hooks(HookResult::Again),
            hooks_failed = HookResult::FAILED
                .map(|result| counters.hooks(result))
                .iter()
                .sum::<u64>(),
            "status"
        );
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (memory, budget) = self.memory;
        write!(
            f,
            "{}, {} sockets, {} handshakes, {} of {} in buffers",
            self.state,
            self.open,
            self.handshakes,
            Size(memory),
            Size(budget)
        )
    }
}
