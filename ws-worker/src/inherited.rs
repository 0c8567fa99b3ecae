//! Listening sockets that somebody else opened: systemd's, by name, or any number, such as spawn-fcgi's 0.
//! The only module with `unsafe`, for the one thing that needs it: to own a descriptor that was there before us.
#![expect(
    unsafe_code,
    reason = "a descriptor inherited over exec can only be owned by its number"
)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The first descriptor that systemd passes. [sd_listen_fds(3)]
const FIRST: i32 = 3;

/// Returns the socket that systemd calls `name` (`FileDescriptorName=`).
pub(crate) fn named(name: &str) -> io::Result<OwnedFd> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let not_here = |why: &str| io::Error::new(io::ErrorKind::NotFound, why.to_owned());
    if variable("LISTEN_PID").parse() != Ok(std::process::id()) {
        return Err(not_here(
            "no sockets were passed by systemd (LISTEN_PID is not this process)",
        ));
    }
    let count: i32 = variable("LISTEN_FDS").parse().unwrap_or(0);
    let names = variable("LISTEN_FDNAMES");
    match names.split(':').position(|candidate| candidate == name) {
        Some(place) if i32::try_from(place).is_ok_and(|place| place < count) => {
            numbered(FIRST + place as i32)
        }
        _ => Err(not_here(&format!(
            "systemd passed no socket of the name {name:?}, but {names:?}"
        ))),
    }
}

/// Returns the socket with this number: a duplicate, so that the number itself stays as it was.
pub(crate) fn numbered(number: i32) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a descriptor is not negative",
        ));
    }
    // SAFETY: the number is only lent to `fcntl(F_DUPFD_CLOEXEC)`, which answers EBADF if it is not open; nothing in this
    // process closes numbers it was started with, and this runs before any thread is. The duplicate is ours alone.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let owned = borrowed.try_clone_to_owned()?;
    let socket = socket2::Socket::from(owned);
    if !socket.is_listener()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("descriptor {number} is no listening socket"),
        ));
    }
    Ok(OwnedFd::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_number_that_is_no_listening_socket_is_refused() {
        assert!(numbered(-1).is_err());
        assert!(numbered(9_999).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(numbered(file.as_raw_fd()).is_err());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(numbered(listener.as_raw_fd()).is_ok());
    }

    #[test]
    fn a_name_that_was_not_passed_says_what_was() {
        assert!(named("web").unwrap_err().to_string().contains("systemd"));
    }
}
