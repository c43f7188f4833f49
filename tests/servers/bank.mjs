// The bank whose mesh takes tokens of servers outside: its documents, calls through both sidecars, and calls past that of the caller.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { Agent, fetch } from "undici";

import { API, INTROSPECTION } from "./server.mjs";

const HOST = "payments.bank";
const PATH = "/transfers";
/**
 * The operator reads its folder a moment after it is written, a server that was away is tried again within 10 s, what it said of a
 * token counts for 30 s, and a sidecar has a new token after a minute if one lives for two.
 */
const WITHIN = 90_000;

function object(kind, name, spec, namespace) {
  return { apiVersion: "fapi-mesh.dev/v1alpha1", kind, metadata: { name, namespace }, spec };
}

/** The FapiIssuer of a server: who its clients are. */
export function issuer(mesh, name, server, tokenFormat, clients, more) {
  const mapped = Object.entries(clients).map(([clientId, serviceAccountName]) => ({ clientId, callers: [{ namespace: "bank", serviceAccountName }] }));
  const allow = [{ namespace: "bank", audiences: [API] }];
  mesh.declare(name, object("FapiIssuer", name, { issuer: server.issuer, caBundle: server.ca, tokenFormat, allow, clients: mapped, ...more }));
}

/** payments takes tokens of the mesh, and those of these issuers that are for the API. */
export function paymentsTakes(mesh, names) {
  mesh.declare("payments", object("FapiPolicy", "payments", {
    targetRefs: [{ name: "payments" }],
    issuers: [{ name: "mesh" }, ...names.map((name) => ({ name, audiences: [API] }))],
    rules: [{ methods: ["POST"], paths: [PATH], callers: [{ serviceAccountName: "shop" }], scopes: ["transfers:write"] }],
  }, "bank"));
}

/** payments calls ledger as ever, with tokens of the mesh. */
export function paymentsCalls(mesh) {
  mesh.declare("clients", object("FapiClient", "payments", { serviceAccountName: "payments", targets: [{ serviceName: "ledger" }] }, "bank"));
}

/** shop calls payments as this client of this issuer from now on; without one, as itself. */
export function shopIs(mesh, issuerName, clientId, method = "TLSClientAuth", senderConstraint = "MTLS") {
  const spec = { serviceAccountName: "shop", targets: [{ serviceName: "payments", scopes: ["transfers:write"], senderConstraint }] };
  const outside = issuerName && { issuerName, clientId, authentication: { method } };
  mesh.declare("shop", object("FapiClient", outside ? `${issuerName}-${clientId}` : "shop", { ...spec, ...outside }, "bank"));
}

/** A call of shop's app through both sidecars: the status, and the client that payments was told, or the error that the app was. */
export function call(mesh) {
  const [host, port] = mesh.workload("shop").outbound.split(":");
  return new Promise((resolve, reject) => {
    const asked = request({ host, port, method: "POST", path: `http://${HOST}${PATH}`, headers: { host: HOST, "content-type": "application/json" } });
    asked.on("error", reject);
    asked.on("response", async (response) => {
      let text = "";
      for await (const part of response) text += part;
      const body = JSON.parse(text);
      resolve([response.statusCode, body.told?.client_id ?? body.error]);
    });
    asked.end("{}");
  });
}

/** What shop's sidecar said since `from` of the tokens that it could not get. */
export function said(mesh, from = 0) {
  const text = readFileSync(join(mesh.folder, "logs", "shop-1.err"), "utf8").slice(from);
  return { length: from + text.length, text };
}

/** A call to the sidecar of payments, past that of the caller: the status, and the reason that the sidecar has logged. */
export async function direct({ fetch: send }, token, scheme = "Bearer") {
  const id = randomUUID();
  const headers = { authorization: `${scheme} ${token}`, "content-type": "application/json", "x-fapi-interaction-id": id };
  const answer = await send(`https://${HOST}${PATH}`, { method: "POST", body: "{}", headers });
  await answer.text();
  return { status: answer.status, id };
}

/** The reason of a refused call; nothing for one that was admitted. */
export async function decided(mesh, { status, id }) {
  const log = join(mesh.folder, "logs", "payments-1.log");
  const lines = () => readFileSync(log, "utf8").split("\n").filter((line) => line.includes(id));
  const [line] = await eventually(lines, (found) => found.length > 0);
  const { outcome, reason } = line ? JSON.parse(line) : { outcome: "nothing was logged" };
  return [status, reason ?? outcome];
}

/** What `identity` gets at an endpoint of a server, with a proof if `dpop` is its key. */
async function post({ tls }, server, path, form, { accept = "application/json", proof } = {}) {
  const dispatcher = new Agent({ connect: { ...tls, ca: server.ca } });
  const headers = { accept, ...(proof && { dpop: proof }) };
  const answer = await fetch(server.issuer + path, { method: "POST", body: new URLSearchParams(form), dispatcher, headers });
  const text = await answer.text();
  await dispatcher.close();
  return { status: answer.status, type: answer.headers.get("content-type"), nonce: answer.headers.get("dpop-nonce"), text };
}

/** A token that `identity` fetches itself. */
export async function token(identity, server, client_id, { scope = "transfers:write", resource = API, key } = {}) {
  const form = { grant_type: "client_credentials", client_id, resource, scope };
  let answer = await post(identity, server, "/token", form, { proof: key && (await proof(server, key)) });
  if (key && answer.status === 400) answer = await post(identity, server, "/token", form, { proof: await proof(server, key, answer.nonce) });
  const { access_token, ...rest } = JSON.parse(answer.text);
  if (!access_token) throw new Error(`no token for ${client_id}: ${JSON.stringify(rest)}`);
  return access_token;
}

/** A key for proofs. */
export const proofKey = () => generateKeyPair("ES256");

async function proof(server, { privateKey, publicKey }, nonce) {
  const claims = { htm: "POST", htu: `${server.issuer}/token`, jti: randomUUID(), ...(nonce && { nonce }) };
  return new SignJWT(claims).setIssuedAt().setProtectedHeader({ typ: "dpop+jwt", alg: "ES256", jwk: await exportJWK(publicKey) }).sign(privateKey);
}

/** The server forgets a token. */
export async function revoke(identity, server, client_id, token) {
  const { status } = await post(identity, server, "/token/revocation", { client_id, token });
  if (status !== 200) throw new Error(`revocation was answered with ${status}`);
}

/** What a client is told of a token when it asks for a signed answer. */
export function introspect(identity, server, client_id, token) {
  return post(identity, server, INTROSPECTION, { client_id, token }, { accept: "application/token-introspection+jwt" });
}

/** The first observation that will do, or the last. */
export async function eventually(observe, will) {
  const end = Date.now() + WITHIN;
  for (;;) {
    const observed = await observe();
    if (will(observed) || Date.now() > end) return observed;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
