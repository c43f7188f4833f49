"""A second opinion on one request: may it pass, and if not, why.

Written from the RFCs and the design's numbers, with `joserfc` for keys and signatures; it shares nothing with
`crates/fapi`. Where a text leaves a choice (a clock 10 to 30 seconds ahead, which of several faults is named), every
allowed answer is given: `judge` returns a set of reasons, with `ADMIT` for a request that may pass.
"""

import base64
import hashlib
import json
import re
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwk, jws

ADMIT = "admit"
NEED_KEYS = "need_keys"

# Seconds: DESIGN's numbers.
EXP_LEEWAY = 5
AHEAD_TAKEN, AHEAD_REFUSED = 10, 30
PROOF_AGE = 60
NONCE_LIFE = 300
# Bounds against floods, in bytes; between the two a verifier may choose.
TOKEN_BYTES = (4096, 8192)
PROOF_BYTES = (3072, 4096)
JTI_BYTES = (200, 256)
YEAR_10000 = 253402300800

ALGS = {"ES256": ("EC", "P-256"), "PS256": ("RSA", None), "EdDSA": ("OKP", "Ed25519"), "Ed25519": ("OKP", "Ed25519")}
B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")


class Bad(Exception):
    """What was read is not what it should be."""


class BadNumber(Bad):
    """A key whose numbers verify nothing: whether it counts as a key is nobody's rule."""


class Faults:
    """What one stage found: what must refuse, and what may."""

    def __init__(self):
        self.must, self.may = set(), set()


# -- Encodings


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    """RFC 7515 section 2: base64url without padding, line breaks or other characters; RFC 4648 3.5: no stray bits."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise Bad("base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(data) != text:
        raise Bad("bits after the end")
    return data


def read_json(data):
    """One JSON object of RFC 8259; members are unique (RFC 7515 section 4, RFC 7519 section 4), as RFC 7493 wants it."""

    def members(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise Bad("member twice")
        return dict(pairs)

    def constant(name):
        raise Bad(name)

    def whole(text):
        # The design takes no number below 0, and this is written as one.
        return -0.0 if text == "-0" else int(text)

    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=members, parse_constant=constant, parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise Bad(str(error)) from None
    if not isinstance(value, dict) or has_lone_surrogate(value):
        raise Bad("no object")
    return value


def has_lone_surrogate(value):
    """RFC 7493 section 2.1."""
    if isinstance(value, str):
        return any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, dict):
        return any(has_lone_surrogate(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(has_lone_surrogate, value))


def text_of(members, name, required=True):
    value = members.get(name)
    if name not in members and not required:
        return None
    if not isinstance(value, str):
        raise Bad(name)
    return value


def time_of(members, name, required=True):
    """RFC 7519 section 2, NumericDate, as whole seconds from 1970 to 9999."""
    value = members.get(name)
    if name not in members and not required:
        return None
    if type(value) is not int or not 0 <= value < YEAR_10000:
        raise Bad(name)
    return value


def split_jws(compact):
    """RFC 7515 section 7.1: header, payload and the signature's bytes."""
    parts = compact.split(".")
    if len(parts) != 3:
        raise Bad("parts")
    header, payload, signature = (unb64(part) for part in parts)
    header = read_json(header)
    if "crit" in header:
        # Section 4.1.11: no extension is understood here.
        raise Bad("crit")
    return header, read_json(payload), signature


# -- Keys


