"""Tokens and proofs by `joserfc` and `PyJWT`: `mint.py WORLD` writes a vector file."""

import base64
import hashlib
import json
import sys
import warnings

import jwt as pyjwt
from joserfc import jwe, jwk, jws
from joserfc import jwt as joserfc_jwt

# joserfc warns of names that RFC 9864 replaces, PyJWT of short HMAC keys: both are made on purpose.
warnings.simplefilter("ignore")

with open(sys.argv[1], encoding="utf-8") as file:
    shared = json.load(file)
now, nonce, world = shared["now"], shared["nonce"], shared["world"]
ALL = ["ES256", "ES384", "ES512", "ES256K", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512", "EdDSA", "Ed25519", "Ed448",
       "HS256", "HS512", "none"]
registry = jws.JWSRegistry(algorithms=ALL, strict_check_header=False)
registry.max_header_length = 4096

keys = {"ES256": jwk.ECKey.generate_key("P-256"), "PS256": jwk.RSAKey.generate_key(2048), "EdDSA": jwk.OKPKey.generate_key("Ed25519")}
odd = {"ES384": jwk.ECKey.generate_key("P-384"), "ES512": jwk.ECKey.generate_key("P-521"),
       "ES256K": jwk.ECKey.generate_key("secp256k1"), "Ed448": jwk.OKPKey.generate_key("Ed448")}
small = jwk.RSAKey.generate_key(1024)
published = [key.as_dict(private=False, kid=alg) for alg, key in (keys | odd | {"small": small}).items()]
world["issuers"][shared["issuer"]] = {"keys": published}
cases = []


def add(name, headers, reason=None):
    expect = {"verdict": "refused", "reason": reason} if reason else {"verdict": "admitted"}
    cases.append({"name": name, "request": {"method": "POST", "path": "/transfers", "headers": headers}, "expect": expect})


def bearer(token):
    return [["authorization", f"Bearer {token}"]]


def dpop(token, proof):
    return [["authorization", f"DPoP {token}"], ["dpop", proof]]


def good(**changes):
    claims = {
        "iss": shared["issuer"], "sub": shared["caller"], "client_id": shared["caller"], "aud": shared["audience"], "jti": "t-1",
        "iat": now, "exp": now + 300, "scope": "transfers:write", "cnf": {"x5t#S256": world["peer"]["thumbprint"]},
    } | changes
    return {name: value for name, value in claims.items() if value is not ...}


def by_joserfc(claims, alg="ES256", key=None, payload=None, **header):
    header = {"alg": alg, "typ": "at+jwt", "kid": alg} | header
    header = {name: value for name, value in header.items() if value is not ...}
    payload = json.dumps(claims) if payload is None else payload
    return jws.serialize_compact(header, payload, key or (keys | odd)[alg], registry=registry)


def by_pyjwt(claims, alg="ES256", key=None, **header):
    key = key if key is not None else pem(keys[alg])
    return pyjwt.encode(claims, key, algorithm=alg, headers={"typ": "at+jwt", "kid": alg} | header)


def pem(key):
    return key.as_pem(private=True)


for alg in keys:
    add(f"joserfc {alg}", bearer(by_joserfc(good(), alg)))
    add(f"PyJWT {alg}", bearer(by_pyjwt(good(), alg)))
