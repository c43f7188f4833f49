use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::identity::peer_from_leaf;
use fapi::{Revocation, Revoked, SigningKey, UnixTime};
use serde_json::{Value, json};

use super::*;
use crate::model::Model;
use crate::pki::{CsrError, identity_of, pem};
use crate::shelf::Shelf;
use crate::testing::bank::{bank, pod, view};
use crate::testing::{NOW, P256, TempDir, authority, capture_log, domain, greedy_csr, id, openssl};

/// A mesh without sockets, whose clock the test moves.
struct Bench {
    dir: TempDir,
    clock: Clock,
    tokens: Arc<DirectoryTokens>,
    view: watch::Sender<Arc<View>>,
    revocations: Arc<Revocations>,
    enroller: Arc<Enroller>,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new();
        let clock = Clock::manual(NOW);
        let authority = Arc::new(authority(dir.path(), &domain(), NOW).unwrap());
        let tokens = Arc::new(DirectoryTokens::open(dir.path(), clock.clone()).unwrap());
        let view = watch::Sender::new(Arc::new(view(bank())));
        let reserved = identity_of(&authority, "fapi-mesh").unwrap();
        let revocations =
            Arc::new(Revocations::open(Shelf::Folder(dir.path().to_owned()), true, clock.clone()).unwrap());
        let enroller =
            Enroller::new(authority, tokens.clone(), view.subscribe(), revocations.clone(), clock.clone(), reserved);
        Self { dir, clock, tokens, view, revocations, enroller: Arc::new(enroller) }
    }

    fn pod(&self, name: &str) -> Pod {
        self.view.borrow().pods().find(|pod| pod.name == name).unwrap().clone()
    }

    fn token(&self, name: &str) -> String {
        self.tokens.mint(&self.pod(name)).unwrap()
    }

    fn csr(&self) -> Vec<u8> {
        greedy_csr(self.dir.path(), P256)
    }

    async fn first(&self, token: &str) -> Result<Enrolled, EnrollRefusal> {
        self.enroller.enroll(token, &self.csr(), None).await
    }

    async fn reason(&self, token: &str) -> &'static str {
        self.first(token).await.map(|_| ()).unwrap_err().id()
    }

    /// Enrols a pod; who it then is on a connection.
    async fn caller(&self, name: &str) -> Caller {
        let enrolled = self.first(&self.token(name)).await.unwrap();
        let leaf = enrolled.issued.chain[0].clone();
        Caller { peer: peer_from_leaf(&leaf).unwrap(), leaf }
    }
}

/// The three parts of a token.
fn parts(token: &str) -> [Value; 2] {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    [0, 1].map(|_| serde_json::from_slice(&parts.next().unwrap()).unwrap())
}

#[tokio::test]
async fn a_pod_gets_the_certificate_of_its_service_account() {
    let bench = Bench::new();
    let enrolled = bench.first(&bench.token("shop-1")).await.unwrap();
    let peer = peer_from_leaf(&enrolled.issued.chain[0]).unwrap();
    assert_eq!(peer.spiffe_id, id("shop"));
    assert_eq!(peer.pod_uid.as_deref(), Some(&*bench.pod("shop-1").uid));
    let lifetime = bench.view.borrow().lifetimes().certificate.as_secs();
    assert_eq!(enrolled.issued.not_after, NOW.plus(lifetime));
    let bundle = fs::read_to_string(bench.dir.path().join("trust-bundle.pem")).unwrap();
    assert_eq!(*enrolled.bundle_pem, bundle);
}

#[tokio::test]
async fn tokens_have_the_claims_of_a_projected_one() {
    let bench = Bench::new();
    let pod = bench.pod("shop-1");
    let [header, claims] = parts(&bench.token("shop-1"));
    assert_eq!(header["alg"], "ES256");
    let now = NOW.as_secs();
    assert_eq!(
        claims,
        json!({
            "iss": "https://directory.fapi-mesh.invalid",
            "aud": ["fapi-mesh.dev"],
            "sub": "system:serviceaccount:bank:shop",
            "iat": now, "nbf": now, "exp": now + 600,
            "kubernetes.io": {
                "namespace": "bank",
                "pod": {"name": "shop-1", "uid": pod.uid},
                "serviceaccount": {"name": "shop", "uid": "bank:shop"},
            },
        })
    );
}

