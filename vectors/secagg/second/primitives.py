"""What the protocol is made of: notation, signatures, agreement, derivation, sharing, trees, graphs, masks.

Section names are those of docs/protocol.md.
"""

import math
import struct
from hashlib import sha256

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ORDER = 2**252 + 27742317777372353535851937790883648493
VERSION = struct.pack("<H", 3)
NEIGHBOURS_MAX = 4096
ROSTER_MAX = 100_000


# Notation


def label(purpose):
    return b"sordino/secagg/v3/" + purpose.encode()


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def string(data):
    return u32(len(data)) + data


def hash_of(*parts):
    return sha256(b"".join(parts)).digest()


def is_name(name):
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    return 8 <= len(name) <= 64 and all(byte in plain for byte in name)


# Context

PRGS = {"AES-256-CTR": 0, "AES-128-CTR": 1}


def context_digest(c):
    """The digest of a context as protocol-v3.json writes it; byte strings may be bytes or hexadecimal."""

    def raw(name, of=c):
        value = of[name] if isinstance(of[name], bytes) else bytes.fromhex(of[name])
        assert len(value) == 32
        return value

    proof, terms = c["proof"], bytes([0])
    if proof is not None:
        terms = bytes([1]) + raw("claim", proof) + u32(proof["commitments_len"]) + u32(proof["proof_len"])

    return hash_of(
        string(label("context")), VERSION, string(c["federation"].encode()), string(c["task"].encode()),
        u64(c["round"]), u32(c["attempt"]), raw("nonce"), raw("policy"), raw("model"),
        u64(c["vector_len"]), bytes([c["bits"], PRGS[c["prg"]], c["pq"]]),
        u32(c["min_survivors"]), u32(c["corrupt"]), struct.pack("<d", c["max_dropout_fraction"]),
        terms,
    )  # fmt: skip


# Signatures and agreement

_P = 2**255 - 19
_Y_OF_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = {0, 1, _P - 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8}


def _is_plain_point(encoded):
    """Canonically encoded, and not of small order."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return y < _P and y not in _SMALL_ORDER


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def is_signed(key, statement, signature):
    """By an Ed25519 key of 32 bytes, or by a P-256 key, which is a point of 65 bytes."""
    verifies = _p256_verifies if len(key) == 65 else _ed25519_verifies
    return len(signature) == 64 and verifies(key, statement, signature)


def _p256_verifies(key, statement, signature):
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if s > P256_ORDER // 2:
        return False
    try:
        key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), key)
        key.verify(encode_dss_signature(r, s), statement, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _ed25519_verifies(key, statement, signature):
    """Strictly; the library checks that S is canonical."""
    if len(key) != 32 or not _is_plain_point(key) or not _is_plain_point(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def x25519_public(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def x25519(secret, public):
    """None where the secret would be 0: the key is of small order."""
    try:
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return None


def expand(secret, context, purpose, parts, length):
    info = b"".join(string(part) for part in [label(purpose), *parts])
    return HKDF(SHA256(), length, context, info).derive(secret)


# Inclusion proofs (RFC 9162)


def leaf(data):
    return hash_of(b"\x00", data)


def merkle_root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hash_of(b"\x01", merkle_root(leaves[:split]), merkle_root(leaves[split:]))


def merkle_path(leaves, index):
    """Section 2.1.3.1: from a leaf to the root, from below."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*merkle_path(leaves[:split], index), merkle_root(leaves[split:])]
    return [*merkle_path(leaves[split:], index - split), merkle_root(leaves[:split])]


def root_of_path(node, index, count, path):
    """Section 2.1.3.2: the root that a path leads to, or None for a path of another shape."""
    if index >= count:
        return None
    at, last = index, count - 1
    for sibling in path:
        if last == 0:
            return None
        if at % 2 or at == last:
            node = hash_of(b"\x01", sibling, node)
            while at % 2 == 0 and at:
                at, last = at >> 1, last >> 1
        else:
            node = hash_of(b"\x01", node, sibling)
        at, last = at >> 1, last >> 1
    return node if last == 0 else None


# Sharing


