//! Hooks in a made-up world: made-up time, an app and clients that do by chance what they may do, connections that break at any byte,
//! a worker that is killed at any step and begins again with what its journal says, a disk that is full or slow. TLS is not in it: it
//! changes bytes on the way and no rule of delivery, and its own sessions want real time and real randomness.
//! Thousands of such worlds are lived through, each decided by its seed, and each is held against the rules of delivery. A failure
//! prints its seed; `WS_SIMULATION_SEED=n` lives through that one alone and tells its story, `WS_SIMULATION_COUNT=n` through as many.

/// Adds a line to the story, if it is told.
macro_rules! trace {
    ($world:expr, $($words:tt)*) => {
        let line = ($world.story.is_some())
            .then(|| format!("{:?} {}", $world.now, format_args!($($words)*)));
        if let (Some(story), Some(line)) = (&mut $world.story, line) {
            story.push(line);
        }
    };
}

mod app;
mod fastcgi;
mod guests;
mod life;
pub(in crate::hook) mod net;
mod rules;
mod turns;

use super::*;
use crate::config::Scheme;
use crate::hook::backoff::Random;
use app::{Hook, Step};
use guests::{Guest, Stage};
use life::{Journal, Thread};
use net::{Calls, Shared};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Worlds in a run of the tests.
const WORLDS: u64 = 2000;
/// Nobody takes so many turns without the time going on, and no world lasts so many steps.
const MOST_TURNS: usize = 500;
const MOST_STEPS: usize = 200_000;

/// What there was of it in all worlds: a simulation in which nothing goes wrong proves nothing.
#[derive(Debug, Default)]
struct Sights {
    outages: u64,
    probes: usize,
    refused_at_once: u64,
    undelivered: u64,
    codes: [usize; 3],
    recovered: u64,
    unwritten: u64,
}

impl Sights {
    fn add(&mut self, world: &World) {
        for process in world.lives.iter().chain([&world.process]) {
            let counters = &process.counters;
            self.outages += counters.of_app(0).outages;
            self.refused_at_once += counters.of_app(0).spared;
            self.undelivered += counters.undelivered.get();
            self.recovered += counters.closed_recovered.get();
            self.unwritten += counters.journal_refused.get();
        }
        self.probes += world.probes.len();
        for (sum, code) in self.codes.iter_mut().zip([1008, 1011, 1013]) {
            let guests = world.guests.iter();
            *sum += guests.filter(|guest| guest.codes.contains(&code)).count();
        }
    }

    /// Holds what was seen in so many worlds to what must have been.
    fn are_enough(&self, worlds: u64) {
        let tenth = worlds / 10;
        let is_lively = self.outages > tenth
            && self.probes as u64 > tenth
            && self.refused_at_once > tenth
            && self.undelivered > worlds
            && self.recovered > tenth
            && self.unwritten > worlds / 100
            && self.codes.iter().all(|count| *count as u64 > tenth / 2);
        assert!(is_lively, "{self:?}");
    }
}

/// What happens at a moment.
#[derive(Clone, Debug)]
enum Event {
    /// A call is answered.
    Called(usize),
    /// The app looks at what came.
    Look(usize),
    /// The network takes more bytes.
    Room(usize),
    App(usize, Vec<Step>),
    Weather,
    Cut,
    /// The app's health changes.
    Health,
    Arrive,
    /// A client that was let in is open.
    Open(usize),
    Say(usize),
    Leave(usize),
    /// Memory is short: who has most queued gives way.
    GiveWay,
    /// The journal is written.
    Write,
    /// The disk is full, or no longer.
    Disk,
    /// The worker is killed, in the midst of a turn of all.
    Kill,
    /// Its time is up: what is still owed is left to the journal, or lost.
    Stop,
}

struct World {
    random: Random,
    now: Instant,
    /// No client comes, and nothing goes wrong, after this moment.
    calm_at: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    waiting: Vec<Option<Event>>,
    order: u64,
    net: Shared,
    threads: Vec<Thread>,
    process: Arc<Process>,
    permits: Arc<[Arc<Permits>]>,
    guests: Vec<Guest>,
    hooks: Vec<Hook>,
    // The app's character.
    is_fastcgi: bool,
    sickness: u64,
    worst: u64,
    fickle: u64,
    only_passing: bool,
    has_calmed: bool,
    /// Earlier lives of the worker, as far as they counted.
    lives: Vec<Arc<Process>>,
    journal: Option<Journal>,
    /// Its disk is slow at times.
    has_stalls: bool,
    /// So many turns of threads until the worker is killed.
    kill_in: Option<u64>,
    /// Handshakes that were let through as probes: in which outage, and when.
    probes: HashMap<SocketId, (u64, Instant)>,
    story: Option<Vec<String>>,
}

