//! What a connection hands up: whole messages and signs of life. Knows no framing.

use alloc::borrow::Cow;
use core::time::Duration;

/// One whole message. `Borrowed` when it came in one piece and lies in the read buffer, `Owned` when it had to be put together.
///
/// ```
/// # use ws_proto::Message;
/// let borrowed = Message::text("hi");
/// assert_eq!((borrowed.payload(), borrowed.is_binary()), (&b"hi"[..], false));
/// let kept: Message<'static> = borrowed.into_owned();
/// assert_eq!(kept, Message::Text("hi".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'b> {
    /// Text, proven UTF-8.
    Text(Cow<'b, str>),
    /// Bytes. Hixie-75 and hixie-76 have none.
    Binary(Cow<'b, [u8]>),
}

impl<'b> Message<'b> {
    /// Makes a text message that borrows `text`.
    #[must_use]
    pub const fn text(text: &'b str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// Makes a binary message that borrows `bytes`.
    #[must_use]
    pub const fn binary(bytes: &'b [u8]) -> Self {
        Self::Binary(Cow::Borrowed(bytes))
    }

    /// Returns the payload: UTF-8 if it is text.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns whether this is a binary message.
    #[must_use]
    pub const fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }

    /// Borrows it, without copying the payload.
    #[must_use]
    pub fn as_borrowed(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::text(text),
            Self::Binary(bytes) => Message::binary(bytes),
        }
    }

    /// Copies the payload unless it is owned already.
    #[must_use]
    pub fn into_owned(self) -> Message<'static> {
        match self {
            Self::Text(text) => Message::Text(Cow::Owned(text.into_owned())),
            Self::Binary(bytes) => Message::Binary(Cow::Owned(bytes.into_owned())),
        }
    }
}

/// What a connection tells its driver.
///
/// ```
/// # use std::sync::Arc;
/// # use ws_proto::{Connection, Event, Input, Instant, Limits, Output, Role, Version};
/// # let mut connection = Connection::new(Instant::at(0), Version::Rfc6455, Role::Server, Arc::<Limits>::default());
/// # let (now, mut out, mut bytes) = (Instant::at(1), Output::default(), *b"\x81\x82\0\0\0\0hi\x89\x80\0\0\0\0");
/// # let mut input = Input::new(&mut bytes);
/// while let Some(event) = connection.receive(now, &mut input, &mut out) {
///     match event {
///         Event::Message(message) => println!("{} bytes", message.payload().len()),
///         Event::Ping => println!("the answer is in the output"),
///         Event::Pong(after) => println!("the peer took {after:?}"),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A whole message came.
    Message(Message<'b>),
    /// The pong to our heartbeat came, so long after the ping left.
    Pong(Duration),
    /// The peer pinged; the pong is in the output already.
    Ping,
}
