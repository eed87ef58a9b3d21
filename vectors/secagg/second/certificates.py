"""Whom a participant believes: chains that lead to its federation's root. "Certificates" in docs/protocol.md."""

from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from .attempt import Refusal
from .messages import Fields, Malformed
from .primitives import string

CHAIN_MAX = 4
_UNDERSTOOD = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)


def encode_chain(certificates):
    """Leaf first, each in DER behind its length."""
    return b"".join(string(certificate.public_bytes(Encoding.DER)) for certificate in certificates)


def decode_chain(data):
    fields, chain = Fields(data), []
    try:
        while fields.rest:
            chain.append(x509.load_der_x509_certificate(fields.string(len(data))))
    except (Malformed, ValueError) as error:
        raise Refusal(f"a certificate chain cannot be read: {error}") from error
    return chain


def _extension(certificate, kind):
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _uris(certificate):
    names = _extension(certificate, x509.SubjectAlternativeName)
    return names.get_values_for_type(x509.UniformResourceIdentifier) if names else []


def _is_of_a_kind(key):
    p256 = isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    return p256 or isinstance(key, Ed25519PublicKey)


def _holds(certificate, now):
    # Both ends are included, in whole seconds.
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc + timedelta(seconds=1)


def _issued(issuer, subject, below):
    """Whether an authority may have issued a certificate, with so many authorities between it and the leaf."""
    constraints, usage = _extension(issuer, x509.BasicConstraints), _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
        return False
    if constraints.path_length is not None and constraints.path_length < below:
        return False
    if not _is_of_a_kind(issuer.public_key()):
        return False
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


class FederationTrust:
    """The root that a site was invited with, and the registrar's key."""

    def __init__(self, federation, root, registrar, now=None):
        self.federation, self.root, self.registrar = federation, root, registrar
        self.now = now or (lambda: datetime.now(timezone.utc))

    def participant(self, name, certificates):
        """The key that a chain certifies for a participant of this federation: Ed25519, or a P-256 point, uncompressed."""
        who, chain, now = name.decode(), decode_chain(certificates), self.now()
        if not 1 <= len(chain) <= CHAIN_MAX:
            raise Refusal(f"{who}: a chain of {len(chain)} certificates")
        try:
            above = chain[:-1] if len(chain) > 1 and chain[-1] == self.root else chain
            self._check_path([*above, self.root], now)
            key = self._check_leaf(chain[0], f"spiffe://{self.federation}/client/{who}")
        except ValueError as error:
            raise Refusal(f"{who}: {error}") from error
        if isinstance(key, Ed25519PublicKey):
            return key.public_bytes_raw()
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def _check_path(self, path, now):
        for certificate in path:
            if not _holds(certificate, now):
                raise ValueError("a certificate has expired, or does not hold yet")
            if any(each.critical and not isinstance(each.value, _UNDERSTOOD) for each in certificate.extensions):
                raise ValueError("a critical extension that is not understood")
        for below, (subject, issuer) in enumerate(zip(path, path[1:])):
            if not _issued(issuer, subject, below):
                raise ValueError("the chain does not lead to the federation's root")

    def _check_leaf(self, leaf, expected):
        constraints, usage = _extension(leaf, x509.BasicConstraints), _extension(leaf, x509.KeyUsage)
        extended = _extension(leaf, x509.ExtendedKeyUsage)
        if constraints is not None and constraints.ca:
            raise ValueError("its certificate is that of an authority")
        if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
            raise ValueError("its certificate may not sign messages")
        if extended is None or ExtendedKeyUsageOID.CLIENT_AUTH not in extended:
            raise ValueError("its certificate is not meant for clients")
        if _uris(leaf) != [expected]:
            raise ValueError(f"its certificate is that of {_uris(leaf)}")
        key = leaf.public_key()
        if not _is_of_a_kind(key):
            raise ValueError("its certificate's key is neither Ed25519 nor P-256")
        return key
