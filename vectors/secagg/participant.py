"""A participant of real rounds that shares no line with the others: it joins, checks in, and takes part.

Usage: participant.py join FOLDER ID INVITATION_FILE
       participant.py train FOLDER TASK INPUTS_FOLDER WEIGHT [METRIC=VALUE ...] [--vanish ROUND:STEP]

It trains nothing: its update is a small fixed one, and what it encoded is written to INPUTS_FOLDER, unmasked, so that a
test can compare the released sum with it. For tests on one machine. Prints what became of the rounds as JSON.
"""

import base64
import json
import math
import os
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding as Form, NoEncryption, PrivateFormat, load_pem_private_key,
)  # fmt: skip
from cryptography.x509.oid import NameOID

from second.attempt import Attempt, Refusal
from second.certificates import FederationTrust, encode_chain
from second.client import Client, Problem
from second.encoding import Encoding, check_policy, model_values, policy_digest

INVITATION_PREFIX = "sordino-invitation-1."
STEPS = ["AdvertiseKeys", "ShareKeys", "MaskedInput", "ConsistencyCheck", "Unmasking"]
LEFT_OUT = {"stale_round", "rejected", "already_submitted", "not_found", "wrong_step"}
PRGS = {"aes-256-ctr": "AES-256-CTR", "aes-128-ctr": "AES-128-CTR"}
POLL_SECONDS = 25


