//! Nodes, network and clock: one queue of events, taken in the order of time.

mod books;
mod network;

use crate::adversary::{Adversary, Expected, Script};
use crate::coordinator::{CoordinatorNode, Crashed, Outcome, ToSign};
use crate::dice::{Dice, Permille, Purpose};
use crate::history::{History, Proofs};
use crate::invariants::{INVARIANTS, Invariant, Violation};
use crate::knowledge::Knowledge;
use crate::message::{Answer, Reply, Request};
use crate::participant::{Action, Computed, Directory, ParticipantNode, certified};
use crate::plan::{Moment, Plan};
use crate::sabotage::Sabotage;
use crate::tally::{Tally, variant};
use ed25519_dalek::{Signer as _, SigningKey};
use sordino_codec::RingVector;
use sordino_forge::Roster;
use sordino_secagg::coordinator::{Millis, Outgoing, Receipt, Rejection};
use sordino_secagg::participant::Refusal;
use sordino_secagg::{ParticipantId, Step};
use std::collections::BTreeMap;

/// Something that happens.
enum Event {
    /// A timer of a participant's process, void if that process is gone.
    Wake {
        who: usize,
        incarnation: u32,
    },
    /// A participant's process starts again.
    Restart {
        who: usize,
    },
    ToCoordinator {
        from: usize,
        request: Request,
    },
    ToParticipant {
        to: usize,
        reply: Reply,
    },
    /// The coordinator looks at the clock.
    Tick,
    CoordinatorRestart,
    RegistrarAsked(ToSign),
    RegistrarAnswers {
        signed: ToSign,
        signature: [u8; 64],
    },
}

/// A world on its way.
pub struct World {
    plan: Plan,
    invariants: Vec<Invariant>,
    faults: Dice,
    secrets: Dice,
    now: Millis,
    queue: BTreeMap<(Millis, u64), Event>,
    scheduled: u64,
    participants: Vec<ParticipantNode>,
    directory: Directory,
    coordinator: CoordinatorNode,
    registrar: Registrar,
    adversary: Option<Adversary>,
    tick_at: Option<Millis>,
    history: History,
    tally: Tally,
    log: Vec<String>,
}

/// Admits principals; signs one roster per attempt.
struct Registrar {
    key: SigningKey,
    /// By attempt, and by whether it is the roster or the survivor list.
    signed: BTreeMap<(u32, &'static str), Vec<u8>>,
    /// What it was asked last, and when.
    asked: Option<(ToSign, Millis)>,
}

/// What happened in a world.
pub struct Report {
    /// What it was.
    pub plan: Plan,
    /// How the last attempt ended; `None` if a violation came before.
    pub outcome: Option<Outcome>,
    /// Invariants that did not hold after the last event.
    pub violations: Vec<Violation>,
    /// What was counted.
    pub tally: Tally,
    /// One line for each event.
    pub log: Vec<String>,
    /// SHA-256 of the log.
    pub digest: [u8; 32],
}

impl World {
    /// A world at time 0.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut secrets = Dice::new(plan.seed, Purpose::Secrets);
        let mut participants = Vec::new();
        let mut history = observer(&plan);
        for place in 0..plan.cohort as usize {
            let key = SigningKey::from_bytes(&secrets.bytes());
            let input = draw_input(&plan, &mut secrets);
            history.inputs.insert(plan.participant(place), input.clone());
            participants.push(ParticipantNode::new(&plan, place, key, input));
        }
        let registrar =
            Registrar { key: SigningKey::from_bytes(&secrets.bytes()), signed: BTreeMap::new(), asked: None };
        let keys: BTreeMap<_, _> = participants.iter().map(|node| (node.id.clone(), certified(&node.key))).collect();
        let mut directory = Directory { keys: keys.clone(), registrar: registrar.key.verifying_key() };
        let signers: Vec<SigningKey> = participants.iter().map(|node| node.key.clone()).collect();
        let adversary = Adversary::new(&plan, &signers, &registrar.key);
        if plan.sabotage == Some(Sabotage::AuthorityCertifiesAnybody) {
            directory.keys.extend(adversary.as_ref().map(Adversary::invented));
        }
        let mut world = Self {
            adversary,
            invariants: INVARIANTS.to_vec(),
            faults: Dice::new(plan.seed, Purpose::Faults),
            secrets,
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            coordinator: CoordinatorNode::new(&plan, keys, 0),
            participants,
            directory,
            registrar,
            tick_at: None,
            history,
            tally: Tally { worlds: 1, ..Tally::default() },
            log: Vec::new(),
            plan,
        };
        for who in 0..world.participants.len() {
            let first = world.faults.between(0, FIRST_WAKE_MAX);
            world.at(first, Event::Wake { who, incarnation: 0 });
        }
        world.follow_coordinator();
        world
    }

