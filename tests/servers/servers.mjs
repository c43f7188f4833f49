// A mesh whose clients take their tokens from an authorization server that was written by others, and whose servers judge them.

import { generateKeyPairSync } from "node:crypto";
import { decodeJwt, decodeProtectedHeader, SignJWT } from "jose";

import { call, decided, direct, eventually, introspect, issuer, paymentsCalls, paymentsTakes, proofKey, revoke, said, shopIs, token } from "./bank.mjs";
import { check, finish } from "./check.mjs";
import { withMesh } from "./mesh.mjs";
import { API, BRIEF, byAssertion, byCertificate, DPOP, INTROSPECTION, MTLS, OTHER, serverCertificate, start } from "./server.mjs";

/** Clients of the servers, and the service accounts of the bank that they belong to. */
const OF_SHOP = ["mtls", "dpop", "signs", "signs-dpop", "unbound", "mistaken", "reads", "late", "later", "steady"].map((name) => `shop-${name}`);
const SHOP = Object.fromEntries([...OF_SHOP, BRIEF].map((name) => [name, "shop"]));
const WAYS = [
  ["shop-mtls", "TLSClientAuth", "MTLS"],
  ["shop-dpop", "TLSClientAuth", "DPoP"],
  ["shop-signs", "PrivateKeyJWT", "MTLS"],
  ["shop-signs-dpop", "PrivateKeyJWT", "DPoP"],
];

await withMesh(process.argv[2], async (mesh) => {
  const servers = await startServers(mesh);
  try {
    await story(mesh, servers);
  } catch (error) {
    check("the story came to its end", `${error.stack}`, "");
  }
  finish();
  for (const [name, server] of Object.entries(servers)) {
    if (process.exitCode) for (const error of await server.errors()) console.log(`${name}: ${error}`);
    await server.end();
  }
});

async function story(mesh, { jwt, opaque, signed }) {
  const [shop, payments, intruder] = ["shop", "payments", "intruder"].map((account) => mesh.identity(account));
  issuer(mesh, "jwt", jwt, "JWT", SHOP);
  issuer(mesh, "opaque", opaque, "Opaque", { ...SHOP, payments: "payments" });
  issuer(mesh, "signed", signed, "Opaque", { ...SHOP, payments: "payments" });
  paymentsCalls(mesh);
  // Nothing in an opaque token tells whose it is, so they have their turns.
  paymentsTakes(mesh, ["jwt", "opaque"]);
  for (const [name, server] of Object.entries({ jwt, opaque })) {
    for (const way of WAYS) await sidecarsCall(mesh, name, way);
    await wrongTokens(mesh, name, server, { shop, intruder });
  }
  check("tokens that can be read were not introspected", await introspections(jwt), []);
  check("opaque tokens were", new Set(await introspections(opaque)), new Set(["application/json; charset=utf-8"]));
  await forgeries(mesh, { jwt, opaque }, { shop });
  await refusedClients(mesh, { jwt, opaque });
  paymentsTakes(mesh, ["jwt", "signed"]);
  for (const way of WAYS) await sidecarsCall(mesh, "signed", way);
  await wrongTokens(mesh, "signed", signed, { shop, intruder });
  await signedAnswers(signed, { shop, payments });
  await rotation(mesh, jwt, { shop });
  await slowDays(mesh, { jwt, signed }, { shop });
  await restarts(mesh, { jwt, signed }, { shop });
  await withoutTheServers(mesh, { jwt, signed }, { shop });
}

