use super::*;
use evidence::Exhausted;
use sordino_store::{AttemptStart, NewTask};
use std::collections::BTreeMap;

fn id(number: usize) -> ParticipantId {
    ParticipantId::new(&format!("site-{number:04}")).expect("a name")
}

fn ids(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<ParticipantId> {
    numbers.into_iter().map(id).collect()
}

/// The sites `a`, `b`, ... of a word.
fn word(names: &str) -> BTreeSet<ParticipantId> {
    ids(names.bytes().map(|name| usize::from(name - b'a')))
}

/// Attempts of round 1, each of some groups: "ab- cd+" are two, of which the first failed.
fn suspicion(max_corrupt: u32, attempts: &[&str]) -> Suspicion {
    let mut suspicion = Suspicion { max_corrupt, ..Suspicion::default() };
    for (attempt, groups) in (1..).zip(attempts) {
        let checks = (0..).zip(groups.split_whitespace()).map(|(group, check)| Check {
            at: (1, attempt),
            group,
            passed: check.ends_with('+'),
            members: word(check.trim_end_matches(['+', '-'])),
        });
        suspicion.checks.extend(checks);
    }
    suspicion
}

fn guilty(suspicion: &Suspicion) -> BTreeSet<ParticipantId> {
    suspicion.guilty().iter().map(|culprit| named(&culprit.id).expect("a name")).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below")
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// The numbers below a limit, in any order.
    fn order(&mut self, limit: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..limit).collect();
        for last in (1..limit).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    /// Those of some numbers that come up, each as often as not.
    fn some(&mut self, limit: usize) -> BTreeSet<ParticipantId> {
        ids((0..limit).filter(|_| self.one_in(2)).collect::<Vec<_>>())
    }
}

#[test]
fn who_alone_explains_all_failed_checks_is_guilty() {
    for (max_corrupt, attempts, want) in [
        (1, &["abcd-"][..], ""),
        (1, &["abcd-", "ab- cd+"], ""),
        (1, &["abcd-", "ab- cd+", "ac- bd+"], "a"),
        // Two can have done that in turn.
        (2, &["abcd-", "ab- cd+", "ac- bd+"], ""),
        (2, &["ab- cd-", "ac- bd-"], ""),
        (2, &["ab- cd-", "ac- bd-", "ad- bc+"], "ad"),
        (2, &["ab-", "ac-", "ad-", "ef-", "eg-", "eh-"], "ae"),
        // Nobody may be corrupt, or more must be than may.
        (0, &["a-"], ""),
        (1, &["ab- cd-"], ""),
        (1, &["a-"], "a"),
    ] {
        assert_eq!(guilty(&suspicion(max_corrupt, attempts)), word(want), "{max_corrupt} {attempts:?}");
    }
}

/// Sites a and c spoil by turns each group that b is in, and behave with all others. Everybody but b was in a group that
/// passed: if that cleared them, b would be guilty.
#[test]
fn a_passed_check_proves_nothing() {
    let framing = suspicion(2, &["abcdef-", "abe- cdf+", "bcf- ade+", "abd- cef+", "bcd- aef+"]);
    let passed = framing.checks.iter().filter(|check| check.passed).flat_map(|check| check.members.clone());
    assert_eq!(passed.collect::<BTreeSet<_>>(), word("acdef"));
    assert_eq!(guilty(&framing), word(""));
}

/// A culprit explains the groups that it was a member of, and is one of those who can be corrupt.
#[test]
fn who_was_found_before_counts_and_is_not_looked_for_again() {
    let mut known = suspicion(2, &["abcd-", "ab+ cd-", "ce-"]);
    for (culprits, open, want) in [
        ("", 3, ""),
        ("f", 3, "c"),
        ("a", 2, "c"),
        ("ac", 0, ""),
        // Somebody beside as many as may be corrupt must have spoiled "cd".
        ("ab", 2, ""),
        ("fgh", 3, ""),
    ] {
        known.culprits = word(culprits);
        assert_eq!((known.open().len(), guilty(&known)), (open, word(want)), "{culprits}");
    }
}

#[test]
fn a_conviction_names_its_evidence_and_no_more() {
    let mut suspicion = suspicion(2, &["abcd-", "ab- cd+", "ef-"]);
    let check = |group, passed, members| Check { at: (2, 1), group, passed, members: word(members) };
    let found = |id: &str| NewCulprit { id: id.into(), reason: "its shares did not fit its keys".into() };
    let mut findings = Findings { culprits: vec![found("site-0004")], ..Findings::default() };
    let checks = vec![check(0, true, "bd"), check(1, false, "ac")];
    suspicion.conclude(checks, &mut findings).unwrap();

    let [_, culprit] = &findings.culprits[..] else { panic!("{findings:?}") };
    let reason = "sent another input than it had committed to: of at most 2 that are corrupt 1 were known, and without it \
                  no 1 can have spoiled the sums of 1.2 group 0, 2.1 group 1";
    assert_eq!((culprit.id.as_str(), culprit.reason.as_str()), ("site-0000", reason));
    let members = vec!["site-0000".to_owned(), "site-0002".to_owned()];
    assert_eq!(findings.checks[1], NewCheck { group: 1, passed: false, members });
    assert!(!suspicion.is_open());

    let mut broken = Findings { culprits: vec![found("x")], ..Findings::default() };
    assert!(suspicion.conclude(Vec::new(), &mut broken).is_err());
}

/// Against all sets that there are: the guilty are those who are in each that hits all failed checks.
#[test]
fn the_guilty_are_those_in_every_explanation() {
    let mut convicted = 0;
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let (sites, max_corrupt) = (3 + random.below(6), 1 + random.below(3));
        let corrupt: BTreeSet<_> = random.order(sites)[..max_corrupt].iter().map(|&site| id(site)).collect();
        let checks = (0..1 + random.below(9)).map(|_| {
            let mut members = random.some(sites);
            let passed = random.one_in(4);
            members.extend(corrupt.iter().find(|_| !passed && random.one_in(2)).cloned());
            (passed, members)
        });
        let checks: Vec<_> = checks.filter(|(passed, members)| *passed || !members.is_disjoint(&corrupt)).collect();
        let known = corrupt.iter().filter(|_| random.one_in(4)).cloned().collect();
        let suspicion = Suspicion {
            checks: (1..)
                .zip(&checks)
                .map(|(attempt, (passed, members))| Check {
                    at: (1, attempt),
                    group: 0,
                    passed: *passed,
                    members: members.clone(),
                })
                .collect(),
            culprits: known,
            max_corrupt: u32::try_from(max_corrupt).unwrap(),
        };
        let sets = (0_u32..1 << sites).map(|set| ids((0..sites).filter(|site| set >> site & 1 == 1)));
        let explains = |set: &BTreeSet<ParticipantId>| {
            set.len() <= max_corrupt
                && set.is_superset(&suspicion.culprits)
                && checks.iter().all(|(passed, members)| *passed || !members.is_disjoint(set))
        };
        let always = sets.filter(explains).reduce(|all, set| &all & &set).expect("the corrupt explain it");
        let found = guilty(&suspicion);
        assert_eq!(found, &always - &suspicion.culprits, "seed {seed}: {suspicion:?}");
        assert!(found.is_subset(&corrupt), "seed {seed}");
        convicted += found.len();
    }
    assert!(convicted > 500, "{convicted}");
}

