//! Stream management for raw peers (XEP-0198): enabling it, counting, losing the connection without
//! a word, and going on over another one.
//!
//! A managed peer counts what it receives and passes over the server's `<r/>`; it answers one only
//! when the test says so (`ack`).

use crate::lab::TestLab;
use crate::tree::Tree;
use crate::wire::{Received, Wire};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;

/// What a peer that manages its stream knows of it.
#[derive(Clone, Debug)]
pub struct Managed {
    /// By what the stream may be resumed.
    pub id: Option<String>,
    /// Stanzas received since `<enabled/>`.
    pub received: u32,
    /// `<r/>` received and not answered.
    pub asked: u32,
}

/// Over what a peer connects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// TCP and STARTTLS.
    StartTls,
    /// TCP and TLS from the first byte.
    DirectTls,
    /// A pipe in memory: the kind that can be used with paused time.
    Memory,
}

/// The switch of a connection that can go dead.
#[derive(Clone, Debug, Default)]
pub struct Link(Arc<AtomicBool>);

impl Link {
    /// From now on nothing gets through in either direction, and neither side is told.
    pub fn drop_everything(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_dead(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A byte stream with such a switch.
pub struct Droppable<T> {
    inner: T,
    link: Link,
}

impl<T> Droppable<T> {
    /// Around this stream.
    pub fn new(inner: T, link: &Link) -> Self {
        let link = link.clone();
        Self { inner, link }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Droppable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.link.is_dead() {
            // Nobody will ever wake the reader: that is the point.
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Droppable<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.link.is_dead() {
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(&mut self.inner).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.link.is_dead() {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut self.inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.link.is_dead() {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut self.inner).poll_shutdown(cx),
        }
    }
}

impl TestLab {
    /// A raw peer that has connected and sent nothing.
    pub async fn raw_over(&self, over: Over, domain: &str) -> Wire {
        match over {
            Over::StartTls => self.raw(domain).await,
            Over::DirectTls => self.raw_tls(domain).await,
            Over::Memory => self.raw_in_memory(domain),
        }
    }

    /// A peer that has signed in and not bound: it stands at the features.
    pub async fn unbound(&self, over: Over, jid: &str) -> Wire {
        let jid = Jid::parse(jid).expect("a JID");
        let password = self.account(jid.bare_str()).await;
        let mut wire = self.raw_over(over, jid.domain()).await;
        wire.open_secure().await;
        wire.authenticate_scram(jid.local().expect("an account"), &password)
            .await;
        wire.open().await;
        wire
    }

    /// A peer that has signed in and enabled stream management with resumption; not yet available.
    pub async fn managed(&self, over: Over, jid: &str) -> Wire {
        let mut wire = self.unbound(over, jid).await;
        let resource = Jid::parse(jid).expect("a JID");
        let bound = wire.bind(resource.resource()).await;
        assert!(resource.resource().is_none() || bound == jid, "{bound}");
        wire.enable("resume='true'").await;
        wire
    }

    /// The same in memory with a link that can go dead.
    pub async fn managed_over_link(&self, jid: &str) -> (Wire, Link) {
        let full = Jid::parse(jid).expect("a JID");
        let password = self.account(full.bare_str()).await;
        let (mut wire, link) = self.raw_over_link(full.domain());
        let local = full.local().expect("an account");
        wire.login(local, &password, full.resource().expect("a resource"))
            .await;
        wire.enable("resume='true'").await;
        (wire, link)
    }

    /// Goes on with a peer's stream over a new connection; what was not acknowledged follows.
    pub async fn resume(&self, over: Over, lost: Lost) -> Wire {
        let mut wire = self.unbound(over, &lost.jid).await;
        wire.send_resume(lost.id(), lost.managed.received).await;
        wire.expect_resumed(&lost).await;
        wire
    }
}

/// What a client keeps of a stream whose connection is gone.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Bound JID.
    pub jid: String,
    /// Where the counting stood.
    pub managed: Managed,
}

impl Lost {
    /// By what the stream may be resumed.
    ///
    /// # Panics
    /// It may not.
    #[must_use]
    pub fn id(&self) -> &str {
        self.managed.id.as_deref().expect("a stream to resume")
    }
}

impl Wire {
    /// Enables stream management with these attributes, and begins to count.
    pub async fn enable(&mut self, attributes: &str) -> Tree {
        self.send(format!("<enable xmlns='{}' {attributes}/>", ns::SM))
            .await;
        self.expect_enabled().await
    }

    /// The next element must be `<enabled/>`; the peer counts from there.
    pub async fn expect_enabled(&mut self) -> Tree {
        let got = self.next().await;
        if !got.is(ns::SM, "enabled") {
            self.fail("<enabled/>", &got.to_string());
        }
        self.managed = Some(Managed {
            id: got.attr("id").map(Into::into),
            received: 0,
            asked: 0,
        });
        got
    }

    /// Stream management is enabled.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.managed.is_some()
    }

    /// What this peer knows of its stream.
    ///
    /// # Panics
    /// Stream management is not enabled.
    #[must_use]
    pub fn sm(&self) -> &Managed {
        self.managed.as_ref().expect("a managed stream")
    }

    /// The connection ends without a word.
    #[must_use]
    pub fn lose(self) -> Lost {
        self.notes()
    }

    /// Acknowledges everything, then closes the stream; gives the server's last count.
    pub async fn close_managed(mut self) -> u32 {
        self.ack().await;
        self.send("</stream:stream>").await;
        let h = self.expect_ack().await;
        self.expect_closed().await;
        h
    }

    /// What a client would keep, while the connection stays.
    #[must_use]
    pub fn notes(&self) -> Lost {
        Lost {
            jid: self.jid().into(),
            managed: self.sm().clone(),
        }
    }

    /// Asks to go on with a stream.
    pub async fn send_resume(&mut self, id: &str, h: u32) {
        self.send(format!(
            "<resume xmlns='{}' previd='{id}' h='{h}'/>",
            ns::SM
        ))
        .await;
    }

    /// The next element must be `<resumed/>` of this stream; the peer counts on. Gives `h`.
    pub async fn expect_resumed(&mut self, lost: &Lost) -> u32 {
        let got = self.next().await;
        let is_it = got.is(ns::SM, "resumed") && got.attr("previd") == Some(lost.id());
        let Some(h) = got.attr("h").and_then(|h| h.parse().ok()).filter(|_| is_it) else {
            self.fail("<resumed/>", &got.to_string());
        };
        self.jid = Some(lost.jid.clone());
        self.managed = Some(lost.managed.clone());
        h
    }

    /// The answer to a resumption: true for `<resumed/>`, false for `<failed/>` with item-not-found.
    pub async fn resumed_or_not(&mut self, lost: &Lost) -> bool {
        let got = self.next().await;
        let failed = got.is(ns::SM, "failed");
        self.keep(vec![got]);
        if failed {
            self.expect_failed("item-not-found").await;
        } else {
            self.expect_resumed(lost).await;
        }
        !failed
    }

    /// Acknowledges everything received.
    pub async fn ack(&mut self) {
        let h = self.sm().received;
        if let Some(managed) = &mut self.managed {
            managed.asked = 0;
        }
        self.ack_at(h).await;
    }

    /// Acknowledges so many.
    pub async fn ack_at(&mut self, h: u32) {
        self.send(format!("<a xmlns='{}' h='{h}'/>", ns::SM)).await;
    }

    /// Asks how many were handled; the answer must be the next element.
    pub async fn ask(&mut self) -> u32 {
        self.send(format!("<r xmlns='{}'/>", ns::SM)).await;
        self.expect_ack().await
    }

    /// The same where other elements may come first; they are passed over.
    pub async fn ask_among_others(&mut self) -> u32 {
        self.send(format!("<r xmlns='{}'/>", ns::SM)).await;
        loop {
            let got = self.next().await;
            if got.is(ns::SM, "a") {
                self.keep(vec![got]);
                return self.expect_ack().await;
            }
        }
    }

    /// The next element must be `<a/>`: its count.
    pub async fn expect_ack(&mut self) -> u32 {
        let got = self.next().await;
        match got.attr("h").and_then(|h| h.parse().ok()) {
            Some(h) if got.is(ns::SM, "a") => h,
            _ => self.fail("<a/>", &got.to_string()),
        }
    }

    /// The next element must be an unanswered question of the server's: `<r/>`.
    pub async fn expect_asked(&mut self) {
        loop {
            if let Some(managed) = &mut self.managed
                && managed.asked > 0
            {
                managed.asked -= 1;
                return;
            }
            let before = self.sm().asked;
            match self.receive_even_asking().await {
                Received::Element(tree) if self.sm().asked == before => {
                    self.fail("<r/>", &tree.to_string());
                }
                Received::Element(_) => {}
                other => self.fail("<r/>", &format!("{other:?}")),
            }
        }
    }

    /// `<failed/>` must be next; its condition and count.
    pub async fn expect_failed(&mut self, condition: &str) -> Option<u32> {
        let got = self.next().await;
        if !got.is(ns::SM, "failed") || got.child_ns(ns::STANZAS, condition).is_none() {
            self.fail(&format!("<failed/> with {condition}"), &got.to_string());
        }
        got.attr("h").and_then(|h| h.parse().ok())
    }

    /// The ids of the next so many messages; anything but messages fails the test.
    pub async fn message_ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let got = self.next().await;
            if got.name() != "message" {
                self.fail(
                    &format!("message {} of {count}", ids.len()),
                    &got.to_string(),
                );
            }
            ids.push(got.attr("id").unwrap_or_default().to_owned());
        }
        ids
    }

    /// Everything up to and with the stream error, whatever it is.
    pub async fn until_stream_error(&mut self) -> Vec<Tree> {
        let mut seen = Vec::new();
        loop {
            let got = self.next().await;
            let last = got.is(ns::STREAMS, "error");
            seen.push(got);
            if last {
                return seen;
            }
        }
    }

    /// True when the stream lives; false when it was ended with an error, whose footer was read.
    pub async fn lives(&mut self) -> bool {
        let ping = format!(
            "<iq type='get' id='lives'><ping xmlns='{}'/></iq>",
            ns::PING
        );
        let _ = self.try_send(ping.as_bytes()).await;
        loop {
            match self.receive().await {
                Received::Element(tree) if tree.attr("id") == Some("lives") => return true,
                Received::Element(_) => {}
                Received::Footer => return false,
                other => self.fail("a pong or a stream error", &format!("{other:?}")),
            }
        }
    }

    /// Sends a chat message of this id.
    pub async fn chat(&mut self, to: &str, id: impl std::fmt::Display) {
        self.send(format!(
            "<message to='{to}' type='chat' id='{id}'><body>{id}</body></message>"
        ))
        .await;
    }
}

/// Numbers as ids.
#[must_use]
pub fn ids(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}
