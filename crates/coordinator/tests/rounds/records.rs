//! Rounds under the unit `record`: sites train with DP-SGD and pay from ledgers of their own.

use super::{
    common::TestFederation,
    join, near, round,
    site::{self, Site},
    sum,
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use sordino_codec::Tensors;
use sordino_dp::Accountant;
use sordino_participant::{
    SiteAccount, Summary, TrainError,
    training::{Architecture, BuiltinTrainer, Dataset, RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_secagg::Step;
use sordino_wire::{
    RoundId,
    api::{Budgets, RoundState, Task},
    policy::PrivacyUnit,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::task::JoinHandle;

const SOFTMAX: Architecture = Architecture::Softmax { features: 4, classes: 2 };

/// The built-in trainer with a few records, and how often it was asked.
struct Counted {
    trainer: BuiltinTrainer<UnwrapErr<SysRng>>,
    asked: Arc<AtomicU64>,
}

impl Counted {
    fn new(asked: &Arc<AtomicU64>) -> Box<Self> {
        let labels: Vec<u32> = (0..60).map(|row| row % 2).collect();
        let value = |row: u32, column: u32| if row % 2 == column % 2 { 1.0 } else { -0.5 };
        let features = (0..60).flat_map(|row| (0..4).map(move |column| value(row, column))).collect();
        let dataset = Dataset::new(features, labels, 4, 2).unwrap();
        Box::new(Self { trainer: BuiltinTrainer::new(dataset, UnwrapErr(SysRng)), asked: asked.clone() })
    }
}

impl Trainer for Counted {
    fn train(&mut self, model: &Tensors, round: &RoundInfo) -> Result<Trained, TrainingError> {
        assert!(round.privacy.is_some(), "it is told how to protect its records");
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.trainer.train(model, round)
    }

    fn records(&self) -> Option<u64> {
        self.trainer.records()
    }
}

/// Whatever the coordinator has to give away, the sites' own budgets count.
fn policy(population: &str, rounds: u64, target: u32) -> String {
    format!(
        "[task]\nname = \"records\"\nrounds = {rounds}\n\
         [cohort]\nmin = 3\ntarget = {target}\nmax_dropout_fraction = 0.25\nmax_corrupt_fraction = 0.0\n\
         [privacy]\npopulation = \"{population}\"\ntotal_epsilon = 1000.0\nnoise_multiplier = 2.0\nclip_norm = 4.0\n\
         sampling_rate = 0.25\nsteps = 3\n\
         [[encoding.metrics]]\nname = \"loss_sum\"\nmax = 1000.0\nresolution = 0.01\nrecord_max = 3.0\n\
         [timing]\ngather = 20.0\nparticipant_timeout = 20.0\nround_timeout = 60.0\nstep_timeout = 1.5\n\
         step_grace = 0.5\n"
    )
}

/// Epsilon of so many rounds of a task, for the records of one site.
fn cost(task: &Task, rounds: u64) -> f64 {
    let policy = task.policy.clone().check().unwrap();
    let len = usize::try_from(task.model_len).unwrap();
    let round = policy.round_privacy(len, &policy.terms(3)).unwrap().unwrap();
    Accountant::new(1e-5).unwrap().with_all(&round.events().times(rounds).unwrap()).unwrap().epsilon
}

/// Makes a task; all begin with the same model.
async fn create(federation: &TestFederation, policy: &str) -> Task {
    let model = SOFTMAX.initial(1).unwrap().to_safetensors();
    federation.create_task(policy, federation.upload(&model).await).await
}

/// Begins to train for a task until it ends.
fn train(site: &Site, asked: &Arc<AtomicU64>, task: &Task) -> JoinHandle<Result<Summary, TrainError>> {
    tokio::spawn(site.train_by(Counted::new(asked), &task.id, None))
}

/// A site pays once for each update that it sends, from one account for all tasks. When that is spent it trains no more,
/// whatever the coordinator asks and however often: it is a dropout of the round, and the others go on. Each Release
/// tells who has spent most, by the coordinator's ledger or by its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_pays_for_each_update_and_trains_no_more_when_its_budget_is_spent() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let sites = join(&federation, 4).await;
    let asked: Vec<Arc<AtomicU64>> = (0..4).map(|_| Arc::default()).collect();
    let train = |at: usize, task: &Task| train(&sites[at], &asked[at], task);

    // Two rounds of another task, without the first site.
    let first = create(&federation, &policy("first", 2, 3)).await;
    // The last site has no more than four rounds to give. Nobody but its owner can raise that.
    sites[3].set("max_epsilon", &format!("{:?}", f64::midpoint(cost(&first, 4), cost(&first, 5))));
    sites[..3].iter().for_each(|site| site.set("max_epsilon", "1000.0"));
    let running: Vec<_> = (1..4).map(|at| train(at, &first)).collect();
    for site in running {
        assert_eq!(site.await.unwrap().unwrap().finished, 2);
    }
    for (site, paid) in sites.iter().zip([0, 2, 2, 2]) {
        let standing = site.standing();
        let SiteAccount { spent, charges } = standing.record;
        assert_eq!(charges, paid);
        assert!(if paid == 0 { spent == 0.0 } else { near(spent, cost(&first, paid)) }, "{standing:?}");
        assert_eq!(standing.participant, SiteAccount::default(), "the whole contribution is another account");
    }

    let second = create(&federation, &policy("second", 4, 4)).await;
    let steady: Vec<_> = (0..3).map(|at| train(at, &second)).collect();
    let mut refused = Vec::new();
    // However often it is started: until it was asked in the last round.
    while refused.last() != Some(&4) {
        match train(3, &second).await.unwrap() {
            Err(TrainError::BudgetSpent { round: RoundId { number, .. }, source }) => {
                assert!(source.to_string().contains("privacy budget exhausted"), "{source}");
                refused.push(number);
            }
            other => panic!("{other:?}"),
        }
    }
    for site in steady {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.left_out, summary.refused), (4, 0, 0));
    }
    assert!(refused.contains(&3), "{refused:?}: two of the other task, and two of this one");
    assert_eq!(asked.iter().map(|asked| asked.load(Ordering::Relaxed)).collect::<Vec<_>>(), [4, 6, 6, 4]);
    for (site, paid) in sites.iter().zip([4, 6, 6, 4]) {
        let standing = site.standing();
        let SiteAccount { spent, charges } = standing.record;
        assert_eq!(charges, paid, "{}", site.id);
        assert!(near(spent, cost(&second, paid)) && spent <= standing.total, "{standing:?}");
    }

    for number in 1..=4 {
        let round = round(&federation, &second.id, number).await;
        assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{round:?}");
        let release = round.release.clone().unwrap();
        let gone: Vec<_> = release.dropouts.iter().map(|(id, at)| (id.as_str(), at.as_str())).collect();
        let spent = [("site-0003", Step::AdvertiseKeys.name())];
        assert_eq!((release.cohort.len(), &gone[..]), (4, if number > 2 { &spent[..] } else { &[] }));
        assert_eq!(release.weight, release.survivors.len() as u64, "how many records a site has stays at the site");
        assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round));
        let privacy = release.privacy.unwrap();
        assert_eq!((privacy.unit, privacy.sum_noise_std), (PrivacyUnit::Record, None));
        assert!(near(privacy.epsilon, cost(&second, number)), "{privacy:?}");
        assert!(near(privacy.epsilon_of_round, cost(&second, 1)), "{privacy:?}");
        // By the coordinator's ledger everybody has spent as much as there were rounds of this population. Two sites knew
        // of two more when they last checked in: for this round, or for the next one already.
        let worst = privacy.worst_participant.unwrap();
        let known = [number + 1, number + 2].map(|rounds| near(worst.epsilon, cost(&second, rounds)));
        assert!(worst.by_own_word && known.contains(&true), "round {number}: {worst:?}");
        assert_ne!(worst.id.as_str(), "site-0000");
    }
    let budgets: Budgets = federation.admin.get("/v1/budget").send().await.unwrap().json().await.unwrap();
    for (budget, paid) in budgets.budgets.iter().zip([2, 4]) {
        assert_eq!((budget.unit.as_str(), budget.committed), ("record", paid));
        assert!(near(budget.spent, cost(&second, paid)), "{budget:?}");
        assert!(near(budget.worst_participant.as_ref().unwrap().epsilon, cost(&second, paid)), "{budget:?}");
    }
    rounds.abort();
}

