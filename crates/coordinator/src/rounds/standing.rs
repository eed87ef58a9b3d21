//! What the attempts before have shown of a task's participants: who is in no more cohorts of it, and who is in none
//! together.
//!
//! A dispute over shares has two sides, of which at least one is corrupt, and nobody else can tell which. So both stay,
//! in cohorts of their own; whoever is in dispute with more participants than can be corrupt is corrupt itself, and
//! goes.

use super::attempt::Shown;
use sordino_secagg::{Dispute, Disputes, ParticipantId, coordinator::Abort};
use sordino_store::{Findings, NewCulprit, NewDispute, Store, StoreError};
use std::collections::BTreeSet;

/// How participants stand before a cohort is chosen.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Those who were found to be corrupt: in no more cohorts of the task.
    pub(super) culprits: BTreeSet<ParticipantId>,
    /// Who is in no cohort together.
    pub(super) disputes: Disputes,
    /// Those who did not answer in the attempt that was abandoned: asked last.
    pub(super) silent: BTreeSet<ParticipantId>,
}

impl Standing {
    /// As the store has it.
    ///
    /// - `silent`: is known of the round's last attempt only, and forgotten with a restart.
    pub(super) async fn load(store: &Store, task: &str, silent: BTreeSet<ParticipantId>) -> Result<Self, StoreError> {
        let culprits = store.culprits(task).await?.into_iter().map(|row| named(&row.id)).collect::<Result<_, _>>()?;
        Ok(Self { culprits, disputes: disputes(store, task).await?, silent })
    }

    /// Those of a list that one cohort may hold, first those that are asked first: who answered, then who is in the
    /// fewest disputes, then as `draw` has it.
    pub(super) fn candidates<'a, R: Ord>(
        &self,
        ids: impl IntoIterator<Item = &'a ParticipantId>,
        draw: impl Fn(&ParticipantId) -> R,
    ) -> Vec<ParticipantId> {
        let mut ranked: Vec<_> = ids.into_iter().filter(|id| !self.culprits.contains(id)).cloned().collect();
        ranked.sort_by_cached_key(|id| (self.silent.contains(id), self.disputes.of(id), draw(id)));
        self.disputes.apart(ranked)
    }
}

/// All disputes of a task.
async fn disputes(store: &Store, task: &str) -> Result<Disputes, StoreError> {
    let rows = store.disputes(task).await?.into_iter();
    rows.map(|row| Ok(Dispute { dealer: named(&row.dealer)?, holder: named(&row.holder)? })).collect()
}

fn named(id: &str) -> Result<ParticipantId, StoreError> {
    ParticipantId::new(id).map_err(|_| StoreError::corrupt(format!("participant {id:?} of a dispute")))
}

/// What the store keeps of an attempt that ended, for the rest of the task.
///
/// - `abort`: why it gave no sum, if that names somebody.
/// - `max_corrupt`: participants that can be corrupt, at most.
pub(super) async fn findings(
    store: &Store,
    task: &str,
    shown: &Shown,
    abort: Option<&Abort>,
    max_corrupt: u32,
) -> Result<Findings, StoreError> {
    Ok(conclude(disputes(store, task).await?, &shown.disputes, abort, max_corrupt))
}

/// Whom an attempt shows to be corrupt, with what was known before.
fn conclude(mut all: Disputes, new: &[Dispute], abort: Option<&Abort>, max_corrupt: u32) -> Findings {
    // Whoever was found guilty before is stored already.
    let known: BTreeSet<ParticipantId> = all.guilty(max_corrupt).cloned().collect();
    all.extend(new.iter().cloned());
    let blamed = abort.into_iter().flat_map(|abort| {
        let reason = crate::answer::chain(abort);
        abort.culprits().iter().map(move |id| (id, reason.clone()))
    });
    let guilty = all.guilty(max_corrupt).filter(|id| !known.contains(id)).map(|id| {
        let others = all.of(id);
        (id, format!("in dispute over shares with {others} participants, of whom at most {max_corrupt} can be corrupt"))
    });
    let culprits = blamed.chain(guilty);
    Findings {
        culprits: culprits.map(|(id, reason)| NewCulprit { id: id.to_string(), reason }).collect(),
        disputes: new
            .iter()
            .map(|Dispute { dealer, holder }| NewDispute { dealer: dealer.to_string(), holder: holder.to_string() })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: char) -> ParticipantId {
        ParticipantId::new(&format!("site-00{name}")).expect("a name")
    }

    fn ids(names: &str) -> Vec<ParticipantId> {
        names.chars().map(id).collect()
    }

    /// Pairs of a dealer and a holder.
    fn pairs(pairs: &str) -> Vec<Dispute> {
        let side = |pair: &str, at| id(char::from(pair.as_bytes()[at]));
        pairs.split_whitespace().map(|pair| Dispute { dealer: side(pair, 0), holder: side(pair, 1) }).collect()
    }

    #[test]
    fn who_answered_and_is_in_no_dispute_is_asked_first() {
        let all = ids("abcdef");
        let standing = Standing {
            culprits: [id('f')].into(),
            disputes: pairs("ab ac").into_iter().collect(),
            silent: [id('d')].into(),
        };
        // e has answered; b and c are in one dispute each, a in two; d fell silent.
        assert_eq!(standing.candidates(&all, Clone::clone), ids("ebcd"));
        // Where b and c are not there, a is as good as anybody.
        assert_eq!(standing.candidates(&ids("adef"), Clone::clone), ids("ead"));
        assert_eq!(Standing::default().candidates(&all, |id| std::cmp::Reverse(id.clone())), ids("fedcba"));
    }

    #[test]
    fn an_attempt_names_whom_it_blames_and_whom_too_many_accuse() {
        let known: Disputes = pairs("ab ca").into_iter().collect();
        let found = conclude(known.clone(), &[], None, 2);
        assert_eq!(found, Findings::default(), "two may be corrupt, and a is in dispute with two");
        let culprits = |found: &Findings| found.culprits.iter().map(|culprit| culprit.id.clone()).collect::<Vec<_>>();

        let new = pairs("da");
        let found = conclude(known.clone(), &new, None, 2);
        assert_eq!(found.disputes, [NewDispute { dealer: "site-00d".into(), holder: "site-00a".into() }]);
        assert_eq!(culprits(&found), ["site-00a"]);
        assert!(found.culprits[0].reason.contains("with 3 participants, of whom at most 2"), "{found:?}");

        let found = conclude(pairs("ab ca da").into_iter().collect(), &pairs("ef"), None, 2);
        assert_eq!((culprits(&found).len(), found.disputes.len()), (0, 1), "a was found before");

        let abort = Abort::BadDealers { culprits: ids("x") };
        let found = conclude(known, &new, Some(&abort), 3);
        assert_eq!(culprits(&found), ["site-00x"]);
        assert!(found.culprits[0].reason.contains("do not open"), "{found:?}");
    }
}
