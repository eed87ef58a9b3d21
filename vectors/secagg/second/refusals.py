"""What a participant must refuse: each of the coordinator's messages of a known attempt, changed in one way.

The coordinator cannot sign for others: its messages are put together anew, others' signatures stay as they are.
"""

from . import messages
from .attempt import Refusal
from .messages import Delivery, Roster, SurvivorSet
from .primitives import string, u32


def check(vectors, begin):
    """Tries every change on the first participant, and returns how many there were.

    - `begin`: gives a participant of the attempt, by its index, before its first answer.
    """
    known = vectors["participants"]
    mine = {name: bytes.fromhex(value) for name, value in known[0].items() if name in _MESSAGES}
    tried = 0
    for position, (step, changes) in enumerate(_STEPS):
        for name, changed in changes(mine[_MESSAGES[position]], vectors):
            attempt = begin(0)
            for earlier, message in zip(_MESSAGES[:position], _STEPS):
                getattr(attempt, message[0])(mine[earlier])
            _refuses(getattr(attempt, step), changed, f"{step}: {name}")
            tried += 1
    return tried


def _refuses(answer, message, name):
    try:
        answer(message)
    except Refusal:
        return
    raise AssertionError(f"not refused: {name}")


def _flipped(message, at):
    changed = bytearray(message)
    changed[at] ^= 1
    return bytes(changed)


def _any_message(message):
    yield "another version", _flipped(message, 0)
    yield "another type", _flipped(message, 2)
    yield "another context", _flipped(message, 4)
    yield "cut short", message[:-1]
    yield "a byte more", message + b"\0"
    yield "nothing", b""


def _path(path):
    return u32(len(path)) + b"".join(path)


def _roster(roster):
    neighbours = b"".join(
        u32(index) + string(advertisement) + _path(path) for index, advertisement, path in roster.neighbours
    )
    head = messages.begin(messages.ROSTER, roster.context) + u32(roster.index) + u32(roster.n) + roster.root
    return head + _path(roster.path) + roster.signature + u32(len(roster.neighbours)) + neighbours


def _rosters(message, vectors):
    def changed(**fields):
        roster = Roster.read(message)
        for name, value in fields.items():
            setattr(roster, name, value)
        return _roster(roster)

    assert changed() == message
    roster = Roster.read(message)
    first, second, third = roster.neighbours
    other = bytes.fromhex(vectors["participants"][0]["advertise_keys"])
    end = len(first.advertisement)
    yield from _any_message(message)
    yield "another place of this participant", changed(index=1)
    yield "a smaller roster", changed(n=3)
    yield "fewer than the minimum", changed(n=2)
    yield "a larger roster", changed(n=5)
    yield "another root", changed(root=_flipped(roster.root, 0))
    yield "another path", changed(path=[_flipped(roster.path[0], 0), *roster.path[1:]])
    yield "a longer path", changed(path=[*roster.path, bytes(32)])
    yield "not signed by the registrar", changed(signature=_flipped(roster.signature, 0))
    yield "a neighbour is missing", changed(neighbours=[first, second])
    yield "neighbours in another order", changed(neighbours=[second, first, third])
    yield "a neighbour twice", changed(neighbours=[first, first, third])
    yield "a neighbour that is this one", changed(neighbours=[first._replace(advertisement=other), second, third])
    for name, at in [("name", 44), ("channel key", 53), ("signature", end - 1)]:
        forged = first._replace(advertisement=_flipped(first.advertisement, at))
        yield f"another {name} of a neighbour", changed(neighbours=[forged, second, third])
    moved = first._replace(path=second.path)
    yield "a neighbour's path", changed(neighbours=[moved, second, third])


def _delivery(delivery):
    head = u32(delivery.dealer) + delivery.seed_commitment + delivery.commitments_hash + u32(delivery.position)
    return head + string(delivery.record) + _path(delivery.path) + delivery.signature


def _deliveries(message, vectors):
    context, deliveries = messages.read_deliveries(message)

    def delivered(*those):
        return messages.begin(messages.DELIVERED, context) + u32(len(those)) + b"".join(map(_delivery, those))

    def altered(delivery, **fields):
        return Delivery(**{**vars(delivery), **fields})

    assert delivered(*deliveries) == message
    first, second, third = deliveries
    yield from _any_message(message)
    yield "nobody's shares", delivered()
    yield "fewer than the threshold", delivered(first)
    yield "one dealer twice", delivered(first, first, third)
    yield "in another order", delivered(second, first, third)
    yield "from this participant itself", delivered(altered(first, dealer=0), second, third)
    yield "another dealer's name", delivered(altered(first, dealer=2), third)
    yield (
        "another commitment to the seed",
        delivered(altered(first, seed_commitment=_flipped(first.seed_commitment, 0)), second, third),
    )
    yield (
        "another digest of the commitments",
        delivered(altered(first, commitments_hash=_flipped(first.commitments_hash, 0)), second, third),
    )
    yield "another place", delivered(altered(first, position=1), second, third)
    yield "for somebody else", delivered(altered(first, record=_flipped(first.record, 0)), second, third)
    yield "another commitment", delivered(altered(first, record=_flipped(first.record, 4)), second, third)
    yield "another ciphertext", delivered(altered(first, record=_flipped(first.record, -1)), second, third)
    yield "another path", delivered(altered(first, path=second.path), second, third)
    yield "another signature", delivered(altered(first, signature=second.signature), second, third)


def _survivor_lists(message, vectors):
    context, survivors, signature = SurvivorSet.read(message)
    head = messages.begin(messages.SURVIVORS, context)

    def listed(n, bitmap):
        return head + u32(n) + string(bitmap) + signature

    assert listed(survivors.n, survivors.bitmap) == message
    yield from _any_message(message)
    yield "over another roster", listed(5, survivors.bitmap)
    yield "without this participant", listed(4, bytes([0b1110]))
    yield "fewer than the minimum", listed(4, bytes([0b0011]))
    yield "somebody outside of the roster", listed(4, bytes([0b10111]))
    yield "a longer bitmap", listed(4, bytes([0b0111, 0]))
    yield "without the registrar's signature", head + u32(survivors.n) + string(survivors.bitmap)
    yield "another signature of the registrar", _flipped(message, -64)


def _signature_lists(message, vectors):
    context, listed = messages.read_signatures(message)
    head = messages.begin(messages.SIGNATURES, context)

    def signatures(*those):
        return head + u32(len(those)) + b"".join(u32(signer) + signature for signer, signature in those)

    assert signatures(*listed) == message
    (first, signed), (second, other) = listed
    yield from _any_message(message)
    yield "nobody's", signatures()
    yield "fewer than the threshold", signatures((first, signed))
    yield "one signer twice", signatures((first, signed), (first, signed))
    yield "in another order", signatures((second, other), (first, signed))
    yield "under another name", signatures((first, other), (second, signed))
    yield "of a dropout", signatures((first, signed), (3, other))
    yield "of this participant", signatures((0, signed), (first, signed), (second, other))
    yield "another signature", signatures((first, _flipped(signed, 0)), (second, other))


_STEPS = [
    ("share_keys", _rosters),
    ("mask_input", _deliveries),
    ("sign_survivors", _survivor_lists),
    ("reveal", _signature_lists),
]
_MESSAGES = ["roster", "delivered_shares", "survivor_list", "signature_list"]
