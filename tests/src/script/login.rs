//! What a client does to sign in, step by step; refusals and garbage are values.
//!
//! SASL is done by the `sasl` crate, which shares no code with ours.

use crate::login::escaped;
use crate::script::model::Character;
use crate::script::peer::{Got, Peer};
use crate::tree::Tree;
use crate::trust::Trust;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sasl::client::Mechanism;
use sasl::client::mechanisms::{Plain, Scram};
use sasl::common::ChannelBinding;
use sasl::common::scram::{Sha1, Sha256};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;
use xmpp_stream::ns;

/// A client at its stream, before it is online.
pub(crate) struct Login<'a> {
    pub(crate) peer: &'a mut Peer,
    pub(crate) domain: &'a str,
    pub(crate) trust: Option<&'a Trust>,
    pub(crate) patience: Duration,
    /// A connection that nobody else can read: passwords may go over it in clear.
    pub(crate) is_local: bool,
}

/// Why it did not come further.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// What was to happen.
    pub(crate) wanted: String,
    /// The condition that the server named.
    pub(crate) condition: Option<String>,
    /// What happened.
    pub(crate) got: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, but there was\n{}", self.wanted, self.got)
    }
}

pub(crate) fn refused(wanted: &str, got: impl Into<String>) -> Refused {
    Refused {
        wanted: wanted.into(),
        condition: None,
        got: got.into(),
    }
}

