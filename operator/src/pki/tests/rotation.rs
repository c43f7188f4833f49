//! The rotation of the root, as it is kept.

use std::path::PathBuf;

use crds::mesh::AnchorPhase;

use super::*;
use crate::pki::rotation::Rotation;
use crate::state::StateError;

const STEPS: [Step; 4] = [Step::Prepared, Step::Active, Step::Tainted, Step::Removed];

/// An authority whose rotation is at this step.
fn at(dir: &TempDir, step: Step) -> Authority {
    let authority = open(dir).unwrap();
    authority.begin_rotation("first", NOW).unwrap();
    while authority.rotation().unwrap().step != step {
        authority.advance_rotation(&authority.rotation().unwrap(), NOW).unwrap();
    }
    authority
}

fn count(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

fn documents(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path().join("pki")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What each root is good for, and whether it still has a certificate.
fn phases(authority: &Authority) -> Vec<(String, AnchorPhase, bool)> {
    let anchors = authority.anchors().into_iter();
    anchors.map(|anchor| (anchor.fingerprint, anchor.phase, anchor.not_after.is_some())).collect()
}

#[test]
fn roots_are_told_by_what_they_are_good_for_and_a_removed_one_until_the_next_rotation() {
    use AnchorPhase::{Active, Prepared, Removed, Tainted};
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let [(first, Active, true)] = &*phases(&authority) else { panic!("{:?}", phases(&authority)) };
    assert_eq!(*first, authority.store.first().unwrap());
    assert_eq!(authority.anchors()[0].not_after, Some(NOW.plus(10 * 365 * 24 * 3600)));
    for (step, old, new) in [
        (Step::Prepared, Active, Prepared),
        (Step::Active, Active, Active),
        (Step::Tainted, Tainted, Active),
        (Step::Removed, Removed, Active),
    ] {
        let authority = at(&TempDir::new(), step);
        let [(a, is_old, has), (b, is_new, true)] = &*phases(&authority) else { panic!("{:?}", phases(&authority)) };
        assert_eq!((*is_old, *has, *is_new), (old, step != Step::Removed, new), "{step:?}");
        assert_ne!(a, b);
    }
    let authority = at(&dir, Step::Removed);
    let second = phases(&authority)[1].0.clone();
    authority.begin_rotation("second", NOW).unwrap();
    let told = phases(&authority);
    assert_eq!((told.len(), &told[0].0, told[0].1, told[1].1), (2, &second, Active, Prepared));
}

#[test]
fn every_step_survives_a_restart_and_says_who_signs_and_what_counts() {
    let dir = TempDir::new();
    let old = open(&dir).unwrap();
    let (old_root, old_leaf) = (old.bundle_pem(), leaf_of(&dir, &old).chain);
    let mut authority = old;
    authority.begin_rotation("first", NOW).unwrap();
    for step in STEPS {
        let rotation = authority.rotation().unwrap();
        assert_eq!(rotation.step, step);
        let before = authority.roots().borrow().clone();
        authority = open(&dir).unwrap();
        assert_eq!(authority.rotation().unwrap(), rotation);
        let roots = authority.roots().borrow().clone();
        assert_eq!((&roots.pem, &roots.signer, roots.replace), (&before.pem, &before.signer, step >= Step::Tainted));
        assert_eq!(fs::read_to_string(dir.path().join("trust-bundle.pem")).unwrap(), *roots.pem);

        let chain = leaf_of(&dir, &authority).chain;
        let is_old = |chain: &[CertificateDer<'_>]| {
            let root = roots.bundle.root_of(chain, NOW)?;
            Some(TrustBundle::from_pem(&domain(), &old_root).unwrap().holds(&root))
        };
        assert_eq!(is_old(&chain), Some(step == Step::Prepared), "{step:?}");
        assert!(roots.signed(authority_of(&chain[0]).as_deref()));
        assert_eq!(count(&roots.pem), if step == Step::Removed { 1 } else { 2 });
        assert_eq!(roots.pem.starts_with(&*old_root), step != Step::Removed);
        if step != Step::Removed {
            assert_eq!(is_old(&old_leaf), Some(true));
            assert_eq!(roots.signed(authority_of(&old_leaf[0]).as_deref()), step == Step::Prepared);
        }
        authority.advance_rotation(&rotation, NOW).unwrap();
    }
}

#[test]
fn a_chain_of_the_removed_root_is_worth_nothing() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    fs::write(dir.path().join("old.pem"), pem(&leaf_of(&dir, &authority).chain[0])).unwrap();
    fs::copy(dir.path().join("pki/issuing.pem"), dir.path().join("old-issuing.pem")).unwrap();
    let authority = at(&dir, Step::Tainted);
    fs::write(dir.path().join("new.pem"), pem(&leaf_of(&dir, &authority).chain[0])).unwrap();
    let time = NOW.as_secs().to_string();
    let verifies = |leaf: &str, issuing: &str| {
        let arguments = ["verify", "-x509_strict", "-attime", &time, "-CAfile", "trust-bundle.pem", "-untrusted"];
        openssl(dir.path(), &[&arguments[..], &[issuing, leaf]].concat()).is_some()
    };
    assert!(verifies("old.pem", "old-issuing.pem") && verifies("new.pem", "pki/issuing-2.pem"));
    authority.advance_rotation(&authority.rotation().unwrap(), NOW).unwrap();
    assert!(!verifies("old.pem", "old-issuing.pem") && verifies("new.pem", "pki/issuing-2.pem"));
}

#[test]
fn in_the_end_the_old_keys_are_gone_and_another_rotation_may_begin() {
    let dir = TempDir::new();
    let authority = at(&dir, Step::Prepared);
    let refused = authority.begin_rotation("second", NOW).unwrap_err();
    assert!(matches!(&refused, PkiError::RotationRuns { name } if name == "first"), "{refused}");
    authority.forget_removed().unwrap();
    assert_eq!(documents(&dir).len(), 10, "nothing goes before it is removed");
    drop(authority);
    let authority = open(&dir).unwrap();
    while authority.rotation().unwrap().runs() {
        authority.advance_rotation(&authority.rotation().unwrap(), NOW).unwrap();
    }
    // The process ends before it has removed them; the next one does it.
    drop(authority);
    let authority = open(&dir).unwrap();
    authority.forget_removed().unwrap();
    let left = ["fingerprint", "issuing-2.key", "issuing-2.pem", "root-2.key", "root-2.pem", "rotation.json"];
    assert_eq!(documents(&dir), left);
    authority.advance_rotation(&authority.rotation().unwrap(), NOW).unwrap();
    assert_eq!(authority.rotation().unwrap().step, Step::Removed, "nothing comes after it");
    authority.begin_rotation("second", NOW).unwrap();
    assert_eq!(count(&open(&dir).unwrap().bundle_pem()), 2);
}

#[test]
fn one_that_was_cut_short_while_the_root_was_made_begins_again() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let begun = Rotation::begin("first", authority.in_force().signing.mark(), authority.store.first().unwrap(), NOW);
    authority.store.write_rotation(None, &begun).unwrap();
    fs::write(dir.path().join("pki/root-2.key"), "half a k").unwrap();
    fs::write(dir.path().join("pki/root-2.pem"), "half a c").unwrap();
    let again = open(&dir).unwrap();
    assert_eq!(again.bundle_pem(), authority.bundle_pem(), "nobody has heard of it");
    assert!(matches!(again.begin_rotation("second", NOW), Err(PkiError::RotationRuns { .. })));
    again.advance_rotation(&again.rotation().unwrap(), NOW).unwrap();
    assert_eq!(again.rotation().unwrap().step, Step::Begun, "there is nothing to advance to");
    again.begin_rotation("first", NOW).unwrap();
    assert_eq!(count(&open(&dir).unwrap().bundle_pem()), 2);
}

