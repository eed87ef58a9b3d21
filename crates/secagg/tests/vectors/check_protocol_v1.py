"""Computes the attempts of protocol-v1.json a second time, from their secrets, by docs/protocol.md alone.

Usage: check_protocol_v1.py protocol-v1.json
Needs Python 3.9 and the package `cryptography`. Ends with an AssertionError at the first difference.
"""

import json
import math
import struct
import sys
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ORDER = 2**252 + 27742317777372353535851937790883648493
VERSION = struct.pack("<H", 1)


def label(purpose):
    return b"sordino/secagg/v1/" + purpose.encode()


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def string(data):
    return u32(len(data)) + data


def hash_of(*parts):
    return sha256(b"".join(parts)).digest()


class Fields:
    """Takes fields from the front of a message."""

    def __init__(self, message, kind, context):
        self.rest = message
        assert self.take(2) == VERSION and self.take(2) == struct.pack("<H", kind) and self.take(32) == context

    def take(self, count):
        assert len(self.rest) >= count
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def string(self):
        return self.take(self.u32())

    def end(self):
        assert self.rest == b""


def expand(secret, context, purpose, parts, length):
    info = b"".join(string(part) for part in [label(purpose), *parts])
    return HKDF(SHA256(), length, context, info).derive(secret)


def mask_key(secret, context, purpose, parts):
    okm = expand(secret, context, purpose, parts, 48)
    return okm[:32], okm[32:]


def keystream(prg, key, counter, length):
    key = key if prg == "AES-256-CTR" else key[:16]
    return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(length))


def mask(prg, key, counter, values, bits):
    lane = 4 if bits <= 32 else 8
    stream = keystream(prg, key, counter, values * lane)
    return [int.from_bytes(stream[i * lane : (i + 1) * lane], "little") % 2**bits for i in range(values)]


