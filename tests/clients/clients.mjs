// OAuth clients that were written by others get tokens and use them. They decide what is a good answer.

import { spawnSync } from "node:child_process";
import * as jose from "jose";
import * as oauth from "oauth4webapi";
import * as client from "openid-client";

import { check, finish, refusal } from "./check.mjs";
import { withMesh } from "./mesh.mjs";

const PAYMENTS = new URL("https://payments.bank/transfers");
const LEDGER = new URL("https://ledger.bank/entries");
const JSON_TYPE = { "content-type": "application/json" };

await withMesh(process.argv[2], async (mesh) => {
  await certificateBound(mesh);
  await proofOfPossession(mesh);
  await refusals(mesh);
  await lowLevel(mesh);
  await keys(mesh);
  const java = spawnSync("java", ["-cp", "lib/*", "Nimbus.java", mesh.folder], { cwd: import.meta.dirname, stdio: "inherit" });
  check("Nimbus", java.status, 0);
});
finish();

/** openid-client, knowing nothing but the issuer's URL and its own name. */
function discover(mesh, { id, fetch }) {
  const options = { algorithm: "oauth2", [client.customFetch]: fetch };
  return client.discovery(mesh.issuer, id, { use_mtls_endpoint_aliases: true }, client.TlsClientAuth(), options);
}

async function certificateBound(mesh) {
  const shop = mesh.identity("shop");
  const config = await discover(mesh, shop);
  check("openid-client: metadata", config.serverMetadata().issuer, mesh.about.issuer);
  const tokens = await client.clientCredentialsGrant(config, { resource: PAYMENTS.origin });
  check("openid-client: a certificate-bound token", tokens.token_type, "bearer");
  check("openid-client: its scope is told", tokens.scope, "accounts:read transfers:write");
  const answer = await client.fetchProtectedResource(config, tokens.access_token, PAYMENTS, "POST", "{}", new Headers(JSON_TYPE));
  check("openid-client: a call with it", [answer.status, (await answer.json()).told.caller], [200, shop.id]);
  await thief(mesh, tokens.access_token);
}

/** The token on another workload's connection. */
async function thief(mesh, token) {
  const intruder = mesh.identity("intruder");
  const headers = { ...JSON_TYPE, authorization: `Bearer ${token}` };
  const answer = await intruder.fetch(PAYMENTS, { method: "POST", body: "{}", headers });
  check("a stolen token on another connection", [answer.status, answer.headers.get("www-authenticate")?.includes("invalid_token")], [401, true]);
}

async function proofOfPossession(mesh) {
  const payments = mesh.identity("payments");
  const config = await discover(mesh, payments);
  for (const alg of ["ES256", "PS256", "Ed25519"]) {
    // It asks for nonces by itself, at the issuer and at the resource.
    const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair(alg));
    const tokens = await client.clientCredentialsGrant(config, { resource: LEDGER.origin }, { DPoP });
    check(`openid-client, ${alg}: a DPoP-bound token`, tokens.token_type, "dpop");
    for (const turn of ["first", "second"]) {
      const answer = await client.fetchProtectedResource(config, tokens.access_token, LEDGER, "POST", "{}", new Headers(JSON_TYPE), { DPoP });
      check(`openid-client, ${alg}: the ${turn} call with it`, [answer.status, (await answer.json()).told.caller], [200, payments.id]);
    }
  }
}

async function refusals(mesh) {
  const config = await discover(mesh, mesh.identity("shop"));
  const grant = (parameters) => refusal(client.clientCredentialsGrant(config, parameters));
  check("nobody's audience", await grant({ resource: "https://nobody.bank" }), "invalid_target");
  check("no audience", await grant({}), "invalid_target");
  check("a scope that nobody gave", await grant({ resource: PAYMENTS.origin, scope: "everything" }), "invalid_scope");
  check("another grant", await refusal(client.genericGrantRequest(config, "password", { resource: PAYMENTS.origin })), "unsupported_grant_type");
  const intruder = await discover(mesh, mesh.identity("intruder"));
  check("a target that names somebody else", await refusal(client.clientCredentialsGrant(intruder, { resource: LEDGER.origin })), "invalid_target");
  const secret = await client.discovery(mesh.issuer, mesh.workload("shop").spiffe_id, undefined, client.ClientSecretPost("secret"), {
    algorithm: "oauth2",
    [client.customFetch]: mesh.identity("shop").fetch,
  });
  check("a client secret", await refusal(client.clientCredentialsGrant(secret, { resource: PAYMENTS.origin })), "invalid_client");
}

