//! Hostile parties: a coordinator's process with an honest core, whose words are changed on their way to victims, and
//! corrupt participants that say something else than they should.
//!
//! For every lie that is told, the adversary says in advance what an honest participant has to make of it: which
//! [`Refusal`], word for word, or that it may be believed. It works that out from `docs/protocol.md`, not by asking.

mod lies;
mod script;
mod twists;

pub use script::{SUMS_MAX, Script};

use crate::coordinator::CoordinatorNode;
use crate::dice::{Dice, Purpose};
use crate::message::{Answer, Reply, Request};
use crate::participant::certified;
use crate::plan::Plan;
use ed25519_dalek::SigningKey;
use sordino_forge::{self as forge, Delivered, Hash, Roster};
use sordino_secagg::coordinator::{Millis, Outgoing, Receipt};
use sordino_secagg::participant::Refusal;
use sordino_secagg::{CertificateKey, ParticipantId, Step};
use std::collections::{BTreeMap, BTreeSet};

/// What an honest participant has to make of a lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is refused, and this is why.
    Refused(Refusal),
    /// It cannot be told from the truth, and does no harm.
    Believed,
}

/// Hostile parties of a world.
pub(crate) struct Adversary {
    script: Script,
    plan: Plan,
    /// Everybody's name, by place in the cohort.
    names: Vec<ParticipantId>,
    /// Certificate keys of corrupt participants, by place in the cohort.
    corrupt: BTreeMap<usize, SigningKey>,
    /// A key of the coordinator's own.
    own: SigningKey,
    /// The registrar's, for the worlds in which it is in on it.
    registrar: SigningKey,
    dice: Dice,
    /// The step of the first attempt that nobody gets to.
    outage: Step,
    seen: BTreeMap<u32, Seen>,
    /// What a participant is told in a step of an attempt: the same whenever it asks; `None` for the truth.
    told: BTreeMap<(usize, u32, Step), Option<Vec<u8>>>,
    expected: BTreeMap<(usize, Vec<u8>), Expected>,
    twisted: BTreeMap<(usize, u32, Step), Vec<Request>>,
}

/// What a coordinator saw and said in an attempt. Participants by place in the cohort, or by index in the roster.
#[derive(Default)]
struct Seen {
    /// Advertisements that the core took.
    advertised: BTreeMap<ParticipantId, Vec<u8>>,
    /// Rosters as the core announced them.
    rosters: BTreeMap<usize, Roster>,
    /// Dealers whose shares were shown to a participant.
    delivered: BTreeMap<usize, BTreeSet<u32>>,
    /// The core's survivors.
    survivors: Option<BTreeSet<u32>>,
    /// Signatures that the core took, by index.
    signatures: BTreeMap<u32, [u8; 64]>,
    /// False survivor lists that were shown and can be believed.
    lists: BTreeMap<usize, BTreeSet<u32>>,
    /// Signatures of false lists, and when the first one came.
    false_signatures: BTreeMap<usize, [u8; 64]>,
    first_false: Option<Millis>,
    /// What the victim of another model advertised.
    other_model: BTreeMap<usize, Vec<u8>>,
    /// About whom a corrupt participant has complained, by place in the roster.
    complaints: BTreeMap<usize, Vec<u32>>,
    /// Everything that the core announced.
    openings: BTreeMap<(usize, Step), Vec<u8>>,
}

/// A question on its way through the coordinator.
struct Asked<'a> {
    to: usize,
    attempt: u32,
    step: Step,
    /// What the core has for it.
    truth: Option<Vec<u8>>,
    core: &'a CoordinatorNode,
    now: Millis,
}

/// A lie and what becomes of it.
type Lie = (Vec<u8>, Expected);

impl Adversary {
    /// `None` in a world of honest parties.
    pub(crate) fn new(plan: &Plan, keys: &[SigningKey], registrar: &SigningKey) -> Option<Self> {
        let script = plan.script?;
        let mut dice = Dice::new(plan.seed, Purpose::Lies);
        let outages = [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking];
        Some(Self {
            script,
            plan: plan.clone(),
            names: (0..keys.len()).map(|place| plan.participant(place)).collect(),
            corrupt: plan.corrupt.iter().map(|&place| (place, keys[place].clone())).collect(),
            own: SigningKey::from_bytes(&dice.bytes()),
            registrar: registrar.clone(),
            outage: outages[dice.index(outages.len())],
            dice,
            seen: BTreeMap::new(),
            told: BTreeMap::new(),
            expected: BTreeMap::new(),
            twisted: BTreeMap::new(),
        })
    }

    /// What this participant has to make of these bytes, if they are a lie.
    pub(crate) fn expected(&self, to: usize, bytes: &[u8]) -> Option<&Expected> {
        self.expected.get(&(to, bytes.to_vec()))
    }

    /// Somebody whom it invents, with a key.
    pub(crate) fn invented(&self) -> (ParticipantId, CertificateKey) {
        (ParticipantId::new(lies::INVENTED).expect("a plain name"), certified(&self.own))
    }

    fn seen(&mut self, attempt: u32) -> &mut Seen {
        self.seen.entry(attempt).or_default()
    }

    fn digest(&self, attempt: u32) -> Hash {
        *self.plan.context(attempt).digest().as_bytes()
    }

