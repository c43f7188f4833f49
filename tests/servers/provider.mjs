// oidc-provider as the authorization server of a bank, a process that `server.mjs` starts: client credentials, tokens bound by
// certificate or DPoP, introspection. What it has issued and is not in the tokens themselves is in its memory.

import { randomBytes } from "node:crypto";
import { createServer } from "node:https";
import Provider, { errors } from "oidc-provider";
import { Agent, fetch } from "undici";

import { API, BRIEF, OTHER, SCOPE } from "./server.mjs";

const [seen, told] = [[], []];
let [settings, answer, delay] = [undefined, undefined, 0];

/** What the one who started the process may ask for. */
const orders = {
  /** Serves at this port, or at any if it is 0. Returns the port. */
  async serve({ port, keys, ...given }) {
    settings = given;
    const http = createServer({ ...settings.tls, ca: settings.ca, requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.3" });
    await new Promise((resolve, reject) => http.once("error", reject).listen(port, "127.0.0.1", resolve));
    settings.issuer = `https://localhost:${http.address().port}`;
    orders.sign(keys);
    http.on("request", (request, response) => {
      response.once("finish", () => seen.push({ url: request.url, type: response.getHeader("content-type") }));
      if (delay) setTimeout(() => answer(request, response), delay);
      else answer(request, response);
    });
    return http.address().port;
  },
  /** Publishes these keys, and signs with the first. */
  sign(keys) {
    const provider = new Provider(settings.issuer, configuration(settings, keys));
    for (const event of ["grant.error", "introspection.error", "server_error"]) {
      provider.on(event, (_, error) => told.push([event, error.message, error.error_description, error.error_detail].filter(Boolean).join(": ")));
    }
    answer = provider.callback();
  },
  /** Takes so many milliseconds for each answer. */
  slow(milliseconds) {
    delay = milliseconds;
  },
  seen: () => seen,
  errors: () => told,
};

process.on("message", async ([order, value]) => process.send([await orders[order](value)]));
process.on("disconnect", () => process.exit());

function configuration({ ca, clients, format, signs }, keys) {
  // Keys of clients are published by the operator, for whose certificate the mesh vouches.
  const agent = new Agent({ connect: { ca } });
  return {
    clients: clients.map((client) => ({ redirect_uris: [], response_types: [], grant_types: ["client_credentials"], scope: SCOPE, ...client })),
    // Without this it is RS256, for which there is no key. A client whose ID tokens cannot be signed is none, though it never gets one.
    clientDefaults: { id_token_signed_response_alg: "ES256", ...(signs && { introspection_signed_response_alg: "ES256" }) },
    // It signs with the first.
    jwks: { keys },
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
        getResourceServerInfo: (ctx, resource, { clientId }) => {
          if (![API, OTHER].includes(resource)) throw new errors.InvalidTarget();
          return { scope: SCOPE, audience: resource, accessTokenFormat: format, accessTokenTTL: ttl(clientId), jwt: { sign: { alg: "ES256" } } };
        },
      },
    },
  };
}

/** How long a token of this client lives, in seconds. */
function ttl(clientId) {
  return clientId === BRIEF ? 120 : 300;
}
