"""The coordinator over HTTPS: TLS 1.3, a client certificate, an access token. "Over HTTPS" in docs/protocol.md."""

import base64
import http.client
import json
import secrets
import ssl
import time
from hashlib import sha256
from urllib.parse import urlsplit

from .encoding import read_json

CHUNK_BYTES = 2**20
ANSWER_MAX = 80 * 2**20
TRIES_MAX = 20
PAUSE_SECONDS = 0.25
PASSING = (429, 502, 503, 504, 507)


class Problem(Exception):
    """The coordinator refused: `code` is for programs, the rest for people."""

    def __init__(self, status, body):
        try:
            problem = json.loads(body)
            self.code, detail = problem["code"], problem["detail"]
        except (ValueError, KeyError):
            self.code, detail = "", "no problem that could be read"
        super().__init__(f"{status} {self.code}: {detail}")


class Client:
    """A connection to the coordinator, with a client certificate where there is one."""

    def __init__(self, url, root_pem, certificate=None, key=None):
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self.tls.load_verify_locations(cadata=root_pem)
        if certificate:
            self.tls.load_cert_chain(certificate, key)
        where = urlsplit(url)
        self.host, self.port = where.hostname, where.port or 443
        self.connection = self.token = None

    def _once(self, method, path, body, headers):
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(self.host, self.port, timeout=60, context=self.tls)
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read(ANSWER_MAX + 1)
        if len(data) > ANSWER_MAX:
            raise ValueError(f"the answer to {path} is larger than {ANSWER_MAX} bytes")
        return answer.status, data

    def request(self, method, path, body=None, kind=None, headers=()):
        """Status and body; sent again after a lost connection and after what passes."""
        headers = dict(headers)
        if kind:
            headers["Content-Type"] = kind
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        status = data = None
        for _ in range(TRIES_MAX):
            try:
                status, data = self._once(method, path, body, headers)
            except ssl.SSLCertVerificationError:
                raise
            except (OSError, http.client.HTTPException):
                self.connection = None
            else:
                if status not in PASSING:
                    break
            time.sleep(PAUSE_SECONDS)
        if status is None:
            raise ConnectionError(f"the coordinator at {self.host}:{self.port} cannot be reached")
        if status >= 300:
            raise Problem(status, data)
        return status, data

    def get(self, path):
        return self.request("GET", path)[1]

    def get_json(self, path):
        return read_json(self.get(path))

    def post_json(self, path, value):
        """The answer, or None for one without content."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        status, data = self.request("POST", path, json.dumps(value), "application/json", headers)
        return None if status == 204 else read_json(data)

    def post_bytes(self, path, data):
        self.request("POST", path, data, "application/octet-stream")

    def poll(self, path):
        """The bytes, or None where there are none yet."""
        status, data = self.request("GET", path)
        return None if status == 204 else data

    def authenticate(self):
        self.token = None
        _, data = self.request("POST", "/v1/token")
        self.token = json.loads(data)["access_token"]

    def upload(self, path, data):
        """In chunks, from wherever the coordinator says it is."""
        received = self.get_json(path)["received"]
        while received < len(data):
            chunk = data[received : received + CHUNK_BYTES]
            digest = base64.b64encode(sha256(chunk).digest()).decode()
            headers = {"Content-Digest": f"sha-256=:{digest}:"}
            _, answer = self.request("PUT", f"{path}?offset={received}", chunk, "application/octet-stream", headers)
            received = json.loads(answer)["received"]