/** One server whose tokens anybody can read, one that must be asked about them, and one that signs what it says then. */
async function startServers(mesh) {
  const tls = serverCertificate(mesh.folder);
  const [shop, payments, intruder] = ["shop", "payments", "intruder"].map((account) => mesh.workload(account).spiffe_id);
  const keys = `${mesh.about.issuer}/clients/bank/shop/jwks`;
  const clients = [
    byCertificate("shop-mtls", shop, MTLS),
    byCertificate("shop-dpop", shop, DPOP),
    byAssertion("shop-signs", keys, MTLS),
    byAssertion("shop-signs-dpop", keys, DPOP),
    byCertificate("shop-unbound", shop),
    byCertificate("shop-mistaken", payments, MTLS),
    byCertificate("shop-reads", shop, MTLS, { scope: "accounts:read" }),
    byCertificate("shop-late", shop, MTLS),
    byCertificate("shop-later", shop, MTLS),
    byCertificate("shop-steady", shop, MTLS),
    byCertificate(BRIEF, shop, MTLS),
    byCertificate("shop-elsewhere", shop, MTLS),
    byCertificate("intruder", intruder, MTLS),
    byCertificate("payments", payments, MTLS),
  ];
  return {
    jwt: await start(mesh, tls, clients, { format: "jwt" }),
    opaque: await start(mesh, tls, clients, { format: "opaque" }),
    signed: await start(mesh, tls, clients, { format: "opaque", signs: true }),
  };
}

async function sidecarsCall(mesh, issuerName, [clientId, ...way]) {
  shopIs(mesh, issuerName, clientId, ...way);
  const answer = await eventually(() => call(mesh), ([status, client]) => status === 200 && client === clientId);
  check(`${issuerName}: sidecars call as ${clientId}, ${way.join(", ")}`, answer, [200, clientId]);
}

/** The types of the answers about tokens that a server has given. */
async function introspections(server) {
  return (await server.seen()).filter(({ url }) => url === INTROSPECTION).map(({ type }) => type);
}

/** What this server writes into signed answers (RFC 9701). */
async function signedAnswers(server, { shop, payments }) {
  const type = "application/token-introspection+jwt; charset=utf-8";
  check("signed: sidecars were given signed answers", new Set(await introspections(server)), new Set([type]));
  const answer = await introspect(payments, server, "payments", await token(shop, server, "shop-mtls"));
  const { aud, token_introspection: told } = decodeJwt(answer.text);
  check("signed: an answer is for the client that asks; inside is whom the token is for", [aud, told.aud], ["payments", API]);
  check("signed: an answer says that it is one", decodeProtectedHeader(answer.text).typ, "token-introspection+jwt");
}

/** Tokens that are good elsewhere, or for somebody else, straight at the sidecar of payments. */
async function wrongTokens(mesh, name, server, { shop, intruder }) {
  const outcome = async (identity, token, scheme) => decided(mesh, await direct(identity, token, scheme));
  const good = await token(shop, server, "shop-mtls");
  check(`${name}: a token on the connection of its client`, await outcome(shop, good), [200, "admitted"]);
  check(`${name}: stolen, on another connection`, await outcome(intruder, good), [401, name === "jwt" ? "binding_cert_mismatch" : "caller_mismatch"]);
  check(`${name}: of a client that nobody maps`, await outcome(shop, await token(shop, server, "shop-elsewhere")), [401, "caller_mismatch"]);
  check(`${name}: of a client that is somebody else`, await outcome(intruder, await token(intruder, server, "intruder")), [401, "caller_mismatch"]);
  check(`${name}: bound to nothing`, await outcome(shop, await token(shop, server, "shop-unbound")), [401, "binding_missing"]);
  check(`${name}: for another resource`, await outcome(shop, await token(shop, server, "shop-mtls", { resource: OTHER })), [401, "audience_mismatch"]);
  check(`${name}: without the scope`, await outcome(shop, await token(shop, server, "shop-mtls", { scope: "accounts:read" })), [403, "scope_insufficient"]);
  const bound = await token(shop, server, "shop-dpop", { key: await proofKey() });
  check(`${name}: bound to a proof key, without proof`, await outcome(shop, bound), [401, "bound_token_sent_as_bearer"]);
  check(`${name}: the same as DPoP`, await outcome(shop, bound, "DPoP"), [401, "proof_missing"]);
}

