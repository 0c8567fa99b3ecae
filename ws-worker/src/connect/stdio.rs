//! stdin and stdout as two threads, so that the loop waits for neither: a regular file cannot be polled, a terminal is
//! shared with others who do not expect it to be non-blocking, and a pipe nobody reads from would hold up every deadline.

use mio::Waker;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

/// What stdin says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A line without its end.
    Line(Vec<u8>),
    /// It ended; nothing follows.
    End,
    /// A line longer than allowed, or one that could not be read; nothing follows.
    Broken(String),
}

/// Reads lines from a thread of its own, a few ahead.
pub(crate) struct Lines(Receiver<Said>);

impl Lines {
    /// Starts on stdin.
    ///
    /// # Errors
    /// The system's: no thread.
    pub(crate) fn start(waker: Arc<Waker>, longest: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(64);
        thread::Builder::new().spawn(move || {
            read_lines(&mut io::stdin().lock(), longest, |said| {
                let is_heard = sender.send(said).is_ok();
                is_heard && waker.wake().is_ok()
            });
        })?;
        Ok(Self(receiver))
    }

    /// Returns the next line if there is one yet.
    pub(crate) fn next(&self) -> Option<Said> {
        self.0.try_recv().ok()
    }
}

fn read_lines(input: &mut impl io::BufRead, longest: usize, mut tell: impl FnMut(Said) -> bool) {
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
        let said = match input.by_ref().take(most).read_until(b'\n', &mut line) {
            Err(error) => Said::Broken(format!("stdin: {error}")),
            Ok(0) => Said::End,
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                Said::Line(line)
            }
            Ok(_) if line.len() > longest => {
                Said::Broken(format!("a line of stdin is longer than {longest} bytes"))
            }
            Ok(_) => Said::Line(line), // The last one has no end.
        };
        let is_last = !matches!(said, Said::Line(_));
        if !tell(said) || is_last {
            return;
        }
    }
}

/// What is printed, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// Prints from a thread of its own. While that is behind, [`Printer::is_behind`] says so and the socket is not read.
pub(crate) struct Printer {
    /// `None` once it is over.
    sender: Option<SyncSender<Printed>>,
    /// The one that did not fit.
    waiting: Option<Printed>,
    /// Hears of the end.
    finished: Receiver<()>,
}

impl Printer {
    /// Starts on stdout and stderr.
    ///
    /// # Errors
    /// The system's: no thread.
    pub(crate) fn start(waker: Arc<Waker>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<Printed>(64);
        let (finish, finished) = sync_channel(1);
        thread::Builder::new().spawn(move || {
            for printed in receiver {
                let result = match printed {
                    Printed::Out(bytes) => {
                        let mut out = io::stdout().lock();
                        out.write_all(&bytes).and_then(|()| out.flush())
                    }
                    Printed::Err(bytes) => {
                        // A closed stderr is how some say that they want no notices.
                        let _ = io::stderr().write_all(&bytes);
                        Ok(())
                    }
                };
                if result.is_err() || waker.wake().is_err() {
                    break; // Whoever read it has gone.
                }
            }
            drop(finish);
            let _ = waker.wake();
        })?;
        Ok(Self {
            sender: Some(sender),
            waiting: None,
            finished,
        })
    }

    /// Hands on as much as the thread takes.
    pub(crate) fn print(&mut self, what: &mut std::collections::VecDeque<Printed>) {
        while let Some(next) = self.waiting.take().or_else(|| what.pop_front()) {
            let Some(sender) = &self.sender else {
                return; // Nobody is there to read it.
            };
            match sender.try_send(next) {
                Ok(()) => {}
                Err(TrySendError::Full(next)) => {
                    self.waiting = Some(next);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => self.sender = None,
            }
        }
    }

    /// Returns whether something waits to be printed.
    pub(crate) const fn is_behind(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns whether stdout's reader has gone.
    pub(crate) fn is_closed(&self) -> bool {
        use std::sync::mpsc::TryRecvError::Disconnected;
        self.sender.is_none() || self.finished.try_recv() == Err(Disconnected)
    }

    /// Waits until all is printed, but not longer than this.
    pub(crate) fn finish(mut self, rest: std::collections::VecDeque<Printed>, patience: Duration) {
        if let Some(sender) = self.sender.take() {
            let left = self.waiting.take().into_iter().chain(rest);
            // To hand on is to wait for room, which may come never: another thread does, and ends with the process.
            let handing = thread::Builder::new().spawn(move || {
                for printed in left {
                    if sender.send(printed).is_err() {
                        return; // Whoever read it has gone.
                    }
                }
            });
            if handing.is_err() {
                return;
            }
        }
        let _ = self.finished.recv_timeout(patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_by_a_line_feed_or_the_end_and_has_a_limit() {
        let read = |text: &str| {
            let mut all = Vec::new();
            read_lines(&mut text.as_bytes(), 4, |said| {
                all.push(said);
                true
            });
            all
        };
        let line = |text: &str| Said::Line(text.as_bytes().to_vec());
        assert_eq!(read(""), [Said::End]);
        assert_eq!(
            read("a\n\nbcde"),
            [line("a"), line(""), line("bcde"), Said::End]
        );
        assert_eq!(read("abcd\n"), [line("abcd"), Said::End]);
        let said = read("a\nbcdef\ng\n");
        assert!(
            matches!(said.as_slice(), [Said::Line(_), Said::Broken(text)] if text.contains("longer than 4 bytes")),
            "{said:?}"
        );
    }

    #[test]
    fn a_reader_that_is_not_heard_stops() {
        let mut count = 0;
        read_lines(&mut &b"a\nb\nc\n"[..], 4, |_| {
            count += 1;
            count < 2
        });
        assert_eq!(count, 2);
    }
}
