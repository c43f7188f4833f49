// What every client does, in each way to prove who it is and in each way to bind a token: a token, calls with it, what is told of it,
// and its end. The clients decide what is a good answer.

import * as jose from "jose";

import { check } from "./check.mjs";

export const PAYMENTS = new URL("https://payments.bank/transfers");
export const JSON_TYPE = { "content-type": "application/json" };

/** shop has declared the keys that clients sign with; `open` makes such a client. */
export async function everyFlow(mesh, name, open, key) {
  for (const method of ["tls_client_auth", "private_key_jwt"]) {
    for (const binding of ["x5t#S256", "jkt"]) {
      const says = (what, observed, expected) => check(`${name}, ${method}, ${binding}: ${what}`, observed, expected);
      await flow(mesh, open, says, method === "private_key_jwt" ? key : undefined, binding);
    }
  }
}

async function flow(mesh, open, says, key, binding) {
  const [shop, payments] = [mesh.identity("shop"), mesh.identity("payments")];
  const proofs = [];
  // Who signs needs no certificate, unless the token is to be bound to it.
  const fetch = recording(key && binding === "jkt" ? mesh.fetcher({ ca: mesh.ca }) : shop.fetch, proofs);
  const client = await open(mesh, { id: shop.id, fetch, calls: recording(shop.fetch, proofs), key });
  const audience = await open(mesh, payments);
  says("a token that nobody knows", await eventually(() => client.introspect("unknown")), { active: false });

  const DPoP = binding === "jkt" ? await client.proofs("ES256") : undefined;
  const sent = () => proofs.splice(0);
  const { access_token, token_type, scope } = await client.token({ resource: PAYMENTS.origin }, DPoP);
  says("a token", [token_type, scope], [DPoP ? "dpop" : "bearer", "accounts:read transfers:write"]);
  if (DPoP) says("    the issuer wants its nonce", sent(), ["no nonce", "a nonce"]);
  const call = () => client.call(access_token, PAYMENTS, DPoP);
  const first = await call();
  says("a call with it", [first.status, (await first.json()).told.caller], [200, shop.id]);
  if (DPoP) says("    the resource wants a nonce of its own", sent(), ["no nonce", "a nonce"]);
  says("another call", (await call()).status, 200);
  if (DPoP) says("    whose nonce is known", sent(), ["a nonce"]);

  const told = await client.introspect(access_token);
  says("introspection by the client", [told.active, told.client_id, told.token_type], [true, shop.id, DPoP ? "DPoP" : "Bearer"]);
  const signed = await audience.introspectSigned(access_token);
  says("signed introspection by the audience", [signed.active, signed.aud, Object.keys(signed.cnf)], [true, PAYMENTS.origin, [binding]]);

  await client.revoke(access_token);
  says("introspection of a revoked token", await client.introspect(access_token), { active: false });
  says("signed introspection of a revoked token", (await audience.introspectSigned(access_token)).active, false);
  const refused = await eventually(() => call().then(() => Promise.reject(new Error("still admitted")), (error) => error));
  says("a call with a revoked token", [refused.status, refused.cause?.[0]?.parameters?.error], [401, "invalid_token"]);
}

/** Notes of each proof that is sent whether it has a nonce. */
function recording(fetch, proofs) {
  return (url, options) => {
    const proof = new Headers(options.headers).get("dpop");
    if (proof) proofs.push(jose.decodeJwt(proof).nonce ? "a nonce" : "no nonce");
    return fetch(url, options);
  };
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
