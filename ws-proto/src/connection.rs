//! After the handshake, both roles: events out, bytes out, deadline out.
//! Knows no socket and no clock; one method call is one input.

use crate::assemble::{Assembled, Assembler, Content, most_deflated};
use crate::close::{Cause, CloseCode, CloseFrame, Closed, fitting_reason};
use crate::deflate::{Deflate, DeflateParameters};
use crate::error::{ProtocolError, SendError};
use crate::frame::hybi::Opcode;
use crate::frame::{Control, Decoder, Piece, hixie, hybi};
use crate::framed::{Framed, Variant, encode};
use crate::gear::Gear;
use crate::input::{Input, Output};
use crate::keepalive::{Due, Keepalive, at_least_a_tick};
use crate::limits::Limits;
use crate::message::{Event, Message};
use crate::time::Instant;
use crate::utf8;
use crate::version::{Framing, Version};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes masked frames, sends plain ones.
    Server,
    /// Masks what it sends; keys come from this seed, which must be random.
    Client {
        /// Sixteen random bytes.
        mask_seed: [u8; 16],
    },
}

/// How far it is; each state carries its own deadlines, so none is left to cancel.
#[derive(Debug)]
enum State {
    Open(Keepalive),
    /// Our close was sent.
    Closing {
        give_up_at: Instant,
        /// How it will have ended when the peer agrees.
        closed: Box<Closed>,
    },
    Closed(Box<Closed>),
}

/// An open (or closing, or closed) connection. Idle, it holds no heap but its share of the limits.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use ws_proto::{CloseCode, Connection, Event, Input, Instant, Limits, Message, Output, Role, Version};
/// let limits = Limits { heartbeat: Some(Duration::from_secs(25)), ..Limits::default() };
/// let mut connection = Connection::new(Instant::at(0), Version::Rfc6455, Role::Server, Arc::new(limits));
/// let mut out = Output::default();
///
/// let mut bytes = *b"\x81\x82\0\0\0\0hi";
/// let mut input = Input::new(&mut bytes);
/// let event = connection.receive(Instant::at(1_000), &mut input, &mut out);
/// assert_eq!(event, Some(Event::Message(Message::text("hi"))));
///
/// assert_eq!(connection.poll_timeout(), Some(Instant::at(26_000)));
/// connection.handle_timeout(Instant::at(26_000), &mut out);
/// assert_eq!(out.take()[0], 0x89); // A ping.
///
/// connection.close(Instant::at(26_001), CloseCode::NORMAL, "", &mut out);
/// assert_eq!(out.as_slice(), b"\x88\x02\x03\xe8");
/// ```
#[derive(Debug)]
pub struct Connection {
    state: State,
    decoder: Decoder,
    assembler: Assembler,
    limits: Arc<Limits>,
    gear: Gear,
    version: Version,
}

impl Connection {
    /// Opens one as the handshake leaves it.
    #[must_use]
    pub fn new(now: Instant, version: Version, role: Role, limits: Arc<Limits>) -> Self {
        let gear = match role {
            Role::Server => Gear::None,
            Role::Client { mask_seed } => Gear::of_client(mask_seed),
        };
        Self {
            state: State::Open(Keepalive::new(now, version.has_ping())),
            decoder: Decoder::new(version, !gear.is_client()),
            assembler: Assembler::default(),
            limits,
            gear,
            version,
        }
    }

    /// Lets it compress as was agreed in a handshake. A handshake of this crate does so itself.
    #[must_use]
    pub fn deflating(mut self, parameters: DeflateParameters) -> Self {
        if cfg!(feature = "deflate") && self.version == Version::Rfc6455 {
            let deflate = Deflate::new(parameters, !self.gear.is_client());
            self.gear.set_deflate(Some(deflate));
            self.decoder.allow_deflate();
        }
        self
    }

    /// Returns what was agreed about compression, if anything was, until the connection has ended.
    #[must_use]
    pub fn deflate(&self) -> Option<DeflateParameters> {
        self.gear.deflate().map(Deflate::parameters)
    }

