//! Federated domains in a lab whose links are cut, held and delayed, and whose servers go down and
//! come back: what was acknowledged arrives once and in its order.
//!
//! RFC 6120 section 10.4, XEP-0198; DESIGN 10.

use std::time::Duration;
use xmpp_server::config::Dialback;
use xmpp_testkit::lab::{LabClient, Variant};
use xmpp_testkit::{LabError, Relay, TestLab};

async fn lab() -> TestLab {
    TestLab::new(["a.test", "b.test"]).await.expect("a lab")
}

/// The bodies of the next so many messages; none may be an error.
async fn bodies(client: &mut LabClient, count: usize) -> Result<Vec<String>, LabError> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let message = client.next_message().await?;
        assert!(!message.is_error(), "it came back: {:?}", message.stanza);
        bodies.push(message.body().unwrap_or_default().to_owned());
    }
    Ok(bodies)
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Ann and ben have talked: both links are up.
async fn talking(lab: &TestLab) -> Result<(LabClient, LabClient), LabError> {
    let mut ann = lab.client("ann@a.test/x").await?;
    let mut ben = lab.client("ben@b.test/x").await?;
    ann.send_message("ben@b.test/x", "hello").await?;
    assert_eq!(bodies(&mut ben, 1).await?, ["hello"]);
    ben.send_message("ann@a.test/x", "hello").await?;
    assert_eq!(bodies(&mut ann, 1).await?, ["hello"]);
    Ok((ann, ben))
}

/// Nothing more has come: what is sent now is the next to arrive.
async fn nothing_more(from: &LabClient, to: &mut LabClient) -> Result<(), LabError> {
    let there = to.jid();
    from.send_message(there.as_str(), "the last").await?;
    assert_eq!(bodies(to, 1).await?, ["the last"]);
    Ok(())
}

#[tokio::test]
async fn a_message_waits_for_a_link_that_is_cut() -> Result<(), LabError> {
    let lab = lab().await;
    let (mut ann, mut ben) = talking(&lab).await?;
    for link in lab.links("a.test", "b.test") {
        link.sever();
    }
    for number in numbers(0..5) {
        ann.send_message("ben@b.test/x", &number).await?;
        ben.send_message("ann@a.test/x", &number).await?;
    }
    for link in lab.links("a.test", "b.test") {
        link.mend();
    }
    assert_eq!(bodies(&mut ben, 5).await?, numbers(0..5));
    assert_eq!(bodies(&mut ann, 5).await?, numbers(0..5));
    nothing_more(&ann, &mut ben).await?;
    nothing_more(&ben, &mut ann).await
}

/// The link is cut in the middle of whatever it carries, several times, while 10,000 messages flow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_over_a_link_that_is_killed() -> Result<(), LabError> {
    const COUNT: usize = 10_000;
    const CUTS: usize = 6;
    let lab = lab().await;
    let (ann, mut ben) = talking(&lab).await?;
    // Whichever carries them: a stream may be used both ways.
    let links = lab.links("a.test", "b.test");
    let sending = tokio::spawn(async move {
        for number in numbers(0..COUNT) {
            ann.send_message("ben@b.test/x", &number)
                .await
                .expect("sent");
        }
        ann
    });
    let mut got = Vec::new();
    for cut in 1..=CUTS {
        // Within the bytes of one message, each time elsewhere in it.
        for link in &links {
            link.cut_after(37 * cut as u64);
        }
        let until = COUNT * cut / (CUTS + 1);
        got.extend(bodies(&mut ben, until - got.len()).await?);
    }
    got.extend(bodies(&mut ben, COUNT - got.len()).await?);
    let wrong = got
        .iter()
        .zip(numbers(0..COUNT))
        .find(|(got, is)| *got != is);
    assert_eq!(wrong, None, "the first that is not in order");
    let ann = sending.await.expect("a sender");
    nothing_more(&ann, &mut ben).await?;
    let connections: usize = links.iter().map(Relay::accepted).sum();
    assert!(connections > CUTS, "{connections} connections");
    Ok(())
}

/// Whatever the sender's server has acknowledged survives its end, in order or not.
#[tokio::test]
async fn acknowledged_messages_survive_the_senders_server() -> Result<(), LabError> {
    for in_order in [true, false] {
        let lab = lab().await;
        let (ann, mut ben) = talking(&lab).await?;
        lab.link("a.test", "b.test").sever();
        for number in numbers(0..100) {
            ann.send_acked_message("ben@b.test/x", &number).await?;
        }
        match in_order {
            true => lab.stop("a.test").await,
            false => lab.kill("a.test"),
        }
        lab.link("a.test", "b.test").mend();
        lab.start("a.test").await?;
        assert_eq!(
            bodies(&mut ben, 100).await?,
            numbers(0..100),
            "in order: {in_order}"
        );
        let ann = lab.client("ann@a.test/x").await?;
        nothing_more(&ann, &mut ben).await?;
    }
    Ok(())
}

