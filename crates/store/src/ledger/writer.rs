//! The one writer: a thread that drains a queue and makes many callers' changes durable with one append.
//!
//! An append waits for the disk three times (the entries, the counter, its name), whatever it carries. So all that came in
//! meanwhile goes into the next one ("group commit"). Changes are decided in the order in which they came; questions are
//! answered after the append, from what is durable. A caller that stops waiting does not stop its change.

use super::{Books, LedgerEvent, LedgerStoreError, books::Rules};
use sordino_dp::ledger::{Ask, Decision, LedgerError, PARTICIPANTS_MAX, Staged};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, LedgerStoreError>>;
/// A change that answers with nothing.
pub(super) type Change = Box<dyn FnOnce(&mut Rules) -> Result<Staged<()>, LedgerError> + Send>;
/// A question, which answers by itself.
pub(super) type Question = Box<dyn FnOnce(&mut Books) + Send>;

/// What the writer is asked for.
pub(super) enum Message {
    Reserve { ask: Box<Ask<LedgerEvent>>, now: Duration, reply: Reply<Decision> },
    Change { change: Change, reply: Reply<()> },
    Question(Question),
    Close(oneshot::Sender<()>),
}

/// Serves until it is closed or the last sender is gone; then the files are unlocked.
pub(super) fn serve(mut books: Books, mut queue: mpsc::Receiver<Message>) {
    let mut received = Vec::new();
    let mut questions = Vec::new();
    let mut closing = Vec::new();
    while queue.blocking_recv_many(&mut received, BATCH_MAX) > 0 {
        let mut batch = Batch::new(&mut books);
        for message in received.drain(..) {
            match message {
                Message::Reserve { ask, now, reply } => batch.reserve(*ask, now, reply),
                Message::Change { change, reply } => batch.change(change, reply),
                Message::Question(question) => questions.push(question),
                Message::Close(reply) => {
                    // What is queued is still taken, and nothing is received after it.
                    queue.close();
                    closing.push(reply);
                }
            }
        }
        batch.settle();
        for question in questions.drain(..) {
            question(&mut books);
        }
    }
    drop(books);
    for reply in closing {
        reply.send(()).ok();
    }
}

/// Changes that share one append.
struct Batch<'a> {
    books: &'a mut Books,
    /// Requests in a row, which are decided together.
    asks: Vec<Ask<LedgerEvent>>,
    asking: Vec<Reply<Decision>>,
    /// When the last of them came.
    now: Duration,
    /// Names in all of them, which is what makes entries long.
    participants: usize,
    staged: Vec<Pending>,
}

/// What was decided, and who waits for it.
enum Pending {
    Reserved(Staged<Vec<Decision>>, Vec<Reply<Decision>>),
    Changed(Staged<()>, Reply<()>),
}

impl<'a> Batch<'a> {
    fn new(books: &'a mut Books) -> Self {
        Self { books, asks: Vec::new(), asking: Vec::new(), now: Duration::ZERO, participants: 0, staged: Vec::new() }
    }

    fn reserve(&mut self, ask: Ask<LedgerEvent>, now: Duration, reply: Reply<Decision>) {
        self.participants += ask.participants.len();
        self.now = self.now.max(now);
        self.asks.push(ask);
        self.asking.push(reply);
        if self.participants >= PARTICIPANTS_MAX {
            self.settle();
        }
    }

    fn change(&mut self, change: Change, reply: Reply<()>) {
        self.decide();
        match self.stage(change) {
            Ok(staged) => self.staged.push(Pending::Changed(staged, reply)),
            Err(why) => answer(reply, Err(why)),
        }
    }

    /// Decides the requests that came in a row.
    fn decide(&mut self) {
        let (asks, asking) = (std::mem::take(&mut self.asks), std::mem::take(&mut self.asking));
        if asks.is_empty() {
            return;
        }
        let now = std::mem::take(&mut self.now);
        match self.stage(|rules| rules.reserve(asks, now)) {
            Ok(staged) => self.staged.push(Pending::Reserved(staged, asking)),
            Err(why) => asking.into_iter().for_each(|reply| answer(reply, Err(why.clone()))),
        }
    }

    fn stage<T>(
        &mut self,
        decide: impl FnOnce(&mut Rules) -> Result<Staged<T>, LedgerError>,
    ) -> Result<Staged<T>, LedgerStoreError> {
        let staged = self.books.stage(decide);
        if let Err(LedgerStoreError::Undecided(_)) = &staged {
            // What was decided before it stands; the rules themselves do not.
            self.write();
            self.books.forget();
        }
        staged
    }

    /// Decides and writes all of it, and answers.
    fn settle(&mut self) {
        self.decide();
        self.write();
        self.participants = 0;
    }

    fn write(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        let (Some(first), Some(last)) = (staged.first(), staged.last()) else { return };
        let entries: Vec<&[u8]> = staged.iter().flat_map(|pending| pending.entries()).map(Vec::as_slice).collect();
        let written = self.books.write(&entries, &first.before(), &last.after());
        for pending in staged {
            match written.clone() {
                Ok(()) => pending.acknowledge(self.books),
                Err(why) => pending.refuse(&why),
            }
        }
    }
}

impl Pending {
    fn entries(&self) -> &[Vec<u8>] {
        match self {
            Self::Reserved(staged, _) => staged.entries(),
            Self::Changed(staged, _) => staged.entries(),
        }
    }

    fn before(&self) -> sordino_dp::ledger::Counter {
        match self {
            Self::Reserved(staged, _) => staged.before(),
            Self::Changed(staged, _) => staged.before(),
        }
    }

    fn after(&self) -> sordino_dp::ledger::Counter {
        match self {
            Self::Reserved(staged, _) => staged.after(),
            Self::Changed(staged, _) => staged.after(),
        }
    }

    fn acknowledge(self, books: &mut Books) {
        match self {
            Self::Reserved(staged, replies) => match books.acknowledge(staged) {
                Ok(decisions) => {
                    replies.into_iter().zip(decisions).for_each(|(reply, decision)| answer(reply, Ok(decision)));
                }
                Err(why) => replies.into_iter().for_each(|reply| answer(reply, Err(why.clone()))),
            },
            Self::Changed(staged, reply) => answer(reply, books.acknowledge(staged)),
        }
    }

    fn refuse(self, why: &LedgerStoreError) {
        match self {
            Self::Reserved(_, replies) => replies.into_iter().for_each(|reply| answer(reply, Err(why.clone()))),
            Self::Changed(_, reply) => answer(reply, Err(why.clone())),
        }
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, LedgerStoreError>) {
    // A caller that is gone does not need it.
    reply.send(result).ok();
}

/// Requests that wait; further callers wait for a place.
pub(super) const QUEUE_LEN: usize = 1024;
/// Requests of one append: bounds how much one failure can throw back.
const BATCH_MAX: usize = 256;
