// OAuth clients that were written by others get tokens and use them. They decide what is a good answer.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as jose from "jose";
import * as oauth from "oauth4webapi";
import * as client from "openid-client";

import { check, finish, refusal } from "./check.mjs";
import { everyFlow, JSON_TYPE, PAYMENTS } from "./flows.mjs";
import { withMesh } from "./mesh.mjs";
import { oauth4webapi } from "./oauth4webapi.mjs";
import { discover, openidClient } from "./openid-client.mjs";

const LEDGER = new URL("https://ledger.bank/entries");

await withMesh(process.argv[2], async (mesh) => {
  const keys = await declaredKeys(mesh);
  await everyFlow(mesh, "openid-client", openidClient, keys["openid-client"]);
  await everyFlow(mesh, "oauth4webapi", oauth4webapi, keys.oauth4webapi);
  await thief(mesh);
  await proofKeys(mesh);
  await refusals(mesh, keys["openid-client"]);
  await judges(mesh);
  const java = spawnSync("java", ["-cp", "lib/*", "Nimbus.java", mesh.folder], { cwd: import.meta.dirname, stdio: "inherit" });
  check("Nimbus", java.status, 0);
});
finish();

/** A key for each client to sign assertions with, all of them declared for shop. That of Nimbus is in a file. */
async function declaredKeys(mesh) {
  const [made, published] = [{}, []];
  for (const [kid, alg] of [["openid-client", "ES256"], ["oauth4webapi", "Ed25519"], ["nimbus", "PS256"]]) {
    const { privateKey, publicKey } = await jose.generateKeyPair(alg, { extractable: true });
    made[kid] = { key: privateKey, kid };
    published.push({ ...(await jose.exportJWK(publicKey)), kid, alg, use: "sig" });
  }
  writeFileSync(join(mesh.folder, "nimbus.jwk"), JSON.stringify({ ...(await jose.exportJWK(made.nimbus.key)), kid: "nimbus" }));
  mesh.declare("batch", {
    apiVersion: "fapi-mesh.dev/v1alpha1",
    kind: "FapiClient",
    metadata: { name: "batch", namespace: "bank" },
    spec: {
      serviceAccountName: "shop",
      targets: [{ serviceName: "ledger" }],
      authentication: { method: "PrivateKeyJWT", jwks: { keys: published } },
    },
  });
  return made;
}

/** A token on another workload's connection. */
async function thief(mesh) {
  const shop = await openidClient(mesh, mesh.identity("shop"));
  const { access_token } = await shop.token({ resource: PAYMENTS.origin });
  const headers = { ...JSON_TYPE, authorization: `Bearer ${access_token}` };
  const answer = await mesh.identity("intruder").fetch(PAYMENTS, { method: "POST", body: "{}", headers });
  check("a stolen token on another connection", [answer.status, answer.headers.get("www-authenticate")?.includes("invalid_token")], [401, true]);
}

async function proofKeys(mesh) {
  const payments = mesh.identity("payments");
  const own = await openidClient(mesh, payments);
  for (const alg of ["ES256", "PS256", "Ed25519"]) {
    const DPoP = await own.proofs(alg);
    const { access_token, token_type } = await own.token({ resource: LEDGER.origin }, DPoP);
    check(`openid-client, ${alg}: a DPoP-bound token`, token_type, "dpop");
    const answer = await own.call(access_token, LEDGER, DPoP);
    check(`openid-client, ${alg}: a call with it`, [answer.status, (await answer.json()).told.caller], [200, payments.id]);
  }
}

async function refusals(mesh, key) {
  const { id, fetch } = mesh.identity("shop");
  const { config, token } = await openidClient(mesh, { id, fetch });
  check("openid-client: metadata", config.serverMetadata().issuer, mesh.about.issuer);
  const grant = (parameters) => refusal(token(parameters));
  check("nobody's audience", await grant({ resource: "https://nobody.bank" }), "invalid_target");
  check("no audience", await grant({}), "invalid_target");
  check("a scope that nobody gave", await grant({ resource: PAYMENTS.origin, scope: "everything" }), "invalid_scope");
  check("another grant", await refusal(client.genericGrantRequest(config, "password", { resource: PAYMENTS.origin })), "unsupported_grant_type");
  const intruder = await openidClient(mesh, mesh.identity("intruder"));
  check("a target that names somebody else", await refusal(intruder.token({ resource: LEDGER.origin })), "invalid_target");
  const secret = await discover(mesh, id, fetch, client.ClientSecretPost("secret"));
  check("a client secret", await refusal(client.clientCredentialsGrant(secret, { resource: PAYMENTS.origin })), "invalid_client");
  const bare = await openidClient(mesh, { id, fetch: mesh.fetcher({ ca: mesh.ca }), key });
  check("neither certificate nor proof to bind a token to", await refusal(bare.token({ resource: PAYMENTS.origin })), "invalid_request");
}

/** oauth4webapi as the judge of what a resource server would be shown, and jose as that of the token alone. */
async function judges(mesh) {
  const payments = mesh.identity("payments");
  const seen = [];
  const calls = (url, request) => {
    seen.push(new Request(url, { method: request.method, headers: request.headers }));
    return payments.fetch(url, request);
  };
  const { server, proofs, token, call } = await oauth4webapi(mesh, { ...payments, calls });
  const DPoP = await proofs("ES256");
  const { access_token } = await token({ resource: LEDGER.origin }, DPoP);
  await call(access_token, LEDGER, DPoP);
  const options = { [oauth.customFetch]: payments.fetch, requireDPoP: true };
  const claims = await oauth.validateJwtAccessToken(server, seen.at(-1), LEDGER.origin, options);
  check("oauth4webapi, as a resource server, takes token and proof", [claims.sub, claims.client_id], [payments.id, payments.id]);
  const keys = jose.createLocalJWKSet(await (await payments.fetch(server.jwks_uri)).json());
  const { protectedHeader } = await jose.jwtVerify(access_token, keys, { typ: "at+jwt", issuer: server.issuer, audience: LEDGER.origin });
  check("jose verifies the token", protectedHeader.alg, "ES256");
}
