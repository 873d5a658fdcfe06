//! What the core does between tasks, played by hand.

use super::*;
use crate::Server;
use crate::config::Config;
use crate::modules::{Module, Scope};
use crate::session::account::Shown;
use crate::store::WriteOp;
use crate::users::Users;
use std::net::{IpAddr, Ipv4Addr};
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::Password;

async fn session(core: &Arc<Core>, local: &str) -> Session {
    let account = BareJid::account(local, "localhost").unwrap();
    let users = Users::Running(Arc::clone(core));
    users
        .add(&account, Password("secret".to_owned()))
        .await
        .unwrap();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    core.bind(&account, Some("r"), peer.into()).await.unwrap()
}

async fn sends(core: &Arc<Core>, session: &Session, xml: &str) {
    core.from_session(session, Stanza::parse(xml).unwrap())
        .await;
}

/// The stanzas among some effects, as text.
fn routed(effects: &[Effect]) -> Vec<String> {
    let stanza = |effect: &Effect| match effect {
        Effect::Route(stanza) => Some(stanza.to_xml()),
        _ => None,
    };
    effects.iter().filter_map(stanza).collect()
}

/// A probe was answered with a presence, a newer one was broadcast, and then the answer arrived:
/// the contact kept the older one for good.
#[tokio::test]
async fn c6121_pr_05_a_presence_that_was_overtaken_is_corrected() {
    let config = Config::default_zero().memory().listen([]).listen_tls([]);
    let running = Server::start(config).await.unwrap();
    let handle = running.handle();
    let core = handle.core();
    let (ann, ben) = (session(core, "ann").await, session(core, "ben").await);
    sends(
        core,
        &ann,
        "<presence type='subscribe' to='ben@localhost'/>",
    )
    .await;
    sends(
        core,
        &ben,
        "<presence type='subscribed' to='ann@localhost'/>",
    )
    .await;
    sends(core, &ben, "<presence id='old'/>").await;
    let current = || {
        ben.account
            .lock()
            .session(ben.sid)
            .unwrap()
            .presence
            .clone()
    };
    let shown = |presence| Shown {
        jid: ben.jid.clone(),
        presence,
        to: ann.jid.clone().into(),
    };
    let old = current().unwrap();
    assert!(
        core.recheck(&shown(Arc::clone(&old))).is_empty(),
        "nothing has changed"
    );
    sends(core, &ben, "<presence id='new'/>").await;
    let effects = core.recheck(&shown(Arc::clone(&old)));
    assert_eq!(
        routed(&effects),
        ["<presence to='ann@localhost/r' from='ben@localhost/r' id='new'/>"]
    );
    sends(
        core,
        &ben,
        "<presence type='unsubscribed' to='ann@localhost'/>",
    )
    .await;
    let effects = core.recheck(&shown(current().unwrap()));
    assert_eq!(
        routed(&effects),
        ["<presence to='ann@localhost/r' from='ben@localhost/r' type='unavailable'/>"],
        "who may no longer see it is told that it is gone"
    );
    running.shutdown().await;
}

/// A module of an embedder's that fails.
struct Faulty;

impl Module for Faulty {
    fn info(&self) -> &'static crate::modules::Info {
        &crate::modules::Info {
            name: "faulty",
            specs: &[],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        use crate::hooks::Filter;
        use crate::modules::IqKind;
        scope.hook(Stage::Rate, Filter::kind(Kind::Message), |_, _| {
            panic!("a fault in a hook")
        });
        scope.iq(IqKind::Get, "urn:test:fault", "q", |_| async {
            panic!("a fault in a handler")
        });
    }
}

/// The stanzas that wait for a session, as text.
fn queued(session: &Session) -> Vec<String> {
    let mut all = Vec::new();
    session.outbox.send(&Limits::default(), |item| {
        if let Item::One(stanza) = item {
            all.push(stanza.to_xml());
        }
        true
    });
    session.outbox.flushed();
    all
}

/// A panic in a handler took the connection's task with it and left its session behind.
#[tokio::test]
async fn a_failing_handler_harms_one_stanza() {
    let config = Config::default_zero().memory().listen([]).listen_tls([]);
    let running = Server::start_with(config, &[&Faulty]).await.unwrap();
    let handle = running.handle();
    let core = handle.core();
    let ann = session(core, "ann").await;
    sends(
        core,
        &ann,
        "<message to='ann@localhost' id='m'><body>b</body></message>",
    )
    .await;
    let iq = "<iq type='get' id='i' to='localhost'><q xmlns='urn:test:fault'/></iq>";
    sends(core, &ann, iq).await;
    let ping = "<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";
    sends(core, &ann, ping).await;
    let answers = queued(&ann);
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers[0].contains("id='m'") && answers[0].contains("internal-server-error"));
    assert!(answers[1].contains("id='i'") && answers[1].contains("internal-server-error"));
    assert!(answers[2].contains("id='p'") && answers[2].contains("type='result'"));
    running.shutdown().await;
}

