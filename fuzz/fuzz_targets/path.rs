//! Paths in normal form can be read in one way only: decoding once more, or by other rules, changes nothing that matters.
#![no_main]

use fuzz::plain_url;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    let Ok(same) = fapi::normal_path(path) else { return };
    assert_eq!(same, path);
    assert!(path.starts_with('/') && !path.contains("//"));
    let uri: http::Uri = path.parse().expect("HTTP libraries take it");
    assert_eq!((uri.path(), uri.query()), (path, None));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    // The normal form of RFC 3986 differs in the case of digits alone.
    let normal = plain_url(&format!("https://a{path}")).unwrap();
    assert!(normal.eq_ignore_ascii_case(&format!("https://a{path}")), "{path}");
    // Whoever decodes sees the same segments, and no end of the path.
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            let decoded = u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
            assert!(!b"/\\.;%\0\r\n".contains(&decoded), "{path}");
        } else {
            assert!(byte.is_ascii_graphic() && !b";\\?#".contains(&byte));
        }
    }
});
