"""Computes every known answer of protocol-v3.json a second time, and shows that what was changed is refused.

Usage: check_protocol.py protocol-v3.json WYCHEPROOF_FOLDER
Needs Python 3.9 with `cryptography` and NumPy (requirements.txt). Prints ok, or ends at the first difference.
"""

import json
import sys
from hashlib import sha512
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from second import certificate_refusals, forgeries, messages, mlkem768, refusals
from second.attempt import (
    ROOT, SELF_SEED, Attempt, Neighbour, Randomness, Refusal, SecretKeys, associated_data, channel_key, mask_coins,
    mask_keys, pair_mask, seed_commitment, self_mask, share_commitment,
)  # fmt: skip
from second.encoding import Encoding
from second.primitives import (
    ORDER, P256_ORDER, add, centred, context_digest, dropouts, is_signed, lagrange, mask, merkle_root, neighbours, quantile, scalar,
    scalar_bytes, share_at, topology, unpack,
)  # fmt: skip


def same(got, want, what):
    """Byte strings stand as hexadecimal in the file."""
    got = got.hex() if isinstance(got, bytes) else got
    assert got == want, f"{what}: computed {str(got)[:200]}, the file has {str(want)[:200]}"


def unhex(value):
    return bytes.fromhex(value) if value else b""


# Primitives


def check_signatures(folder):
    """Project Wycheproof's tests, and the key with which anything is signed."""
    document = json.loads((folder / "ed25519_test.json").read_text(encoding="utf-8"))
    for group in document["testGroups"]:
        key = unhex(group["publicKey"]["pk"])
        for test in group["tests"]:
            good = is_signed(key, unhex(test["msg"]), unhex(test["sig"]))
            assert good == (test["result"] == "valid"), f"signature {test['tcId']}"
    document = json.loads((folder / "ecdsa_secp256r1_sha256_p1363_test.json").read_text(encoding="utf-8"))
    for group in document["testGroups"]:
        key = unhex(group["publicKey"]["uncompressed"])
        for test in group["tests"]:
            signature = unhex(test["sig"])
            r, s = signature[:32], int.from_bytes(signature[32:], "big")
            smaller = min(s, P256_ORDER - s)
            valid = test["result"] == "valid"
            good = is_signed(key, unhex(test["msg"]), signature)
            assert good == (valid and s == smaller), f"P-256 signature {test['tcId']}"
            if valid:
                signature = r + smaller.to_bytes(32, "big")
                assert is_signed(key, unhex(test["msg"]), signature), f"P-256 signature {test['tcId']}, the smaller s"
    # Under the neutral element as the key, r B with r is a signature of whatever one likes.
    identity, seed = bytes([1]) + bytes(31), bytes(32)
    point = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    r = int.from_bytes(sha512(seed).digest()[:32], "little") & (2**254 - 8) | 2**254
    for signature in (point + scalar_bytes(r % ORDER), identity + bytes(32)):
        assert not is_signed(identity, b"anything", signature)


def check_packing():
    """A packed vector has one form."""
    assert list(unpack(bytes([0b10111001, 0b1]), 3, 3)) == [1, 7, 6]
    for wrong in (bytes([0b10111001, 0b11]), bytes([0b10111001]), bytes([0b10111001, 0b1, 0])):
        try:
            unpack(wrong, 3, 3)
        except ValueError:
            continue
        raise AssertionError("not refused: a packed vector of another form")


def check_ml_kem(folder):
    """Project Wycheproof's tests: keys from seeds, encapsulation with coins, decapsulation."""

    def tests(name):
        document = json.loads((folder / name).read_text(encoding="utf-8"))
        found = [test for group in document["testGroups"] for test in group["tests"]]
        assert len(found) == document["numberOfTests"]
        return found

    def outcome(compute, *arguments):
        try:
            return compute(*arguments)
        except ValueError:
            return None

    def open_with_seed(seed, ciphertext):
        return mlkem768.SecretKey(seed).decapsulate(ciphertext)

    for test in tests("mlkem_768_keygen_seed_test.json"):
        key = mlkem768.SecretKey(unhex(test["seed"]))
        same(key.public, test["ek"], f"keygen {test['tcId']}")
        same(key.expanded(), test["dk"], f"keygen {test['tcId']}")
    for test in tests("mlkem_768_encaps_test.json"):
        made = outcome(mlkem768.encapsulate, unhex(test["ek"]), unhex(test["m"]))
        want = (unhex(test["c"]), unhex(test["K"])) if test["result"] == "valid" else None
        assert made == want, f"encapsulation {test['tcId']}"
    for test in tests("mlkem_768_test.json"):
        opened = outcome(open_with_seed, unhex(test["seed"]), unhex(test["c"]))
        assert opened == (unhex(test["K"]) if test["result"] == "valid" else None), f"decapsulation {test['tcId']}"


