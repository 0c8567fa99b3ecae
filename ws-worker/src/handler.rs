//! The embedding trait, what its methods are given, and the built-in handlers echo and chat. Hooks are one more handler.
//! Knows no socket and no HTTP.

pub use crate::command::{Accept, ClosedBy, SendError};

use crate::command::{Action, Broadcast, Command, RouteId, Scope, SocketId};
use crate::forwarded::Forwarded;
use crate::handle::Handle;
use crate::source::Router;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use ws_proto::{CloseCode, Headers, Message, Rejection, Request, Version};

/// What an application does with sockets. One value a thread and route; [`Socket::key`] tells sockets apart.
pub trait Handler {
    /// A valid handshake came; decide, now or later.
    fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
        let _ = request;
        Decision::accept()
    }

    /// The socket is open: send and receive.
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A whole message came.
    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        let _ = (socket, message);
    }

    /// The answer to a ping came, so long after the ping left: a heartbeat's or [`Socket::ping`]'s.
    fn on_pong(&mut self, socket: &mut Socket<'_>, round_trip: Duration) {
        let _ = (socket, round_trip);
    }

    /// The socket has ended: nothing more comes, and sending fails.
    fn on_close(&mut self, socket: &mut Socket<'_>, end: &End<'_>) {
        let _ = (socket, end);
    }

    /// A handshake that [`on_connect`](Self::on_connect) accepted, or wanted to decide later, ended before it was open.
    fn on_lost(&mut self, id: SocketId, end: &End<'_>) {
        let _ = (id, end);
    }
}

/// A handshake as [`Handler::on_connect`] sees it. Derefs to the request: path, headers, cookies, origin, subprotocols.
pub struct Connecting<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) id: SocketId,
    pub(crate) forwarded: &'a Forwarded,
    /// Empty until somebody asks for it.
    pub(crate) location: OnceLock<String>,
}

impl<'a> std::ops::Deref for Connecting<'a> {
    type Target = Request<'a>;

    fn deref(&self) -> &Request<'a> {
        &self.request
    }
}

impl Connecting<'_> {
    /// Returns the id the socket will have.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// Returns the client's address as far as the proxy is trusted: `tcp:192.0.2.1:4711`, `tcp:192.0.2.1` or `unix:`.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.forwarded.peer
    }

    /// Returns the URL the client used.
    #[must_use]
    pub fn location(&self) -> &str {
        let Forwarded { secure, host, .. } = self.forwarded;
        self.location
            .get_or_init(|| self.request.location(*secure, host.as_deref()))
    }

    /// Returns whether the connection came from a trusted proxy, whose `X-Forwarded-*` may be passed on.
    #[must_use]
    pub fn is_from_trusted_proxy(&self) -> bool {
        self.forwarded.trusted
    }
}

/// What becomes of a handshake.
#[derive(Clone, Debug)]
pub enum Decision {
    /// 101.
    Accept(Accept),
    /// An answer of the app's own, then the end.
    Refuse(Rejection),
    /// Later, from any thread, by [`Handle::decide`](crate::Handle::decide).
    Later,
}

impl Decision {
    /// Accepts without a subprotocol.
    #[must_use]
    pub fn accept() -> Self {
        Self::Accept(Accept::default())
    }

    /// Refuses with a status and a line of text.
    #[must_use]
    pub fn refuse(status: u16, text: &str) -> Self {
        Self::Refuse(Rejection {
            status,
            headers: Headers::default(),
            body: text.as_bytes().to_vec(),
        })
    }
}

/// How a socket ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Whether the closing handshake was completed.
    pub clean: bool,
    /// The cause's code, whatever the version could say on the wire; absent if the client closed without one.
    pub code: Option<CloseCode>,
    /// The reason that came with it, or a short phrase of ours.
    pub reason: &'a str,
    /// Who ended it.
    pub by: ClosedBy,
}

/// An open socket, lent to a handler for one call.
pub struct Socket<'a> {
    pub(crate) inner: &'a mut (dyn Lent + 'a),
}

