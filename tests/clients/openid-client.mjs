// openid-client, knowing nothing but the issuer's URL and its own name. It asks for nonces by itself.

import * as client from "openid-client";

import { JSON_TYPE } from "./flows.mjs";

/** Signs assertions if it has a key, else it is known by the certificate of `fetch`. It calls resources by `calls`. */
export async function openidClient(mesh, { id, fetch, calls = fetch, key }) {
  const authentication = key ? client.PrivateKeyJwt(key) : client.TlsClientAuth();
  const config = await discover(mesh, id, fetch, authentication);
  const signed = await discover(mesh, id, fetch, authentication, { introspection_signed_response_alg: "ES256" });
  client.enableNonRepudiationChecks(signed);
  const calling = await discover(mesh, id, calls, client.None());
  return {
    config,
    proofs: async (alg) => client.getDPoPHandle(config, await client.randomDPoPKeyPair(alg)),
    token: (parameters, DPoP) => client.clientCredentialsGrant(config, parameters, { DPoP }),
    call: (token, url, DPoP) => client.fetchProtectedResource(calling, token, url, "POST", "{}", new Headers(JSON_TYPE), { DPoP }),
    introspect: (token) => client.tokenIntrospection(config, token),
    introspectSigned: (token) => client.tokenIntrospection(signed, token),
    revoke: (token) => client.tokenRevocation(config, token),
  };
}

export function discover(mesh, id, fetch, authentication, metadata) {
  const options = { algorithm: "oauth2", [client.customFetch]: fetch };
  return client.discovery(mesh.issuer, id, { use_mtls_endpoint_aliases: true, ...metadata }, authentication, options);
}
