//! xmpp-client when its connection is lost: resumption, a new session, what is sent again and what is
//! handed back (rows ss-4, ss-5, ss-7, co-10, co-11), against a scripted server and against ours.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use xmpp_client::{
    Builder, CloseReason, Event, Events, IqError, Jid, Kind, Limits, NotAckedReason, Reconnect,
    Stanza, Ty, XmppClient,
};
use xmpp_server::config::Storage;
use xmpp_stream::error::StreamCondition;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;
use xmpp_testkit::fake::attr;
use xmpp_testkit::{FakeServer, FakeStream, Proxy, TestLab};

const JID: &str = "ann@a.test/x";
const SM: &str = "xmlns='urn:xmpp:sm:3'";

fn at_once() -> Reconnect {
    Reconnect {
        tries: Some(5),
        first: Duration::from_millis(1),
        max: Duration::from_millis(20),
    }
}

async fn managed(server: &FakeServer) -> (XmppClient, Events, FakeStream) {
    let builder = server.builder(JID).reconnect(at_once());
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    let client = client.expect("a client");
    let mut events = client.events();
    assert!(matches!(
        events.next().await,
        Some(Event::Connected { resumed: false, .. })
    ));
    (client, events, stream)
}

fn message(id: &str) -> Stanza {
    let message = Stanza::chat("ben@b.test", "hi").expect("an address");
    message.with_id(id)
}

fn ping() -> Stanza {
    Stanza::new(Kind::Iq, Ty::Get).with_child(&Element::new(ns::PING, "ping"))
}

/// Up to the next connection: whether it was resumed.
async fn connected(events: &mut Events) -> bool {
    loop {
        match events.next().await {
            Some(Event::Connected { resumed, .. }) => return resumed,
            Some(Event::AuthFailed { reason }) => panic!("{reason}"),
            Some(_) => {}
            None => panic!("it is over"),
        }
    }
}

/// The next client asks to resume.
async fn returned(server: &FakeServer) -> (FakeStream, u32) {
    let mut stream = server.signed_in().await;
    stream
        .features(&format!("<sm {SM}/><csi xmlns='{}'/>", ns::CSI))
        .await;
    let (id, h) = stream.expect_resume().await;
    assert_eq!(id, "one");
    (stream, h)
}

#[tokio::test]
async fn ss_04_what_was_not_acknowledged_is_sent_again_and_nothing_else() {
    let server = FakeServer::new("a.test").await;
    let (client, mut events, mut stream) = managed(&server).await;
    client
        .send_stanza(Stanza::presence(Ty::None))
        .await
        .expect("an open stream");
    for id in ["1", "2", "3"] {
        client
            .send_stanza(message(id))
            .await
            .expect("an open stream");
    }
    let acked = tokio::spawn({
        let client = client.clone();
        async move { client.send_acked(message("4")).await }
    });
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.send_iq(ping().with_id("5")).await }
    });
    stream.expect("</iq>").await;
    stream.say("<message from='ben@b.test'/>").await;
    assert!(matches!(events.next().await, Some(Event::Stanza(_))));
    drop(stream);
    let (mut stream, h) = returned(&server).await;
    assert_eq!(h, 1);
    stream.resumed("one", 2).await;
    let again = stream.expect(&format!("<r {SM}/>")).await;
    let ids: Vec<String> = again
        .split_inclusive("</")
        .filter(|part| part.contains(" id='"))
        .map(|part| attr(part, "id"))
        .collect();
    assert_eq!(ids, ["2", "3", "4", "5"], "{again}");
    assert!(
        !again.contains(ns::DELAY) && !again.contains("<presence"),
        "{again}"
    );
    assert!(connected(&mut events).await);
    stream.ack(6).await;
    stream.say("<iq type='result' id='5'/>").await;
    acked.await.expect("a task").expect("acknowledged");
    asked.await.expect("a task").expect("an answer");
    // Counting goes on.
    client
        .send_stanza(message("6"))
        .await
        .expect("an open stream");
    stream.expect("id='6'").await;
    stream.ack(7).await;
    stream.barrier().await;
}

