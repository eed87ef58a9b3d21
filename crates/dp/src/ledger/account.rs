//! What the ledger needs of an accountant.

/// Composes events at a fixed delta. Implemented by the accountant; the ledger never adds epsilons.
pub trait Account: Clone {
    /// What one release did: mechanism, noise, sampling, relation, unit.
    type Event;
    /// An event with what it costs by itself, as a curve: computed once, added to the accounts of a scope and of all its
    /// participants, and held while the reservation is open. Cheap to clone.
    type Cost: Clone;
    /// Why an event has no cost that is known.
    type Error: std::error::Error + Send + Sync + 'static;

    /// An account without events.
    ///
    /// # Errors
    /// For a delta outside `(0, 1)`.
    fn with_delta(delta: f64) -> Result<Self, Self::Error>;

    /// What an event costs: the same for every account.
    ///
    /// # Errors
    /// For an event without a theorem.
    fn cost(event: &Self::Event) -> Result<Self::Cost, Self::Error>;

    /// Epsilon of all events so far and `extra`, never below the truth.
    ///
    /// # Errors
    /// For an event that does not compose with those before it.
    fn epsilon_with(&self, extra: Option<&Self::Cost>) -> Result<f64, Self::Error>;

    /// Adds an event. Must take what [`Self::epsilon_with`] took.
    ///
    /// # Errors
    /// For an event that does not compose with those before it.
    fn add(&mut self, cost: &Self::Cost) -> Result<(), Self::Error>;

    /// The event's canonical bytes: equal events have equal bytes. At most [`EVENT_MAX`].
    fn encode(event: &Self::Event) -> Vec<u8>;

    /// The event of these bytes, checked as its constructors check it.
    ///
    /// # Errors
    /// For bytes that are not an event's.
    fn decode(bytes: &[u8]) -> Result<Self::Event, Self::Error>;
}

/// Most bytes of an event.
pub const EVENT_MAX: usize = 4096;
