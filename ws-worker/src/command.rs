//! The one type that crosses threads: what hooks, the control API and other threads want done to sockets, and what
//! came of it. Knows no HTTP and no socket.

pub use crate::config::{RouteId, is_group_name};

use crate::config::Changes;
use crate::reload::ReloadError;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use ws_proto::{CloseCode, Framing, Headers, Message, Output, Rejection, Variant, Version};

/// Names one accepted socket, never used again: boot mark, thread, slot, and 128 random bits. 32 URL-safe characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    /// The first bytes of the boot's id: which life of which worker made it.
    pub boot: [u8; 3],
    /// The thread that holds the socket.
    pub thread: u8,
    /// Its slot there.
    pub slot: u32,
    /// What makes it unguessable, and the slot's reuse visible.
    pub key: [u8; 16],
}

impl SocketId {
    /// Characters of its text.
    const LENGTH: usize = 32;

    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let (head, key) = bytes.split_at_mut(8);
        head.copy_from_slice(&[
            self.boot[0],
            self.boot[1],
            self.boot[2],
            self.thread,
            (self.slot >> 24) as u8,
            (self.slot >> 16) as u8,
            (self.slot >> 8) as u8,
            self.slot as u8,
        ]);
        key.copy_from_slice(&self.key);
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 24]) -> Self {
        let [b0, b1, b2, thread, s0, s1, s2, s3, key @ ..] = bytes;
        Self {
            boot: [b0, b1, b2],
            thread,
            slot: u32::from_be_bytes([s0, s1, s2, s3]),
            key,
        }
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::LENGTH];
        let len = URL_SAFE_NO_PAD
            .encode_slice(self.to_bytes(), &mut text)
            .unwrap_or(0);
        f.write_str(
            text.get(..len)
                .and_then(|text| std::str::from_utf8(text).ok())
                .unwrap_or_default(),
        )
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no socket id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for SocketId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut bytes = [0; 24];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(24) if text.len() == 32 => {}
            Ok(_) | Err(_) => return Err(NotAnId),
        }
        Ok(Self::from_bytes(bytes))
    }
}

/// One message for many sockets on any thread, framed and compressed at most once.
#[derive(Debug)]
pub struct Broadcast {
    message: Message<'static>,
    hybi: OnceLock<Arc<[u8]>>,
    hixie: OnceLock<Arc<[u8]>>,
    deflated: OnceLock<Arc<[u8]>>,
}

impl Broadcast {
    /// Wraps a message; nothing is framed yet.
    #[must_use]
    pub fn new(message: Message<'static>) -> Self {
        Self {
            message,
            hybi: OnceLock::new(),
            hixie: OnceLock::new(),
            deflated: OnceLock::new(),
        }
    }

    /// Returns the message itself.
    #[must_use]
    pub fn message(&self) -> &Message<'static> {
        &self.message
    }

    /// Returns the whole frame as `Connection::admits` said it is for a peer; `out` has what compresses. Empty where the
    /// framing has no such message, which it said as well.
    pub fn bytes(&self, variant: Variant, out: &mut Output) -> &Arc<[u8]> {
        match variant {
            Variant::Plain(framing) => self.plain(framing),
            Variant::Deflated => self.deflated.get_or_init(|| {
                let mut bytes = Vec::new();
                if out.deflate(&self.message, &mut bytes) {
                    bytes.into()
                } else {
                    Arc::clone(self.plain(Framing::Hybi))
                }
            }),
        }
    }

    fn plain(&self, framing: Framing) -> &Arc<[u8]> {
        let cell = match framing {
            Framing::Hybi => &self.hybi,
            Framing::Hixie => &self.hixie,
        };
        cell.get_or_init(|| {
            let mut bytes = Vec::with_capacity(self.message.payload().len() + 10);
            match ws_proto::encode(framing, &self.message, &mut bytes) {
                Ok(()) => bytes.into(),
                Err(_) => Arc::new([]),
            }
        })
    }
}