# Attempts


class Known(Randomness):
    """The secrets that the file gives for a participant."""

    def __init__(self, known):
        self.known = known
        self.shares = {entry["holder"]: entry for entry in known["shares"]}

    def root(self):
        return scalar(unhex(self.known["root"]))

    def self_seed(self):
        return scalar(unhex(self.known["self_seed"]))

    def channel_secret(self):
        return unhex(self.known["channel_secret"])

    def coefficients(self, role, count):
        drawn = self.known["root_polynomial" if role == ROOT else "self_seed_polynomial"]
        assert len(drawn) == count
        return [scalar(unhex(coefficient)) for coefficient in drawn]

    def salts(self, holder):
        entry = self.shares[holder]
        return unhex(entry["root_salt"]), unhex(entry["self_seed_salt"])

    def channel_coins(self, holder):
        return unhex(self.shares[holder]["channel_coins"])


class BareKeys:
    """In the known answers a certificate is a bare Ed25519 key."""

    def __init__(self, registrar):
        self.registrar = registrar

    def participant(self, name, certificates):
        if len(certificates) != 32:
            raise Refusal("not a bare key")
        return certificates


def public_key(known):
    return Ed25519PrivateKey.from_private_bytes(unhex(known["signing_seed"])).public_key().public_bytes_raw()


def begin(vectors, index):
    """A participant of the attempt that has its secrets from the file."""
    known = vectors["participants"][index]
    sign = Ed25519PrivateKey.from_private_bytes(unhex(known["signing_seed"])).sign
    trust = BareKeys(unhex(vectors["registrar_key"]))
    name = known["id"].encode()
    attached = known["attachment"]
    attachment = attached and (unhex(attached["commitments"]), unhex(attached["proof"]))
    who = vectors["context"], name, public_key(known)
    return Attempt(*who, sign, trust, known["input"], Known(known), attachment)


def check_participant(vectors, index):
    """Its messages, byte for byte, as the answers to the coordinator's."""
    known = vectors["participants"][index]
    attempt = begin(vectors, index)
    who = known["id"]
    same(attempt.advertisement, known["advertise_keys"], f"{who}: advertisement")
    same(attempt.share_keys(unhex(known["roster"])), known["share_keys"], f"{who}: sealed shares")
    same(attempt.roster_root, vectors["roster_root"], f"{who}: roster")
    if "delivered_shares" not in known:
        return
    header, upload = attempt.mask_input(unhex(known["delivered_shares"]))
    same(upload, known["upload"], f"{who}: packed vector and proof")
    same(header, known["masked_input"], f"{who}: masked input")
    signature = attempt.sign_survivors(unhex(known["survivor_list"]))
    same(signature, known["consistency_signature"], f"{who}: signature of the survivors")
    same(attempt.reveal(unhex(known["signature_list"])), known["unmasking"], f"{who}: revealed shares")


class Ends:
    """The participants of an attempt as each other sees them."""

    def __init__(self, vectors):
        self.context = context_digest(vectors["context"])
        self.pq = vectors["context"]["pq"]
        self.known = vectors["participants"]
        self.all = []
        for index, known in enumerate(self.known):
            advertisement = unhex(known["advertise_keys"])
            parsed = messages.Advertisement.read(advertisement)
            assert is_signed(public_key(known), *messages.message_statement(advertisement))
            keys = parsed.channel, parsed.mask
            self.all.append(Neighbour(index, known["id"].encode(), public_key(known), advertisement, *keys))


def check_keys(ends, index):
    known, context = ends.known[index], ends.context
    secret = mask_keys(context, scalar(unhex(known["root"])), ends.pq)
    same(secret.x25519, known["mask_secret"]["x25519"], "mask secret")
    for name, keys in [("mask_key", secret.public()), ("channel_key", ends.all[index].channel)]:
        same(keys.x25519, known[name]["x25519"], name)
        same(keys.kem, known[name]["ml_kem_768"] or "", name)
    same(seed_commitment(context, ends.all[index].name, scalar(unhex(known["self_seed"]))),
         known["self_seed_commitment"], "commitment to the self-mask seed")  # fmt: skip


