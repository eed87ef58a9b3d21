//! What a seed draws before anything happens: the cohort, its policy, and what will go wrong.

use crate::adversary::Script;
use crate::dice::{Dice, Permille, Purpose, Seed};
use crate::proof::{Cheat, Proving};
use crate::sabotage::Sabotage;
use sordino_codec::RingBits;
use sordino_secagg::coordinator::{Millis, Timing};
use sordino_secagg::{Context, Faults, ParticipantId, Prg, Step, Topology};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A world before it runs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything comes from.
    pub seed: Seed,
    /// Participants that are invited.
    pub cohort: u32,
    /// What graph and threshold are made for.
    pub faults: Faults,
    /// Fewest inputs that a sum may hold.
    pub min_survivors: u32,
    /// Ring of the sum.
    pub bits: RingBits,
    /// Values of an input.
    pub vector_len: usize,
    /// The coordinator's deadlines.
    pub timing: Timing,
    /// Answers that let a step close after the grace.
    pub quorum: u32,
    /// Attempts, at most.
    pub attempts_max: u32,
    /// How messages travel.
    pub network: Network,
    /// How often processes die.
    pub crashes: Crashes,
    /// Participants that leave at a certain point, by their place in the cohort.
    pub departures: BTreeMap<usize, Departure>,
    /// From this time on nothing more goes wrong; who left for good stays away.
    pub quiet_from: Millis,
    /// What is broken on purpose, so that an invariant can be seen to fail.
    pub sabotage: Option<Sabotage>,
    /// What hostile parties do.
    pub script: Option<Script>,
    /// Participants that are corrupt, by their place in the cohort: no more than `faults.corrupt`.
    pub corrupt: BTreeSet<usize>,
    /// Honest participants that a script is aimed at.
    pub victims: BTreeSet<usize>,
    /// What inputs prove, in the worlds where they do.
    pub proving: Option<Arc<Proving>>,
    /// What corrupt participants do wrong about it, by place in the cohort and attempt.
    pub cheats: BTreeMap<(usize, u32), Cheat>,
}

/// How messages travel.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    /// Messages that never arrive.
    pub loss: Permille,
    /// Messages that arrive again, perhaps much later.
    pub duplication: Permille,
    /// Messages to the coordinator whose bytes are changed.
    pub corruption_up: Permille,
    /// Messages to participants whose bytes are changed.
    pub corruption_down: Permille,
    /// The longest way; each message takes its own time, so they overtake each other.
    pub delay_max: Millis,
}

/// How often processes die.
#[derive(Debug, Clone, Copy)]
pub struct Crashes {
    /// A participant, at each of the moments of [`Moment`].
    pub participant: Permille,
    /// The coordinator, at each moment at which it has written something or is about to.
    pub coordinator: Permille,
    /// The longest time until it runs again.
    pub down_max: Millis,
}

/// A participant that leaves at a certain point.
#[derive(Debug, Clone, Copy)]
pub struct Departure {
    /// While it works on this step,
    pub step: Step,
    /// at this moment of it,
    pub moment: Moment,
    /// and for this long; `None` for good.
    pub back_after: Option<Millis>,
    /// Not once, but whenever it gets there.
    pub again: bool,
}

/// Where in a step a participant can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The message was computed; neither it nor the new state was stored.
    BeforeStoring,
    /// The new state was stored; the message was not sent.
    BeforeSending,
    /// The message is on its way.
    AfterSending,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BeforeStoring, Self::BeforeSending, Self::AfterSending];
}

impl Plan {
    /// Anything may break at any time.
    #[must_use]
    pub fn chaos(seed: Seed) -> Self {
        let mut dice = Dice::new(seed, Purpose::Plan);
        let mut plan = Self::peaceful(seed, &mut dice);
        let rough = |dice: &mut Dice, max| Permille(u32::try_from(dice.between(0, max)).unwrap_or(0));
        plan.network = Network {
            loss: rough(&mut dice, 150),
            duplication: rough(&mut dice, 150),
            corruption_up: rough(&mut dice, 60),
            // One changed message is enough to lose a participant: rare, or nobody would be left.
            corruption_down: Permille(if dice.chance(Permille(500)) { 0 } else { u32_between(&mut dice, 1, 25) }),
            delay_max: dice.between(20, 300),
        };
        plan.crashes = Crashes {
            participant: rough(&mut dice, 50),
            coordinator: rough(&mut dice, 25),
            down_max: dice.between(100, 2_500),
        };
        plan.quorum = u32_between(&mut dice, plan.min_survivors, plan.cohort);
        let leaving = dice.between(0, u64::from(plan.faults.dropouts(plan.cohort)) + 1);
        for _ in 0..leaving {
            let away = dice.between(200, 6_000);
            let back_after = dice.chance(Permille(400)).then_some(away);
            plan.depart(&mut dice, back_after);
        }
        plan
    }

