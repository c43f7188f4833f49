// oauth4webapi, which leaves every step to its user: what is sent again for want of a nonce is sent again here.

import * as oauth from "oauth4webapi";

import { JSON_TYPE } from "./flows.mjs";

/** Signs assertions if it has a key, else it is known by the certificate of `fetch`. It calls resources by `calls`. */
export async function oauth4webapi(mesh, { id, fetch, calls = fetch, key }) {
  const options = { [oauth.customFetch]: fetch };
  const found = await oauth.discoveryRequest(mesh.issuer, { algorithm: "oauth2", ...options });
  const server = await oauth.processDiscoveryResponse(mesh.issuer, found);
  const me = { client_id: id, use_mtls_endpoint_aliases: true };
  const wantsSigned = { ...me, introspection_signed_response_alg: "ES256" };
  const authentication = key ? oauth.PrivateKeyJwt(key) : oauth.TlsClientAuth();
  return {
    server,
    proofs: async (alg) => oauth.DPoP(me, await oauth.generateKeyPair(alg)),
    token: (parameters, DPoP) =>
      withNonce(async () => {
        const answer = await oauth.clientCredentialsGrantRequest(server, me, authentication, parameters, { ...options, DPoP });
        return oauth.processClientCredentialsResponse(server, me, answer);
      }),
    call: (token, url, DPoP) =>
      withNonce(() => oauth.protectedResourceRequest(token, "POST", url, new Headers(JSON_TYPE), "{}", { DPoP, [oauth.customFetch]: calls })),
    introspect: async (token) =>
      oauth.processIntrospectionResponse(server, me, await oauth.introspectionRequest(server, me, authentication, token, options)),
    introspectSigned: async (token) => {
      const answer = await oauth.introspectionRequest(server, wantsSigned, authentication, token, options);
      const told = await oauth.processIntrospectionResponse(server, wantsSigned, answer);
      await oauth.validateApplicationLevelSignature(server, answer, options);
      return told;
    },
    revoke: async (token) => oauth.processRevocationResponse(await oauth.revocationRequest(server, me, authentication, token, options)),
  };
}

function withNonce(attempt) {
  return attempt().catch((error) => (oauth.isDPoPNonceError(error) ? attempt() : Promise.reject(error)));
}
