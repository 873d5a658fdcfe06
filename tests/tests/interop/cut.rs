//! Messages both ways, a contact and a room, and the link cut in the middle: after it the session goes
//! on where it was, nothing is lost, and nothing comes twice.

use super::peer::Peer;
use super::rooms;
use super::stage::soon;
use std::time::Duration;
use xmpp_client::ext::muc;
use xmpp_client::{
    BareJid, Event, Events, ImEvent, Jid, Kind, Reconnect, Stanza, Subscription, Ty, XmppClient,
    XmppProtocol,
};
use xmpp_testkit::Proxy;

/// Messages each way; the link is cut after a third and after two thirds of them.
const MESSAGES: usize = 60;

fn at_once() -> Reconnect {
    Reconnect {
        tries: Some(20),
        first: Duration::from_millis(10),
        max: Duration::from_millis(200),
    }
}

/// One server: Ann by STARTTLS over a link that is cut, Ben by direct TLS.
pub(crate) async fn play(peer: &Peer) {
    let proxy = Proxy::new(peer.place.address).await;
    let accounts = [peer.account().await, peer.account().await];
    let ann = peer
        .builder(&accounts[0], "starttls")
        .connect_to(&proxy.address.to_string())
        .reconnect(at_once());
    let ann = ann.connect().await.expect("STARTTLS");
    let address = peer.place.address_tls.expect("a port").to_string();
    let ben = peer.builder(&accounts[1], "tls").connect_to(&address);
    let ben = ben.direct_tls().connect().await.expect("direct TLS");
    let mut heard = (ann.events(), ben.events());
    befriend(&ann, &accounts[1].jid).await;
    ben.send_stanza(Stanza::presence(Ty::None))
        .await
        .expect("open");

    let room = rooms::room(&ann).await;
    if let Some(room) = &room {
        rooms::enter(&ann, room, "ann").await;
        rooms::enter(&ben, room, "ben").await;
    }
    let (to_ann, to_ben) = (ann.jid().into_jid(), ben.jid().into_jid());
    for number in 0..MESSAGES {
        say(&ben, &to_ann, "to ann", number).await;
        say(&ann, &to_ben, "to ben", number).await;
        if let Some(room) = &room {
            muc::send(&ben, room, &format!("to all {number}"))
                .await
                .expect("open");
        }
        if number == MESSAGES / 3 || number == MESSAGES * 2 / 3 {
            proxy.cut();
        }
    }
    let kinds = if room.is_some() { 2 } else { 1 };
    let (mut got, resumed) = collect(&mut heard.0, &["to ann", "to all"][..kinds]).await;
    if peer.name == "ejabberd" {
        // It sends what waited for a lost connection in another order than it came.
        let number = |body: &String| {
            body.rsplit(' ')
                .next()
                .and_then(|n| n.parse::<usize>().ok())
        };
        got.iter_mut().for_each(|got| got.sort_by_key(number));
    }
    assert_eq!(
        got,
        expected(&["to ann", "to all"][..kinds]),
        "{}",
        peer.name
    );
    assert!(!resumed.is_empty(), "{}: the link was cut", peer.name);
    assert!(resumed.iter().all(|resumed| *resumed), "{}", peer.name);
    let (got, _) = collect(&mut heard.1, &["to ben", "to all"][..kinds]).await;
    assert_eq!(
        got,
        expected(&["to ben", "to all"][..kinds]),
        "{}",
        peer.name
    );
    assert!(proxy.accepted() > 1);
    ann.disconnect().await.expect("an end in order");
    ben.disconnect().await.expect("an end in order");
}

/// The roster, and a contact in it.
async fn befriend(ann: &XmppClient, ben: &BareJid) {
    let im = XmppProtocol::new(ann);
    let mut events = im.events();
    im.go_online().await.expect("open");
    im.set_contact(ben, Some("Ben"), &[])
        .await
        .expect("a contact");
    soon("a push", async {
        while let Some(event) = events.next().await {
            match event {
                ImEvent::RosterChanged(contact) if contact.jid == *ben => {
                    assert_eq!(contact.subscription, Subscription::None);
                    return;
                }
                _ => {}
            }
        }
        panic!("the stream is over");
    })
    .await;
}

/// What is sent while the link is down goes when it is up again.
async fn say(client: &XmppClient, to: &Jid, what: &str, number: usize) {
    let message = Stanza::chat(to.as_str(), &format!("{what} {number}")).expect("an address");
    let message = message.with_id(&format!("{}{number}", what.replace(' ', "-")));
    client.send_stanza(message).await.expect("taken");
}

fn expected(kinds: &[&str]) -> Vec<Vec<String>> {
    let all = |kind: &&str| {
        (0..MESSAGES)
            .map(|number| format!("{kind} {number}"))
            .collect()
    };
    kinds.iter().map(all).collect()
}

/// The bodies of each kind in the order they came, until a last one of each is there and what follows
/// a ping has come too; and whether each new connection was resumed.
async fn collect(events: &mut Events, kinds: &[&str]) -> (Vec<Vec<String>>, Vec<bool>) {
    let mut got = vec![Vec::new(); kinds.len()];
    let mut resumed = Vec::new();
    let mut first = true;
    let last = |got: &[Vec<String>]| {
        let mut all = got.iter().zip(kinds);
        all.all(|(got, kind)| got.contains(&format!("{kind} {}", MESSAGES - 1)))
    };
    soon("the last message", async {
        while !last(&got) {
            match events.next().await.expect("the stream is open") {
                Event::Connected { resumed: is, .. } if !std::mem::take(&mut first) => {
                    resumed.push(is);
                }
                Event::Stanza(stanza) if stanza.kind == Kind::Message => {
                    let body = stanza.body().unwrap_or_default();
                    for (kind, got) in kinds.iter().zip(&mut got) {
                        if body.starts_with(kind) {
                            got.push(body.clone());
                        }
                    }
                }
                Event::NotSent(lost) => panic!("{lost:?}"),
                Event::AuthFailed { reason } => panic!("{reason}"),
                _ => {}
            }
        }
    })
    .await;
    (got, resumed)
}
