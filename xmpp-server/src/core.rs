//! Placeholder.
#![allow(missing_docs)]
use crate::clock::Clock;
use crate::limits::Limits;
use crate::modules::Announced;
use crate::store::Store;
pub struct Core {
    pub store: Store,
    pub clock: Clock,
    pub limits: Limits,
    pub announced: Announced,
}
impl Core {
    pub async fn derive_keys(&self, _password: String) -> Vec<xmpp_stream::stream::StoredKeys> {
        todo!()
    }
}