def usable_key(members, alg):
    """The key that a JWK stands for, if signatures of this algorithm can be verified with it; else `Bad`."""
    kty, crv = ALGS[alg]
    if not isinstance(members, dict) or members.get("kty") != kty:
        raise Bad("kty")
    if set(members) & {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}:
        raise Bad("private")
    same = {"EdDSA", "Ed25519"} if kty == "OKP" else {alg}
    if "alg" in members and members["alg"] not in same:
        raise Bad("alg")
    if "use" in members and members["use"] != "sig":
        raise Bad("use")
    if "key_ops" in members:
        ops = members["key_ops"]
        if not isinstance(ops, list) or "verify" not in ops or not all(isinstance(op, str) for op in ops):
            raise Bad("key_ops")
    if kty == "EC":
        if members.get("crv") != crv or any(len(unb64(members.get(name))) != 32 for name in "xy"):
            raise Bad("point")
        x, y = (int.from_bytes(unb64(members[name])) for name in "xy")
        try:
            ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        except ValueError:
            raise Bad("not on the curve") from None
    elif kty == "OKP":
        if members.get("crv") != crv or len(unb64(members.get("x"))) != 32:
            raise Bad("point")
        if is_small_order(unb64(members["x"])):
            raise Bad("small order")
    else:
        n, e = unb64(members.get("n")), unb64(members.get("e"))
        if not n or not e or n[0] == 0 or e[0] == 0:
            # RFC 7518 section 2: Base64urlUInt uses the fewest octets.
            raise Bad("leading zero")
        n, e = int.from_bytes(n), int.from_bytes(e)
        if not 2048 <= n.bit_length() <= 8192 or e < 3:
            raise Bad("size")
        if n % 2 == 0 or e % 2 == 0:
            raise BadNumber("even")
        try:
            rsa.RSAPublicNumbers(e, n).public_key()
        except ValueError:
            raise Bad("rsa") from None
    names = {"EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x"), "RSA": ("kty", "n", "e")}[kty]
    try:
        return jwk.import_key({name: members[name] for name in names})
    except Exception as error:
        raise Bad(str(error)) from None


