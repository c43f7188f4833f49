"""Tokens and proofs, good and bad, with PyJWT."""

import base64
import hashlib
import hmac
import json
import time
import uuid

import jwt


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def parts(token):
    """Header, claims, signature; the first two decoded."""
    header, claims, signature = token.split(".")
    return read(header), read(claims), signature


def public_jwk(key, algorithm):
    """The public half, and nothing else: PyJWT adds members that do not belong to a proof."""
    jwk = jwt.algorithms.get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
    return {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}


def thumbprint(jwk):
    """RFC 7638."""
    members = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    text = json.dumps({name: jwk[name] for name in members}, separators=(",", ":"), sort_keys=True)
    return b64(hashlib.sha256(text.encode()).digest())


def proof(key, method, url, token=None, nonce=None, algorithm="ES256", **changes):
    """A DPoP proof; `changes` makes it a bad one."""
    claims = {"jti": str(uuid.uuid4()), "htm": method, "htu": url, "iat": int(time.time())}
    claims |= {"ath": b64(hashlib.sha256(token.encode()).digest())} if token else {}
    claims |= {"nonce": nonce} if nonce else {}
    claims |= changes
    headers = {"typ": "dpop+jwt", "jwk": public_jwk(key, algorithm)}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def resigned(token, secret=None, header=None, claims=None):
    """The token with other contents: HS256 with `secret`, unsigned for `alg` none, else the old signature."""
    old_header, old_claims, signature = parts(token)
    new_header, new_claims = old_header | (header or {}), old_claims | (claims or {})
    signed = ".".join(b64(json.dumps(part).encode()) for part in (new_header, new_claims))
    if secret is not None:
        signature = b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())
    if new_header["alg"] == "none":
        signature = ""
    return f"{signed}.{signature}"
