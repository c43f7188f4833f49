// Tokens by `jose`, proofs by `dpop`: `node mint.js WORLD` writes a vector file.
import { readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import * as DPoP from 'dpop'
import * as jose from 'jose'

const shared = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const { now, nonce, issuer, audience, caller, url, world } = shared
// `dpop` reads the clock itself.
Date.now = () => now * 1000

const cases = []
const add = (name, request, reason) =>
  cases.push({ name, request, expect: reason ? { verdict: 'refused', reason } : { verdict: 'admitted' } })
const ask = (headers) => ({ method: 'POST', path: '/transfers', headers })
const bearer = (token) => ask([['authorization', `Bearer ${token}`]])
const dpop = (token, proof) => ask([['authorization', `DPoP ${token}`], ['dpop', proof]])

const pair = (alg) => jose.generateKeyPair(alg, { extractable: true })
const keys = { ES256: await pair('ES256'), PS256: await pair('PS256'), EdDSA: await pair('EdDSA') }
const odd = { RS256: await pair('RS256'), ES384: await pair('ES384'), ES512: await pair('ES512'), PS384: await pair('PS384') }
const published = []
for (const [alg, { publicKey }] of Object.entries({ ...keys, ...odd })) {
  published.push({ ...(await jose.exportJWK(publicKey)), kid: alg, use: 'sig' })
}
world.issuers[issuer] = { keys: published }

const x5t = { 'x5t#S256': world.peer.thumbprint }
const good = (cnf = x5t) => ({
  iss: issuer, sub: caller, client_id: caller, aud: audience, jti: 't-1', iat: now, exp: now + 300,
  scope: 'transfers:write', cnf,
})
const sign = (claims, header = {}, key = keys[header.alg ?? 'ES256'].privateKey, options = undefined) =>
  new jose.CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
    .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: header.alg ?? 'ES256', ...header })
    .sign(key, options)

