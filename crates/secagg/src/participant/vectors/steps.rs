//! What a second implementation computes between two messages: agreed secrets, coins, keys, nonces, shares, tails.
//!
//! All of it is computed here from the description, apart from the code under test, and compared with what that code
//! sent or opened: a known answer that the messages do not follow from cannot be written.

use super::*;
use crate::canonical::Writer;
use crate::kem::{KemPublic, KemSecret};
use crate::labels;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use curve25519_dalek::scalar::Scalar;
use hkdf::Hkdf;
use rand_core::{TryCryptoRng, TryRng};
use std::convert::Infallible;
use x25519_dalek::x25519;

/// A stream of randomness that remembers what was drawn.
pub(super) struct Recorded {
    rng: ChaCha20Rng,
    draws: Vec<Vec<u8>>,
}

impl Recorded {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { rng: ChaCha20Rng::from_seed(seed), draws: Vec::new() }
    }

    /// What was drawn since the last time this was asked.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.draws)
    }
}

impl TryRng for Recorded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("secrets are drawn as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("secrets are drawn as bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.rng.fill_bytes(bytes);
        self.draws.push(bytes.to_vec());
        Ok(())
    }
}

impl TryCryptoRng for Recorded {}

/// What a participant drew to share its secrets.
pub(super) struct Sharing {
    /// From the coefficient of x upwards.
    root_polynomial: Vec<Scalar>,
    self_seed_polynomial: Vec<Scalar>,
    /// For each holder, ascending: the salts of both shares, and the coins of the channel where there are any.
    holders: Vec<Vec<[u8; 32]>>,
}

impl Sharing {
    /// The draws of `share_keys`, in their order: the seed, both polynomials, then salts and coins for each holder.
    pub(super) fn of(draws: Vec<Vec<u8>>, threshold: u32, pq: bool) -> Self {
        let wide = |draw: Vec<u8>| Scalar::from_bytes_mod_order_wide(&draw.try_into().expect("64 bytes for a scalar"));
        let mut draws = draws.into_iter().skip(1);
        let coefficients = threshold as usize - 1;
        let root_polynomial = draws.by_ref().take(coefficients).map(wide).collect();
        let self_seed_polynomial = draws.by_ref().take(coefficients).map(wide).collect();
        let rest: Vec<[u8; 32]> = draws.map(|draw| draw.try_into().expect("a salt or coins")).collect();
        let holders = rest.chunks(if pq { 3 } else { 2 }).map(<[_]>::to_vec).collect();
        Self { root_polynomial, self_seed_polynomial, holders }
    }

    pub(super) fn polynomials(&self) -> (Value, Value) {
        let json = |coefficients: &[Scalar]| coefficients.iter().map(|scalar| hex::encode(scalar.to_bytes())).collect();
        (json(&self.root_polynomial), json(&self.self_seed_polynomial))
    }
}