def check_shares(ends, index, t):
    """Every share, commitment, key, nonce and ciphertext that a dealer makes; any t shares give the secrets."""
    known, context, dealer = ends.known[index], ends.context, ends.all[index]
    draw = Known(known)
    polynomials = [
        [draw.root(), *draw.coefficients(ROOT, t - 1)],
        [draw.self_seed(), *draw.coefficients(SELF_SEED, t - 1)],
    ]
    dealt = [{}, {}]
    for entry in known["shares"]:
        holder = ends.all[entry["holder"]]
        plain = b""
        for role, name in [(ROOT, "root"), (SELF_SEED, "self_seed")]:
            share, salt = unhex(entry[f"{name}_share"]), unhex(entry[f"{name}_salt"])
            dealt[role][holder.index] = scalar(share)
            assert dealt[role][holder.index] == share_at(polynomials[role], holder.index)
            commitment = share_commitment(context, dealer, holder, role, share, salt)
            same(commitment, entry[f"{name}_commitment"], "commitment to a share")
            plain += share + salt
        # From the holder's end: it has the encapsulation, not the coins.
        encapsulation = unhex(entry["channel_encapsulation"])
        secret = unhex(ends.known[holder.index]["channel_secret"])
        agreed = agree(secret[:32], secret[32:], dealer.channel, encapsulation)
        same(agreed, entry["channel_agreed"], "agreed secret of a channel")
        key, nonce = channel_key(context, agreed, dealer, holder, encapsulation)
        same(key, entry["channel_key"], "key of a channel")
        same(nonce, entry["channel_nonce"], "nonce of a channel")
        commitments = [unhex(entry["root_commitment"]), unhex(entry["self_seed_commitment"])]
        data = associated_data(context, dealer, holder, commitments)
        same(data, entry["associated_data"], "associated data")
        same(AESGCM(key).encrypt(nonce, plain, data), entry["ciphertext"], "sealed shares")
    for shares, polynomial in zip(dealt, polynomials):
        for leave_out in range(len(shares) - t + 1):
            assert lagrange(dict(list(shares.items())[leave_out : leave_out + t])) == polynomial[0]


def agree(secret, kem_seed, peer, encapsulation):
    """At the end that decapsulates."""
    keys = SecretKeys(secret, kem_seed if encapsulation else None)
    return keys.agree(peer, keys.kem.decapsulate(encapsulation) if encapsulation else b"")


def check_masks(ends, index, c):
    """Keys of all masks, at both ends, with the coins that a dropout's neighbours have to find again."""
    known, context, own = ends.known[index], ends.context, ends.all[index]
    check_mask(c, self_mask(context, scalar(unhex(known["self_seed"])), own.name), known["self_mask"])
    root = scalar(unhex(known["root"]))
    for entry in known.get("pair_masks", []):
        peer, encapsulation = ends.all[entry["peer"]], unhex(entry["encapsulation"])
        low, high = (own, peer) if own.index < peer.index else (peer, own)
        if ends.pq and own is low:
            coins = mask_coins(context, root, peer)
            same(coins, entry["coins"], "coins")
            made, kem_shared = mlkem768.encapsulate(peer.mask.kem, coins)
            assert made == encapsulation
            agreed = mask_keys(context, root, True).agree(peer.mask, kem_shared)
        else:
            assert entry["coins"] is None
            seed = unhex(known["mask_secret"]["ml_kem_768_seed"])
            agreed = agree(unhex(known["mask_secret"]["x25519"]), seed, peer.mask, encapsulation)
        same(agreed, entry["agreed"], "agreed secret of a mask")
        assert entry["sign"] == ("+" if own is low else "-")
        check_mask(c, pair_mask(context, agreed, low, high, encapsulation), entry)


def check_mask(c, computed, entry):
    key, counter = computed
    same(key, entry["key"], "key of a mask")
    same(counter, entry["counter"], "counter of a mask")
    first = mask(c["prg"], key, counter, c["vector_len"], c["bits"])[: len(entry["first_elements"])]
    assert [int(element) for element in first] == entry["first_elements"]


