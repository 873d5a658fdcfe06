//! Every script of ours against our server, Prosody and ejabberd, beside each other; and scansion
//! scripts from elsewhere against ours and Prosody.
//!
//! Not part of `cargo test`: docs/BESIDE.md says how to run it and holds the tables. Servers are
//! started as tests/interop.rs does it. A difference without a written reason is a failure.

#[allow(
    dead_code,
    reason = "shared with the target interop, which uses the rest"
)]
#[path = "interop/config.rs"]
mod config;
#[allow(
    dead_code,
    reason = "shared with the target interop, which uses the rest"
)]
#[path = "interop/peer.rs"]
mod peer;
#[allow(
    dead_code,
    reason = "shared with the target interop, which uses the rest"
)]
#[path = "interop/process.rs"]
mod process;
#[path = "beside/reasons.rs"]
mod reasons;

use peer::{CONTACT, DOMAIN, Peer};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xmpp_client::{Stanza, Ty};
use xmpp_stream::stream::Password;
use xmpp_testkit::script::model::{Character, CharacterKind};
use xmpp_testkit::script::record::{self, Recorder};
use xmpp_testkit::script::report::{Outcome, Report};
use xmpp_testkit::script::stage::Elsewhere;
use xmpp_testkit::script::{Options, find, output, parse_file, play, suite};

/// Others may be slow, but what has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(4);

/// What scansion scripts count on, in Prosody's configuration.
const SCANSION: &str = r#"
storage = "memory"
admins = { "admin@localhost" }
hide_os_type = true
bounce_blocked_messages = true
contact_info = {
    abuse = { "mailto:abuse@localhost", "xmpp:abuse@localhost" };
    admin = { "mailto:admin@localhost", "xmpp:admin@localhost" };
    feedback = { "http://localhost/feedback.html", "mailto:feedback@localhost", "xmpp:feedback@localhost" };
    sales = { "xmpp:sales@localhost" };
    security = { "xmpp:security@localhost" };
    status = { "gopher://status.localhost" };
    support = { "https://localhost/support.html", "xmpp:support@localhost" };
}
"#;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// What came of each script, by its name below the folder.
type Reports = BTreeMap<String, Report>;

fn played(folder: &Path, path: &Path, peer: Option<&Peer>, fresh: bool) -> Reports {
    let mut found = find(&[path.to_owned()]).expect("scripts");
    found.retain(|found| !is_of_links(&found.file));
    let parts = suite::parts(&found);
    let options = Options {
        elsewhere: peer.map(elsewhere),
        fresh,
        seed: u64::from(std::process::id()) << 16,
        patience: Some(PATIENCE),
        at_a_time: 4,
    };
    let reports = play(&parts, &options, &|_| ());
    let name = |report: &Report| {
        let path = Path::new(&report.name).strip_prefix(folder);
        path.expect("below the folder").display().to_string()
    };
    reports
        .into_iter()
        .map(|report| (name(&report), report))
        .collect()
}

/// Its servers and components take part in this process alone: there is nothing beside it.
fn is_of_links(file: &Path) -> bool {
    let is_beside =
        |one: &Character| matches!(one.kind, CharacterKind::Server | CharacterKind::Component);
    parse_file(file).is_ok_and(|script| script.cast.iter().any(is_beside))
}

fn elsewhere(peer: &Peer) -> Elsewhere {
    let place = &peer.place;
    let at = |address: std::net::SocketAddr| [(DOMAIN.to_owned(), address.to_string())].into();
    Elsewhere {
        servers: at(place.address),
        servers_tls: place.address_tls.map(at).unwrap_or_default(),
        trust: Some(place.trust.clone()),
        ..Elsewhere::default()
    }
}

/// One word for the table. A pending script may pass elsewhere.
fn word(report: &Report) -> &'static str {
    match &report.outcome {
        Outcome::Passed | Outcome::Surprise(_) => "passes",
        Outcome::Pending { .. } => "pending",
        Outcome::Skipped(_) => "·",
        _ => "fails",
    }
}

/// Plays in a thread of its own: the runner has its own runtimes, a peer lives in this one.
async fn beside(folder: PathBuf, peer: Option<Peer>) -> Reports {
    let fresh = peer.is_some();
    let playing = move || played(&folder, &folder, peer.as_ref(), fresh);
    tokio::task::spawn_blocking(playing)
        .await
        .expect("no panic")
}

