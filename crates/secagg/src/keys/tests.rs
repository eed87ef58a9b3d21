use super::*;
use curve25519_dalek::constants::X25519_BASEPOINT;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use sordino_codec::{RingBits, RingVector};

const CONTEXT: ContextDigest = ContextDigest([5; 32]);

fn name(name: &str) -> ParticipantId {
    ParticipantId::new(name).expect("a valid name")
}

fn shares(rng: &mut ChaCha20Rng) -> PlainShares {
    PlainShares {
        root: SaltedShare::new(Scalar::random(rng), rng),
        self_seed: SaltedShare::new(Scalar::random(rng), rng),
    }
}

/// Encodings of points whose order divides 8, on the curve and its twist, and the same ones not reduced or with the
/// high bit set, which X25519 ignores (RFC 7748; Wycheproof has further ones).
fn low_order_points() -> Vec<[u8; 32]> {
    let hex = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let points = hex.map(|hex| <[u8; 32]>::try_from(hex::decode(hex).expect("hex")).expect("32 bytes"));
    let with_the_high_bit = points.map(|mut point| {
        point[31] |= 0x80;
        point
    });
    [points, with_the_high_bit].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Both ends derive one mask with opposite signs, whichever has the lower index, name or key.
    #[test]
    fn pair_masks_cancel(
        seed: u64, low in 0u32..1_000, apart in 1u32..1_000, names_in_order: bool, bits in 2u8..=64, pq: bool,
    ) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secrets = [(); 2].map(|()| Root(SecretScalar::random(&mut rng)).mask_secret(&CONTEXT, pq));
        let names = if names_in_order { [name("participant-a"), name("participant-b")] }
            else { [name("participant-b"), name("participant-a")] };
        let indices = [low, low + apart];
        let advertised = [[1; 32], [2; 32]];
        let end = |at: usize| End { index: indices[at], id: &names[at], advertised: &advertised[at] };
        let sent = secrets[0].encapsulation(&CONTEXT, &end(0), &end(1), &secrets[1].public());
        prop_assert_eq!(sent.is_some(), pq);
        prop_assert_eq!(secrets[1].encapsulation(&CONTEXT, &end(1), &end(0), &secrets[0].public()), None);
        let mask = |own: usize, sent: Option<&Encapsulation>| {
            secrets[own].pair_mask(&CONTEXT, &end(own), &end(1 - own), &secrets[1 - own].public(), sent)
        };
        let (lower, lower_sign) = mask(0, None).expect("honest keys");
        prop_assert_eq!(&mask(0, sent.as_ref()).expect("what it sent").0.key, &lower.key);
        let (higher, higher_sign) = mask(1, sent.as_ref()).expect("honest keys");
        prop_assert_eq!((lower_sign, higher_sign), (Sign::Plus, Sign::Minus));
        prop_assert_eq!(&lower.key, &higher.key);
        prop_assert_eq!(lower.counter, higher.counter);
        if let Some(sent) = sent {
            // Another encapsulation is not what the root makes, and opens to another secret.
            let mut other = sent;
            other[500] ^= 1;
            prop_assert!(mask(0, Some(&other)).is_none());
            prop_assert_ne!(&mask(1, Some(&other)).expect("implicit rejection").0.key, &higher.key);
            prop_assert!(mask(1, None).is_none());
        }
        let zeros = RingVector::zeros(100, RingBits::new(bits).expect("a ring"));
        let mut sum = zeros.clone();
        crate::prg::apply(crate::Prg::Aes256Ctr, &[(lower, lower_sign)], &mut sum, std::num::NonZeroUsize::MIN);
        prop_assert_ne!(&sum, &zeros);
        crate::prg::apply(crate::Prg::Aes256Ctr, &[(higher, higher_sign)], &mut sum, std::num::NonZeroUsize::MIN);
        prop_assert_eq!(&sum, &zeros);
    }

    #[test]
    fn plain_shares_are_read_as_they_were_written(seed: u64) {
        let shares = shares(&mut ChaCha20Rng::seed_from_u64(seed));
        let mut written = Vec::new();
        shares.write(&mut written);
        prop_assert_eq!(written.len(), PlainShares::LEN);
        let mut again = Vec::new();
        PlainShares::read(&written).expect("just written").write(&mut again);
        prop_assert_eq!(&again, &written);
        prop_assert!(PlainShares::read(&written[1..]).is_none());
        // A scalar that is not below the group's order has another encoding: it is not read.
        written[..32].fill(0xff);
        prop_assert!(PlainShares::read(&written).is_none());
    }
}