add("joserfc Ed25519", bearer(by_joserfc(good(), "Ed25519", keys["EdDSA"], kid="EdDSA")))
claims = good()
add("joserfc jwt.encode", bearer(joserfc_jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": "ES256"}, claims, keys["ES256"])))
for alg in odd:
    add(f"joserfc {alg}", bearer(by_joserfc(good(), alg)), "alg_not_allowed")
for alg in ("RS256", "RS512", "PS384", "PS512"):
    add(f"joserfc {alg}", bearer(by_joserfc(good(), alg, keys["PS256"], kid="PS256")), "alg_not_allowed")
    add(f"PyJWT {alg}", bearer(by_pyjwt(good(), alg, pem(keys["PS256"]), kid="PS256")), "alg_not_allowed")
add("PS256 of a small key", bearer(by_joserfc(good(), "PS256", small, kid="small")), "key_not_found")
secret = json.dumps(published[0])
add("joserfc HS256 with the public key", bearer(by_joserfc(good(), "HS256", jwk.OctKey.import_key(secret), kid="ES256")), "alg_not_allowed")
add("PyJWT HS512 with a part of the public key", bearer(by_pyjwt(good(), "HS512", published[0]["x"], kid="ES256")), "alg_not_allowed")
add("PyJWT none", bearer(pyjwt.encode(good(), None, algorithm="none", headers={"typ": "at+jwt"})), "alg_not_allowed")
add("joserfc none", bearer(by_joserfc(good(), "none", jwk.OctKey.generate_key())), "alg_not_allowed")
add("another key of this kid", bearer(by_joserfc(good(), "ES256", jwk.ECKey.generate_key("P-256"))), "signature_invalid")
add("PyJWT without typ", bearer(pyjwt.encode(good(), pem(keys["ES256"]), algorithm="ES256", headers={"kid": "ES256"})), "token_type")
add("jku", bearer(by_joserfc(good(), jku="https://evil.example/keys")), "token_malformed")
add("x5c", bearer(by_pyjwt(good(), x5c=["MIIB"])), "token_malformed")
add("PyJWT crit", bearer(by_pyjwt(good(), crit=["exp"])), "token_malformed")
for name, change, reason in (
    ("expired", {"exp": now - 5}, "token_expired"), ("in the leeway", {"exp": now - 4}, None), ("no exp", {"exp": ...}, "token_malformed"),
    ("nbf far ahead", {"nbf": now + 61}, "token_not_yet_valid"), ("float exp", {"exp": now + 100.5}, "token_malformed"),
    ("exp true", {"exp": True}, "token_malformed"), ("aud elsewhere", {"aud": "https://ledger.bank"}, "audience_mismatch"),
    ("aud in a list", {"aud": ["x:y", shared["audience"]]}, None), ("aud number", {"aud": 1}, "token_malformed"),
    ("no cnf", {"cnf": ...}, "binding_missing"), ("cnf text", {"cnf": "x"}, "token_malformed"),
    ("x5t in hex", {"cnf": {"x5t#S256": "ab" * 32}}, "token_malformed"), ("kid in cnf", {"cnf": {"kid": "a"}}, "binding_unknown"),
    ("padded x5t", {"cnf": {"x5t#S256": world["peer"]["thumbprint"] + "="}}, "token_malformed"),
    ("scope list", {"scope": ["transfers:write"]}, "token_malformed"), ("no client_id", {"client_id": ...}, "token_malformed"),
    ("actor", {"sub": "spiffe://bank.example/ns/bank/sa/web", "act": {"sub": shared["caller"]}}, None),
    ("another actor", {"act": {"sub": "spiffe://bank.example/ns/bank/sa/web"}}, "caller_mismatch"),
):
    add(f"joserfc {name}", bearer(by_joserfc(good(**change))), reason)
twice = json.dumps(good())[:-1] + ', "sub": "spiffe://bank.example/ns/bank/sa/shop"}'
add("a member twice", bearer(by_joserfc(None, payload=twice)), "token_malformed")
add("latin-1", bearer(by_joserfc(None, payload=json.dumps(good(extra="é"), ensure_ascii=False).encode("latin-1"))), "token_malformed")
add("NaN", bearer(by_joserfc(good(extra=float("nan")))), "token_malformed")
add("a list", bearer(by_joserfc([good()])), "token_malformed")
spaces = json.dumps(good(), indent=2)
add("spaces in the JSON", bearer(by_joserfc(None, payload=spaces)))
add("encrypted", bearer(jwe.encrypt_compact({"alg": "ECDH-ES", "enc": "A128CBC-HS256"}, "x", jwk.ECKey.generate_key("P-256"))), "token_malformed")
flat = jws.serialize_json({"protected": {"alg": "ES256"}}, json.dumps(good()), keys["ES256"])
add("JSON serialization", bearer(base64.urlsafe_b64encode(json.dumps(flat).encode()).decode()), "token_malformed")

for alg, key in keys.items():
    mine = type(key).generate_key(2048 if alg == "PS256" else key.curve_name)
    public = {name: value for name, value in mine.as_dict(private=False).items() if name in ("kty", "crv", "x", "y", "n", "e")}
    token = by_joserfc(good(cnf={"jkt": mine.thumbprint()}))
    ath = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
    own = {"jti": "p-1", "htm": "POST", "htu": shared["url"], "iat": now, "nonce": nonce, "ath": ath}

    def proof(change, key=mine, alg=alg, public=public, own=own, **header):
        claims = {name: value for name, value in (own | change).items() if value is not ...}
        return by_joserfc(claims, alg, key, **({"typ": "dpop+jwt", "jwk": public, "kid": ...} | header))

    add(f"{alg} proof", dpop(token, proof({})))
    add(f"{alg} proof by PyJWT", dpop(token, pyjwt.encode(own, pem(mine), algorithm=alg, headers={"typ": "dpop+jwt", "jwk": public})))
    for name, change, reason in (
        ("method", {"htm": "post"}, "proof_htm"), ("URL", {"htu": "http://payments.bank/transfers"}, "proof_htu"),
        ("no jti", {"jti": ...}, "proof_malformed"), ("no iat", {"iat": ...}, "proof_malformed"), ("no nonce", {"nonce": ...}, "proof_nonce_required"),
        ("no ath", {"ath": ...}, "proof_ath"), ("an hour old", {"iat": now - 3600}, "proof_stale"), ("a fragment", {"htu": shared["url"] + "#a"}, None),
        ("the default port", {"htu": "https://PAYMENTS.bank:443/transfers"}, None), ("iat as text", {"iat": str(now)}, "proof_malformed"),
    ):
        add(f"{alg} proof: {name}", dpop(token, proof(change)), reason)
    private = mine.as_dict(private=True)
    add(f"{alg} proof with its private key", dpop(token, proof({}, jwk=private)), "proof_malformed")
    add(f"{alg} proof of another key", dpop(token, proof({}, key=type(key).generate_key(2048 if alg == "PS256" else key.curve_name))), "proof_malformed")
    add(f"{alg} token as proof", dpop(token, token), "proof_malformed")
    add(f"{alg} proof as token", dpop(proof({}), proof({})), "token_malformed")
rsa = jwk.RSAKey.generate_key(2048)
token = by_joserfc(good(cnf={"jkt": rsa.thumbprint()}))
own = {"jti": "p-1", "htm": "POST", "htu": shared["url"], "iat": now, "nonce": nonce}
header = {"typ": "dpop+jwt", "jwk": rsa.as_dict(private=False), "kid": ...}
add("RS256 proof", dpop(token, by_joserfc(own, "RS256", rsa, **header)), "proof_malformed")

print(json.dumps({"about": "Tokens and proofs by joserfc 1.8.0 and PyJWT 2.15.1.", "world": world, "cases": cases}, separators=(",", ":")))