/// A new Prosody for each script, as scripts of others count on accounts without a past.
async fn one_by_one(folder: PathBuf) -> Reports {
    let mut all = Reports::new();
    for found in find(std::slice::from_ref(&folder)).expect("the folder") {
        let config = |config: String| config.replace(CONTACT, SCANSION);
        let peer = Peer::prosody_with("prosody-scansion", config).await;
        let folder = folder.clone();
        let playing = move || played(&folder, &found.file, Some(&peer), false);
        all.extend(
            tokio::task::spawn_blocking(playing)
                .await
                .expect("no panic"),
        );
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_scripts() {
    let ours = beside(folder(), None).await;
    let prosody = beside(folder(), Some(Peer::prosody().await)).await;
    let ejabberd = beside(folder(), Some(Peer::ejabberd().await)).await;
    let mut unexplained = Vec::new();
    let mut table =
        "| script | ours | Prosody | ejabberd | why |\n|---|---|---|---|---|\n".to_owned();
    for (name, report) in &ours {
        let mut why = Vec::new();
        for (peer, reports) in [("Prosody", &prosody), ("ejabberd", &ejabberd)] {
            let Some(other) = reports.get(name) else {
                continue;
            };
            let is_other = !matches!(word(other), "passes" | "·") && word(other) != word(report);
            match reasons::of(name, peer) {
                Some(reason) if word(other) != "passes" => why.push(format!("{peer}: {reason}")),
                Some(reason) => unexplained.push(format!("{name} passes on {peer}: {reason}")),
                None if is_other => unexplained.push(format!("{peer} {}", output::line(other))),
                None => {}
            }
        }
        let other = |reports: &Reports| reports.get(name).map_or("·", word);
        let (prosody, ejabberd) = (other(&prosody), other(&ejabberd));
        let (ours, why) = (word(report), why.join(" "));
        let _ = writeln!(
            table,
            "| {name} | {ours} | {prosody} | {ejabberd} | {why} |"
        );
    }
    let (ours, prosody, ejabberd) = (count(&ours), count(&prosody), count(&ejabberd));
    let _ = writeln!(table, "| **sum** | {ours} | {prosody} | {ejabberd} | |");
    write_down("our scripts", &table);
    let unexplained = unexplained.join("\n");
    assert!(unexplained.is_empty(), "without a reason:\n{unexplained}");
}

fn count(reports: &Reports) -> String {
    let passes = reports.values().filter(|it| word(it) == "passes").count();
    format!("{passes} of {}", reports.len())
}

/// Prints a table, and puts it in its place on the page.
fn write_down(name: &str, table: &str) {
    println!("{table}");
    let page = folder().join("../../docs/BESIDE.md");
    let text = std::fs::read_to_string(&page).expect("docs/BESIDE.md");
    let (start, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text.split_once(&start).expect("the place of the table");
    let (_, after) = rest.split_once(&end).expect("the end of the table");
    let text = format!("{before}{start}{table}{end}{after}");
    std::fs::write(&page, text).expect("docs/BESIDE.md");
}

/// Scripts of others: the folder is in SCANSION.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scansion() {
    let Some(folder) = std::env::var_os("SCANSION").map(PathBuf::from) else {
        println!("SCANSION names no folder of scansion scripts (docs/BESIDE.md)");
        return;
    };
    let ours = beside(folder.clone(), None).await;
    let prosody = one_by_one(folder).await;
    let mut table = "| script | ours | Prosody | why |\n|---|---|---|---|\n".to_owned();
    for (name, report) in &ours {
        let other = prosody.get(name).map_or("·", word);
        let why = reasons::of_scansion(name).unwrap_or_default();
        let _ = writeln!(table, "| {name} | {} | {other} | {why} |", word(report));
    }
    let _ = writeln!(
        table,
        "| **sum** | {} | {} | |",
        count(&ours),
        count(&prosody)
    );
    write_down("scansion", &table);
    for (name, reports) in [("ours", &ours), ("Prosody", &prosody)] {
        for report in reports.values().filter(|report| !report.outcome.is_good()) {
            println!("{name} {}", output::line(report));
        }
    }
}

/// A session with each server, through the recorder, and played against the same server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded() {
    for peer in [Peer::prosody().await, Peer::ejabberd().await] {
        let account = peer.account().await;
        let recorder = Recorder::listen(record::Options {
            listen: ([127, 0, 0, 1], 0).into(),
            elsewhere: Some(elsewhere(&peer)),
            accounts: vec![(account.jid.clone(), Password(account.password.clone()))],
            certificate: None,
            patience: PATIENCE,
        });
        let recorder = recorder.await.expect("a recorder");
        let address = recorder.address().expect("an address").to_string();
        let ca = recorder.ca_pem().expect("a CA").to_owned();
        let builder = peer.builder(&account, "desk").ca_pem(&ca);
        let talking = async {
            let client = builder.connect_to(&address).connect().await;
            let client = client.expect("a session");
            let available = client.send_stanza(Stanza::presence(Ty::None)).await;
            available.expect("the stream is open");
            let text = Stanza::chat(account.jid.as_jid().as_str(), "to myself").expect("a chat");
            client.send_stanza(text).await.expect("the stream is open");
            loop {
                let heard = client.next_stanza().await.expect("a message");
                if heard.body().is_some() {
                    break;
                }
            }
            client.disconnect().await.expect("the stream is open");
        };
        let recorded = tokio::join!(recorder.record(std::future::pending()), talking).0;
        let folder = std::env::temp_dir().join(format!("recorded-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("recorded.scs"), &recorded.script).expect("a file");
        let name = peer.name;
        let reports = beside(folder.clone(), Some(peer)).await;
        std::fs::remove_dir_all(&folder).expect("our folder");
        assert!(recorded.remarks.is_empty(), "{:?}", recorded.remarks);
        for report in reports.values() {
            let told = output::line(report);
            assert!(
                report.outcome.is_good(),
                "{name} {told}\n{}",
                recorded.script
            );
        }
    }
}
