//! What is released together, and charged as one.

use crate::error::DpError;
use crate::event::{Event, Relation, Unit};

/// The events of one round: an update with its steps, a count that travels with it. They speak of one unit and one
/// relation, else they are no single promise.
///
/// Canonical: equal lists have equal [`Events::to_bytes`]; decoding checks what building checks.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(into = "Vec<Event>", try_from = "Vec<Event>")]
pub struct Events(Vec<Event>);

impl Events {
    /// # Errors
    /// [`DpError::CountOutOfRange`] for none or more than [`EVENTS_MAX`]; [`DpError::NoTheorem`] for events with different
    /// units or relations.
    pub fn new(events: Vec<Event>) -> Result<Self, DpError> {
        crate::error::count_in_range("events of one release", events.len() as u64, 1, EVENTS_MAX as u64)?;
        let promise = (events[0].unit(), events[0].relation());
        if events.iter().any(|event| (event.unit(), event.relation()) != promise) {
            return Err(DpError::NoTheorem("events with different units or relations do not compose to one promise"));
        }
        Ok(Self(events))
    }

    /// In the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.0.iter()
    }

    /// Whose presence is hidden, and which data sets are neighbours.
    pub fn promise(&self) -> (Unit, Relation) {
        (self.0[0].unit(), self.0[0].relation())
    }

    /// All of it, `count` times.
    ///
    /// # Errors
    /// [`DpError::CountOutOfRange`] if an event would be counted too often.
    pub fn times(&self, count: u64) -> Result<Self, DpError> {
        let repeated = self.0.iter().map(|event| event.times(event.count().saturating_mul(count)));
        Ok(Self(repeated.collect::<Result<_, _>>()?))
    }

    /// Canonical bytes: a version, how many, and for each its length and [`Event::to_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT, u8::try_from(self.0.len()).unwrap_or(u8::MAX)];
        for event in &self.0 {
            let event = event.to_bytes();
            bytes.push(u8::try_from(event.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(&event);
        }
        bytes
    }

    /// Reads what [`Events::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`DpError::NotAnEvent`] for bytes of another form; otherwise as [`Events::new`] and [`Event::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DpError> {
        let short = DpError::NotAnEvent("it ends too early");
        let [FORMAT, count, rest @ ..] = bytes else { return Err(DpError::NotAnEvent("unknown version")) };
        let (mut rest, mut events) = (rest, Vec::new());
        for _ in 0..*count {
            let (len, after) = rest.split_first().ok_or_else(|| short.clone())?;
            let (event, after) = after.split_at_checked(usize::from(*len)).ok_or_else(|| short.clone())?;
            events.push(Event::from_bytes(event)?);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(DpError::NotAnEvent("bytes are left over"));
        }
        Self::new(events)
    }
}

impl From<Event> for Events {
    fn from(event: Event) -> Self {
        Self(vec![event])
    }
}

impl From<Events> for Vec<Event> {
    fn from(events: Events) -> Self {
        events.0
    }
}

impl TryFrom<Vec<Event>> for Events {
    type Error = DpError;

    fn try_from(events: Vec<Event>) -> Result<Self, DpError> {
        Self::new(events)
    }
}

/// Events of one release, at most: the update and the metrics beside it. A ledger's entry holds them all.
pub const EVENTS_MAX: usize = 32;
/// Version of the canonical bytes.
const FORMAT: u8 = 1;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::event::{Mechanism, Sampling};
    use crate::ledger::EVENT_MAX;

    fn event(unit: Unit, sigma: f64) -> Event {
        Event::new(unit, Relation::ZeroOut, Sampling::None, Mechanism::Gaussian { sigma }, 3).unwrap()
    }

    #[test]
    fn bytes_come_back_and_nothing_else_is_read() {
        let events = Events::new(vec![event(Unit::Participant, 1.5), event(Unit::Participant, 7.0)]).unwrap();
        let bytes = events.to_bytes();
        assert_eq!(Events::from_bytes(&bytes).unwrap(), events);
        for len in 0..bytes.len() {
            assert!(Events::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        assert!(Events::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        assert!(Events::from_bytes(&[FORMAT, 0]).is_err(), "nothing is no release");
        let json = serde_json::to_string(&events).unwrap();
        assert_eq!(serde_json::from_str::<Events>(&json).unwrap(), events);
    }

    #[test]
    fn units_do_not_mix_and_lists_are_short() {
        let mixed = Events::new(vec![event(Unit::Participant, 1.5), event(Unit::Record, 1.5)]);
        assert!(matches!(mixed, Err(DpError::NoTheorem(_))));
        assert!(matches!(Events::new(Vec::new()), Err(DpError::CountOutOfRange { .. })));
        let longest = Mechanism::DiscreteGaussianSum { parties: 9, sigma2: 9.0, l1: 1.0, l2: 1.0, dim: 9 };
        let longest = Event::new(Unit::Group(2), Relation::ZeroOut, Sampling::None, longest, 3).unwrap();
        let full = Events::new(vec![longest; EVENTS_MAX]).unwrap();
        assert!(full.to_bytes().len() <= EVENT_MAX, "what can be built can be charged");
        assert!(Events::new(vec![longest; EVENTS_MAX + 1]).is_err());
    }

    #[test]
    fn repeating_multiplies_the_counts() {
        let twice = Events::from(event(Unit::Record, 2.0)).times(2).unwrap();
        assert_eq!(twice.iter().map(Event::count).collect::<Vec<_>>(), [6]);
        assert!(twice.times(u64::MAX).is_err());
    }
}