def scalar(data):
    """The scalar of 32 bytes, or None for an encoding that is not below the order."""
    value = int.from_bytes(data, "little")
    return value if len(data) == 32 and value < ORDER else None


def scalar_bytes(value):
    return value.to_bytes(32, "little")


def share_at(coefficients, holder):
    """The value at holder + 1 of the polynomial with these coefficients, from the constant term upwards."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * (holder + 1) + coefficient) % ORDER
    return value


def lagrange(shares):
    """The polynomial's value at 0, from {roster index: value}."""
    secret = 0
    for i, value in shares.items():
        numerator = denominator = 1
        for j in shares:
            if j != i:
                numerator = numerator * (j + 1) % ORDER
                denominator = denominator * (j - i) % ORDER
        secret += value * numerator * pow(denominator, -1, ORDER)
    return secret % ORDER


# The graph


def dropouts(n, fraction):
    return math.floor(n * fraction + 1e-6)


def quantile(population, marked, draws, probability_inverse):
    """Q, exactly: the smallest x with P(more than x marked) <= 1 / probability_inverse."""
    marked = min(marked, population)
    fewest, x = max(0, draws + marked - population), min(draws, marked)
    everything = math.comb(population, draws)
    term = math.comb(marked, x) * math.comb(population - marked, draws - x)
    more = 0
    while x > fewest:
        more += term
        if more * probability_inverse > everything:
            return x
        # From the number of draws with x marked ones to that with x - 1.
        unmarked = population - marked - draws + x
        term = term * x * unmarked // ((marked - x + 1) * (draws - x + 1))
        x -= 1
    return fewest


def topology(n, corrupt, fraction):
    """k and t, or None where no graph stands these faults."""
    silent = dropouts(n, fraction)
    faulty = (corrupt + silent) / n
    for k in range(2, min(n - 1, NEIGHBOURS_MAX + 1), 2):
        if faulty and math.log2(n) + k // 2 * math.log2(faulty) > -80:
            continue
        t = (k + quantile(n - 1, corrupt, k, 2**80 * n * n)) // 2 + 1
        if t + quantile(n - 1, silent, k, 2**30 * n) <= k:
            return k, t
    k = n - 1
    t = (k + min(corrupt, k)) // 2 + 1
    return (k, t) if t <= k - silent else None


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


# Masks and packed vectors


def _word(bits):
    return np.dtype("<u4") if bits <= 32 else np.dtype("<u8")


def ring_of(values, bits):
    """Signed values mod 2^b."""
    lanes = np.array(values, dtype=np.int64).astype("<u8") & np.uint64(2**bits - 1)
    return lanes.astype(_word(bits))


def centred(lanes, bits):
    """The representatives in [-2^(b-1), 2^(b-1))."""
    half = 2 ** (bits - 1)
    return [(int(lane) + half) % 2**bits - half for lane in lanes]


def mask(prg, key, counter, values, bits):
    """The first elements of a mask."""
    key = key if prg == "AES-256-CTR" else key[:16]
    word = _word(bits)
    stream = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(values * word.itemsize))
    return np.frombuffer(stream, dtype=word) & word.type(2**bits - 1)


def add(lanes, sign, other, bits):
    """Adds or takes away, mod 2^b."""
    total = lanes + other if sign == "+" else lanes - other
    return total & lanes.dtype.type(2**bits - 1)


def packed_len(values, bits):
    return (values * bits + 7) // 8


def pack(lanes, bits):
    spread = np.unpackbits(lanes.view(np.uint8).reshape(len(lanes), -1), axis=1, bitorder="little")
    return np.packbits(spread[:, :bits].reshape(-1), bitorder="little").tobytes()


def unpack(data, values, bits):
    """The values of a packed vector; raises where its length or the bits behind the last value are wrong."""
    spread = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    if len(data) != packed_len(values, bits) or spread[values * bits :].any():
        raise ValueError("not a packed vector of this length")
    word = _word(bits)
    lanes = np.zeros((values, word.itemsize * 8), dtype=np.uint8)
    lanes[:, :bits] = spread[: values * bits].reshape(values, bits)
    return np.packbits(lanes, axis=1, bitorder="little").view(word).reshape(values)