/// Nothing that a mask depends on may be left out: with the context, a name, an advertisement or a half of the secret
/// exchanged, it is another mask.
#[test]
fn masks_are_bound_to_context_names_and_keys() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let root = Root(SecretScalar::random(&mut rng));
    let secret = root.mask_secret(&CONTEXT, true);
    let [peer, stranger] = [(); 2].map(|()| Root(SecretScalar::random(&mut rng)).mask_secret(&CONTEXT, true).public());
    let other_context = ContextDigest([6; 32]);
    let [a, b, c] = ["participant-a", "participant-b", "participant-c"].map(name);
    let [hash_a, hash_b, hash_c] = [[1; 32], [2; 32], [3; 32]];
    let key =
        |context: &ContextDigest, own: (&ParticipantId, &Hash), other: (&ParticipantId, &Hash), keys: &PublicKeys| {
            let own = End { index: 0, id: own.0, advertised: own.1 };
            let peer = End { index: 1, id: other.0, advertised: other.1 };
            *secret.pair_mask(context, &own, &peer, keys, None).expect("honest keys").0.key
        };
    let (of_a, of_b) = ((&a, &hash_a), (&b, &hash_b));
    let half = |x25519: &PublicKeys, kem: &PublicKeys| PublicKeys { x25519: x25519.x25519, kem: kem.kem.clone() };
    let masks = [
        key(&CONTEXT, of_a, of_b, &peer),
        key(&other_context, of_a, of_b, &peer),
        key(&CONTEXT, of_a, (&c, &hash_b), &peer),
        key(&CONTEXT, (&c, &hash_a), of_b, &peer),
        key(&CONTEXT, of_a, (&b, &hash_c), &peer),
        key(&CONTEXT, (&a, &hash_c), of_b, &peer),
        key(&CONTEXT, of_b, of_a, &peer),
        // One half of the secret known to somebody else is not enough.
        key(&CONTEXT, of_a, of_b, &half(&peer, &stranger)),
        key(&CONTEXT, of_a, of_b, &half(&stranger, &peer)),
    ];
    for (at, mask) in masks.iter().enumerate() {
        assert!(!masks[..at].contains(mask), "mask {at}");
    }
    assert_ne!(secret.public(), root.mask_secret(&other_context, true).public());

    let seed = SelfSeed(SecretScalar::random(&mut rng));
    assert_ne!(seed.mask(&CONTEXT, &a).key, seed.mask(&CONTEXT, &b).key);
    assert_ne!(seed.mask(&CONTEXT, &a).key, seed.mask(&other_context, &a).key);
    assert_ne!(seed.commitment(&CONTEXT, &a), seed.commitment(&CONTEXT, &b));
    assert_ne!(seed.commitment(&CONTEXT, &a), seed.commitment(&other_context, &a));
}