#[tokio::test]
async fn nothing_is_issued_before_the_state_is_known() {
    let bench = Bench::new();
    let token = bench.token("shop-1");
    bench.view.send_replace(Arc::new(View::empty(domain())));
    assert_eq!(bench.reason(&token).await, "not_ready");
}

#[tokio::test]
async fn nothing_is_issued_by_an_authority_that_is_lost_and_again_when_it_is_back() {
    let bench = Bench::new();
    let token = bench.token("shop-1");
    let (kept, away) = (bench.dir.path().join("pki"), bench.dir.path().join("away"));
    fs::rename(&kept, &away).unwrap();
    assert!(bench.enroller.authority.look().is_err());
    assert_eq!(bench.reason(&token).await, "authority_lost");
    fs::rename(&away, &kept).unwrap();
    bench.enroller.authority.look().unwrap();
    assert!(bench.first(&token).await.is_ok());
}

#[tokio::test]
async fn a_token_ends() {
    let bench = Bench::new();
    let token = bench.token("shop-1");
    bench.clock.advance(Duration::from_secs(599));
    assert!(bench.first(&token).await.is_ok());
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.reason(&token).await, "token_expired");
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let bench = Bench::new();
    let token = bench.token("shop-1");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let [_, claims] = parts(&token);
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let stranger = SigningKey::generate().unwrap();
    let none = encode(&json!({"alg": "none", "kid": "x", "typ": "JWT"}));
    for (forged, reason) in [
        (String::new(), "token_malformed"),
        ("a.b.c".to_owned(), "token_malformed"),
        (format!("{token}.x"), "token_malformed"),
        ("x".repeat(10_000), "token_malformed"),
        (format!("{none}.{}.", encode(&claims)), "token_malformed"),
        (format!("{header}.{}.{signature}", encode(&with("sub", json!("x")))), "token_signature_invalid"),
        (format!("{header}.{}.", encode(&claims)), "token_malformed"),
        (stranger.sign_jwt("JWT", &claims).unwrap(), "token_signature_invalid"),
    ] {
        assert_eq!(bench.reason(&forged).await, reason, "{forged}");
    }
}

#[tokio::test]
async fn tokens_that_we_signed_for_something_else_are_refused() {
    let bench = Bench::new();
    let key = SigningKey::from_pkcs8_der(&fs::read(bench.dir.path().join("enrolment.key")).unwrap()).unwrap();
    let [_, claims] = parts(&bench.token("shop-1"));
    let later = NOW.as_secs() + 60;
    for (name, value, reason) in [
        ("aud", json!(["https://kubernetes.default.svc"]), "token_audience_mismatch"),
        ("aud", json!(["fapi-mesh.dev", "other"]), "token_audience_mismatch"),
        ("aud", json!("fapi-mesh.dev"), "token_malformed"),
        ("iss", json!("https://kubernetes.default.svc"), "token_audience_mismatch"),
        ("sub", json!("system:serviceaccount:bank:payments"), "token_malformed"),
        ("nbf", json!(later), "token_expired"),
        ("iat", json!(later), "token_expired"),
        ("exp", json!("9999999999"), "token_malformed"),
        ("kubernetes.io", json!({"namespace": "bank"}), "token_malformed"),
        ("surprise", json!(1), "token_malformed"),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        let token = key.sign_jwt("JWT", &claims).unwrap();
        assert_eq!(bench.reason(&token).await, reason, "{name}");
    }
    let token = key.sign_jwt("at+jwt", &claims).unwrap();
    assert_eq!(bench.reason(&token).await, "token_malformed", "a token of another type");
}

#[tokio::test]
async fn the_pod_must_be_the_one_of_the_token() {
    let bench = Bench::new();
    let changed = |change: fn(&mut Pod)| {
        let mut pod = bench.pod("shop-1");
        change(&mut pod);
        bench.tokens.mint(&pod).unwrap()
    };
    assert_eq!(bench.reason(&changed(|pod| pod.uid = "gone".into())).await, "pod_unknown");
    assert_eq!(bench.reason(&changed(|pod| pod.name = "shop-2".into())).await, "pod_mismatch");
    assert_eq!(bench.reason(&changed(|pod| pod.namespace = "evil".into())).await, "pod_mismatch");
    assert_eq!(bench.reason(&changed(|pod| pod.service_account = "payments".into())).await, "pod_mismatch");
}

