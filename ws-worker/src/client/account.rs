//! What a client holds of the process's gauges: memory, also of what was read and waits, contexts, its address's share. Knows
//! when it is given back, not the limits.

use super::{Client, Context, Flags, Phase};
use crate::process::Process;

/// What a client holds of the memory that all share, on the heap, only while it does.
#[derive(Default)]
pub(super) struct Held {
    /// Read but not yet taken: a queue is full, a turn's share used up, or a head waits for its decision.
    unread: Vec<u8>,
    /// Bytes of it in the process's memory gauge.
    accounted: usize,
}

impl Client {
    #[inline]
    pub(super) fn has_unread(&self) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| !held.unread.is_empty())
    }

    pub(super) fn take_all_unread(&mut self) -> Vec<u8> {
        let held = self.held.as_mut();
        held.map_or_else(Vec::new, |held| std::mem::take(&mut held.unread))
    }

    #[inline(never)]
    pub(super) fn keep_unread(&mut self, bytes: Vec<u8>) {
        self.held.get_or_insert_default().unread = bytes;
    }

    #[inline]
    pub(super) fn account(&mut self, cx: &Context<'_>) {
        let (unread, accounted) = self
            .held
            .as_ref()
            .map_or((0, 0), |held| (held.unread.capacity(), held.accounted));
        let bytes = self.outbound.len()
            + unread
            + match &self.phase {
                Phase::Opening(opening) => opening.memory(),
                Phase::Open(connection) => connection.memory(),
                Phase::Lingering { .. } => 0,
            };
        if bytes > accounted {
            cx.process.counters.memory.add(bytes - accounted);
        } else if bytes < accounted {
            cx.process.counters.memory.subtract(accounted - bytes);
        }
        if bytes == 0 {
            self.held = None;
        } else {
            self.held.get_or_insert_default().accounted = bytes;
        }
    }

    /// Gives back what it holds of the process's gauges, when it leaves.
    pub(crate) fn settle_accounts(&mut self, process: &Process) {
        process.counters.memory.subtract(self.held());
        self.held = None;
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
        self.held.as_ref().map_or(0, |held| held.accounted)
    }
}
