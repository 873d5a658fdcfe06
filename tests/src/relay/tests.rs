//! What each fault does to the bytes, in memory and with a clock that the test moves.

use super::*;
use crate::lab::Net;
use tokio::io::DuplexStream;

/// A relay with both ends of one connection through it.
async fn pair() -> (Relay, DuplexStream, DuplexStream) {
    let net = Net::default();
    let (at, mut arrivals) = net.listen_any();
    let relay = Relay::new(at, net.dialer());
    let (near, end) = tokio::io::duplex(PIECE_BYTES);
    tokio::spawn(relay.clone().carry(end));
    let far = arrivals.recv().await.expect("a connection");
    (relay, near, far.stream)
}

async fn read(from: &mut DuplexStream, len: usize) -> String {
    let mut buffer = vec![0; len];
    from.read_exact(&mut buffer).await.expect("so many bytes");
    String::from_utf8(buffer).expect("text")
}

async fn rest(from: &mut DuplexStream) -> String {
    let mut rest = String::new();
    let _ = from.read_to_string(&mut rest).await;
    rest
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_and_are_counted() {
    let (relay, mut near, mut far) = pair().await;
    near.write_all(b"there").await.unwrap();
    assert_eq!(read(&mut far, 5).await, "there");
    far.write_all(b"back").await.unwrap();
    assert_eq!(read(&mut near, 4).await, "back");
    assert_eq!((relay.accepted(), relay.bytes()), (1, 9));
    drop(near);
    assert_eq!(rest(&mut far).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_both_sides_and_new_connections_are_made() {
    let (relay, mut near, mut far) = pair().await;
    relay.cut();
    assert_eq!(
        (rest(&mut near).await, rest(&mut far).await),
        (String::new(), String::new())
    );
    assert_eq!(relay.condition(), "up");
    relay.sever();
    assert_eq!(relay.condition(), "cut");
    let (mut near, end) = tokio::io::duplex(9);
    relay.clone().carry(end).await;
    assert_eq!(rest(&mut near).await, "");
    assert_eq!(relay.accepted(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_the_middle_lets_so_many_bytes_through() {
    let (relay, mut near, mut far) = pair().await;
    relay.cut_after(3);
    near.write_all(b"there").await.unwrap();
    assert_eq!(rest(&mut far).await, "the");
    assert_eq!(rest(&mut near).await, "");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_comes_in_its_order_on_release() {
    let (relay, mut near, mut far) = pair().await;
    relay.hold();
    near.write_all(b"one").await.unwrap();
    near.write_all(b"two").await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_secs(3600), read(&mut far, 1)).await;
    assert!(nothing.is_err());
    relay.release();
    assert_eq!(read(&mut far, 6).await, "onetwo");
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_of_each_way_and_keeps_the_order() {
    let (relay, mut near, mut far) = pair().await;
    relay.delay(Duration::from_millis(40));
    let start = Instant::now();
    near.write_all(b"there").await.unwrap();
    assert_eq!(read(&mut far, 5).await, "there");
    assert_eq!(start.elapsed().as_millis(), 40);
    far.write_all(b"back").await.unwrap();
    assert_eq!(read(&mut near, 4).await, "back");
    assert_eq!(start.elapsed().as_millis(), 80);
    relay.mend();
    near.write_all(b"there").await.unwrap();
    assert_eq!(read(&mut far, 5).await, "there");
    assert_eq!(start.elapsed().as_millis(), 80);
}

#[tokio::test(start_paused = true)]
async fn two_pieces_change_places_once() {
    let (relay, mut near, mut far) = pair().await;
    relay.reorder();
    for piece in ["1", "2", "3"] {
        near.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(read(&mut far, 3).await, "213");
}
