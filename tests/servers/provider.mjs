// oidc-provider as the authorization server of a bank: client credentials, tokens bound by certificate or DPoP, introspection.

import { execFileSync } from "node:child_process";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { join } from "node:path";
import { Agent, fetch } from "undici";
import Provider, { errors } from "oidc-provider";

const SCOPE = "transfers:write accounts:read";

/** A certificate for `localhost` that vouches for itself. */
export function serverCertificate(folder) {
  const [key, cert] = [join(folder, "as-key.pem"), join(folder, "as.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
  const made = ["-keyout", key, "-out", cert, "-days", "2", "-nodes"];
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", ...made, ...subject], { stdio: "ignore" });
  return { key: readFileSync(key), cert: readFileSync(cert) };
}

/** A server for the audience `audience` with these clients; `format` is that of its tokens. */
export async function start(mesh, tls, { format, audience, clients }) {
  const http = createServer({ ...tls, ca: mesh.ca, requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.3" });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  const issuer = `https://localhost:${http.address().port}`;
  // Keys of clients are published by the operator, whose certificate the mesh vouches for.
  const agent = new Agent({ connect: { ca: mesh.ca } });
  const provider = new Provider(issuer, {
    clients: clients.map((client) => ({ redirect_uris: [], response_types: [], grant_types: ["client_credentials"], scope: SCOPE, ...client })),
    jwks: { keys: [signingKey()] },
    scopes: SCOPE.split(" "),
    clientAuthMethods: ["tls_client_auth", "private_key_jwt"],
    enabledJWA: {
      clientAuthSigningAlgValues: ["ES256", "PS256", "Ed25519"],
      dPoPSigningAlgValues: ["ES256", "Ed25519"],
      introspectionSigningAlgValues: ["ES256"],
    },
    fetch: (url, options) => fetch(url, { ...options, dispatcher: agent }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      jwtIntrospection: { enabled: true },
      revocation: { enabled: true },
      dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 7), requireNonce: () => true },
      fapi: { enabled: true, profile: "2.0" },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate()?.toString(),
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) =>
          property === "tls_client_auth_san_uri" && ctx.socket.getPeerCertificate().subjectaltname === `URI:${expected}`,
      },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => {
          if (resource !== audience) throw new errors.InvalidTarget();
          return { scope: SCOPE, audience, accessTokenFormat: format, accessTokenTTL: 300, jwt: { sign: { alg: "ES256" } } };
        },
      },
    },
  });
  // What clients asked, and the media type of the answer.
  const seen = [];
  const answer = provider.callback();
  http.on("request", (request, response) => {
    response.once("finish", () => seen.push({ url: request.url, type: response.getHeader("content-type") }));
    answer(request, response);
  });
  const errorsSeen = [];
  for (const event of ["grant.error", "introspection.error", "server_error"]) {
    provider.on(event, (_, error) => errorsSeen.push(`${event}: ${error.message}: ${error.error_description ?? error.error_detail ?? ""}`));
  }
  const close = () => {
    http.closeAllConnections();
    return new Promise((resolve) => http.close(resolve));
  };
  return { issuer, seen, errors: errorsSeen, ca: tls.cert.toString(), close };
}

function signingKey() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), alg: "ES256", use: "sig" };
}

/** A client that proves itself by the certificate of a workload. */
export function byCertificate(client_id, spiffeId, more = {}) {
  const bound = { tls_client_certificate_bound_access_tokens: true };
  return { client_id, token_endpoint_auth_method: "tls_client_auth", tls_client_auth_san_uri: spiffeId, ...bound, ...more };
}

/** A client that signs assertions with keys that the operator publishes. */
export function byAssertion(client_id, jwks_uri, more = {}) {
  const signed = { token_endpoint_auth_method: "private_key_jwt", token_endpoint_auth_signing_alg: "ES256", jwks_uri };
  return { client_id, ...signed, tls_client_certificate_bound_access_tokens: true, ...more };
}

/** ... and whose tokens are bound to a proof key instead. */
export const DPOP = { tls_client_certificate_bound_access_tokens: false, dpop_bound_access_tokens: true };
