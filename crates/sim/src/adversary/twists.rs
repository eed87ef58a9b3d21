//! What corrupt participants send instead of what they should, and inputs that the network holds back.

use super::{Adversary, Script};
use crate::dice::Permille;
use crate::message::Request;
use ed25519_dalek::SigningKey;
use sordino_forge::{Advertisement, Hash, MaskedInput, ShareKeys, Unmasking};
use sordino_secagg::Step;
use sordino_secagg::coordinator::Millis;

impl Adversary {
    /// What is sent instead of a message, the same each time; and how much later than it should be.
    pub(crate) fn twists(&mut self, who: usize, attempt: u32, request: &Request) -> Option<(Vec<Request>, Millis)> {
        if matches!(request, Request::Ask { .. }) {
            return None;
        }
        if self.script == Script::InputsComeLate {
            let is_late = self.plan.victims.contains(&who) && request.step() == Step::MaskedInput;
            return is_late.then(|| (vec![request.clone()], self.plan.timing.step + self.dice.between(0, LATE_MAX)));
        }
        if self.script.is_of_coordinator() {
            return None;
        }
        let key = self.corrupt.get(&who)?.clone();
        let place = (who, attempt, request.step());
        if let Some(twisted) = self.twisted.get(&place) {
            return Some((twisted.clone(), 0));
        }
        let twisted = self.twist(who, attempt, request, &key);
        self.twisted.insert(place, twisted.clone());
        Some((twisted, 0))
    }

    fn twist(&mut self, who: usize, attempt: u32, request: &Request, key: &SigningKey) -> Vec<Request> {
        let say = |bytes| Request::Say { step: request.step(), bytes };
        match (self.script, request) {
            (Script::SendsGarbage, _) if self.dice.chance(Permille(300)) => vec![self.garbage(request)],
            (Script::DealsWrongShares, Request::Say { step: Step::ShareKeys, bytes }) => {
                let shares = ShareKeys::parse(bytes).map(|shares| self.wrong_shares(shares).sign(key));
                shares.map(say).into_iter().collect()
            }
            (Script::SpoilsFewShares, Request::Say { step: Step::ShareKeys, bytes }) => {
                let shares = ShareKeys::parse(bytes).map(|shares| self.few_wrong_shares(shares).sign(key));
                shares.map(say).into_iter().collect()
            }
            (Script::ComplainsFalsely, Request::Upload { header, bytes }) => {
                let header =
                    MaskedInput::parse(header).map(|header| self.false_complaint(who, attempt, &header).sign(key));
                header.map(|header| Request::Upload { header, bytes: bytes.clone() }).into_iter().collect()
            }
            (Script::ComplainsFalsely, Request::Say { step: Step::Unmasking, bytes }) => {
                // Half of them reveal the rest as they have to.
                let about = self.seen(attempt).complaints.get(&who).cloned().unwrap_or_default();
                let mut message = Unmasking::parse(bytes);
                if self.dice.chance(Permille(500)) {
                    message.iter_mut().for_each(|m| m.shares.retain(|share| !about.contains(&share.dealer)));
                }
                message.map(|message| say(message.sign(key))).into_iter().collect()
            }
            // What else is wrong with proofs is in the plan.
            (Script::ProvesBadly, Request::Say { step: Step::ShareKeys, bytes }) if self.dice.chance(Permille(150)) => {
                let shares = ShareKeys::parse(bytes).map(|shares| self.other_commitments(shares).sign(key));
                shares.map(say).into_iter().collect()
            }
            (Script::RevealsWrongShares, Request::Say { step: Step::Unmasking, bytes }) => {
                let shares = Unmasking::parse(bytes).map(|shares| self.wrong_reveals(shares).sign(key));
                shares.map(say).into_iter().collect()
            }
            (Script::RepeatsOldShares, Request::Say { step: Step::ShareKeys, bytes }) => {
                // The twist of the first attempt is what was sent in it.
                let old = attempt.checked_sub(1).and_then(|before| self.twisted.get(&(who, before, Step::ShareKeys)));
                let Some(Request::Say { bytes: old, .. }) = old.and_then(|sent| sent.first()) else {
                    return vec![request.clone()];
                };
                let context = self.digest(attempt);
                let index = ShareKeys::parse(bytes).map_or(0, |shares| shares.index);
                let again = ShareKeys::parse(old).map(|shares| ShareKeys { context, index, ..shares }.sign(key));
                [Some(old.clone()), again].into_iter().flatten().map(say).collect()
            }
            (Script::SaysTwoThings, _) => {
                let second = self.second(request, key);
                [request.clone()].into_iter().chain(second).collect()
            }
            _ => vec![request.clone()],
        }
    }