    /// Returns the version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Takes bytes up to the next event. Call until `None`, or stop after any event: what `input` still holds is the caller's.
    /// Replies that the protocol owes (pong, close) are appended to `out`. After the end everything is taken and dropped.
    #[inline]
    pub fn receive<'b>(
        &mut self,
        now: Instant,
        input: &mut Input<'b>,
        out: &mut Output,
    ) -> Option<Event<'b>> {
        if input.is_empty() {
            return None;
        }
        if let Some(message) = self.receive_whole(now, input, out) {
            return Some(Event::Message(message));
        }
        self.receive_pieces(now, input, out)
    }

    /// Takes a message that is one whole frame, as nearly all are: no copy, no state, no heap. `None` says that there is none,
    /// or that it was none: [`receive`](Self::receive), which asks here first, takes all else, and a loop that asks both by
    /// turns hears of everything in its order.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use ws_proto::{Connection, Input, Instant, Limits, Message, Output, Role, Version};
    /// # let mut connection = Connection::new(Instant::at(0), Version::Hixie76, Role::Server, Arc::<Limits>::default());
    /// # let (now, mut out) = (Instant::at(1), Output::default());
    /// let mut bytes = *b"\0whole\xff\0and a p";
    /// let mut input = Input::new(&mut bytes);
    /// assert_eq!(connection.receive_whole(now, &mut input, &mut out), Some(Message::text("whole")));
    /// assert_eq!(connection.receive_whole(now, &mut input, &mut out), None);
    /// assert_eq!(input.as_slice(), b"\0and a p"); // What `receive` takes.
    /// ```
    #[inline(always)] // One hot caller, whose loop it is the body of.
    pub fn receive_whole<'b>(
        &mut self,
        now: Instant,
        input: &mut Input<'b>,
        out: &mut Output,
    ) -> Option<Message<'b>> {
        if !self.assembler.is_empty() {
            return None;
        }
        let State::Open(keepalive) = &mut self.state else {
            return None;
        };
        match &mut self.decoder {
            Decoder::Hybi(decoder) => {
                let (binary, payload) = decoder.whole(input, self.limits.max_message)?;
                keepalive.hear(now);
                keepalive.note_message(now);
                if binary {
                    return Some(Message::binary(payload));
                }
                if let Ok(text) = utf8::prove(payload) {
                    return Some(Message::text(text));
                }
                self.fail(ProtocolError::Utf8, input, out);
                None
            }
            Decoder::Hixie(decoder) => {
                let text = decoder.whole(input, self.limits.max_message)?;
                keepalive.hear(now);
                keepalive.note_message(now);
                Some(Message::Text(utf8::replace(text)))
            }
        }
    }

    /// In a long frame: room at the end of the message to read straight into; never past the frame.
    ///
    /// Offered for binary messages of which more than 16 KiB of a frame are to come: 64 KiB first, then as much as came
    /// already. `None` is no fault: read into a buffer of your own, then.
    ///
    /// ```no_run
    /// # fn read(mut stream: impl std::io::Read, connection: &mut ws_proto::Connection, now: ws_proto::Instant,
    /// #     out: &mut ws_proto::Output) -> std::io::Result<()> {
    /// if let Some(room) = connection.read_into() {
    ///     let count = stream.read(room)?;
    ///     let event = connection.received(now, count, out);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn read_into(&mut self) -> Option<&mut [u8]> {
        match &self.decoder {
            Decoder::Hybi(decoder) if !self.assembler.is_empty() => {
                self.assembler.room(decoder.left())
            }
            Decoder::Hybi(_) | Decoder::Hixie(_) => None,
        }
    }

    /// Says that `count` bytes were read into [`read_into`](Self::read_into)'s room.
    pub fn received(
        &mut self,
        now: Instant,
        count: usize,
        out: &mut Output,
    ) -> Option<Event<'static>> {
        let Decoder::Hybi(decoder) = &mut self.decoder else {
            return None;
        };
        let bytes = self.assembler.fill(count)?;
        if bytes.is_empty() {
            return None;
        }
        let end = decoder.unmask(bytes);
        self.hear(now);
        if !end {
            return None;
        }
        let whole = match self.assembler.end_frame() {
            Ok(Some(assembled)) => self.finish(assembled, out),
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        match whole {
            Ok(message) => {
                self.note_message(now);
                Some(Event::Message(message))
            }
            Err(error) => {
                self.fail(error, &mut Input::default(), out);
                None
            }
        }
    }

    /// Appends a message.
    ///
    /// # Errors
    /// Ours: the connection is closing, or the version has no binary. Nothing was appended.
    #[inline]
    pub fn send(
        &mut self,
        _now: Instant,
        message: Message<'_>,
        out: &mut Output,
    ) -> Result<(), SendError> {
        let framing = self.admit(message.is_binary())?;
        if let Gear::None = self.gear {
            return encode(framing, &message, &mut out.bytes);
        }
        self.send_otherwise(framing, &message, out)
    }

    /// What [`send`](Self::send) does with all but a server's plain frame.
    #[inline(never)]
    fn send_otherwise(
        &mut self,
        framing: Framing,
        message: &Message<'_>,
        out: &mut Output,
    ) -> Result<(), SendError> {
        if self.compresses(message.payload().len()) && self.send_deflated(message, out) {
            return Ok(());
        }
        if self.gear.is_client() && framing == Framing::Hybi {
            let opcode = Opcode::of_message(message.is_binary());
            let key = self.gear.next_key();
            hybi::encode(opcode, message.payload(), key, &mut out.bytes);
            return Ok(());
        }
        encode(framing, message, &mut out.bytes)
    }

    /// Appends a ping beside those of the heartbeat; [`Event::Pong`] tells how long its answer took. One that still waits
    /// for an answer gets no more time by it.
    ///
    /// # Errors
    /// Ours: the connection is closing, or the version has no pings. Nothing was appended.
    pub fn ping(&mut self, now: Instant, out: &mut Output) -> Result<(), SendError> {
        if !self.version.has_ping() {
            return Err(SendError::NoPing);
        }
        let State::Open(keepalive) = &mut self.state else {
            return Err(SendError::Closed);
        };
        let payload = keepalive.ping(now);
        self.send_control(Control::Ping, &payload, out);
        Ok(())
    }

    /// Returns whether [`send`](Self::send) would try to compress a payload of so many bytes, so that it is worth its copy
    /// where a driver would have written the payload itself.
    #[must_use]
    #[inline]
    pub fn compresses(&self, length: usize) -> bool {
        self.gear.deflate().is_some() && self.limits.deflate.unwrap_or_default().min <= length
    }

    /// Returns what to write around a payload that the driver writes itself, uncompressed (server role only).
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::State`] in the client role, which must mask.
    #[inline]
    pub fn frame(&mut self, _now: Instant, message: &Message<'_>) -> Result<Framed, SendError> {
        if self.gear.is_client() {
            return Err(SendError::State);
        }
        let framing = self.admit(message.is_binary())?;
        Ok(Framed::new(framing, message))
    }

    /// Returns which bytes of a broadcast with a payload of so many bytes are for this peer. Compressed ones are for
    /// those who agreed on no server context takeover and a full window.
    ///
    /// # Errors
    /// As [`frame`](Self::frame); decides, so that nothing follows a close.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use ws_proto::{Connection, Framing, Instant, Limits, Role, SendError, Variant, Version};
    /// let open = |version| Connection::new(Instant::at(0), version, Role::Server, Arc::<Limits>::default());
    /// assert_eq!(open(Version::Hixie76).admits(false, 5), Ok(Variant::Plain(Framing::Hixie)));
    /// assert_eq!(open(Version::Hixie76).admits(true, 5), Err(SendError::NoBinary));
    /// ```
    #[inline]
    pub fn admits(&self, binary: bool, length: usize) -> Result<Variant, SendError> {
        if self.gear.is_client() {
            return Err(SendError::State);
        }
        let framing = self.admit(binary)?;
        if self.compresses(length) && self.gear.deflate().is_some_and(Deflate::takes_broadcasts) {
            return Ok(Variant::Deflated);
        }
        Ok(Variant::Plain(framing))
    }

    /// Begins the closing handshake; a reason over 123 bytes is cut. No-op when closing already.
    /// hixie-75 is closed at once: the driver flushes and shuts down. A code that must not be sent (1005, 1006) sends none.
    pub fn close(&mut self, now: Instant, code: CloseCode, reason: &str, out: &mut Output) {
        let code = CloseCode::received(code.get(), self.version.takes_1004());
        let reason = code.map_or("", |_| fitting_reason(reason));
        self.begin_close(now, Cause::ClosedByUs, code, reason, out);
    }

    /// Stops the pong and idle deadlines while the driver does not read; pings still go out. Closing is never paused.
    pub fn pause(&mut self, _now: Instant) {
        if let State::Open(keepalive) = &mut self.state {
            keepalive.pause();
        }
    }

    /// Starts them again in full.
    pub fn resume(&mut self, now: Instant) {
        if let State::Open(keepalive) = &mut self.state {
            keepalive.resume(now);
        }
    }

    /// The peer's stream ended. In hixie-75 that is the one way to close, and clean between frames.
    pub fn handle_eof(&mut self, _now: Instant) {
        let clean = !self.version.has_closing_handshake() && self.decoder.is_between_frames();
        let mut closed = match &mut self.state {
            State::Open(_) => Box::new(Closed::by(Cause::Eof)),
            State::Closing { closed, .. } => closed.clone(),
            State::Closed(_) => return,
        };
        closed.clean = clean;
        self.end(closed);
    }

    /// Does what `now` demands: ping, give up, close. Early or repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        match &mut self.state {
            State::Open(keepalive) => match keepalive.due(now, &self.limits) {
                Due::Nothing => {}
                Due::Ping(payload) => self.send_control(Control::Ping, &payload, out),
                Due::PongMissed => self.end(Box::new(Closed::by(Cause::PongMissed))),
                Due::Idle => {
                    let Closed { code, reason, .. } = Closed::by(Cause::Idle);
                    self.begin_close(now, Cause::Idle, code, &reason, out);
                }
            },
            State::Closing { give_up_at, closed } if *give_up_at <= now => {
                let mut closed = closed.clone();
                closed.cause = Cause::CloseTimeout;
                self.end(closed);
            }
            State::Closing { .. } | State::Closed(_) => {}
        }
    }

    /// Returns the next deadline. After `handle_timeout(now)` it is never `<= now`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Open(keepalive) => keepalive.deadline(&self.limits),
            State::Closing { give_up_at, .. } => Some(*give_up_at),
            State::Closed(_) => None,
        }
    }

    /// Returns whether our close was sent or the peer's came: nothing can be sent any more.
    #[must_use]
    #[inline]
    pub const fn is_closing(&self) -> bool {
        !matches!(self.state, State::Open(_))
    }

    /// Returns whether nothing came since the last ping. A byte may then bring [`poll_timeout`](Self::poll_timeout) nearer;
    /// otherwise, while it is open, bytes only move it away.
    #[must_use]
    #[inline]
    pub fn awaits_pong(&self) -> bool {
        matches!(&self.state, State::Open(keepalive) if keepalive.awaits_answer())
    }

    /// Returns how it ended, once it has: flush, then close the socket.
    #[must_use]
    #[inline]
    pub fn closed(&self) -> Option<&Closed> {
        match &self.state {
            State::Closed(closed) => Some(closed),
            State::Open(_) | State::Closing { .. } => None,
        }
    }

    /// Returns how many bytes came of a message that is not whole yet: compressed ones, where it is compressed.
    ///
    /// A driver that lets many peers take turns may let one finish: pieces of many long messages push each other out of the
    /// caches.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.assembler.received()
    }

    /// Returns how many bytes of heap it holds: an unfinished message, a close reason, a client's keys, and with context
    /// takeover what is remembered of messages.
    #[must_use]
    #[inline]
    pub fn memory(&self) -> usize {
        let is_idle = matches!(self.state, State::Open(_))
            && self.assembler.is_empty()
            && matches!(self.gear, Gear::None)
            && self.decoder.memory() == 0;
        if is_idle { 0 } else { self.weigh() }
    }

    fn weigh(&self) -> usize {
        let closed = match &self.state {
            State::Open(_) => 0,
            State::Closing { closed, .. } | State::Closed(closed) => {
                size_of::<Closed>() + closed.reason.capacity()
            }
        };
        self.decoder.memory() + self.assembler.memory() + closed + self.gear.memory()
    }

    /// What [`receive`](Self::receive) does with everything but a whole message.
    #[inline(never)]
    fn receive_pieces<'b>(
        &mut self,
        now: Instant,
        input: &mut Input<'b>,
        out: &mut Output,
    ) -> Option<Event<'b>> {
        self.hear(now);
        while !matches!(self.state, State::Closed(_)) {
            match self.next_event(now, input, out) {
                Ok(Some(Step::Event(event))) => return Some(event),
                Ok(Some(Step::Nothing)) => {}
                Ok(None) => return None,
                Err(error) => self.fail(error, input, out),
            }
        }
        input.take(usize::MAX);
        None
    }

    /// Takes one piece; `None` when more bytes are needed.
    fn next_event<'b>(
        &mut self,
        now: Instant,
        input: &mut Input<'b>,
        out: &mut Output,
    ) -> Result<Option<Step<'b>>, ProtocolError> {
        if let Some((binary, payload)) = self.whole_deflated(input) {
            let message = self.inflate(binary, payload, out)?;
            self.note_message(now);
            return Ok(Some(Step::Event(Event::Message(message))));
        }
        let Some(piece) = self.decoder.decode(input, &self.limits)? else {
            return Ok(None);
        };
        let event = match piece {
            Piece::Begin {
                kind,
                last,
                deflated,
                length,
            } => {
                self.assembler
                    .begin(kind, last, deflated, length, &self.limits)?;
                None
            }
            Piece::Payload { bytes, end } => {
                match self.assembler.push(bytes, end, &self.limits)? {
                    Some(assembled) => {
                        let message = self.finish(assembled, out)?;
                        self.note_message(now);
                        Some(Event::Message(message))
                    }
                    None => None,
                }
            }
            Piece::Control { control, payload } => {
                self.assembler.count_control_frame(&self.limits)?;
                match control {
                    Control::Close => {
                        self.agree(&payload, out)?;
                        None
                    }
                    // After our close nothing follows, not even a pong.
                    Control::Ping if self.is_closing() => None,
                    Control::Ping => {
                        self.send_control(Control::Pong, &payload, out);
                        Some(Event::Ping)
                    }
                    Control::Pong => self.take_pong(now, &payload).map(Event::Pong),
                }
            }
        };
        Ok(Some(event.map_or(Step::Nothing, Step::Event)))
    }

    /// Takes a compressed message that is one whole frame: it is inflated from where it lies.
    fn whole_deflated<'b>(&self, input: &mut Input<'b>) -> Option<(bool, &'b [u8])> {
        match &self.decoder {
            Decoder::Hybi(decoder)
                if self.gear.deflate().is_some() && self.assembler.is_empty() =>
            {
                decoder.whole_deflated(input, most_deflated(self.limits.max_message, 1))
            }
            Decoder::Hybi(_) | Decoder::Hixie(_) => None,
        }
    }

    /// Makes the message of what was put together.
    fn finish(
        &mut self,
        assembled: Assembled,
        out: &mut Output,
    ) -> Result<Message<'static>, ProtocolError> {
        match assembled {
            Assembled::Message(message) => Ok(message),
            Assembled::Deflated { binary, payload } => self.inflate(binary, &payload, out),
        }
    }

    fn inflate(
        &mut self,
        binary: bool,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<Message<'static>, ProtocolError> {
        let Some(deflate) = self.gear.deflate_mut() else {
            return Err(ProtocolError::ReservedBits); // Which the decoder has said before.
        };
        let max = self.limits.max_message;
        let mut content = Content::new(binary);
        deflate.inflate(payload, max, &mut out.codec, &mut |piece| {
            content.push(piece, max)
        })?;
        match content.finish()? {
            Assembled::Message(message) => Ok(message),
            Assembled::Deflated { .. } => Err(ProtocolError::Deflate), // It was inflated just now.
        }
    }

    /// Sends a message compressed, unless that does not make it smaller.
    fn send_deflated(&mut self, message: &Message<'_>, out: &mut Output) -> bool {
        let Output { bytes, codec } = out;
        let compressed = (self.gear.deflate_mut())
            .and_then(|deflate| deflate.compress(message.payload(), codec));
        let Some(compressed) = compressed else {
            return false;
        };
        let key = self.gear.next_key();
        hybi::encode_deflated(message.is_binary(), compressed, key, bytes);
        true
    }

    /// Ends the connection by the peer's close, which is answered unless it is itself an answer. [RFC 6455, 5.5.1]
    fn agree(&mut self, payload: &[u8], out: &mut Output) -> Result<(), ProtocolError> {
        let frame = CloseFrame::parse(payload, self.version.takes_1004())?;
        let closed = if let State::Closing { closed, .. } = &mut self.state {
            let mut closed = closed.clone();
            closed.clean = true;
            closed
        } else {
            self.send_close(frame.code, "", out);
            Box::new(Closed {
                cause: Cause::ClosedByPeer,
                clean: true,
                code: frame.code,
                reason: frame.reason,
            })
        };
        self.end(closed);
        Ok(())
    }

    /// Ends the connection because the peer broke the protocol, and tells it why if nothing was said before.
    #[cold]
    fn fail(&mut self, error: ProtocolError, input: &mut Input<'_>, out: &mut Output) {
        if !self.is_closing() {
            let code = self.version.close_code(error.close_code());
            self.send_close(code, error.reason(), out);
        }
        self.end(Box::new(Closed::by(Cause::Protocol(error))));
        input.take(usize::MAX);
    }

    fn begin_close(
        &mut self,
        now: Instant,
        cause: Cause,
        code: Option<CloseCode>,
        reason: &str,
        out: &mut Output,
    ) {
        if self.is_closing() {
            return;
        }
        let mut closed = Box::new(Closed {
            cause,
            clean: false,
            code,
            reason: String::from(reason),
        });
        if self.version.has_closing_handshake() {
            let code = code.and_then(|code| self.version.close_code(code));
            self.send_close(code, reason, out);
            self.state = State::Closing {
                give_up_at: now + at_least_a_tick(self.limits.close_timeout),
                closed,
            };
        } else {
            closed.clean = true; // There is nothing that the peer could still say to it.
            self.end(closed);
        }
    }

    /// Enters the last state and gives back what an unfinished message held.
    fn end(&mut self, closed: Box<Closed>) {
        self.state = State::Closed(closed);
        self.assembler = Assembler::default();
        self.decoder = Decoder::new(self.version, !self.gear.is_client());
        self.gear.set_deflate(None);
    }

    /// Appends a close frame; without a code it is empty.
    fn send_close(&mut self, code: Option<CloseCode>, reason: &str, out: &mut Output) {
        match self.version.framing() {
            Framing::Hybi => {
                let mut payload = Vec::new();
                if let Some(code) = code {
                    payload.extend_from_slice(&code.get().to_be_bytes());
                    payload.extend_from_slice(reason.as_bytes());
                }
                self.send_control(Control::Close, &payload, out);
            }
            Framing::Hixie if self.version.has_closing_handshake() => {
                out.bytes.extend_from_slice(&hixie::CLOSE);
            }
            Framing::Hixie => {}
        }
    }

    fn send_control(&mut self, control: Control, payload: &[u8], out: &mut Output) {
        let key = self.gear.next_key();
        hybi::encode(Opcode::Control(control), payload, key, &mut out.bytes);
    }

    #[inline]
    fn admit(&self, binary: bool) -> Result<Framing, SendError> {
        if self.is_closing() {
            return Err(SendError::Closed);
        }
        if binary && !self.version.has_binary() {
            return Err(SendError::NoBinary);
        }
        Ok(self.version.framing())
    }

    fn hear(&mut self, now: Instant) {
        if let State::Open(keepalive) = &mut self.state {
            keepalive.hear(now);
        }
    }

    fn note_message(&mut self, now: Instant) {
        if let State::Open(keepalive) = &mut self.state {
            keepalive.note_message(now);
        }
    }

    fn take_pong(&mut self, now: Instant, payload: &[u8]) -> Option<Duration> {
        match &mut self.state {
            State::Open(keepalive) => keepalive.take_pong(now, payload),
            State::Closing { .. } | State::Closed(_) => None,
        }
    }
}

/// What one piece came to.
enum Step<'b> {
    Nothing,
    Event(Event<'b>),
}
