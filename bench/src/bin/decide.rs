//! What the rules themselves cost, on one thread: ours and the bare cryptography of aws-lc in turns, medians and ratios.

use std::{hint::black_box, process::ExitCode, sync::Arc, time::Instant};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
    },
};
use fapi::{
    CertThumbprint, Context, Issuer, IssuerKeys, KeySet, Mode, NonceMinter, Peer, Policy, PortPolicy, ProofClaims,
    ProofSigner, ProvenTokens, ReplaySet, Request, Revocations, SenderConstraint, SigningKey, SpiffeId, TokenHash,
    TrustDomain, UnixTime, Verdict, WireCaller, WirePolicy, WireResource, WireRule, decide,
};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ISSUER: &str = "https://issuer.bench";
const AUDIENCE: &str = "https://balance.bench";
const CALLER: &str = "spiffe://bench.example/ns/bench/sa/caller";
const PATH: &str = "/accounts/1";
const HTU: &str = "https://balance.bench/accounts/1";
const TURNS: usize = 15;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("decide: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    println!("{:<44} {:>10} {:>10} {:>7}", "", "ours us", "bare us", "ratio");
    cached()?;
    uncached()?;
    dpop_check()?;
    dpop_proof()?;
    many_rules()
}

/// A token that this connection has proven already; bare: nothing to compare with.
fn cached() -> Result<(), Failure> {
    let world = World::new(10)?;
    let headers = world.bearer()?;
    let mut proven = ProvenTokens::new();
    world.admits(&headers, &mut proven)?;
    let ours = median(|| per_call(20_000, || world.admits(&headers, &mut proven)))?;
    println!("{:<44} {ours:>10.3}", "decision, token proven on this connection");
    Ok(())
}

/// A token that is new; bare: one verification of ES256 with a key that is parsed.
fn uncached() -> Result<(), Failure> {
    let world = World::new(10)?;
    let headers = world.bearer()?;
    let (key, message, signature) = bare(&world.token)?;
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref())?;
    compare(
        "decision, new token (bare: ES256 verified)",
        500,
        || world.admits(&headers, &mut ProvenTokens::new()),
        || Ok(key.verify_sig(black_box(&message), black_box(&signature))?),
    )
}

/// A proof, with a token that is proven already; bare: its key parsed, ES256 verified, one hash of the token.
fn dpop_check() -> Result<(), Failure> {
    const CALLS: usize = 500;
    let world = World::new(10)?;
    let (signer, nonce) = (ProofSigner::generate()?, world.nonces.mint(world.now));
    let token = world.sign(json!({"jkt": signer.thumbprint().to_string()}))?;
    let proofs = (0..=TURNS * CALLS).map(|number| {
        let jti = format!("proof-{number:032}");
        signer.proof(&claims(&world, &TokenHash::of(&token), &nonce, &jti))
    });
    let mut calls = Vec::new();
    for proof in proofs {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("DPoP {token}").parse()?);
        headers.insert("dpop", proof?.parse()?);
        calls.push(headers);
    }
    let mut calls = calls.into_iter();
    let mut proven = ProvenTokens::new();
    world.admits(&calls.next().ok_or("no proof")?, &mut proven)?;
    let (key, message, signature) = bare(&token)?;
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref())?;
    compare(
        "decision, new proof (bare: ES256 and a hash)",
        CALLS,
        || world.admits(&calls.next().ok_or("no proof is left")?, &mut proven),
        || {
            black_box(digest::digest(&digest::SHA256, black_box(token.as_bytes())));
            Ok(key.verify_sig(black_box(&message), black_box(&signature))?)
        },
    )
}

/// A proof made; bare: ES256 signed.
fn dpop_proof() -> Result<(), Failure> {
    let world = World::new(10)?;
    let (signer, nonce) = (ProofSigner::generate()?, world.nonces.mint(world.now));
    let (ath, jti) = (TokenHash::of(&world.token), "0123456789abcdef0123456789abcdef");
    let (key, message, _) = bare(&world.token)?;
    let random = SystemRandom::new();
    compare(
        "proof made (bare: ES256 signed)",
        500,
        || signer.proof(&claims(&world, &ath, &nonce, jti)).map(|_| ()).map_err(Into::into),
        || Ok(key.sign(&random, black_box(&message)).map(|_| ())?),
    )
}

/// 10,000 rules instead of 10.
fn many_rules() -> Result<(), Failure> {
    let (many, few) = (World::new(10_000)?, World::new(10)?);
    let (many_headers, few_headers) = (many.bearer()?, few.bearer()?);
    let (mut many_proven, mut few_proven) = (ProvenTokens::new(), ProvenTokens::new());
    compare(
        "decision by 10,000 rules (bare: by 10)",
        20_000,
        || many.admits(&many_headers, &mut many_proven),
        || few.admits(&few_headers, &mut few_proven),
    )
}

fn compare(
    what: &str,
    calls: usize,
    mut ours: impl FnMut() -> Result<(), Failure>,
    mut bare: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut our_times, mut bare_times) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        our_times.push(per_call(calls, &mut ours)?);
        bare_times.push(per_call(calls, &mut bare)?);
    }
    let (ours, bare) = (middle(our_times), middle(bare_times));
    println!("{what:<44} {ours:>10.3} {bare:>10.3} {:>7.2}", ours / bare);
    Ok(())
}

