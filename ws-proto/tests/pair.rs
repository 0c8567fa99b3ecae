//! Two connections, two pipes, a made-up clock: whatever is said, cut, lost or delayed, what arrives is a prefix of what
//! was sent, and both sides come to an end in time. The seed is printed with every failure.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test, helpers too, a panic is a failure and what is printed is the seed"
)]

mod common;
mod oracles;

use common::{at, client, count_closes, feed, feed_into, server};
use std::collections::VecDeque;
use std::time::Duration;
use ws_proto::{CloseCode, Connection, Event, Instant, Limits, Message, Output, Version};

/// Random numbers that repeat. [Vigna, xorshift64*]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// One end, and the pipe that leads away from it.
struct End {
    connection: Connection,
    pipe: VecDeque<u8>,
    /// All that was ever sent.
    sent: Vec<u8>,
    said: Vec<Message<'static>>,
    heard: Vec<Message<'static>>,
    is_paused: bool,
}

impl End {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            pipe: VecDeque::new(),
            sent: Vec::new(),
            said: Vec::new(),
            heard: Vec::new(),
            is_paused: false,
        }
    }

    fn push(&mut self, out: &mut Output) {
        let bytes = out.take();
        self.sent.extend(&bytes);
        self.pipe.extend(bytes);
    }

    fn say(&mut self, now: Instant, random: &mut Random) {
        let length = match random.below(20) {
            0 => 70_000,
            1 => 30_000,
            2..8 => 126 + random.below(2_000),
            _ => random.below(125),
        };
        let message = if random.one_in(2) {
            Message::Text("aé日😀".chars().cycle().take(length / 3).collect())
        } else {
            Message::Binary((0..length).map(|i| i as u8).collect())
        };
        let mut out = Output::default();
        if self
            .connection
            .send(now, message.as_borrowed(), &mut out)
            .is_ok()
        {
            self.said.push(message);
        }
        self.push(&mut out);
    }

    fn hear(&mut self, now: Instant, bytes: &[u8], own_room: bool) {
        let mut out = Output::default();
        let feed = if own_room { feed_into } else { feed };
        for event in feed(&mut self.connection, now, bytes, &mut out) {
            if let Event::Message(message) = event {
                self.heard.push(message);
            }
        }
        self.push(&mut out);
    }

    fn tick(&mut self, now: Instant) {
        let mut out = Output::default();
        self.connection.handle_timeout(now, &mut out);
        assert!(self.connection.poll_timeout().is_none_or(|at| at > now));
        self.push(&mut out);
    }
}

struct Pair {
    ends: [End; 2],
    now: u64,
    /// Bytes that still come through, if the line is to break.
    line: Option<usize>,
}

impl Pair {
    fn open(version: Version) -> Self {
        let limits = Limits {
            max_message: 300_000,
            idle_timeout: Some(Duration::from_secs(60)),
            ..Limits::default()
        };
        let ends = [server(version, &limits), client(version, &limits)];
        Self {
            ends: ends.map(End::new),
            now: 0,
            line: None,
        }
    }

    /// Moves bytes from one end to the other; the end of the stream too.
    fn carry(&mut self, from: usize, count: usize, own_room: bool) {
        let [one, two] = &mut self.ends;
        let (from, to) = if from == 0 { (one, two) } else { (two, one) };
        if to.is_paused {
            return;
        }
        let count = count.min(from.pipe.len());
        let mut bytes: Vec<u8> = from.pipe.drain(..count).collect();
        if let Some(left) = &mut self.line {
            bytes.truncate(*left);
            *left -= bytes.len();
            if *left == 0 {
                to.hear(at(self.now), &bytes, own_room);
                return; // Not even the end comes through.
            }
        }
        to.hear(at(self.now), &bytes, own_room);
        if from.pipe.is_empty() && from.connection.closed().is_some() {
            to.connection.handle_eof(at(self.now));
        }
    }

    fn advance(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        for end in &mut self.ends {
            end.tick(at(self.now));
        }
    }