    /// Anything that the protocol is made for may break until `quiet_from`, and as many participants leave for good as
    /// the policy allows for: then the attempt has to end with a sum.
    ///
    /// Deadlines are far behind `quiet_from`, and no quorum closes a step early: whoever is there is heard. Messages to
    /// participants arrive whole, as they do under TLS: a changed list of survivors costs its receiver its place for good.
    #[must_use]
    pub fn faults_stop(seed: Seed) -> Self {
        let mut dice = Dice::new(seed, Purpose::Plan);
        let mut plan = Self::peaceful(seed, &mut dice);
        plan.network = Network {
            loss: Permille(u32_between(&mut dice, 0, 400)),
            duplication: Permille(u32_between(&mut dice, 0, 300)),
            corruption_up: Permille(u32_between(&mut dice, 0, 200)),
            corruption_down: Permille::NEVER,
            delay_max: dice.between(20, 500),
        };
        plan.crashes = Crashes {
            participant: Permille(u32_between(&mut dice, 0, 200)),
            coordinator: Permille(u32_between(&mut dice, 0, 60)),
            down_max: dice.between(100, 3_000),
        };
        plan.quiet_from = dice.between(0, 20_000);
        plan.timing = Timing { advertise: 60_000, step: 60_000, grace: 60_000, attempt: 600_000 };
        plan.quorum = plan.cohort;
        plan.attempts_max = 1;
        for _ in 0..plan.leavers_that_are_survived() {
            plan.depart(&mut dice, None);
        }
        plan
    }

    /// A script, beside the faults of [`Self::chaos`] in half of the worlds, and beside nothing else in the others.
    /// Messages to participants arrive as the coordinator sent them: a garbled lie would be refused for that.
    #[must_use]
    pub fn hostile(seed: Seed, script: Script) -> Self {
        let is_rough = seed.0 / Script::ALL.len() as u64 % 2 == 1;
        let mut plan = if is_rough { Self::chaos(seed) } else { Self::peace(seed) };
        plan.network.corruption_down = Permille::NEVER;
        if script.is_of_coordinator() {
            // What it passes on to others it has to have heard right.
            plan.network.corruption_up = Permille::NEVER;
        }
        let mut dice = Dice::new(seed, Purpose::Script);
        if script.needs_corrupt() && plan.faults.corrupt == 0 {
            let cohort = u32_between(&mut dice, 5, 12);
            plan.becomes(cohort, Faults { corrupt: 1, max_dropout_fraction: 0.2 });
        }
        if script == Script::ProvesBadly {
            plan.may_have_two_corrupt(&mut dice);
        }
        let cohort = plan.cohort as usize;
        let corrupt = u32_between(&mut dice, u32::from(script.needs_corrupt()), plan.faults.corrupt);
        while plan.corrupt.len() < corrupt as usize {
            plan.corrupt.insert(dice.index(cohort));
        }
        let honest: Vec<usize> = (0..cohort).filter(|place| !plan.corrupt.contains(place)).collect();
        let victims = match script {
            Script::AsksForBothShares => dice.between(1, honest.len() as u64 - 1),
            Script::GivesAnotherModel | Script::RerunsMinusOne | Script::RerunsWithAnotherModel => 1,
            Script::SpoilsFewShares | Script::ComplainsFalsely => {
                dice.between(1, plan.silence_that_is_stood(honest.len()))
            }
            _ => dice.between(1, (honest.len() as u64 / 3).max(1)),
        };
        while (plan.victims.len() as u64) < victims {
            plan.victims.insert(honest[dice.index(honest.len())]);
        }
        if script.disputes() {
            plan.fall_silent(&mut dice);
        }
        plan.attempts_max = script.attempts_max();
        plan.script = Some(script);
        plan.draw_proving();
        plan.draw_cheats();
        plan
    }

    /// Another cohort, of which everybody else is left as drawn.
    fn becomes(&mut self, cohort: u32, faults: Faults) {
        (self.cohort, self.faults, self.quorum) = (cohort, faults, cohort);
        self.min_survivors = (cohort / 2).max(MIN_SURVIVORS);
        self.departures.retain(|place, _| *place < cohort as usize);
    }

