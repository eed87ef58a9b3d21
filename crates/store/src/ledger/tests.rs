//! What cannot be seen from outside: how many appends there are.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::{LedgerEvent, LedgerStoreError, PrivacyLedger, writer::Message};
use sordino_dp::{
    Event, Events, Mechanism, Relation, Sampling, Unit,
    ledger::{
        Ask, Decision, Evidence, Finding, LedgerKey, Name, PARTICIPANTS_MAX, Refusal, ReservationId, Scope, Standing,
        Status, Terms,
    },
};
use std::{fs, future::Future, path::Path, sync::mpsc, time::Duration};
use tempfile::tempdir;
use tokio::{sync::oneshot, task::JoinHandle};

const NOW: Duration = Duration::from_secs(1_700_000_000);

/// Whoever waits together shares one append.
#[tokio::test]
async fn many_tasks_share_one_append() {
    let folder = tempdir().unwrap();
    let ledger = with_scope(folder.path(), 1000.0).await;
    let before = appends(&ledger).await;
    let decisions = queued_together(&ledger, (0..64).map(reserve)).await;
    assert_eq!(appends(&ledger).await, before + 1);
    // Each knows those before it.
    let spent: Vec<f64> = decisions.into_iter().map(|decision| decision.unwrap().unwrap().spent).collect();
    assert!(spent.is_sorted_by(|fewer, more| fewer < more));
    assert_eq!(ledger.spending(&scope()).await.unwrap().unwrap().spent, spent[63]);
    assert_eq!(ledger.open_reservations().await.unwrap().len(), 64);
    ledger.close().await;

    let ledger = open(folder.path()).await;
    assert_eq!(ledger.open_reservations().await.unwrap().len(), 64);
    assert_eq!(ledger.spending(&scope()).await.unwrap().unwrap().spent, spent[63]);
    assert_eq!(appends(&ledger).await, 0);
}

/// One after the other, for comparison.
#[tokio::test]
async fn whoever_waits_alone_has_an_append_alone() {
    let folder = tempdir().unwrap();
    let ledger = with_scope(folder.path(), 1000.0).await;
    let before = appends(&ledger).await;
    for task in 0..5 {
        ledger.reserve(ask(task), NOW).await.unwrap().unwrap();
    }
    assert_eq!(appends(&ledger).await, before + 5);
    // What is known needs none.
    for task in 0..5 {
        assert_eq!(ledger.reserve(ask(task), NOW).await.unwrap().unwrap().standing, Standing::Open);
    }
    ledger.open_scope(scope(), Terms::new(1000.0, 1e-6, None).unwrap(), NOW).await.unwrap();
    assert_eq!(appends(&ledger).await, before + 5);
}

/// The same request twice in one append is one charge, and whoever is refused does not disturb the others.
#[tokio::test]
async fn in_one_append_too_each_is_charged_once_and_refused_alone() {
    let folder = tempdir().unwrap();
    let first = ask(0);
    let ledger = with_scope(folder.path(), 1000.0).await;
    let before = appends(&ledger).await;
    let unknown = Ask { scope: Scope { data_version: name("2"), ..scope() }, ..ask(1) };
    let twice = Ask { participants: vec![name("a"), name("a")], ..ask(2) };
    let asks = [first.clone(), unknown, first, twice, ask(3)];
    let decisions = queued_together(&ledger, asks.map(reserve_this)).await;
    let decisions: Vec<Decision> = decisions.into_iter().map(Result::unwrap).collect();
    assert!(decisions[0].as_ref().is_ok_and(|granted| granted.standing == Standing::New));
    assert!(matches!(decisions[1], Err(Refusal::UnknownScope(_))));
    assert!(decisions[2].as_ref().is_ok_and(|granted| granted.standing == Standing::Open));
    assert!(matches!(decisions[3], Err(Refusal::Invalid(_))));
    assert!(decisions[4].as_ref().is_ok_and(|granted| granted.standing == Standing::New));
    assert_eq!(appends(&ledger).await, before + 1);
    assert_eq!(ledger.charges(&scope()).await.unwrap().len(), 2);
}

