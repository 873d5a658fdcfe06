//! A stream without a login: asking a server what registration needs, and registering.
//!
//! XEP-0077 section 3.1.1. The stream is read only while an answer is awaited; nothing is sent but
//! what is asked. Afterwards the account signs in on a stream of its own.

use crate::error::IqError;
use crate::ext::{RequestError, request};
use crate::limits::Limits;
use crate::protocol::Questions;
use crate::protocol::register::{self, RegisterError, Registered};
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use xmpp_stream::driver::Driver;
use xmpp_stream::error::StanzaCondition;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::stream::{CloseReason, Initiator, Machine, Output};
use xmpp_stream::xml::Element;

/// Somebody without an account, connected to a server.
///
/// ```no_run
/// use xmpp_client::XmppClient;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut guest = XmppClient::builder("localhost").connect_guest().await?;
/// let mut asked = guest.questions().await?;
/// asked.set("username", "ann");
/// asked.set("password", "a good one");
/// let registered = guest.register(&asked).await?;
/// println!("registered as {:?}", registered.username);
/// guest.disconnect().await?;
/// # Ok(())
/// # }
/// ```
pub struct Guest {
    driver: Driver<Initiator>,
    domain: Jid,
    iq_max: Duration,
    close_max: Duration,
    ids: u64,
    is_over: bool,
}

impl Guest {
    pub(crate) fn new(
        driver: Driver<Initiator>,
        domain: Jid,
        iq_max: Duration,
        limits: &Limits,
    ) -> Self {
        Self {
            driver,
            domain,
            iq_max,
            close_max: limits.close_max,
            ids: 0,
            is_over: false,
        }
    }

    /// What the server wants to know of who registers.
    ///
    /// # Errors
    /// `NotAllowed` where nobody may register in this way; or the request failed.
    pub async fn questions(&mut self) -> Result<Questions, RegisterError> {
        let answer = self
            .ask(Ty::Get, &Element::new(ns::REGISTER, "query"))
            .await?;
        register::read(answer).map_err(Into::into)
    }

    /// Registers. The name is in the result: servers may give one of their own.
    ///
    /// # Errors
    /// The name is taken, or something is missing or not liked; it can be tried again on the same
    /// stream.
    pub async fn register(&mut self, asked: &Questions) -> Result<Registered, RegisterError> {
        register::complete(asked)?;
        let answer = self.ask(Ty::Set, &asked.to_answer()).await?;
        Ok(Registered::read(answer.as_ref(), asked))
    }

    /// The address of who registered.
    #[must_use]
    pub fn account(&self, registered: &Registered) -> Option<BareJid> {
        let username = registered.username.as_deref()?;
        BareJid::parse(&format!("{username}@{}", self.domain.as_str())).ok()
    }

    /// Whether an account of this name exists; `None`: the server does not tell, as most do not.
    /// Nothing is registered by asking.
    ///
    /// # Errors
    /// The request failed.
    pub async fn exists(&mut self, username: &str) -> Result<Option<bool>, RequestError> {
        let name = Element::new(ns::REGISTER, "username").with_text(username);
        let query = Element::new(ns::REGISTER, "query").with_child(name);
        match self.ask(Ty::Get, &query).await {
            Ok(answer) => Ok(answer.and_then(|answer| is_registered(&answer, username))),
            Err(IqError::Stanza(error)) => Ok(match error.condition {
                StanzaCondition::Conflict => Some(true),
                StanzaCondition::ItemNotFound => Some(false),
                _ => None,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes the stream: closing tag, the server's closing tag, end of TLS and transport.
    ///
    /// # Errors
    /// The stream was over already.
    pub async fn disconnect(mut self) -> Result<(), IqError> {
        if self.is_over {
            return Err(IqError::Closed);
        }
        self.driver.machine.close(None, Instant::now().into_std());
        // The machine bounds the wait for the server's closing tag.
        let reason = loop {
            match self.driver.machine.poll_output() {
                Some(Output::Closed(reason)) => break reason,
                Some(_) => {}
                None if self.driver.turn(true).await.is_err() => break CloseReason::Eof,
                None => {}
            }
        };
        self.driver.finish(self.close_max).await;
        match reason {
            CloseReason::Clean => Ok(()),
            _ => Err(IqError::Closed),
        }
    }

    async fn ask(&mut self, ty: Ty, payload: &Element) -> Result<Option<Element>, IqError> {
        if self.is_over {
            return Err(IqError::Closed);
        }
        self.ids += 1;
        let id = format!("g{}", self.ids);
        let mut iq = request(ty, None, payload);
        iq.head.id = Some(id.as_str().into());
        self.driver.machine.send_stanza(&iq);
        let asking = answer(&mut self.driver, &self.domain, &id);
        let answer = timeout(self.iq_max, asking)
            .await
            .unwrap_or(Err(IqError::Timeout));
        self.is_over = answer == Err(IqError::Closed);
        answer
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// Runs the stream until this answer of the server; all else is passed over.
async fn answer(
    driver: &mut Driver<Initiator>,
    domain: &Jid,
    id: &str,
) -> Result<Option<Element>, IqError> {
    loop {
        while let Some(output) = driver.machine.poll_output() {
            match output {
                Output::Stanza(stanza) if is_answer(&stanza, domain, id) => {
                    return match stanza.error() {
                        Some(error) => Err(IqError::Stanza(error)),
                        None => Ok(stanza.first_element()),
                    };
                }
                Output::Closed(_) => return Err(IqError::Closed),
                _ => {}
            }
        }
        driver.turn(true).await.map_err(|_| IqError::Closed)?;
    }
}

/// Row ck-09: on a stream with nobody else on it only the server answers.
fn is_answer(stanza: &Stanza, domain: &Jid, id: &str) -> bool {
    let from = stanza.head.from.as_ref();
    stanza.kind == Kind::Iq
        && matches!(stanza.head.ty, Ty::Result | Ty::Error)
        && stanza.head.id.as_deref() == Some(id)
        && from.is_none_or(|from| from == domain)
}

/// A server that understood the question says so by naming whom it is about.
fn is_registered(answer: &Element, username: &str) -> Option<bool> {
    let named = answer.child(ns::REGISTER, "username").map(Element::text);
    let is_named = named.is_some_and(|name| name.eq_ignore_ascii_case(username));
    match answer.child(ns::REGISTER, "registered") {
        Some(_) => Some(true),
        None if is_named => Some(false),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ck_09_only_the_server_answers_a_guest() {
        let domain = Jid::parse("a.test").unwrap();
        let check = |xml: &str| is_answer(&Stanza::parse(xml).unwrap(), &domain, "g1");
        assert!(check("<iq type='result' id='g1'/>"));
        assert!(check("<iq type='result' id='g1' from='a.test'/>"));
        assert!(!check("<iq type='result' id='g1' from='eve@a.test'/>"));
        assert!(!check("<iq type='result' id='g2'/>"));
        assert!(!check("<iq type='get' id='g1'/>"));
        assert!(!check("<message type='error' id='g1'/>"));
    }

    #[test]
    fn whether_a_name_exists_is_told_or_not() {
        let told = |content: &str| {
            let xml = format!("<query xmlns='jabber:iq:register'>{content}</query>");
            is_registered(&Element::parse(xml.as_bytes(), "").unwrap(), "ann")
        };
        assert_eq!(told("<registered/><username>ann</username>"), Some(true));
        assert_eq!(told("<username>ann</username>"), Some(false));
        assert_eq!(told("<username/><password/>"), None);
    }
}