fn median(mut turn: impl FnMut() -> Result<f64, Failure>) -> Result<f64, Failure> {
    (0..TURNS).map(|_| turn()).collect::<Result<_, _>>().map(middle)
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Microseconds for one call.
fn per_call(calls: usize, mut call: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let begun = Instant::now();
    for _ in 0..calls {
        call()?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / calls as f64)
}

fn claims<'a>(world: &World, ath: &'a TokenHash, nonce: &'a str, jti: &'a str) -> ProofClaims<'a> {
    ProofClaims { htm: "GET", htu: HTU, ath: Some(ath), nonce: Some(nonce), jti, now: world.now }
}

/// A key of aws-lc, and what it signed: as many bytes as the token has.
fn bare(token: &str) -> Result<(EcdsaKeyPair, Vec<u8>, Vec<u8>), Failure> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let message = token.as_bytes().to_vec();
    let signature = key.sign(&SystemRandom::new(), &message)?.as_ref().to_vec();
    Ok((key, message, signature))
}

/// An issuer, a policy and a caller.
struct World {
    key: SigningKey,
    keys: IssuerKeys,
    policy: PortPolicy,
    peer: Peer,
    nonces: NonceMinter,
    replay: ReplaySet,
    now: UnixTime,
    token: String,
}

impl World {
    fn new(rules: usize) -> Result<Self, Failure> {
        let key = SigningKey::generate()?;
        let mut published = key.public_jwk();
        published["kid"] = key.kid().into();
        let mut keys = IssuerKeys::new();
        keys.insert(
            Issuer::parse(ISSUER)?,
            KeySet::from_jwks_json(json!({"keys": [published]}).to_string().as_bytes())?,
        );
        let now = UnixTime::from_secs(1_800_000_000);
        let peer = Peer {
            spiffe_id: SpiffeId::parse(CALLER)?,
            thumbprint: CertThumbprint::of_der(b"the certificate of the caller"),
            pod_uid: None,
            issued: now,
            not_after: now.plus(3600),
        };
        let policy = Policy::compile(&TrustDomain::parse("bench.example")?, &policy(rules));
        let policy = policy.map_err(|problems| format!("the policy does not compile: {problems:?}"))?;
        let mut world = Self {
            key,
            keys,
            policy: PortPolicy::Policy(Arc::new(policy)),
            peer,
            nonces: NonceMinter::new([7; 32]),
            replay: ReplaySet::new(100_000, 100_000),
            now,
            token: String::new(),
        };
        world.token = world.sign(json!({"x5t#S256": world.peer.thumbprint.to_string()}))?;
        Ok(world)
    }

    fn sign(&self, cnf: Value) -> Result<String, Failure> {
        let now = self.now.as_secs();
        let header = json!({"typ": "at+jwt", "alg": "ES256", "kid": self.key.kid()});
        let claims = json!({
            "iss": ISSUER, "sub": CALLER, "client_id": CALLER, "aud": AUDIENCE, "jti": "0123456789abcdef",
            "iat": now, "exp": now + 300, "scope": "accounts:read", "cnf": cnf,
        });
        Ok(self.key.sign_compact(header.to_string().as_bytes(), claims.to_string().as_bytes())?)
    }

    fn bearer(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", self.token).parse()?);
        Ok(headers)
    }

    fn admits(&self, headers: &HeaderMap, proven: &mut ProvenTokens) -> Result<(), Failure> {
        let context = Context {
            policy: &self.policy,
            keys: &self.keys,
            keys_fresh: true,
            peer: &self.peer,
            nonces: &self.nonces,
            replay: &self.replay,
            revocations: &Revocations::none(),
            generation: 1,
            now: self.now,
        };
        let request = Request { method: &Method::GET, path: PATH, query: None, headers };
        match decide(&context, &request, proven) {
            Verdict::Admit(admission) => {
                black_box(admission);
                Ok(())
            }
            other => Err(format!("not admitted: {other:?}").into()),
        }
    }
}

/// So many rules, of which the last admits the call.
fn policy(rules: usize) -> WirePolicy {
    let caller = WireCaller { namespace: "bench".to_owned(), service_account: Some("caller".to_owned()) };
    let rule = |paths: Vec<String>, path_prefixes: Vec<String>| WireRule {
        methods: vec!["GET".to_owned()],
        paths,
        path_prefixes,
        callers: vec![caller.clone()],
        scopes: vec!["accounts:read".to_owned()],
        ..WireRule::default()
    };
    let mut all: Vec<_> = (1..rules).map(|number| rule(vec![format!("/other/{number}")], Vec::new())).collect();
    all.push(rule(Vec::new(), vec!["/accounts".to_owned()]));
    WirePolicy {
        name: "bench/balance".to_owned(),
        mode: Mode::Enforce,
        resources: vec![WireResource { audience: AUDIENCE.to_owned(), origins: vec![AUDIENCE.to_owned()] }],
        issuers: vec![ISSUER.to_owned()],
        external: Vec::new(),
        sender_constraints: vec![SenderConstraint::Mtls, SenderConstraint::Dpop],
        rules: all,
        exempt: Vec::new(),
    }
}
