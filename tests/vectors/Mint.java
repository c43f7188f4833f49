// Tokens and proofs by Nimbus JOSE+JWT: `java -cp nimbus-jose-jwt.jar Mint.java WORLD` writes a vector file.

import com.nimbusds.jose.*;
import com.nimbusds.jose.crypto.*;
import com.nimbusds.jose.jwk.*;
import com.nimbusds.jose.jwk.gen.*;
import com.nimbusds.jose.util.*;
import com.nimbusds.jwt.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;

public class Mint {
    static final List<Object> CASES = new ArrayList<>();
    static Map<String, Object> shared;
    static long now;
    static String nonce, url;
    static ECKey ec;
    static RSAKey rsa;

    public static void main(String[] arguments) throws Exception {
        shared = JSONObjectUtils.parse(Files.readString(Path.of(arguments[0])));
        now = ((Number) shared.get("now")).longValue();
        nonce = (String) shared.get("nonce");
        url = (String) shared.get("url");
        ec = new ECKeyGenerator(Curve.P_256).keyID("ES256").keyUse(KeyUse.SIGNATURE).generate();
        rsa = new RSAKeyGenerator(2048).keyID("PS256").generate();
        ECKey p384 = new ECKeyGenerator(Curve.P_384).keyID("ES384").generate();
        Map<String, Object> world = JSONObjectUtils.getJSONObject(shared, "world");
        List<JWK> keys = List.of(ec, rsa, p384);
        JSONObjectUtils.getJSONObject(world, "issuers").put((String) shared.get("issuer"), new JWKSet(keys).toJSONObject(true));
        tokens(p384);
        proofs(new ECKeyGenerator(Curve.P_256).generate(), JWSAlgorithm.ES256);
        proofs(new RSAKeyGenerator(2048).generate(), JWSAlgorithm.PS256);
        Map<String, Object> file = new LinkedHashMap<>();
        file.put("about", "Tokens and proofs by Nimbus JOSE+JWT 10.10.");
        file.put("world", world);
        file.put("cases", CASES);
        System.out.println(JSONObjectUtils.toJSONString(file));
    }

    static void tokens(ECKey p384) throws Exception {
        JWTClaimsSet good = good().build();
        bearer("ES256", sign(good, JWSAlgorithm.ES256, "at+jwt", ec), null);
        bearer("PS256", sign(good, JWSAlgorithm.PS256, "at+jwt", rsa), null);
        bearer("application/at+jwt", sign(good, JWSAlgorithm.ES256, "application/at+jwt", ec), null);
        bearer("RS256", sign(good, JWSAlgorithm.RS256, "at+jwt", rsa), "alg_not_allowed");
        bearer("PS512", sign(good, JWSAlgorithm.PS512, "at+jwt", rsa), "alg_not_allowed");
        bearer("ES384", sign(good, JWSAlgorithm.ES384, "at+jwt", p384), "alg_not_allowed");
        bearer("JWT", sign(good, JWSAlgorithm.ES256, "JWT", ec), "token_type");
        bearer("no typ", sign(good, JWSAlgorithm.ES256, null, ec), "token_type");
        bearer("none", new PlainJWT(good).serialize(), "alg_not_allowed");
        SignedJWT mac = new SignedJWT(new JWSHeader.Builder(JWSAlgorithm.HS256).keyID("ES256").build(), good);
        mac.sign(new MACSigner(ec.toPublicJWK().toJSONString()));
        bearer("HS256 with the public key", mac.serialize(), "alg_not_allowed");
        JWSHeader own = new JWSHeader.Builder(JWSAlgorithm.ES256).type(new JOSEObjectType("at+jwt")).jwk(ec.toPublicJWK()).build();
        bearer("own key in the header", sign(own, good, ec), "token_malformed");
        JWSHeader crit = new JWSHeader.Builder(JWSAlgorithm.ES256).keyID("ES256").type(new JOSEObjectType("at+jwt"))
            .base64URLEncodePayload(true).criticalParams(Set.of("b64")).build();
        bearer("crit", sign(crit, good, ec), "token_malformed");
        ECKey thief = new ECKeyGenerator(Curve.P_256).keyID("ES256").generate();
        bearer("another key of this kid", sign(good, JWSAlgorithm.ES256, "at+jwt", thief), "signature_invalid");
        bearer("unknown kid", sign(good, JWSAlgorithm.ES256, "at+jwt", new ECKeyGenerator(Curve.P_256).keyID("x").generate()), "key_not_found");
        claims("expired", good().expirationTime(seconds(-5)), "token_expired");
        claims("in the leeway", good().expirationTime(seconds(-4)), null);
        claims("nbf far ahead", good().notBeforeTime(seconds(61)), "token_not_yet_valid");
        claims("two audiences", good().audience(List.of("x:y", (String) shared.get("audience"))), null);
        claims("another audience", good().audience("https://ledger.bank"), "audience_mismatch");
        claims("another issuer", good().issuer("https://evil.example"), "issuer_not_allowed");
        claims("no jti", good().jwtID(null), "token_malformed");
        claims("no cnf", good().claim("cnf", null), "binding_missing");
        claims("another certificate", good().claim("cnf", Map.of("x5t#S256", Base64URL.encode(new byte[32]).toString())), "binding_cert_mismatch");
        claims("another binding", good().claim("cnf", Map.of("jwk", ec.toPublicJWK().toJSONObject())), "binding_unknown");
        claims("scope as a list", good().claim("scope", List.of("transfers:write")), "token_malformed");
        JWEObject encrypted = new JWEObject(new JWEHeader(JWEAlgorithm.ECDH_ES, EncryptionMethod.A128GCM), new Payload(good.toJSONObject()));
        encrypted.encrypt(new ECDHEncrypter(ec));
        bearer("encrypted", encrypted.serialize(), "token_malformed");
    }

