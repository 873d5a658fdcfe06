//! Shows every stanza that an account of the laboratory sends or gets from another domain: a module,
//! as anybody may write one.

use crate::lab_cli::view::Event;
use tokio::sync::mpsc::UnboundedSender;
use xmpp_server::hooks::{Filter, Flow, Stage};
use xmpp_server::modules::{Info, Module, Scope};
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::{Kind, Stanza};

/// The module; it lives as long as the process.
struct Shown {
    events: UnboundedSender<Event>,
}

/// A module that tells what passes.
pub(super) fn module(events: UnboundedSender<Event>) -> &'static dyn Module {
    Box::leak(Box::new(Shown { events }))
}

impl Module for Shown {
    fn info(&self) -> &'static Info {
        // Modules run by name: before any that might stop a stanza.
        &Info {
            name: "a-lab-view",
            specs: &[],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        for kind in [Kind::Message, Kind::Presence, Kind::Iq] {
            let events = self.events.clone();
            scope.hook(Stage::Strip, Filter::kind(kind), move |stanza, cx| {
                if !is_from_elsewhere(stanza, &cx.host.domain) {
                    tell(&events, &cx.host.domain, stanza, false);
                }
                Flow::Continue
            });
            let events = self.events.clone();
            scope.hook(Stage::InStrip, Filter::kind(kind), move |stanza, cx| {
                if is_from_elsewhere(stanza, &cx.host.domain) {
                    tell(&events, &cx.host.domain, stanza, true);
                }
                Flow::Continue
            });
        }
    }
}

fn is_from_elsewhere(stanza: &Stanza, domain: &str) -> bool {
    let from = stanza.head.from.as_ref().map(Jid::domain);
    from.is_some_and(|from| from != domain)
}

fn tell(events: &UnboundedSender<Event>, domain: &str, stanza: &Stanza, arrived: bool) {
    let mut xml = Vec::new();
    stanza.write(&mut xml);
    let event = Event::Stanza {
        domain: domain.into(),
        arrived,
        from: stanza.head.from.as_ref().map(|jid| jid.as_str().to_owned()),
        to: stanza.head.to.as_ref().map(|jid| jid.as_str().to_owned()),
        xml: String::from_utf8_lossy(&xml).into_owned(),
    };
    // At the end nobody looks any more.
    let _ = events.send(event);
}
