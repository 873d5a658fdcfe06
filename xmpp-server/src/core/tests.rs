//! What the core does between tasks, played by hand.

use super::*;
use crate::Server;
use crate::session::account::Shown;
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
    core.bind(&account, Some("r"), peer).await.unwrap()
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
