//! What goes back on a stream that another server has opened (XEP-0288): nothing, or the queue of a link.

use super::carrier::Carrier;
use super::link::{Link, Spare};
use crate::core::Core;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

/// Whether stanzas of ours go back on the stream (XEP-0288).
pub(super) enum Back {
    /// Nothing does.
    None,
    /// They will from then on, or as soon as the peer has said what it wants of the stream.
    Later(Arc<Link>, Instant),
    /// The link has another stream, and takes this one when that ends.
    Spare(Spare),
    /// The link's queue.
    Carries(Carrier),
}

/// What concerns the way back.
pub(super) enum BackEvent {
    /// There is more to be sent.
    More,
    /// The link has no other stream any more.
    Free(Arc<Link>),
    /// Our question was not answered.
    Silent,
}

impl Back {
    /// `idle`: something could be sent.
    pub(super) async fn event(&self, core: &Core, idle: bool) -> BackEvent {
        match self {
            Self::None => std::future::pending().await,
            Self::Later(link, until) => {
                at(Some(*until)).await;
                BackEvent::Free(Arc::clone(link))
            }
            Self::Spare(spare) => {
                spare.is_wanted().await;
                BackEvent::Free(Arc::clone(&spare.link))
            }
            Self::Carries(carrier) => {
                let answer_by = carrier.answer_by(core);
                tokio::select! {
                    () = poll_fn(|cx| carrier.poll_more(cx, core)), if idle => {
                        BackEvent::More
                    }
                    () = at(answer_by) => BackEvent::Silent,
                }
            }
        }
    }
}

/// Resolves at this time, if ever.
pub(super) async fn at(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
