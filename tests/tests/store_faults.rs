//! A store that hangs, is full or goes down under a server in use (DESIGN 10): who is connected
//! talks on, whoever cannot be helped is told, and what was kept is there at the next start.

use std::sync::Arc;

use xmpp_server::store::{MemoryStore, Store};
use xmpp_testkit::TestLab;
use xmpp_testkit::wire::Wire;

/// A store whose faults are at hand.
fn store() -> (Arc<MemoryStore>, Store) {
    let Store::Memory(memory) = Store::memory() else {
        unreachable!("it is one")
    };
    (Arc::clone(&memory), Store::Memory(memory))
}

async fn lab(store: Store) -> TestLab {
    let lab = TestLab::with(["a.test"], |config| config.store = Some(store));
    lab.await.expect("a server")
}

async fn online(lab: &TestLab, jid: &str) -> Wire {
    let mut wire = lab.wire(jid).await;
    wire.send("<presence/>").await;
    wire.next().await;
    wire
}

fn chat(to: &str, id: &str) -> String {
    format!("<message to='{to}' type='chat' id='{id}'><body>hi</body></message>")
}

#[tokio::test]
async fn who_is_connected_talks_on_while_the_store_hangs() {
    let (memory, store) = store();
    let lab = lab(store).await;
    let mut ann = online(&lab, "ann@a.test/r").await;
    let mut ben = online(&lab, "ben@a.test/r").await;
    memory.hold();
    for id in ["1", "2"] {
        ann.send(chat("ben@a.test", id)).await;
        let got = ben.next().await;
        assert_eq!(got.attr("id"), Some(id));
        ben.send(chat(ann.jid(), id)).await;
        let got = ann.next().await;
        assert_eq!(got.attr("id"), Some(id));
    }
    memory.release();
}

#[tokio::test]
async fn a_message_that_cannot_be_kept_comes_back() {
    let (memory, store) = store();
    let lab = lab(store).await;
    lab.account("ben@a.test").await;
    let mut ann = online(&lab, "ann@a.test/r").await;
    memory.set_full(true);
    ann.send(chat("ben@a.test", "1")).await;
    let error = ann.next().await;
    assert_eq!(
        (error.attr("type"), error.attr("id")),
        (Some("error"), Some("1"))
    );
    memory.set_full(false);
    ann.send(chat("ben@a.test", "2")).await;
    ann.barrier().await;
    let mut ben = lab.wire("ben@a.test/r").await;
    // What waits comes before whatever is live, the echo of this presence included.
    ben.send("<presence/>").await;
    assert_eq!(ben.next().await.attr("id"), Some("2"));
}

#[tokio::test]
async fn what_was_kept_is_there_when_a_server_starts_after_a_crash() {
    let (memory, store) = store();
    let first = lab(store).await;
    first.account("ben@a.test").await;
    let mut ann = online(&first, "ann@a.test/r").await;
    for id in ["1", "2", "3"] {
        ann.send(chat("ben@a.test", id)).await;
    }
    ann.barrier().await;
    let second = lab(memory.reopen()).await;
    let mut ben = second.wire("ben@a.test/r").await;
    ben.send("<presence/>").await;
    for id in ["1", "2", "3"] {
        assert_eq!(ben.next().await.attr("id"), Some(id));
    }
}
