//! What the attempts before have shown of a task's participants: who is in no more cohorts of it, and who is in none
//! together.
//!
//! A dispute over shares has two sides, of which at least one is corrupt, and nobody else can tell which. So both stay,
//! in cohorts of their own. Whoever is in dispute with more participants of *one* cohort than can be corrupt in it is
//! corrupt itself, and goes. Over several cohorts disputes prove nothing: in each of them others can be corrupt.
//!
//! Whose input was refused because of its proof is in no more attempts of that round, as long as there are enough others:
//! whoever sends such inputs again and again could otherwise make an attempt lack the inputs that it needs.

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
    /// Those whose inputs were refused in this round: asked only where there are too few others.
    pub(super) refused: BTreeSet<ParticipantId>,
}

impl Standing {
    /// As the store has it.
    ///
    /// - `silent`: is known of the round's last attempt only, and forgotten with a restart.
    pub(super) async fn load(
        store: &Store,
        (task, round): (&str, u64),
        silent: BTreeSet<ParticipantId>,
    ) -> Result<Self, StoreError> {
        let culprits = store.culprits(task).await?.into_iter().map(|row| named(&row.id)).collect::<Result<_, _>>()?;
        let refused =
            store.refusals(task, round).await?.into_iter().map(|row| named(&row.id)).collect::<Result<_, _>>()?;
        Ok(Self { culprits, disputes: disputes(store, task).await?, silent, refused })
    }

    /// Those of a list that one cohort may hold, first those that are asked first: who answered, then as `draw` has it.
    ///
    /// Of two in dispute it is by chance who is taken: else a few that lie could see to it that those they accuse are never
    /// taken again. Only where chance leaves fewer than `least`, those in the fewest disputes come first.
    pub(super) fn candidates<'a, R: Ord>(
        &self,
        ids: impl IntoIterator<Item = &'a ParticipantId>,
        least: u32,
        draw: impl Fn(&ParticipantId) -> R,
    ) -> Vec<ParticipantId> {
        let mut ranked: Vec<_> = self.eligible(ids, least).into_iter().cloned().collect();
        ranked.sort_by_cached_key(|id| (self.silent.contains(id), draw(id)));
        let by_chance = self.disputes.apart(ranked.iter().cloned());
        if by_chance.len() >= least as usize {
            return by_chance;
        }
        let most: BTreeSet<_> = self.most(ranked.iter()).into_iter().collect();
        ranked.retain(|id| most.contains(id));
        ranked
    }

    /// How many of a list one cohort of at least `least` may hold, where chance does not decide.
    pub(super) fn usable<'a>(&self, ids: impl IntoIterator<Item = &'a ParticipantId>, least: u32) -> usize {
        self.together(&self.eligible(ids, least))
    }

    /// Those of a list that are no culprits, without those refused in this round where the others are enough.
    fn eligible<'a>(&self, ids: impl IntoIterator<Item = &'a ParticipantId>, least: u32) -> Vec<&'a ParticipantId> {
        let mut innocent: Vec<_> = ids.into_iter().filter(|id| !self.culprits.contains(id)).collect();
        let accepted: Vec<_> = innocent.iter().copied().filter(|id| !self.refused.contains(id)).collect();
        if self.together(&accepted) >= least as usize {
            innocent = accepted;
        }
        innocent
    }

    /// How many of a list can be in one cohort.
    fn together(&self, ids: &[&ParticipantId]) -> usize {
        let (disputed, free): (Vec<_>, Vec<_>) = ids.iter().copied().partition(|id| self.disputes.of(id) > 0);
        free.len() + self.most(disputed).len()
    }

    /// Those of a list of whom no two are in dispute, whoever is in the fewest disputes first.
    fn most<'a>(&self, ids: impl IntoIterator<Item = &'a ParticipantId>) -> Vec<ParticipantId> {
        let mut ids: Vec<_> = ids.into_iter().cloned().collect();
        ids.sort_by_cached_key(|id| (self.disputes.of(id), id.clone()));
        self.disputes.apart(ids)
    }
}

/// All disputes of a task.
async fn disputes(store: &Store, task: &str) -> Result<Disputes, StoreError> {
    let rows = store.disputes(task).await?.into_iter();
    rows.map(|row| Ok(Dispute { dealer: named(&row.dealer)?, holder: named(&row.holder)? })).collect()
}

/// A participant as the store names it.
pub(super) fn named(id: &str) -> Result<ParticipantId, StoreError> {
    ParticipantId::new(id).map_err(|_| StoreError::corrupt(format!("participant {id:?} of what an attempt has shown")))
}

