//! What `TestLab` promises: accounts on demand, links that fail, servers that come back with what
//! they had, certificates that are to be refused, a clock that is moved, names that resolve.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use xmpp_client::{ConnectError, Reconnect, XmppClient};
use xmpp_server::store::Crash;
use xmpp_testkit::TestLab;
use xmpp_testkit::lab::{LabError, Variant};

#[tokio::test]
async fn two_clients_talk_in_five_lines() {
    let lab = TestLab::new(["a.test"]).await.expect("a lab");
    let ann = lab.client("ann@a.test").await.expect("a client");
    let mut ben = lab.client("ben@a.test").await.expect("a client");
    ann.send_message("ben@a.test", "hi").await.expect("sent");
    let message = ben.next_message().await.expect("a message");
    assert_eq!(message.body(), Some("hi"));
    assert_eq!(message.from(), Some(ann.jid().as_str()));
}

/// Without a socket the paused clock moves only when everybody waits, and by as much as asked.
#[tokio::test(start_paused = true)]
async fn the_clock_is_one_and_is_moved_by_hand() {
    let lab = TestLab::in_memory(["a.test"]).await.expect("a lab");
    let ann = lab.client("ann@a.test").await.expect("a client");
    let (then, wall) = (Instant::now(), lab.clock().unix_secs());
    lab.advance(Duration::from_secs(3600)).await;
    assert!(then.elapsed() >= Duration::from_secs(3600));
    assert_eq!(
        lab.handle().core().clock.unix_secs(),
        lab.clock().unix_secs()
    );
    assert!((3600..3602).contains(&(lab.clock().unix_secs() - wall)));
    // A message for somebody who is away is stamped by that clock.
    lab.account("ben@a.test").await;
    ann.send_message("ben@a.test", "later").await.expect("sent");
    let stamp = lab.clock().stamp();
    lab.advance(Duration::from_secs(60)).await;
    let mut ben = lab.client("ben@a.test").await.expect("a client");
    let message = ben.next_message().await.expect("a message");
    let delay = {
        let mut xml = Vec::new();
        message.stanza.write(&mut xml);
        String::from_utf8(xml).expect("text")
    };
    assert!(delay.contains(&stamp[..16]), "{delay}: not of {stamp}");
}

