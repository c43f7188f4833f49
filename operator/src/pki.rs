//! The mesh's certificate authority: a root and an issuing CA kept on disk, and the leaves they give out.
//!
//! Every leaf has the same shape (DESIGN: X509-SVID): one URI name, the pod's uid in a private extension, CA false,
//! digitalSignature, both extended usages, P-256. Nothing of it is chosen by who asks, except the public key.

mod ca;
mod csr;
mod error;
mod leaf;
mod line;
mod roots;
mod rotation;
mod serving;
mod store;
#[cfg(test)]
mod tests;
mod x509;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crds::mesh::AnchorPhase;
use fapi::{SpiffeId, TrustDomain, UnixTime};
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use line::{Issuing, Line};
use rotation::Mark;
use store::{Kept, Store};

use crate::shelf::Shelf;

pub(crate) use csr::{CsrError, PublicKey};
pub(crate) use error::PkiError;
pub(crate) use leaf::set_validity;
pub(crate) use roots::Roots;
pub(crate) use rotation::Rotation;
pub use rotation::Step;
pub(crate) use serving::{Serving, identity_of};
pub(crate) use store::FINGERPRINT;
pub(crate) use x509::{authority_of, pem};

/// The certificate authority of one mesh.
pub(crate) struct Authority {
    trust_domain: TrustDomain,
    store: Store,
    /// Held while anything kept is changed.
    changing: Mutex<()>,
    in_force: RwLock<Arc<InForce>>,
    roots: watch::Sender<Arc<Roots>>,
    /// The fingerprint of the first root: how it is known that what is kept is still this authority.
    first: String,
    /// Why pods get no certificates: what is in force is not kept any more.
    lost: Mutex<Option<Arc<str>>>,
}

/// What is kept, as it is used. Replaced as a whole.
struct InForce {
    rotation: Option<Rotation>,
    signing: Arc<Line>,
    issuing: Issuing,
    other: Option<Arc<Line>>,
}

/// A root, as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// SHA-256 of its certificate, base64url.
    pub(crate) fingerprint: String,
    /// When its certificate ends; none once that is removed.
    pub(crate) not_after: Option<UnixTime>,
    /// What it is good for.
    pub(crate) phase: AnchorPhase,
}

/// A certificate that was just made.
pub(crate) struct Issued {
    /// Leaf first, then the issuing CA.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// When the leaf ends.
    pub(crate) not_after: UnixTime,
    /// The leaf's serial in hexadecimal, for the log.
    pub(crate) serial: String,
}

impl Authority {
    /// Opens the authority of a shelf, making it at the first start, and writes its roots to the file `bundle`, if there is one.
    ///
    /// # Errors
    /// Anything missing, damaged, open to others or of another trust domain; nothing is ever remade.
    pub(crate) fn open(
        shelf: Shelf,
        bundle: Option<PathBuf>,
        trust_domain: &TrustDomain,
        now: UnixTime,
    ) -> Result<Self, PkiError> {
        let store = Store::new(shelf, bundle);
        let in_force = InForce::of(store.open(trust_domain, now)?);
        let roots = in_force.roots(trust_domain)?;
        store.write_bundle(&roots.pem)?;
        let authority = Self {
            trust_domain: trust_domain.clone(),
            first: store.first()?,
            lost: Mutex::default(),
            store,
            changing: Mutex::default(),
            in_force: RwLock::new(Arc::new(in_force)),
            roots: watch::Sender::new(Arc::new(roots)),
        };
        authority.renew_issuing(now)?;
        Ok(authority)
    }

    /// The trust domain that it certifies for.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots that everyone in the mesh trusts, now and after each step of a rotation.
    pub(crate) fn roots(&self) -> watch::Receiver<Arc<Roots>> {
        self.roots.subscribe()
    }

    /// The roots in PEM.
    pub(crate) fn bundle_pem(&self) -> Arc<str> {
        self.roots.borrow().pem.clone()
    }

