//! The app of a simulation: takes requests as they come in pieces, does by chance what apps do, and writes down what it saw and
//! which of its answers were there to be heard.

use super::fastcgi::{self, Request};
use super::net::{Calls, Ending};
use super::{Event, HOUSES, World};
use std::collections::HashMap;
use ws_proto::Instant;

/// An answer that is understood and too large: the next would be no better.
pub(super) const TOO_MUCH: u16 = 999;

/// One request, as the app saw it.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) event: String,
    pub(super) socket: String,
    pub(super) key: String,
    pub(super) attempt: u32,
    /// `None` if the app answered before it had all of it.
    pub(super) body: Option<Vec<u8>>,
    pub(super) undelivered: Option<u64>,
    /// How the socket ended.
    pub(super) end: String,
    /// Which life of the worker said it, and under which of the files that were read.
    pub(super) life: usize,
    pub(super) generation: usize,
    /// Where it came, and which file was the last when it did.
    pub(super) house: usize,
    pub(super) newest: usize,
    pub(super) at: Instant,
    /// The status, once the whole answer was there for the worker to read, and when.
    pub(super) heard: Option<(u16, Instant)>,
    pub(super) echoes: bool,
    /// Seconds of a `Retry-After`.
    pub(super) asks: Option<u64>,
}

impl Hook {
    pub(super) fn status(&self) -> Option<u16> {
        self.heard.map(|(status, _)| status)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Bytes(Vec<u8>),
    End(Ending),
    /// All that this hook's answer takes is there.
    Heard(usize, u16),
    /// Another request may come.
    Free,
}

/// What an app may do with a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Right,
    Status(u16),
    RetryAfter,
    OfOld,
    Chunked,
    Closes,
    Cut,
    Resets,
    Silent,
    Garbage,
    TooMuch,
}

const SICK: [Deed; 12] = [
    Deed::Status(503),
    Deed::Status(500),
    Deed::Status(429),
    Deed::RetryAfter,
    Deed::Cut,
    Deed::Resets,
    Deed::Silent,
    Deed::Garbage,
    Deed::Status(404),
    Deed::Status(301),
    Deed::Status(101),
    Deed::TooMuch,
];
/// After these the worker tries again.
const PASSING: usize = 8;
const WELL: [Deed; 5] = [
    Deed::Right,
    Deed::Right,
    Deed::OfOld,
    Deed::Chunked,
    Deed::Closes,
];

impl World {
    /// Looks at what came on a line; a whole request is answered.
    pub(super) fn look(&mut self, line: usize) {
        let (bytes, is_over, house) = {
            let net = self.net.borrow();
            let line = &net.lines[line];
            let is_over = line.end.is_some() || line.is_busy;
            (line.to_app[line.looked..].to_vec(), is_over, line.house)
        };
        let is_fastcgi = self.file.speaks_fastcgi(house);
        if is_over {
            return;
        }
        let request = if is_fastcgi {
            fastcgi::request(&bytes)
        } else {
            http(&bytes)
        };
        let Some(request) = request else {
            // Now and then it hangs up on half a head.
            if !bytes.is_empty() && self.is_sick() && self.chance(3) {
                self.net.borrow_mut().end(line, Ending::Reset);
            }
            return;
        };
        let Request {
            fields,
            body: whole,
            used,
            keeps,
        } = request;
        if whole.is_none() && !(self.is_sick() && self.chance(10)) {
            return;
        }
        assert!(
            whole.is_none() || bytes.len() == used,
            "one request at a time"
        );
        if is_fastcgi && self.is_sick() && self.chance(10) {
            // It has too much to do: it has not looked at this one, nor does its log.
            trace!(self, "app: overloaded on line {line}");
            let mut net = self.net.borrow_mut();
            net.lines[line].is_busy = true;
            net.lines[line]
                .to_pool
                .extend(fastcgi::end(fastcgi::OVERLOADED));
            net.edge(line, true, false);
            net.end(line, Ending::Fin);
            return;
        }
        let field = |name: &str| fields.get(name).map(String::as_str);
        let hook = Hook {
            event: fields["ws-event"].clone(),
            socket: field("ws-socket").unwrap_or("").to_owned(),
            key: fields["idempotency-key"].clone(),
            attempt: field("ws-attempt").map_or(1, |n| n.parse().unwrap()),
            undelivered: field("ws-undelivered").map(|n| n.parse().unwrap()),
            end: [
                "ws-close-code",
                "ws-close-reason",
                "ws-clean",
                "ws-closed-by",
            ]
            .map(|name| field(name).unwrap_or("-"))
            .join(" "),
            life: fields["ws-boot"]["BOOT".len()..].parse().unwrap(),
            generation: fields["ws-worker"]["web".len()..].parse().unwrap(),
            house,
            newest: self.history.len() - 1,
            at: self.now,
            heard: None,
            echoes: false,
            asks: None,
            body: whole,
        };
        let is_whole = hook.body.is_some();
        {
            let mut net = self.net.borrow_mut();
            net.lines[line].looked += bytes.len();
            net.lines[line].is_busy = true;
        }
        trace!(
            self,
            "app: {} attempt {} on line {line} of house {house}", hook.key, hook.attempt
        );
        self.hooks.push(hook);
        self.answer(self.hooks.len() - 1, line, is_whole, keeps);
    }