impl World {
    fn new(seed: u64, tells: bool) -> Self {
        let mut random = Random::new(seed);
        let mut below = |limit: u64| random.next() % limit;
        let net = net::empty();
        let mut hooks = hooks();
        let addresses = 1 + below(2);
        hooks.url.address = AppAddress::Tcp(
            (0..addresses)
                .map(|_| SocketAddr::from(([192, 0, 2, 1], 80)))
                .collect(),
        );
        hooks.concurrency = 1 + below(4) as usize;
        hooks.hook_timeout = Duration::from_secs([2, 30][below(2) as usize]);
        hooks.give_up = Duration::from_secs([3, 20, 60][below(3) as usize]);
        hooks.queue_messages = [2, 8, 64][below(3) as usize];
        hooks.started = below(4) == 0;
        if below(4) == 0 {
            hooks.retry = crate::config::Retry::Unsent;
        }
        let is_fastcgi = below(4) == 0;
        if is_fastcgi {
            hooks.url.scheme = Scheme::FastCgi;
            hooks.url.path = "/srv/www/ws.php".into();
            hooks.keep = below(2) == 0;
        }
        let route = route(hooks);
        let count = 1 + below(3) as u8;
        let journal = (below(2) == 0).then(Journal::default);
        let has_stalls = below(3) == 0;
        let process = life::process_of(&route, count, 0);
        let permits = Permits::of(&process.config);
        let now = Instant::at(1000);
        let lasts = 1 + below(90);
        let worst = [0, 10, 50, 100][below(4) as usize];
        let fickle = [0, 30, 100][below(3) as usize];
        let only_passing = below(2) == 0;
        let most = [25, 60][below(2) as usize];
        let quota = 1 + below(most) as usize;
        let mut world = Self {
            random,
            now,
            calm_at: now + Duration::from_secs(lasts),
            events: BinaryHeap::new(),
            waiting: Vec::new(),
            order: 0,
            net,
            threads: Vec::new(),
            process,
            permits,
            guests: Vec::new(),
            hooks: Vec::new(),
            is_fastcgi,
            sickness: worst,
            worst,
            fickle,
            only_passing,
            has_calmed: false,
            lives: Vec::new(),
            journal,
            has_stalls,
            kill_in: None,
            probes: HashMap::new(),
            story: tells.then(Vec::new),
        };
        let span = lasts * 1000;
        for _ in 0..quota {
            // One by one, or as a page that many look at is loaded again.
            let at = if world.chance(50) {
                world.below(span)
            } else {
                span / 3 + world.below(100)
            };
            world.later(at, Event::Arrive);
        }
        for event in [
            Event::Weather,
            Event::Weather,
            Event::Health,
            Event::Cut,
            Event::Cut,
        ] {
            if world.chance(50) {
                let at = world.below(span);
                world.later(at, event);
            }
        }
        if world.chance(10) {
            let at = world.below(span);
            world.later(at, Event::GiveWay);
        }
        if world.journal.is_some() {
            for event in [Event::Kill, Event::Kill, Event::Stop, Event::Disk] {
                if world.chance(40) {
                    let at = world.below(span);
                    world.later(at, event);
                }
            }
        } else if world.chance(10) {
            let at = world.below(span);
            world.later(at, Event::Stop);
        }
        net::enter(&world.net);
        world.begin(seed, Vec::new());
        world
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next() % limit.max(1)
    }