impl Login<'_> {
    /// Header, header, features.
    pub(crate) async fn open(&mut self) -> Result<Tree, Refused> {
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='{}' \
             xmlns:stream='{}' xml:lang='en'>",
            escaped(self.domain),
            ns::CLIENT,
            ns::STREAMS
        );
        self.open_with(&header).await
    }

    /// The same with this header.
    pub(crate) async fn open_with(&mut self, header: &str) -> Result<Tree, Refused> {
        self.peer.restart();
        self.send(header).await?;
        match self.next("a stream header").await? {
            Got::Header(header) if header.is(ns::STREAMS, "stream") => {}
            other => return Err(unexpected("a stream header", &other)),
        }
        let features = self.element("stream features").await?;
        match features.is(ns::STREAMS, "features") {
            true => Ok(features),
            false => Err(unexpected("stream features", &Got::Element(features))),
        }
    }

    /// STARTTLS from the request to the end of the handshake.
    pub(crate) async fn start_tls(&mut self) -> Result<(), Refused> {
        self.ask_for_tls().await?;
        self.secure().await
    }

    /// STARTTLS as far as the handshake.
    pub(crate) async fn ask_for_tls(&mut self) -> Result<(), Refused> {
        self.send(&format!("<starttls xmlns='{}'/>", ns::TLS))
            .await?;
        let answer = self.element("<proceed/>").await?;
        if !answer.is(ns::TLS, "proceed") {
            return Err(unexpected("<proceed/>", &Got::Element(answer)));
        }
        Ok(())
    }

    /// Sends this; the next element is the answer.
    pub(crate) async fn ask(&mut self, text: &str, wanted: &str) -> Result<Tree, Refused> {
        self.send(text).await?;
        self.element(wanted).await
    }

    /// The handshake.
    pub(crate) async fn secure(&mut self) -> Result<(), Refused> {
        let Some(trust) = self.trust else {
            return Err(refused("a CA to trust", "none is given: use --ca FILE"));
        };
        let done = self.peer.handshake(trust, self.domain, self.patience).await;
        done.map_err(|error| {
            let mut got = error.to_string();
            if got.contains("UnknownIssuer") {
                got.push_str(": --ca FILE names the CA to trust");
            }
            refused("a TLS handshake", got)
        })
    }

    /// As far as features under TLS, or in clear to a server on this machine that offers no TLS.
    pub(crate) async fn open_secure(&mut self) -> Result<Tree, Refused> {
        let features = self.open().await?;
        if self.peer.is_tls() {
            return Ok(features);
        }
        if features.child_ns(ns::TLS, "starttls").is_some() && self.trust.is_some() {
            self.start_tls().await?;
            return self.open().await;
        }
        let must = features
            .child_ns(ns::TLS, "starttls")
            .is_some_and(|tls| tls.child("required").is_some());
        match self.is_local && !must {
            true => Ok(features),
            false => Err(refused(
                "TLS",
                "no CA is given (--ca FILE), or the server offers none",
            )),
        }
    }

    /// SASL with the best mechanism that the features and we have.
    pub(crate) async fn authenticate(
        &mut self,
        features: &Tree,
        local: &str,
        password: &str,
    ) -> Result<(), Refused> {
        let offered: Vec<String> = features
            .child_ns(ns::SASL, "mechanisms")
            .into_iter()
            .flat_map(Tree::children)
            .map(Tree::text)
            .collect();
        let offers = |name: &str| offered.iter().any(|one| one == name);
        let unreadable = |_| refused("a SCRAM client", "no random bytes");
        let binding = ChannelBinding::None;
        let mut mechanism: Box<dyn Mechanism> = if offers("SCRAM-SHA-256") {
            Box::new(Scram::<Sha256>::new(local, password, binding).map_err(unreadable)?)
        } else if offers("SCRAM-SHA-1") {
            Box::new(Scram::<Sha1>::new(local, password, binding).map_err(unreadable)?)
        } else if offers("PLAIN") {
            Box::new(Plain::new(local, password))
        } else {
            return Err(refused(
                "SCRAM-SHA-256, SCRAM-SHA-1 or PLAIN",
                format!("{offered:?}"),
            ));
        };
        self.exchange(mechanism.as_mut()).await
    }

    /// SASL with the password of a character, in a stream that stands at its features, which are not
    /// looked at again: a mechanism that the server does not have is refused, and the next one tried.
    pub(crate) async fn authenticate_as(&mut self, one: &Character) -> Result<(), Refused> {
        let (local, password) = one.credentials();
        let random = |_| refused("a SCRAM client", "no random bytes");
        let better = Scram::<Sha256>::new(local, password, ChannelBinding::None);
        let done = self.exchange(&mut better.map_err(random)?).await;
        let condition = done.as_ref().err().and_then(|why| why.condition.as_deref());
        if condition != Some("invalid-mechanism") {
            return done;
        }
        let other = Scram::<Sha1>::new(local, password, ChannelBinding::None);
        self.exchange(&mut other.map_err(random)?).await
    }

    async fn exchange(&mut self, mechanism: &mut dyn Mechanism) -> Result<(), Refused> {
        let initial = match mechanism.initial() {
            data if data.is_empty() => "=".into(),
            data => STANDARD.encode(data),
        };
        let (name, sasl) = (mechanism.name().to_owned(), ns::SASL);
        let auth = format!("<auth xmlns='{sasl}' mechanism='{name}'>{initial}</auth>");
        self.send(&auth).await?;
        loop {
            let got = self.element("an answer of SASL").await?;
            let data = STANDARD.decode(got.text()).unwrap_or_default();
            match got.name() {
                "challenge" if got.ns() == ns::SASL => {
                    let data = mechanism
                        .response(&data)
                        .map_err(|error| refused("a good challenge", error.to_string()))?;
                    let data = STANDARD.encode(data);
                    self.send(&format!("<response xmlns='{sasl}'>{data}</response>"))
                        .await?;
                }
                "success" if got.ns() == ns::SASL => {
                    let checked = mechanism.success(&data);
                    checked.map_err(|error| refused("a good success", error.to_string()))?;
                    self.peer.restart();
                    return Ok(());
                }
                _ => return Err(unexpected("success of SASL", &Got::Element(got))),
            }
        }
    }

    /// Binds a resource, or what the server makes up; returns the full JID.
    pub(crate) async fn bind(&mut self, resource: Option<&str>) -> Result<String, Refused> {
        let id = self.peer.new_id();
        let resource = resource.map(|name| format!("<resource>{}</resource>", escaped(name)));
        let resource = resource.unwrap_or_default();
        self.send(&format!(
            "<iq type='set' id='{id}'><bind xmlns='{}'>{resource}</bind></iq>",
            ns::BIND
        ))
        .await?;
        let answer = self.answer(&id, "a bound resource").await?;
        let jid = answer
            .child_ns(ns::BIND, "bind")
            .and_then(|bind| bind.child("jid"));
        match jid {
            Some(jid) => Ok(jid.text()),
            None => Err(unexpected("a bound JID", &Got::Element(answer))),
        }
    }

    /// Everything: TLS, SASL, binding.
    pub(crate) async fn sign_in(
        &mut self,
        local: &str,
        password: &str,
        resource: Option<&str>,
    ) -> Result<String, Refused> {
        let features = self.open_secure().await?;
        self.authenticate(&features, local, password).await?;
        self.open().await?;
        self.bind(resource).await
    }

    /// Registers the account before login (XEP-0077).
    pub(crate) async fn register(&mut self, local: &str, password: &str) -> Result<(), Refused> {
        let id = self.peer.new_id();
        self.send(&format!(
            "<iq type='set' id='{id}' to='{}'><query xmlns='{}'><username>{}</username>\
             <password>{}</password></query></iq>",
            escaped(self.domain),
            ns::REGISTER,
            escaped(local),
            escaped(password)
        ))
        .await?;
        self.answer(&id, "a registered account").await.map(|_| ())
    }

    async fn answer(&mut self, id: &str, wanted: &str) -> Result<Tree, Refused> {
        let got = self.element(wanted).await?;
        match got.attr("id") == Some(id) && got.attr("type") == Some("result") {
            true => Ok(got),
            false => Err(unexpected(wanted, &Got::Element(got))),
        }
    }

    async fn send(&mut self, text: &str) -> Result<(), Refused> {
        let sent = self.peer.send(text.as_bytes(), self.patience).await;
        // the reason for a closed connection may be there to read
        match sent {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Err(refused("bytes to be taken", "they were not, in time"))
            }
            _ => Ok(()),
        }
    }

    async fn next(&mut self, wanted: &str) -> Result<Got, Refused> {
        match self.peer.next(Instant::now() + self.patience).await {
            Some(got) => Ok(got),
            None => Err(refused(wanted, format!("nothing for {:?}", self.patience))),
        }
    }

    async fn element(&mut self, wanted: &str) -> Result<Tree, Refused> {
        match self.next(wanted).await? {
            Got::Element(tree) => Ok(tree),
            other => Err(unexpected(wanted, &other)),
        }
    }
}

pub(crate) fn unexpected(wanted: &str, got: &Got) -> Refused {
    let condition = match got {
        Got::Element(tree) => condition(tree),
        _ => None,
    };
    Refused {
        wanted: wanted.into(),
        condition,
        got: shown(got),
    }
}

/// The condition of a SASL failure, a stream error or a stanza error.
pub(crate) fn condition(tree: &Tree) -> Option<String> {
    let holder = match tree.name() {
        "failure" | "error" => tree,
        _ => tree.child("error")?,
    };
    let first = holder.children().find(|child| child.name() != "text")?;
    Some(first.name().to_owned())
}

/// For people.
pub(crate) fn shown(got: &Got) -> String {
    match got {
        Got::Header(tree) => format!("stream header {tree}"),
        Got::Element(tree) => tree.to_string(),
        Got::Footer => "</stream:stream>".into(),
        Got::End => "the end of the connection".into(),
        Got::Garbage(what) => format!("what is no XML: {what}"),
    }
}
