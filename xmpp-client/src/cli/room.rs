//! `muc`: a room at the terminal (XEP-0045).

use super::args::MucArgs;
use super::error::CliError;
use super::input::Input;
use super::live::interrupted;
use super::show::{Out, indented, plain};
use crate::client::XmppClient;
use crate::error::Closed;
use crate::event::Event;
use crate::ext::muc::{self, Departure, Join, RoomEvent};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use xmpp_stream::jid::FullJid;
use xmpp_stream::payload::delay;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::CloseReason;

pub(super) async fn muc(
    client: &XmppClient,
    args: &MucArgs,
    input: &mut Input,
    out: &Out,
) -> Result<(), CliError> {
    let own = client.jid();
    let nick = args.nick.as_deref().or_else(|| own.as_jid().local());
    let how = Join {
        history: Some(args.history),
        ..Join::default()
    };
    let mut events = client.events();
    let joined = muc::join(client, &args.room, nick.unwrap_or("guest"), &how).await?;
    if joined.is_new {
        muc::accept_defaults(client, &args.room).await?;
    }
    let mut lines = input.lines()?;
    let end = interrupted();
    tokio::pin!(end);
    loop {
        tokio::select! {
            // What was heard is printed before the end of the input ends the visit.
            biased;
            () = &mut end => break,
            event = events.next() => match event {
                Some(Event::Stanza(stanza)) => {
                    if tell(&joined.occupant, &stanza, out)? {
                        return Err(CliError::OutOfRoom);
                    }
                }
                Some(Event::Disconnected { reason }) => return Err(Closed { reason }.into()),
                Some(_) => {}
                None => return Err(Closed { reason: CloseReason::Eof }.into()),
            },
            line = lines.recv() => match line.transpose()? {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => {
                    muc::send(client, &args.room, &line).await?;
                }
                None => break,
            },
        }
    }
    // A room that does not answer any more has nothing to say about our going.
    let _ = muc::leave(client, &joined.occupant, None).await;
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
        if let Event::Stanza(stanza) = event {
            tell(&joined.occupant, &stanza, out)?;
        }
    }
    Ok(())
}

/// Prints what the room says; true when we are out of it.
fn tell(occupant: &FullJid, stanza: &Stanza, out: &Out) -> Result<bool, CliError> {
    let Some(event) = muc::read(occupant, stanza) else {
        return Ok(false);
    };
    let text = text(&event);
    let mut fields = super::show::fields(stanza);
    fields.insert("event".into(), name(&event).into());
    out.line(&Value::Object(fields), &text)?;
    let is_out = match event {
        RoomEvent::Absent {
            is_self: true, why, ..
        } => !matches!(why, Departure::Renamed { .. } | Departure::Left),
        _ => false,
    };
    Ok(is_out)
}

fn name(event: &RoomEvent) -> &'static str {
    match event {
        RoomEvent::Present { .. } => "present",
        RoomEvent::Absent { .. } => "absent",
        RoomEvent::Message { .. } => "message",
        RoomEvent::Subject { .. } => "subject",
        RoomEvent::Private { .. } => "private",
        RoomEvent::Changed { .. } => "changed",
        RoomEvent::Declined { .. } => "declined",
        RoomEvent::Refused { .. } | RoomEvent::PresenceRefused { .. } => "refused",
    }
}

fn text(event: &RoomEvent) -> String {
    let by = |nick: &Option<Box<str>>| plain(nick.as_deref().unwrap_or("the room"));
    match event {
        RoomEvent::Present { occupant, .. } => format!("* {} is here", plain(&occupant.nick)),
        RoomEvent::Absent { occupant, why, .. } => {
            let nick = plain(&occupant.nick);
            match why {
                Departure::Renamed { nick: new } => format!("* {nick} is now {}", plain(new)),
                Departure::Kicked(_) => format!("* {nick} was kicked"),
                Departure::Banned(_) => format!("* {nick} was banned"),
                _ => format!("* {nick} is gone"),
            }
        }
        RoomEvent::Message {
            nick, body, stamp, ..
        } => {
            let stamp = stamp.map(|stamp| format!("{} ", delay::stamp(stamp)));
            let body = indented(body.as_deref().unwrap_or_default());
            format!("{}{}: {body}", stamp.unwrap_or_default(), by(nick))
        }
        // A room without one says so to whoever comes in.
        RoomEvent::Subject {
            nick: None,
            subject,
        } if subject.is_empty() => String::new(),
        RoomEvent::Subject { nick, subject } => {
            format!("* {} has set the subject: {}", by(nick), plain(subject))
        }
        RoomEvent::Private { nick, body } => {
            let body = indented(body.as_deref().unwrap_or_default());
            format!("{} (to you alone): {body}", plain(nick))
        }
        RoomEvent::Declined { by, .. } => {
            let who = by.as_ref().map_or("somebody", |by| by.as_str());
            format!("* {} does not come", plain(who))
        }
        RoomEvent::Refused { error, .. } | RoomEvent::PresenceRefused { error, .. } => {
            format!("* refused: {}", plain(&error.to_string()))
        }
        RoomEvent::Changed { .. } => "* the room has changed".to_owned(),
    }
}