#[test]
fn where_the_search_is_given_up_nobody_is_convicted() {
    let suspicion = suspicion(2, &["ab-", "ac-", "ad-", "ef-", "eg-", "eh-"]);
    let failed: Vec<_> = suspicion.open().iter().map(|check| &check.members).collect();
    let evidence = Evidence::new(&failed, &[], &[]);
    let enough = (0..).find(|&nodes| evidence.guilty(2, &mut Nodes(nodes)).is_ok()).unwrap();
    assert!((2..100).contains(&enough), "{enough}");
    for nodes in [enough, enough + 1, NODES_MAX] {
        let guilty: Vec<_> =
            evidence.guilty(2, &mut Nodes(nodes)).unwrap().into_iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(guilty, [id(0), id(4)]);
    }

    // Site 200 is guilty, since it was alone. But whether so many can explain the others' checks takes long to see.
    let mut random = Random(1);
    let mut checks: Vec<_> = (0..90).map(|_| ids(random.order(90).into_iter().take(3))).collect();
    checks.push(ids([200]));
    let check = |members| Check { at: (1, 1), group: 0, passed: false, members };
    let checks: Vec<_> = checks.into_iter().map(check).collect();
    let with = |max_corrupt| Suspicion { checks: checks.clone(), max_corrupt, ..Suspicion::default() };
    assert_eq!(guilty(&with(30)), ids([200]));
    let hard = with(24);
    let failed: Vec<_> = hard.open().iter().map(|check| &check.members).collect();
    assert_eq!(Evidence::new(&failed, &[], &[]).guilty(24, &mut Nodes(NODES_MAX)), Err(Exhausted));
    assert_eq!(guilty(&hard), ids([]));
}

