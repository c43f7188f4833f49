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
import com.nimbusds.jose.util.X509CertUtils;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.as.AuthorizationServerMetadata;
import com.nimbusds.oauth2.sdk.auth.PKITLSClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.X509CertificateConfirmation;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.oauth2.sdk.token.BearerAccessToken;
import com.nimbusds.oauth2.sdk.token.DPoPAccessToken;
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
import javax.net.ssl.HostnameVerifier;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;
import net.minidev.json.JSONObject;

public class Nimbus {
    static int failed = 0;

    static void check(String name, Object observed, Object expected) {
        boolean good = Objects.equals(observed, expected);
        failed += good ? 0 : 1;
        System.out.println((good ? "ok      " : "FAILED  ") + "Nimbus: " + name);
        if (!good) System.out.println("        " + expected + "\n    but " + observed);
    }

    /** The mesh, and one workload's certificate in it. */
    record Workload(JSONObject mesh, ClientID id, X509Certificate certificate, SSLSocketFactory tls) {
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
            KeyStore roots = KeyStore.getInstance("PKCS12");
            roots.load(null, null);
            byte[] bundle = Files.readAllBytes(Path.of((String) mesh.get("trust_bundle")));
            for (Certificate root : certificates.generateCertificates(new ByteArrayInputStream(bundle))) {
                roots.setCertificateEntry("root" + roots.size(), root);
            }
            var own_keys = KeyManagerFactory.getInstance("PKIX");
            own_keys.init(keys, new char[0]);
            var trusted = TrustManagerFactory.getInstance("PKIX");
            trusted.init(roots);
            SSLContext context = SSLContext.getInstance("TLSv1.3");
            context.init(own_keys.getKeyManagers(), trusted.getTrustManagers(), null);
            ClientID id = new ClientID(text(find(mesh, account), "spiffe_id"));
            return new Workload(mesh, id, (X509Certificate) chain[0], context.getSocketFactory());
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

        HTTPResponse ask(String resource, Scope scope, DPoPProofFactory proofs, Nonce nonce) throws Exception {
            URI endpoint = metadata().getTokenEndpointURI();
            var authentication = new PKITLSClientAuthentication(id, tls);
            HTTPRequest request = new TokenRequest.Builder(endpoint, authentication, new ClientCredentialsGrant())
                .scope(scope)
                .resources(URI.create(resource))
                .build()
                .toHTTPRequest();
            if (proofs != null) {
                request.setDPoP(proofs.createDPoPJWT("POST", endpoint, nonce));
            }
            return sendToIssuer(request);
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
        certificateBound(shop);
        proofOfPossession(payments, new ECKeyGenerator(Curve.P_256).generate(), JWSAlgorithm.ES256);
        proofOfPossession(payments, new RSAKeyGenerator(2048).generate(), JWSAlgorithm.PS256);
        System.exit(failed == 0 ? 0 : 1);
    }

    static void certificateBound(Workload shop) throws Exception {
        AuthorizationServerMetadata metadata = shop.metadata();
        check("metadata", metadata.getIssuer().getValue(), shop.mesh().get("issuer"));
        check("certificate-bound tokens are announced", metadata.supportsTLSClientCertificateBoundAccessTokens(), true);
        HTTPResponse granted = shop.ask("https://payments.bank", null, null, null);
        AccessToken token = TokenResponse.parse(granted).toSuccessResponse().getTokens().getBearerAccessToken();
        check("no cache keeps a token", granted.getCacheControl(), "no-store");
        check("a call with a certificate-bound token", caller(shop.call("payments", "/transfers", token, null, null)), shop.id().getValue());
        JWTClaimsSet claims = verified(shop, metadata, token);
        check("the token names its audience", claims.getAudience(), List.of("https://payments.bank"));
        check("the token is bound to the certificate", X509CertificateConfirmation.parse(claims), X509CertificateConfirmation.of(shop.certificate()));
        check("nobody's audience", error(shop.ask("https://nobody.bank", null, null, null)), "invalid_target");
        check("a scope that nobody gave", error(shop.ask("https://payments.bank", new Scope("everything"), null, null)), "invalid_scope");
    }

    static JWTClaimsSet verified(Workload workload, AuthorizationServerMetadata metadata, AccessToken token) throws Exception {
        HTTPRequest request = new HTTPRequest(HTTPRequest.Method.GET, metadata.getJWKSetURI());
        JWKSet keys = JWKSet.parse(workload.sendToIssuer(request).getBody());
        var processor = new DefaultJWTProcessor<SecurityContext>();
        processor.setJWSTypeVerifier(new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType("at+jwt")));
        processor.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.ES256, new ImmutableJWKSet<>(keys)));
        return processor.process(token.getValue(), null);
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
