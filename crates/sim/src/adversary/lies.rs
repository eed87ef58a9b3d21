//! The lies of each script, and what an honest participant has to make of them.

use super::{Adversary, Asked, Expected, Lie, Script, Seen};
use crate::dice::Permille;
use sordino_forge::{self as forge, Advertisement, Delivered, Roster};
use sordino_secagg::coordinator::Millis;
use sordino_secagg::participant::Refusal;
use sordino_secagg::{Step, Topology};
use std::collections::BTreeSet;

impl Adversary {
    /// Whether there is something to say where the core says nothing.
    pub(super) fn speaks_alone(&mut self, asked: &Asked<'_>) -> bool {
        let (now, to) = (asked.now, asked.to);
        let has_closed = asked.core.is_past(Step::ConsistencyCheck);
        let script = self.script;
        let seen = self.seen(asked.attempt);
        match (script, asked.step) {
            (Script::GivesAnotherModel, Step::ShareKeys) => {
                seen.other_model.contains_key(&to) && !seen.rosters.is_empty()
            }
            (Script::DeclaresDropped, Step::ConsistencyCheck) => seen.survivors.is_some(),
            (_, Step::Unmasking) if seen.false_signatures.contains_key(&to) => {
                // Once all who were shown a false list have signed it, or have had the time.
                let all = seen.lists.keys().all(|other| seen.false_signatures.contains_key(other));
                let waited = seen.first_false.is_some_and(|first| now >= first + PATIENCE);
                all && has_closed || waited
            }
            _ => false,
        }
    }

    /// Whether there will be something to say, where the core says nothing: the victim has to wait for it.
    pub(super) fn owes(&mut self, asked: &Asked<'_>) -> bool {
        let script = self.script;
        let seen = self.seen(asked.attempt);
        match (script, asked.step) {
            (Script::GivesAnotherModel, Step::ShareKeys) | (Script::DeclaresDropped, Step::ConsistencyCheck) => true,
            (_, Step::Unmasking) => seen.lists.contains_key(&asked.to),
            _ => false,
        }
    }

    pub(super) fn lie(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let step = asked.step;
        match (self.script, step) {
            (
                Script::LiesAboutSurvivors | Script::TwoSurvivorSets | Script::AsksForBothShares,
                Step::ConsistencyCheck,
            ) => self.false_list(asked),
            (Script::LiesAboutSurvivors | Script::TwoSurvivorSets | Script::AsksForBothShares, Step::Unmasking) => {
                self.foreign_signatures(asked)
            }
            (Script::ReplacesKeys, Step::ShareKeys) => self.replaced_keys(asked),
            (Script::InventsParticipants, Step::ShareKeys) => self.invented_neighbours(asked),
            (Script::ShrinksTheCohort, Step::ShareKeys) => self.shrunk_roster(asked),
            (Script::ShrinksTheCohort, Step::ConsistencyCheck) => self.shrunk_list(asked),
            (Script::ForgesTheGraph, Step::ShareKeys) => self.forged_graph(asked),
            (Script::GivesAnotherModel, Step::ShareKeys) => self.roster_for_another_model(asked),
            (Script::ReplaysAnOldAttempt, _) => self.replayed(asked),
            (Script::WithholdsMessages, Step::MaskedInput) => self.fewer_shares(asked),
            (Script::WithholdsMessages, Step::Unmasking) => self.fewer_signatures(asked),
            (Script::DeclaresDropped, Step::ConsistencyCheck) => self.declared_dropped(asked),
            _ => None,
        }
    }

    fn threshold(&self, n: u32) -> Option<u32> {
        Topology::derive(n, &self.plan.faults).ok().map(|topology| topology.t)
    }

