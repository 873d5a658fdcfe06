//! What raw peers do to sign in, step by step, and to register.
//!
//! SASL is done by the `sasl` crate, which shares no code with ours. Each step is public, so that a
//! test can leave the path where it likes.

use crate::tree::Tree;
use crate::wire::Wire;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sasl::client::Mechanism;
use sasl::client::mechanisms::{Plain, Scram};
use sasl::common::ChannelBinding;
use sasl::common::scram::Sha256;
use xmpp_stream::ns;

impl Wire {
    /// Sends a header, expects header and features.
    pub async fn open(&mut self) -> Tree {
        self.send_header().await;
        self.expect_header().await;
        self.expect_features().await
    }

    /// Goes as far as the features under TLS: by STARTTLS, or at once where TLS is there already.
    pub async fn open_secure(&mut self) -> Tree {
        let features = self.open().await;
        if self.tls().is_some() {
            return features;
        }
        if features.child_ns(ns::TLS, "starttls").is_none() {
            self.fail("starttls among the features", &features.to_string());
        }
        self.start_tls().await;
        self.secure().await;
        self.open().await
    }

    /// Goes as far as `<proceed/>`; `secure` runs the handshake.
    pub async fn start_tls(&mut self) {
        if !self.is_open() {
            self.open().await;
        }
        self.send(format!("<starttls xmlns='{}'/>", ns::TLS)).await;
        self.expect(format!("<proceed xmlns='{}'/>", ns::TLS)).await;
        self.await_tls();
    }

    /// Runs a SASL exchange.
    ///
    /// # Errors
    /// The `<failure/>` that the server sent.
    pub async fn authenticate(&mut self, mechanism: &mut dyn Mechanism) -> Result<(), Tree> {
        let initial = match mechanism.initial() {
            data if data.is_empty() => "=".into(),
            data => STANDARD.encode(data),
        };
        let name = mechanism.name().to_owned();
        self.send(format!(
            "<auth xmlns='{}' mechanism='{name}'>{initial}</auth>",
            ns::SASL
        ))
        .await;
        loop {
            let got = self.next().await;
            let data = STANDARD.decode(got.text()).unwrap_or_default();
            match got.name() {
                _ if got.ns() != ns::SASL => self.fail("an answer of SASL", &got.to_string()),
                "challenge" => match mechanism.response(&data) {
                    Ok(data) => {
                        let data = STANDARD.encode(data);
                        self.send(format!("<response xmlns='{}'>{data}</response>", ns::SASL))
                            .await;
                    }
                    Err(error) => {
                        self.fail(&format!("a good challenge of {name}"), &error.to_string())
                    }
                },
                "success" => {
                    if let Err(error) = mechanism.success(&data) {
                        self.fail(&format!("a good success of {name}"), &error.to_string());
                    }
                    self.restart();
                    return Ok(());
                }
                _ => return Err(got),
            }
        }
    }

    /// Binds a resource, or whatever the server makes up; returns the full JID.
    pub async fn bind(&mut self, resource: Option<&str>) -> String {
        let id = self.new_id();
        let resource = resource.map(|name| format!("<resource>{}</resource>", escaped(name)));
        let bind = format!(
            "<bind xmlns='{}'>{}</bind>",
            ns::BIND,
            resource.unwrap_or_default()
        );
        self.send(format!("<iq type='set' id='{id}'>{bind}</iq>"))
            .await;
        let answer = self.answer(&id).await;
        let jid = answer
            .child_ns(ns::BIND, "bind")
            .and_then(|bind| bind.child("jid"))
            .map(Tree::text);
        match jid {
            Some(jid) => self.jid.insert(jid).clone(),
            None => self.fail("a bound JID", &answer.to_string()),
        }
    }

    /// Signs in by SCRAM-SHA-256 and binds a resource; returns the full JID.
    pub async fn login(&mut self, local: &str, password: &str, resource: &str) -> String {
        let mut scram = scram(local, password, ChannelBinding::None);
        self.login_by(&mut scram, Some(resource)).await
    }

    /// The same with a resource that the server makes up.
    pub async fn login_anywhere(&mut self, local: &str, password: &str) -> String {
        let mut scram = scram(local, password, ChannelBinding::None);
        self.login_by(&mut scram, None).await
    }

    /// Signs in by SCRAM-SHA-256-PLUS with tls-exporter.
    pub async fn login_plus(&mut self, local: &str, password: &str, resource: &str) -> String {
        self.open_secure().await;
        let mut scram = scram(
            local,
            password,
            ChannelBinding::TlsExporter(self.exporter()),
        );
        self.authenticate_and_bind(&mut scram, Some(resource)).await
    }

    /// Signs in by PLAIN.
    pub async fn login_plain(&mut self, local: &str, password: &str, resource: &str) -> String {
        self.login_by(&mut Plain::new(local, password), Some(resource))
            .await
    }

    /// Signs in by any mechanism.
    pub async fn login_by(
        &mut self,
        mechanism: &mut dyn Mechanism,
        resource: Option<&str>,
    ) -> String {
        self.open_secure().await;
        self.authenticate_and_bind(mechanism, resource).await
    }

    /// Channel-binding data of type tls-exporter (RFC 9266).
    ///
    /// # Panics
    /// In clear.
    #[must_use]
    pub fn exporter(&self) -> Vec<u8> {
        let tls = self.tls().expect("TLS is there");
        let data = tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
        data.expect("the handshake is over").to_vec()
    }

    /// Registers an account before login (XEP-0077); the stream must stand at its features.
    pub async fn register(&mut self, local: &str, password: &str) {
        let id = self.new_id();
        let (domain, register) = (self.domain.clone(), ns::REGISTER);
        let account = format!(
            "<username>{}</username><password>{}</password>",
            escaped(local),
            escaped(password)
        );
        let query = format!("<query xmlns='{register}'>{account}</query>");
        self.send(format!(
            "<iq type='set' id='{id}' to='{domain}'>{query}</iq>"
        ))
        .await;
        self.answer(&id).await;
    }

    /// Signs in by SCRAM-SHA-256 and goes no further; the stream must stand at its features.
    pub async fn authenticate_scram(&mut self, local: &str, password: &str) {
        let mut scram = scram(local, password, ChannelBinding::None);
        if let Err(failure) = self.authenticate(&mut scram).await {
            self.fail("the right password", &failure.to_string());
        }
    }

    /// The stream stands at its features under TLS.
    pub async fn authenticate_and_bind(
        &mut self,
        mechanism: &mut dyn Mechanism,
        resource: Option<&str>,
    ) -> String {
        if let Err(failure) = self.authenticate(mechanism).await {
            self.fail(
                &format!("{} to succeed", mechanism.name()),
                &failure.to_string(),
            );
        }
        self.open().await;
        self.bind(resource).await
    }
}

/// A client of SCRAM-SHA-256, with channel binding -PLUS.
fn scram(local: &str, password: &str, binding: ChannelBinding) -> Scram<Sha256> {
    Scram::new(local, password, binding).expect("the system has random bytes")
}

/// Text made safe for XML content and attributes.
#[must_use]
pub fn escaped(text: &str) -> String {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    text.replace('\'', "&apos;").replace('"', "&quot;")
}