/// What the store keeps of an attempt that ended, for the rest of the task.
///
/// - `abort`: why it gave no sum, if that names somebody.
/// - `max_corrupt`: participants of a cohort that can be corrupt, at most.
pub(super) fn conclude(new: &[Dispute], abort: Option<&Abort>, max_corrupt: u32) -> Findings {
    let blamed = abort.into_iter().flat_map(|abort| {
        let reason = crate::answer::chain(abort);
        abort.culprits().iter().map(move |id| (id, reason.clone()))
    });
    let disputes: Disputes = new.iter().cloned().collect();
    let guilty = disputes.guilty(max_corrupt);
    let guilty = guilty.iter().map(|id| {
        let others = disputes.of(id);
        let why = format!(
            "in dispute over shares with {others} participants of one cohort, of whom at most {max_corrupt} can be corrupt"
        );
        (id, why)
    });
    Findings {
        culprits: blamed.chain(guilty).map(|(id, reason)| NewCulprit { id: id.to_string(), reason }).collect(),
        disputes: new
            .iter()
            .map(|Dispute { dealer, holder }| NewDispute { dealer: dealer.to_string(), holder: holder.to_string() })
            .collect(),
        checks: Vec::new(),
        refusals: Vec::new(),
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
    fn who_answered_is_asked_first_and_no_two_in_dispute() {
        let all = ids("abcdef");
        let standing = Standing {
            culprits: [id('f')].into(),
            disputes: pairs("ab ac").into_iter().collect(),
            silent: [id('d')].into(),
            refused: BTreeSet::new(),
        };
        // a is in dispute with b and c; d fell silent.
        assert_eq!(standing.candidates(&all, 3, Clone::clone), ids("aed"));
        assert_eq!(standing.candidates(&all, 3, |id| std::cmp::Reverse(id.clone())), ids("ecbd"));
        // Where that leaves too few, a is not taken for the sake of b and c.
        assert_eq!(standing.candidates(&all, 4, Clone::clone), ids("bced"));
        assert_eq!(standing.candidates(&ids("ab"), 2, Clone::clone), ids("b"), "there are no more");
        assert_eq!((standing.usable(&all, 2), standing.usable(&ids("ab"), 2)), (4, 1));
        assert_eq!(Standing::default().candidates(&all, 0, |id| std::cmp::Reverse(id.clone())), ids("fedcba"));
    }

    #[test]
    fn who_was_refused_in_a_round_is_asked_only_where_the_others_are_too_few() {
        let all = ids("abcdef");
        let standing = Standing {
            culprits: [id('f')].into(),
            disputes: pairs("ab").into_iter().collect(),
            refused: [id('c')].into(),
            ..Standing::default()
        };
        assert_eq!(standing.candidates(&all, 3, Clone::clone), ids("ade"));
        assert_eq!(standing.usable(&all, 3), 3);
        assert_eq!(standing.candidates(&all, 4, Clone::clone), ids("acde"));
        assert_eq!(standing.usable(&all, 4), 4);
    }

    /// As many as may be corrupt accuse one site, each only that one: nobody can be found guilty. It is taken all the same,
    /// about as often as the draw has it come before all of them.
    #[test]
    fn liars_cannot_keep_anybody_out_for_good() {
        let standing = Standing { disputes: pairs("va vb vc").into_iter().collect(), ..Standing::default() };
        let all = ids("abcdefv");
        let draws = 1_000_u32;
        let taken = (0..draws).filter(|draw| {
            let rank =
                |id: &ParticipantId| crate::bulk::sha256(&[&draw.to_le_bytes(), id.as_str().as_bytes()].concat());
            standing.candidates(&all, 4, rank).contains(&id('v'))
        });
        // A quarter of them; the seeds are fixed.
        assert!((200..300).contains(&taken.count()));
    }

    #[test]
    fn an_attempt_names_whom_it_blames_and_whom_too_many_of_it_accuse() {
        let culprits = |found: &Findings| found.culprits.iter().map(|culprit| culprit.id.clone()).collect::<Vec<_>>();
        assert_eq!(conclude(&[], None, 2), Findings::default());
        let found = conclude(&pairs("ab ca"), None, 2);
        assert_eq!(found.disputes[0], NewDispute { dealer: "site-00a".into(), holder: "site-00b".into() });
        assert_eq!(
            (culprits(&found).len(), found.disputes.len()),
            (0, 2),
            "two may be corrupt, and a is in dispute with two"
        );

        let found = conclude(&pairs("ab ca da"), None, 2);
        assert_eq!(culprits(&found), ["site-00a"]);
        assert!(found.culprits[0].reason.contains("with 3 participants of one cohort, of whom at most 2"), "{found:?}");

        // One that accuses everybody convicts itself and nobody else; where nobody may be corrupt, nobody is told apart.
        assert_eq!(culprits(&conclude(&pairs("ax bx cx dx"), None, 1)), ["site-00x"]);
        assert_eq!(culprits(&conclude(&pairs("ax bx cx dx"), None, 0)), [""; 0]);

        let abort = Abort::BadDealers { culprits: ids("x") };
        let found = conclude(&pairs("da"), Some(&abort), 3);
        assert_eq!(culprits(&found), ["site-00x"]);
        assert!(found.culprits[0].reason.contains("do not open"), "{found:?}");
    }
}
