//! The registrar of a data folder signs one roster of an attempt, and one survivor list of that roster, however often it is
//! asked and restarted.

use super::raw::Key;
use ed25519_dalek::VerifyingKey;
use getrandom::{SysRng, rand_core::UnwrapErr};
use sordino_codec::{RingBits, RingVector};
use sordino_coordinator::rounds::{LocalRegistrar, Registrar as _, RegistrarError};
use sordino_identity::IdentityKey;
use sordino_secagg::{
    CertificateKey, Context, Faults, ParticipantId, Prg, Step,
    coordinator::{Coordinator, Outgoing, Setup, Timing, UnsignedRoster, UnsignedSurvivors},
    participant::{AwaitingRoster, Identity, Trust},
};
use sordino_store::{NewPrincipal, Store};

const NOW: i64 = 1_800_000_000_000;
const SITES: u8 = 4;

/// Certificates are bare keys.
struct BareKeys(VerifyingKey);

impl Trust for BareKeys {
    fn participant(&self, _: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        CertificateKey::from_bytes(certificates).map_err(|error| error.to_string())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.0
    }
}

fn registrar_key() -> IdentityKey {
    IdentityKey::from_seed(&[99; 32])
}

fn id(site: u8) -> ParticipantId {
    ParticipantId::new(&format!("site-000{site}")).unwrap()
}

fn key(site: u8) -> Key {
    Key(IdentityKey::from_seed(&[site + 1; 32]))
}

fn certificate_key(site: u8) -> CertificateKey {
    key(site).0.verifying_key().try_into().unwrap()
}

fn context(attempt: u32) -> Context {
    Context {
        federation: "test.example".into(),
        task: "sums".into(),
        round: 1,
        attempt,
        nonce: [4; 32],
        policy: [1; 32],
        model: [2; 32],
        vector_len: 3,
        bits: RingBits::new(20).unwrap(),
        prg: Prg::Aes256Ctr,
        pq: false,
        min_survivors: 3,
        faults: Faults { corrupt: 0, max_dropout_fraction: 0.25 },
        proof: None,
    }
}

/// All sites with fresh keys up to their masked inputs, told to a coordinator for each of these sets of sites whose inputs
/// it is said to have: the roster, and the survivor lists.
fn attempt(number: u32, survivors: &[&[u8]]) -> (UnsignedRoster, Vec<UnsignedSurvivors>) {
    let (context, mut rng) = (context(number), UnwrapErr(SysRng));
    let trust = BareKeys(registrar_key().verifying_key());
    let setup = || Setup {
        context: context.clone(),
        cohort: (0..SITES).map(|site| (id(site), certificate_key(site))).collect(),
        quorum: u32::MAX,
        timing: Timing { advertise: 1, step: 1, grace: 1, attempt: 9 },
    };
    let mut cores: Vec<Coordinator> = survivors.iter().map(|_| Coordinator::new(setup(), 0)).collect();
    let opening = |core: &Coordinator, step, site| match core.outgoing(step, &id(site)) {
        Outgoing::Message(bytes) => bytes,
        other => unreachable!("{other:?}"),
    };
    let mut states = Vec::new();
    for site in 0..SITES {
        let (name, certificates) = (id(site), certificate_key(site).to_bytes());
        let identity = Identity { id: &name, certificates: &certificates };
        let input = RingVector::zeros(3, context.bits);
        let state = AwaitingRoster::advertise(context.clone(), identity, input, &key(site), &mut rng).unwrap();
        for core in &mut cores {
            core.message(Step::AdvertiseKeys, &name, state.message(), 0).unwrap();
        }
        states.push(state);
    }
    cores = cores.into_iter().map(|core| core.close(0).unwrap()).collect();
    let roster = cores[0].roster_to_sign().unwrap();
    let keys = |name: &ParticipantId| (0..SITES).find(|&site| id(site) == *name).map(certificate_key);
    let signature = registrar_key().sign(&roster.statement(keys).unwrap());
    cores = cores.into_iter().map(|core| core.roster_signed(signature, 0)).collect();
    let mut sharing = Vec::new();
    for (site, state) in (0..SITES).zip(states) {
        let opening = opening(&cores[0], Step::ShareKeys, site);
        let state = state.share_keys(&opening, &trust, &key(site), &mut rng).unwrap();
        for core in &mut cores {
            core.message(Step::ShareKeys, &id(site), state.message(), 0).unwrap();
        }
        sharing.push(state);
    }
    cores = cores.into_iter().map(|core| core.close(0).unwrap()).collect();
    for (site, state) in (0..SITES).zip(sharing) {
        let (_, upload) = state.mask_input(&opening(&cores[0], Step::MaskedInput, site), &key(site)).unwrap();
        for (core, _) in cores.iter_mut().zip(survivors).filter(|(_, survivors)| survivors.contains(&site)) {
            let mut hasher = core.hasher();
            hasher.update(&upload.bytes);
            core.input(&id(site), &upload.header, &hasher.finish(), 0).unwrap();
        }
    }
    let unsigned = |core: Coordinator| core.close(0).unwrap().survivors_to_sign().unwrap();
    (roster, cores.into_iter().map(unsigned).collect())
}

