//! Federated domains in a lab whose links are cut, held and delayed, and whose servers go down and
//! come back: what was sent arrives once and in its order.

use std::time::Duration;
use xmpp_testkit::lab::LabClient;
use xmpp_testkit::{LabError, TestLab};

async fn lab() -> TestLab {
    TestLab::new(["a.test", "b.test"]).await.expect("a lab")
}

/// The bodies of the next so many messages.
async fn bodies(client: &mut LabClient, count: usize) -> Result<Vec<String>, LabError> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let message = client.next_message().await?;
        let body = message.body().unwrap_or_default().to_owned();
        assert!(!message.is_error(), "{body} came back: {:?}", message.stanza);
        bodies.push(body);
    }
    Ok(bodies)
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn c6120_ro_a_message_waits_for_a_link_that_is_cut() -> Result<(), LabError> {
    let lab = lab().await;
    let mut ann = lab.client("ann@a.test/x").await?;
    let mut ben = lab.client("ben@b.test/x").await?;
    ann.send_message("ben@b.test/x", "0").await?;
    ben.send_message("ann@a.test/x", "0").await?;
    assert_eq!(bodies(&mut ben, 1).await?, ["0"]);
    assert_eq!(bodies(&mut ann, 1).await?, ["0"]);
    for link in lab.links("a.test", "b.test") {
        link.sever();
    }
    for number in numbers(1..5) {
        ann.send_message("ben@b.test/x", &number).await?;
        ben.send_message("ann@a.test/x", &number).await?;
    }
    for link in lab.links("a.test", "b.test") {
        link.mend();
    }
    assert_eq!(bodies(&mut ben, 4).await?, numbers(1..5));
    assert_eq!(bodies(&mut ann, 4).await?, numbers(1..5));
    let _ = Duration::ZERO;
    Ok(())
}
