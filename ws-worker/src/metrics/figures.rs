//! What the process costs, as the system tells: memory, descriptors, processor time. Asked only when somebody looks.

use crate::clock;
use rustix::process::{Resource, getrlimit};
use std::time::Duration;

/// What the process costs. What the system does not tell is `None`.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Bytes of memory that lie in RAM.
    pub(crate) resident: Option<u64>,
    /// Descriptors that are open.
    pub(crate) open: Option<u64>,
    /// Descriptors that may be open.
    pub(crate) limit: Option<u64>,
    /// Processor time so far, of all threads.
    pub(crate) processor: Duration,
}

impl Figures {
    /// Asks.
    pub(crate) fn now() -> Self {
        Self {
            resident: resident(),
            open: open(),
            limit: getrlimit(Resource::Nofile).current,
            processor: clock::processor_time(),
        }
    }
}

fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Linux says how many there are as the size of the folder since 6.2; before that they have to be counted.
fn open() -> Option<u64> {
    let folder = "/proc/self/fd";
    let size = std::fs::metadata(folder).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(std::fs::read_dir(folder).ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_descriptors() {
        let figures = Figures::now();
        assert!(figures.resident.is_some_and(|bytes| bytes > 100_000));
        assert!(
            figures
                .open
                .is_some_and(|open| (3..1_000_000).contains(&open))
        );
        assert!(figures.limit.is_none_or(|limit| limit > 3));
        let before = Figures::now().processor;
        while Figures::now().processor == before {}
    }
}
