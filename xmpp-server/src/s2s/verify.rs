//! Asks the authoritative server of a domain whether a dialback key is its own (XEP-0220 section
//! 2.1.2), on a connection of its own.

use super::cause::Cause;
use super::connect::{Outcome, What, Wish, connect};
use super::link::Step;
use crate::core::Core;
use std::sync::Arc;
use tracing::debug;
use xmpp_stream::stream::Failure;
use xmpp_stream::stream::s2s::{Answer, DialbackCondition, KeyCheck};

/// What its answer is, or why there is none.
pub(super) async fn verify(core: &Arc<Core>, check: KeyCheck) -> Answer {
    let pair = check.pair.reversed();
    let wish = Wish {
        what: What::Verify(check),
        bidi: false,
    };
    match connect(core, &pair, &wish, &|_: Step| ()).await {
        Ok(Outcome::Answer(answer)) => answer,
        Ok(Outcome::Stream(_)) => Answer::error(DialbackCondition::RemoteConnectionFailed),
        Err(cause) => {
            debug!(domain = %pair.to, reason = %cause, "no authoritative server");
            Answer::error(condition(&cause))
        }
    }
}

/// XEP-0220 section 2.5.
fn condition(cause: &Cause) -> DialbackCondition {
    match cause {
        Cause::Resolve(_) | Cause::NoSuchDomain | Cause::Closed(_) => {
            DialbackCondition::RemoteServerNotFound
        }
        Cause::Denied | Cause::Off => DialbackCondition::PolicyViolation,
        Cause::Lost | Cause::Negotiation(Failure::Timeout) => {
            DialbackCondition::RemoteServerTimeout
        }
        _ => DialbackCondition::RemoteConnectionFailed,
    }
}
