//! What the log says of servers that repeat a fault: each cause once of each peer, and not a thousand
//! times. One test in a process of its own, like `hostile_logged`.

use std::io::Write;
use std::sync::{Arc, Mutex};
use xmpp_testkit::{Federated, Wire};

/// Times that each fault is repeated.
const TIMES: usize = 20;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Warnings of this text since the last look; all of them have to have this.
    #[track_caller]
    fn warnings(&self, text: &str, has: &[&str]) -> usize {
        let bytes = std::mem::take(&mut *self.0.lock().expect("the log"));
        let all = String::from_utf8_lossy(&bytes).into_owned();
        let lines = all.lines().filter(|line| line.contains("WARN"));
        let mut count = 0;
        for line in lines {
            assert!(line.contains(text), "{line}");
            assert!(has.iter().all(|has| line.contains(has)), "{line}");
            count += 1;
        }
        count
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn s2s_faults_are_logged_once_per_cause_and_peer() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    let all = Federated::with(["a.test"], |_, config| {
        config.limits.unauthenticated_max = 4
    })
    .await;
    log.warnings("", &[]);
    connections_of_strangers(&all, &log).await;
    stanzas(&all, &log, "c.test").await;
    stanzas(&all, &log, "d.test").await;
    connections_of_one_domain(&all, &log).await;
    too_many_at_once(&all, &log).await;
    let mut ann = all.online("ann@a.test/x").await;
    a_domain_that_is_not_there(&mut ann, &log).await;
}

async fn connections_of_strangers(all: &Federated, log: &Log) {
    for _ in 0..TIMES {
        let mut peer = all.caller("a.test", "c.test").await;
        peer.send_server_header("c.test").await;
        peer.expect_header().await;
        peer.expect_features().await;
        peer.send("<a></b>").await;
        peer.expect_stream_error("not-well-formed").await;
    }
    let has = ["not-well-formed", "peer=127.0.0.1"];
    assert_eq!(log.warnings("stream closed by us", &has), 1);
    // Another cause is news.
    let mut peer = all.caller("a.test", "c.test").await;
    peer.send_header().await;
    peer.expect_header_and_error("invalid-namespace").await;
    assert_eq!(
        log.warnings("stream closed by us", &["invalid-namespace"]),
        1
    );
}

async fn stanzas(all: &Federated, log: &Log, domain: &str) {
    let mut peer = all.server("a.test", domain).await;
    for number in 0..TIMES {
        peer.send(format!(
            "<message from='u@{domain}' to='no address@a.test' id='{number}'/>"
        ))
        .await;
    }
    peer.send(format!("<message from='u@{domain}' id='last'/>"))
        .await;
    peer.expect_stream_error("improper-addressing").await;
    let text = String::from_utf8_lossy(&log.0.lock().expect("the log")).into_owned();
    let warned = |text: &str, what| {
        let lines = text.lines().filter(|line| line.contains("WARN"));
        lines.filter(|line| line.contains(what)).count()
    };
    assert_eq!(warned(&text, "stanza refused"), 1, "{text}");
    assert_eq!(warned(&text, "improper-addressing"), 1, "{text}");
    log.warnings("", &[]);
}

async fn connections_of_one_domain(all: &Federated, log: &Log) {
    for _ in 0..TIMES {
        let mut peer = all.server("a.test", "e.test").await;
        peer.send("<message from='u@other.test' to='ann@a.test'/>")
            .await;
        peer.expect_stream_error("invalid-from").await;
    }
    assert_eq!(log.warnings("stream closed by us", &["invalid-from"]), 1);
}

async fn too_many_at_once(all: &Federated, log: &Log) {
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut peer = all.caller("a.test", "c.test").await;
        peer.send_server_header("c.test").await;
        peer.expect_header().await;
        held.push(peer);
    }
    for _ in 0..TIMES {
        all.caller("a.test", "c.test").await.expect_end().await;
    }
    assert_eq!(log.warnings("connection refused", &["127.0.0.1"]), 1);
}

async fn a_domain_that_is_not_there(ann: &mut Wire, log: &Log) {
    for number in 0..TIMES {
        ann.send(format!(
            "<message to='u@nowhere.test' id='{number}'><body>x</body></message>"
        ))
        .await;
        let error = ann.next_of("message").await;
        assert_eq!(error.attr("type"), Some("error"), "{error}");
    }
    assert_eq!(log.warnings("no link", &["nowhere.test"]), 1);
}