#[tokio::test]
async fn ss_04_a_server_that_talks_and_does_not_acknowledge_is_given_up() {
    let server = FakeServer::new("a.test").await;
    let builder = server.builder(JID).reconnect(Reconnect::never());
    let builder = builder.answer_max(Duration::from_millis(400));
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    let (client, mut stream) = (client.expect("a client"), stream);
    let sending = tokio::spawn(async move { client.send_acked(message("1")).await });
    stream.expect("<r ").await;
    let talk = format!("<message from='ben@b.test'><body>hi</body></message><a {SM} h='0'/>");
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let talking = async {
        while stream.try_say(&talk).await {
            ticks.tick().await;
        }
    };
    let given_up = tokio::time::timeout(Duration::from_secs(10), talking).await;
    given_up.expect("the stream was given up");
    let not_acked = sending.await.expect("a task").expect_err("nobody has it");
    assert!(
        matches!(
            &not_acked.reason,
            NotAckedReason::Closed(CloseReason::Ours(error))
                if error.condition == StreamCondition::ConnectionTimeout
        ),
        "{not_acked}"
    );
}

#[tokio::test]
async fn ss_04_a_server_that_acknowledges_slowly_is_not_given_up() {
    let server = FakeServer::new("a.test").await;
    let builder = server.builder(JID).reconnect(Reconnect::never());
    let builder = builder.answer_max(Duration::from_millis(400));
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    let (client, mut stream) = (client.expect("a client"), stream);
    for number in 1..=6 {
        let message = message(&number.to_string());
        client.send_stanza(message).await.expect("taken");
    }
    let last = tokio::spawn(async move { client.send_acked(message("7")).await });
    stream.expect("<r ").await;
    let mut ticks = tokio::time::interval(Duration::from_millis(150));
    for h in 0..=7 {
        ticks.tick().await;
        stream.ack(h).await;
    }
    last.await.expect("a task").expect("acknowledged");
}