#[test]
fn keys_of_no_use_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let secret = Root(SecretScalar::random(&mut rng)).mask_secret(&CONTEXT, true);
    let channel = ChannelSecret::random(true, &mut rng);
    let shares = shares(&mut rng);
    let [a, b] = ["participant-a", "participant-b"].map(name);
    let hash = [1; 32];
    let commitments = shares.commitments(&CONTEXT, &a, &b);
    let edge =
        Edge { context: &CONTEXT, sender: &a, receiver: &b, advertised: [&hash, &hash], commitments: &commitments };
    let (own, peer) = (End { index: 0, id: &a, advertised: &hash }, End { index: 1, id: &b, advertised: &hash });
    let honest = channel.public();
    assert_eq!(honest.check(true), Ok(()));
    assert_eq!(honest.check(false), Err(BadKeys::OtherKind));
    assert_eq!(PublicKeys { kem: None, ..honest.clone() }.check(true), Err(BadKeys::OtherKind));
    assert_eq!(PublicKeys { kem: None, ..honest.clone() }.check(false), Ok(()));
    for low in low_order_points() {
        assert!(has_small_order(&low), "{}", hex::encode(low));
        let low = PublicKeys { x25519: low, ..honest.clone() };
        assert_eq!(low.check(true), Err(BadKeys::SmallOrder));
        assert!(secret.pair_mask(&CONTEXT, &own, &peer, &low, None).is_none());
        assert!(channel.seal(&edge, &low, &shares, &mut rng).is_none());
        let encapsulation = Some(&[0; 1_088]);
        assert!(channel.open(&edge, &low.x25519, encapsulation, &[0; PlainShares::SEALED_LEN]).is_none());
    }
    let no_key = PublicKeys { kem: Some(Box::new([0xff; 1_184])), ..honest.clone() };
    assert_eq!(no_key.check(true), Err(BadKeys::NoKemKey));
    assert!(secret.pair_mask(&CONTEXT, &own, &peer, &no_key, None).is_none());
    assert!(channel.seal(&edge, &no_key, &shares, &mut rng).is_none());
    assert!(!has_small_order(&X25519_BASEPOINT.to_bytes()));
    assert!(!has_small_order(&honest.x25519));
}

/// Two neighbours with their channel keys and what one sealed to the other.
struct Channel {
    ends: [ChannelSecret; 2],
    names: [ParticipantId; 3],
    advertised: [Hash; 2],
    commitments: ShareCommitments,
    shares: PlainShares,
    sealed: Sealed,
}

impl Channel {
    fn new(pq: bool) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let ends = [(); 2].map(|()| ChannelSecret::random(pq, &mut rng));
        let names = ["participant-a", "participant-b", "participant-c"].map(name);
        let shares = shares(&mut rng);
        let commitments = shares.commitments(&CONTEXT, &names[0], &names[1]);
        let advertised = [[1; 32], [2; 32]];
        let edge = Edge {
            context: &CONTEXT,
            sender: &names[0],
            receiver: &names[1],
            advertised: [&advertised[0], &advertised[1]],
            commitments: &commitments,
        };
        let sealed = ends[0].seal(&edge, &ends[1].public(), &shares, &mut rng).expect("honest keys");
        Self { ends, names, advertised, commitments, shares, sealed }
    }

    fn edge(&self) -> Edge<'_> {
        Edge {
            context: &CONTEXT,
            sender: &self.names[0],
            receiver: &self.names[1],
            advertised: [&self.advertised[0], &self.advertised[1]],
            commitments: &self.commitments,
        }
    }

    fn open(&self, edge: &Edge<'_>, encapsulation: Option<&Encapsulation>, sealed: &[u8]) -> bool {
        self.ends[1].open(edge, &self.ends[0].public().x25519, encapsulation, sealed).is_some()
    }
}

