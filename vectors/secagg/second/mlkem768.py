"""ML-KEM-768 (FIPS 203) with NumPy: key generation from a seed, encapsulation with given coins, decapsulation.

For tests: it runs in no constant time. Names and algorithm numbers are those of FIPS 203.
"""

import hmac
from hashlib import sha3_256, sha3_512, shake_128, shake_256

import numpy as np

N, Q, K = 256, 3329, 3
ETA, D_U, D_V = 2, 10, 4
SEED_LEN, COINS_LEN, KEY_LEN, CIPHERTEXT_LEN = 64, 32, 1184, 1088
POLYNOMIAL_LEN = 384


class InvalidKey(ValueError):
    """Bytes that are no encapsulation key (section 7.2)."""


def _reversed_powers(exponent):
    """17 to the power exponent(BitRev7(i)), for i below 128."""
    reversals = [int(f"{i:07b}"[::-1], 2) for i in range(128)]
    return np.array([pow(17, exponent(i), Q) for i in reversals], dtype=np.int64)


ZETAS = _reversed_powers(lambda i: i)
GAMMAS = _reversed_powers(lambda i: 2 * i + 1)
INVERSE_OF_128 = 3303


def _ntt(f):
    """Algorithm 9, over the last axis."""
    i, length = 1, 128
    while length >= 2:
        blocks = N // (2 * length)
        f = f.reshape(*f.shape[:1], blocks, 2, length)
        t = ZETAS[i : i + blocks, None] * f[..., 1, :] % Q
        f = np.stack([(f[..., 0, :] + t) % Q, (f[..., 0, :] - t) % Q], axis=-2).reshape(-1, N)
        i, length = i + blocks, length // 2
    return f


def _inverse_ntt(f):
    """Algorithm 10, over the last axis."""
    i, length = 127, 2
    while length <= 128:
        blocks = N // (2 * length)
        f = f.reshape(*f.shape[:1], blocks, 2, length)
        zetas = ZETAS[i - blocks + 1 : i + 1][::-1, None]
        total, difference = (f[..., 0, :] + f[..., 1, :]) % Q, (f[..., 1, :] - f[..., 0, :]) % Q
        f = np.stack([total, zetas * difference % Q], axis=-2).reshape(-1, N)
        i, length = i - blocks, length * 2
    return f * INVERSE_OF_128 % Q


def _multiply(f, g):
    """Algorithm 11: products in the NTT domain, over the last axis."""
    f0, f1, g0, g1 = f[..., 0::2], f[..., 1::2], g[..., 0::2], g[..., 1::2]
    product = np.empty(np.broadcast(f, g).shape, dtype=np.int64)
    product[..., 0::2] = (f0 * g0 + f1 * g1 % Q * GAMMAS) % Q
    product[..., 1::2] = (f0 * g1 + f1 * g0) % Q
    return product


def _encode(values, d):
    """Algorithm 5: d bits of each value, the lowest first."""
    bits = values.reshape(-1, 1) >> np.arange(d) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def _decode(data, d):
    """Algorithm 6 without the reduction mod q, as rows of 256 values."""
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little").reshape(-1, d)
    return (bits.astype(np.int64) << np.arange(d)).sum(axis=1).reshape(-1, N)


def _compress(values, d):
    return (2 * (values << d) + Q) // (2 * Q) % (1 << d)


def _decompress(values, d):
    return (2 * Q * values + (1 << d)) >> (d + 1)


def _sample_ntt(seed):
    """Algorithm 7: rejection sampling of a uniform polynomial."""
    taken, blocks = np.empty(0, dtype=np.int64), 3
    while len(taken) < N:
        stream = np.frombuffer(shake_128(seed).digest(168 * blocks), dtype=np.uint8).reshape(-1, 3).astype(np.int64)
        low = stream[:, 0] + 256 * (stream[:, 1] % 16)
        high = stream[:, 1] // 16 + 16 * stream[:, 2]
        candidates = np.stack([low, high], axis=1).reshape(-1)
        taken, blocks = candidates[candidates < Q], blocks + 1
    return taken[:N]


def _sample_cbd(seed, counter):
    """Algorithm 8 of PRF(seed, counter)."""
    stream = shake_256(seed + bytes([counter])).digest(64 * ETA)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), bitorder="little").astype(np.int64)
    halves = bits.reshape(N, 2, ETA).sum(axis=2)
    return (halves[:, 0] - halves[:, 1]) % Q