#[tokio::test]
async fn a_password_is_asked_for_once_a_login_and_not_once_an_attempt() {
    let server = FakeServer::new("a.test").await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let builder = server.builder(JID).reconnect(at_once());
    let builder = builder.password_from(move || {
        count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Some("secret".to_owned()))
    });
    let (client, stream) = tokio::join!(builder.connect(), server.bound(JID));
    let client = client.expect("a client");
    let mut events = client.events();
    assert!(!connected(&mut events).await);
    drop(stream);
    for _ in 0..3 {
        drop(server.accept_plain().await);
    }
    let (_stream, _) = tokio::join!(server.bound(JID), connected(&mut events));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn ss_05_in_a_new_session_the_rest_is_sent_again_with_a_delay() {
    let server = FakeServer::new("a.test").await;
    let (client, mut events, mut stream) = managed(&server).await;
    let send = async |stanza: Stanza| client.send_stanza(stanza).await.expect("an open stream");
    let room = Jid::parse("room@b.test").expect("a JID");
    let carbons = Element::new(ns::CARBONS, "enable");
    send(Stanza::iq(Ty::Set, "carbons").with_child(&carbons)).await;
    send(Stanza::presence(Ty::None).with_id("here")).await;
    send(Stanza::presence(Ty::None).with_to(room.with_resource("ann").expect("a JID"))).await;
    send(message("1")).await;
    send(message("2")).await;
    send(Stanza::message(Ty::Groupchat).with_to(room).with_id("3")).await;
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.send_iq(ping().with_id("5")).await }
    });
    stream.expect("</iq>").await;
    stream.expect("id='5'").await;
    drop(stream);
    let (mut stream, _) = returned(&server).await;
    stream
        .say(&format!(
            "<failed {SM} h='4'><item-not-found xmlns='{}'/></failed>",
            ns::STANZAS
        ))
        .await;
    stream.bind("ann@a.test/other").await;
    stream.enable("two").await;
    assert!(!connected(&mut events).await);
    assert_eq!(client.jid().as_str(), "ann@a.test/other");
    let restored = stream.expect("</iq>").await;
    assert!(
        restored.contains(ns::CARBONS) && restored.contains("enable"),
        "{restored}"
    );
    stream.expect_next("<presence id='here'", "/>").await;
    let again = stream.expect_next("<message ", "</message>").await;
    assert_eq!(attr(&again, "id"), "2", "the first was acknowledged by h");
    assert!(
        again.contains("<body>hi</body><delay ") && again.contains("stamp='20"),
        "{again}"
    );
    let again = stream.expect_next("<iq ", "</iq>").await;
    assert_eq!(attr(&again, "id"), "5");
    stream.say("<iq type='result' id='5'/>").await;
    asked.await.expect("a task").expect("an answer");
    match events.next().await {
        Some(Event::NotSent(unsent)) => {
            assert!(matches!(unsent.reason, NotAckedReason::NewSession));
            assert_eq!(unsent.stanza.head.id.as_deref(), Some("3"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ss_05_requests_that_the_old_session_has_taken_are_not_answered() {
    let server = FakeServer::new("a.test").await;
    let (client, mut events, mut stream) = managed(&server).await;
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.send_iq(ping()).await }
    });
    stream.expect("</iq>").await;
    stream.ack(1).await;
    stream.barrier().await;
    drop(stream);
    let (mut stream, _) = returned(&server).await;
    stream.say(&format!("<failed {SM}/>")).await;
    stream.bind(JID).await;
    assert_eq!(
        asked.await.expect("a task").expect_err("the old session"),
        IqError::Closed
    );
    assert!(!connected(&mut events).await);
}

#[tokio::test]
async fn ss_06_a_resumption_with_too_high_a_count_is_refused() {
    let server = FakeServer::new("a.test").await;
    let (client, mut events, mut stream) = managed(&server).await;
    client
        .send_stanza(message("1"))
        .await
        .expect("an open stream");
    stream.expect("</message>").await;
    drop(stream);
    let (mut stream, _) = returned(&server).await;
    stream.resumed("one", 2).await;
    assert!(
        stream
            .until_closed()
            .await
            .contains("handled-count-too-high")
    );
    // There is nothing to resume then.
    let mut stream = server.managed(JID, "two").await;
    let again = stream.expect("</message>").await;
    assert_eq!(attr(&again, "id"), "1");
    assert!(connected(&mut events).await);
    assert!(!connected(&mut events).await);
}

#[tokio::test]
async fn ss_07_client_state_is_told_again() {
    let server = FakeServer::new("a.test").await;
    let (client, _events, stream) = managed(&server).await;
    client.set_active(false);
    drop(stream);
    let (mut stream, _) = returned(&server).await;
    stream.resumed("one", 0).await;
    stream.expect("<inactive ").await;
    client.set_active(true);
    stream.expect("<active ").await;
}

#[tokio::test]
async fn what_is_sent_in_the_gap_waits_or_is_refused() {
    let server = FakeServer::new("a.test").await;
    let (client, mut events, stream) = managed(&server).await;
    drop(stream);
    while !matches!(events.next().await, Some(Event::Disconnected { .. })) {}
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.send_stanza(message("gap")).await }
    });
    let (mut stream, _) = returned(&server).await;
    stream.resumed("one", 0).await;
    stream.expect("id='gap'").await;
    sending.await.expect("a task").expect("sent after the gap");

    let builder = server.builder(JID).reconnect(at_once()).refuse_offline();
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    let client = client.expect("a client");
    let mut events = client.events();
    drop(stream);
    while !matches!(events.next().await, Some(Event::Reconnecting { .. })) {}
    let refused = client.send_stanza(message("gap")).await;
    assert!(matches!(
        refused.expect_err("no stream").reason,
        CloseReason::Eof
    ));
    let (mut stream, _) = returned(&server).await;
    stream.resumed("one", 0).await;
    assert!(connected(&mut events).await);
    client
        .send_stanza(message("later"))
        .await
        .expect("a stream");
    stream.expect("id='later'").await;
}

