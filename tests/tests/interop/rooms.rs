//! Rooms: join, speak, leave, configure, govern, invite; the archive of a room.

use super::peer::Peer;
use super::stage::{Outcome, find};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use xmpp_client::ext::disco;
use xmpp_client::ext::mam::{self, Bounds, Query};
use xmpp_client::ext::muc::{
    self, Affiliation, AffiliationChange, Departure, Invitation, Join, JoinError, Joined,
    Membership, Role, RoomError, RoomEvent,
};
use xmpp_client::{BareJid, Events, FullJid, XmppClient};

/// A room that nobody has used; `None`: the server has no rooms.
pub(crate) async fn room(client: &XmppClient) -> Option<BareJid> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let services = disco::services(client, "http://jabber.org/protocol/muc").await;
    let (service, _) = services.expect("disco").into_iter().next()?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let room = format!("room{number}@{}", service.as_str());
    Some(BareJid::parse(&room).expect("an address"))
}

/// Joins, and makes the room ready where it is new.
pub(crate) async fn enter(client: &XmppClient, room: &BareJid, nick: &str) -> Joined {
    let joined = muc::join(client, room, nick, &Join::default()).await;
    let joined = joined.unwrap_or_else(|error| panic!("{nick}: {error}"));
    if joined.is_new {
        muc::accept_defaults(client, room).await.expect("a room");
    }
    joined
}

/// The first thing that a room says and that is looked for.
pub(crate) async fn hear<T>(
    what: &str,
    events: &mut Events,
    occupant: &FullJid,
    mut look: impl FnMut(RoomEvent) -> Option<T>,
) -> T {
    find(what, events, |stanza| look(muc::read(occupant, stanza)?)).await
}

/// By whom, and with which id.
pub(crate) type Said = (Option<Box<str>>, Option<Box<str>>);

pub(crate) fn said(wanted: &str) -> impl FnMut(RoomEvent) -> Option<Said> {
    move |event| match event {
        RoomEvent::Message { nick, id, body, .. } if body.as_deref() == Some(wanted) => {
            Some((nick, id))
        }
        _ => None,
    }
}

pub(crate) async fn join_speak_leave(peer: Arc<Peer>) -> Outcome {
    let (ann, ben) = (peer.online("muc").await, peer.online("muc").await);
    let Some(room) = room(&ann).await else {
        return Outcome::NotOffered;
    };
    let (mut ann_heard, mut ben_heard) = (ann.events(), ben.events());
    let at_ann = enter(&ann, &room, "ann").await;
    assert!(at_ann.is_new);
    assert_eq!(at_ann.me.affiliation, Affiliation::Owner);

    let taken = muc::join(&ben, &room, "ann", &Join::default()).await;
    assert_eq!(
        taken.expect_err("the nickname is taken"),
        JoinError::NickInUse
    );
    let at_ben = enter(&ben, &room, "ben").await;
    assert!(!at_ben.is_new);
    assert!(at_ben.others.iter().any(|other| &*other.nick == "ann"));
    hear(
        "Ben",
        &mut ann_heard,
        &at_ann.occupant,
        |event| match event {
            RoomEvent::Present { occupant, .. } => (&*occupant.nick == "ben").then_some(()),
            _ => None,
        },
    )
    .await;

    let id = muc::send(&ann, &room, "hello room").await.expect("open");
    for (events, occupant) in [
        (&mut ann_heard, &at_ann.occupant),
        (&mut ben_heard, &at_ben.occupant),
    ] {
        let (nick, reflected) = hear("a message", events, occupant, said("hello room")).await;
        assert_eq!(nick.as_deref(), Some("ann"));
        assert_eq!(reflected, Some(id.clone()));
    }
    muc::set_subject(&ann, &room, "things").await.expect("open");
    hear(
        "a subject",
        &mut ben_heard,
        &at_ben.occupant,
        |event| match event {
            RoomEvent::Subject { subject, .. } => (subject == "things").then_some(()),
            _ => None,
        },
    )
    .await;
    muc::send_privately(&ben, &at_ann.occupant, "psst")
        .await
        .expect("open");
    hear(
        "a private message",
        &mut ann_heard,
        &at_ann.occupant,
        |event| match event {
            RoomEvent::Private { nick, body } => {
                assert_eq!((&*nick, body.as_deref()), ("ben", Some("psst")));
                Some(())
            }
            _ => None,
        },
    )
    .await;

    let taken = muc::change_nick(&ben, &at_ben.occupant, "ann").await;
    assert!(matches!(taken, Err(RoomError::Refused(_))), "{taken:?}");
    let renamed = muc::change_nick(&ben, &at_ben.occupant, "benjamin").await;
    let renamed = renamed.expect("a new nickname");
    let membership = muc::check_membership(&ben, &renamed).await;
    assert_eq!(membership, Ok(Membership::Joined));
    muc::leave(&ben, &renamed, Some("bye")).await.expect("left");
    hear(
        "the leaving",
        &mut ann_heard,
        &at_ann.occupant,
        |event| match event {
            RoomEvent::Absent { occupant, why, .. } if &*occupant.nick == "benjamin" => {
                assert_eq!(why, Departure::Left);
                Some(())
            }
            _ => None,
        },
    )
    .await;
    let membership = muc::check_membership(&ben, &renamed).await;
    assert_eq!(membership, Ok(Membership::NotJoined));
    Outcome::Done
}