/// What a site pays for is what leaves it: nothing until its input is masked, and from then on the charge stays, also
/// where the coordinator never took it, or says that nothing was opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_of_a_site_is_never_given_back() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let created = create(&federation, &policy("attempts", 1, 3)).await;
    let sites = join(&federation, 3).await;
    let asked = Arc::default();
    let steady: Vec<_> =
        sites[1..].iter().map(|site| tokio::spawn(site.train_by(Counted::new(&asked), &created.id, None))).collect();
    // Before it has masked anything; when it is about to send; when its input is in, and the attempt comes to nothing.
    for (step, paid) in [(Step::ShareKeys, 0), (Step::MaskedInput, 1), (Step::ConsistencyCheck, 2)] {
        let error =
            sites[0].train_by(Counted::new(&asked), &created.id, Some((1, step))).await.expect_err("it vanishes");
        assert!(matches!(error, TrainError::Vanished { step: at, .. } if at == step), "{error}");
        assert_eq!(sites[0].standing().record.charges, paid, "{step}");
    }
    sites[0].train_by(Counted::new(&asked), &created.id, None).await.unwrap();
    for site in steady {
        site.await.unwrap().unwrap();
    }
    let round = round(&federation, &created.id, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 4), "{round:?}");
    let charges: Vec<_> = sites.iter().map(|site| site.standing().record.charges).collect();
    // In the first attempt nobody was told of shares, so nobody masked; each of the other three was paid for.
    assert_eq!(charges, [3, 3, 3]);
    assert!(near(sites[0].standing().record.spent, cost(&created, 3)));
    // The coordinator knows that it opened nothing, and counts the last attempt only.
    let budgets: Budgets = federation.admin.get("/v1/budget").send().await.unwrap().json().await.unwrap();
    assert_eq!((budgets.budgets[0].committed, budgets.budgets[0].open), (1, 0));
    assert!(near(budgets.budgets[0].spent, cost(&created, 1)));
    rounds.abort();
}