/// Everything that a dealer computes for each of its holders.
///
/// - `roster`: what it was told of them.
pub(super) fn shares(state: &AwaitingShares, sharing: &Sharing, roster: &[u8]) -> Value {
    let AwaitingShares { session, root, self_seed, channel, place, sent, .. } = state;
    let (message, _) = ShareKeys::decode(sent).expect("our own");
    let announced = RosterAnnouncement::decode(roster).expect("it was believed").neighbours.into_iter();
    let advertised: BTreeMap<u32, AdvertiseKeys> = announced
        .map(|neighbour| (neighbour.index, AdvertiseKeys::decode(&neighbour.advertisement).expect("it was believed")))
        .collect();
    let share = |secret: &SecretScalar, coefficients: &[Scalar], holder: u32| {
        let x = Scalar::from(u64::from(holder) + 1);
        let upper = coefficients.iter().rev().fold(Scalar::ZERO, |value, coefficient| value * x + coefficient);
        (upper * x + secret.scalar()).to_bytes()
    };
    let records: Vec<_> = message.sealed().collect();
    assert_eq!(records.len(), sharing.holders.len());
    let of_holder = |(record, drawn): (&SealedShares<'_>, &Vec<[u8; 32]>)| {
        let (holder, neighbour) = (record.holder, &place.neighbours[&record.holder]);
        let root_share = share(&root.0, &sharing.root_polynomial, holder);
        let seed_share = share(&self_seed.0, &sharing.self_seed_polynomial, holder);
        let plain = [root_share, drawn[0], seed_share, drawn[1]].concat();

        let keys = &advertised[&holder].channel;
        let (x25519_secret, _) = channel.bytes().split_first_chunk::<32>().expect("96 bytes");
        let coins = drawn.get(2);
        let (agreed, made) = agree(x25519_secret, keys, coins);
        assert_eq!(made.as_ref(), record.channel_encapsulation, "these coins were used");
        let ends = [session.id.as_str().as_bytes(), &place.advertised, neighbour.id.as_str().as_bytes()];
        let encapsulation = made.as_ref().map_or(&[][..], |made| &made[..]);
        let parts = [ends[0], ends[1], ends[2], &neighbour.advertised, encapsulation];
        let okm = expand(&agreed, session, labels::CHANNEL, &parts, 44);
        let associated_data = {
            let mut out = Writer::new();
            out.bytes(labels::SEALED_SHARES).u16(crate::VERSION).raw(session.digest.as_bytes());
            out.bytes(ends[0]).bytes(ends[2]).raw(&place.advertised).raw(&neighbour.advertised);
            out.raw(&record.commitments.root).raw(&record.commitments.self_seed);
            out.finish()
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &okm[..32]).expect("32 bytes"));
        let nonce = Nonce::try_assume_unique_for_key(&okm[32..]).expect("12 bytes");
        let mut sealed = record.sealed.to_vec();
        let opened = key.open_in_place(nonce, Aad::from(&associated_data), &mut sealed).expect("this key and nonce");
        assert_eq!(opened, plain, "these shares and salts");
        json!({
            "holder": holder,
            "root_share": hex::encode(root_share),
            "root_salt": hex::encode(drawn[0]),
            "root_commitment": hex::encode(record.commitments.root),
            "self_seed_share": hex::encode(seed_share),
            "self_seed_salt": hex::encode(drawn[1]),
            "self_seed_commitment": hex::encode(record.commitments.self_seed),
            "channel_coins": coins.map(hex::encode),
            "channel_encapsulation": made.map(hex::encode),
            "channel_agreed": hex::encode(agreed),
            "channel_key": hex::encode(&okm[..32]),
            "channel_nonce": hex::encode(&okm[32..]),
            "associated_data": hex::encode(associated_data),
            "ciphertext": hex::encode(record.sealed),
        })
    };
    records.iter().zip(&sharing.holders).map(of_holder).collect()
}

/// The keys that follow from a root.
pub(super) fn mask_secret(state: &AwaitingRoster) -> Value {
    let (x25519, kem) = mask_keys(&state.session, &state.root);
    json!({ "x25519": hex::encode(x25519), "ml_kem_768_seed": kem.map(hex::encode) })
}

fn mask_keys(session: &Session, root: &Root) -> ([u8; 32], Option<[u8; 64]>) {
    let derive = |label, len| expand(&root.0.bytes()[..], session, label, &[], len);
    let x25519 = derive(labels::MASK_X25519, 32).try_into().expect("32 bytes");
    let kem = session.context.pq.then(|| derive(labels::MASK_KEM, 64).try_into().expect("64 bytes"));
    (x25519, kem)
}

