//! Entries of the ledger and their canonical bytes.

use std::time::Duration;

use super::account::EVENT_MAX;
use super::bytes::{Malformed, Reader, Writer};
use super::chain::{CODE_LEN, Hash};
use super::names::{Authorisation, Evidence, Finding, NAME_MAX, Name, ReservationId, Scope, Terms};

/// An entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number, from 0 without gaps.
    pub number: u64,
    /// When it was written, since the Unix epoch, whole milliseconds. For people: no rule depends on it, and a clock that
    /// jumps changes no charge.
    pub at: Duration,
    /// Hash of the entry before it.
    pub before: Hash,
    /// What happened.
    pub record: Record,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Record {
    /// A scope was given its budget.
    Opened {
        /// The scope.
        scope: Scope,
        /// Its budget.
        terms: Terms,
    },
    /// A release is charged; participants may be contacted once this is durable.
    Reserved {
        /// Which charge.
        id: ReservationId,
        /// Whose budget.
        scope: Scope,
        /// The event as the accountant encodes it.
        event: Vec<u8>,
        /// Who takes part, in order.
        participants: Vec<Name>,
        /// Epsilon of everything so far, this included, as it was computed then.
        epsilon: f64,
    },
    /// The release was made.
    Committed {
        /// Which charge.
        id: ReservationId,
        /// Its digest.
        release: [u8; 32],
    },
    /// Nothing was opened; the charge is given back.
    Aborted {
        /// Which charge.
        id: ReservationId,
        /// What shows it.
        evidence: Evidence,
    },
    /// A share of the budget is spent; once until the next reset.
    Warning {
        /// Whose budget.
        scope: Scope,
        /// Which share.
        level: Warning,
        /// Epsilon so far.
        epsilon: f64,
    },
    /// A release was refused; once until one is granted. Nothing was charged.
    Exhausted {
        /// Whose budget.
        scope: Scope,
        /// What was asked for.
        id: ReservationId,
        /// Epsilon so far.
        spent: f64,
        /// Epsilon if it had been granted.
        asked: f64,
    },
    /// A scope begins again, but for reservations that are open.
    Reset {
        /// The scope.
        scope: Scope,
        /// Its budget from here on.
        terms: Terms,
        /// By whose order.
        authorisation: Authorisation,
    },
}

/// Shares of a budget that are worth a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// 80 % or more is spent.
    Percent80,
    /// 95 % or more is spent.
    Percent95,
}

impl Warning {
    /// The highest warning that a spending deserves.
    pub(super) fn of(epsilon: f64, total: f64) -> Option<Self> {
        if epsilon >= 0.95 * total {
            return Some(Self::Percent95);
        }
        (epsilon >= 0.8 * total).then_some(Self::Percent80)
    }
}

impl Entry {
    /// Reads an entry without checking its code or its place: for display. [`super::Ledger::open`] checks both.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let body = bytes.len().checked_sub(CODE_LEN).ok_or(Malformed::Truncated { field: "entry" })?;
        Self::decode(&bytes[..body])
    }

    /// Bytes without the authentication code.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.raw(MAGIC).u16(VERSION).u64(self.number);
        // Milliseconds of 2^64 are 600 million years.
        out.u64(u64::try_from(self.at.as_millis()).unwrap_or(u64::MAX)).raw(&self.before);
        self.record.encode(&mut out);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if &reader.array::<4>("magic")? != MAGIC {
            return Err(Malformed::Value { field: "magic" });
        }
        match reader.u16("version")? {
            VERSION => {}
            got => return Err(Malformed::Version { got, expected: VERSION }),
        }
        let number = reader.u64("number")?;
        let at = Duration::from_millis(reader.u64("time")?);
        let before = reader.array("hash")?;
        let record = Record::decode(&mut reader)?;
        reader.finish()?;
        Ok(Self { number, at, before, record })
    }
}