    /// Whether something happens of which so many in a hundred do.
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn later(&mut self, milliseconds: u64, event: Event) {
        self.at(self.now + Duration::from_millis(milliseconds), event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.events
            .push(Reverse((at, self.order, self.waiting.len())));
        self.waiting.push(Some(event));
    }

    fn is_calm(&self) -> bool {
        self.now >= self.calm_at
    }

    /// Lives until nothing is owed to anybody.
    fn live(&mut self) {
        for _ in 0..MOST_STEPS {
            self.turns();
            if self.is_calm() {
                self.calm_down();
                let is_over = self
                    .threads
                    .iter()
                    .all(|t| t.pool.borrow().members.len() == 0);
                let is_written = self.journal.as_ref().is_none_or(Journal::is_idle);
                if is_over
                    && is_written
                    && self.guests.iter().all(|guest| guest.stage == Stage::Gone)
                {
                    return self.end();
                }
            }
            let deadlines = self.threads.iter().filter_map(|thread| {
                let at = thread.pool.borrow().poll_timeout()?;
                Some(at.max(thread.busy_until))
            });
            let busy = self.threads.iter().map(|thread| thread.busy_until);
            let soonest = deadlines
                .chain(busy.filter(|at| *at > self.now))
                .chain(self.events.peek().map(|Reverse((at, ..))| *at))
                .chain((!self.is_calm()).then_some(self.calm_at))
                .min();
            let Some(soonest) = soonest else {
                panic!("somebody waits for nothing");
            };
            self.now = self.now.max(soonest);
            while let Some(Reverse((at, _, place))) = self.events.peek().copied()
                && at <= self.now
            {
                self.events.pop();
                if let Some(event) = self.waiting[place].take() {
                    self.happen(event);
                }
            }
        }
        panic!("no end after {MOST_STEPS} steps");
    }

    /// From now on all goes well, and everybody leaves.
    fn calm_down(&mut self) {
        if std::mem::replace(&mut self.has_calmed, true) {
            return;
        }
        trace!(self, "all is well from now on");
        self.sickness = 0;
        self.fickle = 0;
        self.kill_in = None;
        self.net.borrow_mut().calls = Calls::Accepted;
        if let Some(journal) = &self.journal {
            journal.paper.is_full.set(false);
        }
        for place in 0..self.guests.len() {
            let at = self.below(3000);
            self.later(at, Event::Leave(place));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Called(line) => {
                let mut net = self.net.borrow_mut();
                let is_made = net.calls == Calls::Accepted;
                if net.calls != Calls::Swallowed && net.lines[line].made.is_none() {
                    net.lines[line].made = Some(is_made);
                    net.lines[line].room = 65536;
                    net.edge(line, false, true);
                }
            }
            Event::Look(line) => self.look(line),
            Event::Room(line) => {
                let mut net = self.net.borrow_mut();
                net.lines[line].room = 65536;
                net.edge(line, false, true);
            }
            Event::App(line, steps) => self.step(line, steps),
            Event::Weather if !self.is_calm() => {
                self.change_weather();
                let next = match self.below(4) {
                    0 => self.below(20_000),
                    _ => self.below(1500),
                };
                self.later(next, Event::Weather);
            }
            Event::Cut if !self.is_calm() => {
                self.cut_one();
                let next = self.below(2000);
                self.later(next, Event::Cut);
            }
            Event::Health if !self.is_calm() => {
                self.sickness = if self.sickness > 0 { 0 } else { self.worst };
                let next = self.below(15_000);
                self.later(next, Event::Health);
            }
            Event::Kill if !self.is_calm() => self.kill_in = Some(self.below(6)),
            Event::Stop if !self.is_calm() => self.stop(),
            Event::Disk if !self.is_calm() => self.change_disk(),
            Event::Weather | Event::Cut | Event::Health => {}
            Event::Kill | Event::Stop | Event::Disk => {}
            Event::Write => self.write_journal(),
            Event::Arrive => self.arrive(),
            Event::Open(guest) => self.open(guest),
            Event::Say(guest) => self.say(guest),
            Event::Leave(guest) => self.leave(guest),
            Event::GiveWay => self.give_way(),
        }
    }

    /// All is done: what was kept for later is given back, and the rules are held against the logs.
    fn end(&mut self) {
        self.now = self.now + Duration::from_secs(61);
        for thread in &mut self.threads {
            thread.busy_until = Instant::at(0);
        }
        self.turns();
        assert_eq!(
            self.process.counters.memory.get(),
            0,
            "bytes are still counted"
        );
        if let Some(journal) = &mut self.journal {
            assert!(journal.write(usize::MAX, &self.threads).is_empty());
            assert_eq!(journal.owed(), 0, "the journal still owes what was told");
        }
        self.judge();
    }
}

fn lives(seed: u64, tells: bool, sights: &mut Sights) -> Result<(), String> {
    let mut world = World::new(seed, tells);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.live()));
    net::leave();
    sights.add(&world);
    result.map_err(|_| {
        let story = world.story.take().unwrap_or_default().join("\n");
        format!("world {seed} broke a rule\n{story}")
    })
}

#[test]
fn whatever_happens_the_rules_of_delivery_hold() {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let mut sights = Sights::default();
    if let Some(seed) = number("WS_SIMULATION_SEED") {
        lives(seed, true, &mut sights).unwrap_or_else(|story| panic!("{story}"));
        return;
    }
    let first = number("WS_SIMULATION_FIRST").unwrap_or(0);
    let worlds = number("WS_SIMULATION_COUNT").unwrap_or(WORLDS);
    for seed in first..first + worlds {
        // Told again, with its story.
        if lives(seed, false, &mut sights).is_err() {
            panic!("{}", lives(seed, true, &mut sights).unwrap_err());
        }
    }
    sights.are_enough(worlds);
}
