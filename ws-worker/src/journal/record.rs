//! What stands in the journal: the file's head and its records, each with its length and a checksum, as bytes and back.
//! Pure; knows neither files nor who is owed what.

use crate::command::SocketId;
use std::sync::Arc;

/// What every journal begins with: a name, a version, and their checksum.
pub(crate) const HEAD: usize = 24;
const NAME: &[u8; 18] = b"ws-worker journal\n";
/// The only version there is. Another one is left alone.
const VERSION: u16 = 1;
/// Flipped bits after which a head is still taken for ours.
const MAX_FLIPPED: u32 = 8;
/// Length and checksum before a record's body.
const FRAME: usize = 8;
/// A kind and a socket's id: no body is shorter.
const MIN_BODY: usize = 25;
/// A head of the largest size that can be configured would not fill this; 64 MiB.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// Something that the journal remembers of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: SocketId,
    pub(crate) what: What,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The app is about to be asked whether it may come in: from now on a closed may be owed.
    Opening(Opening),
    /// Subprotocol and meta are now these header lines.
    Changed(Box<[u8]>),
    /// It is gone.
    Ended(End),
    /// The app is about to be told, for the last of these attempts at most.
    Telling(Telling),
    /// Nothing is owed any more.
    Settled,
}

/// What a closed hook says about a socket from its handshake on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The path of its route.
    pub(crate) route: Arc<str>,
    /// Path, query and header lines, in one piece.
    pub(crate) text: Arc<[u8]>,
    /// Where the path ends.
    pub(crate) path: u32,
    /// Where the query ends.
    pub(crate) query: u32,
}

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) clean: bool,
    pub(crate) code: Option<u16>,
    pub(crate) reason: Box<str>,
    /// Whoever ended it, as a number of the caller's.
    pub(crate) by: u8,
}

/// What the app may have heard already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Telling {
    /// Attempts that were made or are about to be, at most.
    pub(crate) attempts: u32,
    /// Messages without an answer, where that is known.
    pub(crate) undelivered: Option<u64>,
}

/// Why bytes are not read as a journal, and not overwritten either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOurs {
    /// Another program's file.
    Foreign,
    /// A journal of a version that is not known here.
    Version(u16),
}

/// Returns the head of a new journal.
pub(crate) fn head() -> [u8; HEAD] {
    head_of(VERSION)
}

fn head_of(version: u16) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let (signed, checksum) = head.split_at_mut(HEAD - 4);
    let (name, number) = signed.split_at_mut(NAME.len());
    name.copy_from_slice(NAME);
    number.copy_from_slice(&version.to_le_bytes());
    checksum.copy_from_slice(&crc32fast::hash(signed).to_le_bytes());
    head
}

/// Looks at a file's first bytes. Cut short, zeroed by a crash of the machine or with a few flipped bits it is ours; a
/// file that merely has the same name is not.
///
/// # Errors
/// The operator's: something else lies there.
pub(crate) fn judge(bytes: &[u8]) -> Result<(), NotOurs> {
    let start = bytes.get(..HEAD).unwrap_or(bytes);
    let ours = head();
    let flipped: u32 = start
        .iter()
        .zip(&ours)
        .map(|(found, wanted)| (found ^ wanted).count_ones())
        .sum();
    if flipped <= MAX_FLIPPED.min(start.len() as u32) || start.iter().all(|byte| *byte == 0) {
        return match version(start) {
            Some(version) if version != VERSION => Err(NotOurs::Version(version)),
            Some(_) | None => Ok(()),
        };
    }
    Err(version(start).map_or(NotOurs::Foreign, NotOurs::Version))
}

/// Returns the version that an undamaged head names.
fn version(start: &[u8]) -> Option<u16> {
    let number = start.get(NAME.len()..)?.first_chunk()?;
    let version = u16::from_le_bytes(*number);
    (start == head_of(version)).then_some(version)
}

