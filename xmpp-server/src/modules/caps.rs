//! Entity capabilities: the server tells its own, and learns those of its clients.
//!
//! XEP-0115. The server's hash stands in the stream features of each domain (section 6.3) and is
//! what disco#info of the domain says under its node. A client whose presence names a hash that is
//! not known is asked once, by its own account (section 6.2); what it says is kept if the hash is
//! right (section 5.4), and used, never passed on. Not here: leaving `<c/>` out of repeated
//! presence (section 8.4), and hashes for caps without a `hash`.

use super::{Announced, Coverage, Info, Module, Scope, Spec, disco};
use crate::effect::Effect;
use crate::hooks::{Cx, Filter, Flow, Stage};
use crate::host::Host;
use crate::random;
use std::sync::Arc;
use xmpp_stream::ns;
use xmpp_stream::payload::caps::Caps;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

pub(super) mod cache;
use cache::Cache;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "caps",
            specs: &[Spec {
                id: "XEP-0115",
                version: "1.6.0",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.feature(ns::CAPS);
        scope.stream_feature_of(own);
        scope.node(|announced, host, node| own_node(announced, host).as_deref() == Some(node));
        let cache = scope.caps();
        let with = |kind, payload| Filter {
            kind,
            payload: Some(payload),
        };
        let kept = Arc::clone(&cache);
        let seen = move |stanza: &Stanza, cx: &mut Cx<'_>| ask(stanza, cx, &kept);
        scope.hook(Stage::Route, with(Kind::Presence, ns::id::CAPS), seen);
        let told = move |stanza: &Stanza, cx: &mut Cx<'_>| learn(stanza, cx, &cache);
        // The last of the sender's stages: an answer to us is nobody else's business.
        scope.hook(Stage::Copy, with(Kind::Iq, ns::id::DISCO_INFO), told);
    }
}

/// Section 6.3: the server's own, as a stream feature.
fn own(announced: &Announced, host: &Host) -> Option<Element> {
    Some(own_caps(announced, host)?.to_element())
}

fn own_node(announced: &Announced, host: &Host) -> Option<String> {
    Some(own_caps(announced, host)?.info_node())
}

fn own_caps(announced: &Announced, host: &Host) -> Option<Caps> {
    Caps::of(&disco::host_info(announced, host), ns::CAPS_NODE)
}

/// Which set of abilities a presence names; `None`: none that could be verified.
fn key_of(presence: &Stanza) -> Option<cache::Key> {
    Caps::find(presence).map(key)
}

fn key(caps: Caps) -> cache::Key {
    (caps.algorithm, caps.ver.into())
}

/// A client says what it is: it is asked, unless that is known or was asked already.
fn ask(stanza: &Stanza, cx: &mut Cx<'_>, cache: &Cache) -> Flow {
    let (Some(account), Some(session)) = (cx.account, cx.session) else {
        return Flow::Continue;
    };
    if (&stanza.head.ty, &stanza.head.to) != (&Ty::None, &None) {
        return Flow::Continue;
    }
    let Some(caps) = Caps::find(stanza) else {
        return Flow::Continue;
    };
    let node = caps.info_node();
    let id = random::token();
    if cache.is_to_be_asked(key(caps), session.sid, &id, cx.limits) {
        let query = Element::new(ns::DISCO_INFO, "query").with_attr("node", &node);
        let question = Stanza::iq(Ty::Get, &id)
            .with_from(account.jid.clone())
            .with_to(session.jid.clone())
            .with_child(&query);
        cx.effect(Effect::route(question));
    }
    Flow::Continue
}

/// An answer to a question of ours ends here, whatever it says.
fn learn(stanza: &Stanza, cx: &mut Cx<'_>, cache: &Cache) -> Flow {
    let (Some(account), Some(session)) = (cx.account, cx.session) else {
        return Flow::Continue;
    };
    let to = stanza.head.to.as_ref();
    let is_answer = matches!(stanza.head.ty, Ty::Result | Ty::Error)
        && to.is_none_or(|to| to == account.jid.as_jid());
    let Some(id) = stanza.head.id.as_deref().filter(|_| is_answer) else {
        return Flow::Continue;
    };
    let info = match stanza.head.ty {
        Ty::Result if stanza.payload.len() <= cx.limits.caps_bytes_max => stanza.first_element(),
        _ => None,
    };
    match cache.answered(session.sid, id, info.as_ref(), cx.limits) {
        true => Flow::Stop,
        false => Flow::Continue,
    }
}

#[cfg(test)]
mod tests;
