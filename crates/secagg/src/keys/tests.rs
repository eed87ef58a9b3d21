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
    fn pair_masks_cancel(seed: u64, low in 0u32..1_000, apart in 1u32..1_000, names_in_order: bool, bits in 2u8..=64) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secrets = [(); 2].map(|()| Root(SecretScalar::random(&mut rng)).mask_secret(&CONTEXT));
        let names = if names_in_order { [name("participant-a"), name("participant-b")] }
            else { [name("participant-b"), name("participant-a")] };
        let indices = [low, low + apart];
        let mask = |own: usize| {
            let peer = 1 - own;
            let peer_key = secrets[peer].public();
            secrets[own]
                .pair_mask(&CONTEXT, (indices[own], &names[own]), (indices[peer], &names[peer], &peer_key))
                .expect("honest keys")
        };
        let ((lower, lower_sign), (higher, higher_sign)) = (mask(0), mask(1));
        prop_assert_eq!((lower_sign, higher_sign), (Sign::Plus, Sign::Minus));
        prop_assert_eq!(&lower.key, &higher.key);
        prop_assert_eq!(lower.counter, higher.counter);
        let zeros = RingVector::zeros(100, RingBits::new(bits).expect("a ring"));
        let mut sum = zeros.clone();
        crate::prg::apply(crate::Prg::Aes256Ctr, &[(lower, lower_sign)], &mut sum);
        prop_assert_ne!(&sum, &zeros);
        crate::prg::apply(crate::Prg::Aes256Ctr, &[(higher, higher_sign)], &mut sum);
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

/// Nothing that a mask depends on may be left out: with the context, a name or a key exchanged, it is another mask.
#[test]
fn masks_are_bound_to_context_names_and_keys() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let root = Root(SecretScalar::random(&mut rng));
    let secret = root.mask_secret(&CONTEXT);
    let peer = Root(SecretScalar::random(&mut rng)).mask_secret(&CONTEXT).public();
    // Same point, other bytes: X25519 ignores the high bit, the derivation does not.
    let mut same_point = peer;
    same_point[31] ^= 0x80;
    let other_context = ContextDigest([6; 32]);
    let [a, b, c] = ["participant-a", "participant-b", "participant-c"].map(name);
    let key = |context: &ContextDigest, own: &ParticipantId, other: &ParticipantId, peer: &[u8; 32]| {
        *secret.pair_mask(context, (0, own), (1, other, peer)).expect("an honest key").0.key
    };
    let masks = [
        key(&CONTEXT, &a, &b, &peer),
        key(&other_context, &a, &b, &peer),
        key(&CONTEXT, &a, &c, &peer),
        key(&CONTEXT, &c, &b, &peer),
        key(&CONTEXT, &b, &a, &peer),
        key(&CONTEXT, &a, &b, &same_point),
    ];
    for (at, mask) in masks.iter().enumerate() {
        assert!(!masks[..at].contains(mask), "mask {at}");
    }
    assert_ne!(secret.public(), root.mask_secret(&other_context).public());

    let seed = SelfSeed(SecretScalar::random(&mut rng));
    assert_ne!(seed.mask(&CONTEXT, &a).key, seed.mask(&CONTEXT, &b).key);
    assert_ne!(seed.mask(&CONTEXT, &a).key, seed.mask(&other_context, &a).key);
    assert_ne!(seed.commitment(&CONTEXT, &a), seed.commitment(&CONTEXT, &b));
    assert_ne!(seed.commitment(&CONTEXT, &a), seed.commitment(&other_context, &a));
}

#[test]
fn low_order_keys_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let secret = Root(SecretScalar::random(&mut rng)).mask_secret(&CONTEXT);
    let channel = ChannelSecret::random(&mut rng);
    let shares = shares(&mut rng);
    let [a, b] = ["participant-a", "participant-b"].map(name);
    let hash = [1; 32];
    let commitments = shares.commitments(&CONTEXT, &a, &b);
    let edge =
        Edge { context: &CONTEXT, sender: &a, receiver: &b, advertised: [&hash, &hash], commitments: &commitments };
    for low in low_order_points() {
        assert!(has_small_order(&low), "{}", hex::encode(low));
        assert!(secret.pair_mask(&CONTEXT, (0, &a), (1, &b, &low)).is_none());
        assert!(channel.seal(&edge, &low, &shares).is_none());
        assert!(channel.open(&edge, &low, &[0; PlainShares::SEALED_LEN]).is_none());
    }
    assert!(!has_small_order(&X25519_BASEPOINT.to_bytes()));
    assert!(!has_small_order(&channel.public()));
}

