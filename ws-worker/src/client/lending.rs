//! A client's parts as its handler sees them for the length of one call.

use super::{Client, Closing, Context, Flags, LARGE, Phase, route};
use crate::command::{RouteId, SocketId};
use crate::config::Route;
use crate::handler::{ClosedBy, Handler, Lent, SendError, Socket};
use crate::outbound::Outbound;
use crate::source::Router;
use crate::stream::Stream;
use ws_proto::{CloseCode, Connection, Instant, Message, Output, Version};

/// A client's parts as a handler's [`Socket`] uses them.
struct Lending<'a> {
    now: Instant,
    connection: &'a mut Connection,
    stream: &'a mut Stream,
    outbound: &'a mut Outbound,
    out: &'a mut Output,
    router: &'a mut Router,
    route: &'a Route,
    closing: &'a mut Option<Box<Closing>>,
    flags: &'a mut Flags,
    sent: u32,
    sent_bytes: u64,
    id: SocketId,
}

impl Lent for Lending<'_> {
    fn id(&self) -> SocketId {
        self.id
    }

    fn version(&self) -> Version {
        self.connection.version()
    }

    fn route(&self) -> RouteId {
        self.route.id
    }

    fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        if self.outbound.len() + self.out.len() >= self.route.max_output {
            return Err(SendError::Full);
        }
        if self.router.own.is_empty() && message.payload().len() < LARGE {
            let length = message.payload().len() as u64;
            self.connection.send(self.now, message, self.out)?;
            self.sent += 1;
            self.sent_bytes += length;
            return Ok(());
        }
        self.send_otherwise(message)
    }

    fn ping(&mut self) -> Result<(), SendError> {
        if self.outbound.len() + self.out.len() >= self.route.max_output {
            return Err(SendError::Full);
        }
        Ok(self.connection.ping(self.now, self.out)?)
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        if !self.router.own.is_empty() {
            self.router.close_behind(self.id, code, reason);
        } else if !self.connection.is_closing() {
            *self.closing = Some(Box::new(Closing {
                by: ClosedBy::App,
                code,
                reason: reason.to_owned(),
            }));
            self.connection.close(self.now, code, reason, self.out);
        }
    }

    fn pause(&mut self) {
        self.flags.paused = true;
    }

    fn router(&mut self) -> &mut Router {
        self.router
    }
}

impl Lending<'_> {
    /// Sends behind what waits, or from where the payload lies.
    #[inline(never)]
    fn send_otherwise(&mut self, message: Message<'_>) -> Result<(), SendError> {
        let length = message.payload().len();
        if !self.router.own.is_empty() {
            // A broadcast of this turn still waits: what is sent after it stays behind it.
            self.connection.admits(message.is_binary(), length)?;
            self.router.send_behind(self.id, message.into_owned());
            return Ok(());
        }
        if self.connection.compresses(length) {
            self.connection.send(self.now, message, self.out)?;
        } else {
            let framed = self.connection.frame(self.now, &message)?;
            let written =
                self.outbound
                    .write_framed(self.now, self.stream, self.out, &framed, message);
            self.flags.broken |= written.is_err();
        }
        self.sent += 1;
        self.sent_bytes += length as u64;
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
        if let Some(route) = route(&process.config, self.route) {
            self.lend_on(cx, route, call);
        }
    }

    #[inline]
    pub(super) fn lend_on(
        &mut self,
        cx: &mut Context<'_>,
        route: &Route,
        call: impl FnOnce(&mut Socket<'_>, &mut dyn Handler),
    ) {
        let id = self.id(cx);
        let Some(handler) = cx.handlers.get_mut(usize::from(self.route.0)) else {
            return;
        };
        let Phase::Open(connection) = &mut self.phase else {
            return;
        };
        let mut lending = Lending {
            now: cx.now,
            connection,
            stream: &mut self.stream,
            outbound: &mut self.outbound,
            out: cx.out,
            router: cx.router,
            route,
            closing: &mut self.closing,
            flags: &mut self.flags,
            sent: 0,
            sent_bytes: 0,
            id,
        };
        call(
            &mut Socket {
                inner: &mut lending,
            },
            handler.as_mut(),
        );
        let (sent, bytes) = (lending.sent, lending.sent_bytes);
        self.count_out(cx, sent, bytes);
    }
}
