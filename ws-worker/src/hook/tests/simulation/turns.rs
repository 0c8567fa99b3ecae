//! The worker's threads in a simulation take their turns, as its loop does; what hooks tell the loop is done here.

use super::*;

impl World {
    /// Gives every thread its turns, until nothing changes any more at this moment.
    pub(super) fn turns(&mut self) {
        for turn in 0.. {
            assert!(turn < MOST_TURNS, "it spins");
            self.carry();
            let mut has_more = false;
            let first = self.below(self.threads.len() as u64) as usize;
            for offset in 0..self.threads.len() {
                let thread = (first + offset) % self.threads.len();
                if self.threads[thread].busy_until > self.now {
                    continue;
                }
                if !self.is_calm() && self.chance(1) {
                    let pause = 1 + self.below(100);
                    self.threads[thread].busy_until = self.now + Duration::from_millis(pause);
                    continue;
                }
                if self.is_killed_now() {
                    has_more = true;
                    break;
                }
                has_more |= self.turn(thread);
            }
            self.collect();
            let is_told = !self.net.borrow().edges.is_empty();
            let now = self.now;
            let is_due = |thread: &Thread| {
                let at = thread.poll_timeout();
                thread.busy_until <= now && at.is_some_and(|at| at <= now)
            };
            if !has_more && !is_told && !self.threads.iter().any(is_due) {
                break;
            }
        }
        self.hold_invariants();
    }

    /// Takes what the network has to say to the threads, and lets the app see what was written.
    pub(super) fn carry(&mut self) {
        let (edges, touched) = {
            let mut net = self.net.borrow_mut();
            (
                std::mem::take(&mut net.edges),
                std::mem::take(&mut net.touched),
            )
        };
        for (line, readiness) in edges {
            let (thread, number) = {
                let net = self.net.borrow();
                (net.lines[line].thread, net.lines[line].number)
            };
            if let Some(number) = number {
                self.threads[usize::from(thread)]
                    .edges
                    .push((number, readiness));
            }
        }
        for line in touched {
            let (is_new, has_room) = {
                let net = self.net.borrow();
                let line = &net.lines[line];
                (line.made.is_none(), line.room > 0)
            };
            let soon = self.below(4);
            if is_new {
                self.later(soon, Event::Called(line));
            } else {
                self.later(soon, Event::Look(line));
                if !has_room {
                    self.later(soon + 1, Event::Room(line));
                }
            }
        }
    }

    /// One turn of a thread, as the loop has it. Returns whether anything may have come of it.
    pub(super) fn turn(&mut self, number: usize) -> bool {
        if let Some(reload) = self.threads[number].coming.take() {
            self.come_to(number, *reload);
        }
        let edges = std::mem::take(&mut self.threads[number].edges);
        let next = self.threads[number].poll_timeout();
        let had_cause = !edges.is_empty() || next.is_some_and(|at| at <= self.now);
        self.net.borrow_mut().thread = number as u8;
        let own = &mut self.threads[number];
        let mut pool = own.pool.borrow_mut();
        let mut turn = Turn {
            now: self.now,
            registry: own.poll.registry(),
            router: &mut own.router,
            scratch: &mut own.scratch,
        };
        let mut has_mail = false;
        for mail in own.inbox.take() {
            has_mail = true;
            match mail {
                Mail::Permit(app) => pool.permit(&mut turn, app),
                Mail::Written(written) => pool.written(&mut turn, &written),
                Mail::Reload(reload) => own.coming = Some(reload),
                other => panic!("{other:?}"),
            }
        }
        for (number, readiness) in edges {
            pool.ready(&mut turn, number, readiness);
        }
        pool.handle_timeout(&mut turn);
        drop(pool);
        self.leave_some(number);
        let own = &mut self.threads[number];
        let mut turn = Turn {
            now: self.now,
            registry: own.poll.registry(),
            router: &mut own.router,
            scratch: &mut own.scratch,
        };
        own.pool.borrow_mut().flush(&mut turn);
        self.follow_the_attempts(number);
        let own = &mut self.threads[number];
        let commands: Vec<Action> = own.router.own.drain(..).map(|c| c.action).collect();
        let has_said = !commands.is_empty();
        for action in commands {
            self.command(number, action);
        }
        // What it mailed may lie with a thread whose turn is over.
        had_cause || has_mail || has_said || self.threads[number].coming.is_some()
    }

    pub(super) fn command(&mut self, thread: usize, action: Action) {
        let known = |guests: &[Guest], id: SocketId| {
            let place = guests.iter().rposition(|guest| guest.id == id);
            place.filter(|place| guests[*place].stage != Stage::Gone)
        };
        match action {
            Action::Decide(id, decision) => {
                assert_eq!(usize::from(id.thread), thread);
                let Some(place) = known(&self.guests, id) else {
                    return;
                };
                assert_eq!(self.guests[place].stage, Stage::Asking, "decided twice");
                trace!(self, "guest {place}: {decision:?}");
                if let LateDecision::Accept(_) = *decision {
                    self.guests[place].stage = Stage::Accepted;
                    if self.chance(5) {
                        let soon = self.below(1000);
                        self.later(soon, Event::Leave(place)); // The eight bytes of 76 never come.
                    } else {
                        let soon = [0, 3][self.below(2) as usize];
                        self.later(soon, Event::Open(place));
                    }
                } else {
                    self.guests[place].stage = Stage::Gone;
                    self.guests[place].gone_at = Some(self.now);
                }
            }
            Action::Close(id, code, ..) => {
                if let Some(place) = known(&self.guests, id) {
                    trace!(self, "guest {place} is closed with {code}");
                    self.guests[place].codes.push(code.get());
                    self.closed_with(place, code.get());
                    let soon = self.below(200);
                    self.later(soon, Event::Leave(place));
                }
            }
            Action::Say(id, message) => {
                if let Some(place) = known(&self.guests, id) {
                    let text = String::from_utf8_lossy(message.payload());
                    self.guests[place].heard.push(text.into_owned());
                }
            }
            Action::Resume(id) => {
                if let Some(place) = known(&self.guests, id) {
                    assert!(self.guests[place].paused, "resumed, and was not paused");
                    self.guests[place].paused = false;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
