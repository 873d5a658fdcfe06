//! What is on its way to another domain is neither lost nor doubled: lost links, servers that end.

use xmpp_testkit::{Federated, Wire};

/// Sends messages and waits until the server has them.
async fn send(ann: &mut Wire, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let id = format!("m{number}");
        ann.send(format!(
            "<message to='ben@b.test/y' type='chat' id='{id}'><body>{number}</body></message>"
        ))
        .await;
    }
}

/// The ids of the next messages, all of them.
async fn receive(ben: &mut Wire, count: u32) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count as usize {
        let message = ben.next_of("message").await;
        ids.push(message.attr("id").unwrap_or_default().to_owned());
    }
    ids
}

fn ids(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("m{number}")).collect()
}

#[tokio::test]
async fn x0198_a_cut_link_loses_nothing_and_doubles_nothing() {
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    let count = 600;
    send(&mut ann, 0..1).await;
    let mut got = receive(&mut ben, 1).await;
    let sending = async {
        for cut in 0..6 {
            send(&mut ann, (cut * 100).max(1)..(cut + 1) * 100).await;
            all.link_to("b.test").cut();
        }
    };
    let (more, ()) = tokio::join!(receive(&mut ben, count - 1), sending);
    got.extend(more);
    assert_eq!(got, ids(0..count));
    ben.barrier().await;
    assert!(all.link_to("b.test").accepted() > 1);
}

/// The sending server ends without a word while messages wait for the other one's answer.
#[tokio::test]
async fn messages_are_sent_again_after_a_kill_once() {
    let mut all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    send(&mut ann, 0..10).await;
    assert_eq!(receive(&mut ben, 10).await, ids(0..10));
    // Nothing comes through, yet the link is there: what is sent now is in the store alone.
    all.link_to("b.test").hold();
    send(&mut ann, 10..30).await;
    ann.barrier_among_others().await;
    all.kill("a.test");
    all.link_to("b.test").sever();
    all.link_to("b.test").release();
    all.link_to("b.test").mend();
    all.start("a.test").await;
    assert_eq!(receive(&mut ben, 20).await, ids(10..30));
    // And nothing twice, the first ten neither, whether or not they were known to be taken.
    ben.barrier().await;
    all.stop("a.test").await;
    all.start("a.test").await;
    let mut cat = all.online("cat@a.test/x").await;
    cat.send("<message to='ben@b.test/y' type='chat' id='last'><body>.</body></message>")
        .await;
    assert_eq!(receive(&mut ben, 1).await, ["last"]);
}

/// The receiving server ends without a word: what it had acknowledged is with it, the rest comes.
#[tokio::test]
async fn messages_wait_for_a_server_that_was_killed() {
    let mut all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let ben = all.online("ben@b.test/y").await;
    drop(ben);
    send(&mut ann, 0..5).await;
    all.until_links("a.test", |lines| {
        lines
            .iter()
            .any(|line| line.starts_with("a.test -> b.test\tup") && line.contains("\t0 stanzas"))
    })
    .await;
    all.kill("b.test");
    send(&mut ann, 5..10).await;
    all.start("b.test").await;
    let mut ben = all.online("ben@b.test/y").await;
    let mut got = receive(&mut ben, 10).await;
    got.sort_by_key(|id| id[1..].parse::<u32>().expect("a number"));
    assert_eq!(got, ids(0..10));
    ben.barrier_among_others().await;
}

/// A message that nobody can take yet waits at its recipient's server, as a local one does.
#[tokio::test]
async fn c6121_of_messages_wait_for_whoever_is_away() {
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    drop(all.wire("ben@b.test/y").await);
    ann.send("<message to='ben@b.test' type='chat' id='m1'><body>1</body></message>")
        .await;
    all.until_links("a.test", |lines| {
        lines
            .iter()
            .any(|line| line.starts_with("a.test -> b.test\tup") && line.contains("\t0 stanzas"))
    })
    .await;
    let mut ben = all.wire("ben@b.test/y").await;
    ben.send("<presence/>").await;
    assert_eq!(receive(&mut ben, 1).await, ["m1"]);
}