def check_sum(vectors, ends, t, survivors):
    """The coordinator's end: opens what the survivors revealed, and takes the masks off."""
    c = vectors["context"]
    values, bits, prg = c["vector_len"], c["bits"], c["prg"]
    revealed = {}
    for index in survivors:
        fields, _ = messages.opened(unhex(ends.known[index]["unmasking"]), messages.REVEALED)
        assert fields.u32() == index
        for _ in range(fields.u32()):
            dealer, role = fields.u32(), fields.take(1)[0]
            assert role == (SELF_SEED if dealer in survivors else ROOT)
            share, salt = fields.take(32), fields.take(32)
            entry = next(entry for entry in ends.known[dealer]["shares"] if entry["holder"] == index)
            name = "self_seed" if role == SELF_SEED else "root"
            commitment = share_commitment(ends.context, ends.all[dealer], ends.all[index], role, share, salt)
            same(commitment, entry[f"{name}_commitment"], "a revealed share")
            revealed.setdefault(dealer, {})[index] = scalar(share)
    packed_len = (values * bits + 7) // 8
    total = sum(unpack(unhex(ends.known[index]["upload"])[:packed_len], values, bits) for index in survivors)
    for dealer, shares in revealed.items():
        secret = lagrange(dict(list(shares.items())[:t]))
        own = ends.all[dealer]
        if dealer in survivors:
            key, counter = self_mask(ends.context, secret, own.name)
            total = add(total, "-", mask(prg, key, counter, values, bits), bits)
            continue
        # From the root alone: its owner's secrets in the file are not looked at.
        keys = mask_keys(ends.context, secret, ends.pq)
        assert keys.public() == own.mask
        for peer in (ends.all[index] for index in survivors):
            encapsulation = kem_shared = b""
            if ends.pq and dealer < peer.index:
                coins = mask_coins(ends.context, secret, peer)
                encapsulation, kem_shared = mlkem768.encapsulate(peer.mask.kem, coins)
            elif ends.pq:
                encapsulation = next(
                    record.mask_encapsulation
                    for record in messages.SealedShares.read(unhex(ends.known[peer.index]["share_keys"])).records
                    if record.holder == dealer
                )
                kem_shared = keys.kem.decapsulate(encapsulation)
            low, high = (own, peer) if dealer < peer.index else (peer, own)
            agreed = keys.agree(peer.mask, kem_shared)
            key, counter = pair_mask(ends.context, agreed, low, high, encapsulation)
            sign = "+" if own is low else "-"
            total = add(total, sign, mask(prg, key, counter, values, bits), bits)
    assert centred(total, bits) == vectors["sum"]
    plain = zip(*(ends.known[index]["input"] for index in survivors))
    assert vectors["sum"] == [sum(column) for column in plain]


def check_attempt(vectors):
    c = vectors["context"]
    same(context_digest(c), vectors["context_digest"], "context")
    known = vectors["participants"]
    k, t = topology(len(known), c["corrupt"], c["max_dropout_fraction"])
    assert (k, t) == (vectors["k"], vectors["t"])
    ends = Ends(vectors)
    leaves = [messages.roster_leaf(end.name, unhex(known[end.index]["advertise_keys"])) for end in ends.all]
    same(merkle_root(leaves), vectors["roster_root"], "roster")
    for index in range(len(known)):
        check_keys(ends, index)
        check_shares(ends, index, t)
        check_masks(ends, index, c)
        assert [entry["holder"] for entry in known[index]["shares"]] == [at for at in range(len(known)) if at != index]
        check_participant(vectors, index)
    survivors = [index for index, party in enumerate(known) if "unmasking" in party]
    check_sum(vectors, ends, t, survivors)
    return refusals.check(vectors, lambda index: begin(vectors, index))


def check_complaint(known, context):
    """A header that no attempt of the file has: of an input whose sender could not open all pairs."""
    key = Ed25519PrivateKey.from_private_bytes(unhex(known["signing_seed"]))
    said = (known["index"], known["dealers"], unhex(known["upload"]), known["complaints"])
    same(messages.masked_input(context, *said, key.sign), known["masked_input"], "complaint")


def check_graph(graph, context):
    n, corrupt = graph["n"], graph["corrupt"]
    k, t = topology(n, corrupt, graph["max_dropout_fraction"])
    assert (k, t) == (graph["k"], graph["t"]), (n, k, t)
    assert dropouts(n, graph["max_dropout_fraction"]) == graph["dropouts"]
    assert quantile(n - 1, corrupt, k, 2**80 * n * n) == graph["corrupt_in_two_windows"]
    assert quantile(n - 1, graph["dropouts"], k, 2**30 * n) == graph["silent_neighbours"]
    for index, expected in enumerate(graph["neighbours"]):
        assert neighbours(n, k, context, unhex(graph["roster_root"]), index) == expected


def check_encoding(case):
    sections = {
        "cohort": {"target": case["target"]},
        "privacy": {"clip_norm": case["clip_norm"]},
        "robustness": {"max_norm": 100.0},
        "encoding": {key: case[key] for key in ("precision_bits", "max_weight", "metrics")},
    }
    encoding = Encoding(sections, case["model_len"])
    for name in ("vector_len", "step", "bits"):
        same(getattr(encoding, name), case[name], name)
    same(str(encoding.norm_bound(case["max_weight"])), case["norm_bound"], "norm bound")
    same(str(encoding.norm_bound(case["half_weight"])), case["half_norm_bound"], "norm bound")


def main():
    vectors = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    wycheproof = Path(sys.argv[2])
    check_signatures(wycheproof)
    check_ml_kem(wycheproof)
    check_packing()
    refused = sum(check_attempt(attempt) for attempt in vectors["attempts"])
    assert refused >= 100, f"only {refused} changes were tried"
    forgeries.check()
    certificate_refusals.check()
    context = context_digest(vectors["attempts"][0]["context"])
    check_complaint(vectors["complaint"], context)
    for graph in vectors["graphs"]:
        check_graph(graph, context)
    for case in vectors["encodings"]:
        check_encoding(case)
    print("ok")


if __name__ == "__main__":
    main()