/// After a write that memory had not seen, every later change of the roster failed for good.
#[tokio::test]
async fn a_roster_changed_elsewhere_is_read_again() {
    let config = Config::default_zero().memory().listen([]).listen_tls([]);
    let running = Server::start(config).await.unwrap();
    let handle = running.handle();
    let core = handle.core();
    let ann = session(core, "ann").await;
    let ver = ann.account.roster().ver;
    let elsewhere = WriteOp::RosterRemove {
        account: ann.account.jid.clone(),
        jid: BareJid::parse("x@localhost").unwrap(),
        expect: Some(ver),
        ver: ver + 1,
        remember: false,
        forgotten: 0,
    };
    core.store
        .submit(smallvec::smallvec![elsewhere])
        .await
        .unwrap();
    let set = "<iq type='set' id='s'><query xmlns='jabber:iq:roster'>\
               <item jid='ben@localhost'/></query></iq>";
    sends(core, &ann, set).await;
    let answers = queued(&ann);
    assert!(
        answers
            .iter()
            .any(|xml| xml.contains("id='s'") && xml.contains("type='result'")),
        "{answers:?}"
    );
    assert!(ann.account.roster().get("ben@localhost").is_some());
    running.shutdown().await;
}

/// A page was read slowly; meanwhile its session went unavailable, which leaves what was not sent to
/// others, and came again: the page is not placed, as what stood before it would be skipped.
#[tokio::test]
async fn im_of_02_a_page_of_an_earlier_draw_is_not_placed() {
    let config = Config::default_zero().memory().listen([]).listen_tls([]);
    let running = Server::start(config).await.unwrap();
    let handle = running.handle();
    let core = handle.core();
    let (ann, ben) = (session(core, "ann").await, session(core, "ben").await);
    for id in 0..120 {
        let xml = format!("<message to='ann@localhost' id='{id}'><body>b</body></message>");
        sends(core, &ben, &xml).await;
    }
    sends(core, &ann, "<presence/>").await;
    let feed = || ann.account.lock().session(ann.sid).unwrap().feed.clone();
    let draw = || async {
        let feed = feed().unwrap();
        let rows = feed.rows.clone().unwrap();
        let page = core.read_page(&ann.account, ann.sid, &feed, &rows).await;
        (rows, page.unwrap().unwrap())
    };
    let (rows, (ids, found)) = draw().await;
    core.place_page(&ann.host, &ann.account, ann.sid, &rows, (&ids, found));
    assert_eq!(ann.outbox.load().0, ids.len() + 1, "its own presence waits");
    let (late, (late_ids, late_found)) = draw().await;
    sends(core, &ann, "<presence type='unavailable'/>").await;
    sends(core, &ann, "<presence/>").await;
    let before = ann.outbox.load();
    core.place_page(
        &ann.host,
        &ann.account,
        ann.sid,
        &late,
        (&late_ids, late_found),
    );
    assert_eq!(ann.outbox.load(), before);
    let (_, (again, _)) = draw().await;
    assert_eq!(again, ids, "from the first that was not sent");
    running.shutdown().await;
}

/// A session that was bound just when its domain went away stayed in its account for good.
#[tokio::test]
async fn a_session_outlives_its_domain_in_no_count() {
    let config = Config::default_zero().memory().listen([]).listen_tls([]);
    let running = Server::start(config).await.unwrap();
    let handle = running.handle();
    let core = handle.core();
    let ann = session(core, "ann").await;
    let other = Config::default_zero().with_domain("b.test").unwrap();
    let settings = Settings::new(other, &[], None).unwrap();
    *core.settings.write().unwrap() = Arc::new(settings);
    core.session_over(&ann).await;
    assert_eq!(core.registry.sessions.load(Ordering::Relaxed), 0);
    assert!(ann.account.lock().sessions.is_empty());
}

#[tokio::test]
async fn a_domain_that_leaves_binds_nobody() {
    let config = Config::default_zero().memory().listen([]).listen_tls([]);
    let running = Server::start(config).await.unwrap();
    let handle = running.handle();
    let core = handle.core();
    let ann = session(core, "ann").await;
    core.host("localhost").unwrap().leave();
    let again = core.bind(&ann.account.jid, None, ann.peer.into()).await;
    assert_eq!(again.err(), Some(StanzaError::not_authorized()));
    assert_eq!(core.registry.sessions.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn effects_of_one_stanza_are_bounded() {
    let mut config = Config::default_zero().memory().listen([]).listen_tls([]);
    config.limits.effects_max = 5;
    let running = Server::start(config).await.unwrap();
    let handle = running.handle();
    let core = handle.core();
    let owner = BareJid::account("ann", "localhost").unwrap();
    for (space, wished, done) in [("few", 4, 4), ("as many", 5, 5), ("one more", 6, 5)] {
        let wish = |key: u32| {
            Effect::Write(WriteOp::Kv {
                space,
                owner: owner.clone(),
                key: key.to_string(),
                val: Some("x".into()),
                expect: None,
            })
        };
        core.run(None, (0..wished).map(wish).collect()).await;
        let keys = core.store.kv_keys(space, &owner).await.unwrap();
        assert_eq!(keys.len(), done, "{space}");
    }
}
