//! Listening sockets that somebody else opened: systemd's, by name, or any number, such as spawn-fcgi's 0.
//! The only module with `unsafe`, for the one thing that needs it: to own a descriptor that was there before us.
#![expect(
    unsafe_code,
    reason = "a descriptor inherited over exec can only be owned by its number"
)]

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The first descriptor that systemd passes. [sd_listen_fds(3)]
const FIRST: i32 = 3;

/// The sockets that came with the start. Each is handed out once.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Systemd's names, from descriptor 3 on.
    names: Vec<String>,
    /// Numbers that have been handed out.
    taken: RefCell<Vec<i32>>,
}

impl Passed {
    /// Reads `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`; without them, or if they are another process's, there is nothing.
    ///
    /// # Errors
    /// Whoever started us is at fault: what it says makes no sense.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let names = std::env::var("LISTEN_FDNAMES").ok();
        let (pid, count) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
        Self::parse(&pid, std::process::id(), &count, names.as_deref())
    }

    fn parse(pid: &str, own: u32, count: &str, names: Option<&str>) -> Result<Self, String> {
        if pid.parse() != Ok(own) {
            return Ok(Self::default());
        }
        let count: u16 = count
            .parse()
            .map_err(|_| format!("LISTEN_FDS={count:?} is no number of sockets"))?;
        let count = usize::from(count);
        let names = match names {
            // What sd_listen_fds_with_names(3) calls them then.
            None => vec!["unknown".to_owned(); count],
            Some(names) => names.split(':').map(str::to_owned).collect(),
        };
        if names.len() != count && count > 0 {
            return Err(format!(
                "{count} sockets were passed, but LISTEN_FDNAMES has {} names",
                names.len()
            ));
        }
        Ok(Self {
            names: if count == 0 { Vec::new() } else { names },
            taken: RefCell::default(),
        })
    }

    /// Returns the sockets that systemd calls `name` (`FileDescriptorName=`): a socket unit may have more than one.
    ///
    /// # Errors
    /// The operator's: there is none of this name, or one of them is no listening socket.
    pub(crate) fn named(&self, name: &str) -> Result<Vec<OwnedFd>, String> {
        let numbers = (FIRST..).zip(&self.names);
        let numbers: Vec<i32> = numbers
            .filter(|(_, own)| *own == name)
            .map(|(number, _)| number)
            .collect();
        if numbers.is_empty() {
            return Err(format!(
                "no socket of this name was passed; {}",
                self.shown()
            ));
        }
        let numbers = numbers.into_iter();
        numbers.map(|number| self.numbered(number)).collect()
    }

    /// Returns the socket with this number: a duplicate. The number itself goes on to exist only where it is not systemd's
    /// and not standard input, so that a drain closes the socket for good.
    ///
    /// # Errors
    /// The operator's: nothing is open there, or no listening socket; or it has been handed out already.
    pub(crate) fn numbered(&self, number: i32) -> Result<OwnedFd, String> {
        if self.taken.borrow().contains(&number) {
            return Err(format!("descriptor {number} is named twice"));
        }
        let socket = duplicate(number).map_err(|error| format!("descriptor {number}: {error}"))?;
        self.taken.borrow_mut().push(number);
        if number == 0 {
            let nothing = std::fs::File::open("/dev/null");
            let replaced = nothing.and_then(|file| Ok(rustix::stdio::dup2_stdin(&file)?));
            replaced.map_err(|error| format!("standard input cannot be given up: {error}"))?;
        }
        Ok(socket)
    }

    /// Closes systemd's numbers, of which there are duplicates now.
    ///
    /// # Errors
    /// The operator's: a socket was passed that nobody listens on. Clients would wait there for ever.
    pub(crate) fn check_that_all_are_used(self) -> Result<(), String> {
        let taken = self.taken.borrow();
        let numbers = (FIRST..).zip(&self.names);
        let unused: Vec<_> = numbers
            .filter(|(number, _)| !taken.contains(number))
            .map(|(_, name)| format!("\"systemd:{name}\""))
            .collect();
        if !unused.is_empty() {
            return Err(format!(
                "sockets were passed that nothing listens on: {}; add them to `listen`, or take them out of the socket unit",
                unused.join(", ")
            ));
        }
        for (number, _) in (FIRST..).zip(&self.names) {
            close(number);
        }
        Ok(())
    }

    fn shown(&self) -> String {
        if self.names.is_empty() {
            return "no sockets were passed by systemd (LISTEN_PID is not this process)".to_owned();
        }
        let names: Vec<_> = self.names.iter().map(|name| format!("{name:?}")).collect();
        format!("systemd passed {}", names.join(", "))
    }
}

fn duplicate(number: i32) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a descriptor is not negative",
        ));
    }
    // SAFETY: the number is only lent to `fcntl(F_DUPFD_CLOEXEC)`, which answers EBADF if it is not open; this runs before any
    // thread is. The duplicate is ours alone.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let owned = borrowed.try_clone_to_owned()?;
    let socket = socket2::Socket::from(owned);
    if !socket.is_listener()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is no listening socket",
        ));
    }
    Ok(OwnedFd::from(socket))
}

/// Closes a number that systemd has passed.
fn close(number: i32) {
    use std::os::fd::FromRawFd as _;
    // SAFETY: LISTEN_FDS says that the descriptor was opened for this process and is its own; it is open, since it was just
    // duplicated; nobody else in this process knows the number, and it is closed once, `Passed` being consumed.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_number_that_is_no_listening_socket_is_refused() {
        let passed = Passed::default();
        assert!(passed.numbered(-1).is_err());
        assert!(passed.numbered(9_999).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(passed.numbered(file.as_raw_fd()).is_err());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(passed.numbered(listener.as_raw_fd()).is_ok());
        let again = passed.numbered(listener.as_raw_fd()).unwrap_err();
        assert!(again.contains("named twice"), "{again}");
    }

    #[test]
    fn what_was_passed_is_read_only_if_it_is_for_us() {
        let names = |passed: Result<Passed, String>| passed.unwrap().names;
        assert_eq!(names(Passed::parse("7", 7, "2", Some("a:b"))), ["a", "b"]);
        assert_eq!(
            names(Passed::parse("7", 7, "2", None)),
            ["unknown", "unknown"]
        );
        assert!(names(Passed::parse("8", 7, "2", Some("a:b"))).is_empty());
        assert!(names(Passed::parse("", 7, "", None)).is_empty());
        assert!(names(Passed::parse("7", 7, "0", Some(""))).is_empty());
        assert!(Passed::parse("7", 7, "many", None).is_err());
        assert!(Passed::parse("7", 7, "2", Some("a")).is_err());
        assert!(Passed::parse("7", 7, "1", Some("a:b")).is_err());
    }

    #[test]
    fn a_name_that_was_not_passed_says_what_was() {
        let nothing = Passed::default().named("web").unwrap_err();
        assert!(nothing.contains("LISTEN_PID"), "{nothing}");
        let other = Passed::parse("7", 7, "1", Some("wep")).unwrap();
        let error = other.named("web").unwrap_err();
        assert!(error.contains("systemd passed \"wep\""), "{error}");
    }

    #[test]
    fn what_nobody_listens_on_is_named() {
        let passed = Passed::parse("7", 7, "2", Some("a:b")).unwrap();
        passed.taken.borrow_mut().push(3);
        let error = passed.check_that_all_are_used().unwrap_err();
        assert!(
            error.contains("\"systemd:b\"") && !error.contains("\"systemd:a\""),
            "{error}"
        );
    }
}
