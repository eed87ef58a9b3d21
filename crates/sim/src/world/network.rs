//! What becomes of a message between two nodes.

use super::{Event, World};
use crate::dice::{Dice, Permille};
use crate::message::{Reply, Request};
use sordino_secagg::coordinator::Millis;

impl World {
    /// Hands a message to the network: it may be lost, changed, repeated, and is overtaken by others.
    pub(super) fn post(&mut self, event: Event) {
        let network = self.plan.network;
        let is_quiet = self.now >= self.plan.quiet_from;
        if !is_quiet && self.faults.chance(network.loss) {
            self.tally.lost += 1;
            return;
        }
        let arrival = self.now + self.faults.between(1, network.delay_max);
        let again = (!is_quiet && self.faults.chance(network.duplication)).then(|| {
            let latest = if self.faults.chance(Permille(200)) { VERY_LATE } else { LATE };
            arrival + self.faults.between(1, latest)
        });
        let (first, second) = match event {
            Event::ToCoordinator { from, request } => {
                let copy = again.map(|_| Event::ToCoordinator { from, request: request.clone() });
                let request = self.damage(request, network.corruption_up, Request::corrupt, true);
                (Event::ToCoordinator { from, request }, copy)
            }
            Event::ToParticipant { to, reply } => {
                let copy = again.map(|_| Event::ToParticipant { to, reply: reply.clone() });
                let reply = self.damage(reply, network.corruption_down, Reply::corrupt, false);
                (Event::ToParticipant { to, reply }, copy)
            }
            other => (other, None),
        };
        self.at(arrival, first);
        if let (Some(time), Some(copy)) = (again, second) {
            self.tally.repeated += 1;
            self.at(time, copy);
        }
    }

    fn damage<M>(&mut self, mut message: M, how_often: Permille, how: fn(&mut M, &mut Dice) -> bool, up: bool) -> M {
        let strikes = self.now < self.plan.quiet_from && self.faults.chance(how_often);
        if strikes && how(&mut message, &mut self.faults) {
            let count = if up { &mut self.tally.changed_up } else { &mut self.tally.changed_down };
            *count += 1;
        }
        message
    }

    pub(super) fn at(&mut self, time: Millis, event: Event) {
        self.scheduled += 1;
        self.queue.insert((time, self.scheduled), event);
    }
}

/// A repeated message comes this much later,
const LATE: Millis = 1_500;
/// or, rarely, this much: into other steps and other attempts.
const VERY_LATE: Millis = 25_000;