    /// The victim's roster, with all leaves; and whether the registrar is in on it. That is of use only where everybody is
    /// everybody's neighbour: elsewhere another root makes another graph.
    fn roster(&mut self, asked: &Asked<'_>) -> Option<(Roster, bool)> {
        let roster = self.seen(asked.attempt).rosters.get(&asked.to)?.clone();
        // A receipt that a crash swallowed leaves a gap among the leaves.
        if forge::merkle::root(&roster.leaves) != roster.root {
            return None;
        }
        let is_complete = roster.neighbours.len() + 1 == roster.n as usize;
        Some((roster, is_complete && self.dice.chance(Permille(500))))
    }

    fn replaced_keys(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let (mut roster, registrar) = self.roster(asked)?;
        let at = self.dice.index(roster.neighbours.len());
        let (index, advertisement, _) = &roster.neighbours[at];
        let (index, mut other) = (*index, Advertisement::read(advertisement));
        // Whose secret it knows.
        if self.dice.chance(Permille(500)) {
            other.channel.0 = [9; 32];
        } else {
            other.mask.0 = [9; 32];
        }
        let id = other.id.clone();
        let other = other.sign(&self.own);
        let why = if registrar {
            roster.replace(index, other);
            roster.sign(&self.registrar);
            "its certificate's key did not sign the advertised keys"
        } else {
            roster.neighbours[at].1 = other;
            "its advertised keys are not those in the roster"
        };
        Some((roster.write(), refused(Refusal::BadNeighbour { id, why: why.into() })))
    }

    fn invented_neighbours(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let (mut roster, registrar) = self.roster(asked)?;
        let at = self.dice.index(roster.neighbours.len());
        let (index, advertisement, _) = &roster.neighbours[at];
        let (index, template) = (*index, Advertisement::read(advertisement));
        let invent = |id: &str| Advertisement { id: id.into(), certificates: id.into(), ..template.clone() };
        let id = INVENTED.to_owned();
        let nobody = invent(&id).sign(&self.own);
        if registrar {
            roster.replace(index, nobody);
            roster.sign(&self.registrar);
            let why = "nobody of this name was admitted".into();
            return Some((roster.write(), refused(Refusal::BadNeighbour { id, why })));
        }
        if self.dice.chance(Permille(500)) {
            roster.neighbours[at].1 = nobody;
            let why = "its advertised keys are not those in the roster".into();
            return Some((roster.write(), refused(Refusal::BadNeighbour { id, why })));
        }
        // Beside the others, in a roster of the coordinator's own.
        for number in 0..self.dice.between(1, 5) {
            let sybil = invent(&format!("zz-nobody-{number}")).sign(&self.own);
            let place = u32::try_from(roster.leaves.len()).ok()?;
            roster.leaves.push(forge::roster_leaf(&sybil));
            roster.neighbours.push((place, sybil, Vec::new()));
        }
        roster.sign(&self.own);
        Some((roster.write(), refused(Refusal::RosterSignature { n: roster.n })))
    }

    fn shrunk_roster(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        if self.dice.chance(Permille(300)) {
            return None;
        }
        let (mut roster, registrar) = self.roster(asked)?;
        let min = self.plan.min_survivors;
        let n = self.dice.between(1, u64::from(min) - 1);
        roster.leaves.truncate(usize::try_from(n).ok()?);
        roster.neighbours.retain(|(index, ..)| u64::from(*index) < n);
        let key = if registrar { self.registrar.clone() } else { self.own.clone() };
        roster.sign(&key);
        Some((roster.write(), refused(Refusal::RosterTooSmall { n: roster.n, min })))
    }

    fn shrunk_list(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let min = self.plan.min_survivors as usize;
        let left = self.dice.between(1, min as u64 - 1);
        let seen = self.seen(asked.attempt);
        let roster = seen.rosters.get(&asked.to)?;
        let others = seen.survivors.as_ref()?.iter().copied().filter(|index| *index != roster.index);
        let members: BTreeSet<u32> = others.take(usize::try_from(left - 1).ok()?).chain([roster.index]).collect();
        self.list(asked, members)
    }