fn signed_another(result: &Result<[u8; 64], RegistrarError>, which: &str) -> bool {
    matches!(result, Err(RegistrarError::AlreadySigned { what }) if *what == which)
}

#[tokio::test]
async fn an_attempt_has_one_roster_and_one_survivor_list() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let registrar = LocalRegistrar::new(registrar_key(), store.clone());
    let (roster, lists) = attempt(1, &[&[0, 1, 2, 3], &[0, 1, 2]]);
    let [all, fewer] = &lists[..] else { unreachable!("two lists") };
    let (other_roster, others) = attempt(1, &[&[0, 1, 2, 3]]);

    let stranger = registrar.sign_roster(&roster).await;
    assert!(matches!(stranger, Err(RegistrarError::NotAdmitted(who)) if who == id(0)));
    for site in 0..SITES {
        let principal = NewPrincipal {
            id: id(site).to_string(),
            role: "client".into(),
            verifying_key: certificate_key(site).to_bytes(),
            certificate_chain: b"PEM".to_vec(),
            fingerprint: [site; 32],
            not_after: NOW + 1_000,
        };
        store.add_principal(principal, NOW).await.unwrap();
    }

    // Survivors of a roster that it has not signed.
    assert!(matches!(registrar.sign_survivors(all).await, Err(RegistrarError::NotItsRoster)));
    let of_roster = registrar.sign_roster(&roster).await.unwrap();
    assert!(signed_another(&registrar.sign_roster(&other_roster).await, "roster"));
    assert!(matches!(registrar.sign_survivors(&others[0]).await, Err(RegistrarError::NotItsRoster)));
    let of_list = registrar.sign_survivors(all).await.unwrap();
    assert_eq!(of_list, registrar_key().sign(&all.statement()));
    assert!(signed_another(&registrar.sign_survivors(fewer).await, "survivor list"));
    store.close().await;

    // What it has signed it signs again, after a restart too, and nothing else.
    let store = Store::open(folder.path()).await.unwrap();
    let registrar = LocalRegistrar::new(registrar_key(), store);
    assert_eq!(registrar.sign_roster(&roster).await.unwrap(), of_roster);
    assert_eq!(registrar.sign_survivors(all).await.unwrap(), of_list);
    assert!(signed_another(&registrar.sign_roster(&other_roster).await, "roster"));
    assert!(signed_another(&registrar.sign_survivors(fewer).await, "survivor list"));
    assert!(matches!(registrar.sign_survivors(&others[0]).await, Err(RegistrarError::NotItsRoster)));

    // Another attempt is another matter.
    let (roster, lists) = attempt(2, &[&[0, 1, 2]]);
    registrar.sign_roster(&roster).await.unwrap();
    registrar.sign_survivors(&lists[0]).await.unwrap();
}