    /// In half of the worlds: what one does wrong, another one may make up for.
    fn may_have_two_corrupt(&mut self, dice: &mut Dice) {
        let (cohort, faults) = (u32_between(dice, 7, 10), Faults { corrupt: 2, max_dropout_fraction: 0.2 });
        if dice.chance(Permille(500)) && Topology::derive(cohort, &faults).is_ok() {
            self.becomes(cohort, faults);
        }
    }

    /// In some worlds inputs carry proofs; what they prove decides on the ring and the vector's length.
    fn draw_proving(&mut self) {
        let mut dice = Dice::new(self.seed, Purpose::Proofs);
        if !dice.chance(PROVING) && self.script != Some(Script::ProvesBadly) {
            return;
        }
        let proving = Proving::draw(&mut dice, self.cohort);
        (self.bits, self.vector_len) = (proving.encoding().bits(), proving.encoding().len());
        self.proving = Some(Arc::new(proving));
    }

    /// Corrupt participants prove badly in most attempts where that is the script, and in some beside every other one.
    fn draw_cheats(&mut self) {
        if self.proving.is_none() {
            return;
        }
        let mut dice = Dice::new(self.seed, Purpose::Cheats);
        let rate = Permille(if self.script == Some(Script::ProvesBadly) { 900 } else { 300 });
        let corrupt: Vec<usize> = self.corrupt.iter().copied().collect();
        for attempt in 1..=self.attempts_max {
            for &place in &corrupt {
                if dice.chance(rate) {
                    self.cheats.insert((place, attempt), Cheat::draw(&mut dice));
                }
            }
            if let [first, second, ..] = corrupt[..]
                && dice.chance(PAIRS)
            {
                let places = [first, second].map(|place| (place, attempt));
                self.cheats.extend(places.into_iter().zip(Cheat::draw_pair(&mut dice)));
            }
        }
    }

    /// As many of the honest as can be silent and leave everybody else a threshold of neighbours, and no one fewer.
    fn silence_that_is_stood(&self, honest: usize) -> u64 {
        let spare = Topology::derive(self.cohort, &self.faults).map_or(0, |topology| topology.k - topology.t);
        u64::from(spare).min(honest as u64 - 1).max(1)
    }

    /// Victims get as far as a later step in each attempt, and are away for what is left of it.
    fn fall_silent(&mut self, dice: &mut Dice) {
        self.departures.clear();
        for &victim in &self.victims {
            let step = [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking][dice.index(3)];
            let back_after = Some(dice.between(1_000, 3_000));
            let departure = Departure { step, moment: Moment::BeforeStoring, back_after, again: true };
            self.departures.insert(victim, departure);
        }
    }

    /// The same cohort with nothing going wrong.
    #[must_use]
    pub fn peace(seed: Seed) -> Self {
        Self::peaceful(seed, &mut Dice::new(seed, Purpose::Plan))
    }

    fn peaceful(seed: Seed, dice: &mut Dice) -> Self {
        let (cohort, faults) = draw_cohort(dice);
        let min_survivors = (cohort / 2).max(MIN_SURVIVORS);
        let bits = RingBits::new(u8::try_from(dice.between(2, 64)).unwrap_or(64)).expect("2 to 64 are allowed");
        let mut plan = Self {
            seed,
            cohort,
            faults,
            min_survivors,
            bits,
            vector_len: usize::try_from(dice.between(1, 200)).unwrap_or(1),
            timing: Timing { advertise: 5_000, step: 4_000, grace: 800, attempt: 20_000 },
            quorum: cohort,
            attempts_max: 2,
            network: Network {
                loss: Permille::NEVER,
                duplication: Permille::NEVER,
                corruption_up: Permille::NEVER,
                corruption_down: Permille::NEVER,
                delay_max: dice.between(1, 100),
            },
            crashes: Crashes { participant: Permille::NEVER, coordinator: Permille::NEVER, down_max: 1_000 },
            departures: BTreeMap::new(),
            quiet_from: Millis::MAX,
            sabotage: None,
            script: None,
            corrupt: BTreeSet::new(),
            victims: BTreeSet::new(),
            proving: None,
            cheats: BTreeMap::new(),
        };
        plan.draw_proving();
        plan
    }

    fn depart(&mut self, dice: &mut Dice, back_after: Option<Millis>) {
        let mut who = dice.index(self.cohort as usize);
        while self.departures.contains_key(&who) {
            who = (who + 1) % self.cohort as usize;
        }
        let step = Step::ALL[dice.index(Step::ALL.len())];
        let moment = Moment::ALL[dice.index(Moment::ALL.len())];
        self.departures.insert(who, Departure { step, moment, back_after, again: false });
    }