/// How attackers that want to stay, or to have somebody else convicted, choose the groups that they spoil.
#[derive(Debug, Clone, Copy)]
enum Strategy {
    Always,
    /// Every other time, by chance.
    Random,
    /// Every other group that it is in.
    Alternate,
    /// Where this one is in the group.
    With(usize),
    /// Where this one is, and none of the other attackers.
    AloneWith(usize),
    /// Where it is not the only attacker.
    Together,
}

impl Strategy {
    fn any(random: &mut Random, sites: usize) -> Self {
        match random.below(6) {
            0 => Self::Always,
            1 => Self::Random,
            2 => Self::Alternate,
            3 => Self::With(random.below(sites)),
            4 => Self::AloneWith(random.below(sites)),
            _ => Self::Together,
        }
    }

    /// - `turn`: how many groups it was in before.
    fn spoils(self, members: &BTreeSet<ParticipantId>, attackers: usize, turn: usize, random: &mut Random) -> bool {
        match self {
            Self::Always => true,
            Self::Random => random.one_in(2),
            Self::Alternate => turn.is_multiple_of(2),
            Self::With(victim) => members.contains(&id(victim)),
            Self::AloneWith(victim) => attackers == 1 && members.contains(&id(victim)),
            Self::Together => attackers > 1,
        }
    }
}

/// Groups are drawn as they are, or in any other way; some are silent. Whatever the attackers do, no honest one is convicted.
#[test]
fn nobody_honest_is_ever_convicted() {
    let (mut convicted, mut spoiled) = (0, 0);
    for seed in 0..10_000 {
        let mut random = Random(seed);
        let (sites, max_corrupt) = (4 + random.below(7), 1 + random.below(3));
        let mut attackers = BTreeMap::new();
        for site in random.order(sites).into_iter().take(1 + random.below(max_corrupt)) {
            attackers.insert(id(site), (Strategy::any(&mut random, sites), 0));
        }
        let mut suspicion = Suspicion { max_corrupt: u32::try_from(max_corrupt).unwrap(), ..Suspicion::default() };
        for attempt in 1..=12 {
            let present = random.order(sites).into_iter().map(id).filter(|id| !suspicion.culprits.contains(id));
            let present: Vec<_> = present.collect();
            let groups = if seed % 20 == 0 {
                suspicion.draw(present, GroupBounds { size_min: 2, groups_max: 4 })
            } else {
                let count = 1 + random.below(3);
                let mut groups = vec![BTreeSet::new(); count];
                present.into_iter().for_each(|id| _ = groups[random.below(count)].insert(id));
                groups
            };
            let mut checks = Vec::new();
            for (group, mut members) in (0..).zip(groups) {
                members.retain(|_| !random.one_in(8));
                let among = attackers.keys().filter(|id| members.contains(*id)).count();
                let mut passed = true;
                for (_, (strategy, turn)) in attackers.iter_mut().filter(|(id, _)| members.contains(*id)) {
                    passed &= !strategy.spoils(&members, among, *turn, &mut random);
                    *turn += 1;
                }
                spoiled += u32::from(!passed);
                checks.push(Check { at: (1, attempt), group, passed, members });
            }
            suspicion.conclude(checks, &mut Findings::default()).unwrap();
            let honest = suspicion.culprits.iter().find(|id| !attackers.contains_key(*id));
            assert_eq!(honest, None, "seed {seed}: {attackers:?}");
        }
        convicted += suspicion.culprits.len();
    }
    assert!(convicted > 2_000 && spoiled > 10_000, "{convicted} convicted, {spoiled} groups spoiled");
}

