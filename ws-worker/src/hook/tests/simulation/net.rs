//! The network of a simulation: connections whose every byte, end and refusal come when the world says so. Behaves as the kernel's
//! sockets do under edge-triggered readiness.

use super::{HOUSES, Readiness};
use crate::stream::{Scripted, Stream};
use mio::Token;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

thread_local! {
    /// The network that this thread's pools dial in, while there is a simulation.
    static NET: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Streams may be sent to other threads, so theirs is a lock that nobody ever waits for.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Net>>);

impl Shared {
    pub(super) fn borrow(&self) -> MutexGuard<'_, Net> {
        self.borrow_mut()
    }

    pub(super) fn borrow_mut(&self) -> MutexGuard<'_, Net> {
        match self.0.try_lock() {
            Ok(net) => net,
            // A rule was broken while somebody looked at it: the world is still to be taken down.
            Err(TryLockError::Poisoned(net)) => net.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("borrowed already"),
        }
    }
}

/// How an app's address answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    Accepted,
    Refused,
    /// The call itself says so, as a unix socket's does.
    RefusedAtOnce,
    /// Nothing comes back.
    Swallowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Fin,
    Reset,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) thread: u8,
    /// Where it leads.
    pub(super) house: usize,
    pub(super) number: Option<usize>,
    /// `None` while it is being made.
    pub(super) made: Option<bool>,
    pub(super) to_app: Vec<u8>,
    pub(super) to_pool: VecDeque<u8>,
    /// Bytes that the pool may still write.
    pub(super) room: usize,
    pub(super) end: Option<Ending>,
    /// A reset followed the app's FIN.
    broken: bool,
    /// The pool has let go of it.
    pub(super) dropped: bool,
    /// Bytes of the request that the app has looked at, and whether it has had enough.
    pub(super) looked: usize,
    pub(super) is_busy: bool,
}

#[derive(Debug)]
pub(super) struct Net {
    pub(super) lines: Vec<Line>,
    /// How each house answers.
    pub(super) calls: [Calls; HOUSES],
    /// Whose turn it is.
    pub(super) thread: u8,
    /// Lines that were dialled or written on since the world last looked.
    pub(super) touched: Vec<usize>,
    /// What the loops are to be told.
    pub(super) edges: Vec<(usize, Readiness)>,
}

impl Net {
    /// Tells the pool of a change, if it still holds the line.
    pub(super) fn edge(&mut self, line: usize, readable: bool, writable: bool) {
        let closed = self.lines[line].end.is_some() || self.lines[line].made == Some(false);
        if !self.lines[line].dropped {
            let readiness = Readiness {
                readable: readable || closed,
                writable: writable || closed,
                closed,
            };
            self.edges.push((line, readiness));
        }
    }

    /// The app's side ends a line.
    pub(super) fn end(&mut self, line: usize, ending: Ending) {
        if self.lines[line].end.is_none() {
            self.lines[line].end = Some(ending);
            self.edge(line, true, true);
        }
    }
}

pub(super) fn empty() -> Shared {
    Shared(Arc::new(Mutex::new(Net {
        lines: Vec::new(),
        calls: [Calls::Accepted; HOUSES],
        thread: 0,
        touched: Vec::new(),
        edges: Vec::new(),
    })))
}

/// From here on this thread's pools dial in there.
pub(super) fn enter(net: &Shared) {
    NET.with(|own| *own.borrow_mut() = Some(net.clone()));
}

pub(super) fn leave() {
    NET.with(|own| *own.borrow_mut() = None);
}

/// Dials, if there is a simulation on this thread.
pub(in crate::hook) fn dial(address: SocketAddr) -> Option<io::Result<Stream>> {
    let net = NET.with(|own| own.borrow().clone())?;
    let IpAddr::V4(address) = address.ip() else {
        return None;
    };
    let house = usize::from(address.octets()[3]);
    let mut own = net.borrow_mut();
    if own.calls[house] == Calls::RefusedAtOnce {
        return Some(Err(ErrorKind::ConnectionRefused.into()));
    }
    let line = own.lines.len();
    let thread = own.thread;
    own.lines.push(Line {
        thread,
        house,
        number: None,
        made: None,
        to_app: Vec::new(),
        to_pool: VecDeque::new(),
        room: 0,
        end: None,
        broken: false,
        dropped: false,
        looked: 0,
        is_busy: false,
    });
    own.touched.push(line);
    drop(own);
    Some(Ok(Stream::Scripted(Box::new(Wire { net, line }))))
}

/// The pool's end of a line.
#[derive(Debug)]
struct Wire {
    net: Shared,
    line: usize,
}

impl Scripted for Wire {
    fn is_connected(&self) -> io::Result<bool> {
        match self.net.borrow().lines[self.line].made {
            Some(false) => Err(ErrorKind::ConnectionRefused.into()),
            made => Ok(made.is_some()),
        }
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut net = self.net.borrow_mut();
        let line = &mut net.lines[self.line];
        let count = room.len().min(line.to_pool.len());
        for (place, byte) in room.iter_mut().zip(line.to_pool.drain(..count)) {
            *place = byte;
        }
        match line.end {
            _ if count > 0 => Ok(count),
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Ending::Fin) => Ok(0),
            Some(Ending::Reset) => Err(ErrorKind::ConnectionReset.into()),
        }
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut net = self.net.borrow_mut();
        let line = &mut net.lines[self.line];
        let total = bytes.iter().map(|slice| slice.len()).sum::<usize>();
        match (line.made, line.end) {
            (Some(true), None) => {}
            (Some(true), Some(Ending::Fin)) if !line.broken => {
                // Whoever has closed answers bytes with a reset. What was there before can still be read, and its end.
                line.broken = true;
                let index = self.line;
                net.edge(index, true, true);
                return Ok(total);
            }
            (Some(true), Some(_)) => return Err(ErrorKind::BrokenPipe.into()),
            (Some(false) | None, _) => return Err(ErrorKind::NotConnected.into()),
        }
        let count = total.min(line.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        line.room -= count;
        let all = bytes.iter().flat_map(|slice| slice.iter().copied());
        line.to_app.extend(all.take(count));
        let index = self.line;
        net.touched.push(index);
        Ok(count)
    }

    fn register(&mut self, token: Token) {
        let number = crate::source::split(token).1;
        self.net.borrow_mut().lines[self.line].number = Some(number);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.net.borrow_mut().lines[self.line].dropped = true;
    }
}
