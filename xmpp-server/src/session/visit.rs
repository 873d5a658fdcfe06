//! What others want of a session's task: that it goes on over another transport, or that it ends.
//!
//! DESIGN 5 rules 16 and 17. The task looks after the stanza in hand; what it does not take comes
//! back to whoever sent it.

use crate::sessions::Link;
use tokio::sync::oneshot;
use xmpp_stream::driver::Driver;
use xmpp_stream::error::StreamError;
use xmpp_stream::stream::Responder;

/// A visitor.
pub(crate) enum Visit {
    /// A resuming connection hands over its transport.
    TakeOver(Box<Handover>),
    /// A new session of the same resource wants this one to end first.
    End(Box<StreamError>, oneshot::Sender<()>),
}

/// A transport on which the client has asked to resume.
pub(crate) struct Handover {
    /// Machine and transport, waiting for the answer.
    pub(crate) driver: Box<Driver<Responder>>,
    /// What operators are shown of it.
    pub(crate) link: Link,
    /// What it has handled.
    pub(crate) h: u32,
    /// The transport goes back when the session cannot be resumed; dropped when it was.
    pub(crate) back: oneshot::Sender<Box<Driver<Responder>>>,
}

impl Visit {
    /// Nobody is here any more: a transport goes back to its connection.
    pub(crate) fn turn_away(self) {
        if let Self::TakeOver(handover) = self {
            let Handover { driver, back, .. } = *handover;
            // A connection that has gone meanwhile needs none.
            let _ = back.send(driver);
        }
    }
}
