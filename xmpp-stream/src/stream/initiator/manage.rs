//! Stream management as the calling side has it (XEP-0198): enabled after binding, or resumed
//! instead of it.
//!
//! What comes in is counted and acknowledged here. What goes out is kept and counted by whoever
//! sends, as it may outlive the connection.

use super::{End, Failure, Initiator, Session, State};
use crate::error::{StreamCondition, StreamError};
use crate::features::sm::{self, SmAnswer, SmRequest};
use crate::jid::FullJid;
use crate::ns;
use crate::stream::open::Open;
use crate::stream::{Established, Output};
use crate::xml::Element;
use std::time::Instant;

/// What the calling side wants of stream management, where the server has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Manage {
    /// Nothing.
    #[default]
    Off,
    /// To begin it, resumable later.
    Enable,
    /// To go on with an earlier stream; to begin it anew where that is not to be had.
    Resume {
        /// The id of the earlier stream.
        previd: Box<str>,
        /// Stanzas of the server that were handled on it.
        h: u32,
        /// The JID that was bound on it.
        jid: FullJid,
    },
}

/// A stream under management.
#[derive(Debug, Default)]
pub(super) struct Managed {
    /// Stanzas that came since the server has granted it; wraps around.
    inbound: u32,
    /// The server has answered `<enable/>`, or has resumed.
    granted: bool,
}

impl Managed {
    pub(super) fn count(&mut self) {
        if self.granted {
            self.inbound = self.inbound.wrapping_add(1);
        }
    }
}

impl Initiator {
    /// Stream management is in use, or asked for: what is sent from now on is acknowledged.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.managed.is_some()
    }

    /// Stanzas handled since stream management began: the `h` of `<a/>` and `<resume/>`.
    #[must_use]
    pub fn handled(&self) -> u32 {
        self.managed.as_ref().map_or(0, |managed| managed.inbound)
    }

    /// Asks how many stanzas the server has handled; nothing where it does not count.
    pub fn ask(&mut self) {
        if let (State::Open(open), true) = (&mut self.state, self.managed.is_some()) {
            open.expect_nothing();
            sm::write_ask(&mut self.wire.out);
        }
    }

    /// The last `<a/>`, before the closing tag (XEP-0198 section 4).
    pub(super) fn last_ack(&mut self) {
        if let Some(managed) = &self.managed
            && managed.granted
        {
            sm::write_ack(&mut self.wire.out, managed.inbound);
        }
    }

    /// After the login: resume where that is wanted and possible, else bind.
    pub(super) fn begin_session(&mut self, session: Session) -> Result<State, End> {
        let Manage::Resume { previd, h, .. } = &self.config.manage else {
            return self.bind(session);
        };
        if !session.manage {
            self.wire
                .tell(Output::Managed(SmAnswer::Failed { h: None }));
            return self.bind(session);
        }
        sm::write_resume(&mut self.wire.out, previd, *h);
        Ok(State::AwaitResumed(session))
    }

    /// The answer to `<resume/>`.
    pub(super) fn resumed(
        &mut self,
        session: Session,
        element: &Element,
        now: Instant,
    ) -> Result<State, End> {
        let Manage::Resume { previd, h, jid } = self.config.manage.clone() else {
            return Err(End::Failed(Failure::Unexpected));
        };
        match SmAnswer::of(element)? {
            SmAnswer::Resumed { previd: of, .. } if of != previd => {
                Err(End::Failed(Failure::Unexpected))
            }
            answer @ SmAnswer::Resumed { .. } => {
                self.managed = Some(Box::new(Managed {
                    inbound: h,
                    granted: true,
                }));
                self.wire.tell(Output::Managed(answer));
                let established = Established { jid, lang: None };
                Ok(self.open_stream(established, now))
            }
            answer @ SmAnswer::Failed { .. } => {
                self.wire.tell(Output::Managed(answer));
                self.bind(session)
            }
            SmAnswer::Enabled { .. } => Err(End::Error(StreamCondition::UnsupportedStanzaType)),
        }
    }

    /// Asks for management as soon as the resource is bound, and does not wait for the answer.
    pub(super) fn enable(&mut self, session: Session) {
        if session.manage && self.config.manage != Manage::Off {
            sm::write_enable(&mut self.wire.out);
            self.managed = Some(Box::default());
        }
    }

    /// An element of stream management on the open stream.
    pub(super) fn manage(&mut self, open: &mut Open, element: &Element) -> Result<(), StreamError> {
        let unexpected = || StreamError::new(StreamCondition::UnsupportedStanzaType);
        let Some(managed) = &mut self.managed else {
            return Err(unexpected());
        };
        match element.name() {
            "r" | "a" if managed.granted => match SmRequest::of(element)? {
                SmRequest::Ask => sm::write_ack(&mut self.wire.out, managed.inbound),
                request => self.wire.tell(Output::Sm(request)),
            },
            "enabled" | "failed" if !managed.granted => {
                let answer = SmAnswer::of(element)?;
                if matches!(answer, SmAnswer::Failed { .. }) {
                    self.managed = None;
                    open.set_managed(false);
                } else {
                    managed.granted = true;
                }
                self.wire.tell(Output::Managed(answer));
            }
            // A second `<resumed/>` or `<enabled/>` among them.
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    /// While the stream closes acknowledgements still count.
    pub(super) fn manage_closing(&mut self, element: &Element) {
        if self.managed.is_some()
            && element.ns() == ns::SM
            && let Ok(ack @ SmRequest::Ack(_)) = SmRequest::of(element)
        {
            self.wire.tell(Output::Sm(ack));
        }
    }
}
