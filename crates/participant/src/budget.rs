//! The site's own privacy accounts: what its records and its whole contribution have paid, whatever the coordinator says.
//!
//! There are two, one for each unit, over all tasks and populations: a site charges the one of a round's unit before its
//! masked input leaves, and trains no more for that unit once its budget is spent. Nothing is given back on the
//! coordinator's word: only the coordinator knows whether a sum was opened. Sending the same bytes again is the same charge.
//! The same rules and files as the coordinator's ledger ([`sordino_store::ledger`]).

use crate::credentials::{Credentials, CredentialsError, SETTINGS_FILE, Settings};
use crate::join::since_epoch;
use crate::run::TrainError;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use sordino_dp::Events;
use sordino_dp::ledger::{Ask, Authorisation, Invalid, LedgerKey, Name, Refusal, ReservationId, Scope, Terms};
use sordino_identity::PrincipalKey;
use sordino_store::SiteLedger;
use sordino_wire::api::{Assignment, AttemptId, BudgetEntry};
use sordino_wire::policy::PrivacyUnit;
use sordino_wire::{Digest, RoundPrivacy, TaskId};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

/// The accounts of this site.
pub(crate) struct SiteBudget {
    /// Opened when the first round asks for it: sites of tasks without privacy have none.
    ledger: Mutex<Option<SiteLedger>>,
    folder: PathBuf,
    entries: PathBuf,
    counter: PathBuf,
    key: Zeroizing<[u8; 32]>,
    /// Of one record, and of the site's whole contribution: the population of both is the site.
    record: Scope,
    participant: Scope,
    /// Of each.
    terms: Terms,
    /// The setting.
    require_privacy: Option<bool>,
}

/// A site's accounts as they stand.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SiteStanding {
    /// Which state of its data.
    pub data_version: String,
    /// What each account may spend in all.
    pub total: f64,
    /// Of everything together.
    pub delta: f64,
    /// What one record more or less shows in.
    pub record: SiteAccount,
    /// What the site's contributions show in, there or replaced by zero.
    pub participant: SiteAccount,
}

/// One account of a site.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct SiteAccount {
    /// Epsilon of everything that was sent, rounded up.
    pub spent: f64,
    /// Rounds that were paid for.
    pub charges: u64,
}

/// Reads a site's accounts, which no other program may be charging meanwhile.
///
/// # Errors
/// [`TrainError`] names the file.
pub fn site_standing(folder: &Path) -> Result<SiteStanding, TrainError> {
    let (settings, budget) = load(folder)?;
    let (record, participant) = (budget.account(PrivacyUnit::Record)?, budget.account(PrivacyUnit::Participant)?);
    let Settings { data_version, max_epsilon: total, delta, .. } = settings;
    let [record, participant] = [record, participant].map(Option::unwrap_or_default);
    Ok(SiteStanding { data_version, total, delta, record, participant })
}

/// The history of a site's ledger, from its first entry on; empty where nothing was ever asked of it.
///
/// # Errors
/// As [`site_standing`].
pub fn site_history(folder: &Path) -> Result<Vec<BudgetEntry>, TrainError> {
    let (_, budget) = load(folder)?;
    let mut history = Vec::new();
    if !budget.exists() {
        return Ok(history);
    }
    // Whatever the settings ask for now: this is what there was.
    let mut ledger = budget.open()?;
    loop {
        let entries = ledger.entries(history.len() as u64, PAGE)?;
        if entries.is_empty() {
            return Ok(history);
        }
        history.extend(entries.into_iter().map(BudgetEntry::from));
    }
}

/// Lets the limits in a site's settings hold from now on, for the accounts of its data version; the ledger keeps who
/// ordered that and why. Nothing is forgotten: what was charged stays charged.
///
/// # Errors
/// [`TrainError::NothingToReset`] where there is no account yet; otherwise as [`site_standing`].
pub fn reset_site_budget(folder: &Path, by: Name, reason: Name) -> Result<SiteStanding, TrainError> {
    let (settings, budget) = load(folder)?;
    // A site's order is what its owner has written down.
    let path = folder.join(SETTINGS_FILE);
    let order = fs::read(&path).map_err(|source| CredentialsError::Read { path, source })?;
    if !budget.reset(&Authorisation { by, reason, digest: Digest::of(&order).0 })? {
        return Err(TrainError::NothingToReset { data_version: settings.data_version });
    }
    site_standing(folder)
}

fn load(folder: &Path) -> Result<(Settings, SiteBudget), TrainError> {
    let settings = Settings::load(folder)?;
    let credentials = Credentials::load(folder, Some(&settings.url))?;
    let budget = SiteBudget::new(folder, &settings, &credentials.key).map_err(TrainError::BudgetSettings)?;
    Ok((settings, budget))
}

/// What a round will cost this site once its input leaves.
#[derive(Clone)]
pub(crate) struct Charge {
    id: AttemptId,
    unit: PrivacyUnit,
    events: Events,
}

