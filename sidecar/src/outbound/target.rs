//! What an authority stands for, as this worker sees it.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    rc::Rc,
    sync::Arc,
};

use fapi::Rejection;
use http::{HeaderValue, uri::Authority};

use super::{Outbound, failure::Failure, peer::Peer, redirected::Dialled};
use crate::control_client::{
    DestinationCell,
    destination::{Meshed, Resolved},
};

/// Most authorities in one worker's cache. Users of an app may choose names without end.
const MAX_TARGETS: usize = 4096;
/// One that was not called during so many sweeps, which come once a second, is forgotten.
const MAX_UNUSED_SWEEPS: u32 = 600;

/// One authority that the app calls.
pub(super) struct Target {
    pub(super) cell: Arc<DestinationCell>,
    /// For what was redirected.
    pub(super) dialled: Option<Dialled>,
    pub(super) authority: Authority,
    pub(super) host: HeaderValue,
    pub(super) view: RefCell<Option<Rc<View>>>,
    unused_sweeps: Cell<u32>,
}

/// One answer of the operator, with this worker's side of its endpoints.
pub(super) struct View {
    pub(super) resolved: Arc<Resolved>,
    pub(super) peers: Vec<Rc<Peer>>,
}

impl View {
    /// The service, or `None` for what is positively not in the mesh.
    pub(super) fn meshed(&self) -> Option<&Meshed> {
        match &*self.resolved {
            Resolved::Meshed(meshed) => Some(meshed),
            Resolved::Unmeshed(_) | Resolved::Refused | Resolved::Unknown | Resolved::Ambiguous => None,
        }
    }
}

impl Target {
    /// It is called.
    pub(super) fn used(&self) {
        self.unused_sweeps.set(0);
    }

    /// Whether it was called lately. Comes once a second.
    pub(super) fn is_used(&self) -> bool {
        self.unused_sweeps.set(self.unused_sweeps.get() + 1);
        self.unused_sweeps.get() <= MAX_UNUSED_SWEEPS
    }
}

impl Outbound {
    /// The target of an authority, as the app spells it.
    pub(super) fn target(&self, authority: &Authority) -> Result<Rc<Target>, Failure> {
        if let Some(target) = self.targets.borrow().get(authority.as_str()) {
            target.used();
            return Ok(target.clone());
        }
        self.new_target(authority.as_str().into(), authority, None)
    }

    /// A target that is found again by `key`.
    pub(super) fn new_target(
        &self,
        key: Box<str>,
        authority: &Authority,
        dialled: Option<Dialled>,
    ) -> Result<Rc<Target>, Failure> {
        let name = authority.as_str();
        if name.contains('@') {
            return Err(Failure::Misused("leave user and password out of the URL"));
        }
        if self.targets.borrow().len() >= MAX_TARGETS {
            self.forget_oldest();
        }
        let asked = dialled.as_ref().map_or_else(|| name.to_ascii_lowercase(), |dialled| dialled.address.to_string());
        let target = Rc::new(Target {
            cell: self.lookups.cell(&asked)?,
            dialled,
            authority: authority.clone(),
            host: HeaderValue::from_str(name).map_err(|_| Failure::Misused("the host of the URL is not a name"))?,
            view: RefCell::default(),
            unused_sweeps: Cell::new(0),
        });
        self.targets.borrow_mut().insert(key, target.clone());
        Ok(target)
    }

    /// Forgets the quarter of the targets that was called least lately. One that is wanted again is asked for again.
    pub(super) fn forget_oldest(&self) {
        let mut targets = self.targets.borrow_mut();
        let mut ages: Vec<_> = targets.iter().map(|(key, target)| (target.unused_sweeps.get(), key.clone())).collect();
        ages.sort_unstable_by_key(|(age, _)| Reverse(*age));
        // Many at once, as looking for the oldest is work.
        for (_, key) in ages.iter().take(ages.len().div_ceil(4)) {
            targets.remove(key);
        }
    }

    /// The newest answer for a target, waiting for the first one.
    pub(super) async fn view(&self, target: &Target) -> Result<Rc<View>, Failure> {
        if let Some(view) = self.known_view(target) {
            return self.checked(target, view);
        }
        let answered = self.answered(target).await;
        let attempts = &self.local.shared.metrics.lookups;
        if answered.is_ok() { &attempts.succeeded } else { &attempts.failed }.add(1);
        answered?;
        self.known_view(target)
            .ok_or(Failure::Rejected(Rejection::DestinationUnknown))
            .and_then(|view| self.checked(target, view))
    }

    /// Nobody knows it, or nobody serves it: the answer is the same, and never plaintext.
    fn checked(&self, target: &Target, view: Rc<View>) -> Result<Rc<View>, Failure> {
        let why = match &*view.resolved {
            Resolved::Refused => Rejection::DestinationUnmeshed,
            _ if !view.peers.is_empty() => return Ok(view),
            _ if matches!(target.cell.get().as_deref(), Some(Resolved::Ambiguous)) => Rejection::DestinationAmbiguous,
            _ => Rejection::DestinationUnknown,
        };
        Err(why.into())
    }

    fn known_view(&self, target: &Target) -> Option<Rc<View>> {
        let newest = target.cell.get();
        let newest = newest.as_ref()?;
        if let Some(dialled) = &target.dialled {
            return self.dialled_view(target, dialled, newest);
        }
        if let Some(view) = target.view.borrow().as_ref().filter(|view| Arc::ptr_eq(&view.resolved, newest)) {
            return Some(view.clone());
        }
        let peers = match &**newest {
            Resolved::Refused | Resolved::Unknown | Resolved::Ambiguous => Vec::new(),
            Resolved::Unmeshed(addresses) => addresses.iter().map(|&address| self.peer(address, None)).collect(),
            Resolved::Meshed(meshed) => {
                meshed.endpoints.iter().map(|endpoint| self.peer(endpoint.address, Some(&endpoint.spiffe_id))).collect()
            }
        };
        let view = Rc::new(View { resolved: newest.clone(), peers });
        *target.view.borrow_mut() = Some(view.clone());
        Some(view)
    }
}