#[tokio::test]
async fn nobody_enrols_as_the_operator() {
    let bench = Bench::new();
    let mut usurped = bank();
    let usurper = pod("fapi-mesh", "x", "fapi-operator");
    usurped.pods.insert(usurper.uid.clone(), usurper);
    bench.view.send_replace(Arc::new(view(usurped)));
    assert_eq!(bench.reason(&bench.token("x")).await, "identity_reserved");
}

#[tokio::test]
async fn a_renewal_is_of_the_pod_that_shows_its_certificate() {
    let bench = Bench::new();
    let shop = bench.caller("shop-1").await;
    let token = bench.token("shop-1");
    assert!(bench.enroller.enroll(&token, &bench.csr(), Some(&shop)).await.is_ok());
    let payments = bench.caller("payments-1").await;
    let other = bench.enroller.enroll(&token, &bench.csr(), Some(&payments)).await.map(|_| ());
    assert!(matches!(other, Err(EnrollRefusal::OtherPod)));
}

#[tokio::test]
async fn an_ended_certificate_renews_nothing() {
    let bench = Bench::new();
    let shop = bench.caller("shop-1").await;
    bench.clock.advance(bench.view.borrow().lifetimes().certificate);
    let refused = bench.enroller.enroll(&bench.token("shop-1"), &bench.csr(), Some(&shop)).await.map(|_| ());
    assert!(matches!(refused, Err(EnrollRefusal::CertificateEnded)));
}

#[tokio::test]
async fn every_certificate_has_a_key_of_its_own() {
    let bench = Bench::new();
    let csr = bench.csr();
    let token = bench.token("shop-1");
    let leaf = bench.enroller.enroll(&token, &csr, None).await.unwrap().issued.chain[0].clone();
    let shop = Caller { peer: peer_from_leaf(&leaf).unwrap(), leaf };
    let refused = bench.enroller.enroll(&token, &csr, Some(&shop)).await.map(|_| ());
    assert!(matches!(refused, Err(EnrollRefusal::KeyReused)));

    // Somebody who has the authority's key could ask for this; nobody else can sign such a request.
    let arguments = ["req", "-new", "-key", "pki/issuing.key", "-subj", "/CN=x", "-outform", "DER"];
    let csr = openssl(bench.dir.path(), &arguments).unwrap();
    let refused = bench.enroller.enroll(&token, &csr, None).await.map(|_| ());
    assert!(matches!(refused, Err(EnrollRefusal::KeyReused)));
}

#[tokio::test]
async fn bad_requests_are_told_apart() {
    let bench = Bench::new();
    let refused = bench.enroller.enroll(&bench.token("shop-1"), b"csr", None).await.map(|_| ());
    assert!(matches!(refused, Err(EnrollRefusal::Csr(CsrError::Malformed))));
}

#[tokio::test]
async fn a_second_first_contact_is_noticed() {
    let (log, _guard) = capture_log();
    let bench = Bench::new();
    let repeated = || log.of("enrolment").iter().filter(|line| line["outcome"] == "repeated").count();
    let shop = bench.caller("shop-1").await;
    bench.enroller.enroll(&bench.token("shop-1"), &bench.csr(), Some(&shop)).await.unwrap();
    bench.caller("payments-1").await;
    assert_eq!(repeated(), 0);
    let token = bench.token("shop-1");
    assert!(bench.first(&token).await.is_ok(), "a sidecar may restart");
    assert_eq!(repeated(), 1);
    assert!(!log.text().contains(&token));
}

#[tokio::test]
async fn pods_that_are_gone_are_forgotten() {
    let bench = Bench::new();
    for number in 0..1000 {
        bench.enroller.remember(&number.to_string());
    }
    assert!(bench.enroller.enrolled.lock().unwrap().len() < 100);
}

#[test]
fn a_lost_token_key_is_made_anew_and_a_bad_one_is_named() {
    let dir = TempDir::new();
    let open = || DirectoryTokens::open(dir.path(), Clock::manual(NOW));
    let path = dir.path().join("enrolment.key");
    open().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read(&path).unwrap();
    open().unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    fs::write(&path, "x").unwrap();
    let error = open().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("enrolment.key") && error.contains("remove it"), "{error}");
    fs::remove_file(&path).unwrap();
    open().unwrap();
}

