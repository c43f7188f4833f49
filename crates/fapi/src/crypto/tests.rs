use super::*;

/// The encodings of all points of small order, as y with either sign, also those that are not reduced.
fn small_order_points() -> Vec<[u8; 32]> {
    let edge = |first: u8, middle: u8, last: u8| {
        let mut point = [middle; 32];
        (point[0], point[31]) = (first, last);
        point
    };
    let mut points = ORDER_8.to_vec();
    points.extend([
        edge(0, 0, 0),
        edge(1, 0, 0),
        edge(0xec, 0xff, 0x7f),
        edge(0xed, 0xff, 0x7f),
        edge(0xee, 0xff, 0x7f),
    ]);
    let signed = points.clone().into_iter().map(|mut point| {
        point[31] |= 0x80;
        point
    });
    points.extend(signed);
    points
}

#[test]
fn keys_of_small_order_are_no_keys() {
    for point in small_order_points() {
        assert!(PublicKey::ed25519(&point).is_none(), "{point:02x?}");
    }
}

#[test]
fn a_point_that_differs_in_one_byte_is_another() {
    for point in small_order_points() {
        for place in 0..32 {
            let mut other = point;
            other[place] ^= 0x10;
            assert_eq!(is_small_order(&other), small_order_points().contains(&other), "{other:02x?}");
        }
    }
}

#[test]
fn the_library_alone_would_take_the_signature_that_fits_everything() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    // If this fails, the library refuses by itself and our check costs nothing but a few comparisons.
    assert!(testing::library_takes(&identity, b"any message", &signature));
}

#[test]
fn points_off_the_curve_are_no_keys() {
    assert!(PublicKey::p256(&[0; 32], &[0; 32]).is_none());
    assert!(PublicKey::p256(&[1; 32], &[1; 32]).is_none());
    assert!(PublicKey::p256(&[0xff; 32], &[0xff; 32]).is_none());
    // y = 2 is on no point of the curve. The library notices when it verifies.
    let mut off = [0; 32];
    off[0] = 2;
    let mut signature = [0; 64];
    signature[0] = 1;
    assert!(PublicKey::ed25519(&off).is_none_or(|key| !key.verifies(b"message", &signature)));
}

#[test]
fn psychic_der_and_foreign_signatures_do_not_verify() {
    let pair = P256Pair::generate().unwrap();
    let (x, y) = pair.public().unwrap();
    let key = PublicKey::p256(&x, &y).unwrap();
    let good = pair.sign(b"message").unwrap();
    assert!(key.verifies(b"message", &good));
    assert!(!key.verifies(b"other", &good));
    let der = [0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01];
    for bad in [&[0; 64][..], &[0xff; 64], &good[..63], &[&good[..], &[0]].concat(), &der, &[]] {
        assert!(!key.verifies(b"message", bad));
    }
}

#[test]
fn hashes_are_the_standard_ones() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    // RFC 4231 test case 2 pads its key with zeros, as HMAC does.
    let mut key = [0; 32];
    key[..4].copy_from_slice(b"Jefe");
    assert_eq!(hex(&MacKey::new(&key).tag(b"what do ya want for nothing?")), "5bdcc146bf60754e6a042426089575c7");
    assert!(equal(b"a", b"a") && !equal(b"a", b"b") && !equal(b"a", b"aa"));
}