    fn garbage(&mut self, request: &Request) -> Request {
        let mut request = request.clone();
        if self.dice.chance(Permille(500)) {
            request.corrupt(&mut self.dice);
            return request;
        }
        let noise: Vec<u8> = (0..self.dice.between(0, 7)).flat_map(|_| self.dice.bytes()).collect();
        match &mut request {
            Request::Say { bytes, .. } => *bytes = noise,
            Request::Upload { header, .. } if noise.len().is_multiple_of(64) => *header = noise,
            Request::Upload { bytes, .. } => *bytes = noise,
            Request::Ask { .. } => {}
        }
        request
    }

    fn wrong_shares(&mut self, mut shares: ShareKeys) -> ShareKeys {
        match self.dice.between(0, 3) {
            0 => shares.self_seed_commitment[0] ^= 1,
            1 => {
                let all = shares.records.iter_mut();
                all.for_each(|record| record.commitments.swap(0, 1));
            }
            _ => {
                for record in &mut shares.records {
                    let at = self.dice.index(record.sealed.len());
                    record.sealed[at] ^= u8::from(self.dice.chance(Permille(500)));
                }
            }
        }
        shares
    }

    /// Of the same length, mostly.
    fn other_commitments(&mut self, mut shares: ShareKeys) -> ShareKeys {
        match self.dice.between(0, 2) {
            0 => drop(shares.commitments.pop()),
            _ => {
                let at = self.dice.index(shares.commitments.len());
                shares.commitments[at] ^= 1 << self.dice.index(8);
            }
        }
        shares
    }

    /// No more holders than may be corrupt cannot open theirs: nobody can tell that it was not they who lie.
    fn few_wrong_shares(&mut self, mut shares: ShareKeys) -> ShareKeys {
        for _ in 0..self.plan.faults.corrupt {
            let at = self.dice.index(shares.records.len());
            shares.records[at].sealed[30] ^= 1;
        }
        shares
    }

    /// Of some of the dealers whose shares it was delivered.
    fn false_complaint(&mut self, who: usize, attempt: u32, header: &MaskedInput) -> MaskedInput {
        let dealers: Vec<u32> = self.seen(attempt).delivered.get(&who).into_iter().flatten().copied().collect();
        let rate = Permille(if self.dice.chance(Permille(300)) { 1_000 } else { 300 });
        let mut complaints: Vec<u32> = dealers.iter().copied().filter(|_| self.dice.chance(rate)).collect();
        if complaints.is_empty() && !dealers.is_empty() {
            complaints.push(dealers[self.dice.index(dealers.len())]);
        }
        self.seen(attempt).complaints.insert(who, complaints.clone());
        MaskedInput { complaints, ..header.clone() }
    }

    fn wrong_reveals(&mut self, mut message: Unmasking) -> Unmasking {
        if message.shares.is_empty() {
            return message;
        }
        let at = self.dice.index(message.shares.len());
        match self.dice.between(0, 5) {
            0 => message.shares[at].share = [1; 32],
            1 => message.shares[at].salt[9] ^= 1,
            2 => message.shares[at].role ^= 1,
            3 => message.shares[at].dealer ^= 1,
            4 => message.shares.insert(at, message.shares[at].clone()),
            _ => drop(message.shares.remove(at)),
        }
        message
    }

    /// Another message for the same step. The masks that it stands for are the same: an input of any content is something
    /// that only a proof could forbid.
    fn second(&mut self, request: &Request, key: &SigningKey) -> Option<Request> {
        let other = |step, bytes| Request::Say { step, bytes };
        match request {
            Request::Say { step: step @ Step::AdvertiseKeys, bytes } => {
                let mut advertisement = Advertisement::parse(bytes)?;
                advertisement.channel.0 = [9; 32];
                Some(other(*step, advertisement.sign(key)))
            }
            Request::Say { step: step @ Step::ShareKeys, bytes } => {
                Some(other(*step, self.wrong_shares(ShareKeys::parse(bytes)?).sign(key)))
            }
            Request::Say { step: step @ Step::ConsistencyCheck, bytes } => {
                let mut bytes = bytes.clone();
                *bytes.last_mut()? ^= 1;
                Some(other(*step, bytes))
            }
            Request::Say { step: step @ Step::Unmasking, bytes } => {
                Some(other(*step, self.wrong_reveals(Unmasking::parse(bytes)?).sign(key)))
            }
            Request::Upload { header, bytes } => {
                let dealers: Hash = self.dice.bytes();
                let header = MaskedInput { dealers, ..MaskedInput::parse(header)? }.sign(key);
                Some(Request::Upload { header, bytes: bytes.clone() })
            }
            Request::Say { step: Step::MaskedInput, .. } | Request::Ask { .. } => None,
        }
    }
}

/// Beyond the deadline of the step, at most.
const LATE_MAX: Millis = 3_000;