    /// The root that counts; after a rotation also the one before it, and meanwhile both. The older one first.
    pub(crate) fn anchors(&self) -> Vec<Anchor> {
        let in_force = self.in_force();
        let InForce { rotation, signing, other, .. } = &*in_force;
        let Some(rotation) = rotation else {
            return vec![signing.anchor(AnchorPhase::Active)];
        };
        let lines = || [Some(signing), other.as_ref()].into_iter().flatten();
        let anchor = |(mark, phase): (&Mark, AnchorPhase)| match lines().find(|line| line.number == mark.number) {
            Some(line) => Some(line.anchor(phase)),
            None => Some(Anchor { fingerprint: mark.fingerprint.clone()?, not_after: None, phase }),
        };
        rotation.phases().filter_map(anchor).collect()
    }

    /// The last rotation of the root, or the one that runs.
    pub(crate) fn rotation(&self) -> Option<Rotation> {
        self.in_force().rotation.clone()
    }

    /// Whether `key` is one of the authority's own, which nobody else can honestly ask a certificate for.
    pub(crate) fn owns(&self, key: &PublicKey) -> bool {
        let in_force = self.in_force();
        in_force.signing.owns(key) || in_force.other.as_ref().is_some_and(|line| line.owns(key))
    }

    /// Looks whether what is in force is still kept. If it is lost, that is said once, and pods get no certificates until it is put
    /// back: certificates of keys that nobody can start with again would only make the day worse on which that shows.
    ///
    /// # Errors
    /// It is lost, and what to do; or nobody knows, because it cannot be read: then nothing changes.
    pub(crate) fn look(&self) -> Result<(), PkiError> {
        let kept = self.store.check(&self.first);
        let now: Option<Arc<str>> = match &kept {
            Ok(()) => None,
            Err(error) if error.is_lost() => Some(error.to_string().into()),
            Err(_) => return kept,
        };
        let before = std::mem::replace(&mut *self.lost_now(), now.clone());
        match (before, now) {
            (None, Some(error)) => {
                tracing::error!(event = "pki", %error, "the authority is lost; no pod gets a certificate until it is put back");
            }
            (Some(_), None) => tracing::info!(event = "pki", "the authority was put back; pods get certificates again"),
            _ => {}
        }
        kept
    }

    /// Why pods get no certificates, and what to do; `None` as long as what is in force is kept.
    pub(crate) fn lost(&self) -> Option<Arc<str>> {
        self.lost_now().clone()
    }

