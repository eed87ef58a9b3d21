"""The nine messages, read strictly and written: "Who says what" in docs/protocol.md."""

from dataclasses import dataclass, field
from typing import NamedTuple

from .primitives import NEIGHBOURS_MAX, ROSTER_MAX, VERSION, hash_of, is_name, label, leaf, string, u32, u64

ADVERTISEMENT, ROSTER, SEALED, DELIVERED, MASKED, SURVIVORS, CONSISTENCY, SIGNATURES, REVEALED = range(1, 10)
ADVERTISEMENT_MAX, CERTIFICATES_MAX, KEM_KEY_LEN, ENCAPSULATION_LEN = 20480, 16384, 1184, 1088
RECORD_MAX, SEALED_LEN, ROSTER_PATH_MAX, RECORD_PATH_MAX, COMMITMENTS_MAX = 2400, 144, 17, 12, 2**19


class Malformed(ValueError):
    """Bytes that are no message of their type."""


class Fields:
    """Takes fields from the front of bytes, and nothing that is not there."""

    def __init__(self, data):
        self.rest = data

    def take(self, count):
        if len(self.rest) < count:
            raise Malformed(f"{count} bytes are missing")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def u32(self):
        return int.from_bytes(self.take(4), "little")

    def string(self, most):
        length = self.u32()
        if length > most:
            raise Malformed(f"a string of {length} bytes, at most {most} are allowed")
        return self.take(length)

    def exactly(self, *lengths):
        data = self.string(max(lengths))
        if len(data) not in lengths:
            raise Malformed(f"a string of {len(data)} bytes where {lengths} belong")
        return data

    def count(self, most, item_len):
        count = self.u32()
        if count > most or count * item_len > len(self.rest):
            raise Malformed(f"a list of {count} items")
        return count

    def path(self, most):
        return [self.take(32) for _ in range(self.count(most, 32))]

    def end(self):
        if self.rest:
            raise Malformed(f"{len(self.rest)} bytes behind the last field")


def begin(kind, context):
    return VERSION + kind.to_bytes(2, "little") + context


def opened(message, kind):
    """The fields behind the first 36 bytes, and the context."""
    fields = Fields(message)
    if fields.take(2) != VERSION:
        raise Malformed("another version")
    if fields.take(2) != kind.to_bytes(2, "little"):
        raise Malformed("another type of message")
    return fields, fields.take(32)


def signed(message, sign):
    """The message with its signature behind it."""
    return message + sign(label("message signature") + message)


def message_statement(message):
    """What the signature at the end of a message stands for, and the signature."""
    return label("message signature") + message[:-64], message[-64:]


class Keys(NamedTuple):
    x25519: bytes
    kem: bytes

    @classmethod
    def read(cls, fields):
        return cls(fields.take(32), fields.exactly(0, KEM_KEY_LEN))

    def bytes(self):
        return self.x25519 + string(self.kem)


@dataclass
class Advertisement:
    context: bytes
    name: bytes
    channel: Keys
    mask: Keys
    certificates: bytes

    @classmethod
    def read(cls, message):
        fields, context = opened(message, ADVERTISEMENT)
        name = fields.string(64)
        if not is_name(name):
            raise Malformed("not a name")
        parsed = cls(context, name, Keys.read(fields), Keys.read(fields), fields.string(CERTIFICATES_MAX))
        fields.take(64)
        fields.end()
        return parsed

    def bytes(self, sign):
        body = string(self.name) + self.channel.bytes() + self.mask.bytes() + string(self.certificates)
        return signed(begin(ADVERTISEMENT, self.context) + body, sign)


def roster_leaf(name, advertisement):
    return leaf(string(name) + hash_of(advertisement))


class Announced(NamedTuple):
    index: int
    advertisement: bytes
    path: list


@dataclass
class Roster:
    context: bytes
    index: int
    n: int
    root: bytes
    path: list
    signature: bytes
    neighbours: list

    @classmethod
    def read(cls, message):
        fields, context = opened(message, ROSTER)
        index, n = fields.u32(), fields.u32()
        if n > ROSTER_MAX:
            raise Malformed(f"a roster of {n}")
        root, path, signature = fields.take(32), fields.path(ROSTER_PATH_MAX), fields.take(64)
        count = fields.count(NEIGHBOURS_MAX, 12)
        neighbours = [
            Announced(fields.u32(), fields.string(ADVERTISEMENT_MAX), fields.path(ROSTER_PATH_MAX))
            for _ in range(count)
        ]
        fields.end()
        return cls(context, index, n, root, path, signature, neighbours)


def roster_statement(context, n, root):
    return string(label("roster signature")) + VERSION + context + u32(n) + root