    /// Checks only the invariant of this name: for sabotage that breaks more than one.
    #[must_use]
    pub fn watching_only(mut self, name: &str) -> Self {
        self.invariants.retain(|(known, _)| *known == name);
        self
    }

    /// Runs to the end, or to the first event after which an invariant does not hold.
    #[must_use]
    pub fn run(mut self) -> Report {
        let mut violations = Vec::new();
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.now = time;
            self.tally.events += 1;
            self.happen(event);
            self.coordinator.observe(&mut self.history);
            self.history.now = self.now;
            self.history.is_over = self.queue.is_empty() || self.now > HORIZON;
            violations = self.check();
            if !violations.is_empty() || self.history.is_over {
                break;
            }
        }
        self.report(violations)
    }

    fn check(&self) -> Vec<Violation> {
        let broken =
            |(invariant, holds): &Invariant| holds(&self.history).err().map(|why| Violation { invariant, why });
        self.invariants.iter().filter_map(broken).collect()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { who, incarnation } if self.participants[who].incarnation == incarnation => self.wake(who),
            Event::Wake { .. } => {}
            Event::Restart { who } => {
                self.note(format!("{} starts again", self.participants[who].id));
                self.participants[who].restore(&self.plan);
                self.wake(who);
            }
            Event::ToCoordinator { from, request } => self.reach_coordinator(from, &request),
            Event::ToParticipant { to, reply } => self.reach_participant(to, &reply),
            Event::Tick => {
                self.tick_at = None;
                self.advance();
            }
            Event::CoordinatorRestart => {
                self.note("the coordinator starts again");
                self.coordinator.restore(self.now, &mut self.history);
                self.advance();
            }
            Event::RegistrarAsked(question) => self.ask_registrar(question),
            Event::RegistrarAnswers { signed, signature } => {
                if self.coordinator.is_up() {
                    let (now, coordinator) = (self.now, &mut self.coordinator);
                    let outcome = coordinator.registrar_signed(
                        &signed,
                        signature,
                        now,
                        &mut breaks(&self.plan, now, &mut self.faults),
                    );
                    self.survives(&outcome);
                    self.advance();
                }
            }
        }
    }

    // The coordinator.

    fn reach_coordinator(&mut self, from: usize, request: &Request) {
        if !self.coordinator.is_up() {
            return;
        }
        let (now, id) = (self.now, self.participants[from].id.clone());
        let Self { plan, faults, history, coordinator, adversary, .. } = self;
        let attempt = coordinator.attempt();
        let taken = adversary.as_mut().and_then(|adversary| adversary.takes(from, request, attempt, now));
        let reply = match taken {
            Some(answer) => Ok(Reply { attempt, answer }),
            None => coordinator.handle(&id, request, now, &mut breaks(plan, now, faults), history).map(|reply| {
                match adversary {
                    Some(adversary) => adversary.shows(from, request, reply, coordinator, now),
                    None => reply,
                }
            }),
        };
        self.survives(&reply);
        if let Ok(reply) = reply {
            if let Answer::Receipt { step, outcome } = &reply.answer {
                if let Err(rejection) = outcome {
                    *self.tally.rejections.entry(variant(rejection)).or_default() += 1;
                }
                if *step == Step::MaskedInput {
                    self.judged(&id, attempt, outcome);
                }
                self.note(format_args!("the coordinator answers {id} in {step}: {outcome:?}"));
            }
            self.post(Event::ToParticipant { to: from, reply });
        }
        self.advance();
    }

    /// The coordinator has said what it thinks of an input.
    fn judged(&mut self, id: &ParticipantId, attempt: u32, outcome: &Result<Receipt, Rejection>) {
        match outcome {
            Ok(Receipt::Accepted) => self.tally.proofs_verified += u64::from(self.plan.proving.is_some()),
            Err(Rejection::RefusedInput { .. }) if self.history.refused_inputs.insert((attempt, id.clone())) => {
                let what = self.history.proofs.as_ref().map_or("", |proofs| proofs.what_is_wrong(id, attempt));
                *self.tally.proofs_refused.entry(what).or_default() += 1;
            }
            _ => {}
        }
    }

    /// The coordinator does what is due, and what it waits for is asked or scheduled.
    fn advance(&mut self) {
        if self.coordinator.is_up() {
            let before = self.coordinator.step_name();
            let Self { plan, faults, history, coordinator, now, .. } = self;
            let outcome = coordinator.advance(*now, &mut breaks(plan, *now, faults), history);
            let after = self.coordinator.step_name();
            if before != after {
                self.note(format_args!("the coordinator goes from {before} to {after}"));
            }
            self.survives(&outcome);
        }
        self.follow_coordinator();
    }

    fn follow_coordinator(&mut self) {
        let Some(mut next) = self.coordinator.deadline() else { return };
        if let Some(question) = self.coordinator.to_sign() {
            next = next.min(self.now + REGISTRAR_RETRY);
            let is_waiting = |(of, at): &(ToSign, Millis)| *of == question && self.now < at + REGISTRAR_RETRY;
            if !self.registrar.asked.as_ref().is_some_and(is_waiting) {
                self.registrar.asked = Some((question.clone(), self.now));
                self.post(Event::RegistrarAsked(question));
            }
        }
        let next = next.max(self.now + 1);
        if self.tick_at.is_none_or(|at| at > next) {
            self.tick_at = Some(next);
            self.at(next, Event::Tick);
        }
    }

    fn survives<T>(&mut self, outcome: &Result<T, Crashed>) {
        if outcome.is_ok() {
            return;
        }
        let step = self.coordinator.step_name();
        *self.tally.coordinator_crashes.entry(step).or_default() += 1;
        let back = self.now + self.faults.between(1, self.plan.crashes.down_max);
        self.note(format_args!("the coordinator crashes in {step}, until {back}"));
        self.coordinator.crash();
        self.at(back, Event::CoordinatorRestart);
    }

    /// It signs one roster and one survivor list of an attempt; where everybody starts over, it does so with them.
    fn ask_registrar(&mut self, question: ToSign) {
        let ToSign { attempt, what, statement } = &question;
        let signature = self.registrar.key.sign(statement).to_bytes();
        let first = self.registrar.signed.entry((*attempt, what)).or_insert_with(|| statement.clone());
        if first == statement || self.plan.sabotage == Some(Sabotage::EverybodyStartsOver) {
            self.post(Event::RegistrarAnswers { signed: question, signature });
        } else {
            self.note(format_args!("the registrar signs no second {what} of attempt {attempt}"));
        }
    }

    // Participants.

    fn wake(&mut self, who: usize) {
        if self.plan.sabotage == Some(Sabotage::EverybodyStartsOver) {
            self.participants[who].start_over(&self.plan);
        }
        match self.participants[who].next() {
            Action::Advertise => {
                let made = self.participants[who].advertise(&self.plan, &self.history, &mut self.secrets);
                self.bring_out(who, Step::AdvertiseKeys, made);
            }
            Action::Send(request) => {
                self.send(who, request);
            }
            // Another attempt may begin: it listens, rarely.
            Action::Rest if self.is_round_over() || !self.participants[who].is_up() => return,
            Action::Rest => {
                let attempt = self.participants[who].attempt();
                self.post(Event::ToCoordinator {
                    from: who,
                    request: Request::Ask { attempt, step: Step::AdvertiseKeys },
                });
            }
        }
        let node = &mut self.participants[who];
        if node.is_up() {
            let wait = POLL * Millis::from(node.patience()) + self.faults.between(0, POLL);
            let incarnation = self.participants[who].incarnation;
            self.at(self.now + wait, Event::Wake { who, incarnation });
        }
    }

    fn is_round_over(&self) -> bool {
        self.coordinator.outcome().is_some() && self.plan.sabotage != Some(Sabotage::ReleasesAreForgotten)
    }

    fn reach_participant(&mut self, to: usize, reply: &Reply) {
        let node = &mut self.participants[to];
        if !node.is_up() {
            return;
        }
        if reply.attempt > node.attempt() {
            node.moves_to(reply.attempt);
            return;
        }
        if reply.attempt < node.attempt() {
            return;
        }
        match &reply.answer {
            Answer::Receipt { step, outcome } => node.receipt(*step, outcome),
            Answer::Opening { step, outgoing: Outgoing::Message(bytes) } if node.awaits(*step) => {
                let made = node.compute(bytes, &self.directory, self.secrets.rng());
                self.observe(to, *step, bytes, &made);
                self.bring_out(to, *step, made);
            }
            Answer::Opening { step, outgoing } if node.awaits(*step) => {
                node.told(outgoing);
                if node.is_out() {
                    self.note(format!("{} has no part in {step}", self.participants[to].id));
                }
            }
            Answer::Over => node.dismiss(),
            Answer::Opening { .. } | Answer::OtherAttempt => {}
        }
    }

    /// Writes down what a participant makes of an opening, and compares it with what it should make of a lie.
    fn observe(&mut self, who: usize, step: Step, opening: &[u8], made: &Result<Computed, Refusal>) {
        let id = &self.participants[who].id;
        match (step, made) {
            (Step::ShareKeys, Ok(_)) => {
                self.history.knowledge.takes_place(id, opening);
                let node = &self.participants[who];
                let roster = Roster::parse(opening, Vec::new());
                let context = *self.plan.context(node.attempt()).digest().as_bytes();
                if let (Some(proofs), Some(roster)) = (&mut self.history.proofs, roster)
                    && roster.context == context
                {
                    proofs.places.insert((node.attempt(), roster.index), id.clone());
                }
            }
            (Step::MaskedInput, Ok(computed)) => self.history.knowledge.masks(opening, computed.message()),
            _ => {}
        }
        let Some(expected) = self.adversary.as_ref().and_then(|adversary| adversary.expected(who, opening)) else {
            return;
        };
        self.tally.lies += 1;
        let got = match made {
            Ok(_) => Expected::Believed,
            Err(refusal) => Expected::Refused(refusal.clone()),
        };
        self.tally.lies_refused += u64::from(matches!(got, Expected::Refused(_)));
        if got != *expected {
            let surprise = format!("{id} in {step}: a lie should be {expected:?} and is {got:?}");
            self.history.surprises.push(surprise);
        }
    }

    /// Stores what was computed, then sends it; the process may die before, between and after.
    fn bring_out(&mut self, who: usize, step: Step, made: Result<Computed, Refusal>) {
        let id = self.participants[who].id.clone();
        let computed = match made {
            Ok(computed) => computed,
            Err(refusal) => {
                *self.tally.refusals.entry(variant(&refusal)).or_default() += 1;
                self.note(format_args!("{id} refuses in {step}: {refusal}"));
                self.participants[who].doubt(&self.plan);
                return;
            }
        };
        if self.breaks_down(who, step, Moment::BeforeStoring) {
            return;
        }
        if let (Some(proven), Some(proofs)) = (computed.proven(), &mut self.history.proofs) {
            let is_honest = !self.plan.corrupt.contains(&who);
            proofs.makes(&id, self.participants[who].attempt(), proven, is_honest);
            self.tally.proofs_made += 1;
        }
        self.participants[who].store(computed, &self.plan);
        if self.breaks_down(who, step, Moment::BeforeSending) {
            return;
        }
        if let Action::Send(request) = self.participants[who].next() {
            self.send(who, request);
        }
    }

    fn send(&mut self, who: usize, request: Request) {
        let attempt = self.participants[who].attempt();
        let twisted = self.adversary.as_mut().and_then(|adversary| adversary.twists(who, attempt, &request));
        let Some((requests, later)) = twisted else { return self.hand_over(who, request, 0) };
        requests.into_iter().for_each(|request| self.hand_over(who, request, later));
    }

    /// Hands a message to the network, or keeps it back for a while.
    fn hand_over(&mut self, who: usize, request: Request, later: Millis) {
        let node = &self.participants[who];
        let (id, attempt, step) = (node.id.clone(), node.attempt(), request.step());
        match &request {
            Request::Say { bytes, .. } => {
                self.history.knowledge.hears(step, bytes);
                self.history.says(&id, attempt, step, bytes.clone());
            }
            Request::Upload { header, bytes } => {
                self.history.knowledge.hears(step, header);
                self.history.says(&id, attempt, step, [&header[..], bytes].concat());
            }
            Request::Ask { .. } => {}
        }
        let speaks = !matches!(request, Request::Ask { .. });
        if speaks {
            self.note(format_args!("{id} {} {step} of attempt {attempt}", request.name()));
        }
        let event = Event::ToCoordinator { from: who, request };
        match later {
            0 => self.post(event),
            _ => self.at(self.now + later, event),
        }
        if speaks {
            self.breaks_down(who, step, Moment::AfterSending);
        }
    }

    /// Whether the participant's process dies here.
    fn breaks_down(&mut self, who: usize, step: Step, moment: Moment) -> bool {
        let planned = self.participants[who].departure.filter(|plan| plan.step == step && plan.moment == moment);
        let back_after = match planned {
            Some(departure) => {
                self.participants[who].departure = Some(departure).filter(|departure| departure.again);
                departure.back_after
            }
            None if self.now < self.plan.quiet_from && self.faults.chance(self.plan.crashes.participant) => {
                Some(self.faults.between(1, self.plan.crashes.down_max))
            }
            None => return false,
        };
        *self.tally.participant_crashes.entry((step, moment)).or_default() += 1;
        let id = self.participants[who].id.clone();
        match back_after {
            Some(after) => {
                self.tally.returns += 1;
                self.at(self.now + after, Event::Restart { who });
                self.note(format_args!("{id} crashes in {step}, {moment:?}, for {after}"));
            }
            None => {
                self.tally.departures += 1;
                self.note(format_args!("{id} leaves for good in {step}, {moment:?}"));
            }
        }
        self.participants[who].crash(self.plan.sabotage);
        true
    }
}

