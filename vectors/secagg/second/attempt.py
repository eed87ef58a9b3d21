"""A participant's part in one attempt: what it checks, and what it answers.

The order of the checks is that of docs/protocol.md. A coordinator that is not believed ends in a `Refusal`.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import messages, mlkem768
from .messages import Advertisement, Keys, Malformed, Record, Roster, SealedShares, SurvivorSet
from .primitives import (
    ORDER, VERSION, add, context_digest, expand, hash_of, is_signed, label, leaf, mask, merkle_root, neighbours, pack,
    ring_of, root_of_path, scalar, scalar_bytes, share_at, string, topology, x25519, x25519_public,
)  # fmt: skip

ROOT, SELF_SEED = 0, 1


class Refusal(Exception):
    """The evidence for which a participant takes no further part."""


class Randomness:
    """Where a participant's secrets come from. The known answers have one of their own."""

    def root(self):
        return secrets.randbelow(ORDER)

    def self_seed(self):
        return secrets.randbelow(ORDER)

    def channel_secret(self):
        return secrets.token_bytes(96)

    def coefficients(self, role, count):
        return [secrets.randbelow(ORDER) for _ in range(count)]

    def salts(self, holder):
        return secrets.token_bytes(32), secrets.token_bytes(32)

    def channel_coins(self, holder):
        return secrets.token_bytes(32)


class Neighbour:
    """A member of the roster as others see it."""

    def __init__(self, index, name, key, advertisement, channel, mask_keys):
        self.index, self.name, self.key = index, name, key
        self.advertised = hash_of(advertisement)
        self.channel, self.mask = channel, mask_keys


class SecretKeys:
    """The secret half of advertised keys."""

    def __init__(self, x25519_secret, kem_seed):
        self.x25519 = x25519_secret
        self.kem = mlkem768.SecretKey(kem_seed) if kem_seed else None

    def public(self):
        return Keys(x25519_public(self.x25519), self.kem.public if self.kem else b"")

    def agree(self, peer, kem_shared):
        """The agreed secret; the ML-KEM secret is empty where there is none."""
        shared = x25519(self.x25519, peer.x25519)
        if shared is None:
            raise Refusal("a neighbour's X25519 key is of small order")
        return shared + kem_shared


def mask_keys(context, root, pq):
    root = scalar_bytes(root)
    seed = expand(root, context, "mask ml-kem key", [], 64) if pq else None
    return SecretKeys(expand(root, context, "mask x25519 key", [], 32), seed)


def mask_coins(context, root, peer):
    return expand(scalar_bytes(root), context, "mask ml-kem coins", [peer.name, peer.advertised], 32)


def pair_mask(context, agreed, low, high, encapsulation):
    """Key and counter."""
    parts = [low.name, low.advertised, high.name, high.advertised, encapsulation]
    okm = expand(agreed, context, "pair mask", parts, 48)
    return okm[:32], okm[32:]


def self_mask(context, self_seed, name):
    okm = expand(scalar_bytes(self_seed), context, "self mask", [name], 48)
    return okm[:32], okm[32:]


def channel_key(context, agreed, sender, receiver, encapsulation):
    """Key and nonce of one direction."""
    parts = [sender.name, sender.advertised, receiver.name, receiver.advertised, encapsulation]
    okm = expand(agreed, context, "channel", parts, 44)
    return okm[:32], okm[32:]


def associated_data(context, sender, receiver, commitments):
    head = string(label("sealed shares")) + VERSION + context + string(sender.name) + string(receiver.name)
    return head + sender.advertised + receiver.advertised + b"".join(commitments)


def seed_commitment(context, name, self_seed):
    return hash_of(string(label("self-mask seed commitment")), context, string(name), scalar_bytes(self_seed))


def share_commitment(context, dealer, holder, role, share, salt):
    head = string(label("share commitment")) + context + string(dealer.name) + string(holder.name)
    return hash_of(head, bytes([role]), salt, share)


def _reading(read, message):
    try:
        return read(message)
    except Malformed as error:
        raise Refusal(f"a message cannot be read: {error}") from error