    fn forged_graph(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let (mut roster, _) = self.roster(asked)?;
        let neighbours = &mut roster.neighbours;
        match self.dice.between(0, 3) {
            0 => drop(neighbours.pop()),
            1 if neighbours.len() > 1 => neighbours.swap(0, 1),
            2 => neighbours.push(neighbours[0].clone()),
            _ => neighbours.clear(),
        }
        Some((roster.write(), refused(Refusal::WrongNeighbours)))
    }

    /// A roster for the victim of another model: that of the others, with their context or the victim's; or one that the
    /// registrar signed for it, where the neighbours' own signatures tell.
    fn roster_for_another_model(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let context = *self.plan.context_at(asked.to, asked.attempt).digest().as_bytes();
        let (id, colludes, is_raw) = (asked.id(self), self.dice.chance(Permille(400)), self.dice.chance(Permille(500)));
        let seen = self.seen.get(&asked.attempt)?;
        let of_others = seen.rosters.values().next()?;
        if is_raw {
            let refusal = Refusal::WrongContext { step: Step::ShareKeys };
            return Some((of_others.write(), refused(refusal)));
        }
        let own = seen.other_model.get(&asked.to)?;
        let mut everybody = seen.advertised.clone();
        everybody.insert(id.clone(), own.clone());
        let n = u32::try_from(everybody.len()).ok()?;
        let topology = Topology::derive(n, &self.plan.faults).ok().filter(|topology| topology.k + 1 == n);
        if !colludes || topology.is_none() || n < self.plan.min_survivors {
            let index = of_others.index;
            return Some((forge::relabel(&of_others.write(), &context), refused(Refusal::NotInRoster { index })));
        }
        let index = u32::try_from(everybody.keys().position(|other| *other == id)?).ok()?;
        let neighbours = (0..).zip(everybody.values()).filter(|(other, _)| *other != index);
        let mut roster = Roster {
            context,
            index,
            leaves: everybody.values().map(|advertisement| forge::roster_leaf(advertisement)).collect(),
            neighbours: neighbours.map(|(other, advertisement)| (other, advertisement.clone(), Vec::new())).collect(),
            ..of_others.clone()
        };
        roster.sign(&self.registrar);
        let id = everybody.keys().find(|other| **other != id)?.to_string();
        let why = "it advertised for another context: it may have been given another model".into();
        Some((roster.write(), refused(Refusal::BadNeighbour { id, why })))
    }

    /// What was said in the attempt before, as it was or with its context exchanged.
    fn replayed(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let relabels = self.dice.chance(Permille(500));
        let context = self.digest(asked.attempt);
        let before = self.seen.get(&asked.attempt.checked_sub(1)?)?;
        let old = before.openings.get(&(asked.to, asked.step))?.clone();
        let (then, now) = (before.rosters.get(&asked.to)?, self.seen.get(&asked.attempt)?.rosters.get(&asked.to));
        let raw = Some((old.clone(), refused(Refusal::WrongContext { step: asked.step })));
        if !relabels {
            return raw;
        }
        let refusal = match asked.step {
            Step::ShareKeys => Refusal::NotInRoster { index: then.index },
            // The same neighbours at the same places: what gives it away is what the dealers signed.
            Step::MaskedInput if now.is_some_and(|now| (now.n, now.index) == (then.n, then.index)) => {
                let places = |roster: &Roster| roster.neighbours.iter().map(|(index, ..)| *index).collect::<Vec<_>>();
                if now.map(places) != Some(places(then)) {
                    return raw;
                }
                Refusal::AlteredShares { dealer: Delivered::parse(&old)?.deliveries.first()?.dealer }
            }
            _ => return raw,
        };
        Some((forge::relabel(&old, &context), refused(refusal)))
    }

    /// Whether a victim gets no answer at all, for now.
    pub(super) fn holds_back(&mut self, asked: &Asked<'_>) -> bool {
        // By step and victim, the same whenever it asks; for half of the steps' time, or all of it.
        let turn = (asked.to as u64 + asked.step as u64 + self.plan.seed.0) % 6;
        match turn {
            0 => true,
            1 => asked.now % self.plan.timing.step < self.plan.timing.step / 2,
            _ => false,
        }
    }