/// Who hears a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every open socket of the worker.
    All,
    /// Every open socket of a route.
    Route(RouteId),
    /// Every member of a group.
    Group(Arc<str>),
    /// Whoever is in one of these, once.
    Union(Arc<[Self]>),
}

/// Something to be done to sockets. Whoever sends it to a thread does not wait.
#[derive(Clone, Debug)]
pub struct Command {
    /// What.
    pub action: Action,
    /// Whom to tell what came of it; hooks do not ask.
    pub reply: Option<Ticket>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action {
    /// A message to these sockets, all of one thread. Answered by [`Outcome::Sent`].
    Send(Vec<SocketId>, Arc<Broadcast>),
    /// A message to one socket that nobody else is sent. Answered by [`Outcome::Sent`].
    Say(SocketId, Message<'static>),
    /// A message to many but `except`. Answered by [`Outcome::Counted`], once a thread.
    Broadcast(Scope, Option<SocketId>, Arc<Broadcast>),
    /// Adds a socket to a group. Answered by [`Outcome::Found`].
    Join(SocketId, Arc<str>),
    /// Takes it out. Answered by [`Outcome::Found`].
    Leave(SocketId, Arc<str>),
    /// Begins the closing handshake after what is queued; it is whose doing. Answered by [`Outcome::Found`].
    Close(SocketId, CloseCode, String, ClosedBy),
    /// Lets a socket be read again that its handler paused.
    Resume(SocketId),
    /// Answers a handshake that its handler wanted to decide later.
    Decide(SocketId, Box<LateDecision>),
    /// Stores something the app says about a socket (`None` removes), for inspection.
    SetMeta(SocketId, Arc<str>, Option<Arc<str>>),
    /// A page of open sockets. Answered by [`Outcome::Listed`], once a thread.
    List(ListQuery),
    /// One socket. Answered by [`Outcome::Inspected`].
    Inspect(SocketId),
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

/// Why a message was not sent; nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The socket is closing or closed.
    Closed,
    /// Its version has no binary messages.
    NoBinary,
    /// Its version has no pings.
    NoPing,
    /// As many bytes wait for the client as `max_output` allows; or, said by a [`Handle`](crate::Handle), the `memory` of
    /// all is nearly used up.
    Full,
}

impl From<ws_proto::SendError> for SendError {
    fn from(error: ws_proto::SendError) -> Self {
        if error == ws_proto::SendError::NoBinary {
            Self::NoBinary
        } else if error == ws_proto::SendError::NoPing {
            Self::NoPing
        } else {
            Self::Closed
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the socket is closed",
            Self::NoBinary => "its version has no binary messages",
            Self::NoPing => "its version has no pings",
            Self::Full => "the client does not take what is sent",
        })
    }
}

impl std::error::Error for SendError {}

/// What is added to a 101.
#[derive(Clone, Debug, Default)]
pub struct Accept {
    /// One of the subprotocols offered.
    pub protocol: Option<String>,
    /// `Set-Cookie` and other end-to-end headers.
    pub headers: Headers,
}

/// What becomes of a handshake.
#[derive(Clone, Debug)]
pub enum LateDecision {
    /// 101 with this subprotocol and these headers.
    Accept(Accept),
    /// The app's own answer.
    Reject(Rejection),
    /// 503 with `Retry-After` in seconds.
    Unavailable(u32),
}

/// Who asked: the thread and its own number for the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The thread whose control listener asked.
    pub thread: u8,
    /// Its number for the question.
    pub number: u64,
}