@dataclass
class Record:
    """A sealed pair of shares."""

    holder: int
    commitments: tuple
    mask_encapsulation: bytes
    channel_encapsulation: bytes
    sealed: bytes

    @classmethod
    def take(cls, fields):
        holder, commitments = fields.u32(), (fields.take(32), fields.take(32))
        encapsulations = [fields.exactly(0, ENCAPSULATION_LEN) for _ in range(2)]
        return cls(holder, commitments, *encapsulations, fields.exactly(SEALED_LEN))

    @classmethod
    def read(cls, data):
        fields = Fields(data)
        record = cls.take(fields)
        fields.end()
        return record

    def bytes(self):
        strings = string(self.mask_encapsulation) + string(self.channel_encapsulation) + string(self.sealed)
        return u32(self.holder) + b"".join(self.commitments) + strings


def shares_statement(context, dealer, seed_commitment, commitments_hash, count, root):
    head = string(label("shares signature")) + VERSION + context
    return head + u32(dealer) + seed_commitment + commitments_hash + u32(count) + root


@dataclass
class SealedShares:
    context: bytes
    index: int
    seed_commitment: bytes
    commitments: bytes
    records: list
    signature: bytes = field(default=b"")

    @classmethod
    def read(cls, message):
        fields, context = opened(message, SEALED)
        index, seed_commitment, commitments = fields.u32(), fields.take(32), fields.string(COMMITMENTS_MAX)
        records = [Record.take(fields) for _ in range(fields.count(NEIGHBOURS_MAX, 80 + SEALED_LEN))]
        parsed = cls(context, index, seed_commitment, commitments, records, fields.take(64))
        fields.end()
        return parsed

    def bytes(self):
        body = u32(self.index) + self.seed_commitment + string(self.commitments) + u32(len(self.records))
        return begin(SEALED, self.context) + body + b"".join(map(Record.bytes, self.records)) + self.signature


@dataclass
class Delivery:
    dealer: int
    seed_commitment: bytes
    commitments_hash: bytes
    position: int
    record: bytes
    path: list
    signature: bytes


def read_deliveries(message):
    fields, context = opened(message, DELIVERED)
    deliveries = []
    for _ in range(fields.count(NEIGHBOURS_MAX, 144)):
        dealer, commitment, commitments_hash, position = fields.u32(), fields.take(32), fields.take(32), fields.u32()
        record, path = fields.string(RECORD_MAX), fields.path(RECORD_PATH_MAX)
        deliveries.append(Delivery(dealer, commitment, commitments_hash, position, record, path, fields.take(64)))
    fields.end()
    return context, deliveries


def masked_input(context, index, dealers, upload, complaints, sign):
    """`dealers` and `complaints`: ascending; the latter are those of the former whose shares did not open."""
    indices = u32(len(dealers)) + b"".join(map(u32, dealers))
    dealers_hash = hash_of(string(label("dealers")), context, indices)
    body = u32(index) + dealers_hash + u64(len(upload)) + hash_of(upload)
    body += u32(len(complaints)) + b"".join(map(u32, complaints))
    return signed(begin(MASKED, context) + body, sign)


class SurvivorSet:
    """Who survived: n, and a bitmap over the roster."""

    def __init__(self, n, bitmap):
        bits = int.from_bytes(bitmap, "little")
        if n > ROSTER_MAX or len(bitmap) != (n + 7) // 8 or bits >> n:
            raise Malformed(f"not a bitmap over {n}")
        self.n, self.bitmap = n, bitmap
        self.indices = {index for index in range(n) if bits >> index & 1}

    @classmethod
    def read(cls, message):
        """With the context, and the registrar's signature."""
        fields, context = opened(message, SURVIVORS)
        survivors, signature = cls(fields.u32(), fields.string(12500)), fields.take(64)
        fields.end()
        return context, survivors, signature

    def statement(self, context, root):
        """What a survivor signs."""
        return self._signed("survivors signature", context, root)

    def list_statement(self, context, root):
        """What the registrar signs."""
        return self._signed("survivor list signature", context, root)

    def _signed(self, purpose, context, root):
        return string(label(purpose)) + VERSION + context + root + u32(self.n) + string(self.bitmap)


def consistency_signature(context, index, signature):
    return begin(CONSISTENCY, context) + u32(index) + signature


def read_signatures(message):
    fields, context = opened(message, SIGNATURES)
    count = fields.count(NEIGHBOURS_MAX, 68)
    signatures = [(fields.u32(), fields.take(64)) for _ in range(count)]
    fields.end()
    return context, signatures


def revealed_shares(context, index, shares, sign):
    """`shares`: dealer, role, share and salt, ascending by dealer."""
    entries = b"".join(u32(dealer) + bytes([role]) + share + salt for dealer, role, share, salt in shares)
    return signed(begin(REVEALED, context) + u32(index) + u32(len(shares)) + entries, sign)
