//! Everything that a coordinator and the corrupt participants know together, and what follows from it.
//!
//! The coordinator sees every message that was ever sent. Corrupt participants hold what was dealt to them, both shares
//! of each dealer, and their own secrets. An observer that knows who is corrupt writes all of it down and asks, after
//! each change, what could be computed from it: with `t` shares of a secret, that secret; with it, its masks.

use sordino_forge::{self as forge, Delivered, Hash, Roster, ShareKeys, Unmasking};
use sordino_secagg::{Faults, ParticipantId, Step, Topology};
use std::collections::{BTreeMap, BTreeSet};

/// What coordinator and corrupt participants know, by attempt.
#[derive(Default)]
pub struct Knowledge {
    /// Who tells the coordinator everything.
    pub corrupt: BTreeSet<ParticipantId>,
    /// What the graphs of this world are made for.
    faults: Option<Faults>,
    /// Fewest inputs that a sum may hold.
    min_survivors: u32,
    attempts: BTreeMap<Hash, Attempt>,
    /// The dealers that an input was masked with, by its header.
    masked_with: BTreeMap<Vec<u8>, Vec<u32>>,
    both: Option<String>,
    sums: Option<String>,
}

#[derive(Default)]
struct Attempt {
    /// Participants by their place in the roster, as each of them believes it.
    places: BTreeMap<u32, ParticipantId>,
    /// Shares that open a dealer's secrets.
    thresholds: BTreeMap<u32, u32>,
    /// To whom a dealer gave shares.
    dealt: BTreeMap<u32, BTreeSet<u32>>,
    /// Who revealed a share of the root, and of the self-mask seed, of a dealer.
    revealed: [BTreeMap<u32, BTreeSet<u32>>; 2],
    /// Masked inputs that were sent, with the dealers whose masks are in them.
    masked: BTreeMap<u32, Vec<u32>>,
}

const ROOT: usize = 0;
const SELF_SEED: usize = 1;

impl Knowledge {
    /// Nothing yet.
    pub(crate) fn new(corrupt: BTreeSet<ParticipantId>, faults: Faults, min_survivors: u32) -> Self {
        Self { corrupt, faults: Some(faults), min_survivors, ..Self::default() }
    }

    /// A participant believes a roster.
    pub(crate) fn takes_place(&mut self, id: &ParticipantId, roster: &[u8]) {
        let Some(Roster { context, index, n, .. }) = Roster::parse(roster, Vec::new()) else { return };
        let attempt = self.attempts.entry(context).or_default();
        attempt.places.insert(index, id.clone());
        if let Some(topology) = self.faults.and_then(|faults| Topology::derive(n, &faults).ok()) {
            attempt.thresholds.insert(index, topology.t);
        }
    }

    /// A participant has masked its input with these dealers' masks.
    pub(crate) fn masks(&mut self, delivered: &[u8], header: &[u8]) {
        let Some(delivered) = Delivered::parse(delivered) else { return };
        let dealers = delivered.deliveries.iter().map(|delivery| delivery.dealer).collect();
        self.masked_with.insert(header.to_vec(), dealers);
    }

    /// A participant has handed a message to the network; of an upload, its header.
    pub(crate) fn hears(&mut self, step: Step, message: &[u8]) {
        let Some(context) = forge::context_of(message) else { return };
        match step {
            Step::ShareKeys => {
                let Some(ShareKeys { index, records, .. }) = ShareKeys::parse(message) else { return };
                let holders = records.iter().map(|record| record.holder);
                self.attempts.entry(context).or_default().dealt.entry(index).or_default().extend(holders);
            }
            Step::MaskedInput => {
                let Some(dealers) = self.masked_with.get(message) else { return };
                let Some(header) = forge::MaskedInput::parse(message) else { return };
                let dealers = dealers.clone();
                self.attempts.entry(context).or_default().masked.insert(header.index, dealers);
            }
            Step::Unmasking => {
                let Some(Unmasking { index, shares, .. }) = Unmasking::parse(message) else { return };
                let attempt = self.attempts.entry(context).or_default();
                for share in shares {
                    let of_role = &mut attempt.revealed[if share.role == 0 { ROOT } else { SELF_SEED }];
                    of_role.entry(share.dealer).or_default().insert(index);
                }
            }
            Step::AdvertiseKeys | Step::ConsistencyCheck => return,
        }
        if let Some(attempt) = self.attempts.get(&context) {
            self.both = self.both.take().or_else(|| attempt.both_secrets(&self.corrupt));
            self.sums = self.sums.take().or_else(|| attempt.sums(&self.corrupt, self.min_survivors));
        }
    }

