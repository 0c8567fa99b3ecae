//! What a client has not taken yet: segments, owned or shared, written by reference in one call.
//! Knows marks and progress, and nothing of frames.

use crate::stream::Stream;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use ws_proto::{Framed, Instant, Message, Output};

/// Unsent bytes above which a client is not read.
pub(crate) const HIGH_MARK: usize = 64 * 1024;
/// Unsent bytes below which it is read again.
const LOW_MARK: usize = 16 * 1024;
/// Slices a vectored write takes at most.
const SLICES: usize = 32;

#[derive(Debug)]
enum Segment {
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Fixed(&'static [u8]),
}

impl Segment {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Fixed(bytes) => bytes,
        }
    }
}

/// Segments that wait, on the heap only while there are any.
#[derive(Debug)]
struct Backlog {
    segments: VecDeque<Segment>,
    /// How much of the first is gone.
    offset: usize,
    /// All that is left.
    len: usize,
    /// When bytes last left, or when there were none.
    progress: Instant,
    /// Edge-triggered: set by an event, cleared by `WouldBlock` and by a write that was not all.
    writable: bool,
}

impl Backlog {
    /// Begins with nothing, behind a socket that has no room.
    fn new(now: Instant) -> Self {
        Self {
            segments: VecDeque::with_capacity(4),
            offset: 0,
            len: 0,
            progress: now,
            writable: false,
        }
    }
}

/// Takes a socket without room for one that took nothing.
fn or_nothing(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

/// The way out of one client. The socket is taken to have room until it says otherwise; then there is a backlog.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    backlog: Option<Box<Backlog>>,
}