/// A site whose process ends after it has paid takes the same masked bytes up again, and pays no second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_goes_on_after_a_restart_has_paid_already() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let text = policy("restarts", 1, 4).replace("step_grace = 0.5", "step_grace = 3.0");
    let text = text.replace("step_timeout = 1.5", "step_timeout = 30.0");
    let created = create(&federation, &text).await;
    let sites = join(&federation, 4).await;
    let asked: Vec<Arc<AtomicU64>> = (0..4).map(|_| Arc::default()).collect();
    let train = |at: usize| train(&sites[at], &asked[at], &created);
    // The last site falls silent before its input, so that the others wait in that step, their inputs sent and paid for.
    let last = sites[3].train_by(Counted::new(&asked[3]), &created.id, Some((1, Step::MaskedInput)));
    let running: Vec<_> = (0..3).map(&train).collect();
    last.await.expect_err("it vanishes");
    super::inputs_are_in(&federation, &created.id, 3).await;
    running.iter().for_each(tokio::task::JoinHandle::abort);
    for site in running {
        assert!(site.await.is_err_and(|error| error.is_cancelled()));
    }
    let charges = || sites.iter().map(|site| site.standing().record.charges).collect::<Vec<_>>();
    assert_eq!(charges(), [1; 4]);
    let running: Vec<_> = (0..3).map(&train).collect();
    for site in running {
        assert_eq!(site.await.unwrap().unwrap().finished, 1);
    }
    let round = round(&federation, &created.id, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{round:?}");
    assert_eq!(charges(), [1; 4]);
    assert!(asked.iter().all(|asked| asked.load(Ordering::Relaxed) == 1), "nobody has trained twice");
    assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round));
    rounds.abort();
}
