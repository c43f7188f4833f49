//! `src/pb/` is what the generators make of `proto/control.proto`; `UPDATE=1` rewrites it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

#[test]
fn the_generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/pb/fapi_mesh.control.v1.rs");
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pb");
    fs::create_dir_all(&fresh).unwrap();
    let descriptors = protox::compile(["control.proto"], [root.join("proto")]).unwrap();
    // All streams share these.
    let shared = ".fapi_mesh.control.v1.Revocations.document";
    tonic_prost_build::configure().bytes(shared).out_dir(&fresh).compile_fds(descriptors).unwrap();
    let fresh = fs::read_to_string(fresh.join("fapi_mesh.control.v1.rs")).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&committed, &fresh).unwrap();
    }
    assert_eq!(fs::read_to_string(committed).unwrap(), fresh, "run it once with UPDATE=1");
}
