// oidc-provider as the authorization server of a bank: client credentials, tokens bound by certificate or DPoP, introspection.

import { execFileSync } from "node:child_process";
import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { join } from "node:path";
import Provider, { errors } from "oidc-provider";
import { Agent, fetch } from "undici";

export const API = "https://api.bank.example";
/** Another resource of the same bank. */
export const OTHER = "https://other.bank.example";
export const INTROSPECTION = "/token/introspection";
const SCOPE = "transfers:write accounts:read";

/** A certificate for `localhost` that vouches for itself. */
export function serverCertificate(folder) {
  const [key, cert] = [join(folder, "as-key.pem"), join(folder, "as.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
  const made = ["-keyout", key, "-out", cert, "-days", "2", "-nodes"];
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", ...made, ...subject], { stdio: "ignore" });
  return { key: readFileSync(key), cert: readFileSync(cert) };
}

/**
 * A server with these clients. `format` is that of its tokens, `signs` says whether answers about them are signed. It serves until
 * `close`, and again after `open`; it signs with a new key after `rotate`, knows only that one after `forget`, and takes its time
 * while `slow` says how many milliseconds.
 */
export async function start(mesh, tls, clients, { format, signs = false }) {
  const http = createServer({ ...tls, ca: mesh.ca, requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.3" });
  const listen = (port) => new Promise((resolve) => http.listen(port, "127.0.0.1", resolve));
  await listen(0);
  const { port } = http.address();
  const issuer = `https://localhost:${port}`;
  const [seen, told, keys] = [[], [], [signingKey()]];
  let [answer, delay] = [undefined, 0];
  const serve = () => {
    const provider = new Provider(issuer, configuration(mesh, clients, format, signs, keys));
    for (const event of ["grant.error", "introspection.error", "server_error"]) {
      provider.on(event, (_, error) => told.push([event, error.message, error.error_description, error.error_detail].filter(Boolean).join(": ")));
    }
    answer = provider.callback();
  };
  serve();
  http.on("request", (request, response) => {
    response.once("finish", () => seen.push({ url: request.url, type: response.getHeader("content-type") }));
    if (delay) setTimeout(() => answer(request, response), delay);
    else answer(request, response);
  });
  const rotate = () => {
    keys.unshift(signingKey());
    serve();
  };
  const forget = () => {
    keys.length = 1;
    serve();
  };
  const slow = (milliseconds) => {
    delay = milliseconds;
  };
  const close = () => {
    const closed = new Promise((resolve) => http.close(resolve));
    http.closeAllConnections();
    return closed;
  };
  return { issuer, ca: tls.cert.toString(), seen, errors: told, close, open: () => listen(port), rotate, forget, slow };
}

function configuration(mesh, clients, format, signs, keys) {
  // Keys of clients are published by the operator, for whose certificate the mesh vouches.
  const agent = new Agent({ connect: { ca: mesh.ca } });
  return {
    clients: clients.map((client) => ({ redirect_uris: [], response_types: [], grant_types: ["client_credentials"], scope: SCOPE, ...client })),
    // Without this it is RS256, for which there is no key. A client whose ID tokens cannot be signed is none, though it never gets one.
    clientDefaults: { id_token_signed_response_alg: "ES256", ...(signs && { introspection_signed_response_alg: "ES256" }) },
    // It signs with the first.
    jwks: { keys: [...keys] },
    ttl: { ClientCredentials: 300 },
    scopes: SCOPE.split(" "),
    clientAuthMethods: ["tls_client_auth", "private_key_jwt"],
    enabledJWA: {
      clientAuthSigningAlgValues: ["ES256", "PS256", "Ed25519"],
      dPoPSigningAlgValues: ["ES256", "Ed25519"],
      introspectionSigningAlgValues: ["ES256"],
    },
    // Its own fetch goes to no private address.
    fetch: (url, options) => fetch(url, { ...options, dispatcher: agent }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      // For resource servers alone.
      introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientId === "payments" },
      jwtIntrospection: { enabled: signs },
      revocation: { enabled: true, allowedPolicy: (ctx, client, token) => client.clientId === token.clientId },
      dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
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
        getResourceServerInfo: (ctx, resource) => {
          if (![API, OTHER].includes(resource)) throw new errors.InvalidTarget();
          return { scope: SCOPE, audience: resource, accessTokenFormat: format, accessTokenTTL: 300, jwt: { sign: { alg: "ES256" } } };
        },
      },
    },
  };
}

function signingKey() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), alg: "ES256", use: "sig" };
}

/** Tokens are bound to the certificate ... */
export const MTLS = { tls_client_certificate_bound_access_tokens: true };
/** ... or to a proof key. A client with neither gets tokens that are bound to nothing. */
export const DPOP = { dpop_bound_access_tokens: true };

/** A client that proves itself by the certificate of a workload. */
export function byCertificate(client_id, spiffeId, ...more) {
  return Object.assign({ client_id, token_endpoint_auth_method: "tls_client_auth", tls_client_auth_san_uri: spiffeId }, ...more);
}

/** A client that signs assertions with keys that the operator publishes. */
export function byAssertion(client_id, jwks_uri, ...more) {
  const signed = { token_endpoint_auth_method: "private_key_jwt", token_endpoint_auth_signing_alg: "ES256", jwks_uri };
  return Object.assign({ client_id, ...signed }, ...more);
}