#[test]
fn groups_are_disjoint_and_equal() {
    let present = |sites| (0..sites).rev().map(id).collect::<Vec<_>>();
    let bounds = |size_min, groups_max| GroupBounds { size_min, groups_max };
    let sizes = |groups: &[BTreeSet<ParticipantId>]| groups.iter().map(BTreeSet::len).collect::<Vec<_>>();
    let quiet = suspicion(1, &["ab+ cd+"]);
    assert_eq!(sizes(&quiet.draw(present(9), bounds(3, 4))), [9], "there is nothing to find out");
    let mut explained = suspicion(1, &["ab- cd+"]);
    explained.culprits = word("a");
    assert_eq!(sizes(&explained.draw(present(9), bounds(3, 4))), [9]);

    // One or more attempts of whose groups all failed.
    let (once, twice) = (["abcdefgh-"], ["abcdefgh-", "abcd- efgh-"]);
    let thrice = [&twice[..], &["ab- cd- ef- gh-"]].concat();
    let found = [&thrice[..], &["ab- cd+"]].concat();
    for (max_corrupt, attempts, sites, (size_min, groups_max), want) in [
        (1, &once[..], 9, (3, 8), &[4, 4][..]),
        (1, &once, 8, (4, 8), &[4, 4]),
        (2, &twice, 17, (3, 8), &[4, 4, 4, 4]),
        (2, &twice, 11, (3, 8), &[3, 3, 3]),
        (2, &twice, 17, (3, 3), &[5, 5, 5]),
        (3, &thrice, 17, (2, 16), &[2; 8]),
        // More than sets are looked at for, more than may be, and nobody may be.
        (4, &thrice, 17, (2, 16), &[2; 8]),
        (1, &thrice, 17, (2, 16), &[2; 8]),
        (0, &thrice, 17, (2, 16), &[2; 8]),
        (3, &found, 17, (2, 16), &[8, 8]),
        // Two do not fit, or one.
        (2, &twice, 9, (5, 8), &[5]),
        (2, &twice, 9, (8, 8), &[8]),
        (2, &twice, 9, (3, 1), &[3]),
        (2, &twice, 9, (9, 8), &[9]),
        (2, &twice, 9, (10, 8), &[]),
    ] {
        let suspicion = suspicion(max_corrupt, attempts);
        let groups = suspicion.draw(present(sites), bounds(size_min, groups_max));
        assert_eq!(sizes(&groups), want, "{attempts:?}, {sites} of at least {size_min}");
        let members: BTreeSet<_> = groups.iter().flatten().cloned().collect();
        assert_eq!(members.len(), want.iter().sum::<usize>());
        assert!(members.is_subset(&present(sites).into_iter().collect()));
        assert_eq!(suspicion.draw(present(sites), bounds(size_min, groups_max)), groups, "the order is all the chance");
    }
}

/// Those suspected are dealt to both sides, also where one side takes no part.
#[test]
fn suspects_are_halved() {
    let mut random = Random(5);
    for sites in [8, 12, 15] {
        for (size_min, groups_max) in [(4, 2), (sites * 2 / 3, 2), (sites / 2, 1)] {
            // Six suspects; those of them that behaved once since are suspected less.
            let suspicion = suspicion(1, &["abcdefgh-", "abcdef- gh+"]);
            let present = random.order(sites).into_iter().map(id).collect();
            let groups = suspicion.draw(present, GroupBounds { size_min, groups_max });
            let among = (&groups[0] & &word("abcdef")).len();
            let most = if groups.len() == 2 { 3 } else { 6 - (sites - size_min).min(3) };
            assert!((3..=most).contains(&among), "{sites} of at least {size_min}: {groups:?}");
        }
    }
}

/// What becomes of a federation with as many attackers as there may be.
#[derive(Debug)]
struct Ended {
    /// In which attempt the last attacker was convicted; nothing where it was not.
    attempts: Option<u32>,
    /// Attempts after a failed one that nobody explained.
    later: u32,
    /// Those of them of which at least one group passed.
    passed: u32,
    /// Groups that did not pass.
    spoiled: u32,
}

/// All are there each time, and `corrupt` of them spoil one in `often` of the groups that they are in.
fn run(sites: usize, size_min: usize, (corrupt, often): (usize, usize), seed: u64) -> Ended {
    let mut random = Random(seed);
    let attackers: BTreeSet<_> = random.order(sites).into_iter().take(corrupt).map(id).collect();
    let max_corrupt = u32::try_from(corrupt).unwrap();
    let mut suspicion = Suspicion { max_corrupt, ..Suspicion::default() };
    let mut ended = Ended { attempts: None, later: 0, passed: 0, spoiled: 0 };
    for attempt in 1..=ATTEMPTS_MAX {
        let present = random.order(sites).into_iter().map(id).filter(|id| !suspicion.culprits.contains(id)).collect();
        let open = suspicion.is_open();
        let groups = suspicion.draw(present, GroupBounds { size_min, groups_max: 16 });
        let mut check = |(group, members): (u32, BTreeSet<_>)| {
            let spoiled = attackers.iter().filter(|id| members.contains(*id)).any(|_| random.one_in(often));
            Check { at: (1, attempt), group, passed: !spoiled, members }
        };
        let checks: Vec<_> = (0..).zip(groups).map(&mut check).collect();
        ended.later += u32::from(open);
        ended.passed += u32::from(open && checks.iter().any(|check| check.passed));
        ended.spoiled += checks.iter().map(|check| u32::from(!check.passed)).sum::<u32>();
        suspicion.conclude(checks, &mut Findings::default()).unwrap();
        assert!(suspicion.culprits.is_subset(&attackers), "{sites} sites, {corrupt} corrupt, seed {seed}");
        if suspicion.culprits == attackers {
            ended.attempts = Some(attempt);
            break;
        }
    }
    ended
}

