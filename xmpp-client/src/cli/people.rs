//! `roster` and `presence`, `register` and `passwd`: contacts, and the own account.

use super::args::{Options, PresenceArgs, RegisterArgs, RosterAddArgs, RosterArgs, RosterChange};
use super::ask::handled;
use super::builder;
use super::error::CliError;
use super::input::Input;
use super::show::{Out, plain};
use crate::client::XmppClient;
use crate::protocol::{Contact, Presence, Show, Subscription, XmppProtocol};
use serde_json::json;
use std::time::Duration;
use xmpp_stream::stanza::{Stanza, Ty};

pub(super) async fn roster(
    client: &XmppClient,
    args: RosterArgs,
    out: &Out,
) -> Result<(), CliError> {
    let im = XmppProtocol::new(client);
    im.load_roster().await?;
    match args.change {
        None => {
            for contact in im.roster() {
                show(&contact, out)?;
            }
            Ok(())
        }
        Some(RosterChange::Add(args)) => set_contact(&im, args, out).await,
        Some(RosterChange::Remove { contact: jid }) => {
            im.remove_contact(&jid).await?;
            let text = format!("{} is removed", plain(jid.as_str()));
            Ok(out.line(
                &json!({ "jid": jid.as_str(), "subscription": "remove" }),
                &text,
            )?)
        }
    }
}

/// Adds or changes a contact; what was not given stays.
async fn set_contact(im: &XmppProtocol, args: RosterAddArgs, out: &Out) -> Result<(), CliError> {
    let known = im.contact(&args.contact);
    let mut contact = known.unwrap_or_else(|| Contact::new(args.contact));
    contact.name = args.name.or(contact.name);
    if args.no_groups || !args.group.is_empty() {
        contact.groups = args.group;
    }
    let groups: Vec<&str> = contact.groups.iter().map(String::as_str).collect();
    let name = contact.name.as_deref();
    im.set_contact(&contact.jid, name, &groups).await?;
    show(&contact, out)
}

fn show(contact: &Contact, out: &Out) -> Result<(), CliError> {
    let subscription = name_of(contact.subscription);
    let value = json!({
        "jid": contact.jid.as_str(),
        "name": contact.name,
        "subscription": subscription,
        "asked": contact.asked,
        "groups": contact.groups,
    });
    Ok(out.line(&value, &line(contact, subscription))?)
}

fn line(contact: &Contact, subscription: &str) -> String {
    let mut line = format!("{}  {subscription}", plain(contact.jid.as_str()));
    if contact.asked {
        line.push_str(", asked");
    }
    if let Some(name) = &contact.name {
        line = format!("{line}  {}", plain(name));
    }
    if !contact.groups.is_empty() {
        line = format!("{line}  [{}]", plain(&contact.groups.join(", ")));
    }
    line
}

fn name_of(subscription: Subscription) -> &'static str {
    match subscription {
        Subscription::None => "none",
        Subscription::To => "to",
        Subscription::From => "from",
        Subscription::Both => "both",
    }
}

pub(super) async fn presence(
    client: &XmppClient,
    args: &PresenceArgs,
    out: &Out,
) -> Result<(), CliError> {
    let im = XmppProtocol::new(client);
    let changes = [
        (&args.subscribe, Ty::Subscribe),
        (&args.approve, Ty::Subscribed),
        (&args.refuse, Ty::Unsubscribed),
        (&args.unsubscribe, Ty::Unsubscribe),
    ];
    if let Some((Some(jid), ty)) = changes.into_iter().find(|(jid, _)| jid.is_some()) {
        let presence = Stanza::presence(ty).with_to(jid.as_jid().clone());
        client.send_stanza(presence).await?;
        return handled(client).await;
    }
    im.go_online().await?;
    handled(client).await?;
    if im
        .roster()
        .iter()
        .any(|contact| contact.subscription.is_to())
    {
        tokio::time::sleep(Duration::from_secs(args.wait)).await;
    }
    for contact in im.roster() {
        for presence in im.presence_of(&contact.jid) {
            let show = show_of(presence.show);
            let value = json!({
                "from": presence.from.as_str(),
                "show": show,
                "status": presence.status,
                "priority": presence.priority,
            });
            out.line(&value, &available(&presence, show))?;
        }
    }
    Ok(())
}

fn available(presence: &Presence, show: &str) -> String {
    let status = presence
        .status
        .as_deref()
        .map(|status| format!(": {}", plain(status)));
    let from = plain(presence.from.as_str());
    format!("{from}  {show}{}", status.unwrap_or_default())
}

fn show_of(show: Show) -> &'static str {
    match show {
        Show::Chat => "chat",
        Show::Away => "away",
        Show::Xa => "xa",
        Show::Dnd => "dnd",
        Show::Online => "available",
    }
}

pub(super) async fn change_password(
    client: &XmppClient,
    input: &mut Input,
    out: &Out,
) -> Result<(), CliError> {
    let password = input.new_password()?;
    XmppProtocol::new(client).change_password(&password).await?;
    let jid = client.jid().as_jid().to_bare();
    let text = format!("the password of {} is changed", plain(jid.as_str()));
    Ok(out.line(&json!({ "jid": jid.as_str() }), &text)?)
}

pub(super) async fn register(
    options: &Options,
    input: &mut Input,
    out: &Out,
    args: &RegisterArgs,
) -> Result<(), CliError> {
    let password = input.first_password(options)?;
    let mut guest = builder(options).connect_guest().await?;
    let mut questions = guest.questions().await?;
    let jid = options.jid();
    let username = jid.split_once('@').map_or("", |(local, _)| local);
    let fields = args.field.iter().map(|(name, value)| (&**name, &**value));
    for (name, value) in [("username", username), ("password", &*password)]
        .into_iter()
        .chain(fields)
    {
        if !questions.set(name, value) {
            return Err(CliError::NotAsked(name.to_owned()));
        }
    }
    let registered = guest.register(&questions).await?;
    let account = guest.account(&registered);
    let account = account.map_or(jid, |account| account.as_str().to_owned());
    // The account is there, however the stream ends.
    let _ = guest.disconnect().await;
    let text = format!("{} is registered", plain(&account));
    Ok(out.line(&json!({ "jid": account }), &text)?)
}
