//! A client of all five versions for the command line: lines of stdin go out, messages are printed one a line. It does
//! the input and output; `session.rs` decides everything, and can be read without this file.

mod dial;
mod options;
mod refused;
mod session;
mod stdio;
mod url;

pub use options::Options;

use crate::stream::Stream;
use dial::dial;
use mio::{Events, Poll, Token, Waker};
use session::Session;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use stdio::{Lines, Printer, Said};
use ws_proto::Nonce;

/// What the process ends with.
pub mod exit {
    /// Closed cleanly with 1000, 1001 or no code, or `--count` messages came.
    pub const CLEAN: u8 = 0;
    /// The answer to the handshake was no 101.
    pub const REFUSED: u8 = 1;
    /// Wrong usage; also what cannot be sent.
    pub const USAGE: u8 = 2;
    /// No connection, or it was lost, or it ended before `--count` messages came.
    pub const LOST: u8 = 3;
    /// The server broke the protocol, in the handshake or after it.
    pub const PROTOCOL: u8 = 4;
    /// The server closed with another code.
    pub const CLOSED: u8 = 5;
    /// A deadline has passed.
    pub const TIMEOUT: u8 = 124;
}

const SOCKET: Token = Token(0);
const WAKE: Token = Token(1);
/// Unsent bytes above which no more lines are taken.
const HIGH_MARK: usize = 256 * 1024;
/// What is owed to the server at the end gets so long.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The server's end of the stream is waited for so long.
const LINGER: Duration = Duration::from_secs(1);
/// What is still to be printed gets so long.
const LAST_PRINTS: Duration = Duration::from_secs(5);

/// Connects, talks, and returns the exit code.
#[must_use]
pub fn run(options: Options) -> u8 {
    let (code, why) = match talk(options) {
        Ok(code) => return code,
        Err(Failure::Usage(why)) => (exit::USAGE, why),
        Err(Failure::Dial(place, error)) if error.kind() == ErrorKind::TimedOut => {
            (exit::TIMEOUT, format!("cannot connect to {place} in time"))
        }
        Err(Failure::Dial(place, error)) => {
            (exit::LOST, format!("cannot connect to {place}: {error}"))
        }
        Err(Failure::System(error)) => (exit::LOST, error.to_string()),
    };
    eprintln!("ws-worker: {why}");
    code
}

