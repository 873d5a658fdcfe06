//! What operators see and do through the control socket of a running server: sessions, counters.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use xmpp_server::admin::{self, Admin, AdminError, Request};
use xmpp_server::config::Config;
use xmpp_server::import::{ImportedAccount, KeyText, Outcome};
use xmpp_server::metrics::Sample;
use xmpp_server::sessions::Listed;
use xmpp_server::watch::{Shown, Way};
use xmpp_stream::ns;
use xmpp_stream::stream::{ScramHash, StoredKeys};
use xmpp_testkit::TestLab;

/// A lab with a control socket, in a folder that goes with it.
struct Operated {
    lab: TestLab,
    config: Config,
    path: PathBuf,
}

impl Drop for Operated {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Operated {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("xmpp-operators-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let lab = TestLab::with(["a.test"], |config| {
            config.data_dir = Some(path.clone());
            change(config);
        });
        let lab = lab.await.expect("a server");
        let config = Config::default_zero().in_dir(&path);
        Self { lab, config, path }
    }

    async fn sessions(&self) -> Vec<Listed> {
        let listed = admin::request(&self.config, Request::SessionList).await;
        listed.expect("an answer")
    }

    async fn kick(&self, jid: &str) -> Result<(), AdminError> {
        let jid = jid.to_owned();
        let kicked = admin::request::<serde_json::Value>;
        kicked(&self.config, Request::SessionKick { jid })
            .await
            .map(drop)
    }

    /// The value of a counter.
    async fn counted(&self, name: &str, label: &str) -> u64 {
        let samples = admin::request::<Sample>(&self.config, Request::Stats).await;
        let samples = samples.expect("an answer");
        let sample = samples.iter().find(|sample| sample.name == name);
        let values = &sample.unwrap_or_else(|| panic!("{name}")).values;
        let value = values.iter().find(|(value, _)| value == label);
        value.unwrap_or_else(|| panic!("{name} {label}")).1
    }

    /// Watches; what is shown comes through the channel, which ends with the watch.
    async fn watch(
        &self,
        jid: &str,
    ) -> (
        mpsc::UnboundedReceiver<Shown>,
        JoinHandle<Result<(), AdminError>>,
    ) {
        let request = Request::SessionWatch { jid: jid.into() };
        let mut admin = Admin::open(&self.config, &request).await.expect("a socket");
        let (sender, receiver) = mpsc::unbounded_channel();
        let watching = tokio::spawn(async move {
            let show = |shown| {
                let _ = sender.send(shown);
                Ok(())
            };
            admin.follow(&request, show).await
        });
        (receiver, watching)
    }
}

