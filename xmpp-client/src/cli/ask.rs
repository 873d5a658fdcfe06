//! `send`, `ping` and `disco`: one question, one answer.

use super::args::{DiscoArgs, MessageType, SendArgs};
use super::error::CliError;
use super::input::Input;
use super::show::{Out, plain};
use crate::client::XmppClient;
use crate::event::{Event, Events};
use crate::ext::ping::Outcome;
use crate::ext::{disco as ext_disco, fresh_id, ping as ext_ping};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

pub(super) async fn send(
    client: &XmppClient,
    args: &SendArgs,
    input: &mut Input,
    out: &Out,
) -> Result<(), CliError> {
    let body = match args.body.as_str() {
        "-" => input.text()?,
        body => body.to_owned(),
    };
    let id = fresh_id();
    let ty = match args.ty {
        MessageType::Chat => Ty::Chat,
        MessageType::Normal => Ty::None,
        MessageType::Headline => Ty::Headline,
    };
    let message = Stanza::message(ty).with_to(args.to.clone()).with_id(&id);
    let message = match &args.subject {
        Some(subject) => {
            message.with_child(&Element::new(ns::CLIENT, "subject").with_text(subject))
        }
        None => message,
    };
    let message = message.with_child(&Element::new(ns::CLIENT, "body").with_text(&body));
    let mut events = client.events();
    client.send_stanza(message).await?;
    handled(client).await?;
    match bounced(&mut events, &id).await {
        Some(error) => Err(CliError::NotDelivered(error)),
        None => Ok(out.line(&json!({ "id": id, "to": args.to.as_str() }), "")?),
    }
}

/// Returns when the server has handled all that was sent: it answers in order.
pub(super) async fn handled(client: &XmppClient) -> Result<(), CliError> {
    ext_ping::ping(client, None).await?;
    Ok(())
}

/// The error by which a message came back, among what has come so far.
async fn bounced(events: &mut Events, id: &str) -> Option<StanzaError> {
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
        if let Event::Stanza(stanza) = event
            && stanza.kind == Kind::Message
            && stanza.head.id.as_deref() == Some(id)
            && let Some(error) = stanza.error()
        {
            return Some(error);
        }
    }
    None
}

pub(super) async fn ping(client: &XmppClient, to: Option<&Jid>, out: &Out) -> Result<(), CliError> {
    let own = Jid::domain_only(client.jid().as_jid().domain());
    let whom = to.cloned().or_else(|| own.ok());
    let whom = whom.unwrap_or_else(|| client.jid().into_jid());
    match ext_ping::ping(client, Some(&whom)).await? {
        Outcome::Pong { after } => {
            let millis = after.as_secs_f64() * 1000.0;
            let value = json!({ "from": whom.as_str(), "ms": millis });
            let text = format!("pong from {} in {millis:.1} ms", plain(whom.as_str()));
            Ok(out.line(&value, &text)?)
        }
        Outcome::NoAnswer => Err(CliError::NoPong(whom, None)),
        Outcome::Unsupported { error, .. }
        | Outcome::Unreachable(error)
        | Outcome::Refused(error) => Err(CliError::NoPong(whom, Some(error))),
    }
}

pub(super) async fn disco(
    client: &XmppClient,
    args: &DiscoArgs,
    out: &Out,
) -> Result<(), CliError> {
    let node = args.node.as_deref();
    let info = ext_disco::info(client, &args.to, node).await?;
    // Many know what they are and have no list of what is theirs.
    let items = ext_disco::items(client, &args.to, node).await;
    let items = items.unwrap_or_default();
    let mut lines = Vec::new();
    for identity in &info.identities {
        let name = identity
            .name
            .as_deref()
            .map(|name| format!(" ({})", plain(name)));
        let (category, ty) = (plain(&identity.category), plain(&identity.ty));
        lines.push(format!("is {category}/{ty}{}", name.unwrap_or_default()));
    }
    let mut features = info.features.clone();
    features.sort();
    lines.extend(
        features
            .iter()
            .map(|feature| format!("can {}", plain(feature))),
    );
    for item in &items {
        let node = item
            .node
            .as_deref()
            .map(|node| format!(" node {}", plain(node)));
        let name = item
            .name
            .as_deref()
            .map(|name| format!(" ({})", plain(name)));
        let (node, name) = (node.unwrap_or_default(), name.unwrap_or_default());
        lines.push(format!("has {}{node}{name}", plain(item.jid.as_str())));
    }
    let identity = |identity: &ext_disco::Identity| json!({ "category": identity.category, "type": identity.ty, "name": identity.name });
    let item = |item: &ext_disco::Item| json!({ "jid": item.jid.as_str(), "node": item.node, "name": item.name });
    let value = json!({
        "jid": args.to.as_str(),
        "identities": info.identities.iter().map(identity).collect::<Vec<_>>(),
        "features": features,
        "items": items.iter().map(item).collect::<Vec<_>>(),
    });
    Ok(out.line(&value, &lines.join("\n"))?)
}