/// What the loop lends behind a [`Socket`].
pub(crate) trait Lent {
    fn id(&self) -> SocketId;
    fn version(&self) -> Version;
    fn route(&self) -> RouteId;
    fn send(&mut self, message: Message<'_>) -> Result<(), SendError>;
    fn ping(&mut self) -> Result<(), SendError>;
    fn close(&mut self, code: CloseCode, reason: &str);
    fn pause(&mut self);
    fn router(&mut self) -> &mut Router;
}

impl Socket<'_> {
    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.inner.id()
    }

    /// Returns a small number that no other socket of this thread has while this one lives: an index for a handler's own state.
    #[must_use]
    pub fn key(&self) -> usize {
        self.inner.id().slot as usize
    }

    /// Returns its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.inner.version()
    }

    /// Sends a message to this socket; it leaves at the end of the turn.
    ///
    /// # Errors
    /// Nobody's fault: closed, or full. Ours: binary in a version without it.
    #[inline]
    pub fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.inner.send(message)
    }

    /// Sends a ping beside those of the heartbeat; [`Handler::on_pong`] tells how long its answer took.
    ///
    /// # Errors
    /// Nobody's fault: closed, or full, or a version without pings ([`SendError::NoPing`]).
    pub fn ping(&mut self) -> Result<(), SendError> {
        self.inner.ping()
    }

    /// Begins the closing handshake, after what was sent.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.inner.close(code, reason);
    }

    /// Stops reading this socket until [`resume`](crate::Handle::resume): TCP pushes back to the client.
    pub fn pause(&mut self) {
        self.inner.pause();
    }

    /// Sends a message to every open socket of this route on all threads, this one among them.
    pub fn broadcast(&mut self, message: Message<'_>) {
        let route = self.inner.route();
        self.command(Action::Broadcast(
            Scope::Route(route),
            None,
            Arc::new(Broadcast::new(message.into_owned())),
        ));
    }

    /// Sends a message to every other open socket of this route on all threads.
    pub fn broadcast_to_others(&mut self, message: Message<'_>) {
        let (route, id) = (self.inner.route(), self.inner.id());
        self.command(Action::Broadcast(
            Scope::Route(route),
            Some(id),
            Arc::new(Broadcast::new(message.into_owned())),
        ));
    }

    /// Sends a message to every member of a group.
    pub fn send_to_group(&mut self, group: &str, message: Message<'_>) {
        self.command(Action::Broadcast(
            Scope::Group(group.into()),
            None,
            Arc::new(Broadcast::new(message.into_owned())),
        ));
    }

    /// Adds this socket to a group, until it ends.
    pub fn join(&mut self, group: &str) {
        let id = self.inner.id();
        self.command(Action::Join(id, group.into()));
    }

    /// Takes this socket out of a group.
    pub fn leave(&mut self, group: &str) {
        let id = self.inner.id();
        self.command(Action::Leave(id, group.into()));
    }

    /// Hands a command to whom it is for; done at the end of the turn, in order.
    pub fn command(&mut self, action: Action) {
        self.inner.router().route(Command {
            action,
            reply: None,
        });
    }

    /// Returns a handle that other threads may use, and this one later.
    #[must_use]
    pub fn handle(&mut self) -> Handle {
        Handle::of(self.inner.router())
    }
}

/// A handler of its own for each socket, made by a function when its handshake comes and dropped when it ends:
/// `Worker::builder().route("/", || PerSocket::new(Player::default))`.
#[derive(Debug)]
pub struct PerSocket<F, H> {
    make: F,
    sockets: Vec<Option<H>>,
}

impl<F: FnMut() -> H, H: Handler> PerSocket<F, H> {
    /// Takes the function.
    pub fn new(make: F) -> Self {
        Self {
            make,
            sockets: Vec::new(),
        }
    }

    fn of(&mut self, socket: &Socket<'_>) -> Option<&mut H> {
        self.sockets.get_mut(socket.key())?.as_mut()
    }

    fn take(&mut self, slot: usize) -> Option<H> {
        self.sockets.get_mut(slot)?.take()
    }
}

impl<F: FnMut() -> H, H: Handler> Handler for PerSocket<F, H> {
    fn on_connect(&mut self, request: &Connecting<'_>) -> Decision {
        let mut handler = (self.make)();
        let decision = handler.on_connect(request);
        if !matches!(decision, Decision::Refuse(_)) {
            let slot = request.id().slot as usize;
            if self.sockets.len() <= slot {
                self.sockets.resize_with(slot + 1, || None);
            }
            if let Some(place) = self.sockets.get_mut(slot) {
                *place = Some(handler);
            }
        }
        decision
    }

    fn on_open(&mut self, socket: &mut Socket<'_>) {
        if let Some(handler) = self.of(socket) {
            handler.on_open(socket);
        }
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        if let Some(handler) = self.of(socket) {
            handler.on_message(socket, message);
        }
    }

    fn on_pong(&mut self, socket: &mut Socket<'_>, round_trip: Duration) {
        if let Some(handler) = self.of(socket) {
            handler.on_pong(socket, round_trip);
        }
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, end: &End<'_>) {
        if let Some(mut handler) = self.take(socket.key()) {
            handler.on_close(socket, end);
        }
    }

    fn on_lost(&mut self, id: SocketId, end: &End<'_>) {
        if let Some(mut handler) = self.take(id.slot as usize) {
            handler.on_lost(id, end);
        }
    }
}

/// Sends every message back as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Handler for Echo {
    #[inline]
    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        if socket.send(message) == Err(SendError::Full) {
            // A hole in what is echoed would be worse.
            socket.close(CloseCode::TRY_AGAIN_LATER, "output full");
        }
    }
}

/// Sends every message to all sockets of the route.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chat;

impl Handler for Chat {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        socket.broadcast(message);
    }
}

/// Says its wire version first, then echoes: how the demo's page learns what it speaks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaysVersion;

impl Handler for SaysVersion {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        // The first message of a socket always fits.
        let _ = socket.send(Message::text(socket.version().name()));
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        Echo.on_message(socket, message);
    }
}
