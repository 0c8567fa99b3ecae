//! A client's parts as its handler sees them for the length of one call.

use super::{Client, Common, Context, Flags, LARGE, Phase, route};
use crate::command::{RouteId, SocketId};
use crate::config::Route;
use crate::handler::{ClosedBy, Handler, Lent, SendError, Socket};
use crate::process::Process;
use crate::source::Router;
use ws_proto::{CloseCode, Message, Version};

/// A client as a handler's [`Socket`] uses it.
pub(super) struct Lending<'a> {
    client: &'a mut Client,
    common: &'a mut Common,
    process: &'a Process,
    route: &'a Route,
}

impl Lent for Lending<'_> {
    fn id(&self) -> SocketId {
        self.client.id_in(self.process, &self.common.router)
    }

    fn version(&self) -> Version {
        match &self.client.phase {
            Phase::Open(connection) => connection.version(),
            Phase::Opening(_) | Phase::Lingering { .. } => Version::Rfc6455, // Nobody is lent then.
        }
    }

    fn route(&self) -> RouteId {
        self.route.id
    }

    fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        let common = &mut *self.common;
        let length = message.payload().len();
        if common.router.own.is_empty()
            && length < LARGE
            && let Phase::Open(connection) = &mut self.client.phase
        {
            if self.client.outbound.len() + common.out.len() >= self.route.max_output {
                return Err(SendError::Full);
            }
            connection.send(common.now, message, &mut common.out)?;
            self.client.count_out(common, 1, length as u64);
            return Ok(());
        }
        self.send_otherwise(message)
    }

    fn ping(&mut self) -> Result<(), SendError> {
        self.has_room()?;
        let Phase::Open(connection) = &mut self.client.phase else {
            return Err(SendError::Closed);
        };
        Ok(connection.ping(self.common.now, &mut self.common.out)?)
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        if !self.common.router.own.is_empty() {
            let id = self.id();
            self.common.router.close_behind(id, code, reason);
        } else if let Phase::Open(connection) = &mut self.client.phase
            && !connection.is_closing()
        {
            connection.close(self.common.now, code, reason, &mut self.common.out);
            self.client.note_closing(ClosedBy::App, code, reason);
        }
    }

    fn pause(&mut self) {
        self.client.flags.set(Flags::PAUSED, true);
    }

    fn router(&mut self) -> &mut Router {
        &mut self.common.router
    }
}

impl Lending<'_> {
    fn has_room(&self) -> Result<(), SendError> {
        let waits = self.client.outbound.len() + self.common.out.len();
        if waits >= self.route.max_output {
            return Err(SendError::Full);
        }
        Ok(())
    }

    /// Sends behind what waits, or from where the payload lies.
    #[inline(never)]
    fn send_otherwise(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.has_room()?;
        let length = message.payload().len();
        let id = self.id();
        let Client {
            phase,
            outbound,
            stream,
            flags,
            ..
        } = &mut *self.client;
        let Common {
            now, out, router, ..
        } = &mut *self.common;
        let Phase::Open(connection) = phase else {
            return Err(SendError::Closed);
        };
        if !router.own.is_empty() {
            // A broadcast of this turn still waits: what is sent after it stays behind it.
            connection.admits(message.is_binary(), length)?;
            router.send_behind(id, message.into_owned());
            return Ok(());
        }
        if connection.compresses(length) {
            connection.send(*now, message, out)?;
        } else {
            let framed = connection.frame(*now, &message)?;
            let written = outbound.write_framed(*now, stream, out, &framed, message);
            flags.raise(Flags::BROKEN, written.is_err());
            // At once: the rest of the turn would read on.
            flags.raise(Flags::BLOCKED, outbound.is_above_high_mark());
        }
        self.client.count_out(self.common, 1, length as u64);
        Ok(())
    }
}

impl Client {
    /// Calls something with the socket as a handler sees it, and the handler.
    pub(super) fn lend(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Socket<'_>, &mut dyn Handler),
    ) {
        let process = cx.process;
        if let Some(route) = route(&process.config, self.route)
            && let Some(handler) = cx.handlers.get_mut(usize::from(self.route.0))
            && let Phase::Open(_) = self.phase
        {
            let inner = &mut self.lending(cx.common, process, route);
            call(&mut Socket { inner }, handler.as_mut());
        }
    }

    #[inline(always)] // Of its two callers one is where all messages come.
    pub(super) fn lending<'a>(
        &'a mut self,
        common: &'a mut Common,
        process: &'a Process,
        route: &'a Route,
    ) -> Lending<'a> {
        Lending {
            client: self,
            common,
            process,
            route,
        }
    }
}