    fn act(&mut self, random: &mut Random) {
        let who = random.below(2);
        let now = at(self.now);
        let end = &mut self.ends[who];
        match random.below(40) {
            0..12 => end.say(now, random),
            12..34 => {
                let count = [1, 7, 100, 5_000, 200_000][random.below(5)];
                self.carry(who, count, random.one_in(2));
            }
            34 => {
                end.is_paused = true;
                end.connection.pause(now);
            }
            35 => {
                end.is_paused = false;
                end.connection.resume(now);
            }
            36 if random.one_in(8) => {
                let mut out = Output::default();
                end.connection
                    .close(now, CloseCode::GOING_AWAY, "enough", &mut out);
                end.push(&mut out);
            }
            37 if random.one_in(8) && self.line.is_none() => {
                self.line = Some(random.below(10_000));
            }
            _ => self.advance(1 << random.below(13)),
        }
    }

    fn check(&self, version: Version) {
        let [one, two] = &self.ends;
        for (from, to) in [(one, two), (two, one)] {
            assert!(from.said.starts_with(&to.heard), "heard what was not said");
            assert!(to.connection.memory() <= 400_000);
            assert!(count_closes(version, &from.sent) <= 1);
        }
    }

    fn finish(&mut self, version: Version, random: &mut Random) {
        let lossless = self.line.is_none();
        for end in &mut self.ends {
            end.is_paused = false;
            end.connection.resume(at(self.now));
        }
        for _ in 0..200 {
            for who in [0, 1] {
                self.carry(who, 1 << 20, random.one_in(2));
            }
            self.advance(1_000);
        }
        self.check(version);
        for end in &self.ends {
            assert!(end.connection.closed().is_some(), "not at an end");
        }
        // Where both agreed to close, each has heard the other out. 75 cannot agree.
        let agreed = self
            .ends
            .iter()
            .all(|end| end.connection.closed().is_some_and(|closed| closed.clean));
        if lossless && agreed && version.has_closing_handshake() {
            let [one, two] = &self.ends;
            assert!(one.said == two.heard && two.said == one.heard, "a hole");
        }
    }
}

#[test]
fn whatever_happens_prefixes_arrive_and_both_sides_come_to_an_end() {
    for version in Version::ALL {
        for seed in 1..=60 {
            println!("{version}, seed {seed}");
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
            let mut pair = Pair::open(version);
            for _ in 0..150 {
                pair.act(&mut random);
            }
            pair.check(version);
            pair.finish(version, &mut random);
        }
    }
}

#[test]
fn whole_conversations_come_to_an_end_whatever_is_lost_and_wherever() {
    for version in Version::ALL {
        for seed in 1..=400 {
            println!("{version}, seed {seed}");
            let mut random = oracles::Random::new(seed);
            let length = random.below(600);
            let plan: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            oracles::operations::operations_in(version, &plan);
        }
    }
}

/// Loses either end, or the line, at every single byte of a conversation, the handshake included.
#[test]
fn every_byte_can_be_the_last() {
    for version in Version::ALL {
        for is_server in [true, false] {
            for ends in [true, false] {
                let mut after = 0;
                while oracles::operations::lose_after(version, is_server, ends, after) {
                    after += 1;
                }
                assert!(after > 200, "only {after} bytes");
            }
        }
    }
}

#[test]
fn on_a_good_line_everything_arrives_in_order() {
    for version in Version::ALL {
        let mut random = Random(7);
        let mut pair = Pair::open(version);
        for _ in 0..200 {
            let who = random.below(2);
            pair.ends[who].say(at(pair.now), &mut random);
            let count = random.below(9_000);
            pair.carry(random.below(2), count, random.one_in(2));
            pair.advance(10);
        }
        for who in [0, 1] {
            pair.carry(who, usize::MAX, false);
        }
        let [one, two] = &pair.ends;
        assert!(one.said == two.heard && two.said == one.heard, "{version}");
        assert!(!one.connection.is_closing() && !two.connection.is_closing());
    }
}

#[test]
fn heartbeats_keep_two_silent_ends_alive() {
    let mut pair = Pair::open(Version::Rfc6455);
    for _ in 0..590 {
        pair.advance(100);
        pair.carry(0, 100, false);
        pair.carry(1, 100, false);
    }
    assert!(pair.ends.iter().all(|end| !end.connection.is_closing()));
    assert!(!pair.ends[0].sent.is_empty());
    pair.advance(1_000); // Pings are no messages.
    assert!(pair.ends.iter().any(|end| end.connection.is_closing()));
}
