//! The xmpp-client command as a process, against a server in this one.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use tokio::task::block_in_place;
use xmpp_stream::ns;
use xmpp_stream::stanza::Stanza;
use xmpp_testkit::TestLab;
use xmpp_testkit::fake::{FakeServer, FakeStream};

const BOUND: Duration = Duration::from_secs(60);
const BINARY: &str = env!("CARGO_BIN_EXE_client_command");

/// A server, the file with its CA, and what every command line has in common.
struct World {
    lab: TestLab,
    ca: CaFile,
}

/// A file that goes with the value.
struct CaFile(PathBuf);

impl CaFile {
    fn new(pem: &str, port: u16) -> Self {
        let name = format!("xmpp-command-{}-{port}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, pem).expect("a file");
        Self(path)
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl World {
    async fn new() -> Self {
        let lab = TestLab::new(["a.test"]).await.expect("a server");
        let port = lab.place("a.test").address.port();
        let ca = CaFile::new(lab.ca_pem(), port);
        Self { lab, ca }
    }

    /// Starts a command of this account; `input` follows the password on standard input.
    async fn start(&self, jid: &str, words: &[&str], input: &str) -> Process {
        let password = self.lab.account(jid).await;
        self.start_with(jid, &password, words, input.as_bytes())
    }

    fn start_with(&self, jid: &str, password: &str, words: &[&str], input: &[u8]) -> Process {
        let place = self.lab.place("a.test").address.to_string();
        let mut command = Command::new(BINARY);
        command.args([
            "--jid",
            jid,
            "--connect",
            &place,
            "--password-stdin",
            "--ca",
        ]);
        command.arg(&self.ca.0).args(words);
        Process::start(&mut command, &[password.as_bytes(), b"\n", input].concat())
    }

    async fn run(&self, jid: &str, words: &[&str], input: &str) -> Ended {
        self.start(jid, words, input).await.ended()
    }
}

/// A running command; killed when dropped.
struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

impl Ended {
    #[track_caller]
    fn well(self) -> Vec<String> {
        assert_eq!(
            (self.code, &self.stderr[..]),
            (Some(0), &[][..]),
            "{self:?}"
        );
        self.stdout
    }

    /// Failed with one line, which is given without the name of the command.
    #[track_caller]
    fn failed(self) -> String {
        assert_eq!((self.code, self.stderr.len()), (Some(1), 1), "{self:?}");
        let line = self.stderr[0].strip_prefix("xmpp-client: ");
        line.expect("the name of the command").to_owned()
    }
}

impl Process {
    fn start(command: &mut Command, input: &[u8]) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a process");
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that ends before it reads is no fault of this side.
        let _ = stdin.write_all(input);
        drop(stdin);
        Self {
            stdout: lines(child.stdout.take().expect("a pipe")),
            stderr: lines(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let line = block_in_place(|| self.stdout.recv_timeout(BOUND));
        line.expect("a line")
    }

    fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).expect(&line)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
            .status();
        assert!(done.expect("a shell").success());
    }

    fn ended(mut self) -> Ended {
        let all = |lines: &Receiver<String>| {
            let mut all = Vec::new();
            while let Ok(line) = lines.recv_timeout(BOUND) {
                all.push(line);
            }
            all
        };
        block_in_place(|| Ended {
            stdout: all(&self.stdout),
            stderr: all(&self.stderr),
            code: self.child.wait().expect("an end").code(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn bare(words: &[&str]) -> Ended {
    Process::start(Command::new(BINARY).args(words), b"").ended()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_sends_the_other_hears() {
    let world = World::new().await;
    let mut json = world
        .start("ben@a.test/j", &["listen", "--json", "--count", "2"], "")
        .await;
    let mut text = world.start("ben@a.test/t", &["listen"], "").await;
    assert_eq!(json.json()["kind"], "connected");
    assert_eq!(text.line(), "connected as ben@a.test/t");
    // Both are available once they hear of themselves; each may hear of the other too.
    while json.json()["from"] != "ben@a.test/j" {}
    while !text.line().ends_with("ben@a.test/t is available") {}

    let pinged = world.run("ann@a.test/x", &["ping", "ben@a.test/t"], "");
    assert!(pinged.await.well()[0].starts_with("pong from ben@a.test/t in "));
    let words = ["disco", "ben@a.test/t"];
    let found = world.run("ann@a.test/x", &words, "").await.well();
    assert!(found[0].starts_with("is client/"), "{found:?}");

    let sent = world
        .run("ann@a.test/x", &["send", "ben@a.test/j", "to json"], "")
        .await;
    assert!(sent.well().is_empty());
    let words = [
        "send",
        "ben@a.test/t",
        "-",
        "--subject",
        "news",
        "--type",
        "normal",
    ];
    world.run("ann@a.test/x", &words, "one\ntwo\n").await.well();
    let sent = world
        .run(
            "ann@a.test/x",
            &["--json", "send", "ben@a.test/j", "again"],
            "",
        )
        .await;
    let sent: Value = serde_json::from_str(&sent.well()[0]).expect("an object");
    assert_eq!(sent["to"], "ben@a.test/j");

    let heard = loop {
        match json.json() {
            heard if heard["kind"] == "message" => break heard,
            _ => {}
        }
    };
    assert_eq!(heard["from"], "ann@a.test/x");
    assert_eq!(
        (&heard["type"], &heard["body"]),
        (&"chat".into(), &"to json".into())
    );
    let rest = json.ended().well();
    let last: Value = serde_json::from_str(rest.last().expect("a line")).expect("an object");
    assert_eq!((&last["body"], &last["id"]), (&"again".into(), &sent["id"]));

    let heard = loop {
        match text.line() {
            heard if heard.contains("news") => break heard,
            _ => {}
        }
    };
    assert!(heard.ends_with(" ann@a.test/x: [news] one"), "{heard}");
    assert_eq!(text.line(), "    two");
    world.lab.kick("ben@a.test/t").await;
    // The other one may be gone before.
    while text.line() != "the stream is over: closed by the server, policy-violation" {}
    assert!(text.line().starts_with("trying again in "));
    text.signal("TERM");
    assert_eq!(text.ended().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_back_is_a_failure() {
    let world = World::new().await;
    let words = ["send", "nobody@a.test", "hello"];
    let line = world.run("ann@a.test/x", &words, "").await.failed();
    assert_eq!(line, "not delivered: service-unavailable (type cancel)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_one_clear_line_and_no_secret() {
    let world = World::new().await;
    world.lab.account("ann@a.test").await;
    let wrong = world
        .start_with("ann@a.test", "a guess", &["ping"], b"")
        .ended();
    assert_eq!(
        wrong.failed(),
        "authentication failed: login refused: not-authorized"
    );
    let words = ["--log", "trace", "ping"];
    let loud = world
        .start_with("ann@a.test", "a guess", &words, b"")
        .ended();
    assert_eq!(loud.code, Some(1));
    assert!(loud.stderr.len() > 1);
    let log = loud.stderr.join("\n");
    assert!(!log.contains("a guess"), "{log}");
    assert!(!log.contains('\u{1b}'), "colours in a pipe: {log}");
    let words = ["--jid", "ann@a.test", "ping"];
    let asked = bare(&words).failed();
    assert_eq!(
        asked,
        "there is no terminal to ask for the password at: --password-stdin"
    );
    let empty = world.start_with("ann@a.test", "", &["ping"], b"").ended();
    assert_eq!(empty.failed(), "there is no password on standard input");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_usage_is_exit_code_2() {
    for words in [
        &["ping"][..],
        &[],
        &["--jid", "a.test", "ping"],
        &["--jid", "ann@a.test", "--password", "secret", "ping"],
        &["--jid", "ann@a.test", "nonsense"],
        &["--jid", "ann@a.test", "send", "ben@a.test"],
    ] {
        let ended = bare(words);
        assert_eq!(
            (ended.code, ended.stdout.len()),
            (Some(2), 0),
            "{words:?}: {ended:?}"
        );
    }
    let help = bare(&["--help"]);
    assert_eq!(help.code, Some(0));
    let help = help.stdout.join("\n");
    for word in [
        "Examples:",
        "Exit status:",
        "send",
        "listen",
        "--password-stdin",
    ] {
        assert!(help.contains(word), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tried_is_told_when_nobody_listens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let nobody = free.expect("a free port").to_string();
    let words = [
        "--jid",
        "ann@a.test",
        "--password-stdin",
        "--connect",
        &nobody,
        "ping",
    ];
    let world = World::new().await;
    let mut command = Command::new(BINARY);
    command.args(words).arg("--ca").arg(&world.ca.0);
    let line = Process::start(&mut command, b"secret\n").ended().failed();
    assert_eq!(
        line,
        format!(
            "no connection to a.test: {nobody} (STARTTLS): connection failed: \
             Connection refused (os error 111)"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_asked() {
    let world = World::new().await;
    let lines = world.run("ann@a.test", &["ping"], "").await.well();
    assert!(lines[0].starts_with("pong from a.test in "), "{lines:?}");
    let lines = world
        .run("ann@a.test", &["ping", "a.test", "--json"], "")
        .await
        .well();
    let pong: Value = serde_json::from_str(&lines[0]).expect("an object");
    assert_eq!(pong["from"], "a.test");
    let line = world
        .run("ann@a.test", &["ping", "nobody@a.test"], "")
        .await
        .failed();
    assert!(
        line.starts_with("no pong from nobody@a.test: service-unavailable"),
        "{line}"
    );

    let lines = world
        .run("ann@a.test", &["disco", "a.test"], "")
        .await
        .well();
    assert!(
        lines.iter().any(|line| line.starts_with("is server/im")),
        "{lines:?}"
    );
    assert!(lines.contains(&format!("can {}", ns::PING)), "{lines:?}");
    let lines = world
        .run("ann@a.test", &["--json", "disco", "a.test"], "")
        .await
        .well();
    let found: Value = serde_json::from_str(&lines[0]).expect("an object");
    assert_eq!(found["identities"][0]["category"], "server");
    world
        .run("ann@a.test", &["disco", "nobody@a.test"], "")
        .await
        .failed();
    let line = world.run("ann@a.test", &["history"], "").await.failed();
    assert!(line.starts_with("no history: "), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_made_and_shown() {
    let world = World::new().await;
    world.lab.account("ben@a.test").await;
    assert!(
        world
            .run("ann@a.test", &["roster"], "")
            .await
            .well()
            .is_empty()
    );
    let words = ["presence", "--subscribe", "ben@a.test"];
    world.run("ann@a.test", &words, "").await.well();
    let lines = world.run("ann@a.test", &["roster"], "").await.well();
    assert_eq!(lines, ["ben@a.test  none, asked"]);
    let words = ["presence", "--approve", "ann@a.test"];
    world.run("ben@a.test", &words, "").await.well();
    let lines = world
        .run("ann@a.test", &["roster", "--json"], "")
        .await
        .well();
    let contact: Value = serde_json::from_str(&lines[0]).expect("an object");
    assert_eq!(
        (&contact["jid"], &contact["subscription"]),
        (&"ben@a.test".into(), &"to".into())
    );

    let mut listening = world.start("ben@a.test/l", &["listen"], "").await;
    while !listening.line().ends_with("ben@a.test/l is available") {}
    let lines = world
        .run("ann@a.test", &["presence", "--wait", "0"], "")
        .await
        .well();
    assert_eq!(lines, ["ben@a.test/l  available"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_named_grouped_and_removed() {
    async fn check(world: &World, words: &[&str], line: &str) {
        let words = [&["roster"], words].concat();
        let lines = world.run("ann@a.test", &words, "").await.well();
        assert_eq!(lines, [line]);
    }
    let world = World::new().await;
    let add = ["add", "ben@a.test"];
    check(&world, &add, "ben@a.test  none").await;
    let words = [&add[..], &["Ben", "--group", "B", "--group", "A"]].concat();
    world
        .run("ann@a.test", &[&["roster"], &words[..]].concat(), "")
        .await
        .well();
    check(&world, &[], "ben@a.test  none  Ben  [A, B]").await;
    check(
        &world,
        &[&add[..], &["B."]].concat(),
        "ben@a.test  none  B.  [A, B]",
    )
    .await;
    check(
        &world,
        &[&add[..], &["--no-groups"]].concat(),
        "ben@a.test  none  B.",
    )
    .await;
    check(&world, &[], "ben@a.test  none  B.").await;
    let words = ["roster", "remove", "ben@a.test"];
    world.run("ann@a.test", &words, "").await.well();
    assert!(
        world
            .run("ann@a.test", &["roster"], "")
            .await
            .well()
            .is_empty()
    );
    let line = world.run("ann@a.test", &words, "").await.failed();
    assert_eq!(line, "answered with the error item-not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_server_is_said_with_the_option_that_helps() {
    let world = World::new().await;
    let place = world.lab.place("a.test").address.to_string();
    let words = ["--direct-tls", "--timeout", "5", "ping"];
    let ended = world.start_with("ann@a.test", "x", &words, b"").ended();
    assert_eq!(
        ended.failed(),
        format!(
            "no connection to a.test: {place} (direct TLS): TLS failed: the server does not speak \
             TLS from the first byte here (a port for STARTTLS? then without --direct-tls)"
        )
    );
    let mut command = Command::new(BINARY);
    command.args([
        "--jid",
        "ann@a.test",
        "--connect",
        &place,
        "--password-stdin",
        "ping",
    ]);
    let line = Process::start(&mut command, b"x\n").ended().failed();
    assert!(
        line.ends_with(
            "(--ca FILE trusts a CA of your own, --pin HEX a certificate that signs itself)"
        ),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_changed() {
    let world = World::new().await;
    let lines = world
        .run("ann@a.test", &["passwd"], "another\n")
        .await
        .well();
    assert_eq!(lines, ["the password of ann@a.test is changed"]);
    let old = world.run("ann@a.test", &["ping"], "").await.failed();
    assert!(old.starts_with("authentication failed"), "{old}");
    let new = world
        .start_with("ann@a.test", "another", &["ping"], b"")
        .ended();
    new.well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_registered() {
    let world = World::new().await;
    let register = |password: &str, words: &[&str]| {
        let words = [&["register"], words].concat();
        world
            .start_with("new@a.test", password, &words, b"")
            .ended()
    };
    assert_eq!(register("first", &[]).well(), ["new@a.test is registered"]);
    let ping = world
        .start_with("new@a.test", "first", &["ping"], b"")
        .ended();
    ping.well();
    let taken = register("second", &[]).failed();
    assert!(taken.contains("taken"), "{taken}");
    let more = register("third", &["--field", "shoe=44"]).failed();
    assert_eq!(more, "the server does not ask for shoe");
}

/// A command of ann@a.test/x at a scripted server.
fn at_fake(server: &FakeServer, words: &[&str], input: &str) -> (Process, CaFile) {
    let ca = CaFile::new(server.ca_pem(), server.address().port());
    let place = server.address().to_string();
    let mut command = Command::new(BINARY);
    command.args(["--jid", "ann@a.test/x", "--password-stdin", "--direct-tls"]);
    command
        .args(["--connect", &place, "--ca"])
        .arg(&ca.0)
        .args(words);
    (
        Process::start(&mut command, format!("secret\n{input}").as_bytes()),
        ca,
    )
}

/// The next request, whose payload is in this namespace.
async fn request(stream: &mut FakeStream, namespace: &str) -> Stanza {
    let xml = stream.expect("</iq>").await;
    let request = Stanza::parse(xml.trim()).expect(&xml);
    let payload = request.first_element().expect("a payload");
    assert_eq!(payload.ns(), namespace, "{xml}");
    request
}

async fn page(stream: &mut FakeStream, ids: &[&str], is_last: bool) {
    let asked = request(stream, ns::MAM).await;
    let query = asked.first_element().expect("a query");
    let query_id = query.attr("queryid").expect("an id");
    let mut answer = String::new();
    for id in ids {
        answer += &format!(
            "<message from='ann@a.test' to='ann@a.test/x'><result xmlns='{}' queryid='{query_id}' \
             id='{id}'><forwarded xmlns='{}'><delay xmlns='{}' stamp='2026-01-02T03:04:0{id}Z'/>\
             <message xmlns='{}' from='ben@b.test/y' to='ann@a.test' type='chat'><body>number {id}\
             </body></message></forwarded></result></message>",
            ns::MAM,
            ns::FORWARD,
            ns::DELAY,
            ns::CLIENT,
        );
    }
    let id = asked.head.id.as_deref().expect("an id");
    let (first, last) = (ids[0], ids[ids.len() - 1]);
    answer += &format!(
        "<iq type='result' id='{id}' to='ann@a.test/x'><fin xmlns='{}' complete='{is_last}'>\
         <set xmlns='{}'><first>{first}</first><last>{last}</last><count>3</count></set></fin></iq>",
        ns::MAM,
        ns::RSM,
    );
    stream.say(&answer).await;
}

async fn closed(mut stream: FakeStream) {
    stream.expect("</stream:stream>").await;
    stream.say("</stream:stream>").await;
    stream.until_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_exported_page_by_page() {
    let server = FakeServer::new("a.test").await;
    let (command, _ca) = at_fake(&server, &["history", "--export", "--json"], "");
    let mut stream = server.bound("ann@a.test/x").await;
    page(&mut stream, &["1", "2"], false).await;
    page(&mut stream, &["3"], true).await;
    closed(stream).await;
    let lines = command.ended().well();
    let all: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    let ids: Vec<&Value> = all.iter().map(|message| &message["archive_id"]).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!(all[2]["body"], "number 3");
    assert_eq!(all[2]["stamp"], "2026-01-02T03:04:03.000Z");

    // The newest ones come page by page backwards, and are printed forwards.
    let (command, _ca) = at_fake(&server, &["history", "--limit", "3"], "");
    let mut stream = server.bound("ann@a.test/x").await;
    page(&mut stream, &["2", "3"], false).await;
    page(&mut stream, &["1"], true).await;
    closed(stream).await;
    let line = |n| format!("2026-01-02T03:04:0{n}.000Z ben@b.test/y: number {n}");
    assert_eq!(command.ended().well(), [1, 2, 3].map(line));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_heard_and_spoken_to() {
    let server = FakeServer::new("a.test").await;
    let (command, _ca) = at_fake(&server, &["muc", "r@m.test"], "hello all\n");
    let mut stream = server.bound("ann@a.test/x").await;
    let asked = stream.expect("</presence>").await;
    let asked = Stanza::parse(asked.trim()).expect("a presence");
    assert_eq!(
        asked.head.to.as_ref().map(|to| to.as_str()),
        Some("r@m.test/ann")
    );
    let here = |nick: &str, own: &str| {
        format!(
            "<presence from='r@m.test/{nick}' to='ann@a.test/x'><x xmlns='{}'>\
             <item affiliation='none' role='participant'/>{own}</x></presence>",
            ns::MUC_USER
        )
    };
    stream.say(&here("ben", "")).await;
    stream.say(&here("ann", "<status code='110'/>")).await;
    let said = "<message from='r@m.test/ben' to='ann@a.test/x' type='groupchat'>\
                <body>hi\u{9b}2J</body></message>";
    stream.say(said).await;
    let said = stream.expect("</message>").await;
    assert!(
        said.contains("hello all") && said.contains("groupchat"),
        "{said}"
    );
    // The end of the input is the end of the visit.
    let left = stream.expect("type='unavailable'").await;
    assert!(left.contains("r@m.test/ann"), "{left}");
    stream
        .say(&here("ann", "<status code='110'/>").replacen(
            "<presence ",
            "<presence type='unavailable' ",
            1,
        ))
        .await;
    closed(stream).await;
    let heard = [
        "* ben is here",
        "* ann is here",
        "ben: hi\\u{9b}2J",
        "* ann is gone",
    ];
    assert_eq!(command.ended().well(), heard);
}

#[tokio::test(flavor = "multi_thread")]
async fn stanzas_go_out_as_they_are() {
    let world = World::new().await;
    let ping = format!("<iq type='get' id='1'><ping xmlns='{}'/></iq>", ns::PING);
    let lines = world
        .run("ann@a.test/x", &["raw"], &format!("\n{ping}\n"))
        .await
        .well();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("id='1' type='result'") || lines[0].contains("type='result'"));
    let words = ["raw", "--json", "<presence/>", &ping];
    let lines = world.run("ann@a.test/x", &words, "").await.well();
    let kinds: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("an object")["kind"].clone())
        .collect();
    assert_eq!(kinds, ["presence", "iq"]);
    let line = world
        .run("ann@a.test/x", &["raw", "<nonsense"], "")
        .await
        .failed();
    assert_eq!(line, "number 1 is no stanza");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_cannot_be_sent_whole_is_a_failure() {
    let world = World::new().await;
    let password = world.lab.account("ann@a.test/x").await;
    let run = |words: &[&str], input: &[u8]| {
        let command = world.start_with("ann@a.test/x", &password, words, input);
        command.ended().failed()
    };
    let long = "x".repeat(1024 * 1024 + 1);
    assert_eq!(
        run(&["send", "ben@a.test", "-"], long.as_bytes()),
        "the text on standard input is longer than 1 MiB"
    );
    let not_text = "standard input is not UTF-8";
    assert_eq!(run(&["send", "ben@a.test", "-"], b"\xff"), not_text);
    assert_eq!(run(&["raw"], b"<presence/>\n\xff\n<presence/>\n"), not_text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let world = World::new().await;
    let mut listening = world.start("ben@a.test/x", &["listen"], "").await;
    assert_eq!(listening.line(), "connected as ben@a.test/x");
    while !listening.line().ends_with("is available") {}
    // Whoever reads for us notices that nobody wants it with the next line.
    listening.stdout = channel().1;
    let mut lines = 0;
    while listening.child.try_wait().expect("a process").is_none() {
        assert!(lines < 20, "still there");
        lines += 1;
        let words = ["send", "ben@a.test/x", "hi"];
        let sent = world.start("ann@a.test/x", &words, "").await.ended();
        assert!(sent.stdout.is_empty());
    }
    assert_eq!(listening.ended().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn c6120_cl_04_a_certificate_in_place_of_a_password() {
    let now = xmpp_server::clock::Clock::start().system_now();
    let ca = xmpp_certs::DevCa::new(now).expect("an authority");
    let clients = CaFile::new(ca.pem(), 1);
    let path = clients.0.clone();
    let lab = TestLab::with(["a.test"], |config| {
        config.domains[0].client_ca = vec![path]
    })
    .await;
    let lab = lab.expect("a server");
    lab.account("ann@a.test").await;
    let server = CaFile::new(lab.ca_pem(), 2);
    let leaf = ca
        .issue_client(&["ann@a.test"], now)
        .expect("a certificate");
    let (cert, key) = (
        CaFile::new(&leaf.chain_pem, 3),
        CaFile::new(&leaf.key_pem, 4),
    );
    let ping = |cert: &CaFile, key: &CaFile| {
        let place = lab.place("a.test").address.to_string();
        let mut command = Command::new(BINARY);
        command.args(["--jid", "ann@a.test", "--connect", &place, "ping"]);
        command.arg("--ca").arg(&server.0);
        command.arg("--cert").arg(&cert.0).arg("--key").arg(&key.0);
        Process::start(&mut command, b"").ended()
    };
    assert_eq!(ping(&cert, &key).well().len(), 1);
    let wrong = ping(&key, &key).failed();
    assert!(wrong.contains("the certificate to sign in with"), "{wrong}");
    let missing = ping(&CaFile("no such file".into()), &key).failed();
    assert!(missing.contains("no such file"), "{missing}");
}