#[test]
fn token_files_follow_the_view() {
    let bench = Bench::new();
    let mut files = TokenFiles::new(bench.tokens.clone(), bench.dir.path(), bench.clock.clone());
    let path = |name: &str| -> PathBuf { bench.dir.path().join("tokens").join(name) };
    let stale = path("gone/old.jwt");
    fs::create_dir_all(stale.parent().unwrap()).unwrap();
    fs::write(&stale, "x").unwrap();
    for folder in [path(""), path("gone")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }

    files.step(&bench.view.borrow());
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path("bank")), mode(path("bank/shop-1.jwt"))), (0o700, 0o600));
    assert!(!stale.exists() && !path("gone").exists());
    let first = fs::read_to_string(path("bank/shop-1.jwt")).unwrap();
    assert_eq!(parts(&first), parts(&bench.token("shop-1")));

    bench.clock.advance(Duration::from_secs(399));
    files.step(&bench.view.borrow());
    assert_eq!(fs::read_to_string(path("bank/shop-1.jwt")).unwrap(), first);
    bench.clock.advance(Duration::from_secs(1));
    files.step(&bench.view.borrow());
    let second = fs::read_to_string(path("bank/shop-1.jwt")).unwrap();
    assert_eq!(parts(&second)[1]["exp"], NOW.plus(1000).as_secs());

    files.step(&view(Model::default()));
    assert!(!path("bank/shop-1.jwt").exists());
}

#[tokio::test]
async fn openssl_sees_the_enrolled_chain() {
    let bench = Bench::new();
    let enrolled = bench.first(&bench.token("shop-1")).await.unwrap();
    let [leaf, issuing] = &enrolled.issued.chain[..] else { panic!("leaf and issuing CA") };
    fs::write(bench.dir.path().join("leaf.pem"), pem(leaf)).unwrap();
    fs::write(bench.dir.path().join("chain.pem"), pem(issuing)).unwrap();
    let time = NOW.as_secs().to_string();
    let arguments = ["verify", "-attime", &time, "-CAfile", "trust-bundle.pem", "-untrusted", "chain.pem", "leaf.pem"];
    assert!(openssl(bench.dir.path(), &arguments).is_some());
}

fn revoke(bench: &Bench, revoked: Revoked, issued_before: Option<UnixTime>) {
    let entry = Revocation::new(revoked, issued_before, NOW.plus(1_000_000)).unwrap();
    bench.revocations.revoke([entry]).unwrap();
}

#[tokio::test]
async fn a_revoked_pod_or_identity_gets_no_certificate() {
    let uid = Bench::new().pod("shop-1").uid;
    for revoked in [Revoked::Pod(uid.into()), Revoked::SpiffeId(id("shop"))] {
        let bench = Bench::new();
        let shop = bench.caller("shop-1").await;
        revoke(&bench, revoked, None);
        assert_eq!(bench.reason(&bench.token("shop-1")).await, "revoked");
        let renewed = bench.enroller.enroll(&bench.token("shop-1"), &bench.csr(), Some(&shop)).await.map(|_| ());
        assert!(matches!(renewed, Err(EnrollRefusal::Revoked)));
        assert!(bench.first(&bench.token("payments-1")).await.is_ok(), "others do");
        bench.clock.advance(Duration::from_secs(1_000_000));
        assert!(bench.first(&bench.token("shop-1")).await.is_ok(), "until it ends");
    }
}

#[tokio::test]
async fn a_revoked_certificate_renews_nothing() {
    let bench = Bench::new();
    let shop = bench.caller("shop-1").await;
    revoke(&bench, Revoked::Certificate(shop.peer.thumbprint), None);
    let renewed = bench.enroller.enroll(&bench.token("shop-1"), &bench.csr(), Some(&shop)).await.map(|_| ());
    assert!(matches!(renewed, Err(EnrollRefusal::CertificateRevoked)));
    assert!(bench.first(&bench.token("shop-1")).await.is_ok(), "the pod enrols again");
}

#[tokio::test]
async fn what_an_identity_was_given_before_a_time_can_be_revoked_alone() {
    let bench = Bench::new();
    let old = bench.caller("shop-1").await;
    bench.clock.advance(Duration::from_secs(10));
    revoke(&bench, Revoked::SpiffeId(id("shop")), Some(NOW.plus(10)));
    let renew = async |shop: &Caller| {
        let renewed = bench.enroller.enroll(&bench.token("shop-1"), &bench.csr(), Some(shop)).await;
        renewed.map(|_| ()).map_err(|refusal| refusal.id())
    };
    assert_eq!(renew(&old).await, Err("certificate_revoked"));
    let new = bench.caller("shop-1").await;
    assert_eq!(renew(&new).await, Ok(()));
}