#[tokio::test]
async fn co_10_a_conflict_is_final() {
    let server = FakeServer::new("a.test").await;
    let (_client, mut events, mut stream) = managed(&server).await;
    stream
        .say(&format!(
            "<stream:error><conflict xmlns='{}'/></stream:error></stream:stream>",
            ns::STREAM_ERRORS
        ))
        .await;
    assert!(matches!(
        events.next().await,
        Some(Event::Disconnected {
            reason: CloseReason::Theirs(_)
        })
    ));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn co_11_attempts_are_counted_and_the_end_wanted_meanwhile_is_the_end() {
    let server = FakeServer::new("a.test").await;
    let builder = server.builder(JID).reconnect(Reconnect {
        tries: Some(2),
        ..at_once()
    });
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    let client = client.expect("a client");
    let mut events = client.events();
    drop((stream, server));
    let mut attempts = 0;
    while let Some(event) = events.next().await {
        attempts += u32::from(matches!(event, Event::ConnectFailed { .. }));
    }
    assert_eq!(attempts, 2);
    assert!(client.send_stanza(message("1")).await.is_err());

    let server = FakeServer::new("a.test").await;
    let builder = server.builder(JID).reconnect(Reconnect {
        first: Duration::from_secs(3600),
        max: Duration::from_secs(3600),
        tries: None,
    });
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    let client = client.expect("a client");
    let mut events = client.events();
    drop(stream);
    while !matches!(events.next().await, Some(Event::Reconnecting { .. })) {}
    client
        .disconnect()
        .await
        .expect("there is nothing to close");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn who_reads_nothing_is_told_of_a_bounded_number_of_attempts() {
    let server = FakeServer::new("a.test").await;
    let limits = Limits {
        events_max: 4,
        ..Limits::default()
    };
    let builder = server.builder(JID).limits(limits).reconnect(Reconnect {
        tries: Some(12),
        ..at_once()
    });
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    let client = client.expect("a client");
    let (mut events, mut unread) = (client.events(), client.events());
    drop((stream, server));
    let mut dropped = 0;
    while let Some(event) = events.next().await {
        dropped += u32::from(matches!(event, Event::ReceiverDropped));
    }
    assert_eq!(dropped, 1);
    let mut told = 0;
    while unread.next().await.is_some() {
        told += 1;
    }
    assert!(told <= 10, "{told}");
}

async fn through(lab: &TestLab, proxy: &Proxy, jid: &str) -> Builder {
    XmppClient::builder(jid)
        .password(&lab.account(jid).await)
        .ca_pem(lab.ca_pem())
        .connect_to(&proxy.address.to_string())
        .reconnect(at_once())
}

/// Sends so many and cuts the link now and then.
async fn send_through_cuts(client: XmppClient, to: &'static str, count: usize, proxy: &Proxy) {
    for number in 0..count {
        let message = Stanza::chat(to, &number.to_string()).expect("an address");
        client
            .send_stanza(message.with_id(&format!("m{number}")))
            .await
            .expect("a client that comes back");
        if number % 100 == 50 {
            proxy.cut();
        }
    }
}

async fn bodies(mut events: Events, count: usize) -> (Vec<usize>, usize) {
    let (mut bodies, mut resumed) = (Vec::new(), 0);
    while bodies.len() < count {
        match events.next().await {
            Some(Event::Stanza(stanza)) if stanza.kind == Kind::Message => {
                let body = stanza.body().expect("a body");
                bodies.push(body.parse().expect("a number"));
            }
            Some(Event::Connected { resumed: true, .. }) => resumed += 1,
            Some(Event::Connected { resumed: false, .. } | Event::Stanza(_)) => {}
            Some(Event::Disconnected { .. } | Event::Reconnecting { .. }) => {}
            Some(Event::ConnectFailed { reason }) => assert!(!reason.to_string().is_empty()),
            other => panic!("{other:?} after {}", bodies.len()),
        }
    }
    (bodies, resumed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ss_04_a_link_cut_again_and_again_loses_nothing_and_doubles_nothing() {
    const COUNT: usize = 500;
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let proxies = [
        Proxy::new(lab.place("a.test").address).await,
        Proxy::new(lab.place("a.test").address).await,
    ];
    let ann = through(&lab, &proxies[0], "ann@a.test/x")
        .await
        .connect()
        .await;
    let ben = through(&lab, &proxies[1], "ben@a.test/y")
        .await
        .connect()
        .await;
    let (ann, ben) = (ann.expect("a client"), ben.expect("a client"));
    let events = (ann.events(), ben.events());
    for client in [&ann, &ben] {
        client
            .send_stanza(Stanza::presence(Ty::None))
            .await
            .expect("a stream");
    }
    let ((), (), by_ann, by_ben) = tokio::join!(
        send_through_cuts(ann.clone(), "ben@a.test", COUNT, &proxies[0]),
        send_through_cuts(ben.clone(), "ann@a.test", COUNT, &proxies[1]),
        bodies(events.0, COUNT),
        bodies(events.1, COUNT),
    );
    let expected: Vec<usize> = (0..COUNT).collect();
    for (bodies, resumed) in [by_ann, by_ben] {
        assert_eq!(bodies, expected);
        assert!(resumed > 0);
    }
    // All of it is acknowledged: nothing is left to be sent again.
    for client in [ann, ben] {
        client
            .send_acked(message("last").with_to(client.jid()))
            .await
            .expect("acknowledged");
        client.disconnect().await.expect("an end in order");
    }
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn ss_05_a_server_that_starts_again_is_found_again() {
    let folder = Folder::new("client-resuming");
    let lab = TestLab::with(["a.test"], |config| {
        config.data_dir = Some(folder.0.clone());
        config.storage = Storage::Sqlite;
    });
    let lab = lab.await.expect("a server");
    let proxy = Proxy::new(lab.place("a.test").address).await;
    let builder = through(&lab, &proxy, "ann@a.test/x")
        .await
        .reconnect(Reconnect {
            tries: None,
            ..at_once()
        });
    let ann = builder.connect().await.expect("a client");
    lab.account("ben@a.test").await;
    let mut events = ann.events();
    ann.send_stanza(Stanza::presence(Ty::None))
        .await
        .expect("a stream");
    ann.send_acked(message("0").with_to(ann.jid()))
        .await
        .expect("acknowledged");
    lab.stop("a.test").await;
    while !matches!(events.next().await, Some(Event::Reconnecting { .. })) {}
    let sending = tokio::spawn({
        let ann = ann.clone();
        async move {
            ann.send_acked(message("gap").with_to(ann.jid().to_bare()))
                .await
        }
    });
    lab.start("a.test").await.expect("a server");
    proxy.move_to(lab.place("a.test").address);
    assert!(!connected(&mut events).await);
    sending.await.expect("a task").expect("acknowledged");
    let mut ids = BTreeSet::new();
    while !ids.contains("gap") {
        let stanza = events.next_stanza().await.expect("a stanza");
        if stanza.kind == Kind::Message {
            assert!(
                ids.insert(stanza.head.id.expect("an id").into_string()),
                "twice"
            );
        }
    }
    ann.disconnect().await.expect("an end in order");
}

#[tokio::test]
async fn ss_05_an_expired_session_is_begun_anew() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.sm_resume = Duration::from_millis(1);
    });
    let lab = lab.await.expect("a server");
    let proxy = Proxy::new(lab.place("a.test").address).await;
    let builder = through(&lab, &proxy, "ann@a.test/x").await;
    let ann = builder
        .reconnect(Reconnect {
            first: Duration::from_millis(300),
            max: Duration::from_millis(300),
            tries: None,
        })
        .connect()
        .await
        .expect("a client");
    let mut events = ann.events();
    ann.send_stanza(Stanza::presence(Ty::None))
        .await
        .expect("a stream");
    ann.send_acked(message("1").with_to(ann.jid()))
        .await
        .expect("acknowledged");
    assert!(!connected(&mut events).await);
    proxy.cut();
    assert!(!connected(&mut events).await);
    // Presence was repeated: the account's messages come here.
    ann.send_stanza(message("2").with_to(ann.jid().to_bare()))
        .await
        .expect("a stream");
    loop {
        let stanza = events.next_stanza().await.expect("a stanza");
        if stanza.head.id.as_deref() == Some("2") {
            break;
        }
    }
}
