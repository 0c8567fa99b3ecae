//! The embedding trait, what its methods are given, and the built-in handlers echo and chat. Hooks are one more handler.
//! Knows no socket and no HTTP.

use crate::command::SocketId;
use ws_proto::{CloseCode, Headers, Message, Rejection, Request, SendError, Version};

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
    pub(crate) peer: &'a str,
    pub(crate) location: &'a str,
    pub(crate) trusted: bool,
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
        self.peer
    }

    /// Returns the URL the client used.
    #[must_use]
    pub fn location(&self) -> &str {
        self.location
    }

    /// Returns whether the connection came from a trusted proxy, whose `X-Forwarded-*` may be passed on.
    #[must_use]
    pub fn is_from_trusted_proxy(&self) -> bool {
        self.trusted
    }
}

/// What becomes of a handshake.
#[derive(Clone, Debug)]
pub enum Decision {
    /// 101.
    Accept(Accept),
    /// An answer of the app's own, then the end.
    Refuse(Rejection),
    /// Later, from any thread, by [`Action::Decide`](crate::command::Action::Decide).
    Later,
}

/// What is added to a 101.
#[derive(Clone, Debug, Default)]
pub struct Accept {
    /// One of the subprotocols offered.
    pub protocol: Option<String>,
    /// `Set-Cookie` and other end-to-end headers.
    pub headers: Headers,
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

/// Who ended a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The client, or its network.
    Client,
    /// The application, by hook, control API or handler.
    App,
    /// The worker: a limit, a timeout, a drain.
    Worker,
}

impl ClosedBy {
    /// Returns the word used in hooks: `client`, `app`, `worker`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::App => "app",
            Self::Worker => "worker",
        }
    }
}

/// An open socket, lent to a handler for one call.
pub struct Socket<'a> {
    pub(crate) id: SocketId,
    pub(crate) inner: &'a mut (dyn Lent + 'a),
}

/// What the loop lends behind a [`Socket`].
pub(crate) trait Lent {
    fn version(&self) -> Version;
    fn send(&mut self, message: Message<'_>) -> Result<(), SendError>;
    fn close(&mut self, code: CloseCode, reason: &str);
    fn pause(&mut self);
    fn router(&mut self) -> &mut crate::source::Router;
}

impl Socket<'_> {
    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// Returns a small number that no other socket of this thread has while this one lives: an index for a handler's own state.
    #[must_use]
    pub fn key(&self) -> usize {
        self.id.slot as usize
    }

    /// Returns its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.inner.version()
    }

    /// Sends a message to this socket; it leaves at the end of the turn.
    ///
    /// # Errors
    /// Ours: closed, full, or binary in a version without it.
    pub fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.inner.send(message)
    }

    /// Begins the closing handshake, after what was sent.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.inner.close(code, reason);
    }

    /// Stops reading this socket until [`Action::Resume`](crate::command::Action::Resume): TCP pushes back to the client.
    pub fn pause(&mut self) {
        self.inner.pause();
    }
}
