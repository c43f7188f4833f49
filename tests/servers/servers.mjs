// A mesh whose clients take their tokens from an authorization server that was written by others, and whose servers judge them.

import { request } from "node:http";
import { Agent, fetch } from "undici";

import { check, finish } from "./check.mjs";
import { withMesh } from "./mesh.mjs";
import { byAssertion, byCertificate, DPOP, serverCertificate, start } from "./provider.mjs";

const API = "https://api.bank.example";
const TRANSFERS = "http://payments.bank/transfers";
const INTROSPECTION = "/token/introspection";

await withMesh(process.argv[2], async (mesh) => {
  const tls = serverCertificate(mesh.folder);
  const [shop, payments] = [mesh.workload("shop").spiffe_id, mesh.workload("payments").spiffe_id];
  const keys = `${mesh.about.issuer}/clients/bank/shop/jwks`;
  const clients = [
    byCertificate("shop-mtls", shop),
    byCertificate("shop-dpop", shop, DPOP),
    byAssertion("shop-signs", keys),
    byAssertion("shop-signs-dpop", keys, DPOP),
    byCertificate("shop-elsewhere", shop),
    byCertificate("payments", payments),
    byCertificate("payments-signed", payments, { introspection_signed_response_alg: "ES256" }),
  ];
  const jwt = await start(mesh, tls, { format: "jwt", audience: API, clients });
  const opaque = await start(mesh, tls, { format: "opaque", audience: API, clients });
  const servers = { jwt, opaque };
  try {
    await callsWithItsTokens(mesh, servers);
    await wrongOnes(mesh, servers);
    await withoutTheServer(mesh, servers);
  } finally {
    await Promise.all([jwt.close(), opaque.close()]);
    for (const { errors } of [jwt, opaque]) if (process.exitCode) errors.forEach((error) => console.log(error));
  }
});
finish();

function object(kind, name, spec, namespace) {
  return { apiVersion: "fapi-mesh.dev/v1alpha1", kind, metadata: { name, namespace }, spec };
}

/** The FapiIssuer of a server. `asks` is the client as which payments asks about opaque tokens. */
function issuer(mesh, name, server, asks) {
  const workload = (serviceAccountName) => [{ namespace: "bank", serviceAccountName }];
  const ours = ["shop-mtls", "shop-dpop", "shop-signs", "shop-signs-dpop"].map((clientId) => ({ clientId, callers: workload("shop") }));
  mesh.declare(name, object("FapiIssuer", name, {
    issuer: server.issuer,
    caBundle: server.ca,
    tokenFormat: asks ? "Opaque" : "JWT",
    allow: [{ namespace: "bank", audiences: [API] }],
    clients: asks ? [...ours, { clientId: asks, callers: workload("payments") }] : ours,
  }));
}

/** Shop calls payments as this client of this issuer, in place of whatever it was before. */
function shopIs(mesh, issuerName, clientId, method, senderConstraint) {
  const spec = { serviceAccountName: "shop", targets: [{ serviceName: "payments", scopes: ["transfers:write"], senderConstraint }] };
  const external = issuerName && { issuerName, clientId, authentication: { method } };
  mesh.declare("clients", object("FapiClient", `shop-${clientId ?? "mesh"}-${issuerName}`, { ...spec, ...external }, "bank"));
}

async function callsWithItsTokens(mesh, servers) {
  issuer(mesh, "bank-as", servers.jwt);
  issuer(mesh, "opaque-as", servers.opaque, "payments");
  mesh.declare("payments", object("FapiPolicy", "payments", {
    targetRefs: [{ name: "payments" }],
    issuers: [{ name: "mesh" }, { name: "bank-as", audiences: [API] }, { name: "opaque-as", audiences: [API] }],
    rules: [{ methods: ["POST"], paths: ["/transfers"], callers: [{ serviceAccountName: "shop" }], scopes: ["transfers:write"] }],
  }, "bank"));
  for (const name of ["bank-as", "opaque-as"]) {
    for (const [clientId, method, senderConstraint] of [
      ["shop-mtls", "TLSClientAuth", "MTLS"],
      ["shop-dpop", "TLSClientAuth", "DPoP"],
      ["shop-signs", "PrivateKeyJWT", "MTLS"],
      ["shop-signs-dpop", "PrivateKeyJWT", "DPoP"],
    ]) {
      shopIs(mesh, name, clientId, method, senderConstraint);
      const answer = await eventually(() => call(mesh), ([status, client]) => status === 200 && client === clientId);
      check(`${name}: ${clientId} calls, authenticated by ${method}, bound by ${senderConstraint}`, answer, [200, clientId]);
    }
  }
  check("opaque tokens were introspected", servers.opaque.seen.some(({ url }) => url === INTROSPECTION), true);
  check("tokens that can be read were not", servers.jwt.seen.some(({ url }) => url === INTROSPECTION), false);
  issuer(mesh, "opaque-as", servers.opaque, "payments-signed");
  shopIs(mesh, "opaque-as", "shop-mtls", "TLSClientAuth", "MTLS");
  const signed = () => servers.opaque.seen.some(({ url, type }) => url === INTROSPECTION && type?.startsWith("application/token-introspection+jwt"));
  const answer = await eventually(() => call(mesh), ([status, client]) => status === 200 && client === "shop-mtls" && signed());
  check("opaque-as: a call whose token was introspected with a signed answer", [...answer, signed()], [200, "shop-mtls", true]);
}