class Attempt:
    """One attempt, from the advertised keys to the revealed shares; each step is called once, in order.

    - `sign`: Ed25519 with the key of the certificate.
    - `trust`: `registrar`, the registrar's key, and `participant(name, certificates)`, which gives the key that a
      certificate chain certifies for that name, or raises `Refusal`.
    - `values`: the encoded input, signed integers.
    - `attachment`: where the context has terms of a proof, the commitments and the proof, byte strings.
    """

    def __init__(self, context, name, certificates, sign, trust, values, randomness=None, attachment=None):
        self.parameters, self.context = context, context_digest(context)
        self.sign, self.trust, self.draw = sign, trust, randomness or Randomness()
        if context["min_survivors"] < 3:
            raise Refusal("the policy opens sums of fewer than 3 inputs")
        if len(values) != context["vector_len"]:
            raise Refusal(f"an input of {len(values)} values for vectors of {context['vector_len']}")
        self._check_attachment(context["proof"], attachment)
        self.commitments, self.proof = attachment or (b"", b"")
        self.values, self.pq = values, context["pq"]
        self.root, channel = self.draw.root(), self.draw.channel_secret()
        self.channel_secret = SecretKeys(channel[:32], channel[32:] if self.pq else None)
        self.mask_secret = mask_keys(self.context, self.root, self.pq)
        public = self.channel_secret.public(), self.mask_secret.public()
        self.advertisement = Advertisement(self.context, name, *public, certificates).bytes(sign)
        self.name = name

    def _check_attachment(self, terms, attachment):
        expected = terms and (terms["commitments_len"], terms["proof_len"])
        if expected and expected[0] > messages.COMMITMENTS_MAX:
            raise Refusal(f"the attempt asks for {expected[0]} bytes of commitments")
        got = attachment and tuple(map(len, attachment))
        if got != expected:
            raise Refusal(f"an input with commitments and a proof of {got} bytes, the attempt takes {expected}")

    def _check_context(self, context):
        if context != self.context:
            raise Refusal("a message belongs to another context")

    # ShareKeys

    def share_keys(self, message):
        self._check_roster(message)
        self.self_seed = self.draw.self_seed()
        coefficients = [
            [secret, *self.draw.coefficients(role, self.t - 1)]
            for role, secret in [(ROOT, self.root), (SELF_SEED, self.self_seed)]
        ]
        records = [self._seal(holder, coefficients) for holder in self.neighbours.values()]
        commitment = seed_commitment(self.context, self.name, self.self_seed)
        shares = SealedShares(self.context, self.me.index, commitment, self.commitments, records)
        shares_root = merkle_root([leaf(record.bytes()) for record in records])
        committed = commitment, hash_of(self.commitments)
        statement = messages.shares_statement(self.context, self.me.index, *committed, len(records), shares_root)
        shares.signature = self.sign(statement)
        return shares.bytes()

    def _check_roster(self, message):
        roster = _reading(Roster.read, message)
        self._check_context(roster.context)
        c = self.parameters
        if roster.n < c["min_survivors"]:
            raise Refusal(f"the roster has {roster.n} participants")

        def stands(name, advertisement, index, path):
            node = messages.roster_leaf(name, advertisement)
            return root_of_path(node, index, roster.n, path) == roster.root

        if not stands(self.name, self.advertisement, roster.index, roster.path):
            raise Refusal("the roster does not hold the keys that were advertised here")
        statement = messages.roster_statement(self.context, roster.n, roster.root)
        if not is_signed(self.trust.registrar, statement, roster.signature):
            raise Refusal("the registrar did not sign this roster")
        graph = topology(roster.n, c["corrupt"], c["max_dropout_fraction"])
        if graph is None:
            raise Refusal("no graph stands the faults of the policy")
        self.n, (self.k, self.t), self.roster_root = roster.n, graph, roster.root
        expected = neighbours(self.n, self.k, self.context, self.roster_root, roster.index)
        if [neighbour.index for neighbour in roster.neighbours] != expected:
            raise Refusal("the neighbours are not those of the graph")
        self.me = Neighbour(roster.index, self.name, None, self.advertisement, None, None)
        self.neighbours = {neighbour.index: self._check_neighbour(neighbour, stands) for neighbour in roster.neighbours}

    def _check_neighbour(self, announced, stands):
        index, advertisement, path = announced
        parsed = _reading(Advertisement.read, advertisement)
        who = parsed.name.decode()
        if not stands(parsed.name, advertisement, index, path):
            raise Refusal(f"the keys of {who} are not those in the roster")
        self._check_context(parsed.context)
        key = self.trust.participant(parsed.name, parsed.certificates)
        for keys in (parsed.channel, parsed.mask):
            if x25519(bytes(32), keys.x25519) is None:
                raise Refusal(f"an X25519 key of {who} is of small order")
            if bool(keys.kem) != self.pq:
                raise Refusal(f"{who} advertised keys of another kind than the policy asks for")
            try:
                if self.pq:
                    mlkem768.check_key(keys.kem)
            except mlkem768.InvalidKey as error:
                raise Refusal(f"{who}: {error}") from error
        if not is_signed(key, *messages.message_statement(advertisement)):
            raise Refusal(f"{who} did not sign the keys in its name")
        return Neighbour(index, parsed.name, key, advertisement, parsed.channel, parsed.mask)

    def _seal(self, holder, coefficients):
        """The sealed pair for one neighbour."""
        shares = [scalar_bytes(share_at(polynomial, holder.index)) for polynomial in coefficients]
        return self._commit_and_seal(holder, shares, self.draw.salts(holder.index))

    def _commit_and_seal(self, holder, shares, salts):
        commitments = tuple(
            share_commitment(self.context, self.me, holder, role, shares[role], salts[role])
            for role in (ROOT, SELF_SEED)
        )
        return self._sealed(holder, commitments, shares[0] + salts[0] + shares[1] + salts[1])

    def _sealed(self, holder, commitments, plain):
        encapsulation, kem_shared = b"", b""
        if self.pq:
            encapsulation, kem_shared = mlkem768.encapsulate(holder.channel.kem, self.draw.channel_coins(holder.index))
        agreed = self.channel_secret.agree(holder.channel, kem_shared)
        key, nonce = channel_key(self.context, agreed, self.me, holder, encapsulation)
        sealed = AESGCM(key).encrypt(nonce, plain, associated_data(self.context, self.me, holder, commitments))
        for_mask, _ = self._encapsulate_mask(holder)
        return Record(holder.index, commitments, for_mask, encapsulation, sealed)

    def _encapsulate_mask(self, peer):
        """To the mask key of a neighbour with a higher index; nothing to others."""
        if not self.pq or peer.index < self.me.index:
            return b"", b""
        return mlkem768.encapsulate(peer.mask.kem, mask_coins(self.context, self.root, peer))

    # MaskedInput

    def mask_input(self, message):
        """The masked input's header, and what it names: the packed vector with the proof behind it."""
        records = self._check_deliveries(message)
        self.held = {dealer: self._open(self.neighbours[dealer], record) for dealer, record in records.items()}
        if len(records) < self.t:
            raise Refusal(f"{len(records)} neighbours gave shares, {self.t} are needed")
        prg, bits, values = self.parameters["prg"], self.parameters["bits"], self.parameters["vector_len"]
        key, counter = self_mask(self.context, self.self_seed, self.name)
        lanes = add(ring_of(self.values, bits), "+", mask(prg, key, counter, values, bits), bits)
        for dealer, record in records.items():
            sign, key, counter = self._pair_mask(self.neighbours[dealer], record)
            lanes = add(lanes, sign, mask(prg, key, counter, values, bits), bits)
        upload = pack(lanes, bits) + self.proof
        # Neither the input nor a secret of its own is needed any more.
        self.values = self.root = self.self_seed = self.mask_secret = self.channel_secret = self.proof = None
        complaints = [dealer for dealer, pair in self.held.items() if pair is None]
        header = messages.masked_input(self.context, self.me.index, list(records), upload, complaints, self.sign)
        return header, upload

    def _check_deliveries(self, message):
        context, deliveries = _reading(messages.read_deliveries, message)
        self._check_context(context)
        records, last = {}, -1
        for delivery in deliveries:
            dealer = delivery.dealer
            if dealer not in self.neighbours or dealer <= last:
                raise Refusal(f"shares of participant {dealer}, who is no neighbour or was delivered before")
            last = dealer
            record = _reading(Record.read, delivery.record)
            kinds = bool(record.mask_encapsulation), bool(record.channel_encapsulation)
            shares_root = root_of_path(leaf(delivery.record), delivery.position, self.k, delivery.path)
            if record.holder != self.me.index or kinds != (self.pq and dealer < self.me.index, self.pq):
                raise Refusal(f"shares of participant {dealer} are not for this one")
            committed = delivery.seed_commitment, delivery.commitments_hash
            statement = shares_root and messages.shares_statement(
                self.context, dealer, *committed, self.k, shares_root
            )
            if not statement or not is_signed(self.neighbours[dealer].key, statement, delivery.signature):
                raise Refusal(f"participant {dealer} did not sign the shares in its name as they are")
            records[dealer] = record
        return records

    def _open(self, dealer, record):
        """Both shares with their salts, or None for a pair that does not open or match its commitments."""
        kem_shared = self.channel_secret.kem.decapsulate(record.channel_encapsulation) if self.pq else b""
        agreed = self.channel_secret.agree(dealer.channel, kem_shared)
        key, nonce = channel_key(self.context, agreed, dealer, self.me, record.channel_encapsulation)
        data = associated_data(self.context, dealer, self.me, record.commitments)
        try:
            plain = AESGCM(key).decrypt(nonce, record.sealed, data)
        except InvalidTag:
            return None
        shares = [(plain[:32], plain[32:64]), (plain[64:96], plain[96:])]
        for role, (share, salt) in enumerate(shares):
            commitment = share_commitment(self.context, dealer, self.me, role, share, salt)
            if scalar(share) is None or commitment != record.commitments[role]:
                return None
        return shares

    def _pair_mask(self, peer, record):
        """Sign, key and counter."""
        if self.me.index < peer.index:
            encapsulation, kem_shared = self._encapsulate_mask(peer)
            sign, low, high = "+", self.me, peer
        else:
            encapsulation = record.mask_encapsulation
            kem_shared = self.mask_secret.kem.decapsulate(encapsulation) if self.pq else b""
            sign, low, high = "-", peer, self.me
        agreed = self.mask_secret.agree(peer.mask, kem_shared)
        return sign, *pair_mask(self.context, agreed, low, high, encapsulation)

    # ConsistencyCheck

    def sign_survivors(self, message):
        context, survivors, signature = _reading(SurvivorSet.read, message)
        self._check_context(context)
        # One list for everybody: with several, stretches of a sparse graph could be opened each by itself.
        if not is_signed(self.trust.registrar, survivors.list_statement(self.context, self.roster_root), signature):
            raise Refusal("the registrar did not sign this survivor list")
        least = self.parameters["min_survivors"]
        if survivors.n != self.n:
            raise Refusal(f"a survivor list over {survivors.n}, the roster has {self.n}")
        if len(survivors.indices) < least:
            raise Refusal(f"{len(survivors.indices)} survivors, the policy asks for {least}")
        if self.me.index not in survivors.indices:
            raise Refusal("this participant is counted as a dropout")
        surviving = survivors.indices & set(self.neighbours)
        if surviving - set(self.held):
            raise Refusal("a survivor's shares were never delivered")
        if len(surviving) < self.t:
            raise Refusal(f"{len(surviving)} neighbours survived, {self.t} are needed")
        self.survivors = survivors
        # Of each neighbour one share is kept: there is nothing left of the other secret that could be revealed.
        roles = {dealer: SELF_SEED if dealer in survivors.indices else ROOT for dealer in self.held}
        self.reveal_later = [
            (dealer, roles[dealer], *shares[roles[dealer]]) for dealer, shares in self.held.items() if shares
        ]
        self.held = None
        signature = self.sign(survivors.statement(self.context, self.roster_root))
        return messages.consistency_signature(self.context, self.me.index, signature)

    # Unmasking

    def reveal(self, message):
        context, signatures = _reading(messages.read_signatures, message)
        self._check_context(context)
        statement, last = self.survivors.statement(self.context, self.roster_root), -1
        for signer, signature in signatures:
            if signer not in self.survivors.indices & set(self.neighbours) or signer <= last:
                raise Refusal(f"a signature of participant {signer}, who is no surviving neighbour or was counted")
            last = signer
            if not is_signed(self.neighbours[signer].key, statement, signature):
                raise Refusal(f"participant {signer} did not sign the survivor list that was shown here")
        if len(signatures) < self.t:
            raise Refusal(f"{len(signatures)} neighbours signed the survivor list, {self.t} are needed")
        return messages.revealed_shares(self.context, self.me.index, self.reveal_later, self.sign)