#[tokio::test]
async fn sessions_are_listed_with_what_is_known_of_them() {
    let operated = Operated::new(|_| ()).await;
    let lab = &operated.lab;
    assert_eq!(operated.sessions().await, []);
    let mut ann = lab.wire("ann@a.test/x").await;
    let password = lab.account("ben@a.test").await;
    let mut ben = lab.raw_tls("a.test").await;
    ben.login_plain("ben", &password, "y").await;
    ann.presence("<priority>7</priority>").await;
    let [of_ann, of_ben] = &operated.sessions().await[..] else {
        panic!("two sessions");
    };
    assert_eq!(
        (&*of_ann.jid, &*of_ben.jid),
        ("ann@a.test/x", "ben@a.test/y")
    );
    assert_eq!((of_ann.available, of_ann.priority), (true, 7));
    assert_eq!((of_ben.available, of_ben.priority), (false, 0));
    assert_eq!(
        (&*of_ann.mechanism, &*of_ben.mechanism),
        ("SCRAM-SHA-256", "PLAIN")
    );
    for listed in [of_ann, of_ben] {
        assert_eq!(listed.tls.as_deref(), Some("TLSv1.3"));
        assert!(listed.peer.starts_with("127.0.0.1:"), "{}", listed.peer);
        assert!(listed.since.as_str() > "2025" && listed.since.ends_with('Z'));
        assert_eq!((listed.queue_items, listed.queue_bytes), (0, 0));
    }
    ben.close().await;
    // The end of the stream comes before the end of the session; a barrier of another does not help.
    while operated.sessions().await.len() > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn sessions_are_kicked_alone_or_with_the_whole_account() {
    let operated = Operated::new(|_| ()).await;
    let lab = &operated.lab;
    let mut x = lab.wire("ann@a.test/x").await;
    let mut y = lab.wire("ann@a.test/y").await;
    let mut z = lab.wire("ann@a.test/z").await;
    let mut ben = lab.wire("ben@a.test/x").await;
    operated.kick("ann@a.test/y").await.expect("kicked");
    y.expect_stream_error("policy-violation").await;
    x.barrier().await;
    operated.kick("ann@a.test").await.expect("kicked");
    x.expect_stream_error("policy-violation").await;
    z.expect_stream_error("policy-violation").await;
    ben.barrier().await;
    for nobody in [
        "ann@a.test",
        "ann@a.test/x",
        "cat@a.test",
        "ben@a.test/y",
        "@",
    ] {
        let error = operated.kick(nobody).await.expect_err(nobody);
        assert_eq!(error.to_string(), "there is no such session", "{nobody}");
    }
    assert_eq!(operated.sessions().await.len(), 1);
}

/// Which way, whose, and what is in the body.
fn short(shown: &Shown) -> String {
    match shown {
        Shown::Stanza { way, jid, xml, .. } => {
            let way = match way {
                Way::In => "<",
                Way::Out => ">",
            };
            let body = xml
                .split("<body>")
                .nth(1)
                .and_then(|xml| xml.split('<').next());
            format!("{way} {jid} {}", body.unwrap_or(xml))
        }
        other => other.text(),
    }
}

#[tokio::test]
async fn a_watch_shows_both_ways_of_an_account_or_a_session() {
    let operated = Operated::new(|_| ()).await;
    let lab = &operated.lab;
    let mut ann = lab.wire("ann@a.test/x").await;
    let mut other = lab.wire("ann@a.test/y").await;
    let mut ben = lab.wire("ben@a.test/z").await;
    let tap = lab.handle().core().tap.clone();
    let (mut account, watching_account) = operated.watch("ann@a.test").await;
    let (mut session, watching_session) = operated.watch("ann@a.test/x").await;
    while tap.watchers() < 2 {
        tokio::task::yield_now().await;
    }
    ann.send("<message to='ben@a.test/z'><body>one</body></message>")
        .await;
    ben.next().await;
    ben.send("<message to='ann@a.test/x'><body>two</body></message>")
        .await;
    ann.next().await;
    ben.send("<message to='ann@a.test/y'><body>three</body></message>")
        .await;
    other.next().await;
    let (one, two) = ("< ann@a.test/x one", "> ann@a.test/x two");
    for wanted in [one, two, "> ann@a.test/y three"] {
        assert_eq!(short(&account.recv().await.expect("shown")), wanted);
    }
    for wanted in [one, two] {
        assert_eq!(short(&session.recv().await.expect("shown")), wanted);
    }
    ann.close().await;
    let ended = session.recv().await.expect("the end");
    assert_eq!(short(&ended), "ann@a.test/x ended");
    watching_session
        .await
        .expect("no panic")
        .expect("an end in order");
    // Whoever watches goes away.
    watching_account.abort();
    while tap.watchers() > 0 {
        tokio::task::yield_now().await;
    }
    let (_, watching) = operated.watch("ann@a.test/x").await;
    let error = watching.await.expect("no panic").expect_err("no session");
    assert_eq!(error.to_string(), "there is no such session");
    let (_, watching) = operated.watch("cat@a.test").await;
    watching.await.expect("no panic").expect_err("no account");
}

#[tokio::test]
async fn a_watcher_that_does_not_read_slows_nobody_and_is_told() {
    let operated = Operated::new(|config| config.limits.watch_stanzas_max = 10).await;
    let lab = &operated.lab;
    let mut ann = lab.wire("ann@a.test/x").await;
    let tap = lab.handle().core().tap.clone();
    let request = Request::SessionWatch {
        jid: "ann@a.test/x".into(),
    };
    let mut admin = Admin::open(&operated.config, &request)
        .await
        .expect("a socket");
    // Shown nothing until told to go on: the socket fills.
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (mut shown, mut missed) = (0_u64, 0_u64);
    let watching = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let show = |item| {
                if shown == 0 {
                    let _ = wait.recv();
                }
                match item {
                    Shown::Stanza { .. } => shown += 1,
                    Shown::Missed { stanzas } => missed += stanzas,
                    Shown::Ended { .. } => {}
                }
                Ok(())
            };
            admin.follow(&request, show).await.expect("an end in order");
            (shown, missed)
        })
    });
    while tap.watchers() < 1 {
        tokio::task::yield_now().await;
    }
    let body = "x".repeat(10_000);
    for _ in 0..200 {
        ann.send(format!(
            "<message to='ann@a.test/x'><body>{body}</body></message>"
        ))
        .await;
        ann.next().await;
    }
    go_on.send(()).expect("it waits");
    ann.close().await;
    let ended = tokio::task::spawn_blocking(|| watching.join()).await;
    let (shown, missed) = ended.expect("no panic").expect("no panic");
    assert_eq!(shown + missed, 400);
    assert!(missed > 100 && shown > 10, "{shown} {missed}");
    assert_eq!(
        operated.counted("xmpp_server_watch_missed_total", "").await,
        missed
    );
}