const ATTEMPTS_MAX: u32 = 200;

/// Every persistent attacker is convicted. The most attempts that it may take, and the least share of those after the first
/// of which at least one group passes, are close to what 300 seeds gave, so that it does not get worse unnoticed.
#[test]
fn persistent_attackers_are_isolated() {
    for (sites, size_min, corrupt, attempts_max, passed_min) in [
        (8, 4, 1, 4, 1.0),
        (8, 4, 2, 6, 0.35),
        (8, 4, 3, 12, 0.1),
        (10, 4, 1, 5, 1.0),
        (10, 4, 2, 8, 0.4),
        (10, 4, 3, 14, 0.1),
        (10, 5, 2, 8, 0.25),
        (10, 5, 3, 15, 0.1),
        (20, 5, 1, 6, 1.0),
        (20, 5, 2, 7, 0.55),
        (20, 5, 3, 11, 0.45),
        (20, 10, 2, 10, 0.3),
        // It takes six halvings.
        (50, 8, 1, 7, 1.0),
        (50, 8, 2, 10, 0.5),
        (50, 8, 3, 14, 0.4),
        // Two groups do not fit: nothing passes unless whoever is left out by chance is the attacker.
        (10, 8, 1, 8, 0.1),
    ] {
        let seeds = if sites < 50 { 30 } else { 4 };
        let ended: Vec<_> = (0..seeds).map(|seed| run(sites, size_min, (corrupt, 1), seed)).collect();
        let which = format!("{sites} sites in groups of at least {size_min}, {corrupt} corrupt");
        for (seed, ended) in ended.iter().enumerate() {
            assert!(ended.attempts.is_some_and(|last| last <= attempts_max), "{which}, seed {seed}: {ended:?}");
        }
        let later: u32 = ended.iter().map(|ended| ended.later).sum();
        let passed: u32 = ended.iter().map(|ended| ended.passed).sum();
        assert!(f64::from(passed) >= passed_min * f64::from(later), "{which}: {passed} of {later}");
    }
}

/// It takes longer, and costs the others not much more: an attacker pays with evidence for each group that it spoils.
#[test]
fn who_behaves_now_and_then_spoils_about_as_many_groups_until_it_is_found() {
    for (sites, size_min, corrupt, often, spoiled_max) in [
        (10, 4, 1, 2, 5),
        (10, 4, 1, 4, 5),
        (20, 5, 1, 2, 6),
        (20, 5, 1, 4, 6),
        (10, 4, 2, 1, 11),
        (10, 4, 2, 2, 14),
        (20, 5, 2, 1, 11),
        (20, 5, 2, 2, 18),
    ] {
        for seed in 0..30 {
            let ended = run(sites, size_min, (corrupt, often), seed);
            let which = format!("{sites} sites, {corrupt} corrupt in one of {often}, seed {seed}: {ended:?}");
            assert!(ended.attempts.is_some() && ended.spoiled <= spoiled_max, "{which}");
        }
    }
}

#[tokio::test]
async fn what_the_store_keeps_is_what_was_concluded() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let task = NewTask {
        id: "t".into(),
        name: "t".into(),
        policy_json: "{}".into(),
        policy_digest: [1; 32],
        model: [2; 32],
        model_len: 1,
    };
    store.create_task(task, 0).await.unwrap();
    let mut concluded = Suspicion { max_corrupt: 1, ..Suspicion::default() };
    for (attempt, groups) in (1..).zip(["abcd-", "ab- cd+", "ac- bd+"]) {
        let start = AttemptStart { task: "t".into(), round: 1, attempt, model: [2; 32], cohort_json: "{}".into() };
        store.begin_attempt(start, 0).await.unwrap();
        let mut checks = suspicion(1, &[groups]).checks;
        checks.iter_mut().for_each(|check| check.at = (1, attempt));
        let mut findings = Findings::default();
        concluded.conclude(checks, &mut findings).unwrap();
        store.end_attempt("t", 1, attempt, ("it failed", findings), 0).await.unwrap();
        let loaded = Suspicion::load(&store, "t", 1).await.unwrap();
        assert_eq!(loaded, concluded);
    }
    assert_eq!((concluded.culprits.clone(), concluded.is_open()), (word("a"), false));
    assert_eq!(Suspicion::load(&store, "u", 0).await.unwrap(), Suspicion::default());
}
