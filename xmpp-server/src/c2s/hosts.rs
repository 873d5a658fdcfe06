//! The served domains as a client's machine asks for them (RFC 6120 sections 4.3.2 and 4.7.2), and what
//! its certificate is worth there (section 13.7.2.2).

use super::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stream::{ClientCertificate, HostView, Hosts};
use xmpp_stream::tls::trust::{good_until, judge_client};
use xmpp_stream::xml::Element;

/// Served domains as one peer may see them.
pub(super) struct PeerHosts {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
}

impl Hosts for PeerHosts {
    fn host(&self, domain: &str) -> Option<HostView> {
        let core = &self.shared.core;
        let settings = core.settings();
        let host = settings.hosts.get(domain)?;
        if host.is_leaving() {
            return None;
        }
        let announced = &host.modules().announced;
        // Also where this peer may not register: it is told so (XEP-0077 section 3.1.1).
        let guest_ns = announced.guest_ns.clone();
        let mut features_before_auth = Vec::new();
        if host.may_register(self.peer.ip()) && !guest_ns.is_empty() {
            let register = Element::new(ns::FEATURE_REGISTER, "register");
            register.write(&mut features_before_auth, ns::STREAMS);
        }
        Some(HostView {
            domain: host.domain.clone(),
            hashes: core.offers.hashes(&host.domain),
            plain: settings.config.sasl.plain,
            guest_ns: guest_ns.into(),
            features_before_auth: features_before_auth.into(),
            features_after_auth: host.features_after_auth(),
        })
    }

    fn fallback(&self) -> Box<str> {
        crate::reload::fallback(&self.shared.core.settings().config)
    }

    fn certificate(&self, domain: &str, chain: &[Box<[u8]>]) -> Option<ClientCertificate> {
        let anchors = self.shared.certificates.clients(domain)?;
        let clock = &self.shared.core.clock;
        let now = clock.unix_secs();
        let addresses = match judge_client(chain, &anchors, now) {
            Ok(addresses) => addresses,
            Err(reason) => {
                info!(%reason, "client certificate is not good");
                return Some(ClientCertificate::default());
            }
        };
        let accounts = accounts(&addresses, domain);
        if accounts.is_empty() {
            info!(domain, "client certificate names no account of the domain");
        }
        let Some(until) = good_until(chain, &anchors, now) else {
            return Some(ClientCertificate::default());
        };
        // To the end of its last second. So far off that no clock goes there: for ever.
        let left = Duration::from_secs(until.saturating_sub(now).saturating_add(1));
        Some(ClientCertificate {
            accounts,
            good_until: clock.now().checked_add(left),
        })
    }
}

/// Those of these addresses that can be accounts of the domain, each once.
fn accounts(addresses: &[Box<str>], domain: &str) -> Vec<BareJid> {
    let mut accounts = Vec::new();
    for address in addresses {
        let jid = Jid::parse(address).ok().filter(Jid::is_bare);
        let account = jid.and_then(|jid| BareJid::account(jid.local()?, jid.domain()).ok());
        let account = account.filter(|account| account.domain() == domain);
        accounts.extend(account.filter(|account| !accounts.contains(account)));
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ats_ce_10_accounts_are_bare_addresses_of_the_domain() {
        #[track_caller]
        fn check(addresses: &[&str], expected: &[&str]) {
            let addresses: Vec<Box<str>> = addresses.iter().map(|&it| it.into()).collect();
            let found = accounts(&addresses, "a.test");
            let found: Vec<&str> = found.iter().map(|it| it.as_jid().as_str()).collect();
            assert_eq!(found, expected);
        }
        check(&["ann@a.test", "ben@b.test"], &["ann@a.test"]);
        check(&["Ann@A.test", "ann@a.test"], &["ann@a.test"]);
        check(&["ben@a.test", "ann@a.test"], &["ben@a.test", "ann@a.test"]);
        check(
            &["a.test", "ann@a.test/x", "ann", "@a.test", "", "a@b@a.test"],
            &[],
        );
        check(&[], &[]);
    }
}