#[test]
fn sealed_shares_open_for_their_edge_only() {
    for pq in [true, false] {
        let channel = Channel::new(pq);
        let Sealed { encapsulation, ciphertext } = &channel.sealed;
        assert_eq!(encapsulation.is_some(), pq);
        let encapsulation = encapsulation.as_ref();
        let key = channel.ends[0].public().x25519;
        let opened = channel.ends[1].open(&channel.edge(), &key, encapsulation, ciphertext).expect("honest");
        assert_eq!(opened.commitments(&CONTEXT, &channel.names[0], &channel.names[1]), channel.commitments);

        let [_, b, c] = &channel.names;
        let [sender, receiver] = &channel.advertised;
        let other_context = ContextDigest([6; 32]);
        let other_root = ShareCommitments { root: [0; 32], ..channel.commitments };
        let other_seed = ShareCommitments { self_seed: [0; 32], ..channel.commitments };
        let edge = || channel.edge();
        let changed = [
            ("context", Edge { context: &other_context, ..edge() }),
            ("sender", Edge { sender: c, ..edge() }),
            ("receiver", Edge { receiver: c, ..edge() }),
            ("sender's advertisement", Edge { advertised: [&[3; 32], receiver], ..edge() }),
            ("receiver's advertisement", Edge { advertised: [sender, &[3; 32]], ..edge() }),
            ("both advertisements", Edge { advertised: [receiver, sender], ..edge() }),
            ("root commitment", Edge { commitments: &other_root, ..edge() }),
            ("self-seed commitment", Edge { commitments: &other_seed, ..edge() }),
            ("names", Edge { sender: b, receiver: &channel.names[0], ..edge() }),
        ];
        for (name, edge) in &changed {
            assert!(!channel.open(edge, encapsulation, ciphertext), "{name}");
        }
        for byte in 0..ciphertext.len() {
            let mut flipped = *ciphertext;
            flipped[byte] ^= 1;
            assert!(!channel.open(&channel.edge(), encapsulation, &flipped), "byte {byte}");
            assert!(!channel.open(&channel.edge(), encapsulation, &ciphertext[..byte]), "{byte} bytes");
        }
        // Neither with another encapsulation, nor with one too few or too many.
        let mut other = encapsulation.copied().unwrap_or([0; 1_088]);
        other[7] ^= 1;
        assert!(!channel.open(&channel.edge(), Some(&other), ciphertext));
        assert_eq!(channel.open(&channel.edge(), None, ciphertext), !pq);
    }
}

/// The same two keys agree on one secret, and still what one sealed is not taken for what the other one did. Without
/// ML-KEM, so that nothing but the direction differs.
#[test]
fn directions_have_keys_of_their_own() {
    let channel = Channel::new(false);
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let [a, b] = &channel.ends;
    let key = b.public().x25519;
    // Reflected to its sender, as if the receiver had sealed it.
    let [first, second, _] = &channel.names;
    let [sender, receiver] = &channel.advertised;
    let back = Edge { sender: second, receiver: first, advertised: [receiver, sender], ..channel.edge() };
    assert!(a.open(&back, &key, None, &channel.sealed.ciphertext).is_none());
    let other_way = b.seal(&back, &a.public(), &channel.shares, &mut rng).expect("honest keys");
    // The tags differ in any case; under one key the ciphertexts of the same shares would be the same.
    assert_ne!(other_way.ciphertext[..PlainShares::LEN], channel.sealed.ciphertext[..PlainShares::LEN]);
    assert!(a.open(&back, &key, None, &other_way.ciphertext).is_some());
}

/// Once a dropout's root is known, so are its pairwise masks. No derivation from it gives its channel keys, the coins
/// that it sealed with, or its self mask: shares that were sealed to it stay sealed.
#[test]
fn a_revealed_root_opens_no_channel_and_no_self_mask() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let owner = name("participant-b");
    let root = Root(SecretScalar::random(&mut rng));
    let self_seed = SelfSeed(SecretScalar::random(&mut rng));
    let self_mask = self_seed.mask(&CONTEXT, &owner);

    // Every label of ours, and none, over the root and over the mask key that derives from it.
    let mut candidates = vec![*root.0.bytes(), *root.mask_secret(&CONTEXT, true).x25519.dangerous_bytes()];
    for secret in candidates.clone() {
        for label in labels::ALL {
            for info in [&[][..], &[owner.as_str().as_bytes()]] {
                let mut okm = [0; 32];
                expand(&secret, &CONTEXT, label, info, &mut okm);
                candidates.push(okm);
            }
        }
    }
    for pq in [true, false] {
        let channel = Channel::new(pq);
        let honest = channel.ends[1].public();
        for candidate in &candidates {
            let mut bytes = [0; ChannelSecret::LEN];
            for part in bytes.chunks_exact_mut(32) {
                part.copy_from_slice(candidate);
            }
            let guess = ChannelSecret::from_bytes(&bytes, pq);
            assert_ne!(guess.public().x25519, honest.x25519);
            assert!(!pq || guess.public().kem != honest.kem);
            let Sealed { encapsulation, ciphertext } = &channel.sealed;
            let key = channel.ends[0].public().x25519;
            assert!(guess.open(&channel.edge(), &key, encapsulation.as_ref(), ciphertext).is_none());
            // As the coins of the sender: the encapsulation would show them.
            if let (Some(kem), Some(sent)) = (&honest.kem, encapsulation) {
                assert_ne!(KemPublic::parse(kem).expect("a key").encapsulate(candidate).0, *sent);
            }
            if let Some(scalar) = SecretScalar::from_bytes(candidate) {
                assert_ne!(SelfSeed(scalar).mask(&CONTEXT, &owner).key, self_mask.key);
            }
        }
    }
}