impl Outbound {
    /// Begins with a socket that takes nothing.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn full(now: Instant) -> Self {
        Self {
            backlog: Some(Box::new(Backlog::new(now))),
        }
    }

    /// Notes that the socket has room again; returns whether anything waits for it.
    #[inline]
    pub(crate) fn note_writable(&mut self) -> bool {
        if let Some(backlog) = &mut self.backlog {
            backlog.writable = true;
        }
        self.backlog.is_some()
    }

    /// Returns whether anything waits.
    #[inline]
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog.is_some()
    }

    /// Returns how many bytes wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.len)
    }

    /// Returns whether the peer takes so little that it should not be read.
    pub(crate) fn is_above_high_mark(&self) -> bool {
        self.len() > HIGH_MARK
    }

    /// Returns whether it may be read again.
    pub(crate) fn is_below_low_mark(&self) -> bool {
        self.len() <= LOW_MARK
    }

    /// Returns since when nothing left, if something waits.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.backlog.as_ref().map(|backlog| backlog.progress)
    }

    /// Writes the turn's output after what waits; what the socket does not take waits. Whatever comes of it, `out` is
    /// empty afterwards: the next client's bytes go there.
    #[inline(always)]
    pub(crate) fn flush(
        &mut self,
        now: Instant,
        stream: &mut Stream,
        out: &mut Output,
    ) -> io::Result<()> {
        if self.backlog.is_none() {
            if out.is_empty() {
                return Ok(());
            }
            let written = stream.write(out.as_slice());
            if matches!(written, Ok(count) if count == out.len()) {
                out.clear(KEEP);
                return Ok(());
            }
            return self.keep_rest(now, out, written);
        }
        self.flush_behind(now, stream, out)
    }

    /// Keeps what a write left of the output.
    #[inline(never)]
    fn keep_rest(
        &mut self,
        now: Instant,
        out: &mut Output,
        written: io::Result<usize>,
    ) -> io::Result<()> {
        let kept = match written {
            Ok(count) => {
                let rest = out.as_slice().get(count..).unwrap_or_default();
                self.push(now, Segment::Owned(rest.to_vec()), 0);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.push(now, Segment::Owned(out.as_slice().to_vec()), 0);
                Ok(())
            }
            Err(error) => Err(error),
        };
        out.clear(KEEP);
        kept
    }

    /// Puts the output behind what waits, and writes both as far as the socket takes them.
    #[inline(never)]
    fn flush_behind(
        &mut self,
        now: Instant,
        stream: &mut Stream,
        out: &mut Output,
    ) -> io::Result<()> {
        if !out.is_empty() {
            self.push(now, Segment::Owned(out.as_slice().to_vec()), 0);
            out.clear(KEEP);
        }
        self.drain(now, stream)
    }

    /// Writes the turn's output and a large message behind it in one call, from where the payload lies. Like
    /// [`flush`](Self::flush) it leaves `out` empty.
    pub(crate) fn write_framed(
        &mut self,
        now: Instant,
        stream: &mut Stream,
        out: &mut Output,
        framed: &Framed,
        message: Message<'_>,
    ) -> io::Result<()> {
        if self.backlog.is_some() {
            self.flush(now, stream, out)?;
        }
        let (head, tail) = (framed.head(), framed.tail());
        let mut written = 0;
        if self.backlog.is_none() {
            let slices = [
                IoSlice::new(out.as_slice()),
                IoSlice::new(head),
                IoSlice::new(message.payload()),
                IoSlice::new(tail),
            ];
            let total = out.len() + head.len() + message.payload().len() + tail.len();
            written =
                or_nothing(stream.write_vectored(&slices)).inspect_err(|_| out.clear(KEEP))?;
            if written == total {
                out.clear(KEEP);
                return Ok(());
            }
        }
        // What is left, piece by piece; an owned payload is moved and not copied.
        let mut skip = written;
        let mut front = Vec::with_capacity(out.len() + head.len());
        front.extend_from_slice(out.as_slice());
        front.extend_from_slice(head);
        out.clear(KEEP);
        skip = self.push_rest(now, Segment::Owned(front), skip);
        let payload = match message {
            Message::Text(text) => text.into_owned().into_bytes(),
            Message::Binary(bytes) => bytes.into_owned(),
        };
        skip = self.push_rest(now, Segment::Owned(payload), skip);
        self.push_rest(now, Segment::Fixed(tail), skip);
        Ok(())
    }

    /// Writes bytes that many clients share; what the socket does not take waits by reference.
    /// `joined` is all of `frames` one behind the other.
    pub(crate) fn write_shared(
        &mut self,
        now: Instant,
        stream: &mut Stream,
        joined: &[u8],
        frames: &[Arc<[u8]>],
    ) -> io::Result<()> {
        let mut skip = 0;
        if self.backlog.is_none() {
            skip = or_nothing(stream.write(joined))?;
            if skip == joined.len() {
                return Ok(());
            }
        }
        for frame in frames {
            skip = self.push_rest(now, Segment::Shared(Arc::clone(frame)), skip);
        }
        Ok(())
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn drain(&mut self, now: Instant, stream: &mut Stream) -> io::Result<()> {
        while let Some(backlog) = &mut self.backlog
            && backlog.writable
        {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut offered = 0;
            let mut count = 0;
            for (index, (slice, segment)) in slices.iter_mut().zip(&backlog.segments).enumerate() {
                let offset = if index == 0 { backlog.offset } else { 0 };
                let bytes = segment.as_slice().get(offset..).unwrap_or_default();
                *slice = IoSlice::new(bytes);
                offered += bytes.len();
                count = index + 1;
            }
            let written = match stream.write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    backlog.writable = false;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if written < offered {
                backlog.writable = false;
            }
            self.advance(now, written);
        }
        Ok(())
    }

    fn advance(&mut self, now: Instant, mut written: usize) {
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        if written > 0 {
            backlog.progress = now;
        }
        backlog.len = backlog.len.saturating_sub(written);
        while let Some(first) = backlog.segments.front() {
            let left = first.as_slice().len() - backlog.offset;
            if written < left {
                backlog.offset += written;
                return;
            }
            written -= left;
            backlog.offset = 0;
            backlog.segments.pop_front();
        }
        self.backlog = None;
    }

    /// Queues what remains of a segment after `skip` bytes of it went out; returns how much of `skip` lies beyond it.
    fn push_rest(&mut self, now: Instant, segment: Segment, skip: usize) -> usize {
        let len = segment.as_slice().len();
        if skip >= len {
            return skip - len;
        }
        self.push(now, segment, skip);
        0
    }

    fn push(&mut self, now: Instant, segment: Segment, offset: usize) {
        let left = segment.as_slice().len() - offset;
        if left == 0 {
            return;
        }
        let backlog = self
            .backlog
            .get_or_insert_with(|| Box::new(Backlog::new(now)));
        debug_assert!(
            offset == 0 || backlog.segments.is_empty(),
            "only the first segment is partly gone"
        );
        if backlog.segments.is_empty() {
            backlog.offset = offset;
        }
        // Small pieces of one slow client are joined, so that a flood of pongs, or of broadcasts of a few bytes, does not
        // become a flood of segments: each takes more than such a piece.
        let is_small = segment.as_slice().len() <= SMALL;
        match (backlog.segments.back_mut(), segment) {
            (Some(Segment::Owned(last)), more)
                if (is_small || matches!(more, Segment::Owned(_)))
                    && last.len() + more.as_slice().len() <= JOIN =>
            {
                last.extend_from_slice(more.as_slice());
            }
            (_, Segment::Shared(bytes)) if is_small => {
                backlog.segments.push_back(Segment::Owned(bytes.to_vec()));
            }
            (_, segment) => backlog.segments.push_back(segment),
        }
        backlog.len += left;
    }
}

