#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tokio::io::duplex;

use super::*;

#[tokio::test(start_paused = true)]
async fn bytes_pass_until_both_sides_have_ended() {
    let ((app, a), (peer, b)) = (duplex(64), duplex(64));
    let (mut app, mut peer) = (app, peer);
    let talk = async {
        app.write_all(&[1; 200]).await.unwrap();
        app.shutdown().await.unwrap();
        let mut seen = Vec::new();
        app.read_to_end(&mut seen).await.unwrap();
        seen
    };
    let answer = async {
        let mut seen = Vec::new();
        peer.read_to_end(&mut seen).await.unwrap();
        peer.write_all(b"bye").await.unwrap();
        peer.shutdown().await.unwrap();
        seen.len()
    };
    let (heard, count, ()) = tokio::join!(talk, answer, join(a, b));
    assert_eq!((heard.as_slice(), count), (&b"bye"[..], 200));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_it_and_one_busy_side_keeps_it() {
    let ((mut app, a), (mut peer, b)) = (duplex(64), duplex(64));
    let busy = async {
        for _ in 0..10 {
            tokio::time::sleep(IDLE_AFTER / 2).await;
            app.write_all(b"x").await.unwrap();
            assert_eq!(peer.read_u8().await.unwrap(), b'x');
        }
        monotonic()
    };
    let (last, ended) = tokio::join!(busy, async {
        join(a, b).await;
        monotonic()
    });
    assert_eq!((ended - last).as_secs(), IDLE_AFTER.as_secs());
}
