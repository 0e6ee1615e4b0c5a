//! The egress policy while a sandbox runs: changed when the runner asks, reported when it refuses.
//!
//! The runner writes what it wants to `egress.wanted.json` and sends SIGHUP; the file is the truth,
//! read anew at each signal and once at the beginning. What is in force and was refused is in
//! `egress.json`, written after each change and, while there is a policy, every [`EVERY`] when
//! something was refused meanwhile. What the rules do is `net::egress`'s.
//!
//! Crash behaviour: a runner killed between the two is succeeded by one that asks again.

use super::Live;
use crate::net::dns::Forwarder;
use crate::net::egress::{self, EgressReport, Gate, Wanted};
use crate::protocol::Start;
use crate::record;
use crate::sys::process;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often what was refused is looked at.
const EVERY: Duration = Duration::from_secs(5);

pub(super) struct Policy<'a> {
    start: &'a Start,
    /// Its own copy of the state directory.
    state: Option<OwnedFd>,
    /// SIGHUP.
    pub(super) hangups: Option<OwnedFd>,
    /// Whether there is anything to be removed.
    pub(super) was_there: bool,
    /// As written last.
    told: EgressReport,
    next: Option<Instant>,
}

impl<'a> Policy<'a> {
    pub(super) fn new(start: &'a Start, live: &Live) -> Self {
        let routed = matches!(start.spec.network, crate::spec::Network::Routed { .. });
        Self {
            start,
            state: live.state.as_fd().try_clone_to_owned().ok(),
            hangups: process::hangups().ok().filter(|_| routed),
            was_there: start.spec.policy().is_some(),
            told: EgressReport::default(),
            next: None,
        }
    }

    /// The policy it was started with.
    pub(super) fn first(&mut self) -> Option<Gate> {
        let egress = self.start.spec.policy()?.clone();
        self.next = Some(Instant::now());
        Some(Gate::new(&self.start.host, &self.start.spec.id, egress))
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        let next = self.next?;
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Does what the runner wants, if that is new.
    pub(super) fn look(&mut self, forwarder: &mut Forwarder) {
        if let Some(hangups) = &self.hangups {
            let mut bytes = [0u8; 1024];
            while rustix::io::read(hangups, &mut bytes).is_ok_and(|count| count > 0) {}
        }
        let wanted = record::read::<Wanted>(&self.start.spec.state, record::EGRESS_WANTED);
        let Some(wanted) = wanted.ok().flatten() else {
            return;
        };
        if wanted.change <= self.told.change {
            return;
        }
        let error = self.change(wanted.policy, forwarder).err();
        self.told.change = wanted.change;
        self.told.error = error.map(|error| error.to_string().trim().to_owned());
        self.tell(forwarder, true);
    }

    fn change(
        &mut self,
        policy: Option<crate::spec::Egress>,
        forwarder: &mut Forwarder,
    ) -> io::Result<()> {
        let (host, id) = (&self.start.host, &self.start.spec.id);
        match (policy, forwarder.gate()) {
            (None, _) => {
                egress::remove(host, id)?;
                forwarder.set_gate(None);
                self.next = None;
            }
            (Some(policy), Some(gate)) => gate.change(policy, Instant::now())?,
            (Some(policy), None) => {
                // Were this process killed now, the runner would find it by the cgroups.
                self.was_there = true;
                egress::install(host, id, &policy)?;
                forwarder.set_gate(Some(Gate::new(host, id, policy)));
                self.next = Some(Instant::now() + EVERY);
            }
        }
        Ok(())
    }

    /// Tells what was refused, when it is time.
    pub(super) fn report(&mut self, forwarder: &mut Forwarder) {
        if self.next.is_some_and(|next| next <= Instant::now()) {
            self.tell(forwarder, false);
            self.next = Some(Instant::now() + EVERY);
        }
    }

    fn tell(&mut self, forwarder: &mut Forwarder, always: bool) {
        let report = forwarder
            .gate()
            .map_or_else(EgressReport::default, |gate| gate.report());
        let report = EgressReport {
            change: self.told.change,
            error: self.told.error.clone(),
            ..report
        };
        if (always || report != self.told)
            && let Some(state) = &self.state
            && record::write(state.as_fd(), record::EGRESS, &report).is_ok()
        {
            self.told = report;
        }
    }
}
