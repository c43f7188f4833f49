use crate::{
    rejection::Rejection,
    value::{SpiffeId, UnixTime},
};

/// The proofs seen by this process, remembered for longer than they are accepted (RFC 9449 section 11.1).
pub struct ReplaySet {}

impl ReplaySet {
    /// A set for at most `capacity` proofs, of which one caller may hold `per_caller`.
    #[must_use]
    pub fn new(_capacity: usize, _per_caller: usize) -> Self {
        Self {}
    }

    pub(crate) fn reserve(&self, _caller: &SpiffeId, _key: [u8; 16], _now: UnixTime) -> Result<(), Rejection> {
        Err(Rejection::ReplayStoreFull)
    }
}
