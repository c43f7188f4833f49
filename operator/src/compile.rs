//! From the index to what one pod is told. Pure: the same index and pod give the same bytes.

mod destination;
mod external;
mod snapshot;

pub(crate) use self::destination::{destination, preferred_constraint};
pub(crate) use self::external::{NotAsked, external};
pub(crate) use self::snapshot::{Compiled, snapshot};
