//! At the start: messages to other domains that an earlier run of the server could not hand over.
//!
//! DESIGN 10: each is a due row of its domain pair, and is sent again once, marked as late.

use super::rows::pair_of;
use crate::core::Core;
use crate::store::StoreError;
use std::sync::Arc;
use tracing::{info, warn};
use xmpp_stream::stanza::Stanza;

impl Core {
    /// Queues what is kept for other domains, where we still are who sent it.
    pub(crate) async fn restore_links(self: &Arc<Self>) -> Result<(), StoreError> {
        let settings = self.settings();
        if settings.network.is_none() {
            return Ok(());
        }
        for owner in self.store.links().await? {
            let Some(pair) = pair_of(&owner) else {
                warn!(%owner, "messages of no pair of domains");
                continue;
            };
            let ids = self.store.due(&owner).await?;
            if ids.is_empty() || !settings.hosts.contains_key(&pair.from) {
                continue;
            }
            let rows = self.store.messages(&owner, ids).await?;
            let messages: Vec<_> = rows
                .into_iter()
                .filter_map(|row| {
                    let text = std::str::from_utf8(&row.stanza).ok()?;
                    Some((row.id, Stanza::parse(text).ok()?))
                })
                .collect();
            info!(from = %pair.from, to = %pair.to, messages = messages.len(), "messages wait for a link");
            let now = self.clock.now();
            if let Some(link) = self.s2s.link(pair, now, &self.limits) {
                link.restore(messages, &self.limits);
                link.wait_for(now);
                self.see_to(&link);
            }
        }
        Ok(())
    }
}
