//! The callers of the vectors, as certificates: `peers/README.md` says how they were made.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The root that signed them all.
pub(crate) const ROOT: &str = include_str!("peers/root.pem");

/// The certificate of a caller, by its SPIFFE ID; PEM.
pub(crate) fn certificate(id: &str) -> &'static str {
    match id {
        "spiffe://bank.example/ns/bank/sa/shop" => include_str!("peers/shop.pem"),
        "spiffe://bank.example/ns/bank/sa/ledger" => include_str!("peers/ledger.pem"),
        "spiffe://bank.example/ns/bank/sa/shop2" => include_str!("peers/shop2.pem"),
        "spiffe://bank.example/ns/bank2/sa/shop" => include_str!("peers/bank2.pem"),
        "spiffe://bank.example.evil/ns/bank/sa/shop" => include_str!("peers/suffix.pem"),
        "spiffe://evil.bank.example/ns/bank/sa/shop" => include_str!("peers/prefix.pem"),
        "spiffe://bank.exampl/ns/bank/sa/shop" => include_str!("peers/shorter.pem"),
        _ => panic!("{id} has no certificate: make one as peers/README.md says"),
    }
}

/// The bytes of a PEM text with one block.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}