    fn fewer_shares(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let mut delivered = Delivered::parse(asked.truth.as_ref()?)?;
        let left = self.dice.index(delivered.deliveries.len().max(1));
        while delivered.deliveries.len() > left {
            delivered.deliveries.remove(self.dice.index(delivered.deliveries.len()));
        }
        let n = self.seen(asked.attempt).rosters.get(&asked.to)?.n;
        let threshold = self.threshold(n)?;
        let answering = u32::try_from(left).ok()?;
        let few = Refusal::TooFewNeighbours { step: asked.step, answering, threshold };
        Some((delivered.write(), if answering < threshold { refused(few) } else { Expected::Believed }))
    }

    fn fewer_signatures(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let context = self.digest(asked.attempt);
        let roster = self.seen(asked.attempt).rosters.get(&asked.to)?.clone();
        let threshold = self.threshold(roster.n)?;
        let signatures = self.signatures_for(asked, &roster);
        let left = self.dice.index(threshold as usize).min(signatures.len());
        let list = &signatures[..left];
        let answering = u32::try_from(left).ok()?;
        let few = Refusal::TooFewNeighbours { step: asked.step, answering, threshold };
        Some((forge::signature_list(&context, list), refused(few)))
    }

    /// The true signatures of the victim's neighbours.
    fn signatures_for(&mut self, asked: &Asked<'_>, roster: &Roster) -> Vec<(u32, [u8; 64])> {
        let signatures = &self.seen(asked.attempt).signatures;
        let neighbours = roster.neighbours.iter().map(|(index, ..)| *index);
        neighbours.filter_map(|index| Some((index, *signatures.get(&index)?))).collect()
    }

    fn declared_dropped(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let members = self.seen(asked.attempt).survivors.clone()?;
        self.list(asked, members)
    }

    /// A survivor list that is not the core's.
    fn false_list(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let (script, victims) = (self.script, self.plan.victims.clone());
        let seen = self.seen.get(&asked.attempt)?;
        let (own, n) = seen.rosters.get(&asked.to).map(|roster| (roster.index, roster.n))?;
        let mut members = seen.survivors.clone()?;
        match script {
            Script::LiesAboutSurvivors => match self.dice.between(0, 3) {
                0 => drop(members.remove(&own)),
                1 => members.extend((0..n).filter(|_| self.dice.chance(Permille(300)))),
                _ => members.retain(|_| self.dice.chance(Permille(700))),
            },
            _ => {
                // The same one is missing for everybody who is shown this list: not one of them.
                let shown: BTreeSet<u32> =
                    victims.iter().filter_map(|place| Some(seen.rosters.get(place)?.index)).collect();
                let missing = members.iter().copied().find(|index| !shown.contains(index))?;
                members.remove(&missing);
            }
        }
        if Some(&members) == self.seen(asked.attempt).survivors.as_ref() {
            return None;
        }
        self.list(asked, members)
    }

    /// A survivor list under the signature of an honest registrar, which is that of the core's list, or of none.
    fn unsigned_list(&mut self, asked: &Asked<'_>, members: &BTreeSet<u32>) -> Option<Lie> {
        let is_of_the_core = self.dice.chance(Permille(500));
        let (context, own) = (self.digest(asked.attempt), self.own.clone());
        let seen = self.seen(asked.attempt);
        let Roster { n, root, .. } = seen.rosters.get(&asked.to)?;
        let members = || members.iter().copied();
        let list = match &asked.truth {
            Some(truth) if is_of_the_core => forge::other_survivors(truth, *n, members())?,
            _ => forge::survivor_list(&context, root, *n, members(), &own),
        };
        let survivors = u32::try_from(members().count()).ok()?;
        Some((list, refused(Refusal::SurvivorsSignature { survivors, n: *n })))
    }