/// All kinds of changes share it, in their order, and a refused one is alone.
#[tokio::test]
async fn changes_of_all_kinds_share_one_append() {
    let folder = tempdir().unwrap();
    let ledger = open(folder.path()).await;
    let evidence = Evidence { finding: Finding::NothingSent, digest: [4; 32] };
    type Step = Box<dyn FnOnce(PrivacyLedger) -> JoinHandle<Result<(), LedgerStoreError>>>;
    fn step<F: Future<Output = Result<(), LedgerStoreError>> + Send + 'static>(
        step: impl FnOnce(PrivacyLedger) -> F + 'static,
    ) -> Step {
        Box::new(move |ledger| tokio::spawn(step(ledger)))
    }
    let terms = Terms::new(1000.0, 1e-6, None).unwrap();
    let grant = |task| {
        step(move |ledger| async move { ledger.reserve(ask(task), NOW).await.map(|granted| drop(granted.unwrap())) })
    };
    let steps = vec![
        step(move |ledger| async move { ledger.open_scope(scope(), terms, NOW).await }),
        grant(1),
        grant(2),
        step(|ledger| async move { ledger.commit(id(1), [1; 32], NOW).await }),
        // Nobody reserved this.
        step(|ledger| async move { ledger.commit(id(9), [1; 32], NOW).await }),
        step(move |ledger| async move { ledger.abort(id(2), evidence, NOW).await }),
        grant(3),
    ];
    let hold = Hold::on(&ledger).await;
    let mut waiting = Vec::new();
    for step in steps {
        waiting.push(step(ledger.clone()));
        hold.until_queued(&ledger, waiting.len()).await;
    }
    hold.let_go();
    for (at, step) in waiting.into_iter().enumerate() {
        match step.await.unwrap() {
            Err(LedgerStoreError::Refused(_)) => assert_eq!(at, 4),
            done => done.unwrap(),
        }
    }
    assert_eq!(appends(&ledger).await, 1);
    ledger.close().await;
    let ledger = open(folder.path()).await;
    let mut statuses = Vec::new();
    for task in [1, 2, 3, 9] {
        statuses.push(ledger.status(&id(task)).await.unwrap());
    }
    assert_eq!(statuses, [Some(Status::Committed([1; 32])), Some(Status::Aborted), Some(Status::Open), None]);
}

/// Entries of requests that name very many participants are not all held in memory together.
#[tokio::test]
async fn an_append_is_bounded_by_the_participants_in_it() {
    let folder = tempdir().unwrap();
    let ledger = with_scope(folder.path(), 1000.0).await;
    let before = appends(&ledger).await;
    let participants: Vec<Name> = (0..PARTICIPANTS_MAX / 2).map(|at| name(&at.to_string())).collect();
    let crowd = |task| reserve_this(Ask { participants: participants.clone(), ..ask(task) });
    let decisions = queued_together(&ledger, (0..5).map(crowd)).await;
    assert!(decisions.into_iter().all(|decision| decision.unwrap().is_ok()));
    assert_eq!(appends(&ledger).await, before + 3);
}

/// One failure is told to all that shared the append, charges none of them, and ends with its cause. A folder in the
/// place of the counter's next generation is the failure: the entries are written, and cannot be counted.
#[tokio::test]
async fn a_failed_append_fails_for_all_and_charges_nobody() {
    let folder = tempdir().unwrap();
    let ledger = with_scope(folder.path(), 1000.0).await;
    ledger.reserve(ask(100), NOW).await.unwrap().unwrap();
    let before = (appends(&ledger).await, ledger.spending(&scope()).await.unwrap(), entries_in(folder.path()));
    let in_the_way = folder.path().join("counter.new");
    fs::create_dir(&in_the_way).unwrap();
    for result in queued_together(&ledger, (0..8).map(reserve)).await {
        match result {
            Err(LedgerStoreError::Io { path, .. }) => assert_eq!(path, in_the_way),
            other => panic!("{other:?}"),
        }
    }
    assert!(entries_in(folder.path()).len() > before.2.len(), "the entries were written");
    let now = (appends(&ledger).await, ledger.spending(&scope()).await.unwrap(), entries_in(folder.path()));
    assert_eq!(now, before);
    fs::remove_dir(in_the_way).unwrap();
    for decision in queued_together(&ledger, (0..8).map(reserve)).await {
        assert_eq!(decision.unwrap().unwrap().standing, Standing::New);
    }
    assert_eq!(appends(&ledger).await, before.0 + 1);
    ledger.close().await;
    assert_eq!(open(folder.path()).await.open_reservations().await.unwrap().len(), 9);
}

/// Somebody restores files under a program that runs: nothing is charged on them.
#[tokio::test]
async fn a_counter_that_moved_stops_the_ledger() {
    let folder = tempdir().unwrap();
    let ledger = with_scope(folder.path(), 1000.0).await;
    let counter = folder.path().join("counter");
    let older = fs::read(&counter).unwrap();
    ledger.reserve(ask(1), NOW).await.unwrap().unwrap();
    let newest = (entries_in(folder.path()), fs::read(&counter).unwrap());
    fs::write(&counter, older).unwrap();
    let refused = ledger.reserve(ask(2), NOW).await.unwrap_err();
    assert!(matches!(&refused, LedgerStoreError::CounterMoved { path } if *path == counter), "{refused:?}");
    assert_eq!(entries_in(folder.path()), newest.0);
    // It is read again then, and has forgotten nothing.
    assert_eq!(ledger.status(&id(1)).await.unwrap(), Some(Status::Open));
    assert_eq!(fs::read(&counter).unwrap(), newest.1);

    fs::remove_file(&counter).unwrap();
    for _ in 0..2 {
        let refused = ledger.reserve(ask(2), NOW).await.unwrap_err();
        assert!(matches!(refused, LedgerStoreError::CounterMissing { .. }), "{refused:?}");
    }
    fs::write(&counter, newest.1).unwrap();
    assert_eq!(ledger.reserve(ask(2), NOW).await.unwrap().unwrap().standing, Standing::New);
}