    /// The most that can leave for good at any points whatever, so that the attempt still has to end with a sum: with
    /// any number of them gone before the roster, the rest are no more than the roster's graph stands.
    fn leavers_that_are_survived(&self) -> u32 {
        let survived = |leavers: u32| {
            let enough = self.cohort - leavers >= self.min_survivors;
            let graph = |early: u32| {
                let n = self.cohort - early;
                Topology::derive(n, &self.faults).is_ok() && leavers - early <= self.faults.dropouts(n)
            };
            enough && (0..=leavers).all(graph)
        };
        (0..=self.faults.dropouts(self.cohort)).rev().find(|&leavers| survived(leavers)).unwrap_or(0)
    }

    /// What attempt number `attempt` is about.
    #[must_use]
    pub fn context(&self, attempt: u32) -> Context {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.seed.0.to_le_bytes());
        nonce[8..12].copy_from_slice(&attempt.to_le_bytes());
        let lax = matches!(self.sabotage, Some(Sabotage::MinimumIsNotEnforced));
        Context {
            federation: "simulated".into(),
            task: "sum".into(),
            round: 1,
            attempt,
            nonce,
            policy: [1; 32],
            model: self.model(attempt),
            vector_len: self.vector_len as u64,
            bits: self.bits,
            prg: if self.seed.0.is_multiple_of(2) { Prg::Aes256Ctr } else { Prg::Aes128Ctr },
            pq: !self.seed.0.is_multiple_of(3),
            min_survivors: if lax { MIN_SURVIVORS } else { self.min_survivors },
            faults: self.faults,
            proof: self.proving.as_ref().map(|proving| proving.proof().terms()),
        }
    }

    /// The digest of the model of an attempt.
    fn model(&self, attempt: u32) -> [u8; 32] {
        let mut model = [2; 32];
        if self.script == Some(Script::RerunsWithAnotherModel) {
            model[..4].copy_from_slice(&attempt.to_le_bytes());
        }
        model
    }

    /// What a participant believes an attempt to be about: whoever was given another model believes something else.
    #[must_use]
    pub fn context_at(&self, place: usize, attempt: u32) -> Context {
        let context = self.context(attempt);
        if self.script == Some(Script::GivesAnotherModel) && self.victims.contains(&place) {
            return Context { model: [3; 32], ..context };
        }
        context
    }

    /// The name of a participant; names are in the order of places.
    #[must_use]
    pub fn participant(&self, place: usize) -> ParticipantId {
        ParticipantId::new(&format!("participant-{place:03}")).expect("a plain name of 15 characters")
    }
}

/// Worlds whose inputs carry proofs: making one takes twice as long as everything else that a participant does.
const PROVING: Permille = Permille(60);
/// Attempts in which two corrupt participants make up for each other.
const PAIRS: Permille = Permille(500);
/// Two would learn each other's input.
const MIN_SURVIVORS: u32 = 3;

fn u32_between(dice: &mut Dice, low: u32, high: u32) -> u32 {
    u32::try_from(dice.between(u64::from(low), u64::from(high.max(low)))).unwrap_or(low)
}

/// Mostly small cohorts, which cost little; some large ones, whose graph is sparse. All of them have a graph.
fn draw_cohort(dice: &mut Dice) -> (u32, Faults) {
    let cohort = match dice.between(0, 99) {
        0..90 => u32_between(dice, 3, 10),
        90..97 => u32_between(dice, 11, 20),
        _ => u32_between(dice, 36, 40),
    };
    // Above 35 participants one fault in all leaves the graph sparse.
    let kinds = if cohort > 35 { 2 } else { 8 };
    let faults = match dice.between(0, kinds) {
        0 => Faults { corrupt: 0, max_dropout_fraction: 0.0 },
        1 => Faults { corrupt: 1, max_dropout_fraction: 0.0 },
        2 => Faults { corrupt: 0, max_dropout_fraction: 1.0 / f64::from(cohort) },
        3 | 4 => Faults { corrupt: 1, max_dropout_fraction: 0.2 },
        5 | 6 => Faults { corrupt: 0, max_dropout_fraction: 0.3 },
        _ => Faults { corrupt: cohort / 8, max_dropout_fraction: 0.25 },
    };
    if Topology::derive(cohort, &faults).is_ok() {
        return (cohort, faults);
    }
    (cohort, Faults { corrupt: 0, max_dropout_fraction: 0.0 })
}
