//! Marks that only this server may make, cut from what clients send.
//!
//! XEP-0359 section 3.1 (a `stanza-id` in our name), XEP-0203 section 4 (a delay that says it is
//! ours). At ingress by the sender's domain, at the recipient by the account's own JID.

use crate::hooks::{Cx, Filter, Flow, Stage};
use crate::modules::{Coverage, Info, Module, Scope, Spec};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Edit, Kind, Stanza};

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "strip",
            specs: &[
                Spec {
                    id: "XEP-0203",
                    version: "2.0",
                    coverage: Coverage::Complete,
                },
                Spec {
                    id: "XEP-0359",
                    version: "0.7.0",
                    coverage: Coverage::Lacks("forged ids are cut, none are given"),
                },
            ],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        let marked = |payload| Filter {
            kind: Kind::Message,
            payload: Some(payload),
        };
        scope.hook(Stage::Strip, marked(ns::id::STANZA_ID), at_ingress);
        scope.hook(Stage::Strip, marked(ns::id::DELAY), at_ingress);
        scope.hook(Stage::InStrip, marked(ns::id::STANZA_ID), at_recipient);
    }
}

/// Cuts what claims to be by the sender's domain or one of its accounts.
fn at_ingress(stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
    let domain = &*cx.host.domain;
    cut(stanza, cx, |by| by.domain() == domain);
    Flow::Continue
}

/// Cuts what claims to be by the recipient's account.
fn at_recipient(stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
    let Some(account) = cx.account else {
        return Flow::Continue;
    };
    cut(stanza, cx, |by| by == account.jid.as_jid());
    Flow::Continue
}

fn cut(stanza: &Stanza, cx: &mut Cx<'_>, is_ours: impl Fn(&Jid) -> bool) {
    for (at, kid) in stanza.kids.iter().enumerate() {
        let attribute = match (kid.ns, kid.name) {
            (ns::id::STANZA_ID, ns::name::STANZA_ID) => "by",
            (ns::id::DELAY, ns::name::DELAY) => "from",
            _ => continue,
        };
        let element = stanza.element(kid);
        let by = element.attr(attribute).map(Jid::parse);
        if matches!(by, Some(Ok(by)) if is_ours(&by)) && !is_cut(cx, at) {
            cx.edit(Edit::Cut(at));
        }
    }
}

/// Two handlers of one stage may see the same child.
fn is_cut(cx: &Cx<'_>, at: usize) -> bool {
    cx.edits
        .iter()
        .any(|edit| matches!(edit, Edit::Cut(cut) if *cut == at))
}