for (const alg of ['ES256', 'PS256', 'EdDSA']) {
  add(`${alg} token`, bearer(await sign(good(), { alg })))
}
add('token of an Ed25519 key by its own name', bearer(await sign(good(), { alg: 'Ed25519', kid: 'EdDSA' }, keys.EdDSA.privateKey)))
add('SignJWT', bearer(await new jose.SignJWT(good()).setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'ES256' }).sign(keys.ES256.privateKey)))
for (const alg of Object.keys(odd)) {
  add(`${alg} token`, bearer(await sign(good(), { alg, kid: alg }, odd[alg].privateKey)), 'alg_not_allowed')
}
const secret = new TextEncoder().encode(JSON.stringify(published[0]))
add('HS256 with the public key', bearer(await sign(good(), { alg: 'HS256', kid: 'ES256' }, secret)), 'alg_not_allowed')
add('unsecured', bearer(new jose.UnsecuredJWT(good()).encode()), 'alg_not_allowed')
add('another key of this kid', bearer(await sign(good(), {}, (await pair('ES256')).privateKey)), 'signature_invalid')
add('unknown kid', bearer(await sign(good(), { kid: 'x' })), 'key_not_found')
add('kid of another type', bearer(await sign(good(), { kid: 'PS256' })), 'key_not_found')
add('own key in the header', bearer(await sign(good(), { jwk: published[0] })), 'token_malformed')
const crit = { crit: { 'urn:x': true, b64: true } }
add('unknown extension', bearer(await sign(good(), { crit: ['urn:x'], 'urn:x': 1 }, undefined, crit)), 'token_malformed')
add('b64 true', bearer(await sign(good(), { crit: ['b64'], b64: true })), 'token_malformed')
for (const [typ, reason] of [['application/at+jwt'], ['AT+JWT'], ['JWT', 'token_type'], ['dpop+jwt', 'token_type']]) {
  add(`typ ${typ}`, bearer(await sign(good(), { typ })), reason)
}
for (const [name, change, reason] of [
  ['exp passed', { exp: now - 5 }, 'token_expired'], ['exp within the leeway', { exp: now - 4 }],
  ['nbf ahead', { nbf: now + 31 }, 'token_not_yet_valid'], ['nbf a little ahead', { nbf: now + 10 }],
  ['another audience', { aud: 'https://ledger.bank' }, 'audience_mismatch'], ['audience in a list', { aud: ['x:y', audience] }],
  ['another issuer', { iss: 'https://evil.example' }, 'issuer_not_allowed'], ['exp as text', { exp: `${now}` }, 'token_malformed'],
  ['exp with a fraction', { exp: now + 0.5 }, 'token_malformed'], ['exp beyond all numbers', { exp: 1e300 }, 'token_malformed'],
  ['no cnf', { cnf: undefined }, 'binding_missing'], ['empty cnf', { cnf: {} }, 'binding_missing'], ['cnf null', { cnf: null }, 'token_malformed'],
  ['another certificate', { cnf: { 'x5t#S256': jose.base64url.encode(new Uint8Array(32)) } }, 'binding_cert_mismatch'],
  ['jwk in cnf', { cnf: { jwk: published[0] } }, 'binding_unknown'], ['another subject', { sub: `${caller}2` }, 'caller_mismatch'],
  ['small scope', { scope: 'transfers:read' }, 'scope_insufficient'], ['no jti', { jti: undefined }, 'token_malformed'],
]) {
  add(name, bearer(await sign({ ...good(), ...change })), reason)
}
const text = new TextEncoder().encode(JSON.stringify(good()))
add('encrypted', bearer(await new jose.CompactEncrypt(text).setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM' }).encrypt((await pair('ECDH-ES')).publicKey)), 'token_malformed')

for (const alg of ['ES256', 'PS256', 'Ed25519']) {
  const proofKey = await DPoP.generateKeyPair(alg, { extractable: true })
  const publicJwk = await jose.exportJWK(proofKey.publicKey)
  const jkt = await jose.calculateJwkThumbprint(publicJwk)
  const token = await sign(good({ jkt }))
  const proof = (to = url, method = 'POST', n = nonce, t = token, more = undefined) => DPoP.generateProof(proofKey, to, method, n, t, more)
  add(`${alg} proof`, dpop(token, await proof()))
  add(`${alg} proof with more claims`, dpop(token, await proof(url, 'POST', nonce, token, { extra: [1] })))
  add(`${alg} proof of a URL with query`, dpop(token, await proof(`${url}?a=b`)))
  add(`${alg} proof of another method`, dpop(token, await proof(url, 'PUT')), 'proof_htm')
  add(`${alg} proof of another URL`, dpop(token, await proof(`${url}/1`)), 'proof_htu')
  add(`${alg} proof without nonce`, dpop(token, await DPoP.generateProof(proofKey, url, 'POST', undefined, token)), 'proof_nonce_required')
  add(`${alg} proof with an old nonce`, dpop(token, await proof(url, 'POST', nonce.slice(1))), 'proof_nonce_stale')
  add(`${alg} proof without ath`, dpop(token, await DPoP.generateProof(proofKey, url, 'POST', nonce)), 'proof_ath')
  add(`${alg} proof for another token`, dpop(token, await proof(url, 'POST', nonce, `${token}x`)), 'proof_ath')
  add(`${alg} token as Bearer`, bearer(token), 'bound_token_sent_as_bearer')
  add(`${alg} token without proof`, ask([['authorization', `DPoP ${token}`]]), 'proof_missing')
  const thief = await DPoP.generateKeyPair(alg)
  add(`${alg} proof of a thief`, dpop(token, await DPoP.generateProof(thief, url, 'POST', nonce, token)), 'proof_key_mismatch')
  const ath = createHash('sha256').update(token).digest('base64url')
  const own = { jti: 'p-1', htm: 'POST', htu: url, iat: now, nonce, ath }
  const by = (claims, header) => sign(claims, { alg, typ: 'dpop+jwt', jwk: publicJwk, kid: undefined, ...header }, proofKey.privateKey)
  add(`${alg} proof by jose`, dpop(token, await by(own)))
  add(`${alg} private key in the proof`, dpop(token, await by(own, { jwk: await jose.exportJWK(proofKey.privateKey) })), 'proof_malformed')
  add(`${alg} no key in the proof`, dpop(token, await by(own, { jwk: undefined })), 'proof_malformed')
  add(`${alg} proof of typ JWT`, dpop(token, await by(own, { typ: 'JWT' })), 'proof_malformed')
  add(`${alg} proof of long ago`, dpop(token, await by({ ...own, iat: now - 61 })), 'proof_stale')
  add(`${alg} proof from the future`, dpop(token, await by({ ...own, iat: now + 31 })), 'proof_stale')
  add(`${alg} proof eight seconds ahead`, dpop(token, await by({ ...own, iat: now + 8 })))
}
const about = 'Tokens by jose 6.2.17, proofs by dpop 2.1.2.'
console.log(JSON.stringify({ about, world, cases }))
