//! The clients of a simulation: they come, say something and leave when they please. Each has its own log.

use super::file::PATHS;
use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Asking,
    Accepted,
    Open,
    Gone,
}

/// One client, and its own log.
pub(super) struct Guest {
    pub(super) id: SocketId,
    pub(super) thread: usize,
    /// Its path, and the number of its route in this life.
    pub(super) path: usize,
    pub(super) route: RouteId,
    /// Which file its thread had come to.
    pub(super) since: usize,
    /// Its route was gone for so long that what was owed was forgotten.
    pub(super) is_forgotten: bool,
    pub(super) stage: Stage,
    pub(super) paused: bool,
    /// What its handler was given, and when.
    pub(super) said: Vec<(String, Instant)>,
    /// What it was sent.
    pub(super) heard: Vec<String>,
    /// How the worker closed it, and when it was gone.
    pub(super) codes: Vec<u16>,
    pub(super) gone_at: Option<Instant>,
    pub(super) gave_way: bool,
    /// Which life of the worker it came to, and whether that was over before it left.
    pub(super) life: usize,
    pub(super) outlived: bool,
}

impl World {
    pub(super) fn arrive(&mut self) {
        let is_starting = self
            .process
            .starting
            .load(std::sync::atomic::Ordering::Relaxed);
        if is_starting {
            return self.later(50, Event::Arrive); // The loop says 503 until the old is tried.
        }
        let thread = self.below(self.threads.len() as u64) as usize;
        let path = usize::from(self.history.len() > 1 && self.chance(40));
        let config = Arc::clone(&self.threads[thread].process.config);
        let mut routes = config.routes.iter();
        let Some(route) = routes.find(|route| route.path == PATHS[path] && !route.gone) else {
            return; // It hears 404.
        };
        // A slot is used again as soon as its client is gone, whatever is still owed.
        let is_taken = |slot: u32| {
            let mut guests = self.guests.iter();
            guests.any(|g| g.thread == thread && g.id.slot == slot && g.stage != Stage::Gone)
        };
        let slot = (0..).find(|slot| !is_taken(*slot)).unwrap();
        let place = self.guests.len();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(place as u64).to_be_bytes());
        let id = SocketId {
            thread: thread as u8,
            key,
            ..id(slot)
        };
        trace!(
            self,
            "guest {place} is {id} on thread {thread} and {}", route.path
        );
        let facts = Facts { id, ..facts() };
        assert!(matches!(
            self.threads[thread].handlers[usize::from(route.id.0)].connect(&facts),
            Decision::Later
        ));
        self.guests.push(Guest {
            id,
            thread,
            path,
            route: route.id,
            since: file::generation(&config),
            is_forgotten: false,
            stage: Stage::Asking,
            paused: false,
            said: Vec::new(),
            heard: Vec::new(),
            codes: Vec::new(),
            gone_at: None,
            gave_way: false,
            life: self.lives.len(),
            outlived: false,
        });
        if self.chance(10) {
            let soon = self.below(1500);
            self.later(soon, Event::Leave(place)); // Perhaps before it is let in.
        }
    }

    pub(super) fn lend(
        &mut self,
        place: usize,
        act: impl FnOnce(&mut HookHandler, &mut Socket<'_>),
    ) {
        let guest = &mut self.guests[place];
        let thread = &mut self.threads[guest.thread];
        let mut fake = Fake {
            id: guest.id,
            router: &mut thread.router,
            heard: &mut guest.heard,
            paused: &mut guest.paused,
        };
        let mut socket = Socket { inner: &mut fake };
        act(
            &mut thread.handlers[usize::from(guest.route.0)],
            &mut socket,
        );
    }

    pub(super) fn open(&mut self, place: usize) {
        if self.guests[place].stage != Stage::Accepted {
            return;
        }
        self.guests[place].stage = Stage::Open;
        trace!(self, "guest {place} is open");
        self.lend(place, |handler, socket| handler.on_open(socket));
        for _ in 0..self.below(12) {
            let at = match self.below(3) {
                0 => 0,
                _ => self.below(5000),
            };
            self.later(at, Event::Say(place));
        }
        if self.has_calmed || self.chance(60) {
            let at = self.below(8000);
            self.later(at, Event::Leave(place));
        }
    }

    pub(super) fn say(&mut self, place: usize) {
        if self.guests[place].stage != Stage::Open {
            return;
        }
        if self.guests[place].paused {
            return self.later(50, Event::Say(place)); // It lies in the kernel's buffers.
        }
        let length = match self.below(10) {
            0 => self.below(100_000),
            _ => self.below(100),
        };
        let count = self.guests[place].said.len() + 1;
        let text = format!("{place}.{count} {}", "x".repeat(length as usize));
        self.guests[place].said.push((text.clone(), self.now));
        trace!(self, "guest {place} says {count}");
        self.lend(place, |handler, socket| {
            handler.on_message(socket, Message::text(&text));
        });
    }

    pub(super) fn leave(&mut self, place: usize) {
        let by_us = !self.guests[place].codes.is_empty();
        let stage = self.guests[place].stage;
        if stage == Stage::Gone {
            return;
        }
        self.guests[place].stage = Stage::Gone;
        self.guests[place].gone_at = Some(self.now);
        trace!(self, "guest {place} leaves, {stage:?}");
        let end = End {
            by: if by_us {
                ClosedBy::App
            } else {
                ClosedBy::Client
            },
            ..END
        };
        match stage {
            Stage::Open => self.lend(place, |handler, socket| handler.on_close(socket, &end)),
            Stage::Asking | Stage::Accepted => {
                let id = self.guests[place].id;
                let route = usize::from(self.guests[place].route.0);
                let thread = &mut self.threads[self.guests[place].thread];
                thread.handlers[route].on_lost(id, &end);
            }
            Stage::Gone => {}
        }
    }

    pub(super) fn give_way(&mut self) {
        let thread = self.below(self.threads.len() as u64) as usize;
        let own = &mut self.threads[thread];
        let Some((bytes, key)) = own.pool.borrow().longest_queue() else {
            return;
        };
        if bytes == 0 {
            return;
        }
        let id = own.pool.borrow().members.get(key).and_then(|m| m.id);
        self.net.borrow_mut().thread = thread as u8;
        let mut turn = Turn {
            now: self.now,
            registry: own.poll.registry(),
            router: &mut own.router,
            scratch: &mut own.scratch,
        };
        own.pool.borrow_mut().give_way(&mut turn, key);
        for guest in &mut self.guests {
            guest.gave_way |= Some(guest.id) == id;
        }
    }
}