#[tokio::test]
async fn a_cut_link_ends_a_client_and_another_one_stays() {
    let lab = TestLab::new(["a.test"]).await.expect("a lab");
    let mut ann = lab.client("ann@a.test/x").await.expect("a client");
    let mut ben = lab.staying_client("ben@a.test/x").await.expect("a client");
    lab.link("ann@a.test/x", "a.test").cut();
    assert!(matches!(ann.next_message().await, Err(LabError::Closed)));
    let link = lab.link("ben@a.test/x", "a.test");
    link.cut();
    let cat = lab.client("cat@a.test").await.expect("a client");
    cat.send_message("ben@a.test", "still there?")
        .await
        .expect("sent");
    let message = ben.next_message().await.expect("a message");
    assert_eq!(message.body(), Some("still there?"));
    assert_eq!(link.accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_link_takes_its_time() {
    let lab = TestLab::in_memory(["a.test"]).await.expect("a lab");
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    let mut ben = lab.client("ben@a.test/x").await.expect("a client");
    lab.link("ben@a.test/x", "a.test")
        .delay(Duration::from_secs(2));
    let start = Instant::now();
    ann.send_message("ben@a.test/x", "slow")
        .await
        .expect("sent");
    assert_eq!(ben.next_message().await.expect("it").body(), Some("slow"));
    assert_eq!(start.elapsed().as_secs(), 2);
}

/// TLS notices bytes out of order: the client's connection is lost, nothing else.
#[tokio::test]
async fn bytes_out_of_order_cost_the_connection() {
    let lab = TestLab::new(["a.test"]).await.expect("a lab");
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    let mut ben = lab.client("ben@a.test/x").await.expect("a client");
    lab.link("ben@a.test/x", "a.test").reorder();
    for number in 0..100 {
        let sent = ann.send_message("ben@a.test/x", &number.to_string()).await;
        sent.expect("sent");
    }
    let mut next = 0;
    while let Ok(message) = ben.next_message().await {
        assert_eq!(
            message.body(),
            Some(&*next.to_string()),
            "order is kept until the end"
        );
        next += 1;
    }
    assert!(next < 100);
}

#[tokio::test]
async fn a_server_comes_back_with_what_it_had() {
    let lab = TestLab::new(["a.test"]).await.expect("a lab");
    let place = lab.place("a.test").address;
    for in_order in [true, false] {
        let ann = lab.client("ann@a.test").await.expect("a client");
        lab.account("ben@a.test").await;
        let message = xmpp_client::Stanza::chat("ben@a.test", "kept").expect("a stanza");
        ann.send_acked(message).await.expect("acknowledged");
        match in_order {
            true => lab.restart("a.test").await.expect("a server"),
            false => {
                lab.kill("a.test");
                lab.start("a.test").await.expect("a server");
            }
        }
        assert_eq!(lab.place("a.test").address, place);
        let mut ben = lab.client("ben@a.test").await.expect("a client");
        let message = ben.next_message().await.expect("a message");
        assert_eq!(message.body(), Some("kept"), "in order: {in_order}");
    }
}

#[tokio::test]
async fn a_store_fails_and_crashes_on_demand() {
    let lab = TestLab::new(["a.test"]).await.expect("a lab");
    let mut ann = lab.client("ann@a.test").await.expect("a client");
    lab.account("ben@a.test").await;
    lab.memory_of("a.test").fail_next(1);
    ann.send_message("ben@a.test", "lost").await.expect("sent");
    let answer = ann.next_message().await.expect("an error");
    assert!(answer.is_error());
    lab.memory_of("a.test").crash_at(1, Crash::AfterCommit);
    ann.send_message("ben@a.test", "kept").await.expect("sent");
    lab.memory_of("a.test").crashed().await;
    lab.kill("a.test");
    lab.start("a.test").await.expect("a server");
    let mut ben = lab.client("ben@a.test").await.expect("a client");
    let message = ben.next_message().await.expect("a message");
    assert_eq!(message.body(), Some("kept"));
}

#[tokio::test]
async fn certificates_that_are_to_be_refused_are_until_they_are_good_again() {
    let lab = TestLab::new(["a.test"]).await.expect("a lab");
    for variant in [Variant::Expired, Variant::OtherCa, Variant::WrongName] {
        lab.show_certificate("a.test", Some(variant));
        let refused = lab.client("ann@a.test").await.err();
        let refused = refused.unwrap_or_else(|| panic!("{variant:?} was taken"));
        let LabError::Connect(ConnectError::Unreachable(tried)) = refused else {
            panic!("{variant:?}: {refused}");
        };
        let last = tried.furthest().expect("an attempt");
        assert!(
            matches!(last.error, ConnectError::Certificate(..)),
            "{last:?}"
        );
    }
    // What was said outlives a restart.
    lab.restart("a.test").await.expect("a server");
    assert!(lab.client("ann@a.test").await.is_err());
    lab.show_certificate("a.test", None);
    lab.client("ann@a.test").await.expect("a client");
}

#[tokio::test]
async fn domains_are_found_by_a_name_server_and_in_memory() {
    let lab = TestLab::new(["a.test"]).await.expect("a lab");
    let names = lab.name_server().await.expect("a name server");
    let password = lab.account("ann@a.test").await;
    let builder = |resource: &str| {
        XmppClient::builder(&format!("ann@a.test/{resource}"))
            .password(&password)
            .ca_pem(lab.ca_pem())
            .reconnect(Reconnect::never())
    };
    let asking = builder("asking").name_servers(&[names.address]);
    asking.connect().await.expect("a client");
    let zone = lab.zone().shared();
    let dns = Arc::clone(&zone);
    builder("told").dns(dns).connect().await.expect("a client");
    let asked = zone.asked();
    assert!(
        asked.contains(&"_xmpps-client._tcp.a.test".into()),
        "{asked:?}"
    );
}

/// A lab starts in under 50 ms because of what it does not do: no file but the one that programs ask
/// for, no data directory, the least iterations that clients accept, one authority for all servers.
#[tokio::test]
async fn a_lab_writes_nothing_and_derives_no_more_than_it_must() {
    let lab = TestLab::new(["a.test", "b.test"]).await.expect("a lab");
    let settings = lab.handle().core().settings();
    assert_eq!(settings.config.sasl.scram_iterations, 4096);
    assert_eq!(settings.config.data_dir, None);
    let file = lab.ca_file();
    assert_eq!(
        std::fs::read_to_string(&file).expect("a file"),
        lab.ca_pem()
    );
    drop(lab);
    assert!(!file.exists());
}