/// What was queued before it is done; what comes after is refused.
#[tokio::test]
async fn closing_does_what_is_queued() {
    let folder = tempdir().unwrap();
    let ledger = with_scope(folder.path(), 1000.0).await;
    let hold = Hold::on(&ledger).await;
    let waiting: Vec<_> = (0..3).map(|task| reserve(task)(ledger.clone())).collect();
    hold.until_queued(&ledger, 3).await;
    let closing = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.close().await }
    });
    hold.until_queued(&ledger, 4).await;
    hold.let_go();
    closing.await.unwrap();
    for granted in waiting {
        granted.await.unwrap().unwrap().unwrap();
    }
    assert!(matches!(ledger.reserve(ask(4), NOW).await, Err(LedgerStoreError::Closed)));
    assert!(matches!(ledger.scopes().await, Err(LedgerStoreError::Closed)));
    ledger.close().await;
    // The files are free at once.
    assert_eq!(open(folder.path()).await.open_reservations().await.unwrap().len(), 3);
}

/// The writer, kept busy with a question.
struct Hold {
    release: mpsc::Sender<()>,
}

impl Hold {
    async fn on(ledger: &PrivacyLedger) -> Self {
        let (release, released) = mpsc::channel();
        let (reached, here) = oneshot::channel();
        let question = Message::Question(Box::new(move |_| {
            reached.send(()).unwrap();
            released.recv().unwrap();
        }));
        ledger.queue.send(question).await.unwrap();
        here.await.unwrap();
        Self { release }
    }

    /// Lets others run until so many messages wait.
    async fn until_queued(&self, ledger: &PrivacyLedger, messages: usize) {
        while ledger.queue.max_capacity() - ledger.queue.capacity() < messages {
            tokio::task::yield_now().await;
        }
    }

    fn let_go(self) {
        self.release.send(()).unwrap();
    }
}

/// The results of requests that all wait before the first is taken.
async fn queued_together<T, F>(ledger: &PrivacyLedger, requests: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: FnOnce(PrivacyLedger) -> JoinHandle<T>,
{
    let hold = Hold::on(ledger).await;
    let waiting: Vec<_> = requests.into_iter().map(|request| request(ledger.clone())).collect();
    hold.until_queued(ledger, waiting.len()).await;
    hold.let_go();
    let mut results = Vec::new();
    for request in waiting {
        results.push(request.await.unwrap());
    }
    results
}

type Reserving = JoinHandle<Result<Decision, LedgerStoreError>>;

fn reserve(task: u64) -> impl FnOnce(PrivacyLedger) -> Reserving {
    reserve_this(ask(task))
}

fn reserve_this(ask: Ask<LedgerEvent>) -> impl FnOnce(PrivacyLedger) -> Reserving {
    move |ledger| tokio::spawn(async move { ledger.reserve(ask, NOW).await })
}

async fn appends(ledger: &PrivacyLedger) -> usize {
    ledger.question_of_books(|books| Ok(books.files.appends)).await.unwrap()
}

async fn open(folder: &Path) -> PrivacyLedger {
    let key = LedgerKey::new(&[7; 32]).unwrap();
    PrivacyLedger::open(&folder.join("ledger"), &folder.join("counter"), key).await.unwrap()
}

async fn with_scope(folder: &Path, epsilon: f64) -> PrivacyLedger {
    let ledger = open(folder).await;
    ledger.open_scope(scope(), Terms::new(epsilon, 1e-6, None).unwrap(), NOW).await.unwrap();
    ledger
}

fn entries_in(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("ledger")).unwrap()
}

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

fn scope() -> Scope {
    Scope { population: name("wards"), unit: name("participant"), data_version: name("1") }
}

fn id(task: u64) -> ReservationId {
    ReservationId { task: name(&format!("task-{task}")), round: 1, attempt: 1 }
}

/// Of one task among many.
fn ask(task: u64) -> Ask<LedgerEvent> {
    let mechanism = Mechanism::Gaussian { sigma: 4.0 };
    let event = Event::new(Unit::Participant, Relation::ZeroOut, Sampling::None, mechanism, 1).unwrap();
    Ask { id: id(task), scope: scope(), event: Events::from(event), participants: vec![name("a")] }
}
