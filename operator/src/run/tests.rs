#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::files;
use crate::revocations::RevocationsError;
use crate::testing::TempDir;
use crate::testing::mesh::SOON;

/// A source and a state; the arguments for both.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new());
        let config = bench.0.path().join("config");
        std::fs::create_dir(&config).unwrap();
        let mesh = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiMesh\nmetadata: {name: default}\n\
                    spec: {trustDomain: bank.example}\n---\n\
                    apiVersion: fapi-mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: shop-1, namespace: bank}\n\
                    spec: {serviceAccountName: shop}\n";
        std::fs::write(config.join("mesh.yaml"), mesh).unwrap();
        bench
    }

    fn state(&self) -> std::path::PathBuf {
        self.0.path().join("state")
    }

    fn args(&self, more: &[&str]) -> Args {
        let source = format!("directory:{}", self.0.path().join("config").display());
        let state = self.state().display().to_string();
        let given = ["fapi-operator", "--source", &source, "--state", &state];
        Args::parse_from(given.iter().chain(more))
    }

    async fn refused(&self, more: &[&str]) -> Failure {
        match start(&self.args(more)).await {
            Err(failure) => failure,
            Ok(_) => panic!("it must not start"),
        }
    }
}

#[tokio::test]
async fn what_is_asked_of_a_cluster_is_not_asked_of_a_folder() {
    let bench = Bench::new();
    for flag in ["--forget", "--check-unused"] {
        let refused = run(bench.args(&[flag])).await.unwrap_err().to_string();
        assert!(refused.starts_with(flag) && refused.contains("remove the folder of --state"), "{refused}");
    }
    assert!(!bench.state().exists());
}

async fn end(running: Running) {
    tokio::time::timeout(SOON, running.parts.end()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_writes_what_others_look_for_and_comes_back_at_the_same_place() {
    let bench = Bench::new();
    let running = start(&bench.args(&[])).await.unwrap();
    let token = bench.state().join("tokens/bank/shop-1.jwt");
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    for file in ["addresses.json", "trust-bundle.pem"] {
        assert!(bench.state().join(file).is_file(), "{file}");
    }
    let first = Addresses::load(&bench.state()).unwrap().unwrap();
    assert_eq!(first.trust_domain, "bank.example");
    end(running).await;
    let again = start(&bench.args(&[])).await.unwrap();
    assert_eq!(Addresses::load(&bench.state()).unwrap(), Some(first));
    end(again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_has_one_operator_and_one_trust_domain() {
    let bench = Bench::new();
    assert!(matches!(bench.refused(&["--trust-domain", "other.example"]).await, Failure::TrustDomain { .. }));
    let running = start(&bench.args(&[])).await.unwrap();
    let second = bench.refused(&[]).await;
    assert!(matches!(&second, Failure::InUse(_)) && second.to_string().contains("--state"), "{second}");
    end(running).await;
    assert!(matches!(bench.refused(&["--trust-domain", "other.example"]).await, Failure::TrustDomain { .. }));
    end(start(&bench.args(&["--trust-domain", "bank.example"])).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_refused_at_the_start() {
    let bench = Bench::new();
    assert!(matches!(bench.refused(&["--issuer-listen", "0.0.0.0:0"]).await, Failure::Unspecified(_)));
    assert!(matches!(bench.refused(&["--operator-namespace", "Not A Name"]).await, Failure::Namespace { .. }));
    std::fs::remove_dir_all(bench.0.path().join("config")).unwrap();
    assert!(matches!(bench.refused(&[]).await, Failure::Source(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_issuer_keeps_is_whole_or_the_operator_does_not_start() {
    let bench = Bench::new();
    end(start(&bench.args(&[])).await.unwrap()).await;
    for name in ["keys.json", "assertions.json"] {
        let path = bench.state().join("issuer").join(name);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        let torn = bench.refused(&[]).await;
        assert!(matches!(&torn, Failure::Keys(_)), "{torn}");
        std::fs::remove_file(&path).unwrap();
        let missing = bench.refused(&[]).await;
        for (failure, word) in [(torn, "cannot be used"), (missing, "is missing")] {
            let text = failure.to_string();
            let all = [name, word, "restore it from a backup, or remove the folder"];
            assert!(all.iter().all(|part| text.contains(part)), "{text}");
        }
        assert!(!path.exists(), "nothing is replaced silently");
        files::replace(&path, &good, files::PRIVATE).unwrap();
    }
    end(start(&bench.args(&[])).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_ends_by_itself_ends_the_operator() {
    let bench = Bench::new();
    let mut running = start(&bench.args(&[])).await.unwrap();
    running.parts.lose_a_part();
    let failure = tokio::time::timeout(SOON, running.parts.ended()).await.unwrap();
    assert!(matches!(failure, Failure::Ended { part: "a test", .. }), "{failure}");
    end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_of_the_source_survive_their_document_and_a_damaged_file_is_refused() {
    let bench = Bench::new();
    let document = bench.0.path().join("config/revoked.yaml");
    let text = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: Revocation\nmetadata: {name: stolen}\n\
                spec: {podUid: uid-1, expires: \"2126-01-01T00:00:00Z\"}\n";
    let file = bench.state().join("revocations.json");
    let kept = || std::fs::read_to_string(&file).unwrap();
    let running = start(&bench.args(&[])).await.unwrap();
    assert!(!kept().contains("uid-1"));
    std::fs::write(&document, text).unwrap();
    let wait = async {
        while !kept().contains("uid-1") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap();
    end(running).await;
    std::fs::remove_file(&document).unwrap();
    end(start(&bench.args(&[])).await.unwrap()).await;
    assert!(kept().contains("uid-1"));

    let whole = kept();
    for damaged in ["", &whole[..whole.len() - 1], &whole.replace("uid-1", "uid-2")] {
        std::fs::write(&file, damaged).unwrap();
        let failure = bench.refused(&[]).await;
        assert!(matches!(failure, Failure::Revocations(RevocationsError::Damaged { .. })), "{failure}");
        assert!(failure.to_string().contains("backup") && failure.to_string().contains("revocations.json"));
    }
    std::fs::remove_file(&file).unwrap();
    let failure = bench.refused(&[]).await;
    assert!(matches!(failure, Failure::Revocations(RevocationsError::Missing(_))), "{failure}");
    // What the message says helps.
    std::fs::write(&file, "{\"epoch\":0,\"entries\":[]}").unwrap();
    end(start(&bench.args(&[])).await.unwrap()).await;
}