    /// Issues the certificate of a pod: for `lifetime`, but never beyond the issuing CA's own.
    ///
    /// # Errors
    /// What is in force is lost; or it has ended, or there is a defect.
    pub(crate) fn issue_pod(
        &self,
        id: &SpiffeId,
        pod_uid: &str,
        key: &PublicKey,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<Issued, PkiError> {
        if let Some(why) = self.lost() {
            return Err(PkiError::Lost(why));
        }
        let mut params = leaf::params(id)?;
        leaf::add_pod_uid(&mut params, pod_uid)?;
        self.sign(params, key, lifetime, now)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<Issued, PkiError> {
        let InForce { signing, issuing, .. } = &*self.in_force();
        if issuing.not_after <= now {
            return Err(PkiError::Ended { which: "issuing", ended: issuing.not_after });
        }
        let not_after = now.plus(lifetime.as_secs()).min(issuing.not_after);
        let serial = set_validity(&mut params, now, not_after);
        let issuer = Issuer::from_ca_cert_der(&issuing.certificate, &signing.issuing_key)?;
        let leaf = params.signed_by(key, &issuer)?;
        Ok(Issued { chain: vec![leaf.into(), issuing.certificate.clone()], not_after, serial })
    }

    /// Has the root certify the issuing key anew once two thirds of the present certificate are over.
    pub(crate) fn renew_issuing(&self, now: UnixTime) -> Result<(), PkiError> {
        let _changing = self.changing();
        let third = ca::ISSUING_LIFE.as_secs() / 3;
        let InForce { signing, issuing, .. } = &*self.in_force();
        if issuing.not_after > now.plus(third) {
            return Ok(());
        }
        let certificate = ca::certify_issuing(&self.trust_domain, &signing.root, &signing.issuing_key, now)?;
        match self.store.write_issuing(signing.number, &issuing.certificate, &certificate) {
            Ok(()) => tracing::info!(event = "pki", "renewed the issuing certificate"),
            // Another operator was faster.
            Err(error) if error.is_changed() => {}
            Err(error) => return Err(error),
        }
        self.put(self.store.load(&self.trust_domain, now)?)
    }

    /// Begins a rotation of the root: makes the new one and has everybody told of it. One that was begun by the same name and
    /// cut short is begun again.
    ///
    /// # Errors
    /// Another one runs.
    pub(crate) fn begin_rotation(&self, name: &str, now: UnixTime) -> Result<(), PkiError> {
        let _changing = self.changing();
        let kept = self.store.load(&self.trust_domain, now)?;
        let begun = match &kept.rotation {
            Some(same) if same.step == Step::Begun && same.name == name => same.clone(),
            Some(other) if other.runs() => return Err(PkiError::RotationRuns { name: other.name.clone() }),
            before => {
                let begun = Rotation::begin(name, kept.signing.mark(), self.store.first()?, now);
                self.store.write_rotation(before.as_ref(), &begun)?;
                begun
            }
        };
        let new = self.store.make(&self.trust_domain, begun.new.number, now)?;
        let prepared = begun.prepared(new, now);
        self.store.write_rotation(Some(&begun), &prepared)?;
        self.put(self.store.load(&self.trust_domain, now)?)
    }

    /// Takes the next step of the rotation that runs, from `was`.
    pub(crate) fn advance_rotation(&self, was: &Rotation, now: UnixTime) -> Result<(), PkiError> {
        let _changing = self.changing();
        let Some(step) = was.step.next().filter(|_| was.step != Step::Begun) else { return Ok(()) };
        self.store.write_rotation(Some(was), &was.at(step, now))?;
        self.put(self.store.load(&self.trust_domain, now)?)
    }

    /// Removes the keys of a root that was removed.
    pub(crate) fn forget_removed(&self) -> Result<(), PkiError> {
        let _changing = self.changing();
        match self.rotation() {
            Some(rotation) if !rotation.runs() => self.store.remove(rotation.old.number),
            _ => Ok(()),
        }
    }

    /// Takes over what another operator has kept.
    pub(crate) fn follow(&self, now: UnixTime) -> Result<(), PkiError> {
        let _changing = self.changing();
        if self.store.rotation()? == self.rotation() {
            return Ok(());
        }
        self.put(self.store.load(&self.trust_domain, now)?)
    }

    /// Writes the roots to their file again, if it says something else.
    pub(crate) fn keep_bundle(&self) -> Result<(), PkiError> {
        let _changing = self.changing();
        self.store.write_bundle(&self.bundle_pem())
    }

    /// Uses what is kept: signs with it, then tells of it.
    fn put(&self, kept: Kept) -> Result<(), PkiError> {
        let in_force = InForce::of(kept);
        let roots = Arc::new(in_force.roots(&self.trust_domain)?);
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(in_force);
        let written = self.store.write_bundle(&roots.pem);
        self.roots.send_replace(roots);
        written
    }

    fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lost_now(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        // Whatever a panic has left is read again before it is changed.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InForce {
    fn of(Kept { rotation, signing, issuing, other }: Kept) -> Self {
        Self { rotation, signing: Arc::new(signing), issuing, other: other.map(Arc::new) }
    }

    fn roots(&self, trust_domain: &TrustDomain) -> Result<Roots, PkiError> {
        Roots::of(trust_domain, self.rotation.as_ref(), &self.signing, self.other.as_deref())
    }
}

/// The DER of the SubjectPublicKeyInfo of a certificate; the error says what is wrong with the certificate.
pub(crate) fn public_key_info(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    Ok(x509::facts(certificate)?.public_key_info)
}

/// When a certificate ends, if it is one and it is for this key.
pub(crate) fn validity_end(certificate: &CertificateDer<'_>, key: &KeyPair) -> Option<UnixTime> {
    let facts = x509::facts(certificate).ok()?;
    (facts.public_key_info == key.subject_public_key_info()).then_some(facts.not_after)
}