#[tokio::test]
async fn what_happens_is_counted() {
    let operated = Operated::new(|_| ()).await;
    let lab = &operated.lab;
    let mut ann = lab.wire("ann@a.test/x").await;
    ann.send("<message to='ann@a.test/x'><body>hi</body></message>")
        .await;
    ann.next().await;
    ann.send("<iq type='get' id='i' to='nobody@a.test/x'><x xmlns='y'/></iq>")
        .await;
    ann.next().await;
    let mut wrong = lab.raw("a.test").await;
    wrong.open_secure().await;
    let sasl = ns::SASL;
    for mechanism in ["PLAIN", "X-MADE-UP"] {
        wrong
            .send(format!(
                "<auth xmlns='{sasl}' mechanism='{mechanism}'>AGFubgB4</auth>"
            ))
            .await;
        wrong.next().await;
    }
    wrong.send("<message/>").await;
    wrong.expect_stream_error("not-authorized").await;
    for (name, label, wanted) in [
        ("connections_total", "c2s-starttls", 2),
        ("connections_total", "c2s-tls", 0),
        ("logins_total", "SCRAM-SHA-256", 1),
        ("logins_failed_total", "PLAIN", 1),
        ("logins_failed_total", "other", 1),
        ("sessions", "", 1),
        ("stanzas_received_total", "message", 1),
        ("stanzas_received_total", "iq", 1),
        ("stanzas_sent_total", "message", 1),
        ("stanzas_sent_total", "iq", 1),
        ("stanza_errors_sent_total", "service-unavailable", 1),
        ("stream_errors_sent_total", "not-authorized", 1),
        ("store_failed_total", "", 0),
        ("outbox_cuts_total", "", 0),
    ] {
        let name = format!("xmpp_server_{name}");
        assert_eq!(
            operated.counted(&name, label).await,
            wanted,
            "{name} {label}"
        );
    }
    let commits = operated
        .counted("xmpp_server_store_commits_total", "")
        .await;
    let ops = operated.counted("xmpp_server_store_ops_total", "").await;
    assert!(1 <= commits && commits <= ops, "{commits} {ops}");
}

#[tokio::test]
async fn a_domain_offers_what_imported_accounts_can_use() {
    let operated = Operated::new(|_| ()).await;
    let lab = &operated.lab;
    let keys = StoredKeys::derive(ScramHash::Sha1, "secret", b"from elsewhere", 5000);
    let keys = vec![KeyText::of(&keys)];
    let jid = "ann@a.test".to_owned();
    let accounts = vec![ImportedAccount { jid, keys }];
    let request = Request::UserImport { accounts };
    for outcome in [Outcome::Added, Outcome::Unchanged] {
        let outcomes = admin::request::<Outcome>(&operated.config, request.clone()).await;
        assert_eq!(outcomes.expect("an answer"), [outcome]);
    }
    for name in ["SCRAM-SHA-1", "PLAIN"] {
        let mut wire = lab.raw("a.test").await;
        let features = wire.open_secure().await.to_string();
        assert!(features.contains(">SCRAM-SHA-1-PLUS<"), "{features}");
        assert!(
            !features.contains("SHA-256") && !features.contains("SHA-512"),
            "{features}"
        );
        let none = sasl::common::ChannelBinding::None;
        let mut scram = sasl::client::mechanisms::Scram::<sasl::common::scram::Sha1>::new(
            "ann", "secret", none,
        )
        .expect("random bytes");
        let mut plain = sasl::client::mechanisms::Plain::new("ann", "secret");
        let mechanism: &mut dyn sasl::client::Mechanism = match name {
            "PLAIN" => &mut plain,
            _ => &mut scram,
        };
        wire.authenticate_and_bind(mechanism, None).await;
    }
}