class Vanished(Exception):
    """The site falls silent, as a test asked."""


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def write_private(path, data):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def join(folder, name, invitation):
    """Trades an invitation for a certificate over a key that is made here."""
    text = invitation.strip()
    if not text.startswith(INVITATION_PREFIX):
        raise SystemExit("not an invitation")
    fields = json.loads(unpadded(text[len(INVITATION_PREFIX) :]))
    root = x509.load_der_x509_certificate(unpadded(fields["root_ca"]))
    root_pem = root.public_bytes(Form.PEM)
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None)
    client = Client(fields["url"], root_pem.decode())
    csr = request.public_bytes(Form.PEM).decode()
    enrolled = client.post_json("/v1/enroll", {"token": fields["secret"], "csr": csr, "principal": name})
    chain = x509.load_pem_x509_certificates(enrolled["certificate_chain"].encode())
    registrar = unpadded(fields["registrar_key"])
    certified = FederationTrust(fields["federation"], root, registrar).participant(name.encode(), encode_chain(chain))
    if certified != key.public_key().public_bytes_raw():
        raise SystemExit("the certificate is for another key")
    folder.mkdir(mode=0o700)
    write_private(folder / "client.key", key.private_bytes(Form.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "client.pem").write_text(enrolled["certificate_chain"])
    (folder / "root.pem").write_bytes(root_pem)
    settings = {"url": fields["url"], "federation": fields["federation"], "id": name, "registrar": registrar.hex()}
    (folder / "settings.json").write_text(json.dumps(settings))


class Site:
    """A joined site, in one task."""

    def __init__(self, folder, task, inputs, weight, metrics, vanish):
        settings = json.loads((folder / "settings.json").read_text())
        self.name, self.federation = settings["id"].encode(), settings["federation"]
        self.key = load_pem_private_key((folder / "client.key").read_bytes(), None)
        chain = x509.load_pem_x509_certificates((folder / "client.pem").read_bytes())
        root_pem = (folder / "root.pem").read_text()
        root = x509.load_pem_x509_certificate(root_pem.encode())
        self.certificates = encode_chain(chain)
        self.trust = FederationTrust(self.federation, root, bytes.fromhex(settings["registrar"]))
        self.client = Client(settings["url"], root_pem, folder / "client.pem", folder / "client.key")
        self.task, self.inputs, self.weight, self.metrics, self.vanish = task, inputs, weight, metrics, vanish
        self.done = self.policy = None

    def run(self):
        """Takes part until the task is complete."""
        summary = {"finished": [], "left_out": [], "refused": [], "vanished": []}
        while assignment := self.check_in():
            if assignment == "nothing yet":
                continue
            number = int(assignment["round"].split(".")[1])
            try:
                self.take_part(assignment, number)
                summary["finished"].append(number)
            except Vanished:
                summary["vanished"].append(number)
            except Refusal as evidence:
                print(f"refused in round {number}: {evidence}", file=sys.stderr)
                summary["refused"].append(number)
            except Problem as problem:
                if problem.code not in LEFT_OUT:
                    raise
                print(f"left out of round {number}: {problem}", file=sys.stderr)
                summary["left_out"].append(number)
            self.done = {"round": assignment["round"], "attempt": assignment["attempt"]}
        return summary

    def check_in(self):
        """An assignment; None when the task has no more rounds."""
        self.client.authenticate()
        body = {"after": self.done} if self.done else {}
        try:
            assignment = self.client.post_json(f"/v1/tasks/{self.task}/checkin?wait={POLL_SECONDS}", body)
        except Problem as problem:
            if problem.code == "conflict":
                return None
            raise
        if assignment is None:
            return "nothing yet"
        task, number = assignment["round"].split(".")
        last = (int(self.done["round"].split(".")[1]), self.done["attempt"]) if self.done else (0, 0)
        if task != self.task or (int(number), assignment["attempt"]) <= last:
            raise SystemExit("the coordinator offers an attempt that is over, or one of another task")
        return assignment

    def context(self, assignment, number):
        """What the attempt is about, as this site sees it, with the model and the encoding."""
        task = self.client.get_json(f"/v1/tasks/{self.task}")
        policy, digest = task["policy"], policy_digest(task["policy"])
        if digest.hex() != assignment["policy_digest"] or task["model"] != assignment["model"]:
            raise Refusal("task and assignment contradict each other")
        # Whoever took part under a policy has agreed to that one only.
        if self.policy not in (None, digest):
            raise Refusal("the policy has changed")
        check_policy(policy)
        self.policy = digest
        data = self.client.get(f"/v1/models/{assignment['model']}")
        if sha256(data).hexdigest() != assignment["model"]:
            raise Refusal("the model is another one")
        model = model_values(data)
        encoding = Encoding(policy, len(model))
        cohort = policy["cohort"]
        context = {
            "federation": self.federation,
            "task": self.task,
            "round": number,
            "attempt": assignment["attempt"],
            "nonce": assignment["nonce"],
            "policy": digest,
            "model": sha256(data).digest(),
            "vector_len": encoding.vector_len,
            "bits": encoding.bits,
            "prg": PRGS[policy["masking"]["prg"]],
            "pq": policy["masking"]["pq"],
            "min_survivors": cohort["min"],
            "corrupt": math.ceil(cohort["min"] * cohort["max_corrupt_fraction"] - 1e-6),
            "max_dropout_fraction": cohort["max_dropout_fraction"],
            # It proves nothing, and takes no part where a policy asks for a proof: its context would be another one.
            "proof": None,
        }
        return context, model, encoding

    def take_part(self, assignment, number):
        context, model, encoding = self.context(assignment, number)
        update = ((np.arange(len(model)) % 7 - 3) / 64).astype(np.float32)
        values = encoding.encode(update, self.weight, self.metrics)
        file = self.inputs / f"{number}.{assignment['attempt']}.{self.name.decode()}.i64"
        file.write_bytes(np.array(values, dtype="<i8").tobytes())
        attempt = Attempt(context, self.name, self.certificates, self.key.sign, self.trust, values)

        path = f"/v1/rounds/{assignment['round']}/attempts/{assignment['attempt']}"
        answers = [None, attempt.share_keys, attempt.mask_input, attempt.sign_survivors, attempt.reveal]
        for step, answer in zip(STEPS, answers):
            message = answer(self.opening(path, step)) if answer else attempt.advertisement
            if self.vanish == (number, step):
                raise Vanished
            if step == "MaskedInput":
                message, upload = message
                self.client.upload(f"{path}/input", upload)
            try:
                self.client.post_bytes(f"{path}/messages/{step}", message)
            except Problem as problem:
                # The others' shares were enough, and the attempt is over.
                if (step, problem.code) != ("Unmasking", "stale_round"):
                    raise

    def opening(self, path, step):
        while (message := self.client.poll(f"{path}/messages/{step}?wait={POLL_SECONDS}")) is None:
            pass
        return message


def main(arguments):
    if arguments[:1] == ["join"] and len(arguments) == 4:
        return join(Path(arguments[1]), arguments[2], Path(arguments[3]).read_text())
    if arguments[:1] != ["train"] or len(arguments) < 5:
        raise SystemExit(__doc__)
    folder, task, inputs, weight, *rest = arguments[1:]
    vanish = None
    if rest[-2:-1] == ["--vanish"]:
        number, step = rest[-1].split(":")
        rest, vanish = rest[:-2], (int(number), step)
    metrics = {name: float(value) for name, value in (pair.split("=") for pair in rest)}
    print(json.dumps(Site(Path(folder), task, Path(inputs), int(weight), metrics, vanish).run()))


if __name__ == "__main__":
    main(sys.argv[1:])
