// Nimbus OAuth SDK as a client of the mesh: `java -cp 'lib/*' Nimbus.java FOLDER_OF_THE_MESH`.

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.RSAKey;
import com.nimbusds.jose.jwk.JWK;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jose.jwk.gen.RSAKeyGenerator;
import com.nimbusds.jose.jwk.source.ImmutableJWKSet;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenIntrospectionRequest;
import com.nimbusds.oauth2.sdk.TokenIntrospectionResponse;
import com.nimbusds.oauth2.sdk.TokenIntrospectionSuccessResponse;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.TokenRevocationRequest;
import com.nimbusds.oauth2.sdk.as.AuthorizationServerMetadata;
import com.nimbusds.oauth2.sdk.auth.ClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.JWTAuthenticationClaimsSet;
import com.nimbusds.oauth2.sdk.auth.PKITLSClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.PrivateKeyJWT;
import com.nimbusds.oauth2.sdk.auth.X509CertificateConfirmation;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.Audience;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.oauth2.sdk.token.BearerAccessToken;
import com.nimbusds.oauth2.sdk.token.BearerTokenError;
import com.nimbusds.oauth2.sdk.token.DPoPAccessToken;
import com.nimbusds.oauth2.sdk.token.DPoPTokenError;
import com.nimbusds.oauth2.sdk.util.JSONArrayUtils;
import com.nimbusds.oauth2.sdk.util.JSONObjectUtils;
import com.nimbusds.openid.connect.sdk.Nonce;
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import javax.net.ssl.HostnameVerifier;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;
import net.minidev.json.JSONObject;

public class Nimbus {
    static final String PAYMENTS = "https://payments.bank";
    static int failed = 0;

    static void check(String name, Object observed, Object expected) {
        boolean good = Objects.equals(observed, expected);
        failed += good ? 0 : 1;
        System.out.println((good ? "ok      " : "FAILED  ") + "Nimbus: " + name);
        if (!good) System.out.println("        " + expected + "\n    but " + observed);
    }

