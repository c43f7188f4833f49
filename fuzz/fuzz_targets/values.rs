//! Names and lists: what is read prints as what is read again.
#![no_main]

use fapi::{
    Audience, AuthorizationDetails, CertThumbprint, Issuer, JwkThumbprint, Origin, ScopeSet, SpiffeId, TrustDomain,
};
use libfuzzer_sys::fuzz_target;

macro_rules! round {
    ($kind:ty, $text:expr) => {
        if let Ok(value) = <$kind>::parse($text) {
            let printed = value.to_string();
            assert!(<$kind>::parse(&printed).as_ref() == Ok(&value), "{printed:?}");
        }
    };
}

fuzz_target!(|text: &str| {
    round!(Audience, text);
    round!(CertThumbprint, text);
    round!(Issuer, text);
    round!(JwkThumbprint, text);
    round!(Origin, text);
    round!(ScopeSet, text);
    round!(SpiffeId, text);
    round!(TrustDomain, text);
    if let Ok(details) = AuthorizationDetails::parse(text) {
        let again = AuthorizationDetails::parse(&serde_json::to_string(&details).unwrap()).unwrap();
        assert!(again == details && details.covers(&again), "{text}");
    }
    // Compared byte by byte: one spelling each.
    for printed in [Issuer::parse(text).map(|one| one.to_string()), Audience::parse(text).map(|one| one.to_string())] {
        assert!(printed.is_err() || printed.as_deref() == Ok(text));
    }
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
});