/** Tokens that no server has issued, or that it has taken back. */
async function forgeries(mesh, { jwt, opaque }, { shop }) {
  const outcome = async (token) => decided(mesh, await direct(shop, token));
  const good = await token(shop, jwt, "shop-mtls");
  const [header, claims] = [decodeProtectedHeader(good), decodeJwt(good)];
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const sign = (claims) => new SignJWT(claims).setProtectedHeader(header).sign(privateKey);
  check("jwt: its claims, signed by another key", await outcome(await sign(claims)), [401, "signature_invalid"]);
  const [head, , signature] = good.split(".");
  const changed = Buffer.from(JSON.stringify({ ...claims, scope: "everything" })).toString("base64url");
  check("jwt: changed claims under its signature", await outcome(`${head}.${changed}.${signature}`), [401, "signature_invalid"]);
  check("opaque: made up", await outcome("x".repeat(43)), [401, "token_inactive"]);
  // This server says that it has no such tokens, which is no answer about this one.
  const disguised = await sign({ ...claims, iss: opaque.issuer });
  check("opaque: a JWT in its name", await outcome(disguised), [503, "introspection_unavailable"]);
  const revoked = await token(shop, opaque, "shop-mtls");
  await revoke(shop, opaque, "shop-mtls", revoked);
  check("opaque: revoked at the server", await outcome(revoked), [401, "token_inactive"]);
}

/** What the app is told when its sidecar gets no token that is any good, and what the sidecar says of it. */
async function refusedClients(mesh, servers) {
  const refused = async (title, issuerName, clientId, expected, why) => {
    const { length } = said(mesh);
    shopIs(mesh, issuerName, clientId);
    check(title, await eventually(() => call(mesh), ([status, error]) => status === expected[0] && error === expected[1]), expected);
    if (why) check(`    because ${why}`, (await eventually(() => said(mesh, length).text, (text) => text.includes(why))).includes(why), true);
  };
  const unavailable = [503, "token_unavailable"];
  await refused("jwt: a client that the server gives unbound tokens", "jwt", "shop-unbound", unavailable, "it has no cnf");
  await refused("opaque: the same, where only the receiver can see it", "opaque", "shop-unbound", [401, "invalid_token"]);
  // No two in a row end alike: a call is made until it ends as it should.
  for (const name of Object.keys(servers)) {
    await refused(`${name}: a client that may not have the scope`, name, "shop-reads", [403, "not_granted"], "invalid_scope");
    await refused(`${name}: a client that the server knows by another certificate`, name, "shop-mistaken", unavailable, "invalid_client");
    await refused(`${name}: a client that nobody maps`, name, "shop-elsewhere", [403, "not_granted"]);
  }
}

/** The server signs with new keys. Sidecars fetch them when they see one; how often is bounded, since anybody can name a key. */
async function rotation(mesh, jwt, { shop }) {
  const outcome = async (token) => decided(mesh, await direct(shop, token));
  const before = await token(shop, jwt, "shop-mtls");
  check("rotation: a token before it", await outcome(before), [200, "admitted"]);
  const taken = async (token) => eventually(() => outcome(token), ([status]) => status === 200);
  await jwt.rotate();
  check("rotation: a token of the new key", await taken(await token(shop, jwt, "shop-mtls")), [200, "admitted"]);
  check("rotation: a token of the old one, which is still published", await outcome(before), [200, "admitted"]);
  await jwt.rotate();
  await jwt.forget();
  check("rotation: a token of the next key", await taken(await token(shop, jwt, "shop-mtls")), [200, "admitted"]);
  check("rotation: a token of a key that is published no longer", await outcome(before), [401, "key_not_found"]);
}

/** The server answers too late for a call to wait. */
async function slowDays(mesh, { jwt, signed }, { shop }) {
  const outcome = async (token) => decided(mesh, await direct(shop, token));
  const [readable, unread] = [await token(shop, jwt, "shop-mtls"), await token(shop, signed, "shop-mtls")];
  for (const server of [jwt, signed]) await server.slow(20_000);
  check("slow: a token that can be read", await outcome(readable), [200, "admitted"]);
  check("slow: one that cannot", await outcome(unread), [503, "introspection_unavailable"]);
  shopIs(mesh, "jwt", "shop-late");
  check("slow: a call that needs a new token", await eventually(() => call(mesh), ([status]) => status === 503), [503, "token_unavailable"]);
  for (const server of [jwt, signed]) await server.slow(0);
  check("in time again: the opaque token", await eventually(() => outcome(unread), ([status]) => status === 200), [200, "admitted"]);
  check("in time again: calls go on", await eventually(() => call(mesh), ([status]) => status === 200), [200, "shop-late"]);
}