    pub(super) fn is_sick(&self) -> bool {
        self.sickness > 0
    }

    fn answer(&mut self, hook: usize, line: usize, is_whole: bool, keeps: bool) {
        let is_fastcgi = self.file.speaks_fastcgi(self.hooks[hook].house);
        let sickness = self.sickness;
        let deed = if self.chance(sickness) {
            let choices = if self.only_passing {
                PASSING
            } else {
                SICK.len()
            };
            SICK[self.below(choices as u64) as usize]
        } else {
            WELL[self.below(WELL.len() as u64) as usize]
        };
        let deed = match deed {
            Deed::OfOld | Deed::Chunked | Deed::Closes if is_fastcgi => Deed::Right,
            deed => deed,
        };
        let echo = self.hooks[hook].event == "message" && is_whole;
        self.hooks[hook].echoes = echo
            && matches!(
                deed,
                Deed::Right | Deed::OfOld | Deed::Chunked | Deed::Closes
            );
        let body = if self.hooks[hook].echoes {
            self.hooks[hook].body.clone().unwrap_or_default()
        } else {
            Vec::new()
        };
        let to = if self.hooks[hook].echoes {
            "Ws-To: self\r\n"
        } else {
            ""
        };
        let length = body.len();
        let (head, tail, ends) = match deed {
            Deed::Right => (
                format!("HTTP/1.1 200 OK\r\n{to}Content-Length: {length}\r\n\r\n"),
                "",
                false,
            ),
            Deed::Closes => (
                format!(
                    "HTTP/1.1 200 OK\r\n{to}Connection: close\r\nContent-Length: {length}\r\n\r\n"
                ),
                "",
                true,
            ),
            Deed::OfOld => (format!("HTTP/1.0 200 OK\r\n{to}\r\n"), "", true),
            Deed::Chunked if length > 0 => (
                format!("HTTP/1.1 200 OK\r\n{to}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n"),
                "\r\n0\r\n\r\n",
                false,
            ),
            Deed::Chunked => (
                format!("HTTP/1.1 200 OK\r\n{to}Transfer-Encoding: chunked\r\n\r\n"),
                "0\r\n\r\n",
                false,
            ),
            Deed::RetryAfter => {
                let asks = self.below(40);
                self.hooks[hook].asks = Some(asks);
                (
                    format!("HTTP/1.1 503 X\r\nRetry-After: {asks}\r\nContent-Length: 0\r\n\r\n"),
                    "",
                    false,
                )
            }
            Deed::Status(101) => ("HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n".to_owned(), "", true),
            Deed::Status(status) => (
                format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"),
                "",
                false,
            ),
            Deed::Cut | Deed::Resets => (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
                "",
                true,
            ),
            Deed::Garbage => ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "", true),
            Deed::TooMuch => (
                format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(70_000)),
                "",
                true,
            ),
            Deed::Silent => (String::new(), "", false),
        };
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(tail.as_bytes());
        let ends = ends || !keeps;
        if is_fastcgi && !matches!(deed, Deed::Garbage | Deed::Silent) {
            bytes = fastcgi::answer(&bytes, deed != Deed::TooMuch);
        }
        let status = match deed {
            Deed::Right | Deed::Closes | Deed::OfOld | Deed::Chunked => Some(200),
            Deed::RetryAfter => Some(503),
            Deed::Status(status) => Some(status),
            Deed::TooMuch => Some(TOO_MUCH),
            Deed::Cut | Deed::Resets | Deed::Silent | Deed::Garbage => None,
        };
        let mut ending = (ends && deed != Deed::Silent).then_some(Ending::Fin);
        match deed {
            Deed::Cut => {
                let short = self.below(bytes.len() as u64) as usize;
                bytes.truncate(short);
            }
            Deed::Resets => {
                let short = self.below(bytes.len() as u64) as usize;
                bytes.truncate(short);
                ending = Some(Ending::Reset);
            }
            _ => {}
        }
        let mut steps = Vec::new();
        // In one piece, or in many.
        let needs_its_end = deed == Deed::OfOld; // Whatever ends it then is its end: it comes at once.
        let is_one = needs_its_end || deed == Deed::TooMuch; // Nobody hears it out.
        let pieces = if is_one || self.chance(70) {
            1
        } else {
            1 + self.below(5) as usize
        };
        for piece in bytes.chunks((bytes.len() / pieces).max(1)) {
            steps.push(Step::Bytes(piece.to_vec()));
        }
        let heard = status.map(|status| Step::Heard(hook, status));
        if !needs_its_end {
            steps.extend(heard.clone());
        }
        steps.extend(ending.map(Step::End));
        if needs_its_end {
            steps.extend(heard);
        }
        if ending.is_none() && deed != Deed::Silent {
            steps.push(Step::Free);
            if !is_whole {
                // What it has not read would be another request.
                steps.push(Step::End(Ending::Reset));
            } else if self.chance(self.fickle) {
                steps.push(Step::End(if self.chance(50) {
                    Ending::Fin
                } else {
                    Ending::Reset
                }));
            }
        }
        steps.reverse();
        let first = self.slowness();
        self.later(first, Event::App(line, steps));
    }

    /// How long an app takes: mostly at once, sometimes longer than anybody waits.
    fn slowness(&mut self) -> u64 {
        match self.below(20) {
            0..14 => self.below(5),
            14..19 => self.below(300),
            _ if self.is_sick() => self.below(15_000),
            _ => self.below(1000),
        }
    }

    /// Takes the next step of an answer, and those that belong to the same moment.
    pub(super) fn step(&mut self, line: usize, mut steps: Vec<Step>) {
        if self.net.borrow().lines[line].end.is_some() {
            return; // It was cut off meanwhile.
        }
        while let Some(step) = steps.pop() {
            let was_piece = matches!(step, Step::Bytes(_));
            match step {
                Step::Bytes(bytes) => {
                    let mut net = self.net.borrow_mut();
                    net.lines[line].to_pool.extend(bytes);
                    net.edge(line, true, false);
                }
                Step::End(ending) => {
                    trace!(self, "app: line {line} ends: {ending:?}");
                    self.net.borrow_mut().end(line, ending);
                }
                Step::Heard(hook, status) => {
                    let is_there = !self.net.borrow().lines[line].dropped;
                    trace!(
                        self,
                        "app: {} was answered {status}, heard: {is_there}", self.hooks[hook].key
                    );
                    if is_there {
                        self.hooks[hook].heard = Some((status, self.now));
                    }
                }
                Step::Free => {
                    self.net.borrow_mut().lines[line].is_busy = false;
                }
            }
            let next_may_wait = match steps.last() {
                Some(Step::Bytes(_)) => true,
                Some(Step::End(_)) => !was_piece,
                Some(Step::Heard(..) | Step::Free) | None => false,
            };
            if next_may_wait && self.chance(60) {
                let pause = self.below(20);
                self.later(pause, Event::App(line, steps));
                return;
            }
        }
    }

    /// An app goes, or comes back.
    pub(super) fn change_weather(&mut self) {
        let url = self.file.url(0).or(self.file.url(1)).unwrap_or(0);
        let house = if self.chance(80) {
            self.file.house(url)
        } else {
            self.below(HOUSES as u64) as usize
        };
        let is_up = self.net.borrow().calls[house] == Calls::Accepted;
        if is_up {
            let calls =
                [Calls::Refused, Calls::RefusedAtOnce, Calls::Swallowed][self.below(3) as usize];
            self.go_away(house, calls);
        } else {
            self.net.borrow_mut().calls[house] = Calls::Accepted;
        }
        trace!(self, "app: {:?}", self.net.borrow().calls);
    }

    fn go_away(&mut self, house: usize, calls: Calls) {
        let takes_all_along = self.chance(70);
        let ending = if self.chance(50) {
            Ending::Fin
        } else {
            Ending::Reset
        };
        let mut net = self.net.borrow_mut();
        net.calls[house] = calls;
        if takes_all_along {
            for line in 0..net.lines.len() {
                if net.lines[line].house == house && net.lines[line].made == Some(true) {
                    net.end(line, ending);
                }
            }
        }
    }

    /// A kept connection ends when it suits nobody, busy or not.
    pub(super) fn cut_one(&mut self) {
        let made: Vec<usize> = {
            let net = self.net.borrow();
            let alive = |line: &usize| {
                let line = &net.lines[*line];
                line.made == Some(true) && line.end.is_none() && !line.dropped
            };
            (0..net.lines.len()).filter(alive).collect()
        };
        if !made.is_empty() {
            let line = made[self.below(made.len() as u64) as usize];
            let ending = if self.chance(50) {
                Ending::Fin
            } else {
                Ending::Reset
            };
            trace!(self, "app: line {line} is cut: {ending:?}");
            self.net.borrow_mut().end(line, ending);
        }
    }
}

/// Reads what came on a connection; `None` before its head is whole.
fn http(bytes: &[u8]) -> Option<Request> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let fields: HashMap<String, String> = lines
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = fields["content-length"].parse().unwrap();
    Some(Request {
        body: bytes.get(end..end + length).map(<[u8]>::to_vec),
        used: end + length,
        keeps: true,
        fields,
    })
}