def _matrix(rho):
    """A, by rows: entry [i][j] is sampled from rho, j, i."""
    entries = [[_sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]
    return np.array(entries)


def _pke_keys(d):
    """Algorithm 13: the encryption key, and the secret in the NTT domain."""
    expanded = sha3_512(d + bytes([K])).digest()
    rho, sigma = expanded[:32], expanded[32:]
    s = _ntt(np.array([_sample_cbd(sigma, i) for i in range(K)]))
    e = _ntt(np.array([_sample_cbd(sigma, K + i) for i in range(K)]))
    t = (_multiply(_matrix(rho), s).sum(axis=1) + e) % Q
    return _encode(t, 12) + rho, s


def _encrypt(key, message, coins):
    """Algorithm 14."""
    t, rho = _decode(key[: K * POLYNOMIAL_LEN], 12), key[K * POLYNOMIAL_LEN :]
    y = _ntt(np.array([_sample_cbd(coins, i) for i in range(K)]))
    e1 = np.array([_sample_cbd(coins, K + i) for i in range(K)])
    e2 = _sample_cbd(coins, 2 * K)
    transposed = _matrix(rho).transpose(1, 0, 2)
    u = (_inverse_ntt(_multiply(transposed, y).sum(axis=1) % Q) + e1) % Q
    v = _inverse_ntt(_multiply(t, y).sum(axis=0, keepdims=True) % Q)[0]
    v = (v + e2 + _decompress(_decode(message, 1)[0], 1)) % Q
    return _encode(_compress(u, D_U), D_U) + _encode(_compress(v, D_V), D_V)


def _decrypt(s, ciphertext):
    """Algorithm 15."""
    split = 32 * D_U * K
    u = _decompress(_decode(ciphertext[:split], D_U), D_U)
    v = _decompress(_decode(ciphertext[split:], D_V)[0], D_V)
    w = (v - _inverse_ntt(_multiply(s, _ntt(u)).sum(axis=0, keepdims=True) % Q)[0]) % Q
    return _encode(_compress(w, 1), 1)


def check_key(key):
    """The type check and the modulus check of section 7.2."""
    if len(key) != KEY_LEN:
        raise InvalidKey(f"an ML-KEM-768 key has {KEY_LEN} bytes, this one {len(key)}")
    if (_decode(key[: K * POLYNOMIAL_LEN], 12) >= Q).any():
        raise InvalidKey("a coefficient of the ML-KEM-768 key is not below 3329")


def encapsulate(key, coins):
    """Algorithm 17: the ciphertext and the shared secret."""
    check_key(key)
    if len(coins) != COINS_LEN:
        raise ValueError(f"an encapsulation takes {COINS_LEN} bytes of coins, got {len(coins)}")
    expanded = sha3_512(coins + sha3_256(key).digest()).digest()
    return _encrypt(key, coins, expanded[32:]), expanded[:32]


class SecretKey:
    """A decapsulation key, from its seed d || z (Algorithm 16)."""

    def __init__(self, seed):
        if len(seed) != SEED_LEN:
            raise ValueError(f"an ML-KEM-768 seed has {SEED_LEN} bytes, got {len(seed)}")
        self.public, self._s = _pke_keys(seed[:32])
        self._z = seed[32:]

    def expanded(self):
        """The decapsulation key as bytes, as FIPS 203 writes it."""
        return _encode(self._s, 12) + self.public + sha3_256(self.public).digest() + self._z

    def decapsulate(self, ciphertext):
        """Algorithm 18: with implicit rejection, a secret that nobody else knows for what nobody made for this key."""
        if len(ciphertext) != CIPHERTEXT_LEN:
            raise ValueError(f"an ML-KEM-768 ciphertext has {CIPHERTEXT_LEN} bytes, got {len(ciphertext)}")
        message = _decrypt(self._s, ciphertext)
        expanded = sha3_512(message + sha3_256(self.public).digest()).digest()
        again = _encrypt(self.public, message, expanded[32:])
        if hmac.compare_digest(again, ciphertext):
            return expanded[:32]
        return shake_256(self._z + ciphertext).digest(32)
