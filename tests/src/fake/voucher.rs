//! A domain's authoritative server, which knows its own dialback keys and does nothing else
//! (XEP-0220 section 2.2.2).

use super::{FakeDomain, FakeStream, attr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinHandle;
use xmpp_stream::features::dialback::Secret;
use xmpp_stream::ns;

/// It answers until it is dropped.
pub struct Voucher {
    /// Its keys are made of it.
    pub secret: Secret,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FakeDomain {
    /// Answers from now on who asks whether a key is this domain's.
    #[must_use]
    pub fn vouch(self) -> Voucher {
        let secret = Secret::new(self.name.as_bytes());
        let asked = Arc::new(AtomicUsize::new(0));
        let (own, count) = (secret.clone(), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Some(stream) = self.next_call().await {
                tokio::spawn(answer(stream, own.clone(), Arc::clone(&count)));
            }
        });
        Voucher {
            secret,
            asked,
            task,
        }
    }
}

impl Voucher {
    /// Keys that it was asked about.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Voucher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: FakeStream, secret: Secret, asked: Arc<AtomicUsize>) {
    stream.header().await;
    let dialback = ns::FEATURE_DIALBACK;
    let features = format!(
        "<stream:features><dialback xmlns='{dialback}'><errors/></dialback></stream:features>"
    );
    if !stream.try_say(&features).await {
        return;
    }
    while let Some(question) = stream.next_up_to("</db:verify>").await {
        asked.fetch_add(1, Ordering::SeqCst);
        let (from, to, id) = (
            attr(&question, "from"),
            attr(&question, "to"),
            attr(&question, "id"),
        );
        let key = question.trim_end_matches("</db:verify>");
        let key = key.rsplit('>').next().unwrap_or_default();
        let verdict = match secret.is_key(key, &from, &to, &id) {
            true => "valid",
            false => "invalid",
        };
        let said = format!(
            "<db:verify xmlns:db='{}' from='{to}' to='{from}' id='{id}' type='{verdict}'/>",
            ns::DIALBACK
        );
        if !stream.try_say(&said).await {
            return;
        }
    }
}
