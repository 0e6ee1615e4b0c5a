//! Who runs next: seats, levels, and fair queues of flows, without time or tasks.
//!
//! Owns the decision alone. A level has seats of its own, keeps some of them from others, and lends
//! the rest while they are idle. Within a level the next seat goes to the flow that was served
//! least since it began to wait, so that a flow with many requests waiting delays another's single
//! one by no more than what already runs. Nothing overtakes within a flow. Both the requests of a
//! flow and those of a level that may wait are bounded. What waiting means (a channel, a timer) is
//! the caller's: entries carry any `W`.
//!
//! Levels that work on what others ask for step back while many ask: a few seats remain to them.
//! A burst of creates is accepted first and carried out then, and who asks little notices nothing.
//!
//! Read next: `tests`, then [`super`].

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Requests of those who ask from which on others step back.
pub(crate) const MANY: usize = 16;

/// What a level may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Seats that are its own.
    pub(crate) seats: u32,
    /// Of these, what nobody borrows even while they are idle.
    pub(crate) kept: u32,
    /// Most seats at once, borrowed ones included.
    pub(crate) most: u32,
    /// Most seats while many ask: who works on what was asked comes after those who ask.
    pub(crate) beside: u32,
    /// Most requests of one flow that wait.
    pub(crate) flow_waiting: usize,
    /// Most requests that wait.
    pub(crate) waiting: usize,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It runs.
    Run,
    /// It waits; the ticket takes it back.
    Wait(u64),
    /// Too many wait already.
    Refused,
}

/// What there is at a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Seats in use.
    pub(crate) seats: u32,
    /// Requests that run.
    pub(crate) executing: usize,
    /// Requests that wait.
    pub(crate) waiting: usize,
    /// Requests refused so far.
    pub(crate) refused: u64,
}

struct Entry<W> {
    ticket: u64,
    seats: u32,
    waiter: W,
}

struct Flow<W> {
    seats: u32,
    /// Where it stands in `order` while anything of it waits.
    turn: (u64, u64),
    waiting: VecDeque<Entry<W>>,
}

struct Level<W> {
    settings: Settings,
    load: Load,
    /// Service that the flow served last had had: newcomers start here.
    clock: u64,
    flows: HashMap<String, Flow<W>>,
    /// Waiting flows by the service they had, then by arrival.
    order: BTreeMap<(u64, u64), String>,
}

/// All levels, by number.
pub(crate) struct Queues<W> {
    levels: Vec<Level<W>>,
    /// The level of those who ask.
    asking: usize,
    /// Requests that need no seat and ask too.
    passing: usize,
    /// Of all levels together.
    seats: u32,
    executing: u32,
    tickets: u64,
}

impl<W> Queues<W> {
    /// Levels, and which of them is of those who ask.
    pub(crate) fn new(settings: &[Settings], asking: usize) -> Self {
        let levels = settings.iter().map(|settings| Level {
            settings: *settings,
            load: Load::default(),
            clock: 0,
            flows: HashMap::new(),
            order: BTreeMap::new(),
        });
        Self {
            levels: levels.collect(),
            asking,
            passing: 0,
            seats: settings.iter().map(|settings| settings.seats).sum(),
            executing: 0,
            tickets: 0,
        }
    }

    pub(crate) fn load(&self, level: usize) -> Load {
        self.levels[level].load
    }

    /// Seats a request can have at a level: one that wants more gets all the level owns.
    fn bounded(&self, level: usize, seats: u32) -> u32 {
        seats.clamp(1, self.levels[level].settings.seats.max(1))
    }

    /// Whether so many ask that others step back.
    fn many_ask(&self) -> bool {
        let load = &self.levels[self.asking].load;
        self.passing + load.executing + load.waiting >= MANY
    }

    /// One asks that needs no seat.
    pub(crate) fn pass(&mut self) {
        self.passing += 1;
    }

    /// It has its answer. Answers who runs now.
    pub(crate) fn passed(&mut self) -> Vec<(usize, W)> {
        self.passing -= 1;
        self.admit()
    }

    fn fits(&self, number: usize, seats: u32) -> bool {
        let level = &self.levels[number];
        let aside = level.load.seats + seats > level.settings.beside;
        !(aside && self.many_ask()) && self.has_seats(number, seats)
    }

    fn has_seats(&self, number: usize, seats: u32) -> bool {
        let level = &self.levels[number];
        let wanted = level.load.seats + seats;
        if wanted <= level.settings.seats {
            return true;
        }
        let others = self.levels.iter().enumerate();
        let kept: u32 = others
            .filter(|(other, _)| *other != number)
            .map(|(_, other)| other.settings.kept.saturating_sub(other.load.seats))
            .sum();
        wanted <= level.settings.most && self.executing + seats + kept <= self.seats
    }