    /// A survivor list, and what `docs/protocol.md`, type 6, makes of it. The registrar is in on it, or it is not.
    fn list(&mut self, asked: &Asked<'_>, members: BTreeSet<u32>) -> Option<Lie> {
        let is_the_cores = self.seen(asked.attempt).survivors.as_ref() == Some(&members);
        if !is_the_cores && self.dice.chance(Permille(200)) {
            return self.unsigned_list(asked, &members);
        }
        let (context, min, step) = (self.digest(asked.attempt), self.plan.min_survivors, Step::ConsistencyCheck);
        let registrar = self.registrar.clone();
        let n = self.seen(asked.attempt).rosters.get(&asked.to)?.n;
        let threshold = self.threshold(n)?;
        let Seen { rosters, delivered, lists, .. } = self.seen(asked.attempt);
        let (roster, delivered) = (rosters.get(&asked.to)?, delivered.get(&asked.to)?);
        let surviving: Vec<u32> =
            roster.neighbours.iter().map(|(index, ..)| *index).filter(|index| members.contains(index)).collect();
        let survivors = u32::try_from(members.len()).ok()?;
        let answering = u32::try_from(surviving.len()).ok()?;
        let unknown = surviving.iter().copied().find(|index| !delivered.contains(index));
        let expected = if survivors < min {
            refused(Refusal::TooFewSurvivors { survivors, n, min })
        } else if !members.contains(&roster.index) {
            refused(Refusal::NotCounted)
        } else if let Some(index) = unknown {
            refused(Refusal::UnknownSurvivor { index })
        } else if answering < threshold {
            refused(Refusal::TooFewNeighbours { step, answering, threshold })
        } else {
            lists.insert(asked.to, members.clone());
            Expected::Believed
        };
        Some((forge::survivor_list(&context, &roster.root, n, members, &registrar), expected))
    }

    /// For a victim that signed a false list: the signatures of a true one, or all that there are of the false one.
    fn foreign_signatures(&mut self, asked: &Asked<'_>) -> Option<Lie> {
        let (context, step) = (self.digest(asked.attempt), asked.step);
        let seen = self.seen.get(&asked.attempt)?;
        let (roster, members) = (seen.rosters.get(&asked.to)?.clone(), seen.lists.get(&asked.to)?.clone());
        let threshold = self.threshold(roster.n)?;
        let of_false_list = self.script == Script::AsksForBothShares;
        let mut list = if of_false_list {
            let places = |(place, signature): (&usize, &[u8; 64])| Some((seen.rosters.get(place)?.index, *signature));
            let mut list: Vec<(u32, [u8; 64])> = seen.false_signatures.iter().filter_map(places).collect();
            for (place, key) in &self.corrupt {
                let Some(theirs) = seen.rosters.get(place) else { continue };
                let of = members.iter().copied();
                list.push((theirs.index, forge::survivors_signature(&context, &roster.root, roster.n, of, key)));
            }
            list
        } else {
            self.signatures_for(asked, &roster)
        };
        let is_neighbour = |index: u32| roster.neighbours.iter().any(|(other, ..)| *other == index);
        list.retain(|(index, _)| members.contains(index) && is_neighbour(*index));
        list.sort_unstable();
        let answering = u32::try_from(list.len()).ok()?;
        let expected = match list.first() {
            Some((signer, _)) if !of_false_list => refused(Refusal::BadSignature { signer: *signer }),
            _ if answering < threshold => refused(Refusal::TooFewNeighbours { step, answering, threshold }),
            _ => Expected::Believed,
        };
        Some((forge::signature_list(&context, &list), expected))
    }
}

impl Asked<'_> {
    fn id(&self, adversary: &Adversary) -> sordino_secagg::ParticipantId {
        adversary.names[self.to].clone()
    }
}

fn refused(refusal: Refusal) -> Expected {
    Expected::Refused(refusal)
}

/// Who was never admitted.
pub(super) const INVENTED: &str = "nobody-at-all";
/// How long a coordinator waits for signatures of a false list.
const PATIENCE: Millis = 1_500;