/** oauth4webapi as client, and then as the judge of what a resource server would be shown. */
async function lowLevel(mesh) {
  const payments = mesh.identity("payments");
  const options = { [oauth.customFetch]: payments.fetch };
  const found = await oauth.discoveryRequest(mesh.issuer, { algorithm: "oauth2", ...options });
  const server = await oauth.processDiscoveryResponse(mesh.issuer, found);
  const me = { client_id: payments.id };
  const DPoP = oauth.DPoP(me, await oauth.generateKeyPair("ES256"));
  const ask = () => oauth.clientCredentialsGrantRequest(server, me, oauth.TlsClientAuth(), { resource: LEDGER.origin }, { ...options, DPoP });
  const first = await refusal(ask().then((answer) => oauth.processClientCredentialsResponse(server, me, answer)));
  check("oauth4webapi: the issuer wants its nonce", first, "use_dpop_nonce");
  const granted = await oauth.processClientCredentialsResponse(server, me, await ask());
  const seen = [];
  const recording = (url, request) => {
    seen.push(new Request(url, { method: request.method, headers: request.headers }));
    return payments.fetch(url, request);
  };
  const call = () =>
    oauth.protectedResourceRequest(granted.access_token, "POST", LEDGER, new Headers(JSON_TYPE), "{}", { DPoP, [oauth.customFetch]: recording });
  const wanted = await call().catch((error) => error.cause?.[0]?.parameters?.error);
  check("oauth4webapi: the resource wants its own nonce", wanted, "use_dpop_nonce");
  check("oauth4webapi: a call", (await call()).status, 200);
  const claims = await oauth.validateJwtAccessToken(server, seen.at(-1), LEDGER.origin, { ...options, requireDPoP: true });
  check("oauth4webapi, as a resource server, takes token and proof", [claims.sub, claims.client_id], [payments.id, payments.id]);
  const keys = jose.createLocalJWKSet(await (await payments.fetch(server.jwks_uri)).json());
  const { protectedHeader } = await jose.jwtVerify(granted.access_token, keys, { typ: "at+jwt", issuer: server.issuer, audience: LEDGER.origin });
  check("jose verifies the token", protectedHeader.alg, "ES256");
}

/** A client without a certificate: private_key_jwt, and what becomes of its token. */
async function keys(mesh) {
  const shop = mesh.identity("shop");
  const { privateKey, publicKey } = await oauth.generateKeyPair("ES256", { extractable: true });
  const jwk = { ...(await jose.exportJWK(publicKey)), kid: "batch", alg: "ES256", use: "sig" };
  mesh.declare("batch", {
    apiVersion: "fapi-mesh.dev/v1alpha1",
    kind: "FapiClient",
    metadata: { name: "batch", namespace: "bank" },
    spec: {
      serviceAccountName: "shop",
      targets: [{ serviceName: "ledger" }],
      authentication: { method: "PrivateKeyJWT", jwks: { keys: [jwk] } },
    },
  });
  const bare = { fetch: mesh.fetcher({ ca: mesh.ca }) };
  const options = { algorithm: "oauth2", [client.customFetch]: bare.fetch };
  const signer = client.PrivateKeyJwt({ key: privateKey, kid: "batch" });
  const config = await client.discovery(mesh.issuer, shop.id, undefined, signer, options);
  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
  const tokens = await eventually(() => client.clientCredentialsGrant(config, { resource: PAYMENTS.origin }, { DPoP }));
  check("openid-client: private_key_jwt without a certificate", tokens.token_type, "dpop");
  const unbound = await refusal(client.clientCredentialsGrant(config, { resource: PAYMENTS.origin }));
  check("openid-client: neither certificate nor proof", unbound, "invalid_request");
  const calling = await discover(mesh, shop);
  const call = () =>
    client.fetchProtectedResource(calling, tokens.access_token, PAYMENTS, "POST", "{}", new Headers(JSON_TYPE), { DPoP });
  check("openid-client: a call with that token", (await call()).status, 200);
  const told = await client.tokenIntrospection(config, tokens.access_token);
  check("openid-client: introspection", [told.active, told.client_id, told.token_type], [true, shop.id, "DPoP"]);
  await signedIntrospection(mesh, config, tokens.access_token);
  await client.tokenRevocation(config, tokens.access_token);
  check("openid-client: introspection of a revoked token", (await client.tokenIntrospection(config, tokens.access_token)).active, false);
  const after = await eventually(() => call().then(() => Promise.reject(new Error("still admitted")), (error) => error));
  check("openid-client: a call with a revoked token", [after.status, after.cause?.[0]?.parameters?.error], [401, "invalid_token"]);
}

async function signedIntrospection(mesh, config, token) {
  const server = config.serverMetadata();
  const payments = mesh.identity("payments");
  const options = { [oauth.customFetch]: payments.fetch };
  const me = { client_id: payments.id, introspection_signed_response_alg: "ES256" };
  const asked = { ...options, requestJwtResponse: true };
  const answer = await oauth.introspectionRequest(server, me, oauth.TlsClientAuth(), token, asked);
  const told = await oauth.processIntrospectionResponse(server, me, answer);
  await oauth.validateApplicationLevelSignature(server, answer, options);
  check("oauth4webapi: signed introspection by the audience", [told.active, told.aud], [true, PAYMENTS.origin]);
}

/** Tries until it works: the operator reads its folder, and a revocation reaches a sidecar, a moment later. */
async function eventually(attempt) {
  const end = Date.now() + 10_000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