/// Room that the loop's output keeps between turns.
pub(crate) const KEEP: usize = 128 * 1024;
/// Owned segments are joined up to this size.
const JOIN: usize = 16 * 1024;
/// Shared pieces up to this size are copied: a reference is worth it for more.
const SMALL: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use ws_proto::{Connection, Role, Version};

    fn pair() -> (Stream, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Stream::Unix(mio::net::UnixStream::from_std(ours)), theirs)
    }

    fn at(milliseconds: u64) -> Instant {
        Instant::at(milliseconds)
    }

    #[test]
    fn whatever_the_socket_takes_the_peer_reads_a_prefix_in_order() {
        let (mut stream, mut peer) = pair();
        let mut outbound = Outbound::default();
        let mut out = Output::default();
        let mut expected = Vec::new();
        let mut received = Vec::new();
        for round in 0_u32..200 {
            let bytes: Vec<u8> = (0..5000_u32).map(|i| (i * 7 + round) as u8).collect();
            match round % 3 {
                0 => {
                    out.extend_from_slice(&bytes);
                    outbound.flush(at(0), &mut stream, &mut out).unwrap();
                }
                1 => {
                    let frames: Vec<Arc<[u8]>> = bytes.chunks(1700).map(Arc::from).collect();
                    outbound
                        .write_shared(at(0), &mut stream, &bytes, &frames)
                        .unwrap();
                }
                _ => {
                    out.extend_from_slice(bytes.get(..10).unwrap());
                    let message = Message::Binary(bytes.get(10..).unwrap().to_vec().into());
                    let mut connection =
                        Connection::new(at(0), Version::Rfc6455, Role::Server, Arc::default());
                    let framed = connection.frame(at(0), &message).unwrap();
                    expected.extend_from_slice(bytes.get(..10).unwrap());
                    expected.extend_from_slice(framed.head());
                    expected.extend_from_slice(message.payload());
                    outbound
                        .write_framed(at(0), &mut stream, &mut out, &framed, message)
                        .unwrap();
                    continue;
                }
            }
            expected.extend_from_slice(&bytes);
            if round % 7 == 0 {
                let mut some = vec![0; 20_000];
                let count = peer.read(&mut some).unwrap();
                received.extend_from_slice(some.get(..count).unwrap());
                outbound.note_writable();
                outbound.drain(at(1), &mut stream).unwrap();
            }
        }
        peer.set_nonblocking(true).unwrap();
        while received.len() < expected.len() {
            outbound.note_writable();
            outbound.drain(at(2), &mut stream).unwrap();
            let mut some = vec![0; 65_536];
            let count = peer.read(&mut some).unwrap();
            received.extend_from_slice(some.get(..count).unwrap());
        }
        assert!(received == expected);
        assert_eq!(outbound.len(), 0);
    }

    #[test]
    fn broadcasts_of_a_few_bytes_wait_in_few_segments() {
        let (mut stream, _peer) = pair();
        let mut outbound = Outbound::full(at(0));
        let frame: Arc<[u8]> = Arc::from(&b"\x81\0"[..]);
        for _ in 0..50_000 {
            let frames = std::slice::from_ref(&frame);
            outbound
                .write_shared(at(0), &mut stream, &frame, frames)
                .unwrap();
        }
        assert_eq!(outbound.len(), 100_000);
        let segments = &outbound.backlog.as_ref().unwrap().segments;
        assert!(segments.len() <= 8, "{}", segments.len());
        assert_eq!(Arc::strong_count(&frame), 1);
    }

    #[test]
    fn what_a_broken_socket_did_not_take_is_left_for_nobody_else() {
        let mut out = Output::default();
        let (mut stream, peer) = pair();
        drop(peer);
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols");
        assert!(
            Outbound::default()
                .flush(at(0), &mut stream, &mut out)
                .is_err()
        );
        assert!(out.is_empty());
        out.extend_from_slice(b"pong");
        let mut connection = Connection::new(at(0), Version::Rfc6455, Role::Server, Arc::default());
        let message = Message::binary(&[0; 20_000]);
        let framed = connection.frame(at(0), &message).unwrap();
        assert!(
            Outbound::default()
                .write_framed(at(0), &mut stream, &mut out, &framed, message)
                .is_err()
        );
        assert!(out.is_empty());
    }

    #[test]
    fn a_peer_that_takes_nothing_is_stalled_since_the_last_progress() {
        let (mut stream, _peer) = pair();
        let mut outbound = Outbound::default();
        let mut out = Output::default();
        assert_eq!(outbound.stalled_since(), None);
        out.extend_from_slice(&vec![0; 4_000_000]);
        outbound.flush(at(5), &mut stream, &mut out).unwrap();
        assert_eq!(outbound.stalled_since(), Some(at(5)));
        assert!(outbound.is_above_high_mark() && !outbound.is_below_low_mark());
        outbound.note_writable();
        outbound.drain(at(9), &mut stream).unwrap();
        assert_eq!(outbound.stalled_since(), Some(at(5)));
    }
}
