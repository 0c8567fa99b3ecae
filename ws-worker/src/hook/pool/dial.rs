//! Which connection carries a hook: a warm one, or a new one, of which only a few are made at a time. Knows no answer.

use super::{App, INDEX_BITS, Pool};
use crate::config::{AppAddress, Scheme};
use crate::hook::connection::{Cause, Connection, Failure};
use crate::hook::link::Link;
use crate::hook::settle::Outcome;
use crate::source::{self, Part, Turn};
use crate::stream::Stream;
use std::io::{self, ErrorKind};
use std::time::Duration;
use ws_proto::Instant;

/// One address of an app may take so long to accept; then the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that an app may not have accepted yet. Development servers have a backlog of 5, and the kernel drops what
/// exceeds it without a word: the next try is a second later.
const MAX_FRESH: usize = 4;
/// That a connection is made says that the kernel took it; after so long the app will have taken it from there.
const GRACE: Duration = Duration::from_millis(10);
/// A loopback answers at once or has dropped the call for want of room: it is tried again after so long, not after the
/// second that the kernel would wait.
const LOOPBACK_RETRY: Duration = Duration::from_millis(100);

impl Pool {
    /// Forgets which connections were new. Called before any is made.
    pub(super) fn age(&mut self, app: usize, now: Instant) {
        let Some(app) = self.apps.get_mut(app) else {
            return;
        };
        app.fresh.retain(|index| {
            let connection = self.connections.get(*index);
            connection.is_some_and(|connection| {
                !connection.is_accepted() && connection.made_at().is_none_or(|at| now < at + GRACE)
            })
        });
    }

    /// Returns whether another connection may be made now.
    pub(super) fn may_dial(&self, app: usize) -> bool {
        let app = self.apps.get(app);
        app.is_some_and(|app| app.fresh.len() < MAX_FRESH)
    }

    /// Returns when another connection may be made that somebody waits for, if time alone decides.
    pub(super) fn next_dial(&self, app: &App) -> Option<Instant> {
        if app.fresh.len() < MAX_FRESH || app.lines.iter().all(|line| line.is_empty()) {
            return None;
        }
        let made = app.fresh.iter().filter_map(|index| {
            let connection = self.connections.get(*index)?;
            connection.made_at()
        });
        made.min().map(|at| at + GRACE)
    }

    /// Takes the connection that was used last, and drops those that have died meanwhile.
    pub(super) fn warmest(
        &mut self,
        turn: &mut Turn<'_>,
        app: usize,
        is_careful: bool,
    ) -> Option<usize> {
        loop {
            let index = self.apps.get_mut(app)?.idle.pop()?;
            let connection = self.connections.get_mut(index)?;
            if !is_careful || !connection.is_stale(turn.scratch) {
                return Some(index);
            }
            self.discard(index);
        }
    }

    /// Begins to connect to the first of an app's addresses that does not refuse at once.
    pub(super) fn dial_anew(
        &mut self,
        turn: &mut Turn<'_>,
        app: usize,
    ) -> Result<usize, ErrorKind> {
        let (mut link, address) = self.dial(app, 0)?;
        self.serial = self.serial.wrapping_add(1);
        let entry = self.connections.vacant_entry();
        let index = entry.key();
        if index >> INDEX_BITS != 0 {
            return Err(ErrorKind::OutOfMemory);
        }
        let number = (self.serial as usize) << INDEX_BITS | index;
        link.register(turn.registry, source::token(Part::Hook, number))
            .map_err(|error| error.kind())?;
        let Some(own) = self.apps.get_mut(app) else {
            return Err(ErrorKind::NotFound);
        };
        own.fresh.push(index);
        let dial_by = turn.now + CONNECT_TIMEOUT;
        let connection = Connection::new(link, self.serial, app, address, dial_by, own.scheme);
        entry.insert(connection);
        Ok(index)
    }

    fn dial(&self, app: usize, first: usize) -> Result<(Link, usize), ErrorKind> {
        let mut last = ErrorKind::AddrNotAvailable;
        if let Some(app) = self.apps.get(app) {
            if app.scheme == Scheme::Https && app.tls.is_none() {
                return Err(ErrorKind::Unsupported); // A program's own configuration: never plainly instead.
            }
            for number in first.. {
                let stream = connect(&app.address, number);
                match stream.map(|stream| Link::new(stream?, app.tls.as_ref())) {
                    Some(Ok(link)) => return Ok((link, number)),
                    Some(Err(error)) => last = error.kind(),
                    None => break,
                }
            }
        }
        Err(last)
    }

    /// A connection could not be made: the same address where it may just be crowded, the next, or none.
    pub(super) fn redial(&mut self, turn: &mut Turn<'_>, index: usize, cause: Cause) {
        let Some(connection) = self.connections.get(index) else {
            return;
        };
        let (app, job, address) = (connection.app, connection.job, connection.address);
        let is_late = cause == Cause::Connection(ErrorKind::TimedOut);
        let is_crowded = is_late && turn.now < connection.dial_by;
        let first = if is_crowded { address } else { address + 1 };
        if turn.now < connection.answer_by
            && let Ok((mut link, address)) = self.dial(app, first)
        {
            self.serial = self.serial.wrapping_add(1);
            let number = (self.serial as usize) << INDEX_BITS | index;
            if link
                .register(turn.registry, source::token(Part::Hook, number))
                .is_ok()
                && let Some(connection) = self.connections.get_mut(index)
            {
                let is_other = connection.address != address;
                connection.replace(link, self.serial, address);
                if is_other {
                    connection.dial_by = turn.now + CONNECT_TIMEOUT;
                }
                self.await_connection(index, turn.now);
                return;
            }
        }
        self.detach(turn, index, false);
        if let Some(key) = job {
            let failure = Failure { cause, sent: false };
            self.settle(turn, key, Outcome::Failed(failure));
        }
    }

    /// Sets the deadline of a connection that is being made.
    pub(super) fn await_connection(&mut self, index: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let app = self.apps.get(connection.app);
        let until = match app.map(|app| &app.address) {
            Some(AppAddress::Tcp(addresses))
                if addresses
                    .get(connection.address)
                    .is_some_and(|address| address.ip().is_loopback()) =>
            {
                connection.dial_by.min(now + LOOPBACK_RETRY)
            }
            Some(AppAddress::Tcp(_) | AppAddress::Unix(_)) | None => connection.dial_by,
        };
        connection.deadline = connection.answer_by.min(until);
        self.deadline = Some(
            self.deadline
                .map_or(connection.deadline, |at| at.min(connection.deadline)),
        );
    }
}

/// Begins to connect to an app's address of this number, if it has so many.
fn connect(address: &AppAddress, number: usize) -> Option<io::Result<Stream>> {
    #[cfg(test)]
    if let AppAddress::Tcp(addresses) = address
        && let Some(address) = addresses.get(number)
        && let Some(stream) = crate::hook::tests::simulation::net::dial(*address)
    {
        return Some(stream);
    }
    match address {
        AppAddress::Tcp(addresses) => Some(Stream::connect_tcp(*addresses.get(number)?)),
        AppAddress::Unix(path) if number == 0 => Some(Stream::connect_unix(path)),
        AppAddress::Unix(_) => None,
    }
}