#[test]
fn nothing_of_a_rotation_that_is_missing_or_torn_is_ever_remade() {
    for step in STEPS {
        let dir = TempDir::new();
        at(&dir, step).forget_removed().unwrap();
        for name in documents(&dir) {
            let path = dir.path().join("pki").join(&name);
            let whole = fs::read(&path).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions();
            fs::remove_file(&path).unwrap();
            let error = refused(&dir);
            assert!(error.to_string().contains("backup") && error.to_string().contains(&name), "{step:?}: {error}");
            assert!(!path.exists());
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            fs::set_permissions(&path, mode).unwrap();
            let error = refused(&dir);
            assert!(error.to_string().contains("backup") && error.to_string().contains(&name), "{step:?}: {error}");
            fs::write(&path, &whole).unwrap();
        }
        open(&dir).unwrap();
    }
}

#[test]
fn parts_of_another_rotation_are_refused() {
    let (dir, other) = (TempDir::new(), TempDir::new());
    drop((at(&dir, Step::Active), at(&other, Step::Active)));
    let path = |dir: &TempDir, name: &str| -> PathBuf { dir.path().join("pki").join(name) };
    for name in ["root-2.key", "root-2.pem", "issuing-2.key", "issuing-2.pem"] {
        fs::copy(path(&other, name), path(&dir, name)).unwrap();
    }
    let error = refused(&dir);
    assert!(
        matches!(&error, PkiError::Damaged { path: named, .. } if *named == path(&dir, "rotation.json")),
        "{error}"
    );
    // And what somebody has changed by hand.
    let other = path(&other, "rotation.json");
    let text = fs::read_to_string(&other).unwrap().replace("Active", "Removed");
    fs::write(path(&dir, "rotation.json"), text).unwrap();
    assert!(matches!(refused(&dir), PkiError::State(StateError::Damaged { .. })));
}

#[test]
fn the_operators_own_certificate_follows_whoever_signs() {
    let dir = TempDir::new();
    let authority = Arc::new(at(&dir, Step::Prepared));
    let own = identity_of(&authority, "fapi-mesh").unwrap();
    let mut serving = Serving::start(authority.clone(), own, "127.0.0.1", Clock::manual(NOW)).unwrap();
    let identity = serving.identity();
    let mut by = || {
        serving.tick().unwrap();
        authority_of(identity.borrow().leaf().unwrap())
    };
    let old = by();
    authority.advance_rotation(&authority.rotation().unwrap(), NOW).unwrap();
    let new = by();
    assert_ne!(new, old);
    assert!(authority.roots().borrow().signed(new.as_deref()));
    authority.advance_rotation(&authority.rotation().unwrap(), NOW).unwrap();
    assert_eq!(by(), new);
}

#[test]
fn the_keys_of_both_roots_are_known_as_the_authoritys_own() {
    let dir = TempDir::new();
    let authority = at(&dir, Step::Active);
    let in_force = authority.in_force();
    for line in [&in_force.signing, in_force.other.as_ref().unwrap()] {
        assert!(authority.owns(&PublicKey::from_info(&line.issuing_key.subject_public_key_info()).unwrap()));
    }
}

#[test]
fn the_issuing_certificate_below_the_new_root_is_renewed_in_time() {
    let dir = TempDir::new();
    let authority = at(&dir, Step::Removed);
    let later = NOW.plus(250 * 24 * 3600);
    authority.renew_issuing(later).unwrap();
    assert_eq!(issuing(&authority).not_after, later.plus(ca::ISSUING_LIFE.as_secs()));
    assert_eq!(
        issuing(&crate::testing::authority(dir.path(), &domain(), later).unwrap()).certificate,
        issuing(&authority).certificate
    );
}
