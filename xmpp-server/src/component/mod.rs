//! External components (XEP-0114): which are here, and what goes to them.
//!
//! A component is a domain of ours that another program serves. What it writes is taken like what
//! another server sends (`serve`); what is written to it waits in its queue, or goes back to its
//! sender when it is not here. Nothing is kept for it: the protocol has no acknowledgements.

mod queue;
mod serve;

pub(crate) use queue::Attachments;
pub(crate) use serve::serve;

use crate::config::Config;
use crate::core::{Core, refuse};
use crate::effect::Effect;
use queue::Refusal;
use xmpp_stream::error::{ErrorType, StanzaCondition, StanzaError};
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::{Kind, Stanza, Ty};

/// Components that belong to a served domain: those directly or further below it.
pub(crate) fn below(config: &Config, domain: &str) -> Vec<Box<str>> {
    let is_below = |name: &str| {
        let above = name.strip_suffix(domain);
        above.is_some_and(|above| above.len() > 1 && above.ends_with('.'))
    };
    let allowed = config.component.allow.iter();
    let below = allowed.filter(|one| is_below(&one.domain));
    below.map(|one| one.domain.clone()).collect()
}

impl Core {
    /// True when the domain of this address is a component's, here or not.
    pub(crate) fn is_component(&self, to: Option<&Jid>) -> bool {
        to.is_some_and(|to| self.settings().components.contains_key(to.domain()))
    }

    /// Passes a stanza to the component that its `to` names, or back to its sender.
    pub(crate) fn to_component(&self, stanza: Stanza) -> Vec<Effect> {
        let domain = stanza.head.to.as_ref().map_or("", Jid::domain);
        let (stanza, why) = match self.components.find(domain) {
            None => (stanza, Refusal::Absent),
            Some(queue) => match queue.push(stanza, &self.limits) {
                Ok(()) => return Vec::new(),
                Err(refused) => *refused,
            },
        };
        bounce(&stanza, why)
    }
}

/// The answer to whoever sent it; nobody is told of an error, nor of an end that did not arrive.
fn bounce(stanza: &Stanza, why: Refusal) -> Vec<Effect> {
    let is_farewell = stanza.kind == Kind::Presence
        && matches!(
            stanza.head.ty,
            Ty::Unavailable | Ty::Unsubscribe | Ty::Unsubscribed
        );
    if is_farewell {
        return Vec::new();
    }
    let domain = stanza.head.to.as_ref().map_or("", Jid::domain);
    let error = match why {
        Refusal::Absent => {
            let error = StanzaError::new(ErrorType::Wait, StanzaCondition::ServiceUnavailable);
            error.with_text(&format!("the component {domain} is not connected"))
        }
        Refusal::Full => {
            let error = StanzaError::resource_constraint();
            error.with_text(&format!("the component {domain} does not keep up"))
        }
    };
    refuse(stanza, &error)
}
