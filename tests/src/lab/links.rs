//! The links of a lab: between its servers, and of its clients to them.

use crate::lab::node::Node;
use crate::lab::{LabError, TestLab, bare};
use crate::proxy::Proxy;
use crate::relay::Relay;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::timeout;
use xmpp_server::s2s::list::Listed;

impl TestLab {
    /// The link from the first to the second: of a domain to another domain, which carries the
    /// connections that the first one's server makes, or of a client (as `client` was told) to its
    /// server.
    ///
    /// # Panics
    /// There is none such: unknown, or both domains are one server's.
    #[must_use]
    pub fn link(&self, from: &str, to: &str) -> Relay {
        if from.contains('@') {
            let links = self.client_links.lock();
            let links = links.unwrap_or_else(PoisonError::into_inner);
            let link = links.get(from).map(Proxy::relay);
            return link.unwrap_or_else(|| panic!("{from} is no client of this lab"));
        }
        let ends = (self.index(from), self.index(to));
        let link = self.links.get(&ends).map(|link| link.relay());
        link.unwrap_or_else(|| panic!("{from} and {to} have no link: they are one server's"))
    }

    /// Each link between servers: from which domain, to which.
    #[must_use]
    pub fn all_links(&self) -> Vec<(&str, &str, Relay)> {
        let name = |index: usize| {
            let mut names = self.nodes.get(index).into_iter().flat_map(Node::domains);
            let joined = index.checked_sub(self.nodes.len());
            let joined = joined.and_then(|index| self.joined.get(index));
            names.next().or_else(|| Some(joined?.0.as_str()))
        };
        let links = self.links.iter();
        let named =
            links.filter_map(|((from, to), link)| Some((name(*from)?, name(*to)?, link.relay())));
        named.collect()
    }

    /// Its domains have servers of their own.
    #[must_use]
    pub fn has_links(&self) -> bool {
        !self.links.is_empty()
    }

    /// Both links of two domains, of either's connections.
    #[must_use]
    pub fn links(&self, one: &str, other: &str) -> [Relay; 2] {
        [self.link(one, other), self.link(other, one)]
    }

    /// The lines of `s2s list` of a domain's server.
    ///
    /// # Panics
    /// It is not a domain of this lab, or its server is down.
    #[must_use]
    pub fn link_lines(&self, domain: &str) -> Vec<String> {
        let listed = self.handle_of(domain).core().list_links(None);
        listed.iter().map(Listed::text).collect()
    }

    /// Resolves when the lines of `s2s list` of a domain's server are like this.
    ///
    /// # Panics
    /// They are not within ten seconds.
    pub async fn until_links(&self, domain: &str, like: impl Fn(&[String]) -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        let waited = timeout(Duration::from_secs(10), async {
            while !like(&self.link_lines(domain)) {
                looks.tick().await;
            }
        });
        if waited.await.is_err() {
            panic!("links of {domain}: {:#?}", self.link_lines(domain));
        }
    }

    /// Where the link from one domain to another begins.
    ///
    /// # Panics
    /// There is none such.
    #[must_use]
    pub(crate) fn way(&self, from: &str, to: &str) -> SocketAddr {
        let ends = (self.index(from), self.index(to));
        self.links.get(&ends).expect("a link").address
    }

    /// A server that was started again may have other ports.
    pub(super) fn point_links(&self) {
        for ((_, to), link) in &self.links {
            let node = self.nodes.get(*to);
            if let Some(address) = node.and_then(Node::server_address) {
                link.move_to(address);
            }
        }
        let links = self.client_links.lock();
        for (jid, link) in links.unwrap_or_else(PoisonError::into_inner).iter() {
            let node = self.node(bare(jid).domain());
            if node.is_up() {
                link.move_to(node.addresses().c2s);
            }
        }
    }

    pub(super) async fn proxy(&self, target: SocketAddr) -> Result<Proxy, LabError> {
        match self.is_in_memory {
            true => Ok(Proxy::in_memory(&self.net, target)),
            false => Ok(Proxy::at(SocketAddr::from(([127, 0, 0, 1], 0)), target).await?),
        }
    }
}