impl Charge {
    /// The same events that the coordinator charges, as this site computes them.
    pub(crate) fn of(assignment: &Assignment, privacy: &RoundPrivacy) -> Self {
        let id = AttemptId { round: assignment.round.clone(), attempt: assignment.attempt };
        Self { id, unit: privacy.unit(), events: privacy.events().clone() }
    }
}

impl SiteBudget {
    /// The accounts in a site's folder, as its settings say.
    pub(crate) fn new(folder: &Path, settings: &Settings, identity: &PrincipalKey) -> Result<Self, Invalid> {
        let salt = Salt::new(HKDF_SHA256, LABEL);
        let secret = salt.extract(&identity.to_pkcs8_der());
        let mut key = Zeroizing::new([0; 32]);
        secret.expand(&[b"hmac-sha256"], Len32).and_then(|okm| okm.fill(&mut *key)).expect("32 bytes are few for HKDF");
        let counter = settings.ledger_counter.as_deref().unwrap_or(Path::new(COUNTER));
        let scope = |unit: PrivacyUnit| {
            Ok(Scope {
                population: Name::new(settings.id.as_str())?,
                unit: Name::new(unit.as_str())?,
                data_version: Name::new(settings.data_version.as_str())?,
            })
        };
        Ok(Self {
            ledger: Mutex::new(None),
            folder: folder.to_owned(),
            entries: folder.join(ENTRIES),
            counter: folder.join(counter),
            key,
            record: scope(PrivacyUnit::Record)?,
            participant: scope(PrivacyUnit::Participant)?,
            terms: Terms::new(settings.max_epsilon, settings.delta, None)?,
            require_privacy: settings.require_privacy,
        })
    }

    /// What its records have spent, if any round was ever asked of them.
    pub(crate) fn spent_by_records(&self) -> Result<Option<f64>, TrainError> {
        Ok(self.account(PrivacyUnit::Record)?.map(|account| account.spent))
    }

    /// An account as it stands; none where there is none yet.
    fn account(&self, unit: PrivacyUnit) -> Result<Option<SiteAccount>, TrainError> {
        if !self.exists() {
            return Ok(None);
        }
        let spending = self.with(|ledger| Ok(ledger.spent(self.scope(unit))?))?;
        Ok(spending.map(|spending| SiteAccount { spent: spending.spent, charges: spending.open as u64 }))
    }

    fn scope(&self, unit: PrivacyUnit) -> &Scope {
        match unit {
            PrivacyUnit::Record => &self.record,
            PrivacyUnit::Participant => &self.participant,
        }
    }

    /// Whether anything was ever asked of this ledger.
    fn exists(&self) -> bool {
        self.entries.exists() || self.counter.exists()
    }

    /// Whether this site takes part in a task that has privacy switched off. Asked when it is taken up, and again before a
    /// masked input is stored: a charge of any unit and data version speaks against it from then on.
    ///
    /// # Errors
    /// [`TrainError::NoPrivacy`], [`TrainError::Unprotected`]; [`TrainError::Ledger`] where nobody can tell.
    pub(crate) fn allows_unprotected(&self, task: &TaskId) -> Result<(), TrainError> {
        match self.require_privacy {
            Some(true) => Err(TrainError::NoPrivacy { task: task.clone() }),
            Some(false) => Ok(()),
            None if self.exists() && self.with(|ledger| Ok(ledger.is_charged()?))? => {
                Err(TrainError::Unprotected { task: task.clone(), ledger: self.entries.clone() })
            }
            None => Ok(()),
        }
    }

    /// Whether a round can be paid for: asked before anything is trained.
    ///
    /// # Errors
    /// [`TrainError::BudgetSpent`].
    pub(crate) fn allows(&self, charge: &Charge) -> Result<(), TrainError> {
        let decided = self.with_account(charge.unit, |ledger, scope| Ok(ledger.preview(scope, &charge.events)?))?;
        decided.map(|_| ()).map_err(|why| spent(charge, why))
    }

    /// Pays for a round: durable when this returns, and once for an attempt however often it is called.
    ///
    /// # Errors
    /// [`TrainError::BudgetSpent`]: nothing may be sent.
    pub(crate) fn pay(&self, charge: &Charge) -> Result<(), TrainError> {
        let AttemptId { round, attempt } = &charge.id;
        let task = Name::new(round.task.as_str()).map_err(TrainError::BudgetSettings)?;
        let id = ReservationId { task, round: round.number, attempt: *attempt };
        let decided = self.with_account(charge.unit, |ledger, scope| {
            let ask = Ask { id, scope: scope.clone(), event: charge.events.clone(), participants: Vec::new() };
            Ok(ledger.reserve(ask, since_epoch())?)
        })?;
        let granted = decided.map_err(|why| spent(charge, why))?;
        if granted.warning.is_some() {
            let (spent, total) = (granted.spent, granted.total);
            let unit = charge.unit.as_str();
            tracing::warn!(unit, spent, total, delta = granted.delta, "this site's privacy budget runs low");
        }
        Ok(())
    }

