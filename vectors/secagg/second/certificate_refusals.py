"""Which certificate chains a participant must refuse. The federation is made here, each time with other keys."""

from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .attempt import Refusal
from .certificates import FederationTrust, decode_chain, encode_chain
from .primitives import u32

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FEDERATION, NAME = "checks.example", "site-0001"
URI = f"spiffe://{FEDERATION}/client/{NAME}"
CLIENT = [ExtendedKeyUsageOID.CLIENT_AUTH]
NO_USAGE = dict.fromkeys(
    ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"],
    False,
)  # fmt: skip


class Authority:
    """A key with its certificate."""

    def __init__(self, name, issuer=None, path_length=0, uri=f"spiffe://{FEDERATION}", **changes):
        self.key = Ed25519PrivateKey.generate()
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = certificate(
            self.subject, self.key, issuer or self, [uri], ca=True, path_length=path_length, usage=None, **changes
        )


def certificate(subject, key, issuer, uris, ca=False, path_length=None, usage=CLIENT, signs=True, begins=NOW,
                days=1, extra=None, issues=None):  # fmt: skip
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begins - timedelta(minutes=5)).not_valid_after(begins + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
    issues = ca if issues is None else issues
    key_usage = x509.KeyUsage(digital_signature=signs and not issues, key_cert_sign=issues, crl_sign=issues, **NO_USAGE)
    builder = builder.add_extension(key_usage, critical=True)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if extra:
        builder = builder.add_extension(extra, critical=True)
    return builder.sign(issuer.key, None)


def check():
    root = Authority("root", path_length=1)
    between = Authority("intermediate", root)
    trust = FederationTrust(FEDERATION, root.certificate, bytes(32), now=lambda: NOW)
    subject, key = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]), Ed25519PrivateKey.generate()

    def leaf(issuer=between, uris=(URI,), **changes):
        return certificate(subject, key, issuer, uris, **changes)

    good = [leaf(), between.certificate]
    for chain in (good, [*good, root.certificate]):
        assert trust.participant(NAME.encode(), encode_chain(chain)) == key.public_key().public_bytes_raw()

    p256 = generate_private_key(SECP256R1())
    chain = encode_chain([certificate(subject, p256, between, [URI]), between.certificate])
    point = p256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert trust.participant(NAME.encode(), chain) == point

    stranger = Authority("root", path_length=1)
    strange = Authority("intermediate", stranger)
    deeper = Authority("deeper", between)
    ended = Authority("ended", root, begins=NOW - timedelta(days=9))
    impostor, powerless = Authority("impostor", root), Authority("powerless", root)
    impostor.certificate = certificate(impostor.subject, impostor.key, root, [URI], issues=True)
    powerless.certificate = certificate(powerless.subject, powerless.key, root, [URI], ca=True, issues=False)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    chains = {
        "nothing": b"",
        "bytes that are no chain": encode_chain(good)[:-1],
        "no intermediate": encode_chain([leaf()]),
        "another federation's root": encode_chain([leaf(strange), strange.certificate]),
        "another federation's leaf below our intermediate": encode_chain([leaf(strange), between.certificate]),
        "more authorities than the path allows": encode_chain([leaf(deeper), deeper.certificate, between.certificate]),
        "a leaf that issued": encode_chain([leaf(deeper), leaf(), between.certificate]),
        "more certificates than a chain has": encode_chain([leaf(), *[between.certificate] * 4]),
        "expired": encode_chain([leaf(begins=NOW - timedelta(days=2)), between.certificate]),
        "not yet valid": encode_chain([leaf(begins=NOW + timedelta(days=2)), between.certificate]),
        "an expired intermediate": encode_chain([leaf(ended), ended.certificate]),
        "another name": encode_chain([leaf(uris=[URI + "0"]), between.certificate]),
        "another role": encode_chain([leaf(uris=[URI.replace("client", "admin")]), between.certificate]),
        "another federation": encode_chain([leaf(uris=[URI.replace("checks", "other")]), between.certificate]),
        "no name": encode_chain([leaf(uris=[]), between.certificate]),
        "two names": encode_chain([leaf(uris=[URI, URI]), between.certificate]),
        "a server": encode_chain([leaf(usage=[ExtendedKeyUsageOID.SERVER_AUTH]), between.certificate]),
        "no usage": encode_chain([leaf(usage=None), between.certificate]),
        "a key that signs nothing": encode_chain([leaf(signs=False), between.certificate]),
        "an authority": encode_chain([leaf(ca=True), between.certificate]),
        "an authority that may sign messages": encode_chain([leaf(ca=True, issues=False), between.certificate]),
        "a leaf that may issue": encode_chain([leaf(issues=True), between.certificate]),
        "a key of another kind": encode_chain(
            [certificate(subject, generate_private_key(SECP384R1()), between, [URI]), between.certificate]
        ),
        "an issuer that is no authority": encode_chain([leaf(impostor), impostor.certificate]),
        "an issuer that may not issue": encode_chain([leaf(powerless), powerless.certificate]),
        "a critical extension that is not understood": encode_chain([leaf(extra=unknown), between.certificate]),
    }
    for name, chain in chains.items():
        try:
            trust.participant(NAME.encode(), chain)
        except Refusal:
            continue
        raise AssertionError(f"not refused: {name}")
    # What cannot be read is refused as such, whatever else would be wrong with it.
    for damaged in (encode_chain(good)[:-1], encode_chain(good) + b"\0", u32(9) + bytes(9)):
        try:
            decode_chain(damaged)
        except Refusal:
            continue
        raise AssertionError("not refused: a damaged chain")
