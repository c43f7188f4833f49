//! A whole token: admitted only if it is, byte for byte, one that the issuer signed.
#![no_main]

use std::sync::LazyLock;

use fuzz::WORLD;
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<String> =
    LazyLock::new(|| WORLD.issued(WORLD.token_header().as_bytes(), WORLD.certificate_bound().to_string().as_bytes()));

fuzz_target!(|data: (u16, u8, &str)| {
    let (at, bit, text) = data;
    assert!(WORLD.admits_bearer(&GOOD));
    // The text itself, and the good token with one letter replaced by it.
    let at = usize::from(at) % GOOD.len();
    let bent = match bit {
        0 => text.to_owned(),
        _ => format!("{}{text}{}", &GOOD[..at], &GOOD[at + 1..]),
    };
    // One space or more stand before the token (RFC 9110 section 11.4).
    if bent.trim_start_matches(' ') != *GOOD {
        assert!(!WORLD.admits_bearer(&bent), "{bent}");
    }
});