/**
 * The servers are killed and begin again. Their keys are the same, so what can be read goes on. Of what cannot be read they know nothing
 * any more: it ends when the last answer about it does, and the caller's sidecar has another by half of its life.
 */
async function restarts(mesh, { jwt, signed }, { shop }) {
  const outcome = async (token) => decided(mesh, await direct(shop, token));
  const readable = await token(shop, jwt, "shop-mtls");
  await sidecarsCall(mesh, "jwt", ["shop-steady", "TLSClientAuth", "MTLS"]);
  await jwt.end();
  await jwt.begin();
  check("restart: a JWT of before", await outcome(readable), [200, "admitted"]);
  check("restart: calls go on", await call(mesh), [200, "shop-steady"]);
  check("restart: with the JWT of before", (await jwt.seen()).filter(({ url }) => url === "/token"), []);
  check("restart: a new JWT", await outcome(await token(shop, jwt, "shop-mtls")), [200, "admitted"]);

  const [known, unread] = [await token(shop, signed, "shop-mtls"), await token(shop, signed, "shop-mtls")];
  check("restart: an opaque token before it", await outcome(known), [200, "admitted"]);
  await sidecarsCall(mesh, "signed", [BRIEF, "TLSClientAuth", "MTLS"]);
  await signed.end();
  await signed.begin();
  check("restart: an opaque token of before", await outcome(unread), [401, "token_inactive"]);
  check("restart: a new one", await outcome(await token(shop, signed, "shop-mtls")), [200, "admitted"]);
  check("restart: what an app is told then", await eventually(() => call(mesh), ([status]) => status !== 200), [401, "invalid_token"]);
  check("restart: the opaque token that was known", await eventually(() => outcome(known), ([status]) => status !== 200), [401, "token_inactive"]);
  check("restart: calls pass again", await eventually(() => call(mesh), ([status]) => status === 200), [200, BRIEF]);
}

async function withoutTheServers(mesh, { jwt, signed }, { shop }) {
  const outcome = async (token) => decided(mesh, await direct(shop, token));
  const [readable, unread] = [await token(shop, jwt, "shop-mtls"), await token(shop, signed, "shop-mtls")];
  await Promise.all([jwt.end(), signed.end()]);
  check("down: its keys are known, so its tokens are judged", await outcome(readable), [200, "admitted"]);
  check("down: an opaque token is judged by nobody", await outcome(unread), [503, "introspection_unavailable"]);
  shopIs(mesh, "jwt", "shop-later");
  check("down: a call that needs a new token", await eventually(() => call(mesh), ([status]) => status === 503), [503, "token_unavailable"]);
  // At another place it is another server: what it said before no longer counts.
  issuer(mesh, "jwt", jwt, "JWT", SHOP, { jwksUri: `${jwt.issuer}/jwks` });
  const late = await eventually(() => outcome(readable), ([status]) => status === 503);
  check("down: a token whose keys nobody has", late, [503, "issuer_unavailable"]);
  shopIs(mesh);
  const own = await eventually(() => call(mesh), ([status]) => status === 200);
  check("down: tokens of the mesh are taken all the same", own, [200, mesh.workload("shop").spiffe_id]);
  await Promise.all([jwt.begin(), signed.begin()]);
  const gone = await eventually(() => outcome(unread), ([status]) => status !== 503);
  check("up again: the opaque token of before is known to nobody", gone, [401, "token_inactive"]);
  check("up again: a new one is judged", await outcome(await token(shop, signed, "shop-mtls")), [200, "admitted"]);
  const judged = await eventually(() => outcome(readable), ([status]) => status === 200);
  check("up again: its keys are fetched, and its JWT of before is good", judged, [200, "admitted"]);
  await sidecarsCall(mesh, "jwt", WAYS[0]);
}