/// Reviews as the directory does, but not before the test says so.
struct Slow {
    tokens: Arc<DirectoryTokens>,
    /// How many reviews were begun.
    begun: watch::Sender<usize>,
    goes_on: watch::Sender<bool>,
    /// Of this token at once.
    except: String,
}

impl TokenReview for Slow {
    fn review<'a>(&'a self, token: &'a str) -> review::Review<'a> {
        self.begun.send_modify(|begun| *begun += 1);
        Box::pin(async move {
            if token != self.except {
                let _ = self.goes_on.subscribe().wait_for(|on| *on).await;
            }
            self.tokens.review(token).await
        })
    }
}

impl Slow {
    /// Waits until so many reviews were begun.
    async fn begun(&self, count: usize) {
        self.begun.subscribe().wait_for(|begun| *begun == count).await.unwrap();
    }
}

impl Bench {
    /// As many first enrolments as have a place, and whether each gets a certificate.
    fn flood(&self, token: &str) -> tokio::task::JoinSet<bool> {
        let one = || {
            let (enroller, token, csr) = (self.enroller.clone(), token.to_owned(), self.csr());
            async move { enroller.enroll(&token, &csr, None).await.is_ok() }
        };
        (0..room::FIRST).map(|_| one()).collect()
    }

    /// The same with a slow reviewer, who takes his time but for the token of this pod.
    fn slow_but_for(self, name: &str) -> (Self, Arc<Slow>) {
        let (tokens, except) = (self.tokens.clone(), self.token(name));
        let slow = Arc::new(Slow { tokens, begun: watch::Sender::new(0), goes_on: watch::Sender::new(false), except });
        let Enroller { authority, view, revocations, clock, reserved, .. } = &*self.enroller;
        let (authority, view, revocations) = (authority.clone(), view.clone(), revocations.clone());
        let enroller = Enroller::new(authority, slow.clone(), view, revocations, clock.clone(), reserved.clone());
        (Self { enroller: Arc::new(enroller), ..self }, slow)
    }
}

#[tokio::test]
async fn a_renewal_passes_while_first_enrolments_fill_the_room() {
    let bench = Bench::new();
    let shop = bench.caller("shop-1").await;
    let (bench, slow) = bench.slow_but_for("shop-1");
    let (token, csr) = (bench.token("payments-1"), bench.csr());
    let flood = bench.flood(&token);
    slow.begun(room::FIRST).await;
    assert_eq!(bench.reason(&token).await, "busy");
    assert_eq!(bench.reason(&slow.except).await, "busy", "it shows no certificate");
    assert_eq!(*slow.begun.borrow(), room::FIRST);
    assert!(bench.enroller.enroll(&slow.except, &csr, Some(&shop)).await.is_ok());
    slow.goes_on.send_replace(true);
    assert!(flood.join_all().await.into_iter().all(|issued| issued), "those that had a place");
    assert!(bench.first(&token).await.is_ok(), "there is room again");
}

#[tokio::test]
async fn a_pod_has_one_renewal_in_progress_and_places_are_for_pods_that_live() {
    let bench = Bench::new();
    let (shop, gone) = (bench.caller("shop-1").await, bench.caller("ledger-1").await);
    let (bench, slow) = bench.slow_but_for("payments-1");
    let (token, csr) = (bench.token("shop-1"), bench.csr());
    let renew = async || bench.enroller.enroll(&token, &csr, Some(&shop)).await.map(|_| ());
    let newer = async {
        slow.begun(1).await;
        let newer = async {
            slow.begun(2).await;
            slow.goes_on.send_replace(true);
        };
        tokio::join!(renew(), newer).0
    };
    let (older, newer) = tokio::join!(renew(), newer);
    assert!(matches!(older, Err(EnrollRefusal::Busy)), "{older:?}");
    assert!(newer.is_ok(), "{newer:?}");

    // A certificate whose pod is gone finds the room of those that have none.
    slow.goes_on.send_replace(false);
    let stranger = bench.token("web-1");
    let mut model = bank();
    model.pods.remove(&*gone.peer.pod_uid.clone().unwrap());
    bench.view.send_replace(Arc::new(view(model)));
    let flood = bench.flood(&stranger);
    slow.begun(2 + room::FIRST).await;
    let refused = bench.enroller.enroll(&slow.except, &csr, Some(&gone)).await.map(|_| ());
    assert!(matches!(refused, Err(EnrollRefusal::Busy)), "{refused:?}");
    slow.goes_on.send_replace(true);
    flood.join_all().await;
}
