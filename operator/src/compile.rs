//! From the index to what one pod is told. Pure: the same index and pod give the same bytes.

mod destination;
mod snapshot;

pub(crate) use self::destination::{destination, preferred_constraint};
pub(crate) use self::snapshot::{Compiled, snapshot};
