// A server of a bank in a process of its own, which can be killed and begin again: with its keys, and without what was in its memory.

import { execFileSync, fork } from "node:child_process";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const API = "https://api.bank.example";
/** Another resource of the same bank. */
export const OTHER = "https://other.bank.example";
export const INTROSPECTION = "/token/introspection";
export const SCOPE = "transfers:write accounts:read";
/** The client whose tokens live for two minutes. */
export const BRIEF = "shop-brief";
const ANSWERS_WITHIN = 30_000;

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
 * `end`, and again after `begin`; it signs with a new key after `rotate`, knows only that one after `forget`, and takes its time
 * while `slow` says how many milliseconds. `seen` are the requests since it began.
 */
export async function start(mesh, tls, clients, { format, signs = false }) {
  const keys = [signingKey()];
  let [child, port] = [undefined, 0];
  const ask = async (order, value) => {
    const answered = once(child, "message", { signal: AbortSignal.timeout(ANSWERS_WITHIN) });
    child.send([order, value]);
    const [[answer]] = await answered;
    return answer;
  };
  const begin = async () => {
    child = fork(join(import.meta.dirname, "provider.mjs"), { serialization: "advanced" });
    port = await ask("serve", { port, keys, tls, ca: mesh.ca, clients, format, signs });
  };
  const end = async () => {
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  const rotate = () => {
    keys.unshift(signingKey());
    return ask("sign", keys);
  };
  const forget = () => {
    keys.length = 1;
    return ask("sign", keys);
  };
  await begin();
  const orders = { rotate, forget, slow: (milliseconds) => ask("slow", milliseconds), seen: () => ask("seen"), errors: () => ask("errors") };
  return { issuer: `https://localhost:${port}`, ca: tls.cert.toString(), begin, end, ...orders };
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
