//! `listen` and `raw`: what comes, as it comes.

use super::args::{ListenArgs, Options, RawArgs};
use super::connect;
use super::error::CliError;
use super::input::Input;
use super::show::{Out, plain};
use crate::client::XmppClient;
use crate::error::Closed;
use crate::event::Event;
use crate::ext::fresh_id;
use crate::limits::after;
use crate::protocol::{Options as Protocol, XmppProtocol};
use crate::reconnect::Reconnect;
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::stream::CloseReason;

/// Ctrl-C, or a polite end from elsewhere.
pub(super) async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

pub(super) async fn listen(
    options: &Options,
    input: &mut Input,
    out: &Out,
    args: &ListenArgs,
) -> Result<(), CliError> {
    let client = connect(options, input, Reconnect::default()).await?;
    let done = follow(&client, out, args).await;
    let _ = client.disconnect().await;
    done
}

async fn follow(client: &XmppClient, out: &Out, args: &ListenArgs) -> Result<(), CliError> {
    let mut events = client.events();
    // Others may ask whether we are there, and what we are.
    let protocol = Protocol {
        receipts: false,
        chat_states: false,
        ..Protocol::default()
    };
    let _answers = XmppProtocol::with(client, protocol);
    let mut last = CloseReason::Eof;
    let mut messages = 0;
    let end = interrupted();
    tokio::pin!(end);
    client.send_stanza(Stanza::presence(Ty::None)).await?;
    while args.count.is_none_or(|count| messages < count) {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut end => return Ok(()),
        };
        match event {
            Some(Event::Stanza(stanza)) => {
                let is_message = stanza.kind == Kind::Message;
                messages += u64::from(is_message);
                if is_message || !args.messages {
                    out.stanza(&stanza)?;
                }
            }
            Some(event) => {
                if !args.messages {
                    tell(&event, out)?;
                }
                if let Event::Disconnected { reason } = event {
                    last = reason;
                }
            }
            None => return Err(CliError::Closed(Closed { reason: last })),
        }
    }
    Ok(())
}

/// What happens to the connection.
fn tell(event: &Event, out: &Out) -> Result<(), CliError> {
    match event {
        Event::Connected { jid, resumed } => {
            let value = json!({ "kind": "connected", "jid": jid.as_str(), "resumed": resumed });
            out.line(&value, &format!("connected as {}", plain(jid.as_str())))?;
        }
        Event::Disconnected { reason } => {
            let reason = reason.clone();
            let text = plain(&Closed { reason }.to_string());
            out.line(&json!({ "kind": "disconnected", "reason": text }), &text)?;
        }
        Event::Reconnecting { delay, .. } => {
            let value = json!({ "kind": "reconnecting", "ms": delay.as_millis() });
            let text = format!("trying again in {:.1} s", delay.as_secs_f64());
            out.line(&value, &text)?;
        }
        Event::ConnectFailed { reason } => {
            let text = plain(&reason.to_string());
            out.line(&json!({ "kind": "not-connected", "reason": text }), &text)?;
        }
        _ => {}
    }
    Ok(())
}

pub(super) async fn raw(
    client: &XmppClient,
    args: &RawArgs,
    input: &mut Input,
    out: &Out,
) -> Result<(), CliError> {
    let mut events = client.events();
    let mut asked = HashSet::new();
    let end = interrupted();
    tokio::pin!(end);
    let mut number = 0;
    let mut lines = match args.stanzas.is_empty() {
        true => Some(input.lines()?),
        false => None,
    };
    let mut given = args.stanzas.iter();
    let mut until = None;
    // Until the last one is sent, then until each request has its answer.
    while until.is_none() || !asked.is_empty() {
        let next = async {
            match &mut lines {
                Some(lines) => lines.recv().await.transpose(),
                None => Ok(given.next().cloned()),
            }
        };
        tokio::select! {
            line = next, if until.is_none() => match line? {
                Some(line) if line.trim().is_empty() => {}
                Some(line) => {
                    number += 1;
                    let stanza = Stanza::parse(line.trim());
                    let stanza = stanza.map_err(|_| CliError::NoStanza(number))?;
                    let stanza = with_id(stanza);
                    if is_request(&stanza) {
                        asked.extend(stanza.head.id.clone());
                    }
                    client.send_stanza(stanza).await?;
                }
                None => until = Some(after(Instant::now(), Duration::from_secs(args.wait))),
            },
            event = events.next() => match event {
                Some(Event::Stanza(stanza)) => {
                    out_raw(out, &stanza)?;
                    if let (Ty::Result | Ty::Error, Some(id)) = (&stanza.head.ty, &stanza.head.id) {
                        asked.remove(id);
                    }
                }
                Some(Event::Disconnected { reason }) => return Err(Closed { reason }.into()),
                Some(_) => {}
                None => return Err(Closed { reason: CloseReason::Eof }.into()),
            },
            () = &mut end => return Ok(()),
            () = late(until) => return Err(CliError::Unanswered(asked.len())),
        }
    }
    Ok(())
}

async fn late(until: Option<Instant>) {
    match until {
        Some(until) => {
            let _ = timeout_at(until, std::future::pending::<()>()).await;
        }
        None => std::future::pending().await,
    }
}

/// As it came; nobody reads the times of that.
fn out_raw(out: &Out, stanza: &Stanza) -> Result<(), CliError> {
    Ok(out.line(&super::show::value(stanza), &plain(&stanza.to_xml()))?)
}

fn is_request(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Iq && matches!(stanza.head.ty, Ty::Get | Ty::Set)
}

/// A request without an id gets one, or its answer could not be known.
fn with_id(stanza: Stanza) -> Stanza {
    match is_request(&stanza) && stanza.head.id.is_none() {
        true => stanza.with_id(&fresh_id()),
        false => stanza,
    }
}
