"""The mesh as an outsider finds it: demo.json, the operator's addresses, the enrolment token of a workload."""

import json
import pathlib
import time
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import client
import http2
import protobuf

ENROLL = "/fapi_mesh.control.v1.Control/Enroll"
PEM = serialization.Encoding.PEM


def wait_for(condition, seconds):
    """Asks until the answer is something; None when the time is over."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found is not None or time.monotonic() > end:
            return found
        time.sleep(0.02)


class Mesh:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.about = json.loads((self.folder / "demo.json").read_text())
        self.control = json.loads((self.folder / "addresses.json").read_text())["control"]
        self.operator = f"spiffe://{self.about['trust_domain']}/ns/fapi-mesh/sa/fapi-operator"

    def workload(self, account):
        return next(one for one in self.about["workloads"] if one["service_account"] == account)

    def decision(self, account, matches):
        """The line of a sidecar's log for which `matches` says yes."""
        log = pathlib.Path(self.workload(account)["log"])

        def look():
            for line in log.read_text().splitlines():
                try:
                    said = json.loads(line)
                except ValueError:
                    continue
                if matches(said):
                    return said
            return None

        return wait_for(look, 5)

    def enroll(self, account, token=None):
        """A certificate for the workload, from an operator that has shown who it is."""
        workload = self.workload(account)
        file = self.folder / "tokens" / workload["namespace"] / f"{workload['name']}.jwt"
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        message = protobuf.field(1, (token or file.read_text().strip()).encode())
        message += protobuf.field(2, request.public_bytes(serialization.Encoding.DER))
        tls = client.context(trust=self.about["trust_bundle"])
        tls.set_alpn_protocols(["h2"])
        with client.connect(self.control, tls) as sock:
            shown = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True))
            assert uris(shown) == [self.operator], f"{uris(shown)} is not the operator"
            answer = list(protobuf.fields(http2.unary(sock, ENROLL, message)))
        chain = [x509.load_der_x509_certificate(value) for number, value in answer if number == 1]
        assert uris(chain[0]) == [workload["spiffe_id"]], "a certificate for somebody else"
        return Identity(workload["spiffe_id"], chain, key)

    def ask_issuer(self, identity, audience, scope=None, proof=None):
        """What the issuer says to a token request; the whole answer."""
        issuer = self.about["issuer"]
        where = urllib.parse.urlsplit(issuer).netloc
        form = {"grant_type": "client_credentials", "client_id": identity.id, "resource": audience}
        form |= {"scope": scope} if scope else {}
        tls = client.context(identity.files(self.folder), self.about["trust_bundle"])
        with client.connect(where, tls) as sock:
            shown = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True))
            assert uris(shown) == [self.operator], f"{uris(shown)} is not the issuer"
            metadata = client.ask(sock, "GET", "/.well-known/oauth-authorization-server", where)
            endpoint = json.loads(metadata.body)["token_endpoint"]
            path = urllib.parse.urlsplit(endpoint).path

            def post(nonce=None):
                headers = [("content-type", "application/x-www-form-urlencoded")]
                headers += [("dpop", proof(endpoint, nonce))] if proof else []
                return client.ask(sock, "POST", path, where, headers, urllib.parse.urlencode(form).encode())

            answer = post()
            if answer.status == 400 and json.loads(answer.body)["error"] == "use_dpop_nonce":
                answer = post(answer.headers["dpop-nonce"])
            return answer

    def token(self, *wish, **more):
        answer = self.ask_issuer(*wish, **more)
        assert answer.status == 200, answer.body
        assert answer.headers["cache-control"] == "no-store", "a token that caches may keep"
        return json.loads(answer.body)

    def keys(self, identity):
        """The public keys of the issuer."""
        where = urllib.parse.urlsplit(self.about["issuer"]).netloc
        tls = client.context(identity.files(self.folder), self.about["trust_bundle"])
        with client.connect(where, tls) as sock:
            metadata = json.loads(client.ask(sock, "GET", "/.well-known/oauth-authorization-server", where).body)
            uri = urllib.parse.urlsplit(metadata["jwks_uri"]).path
            return json.loads(client.ask(sock, "GET", uri, where).body)["keys"]


class Identity:
    """A certificate chain and its key."""

    def __init__(self, spiffe_id, chain, key):
        self.id = spiffe_id
        self.chain = chain
        self.key = key

    def files(self, folder):
        """Python's TLS reads certificates from files only."""
        stem = pathlib.Path(folder) / f"outsider-{self.chain[0].serial_number:x}"
        chain, key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        if not key.exists():
            chain.write_bytes(b"".join(certificate.public_bytes(PEM) for certificate in self.chain))
            key.touch(mode=0o600)
            form = serialization.PrivateFormat.PKCS8
            key.write_bytes(self.key.private_bytes(PEM, form, serialization.NoEncryption()))
        return str(chain), str(key)


def uris(certificate):
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)