    /** The mesh, and one workload in it: by its certificate alone, or by the key with which it signs assertions. */
    record Workload(JSONObject mesh, ClientID id, X509Certificate certificate, SSLSocketFactory tls, RSAKey key) {
        static Workload of(Path folder, String account) throws Exception {
            JSONObject mesh = JSONObjectUtils.parse(Files.readString(folder.resolve("demo.json")));
            Path own = folder.resolve("client-" + account);
            CertificateFactory certificates = CertificateFactory.getInstance("X.509");
            Certificate[] chain = certificates
                .generateCertificates(new ByteArrayInputStream(Files.readAllBytes(own.resolve("chain.pem"))))
                .toArray(Certificate[]::new);
            String pem = Files.readString(own.resolve("key.pem")).replaceAll("-----[^-]+-----|\\s", "");
            var key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(pem)));
            KeyStore keys = KeyStore.getInstance("PKCS12");
            keys.load(null, null);
            keys.setKeyEntry("own", key, new char[0], chain);
            var shown = KeyManagerFactory.getInstance("PKIX");
            shown.init(keys, new char[0]);
            ClientID id = new ClientID(text(find(mesh, account), "spiffe_id"));
            return new Workload(mesh, id, (X509Certificate) chain[0], connections(mesh, shown.getKeyManagers()), null);
        }

        /** The same workload, as a client that signs; it shows its certificate only if a token is to be bound to it. */
        Workload signing(RSAKey key, boolean shows) throws Exception {
            return new Workload(mesh, id, certificate, shows ? tls : connections(mesh, null), key);
        }

        static SSLSocketFactory connections(JSONObject mesh, KeyManager[] shown) throws Exception {
            KeyStore roots = KeyStore.getInstance("PKCS12");
            roots.load(null, null);
            byte[] bundle = Files.readAllBytes(Path.of((String) mesh.get("trust_bundle")));
            for (Certificate root : CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(bundle))) {
                roots.setCertificateEntry("root" + roots.size(), root);
            }
            var trusted = TrustManagerFactory.getInstance("PKIX");
            trusted.init(roots);
            SSLContext context = SSLContext.getInstance("TLSv1.3");
            context.init(shown, trusted.getTrustManagers(), null);
            return context.getSocketFactory();
        }

        static JSONObject find(JSONObject mesh, String account) throws Exception {
            for (JSONObject workload : JSONArrayUtils.toJSONObjectList(JSONObjectUtils.getJSONArray(mesh, "workloads"))) {
                if (account.equals(workload.get("service_account"))) return workload;
            }
            throw new IllegalArgumentException(account);
        }

        /** Sends a request to a server that must prove this SPIFFE ID. */
        HTTPResponse send(HTTPRequest request, String server) throws Exception {
            HostnameVerifier verifier = (host, session) -> {
                try {
                    X509Certificate shown = (X509Certificate) session.getPeerCertificates()[0];
                    return shown.getSubjectAlternativeNames().stream()
                        .anyMatch(name -> name.get(0).equals(6) && name.get(1).equals(server));
                } catch (Exception error) {
                    return false;
                }
            };
            request.setSSLSocketFactory(tls);
            request.setHostnameVerifier(verifier);
            request.setConnectTimeout(5000);
            request.setReadTimeout(5000);
            return request.send();
        }

        HTTPResponse sendToIssuer(HTTPRequest request) throws Exception {
            return send(request, "spiffe://" + mesh.get("trust_domain") + "/ns/fapi-mesh/sa/fapi-operator");
        }

        AuthorizationServerMetadata metadata() throws Exception {
            Issuer issuer = new Issuer((String) mesh.get("issuer"));
            HTTPRequest request = new HTTPRequest(HTTPRequest.Method.GET, AuthorizationServerMetadata.resolveURL(issuer));
            return AuthorizationServerMetadata.parse(sendToIssuer(request).getBodyAsJSONObject());
        }

        /** A new one for each request, since an assertion is good once. The SDK would make it for the endpoint: it is for the issuer. */
        ClientAuthentication authentication() throws Exception {
            if (key == null) return new PKITLSClientAuthentication(id, tls);
            var claims = new JWTAuthenticationClaimsSet(id, new Audience(text(mesh, "issuer")));
            return new PrivateKeyJWT(claims, JWSAlgorithm.PS256, key.toPrivateKey(), key.getKeyID(), null);
        }

        HTTPResponse ask(String resource, Scope scope, DPoPProofFactory proofs, Nonce nonce) throws Exception {
            URI endpoint = metadata().getTokenEndpointURI();
            HTTPRequest request = new TokenRequest.Builder(endpoint, authentication(), new ClientCredentialsGrant())
                .scope(scope)
                .resources(URI.create(resource))
                .build()
                .toHTTPRequest();
            if (proofs != null) {
                request.setDPoP(proofs.createDPoPJWT("POST", endpoint, nonce));
            }
            return sendToIssuer(request);
        }

        HTTPRequest question(AccessToken token) throws Exception {
            return new TokenIntrospectionRequest(metadata().getIntrospectionEndpointURI(), authentication(), token).toHTTPRequest();
        }

        TokenIntrospectionSuccessResponse introspect(AccessToken token) throws Exception {
            return TokenIntrospectionResponse.parse(sendToIssuer(question(token))).toSuccessResponse();
        }

        /** An answer in a JWT, for this workload (RFC 9701). The SDK can judge the JWT, and what is inside. */
        TokenIntrospectionSuccessResponse introspectSigned(AccessToken token) throws Exception {
            HTTPRequest request = question(token);
            request.setAccept("application/token-introspection+jwt");
            JWTClaimsSet answer = verified(sendToIssuer(request).getBody(), "token-introspection+jwt", id.getValue());
            return TokenIntrospectionSuccessResponse.parse(new JSONObject(answer.getJSONObjectClaim("token_introspection")));
        }

        int revoke(AccessToken token) throws Exception {
            var request = new TokenRevocationRequest(metadata().getRevocationEndpointURI(), authentication(), token);
            return sendToIssuer(request.toHTTPRequest()).getStatusCode();
        }

        /** The claims of a JWT of this type, by the issuer, for this audience. */
        JWTClaimsSet verified(String jwt, String type, String audience) throws Exception {
            JWKSet keys = JWKSet.parse(sendToIssuer(new HTTPRequest(HTTPRequest.Method.GET, metadata().getJWKSetURI())).getBody());
            var processor = new DefaultJWTProcessor<SecurityContext>();
            var issued = new JWTClaimsSet.Builder().issuer(text(mesh, "issuer")).build();
            processor.setJWSTypeVerifier(new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType(type)));
            processor.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.ES256, new ImmutableJWKSet<>(keys)));
            processor.setJWTClaimsSetVerifier(new DefaultJWTClaimsVerifier<>(audience, issued, Set.of("iat")));
            return processor.process(jwt, null);
        }

        HTTPResponse call(String account, String path, AccessToken token, DPoPProofFactory proofs, Nonce nonce) throws Exception {
            JSONObject served = find(mesh, account);
            HTTPRequest request = new HTTPRequest(HTTPRequest.Method.POST, URI.create("https://" + text(served, "inbound") + path));
            request.setAuthorization(token.toAuthorizationHeader());
            request.setHeader("Content-Type", "application/json");
            request.setBody("{}");
            if (proofs != null) {
                request.setDPoP(proofs.createDPoPJWT("POST", URI.create(text(served, "service") + path), token, nonce));
            }
            return send(request, text(served, "spiffe_id"));
        }
    }

    static String text(JSONObject object, String name) {
        return (String) object.get(name);
    }

    static String caller(HTTPResponse answer) throws Exception {
        return JSONObjectUtils.getString(JSONObjectUtils.getJSONObject(answer.getBodyAsJSONObject(), "told"), "caller");
    }

    static String error(HTTPResponse answer) throws Exception {
        return TokenResponse.parse(answer).toErrorResponse().getErrorObject().getCode();
    }

    public static void main(String[] args) throws Exception {
        Workload shop = Workload.of(Path.of(args[0]), "shop");
        Workload payments = Workload.of(Path.of(args[0]), "payments");
        RSAKey key = RSAKey.parse(Files.readString(Path.of(args[0], "nimbus.jwk")));
        DPoPProofFactory proofs = new DefaultDPoPProofFactory(new ECKeyGenerator(Curve.P_256).generate(), JWSAlgorithm.ES256);
        flow("tls_client_auth, x5t#S256", shop, shop, payments, null);
        flow("tls_client_auth, jkt", shop, shop, payments, proofs);
        flow("private_key_jwt, x5t#S256", shop.signing(key, true), shop, payments, null);
        flow("private_key_jwt, jkt", shop.signing(key, false), shop, payments, proofs);
        certificateBound(shop);
        proofOfPossession(payments, new ECKeyGenerator(Curve.P_256).generate(), JWSAlgorithm.ES256);
        proofOfPossession(payments, new RSAKeyGenerator(2048).generate(), JWSAlgorithm.PS256);
        System.exit(failed == 0 ? 0 : 1);
    }

    /** What every client does: a token, a call with it, what is told of it, and its end. The client asks the issuer, shop calls. */
    static void flow(String way, Workload client, Workload shop, Workload payments, DPoPProofFactory proofs) throws Exception {
        check(way + ": a token that nobody knows", client.introspect(new BearerAccessToken("unknown")).isActive(), false);
        HTTPResponse granted = client.ask(PAYMENTS, null, proofs, null);
        if (proofs != null) {
            check(way + ": the issuer wants its nonce", error(granted), "use_dpop_nonce");
            granted = client.ask(PAYMENTS, null, proofs, granted.getDPoPNonce());
        }
        AccessToken token = TokenResponse.parse(granted).toSuccessResponse().getTokens().getAccessToken();
        check(way + ": a token", token.getType().getValue(), proofs == null ? "Bearer" : "DPoP");
        HTTPResponse called = shop.call("payments", "/transfers", token, proofs, null);
        Nonce nonce = called.getDPoPNonce();
        if (proofs != null) {
            check(way + ": the resource wants its own nonce", challenge(called, token), List.of(401, "use_dpop_nonce"));
            called = shop.call("payments", "/transfers", token, proofs, nonce);
        }
        check(way + ": a call with it", caller(called), shop.id().getValue());

        TokenIntrospectionSuccessResponse told = client.introspect(token);
        List<Object> said = List.of(told.isActive(), told.getClientID(), told.getTokenType());
        check(way + ": introspection by the client", said, List.of(true, shop.id(), token.getType()));
        TokenIntrospectionSuccessResponse signed = payments.introspectSigned(token);
        said = List.of(signed.isActive(), signed.getAudience());
        check(way + ": signed introspection by the audience", said, List.of(true, List.of(new Audience(PAYMENTS))));
        check(way + ": what it is bound to", bindings(signed), proofs == null ? List.of(true, false) : List.of(false, true));

        check(way + ": revocation", client.revoke(token), 200);
        check(way + ": introspection of a revoked token", client.introspect(token).isActive(), false);
        check(way + ": signed introspection of a revoked token", payments.introspectSigned(token).isActive(), false);
        // A revocation reaches a sidecar a moment later.
        long end = System.nanoTime() + 10_000_000_000L;
        do {
            called = shop.call("payments", "/transfers", token, proofs, nonce);
        } while (called.getStatusCode() == 200 && System.nanoTime() < end);
        check(way + ": a call with a revoked token", challenge(called, token), List.of(401, "invalid_token"));
    }

    /** Whether it is bound to a certificate, and whether to a proof key. */
    static List<Boolean> bindings(TokenIntrospectionSuccessResponse told) {
        return List.of(told.getX509CertificateConfirmation() != null, told.getJWKThumbprintConfirmation() != null);
    }

    /** The status, and the error of the challenge for the token's scheme. */
    static List<Object> challenge(HTTPResponse answer, AccessToken token) throws Exception {
        String scheme = token.getType().getValue();
        List<String> headers = answer.getHeaderValues("WWW-Authenticate");
        String header = headers.stream().filter(value -> value.startsWith(scheme + " ")).findFirst().orElseThrow();
        var error = scheme.equals("DPoP") ? DPoPTokenError.parse(header) : BearerTokenError.parse(header);
        return List.of(answer.getStatusCode(), error.getCode());
    }

    static void certificateBound(Workload shop) throws Exception {
        AuthorizationServerMetadata metadata = shop.metadata();
        check("metadata", metadata.getIssuer().getValue(), shop.mesh().get("issuer"));
        check("certificate-bound tokens are announced", metadata.supportsTLSClientCertificateBoundAccessTokens(), true);
        HTTPResponse granted = shop.ask(PAYMENTS, null, null, null);
        AccessToken token = TokenResponse.parse(granted).toSuccessResponse().getTokens().getBearerAccessToken();
        check("no cache keeps a token", granted.getCacheControl(), "no-store");
        check("a call with a certificate-bound token", caller(shop.call("payments", "/transfers", token, null, null)), shop.id().getValue());
        JWTClaimsSet claims = shop.verified(token.getValue(), "at+jwt", PAYMENTS);
        check("the token is bound to the certificate", X509CertificateConfirmation.parse(claims), X509CertificateConfirmation.of(shop.certificate()));
        check("nobody's audience", error(shop.ask("https://nobody.bank", null, null, null)), "invalid_target");
        check("a scope that nobody gave", error(shop.ask(PAYMENTS, new Scope("everything"), null, null)), "invalid_scope");
    }

    static void proofOfPossession(Workload payments, JWK key, JWSAlgorithm alg) throws Exception {
        DPoPProofFactory proofs = key instanceof RSAKey rsa
            ? new DefaultDPoPProofFactory(rsa, alg)
            : new DefaultDPoPProofFactory((ECKey) key, alg);
        HTTPResponse refused = payments.ask("https://ledger.bank", null, proofs, null);
        check(alg + ": the issuer wants its nonce", error(refused), "use_dpop_nonce");
        HTTPResponse granted = payments.ask("https://ledger.bank", null, proofs, refused.getDPoPNonce());
        DPoPAccessToken token = TokenResponse.parse(granted).toSuccessResponse().getTokens().getDPoPAccessToken();
        HTTPResponse unknown = payments.call("ledger", "/entries", token, proofs, null);
        check(alg + ": the resource wants its own nonce", unknown.getStatusCode(), 401);
        HTTPResponse answer = payments.call("ledger", "/entries", token, proofs, unknown.getDPoPNonce());
        check(alg + ": a call with a DPoP-bound token", caller(answer), payments.id().getValue());
        HTTPResponse bare = payments.call("ledger", "/entries", new BearerAccessToken(token.getValue()), null, null);
        check(alg + ": the same token as a bearer token", bare.getStatusCode(), 401);
    }
}
