//! End: SIGTERM and SIGINT drain, a second signal does not wait.

use crate::kit::{Ready, Temp, check_done, ready, user, user_with};
use crate::peer::{Peer, connect, header};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// DESIGN 1: a drain ends within this.
const DRAIN: Duration = Duration::from_secs(10);

fn with_account(temp: &Temp) -> Ready {
    let server = ready(&temp.data(), &[]);
    let added = user_with(
        &temp.data(),
        &["add", "ann@localhost", "--password-stdin"],
        "secret\n",
    );
    check_done(&added, "");
    server
}

fn sign_in(temp: &Temp, server: &Ready) -> Peer {
    let ca = temp.data().join("ca/ca.pem");
    Peer::sign_in(server.starttls(), &ca, "ann@localhost", "secret").unwrap()
}

#[track_caller]
fn check_farewell(text: &str) {
    assert!(text.contains("<system-shutdown"), "{text}");
    assert!(text.ends_with("</stream:stream>"), "{text}");
}

#[test]
fn sigterm_and_sigint_drain() {
    for signal in ["TERM", "INT"] {
        let temp = Temp::new();
        let server = with_account(&temp);
        let mut peer = sign_in(&temp, &server);
        server.process.signal(signal);
        check_farewell(&peer.until("</stream:stream>"));
        peer.send("</stream:stream>");
        assert_eq!(peer.rest(), "", "nothing behind the closing tag");
        drop(peer);
        let address = server.starttls();
        let (ended, took) = server.process.timed_end();
        assert_eq!(ended.code, Some(0), "{signal}: {ended:?}");
        assert!(took < DRAIN / 2, "{signal}: {took:?}");
        assert!(!ended.stderr.contains("in time"), "{ended:?}");
        assert!(TcpStream::connect(address).is_err(), "accepts no more");
        check_done(&user(&temp.data(), &["list"]), "ann@localhost\n");
    }
}

#[test]
fn a_peer_that_does_not_answer_holds_it_up_for_ten_seconds_at_most() {
    let temp = Temp::new();
    let server = with_account(&temp);
    let mut peer = sign_in(&temp, &server);
    server.process.signal("TERM");
    check_farewell(&peer.until("</stream:stream>"));
    let (ended, took) = server.process.timed_end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took <= DRAIN, "{took:?}");
    drop(peer);
}

#[test]
fn peers_that_have_not_signed_in_hold_it_up_for_ten_seconds_at_most() {
    let temp = Temp::new();
    let mut server = ready(&temp.data(), &["--log", "debug"]);
    let silent = connect(server.starttls());
    let no_handshake = connect(server.tls());
    let mut greeted = connect(server.starttls());
    greeted.write_all(header("localhost").as_bytes()).unwrap();
    for _ in 0..3 {
        server.process.log("connection accepted");
    }
    let mut seen = Vec::new();
    while !seen.ends_with(b"</stream:features>") {
        let mut byte = [0];
        assert_eq!(greeted.read(&mut byte).unwrap(), 1);
        seen.push(byte[0]);
    }
    server.process.signal("TERM");
    let mut text = String::new();
    greeted.read_to_string(&mut text).unwrap();
    check_farewell(&text);
    let (ended, took) = server.process.timed_end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took <= DRAIN, "{took:?}");
    drop((silent, no_handshake));
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let temp = Temp::new();
        let server = with_account(&temp);
        let mut peer = sign_in(&temp, &server);
        server.process.signal(first);
        // The drain waits for this peer's closing tag now.
        check_farewell(&peer.until("</stream:stream>"));
        server.process.signal(second);
        let (ended, took) = server.process.timed_end();
        assert_eq!(ended.code, Some(1), "{first} {second}: {ended:?}");
        assert!(took < DRAIN / 3, "{first} {second}: {took:?}");
        // What it left does not matter to the next start.
        ready(&temp.data(), &[]).stop();
    }
}

#[test]
fn a_signal_right_after_ready_drains() {
    let temp = Temp::new();
    for signal in ["TERM", "INT", "TERM", "INT"] {
        let server = ready(&temp.data(), &[]);
        server.process.signal(signal);
        let ended = server.process.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!temp.data().join("addresses.json").exists());
    }
}