/// Why it did not come to a conversation.
enum Failure {
    Usage(String),
    Dial(url::Place, io::Error),
    System(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

fn talk(options: Options) -> Result<u8, Failure> {
    let start = Instant::now();
    let mut nonce = [0; 64];
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    // Before anything is opened: wrong usage is told without a server. The second one has the time for the handshake.
    Session::new(Duration::ZERO, options.clone(), &Nonce(nonce)).map_err(Failure::Usage)?;
    let whole = options.timeout.unwrap_or(options.handshake_timeout);
    let patience = options.handshake_timeout.min(whole);
    let place = options.url.place.clone();
    let stream = dial(&place, patience).map_err(|error| Failure::Dial(place, error))?;
    let longest = options.max_message;
    let session = Session::new(start.elapsed(), options, &Nonce(nonce)).map_err(Failure::Usage)?;
    Ok(Driver::new(start, stream, session, longest)?.run()?)
}

/// The loop and what it holds.
struct Driver {
    start: Instant,
    poll: Poll,
    stream: Stream,
    session: Session,
    lines: Lines,
    printer: Printer,
    /// The signal that came, 0 for none. A second one ends the process.
    signal: Arc<AtomicU8>,
    /// Edge-triggered: set by an event, cleared by `WouldBlock`.
    readable: bool,
    writable: bool,
    is_paused: bool,
    is_unread: bool,
    has_finished: bool,
    /// How much of the session's output is written.
    written: usize,
    room: Vec<u8>,
}

impl Driver {
    fn new(
        start: Instant,
        mut stream: Stream,
        session: Session,
        longest: usize,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        stream.register(poll.registry(), SOCKET)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let signal = Arc::new(AtomicU8::new(0));
        watch_signals(Arc::clone(&signal), Arc::clone(&waker))?;
        Ok(Self {
            start,
            stream,
            session,
            lines: Lines::start(Arc::clone(&waker), longest)?,
            printer: Printer::start(waker)?,
            poll,
            signal,
            readable: true,
            writable: true,
            is_paused: false,
            is_unread: false,
            has_finished: false,
            written: 0,
            room: vec![0; 64 * 1024],
        })
    }

    fn run(mut self) -> io::Result<u8> {
        let code = loop {
            self.read();
            self.take_lines();
            let now = self.start.elapsed();
            self.session.handle_timeout(now);
            self.write();
            self.print();
            if let Some(code) = self.session.exit() {
                break code;
            }
            let has_more = self.readable && !self.is_paused;
            self.wait(if has_more {
                Some(Duration::ZERO)
            } else {
                self.patience()
            })?;
        };
        self.say_the_rest();
        let rest = std::mem::take(&mut self.session.printed);
        self.printer.finish(rest, LAST_PRINTS);
        Ok(code)
    }

    fn patience(&self) -> Option<Duration> {
        let deadline = self.session.poll_timeout()?;
        Some(deadline.saturating_sub(self.start.elapsed()))
    }

    fn wait(&mut self, patience: Option<Duration>) -> io::Result<()> {
        let mut events = Events::with_capacity(8);
        match self.poll.poll(&mut events, patience) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for event in events.iter().filter(|event| event.token() == SOCKET) {
            self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            self.writable |= event.is_writable();
        }
        let number = self.signal.swap(0, Ordering::Relaxed);
        if number != 0 {
            let now = self.start.elapsed();
            self.session.stop(now, 128 + number, "interrupted");
        }
        Ok(())
    }

    fn read(&mut self) {
        // A share of what there is, so that stdin and time get their turn.
        for _ in 0..16 {
            if !self.readable || self.is_paused || self.session.exit().is_some() {
                return;
            }
            let result = self.stream.read(&mut self.room);
            let now = self.start.elapsed();
            match result {
                Ok(0) => {
                    self.readable = false;
                    self.session.handle_eof(now);
                }
                Ok(count) => {
                    let bytes = self.room.get_mut(..count).unwrap_or_default();
                    self.session.receive(now, bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) => {
                    self.readable = false;
                    self.session.handle_error(now, &error);
                }
            }
            self.print();
        }
    }

    fn take_lines(&mut self) {
        while self.session.takes_lines() && self.session.out.len() - self.written < HIGH_MARK {
            let now = self.start.elapsed();
            match self.lines.next() {
                Some(Said::Line(line)) => self.session.send(now, &line),
                Some(Said::End) => self.session.end_of_input(now),
                Some(Said::Broken(why)) => self.session.stop(now, exit::USAGE, &why),
                None => return,
            }
        }
    }

    fn write(&mut self) {
        while self.writable && self.written < self.session.out.len() {
            let bytes = self.session.out.as_slice().get(self.written..);
            match self.stream.write(bytes.unwrap_or_default()) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(_) => {
                    // Reading will say why, and what it said before it went.
                    self.written = self.session.out.len();
                    self.readable = true;
                }
            }
        }
        if self.written == self.session.out.len() {
            self.session.out.clear(HIGH_MARK);
            self.written = 0;
            if self.session.ends_stream() && !std::mem::replace(&mut self.has_finished, true) {
                self.stream.finish();
            }
        }
    }

    fn print(&mut self) {
        self.printer.print(&mut self.session.printed);
        let now = self.start.elapsed();
        if self.printer.is_behind() != self.is_paused {
            self.is_paused = !self.is_paused;
            self.session.pause(now, self.is_paused);
        }
        if self.printer.is_closed() && !std::mem::replace(&mut self.is_unread, true) {
            self.session
                .stop(now, exit::CLEAN, "nobody reads stdout any more");
        }
    }

    /// Writes what is owed, and hears the server out so that a reset does not overtake it.
    fn say_the_rest(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        while self.written < self.session.out.len() && Instant::now() < until {
            self.write();
            let left = until.saturating_duration_since(Instant::now());
            if self.written == self.session.out.len() || self.wait(Some(left)).is_err() {
                break;
            }
        }
        self.stream.finish();
        let until = Instant::now() + LINGER;
        while self.session.lingers() && Instant::now() < until {
            match self.stream.read(&mut self.room) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = until.saturating_duration_since(Instant::now());
                    if self.wait(Some(left)).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}

/// Waits for signals on a thread of its own: the first asks for the closing handshake, the second has no patience with it.
fn watch_signals(seen: Arc<AtomicU8>, waker: Arc<Waker>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().spawn(move || {
        let mut is_second = false;
        for number in signals.forever() {
            let number = u8::try_from(number).unwrap_or_default();
            if std::mem::replace(&mut is_second, true) {
                std::process::exit(i32::from(128 + number));
            }
            seen.store(number, Ordering::Relaxed);
            let _ = waker.wake(); // Without a loop to wake it is over anyway.
        }
    })?;
    Ok(())
}
