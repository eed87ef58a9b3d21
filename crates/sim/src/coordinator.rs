//! A coordinator's process: the core, a journal of what it was told, a spool of payloads, and a crash between any two.
//!
//! What a participant gets a receipt for is in the journal first. A step is closed in the journal before anybody is shown
//! what follows from it. After a crash the journal is told again, and the sum is rebuilt from the spool.

mod journal;

use self::journal::{Entry, add, hash};
use crate::adversary::Script;
use crate::history::{Check, History, Moved, Position, Refused, Release};
use crate::message::{Answer, Reply, Request};
use crate::participant::FIRST_ATTEMPT;
use crate::plan::Plan;
use crate::sabotage::Sabotage;
use sordino_codec::RingVector;
use sordino_secagg::coordinator::{
    Abort, Coordinator, Millis, Outgoing, Payload, Receipt, Rejection, RunningSum, Setup,
};
use sordino_secagg::{CertificateKey, Dispute, Disputes, ParticipantId, Step};
use std::collections::{BTreeMap, BTreeSet};

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// With a sum.
    Released {
        /// Whose inputs it holds.
        survivors: Vec<ParticipantId>,
        /// The sum.
        sum: RingVector,
    },
    /// Without one.
    Aborted(Abort),
    /// With one that is not released: it is not the sum of what the survivors committed to.
    Mismatched {
        /// One of them at least has sent another input.
        survivors: Vec<ParticipantId>,
    },
}

/// A coordinator with its disk.
pub(crate) struct CoordinatorNode {
    plan: Plan,
    /// Who is invited to the running attempt.
    cohort: BTreeMap<ParticipantId, CertificateKey>,
    /// Who can be invited to the next one, if it is in dispute with nobody there.
    eligible: BTreeMap<ParticipantId, CertificateKey>,
    /// Of all attempts that have ended.
    disputes: Disputes,
    attempts: Vec<AttemptDisk>,
    live: Option<Live>,
    /// When the running attempt began or was resumed.
    since: Millis,
    /// [`Sabotage::EverybodyStartsOver`] happens once.
    started_over: bool,
}

/// What is durable of one attempt.
struct AttemptDisk {
    number: u32,
    started: Millis,
    journal: Vec<Entry>,
    spool: BTreeMap<ParticipantId, Vec<u8>>,
    /// What the inputs in the journal say about shares.
    disputes: Vec<Dispute>,
    outcome: Option<Outcome>,
}

/// What a crash takes away.
struct Live {
    core: Coordinator,
    sum: RunningSum,
}

/// A question to the registrar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToSign {
    pub(crate) attempt: u32,
    /// Roster or survivor list.
    pub(crate) what: &'static str,
    pub(crate) statement: Vec<u8>,
}

/// The process died.
#[derive(Debug)]
pub(crate) struct Crashed;

/// Asks whether the process dies here.
pub(crate) type Breaks<'a> = &'a mut dyn FnMut() -> bool;

impl CoordinatorNode {
    pub(crate) fn new(plan: &Plan, cohort: BTreeMap<ParticipantId, CertificateKey>, now: Millis) -> Self {
        let mut node = Self {
            plan: plan.clone(),
            cohort: cohort.clone(),
            eligible: cohort,
            disputes: Disputes::default(),
            attempts: Vec::new(),
            live: None,
            since: now,
            started_over: false,
        };
        node.begin(FIRST_ATTEMPT, now);
        node
    }

    fn begin(&mut self, number: u32, now: Millis) {
        self.attempts.push(AttemptDisk {
            number,
            started: now,
            journal: Vec::new(),
            spool: BTreeMap::new(),
            disputes: Vec::new(),
            outcome: None,
        });
        let core = Coordinator::new(self.setup(number), now);
        self.live = Some(Live { sum: core.new_sum(), core });
        self.since = now;
    }

    fn setup(&self, number: u32) -> Setup {
        Setup {
            context: self.plan.context(number),
            cohort: self.cohort.clone(),
            quorum: self.plan.quorum,
            timing: self.plan.timing,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.live.is_some()
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.disk().number
    }

    /// How the round ended, once it has.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.disk().outcome.as_ref()
    }

    fn disk(&self) -> &AttemptDisk {
        self.attempts.last().expect("an attempt begins with the node")
    }

    fn disk_mut(&mut self) -> &mut AttemptDisk {
        self.attempts.last_mut().expect("an attempt begins with the node")
    }

    pub(crate) fn crash(&mut self) {
        self.live = None;
    }

