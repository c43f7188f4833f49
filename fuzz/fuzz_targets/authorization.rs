//! The Authorization header, a second one, and the query: the good token passes in one spelling alone.
#![no_main]

use fuzz::WORLD;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&str, &str, Option<&str>, Option<&[u8]>)| {
    let (before, after, query, second) = data;
    let token = WORLD.issued(WORLD.token_header().as_bytes(), WORLD.certificate_bound().to_string().as_bytes());
    let first = format!("{before}{token}{after}");
    let mut headers = vec![("authorization", first.as_bytes())];
    headers.extend(second.map(|value| ("authorization", value)));
    if WORLD.admits("/transfers", query, &headers) {
        assert!(second.is_none() && after.is_empty(), "{before:?} {after:?}");
        assert!(before.trim_end_matches(' ').eq_ignore_ascii_case("bearer") && before.ends_with(' '), "{before:?}");
        assert!(
            !query.is_some_and(|query| query
                .split(['&', ';'])
                .any(|part| part.split('=').next() == Some("access_token")))
        );
    }
});
