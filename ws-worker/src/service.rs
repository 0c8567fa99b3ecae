//! What the service manager is told: that we are ready, reload, stop, and that every thread still turns. A datagram of lines
//! on a socket that it names. [sd_notify(3)] Knows nothing of what is served.
//!
//! Not the crate sd-notify: it knows no abstract sockets, and its send may block a loop.

use crate::clock;
use crate::process::Process;
use crate::status::Status;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use ws_proto::Instant;

/// What a drain may take longer than it should: threads that are slow to end.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

/// The manager's ear, and what is remembered for it.
#[derive(Debug)]
pub(crate) struct Service {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How long the manager waits for a sign of life.
    watchdog: Option<Duration>,
    /// Each thread's last whole turn, in milliseconds and one.
    turns: Box<[AtomicU64]>,
    /// The last sign of life, likewise.
    fed: AtomicU64,
    is_ready: AtomicBool,
    reload_failed: AtomicBool,
    has_complained: AtomicBool,
}

/// No turn yet; and no more to come.
const NEVER: u64 = 0;
const LEFT: u64 = u64::MAX;

impl Service {
    /// Finds the manager, if there is one: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    ///
    /// # Errors
    /// The manager's: what it named is no socket we can speak to.
    pub(crate) fn from_environment(threads: u8) -> io::Result<Option<Self>> {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let variable = |name| std::env::var(name).ok();
        let watchdog = watchdog(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Self::new(&path, watchdog, threads).map(Some)
    }

    fn new(path: &OsStr, watchdog: Option<Duration>, threads: u8) -> io::Result<Self> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(path)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither a path nor @ and a name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            address,
            watchdog,
            turns: (0..threads).map(|_| AtomicU64::new(NEVER)).collect(),
            fed: AtomicU64::new(NEVER),
            is_ready: AtomicBool::new(false),
            reload_failed: AtomicBool::new(false),
            has_complained: AtomicBool::new(false),
        })
    }

    /// Sends lines. False: the manager has its ears full for the moment, and a loop must not wait for it.
    fn say(&self, lines: &str) -> bool {
        let Err(error) = self.socket.send_to_addr(lines.as_bytes(), &self.address) else {
            return true;
        };
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the service manager cannot be told; said once");
        }
        error.kind() != io::ErrorKind::WouldBlock
    }

    /// Returns how long a thread may sleep: not at all before its first turn, and not so long that it seems to hang.
    pub(crate) fn patience(&self, thread: u8) -> Option<Duration> {
        match self.turns.get(usize::from(thread)) {
            Some(turn) if turn.load(Ordering::Relaxed) == NEVER => Some(Duration::ZERO),
            Some(_) | None => self.watchdog.map(|watchdog| watchdog / 4),
        }
    }

    /// A thread's whole turn is over, that began at `now`. Once all have turned and nothing is owed from an earlier life, the
    /// worker is ready; from then on whoever comes first feeds the watchdog, as long as nobody hangs.
    pub(crate) fn turned(&self, thread: u8, now: Instant, process: &Process) {
        let at = now.as_millis() + 1;
        if let Some(turn) = self.turns.get(usize::from(thread)) {
            turn.store(at, Ordering::Relaxed);
        }
        if !self.is_ready.load(Ordering::Relaxed) {
            return self.become_ready(process);
        }
        let Some(watchdog) = self.watchdog else {
            return;
        };
        let period = u64::try_from(watchdog.as_millis()).unwrap_or(u64::MAX);
        let fed = self.fed.load(Ordering::Relaxed);
        if at < fed.saturating_add(period / 4) || !replaced(&self.fed, fed, at) {
            return;
        }
        let hangs = |turn: &AtomicU64| turn.load(Ordering::Relaxed).saturating_add(period / 2) < at;
        match self.turns.iter().position(hangs) {
            None => {
                self.say(&format!("WATCHDOG=1\nSTATUS={}\n", self.status(process)));
            }
            Some(thread) => {
                tracing::error!(thread, "a loop does not turn: the watchdog is not fed");
            }
        }
    }

    fn become_ready(&self, process: &Process) {
        let has_turned = |turn: &AtomicU64| turn.load(Ordering::Relaxed) != NEVER;
        if process.starting.load(Ordering::Relaxed)
            || !self.turns.iter().all(has_turned)
            || self.is_ready.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let is_told = self.say(&format!("READY=1\nSTATUS={}\n", self.status(process)));
        self.is_ready.store(is_told, Ordering::Relaxed);
    }

    /// A thread has ended as it should, and will not turn again.
    pub(crate) fn left(&self, thread: u8) {
        if let Some(turn) = self.turns.get(usize::from(thread)) {
            turn.store(LEFT, Ordering::Relaxed);
        }
    }

    /// The configuration is being read again.
    pub(crate) fn reloading(&self) {
        let now = clock::monotonic_micros();
        self.say(&format!(
            "RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading\n"
        ));
    }

    /// It was, or not.
    pub(crate) fn reloaded(&self, has_worked: bool, process: &Process) {
        self.reload_failed.store(!has_worked, Ordering::Relaxed);
        self.say(&format!("READY=1\nSTATUS={}\n", self.status(process)));
    }

    /// The worker stops, and takes so long for it.
    pub(crate) fn stopping(&self, drain: Duration, process: &Process) {
        let limit = (drain + DRAIN_MARGIN).as_micros();
        let status = self.status(process);
        self.say(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={limit}\nSTATUS=draining: {status}\n"
        ));
    }

    fn status(&self, process: &Process) -> String {
        let mut text = Status::of(process).to_string();
        if self.reload_failed.load(Ordering::Relaxed) {
            // Writing into a String cannot fail.
            let _ = write!(text, "; the last reload failed, the log says why");
        }
        text
    }
}