async function wrongOnes(mesh, servers) {
  const [shop, intruder] = [mesh.identity("shop"), mesh.identity("intruder")];
  for (const [name, server] of Object.entries(servers)) {
    const good = await token(shop, server, "shop-mtls");
    check(`${name}: a token from the server itself, on the connection of its client`, await direct(shop, good), 200);
    check(`${name}: the same token on another workload's connection`, await direct(intruder, good), 401);
    check(`${name}: a token of a client that nobody maps`, await direct(shop, await token(shop, server, "shop-elsewhere")), 401);
    check(`${name}: a token without the scope of the rule`, await direct(shop, await token(shop, server, "shop-mtls", "accounts:read")), 403);
  }
  check("a token that nobody has issued", await direct(shop, "x".repeat(43)), 401);
  shopIs(mesh, "bank-as", "shop-elsewhere", "TLSClientAuth", "MTLS");
  const refused = await eventually(() => call(mesh), ([status]) => status === 403);
  check("a client that nobody maps gets no token", refused, [403, "not_granted"]);
}

async function withoutTheServer(mesh, servers) {
  const shop = mesh.identity("shop");
  const [readable, unread] = [await token(shop, servers.jwt, "shop-mtls"), await token(shop, servers.opaque, "shop-mtls")];
  await Promise.all([servers.jwt.close(), servers.opaque.close()]);
  check("the server is down: its keys are known, so its tokens are judged", await direct(shop, readable), 200);
  check("the server is down: an opaque token is judged by nobody", await direct(shop, unread), 503);
  shopIs(mesh, "bank-as", "shop-dpop", "TLSClientAuth", "DPoP");
  // A token that was fetched before may still be at hand.
  const answer = await eventually(() => call(mesh), ([status]) => status === 503);
  check("the server is down: a call that needs a new token", answer, [503, "token_unavailable"]);
  shopIs(mesh);
  check("tokens of the mesh's own issuer are taken all the same", await eventually(() => call(mesh), ([status]) => status === 200), [200, mesh.workload("shop").spiffe_id]);
}

/** A call of shop's app through both sidecars: the status, and the client that payments was told, or the error. */
function call(mesh) {
  const [host, port] = mesh.workload("shop").outbound.split(":");
  return new Promise((resolve, reject) => {
    const asked = request({ host, port, method: "POST", path: TRANSFERS, headers: { host: "payments.bank", "content-type": "application/json" } });
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

/** A token that shop fetches itself, with the certificate that its sidecar also has. */
async function token(shop, server, client_id, scope = "transfers:write") {
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id, resource: API, scope });
  const dispatcher = new Agent({ connect: { ...shop.tls, ca: server.ca } });
  const answer = await fetch(`${server.issuer}/token`, { method: "POST", body, dispatcher });
  const { access_token, ...rest } = await answer.json();
  if (!access_token) throw new Error(`no token for ${client_id}: ${JSON.stringify(rest)}`);
  return access_token;
}

/** The status of a call to the sidecar of payments, past the sidecar of the caller. */
async function direct(identity, token) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await identity.fetch("https://payments.bank/transfers", { method: "POST", body: "{}", headers });
  return answer.status;
}

/** The first observation that will do, or the last: the operator reads its folder a moment later, and tokens last a while. */
async function eventually(observe, will) {
  const end = Date.now() + 20_000;
  for (;;) {
    const observed = await observe();
    if (will(observed) || Date.now() > end) return observed;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
