use super::*;
use crate::context::{Faults, Prg};
use crate::keys::ShareCommitments;
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use sordino_codec::RingBits;

fn session() -> Session {
    let context = Context {
        federation: "example.org".into(),
        task: "digits".into(),
        round: 1,
        attempt: 1,
        nonce: [0; 32],
        policy: [0; 32],
        model: [0; 32],
        vector_len: 1,
        bits: RingBits::new(8).expect("a ring"),
        prg: Prg::Aes256Ctr,
        pq: true,
        min_survivors: 3,
        faults: Faults { corrupt: 0, max_dropout_fraction: 0.0 },
        proof: None,
    };
    let id = ParticipantId::new("the-holder").expect("a valid name");
    Session { digest: context.digest(), context, id }
}

/// A dealer seals shares that open as they should and are not those it committed to: revealed, they would open no
/// commitment and cost their honest holder its place. They are not held. The sealing itself notices nothing, since the
/// dealer is the one who names the commitments there.
#[test]
fn shares_that_do_not_match_their_commitments_are_not_held() {
    let session = session();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let [dealer, holder] = [(); 2].map(|()| ChannelSecret::random(true, &mut rng));
    let neighbour = Neighbour {
        id: ParticipantId::new("the-dealer").expect("a valid name"),
        key: SigningKey::from_bytes(&[1; 32]).verifying_key().try_into().expect("a good key"),
        advertised: [2; 32],
    };
    let mut salted = || SaltedShare::new(*SecretScalar::random(&mut rng).scalar(), &mut rng);
    let plain = PlainShares { root: salted(), self_seed: salted() };
    let honest = plain.commitments(&session.digest, &neighbour.id, &session.id);
    let place = Place {
        index: 0,
        topology: Topology { n: 3, k: 2, t: 2 },
        roster_root: [3; 32],
        advertised: [4; 32],
        neighbours: BTreeMap::from([(1, neighbour.clone())]),
    };
    let peers = BTreeMap::from([(1, PeerKeys { channel: dealer.public(), mask: dealer.public() })]);
    for (commitments, held) in [
        (honest, true),
        (ShareCommitments { root: [5; 32], ..honest }, false),
        (ShareCommitments { self_seed: [5; 32], ..honest }, false),
        (ShareCommitments { root: honest.self_seed, self_seed: honest.root }, false),
    ] {
        let edge = Edge {
            context: &session.digest,
            sender: &neighbour.id,
            receiver: &session.id,
            advertised: [&neighbour.advertised, &place.advertised],
            commitments: &commitments,
        };
        let sealed = dealer.seal(&edge, &holder.public(), &plain, &mut rng).expect("honest keys");
        let encapsulation = sealed.encapsulation.as_ref();
        let opened = holder.open(&edge, &dealer.public().x25519, encapsulation, &sealed.ciphertext);
        assert!(opened.is_some(), "it opens");
        let record = SealedShares {
            holder: 0,
            commitments,
            mask_encapsulation: None,
            channel_encapsulation: encapsulation,
            sealed: &sealed.ciphertext,
        };
        let got = open_shares(&session, &place, &peers, &holder, &BTreeMap::from([(1, record)]));
        assert_eq!(got.get(&1).map(Option::is_some), Some(held));
    }
}