/// The recipient's server is killed and comes back: what was sent meanwhile waits, and what waited
/// there was kept.
#[tokio::test]
async fn messages_wait_for_a_server_that_comes_back() -> Result<(), LabError> {
    for in_order in [true, false] {
        let lab = lab().await;
        let (ann, ben) = talking(&lab).await?;
        drop(ben);
        match in_order {
            true => lab.stop("b.test").await,
            false => lab.kill("b.test"),
        }
        for number in numbers(0..20) {
            ann.send_acked_message("ben@b.test", &number).await?;
        }
        lab.start("b.test").await?;
        let mut ben = lab.client("ben@b.test/x").await?;
        assert_eq!(
            bodies(&mut ben, 20).await?,
            numbers(0..20),
            "in order: {in_order}"
        );
        nothing_more(&ann, &mut ben).await?;
    }
    Ok(())
}

/// A link that stands still loses nothing, and nobody is told.
#[tokio::test]
async fn what_a_link_holds_comes_in_its_order() -> Result<(), LabError> {
    let lab = lab().await;
    let (ann, mut ben) = talking(&lab).await?;
    let link = lab.link("a.test", "b.test");
    link.hold();
    for number in numbers(0..200) {
        ann.send_message("ben@b.test/x", &number).await?;
    }
    link.release();
    assert_eq!(bodies(&mut ben, 200).await?, numbers(0..200));
    nothing_more(&ann, &mut ben).await?;
    assert_eq!(link.accepted(), 1);
    Ok(())
}

/// Bytes that change places cost a connection and nothing else.
#[tokio::test]
async fn bytes_out_of_order_cost_a_connection() -> Result<(), LabError> {
    let lab = lab().await;
    let (ann, mut ben) = talking(&lab).await?;
    let link = lab.link("a.test", "b.test");
    link.reorder();
    for number in numbers(0..50) {
        ann.send_message("ben@b.test/x", &number).await?;
    }
    assert_eq!(bodies(&mut ben, 50).await?, numbers(0..50));
    nothing_more(&ann, &mut ben).await?;
    assert_eq!(link.accepted(), 2);
    Ok(())
}

/// A certificate that expires does not end a link that is up; a new one is refused with the reason,
/// until the certificate is renewed. Where dialback is allowed it would do instead.
#[tokio::test]
async fn ats_ce_06_a_certificate_expires_in_the_middle() -> Result<(), LabError> {
    let lab = TestLab::builder().domains(["a.test", "b.test"]);
    let lab = lab.config(|config| config.s2s.dialback = Dialback::Never);
    let lab = lab.start().await?;
    let (mut ann, mut ben) = talking(&lab).await?;
    lab.show_certificate("b.test", Some(Variant::Expired));
    ann.send_message("ben@b.test/x", "over the old link")
        .await?;
    assert_eq!(bodies(&mut ben, 1).await?, ["over the old link"]);
    lab.restart("a.test").await?;
    let again = lab.client("ann@a.test/x").await?;
    drop(std::mem::replace(&mut ann, again));
    ann.send_message("ben@b.test/x", "over a new one").await?;
    let answer = ann.next_message().await;
    let answer = answer.unwrap_or_else(|_| panic!("{:?}", lab.handle().core().list_links(None)));
    assert!(answer.is_error(), "{answer:?}");
    let mut xml = Vec::new();
    answer.stanza.write(&mut xml);
    let xml = String::from_utf8(xml).expect("text");
    assert!(xml.contains("expired on "), "{xml}");
    lab.show_certificate("b.test", None);
    lab.restart("a.test").await?;
    let ann = lab.client("ann@a.test/x").await?;
    nothing_more(&ann, &mut ben).await
}

/// The same in memory on a clock that the test moves: nothing but the delay passes.
#[tokio::test(start_paused = true)]
async fn a_slow_link_between_servers_is_only_slow() -> Result<(), LabError> {
    let lab = TestLab::in_memory(["a.test", "b.test"]).await?;
    let (ann, mut ben) = talking(&lab).await?;
    lab.link("a.test", "b.test").delay(Duration::from_secs(3));
    let start = tokio::time::Instant::now();
    ann.send_message("ben@b.test/x", "slow").await?;
    assert_eq!(bodies(&mut ben, 1).await?, ["slow"]);
    assert_eq!(start.elapsed().as_secs(), 3);
    Ok(())
}

/// Every pair of four domains both ways, by full address and in one process.
#[tokio::test]
async fn every_pair_of_domains_talks_both_ways() -> Result<(), LabError> {
    let domains = ["a.test", "b.test", "c.test", "d.test"];
    let lab = TestLab::new(domains).await?;
    let mut clients = Vec::new();
    for domain in domains {
        clients.push(lab.client(&format!("ann@{domain}/x")).await?);
    }
    for from in domains {
        for to in domains.iter().filter(|to| **to != from) {
            let at = domains.iter().position(|one| *one == from).expect("it");
            let body = format!("{from} to {to}");
            clients[at]
                .send_message(&format!("ann@{to}/x"), &body)
                .await?;
        }
    }
    for (client, to) in clients.iter_mut().zip(domains) {
        let mut got = bodies(client, domains.len() - 1).await?;
        got.sort();
        let expected = domains.iter().filter(|from| **from != to);
        let expected: Vec<String> = expected.map(|from| format!("{from} to {to}")).collect();
        assert_eq!(got, expected);
    }
    Ok(())
}