    /// Gives the accounts that there are the terms of the settings; false where there is none. Charges of a site are never
    /// settled, so a reset forgets none of them.
    fn reset(&self, authorisation: &Authorisation) -> Result<bool, TrainError> {
        let mut reset = false;
        if !self.exists() {
            return Ok(reset);
        }
        let mut ledger = self.open()?;
        for scope in [&self.record, &self.participant] {
            if ledger.spent(scope)?.is_some() {
                ledger.reset(scope, self.terms, authorisation.clone(), since_epoch())?;
                reset = true;
            }
        }
        Ok(reset)
    }

    /// The ledger, verified.
    fn open(&self) -> Result<SiteLedger, TrainError> {
        let key = LedgerKey::new(&self.key).map_err(TrainError::BudgetSettings)?;
        Ok(SiteLedger::open(&self.entries, &self.counter, key)?)
    }

    /// The ledger, where its accounts have the terms of the settings.
    fn open_as_set(&self) -> Result<SiteLedger, TrainError> {
        let mut ledger = self.open()?;
        for scope in [&self.record, &self.participant] {
            let kept = ledger.spent(scope)?.map(|spending| spending.terms);
            if let Some(kept) = kept.filter(|kept| *kept != self.terms) {
                let (folder, scope) = (self.folder.clone(), scope.to_string());
                return Err(TrainError::OtherBudget { folder, scope, asked: self.terms, kept });
            }
        }
        Ok(ledger)
    }

    /// With the account of a unit, opened where it was not.
    fn with_account<T>(
        &self,
        unit: PrivacyUnit,
        work: impl FnOnce(&mut SiteLedger, &Scope) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let scope = self.scope(unit);
        self.with(|ledger| {
            ledger.open_scope(scope.clone(), self.terms, since_epoch())?;
            work(ledger, scope)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut SiteLedger) -> Result<T, TrainError>) -> Result<T, TrainError> {
        let mut open: MutexGuard<'_, Option<SiteLedger>> = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = match &mut *open {
            Some(ledger) => ledger,
            none => none.insert(self.open_as_set()?),
        };
        work(ledger)
    }
}

fn spent(charge: &Charge, source: Refusal) -> TrainError {
    TrainError::BudgetSpent { round: charge.id.round.clone(), source: Box::new(source) }
}

/// 32 bytes of HKDF.
struct Len32;

impl KeyType for Len32 {
    fn len(&self) -> usize {
        32
    }
}

const LABEL: &[u8] = b"sordino/participant/privacy-ledger/v1";
/// Entries that are read at once.
const PAGE: usize = 1_000;
/// The ledger's entries, in the site's folder.
const ENTRIES: &str = "state/privacy.ledger";
/// Its counter, where the settings name no other place.
const COUNTER: &str = "counter/privacy.counter";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use getrandom::{SysRng, rand_core::UnwrapErr};
    use sordino_dp::{Event, Mechanism, Relation, Sampling, Unit};
    use sordino_wire::RoundId;

    const TASK: &str = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

    /// The account of a site with this in its settings.
    fn budget(folder: &Path, settings: &str) -> SiteBudget {
        let settings = format!(
            "url = \"https://localhost\"\nfederation = \"a.example\"\nid = \"hospital-a\"\nregistrar = \"\"\n{settings}"
        );
        let key = PrincipalKey::generate(sordino_identity::KeyType::Ed25519, &mut UnwrapErr(SysRng));
        SiteBudget::new(folder, &toml::from_str(&settings).unwrap(), &key).unwrap()
    }

    fn charge(attempt: u32) -> Charge {
        let gaussian = Mechanism::Gaussian { sigma: 2.0 };
        let event = Event::new(Unit::Record, Relation::AddRemove, Sampling::None, gaussian, 1).unwrap();
        let id = AttemptId { round: RoundId { task: TASK.parse().unwrap(), number: 1 }, attempt };
        Charge { id, unit: PrivacyUnit::Record, events: Events::new(vec![event]).unwrap() }
    }

    /// Asked again when the input of a task without privacy is about to be stored: by then there is a first charge.
    #[test]
    fn a_first_charge_speaks_against_what_was_allowed_before() {
        let folder = tempfile::tempdir().unwrap();
        let task = TASK.parse().unwrap();
        let site = budget(folder.path(), "");
        site.allows_unprotected(&task).unwrap();
        site.allows(&charge(1)).unwrap();
        site.allows_unprotected(&task).unwrap();
        site.pay(&charge(1)).unwrap();
        let error = site.allows_unprotected(&task).unwrap_err();
        assert!(matches!(error, TrainError::Unprotected { .. }), "{error}");
    }

    #[test]
    fn the_owner_of_a_site_decides_about_tasks_without_privacy() {
        let folder = tempfile::tempdir().unwrap();
        let task = TASK.parse().unwrap();
        let error = budget(folder.path(), "require_privacy = true").allows_unprotected(&task).unwrap_err();
        assert!(matches!(error, TrainError::NoPrivacy { .. }), "before any charge: {error}");
        let site = budget(folder.path(), "require_privacy = false");
        site.pay(&charge(1)).unwrap();
        site.allows_unprotected(&task).unwrap();
    }
}
