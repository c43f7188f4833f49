//! Waiting for what another thread publishes.

use std::pin::pin;

use crate::sync::Notify;

/// What `look` finds, as soon as it finds something. Whoever changes what it sees tells `changed` afterwards.
pub(crate) async fn found<T>(changed: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut told = pin!(changed.notified());
        // Before the look: a change right after it is not missed.
        told.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        told.await;
    }
}