impl Record {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Opened { scope: of, terms: to } => {
                scope(out.u8(OPENED), of);
                terms(out, to);
            }
            Self::Reserved { id: of, scope: within, event, participants, epsilon } => {
                id(out.u8(RESERVED), of);
                scope(out, within);
                out.bytes(event).count(participants.len());
                for participant in participants {
                    name(out, participant);
                }
                out.f64(*epsilon);
            }
            Self::Committed { id: of, release } => {
                id(out.u8(COMMITTED), of).raw(release);
            }
            Self::Aborted { id: of, evidence } => {
                let finding = match evidence.finding {
                    Finding::NothingSent => 0,
                    Finding::NothingReceived => 1,
                    Finding::NeverUnmasked => 2,
                };
                id(out.u8(ABORTED), of).u8(finding).raw(&evidence.digest);
            }
            Self::Warning { scope: of, level, epsilon } => {
                let kind = match level {
                    Warning::Percent80 => WARNING_80,
                    Warning::Percent95 => WARNING_95,
                };
                scope(out.u8(kind), of).f64(*epsilon);
            }
            Self::Exhausted { scope: of, id: asked_for, spent, asked } => {
                scope(out.u8(EXHAUSTED), of);
                id(out, asked_for).f64(*spent).f64(*asked);
            }
            Self::Reset { scope: of, terms: to, authorisation } => {
                scope(out.u8(RESET), of);
                terms(out, to);
                name(out, &authorisation.by);
                name(out, &authorisation.reason).raw(&authorisation.digest);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.u8("kind")? {
            OPENED => Self::Opened { scope: read_scope(reader)?, terms: read_terms(reader)? },
            RESERVED => Self::Reserved {
                id: read_id(reader)?,
                scope: read_scope(reader)?,
                event: reader.bytes(EVENT_MAX, "event")?.to_vec(),
                participants: read_participants(reader)?,
                epsilon: reader.f64("epsilon")?,
            },
            COMMITTED => Self::Committed { id: read_id(reader)?, release: reader.array("release")? },
            ABORTED => Self::Aborted { id: read_id(reader)?, evidence: read_evidence(reader)? },
            kind @ (WARNING_80 | WARNING_95) => Self::Warning {
                scope: read_scope(reader)?,
                level: if kind == WARNING_80 { Warning::Percent80 } else { Warning::Percent95 },
                epsilon: reader.f64("epsilon")?,
            },
            EXHAUSTED => Self::Exhausted {
                scope: read_scope(reader)?,
                id: read_id(reader)?,
                spent: reader.f64("spent")?,
                asked: reader.f64("asked")?,
            },
            RESET => Self::Reset {
                scope: read_scope(reader)?,
                terms: read_terms(reader)?,
                authorisation: Authorisation {
                    by: read_name(reader, "principal")?,
                    reason: read_name(reader, "reason")?,
                    digest: reader.array("order")?,
                },
            },
            _ => return Err(Malformed::Value { field: "kind" }),
        })
    }
}

fn name<'a>(out: &'a mut Writer, name: &Name) -> &'a mut Writer {
    out.bytes(name.as_str().as_bytes())
}

fn scope<'a>(out: &'a mut Writer, scope: &Scope) -> &'a mut Writer {
    name(out, &scope.population);
    name(out, &scope.unit);
    name(out, &scope.data_version)
}

fn id<'a>(out: &'a mut Writer, id: &ReservationId) -> &'a mut Writer {
    name(out, &id.task).u64(id.round).u32(id.attempt)
}

fn terms(out: &mut Writer, terms: &Terms) {
    // Infinity stands for no limit; Terms has none of its own.
    let participant = terms.participant_epsilon().unwrap_or(f64::INFINITY);
    out.f64(terms.epsilon()).f64(terms.delta()).f64(participant);
}

fn read_name(reader: &mut Reader<'_>, field: &'static str) -> Result<Name, Malformed> {
    let bytes = reader.bytes(NAME_MAX, field)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Value { field })?;
    Name::new(text).map_err(|_| Malformed::Value { field })
}

fn read_scope(reader: &mut Reader<'_>) -> Result<Scope, Malformed> {
    Ok(Scope {
        population: read_name(reader, "population")?,
        unit: read_name(reader, "unit")?,
        data_version: read_name(reader, "data version")?,
    })
}

fn read_id(reader: &mut Reader<'_>) -> Result<ReservationId, Malformed> {
    Ok(ReservationId { task: read_name(reader, "task")?, round: reader.u64("round")?, attempt: reader.u32("attempt")? })
}

fn read_terms(reader: &mut Reader<'_>) -> Result<Terms, Malformed> {
    let (epsilon, delta) = (reader.f64("total epsilon")?, reader.f64("delta")?);
    let participant = reader.f64("participant epsilon")?;
    let participant = (participant != f64::INFINITY).then_some(participant);
    Terms::new(epsilon, delta, participant).map_err(|_| Malformed::Value { field: "terms" })
}

fn read_evidence(reader: &mut Reader<'_>) -> Result<Evidence, Malformed> {
    let finding = match reader.u8("finding")? {
        0 => Finding::NothingSent,
        1 => Finding::NothingReceived,
        2 => Finding::NeverUnmasked,
        _ => return Err(Malformed::Value { field: "finding" }),
    };
    Ok(Evidence { finding, digest: reader.array("evidence")? })
}

/// In order and each once, or two encodings would mean the same.
fn read_participants(reader: &mut Reader<'_>) -> Result<Vec<Name>, Malformed> {
    let count = reader.count(PARTICIPANTS_MAX, 5, "participants")?;
    let mut participants: Vec<Name> = Vec::with_capacity(count);
    for _ in 0..count {
        let participant = read_name(reader, "participant")?;
        if participants.last().is_some_and(|last| *last >= participant) {
            return Err(Malformed::Value { field: "participants" });
        }
        participants.push(participant);
    }
    Ok(participants)
}

/// Most participants of one reservation.
pub const PARTICIPANTS_MAX: usize = 100_000;

const MAGIC: &[u8; 4] = b"sdpl";
const VERSION: u16 = 1;
const OPENED: u8 = 1;
const RESERVED: u8 = 2;
const COMMITTED: u8 = 3;
const ABORTED: u8 = 4;
const WARNING_80: u8 = 5;
const WARNING_95: u8 = 6;
const EXHAUSTED: u8 = 7;
const RESET: u8 = 8;
