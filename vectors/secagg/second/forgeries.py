"""What a participant must refuse although the registrar or a neighbour signed it: whole rosters are made here.

Each participant of a `World` is one of this implementation; the coordinator puts together what it likes.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from . import messages
from .attempt import Attempt, Refusal
from .messages import Advertisement, Keys, Record, SealedShares, SurvivorSet
from .primitives import ORDER, context_digest, hash_of, leaf, merkle_path, merkle_root, string, u32

CONTEXT = {
    "federation": "forged.example", "task": "forgeries", "round": 1, "attempt": 1, "nonce": bytes(32),
    "policy": bytes([1] * 32), "model": bytes([2] * 32), "vector_len": 3, "bits": 12, "prg": "AES-256-CTR", "pq": True,
    "min_survivors": 3, "corrupt": 0, "max_dropout_fraction": 0.25, "proof": None,
}  # fmt: skip


class World:
    """Participants who have advertised; `self.attempts[0]` is the one that is lied to."""

    def __init__(self, n=4, dealers=None, attachment=None, **changes):
        self.context = {**CONTEXT, **changes}
        self.digest = context_digest(self.context)
        self.registry = Ed25519PrivateKey.generate()
        self.registrar = self.registry.public_key().public_bytes_raw()
        self.keys = [Ed25519PrivateKey.generate() for _ in range(n)]
        self.certificates = [key.public_key().public_bytes_raw() for key in self.keys]
        kinds = [(dealers or {}).get(index, Attempt) for index in range(n)]
        self.attempts = [
            kind(
                self.context, self.name(index), self.certificates[index], key.sign, self, [index, -index, 7],
                attachment=attachment,
            )  # fmt: skip
            for index, (kind, key) in enumerate(zip(kinds, self.keys))
        ]
        self.advertised = [attempt.advertisement for attempt in self.attempts]

    def name(self, index):
        return f"participant-{index}".encode()

    def participant(self, name, certificates):
        """Trust: a certificate is a bare key, and everybody is known."""
        if certificates not in self.certificates or name != self.name(self.certificates.index(certificates)):
            raise Refusal("an unknown certificate")
        return certificates

    def forge(self, index, signer=None, **changes):
        """Another advertisement of a participant, signed by itself or by another one."""
        parsed = Advertisement.read(self.advertised[index])
        for field, value in changes.items():
            setattr(parsed, field, value)
        self.advertised[index] = parsed.bytes(self.keys[index if signer is None else signer].sign)
        return self

    def roster(self, receiver):
        """In the complete graph, signed by the registrar whatever it holds."""
        names = [self.name(index) for index in range(len(self.keys))]
        leaves = [messages.roster_leaf(name, said) for name, said in zip(names, self.advertised)]
        n, root = len(leaves), merkle_root(leaves)
        signature = self.registry.sign(messages.roster_statement(self.digest, n, root))
        neighbours = b"".join(
            u32(index) + string(self.advertised[index]) + path(merkle_path(leaves, index))
            for index in range(n)
            if index != receiver
        )
        head = messages.begin(messages.ROSTER, self.digest) + u32(receiver) + u32(n) + root
        return head + path(merkle_path(leaves, receiver)) + signature + u32(n - 1) + neighbours

    def share(self):
        """Everybody shares keys; their messages."""
        return [SealedShares.read(attempt.share_keys(self.roster(at))) for at, attempt in enumerate(self.attempts)]

    def deliver(self, shared, dealers, changed=None):
        """To the first participant, each dealer's signature made anew over records that `changed` may change."""
        deliveries = b""
        for dealer in dealers:
            records = [changed(dealer, record) if changed else record for record in shared[dealer].records]
            leaves = [leaf(record.bytes()) for record in records]
            committed, count = (shared[dealer].seed_commitment, hash_of(shared[dealer].commitments)), len(records)
            statement = messages.shares_statement(self.digest, dealer, *committed, count, merkle_root(leaves))
            deliveries += u32(dealer) + b"".join(committed) + u32(0) + string(records[0].bytes())
            deliveries += path(merkle_path(leaves, 0)) + self.keys[dealer].sign(statement)
        return messages.begin(messages.DELIVERED, self.digest) + u32(len(dealers)) + deliveries

    def survivors(self, indices):
        """A list, signed by the registrar whatever it holds."""
        n = len(self.keys)
        bitmap = sum(1 << index for index in indices).to_bytes((n + 7) // 8, "little")
        signed = SurvivorSet(n, bitmap).list_statement(self.digest, self.attempts[0].roster_root)
        return messages.begin(messages.SURVIVORS, self.digest) + u32(n) + string(bitmap) + self.registry.sign(signed)

    def signatures(self, indices, signers):
        """Those of a survivor set by these participants."""
        _, survivors, _ = SurvivorSet.read(self.survivors(indices))
        statement = survivors.statement(self.digest, self.attempts[0].roster_root)
        signed = [u32(index) + self.keys[index].sign(statement) for index in signers]
        return messages.begin(messages.SIGNATURES, self.digest) + u32(len(signed)) + b"".join(signed)


def path(nodes):
    return u32(len(nodes)) + b"".join(nodes)


def check():
    """Tries everything; the evidence has to be the expected one."""
    _check_beginnings()
    _check_rosters()
    _check_deliveries()
    _check_survivors()
    _check_dealers_that_are_not_held()


def _refuses(evidence, answer, *arguments, **more):
    try:
        answer(*arguments, **more)
    except Refusal as refusal:
        assert evidence in str(refusal), f"refused for another reason than {evidence!r}: {refusal}"
        return
    raise AssertionError(f"not refused: {evidence}")


def _check_beginnings():
    _refuses("fewer than 3 inputs", World, min_survivors=2)
    _refuses("an input of 3 values", World, vector_len=4)
    terms = {"claim": bytes(32), "commitments_len": 2, "proof_len": 3}
    World(proof=terms, attachment=(b"co", b"pro"))
    for proof, attachment in [
        (None, (b"co", b"pro")), (terms, None), (terms, (b"c", b"pro")), (terms, (b"co", b"proo")), (None, (b"", b"")),
    ]:  # fmt: skip
        _refuses("commitments and a proof of", World, proof=proof, attachment=attachment)
    long = {**terms, "commitments_len": messages.COMMITMENTS_MAX + 1}
    _refuses("asks for 524289 bytes", World, proof=long, attachment=(bytes(messages.COMMITMENTS_MAX + 1), b"pro"))


def _check_rosters():
    def own(world):
        return Advertisement.read(world.advertised[1])

    def forged(signer=None, **changes):
        world = World()
        values = {field: change(own(world)) for field, change in changes.items()}
        return world.forge(1, signer, **values)

    zero, no_key = bytes(32), b"\xff" * messages.KEM_KEY_LEN
    for evidence, world in [
        ("small order", forged(channel=lambda said: Keys(zero, said.channel.kem))),
        ("small order", forged(mask=lambda said: Keys(zero, said.mask.kem))),
        ("another kind", forged(channel=lambda said: Keys(said.channel.x25519, b""))),
        ("another kind", forged(mask=lambda said: Keys(said.mask.x25519, b""))),
        ("not below 3329", forged(channel=lambda said: Keys(said.channel.x25519, no_key))),
        ("not below 3329", forged(mask=lambda said: Keys(said.mask.x25519, no_key))),
        ("did not sign", forged(signer=2)),
        ("another context", forged(context=lambda said: bytes(32))),
        ("unknown certificate", forged(certificates=lambda said: bytes(32))),
        ("not those in the roster", forged(name=lambda said: b"participant-9")),
        ("not a name", forged(name=lambda said: b"nobody")),
        ("the roster has 3", World(n=3, min_survivors=4)),
        ("no graph", World(corrupt=3)),
    ]:
        _refuses(evidence, world.attempts[0].share_keys, world.roster(0))
    world, other = World(pq=False), World()
    world.forge(1, mask=own(other).mask)
    _refuses("another kind", world.attempts[0].share_keys, world.roster(0))


def _check_deliveries():
    spare = bytes(messages.ENCAPSULATION_LEN)

    def only_of_first(change):
        return lambda dealer, record: Record(**{**vars(record), **change}) if dealer == 1 else record

    for change in [{"holder": 2}, {"channel_encapsulation": b""}, {"mask_encapsulation": spare}]:
        world = World()
        message = world.deliver(world.share(), [1, 2, 3], only_of_first(change))
        _refuses("not for this one", world.attempts[0].mask_input, message)
    # Signed, and yet they do not open: masked with, and not held.
    world = World(dealers={1: OfAnotherShare, 2: OfAnotherShare})
    world.attempts[0].mask_input(world.deliver(world.share(), [1, 2, 3]))
    held = world.attempts[0].held
    assert held[1] is None and held[2] is None and held[3] is not None
    world = World()
    _refuses("1 neighbours gave shares", world.attempts[0].mask_input, world.deliver(world.share(), [3]))


def _check_survivors():
    world = World(min_survivors=4)
    world.attempts[0].mask_input(world.deliver(world.share(), [1, 2, 3]))
    _refuses("3 survivors, the policy", world.attempts[0].sign_survivors, world.survivors([0, 1, 2]))
    world = World()
    world.attempts[0].mask_input(world.deliver(world.share(), [1, 2]))
    _refuses("never delivered", world.attempts[0].sign_survivors, world.survivors([0, 1, 2, 3]))
    # Two lists, of which the registrar signed the other one; and what a participant signs is not what the registrar signs.
    world = World()
    world.attempts[0].mask_input(world.deliver(world.share(), [1, 2, 3]))
    shown, signed = world.survivors([0, 1, 2, 3]), world.survivors([0, 1, 2])
    _refuses("did not sign this survivor list", world.attempts[0].sign_survivors, shown[:-64] + signed[-64:])
    _, survivors, _ = SurvivorSet.read(shown)
    as_a_survivor = world.registry.sign(survivors.statement(world.digest, world.attempts[0].roster_root))
    _refuses("did not sign this survivor list", world.attempts[0].sign_survivors, shown[:-64] + as_a_survivor)
    # A dropout signs what the survivors sign.
    world = World()
    world.attempts[0].mask_input(world.deliver(world.share(), [1, 2, 3]))
    world.attempts[0].sign_survivors(world.survivors([0, 1, 2]))
    _refuses("no surviving neighbour", world.attempts[0].reveal, world.signatures([0, 1, 2], [1, 2, 3]))
    # Of five, one may collude: three neighbours have to answer.
    world = World(n=5, corrupt=1, max_dropout_fraction=0.0)
    world.attempts[0].mask_input(world.deliver(world.share(), [1, 2, 3, 4]))
    _refuses("2 neighbours survived", world.attempts[0].sign_survivors, world.survivors([0, 1, 2]))


class OfNoScalar(Attempt):
    """Deals a share that is no scalar, and commits to it."""

    def _seal(self, holder, coefficients):
        share, salts = (ORDER + 1).to_bytes(32, "little"), self.draw.salts(holder.index)
        return self._commit_and_seal(holder, [share, share], salts)


class OfAnotherShare(Attempt):
    """Seals other shares than it commits to."""

    def _sealed(self, holder, commitments, plain):
        return super()._sealed(holder, commitments, bytes(32) + plain[32:])


def _check_dealers_that_are_not_held():
    """They cost one share: the input's header names them, the round goes on, and nothing of them is revealed."""
    for kind in (Attempt, OfNoScalar, OfAnotherShare):
        world = World(dealers={2: kind})
        first = world.attempts[0]
        header, _ = first.mask_input(world.deliver(world.share(), [1, 2, 3]))
        fields, _ = messages.opened(header, messages.MASKED)
        fields.take(4 + 32 + 8 + 32)
        complaints = [fields.u32() for _ in range(fields.count(messages.NEIGHBOURS_MAX, 4))]
        assert complaints == ([] if kind is Attempt else [2]), kind
        first.sign_survivors(world.survivors([0, 1, 2, 3]))
        fields, _ = messages.opened(first.reveal(world.signatures([0, 1, 2, 3], [1, 2, 3])), messages.REVEALED)
        assert fields.u32() == 0
        dealers = []
        for _ in range(fields.u32()):
            dealers.append(fields.u32())
            fields.take(65)
        assert dealers == ([1, 2, 3] if kind is Attempt else [1, 3]), kind
