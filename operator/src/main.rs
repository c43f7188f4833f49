//! `fapi-operator`: see the library.
fn main() {}
