//! The way of log lines to where they go: through a thread of its own, so that whoever reads them slowly, or not at all, holds up
//! no loop. What finds no room is counted and told. Knows lines, not what they say.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait; a line that finds no room is lost.
const MOST: usize = 1024 * 1024;

/// Takes lines from all threads; what writes them to `sink` is a thread that ends with the process.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nothing any more.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    lost: u64,
    is_writing: bool,
}

impl Lines {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's: there are no more threads.
    pub(super) fn start(mut sink: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self(Arc::default());
        let shared = Arc::clone(&lines.0);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_to(&mut sink))?;
        Ok(lines)
    }

    /// Waits until all lines are written, but not for longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.0.lock();
        while state.is_writing || !state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, sink: &mut impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            self.changed.notify_all();
            while state.waiting.is_empty() {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
            state.is_writing = true;
            std::mem::swap(&mut lines, &mut state.waiting);
            let lost = std::mem::take(&mut state.lost);
            drop(state);
            // Nobody is left to be told that nobody reads.
            let _ = sink.write_all(&lines).and_then(|()| sink.flush());
            lines.clear();
            lines.shrink_to(64 * 1024);
            if lost > 0 {
                tracing::warn!(lost, "log lines were lost: they were not read in time");
            }
        }
    }
}

impl Write for &Shared {
    /// Takes a whole line, as the formatter gives it, or counts it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > MOST {
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
            drop(state);
            self.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Shared;

    fn make_writer(&'a self) -> Self::Writer {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Writes once it may, and tells what.
    struct Gate(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(lines: &Lines, text: &[u8]) {
        lines.make_writer().write_all(text).unwrap();
    }

    #[test]
    fn lines_arrive_in_their_order_and_flush_waits_for_them() {
        let (open, gate) = channel();
        let (tell, told) = channel();
        let lines = Lines::start(Gate(gate, tell)).unwrap();
        line(&lines, b"first\n");
        line(&lines, b"second\n");
        lines.flush(Duration::ZERO); // It does not wait for ever.
        for _ in 0..2 {
            open.send(()).unwrap();
        }
        lines.flush(Duration::from_secs(60));
        let written: Vec<u8> = told.try_iter().flatten().collect();
        assert_eq!(written, b"first\nsecond\n");
    }

    #[test]
    fn where_nobody_reads_nobody_waits_and_what_finds_no_room_is_counted() {
        let (_open, gate) = channel();
        let (tell, _told) = channel();
        let lines = Lines::start(Gate(gate, tell)).unwrap();
        for _ in 0..3 * MOST / 1000 {
            line(&lines, &[b'x'; 1000]);
        }
        let state = lines.0.lock();
        assert!(state.waiting.len() <= MOST && state.lost >= (MOST / 1000) as u64);
    }
}