    /// A request of a flow. `waiter` is asked for only when it is to wait.
    pub(crate) fn offer(
        &mut self,
        number: usize,
        flow: &str,
        seats: u32,
        waiter: impl FnOnce() -> W,
    ) -> Offer {
        let seats = self.bounded(number, seats);
        let fits = self.fits(number, seats);
        let level = &mut self.levels[number];
        if fits && level.load.waiting == 0 {
            self.start(number, flow, seats);
            return Offer::Run;
        }
        let waiting = level.flows.get(flow).map_or(0, |flow| flow.waiting.len());
        if waiting >= level.settings.flow_waiting || level.load.waiting >= level.settings.waiting {
            level.load.refused += 1;
            return Offer::Refused;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let clock = level.clock;
        let known = level.flow(flow);
        let first = known.waiting.is_empty();
        if first {
            // What it has already counts as service.
            known.turn = (clock + u64::from(known.seats), ticket);
        }
        let turn = known.turn;
        known.waiting.push_back(Entry {
            ticket,
            seats,
            waiter: waiter(),
        });
        if first {
            level.order.insert(turn, flow.to_owned());
        }
        level.load.waiting += 1;
        Offer::Wait(ticket)
    }

    fn start(&mut self, number: usize, flow: &str, seats: u32) {
        let level = &mut self.levels[number];
        level.flow(flow).seats += seats;
        level.load.seats += seats;
        level.load.executing += 1;
        self.executing += seats;
    }

    /// A request that ran has ended. Answers who runs now.
    pub(crate) fn finish(&mut self, number: usize, flow: &str, seats: u32) -> Vec<(usize, W)> {
        let seats = self.bounded(number, seats);
        let level = &mut self.levels[number];
        level.load.seats -= seats;
        level.load.executing -= 1;
        self.executing -= seats;
        if let Some(known) = level.flows.get_mut(flow) {
            known.seats -= seats;
            if known.seats == 0 && known.waiting.is_empty() {
                level.flows.remove(flow);
            }
        }
        self.admit()
    }

    /// A request has stepped back for long enough: it runs if there are seats.
    pub(crate) fn insist(&mut self, number: usize, flow: &str, ticket: u64) -> Option<W> {
        let known = self.levels[number].flows.get(flow)?;
        let entry = known.waiting.iter().find(|entry| entry.ticket == ticket)?;
        let seats = entry.seats;
        if !self.has_seats(number, seats) {
            return None;
        }
        let entry = self.take(number, flow, ticket)?;
        self.start(number, flow, seats);
        Some(entry.waiter)
    }

    /// A request waits no longer: its caller has gone or its time is up. Answers who runs now.
    pub(crate) fn withdraw(&mut self, number: usize, flow: &str, ticket: u64) -> Vec<(usize, W)> {
        match self.take(number, flow, ticket) {
            Some(_) => self.admit(),
            None => Vec::new(),
        }
    }

    /// Takes a request out of those that wait.
    fn take(&mut self, number: usize, flow: &str, ticket: u64) -> Option<Entry<W>> {
        let level = &mut self.levels[number];
        let known = level.flows.get_mut(flow)?;
        let mut waiting = known.waiting.iter();
        let found = waiting.position(|entry| entry.ticket == ticket)?;
        let entry = known.waiting.remove(found)?;
        level.load.waiting -= 1;
        if known.waiting.is_empty() {
            level.order.remove(&known.turn);
            if known.seats == 0 {
                level.flows.remove(flow);
            }
        }
        Some(entry)
    }

    /// Counts a request as refused that waited in vain.
    pub(crate) fn refuse(&mut self, number: usize) {
        self.levels[number].load.refused += 1;
    }

    /// Starts whatever fits, levels in their order.
    fn admit(&mut self) -> Vec<(usize, W)> {
        let mut started = Vec::new();
        for number in 0..self.levels.len() {
            while let Some(waiter) = self.next(number) {
                started.push((number, waiter));
            }
        }
        started
    }

    fn next(&mut self, number: usize) -> Option<W> {
        let level = &self.levels[number];
        let (turn, name) = level.order.first_key_value()?;
        let (turn, name) = (*turn, name.clone());
        let seats = level.flows.get(&name)?.waiting.front()?.seats;
        // A wide one at the head is waited for: else narrow ones would keep it out for ever.
        if !self.fits(number, seats) {
            return None;
        }
        let level = &mut self.levels[number];
        level.order.remove(&turn);
        level.clock = turn.0;
        level.load.waiting -= 1;
        let known = level.flow(&name);
        let entry = known.waiting.pop_front()?;
        if !known.waiting.is_empty() {
            known.turn = (turn.0 + u64::from(seats), turn.1);
            level
                .order
                .insert((turn.0 + u64::from(seats), turn.1), name.clone());
        }
        self.start(number, &name, seats);
        Some(entry.waiter)
    }
}

impl<W> Level<W> {
    fn flow(&mut self, name: &str) -> &mut Flow<W> {
        // Looked up twice, so that a known flow costs no copy of its name.
        if !self.flows.contains_key(name) {
            let fresh = Flow {
                seats: 0,
                turn: (0, 0),
                waiting: VecDeque::new(),
            };
            self.flows.insert(name.to_owned(), fresh);
        }
        match self.flows.get_mut(name) {
            Some(flow) => flow,
            None => unreachable!("inserted above"),
        }
    }
}

#[cfg(test)]
mod tests;