    /// Whether of no honest participant both secrets can be computed.
    pub(crate) fn keeps_secrets_apart(&self) -> Result<(), String> {
        self.both.clone().map_or(Ok(()), Err)
    }

    /// Whether all that can be unmasked in an attempt is one sum of enough inputs.
    pub(crate) fn is_one_sum(&self) -> Result<(), String> {
        self.sums.clone().map_or(Ok(()), Err)
    }
}

impl Attempt {
    fn is_corrupt(&self, place: u32, corrupt: &BTreeSet<ParticipantId>) -> bool {
        self.places.get(&place).is_some_and(|id| corrupt.contains(id))
    }

    /// Whether a dealer's secret can be computed: it is corrupt itself, or enough of its shares are known.
    fn knows(&self, secret: usize, dealer: u32, corrupt: &BTreeSet<ParticipantId>) -> bool {
        if self.is_corrupt(dealer, corrupt) {
            return true;
        }
        let Some(&threshold) = self.thresholds.get(&dealer) else { return false };
        let mut holders = self.revealed[secret].get(&dealer).cloned().unwrap_or_default();
        // What corrupt ones say they hold is theirs to invent; what they were dealt counts below.
        holders.retain(|holder| !self.is_corrupt(*holder, corrupt));
        let dealt = self.dealt.get(&dealer).into_iter().flatten();
        holders.extend(dealt.filter(|holder| self.is_corrupt(**holder, corrupt)));
        holders.len() >= threshold as usize
    }

    fn both_secrets(&self, corrupt: &BTreeSet<ParticipantId>) -> Option<String> {
        let honest = self.places.iter().filter(|(_, id)| !corrupt.contains(*id));
        let mut both =
            honest.filter(|(place, _)| self.knows(ROOT, **place, corrupt) && self.knows(SELF_SEED, **place, corrupt));
        both.next().map(|(_, id)| format!("root and self-mask seed of {id} can both be computed"))
    }

    /// Sets of honest participants whose inputs' sum can be computed, as small as they get.
    ///
    /// A masked input keeps its self mask, unless the seed is known, and the pairwise masks with honest neighbours whose
    /// roots are not known, unless the neighbour's input is added, in which the same mask stands with the other sign. So
    /// inputs go together along such masks; a set that needs anything that is not known, nobody can unmask.
    fn unmaskable(&self, corrupt: &BTreeSet<ParticipantId>) -> Vec<BTreeSet<u32>> {
        let honest: BTreeMap<u32, &Vec<u32>> = self
            .masked
            .iter()
            .filter(|(place, _)| !self.is_corrupt(**place, corrupt))
            .map(|(place, dealers)| (*place, dealers))
            .collect();
        let hidden: BTreeSet<u32> = honest
            .iter()
            .flat_map(|(place, dealers)| dealers.iter().chain([place]))
            .copied()
            .filter(|place| !self.knows(ROOT, *place, corrupt))
            .collect();
        let mut sets = Vec::new();
        let mut visited = BTreeSet::new();
        for &first in honest.keys() {
            let (mut set, mut queue, mut is_open) = (BTreeSet::new(), vec![first], true);
            while let Some(place) = queue.pop() {
                if !visited.insert(place) {
                    continue;
                }
                set.insert(place);
                is_open &= self.knows(SELF_SEED, place, corrupt);
                for other in honest[&place].iter().filter(|other| hidden.contains(*other) && hidden.contains(&place)) {
                    // The other end has the mask in its input too, or nothing takes it off.
                    match honest.get(other) {
                        Some(theirs) if theirs.contains(&place) => queue.push(*other),
                        _ => is_open = false,
                    }
                }
            }
            if is_open && !set.is_empty() {
                sets.push(set);
            }
        }
        sets
    }