/// Reads records from the bytes behind a head until they end or are damaged.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes of whole records so far.
    pub(crate) read: usize,
    /// The checksum of all of them.
    pub(crate) chain: u32,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            read: 0,
            chain: 0,
        }
    }

    fn read(&mut self) -> Option<Record> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*length) as usize;
        if !(MIN_BODY..=MAX_BODY).contains(&size) {
            return None;
        }
        let (body, rest) = rest.split_at_checked(size)?;
        let chain = link(self.chain, *length, body);
        if chain != u32::from_le_bytes(*checksum) {
            return None;
        }
        let record = decode(body)?;
        self.chain = chain;
        self.rest = rest;
        self.read += FRAME + size;
        Some(record)
    }
}

impl Iterator for Reader<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.read()
    }
}

/// A record's checksum covers all records before it. So bytes of an older, failed write that happen to lie behind a good
/// record are never taken for the next one.
fn link(chain: u32, length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(chain);
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

/// Bytes of a record that says nothing but its kind and its socket.
pub(crate) const BARE: usize = FRAME + MIN_BODY;
const OPENING: u8 = 1;
const CHANGED: u8 = 2;
const ENDED: u8 = 3;
const TELLING: u8 = 4;
const SETTLED: u8 = 5;
/// Stands for a number that is not known.
const UNKNOWN: u64 = u64::MAX;

impl Record {
    /// Appends the record, as it follows on what has this checksum, and moves the checksum on.
    pub(crate) fn encode(&self, chain: &mut u32, out: &mut Vec<u8>) {
        encode(self.id, &self.what, chain, out);
    }
}

/// As [`Record::encode`], of parts.
pub(crate) fn encode(id: SocketId, what: &What, chain: &mut u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    out.push(what.kind());
    out.extend_from_slice(&id.to_bytes());
    match what {
        What::Opening(opening) => {
            push_bytes(out, opening.route.as_bytes());
            out.extend_from_slice(&opening.path.to_le_bytes());
            out.extend_from_slice(&opening.query.to_le_bytes());
            out.extend_from_slice(&opening.text);
        }
        What::Changed(lines) => out.extend_from_slice(lines),
        What::Ended(end) => {
            out.extend_from_slice(&[u8::from(end.clean), end.by]);
            out.extend_from_slice(&end.code.unwrap_or(0).to_le_bytes());
            out.extend_from_slice(end.reason.as_bytes());
        }
        What::Telling(telling) => {
            out.extend_from_slice(&telling.attempts.to_le_bytes());
            out.extend_from_slice(&telling.undelivered.unwrap_or(UNKNOWN).to_le_bytes());
        }
        What::Settled => {}
    }
    let Some((frame, body)) = out
        .get_mut(start..)
        .and_then(<[u8]>::split_first_chunk_mut::<FRAME>)
    else {
        return; // It was put there above.
    };
    // A body is bounded by the head and the meta that are read into memory: far below 4 GiB.
    let length = (body.len() as u32).to_le_bytes();
    *chain = link(*chain, length, body);
    let (first, second) = frame.split_at_mut(4);
    first.copy_from_slice(&length);
    second.copy_from_slice(&chain.to_le_bytes());
}

impl What {
    const fn kind(&self) -> u8 {
        match self {
            Self::Opening(_) => OPENING,
            Self::Changed(_) => CHANGED,
            Self::Ended(_) => ENDED,
            Self::Telling(_) => TELLING,
            Self::Settled => SETTLED,
        }
    }

    /// Returns how many bytes its record has.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Opening(opening) => opening.size(),
            Self::Changed(lines) => BARE + lines.len(),
            Self::Ended(end) => end.size(),
            Self::Telling(_) => Telling::SIZE,
            Self::Settled => BARE,
        }
    }
}

impl Opening {
    /// Returns how many bytes its record has.
    pub(crate) fn size(&self) -> usize {
        BARE + 12 + self.route.len() + self.text.len()
    }
}

impl End {
    /// Returns how many bytes its record has.
    pub(crate) fn size(&self) -> usize {
        BARE + 4 + self.reason.len()
    }
}

