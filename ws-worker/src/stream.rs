//! One socket of either kind, accepted or connected. Knows reading, writing and shutting down, and nothing of what the
//! bytes mean.

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// TCP or unix.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
    /// A test decides what comes of each call.
    #[cfg(test)]
    Scripted(Box<dyn Scripted>),
}

/// What a test puts in a socket's place.
#[cfg(test)]
pub(crate) trait Scripted: std::fmt::Debug + Send {
    fn is_connected(&self) -> io::Result<bool>;
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize>;
    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize>;
    fn register(&mut self, token: Token);
}

impl Stream {
    /// Begins to connect; [`is_connected`](Self::is_connected) says when it is made. Blocks nobody.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = mio::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Connects, or does not: where the backlog is full, this is `WouldBlock`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn connect_unix(path: &Path) -> io::Result<Self> {
        mio::net::UnixStream::connect(path).map(Self::Unix)
    }

    /// Takes a connection that was made while its thread waited.
    ///
    /// # Errors
    /// The system's; `ConnectionRefused` if it is connected to itself.
    pub(crate) fn from_tcp(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let stream = Self::Tcp(mio::net::TcpStream::from_std(stream));
        stream.is_connected()?;
        Ok(stream)
    }

    /// Likewise.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn from_unix(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(mio::net::UnixStream::from_std(stream)))
    }

    /// Returns whether the connection is made.
    ///
    /// # Errors
    /// It cannot be. `ConnectionRefused` too if it is connected to itself: where nobody listens on a port of this machine
    /// that the kernel may also choose for a caller, it now and then chooses that very port, and TCP lets the two ends meet.
    /// [RFC 9293, 3.5]
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            #[cfg(test)]
            Self::Scripted(stream) => return stream.is_connected(),
            Self::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(Some)),
            Self::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(|_| None)),
        };
        match (self, error, peer) {
            (_, Some(error), _) => Err(error),
            (Self::Tcp(stream), None, Ok(peer)) if stream.local_addr().ok() == peer => {
                Err(ErrorKind::ConnectionRefused.into())
            }
            (_, None, Ok(_)) => Ok(true),
            (_, None, Err(error)) if error.kind() == ErrorKind::NotConnected => Ok(false),
            (_, None, Err(error)) => Err(error),
        }
    }

    // Straight to the system: libc's own calls are points where a thread may be cancelled, which costs as much as the parsing of
    // a frame.

    #[inline(always)] // A system call and what is made of its result.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        #[cfg(test)]
        if let Self::Scripted(stream) = self {
            return stream.read(room);
        }
        loop {
            match recv(self.as_fd(), &mut *room, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                result => return Ok(result?.0),
            }
        }
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        if let Self::Scripted(stream) = self {
            return stream.write_vectored(&[IoSlice::new(bytes)]);
        }
        loop {
            match send(self.as_fd(), bytes, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            #[cfg(test)]
            Self::Scripted(_) => unreachable!("it has no descriptor, and is asked before"),
        }
    }

    pub(crate) fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => stream.write_vectored(bytes),
                Self::Unix(stream) => stream.write_vectored(bytes),
                #[cfg(test)]
                Self::Scripted(stream) => stream.write_vectored(bytes),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Sends FIN. A peer that is gone already is no error worth telling.
    pub(crate) fn finish(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        };
    }

    /// Registers for both directions, once and for all: mio is edge-triggered, readiness is remembered by the owner.
    /// Closing takes the registration along.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.watch(registry, token, BOTH)
    }

    /// Registers for reading alone, until [`watch_writing`](Self::watch_writing): who has just been accepted can write, and
    /// nobody waits to be told.
    pub(crate) fn register_reading(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.watch(registry, token, Interest::READABLE)
    }

    fn watch(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
            #[cfg(test)]
            Self::Scripted(stream) => {
                stream.register(token);
                Ok(())
            }
        }
    }

    /// From now on its owner is told, too, when it takes bytes again; at once if it does already.
    pub(crate) fn watch_writing(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, BOTH),
            Self::Unix(stream) => stream.reregister(registry, token, BOTH),
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};

    #[test]
    fn a_connection_to_itself_is_none() {
        // What the kernel does by chance is done here on purpose: the port a socket has is the one it calls.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        assert_eq!(
            Stream::from_tcp(socket.into()).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    }

    #[test]
    fn a_connection_to_another_is_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(Stream::from_tcp(stream).unwrap().is_connected().unwrap());
    }
}
