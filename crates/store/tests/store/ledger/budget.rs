//! The end of a budget.

use super::{DELTA, KEY, NOW, ask, costs, counter_in, key, ledger_in, scope};
use sordino_dp::ledger::{PrivacyBudgetExhausted, Refusal, Standing, Terms};
use sordino_store::{LedgerStoreError, PrivacyLedger};
use std::path::Path;
use tempfile::tempdir;

async fn open(folder: &Path) -> PrivacyLedger {
    // As `super::open` does.
    loop {
        match PrivacyLedger::open(&ledger_in(folder), &counter_in(folder), key(KEY)).await {
            Err(LedgerStoreError::Locked { .. }) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_budget_for_exactly_seven_releases_grants_seven() {
    let folder = tempdir().unwrap();
    let costs = costs(8);
    let ledger = open(folder.path()).await;
    ledger.open_scope(scope(), Terms::new(costs[7], DELTA, None).unwrap(), NOW).await.unwrap();
    for round in 1..=7 {
        let granted = ledger.reserve(ask(round), NOW).await.unwrap().unwrap();
        assert_eq!((granted.standing, granted.spent), (Standing::New, costs[usize::try_from(round).unwrap()]));
    }
    let exhausted =
        PrivacyBudgetExhausted { scope: scope(), spent: costs[7], asked: costs[8], total: costs[7], delta: DELTA };
    let refuse = async |ledger: &PrivacyLedger| match ledger.reserve(ask(8), NOW).await.unwrap() {
        Err(Refusal::Exhausted(why)) => assert_eq!(why, exhausted),
        other => panic!("{other:?}"),
    };
    refuse(&ledger).await;
    let spending = ledger.spending(&scope()).await.unwrap().unwrap();
    assert_eq!((spending.spent, spending.remaining, spending.open, spending.exhausted), (costs[7], 0.0, 7, true));
    let history = ledger.entries(0, 100).await.unwrap();
    ledger.close().await;

    let ledger = open(folder.path()).await;
    assert_eq!(ledger.spending(&scope()).await.unwrap(), Some(spending));
    refuse(&ledger).await;
    assert_eq!(ledger.spending(&scope()).await.unwrap(), Some(spending));
    // What was granted is granted still, and being refused again is no news.
    assert_eq!(ledger.reserve(ask(7), NOW).await.unwrap().unwrap().standing, Standing::Open);
    assert_eq!(ledger.entries(0, 100).await.unwrap(), history);
    ledger.close().await;
}