impl Telling {
    /// Bytes of its record.
    pub(crate) const SIZE: usize = BARE + 12;
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn decode(body: &[u8]) -> Option<Record> {
    let (kind, rest) = body.split_first()?;
    let (id, rest) = rest.split_first_chunk::<24>()?;
    let what = match *kind {
        OPENING => {
            let (length, rest) =
                number::<4>(rest).map(|(n, rest)| (u32::from_le_bytes(n), rest))?;
            let (route, rest) = rest.split_at_checked(length as usize)?;
            let (path, rest) = number::<4>(rest)?;
            let (query, text) = number::<4>(rest)?;
            What::Opening(Opening {
                route: std::str::from_utf8(route).ok()?.into(),
                path: u32::from_le_bytes(path),
                query: u32::from_le_bytes(query),
                text: text.into(),
            })
        }
        CHANGED => What::Changed(rest.into()),
        ENDED => {
            let ([clean, by], rest) = number::<2>(rest)?;
            let (code, reason) = number::<2>(rest)?;
            What::Ended(End {
                clean: clean != 0,
                code: Some(u16::from_le_bytes(code)).filter(|code| *code != 0),
                reason: std::str::from_utf8(reason).ok()?.into(),
                by,
            })
        }
        TELLING => {
            let (attempts, rest) = number::<4>(rest)?;
            let undelivered = u64::from_le_bytes(rest.try_into().ok()?);
            What::Telling(Telling {
                attempts: u32::from_le_bytes(attempts),
                undelivered: Some(undelivered).filter(|count| *count != UNKNOWN),
            })
        }
        SETTLED if rest.is_empty() => What::Settled,
        _ => return None,
    };
    Some(Record {
        id: SocketId::from_bytes(*id),
        what,
    })
}

fn number<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes
        .split_first_chunk::<N>()
        .map(|(number, rest)| (*number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_known_cut_zeroed_and_with_a_flipped_bit() {
        let head = head();
        for cut in 0..=HEAD {
            assert_eq!(judge(head.get(..cut).unwrap()), Ok(()), "{cut}");
        }
        assert_eq!(judge(&[0; 4096]), Ok(()));
        for bit in 0..HEAD * 8 {
            let mut damaged = head;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(judge(&damaged), Ok(()), "{bit}");
        }
    }

    #[test]
    fn what_is_no_journal_is_left_alone() {
        for other in [
            &b"root:x:0:0:root:/root:/bin/bash\n"[..],
            b"#!/bin/sh\n",
            b"{}",
            b"\x7fELF\x02\x01\x01\x00",
            b"SQLite format 3\0",
        ] {
            assert_eq!(judge(other), Err(NotOurs::Foreign), "{other:?}");
        }
        assert_eq!(judge(&head_of(2)), Err(NotOurs::Version(2)));
        assert_eq!(judge(&head_of(0x4321)), Err(NotOurs::Version(0x4321)));
    }

    #[test]
    fn a_record_has_the_size_it_says() {
        let id = SocketId::from_bytes([7; 24]);
        let (mut out, mut chain) = (Vec::new(), 0);
        for what in [
            What::Opening(Opening {
                route: "/chat".into(),
                text: b"path?query\r\nWs-Socket: x".as_slice().into(),
                path: 4,
                query: 10,
            }),
            What::Changed(b"Ws-Meta-A: b\r\n".as_slice().into()),
            What::Ended(End {
                clean: true,
                code: None,
                reason: "gr\u{fc}\u{df}e".into(),
                by: 2,
            }),
            What::Telling(Telling {
                attempts: 3,
                undelivered: None,
            }),
            What::Settled,
        ] {
            out.clear();
            let before = chain;
            encode(id, &what, &mut chain, &mut out);
            assert_eq!(out.len(), what.size());
            let mut reader = Reader::new(&out);
            reader.chain = before;
            assert_eq!(reader.next(), Some(Record { id, what }));
            assert_eq!((reader.read, reader.chain), (out.len(), chain));
        }
    }
}