def is_small_order(encoded):
    """Whether eight times the point of RFC 8032 is the neutral one; such keys verify what nobody signed."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, (y & (2**255 - 1)) % p
    xx = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    x = pow(xx, (p + 3) // 8, p)
    if (x * x - xx) % p:
        x = x * pow(2, (p - 1) // 4, p) % p
    if (x * x - xx) % p:
        raise BadNumber("no point")
    if x % 2 != sign:
        x = -x % p
    for _ in range(3):
        product = d * x * x * y * y % p
        x, y = 2 * x * y * pow(1 + product, -1, p) % p, (y * y + x * x) * pow(1 - product, -1, p) % p
    return x == 0 and y == 1


def thumbprint(members):
    """RFC 7638, RFC 8037 section 2."""
    names = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}[members["kty"]]
    text = json.dumps({name: members[name] for name in names}, separators=(",", ":"), sort_keys=True)
    return b64(hashlib.sha256(text.encode()).digest())


def verifies(compact, key, alg, signature):
    if alg in ("ES256", "EdDSA", "Ed25519") and len(signature) != 64:
        return False
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    # The RSA key of a proof is longer than the library's own bounds; ours were looked at before.
    registry.max_header_length = registry.max_payload_length = registry.max_signature_length = TOKEN_BYTES[1]
    try:
        jws.deserialize_compact(compact, key, algorithms=[alg], registry=registry)
    except Exception:
        return False
    return True


# -- Paths and URLs


def path_is_ambiguous(path):
    """Whether two readers could see two paths (RFC 3986 sections 3.3 and 6.2): it is refused, not repaired."""
    if not re.fullmatch(r"(/([A-Za-z0-9\-._~!$&'()*+,=:@]|%[0-9A-Fa-f]{2})+)*/?", path) or path == "":
        return True
    if any(segment in (".", "..") for segment in path.split("/")):
        return True
    for code in re.findall(r"%(..)", path):
        byte = bytes.fromhex(code)
        if re.fullmatch(rb"[A-Za-z0-9\-._~/\\%;\x00-\x1f\x7f]", byte):
            return True
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return True
    return False


def as_ruled(path):
    """A rule says `:` where an app, which decodes, sees `:`."""
    return re.sub(r"%(?:21|24|26|27|28|29|2A|2B|2C|3A|3D|40)", lambda found: unquote_to_bytes(found[0]).decode(), path, flags=re.I)


def normal_url(url):
    """`https` URL -> origin and path by RFC 3986 sections 6.2.2 and 6.2.3, without query and fragment."""
    # RFC 9449 4.3, check 9: query and fragment are ignored, whatever they hold.
    found = re.fullmatch(r"(?i:https)://([^/?#]*)([^?#]*)([?#].*)?", url, re.DOTALL)
    if not found or not re.fullmatch(r"(/([A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*)*", found[2]):
        raise Bad("url")
    authority, path = found[1], found[2] or "/"
    host = re.fullmatch(r"([A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(:([0-9]*))?", authority)
    if not host or (host[3] and not 0 < int(host[3]) < 65536):
        raise Bad("authority")
    port = int(host[3]) if host[3] else 443
    return (host[1].lower(), port), normal_path(path)


def normal_path(path):
    def plain(found):
        byte = unquote_to_bytes(found[0])
        return byte.decode() if re.fullmatch(rb"[A-Za-z0-9\-._~]", byte) else found[0].upper()

    path = re.sub(r"%[0-9A-Fa-f]{2}", plain, path)
    # RFC 3986 section 5.2.4.
    out = []
    segments = path.split("/")[1:]
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment == "..":
            del out[-1:]
        elif segment != ".":
            out.append(segment)
            continue
        if last:
            out.append("")
    return "/" + "/".join(out)


# -- The stages


def judge(world, nonces, seen, clock, request):
    """Every answer that may be given, reasons or `ADMIT`. `nonces`: text -> second; `seen`: proofs that counted."""
    judgement = Judgement(world, nonces, seen, clock, request)
    allowed = set()
    for stage in judgement.STAGES:
        faults = Faults()
        try:
            stage(judgement, faults)
        except Bad:
            raise AssertionError(f"{stage.__name__} must say what is bad") from None
        allowed |= faults.may
        if faults.must:
            return allowed | faults.must, judgement
    return allowed | {ADMIT}, judgement


class Judgement:
    def __init__(self, world, nonces, seen, clock, request):
        self.world, self.nonces, self.seen, self.now, self.request = world, nonces, seen, clock, request
        self.policy = world["policy"]
        self.scheme = None
        self.proof_key = None

    def headers(self, name):
        return [value for key, value in self.request["headers"] if key.lower() == name]

    def find(self, faults):
        """One token in one place (RFC 6750 section 2, RFC 9449 section 7.1), on a path that has one reading."""
        if path_is_ambiguous(self.request["path"]):
            faults.must.add("request_malformed")
        credentials = self.headers("authorization")
        query = self.request.get("query") or ""
        for parameter in re.split("[&;]", query):
            name = unquote_to_bytes(parameter.split("=", 1)[0].replace("+", " "))
            if name == b"access_token":
                faults.must.add("request_malformed")
        if len(credentials) > 1:
            faults.must.add("request_malformed")
            return
        if not credentials:
            faults.must.add("token_missing")
            return
        if len(self.headers("dpop")) > 1:
            # RFC 9449 4.3, check 1; nothing is said about a proof beside Bearer.
            (faults.may if credentials[0][:7].lower() == "bearer " else faults.must).add("request_malformed")
        scheme, _, token = credentials[0].partition(" ")
        if scheme.lower() not in ("bearer", "dpop"):
            faults.must.add("token_missing")
            return
        self.scheme = scheme.lower()
        # RFC 9110 11.4: one space or more.
        self.token = token.lstrip(" ")
        if not B64TOKEN.fullmatch(self.token):
            faults.must |= {"request_malformed", "token_malformed"} | ({"token_missing"} if not self.token else set())

    def parse(self, faults):
        """RFC 7519 section 7.2, RFC 9068 section 2, strictly."""
        if len(self.token) > TOKEN_BYTES[0]:
            (faults.must if len(self.token) > TOKEN_BYTES[1] else faults.may).add("token_malformed")
        try:
            self.read(faults)
        except Bad:
            faults.must.add("token_malformed")
            if self.issuer is not None and self.issuer not in self.policy["issuers"]:
                # How claims are read may depend on the issuer, so that it is looked at first.
                faults.may.add("issuer_not_allowed")
            return
        if any(name in self.header for name in ("jwk", "jku", "x5u", "x5c")):
            # RFC 8725 3.10: keys come from the issuer, and from nowhere else.
            faults.must.add("token_malformed")

    def read(self, faults):
        self.issuer = None
        self.header, claims, self.signature = split_jws(self.token)
        self.kid = self.header.get("kid")
        typ = self.header.get("typ", "")
        if not isinstance(self.header.get("alg"), str) or not isinstance(typ, str) or not isinstance(self.kid, (str, type(None))):
            # Refused in any case, here or where it is used.
            faults.may.add("token_malformed")
        self.issuer = text_of(claims, "iss")
        self.subject = text_of(claims, "sub")
        self.client, self.jti = text_of(claims, "client_id"), text_of(claims, "jti")
        if not all((self.issuer, self.subject, self.client, self.jti)):
            # No RFC forbids an empty identifier, and none wants it.
            faults.may.add("token_malformed")
        self.iat, self.exp = time_of(claims, "iat"), time_of(claims, "exp")
        self.nbf = time_of(claims, "nbf", required=False)
        audience = claims.get("aud")
        self.audiences = [audience] if isinstance(audience, str) else audience
        if not isinstance(self.audiences, list) or not all(isinstance(text, str) for text in self.audiences):
            raise Bad("aud")
        if not all(self.audiences) or not self.audiences:
            faults.may.add("token_malformed")
        scope = text_of(claims, "scope", required=False)
        if scope and not SCOPE.fullmatch(scope):
            raise Bad("scope")
        self.scopes = set((scope or "").split())
        self.confirmation = claims.get("cnf", {})
        if not isinstance(self.confirmation, dict):
            raise Bad("cnf")
        for name in ("jkt", "x5t#S256"):
            if name in self.confirmation and not THUMBPRINT.fullmatch(text_of(self.confirmation, name)):
                raise Bad(name)
        self.read_actors(claims)
        self.details = claims.get("authorization_details", [])
        if not isinstance(self.details, list):
            raise Bad("authorization_details")
        for detail in self.details:
            self.read_detail(detail, faults)

    def read_actors(self, claims):
        """RFC 8693 section 4.1: the outermost actor is the current one. DESIGN: at most 8."""
        self.sender, self.actors, inner = self.subject, 0, claims
        while "act" in inner:
            inner = inner["act"]
            if not isinstance(inner, dict):
                raise Bad("act")
            sub = text_of(inner, "sub")
            self.sender = sub if self.actors == 0 else self.sender
            self.actors += 1
        if self.actors > 8:
            raise Bad("act")

    def read_detail(self, detail, faults):
        """RFC 9396 section 2: `type`, and the common fields of 2.2, of which four are lists of texts."""
        if not isinstance(detail, dict) or not isinstance(detail.get("type"), str):
            raise Bad("authorization_details")
        if not isinstance(detail.get("identifier", ""), str):
            raise Bad("identifier")
        for name in ("locations", "actions", "datatypes", "privileges"):
            texts = detail.get(name, ["-"])
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise Bad(name)
            if not texts:
                faults.may.add("token_malformed")

    def issued(self, faults):
        if self.issuer not in self.policy["issuers"]:
            faults.must.add("issuer_not_allowed")

    def algorithm(self, faults):
        """FAPI 2.0 SP 5.4.1."""
        if str(self.header.get("alg")) not in ALGS:
            faults.must.add("alg_not_allowed")

    def signed(self, faults):
        """RFC 9068 section 4, RFC 8725 3.1 and 3.8, FAPI 2.0 SP 5.4.3."""
        if "kid" in self.header and not isinstance(self.kid, str):
            faults.must.add("token_malformed")
            return
        keys = []
        for members in self.world["issuers"].get(self.issuer, {"keys": []})["keys"]:
            if self.kid is not None and members.get("kid") != self.kid:
                continue
            try:
                keys.append(usable_key(members, self.header["alg"]))
            except BadNumber:
                faults.may.add("signature_invalid")
            except Bad:
                continue
        if not keys or (self.kid is None and len(keys) > 1):
            faults.must.add("key_not_found" if self.world["keysFresh"] else NEED_KEYS)
        elif not any(verifies(self.token, key, self.header["alg"], self.signature) for key in keys):
            faults.must.add("signature_invalid")

    def current(self, faults):
        """RFC 9068 section 4: kind, times, audience."""
        typ = self.header.get("typ", "")
        if not isinstance(typ, str):
            faults.must |= {"token_type", "token_malformed"}
        elif typ.lower() not in ("at+jwt", "application/at+jwt"):
            faults.must.add("token_type")
        if self.now >= self.exp + EXP_LEEWAY:
            faults.must.add("token_expired")
        for time in (self.iat, self.nbf or 0):
            ahead(faults, time - self.now, "token_not_yet_valid")
        self.resources = [one for one in self.policy["resources"] if one["audience"] in self.audiences]
        if not self.resources:
            faults.must.add("audience_mismatch")

    def bound(self, faults):
        """RFC 7800, RFC 8705 section 3, RFC 9449 section 7: every member is proven."""
        known = set(self.confirmation) & {"jkt", "x5t#S256"}
        if set(self.confirmation) - known:
            faults.must.add("binding_unknown")
        taken = {{"MTLS": "x5t#S256", "DPoP": "jkt"}[name] for name in self.policy["senderConstraints"]}
        if not known & taken:
            faults.must.add("binding_missing")
        if self.confirmation.get("x5t#S256", self.world["peer"]["thumbprint"]) != self.world["peer"]["thumbprint"]:
            faults.must.add("binding_cert_mismatch")
        if "jkt" in known and self.scheme == "bearer":
            faults.must.add("bound_token_sent_as_bearer")
        if "jkt" not in known and self.scheme == "dpop":
            # RFC 9449 7.1: the key of the proof must be the one that the token is bound to, and there is none.
            faults.must |= {"binding_missing", "proof_key_mismatch"}

    def proven(self, faults):
        """RFC 9449 section 4.3."""
        if self.scheme != "dpop":
            return
        proofs = self.headers("dpop")
        if not proofs:
            faults.must.add("proof_missing")
            return
        self.proof = proofs[0]
        if len(self.proof) > PROOF_BYTES[0]:
            (faults.must if len(self.proof) > PROOF_BYTES[1] else faults.may).add("proof_malformed")
        try:
            claims = self.read_proof(faults)
        except Bad:
            faults.must.add("proof_malformed")
            return
        self.fits(claims, faults)
        if faults.must:
            return
        # Last, so that only a proof that is good otherwise is asked for again.
        if "nonce" not in claims:
            faults.must.add("proof_nonce_required")
        elif not 0 <= self.now - self.nonces.get(claims["nonce"], -1) <= NONCE_LIFE:
            faults.must.add("proof_nonce_stale")

    def read_proof(self, faults):
        header, claims, signature = split_jws(self.proof)
        if text_of(header, "typ").lower() not in ("dpop+jwt", "application/dpop+jwt") or text_of(header, "alg") not in ALGS:
            raise Bad("header")
        if header["typ"] != "dpop+jwt":
            # RFC 9449 4.3, check 4 names this one spelling; RFC 7515 4.1.9 compares media types without case.
            faults.may.add("proof_malformed")
        key = usable_key(header.get("jwk"), header["alg"])
        if not verifies(self.proof, key, header["alg"], signature):
            raise Bad("signature")
        self.proof_key = thumbprint(header["jwk"])
        for name in ("jti", "htm", "htu"):
            text_of(claims, name)
        if not claims["jti"]:
            faults.may.add("proof_malformed")
        if len(claims["jti"].encode()) > JTI_BYTES[0]:
            (faults.must if len(claims["jti"].encode()) > JTI_BYTES[1] else faults.may).add("proof_malformed")
        for name, required in (("iat", True), ("nbf", False), ("exp", False)):
            time_of(claims, name, required)
        for name in ("nonce", "ath"):
            text_of(claims, name, required=False)
        self.proof_id = (self.proof_key, claims["jti"])
        return claims

    def fits(self, claims, faults):
        if claims["htm"] != self.request["method"]:
            faults.must.add("proof_htm")
        try:
            origin, path = normal_url(claims["htu"])
            origins = [normal_url(origin)[0] for one in self.resources for origin in one["origins"]]
            if origin not in origins or path != normal_path(self.request["path"]):
                faults.must.add("proof_htu")
        except Bad:
            faults.must.add("proof_htu")
        if "ath" not in claims:
            faults.must |= {"proof_ath", "proof_malformed"}
        elif claims["ath"] != b64(hashlib.sha256(self.token.encode()).digest()):
            faults.must.add("proof_ath")
        if self.now - claims["iat"] > PROOF_AGE:
            faults.must.add("proof_stale")
        ahead(faults, claims["iat"] - self.now, "proof_stale")
        # A proof needs no `exp` and no `nbf`; RFC 7519 binds whoever states them.
        if "exp" in claims and self.now >= claims["exp"] + EXP_LEEWAY:
            faults.must.add("proof_stale")
        ahead(faults, claims.get("nbf", 0) - self.now, "proof_stale")
        if self.proof_key != self.confirmation.get("jkt"):
            faults.must.add("proof_key_mismatch")

    def sent_by(self, faults):
        """RFC 8693 section 4.1 and DESIGN: the current actor holds the connection."""
        if self.sender != self.world["peer"]["spiffeId"]:
            faults.must.add("caller_mismatch")

    def authorised(self, faults):
        """The rules of the most specific path; any of them admits; the reason is the furthest reached."""
        path = as_ruled(self.request["path"])
        rules, path = self.policy["rules"], path.rstrip("/") or "/"
        governing = [rule for rule in rules if path in rule.get("paths", [])]
        if not governing:
            prefixes = {prefix for rule in rules for prefix in rule.get("pathPrefixes", [])}
            segments = path.strip("/").split("/")
            covering = [p for p in prefixes if segments[: len(p.strip("/").split("/"))] == p.strip("/").split("/")]
            covering += ["/"] if "/" in prefixes else []
            if covering:
                longest = max(covering, key=len)
                governing = [rule for rule in rules if longest in rule.get("pathPrefixes", [])]
            else:
                governing = [rule for rule in rules if not rule.get("paths") and not rule.get("pathPrefixes")]
        reached = max((self.reached(rule) for rule in governing), default=0)
        reasons = ["rule_not_matched", "caller_not_allowed", "scope_insufficient", "token_too_old"]
        if reached < len(reasons):
            faults.must.add(reasons[reached])

    def reached(self, rule):
        if rule.get("methods") and self.request["method"] not in rule["methods"]:
            return 0
        actors = rule.get("actors", {})
        names = re.fullmatch(r"spiffe://([^/]*)/ns/([^/]*)/sa/([^/]*)", self.world["peer"]["spiffeId"])
        here = names and names[1] == self.world["trustDomain"]
        if not actors.get("min", 0) <= self.actors <= actors.get("max", 8):
            return 1
        if not here or not any(
            one["namespace"] == names[2] and one.get("serviceAccount", names[3]) == names[3] for one in rule["callers"]
        ):
            return 1
        if not set(rule.get("scopes", [])) <= self.scopes:
            return 2
        if not all(any(covers(given, wanted) for given in self.details) for wanted in rule.get("authorizationDetails", [])):
            return 2
        if "maxTokenAge" in rule and self.now - self.iat > rule["maxTokenAge"]:
            return 3
        return 4

    def once(self, faults):
        """RFC 9449 11.1; a proof counts when everything else has passed."""
        if self.scheme == "dpop" and self.proof_id in self.seen:
            faults.must.add("proof_replayed")

    STAGES = [find, parse, issued, algorithm, signed, current, bound, proven, sent_by, authorised, once]


def ahead(faults, seconds, reason):
    """FAPI 2.0 SP 5.3.2.1: up to 10 seconds are taken; DESIGN: beyond 30 they are refused."""
    if seconds > AHEAD_REFUSED:
        faults.must.add(reason)
    elif seconds > AHEAD_TAKEN:
        faults.may.add(reason)


def covers(given, wanted):
    """RFC 9396: lists grant; `locations` and `identifier` limit; a field that is not understood may limit too."""
    lists, limits = ("actions", "datatypes", "privileges"), ("locations", "identifier")
    if set(given) - {"type", *lists, *limits} or given["type"] != wanted["type"]:
        return False
    if any(not set(wanted.get(name, [])) <= set(given.get(name, [])) for name in lists):
        return False
    there, wanted_there = set(given.get("locations", [])), set(wanted.get("locations", []))
    if bool(there) != bool(wanted_there) or not wanted_there <= there:
        return False
    return given.get("identifier") == wanted.get("identifier")


# -- The answer


def answer(reason):
    """Status, and the code in the challenge (RFC 6750 section 3.1, RFC 9449 sections 7.1 and 9, RFC 9470 section 3)."""
    if reason in ("token_missing", "request_malformed"):
        return (401, None) if reason == "token_missing" else (400, "invalid_request")
    if reason.startswith("proof_nonce"):
        return 401, "use_dpop_nonce"
    if reason == "proof_key_mismatch":
        return 401, "invalid_token"
    if reason.startswith("proof_"):
        return 401, "invalid_dpop_proof"
    if reason == "scope_insufficient":
        return 403, "insufficient_scope"
    if reason in ("caller_not_allowed", "rule_not_matched"):
        return 403, None
    if reason == "token_too_old":
        return 401, "insufficient_user_authentication"
    return 401, "invalid_token"
