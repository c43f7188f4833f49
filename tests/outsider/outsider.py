"""An outsider joins a mesh that runs, calls its services, then attacks them.

Written against the RFCs and the protocol file, with `cryptography` and `pyjwt` alone; it shares no code with the
mesh. What counts is what it observes: the status, the challenge, and the reason in the decision log.
"""

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import client
import http2
import jose
from mesh import Identity, Mesh, wait_for

PASSED, FAILED = [], []


def check(name, expected, observed):
    good = expected == observed
    (PASSED if good else FAILED).append(name)
    print(f"{'ok    ' if good else 'FAILED'}  {name}" + ("" if good else f"\n        {expected}\n    but {observed}"))


class Outsider:
    def __init__(self, mesh):
        self.mesh = mesh
        self.shop = mesh.enroll("shop")
        self.payments = mesh.enroll("payments")
        self.intruder = mesh.enroll("intruder")

    def tls(self, identity):
        return client.context(identity.files(self.mesh.folder))

    def shoot(self, service, identity, method, target, headers=(), body=b"{}"):
        """(status, scheme and error of the challenge, logged reason), and the answer."""
        workload = self.mesh.workload(service)
        mark = str(uuid.uuid4())
        host = workload["service"].removeprefix("https://")
        headers = [*headers, ("x-fapi-interaction-id", mark)]
        answer = client.once(workload["inbound"], self.tls(identity), method, target, host, headers, body)
        line = self.mesh.decision(service, lambda said: said.get("interaction_id") == mark)
        reason = line["reason"] if line else "not logged"
        return (answer.status, challenge(answer), reason), answer

    def handshake(self, name, tls, reason):
        """A connection that must end without any answer."""
        workload = self.mesh.workload("payments")
        try:
            answer = client.once(workload["inbound"], tls, "GET", "/balance", "payments.bank")
            check(name, reason, f"answered with {answer.status}")
        except client.Refused as refused:
            line = self.mesh.decision("payments", lambda said: said.get("peer") == refused.peer)
            check(name, reason, line["reason"] if line else "not logged")

    # --- calls that must pass -------------------------------------------------------------------------------

    def calls(self):
        audience = self.mesh.workload("payments")["service"]
        granted = self.mesh.token(self.shop, audience)
        self.token = granted["access_token"]
        check("a certificate-bound token", ("Bearer", True), (granted["token_type"], granted["expires_in"] > 0))
        header, claims, _ = jose.parts(self.token)
        thumbprint = jose.b64(self.shop.chain[0].fingerprint(hashes.SHA256()))
        check("it is an RFC 9068 token", "at+jwt", header["typ"])
        check("it is bound to our certificate", {"x5t#S256": thumbprint}, claims["cnf"])
        check("it names us twice", [self.shop.id] * 2, [claims["sub"], claims["client_id"]])
        seen, answer = self.shoot("payments", self.shop, "POST", "/transfers", bearer(self.token))
        check("a call with it", (200, None, None), seen)
        check("the app was told who we are", self.shop.id, json.loads(answer.body)["told"]["caller"])
        for algorithm, key in (
            ("ES256", ec.generate_private_key(ec.SECP256R1())),
            ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
            ("PS256", rsa.generate_private_key(65537, 2048)),
        ):
            self.call_with_proof(algorithm, key)

    def call_with_proof(self, algorithm, key):
        """ledger wants DPoP: a token bound to the key, a first call that fetches the nonce, a second that passes."""
        service = self.mesh.workload("ledger")["service"]
        url = f"{service}/entries"
        at_issuer = lambda endpoint, nonce: jose.proof(key, "POST", endpoint, nonce=nonce, algorithm=algorithm)
        granted = self.mesh.token(self.payments, service, proof=at_issuer)
        token = granted["access_token"]
        bound = {"jkt": jose.thumbprint(jose.public_jwk(key, algorithm))}
        cnf = jose.parts(token)[1]["cnf"]
        check(f"a DPoP-bound token, {algorithm}", ("DPoP", bound), (granted["token_type"], cnf))
        first = jose.proof(key, "POST", url, token, algorithm=algorithm)
        seen, answer = self.shoot("ledger", self.payments, "POST", "/entries", dpop(token, first))
        check(f"a proof without nonce, {algorithm}", (401, "DPoP use_dpop_nonce", "proof_nonce_required"), seen)
        nonce = answer.headers["dpop-nonce"]
        second = jose.proof(key, "POST", url, token, nonce, algorithm)
        seen, answer = self.shoot("ledger", self.payments, "POST", "/entries", dpop(token, second))
        check(f"a call with nonce, {algorithm}", (200, None, None), seen)
        if algorithm == "ES256":
            self.loot = (key, token, url, answer.headers["dpop-nonce"] or nonce, second)

    # --- attacks --------------------------------------------------------------------------------------------

    def attack_handshake(self):
        self.handshake("no client certificate", client.context(), "peer_certificate_missing")
        foreign = self.tls(self_signed(self.shop.id))
        self.handshake("a certificate of our own making", foreign, "peer_certificate_untrusted")

    def attack_tokens(self):
        token, post = self.token, ("POST", "/transfers")
        jwk = json.dumps(self.mesh.keys(self.shop)[0]).encode()
        invalid = "Bearer invalid_token"
        reading = self.mesh.token(self.shop, self.mesh.workload("payments")["service"], scope="accounts:read")
        for name, who, request, headers, expected in (
            ("no token", self.shop, post, [], (401, "Bearer, DPoP", "token_missing")),
            ("a bound token over another certificate", self.intruder, post, bearer(token), (401, invalid, "binding_cert_mismatch")),
            ("a tampered payload", self.shop, post, bearer(jose.resigned(token, claims={"scope": "admin"})), (401, invalid, "signature_invalid")),
            ("alg none", self.shop, post, bearer(jose.resigned(token, header={"alg": "none"})), (401, invalid, "alg_not_allowed")),
            ("HS256 with the public key", self.shop, post, bearer(jose.resigned(token, jwk, {"alg": "HS256"})), (401, invalid, "alg_not_allowed")),
            ("a scope too few", self.shop, post, bearer(reading["access_token"]), (403, "Bearer insufficient_scope", "scope_insufficient")),
            ("a method without rule", self.shop, ("DELETE", "/transfers"), bearer(token), (403, None, "rule_not_matched")),
            ("a token in the query", self.shop, ("POST", f"/transfers?access_token={token}"), [], (400, "Bearer invalid_request, DPoP invalid_request", "request_malformed")),
            ("two tokens", self.shop, post, bearer(token) + bearer(token), (400, "Bearer invalid_request, DPoP invalid_request", "request_malformed")),
        ):
            check(name, expected, self.shoot("payments", who, *request, headers)[0])
        seen, _ = self.shoot("ledger", self.shop, "POST", "/entries", bearer(token))
        check("a token for another audience", (401, invalid, "audience_mismatch"), seen)

    def attack_proofs(self):
        key, token, url, nonce, used = self.loot
        good = lambda **changes: jose.proof(key, "POST", url, token, nonce, **changes)
        another = ec.generate_private_key(ec.SECP256R1())
        bad = "DPoP invalid_dpop_proof"
        for name, who, headers, expected in (
            ("a proof replayed", self.payments, dpop(token, used), (401, bad, "proof_replayed")),
            ("a proof for another URL", self.payments, dpop(token, good(htu=url + "/1")), (401, bad, "proof_htu")),
            ("a proof for another method", self.payments, dpop(token, good(htm="GET")), (401, bad, "proof_htm")),
            ("a proof for another token", self.payments, dpop(token, good(ath=jose.b64(b"x" * 32))), (401, bad, "proof_ath")),
            ("a stale proof", self.payments, dpop(token, good(iat=int(time.time()) - 120)), (401, bad, "proof_stale")),
            ("a proof by another key", self.payments, dpop(token, jose.proof(another, "POST", url, token, nonce)), (401, "DPoP invalid_token", "proof_key_mismatch")),
            ("no proof", self.payments, [("authorization", f"DPoP {token}")], (401, bad, "proof_missing")),
            ("a DPoP token as Bearer", self.payments, bearer(token), (401, "Bearer invalid_token", "bound_token_sent_as_bearer")),
            ("token and key stolen together", self.intruder, dpop(token, good()), (401, "DPoP invalid_token", "caller_mismatch")),
        ):
            check(name, expected, self.shoot("ledger", who, "POST", "/entries", headers)[0])

    def attack_issuer(self):
        ledger = self.mesh.workload("ledger")["service"]
        answer = self.mesh.ask_issuer(self.intruder, ledger)
        check("the intruder asks for a token for ledger", (400, "invalid_target"), (answer.status, json.loads(answer.body)["error"]))
        stolen = Identity(self.shop.id, self.intruder.chain, self.intruder.key)
        answer = self.mesh.ask_issuer(stolen, self.mesh.workload("payments")["service"])
        check("the intruder says it is shop", (400, "invalid_client"), (answer.status, json.loads(answer.body)["error"]))
        for name, token in (("an invented enrolment token", "e30.e30.e30"), ("an access token to enrol with", self.token)):
            try:
                self.mesh.enroll("shop", token)
                check(name, "no certificate", "a certificate")
            except http2.NoAnswer:
                check(name, "no certificate", "no certificate")


