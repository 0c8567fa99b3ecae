//! What a client holds of the process's gauges: memory, contexts, its address's share. Knows when it is given back, not the
//! limits.

use super::{Client, Context, Flags, Phase};
use crate::process::Process;

impl Client {
    #[inline]
    pub(super) fn account(&mut self, cx: &Context<'_>) {
        let held = self.outbound.len()
            + self.unread.capacity()
            + match &self.phase {
                Phase::Opening(opening) => opening.memory(),
                Phase::Open(connection) => connection.memory(),
                Phase::Lingering { .. } => 0,
            };
        if held > self.accounted {
            cx.process.counters.memory.add(held - self.accounted);
        } else if held < self.accounted {
            cx.process.counters.memory.subtract(self.accounted - held);
        } else {
            return;
        }
        self.accounted = held;
    }

    /// Gives back what it holds of the process's gauges, when it leaves.
    pub(crate) fn settle_accounts(&mut self, process: &Process) {
        process.counters.memory.subtract(self.accounted);
        self.accounted = 0;
        self.return_context(process);
        if let Phase::Opening(opening) = &mut self.phase {
            opening.uncount(process);
        }
        if let Some(address) = self.counted_peer.take() {
            process.uncount_peer(*address);
        }
    }

    pub(super) fn return_context(&mut self, process: &Process) {
        if self.flags.take(Flags::HAS_CONTEXT) {
            process.return_context();
        }
    }

    /// Returns what it holds of the memory budget.
    pub(crate) fn held(&self) -> usize {
        self.accounted
    }
}
