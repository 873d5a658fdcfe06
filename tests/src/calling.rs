//! A raw peer in the part of another server: its header, TLS, EXTERNAL (RFC 6120 sections 4 to 6);
//! or of an external component (XEP-0114).

use crate::lab::TestLab;
use crate::tree::Tree;
use crate::trust::Trust;
use crate::wire::Wire;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use xmpp_certs::Leaf;
use xmpp_stream::ns;

impl TestLab {
    /// A raw peer at a domain's port for servers; it has said nothing. It can show the certificate of
    /// the domain `shows`.
    ///
    /// # Panics
    /// There is no such certificate.
    pub async fn caller(&self, to: &str, shows: &str) -> Wire {
        let now = self.clock().system_now();
        let leaf = self.authority().issue_for_domain(shows, now);
        self.caller_with(to, &leaf.expect("a certificate")).await
    }

    /// The same with any certificate.
    pub async fn caller_with(&self, to: &str, leaf: &Leaf) -> Wire {
        let trust = Trust::pem(self.ca_pem()).with_identity(&leaf.chain_pem, &leaf.key_pem);
        Wire::connect(&self.server_place(to)).await.trusting(trust)
    }

    /// The same, signed in by EXTERNAL as the domain that it shows.
    pub async fn server(&self, to: &str, domain: &str) -> Wire {
        let mut wire = self.caller(to, domain).await;
        let features = wire.secure_as_server(domain).await;
        assert!(features.to_string().contains("EXTERNAL"), "{features}");
        wire.external(domain).await;
        wire
    }
}

impl Wire {
    /// Sends the header of another server.
    pub async fn send_server_header(&mut self, from: &str) {
        self.restart();
        let header = format!(
            "<?xml version='1.0'?><stream:stream from='{from}' to='{}' version='1.0' xmlns='{}' \
             xmlns:db='{}' xmlns:stream='{}'>",
            self.domain(),
            ns::SERVER,
            ns::DIALBACK,
            ns::STREAMS
        );
        self.send(header).await;
    }

    /// Goes as far as the features under TLS.
    pub async fn secure_as_server(&mut self, from: &str) -> Tree {
        self.secure_stream(from).await;
        self.expect_features().await
    }

    /// The same, up to the header under TLS.
    pub async fn secure_stream(&mut self, from: &str) {
        self.send_server_header(from).await;
        self.expect_header().await;
        self.expect_features().await;
        self.send(format!("<starttls xmlns='{}'/>", ns::TLS)).await;
        self.expect(format!("<proceed xmlns='{}'/>", ns::TLS)).await;
        self.await_tls();
        self.secure().await;
        self.send_server_header(from).await;
        self.expect_header().await;
    }

    /// Signs in by EXTERNAL, and opens the stream anew.
    pub async fn external(&mut self, from: &str) {
        self.send(format!(
            "<auth xmlns='{}' mechanism='EXTERNAL'>{}</auth>",
            ns::SASL,
            STANDARD.encode(from)
        ))
        .await;
        self.expect(format!("<success xmlns='{}'/>", ns::SASL))
            .await;
        self.send_server_header(from).await;
        self.expect_header().await;
        self.expect_features().await;
    }

    /// Sends the header of a component.
    pub async fn send_component_header(&mut self) {
        self.send(format!(
            "<stream:stream xmlns='{}' xmlns:stream='{}' to='{}'>",
            ns::COMPONENT,
            ns::STREAMS,
            self.domain()
        ))
        .await;
    }

    /// Says the digest of this secret to a server whose header comes now.
    pub async fn shake_hands(&mut self, secret: &str) {
        let header = self.expect_header().await;
        let id = header.attr("id").unwrap_or_default();
        self.send(format!("<handshake>{}</handshake>", digits(id, secret)))
            .await;
    }
}

/// The digest of a component's handshake.
fn digits(id: &str, secret: &str) -> String {
    let text = format!("{id}{secret}");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