/// Dealer, holder, role, context, share and salt: each of them changes a commitment.
#[test]
fn commitments_bind_everything() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let salted = SaltedShare::new(Scalar::random(&mut rng), &mut rng);
    let [a, b, c] = ["participant-a", "participant-b", "participant-c"].map(name);
    let mut other_salt = salted.clone();
    rng.fill_bytes(&mut other_salt.salt[..]);
    let other_share = SaltedShare { share: SecretScalar::random(&mut rng), salt: salted.salt.clone() };
    let commitments = [
        salted.commitment(&CONTEXT, &a, &b, Role::Root),
        salted.commitment(&CONTEXT, &a, &b, Role::SelfSeed),
        salted.commitment(&CONTEXT, &b, &a, Role::Root),
        salted.commitment(&CONTEXT, &a, &c, Role::Root),
        salted.commitment(&CONTEXT, &c, &b, Role::Root),
        salted.commitment(&ContextDigest([6; 32]), &a, &b, Role::Root),
        other_salt.commitment(&CONTEXT, &a, &b, Role::Root),
        other_share.commitment(&CONTEXT, &a, &b, Role::Root),
    ];
    for (at, commitment) in commitments.iter().enumerate() {
        assert!(!commitments[..at].contains(commitment), "commitment {at}");
    }
}

#[test]
fn secrets_print_their_names_only() {
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let root = Root(SecretScalar::random(&mut rng));
    assert_eq!(format!("{:?}", root.0), "SecretScalar");
    assert_eq!(format!("{root:?}"), "Root(SecretScalar)");
    assert_eq!(format!("{:?}", SelfSeed(SecretScalar::random(&mut rng))), "SelfSeed(SecretScalar)");
    assert_eq!(format!("{:?}", root.mask_secret(&CONTEXT, true)), "MaskSecret");
    assert_eq!(format!("{:?}", ChannelSecret::random(true, &mut rng)), "ChannelSecret");
    assert_eq!(format!("{:?}", KemSecret::from_seed(&[1; 64])), "KemSecret");
    assert_eq!(format!("{:?}", shares(&mut rng)), "PlainShares");
}

#[test]
fn secrets_are_wiped() {
    fn wiped_on_drop<T: ZeroizeOnDrop>() {}
    wiped_on_drop::<SecretScalar>();
    wiped_on_drop::<Root>();
    wiped_on_drop::<SelfSeed>();
    wiped_on_drop::<SaltedShare>();
    wiped_on_drop::<PlainShares>();
    wiped_on_drop::<MaskKey>();
    wiped_on_drop::<crate::shamir::Polynomial>();
    wiped_on_drop::<RingVector>();
    // Inside of `MaskSecret` and `ChannelSecret`.
    wiped_on_drop::<X25519Secret>();
    wiped_on_drop::<KemSecret>();

    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut shares = shares(&mut rng);
    shares.zeroize();
    let mut written = Vec::new();
    shares.write(&mut written);
    assert_eq!(written, [0; PlainShares::LEN]);
    let mut mask = SelfSeed(SecretScalar::random(&mut rng)).mask(&CONTEXT, &name("participant-a"));
    mask.zeroize();
    assert_eq!((*mask.key, mask.counter), ([0; 32], [0; 16]));
}