/// An observer that has seen nothing yet.
fn observer(plan: &Plan) -> History {
    let lies = plan.script.is_some_and(Script::is_of_coordinator);
    let known = plan.sabotage != Some(Sabotage::CorruptPassForHonest);
    let corrupt = plan.corrupt.iter().filter(|_| known).map(|&place| plan.participant(place)).collect();
    History {
        min_survivors: plan.min_survivors,
        arrives_whole: plan.network.corruption_down == Permille::NEVER && !lies,
        knowledge: Knowledge::new(corrupt, plan.faults, plan.min_survivors),
        reruns: plan.script.is_some_and(Script::reruns),
        max_corrupt: plan.faults.corrupt,
        proofs: plan.proving.as_ref().map(|proving| Proofs::of(proving.encoding().integers())),
        ..History::default()
    }
}

/// Whether the coordinator's process dies at the point where it asks.
fn breaks<'a>(plan: &Plan, now: Millis, faults: &'a mut Dice) -> impl FnMut() -> bool + use<'a> {
    let (is_quiet, rate) = (now >= plan.quiet_from, plan.crashes.coordinator);
    move || !is_quiet && faults.chance(rate)
}

/// Uniform over the whole ring, so that any carry that is lost shows; where inputs are proven, within bounds.
fn draw_input(plan: &Plan, dice: &mut Dice) -> RingVector {
    if let Some(proving) = &plan.proving {
        return proving.draw_input(dice);
    }
    let values: Vec<i64> = (0..plan.vector_len).map(|_| plan.bits.center(dice.between(0, u64::MAX - 1))).collect();
    RingVector::from_centered(&values, plan.bits).expect("centered values are in the ring")
}

/// Participants begin within this time.
const FIRST_WAKE_MAX: Millis = 500;
/// Between two questions of an impatient participant.
const POLL: Millis = 250;
/// Between two questions to the registrar.
const REGISTRAR_RETRY: Millis = 400;
/// No world lasts longer: attempts have deadlines, and restarts become rare as participants give up.
const HORIZON: Millis = 2_000_000;