    static void proofs(JWK key, JWSAlgorithm alg) throws Exception {
        JWTClaimsSet bound = good().claim("cnf", Map.of("jkt", key.computeThumbprint().toString())).build();
        String token = sign(bound, JWSAlgorithm.ES256, "at+jwt", ec);
        JWK open = key.toPublicJWK();
        JWTClaimsSet good = proof(token).build();
        dpop(alg + " proof", token, proofOf(good, alg, "dpop+jwt", open, key), null);
        dpop(alg + " proof of a URL with query", token, proofOf(proof(token).claim("htu", url + "?a").build(), alg, "dpop+jwt", open, key), null);
        dpop(alg + " proof of another method", token, proofOf(proof(token).claim("htm", "GET").build(), alg, "dpop+jwt", open, key), "proof_htm");
        dpop(alg + " proof of another URL", token, proofOf(proof(token).claim("htu", url + "/1").build(), alg, "dpop+jwt", open, key), "proof_htu");
        dpop(alg + " proof without nonce", token, proofOf(proof(token).claim("nonce", null).build(), alg, "dpop+jwt", open, key), "proof_nonce_required");
        dpop(alg + " proof for another token", token, proofOf(proof(token + "x").build(), alg, "dpop+jwt", open, key), "proof_ath");
        dpop(alg + " old proof", token, proofOf(proof(token).issueTime(seconds(-61)).build(), alg, "dpop+jwt", open, key), "proof_stale");
        dpop(alg + " proof without jti", token, proofOf(proof(token).jwtID(null).build(), alg, "dpop+jwt", open, key), "proof_malformed");
        dpop(alg + " proof of typ JWT", token, proofOf(good, alg, "JWT", open, key), "proof_malformed");
        dpop(alg + " proof with the issuer's key", token, proofOf(good, alg, "dpop+jwt", ec.toPublicJWK(), key), "proof_malformed");
        bearer(alg + " bound token as Bearer", token, "bound_token_sent_as_bearer");
    }

    static JWTClaimsSet.Builder good() {
        Object peer = ((Map<?, ?>) ((Map<?, ?>) shared.get("world")).get("peer")).get("thumbprint");
        return new JWTClaimsSet.Builder().issuer((String) shared.get("issuer")).subject((String) shared.get("caller"))
            .audience((String) shared.get("audience")).claim("client_id", shared.get("caller")).jwtID("t-1").issueTime(seconds(0))
            .expirationTime(seconds(300)).claim("scope", "transfers:write").claim("cnf", Map.of("x5t#S256", peer));
    }

    static JWTClaimsSet.Builder proof(String token) throws Exception {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(token.getBytes(StandardCharsets.US_ASCII));
        return new JWTClaimsSet.Builder().jwtID("p-1").claim("htm", "POST").claim("htu", url).issueTime(seconds(0))
            .claim("nonce", nonce).claim("ath", Base64URL.encode(hash).toString());
    }

    static String proofOf(JWTClaimsSet claims, JWSAlgorithm alg, String typ, JWK shown, JWK key) throws Exception {
        return sign(new JWSHeader.Builder(alg).type(new JOSEObjectType(typ)).jwk(shown).build(), claims, key);
    }

    static String sign(JWTClaimsSet claims, JWSAlgorithm alg, String typ, JWK key) throws Exception {
        JOSEObjectType type = typ == null ? null : new JOSEObjectType(typ);
        return sign(new JWSHeader.Builder(alg).type(type).keyID(key.getKeyID()).build(), claims, key);
    }

    static String sign(JWSHeader header, JWTClaimsSet claims, JWK key) throws Exception {
        SignedJWT jwt = new SignedJWT(header, claims);
        jwt.sign(key instanceof ECKey one ? new ECDSASigner(one) : new RSASSASigner((RSAKey) key));
        return jwt.serialize();
    }

    static Date seconds(long offset) {
        return new Date((now + offset) * 1000);
    }

    static void claims(String name, JWTClaimsSet.Builder claims, String reason) throws Exception {
        bearer(name, sign(claims.build(), JWSAlgorithm.ES256, "at+jwt", ec), reason);
    }

    static void bearer(String name, String token, String reason) {
        add(name, List.of(List.of("authorization", "Bearer " + token)), reason);
    }

    static void dpop(String name, String token, String proof, String reason) {
        add(name, List.of(List.of("authorization", "DPoP " + token), List.of("dpop", proof)), reason);
    }

    static void add(String name, List<List<String>> headers, String reason) {
        Map<String, Object> request = Map.of("method", "POST", "path", "/transfers", "headers", headers);
        Map<String, Object> expect = reason == null ? Map.of("verdict", "admitted") : Map.of("verdict", "refused", "reason", reason);
        CASES.add(Map.of("name", name, "request", request, "expect", expect));
    }
}