def bearer(token):
    return [("authorization", f"Bearer {token}")]


def dpop(token, proof):
    return [("authorization", f"DPoP {token}"), ("dpop", proof)]


def challenge(answer):
    """Scheme and error of each challenge: `DPoP invalid_token`."""
    lines = answer.headers.get_all("www-authenticate")
    if not lines:
        return None
    found = re.findall(r'\b(Bearer|DPoP)\b(?: error="([a-z_]+)")?', ", ".join(lines))
    return ", ".join(" ".join(filter(None, one)) for one in found)


def self_signed(uri):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    name = x509.Name([])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    return Identity(uri, [builder.add_extension(names, critical=True).sign(key, hashes.SHA256())], key)


def main(fapictl):
    with tempfile.TemporaryDirectory(prefix="fapi-outsider-") as folder:
        state = os.path.join(folder, "mesh")
        command = [fapictl, "demo", "--keep", "--no-story", "--state", state]
        demo = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            described = os.path.join(state, "demo.json")
            ready = wait_for(lambda: True if os.path.exists(described) else demo.poll(), 60)
            assert ready is True, "the mesh did not start; its messages are above"
            outsider = Outsider(Mesh(state))
            outsider.calls()
            outsider.attack_handshake()
            outsider.attack_tokens()
            outsider.attack_proofs()
            outsider.attack_issuer()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(timeout=30)
    print(f"\noutsider: {len(PASSED)} passed, {len(FAILED)} failed")
    return 1 if FAILED or not PASSED else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