    /// Takes a message in the core's place: what the core is not to see. `None` to hand it on.
    pub(crate) fn takes(&mut self, from: usize, request: &Request, attempt: u32, now: Millis) -> Option<Answer> {
        if !self.plan.victims.contains(&from) {
            return None;
        }
        let (step, bytes) = match request {
            Request::Say { step, bytes } => (*step, bytes),
            Request::Upload { header, .. } => (Step::MaskedInput, header),
            Request::Ask { .. } => return None,
        };
        let context = *self.plan.context_at(from, attempt).digest().as_bytes();
        if forge::context_of(bytes) != Some(context) {
            return None;
        }
        let is_taken = match (self.script, step) {
            (Script::GivesAnotherModel, Step::AdvertiseKeys) => {
                self.seen(attempt).other_model.insert(from, bytes.clone());
                true
            }
            (Script::DeclaresDropped, Step::MaskedInput) => true,
            (_, Step::ConsistencyCheck) => {
                let signature = forge::consistency_signature(bytes);
                let seen = self.seen(attempt);
                let signed = signature.filter(|_| seen.lists.contains_key(&from));
                if let Some(signature) = signed {
                    seen.false_signatures.insert(from, signature);
                    seen.first_false.get_or_insert(now);
                }
                signed.is_some()
            }
            (_, Step::Unmasking) => self.seen(attempt).lists.contains_key(&from),
            _ => false,
        };
        is_taken.then_some(Answer::Receipt { step, outcome: Ok(Receipt::Accepted) })
    }

    /// Changes what the core answered.
    pub(crate) fn shows(
        &mut self,
        to: usize,
        request: &Request,
        mut reply: Reply,
        core: &CoordinatorNode,
        now: Millis,
    ) -> Reply {
        let attempt = reply.attempt;
        match &mut reply.answer {
            Answer::Receipt { step, outcome: Ok(_) } => self.hears(to, attempt, *step, request),
            Answer::Opening { step, outgoing } => {
                let truth = match outgoing {
                    Outgoing::Message(bytes) => Some(bytes.clone()),
                    _ => None,
                };
                self.announced(to, attempt, *step, truth.as_deref());
                let asked = Asked { to, attempt, step: *step, truth, core, now };
                if self.is_out(&asked) {
                    *outgoing = Outgoing::Wait;
                } else if let Some(lie) = self.tells(&asked) {
                    *outgoing = Outgoing::Message(lie);
                } else if asked.truth.is_none() && self.plan.victims.contains(&to) && self.owes(&asked) {
                    *outgoing = Outgoing::Wait;
                }
                if let (Step::MaskedInput, Outgoing::Message(bytes)) = (*step, &*outgoing) {
                    let dealers = Delivered::parse(bytes).map(|delivered| delivered.deliveries).unwrap_or_default();
                    let dealers = dealers.iter().map(|delivery| delivery.dealer).collect();
                    self.seen(attempt).delivered.insert(to, dealers);
                }
            }
            _ => {}
        }
        reply
    }

    /// The core took a message.
    fn hears(&mut self, from: usize, attempt: u32, step: Step, request: &Request) {
        let Request::Say { bytes, .. } = request else { return };
        let id = self.names[from].clone();
        let seen = self.seen(attempt);
        match step {
            Step::AdvertiseKeys => drop(seen.advertised.insert(id, bytes.clone())),
            Step::ConsistencyCheck => {
                let index = seen.rosters.get(&from).map(|roster| roster.index);
                seen.signatures.extend(index.zip(forge::consistency_signature(bytes)));
            }
            _ => {}
        }
    }

    /// The core has an opening for somebody.
    fn announced(&mut self, to: usize, attempt: u32, step: Step, truth: Option<&[u8]>) {
        let Some(bytes) = truth else { return };
        let seen = self.seen(attempt);
        seen.openings.insert((to, step), bytes.to_vec());
        match step {
            Step::ShareKeys => {
                let leaves = seen.advertised.values().map(|advertisement| forge::roster_leaf(advertisement)).collect();
                seen.rosters.extend(Roster::parse(bytes, leaves).map(|roster| (to, roster)));
            }
            Step::ConsistencyCheck => {
                seen.survivors = forge::survivors_of(bytes).map(|(_, members)| members.into_iter().collect());
            }
            _ => {}
        }
    }

    /// Whether the coordinator is silent here.
    fn is_out(&mut self, asked: &Asked<'_>) -> bool {
        if self.script.needs_an_old_attempt() {
            return asked.attempt == 1 && asked.step >= self.outage;
        }
        let is_late = self.script == Script::WithholdsMessages && self.plan.victims.contains(&asked.to);
        is_late && self.holds_back(asked)
    }

    /// The lie for a victim that asks; `None` for the truth.
    fn tells(&mut self, asked: &Asked<'_>) -> Option<Vec<u8>> {
        if !self.plan.victims.contains(&asked.to) {
            return None;
        }
        let key = (asked.to, asked.attempt, asked.step);
        if let Some(told) = self.told.get(&key) {
            return told.clone();
        }
        if asked.truth.is_none() && !self.speaks_alone(asked) {
            return None;
        }
        let lie = self.lie(asked);
        if let Some((bytes, expected)) = &lie {
            self.expected.insert((asked.to, bytes.clone()), expected.clone());
        }
        let bytes = lie.map(|(bytes, _)| bytes);
        self.told.insert(key, bytes.clone());
        bytes
    }
}
