//! What is remembered of a client in single bits. Knows only them.

/// What is remembered of a client, a bit each: what hinders it is seen by one look at several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags(u16);

impl Flags {
    /// Edge-triggered: set by an event, cleared by `WouldBlock` and by a short read.
    pub(crate) const READABLE: Self = Self(1 << 0);
    /// The event said that the peer's end or an error is in the stream: read on to it.
    pub(crate) const HANGUP: Self = Self(1 << 1);
    /// It stands in the queue for another turn.
    pub(crate) const QUEUED: Self = Self(1 << 2);
    /// Its handler paused it.
    pub(crate) const PAUSED: Self = Self(1 << 3);
    /// Its output is over the high mark and not yet below the low one.
    pub(crate) const BLOCKED: Self = Self(1 << 4);
    /// The memory budget stops it.
    pub(crate) const STARVED: Self = Self(1 << 5);
    /// The connection was told to suspend its deadlines.
    pub(crate) const SUSPENDED: Self = Self(1 << 6);
    /// The socket failed: nothing can be written any more.
    pub(crate) const BROKEN: Self = Self(1 << 7);
    /// The peer's stream has ended.
    pub(crate) const EOF: Self = Self(1 << 8);
    /// It was open, and its handler knows.
    pub(crate) const OPENED: Self = Self(1 << 9);
    /// Its deadline stands in the wheel and can only move away: see [`Client::is_calm`](super::Client::is_calm).
    pub(crate) const CALM: Self = Self(1 << 10);
    /// Its messages may come compressed.
    pub(crate) const DEFLATES: Self = Self(1 << 11);
    /// It has room for context takeover, which is to be given back.
    pub(crate) const HAS_CONTEXT: Self = Self(1 << 12);
    /// Since its accounts were settled something came that was no whole message: it may hold some of it.
    pub(crate) const PIECES: Self = Self(1 << 13);
    /// Something was to be written once that the socket did not take: the loop is told when it takes bytes again.
    pub(crate) const WATCHED: Self = Self(1 << 14);
    /// Its messages wait.
    pub(crate) const STOPPED: Self = Self(Self::PAUSED.0 | Self::BLOCKED.0);
    /// It may have to be paused or let go on.
    pub(crate) const HINDERED: Self = Self(Self::STOPPED.0 | Self::STARVED.0 | Self::SUSPENDED.0);

    /// It may be hindered, has more to read, or holds some of what was read.
    pub(crate) const UNSETTLED: Self = Self(Self::HINDERED.0 | Self::READABLE.0 | Self::PIECES.0);

    /// What says how it is to be served.
    pub(crate) const CALLED: Self = Self(Self::UNSETTLED.0 | Self::CALM.0 | Self::BROKEN.0);

    /// Returns these and those.
    pub(crate) const fn and(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// Returns whether of `among` exactly `expected` are set.
    #[inline]
    pub(crate) const fn are(self, among: Self, expected: Self) -> bool {
        self.0 & among.0 == expected.0
    }

    /// Returns whether any of these is set.
    #[inline]
    pub(crate) const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    #[inline]
    pub(crate) const fn set(&mut self, flag: Self, on: bool) {
        if on {
            self.0 |= flag.0;
        } else {
            self.0 &= !flag.0;
        }
    }

    /// Sets it if `on`; otherwise it stays.
    #[inline]
    pub(crate) const fn raise(&mut self, flag: Self, on: bool) {
        self.0 |= if on { flag.0 } else { 0 };
    }

    /// Clears it; returns whether it was set.
    pub(crate) const fn take(&mut self, flag: Self) -> bool {
        let was = self.has(flag);
        self.set(flag, false);
        was
    }
}