/// Two neighbours with their channel keys and what one sealed to the other.
struct Channel {
    ends: [ChannelSecret; 2],
    names: [ParticipantId; 3],
    advertised: [Hash; 2],
    commitments: ShareCommitments,
    shares: PlainShares,
    sealed: Vec<u8>,
}

impl Channel {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let ends = [(); 2].map(|()| ChannelSecret::random(&mut rng));
        let names = ["participant-a", "participant-b", "participant-c"].map(name);
        let shares = shares(&mut rng);
        let commitments = shares.commitments(&CONTEXT, &names[0], &names[1]);
        let mut channel = Self { ends, names, advertised: [[1; 32], [2; 32]], commitments, shares, sealed: Vec::new() };
        channel.sealed =
            channel.ends[0].seal(&channel.edge(), &channel.ends[1].public(), &channel.shares).expect("honest keys");
        channel
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

    fn open(&self, edge: &Edge<'_>, sealed: &[u8]) -> bool {
        self.ends[1].open(edge, &self.ends[0].public(), sealed).is_some()
    }
}

#[test]
fn sealed_shares_open_for_their_edge_only() {
    let channel = Channel::new();
    let sealed = &channel.sealed;
    assert_eq!(sealed.len(), PlainShares::SEALED_LEN);
    let opened = channel.ends[1].open(&channel.edge(), &channel.ends[0].public(), sealed).expect("honest");
    assert_eq!(opened.commitments(&CONTEXT, &channel.names[0], &channel.names[1]), channel.commitments);

    let [_, b, c] = &channel.names;
    let [sender, receiver] = &channel.advertised;
    let other_context = ContextDigest([6; 32]);
    let other_root = ShareCommitments { root: [0; 32], ..channel.commitments.clone() };
    let other_seed = ShareCommitments { self_seed: [0; 32], ..channel.commitments.clone() };
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
        assert!(!channel.open(edge, sealed), "{name}");
    }
    for byte in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[byte] ^= 1;
        assert!(!channel.open(&channel.edge(), &flipped), "byte {byte}");
        assert!(!channel.open(&channel.edge(), &sealed[..byte]), "{byte} bytes");
    }
}

/// The same two keys agree on one secret, and still what one sealed is not taken for what the other one did.
#[test]
fn directions_have_keys_of_their_own() {
    let channel = Channel::new();
    let [a, b] = &channel.ends;
    // Reflected to its sender, which takes it for the receiver's, with the edge as it was or turned around.
    assert!(a.open(&channel.edge(), &b.public(), &channel.sealed).is_none());
    let [first, second, _] = &channel.names;
    let [sender, receiver] = &channel.advertised;
    let back = Edge { sender: second, receiver: first, advertised: [receiver, sender], ..channel.edge() };
    assert!(a.open(&back, &b.public(), &channel.sealed).is_none());
    let other_way = b.seal(&back, &a.public(), &channel.shares).expect("honest keys");
    assert_ne!(other_way, channel.sealed);
    assert!(a.open(&back, &b.public(), &other_way).is_some());
}

/// Once a dropout's root is known, so are its pairwise masks. No derivation from it gives its channel key or its self
/// mask: shares that were sealed to it stay sealed.
#[test]
fn a_revealed_root_opens_no_channel_and_no_self_mask() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let owner = name("participant-b");
    let root = Root(SecretScalar::random(&mut rng));
    let self_seed = SelfSeed(SecretScalar::random(&mut rng));
    let channel = Channel::new();
    let self_mask = self_seed.mask(&CONTEXT, &owner);

    // Every label of ours, and none, over the root and over the mask key that derives from it.
    let mut candidates = vec![*root.0.bytes(), root.mask_secret(&CONTEXT).0.to_bytes()];
    for secret in candidates.clone() {
        for label in labels::ALL {
            for info in [&[][..], &[owner.as_str().as_bytes()]] {
                let mut okm = [0; 32];
                expand(&secret, &CONTEXT, label, info, &mut okm);
                candidates.push(okm);
            }
        }
    }
    for candidate in &candidates {
        assert_ne!(candidate, &*self_mask.key);
        assert_ne!(ChannelSecret::from_bytes(*candidate).public(), channel.ends[1].public());
        let opened =
            ChannelSecret::from_bytes(*candidate).open(&channel.edge(), &channel.ends[0].public(), &channel.sealed);
        assert!(opened.is_none());
        if let Some(scalar) = SecretScalar::from_bytes(candidate) {
            assert_ne!(SelfSeed(scalar).mask(&CONTEXT, &owner).key, self_mask.key);
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
    assert_eq!(format!("{:?}", root.mask_secret(&CONTEXT)), "MaskSecret");
    assert_eq!(format!("{:?}", ChannelSecret::random(&mut rng)), "ChannelSecret");
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
    wiped_on_drop::<StaticSecret>();

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