def pack(values, bits):
    whole = sum(value << (i * bits) for i, value in enumerate(values))
    return whole.to_bytes((len(values) * bits + 7) // 8, "little")


def unpack(data, values, bits):
    whole = int.from_bytes(data, "little")
    assert whole < 1 << (values * bits)
    return [whole >> (i * bits) & (2**bits - 1) for i in range(values)]


def merkle_root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hash_of(b"\x01", merkle_root(leaves[:split]), merkle_root(leaves[split:]))


def lagrange(shares):
    """The polynomial's value at 0, from {roster index: value}; index i stands at i + 1."""
    secret = 0
    for i, value in shares.items():
        numerator = denominator = 1
        for j in shares:
            if j != i:
                numerator = numerator * (j + 1) % ORDER
                denominator = denominator * (j - i) % ORDER
        secret += value * numerator * pow(denominator, -1, ORDER)
    return secret % ORDER


def verify(key, statement, signature):
    Ed25519PublicKey.from_public_bytes(key).verify(signature, statement)


def verify_message(key, message):
    verify(key, label("message signature") + message[:-64], message[-64:])


def topology(n, corrupt, fraction):
    dropouts = math.floor(n * fraction + 1e-6)
    choose = math.comb

    def quantile(population, marked, draws, bits):
        # Exact: the smallest x with P(more than x) <= 2^-bits.
        marked, tail = min(marked, population), 0
        limit = choose(population, draws) * 2.0**-bits
        for x in range(min(draws, marked), max(0, draws + marked - population) - 1, -1):
            tail += choose(marked, x) * choose(population - marked, draws - x)
            if tail > limit:
                return x
        return max(0, draws + marked - population)

    for k in range(2, n - 1, 2):
        faulty = (corrupt + dropouts) / n
        if faulty and math.log2(n) + k // 2 * math.log2(faulty) > -80:
            continue
        t = (k + quantile(n - 1, corrupt, k, 80 + math.log2(n))) // 2 + 1
        if t + quantile(n - 1, dropouts, k, 30 + math.log2(n)) <= k:
            return k, t
    k = n - 1
    t = (k + min(corrupt, k)) // 2 + 1
    assert t <= k - dropouts
    return k, t


def neighbours(n, k, context, root, index):
    if k == n - 1:
        return [other for other in range(n) if other != index]
    seed = hash_of(string(label("graph seed")), context, root, u32(n), u32(k))

    def words():
        block = 0
        while True:
            yield from struct.unpack("<8I", hash_of(seed, u64(block)))
            block += 1

    draws, ring = words(), list(range(n))
    for last in range(n - 1, 0, -1):
        bound = last + 1
        fair = (2**32 - 1) // bound * bound
        at = next(word for word in draws if word < fair) % bound
        ring[last], ring[at] = ring[at], ring[last]
    place = ring.index(index)
    return sorted(ring[(place + step) % n] for step in [*range(-(k // 2), 0), *range(1, k // 2 + 1)])


def context_digest(c):
    return hash_of(
        string(label("context")), VERSION, string(c["federation"].encode()), string(c["task"].encode()),
        u64(c["round"]), u32(c["attempt"]), bytes.fromhex(c["nonce"]), bytes.fromhex(c["policy"]),
        bytes.fromhex(c["model"]), u64(c["vector_len"]), bytes([c["bits"]]),
        bytes([{"AES-256-CTR": 0, "AES-128-CTR": 1}[c["prg"]]]), u32(c["min_survivors"]), u32(c["corrupt"]),
        struct.pack("<d", c["max_dropout_fraction"]),
    )  # fmt: skip


class Party:
    """The secrets and messages of one participant, as bytes."""

    def __init__(self, known):
        for name, value in known.items():
            hexadecimal = isinstance(value, str) and name != "id"
            setattr(self, name, bytes.fromhex(value) if hexadecimal else value)
        self.name = self.id.encode()
        self.public = Ed25519PrivateKey.from_private_bytes(self.signing_seed).public_key().public_bytes_raw()
        self.advertised = sha256(self.advertise_keys).digest()

    def dh(self, secret, public):
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def check_keys(context, party):
    """AdvertiseKeys and what it derives from."""
    party.mask_secret = expand(party.root, context, "mask x25519 key", [], 32)
    public = X25519PrivateKey.from_private_bytes(party.mask_secret).public_key().public_bytes_raw()
    assert public == party.mask_key
    public = X25519PrivateKey.from_private_bytes(party.channel_secret).public_key().public_bytes_raw()
    assert public == party.channel_key
    fields = Fields(party.advertise_keys, 1, context)
    assert fields.string() == party.name
    assert (fields.take(32), fields.take(32)) == (party.channel_key, party.mask_key)
    assert fields.string() == b"" and fields.string() == party.public
    fields.take(64)
    fields.end()
    verify_message(party.public, party.advertise_keys)


def check_roster(attempt, context, parties, index):
    fields = Fields(parties[index].roster, 2, context)
    assert fields.u32() == index
    leaves = [fields.take(32) for _ in range(fields.u32())]
    assert leaves == [hash_of(b"\x00", string(p.name), p.advertised) for p in parties]
    root = merkle_root(leaves)
    assert root.hex() == attempt["roster_root"]
    statement = string(label("roster signature")) + VERSION + context + u32(len(parties)) + root
    verify(bytes.fromhex(attempt["registrar_key"]), statement, fields.take(64))
    found = [(fields.u32(), fields.string()) for _ in range(fields.u32())]
    expected = neighbours(len(parties), attempt["k"], context, root, index)
    assert found == [(other, parties[other].advertise_keys) for other in expected]
    fields.end()
    return root, expected


def commitment(context, dealer, holder, role, share, salt):
    head = string(label("share commitment")) + context + string(dealer.name) + string(holder.name)
    return hash_of(head, bytes([role]), salt, share)


def check_shares(context, t, parties, index):
    """ShareKeys: opens every sealed pair, and rebuilds both secrets from any t of them."""
    dealer = parties[index]
    fields = Fields(dealer.share_keys, 3, context)
    assert fields.u32() == index
    seed_commitment = string(label("self-mask seed commitment")) + context + string(dealer.name) + dealer.self_seed
    assert fields.take(32) == sha256(seed_commitment).digest()
    of_root, of_seed, dealer.dealt = {}, {}, {}
    for _ in range(fields.u32()):
        at = fields.u32()
        holder = parties[at]
        commitments = [fields.take(32), fields.take(32)]
        assert fields.string() == b""
        sealed = fields.string()
        shared = holder.dh(holder.channel_secret, dealer.channel_key)
        info = [dealer.name, dealer.channel_key, holder.name, holder.channel_key]
        okm = expand(shared, context, "channel", info, 44)
        data = string(label("sealed shares")) + VERSION + context + string(dealer.name) + string(holder.name)
        data += dealer.advertised + holder.advertised + commitments[0] + commitments[1]
        plain = AESGCM(okm[:32]).decrypt(okm[32:], sealed, data)
        assert len(plain) == 128
        pairs = [(plain[:32], plain[32:64]), (plain[64:96], plain[96:])]
        for role, (share, salt) in enumerate(pairs):
            assert commitment(context, dealer, holder, role, share, salt) == commitments[role]
        dealer.dealt[at] = (commitments, sealed, pairs)
        of_root[at], of_seed[at] = (int.from_bytes(share, "little") for share, _ in pairs)
    fields.take(64)
    fields.end()
    verify_message(dealer.public, dealer.share_keys)
    for secret, shares in [(dealer.root, of_root), (dealer.self_seed, of_seed)]:
        for leave_out in range(len(shares) - t + 1):
            chosen = dict(list(shares.items())[leave_out : leave_out + t])
            assert lagrange(chosen).to_bytes(32, "little") == secret


def check_masks(context, parties, index, expected):
    party = parties[index]
    key, counter = mask_key(party.self_seed, context, "self mask", [party.name])
    assert (key.hex(), counter.hex()) == (party.self_mask["key"], party.self_mask["counter"])
    party.masks = [(1, key, counter)]
    assert [known["peer"] for known in party.pair_masks] == expected
    for known in party.pair_masks:
        peer = parties[known["peer"]]
        ends = [(party.name, party.mask_key), (peer.name, peer.mask_key)]
        low, high = ends if index < known["peer"] else ends[::-1]
        shared = party.dh(party.mask_secret, peer.mask_key)
        key, counter = mask_key(shared, context, "pair mask", [*low, *high])
        sign = "+" if index < known["peer"] else "-"
        assert (key.hex(), counter.hex(), sign) == (known["key"], known["counter"], known["sign"])
        party.masks.append((1 if sign == "+" else -1, key, counter))


def check_input(c, context, parties, index, expected):
    party = parties[index]
    fields = Fields(party.delivered_shares, 4, context)
    assert fields.u32() == len(expected)
    for dealer in expected:
        commitments, sealed, _ = parties[dealer].dealt[index]
        assert fields.u32() == dealer and [fields.take(32), fields.take(32)] == commitments
        assert fields.string() == b"" and fields.string() == sealed
    fields.end()
    values, bits = c["vector_len"], c["bits"]
    masked = [value % 2**bits for value in party.input]
    for sign, key, counter in party.masks:
        stream = mask(c["prg"], key, counter, values, bits)
        masked = [(value + sign * element) % 2**bits for value, element in zip(masked, stream)]
    assert pack(masked, bits) == party.packed
    fields = Fields(party.masked_input, 5, context)
    assert fields.u32() == index
    dealers = u32(len(expected)) + b"".join(u32(dealer) for dealer in expected)
    assert fields.take(32) == sha256(string(label("dealers")) + context + dealers).digest()
    assert fields.take(8) == u64(len(party.packed))
    assert fields.take(32) == sha256(party.packed).digest()
    fields.take(64)
    fields.end()
    verify_message(party.public, party.masked_input)


def check_survivors(context, parties, survivors, root):
    bitmap = sum(1 << index for index in survivors).to_bytes((len(parties) + 7) // 8, "little")
    survivor_set = u32(len(parties)) + string(bitmap)
    statement = string(label("survivors signature")) + VERSION + context + root + survivor_set
    signatures = {}
    for index in survivors:
        fields = Fields(parties[index].survivor_list, 6, context)
        assert fields.rest == survivor_set
        fields = Fields(parties[index].consistency_signature, 7, context)
        assert fields.u32() == index
        signatures[index] = fields.take(64)
        fields.end()
        verify(parties[index].public, statement, signatures[index])
    for index in survivors:
        fields = Fields(parties[index].signature_list, 8, context)
        listed = [(fields.u32(), fields.take(64)) for _ in range(fields.u32())]
        assert listed == [(other, signature) for other, signature in signatures.items() if other != index]
        fields.end()


def check_unmasking(context, t, parties, survivors):
    revealed = {dealer: {} for dealer in range(len(parties))}
    for index in survivors:
        message = parties[index].unmasking
        fields = Fields(message, 9, context)
        assert fields.u32() == index
        for _ in range(fields.u32()):
            dealer, role = fields.u32(), fields.take(1)[0]
            assert role == (1 if dealer in survivors else 0)
            share, salt = fields.take(32), fields.take(32)
            assert (share, salt) == parties[dealer].dealt[index][2][role]
            revealed[dealer][index] = int.from_bytes(share, "little")
        fields.take(64)
        fields.end()
        verify_message(parties[index].public, message)
    for dealer, shares in revealed.items():
        secret = lagrange(dict(list(shares.items())[:t])).to_bytes(32, "little")
        assert secret == (parties[dealer].self_seed if dealer in survivors else parties[dealer].root)


def check_sum(attempt, parties, survivors):
    """Takes off the survivors' self masks and the masks between them and dropouts."""
    c = attempt["context"]
    values, bits = c["vector_len"], c["bits"]
    packed = [unpack(parties[index].packed, values, bits) for index in survivors]
    total = [sum(column) for column in zip(*packed)]
    off = [(-1, parties[index].masks[0]) for index in survivors]
    for index in set(range(len(parties))) - set(survivors):
        masks = zip(parties[index].pair_masks, parties[index].masks[1:])
        off += [(1, own) for known, own in masks if known["peer"] in survivors]
    for factor, (sign, key, counter) in off:
        stream = mask(c["prg"], key, counter, values, bits)
        total = [value + factor * sign * element for value, element in zip(total, stream)]
    half = 2 ** (bits - 1)
    assert [(value + half) % 2**bits - half for value in total] == attempt["sum"]
    assert attempt["sum"] == [sum(column) for column in zip(*(parties[index].input for index in survivors))]


def check_attempt(attempt):
    c = attempt["context"]
    context = context_digest(c)
    assert context.hex() == attempt["context_digest"]
    parties = [Party(known) for known in attempt["participants"]]
    k, t = topology(len(parties), c["corrupt"], c["max_dropout_fraction"])
    assert (k, t) == (attempt["k"], attempt["t"])
    survivors = [index for index, party in enumerate(parties) if hasattr(party, "unmasking")]
    for party in parties:
        check_keys(context, party)
    for index in range(len(parties)):
        root, expected = check_roster(attempt, context, parties, index)
        check_shares(context, t, parties, index)
        check_masks(context, parties, index, expected)
    for index in survivors:
        check_input(c, context, parties, index, neighbours(len(parties), k, context, root, index))
    check_survivors(context, parties, survivors, root)
    check_unmasking(context, t, parties, survivors)
    check_sum(attempt, parties, survivors)
    return context


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        vectors = json.load(file)
    contexts = [check_attempt(attempt) for attempt in vectors["attempts"]]
    for graph in vectors["graphs"]:
        n, root = graph["n"], bytes.fromhex(graph["roster_root"])
        k, t = topology(n, graph["corrupt"], graph["max_dropout_fraction"])
        assert (k, t) == (graph["k"], graph["t"]), (n, k, t)
        for index, expected in enumerate(graph["neighbours"]):
            assert neighbours(n, k, contexts[0], root, index) == expected
    print("ok")


if __name__ == "__main__":
    main()