    fn sums(&self, corrupt: &BTreeSet<ParticipantId>, min: u32) -> Option<String> {
        let sets = self.unmaskable(corrupt);
        let theirs = self.places.values().filter(|id| corrupt.contains(*id)).count();
        match &sets[..] {
            [] => None,
            [one] if one.len() + theirs >= min as usize => None,
            [one] => {
                Some(format!("the inputs of {one:?} can be unmasked, and no more than {theirs} corrupt ones with them"))
            }
            more => Some(format!("{} sums can be unmasked in one attempt: {more:?}", more.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places 0 to 4, of whom 4 is corrupt; everybody dealt to everybody and masked with everybody; t = 3.
    fn attempt() -> (Attempt, BTreeSet<ParticipantId>) {
        let id = |place: u32| ParticipantId::new(&format!("participant-{place}")).expect("a name");
        let mut attempt = Attempt::default();
        for place in 0..5 {
            let others: Vec<u32> = (0..5).filter(|other| *other != place).collect();
            attempt.places.insert(place, id(place));
            attempt.thresholds.insert(place, 3);
            attempt.dealt.insert(place, others.iter().copied().collect());
            attempt.masked.insert(place, others);
        }
        (attempt, [id(4)].into())
    }

    fn reveal(attempt: &mut Attempt, secret: usize, dealer: u32, holders: &[u32]) {
        attempt.revealed[secret].entry(dealer).or_default().extend(holders);
    }

    #[test]
    fn with_all_self_masks_known_one_sum_comes_off() {
        let (mut attempt, corrupt) = attempt();
        for dealer in 0..4 {
            reveal(&mut attempt, SELF_SEED, dealer, &[(dealer + 1) % 4]);
        }
        assert_eq!(
            attempt.unmaskable(&corrupt),
            Vec::<BTreeSet<u32>>::new(),
            "one share and the corrupt one's are two"
        );
        for dealer in 0..4 {
            reveal(&mut attempt, SELF_SEED, dealer, &[(dealer + 2) % 4]);
        }
        assert_eq!(attempt.unmaskable(&corrupt), [BTreeSet::from([0, 1, 2, 3])]);
        assert_eq!(attempt.both_secrets(&corrupt), None);
        assert!(attempt.sums(&corrupt, 5).is_none() && attempt.sums(&corrupt, 6).is_some());
    }

    #[test]
    fn a_root_and_a_self_mask_single_out_one_input() {
        let (mut attempt, corrupt) = attempt();
        reveal(&mut attempt, ROOT, 2, &[0, 1]);
        assert_eq!(attempt.both_secrets(&corrupt), None);
        reveal(&mut attempt, SELF_SEED, 2, &[0, 1]);
        assert_eq!(attempt.unmaskable(&corrupt), [BTreeSet::from([2])]);
        assert!(attempt.both_secrets(&corrupt).is_some() && attempt.sums(&corrupt, 3).is_some());
    }

    #[test]
    fn a_mask_that_stands_in_one_input_only_hides_it() {
        let (mut attempt, corrupt) = attempt();
        (0..4).for_each(|dealer| reveal(&mut attempt, SELF_SEED, dealer, &[0, 1, 2]));
        attempt.masked.get_mut(&3).expect("masked").retain(|dealer| *dealer != 0);
        assert!(attempt.unmaskable(&corrupt).is_empty());
        // Once the root of one end is known, the mask is.
        reveal(&mut attempt, ROOT, 0, &[1, 2]);
        assert_eq!(attempt.unmaskable(&corrupt), [BTreeSet::from([0]), BTreeSet::from([1, 2, 3])]);
    }
}
