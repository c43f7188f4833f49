"""Requests, good and bad, for two judges: a good one is drawn, then bent in none, one or a few ways."""

import base64
import copy
import hashlib
import hmac
import json

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from oracle import Bad, b64, thumbprint, unb64

NOW = 1_800_000_000
ISSUER, OTHER_ISSUER, FOREIGN = "https://issuer.fapi-mesh", "https://id.bank.example", "https://evil.example"
PAYMENTS, LEDGER = "https://payments.bank", "https://ledger.bank"
SHOP = "spiffe://bank.example/ns/bank/sa/shop"
SECRET = "07" * 32


class Members(list):
    """A JSON object as pairs, so that a member can be there twice."""

    def get(self, name):
        return next((value for key, value in self if key == name), None)

    def set(self, name, value):
        self[:] = [pair for pair in self if pair[0] != name] + [(name, value)]

    def drop(self, name):
        self[:] = [pair for pair in self if pair[0] != name]


class Raw(str):
    """JSON text as it stands."""


def dump(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        value = Members(value.items())
    if isinstance(value, Members):
        return "{" + ",".join(f"{json.dumps(name)}:{dump(part)}" for name, part in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


# -- Keys


class KeyPair:
    def __init__(self, private, alg):
        self.private, self.alg = private, alg

    def sign(self, data, alg=None):
        alg = alg or self.alg
        if alg == "none":
            return b""
        if alg.startswith("HS"):
            return hmac.new(json.dumps(self.jwk()).encode(), data, hashlib.sha256).digest()
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            der = self.private.sign(data, ec.ECDSA(hashes.SHA256()))
            size = (self.private.key_size + 7) // 8
            return b"".join(number.to_bytes(size) for number in utils.decode_dss_signature(der))
        if isinstance(self.private, rsa.RSAPrivateKey):
            sha, kind = {"5": hashes.SHA512(), "3": hashes.SHA384()}.get(alg[2], hashes.SHA256()), alg[:2]
            salt = {"PS256-0": 0, "PS256-max": padding.PSS.MAX_LENGTH}.get(alg, sha.digest_size)
            pad = padding.PKCS1v15() if kind == "RS" else padding.PSS(padding.MGF1(sha), salt)
            return self.private.sign(data, pad, sha)
        return self.private.sign(data)

    def jwk(self, **more):
        public = self.private.public_key()
        if isinstance(public, ec.EllipticCurvePublicKey):
            numbers, size = public.public_numbers(), (public.key_size + 7) // 8
            curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp256k1": "secp256k1"}[public.curve.name]
            members = {"kty": "EC", "crv": curve, "x": b64(numbers.x.to_bytes(size)), "y": b64(numbers.y.to_bytes(size))}
        elif isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            n, e = (b64(one.to_bytes((one.bit_length() + 7) // 8)) for one in (numbers.n, numbers.e))
            members = {"kty": "RSA", "n": n, "e": e}
        else:
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            members = {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}
        return members | more

    def private_member(self):
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return b64(self.private.private_numbers().private_value.to_bytes(32))
        return b64(b"\x01" * 32)


class SmallOrder:
    """An Ed25519 key that is the neutral point: one signature fits every text."""

    alg = "EdDSA"

    def sign(self, data, alg=None):
        return b"\x01" + b"\x00" * 63

    def jwk(self, **more):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(b"\x01" + b"\x00" * 31)} | more

    def private_member(self):
        return "AQ"


class Keys:
    """Made once for all cases."""

    def __init__(self, rng):
        def p256():
            return KeyPair(ec.derive_private_key(rng.getrandbits(250) + 1, ec.SECP256R1()), "ES256")

        def ed():
            return KeyPair(ed25519.Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)), "EdDSA")

        def rsa_of(bits, exponent=65537):
            return KeyPair(rsa.generate_private_key(exponent, bits), "PS256")

        self.issuer = {"ES256": p256(), "PS256": rsa_of(2048), "EdDSA": ed()}
        self.other = {"ES256": p256(), "PS256": rsa_of(2048), "EdDSA": ed()}
        self.proof = {"ES256": p256(), "PS256": rsa_of(2048), "EdDSA": ed()}
        self.thief = {"ES256": p256(), "PS256": rsa_of(2048), "EdDSA": ed()}
        self.rsa_small, self.rsa_3 = rsa_of(1024), rsa_of(2048, 3)
        self.p384 = KeyPair(ec.derive_private_key(rng.getrandbits(250) + 1, ec.SECP384R1()), "ES384")
        self.k256 = KeyPair(ec.derive_private_key(rng.getrandbits(250) + 1, ec.SECP256K1()), "ES256K")
        self.small_order = SmallOrder()


# -- A case


class Jws:
    """Header and claims, the key that signs, and what happens to the finished text."""

    def __init__(self, header, claims, key):
        self.header, self.claims, self.key = Members(header.items()), Members(claims.items()), key
        self.sign_as, self.bend_parts, self.bend_signature, self.finish = None, [], [], []

    def text(self):
        parts = [b64(dump(part).encode("utf-8", "surrogatepass")) for part in (self.header, self.claims)]
        for bend in self.bend_parts:
            parts = bend(parts)
        signature = self.key.sign(".".join(parts).encode(), self.sign_as)
        for bend in self.bend_signature:
            signature = bend(signature)
        text = ".".join([*parts, b64(signature)])
        for bend in self.finish:
            text = bend(text)
        return text


class Draft:
    """A good request, ready to be bent."""

    def __init__(self, rng, keys, nonces):
        self.rng, self.keys, self.nonces = rng, keys, nonces
        self.clock = NOW
        self.certificate = b64(rng.randbytes(32))
        self.issuer = rng.choice([ISSUER, ISSUER, OTHER_ISSUER])
        pairs = keys.issuer if self.issuer == ISSUER else keys.other
        alg = rng.choice(["ES256", "ES256", "PS256", "EdDSA"])
        self.binding = rng.choice(["mtls", "dpop", "dpop", "both"])
        self.method, self.path, self.query = "POST", "/transfers", None
        if rng.random() < 0.3:
            self.method = "GET"
            self.path = rng.choice(["/accounts", "/accounts/7", "/accounts/a%C3%A9", "/accounts/x:y@z,1", "/accounts/x%3Ay%40z,1", "/accounts/"])
        self.headers = []
        resource = rng.choice([PAYMENTS, PAYMENTS, LEDGER])
        self.origin = rng.choice([PAYMENTS, "https://api.bank.example:8443"]) if resource == PAYMENTS else LEDGER
        self.world = {
            "trustDomain": "bank.example",
            "policy": policy(),
            "issuers": {
                ISSUER: {"keys": [pair.jwk(kid=f"k-{alg}") for alg, pair in keys.issuer.items()]},
                OTHER_ISSUER: {"keys": [pair.jwk(kid=f"k-{alg}") for alg, pair in keys.other.items()]},
            },
            "keysFresh": rng.random() < 0.8,
            "peer": {"spiffeId": SHOP, "thumbprint": self.certificate, "notAfter": NOW + 3600},
            "nonceSecret": SECRET,
            "replayCapacity": 1000,
            "clock": NOW,
        }
        claims = {
            "iss": self.issuer, "sub": SHOP, "client_id": SHOP, "aud": resource, "jti": rng.randbytes(8).hex(),
            "iat": NOW - 20, "exp": NOW + 300, "scope": "transfers:write accounts:read", "cnf": {},
        }
        header = {"alg": alg, "typ": "at+jwt", "kid": f"k-{alg}"}
        self.token = Jws(header, claims, pairs[alg])
        self.scheme = "Bearer" if self.binding == "mtls" else "DPoP"
        self.credentials = lambda scheme, token: f"{scheme} {token}"
        self.proof_alg = rng.choice(["ES256", "ES256", "PS256", "EdDSA"])
        key = keys.proof[self.proof_alg]
        cnf = Members()
        if self.binding != "dpop":
            cnf.set("x5t#S256", self.certificate)
        if self.binding != "mtls":
            cnf.set("jkt", thumbprint(key.jwk()))
        self.token.claims.set("cnf", cnf)
        self.proof = None
        if self.binding != "mtls":
            claims = {
                "jti": rng.randbytes(12).hex(), "htm": self.method, "htu": self.origin + self.path, "iat": NOW - 2,
                "nonce": nonces[NOW - 3],
            }
            self.proof = Jws({"alg": self.proof_alg, "typ": "dpop+jwt", "jwk": key.jwk()}, claims, key)
        self.send_proofs = lambda proof: [proof]
        self.again = None
        self.bent = []

    def line(self):
        token = self.token.text()
        headers = [["authorization", self.credentials(self.scheme, token)]] if self.credentials else []
        if self.proof:
            if self.proof.claims.get("ath") is None and not getattr(self, "no_ath", False):
                self.proof.claims.set("ath", b64(hashlib.sha256(token.encode()).digest()))
            headers += [["dpop", proof] for proof in self.send_proofs(self.proof.text())]
        request = {"method": self.method, "path": self.path, "headers": headers + self.headers}
        if self.query is not None:
            request["query"] = self.query
        steps = [{"clock": self.clock, "request": request}]
        if self.again:
            steps += self.again(self, copy.deepcopy(request))
        return {"world": self.world, "steps": steps}


def policy():
    return {
        "name": "bank/payments",
        "mode": "Enforce",
        "resources": [
            {"audience": PAYMENTS, "origins": [PAYMENTS, "https://api.bank.example:8443"]},
            {"audience": LEDGER, "origins": [LEDGER]},
        ],
        "issuers": [ISSUER, OTHER_ISSUER],
        "senderConstraints": ["MTLS", "DPoP"],
        "rules": [
            {"methods": ["POST"], "paths": ["/transfers"], "scopes": ["transfers:write"],
             "callers": [{"namespace": "bank", "serviceAccount": "shop"}]},
            {"methods": ["GET"], "pathPrefixes": ["/accounts"], "scopes": ["accounts:read"],
             "callers": [{"namespace": "bank"}]},
        ],
    }


# -- Bends. Each is a function of a draft; `jws` ones are told which of the two texts to bend.

BENDS, JWS_BENDS = [], []


def bend(function):
    BENDS.append((function.__name__, function))
    return function


def jws_bend(function):
    JWS_BENDS.append((function.__name__, function))
    return function


def draw(rng, keys, nonces):
    draft = Draft(rng, keys, nonces)
    for _ in range(rng.choice([0, 1, 1, 1, 1, 1, 1, 2, 2, 3])):
        if rng.random() < 0.4:
            name, function = rng.choice(JWS_BENDS)
            which = rng.choice(["token", "proof"] if draft.proof else ["token"])
            function(draft, getattr(draft, which), which)
            draft.bent.append(f"{which}: {name}")
        else:
            name, function = rng.choice(BENDS)
            function(draft)
            draft.bent.append(name)
    return draft


BAD_TIMES = [Raw(text) for text in (
    '"1800000000"', "1e30", "-1", "-0", "1800000000.5", "1800000000.0", "1.8e9", "18000000000e-1", "null", "true", "[]", "{}",
    "99999999999999999999", "253402300799", "253402300800", "0", "1800000000E0", '""')]
NO_TEXTS = [Raw("null"), Raw("1"), Raw("true"), Raw("[]"), Raw("{}"), Raw('["a"]'), Raw('""'), Raw('"\\ud800"'), Raw('"é"')]


# Form of a JWS.

@jws_bend
def member_twice(draft, jws, which):
    part = draft.rng.choice([jws.header, jws.claims])
    name, value = draft.rng.choice(part)
    part.append((name, draft.rng.choice([value, "other"])))


@jws_bend
def nested_member_twice(draft, jws, which):
    for part in (jws.header, jws.claims):
        for name in ("jwk", "cnf"):
            value = part.get(name)
            if isinstance(value, (dict, Members)):
                pairs = Members(value.items() if isinstance(value, dict) else value)
                if pairs:
                    part.set(name, Members([*pairs, draft.rng.choice(pairs)]))
                return
    jws.claims.set("extra", Members([("a", 1), ("a", 2)]))


@jws_bend
def unknown_members(draft, jws, which):
    part = draft.rng.choice([jws.header, jws.claims])
    part.set("x-" + draft.rng.randbytes(3).hex(), draft.rng.choice([1, "a", [1, {"b": None}], 1.5, None, "é\n"]))


@jws_bend
def member_dropped(draft, jws, which):
    part = draft.rng.choice([jws.header, jws.claims, jws.claims])
    name = draft.rng.choice(part)[0]
    part.drop(name)
    if which == "proof" and name == "ath":
        draft.no_ath = True


@jws_bend
def member_of_another_type(draft, jws, which):
    part = draft.rng.choice([jws.header, jws.claims, jws.claims])
    name = draft.rng.choice(part)[0]
    part.set(name, draft.rng.choice(NO_TEXTS))


@jws_bend
def crit(draft, jws, which):
    jws.header.set("crit", draft.rng.choice([["exp"], ["b64"], [], "b64", None, ["x-new"]]))
    if draft.rng.random() < 0.5:
        jws.header.set("b64", draft.rng.choice([True, False]))


@jws_bend
def key_in_header(draft, jws, which):
    if which == "token":
        name = draft.rng.choice(["jwk", "jku", "x5u", "x5c"])
        value = {"jwk": jws.key.jwk(), "x5c": ["MIIB"]}.get(name, "https://evil.example/keys")
        jws.header.set(name, value)


@jws_bend
def signature_bytes(draft, jws, which):
    def flip(signature):
        if not signature:
            return b"\x00"
        at = draft.rng.randrange(len(signature))
        return signature[:at] + bytes([signature[at] ^ 1 << draft.rng.randrange(8)]) + signature[at + 1 :]

    jws.bend_signature.append(draft.rng.choice([
        flip, lambda s: b"", lambda s: s[:-1], lambda s: s + b"\x00", lambda s: b"\x00" * len(s), lambda s: s[::-1],
        lambda s: utils.encode_dss_signature(int.from_bytes(s[:32]), int.from_bytes(s[32:64])),
        lambda s: b"\xff" * len(s), lambda s: b"\x00" + s, lambda s: s[len(s) // 2 :] + s[: len(s) // 2],
    ]))


@jws_bend
def other_signature_of_the_same_key(draft, jws, which):
    """ECDSA takes (r, n - s) as well."""
    if jws.key.alg == "ES256":
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        jws.bend_signature.append(lambda s: s[:32] + ((order - int.from_bytes(s[32:])) % order).to_bytes(32))


@jws_bend
def r_plus_order(draft, jws, which):
    if jws.key.alg == "ES256":
        jws.bend_signature.append(lambda s: s[:32] + b"\x00" * 32 if draft.rng.random() < 0.5 else b"\x00" * 32 + s[32:])


@jws_bend
def padding_of_pss(draft, jws, which):
    if jws.key.alg == "PS256":
        jws.sign_as = draft.rng.choice(["PS256-0", "PS256-max", "RS256", "PS384"])


@jws_bend
def alg_name(draft, jws, which):
    jws.header.set("alg", draft.rng.choice([
        "none", "None", "NONE", "", "HS256", "RS256", "ES384", "ES256K", "ES512", "PS384", "PS512", "es256", "ES256 ",
        "Ed25519", "Ed448", "EdDSA", "ES256", "PS256"]))


@jws_bend
def honest_other_alg(draft, jws, which):
    alg = draft.rng.choice(["none", "HS256"] + (["RS256", "PS384"] if jws.key.alg == "PS256" else []))
    jws.header.set("alg", alg)
    jws.sign_as = alg


@jws_bend
def ed25519_name(draft, jws, which):
    if jws.key.alg == "EdDSA":
        jws.header.set("alg", "Ed25519")


@jws_bend
def signed_by_a_thief(draft, jws, which):
    jws.key = draft.keys.thief[jws.key.alg] if jws.key.alg in draft.keys.thief else jws.key


@jws_bend
def typ(draft, jws, which):
    jws.header.set("typ", draft.rng.choice([
        "JWT", "at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt", "at+jwt;v=1", " at+jwt", "dpop+jwt",
        "DPOP+JWT", "application/dpop+jwt", "", "id_token+jwt", "token-introspection+jwt", "application/", "at+jwt "]))


@jws_bend
def odd_base64(draft, jws, which):
    at = draft.rng.randrange(3)

    def stray_bits(part):
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        return part[:-1] + alphabet[alphabet.index(part[-1]) ^ 1] if len(part) % 4 and part else part + "="

    def to_standard(part):
        return part.replace("-", "+").replace("_", "/")

    change = draft.rng.choice([
        lambda part: part + "=", lambda part: part + "==", lambda part: part + "=" * (-len(part) % 4), stray_bits,
        to_standard, lambda part: part[:-1], lambda part: part + "A", lambda part: "", lambda part: part + "~",
        lambda part: part[:4] + "\u00e9" + part[4:], lambda part: part[:4] + " " + part[4:]])

    def finish(text):
        parts = text.split(".")
        parts[at % len(parts)] = change(parts[at % len(parts)])
        return ".".join(parts)

    jws.finish.append(finish)


@jws_bend
def odd_base64_signed(draft, jws, which):
    """A part that is padded, or has bits behind its end, signed as it is spelled."""

    def change(parts):
        at = draft.rng.randrange(2)
        part = parts[at]
        if draft.rng.random() < 0.3:
            parts[at] = part + "=" * (-len(part) % 4 or 4)
        elif len(part) % 4 in (2, 3):
            alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            parts[at] = part[:-1] + alphabet[alphabet.index(part[-1]) | 1]
        return parts

    jws.bend_parts.append(change)


@jws_bend
def number_of_parts(draft, jws, which):
    jws.finish.append(draft.rng.choice([
        lambda text: text + ".", lambda text: "." + text, lambda text: text.replace(".", "", 1), lambda text: text + ".AA",
        lambda text: text.replace(".", "..", 1), lambda text: text + ".AA.AA", lambda text: "", lambda text: "...",
        lambda text: text.rsplit(".", 1)[0] + "."]))


@jws_bend
def json_of_a_part(draft, jws, which):
    at = draft.rng.randrange(2)
    text = draft.rng.choice([
        b"", b"null", b"[]", b'"a"', b"1", b"{}", b"{", b'{"alg":"ES256",}', b"\xef\xbb\xbf%s", b" %s \n", b"%s{}",
        b"%s\x00", b'{"a":NaN,%s', b'{"a":"\xff",%s', b"{'a':1}", b'{"a":Infinity}', b"// a\n%s", b'{"a":"\x01",%s',
        b'{"a":01,%s', b'{"a":1.,%s', b'{"\\u0061lg":"ES256",%s'])

    def change(parts):
        whole = unb64(parts[at])
        fill = whole[1:] if text.endswith(b",%s") else whole
        parts[at] = b64(text.replace(b"%s", fill))
        return parts

    # Before the spelling is bent, so that the part can be read here.
    jws.bend_parts.insert(0, change)


@jws_bend
def flipped_bit(draft, jws, which):
    def finish(text):
        if not text:
            return text
        at = draft.rng.randrange(len(text))
        letter = chr(ord(text[at]) ^ 1 << draft.rng.randrange(7))
        return text[:at] + letter + text[at + 1 :] if letter.isprintable() else text[:at] + text[at + 1 :]

    jws.finish.append(finish)


@jws_bend
def large(draft, jws, which):
    # Well below or well above any bound.
    jws.claims.set("padding", "a" * draft.rng.choice([100, 1000, 9000]))


@jws_bend
def time_value(draft, jws, which):
    jws.claims.set(draft.rng.choice(["iat", "exp", "nbf"]), draft.rng.choice(BAD_TIMES))


@jws_bend
def time_near_a_limit(draft, jws, which):
    name = draft.rng.choice(["iat", "exp", "nbf"])
    offsets = {"iat": [-3601, -300, -61, -60, -59, 0, 9, 10, 31, 60, 61], "exp": [-6, -5, -4, -1, 0, 1, 61],
               "nbf": [-100, 0, 9, 10, 11, 29, 30, 31, 61]}
    jws.claims.set(name, NOW + draft.rng.choice(offsets[name]))


# The token.

@bend
def kid(draft):
    draft.token.header.set("kid", draft.rng.choice(
        ["k-ES256", "k-PS256", "k-EdDSA", "unknown", "", "../../etc/passwd", "k-es256", "' or 1=1", "a" * 300]))


@bend
def no_kid(draft):
    draft.token.header.drop("kid")
    if draft.rng.random() < 0.5:
        published(draft).append(
            draft.keys.thief[draft.rng.choice(["ES256", "PS256", "EdDSA"])].jwk(kid="more"))


@bend
def issuer(draft):
    draft.token.claims.set("iss", draft.rng.choice([
        ISSUER, OTHER_ISSUER, FOREIGN, ISSUER + "/", "HTTPS://issuer.fapi-mesh", "https://issuer.fapi-mesh:443", "",
        "https://Issuer.fapi-mesh", ISSUER + " ", "issuer"]))


@bend
def audience(draft):
    draft.token.claims.set("aud", draft.rng.choice([
        PAYMENTS, LEDGER, [PAYMENTS], [LEDGER, PAYMENTS], ["https://other.bank", PAYMENTS], [], "", "https://other.bank",
        PAYMENTS + "/", PAYMENTS + ":443", "https://PAYMENTS.bank", [PAYMENTS, 1], {"a": PAYMENTS}, [[PAYMENTS]],
        PAYMENTS + " " + LEDGER, ["https://other.bank"], "payments.bank", [PAYMENTS, PAYMENTS], ["urn:x", PAYMENTS]]))


@bend
def scope(draft):
    draft.token.claims.set("scope", draft.rng.choice([
        "", "transfers:write", "accounts:read", "accounts:read transfers:write", "transfers:write  accounts:read",
        " transfers:write", "transfers:write ", "transfers:write,accounts:read", "TRANSFERS:WRITE", "transfers",
        "transfers:write transfers:write accounts:read", 'a"b', "a\\b", "transfers:write\taccounts:read", "é",
        ["transfers:write", "accounts:read"]]))


@bend
def no_scope(draft):
    draft.token.claims.drop("scope")


@bend
def subject(draft):
    name = draft.rng.choice(["sub", "client_id"])
    draft.token.claims.set(name, draft.rng.choice([
        "spiffe://bank.example/ns/bank/sa/web", "spiffe://bank.example/ns/bank/sa/shop/", SHOP.upper(), "shop", "",
        "spiffe://evil.example/ns/bank/sa/shop", SHOP + " ", "spiffe://bank.example/ns/bank/sa/shop2"]))


@bend
def actor(draft):
    def chain(subs):
        inner = None
        for sub in reversed(subs):
            inner = {"sub": sub} | ({"act": inner} if inner else {})
        return inner

    web = "spiffe://bank.example/ns/bank/sa/web"
    draft.token.claims.set("act", draft.rng.choice([
        chain([SHOP]), chain([web]), chain([SHOP, web]), chain([web, SHOP]), chain([SHOP] * 8), chain([SHOP] * 9), {},
        SHOP, None, [], {"sub": 1}, {"sub": SHOP, "act": None}, {"sub": SHOP, "act": {}}, {"sub": SHOP, "iss": ISSUER},
        Members([("sub", web), ("sub", SHOP)])]))
    if draft.rng.random() < 0.4:
        draft.token.claims.set("sub", web)


def confirmations(draft):
    """The members of `cnf`, as far as it is an object."""
    members = draft.token.claims.get("cnf")
    return Members(members if isinstance(members, Members) else [])


@bend
def confirmation(draft):
    claims, rng = draft.token.claims, draft.rng
    good = confirmations(draft)
    other = b64(rng.randbytes(32))
    change = rng.choice([
        None, Members(), "x", [], 1, Raw("null"), Members([*good, ("jku", "https://evil.example")]), Members([*good, ("kid", "a")]),
        Members([*good, ("x5t", other)]), Members([("jwk", draft.keys.proof["ES256"].jwk())]),
        Members([("x5t#S256", other)]), Members([("jkt", other)]), Members([*good, *good]),
        Members([("x5t#S256", draft.certificate), ("jkt", other)]), Members([("X5T#S256", draft.certificate)]),
        Members([("x5t#S256", draft.certificate)]), Members([("jkt", thumbprint(draft.keys.proof[draft.proof_alg].jwk()))]),
        Members([("x5t#S256", other), ("jkt", thumbprint(draft.keys.proof[draft.proof_alg].jwk()))])])
    claims.drop("cnf")
    if change is not None:
        claims.set("cnf", change)


@bend
def thumbprint_spelling(draft):
    good = confirmations(draft)
    if not good:
        return
    name = draft.rng.choice(good)[0]
    value = good.get(name)
    try:
        raw = unb64(value)
    except Bad:
        return
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    good.set(name, draft.rng.choice([
        value + "=", raw.hex(), raw.hex().upper(), ":".join(f"{byte:02X}" for byte in raw), base64.b64encode(raw).decode(),
        value[:-1], value + "A", value[:-1] + alphabet[alphabet.index(value[-1]) | 1], value.swapcase(), "", 1, None,
        [value], value + " ", b64(raw.hex().encode()), "sha-256:" + value]))
    draft.token.claims.set("cnf", good)


@bend
def details(draft):
    wanted = draft.rng.choice([
        {"type": "payment", "actions": ["initiate"]}, {"type": "payment"}, {"type": "payment", "identifier": "a-1"},
        {"type": "payment", "locations": ["https://payments.bank"]}, {"type": "payment", "actions": ["initiate", "read"]}])
    for rule in draft.world["policy"]["rules"]:
        rule["authorizationDetails"] = [wanted]
    given = draft.rng.choice([
        [wanted], [], None, [{"type": "payment"}], [{"type": "payment", "actions": ["read"]}, wanted],
        [{"type": "payment", "actions": ["initiate", "read", "x"]}], [{"type": "payment", "actions": []}],
        [{"type": "payment", "actions": ["initiate"], "limit": 5}], [{"type": "Payment", "actions": ["initiate"]}],
        [{"type": "payment", "actions": "initiate"}], {"type": "payment"}, [1], [{"actions": ["initiate"]}], "x",
        [{"type": "payment", "actions": ["initiate"], "identifier": "a-1"}], [{"type": 1}],
        [{"type": "payment", "actions": ["initiate"], "locations": ["https://payments.bank"]}],
        [{"type": "payment", "actions": ["initiate"], "locations": ["https://payments.bank", "https://ledger.bank"]}],
        [{"type": "payment", "actions": ["initiate"]}, {"type": "payment", "actions": ["read"]}],
        [Members([("type", "payment"), ("type", "x")])]])
    if given is not None:
        draft.token.claims.set("authorization_details", given)


# Keys of the issuer.

def published(draft):
    return draft.world["issuers"].setdefault(draft.issuer, {"keys": []})["keys"]


@bend
def published_key(draft):
    rng, alg = draft.rng, draft.token.key.alg
    keys = published(draft)
    own = [key for key in keys if key.get("kid") == f"k-{alg}"]
    if not own:
        return
    change = rng.choice([
        {"use": "enc"}, {"use": "sig"}, {"use": "SIG"}, {"alg": alg}, {"alg": "RS256"}, {"alg": "Ed25519"}, {"key_ops": ["verify"]},
        {"key_ops": ["sign"]}, {"key_ops": []}, {"key_ops": ["sign", "verify"]}, {"key_ops": "verify"}, {"d": "AQ"},
        {"kty": "oct"}, {"kty": "ec"}, {"crv": "P-384"}, {"crv": "p-256"}, {"crv": "X25519"}, {"x5c": ["MIIB"]}, {"x5t": "a"}, {"ext": True},
        {"kid": "moved"}, {"use": None}, {"alg": None}, {"k": "AQ"}, {"x": "AQ"}, {"n": "AQAB"}])
    own[0].update(change)


@bend
def decoys(draft):
    """The same key id on other keys, before or behind the right one (FAPI 2.0 SP 5.4.3)."""
    rng, keys = draft.rng, published(draft)
    kid = draft.token.header.get("kid")
    if not isinstance(kid, str):
        return
    pool = [*draft.keys.thief.values(), draft.keys.p384, draft.keys.k256, draft.keys.rsa_small, draft.keys.small_order]
    for pair in rng.sample(pool, rng.randrange(1, 4)):
        keys.insert(rng.randrange(len(keys) + 1), pair.jwk(kid=kid))
    if rng.random() < 0.3:
        keys.insert(0, {"kty": "oct", "k": "AQAB", "kid": kid})
    if rng.random() < 0.3:
        keys.insert(0, {"kty": "MLDSA", "kid": kid})


@bend
def issuer_signs_with_an_odd_key(draft):
    rng = draft.rng
    pair, alg = rng.choice([
        (draft.keys.p384, "ES384"), (draft.keys.p384, "ES256"), (draft.keys.k256, "ES256K"), (draft.keys.k256, "ES256"),
        (draft.keys.rsa_small, "PS256"), (draft.keys.rsa_3, "PS256"), (draft.keys.small_order, "EdDSA")])
    published(draft).append(pair.jwk(kid="odd"))
    draft.token.key = pair
    draft.token.sign_as = "PS256" if pair.alg == "PS256" else None
    draft.token.header.set("alg", alg)
    draft.token.header.set("kid", "odd")


@bend
def published_spelling(draft):
    """Numbers of a key with a zero in front or behind, padded or in the other alphabet."""
    rng, alg = draft.rng, draft.token.key.alg
    keys = published(draft)
    for key in keys:
        if key.get("kid") == f"k-{alg}" and key["kty"] != "MLDSA" and key["kty"] != "oct":
            name = rng.choice([name for name in ("x", "y", "n", "e") if name in key])
            value = key[name]
            try:
                raw = unb64(value)
            except Bad:
                return
            key[name] = rng.choice([
                b64(b"\x00" + raw), b64(raw + b"\x00"), value + "=", b64(raw[1:]), b64(bytes([raw[0] ^ 1]) + raw[1:]),
                raw.hex(), "", value + "A", b64(raw[:-1] + bytes([raw[-1] ^ 1]))])


@bend
def other_issuers_key(draft):
    other = OTHER_ISSUER if draft.issuer == ISSUER else ISSUER
    pairs = draft.keys.other if other == OTHER_ISSUER else draft.keys.issuer
    if draft.token.key.alg in pairs:
        draft.token.key = pairs[draft.token.key.alg]


@bend
def issuer_without_keys(draft):
    if draft.rng.random() < 0.5:
        draft.world["issuers"].pop(draft.issuer, None)
    else:
        published(draft).clear()


# The proof.

@bend
def method_in_proof(draft):
    if draft.proof:
        draft.proof.claims.set("htm", draft.rng.choice(["POST", "GET", "post", "Post", "PUT", "", "POST "]))


@bend
def url_in_proof(draft):
    if not draft.proof:
        return
    host = draft.origin.removeprefix("https://")
    path = draft.path
    draft.proof.claims.set("htu", draft.rng.choice([
        f"HTTPS://{host}{path}", f"https://{host.upper()}{path}", f"https://{host}:443{path}", f"https://{host}:0443{path}",
        f"http://{host}{path}", f"https://{host}{path}?x=1", f"https://{host}{path}#f", f"https://{host}{path}?a#b?c",
        f"https://{host}{path}/", f"https://{host}{path.rstrip('/')}", f"https://{host}/.{path}", f"https://{host}/x/..{path}",
        f"https://{host}/..{path}", f"https://{host}{path}/.", f"https://{host}{path}/x/..", f"https://{host}//{path}",
        f"https://{host}{path.replace('a', '%61')}", f"https://{host}{path.replace('a', '%2561')}", f"https://user@{host}{path}",
        f"https://{host}.{path}", f"https://{host}:{path}", f"https://{host}:8443{path}", f"https://{host}:99999{path}",
        f"https://evil.example{path}", f"//{host}{path}", path, "", "https://", f"https:///{host}{path}",
        f"https://{host}{path.upper()}", f" https://{host}{path}", f"https://{host}{path} ", f"https://{host}{path}%",
        f"https://{host}{path}%zz", f"https://{host}\\{path}", f"https://{host}{path.replace('%C3%A9', '%c3%a9')}",
        f"https://{host}{path.replace('%C3%A9', 'é')}", f"https://{host}", f"https://{host}?{path}", f"https://{host}#{path}",
        f"https://{host}{path}?é", f"https://{host}{path}?%zz", f"https://{host}{path};x", f"https://{host}{path}%2F",
        f"https://{host}{path}[", f"{PAYMENTS}{path}", f"{LEDGER}{path}", f"https://api.bank.example:8443{path}",
        f"https://%70ayments.bank{path}", f"https://[::1]{path}", f"https:{host}{path}", f"https:/{host}{path}"]))


@bend
def token_hash(draft):
    if not draft.proof:
        return
    rng = draft.rng
    if rng.random() < 0.3:
        draft.no_ath = True
        return
    token = draft.token.text()
    raw = hashlib.sha256(token.encode()).digest()
    draft.proof.claims.set("ath", rng.choice([
        b64(rng.randbytes(32)), raw.hex(), b64(raw) + "=", b64(raw)[:-1], b64(raw.hex().encode()), base64.b64encode(raw).decode(),
        b64(hashlib.sha256(token.rsplit(".", 1)[0].encode()).digest()), b64(raw[:16]), 1, [b64(raw)]]))


@bend
def nonce(draft):
    if not draft.proof:
        return
    rng = draft.rng
    offset = rng.choice([0, -1, -100, -298, -299, -300, -301, -302, -390, 1, 20, 90])
    good = draft.nonces[NOW + offset]
    if rng.random() < 0.6:
        draft.proof.claims.set("nonce", good)
    else:
        draft.proof.claims.set("nonce", rng.choice([
            "", "x", good[:-1], good + "A", good.swapcase(), good + "=", b64(rng.randbytes(24)), 1, None, [good],
            good[:-1] + ("A" if good[-1] != "A" else "B"), " " + good]))


@bend
def no_nonce(draft):
    if draft.proof:
        draft.proof.claims.drop("nonce")


@bend
def proof_id(draft):
    if draft.proof:
        draft.proof.claims.set("jti", draft.rng.choice(["", "a", "é", "a" * 100, "a" * 190, "a" * 1000, " ", "\n", '"', "\x00"]))


@bend
def proof_key(draft):
    if not draft.proof:
        return
    rng, keys = draft.rng, draft.keys
    pair, alg = rng.choice([
        (keys.thief["ES256"], "ES256"), (keys.thief["PS256"], "PS256"), (keys.thief["EdDSA"], "EdDSA"), (keys.p384, "ES256"),
        (keys.p384, "ES384"), (keys.k256, "ES256"), (keys.rsa_small, "PS256"), (keys.rsa_3, "PS256"), (keys.small_order, "EdDSA")])
    draft.proof.key = pair
    draft.proof.header.set("jwk", pair.jwk())
    draft.proof.header.set("alg", alg)
    if rng.random() < 0.6:
        cnf = Members([("jkt", thumbprint(pair.jwk()))])
        draft.token.claims.set("cnf", cnf)


@bend
def proof_jwk(draft):
    if not draft.proof:
        return
    rng = draft.rng
    jwk = draft.proof.key.jwk()
    name = rng.choice([name for name in ("x", "y", "n", "e") if name in jwk])
    value = jwk[name]
    raw = unb64(value)
    change = rng.choice([
        {"d": draft.proof.key.private_member()}, {"k": "AQ"}, {"p": ""}, {"oth": []}, {"dp": None}, {"use": "sig"}, {"use": "enc"},
        {"alg": draft.proof.key.alg}, {"alg": "RS256"}, {"alg": "Ed25519"}, {"key_ops": ["verify"]}, {"key_ops": ["sign"]}, {"kid": "a"},
        {"kid": 1}, {"x5c": []}, {"kty": "oct"}, {"kty": "Ec"}, {"crv": "P-521"}, {"crv": 1}, {name: value + "="}, {name: b64(b"\x00" + raw)},
        {name: b64(raw[1:])}, {name: b64(raw + b"\x00")}, {name: 1}, {name: ""}, {"extra": {"a": 1}}, {name: value[:-1] + '"'},
        {name: b64(raw[:-1] + bytes([raw[-1] ^ 1]))}])
    draft.proof.header.set("jwk", jwk | change)


@bend
def no_jwk(draft):
    if draft.proof:
        draft.proof.header.set("jwk", draft.rng.choice([
            None, [], "x", {}, 1, {"kty": "RSA"}, {"kty": "EC", "crv": "P-256"}, {"kty": "oct", "k": "AQAB"},
            {"kty": "EC", "crv": "P-256", "x": b64(b"\x00" * 32), "y": b64(b"\x00" * 32)},
            {"kty": "EC", "crv": "P-256", "x": b64(b"\xff" * 32), "y": b64(b"\xff" * 32)},
            draft.keys.thief[draft.proof.key.alg if draft.proof.key.alg in draft.keys.thief else "ES256"].jwk()]))


@bend
def key_hint_in_proof(draft):
    if draft.proof:
        draft.proof.header.set(draft.rng.choice(["kid", "x5t", "x5t#S256"]), "abc")


@bend
def proof_headers(draft):
    if draft.proof:
        draft.send_proofs = draft.rng.choice([
            lambda proof: [], lambda proof: [proof, proof], lambda proof: [f"{proof},{proof}"], lambda proof: [""],
            lambda proof: [proof, ""], lambda proof: ["DPoP " + proof], lambda proof: [proof + ","], lambda proof: [f'"{proof}"'],
            lambda proof: ["x"]])


@bend
def proof_beside_bearer(draft):
    if not draft.proof:
        draft.headers.append(["dpop", draft.rng.choice(["x", "", "a.b.c"])])


# The request.

@bend
def scheme(draft):
    draft.scheme = draft.rng.choice(["Bearer", "DPoP", "bearer", "BEARER", "dpop", "DPOP", "Basic", "Token", "", "GNAP", "Bearer\t"])


@bend
def credentials(draft):
    draft.credentials = draft.rng.choice([
        None, lambda s, t: f"{s}  {t}", lambda s, t: f"{s}", lambda s, t: f"{s} ", lambda s, t: t, lambda s, t: f"{s} {t},{s} {t}",
        lambda s, t: f"{s} {t}, {t}", lambda s, t: f'{s} token="{t}"', lambda s, t: f"{s} {t} {t}", lambda s, t: f"{s}:{t}",
        lambda s, t: f"{s} {t}=", lambda s, t: f"{s} {t}é", lambda s, t: f"{s}\t{t}", lambda s, t: f"{s}   {t}", lambda s, t: f"{s} <{t}>"])


@bend
def credentials_twice(draft):
    draft.headers.append(draft.rng.choice([
        ["authorization", "Basic YTpi"], ["authorization", ""], ["Authorization", "Bearer x"], ["AUTHORIZATION", "DPoP a.b.c"]]))


@bend
def header_in_capitals(draft):
    draft.headers.append(draft.rng.choice([
        ["X-Forwarded-Host", "evil.example"], ["Host", "evil.example"], ["X-Forwarded-Client-Cert", "Hash=00"],
        ["Client-Cert", ":AAAA:"], ["Proxy-Authorization", "Bearer x"], ["X-Original-URL", "/accounts"]]))


@bend
def query(draft):
    draft.query = draft.rng.choice([
        "", "x=1", "access_token=x", "a=1&access_token=x", "access_token", "a;access_token=x", "%61ccess_token=x",
        "access%5Ftoken=x", "ACCESS_TOKEN=x", "xaccess_token=x", "access_token2=x", "a=access_token", "access_token%3Dx",
        "a=b=access_token=x", "&access_token=x", "access+token=x", "access_token+=x", "%E9=1", "?access_token=x", "access_token[]=x"])


@bend
def path(draft):
    old = draft.path
    draft.path = draft.rng.choice([
        "/", "/transfers/", "/transfers/1", "/Transfers", "//transfers", "/./transfers", "/x/../transfers", "/transfers;x",
        "/transfers%2F", "/%74ransfers", "/transfers%20", "/accounts/%C3%A9", "/accounts/%c3%a9", "/accounts/..", "/accounts//7",
        "/accounts/%2e%2e/transfers", "/accountsx", "/accounts/a/b/c", "/accounts/a%00", "/accounts/a%5Cb", "/accounts/a\\b", "*", "",
        "transfers", "/accounts/%", "/accounts/%2", "/accounts/%zz", "/accounts/a|b", "/accounts/a%7Cb", "/accounts/a%25b", "/accounts/a b",
        "/accounts/a^b", "/accounts/[a]", "/accounts/a%3Fb", "/accounts/a%23b", "/accounts/'a'", "/accounts/(a)", "/accounts/a+b", "/accounts/a*b",
        "/accounts/%3Ba", "/accounts/...", "/accounts/.a", "/accounts/a%2Eb", "/accounts/a%7Eb", "/accounts/a~b", "/accounts/%C0%AE",
        "/accounts/{a}", "/accounts/a\"b", "/accounts/a%22b", "/accounts/é", "/accounts/a!$&'()*+,=:@b", "/accounts/a%3Db", "/other"])
    if draft.proof and draft.proof.claims.get("htu") == draft.origin + old and draft.rng.random() < 0.9:
        draft.proof.claims.set("htu", draft.origin + draft.path)


@bend
def method(draft):
    old = draft.method
    draft.method = draft.rng.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "get", "OPTIONS", "X-NEW"])
    if draft.proof and draft.proof.claims.get("htm") == old and draft.rng.random() < 0.8:
        draft.proof.claims.set("htm", draft.method)


# The world.

@bend
def peer(draft):
    draft.world["peer"]["spiffeId"] = draft.rng.choice([
        "spiffe://bank.example/ns/bank/sa/web", "spiffe://bank.example/ns/other/sa/shop", "spiffe://evil.example/ns/bank/sa/shop",
        "spiffe://bank.example/ns/bank/sa/shop2"])
    if draft.rng.random() < 0.7:
        draft.token.claims.set("sub", draft.world["peer"]["spiffeId"])


@bend
def other_connection(draft):
    draft.world["peer"]["thumbprint"] = b64(draft.rng.randbytes(32))


@bend
def demands(draft):
    draft.world["policy"]["senderConstraints"] = draft.rng.choice([["MTLS"], ["DPoP"]])


@bend
def resources(draft):
    draft.world["policy"]["resources"] = [draft.rng.choice([
        {"audience": PAYMENTS, "origins": [PAYMENTS]}, {"audience": LEDGER, "origins": [LEDGER, "https://ledger.bank:444"]},
        {"audience": PAYMENTS, "origins": [LEDGER]}, {"audience": PAYMENTS, "origins": ["https://API.bank.example:8443/"]}])]


@bend
def issuers_of_policy(draft):
    draft.world["policy"]["issuers"] = [draft.rng.choice([ISSUER, OTHER_ISSUER])]


@bend
def age(draft):
    for rule in draft.world["policy"]["rules"]:
        rule["maxTokenAge"] = draft.rng.choice([5, 19, 20, 21, 60, 3600])


@bend
def actors_of_rule(draft):
    for rule in draft.world["policy"]["rules"]:
        rule["actors"] = draft.rng.choice([{"min": 1}, {"max": 0}, {"min": 0, "max": 1}, {"min": 2, "max": 8}])
    if draft.rng.random() < 0.6:
        actor(draft)


@bend
def rules(draft):
    shop, web, all_of_bank = {"namespace": "bank", "serviceAccount": "shop"}, {"namespace": "bank", "serviceAccount": "web"}, {"namespace": "bank"}
    draft.world["policy"]["rules"] = draft.rng.sample([
        {"callers": [web]}, {"callers": [shop], "scopes": ["admin"]}, {"callers": [shop], "methods": ["POST", "GET"]},
        {"paths": ["/transfers", "/accounts/7"], "callers": [web]}, {"paths": ["/accounts"], "callers": [shop], "methods": ["PUT"]},
        {"pathPrefixes": ["/accounts/a"], "callers": [shop]}, {"paths": ["/accounts/x:y@z,1"], "callers": [shop], "scopes": ["transfers:write"]},
        {"pathPrefixes": ["/accounts"], "callers": [all_of_bank], "scopes": ["accounts:read"]},
        {"pathPrefixes": ["/"], "callers": [shop], "scopes": ["transfers:write"]}, {"pathPrefixes": ["/accounts/7", "/transfers"], "callers": [shop, web]},
        {"callers": [{"namespace": "other"}]}, {"pathPrefixes": ["/transfers"], "callers": [shop], "maxTokenAge": 10},
        {"paths": ["/"], "callers": [shop]}], draft.rng.randrange(1, 7))


@bend
def clock(draft):
    draft.clock = NOW + draft.rng.choice([-40, -31, -12, -10, 0, 50, 58, 59, 297, 298, 299, 304, 305, 306, 4000])


@bend
def replayed(draft):
    """The same request again, at once or later, perhaps after it was refused."""
    later = draft.rng.choice([0, 1, 30, 55])
    kind = draft.rng.choice(["same", "same", "other_method_first", "fresh_proof", "other_case"])

    def again(draft, request):
        if kind == "fresh_proof" and draft.proof:
            draft.proof.claims.set("jti", draft.rng.randbytes(8).hex())
            request["headers"] = [[n, draft.proof.text() if n == "dpop" else v] for n, v in request["headers"]]
        if kind == "other_case":
            request["headers"] = [[n.upper(), v] for n, v in request["headers"]]
        if kind == "other_method_first":
            request["method"] = "DELETE"
        return [{"clock": draft.clock + later, "request": request}, {"clock": draft.clock + later, "request": request}]

    draft.again = again