    /// When it wants to be called, if nothing comes.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.live.as_ref().filter(|_| self.outcome().is_none()).map(|live| live.core.deadline())
    }

    /// What the registrar is to sign.
    pub(crate) fn to_sign(&self) -> Option<ToSign> {
        let live = self.live.as_ref().filter(|_| self.outcome().is_none())?;
        let attempt = self.attempt();
        if let Some(survivors) = live.core.survivors_to_sign() {
            return Some(ToSign { attempt, what: SURVIVOR_LIST, statement: survivors.statement() });
        }
        let statement = live.core.roster_to_sign()?.statement(|id| self.cohort.get(id).copied()).ok()?;
        Some(ToSign { attempt, what: ROSTER, statement })
    }

    /// Starts the process: the journal is told again.
    pub(crate) fn restore(&mut self, now: Millis, history: &mut History) {
        let forgets = self.plan.sabotage == Some(Sabotage::ReleasesAreForgotten);
        if forgets && matches!(self.outcome(), Some(Outcome::Released { .. })) {
            self.begin(self.attempt() + 1, now);
            return;
        }
        if self.outcome().is_some() {
            self.live = Some(self.blank());
            return;
        }
        let sabotage = self.plan.sabotage;
        journal::damage(&mut self.disk_mut().journal, sabotage);
        match self.replayed(now, history) {
            Ok(live) => {
                self.live = Some(live);
                self.since = now;
            }
            Err(abort) => {
                // It died between closing a step and ending the attempt over it.
                let Ok(()) = self.end(Outcome::Aborted(abort), now, &mut || false, history) else { return };
                if self.live.is_none() {
                    self.live = Some(self.blank());
                }
            }
        }
    }

    fn replayed(&self, now: Millis, history: &mut History) -> Result<Live, Abort> {
        let disk = self.disk();
        let mut core = Coordinator::new(self.setup(disk.number), disk.started);
        for (at, entry) in disk.journal.iter().enumerate() {
            core = journal::replay(core, entry, &disk.spool, history).inspect_err(|abort| {
                if at + 1 < disk.journal.len() {
                    history.complaints.push(format!("entry {at} of the journal ends the attempt: {abort}"));
                }
            })?;
        }
        core.resume(now);
        let mut sum = core.new_sum();
        for entry in &disk.journal {
            if let Entry::Input { from, .. } = entry {
                add(&mut sum, from, &disk.spool[from]);
            }
        }
        Ok(Live { core, sum })
    }

    /// A request and its answer; nothing is answered by a process that dies over it.
    pub(crate) fn handle(
        &mut self,
        from: &ParticipantId,
        request: &Request,
        now: Millis,
        breaks: Breaks<'_>,
        history: &mut History,
    ) -> Result<Reply, Crashed> {
        let attempt = self.attempt();
        let over = self.outcome().is_some();
        let answer = match request {
            _ if over => Answer::Over,
            Request::Ask { attempt: of, .. } if *of != attempt => Answer::OtherAttempt,
            Request::Ask { step, .. } => {
                let outgoing = self.live.as_ref().map_or(Outgoing::Wait, |live| live.core.outgoing(*step, from));
                Answer::Opening { step: *step, outgoing }
            }
            Request::Say { .. } | Request::Upload { .. } => {
                let before = self.moved();
                let outcome = self.take(from, request, now, breaks)?;
                if outcome.is_ok() {
                    history.receipted.insert((attempt, from.clone(), request.step()));
                }
                if outcome.is_err() && self.plan.sabotage == Some(Sabotage::RefusalsExtendDeadlines) {
                    self.live.iter_mut().for_each(|live| live.core.resume(now));
                }
                let after = self.moved();
                let is_judged = matches!(outcome, Err(Rejection::RefusedInput { .. }));
                if is_judged {
                    history.blamed.insert(from.clone());
                }
                // The first time, a bad proof is written down: it counts, against its sender.
                if outcome != Ok(Receipt::Accepted) && !(is_judged && after.journal > before.journal) {
                    history.refused = Some(Refused { from: from.clone(), before, after });
                }
                Answer::Receipt { step: request.step(), outcome }
            }
        };
        Ok(Reply { attempt, answer })
    }

    fn take(
        &mut self,
        from: &ParticipantId,
        request: &Request,
        now: Millis,
        breaks: Breaks<'_>,
    ) -> Result<Result<Receipt, Rejection>, Crashed> {
        match request {
            Request::Say { step, bytes } => {
                let core = &mut self.live.as_mut().expect("handled while up").core;
                match core.message(*step, from, bytes, now) {
                    Ok(Receipt::Accepted) => {
                        let entry = Entry::Message { step: *step, from: from.clone(), bytes: bytes.clone(), at: now };
                        self.write(entry, breaks)?;
                        Ok(Ok(Receipt::Accepted))
                    }
                    other => Ok(other),
                }
            }
            Request::Upload { header, bytes } => self.take_input(from, header, bytes, now, breaks),
            Request::Ask { .. } => unreachable!("questions are answered before"),
        }
    }

    /// Spool first, then the core, the journal and the sum. Where inputs carry proofs, one that is whole, signed and bad
    /// is refused for good.
    fn take_input(
        &mut self,
        from: &ParticipantId,
        header: &[u8],
        upload: &[u8],
        now: Millis,
        breaks: Breaks<'_>,
    ) -> Result<Result<Receipt, Rejection>, Crashed> {
        let live = self.live.as_mut().expect("handled while up");
        let receipt = match live.core.check_input(from, header) {
            Ok(receipt) => receipt,
            rejected => return Ok(rejected),
        };
        let payload = hash(live.core.hasher(), upload);
        if receipt == Receipt::Duplicate {
            return Ok(live.core.input(from, header, &payload, now));
        }
        // A payload that fits no header of the journal is not looked at after a restart.
        self.disk_mut().spool.insert(from.clone(), upload.to_vec());
        if breaks() {
            return Err(Crashed);
        }
        let is_bad = self.is_disproved(from, header, upload, &payload);
        let live = self.live.as_mut().expect("handled while up");
        if is_bad {
            live.core.refuse_input(from, now).expect("its input was awaited");
            self.write(Entry::RefusedInput { from: from.clone(), at: now }, breaks)?;
            return Ok(Err(Rejection::RefusedInput { id: from.clone() }));
        }
        if let Err(rejection) = live.core.input(from, header, &payload, now) {
            self.disk_mut().spool.remove(from);
            return Ok(Err(rejection));
        }
        self.write(Entry::Input { from: from.clone(), header: header.to_vec(), at: now }, breaks)?;
        let twice = self.plan.sabotage == Some(Sabotage::InputsCountTwice);
        let first = twice.then(|| self.disk().spool.values().next().cloned()).flatten();
        let live = self.live.as_mut().expect("handled while up");
        add(&mut live.sum, from, first.as_deref().unwrap_or(upload));
        Ok(Ok(Receipt::Accepted))
    }

    /// Whether an input that is whole and signed comes with a proof that is none.
    fn is_disproved(&self, from: &ParticipantId, header: &[u8], upload: &[u8], payload: &Payload) -> bool {
        let (Some(live), Some(proving)) = (&self.live, &self.plan.proving) else { return false };
        let is_checked = self.plan.sabotage != Some(Sabotage::ProofsAreNotChecked);
        if !is_checked || live.core.check_upload(from, header, payload).is_err() {
            return false;
        }
        let packed_len = usize::try_from(live.core.packed_len()).unwrap_or(usize::MAX);
        let proof = upload.get(packed_len..).unwrap_or_default();
        let commitments = live.core.commitments(from).unwrap_or_default();
        proving.verify(live.core.context(), from, (commitments, proof)).is_err()
    }

    /// Appends to the journal; the process may die before or after.
    fn write(&mut self, entry: Entry, breaks: Breaks<'_>) -> Result<(), Crashed> {
        if breaks() {
            return Err(Crashed);
        }
        self.disk_mut().journal.push(entry);
        if let Some(live) = &self.live {
            let disputes = live.core.disputes();
            self.disk_mut().disputes = disputes;
        }
        if breaks() { Err(Crashed) } else { Ok(()) }
    }

    /// Takes the registrar's signature, if it is of what is to be signed now.
    pub(crate) fn registrar_signed(
        &mut self,
        signed: &ToSign,
        signature: [u8; 64],
        now: Millis,
        breaks: Breaks<'_>,
    ) -> Result<(), Crashed> {
        if self.to_sign().as_ref() != Some(signed) {
            return Ok(());
        }
        let is_roster = signed.what == ROSTER;
        self.write(
            if is_roster {
                Entry::RosterSigned { signature, at: now }
            } else {
                Entry::SurvivorsSigned { signature, at: now }
            },
            breaks,
        )?;
        let Live { core, sum } = self.live.take().expect("checked above");
        let core = if is_roster { core.roster_signed(signature, now) } else { core.survivors_signed(signature, now) };
        self.live = Some(Live { core, sum });
        Ok(())
    }

    /// Does what is due at `now`: closes steps, opens the sum, ends the attempt and begins the next one.
    pub(crate) fn advance(&mut self, now: Millis, breaks: Breaks<'_>, history: &mut History) -> Result<(), Crashed> {
        let clock = if self.plan.sabotage == Some(Sabotage::DeadlinesAreIgnored) { 0 } else { now };
        while self.outcome().is_none() {
            let Some(live) = &self.live else { return Ok(()) };
            if let Some(abort) = live.core.timed_out(clock) {
                self.end(Outcome::Aborted(abort), now, breaks, history)?;
            } else if live.core.is_opening() {
                if self.starts_over(now, history) {
                    continue;
                }
                self.release(now, breaks, history)?;
            } else if live.core.is_due(clock) {
                self.write(Entry::Closed { at: now }, breaks)?;
                let Live { core, sum } = self.live.take().expect("checked above");
                match core.close(now) {
                    Ok(core) => self.live = Some(Live { core, sum }),
                    Err(abort) => {
                        self.live = Some(self.blank());
                        self.end(Outcome::Aborted(abort), now, breaks, history)?;
                    }
                }
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    fn release(&mut self, now: Millis, breaks: Breaks<'_>, history: &mut History) -> Result<(), Crashed> {
        let Live { core, sum } = self.live.take().expect("checked by the caller");
        let outcome = match core.open(sum) {
            Ok(sum) => self.compared(&core, sum, history),
            Err(abort) => Outcome::Aborted(abort),
        };
        self.live = Some(Live { sum: core.new_sum(), core });
        self.end(outcome, now, breaks, history)
    }

    /// Releases a sum that is that of what its survivors committed to; all sums where they commit to nothing.
    fn compared(&self, core: &Coordinator, sum: RingVector, history: &mut History) -> Outcome {
        let survivors = core.survivors().unwrap_or_default();
        let Some(proving) = &self.plan.proving else { return Outcome::Released { survivors, sum } };
        let committed: Vec<_> = core.signed_commitments().into_iter().map(|signed| signed.commitments).collect();
        let sabotage = self.plan.sabotage;
        let opens = proving.opens(&sum, &committed).is_ok() || sabotage == Some(Sabotage::EverySumOpens);
        history.checks.push(Check { attempt: self.attempt(), survivors: survivors.clone(), opens });
        if opens || sabotage == Some(Sabotage::OtherSumsAreReleased) {
            Outcome::Released { survivors, sum }
        } else {
            Outcome::Mismatched { survivors }
        }
    }

    fn end(&mut self, outcome: Outcome, now: Millis, breaks: Breaks<'_>, history: &mut History) -> Result<(), Crashed> {
        if breaks() {
            return Err(Crashed);
        }
        let number = self.attempt();
        self.disk_mut().outcome = Some(outcome.clone());
        // The disk is part of the world: what stands there has happened, whether the process lives to say so or not.
        history.ended.insert(number);
        history.stands(number, Position::Ended);
        let disputes = self.disk().disputes.clone();
        let ends_over_them = matches!(outcome, Outcome::Aborted(Abort::Disputed { .. }));
        history.disputes.insert(number, (disputes.clone(), ends_over_them));
        self.disputes.extend(disputes);
        match outcome {
            Outcome::Released { survivors, sum } => {
                history.releases.push(Release { attempt: number, survivors, sum });
                if self.plan.script.is_some_and(Script::reruns) && number < self.plan.attempts_max {
                    self.leave_one_out();
                    self.invite();
                    self.begin(number + 1, now);
                }
            }
            Outcome::Aborted(abort) => {
                history.blamed.extend(abort.culprits().iter().cloned());
                self.eligible.retain(|id, _| !abort.culprits().contains(id));
                self.tries_again(now);
            }
            // Nobody knows whose doing it is.
            Outcome::Mismatched { .. } => self.tries_again(now),
        }
        if breaks() { Err(Crashed) } else { Ok(()) }
    }

    fn tries_again(&mut self, now: Millis) {
        let number = self.attempt();
        if number < self.plan.attempts_max {
            self.invite();
            self.begin(number + 1, now);
        }
    }

    /// Chooses the next cohort: nobody who must be corrupt, and no two of whom one is.
    fn invite(&mut self) {
        self.cohort.clone_from(&self.eligible);
        if self.plan.sabotage == Some(Sabotage::DisputesAreForgotten) {
            return;
        }
        let guilty = self.disputes.guilty(self.plan.faults.corrupt);
        let innocent = self.eligible.keys().filter(|id| !guilty.contains(id)).cloned();
        let apart: BTreeSet<ParticipantId> = self.disputes.apart(innocent).into_iter().collect();
        self.cohort.retain(|id, _| apart.contains(id));
    }

    /// [`Script::RerunsMinusOne`] and its like: the next cohort lacks a victim, and later others.
    fn leave_one_out(&mut self) {
        let victim = self.plan.victims.iter().map(|&place| self.plan.participant(place));
        let victim = victim.into_iter().find(|id| self.eligible.contains_key(id));
        if let Some(out) = victim.or_else(|| self.eligible.keys().next_back().cloned()) {
            self.eligible.remove(&out);
        }
    }

    /// Whether the running attempt is past a step.
    pub(crate) fn is_past(&self, step: Step) -> bool {
        self.live.as_ref().is_some_and(|live| match live.core.step() {
            Some(open) => open > step,
            None => live.core.is_opening(),
        })
    }

    /// A core that knows nothing, in the place of one that was consumed by its end.
    fn blank(&self) -> Live {
        let core = Coordinator::new(self.setup(self.attempt()), self.since);
        Live { sum: core.new_sum(), core }
    }

    /// [`Sabotage::EverybodyStartsOver`]: back to before the survivors were known, and without one of them.
    fn starts_over(&mut self, now: Millis, history: &mut History) -> bool {
        if self.plan.sabotage != Some(Sabotage::EverybodyStartsOver) || self.started_over {
            return false;
        }
        self.started_over = true;
        let journal = &mut self.disk_mut().journal;
        if let Some(last) = journal.iter().rposition(|entry| matches!(entry, Entry::Input { .. })) {
            journal.truncate(last);
        }
        self.restore(now, history);
        true
    }

    /// All that a message could change.
    fn moved(&self) -> Moved {
        let live = self.live.as_ref().expect("looked at while up");
        Moved {
            position: position(&live.core),
            deadline: live.core.deadline(),
            heard: live.core.heard(),
            included: live.sum.included().clone(),
            journal: self.disk().journal.len(),
        }
    }

    /// Writes down what can be seen of it.
    pub(crate) fn observe(&self, history: &mut History) {
        history.began.insert(self.attempt());
        history.open_attempt = None;
        history.heard = None;
        let disk = self.disk();
        let refused = disk.journal.iter().filter_map(|entry| match entry {
            Entry::RefusedInput { from, .. } => Some(from.clone()),
            _ => None,
        });
        history.named = (disk.number, refused.collect());
        let (Some(live), None) = (&self.live, self.outcome()) else { return };
        let number = self.attempt();
        history.stands(number, position(&live.core));
        history.heard = Some((number, live.core.heard()));
        history.open_attempt = Some((number, self.since.saturating_add(self.plan.timing.attempt)));
        if let Some(survivors) = live.core.survivors() {
            history.survivors.entry(number).or_default().insert(survivors);
        }
    }

    /// The step that is open, for the books.
    pub(crate) fn step_name(&self) -> &'static str {
        self.live.as_ref().map_or("down", |live| live.core.step().map_or("between steps", Step::name))
    }

    /// How each attempt ended, with its number.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (u32, &Outcome)> {
        self.attempts.iter().filter_map(|disk| Some((disk.number, disk.outcome.as_ref()?)))
    }

    /// Those who were heard in each step of an attempt, by its journal.
    pub(crate) fn answered(&self, number: u32) -> BTreeMap<Step, BTreeSet<ParticipantId>> {
        let mut answered: BTreeMap<Step, BTreeSet<ParticipantId>> = BTreeMap::new();
        for entry in self.attempts.iter().filter(|disk| disk.number == number).flat_map(|disk| &disk.journal) {
            let (step, from) = match entry {
                Entry::Message { step, from, .. } => (*step, from),
                Entry::Input { from, .. } => (Step::MaskedInput, from),
                Entry::RefusedInput { .. }
                | Entry::Closed { .. }
                | Entry::RosterSigned { .. }
                | Entry::SurvivorsSigned { .. } => continue,
            };
            answered.entry(step).or_default().insert(from.clone());
        }
        answered
    }
}

fn position(core: &Coordinator) -> Position {
    match core.step() {
        Some(Step::AdvertiseKeys) => Position::AdvertiseKeys,
        Some(Step::ShareKeys) => Position::ShareKeys,
        Some(Step::MaskedInput) => Position::MaskedInput,
        Some(Step::ConsistencyCheck) => Position::ConsistencyCheck,
        Some(Step::Unmasking) => Position::Unmasking,
        None if core.is_opening() => Position::Opening,
        None if core.survivors_to_sign().is_some() => Position::SurvivorsSignature,
        None => Position::RosterSignature,
    }
}

/// What a [`ToSign`] is about.
const ROSTER: &str = "roster";
const SURVIVOR_LIST: &str = "survivor list";
