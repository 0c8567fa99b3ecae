//! The way to an app: a stream, and inside it perhaps TLS. Knows no request and no deadline.

use crate::stream::Stream;
use crate::tls::{Fault, Session, Tls};
use mio::{Registry, Token};
use std::io::{self, IoSlice};

/// One way to an app.
#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
    session: Option<Box<Session>>,
}

impl Link {
    /// Takes a stream that is being connected.
    ///
    /// # Errors
    /// The system's: it has no random bytes to give.
    pub(crate) fn new(stream: Stream, tls: Option<&Tls>) -> io::Result<Self> {
        let session = tls.map(Session::new).transpose()?.map(Box::new);
        Ok(Self { stream, session })
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.register(registry, token)
    }

    /// Returns whether the other end's kernel has taken the connection.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn is_reached(&self) -> io::Result<bool> {
        self.stream.is_connected()
    }

    /// Goes on with what has to be agreed before the first byte of a request; returns whether it is.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn secure(&mut self) -> Result<bool, Fault> {
        match &mut self.session {
            Some(session) => session.shake_hands(&mut self.stream),
            None => Ok(true),
        }
    }

    /// Returns whether the app itself, and not its kernel alone, has taken part in making the connection.
    pub(crate) fn is_secure(&self) -> bool {
        self.session.is_some()
    }

    /// Reads; 0 is the end, an honest one: what is cut inside TLS is `UnexpectedEof`.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            Some(session) => session.read(&mut self.stream, room),
            None => self.stream.read(room),
        }
    }

    /// Returns whether a read of so many bytes into so much room shows that nothing is left. Inside TLS only `WouldBlock` does:
    /// what is left may wait in the session.
    pub(crate) fn is_emptied(&self, count: usize, room: usize) -> bool {
        self.session.is_none() && count < room
    }

    /// Writes, or takes to be written: see [`is_flushed`](Self::is_flushed).
    pub(crate) fn write(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.session {
            Some(session) => session.write(&mut self.stream, bytes),
            None => match bytes {
                [one] => self.stream.write(one),
                many => self.stream.write_vectored(many),
            },
        }
    }

    /// Writes what was taken and is not written yet.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.session {
            Some(session) => session.flush(&mut self.stream),
            None => Ok(()),
        }
    }

    /// Returns whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.session
            .as_ref()
            .is_none_or(|session| session.is_flushed())
    }

    /// Returns how many bytes of heap it may hold.
    pub(crate) fn memory(&self) -> usize {
        self.session.as_ref().map_or(0, |_| Session::MEMORY)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(session) = &mut self.session {
            session.finish(&mut self.stream);
        }
    }
}