pub(crate) async fn configure_and_govern(peer: Arc<Peer>) -> Outcome {
    let (ann, ben) = (peer.online("muc").await, peer.online("muc").await);
    let Some(room) = room(&ann).await else {
        return Outcome::NotOffered;
    };
    let ben_jid = ben.jid().as_jid().to_bare().into_jid();
    let (mut ann_heard, mut ben_heard) = (ann.events(), ben.events());
    let joined = muc::join(&ann, &room, "ann", &Join::default()).await;
    let at_ann = joined.expect("a new room");
    assert!(at_ann.is_new);
    let form = muc::config(&ann, &room).await.expect("a form");
    let mut answer = form.answer();
    answer.set("muc#roomconfig_roomname", "A Room");
    answer.set("muc#roomconfig_membersonly", "1");
    muc::configure(&ann, &room, &answer)
        .await
        .expect("configured");
    let info = disco::info(&ann, room.as_jid(), None).await.expect("info");
    assert!(info.has("muc_membersonly"), "{info:?}");
    assert_eq!(info.identities[0].name.as_deref(), Some("A Room"));
    assert!(
        muc::config(&ben, &room).await.is_err(),
        "only owners configure"
    );

    let refused = muc::join(&ben, &room, "ben", &Join::default()).await;
    assert_eq!(refused.expect_err("members only"), JoinError::MembersOnly);
    let change = |affiliation| AffiliationChange {
        jid: ben_jid.clone(),
        affiliation,
        reason: Some("because".into()),
    };
    let affiliate = |affiliation| muc_affiliate(&ann, &room, change(affiliation));
    affiliate(Affiliation::Member).await;
    let members = muc::affiliations(&ann, &room, Affiliation::Member).await;
    let members = members.expect("a list");
    assert!(
        members.iter().any(|member| member.jid == ben_jid),
        "{members:?}"
    );
    let at_ben = enter(&ben, &room, "ben").await;
    assert_eq!(at_ben.me.affiliation, Affiliation::Member);

    muc::set_role(&ann, &room, "ben", Role::Moderator, None)
        .await
        .expect("a role");
    hear(
        "a role",
        &mut ben_heard,
        &at_ben.occupant,
        |event| match event {
            RoomEvent::Present {
                occupant,
                is_self: true,
                ..
            } => (occupant.role == Role::Moderator).then_some(()),
            _ => None,
        },
    )
    .await;
    muc::kick(&ann, &room, "ben", Some("out"))
        .await
        .expect("kicked");
    hear(
        "the kick",
        &mut ben_heard,
        &at_ben.occupant,
        |event| match event {
            RoomEvent::Absent {
                is_self: true, why, ..
            } => {
                let Departure::Kicked(removal) = why else {
                    panic!("{why:?}")
                };
                assert_eq!(removal.reason.as_deref(), Some("out"));
                Some(())
            }
            _ => None,
        },
    )
    .await;
    let at_ben = enter(&ben, &room, "ben").await;
    affiliate(Affiliation::Outcast).await;
    hear(
        "the ban",
        &mut ben_heard,
        &at_ben.occupant,
        |event| match event {
            RoomEvent::Absent {
                is_self: true, why, ..
            } => {
                assert!(matches!(why, Departure::Banned(_)), "{why:?}");
                Some(())
            }
            _ => None,
        },
    )
    .await;
    match muc::join(&ben, &room, "ben", &Join::default()).await {
        // In a room for members Prosody names that reason first.
        Err(JoinError::Banned | JoinError::MembersOnly) => {}
        // ejabberd lets him in, and says that he is an outcast.
        Ok(joined) if joined.me.affiliation == Affiliation::Outcast && peer.name == "ejabberd" => {}
        other => panic!("{other:?}"),
    }

    muc::destroy(&ann, &room, None, Some("over"))
        .await
        .expect("destroyed");
    hear(
        "the end",
        &mut ann_heard,
        &at_ann.occupant,
        |event| match event {
            RoomEvent::Absent {
                is_self: true,
                why: Departure::Destroyed { reason, .. },
                ..
            } => {
                assert_eq!(reason.as_deref(), Some("over"));
                Some(())
            }
            _ => None,
        },
    )
    .await;
    Outcome::Done
}

