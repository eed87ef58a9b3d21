//! What a lying coordinator tells real sites, and what they make of it: the site refuses in one sentence that names the
//! evidence, and says nothing more that would help to open its input.

use super::super::{common::TestFederation, join, site::Site};
use super::fake::{Fake, Lie, Scene};
use sordino_forge::{self as forge, Advertisement, Delivered, Roster};
use sordino_participant::Summary;
use sordino_secagg::Step;
use std::{
    io,
    sync::{Arc, Mutex},
};

/// One lie.
struct Case {
    name: &'static str,
    /// Sites that are lied to, by their place.
    victims: &'static [usize],
    /// What they say about it, the last word of it apart.
    evidence: &'static str,
    /// The first step in which they are silent.
    silent_from: Step,
    lie: Lie,
}

/// Site 0 is told something else in a step.
fn to_the_first(step: Step, lie: impl Fn(&Fake, &Scene, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Lie {
    Box::new(move |fake, scene, place, asked, truth| {
        truth.filter(|_| place == 0 && asked == step).map(|truth| lie(fake, scene, truth))
    })
}

fn leaves(scene: &Scene) -> Vec<forge::Hash> {
    scene.advertisements().into_iter().map(|advertisement| forge::roster_leaf(advertisement)).collect()
}

/// A changed roster for site 0; it is signed again by whoever changes it.
fn roster(change: impl Fn(&Fake, &mut Roster) + Send + Sync + 'static) -> Lie {
    to_the_first(Step::ShareKeys, move |fake, scene, truth| {
        let mut roster = Roster::read(truth, leaves(scene));
        assert_eq!(roster.write(), truth, "the forger speaks the protocol");
        change(fake, &mut roster);
        roster.write()
    })
}

/// These sites are shown the survivors without site 4, and `signatures` of it.
fn two_lists(
    victims: &'static [usize],
    signatures: impl Fn(&Fake, &Scene, usize) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Lie {
    Box::new(move |fake, scene, place, step, truth| {
        if !victims.contains(&place) {
            return None;
        }
        match step {
            Step::ConsistencyCheck => truth.map(|truth| survivors(fake, scene, truth, 0..4)),
            Step::Unmasking => signatures(fake, scene, place),
            _ => None,
        }
    })
}

/// A survivor list in the place of the true one, by a registrar that is in on it.
fn survivors(fake: &Fake, scene: &Scene, truth: &[u8], members: std::ops::Range<u32>) -> Vec<u8> {
    let context = forge::context_of(truth).expect("a list");
    forge::survivor_list(&context, &forge::merkle::root(&leaves(scene)), 5, members, &fake.registrar)
}

fn signature(scene: &Scene, place: usize) -> Option<(u32, [u8; 64])> {
    let signature = forge::consistency_signature(scene.said.get(&(place, Step::ConsistencyCheck))?)?;
    Some((u32::try_from(place).ok()?, signature))
}

fn context(scene: &Scene, place: usize) -> Option<forge::Hash> {
    forge::context_of(scene.said.get(&(place, Step::AdvertiseKeys))?)
}

/// Everybody's keys in the victim's context, signed by a registrar that is in on it.
fn roster_for_another_model(fake: &Fake, scene: &Scene) -> Option<Vec<u8>> {
    let template = scene.truth(Step::ShareKeys, &fake.ids[1])?;
    let others = (1..).zip(scene.advertisements().into_iter().skip(1));
    let mut roster = Roster {
        context: context(scene, 0)?,
        index: 0,
        leaves: leaves(scene),
        neighbours: others.map(|(index, advertisement)| (index, advertisement.clone(), Vec::new())).collect(),
        ..Roster::read(&template, Vec::new())
    };
    roster.sign(&fake.registrar);
    Some(roster.write())
}

fn cases(old: Vec<u8>) -> Vec<Case> {
    let case = |name, victims, evidence, silent_from, lie| Case { name, victims, evidence, silent_from, lie };
    let first = |name, evidence, silent_from, lie| case(name, &[0], evidence, silent_from, lie);
    vec![
        first(
            "lies about survivors",
            "the survivor list counts this participant as a dropout",
            Step::ConsistencyCheck,
            to_the_first(Step::ConsistencyCheck, |fake, scene, truth| survivors(fake, scene, truth, 1..5)),
        ),
        first(
            "a second survivor list, and the registrar signed the first",
            "the registrar's signature of the survivor list with 4 of 5 participants is not valid: others may be shown \
             another list",
            Step::ConsistencyCheck,
            to_the_first(Step::ConsistencyCheck, |_, _, truth| {
                forge::other_survivors(truth, 5, 0..4).expect("a survivor list")
            }),
        ),
        first(
            "two survivor sets",
            "the signature of neighbour 1 does not stand for the survivor list that was shown here",
            Step::Unmasking,
            two_lists(&[0], |_, scene, place| {
                let others: Option<Vec<_>> = (1..4).map(|other| signature(scene, other)).collect();
                Some(forge::signature_list(&context(scene, place)?, &others?))
            }),
        ),
        case(
            "both shares of one site",
            &[0, 1],
            "Unmasking: 1 neighbours take part, 3 are needed",
            Step::Unmasking,
            two_lists(&[0, 1], |_, scene, place| {
                Some(forge::signature_list(&context(scene, place)?, &[signature(scene, 1 - place)?]))
            }),
        ),
        first(
            "replaced keys",
            "neighbour site-0002: its advertised keys are not those in the roster",
            Step::ShareKeys,
            roster(|fake, roster| {
                let mut other = Advertisement::read(&roster.neighbours[1].1);
                other.channel.0 = [9; 32];
                roster.neighbours[1].1 = other.sign(&fake.registrar);
            }),
        ),
        first(
            "an invented site, and the registrar is in on it",
            "neighbour nobody-at-all: its certificate is that of client site-0002",
            Step::ShareKeys,
            roster(|fake, roster| {
                let mut other = Advertisement::read(&roster.neighbours[1].1);
                other.id = "nobody-at-all".into();
                roster.replace(2, other.sign(&fake.registrar));
                roster.sign(&fake.registrar);
            }),
        ),
        first(
            "invented sites beside the others",
            "the registrar's signature of the roster of 6 participants is not valid",
            Step::ShareKeys,
            roster(|_, roster| {
                let own = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
                let mut other = Advertisement::read(&roster.neighbours[1].1);
                other.id = "zz-nobody".into();
                let other = other.sign(&own);
                roster.leaves.push(forge::roster_leaf(&other));
                roster.neighbours.push((5, other, Vec::new()));
                roster.sign(&own);
            }),
        ),
        first(
            "an old attempt",
            "the coordinator's message for ShareKeys belongs to another context",
            Step::ShareKeys,
            to_the_first(Step::ShareKeys, move |_, _, _| old.clone()),
        ),
        first(
            "another model",
            "neighbour site-0001: it advertised for another context: it may have been given another model",
            Step::ShareKeys,
            Box::new(|fake, scene, place, step, _| {
                (place == 0 && step == Step::ShareKeys).then(|| roster_for_another_model(fake, scene))?
            }),
        ),
        first(
            "a cohort of one",
            "the roster has 1 participants, the policy asks for at least 4",
            Step::ShareKeys,
            roster(|fake, roster| {
                roster.leaves.truncate(1);
                roster.neighbours.clear();
                roster.sign(&fake.registrar);
            }),
        ),
        first(
            "a forged graph",
            "the neighbours that the coordinator names are not those of the graph",
            Step::ShareKeys,
            roster(|_, roster| drop(roster.neighbours.pop())),
        ),
        first(
            "withheld shares",
            "MaskedInput: 1 neighbours take part, 3 are needed",
            Step::MaskedInput,
            to_the_first(Step::MaskedInput, |_, _, truth| {
                let mut delivered = Delivered::read(truth);
                delivered.deliveries.truncate(1);
                delivered.write()
            }),
        ),
    ]
}

/// What sites log, while it is in scope: all of it on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// An opening of an attempt that these sites took part in, and that is over.
async fn old_roster(federation: &TestFederation, sites: &[Site]) -> Vec<u8> {
    let kept = Arc::new(Mutex::new(None));
    let keeps = kept.clone();
    let lie: Lie = Box::new(move |_, _, place, step, truth| {
        if place == 0 && step == Step::ShareKeys {
            *keeps.lock().unwrap() = truth.map(<[u8]>::to_vec);
        }
        None
    });
    let fake = Fake::new(federation, sites, 1, None, lie).await;
    let summaries = fake.play(sites, &[0, 1, 2, 3, 4]).await;
    assert!(summaries.iter().all(|summary| summary.finished == 1), "the truth is believed: {summaries:?}");
    assert!((0..5).all(|place| fake.scene().has_revealed(place)));
    let kept = kept.lock().unwrap().take();
    kept.expect("everybody was shown a roster")
}

/// Each lie by itself, to real sites over TLS, from a coordinator that has the true one's certificate.
#[tokio::test]
async fn a_lie_is_refused_in_one_sentence() {
    let federation = TestFederation::start().await;
    let sites = join(&federation, 5).await;
    let log = Log::default();
    let _logging = log.begin();
    let old = old_roster(&federation, &sites).await;
    for (number, Case { name, victims, evidence, silent_from, lie }) in (2..).zip(cases(old)) {
        log.take();
        let other_model = (name == "another model").then_some(0);
        let fake = Fake::new(&federation, &sites, number, other_model, lie).await;
        let summaries = fake.play(&sites, victims).await;
        let log = log.take();
        // An attempt that the lie before cut off is left first.
        let refused =
            |summary: &Summary| *summary == Summary { refused: 1, left_out: summary.left_out, ..Summary::default() };
        assert!(summaries.iter().all(refused), "{name}: {summaries:?}\n{log}");
        let sentences = log.lines().filter(|line| line.contains("was not believed") && line.contains(evidence)).count();
        assert!(sentences >= victims.len(), "{name}: {sentences} say {evidence:?}\n{log}");
        let scene = fake.scene();
        for &victim in victims {
            for step in Step::ALL.into_iter().filter(|step| *step >= silent_from) {
                assert!(!scene.said.contains_key(&(victim, step)), "{name}: site {victim} goes on with {step}");
            }
            let has_sent = scene.inputs.get(&victim).is_some_and(|input| !input.is_empty());
            assert_eq!(has_sent, silent_from > Step::MaskedInput, "{name}: site {victim}");
            assert!(!scene.has_revealed(victim), "{name}: site {victim}");
        }
    }
}