fn replaced(cell: &AtomicU64, old: u64, new: u64) -> bool {
    let order = Ordering::Relaxed;
    cell.compare_exchange(old, new, order, order).is_ok()
}

/// Reads how long the manager waits for a sign of life; only if it is ours that it waits for.
fn watchdog(micros: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = micros?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::sync::Arc;

    fn pair(watchdog: Option<Duration>, threads: u8) -> (UnixDatagram, Service) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let service = Service::new(path.as_os_str(), watchdog, threads).unwrap();
        // Kept by its name until it is spoken to.
        std::mem::forget(folder);
        (manager, service)
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let count = manager.recv(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    fn process() -> Arc<Process> {
        Process::new(Arc::new(Config::default())).unwrap()
    }

    #[test]
    fn ready_is_said_once_all_threads_have_turned_and_nothing_is_owed() {
        let ((manager, service), process) = (pair(None, 2), process());
        process.starting.store(true, Ordering::Relaxed);
        assert_eq!(service.patience(0), Some(Duration::ZERO));
        service.turned(0, Instant::at(0), &process);
        assert_eq!(service.patience(0), None);
        service.turned(1, Instant::at(0), &process);
        assert_eq!(heard(&manager), "");
        process.starting.store(false, Ordering::Relaxed);
        service.turned(1, Instant::at(5), &process);
        assert!(heard(&manager).starts_with("READY=1\nSTATUS="));
        service.turned(0, Instant::at(6), &process);
        assert_eq!(heard(&manager), "");
    }

    #[test]
    fn a_thread_that_hangs_starves_the_watchdog() {
        let ((manager, service), process) = (pair(Some(Duration::from_secs(1)), 2), process());
        let turn = |thread, at| service.turned(thread, Instant::at(at), &process);
        turn(0, 0);
        turn(1, 0);
        assert!(heard(&manager).starts_with("READY=1\n"));
        assert_eq!(service.patience(0), Some(Duration::from_millis(250)));
        turn(0, 250);
        assert!(heard(&manager).starts_with("WATCHDOG=1\n"));
        turn(1, 300);
        assert_eq!(heard(&manager), ""); // Fed a moment ago.
        turn(0, 600);
        assert!(heard(&manager).starts_with("WATCHDOG=1\n"));
        for at in [900, 1200, 1500] {
            turn(0, at);
            assert_eq!(heard(&manager), "", "{at}");
        }
        turn(1, 1800);
        turn(0, 1801);
        assert!(heard(&manager).starts_with("WATCHDOG=1\n"));
        service.left(1);
        turn(0, 5000);
        assert!(heard(&manager).starts_with("WATCHDOG=1\n"));
    }

    #[test]
    fn a_watchdog_is_ours_or_none() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("0"), None, 7), None);
        assert_eq!(watchdog(Some("soon"), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        assert!(Service::new(OsStr::new("vsock:2:1"), None, 1).is_err());
        assert!(Service::new(OsStr::new("@name"), None, 1).is_ok());
    }
}