/// What both ends of each pair derive, once the encapsulations are there.
pub(super) fn pair_masks(state: &AwaitingShares, delivered: &[u8]) -> Value {
    let AwaitingShares { session, place, peers, root, .. } = state;
    let secret = session.mask_secret(root);
    let (x25519_secret, kem_seed) = mask_keys(session, root);
    let delivered = DeliveredShares::decode(delivered).expect("honest");
    let records = check_deliveries(session, place, &delivered).expect("honest");
    let own = place.own_end(session);
    let of_pair = |(&dealer, record): (&u32, &SealedShares<'_>)| {
        let (peer, keys) = (place.peer_end(dealer), &peers[&dealer].mask);
        let sent = secret.encapsulation(&session.digest, &own, &peer, keys).or(record.mask_encapsulation.copied());
        let (mask, sign) = secret.pair_mask(&session.digest, &own, &peer, keys, sent.as_ref()).expect("honest keys");

        let adds = own.index < dealer;
        let coins = (adds && session.context.pq).then(|| {
            let parts = [peer.id.as_str().as_bytes(), &peer.advertised[..]];
            expand(&root.0.bytes()[..], session, labels::MASK_COINS, &parts, 32).try_into().expect("32 bytes")
        });
        let (mut agreed, made) = agree(&x25519_secret, keys, coins.as_ref());
        if let (false, Some(seed), Some(sent)) = (adds, &kem_seed, &sent) {
            agreed.extend_from_slice(&KemSecret::from_seed(seed).decapsulate(sent)[..]);
        }
        assert!(!adds || made == sent, "these coins are used");
        let (low, high) = if adds { (&own, &peer) } else { (&peer, &own) };
        let encapsulation = sent.as_ref().map_or(&[][..], |sent| &sent[..]);
        let (low_id, high_id) = (low.id.as_str().as_bytes(), high.id.as_str().as_bytes());
        let parts = [low_id, low.advertised, high_id, high.advertised, encapsulation];
        let okm = expand(&agreed, session, labels::PAIR_MASK, &parts, 48);
        assert_eq!((&okm[..32], &okm[32..]), (&mask.key[..], &mask.counter[..]));

        let mut json = mask_json(session, &mask);
        json["peer"] = dealer.into();
        json["sign"] = if sign == Sign::Plus { "+" } else { "-" }.into();
        json["coins"] = coins.map(hex::encode).into();
        json["encapsulation"] = sent.map(hex::encode).into();
        json["agreed"] = hex::encode(agreed).into();
        json
    };
    records.iter().map(of_pair).collect()
}

/// A mask's key and counter, and its first elements.
pub(super) fn mask_json(session: &Session, mask: &MaskKey) -> Value {
    let mut first = RingVector::zeros(SHOWN, session.context.bits);
    let again = MaskKey { key: mask.key.clone(), counter: mask.counter };
    prg::apply(session.context.prg, &[(again, Sign::Plus)], &mut first, std::num::NonZeroUsize::MIN);
    let first: Vec<u64> = (0..SHOWN).filter_map(|at| first.get(at)).collect();
    json!({ "key": hex::encode(&mask.key[..]), "counter": hex::encode(mask.counter), "first_elements": first })
}

/// What two ends agree on, as the one with these coins computes it, and its encapsulation. Without coins: X25519 alone.
fn agree(secret: &[u8; 32], peer: &PublicKeys, coins: Option<&[u8; 32]>) -> (Vec<u8>, Option<Encapsulation>) {
    let mut agreed = x25519(*secret, peer.x25519).to_vec();
    let made = coins.zip(peer.kem.as_ref()).map(|(coins, key)| {
        let (made, shared) = KemPublic::parse(key).expect("checked").encapsulate(coins);
        agreed.extend_from_slice(&shared[..]);
        made
    });
    (agreed, made)
}

fn expand(secret: &[u8], session: &Session, label: &[u8], parts: &[&[u8]], len: usize) -> Vec<u8> {
    let mut info = Writer::new();
    info.bytes(label);
    for part in parts {
        info.bytes(part);
    }
    let mut okm = vec![0; len];
    let hkdf = Hkdf::<sha2::Sha256>::new(Some(session.digest.as_bytes()), secret);
    hkdf.expand(&info.finish(), &mut okm).expect("short");
    okm
}

/// The smallest x such that more than x of `draws` are marked with a probability of at most 2^-bits.
pub(super) fn quantile(population: u32, marked: u32, draws: u32, bits: f64) -> u32 {
    let log2_choose =
        |n: u32, k: u32| -> f64 { (1..=k).map(|i| f64::from(n - k + i).log2() - f64::from(i).log2()).sum() };
    let marked = marked.min(population);
    let all = log2_choose(population, draws);
    let fewest = (draws + marked).saturating_sub(population);
    let mut more = 0.0;
    for x in (fewest + 1..=draws.min(marked)).rev() {
        let log2 = log2_choose(marked, x) + log2_choose(population - marked, draws - x) - all;
        more += log2.exp2();
        if more > (-bits).exp2() {
            return x;
        }
    }
    fewest
}

/// Elements of a mask that are shown.
const SHOWN: usize = 4;