/// What came of a command on one thread.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of [`Action::Send`], one entry a socket, in the order asked; and of [`Action::Say`].
    Sent(Vec<(SocketId, Sent)>),
    /// Of [`Action::Broadcast`].
    Counted(Counted),
    /// Of [`Action::Join`], [`Action::Leave`] and [`Action::Close`].
    Found(Found),
    /// Of [`Action::List`], sorted by id text, at most the limit asked. Where the sockets say much of themselves it is
    /// fewer, but one more than makes a MiB of text.
    Listed(Vec<SocketInfo>),
    /// Of [`Action::Inspect`].
    Inspected(Option<Box<SocketInfo>>),
    /// Of a reload that the control API asked for.
    Reloaded(Box<Result<Changes, ReloadError>>),
}

/// What came of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the socket's queue.
    Queued,
    /// No such open socket.
    Gone,
    /// Its output is full; nothing changed.
    Full,
    /// Binary to a version without it.
    Unsupported,
}

/// What came of a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Sockets that have it in their queue.
    pub queued: usize,
    /// Sockets that could not take it and are dropped.
    pub full: usize,
    /// Sockets whose version has no binary.
    pub unsupported: usize,
}

/// Whether a socket was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was, and the command is done.
    Yes,
    /// No such open socket.
    No,
    /// It was, but it is in as many groups as it may be.
    Full,
}

/// Which sockets to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only of this route.
    pub route: Option<RouteId>,
    /// Only of this group.
    pub group: Option<Arc<str>>,
    /// Only ids whose text sorts behind this.
    pub after: Option<SocketId>,
    /// At most so many.
    pub limit: usize,
}

/// A page of sockets ends at so many bytes, whatever its limit; no thread lists more than it takes to get there.
pub(crate) const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// What is known of a socket.
#[derive(Clone, Debug)]
pub struct SocketInfo {
    /// Its id.
    pub id: SocketId,
    /// Its route.
    pub route: RouteId,
    /// Its version.
    pub version: Version,
    /// The client's address as far as the proxy is trusted: `tcp:192.0.2.1:4711`, `tcp:192.0.2.1` or `unix:`.
    pub peer: String,
    /// Path and query as the client sent them.
    pub resource: String,
    /// Its origin, if it named one.
    pub origin: Option<String>,
    /// The subprotocol, if one was chosen.
    pub protocol: Option<String>,
    /// The groups it is in.
    pub groups: Vec<Arc<str>>,
    /// What the app stored.
    pub meta: Vec<(Arc<str>, Arc<str>)>,
    /// Open since, in seconds since 1970.
    pub since: u64,
    /// Messages from the client.
    pub messages_in: u64,
    /// Messages to the client.
    pub messages_out: u64,
    /// Bytes not yet taken by the client.
    pub queue: usize,
}

impl SocketInfo {
    /// Returns how many bytes of text it has, each of which any way to show it shows.
    pub(crate) fn text(&self) -> usize {
        let some = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let groups: usize = self.groups.iter().map(|name| name.len()).sum();
        let pairs = self.meta.iter();
        let meta: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
        SocketId::LENGTH
            + self.peer.len()
            + self.resource.len()
            + some(&self.origin)
            + some(&self.protocol)
            + groups
            + meta
    }

    /// Returns how many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        let pointers = size_of_val(&*self.groups) + size_of_val(&*self.meta);
        size_of::<Self>() + self.text() + pointers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_have_any_name_that_fits_a_comma_list() {
        for name in ["room", "部屋 1/2", "a-b_c", "Self"] {
            assert!(is_group_name(name), "{name}");
        }
        for name in ["", "self", "all", "a,b", " a", "a\n", "\u{7f}"] {
            assert!(!is_group_name(name), "{name:?}");
        }
    }

    #[test]
    fn an_id_is_32_characters_and_reads_back() {
        let id = SocketId {
            boot: [1, 2, 3],
            thread: 4,
            slot: 5,
            key: [255; 16],
        };
        let text = id.to_string();
        assert_eq!(text.len(), 32);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!("".parse::<SocketId>(), Err(NotAnId));
        assert_eq!(format!("{text}A").parse::<SocketId>(), Err(NotAnId));
        assert_eq!("/".repeat(32).parse::<SocketId>(), Err(NotAnId));
    }
}