async fn muc_affiliate(client: &XmppClient, room: &BareJid, change: AffiliationChange) {
    let changed = muc::set_affiliations(client, room, &[change]).await;
    changed.expect("an affiliation");
}

pub(crate) async fn invite(peer: Arc<Peer>) -> Outcome {
    let (ann, ben) = (peer.online("muc").await, peer.online("muc").await);
    let Some(room) = room(&ann).await else {
        return Outcome::NotOffered;
    };
    let (mut ann_heard, mut ben_heard) = (ann.events(), ben.events());
    let at_ann = enter(&ann, &room, "ann").await;
    let ben_jid = ben.jid().as_jid().to_bare().into_jid();
    let invited = |invitation: Invitation, is_direct: bool| {
        assert_eq!(invitation.room, room);
        (invitation.is_direct == is_direct).then_some(invitation)
    };
    muc::invite(&ann, &room, std::slice::from_ref(&ben_jid), Some("come"))
        .await
        .expect("open");
    let invitation = find("an invitation", &mut ben_heard, |stanza| {
        invited(muc::read_invitation(stanza)?, false)
    })
    .await;
    assert_eq!(invitation.reason.as_deref(), Some("come"));
    let by = invitation.by.expect("an inviter").to_bare();
    assert!(by == ann.jid().as_jid().to_bare() || by == room, "{by:?}");
    muc::decline(&ben, &room, ann.jid().as_jid(), Some("no"))
        .await
        .expect("open");
    hear(
        "the refusal",
        &mut ann_heard,
        &at_ann.occupant,
        |event| match event {
            RoomEvent::Declined { reason, .. } => {
                assert_eq!(reason.as_deref(), Some("no"));
                Some(())
            }
            _ => None,
        },
    )
    .await;
    muc::invite_directly(&ann, &room, &ben_jid, Some("do"), None)
        .await
        .expect("open");
    let invitation = find("an invitation", &mut ben_heard, |stanza| {
        invited(muc::read_invitation(stanza)?, true)
    })
    .await;
    assert_eq!(invitation.reason.as_deref(), Some("do"));
    enter(&ben, &invitation.room, "ben").await;
    Outcome::Done
}

pub(crate) async fn archive_of_a_room(peer: Arc<Peer>) -> Outcome {
    let ann = peer.online("muc").await;
    let Some(room) = room(&ann).await else {
        return Outcome::NotOffered;
    };
    let mut heard = ann.events();
    let at_ann = enter(&ann, &room, "ann").await;
    let support = mam::support(&ann, Some(&room)).await.expect("support");
    if !support.archive {
        return Outcome::NotOffered;
    }
    let texts = ["r1", "r2", "r3"];
    for text in texts {
        muc::send(&ann, &room, text).await.expect("open");
        hear("a message", &mut heard, &at_ann.occupant, said(text)).await;
    }
    let bounds = Bounds {
        page: 2,
        total: 100,
    };
    let mut pages = mam::pages(&ann, Some(&room), Query::default(), bounds)
        .await
        .expect("pages");
    let mut bodies = Vec::new();
    while let Some(page) = pages.next().await.expect("a page") {
        bodies.extend(page.messages.iter().filter_map(|one| one.message.body()));
    }
    assert_eq!(bodies, texts);
    muc::leave(&ann, &at_ann.occupant, None)
        .await
        .expect("left");
    Outcome::Done
}
