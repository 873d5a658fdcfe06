//! What raw peers do once signed in: presence, roster, requests, and showing that nothing arrives.
//!
//! That nothing arrives is shown by a barrier: a ping whose answer must come next. For "what A sends
//! does not reach B": `a.barrier()`, after which the server has handled what A sent, then
//! `b.barrier()`: whatever that caused for B would stand before the answer.

use crate::tree::Tree;
use crate::wire::Wire;
use xmpp_stream::ns;

impl Wire {
    /// Sends initial presence with this content and receives its own copy (RFC 6121 section 4.2.2).
    /// What comes before it is kept for later.
    pub async fn presence(&mut self, content: &str) -> Tree {
        self.send(format!("<presence>{content}</presence>")).await;
        let own = self.jid().to_owned();
        let is_own = |tree: &Tree| {
            tree.name() == "presence"
                && tree.attr("from") == Some(&own)
                && tree.attr("type").is_none()
        };
        let mut seen = self.until_it(is_own).await;
        let own = seen.pop();
        self.keep(seen);
        own.unwrap_or_else(|| self.fail("own presence", "nothing"))
    }

    /// The next element must be unavailable presence of this full JID.
    pub async fn expect_presence_unavailable(&mut self, from: &str) -> Tree {
        let got = self.next().await;
        let is_unavailable = got.name() == "presence" && got.attr("type") == Some("unavailable");
        if !is_unavailable || got.attr("from") != Some(from) {
            self.fail(&format!("unavailable presence of {from}"), &got.to_string());
        }
        got
    }

    /// Gets the roster; returns its `<query/>`. The session is an interested resource from then on.
    pub async fn roster_get(&mut self) -> Tree {
        let id = self.send_iq("get", None, &roster_query()).await;
        let answer = self.answer(&id).await;
        self.roster_in(&answer)
    }

    /// The same, passing over what comes before the answer.
    pub async fn roster_get_among_others(&mut self) -> Tree {
        let id = self.send_iq("get", None, &roster_query()).await;
        let seen = self.until_id(&id).await;
        match seen.last() {
            Some(answer) => self.roster_in(answer),
            None => self.fail("a roster", "nothing"),
        }
    }

    fn roster_in(&self, answer: &Tree) -> Tree {
        match answer.child_ns(ns::ROSTER, "query") {
            Some(query) => query.clone(),
            None => self.fail("a roster", &answer.to_string()),
        }
    }

    /// Sends an IQ get or set with this payload and returns its result; an error fails the test.
    pub async fn iq(&mut self, ty: &str, to: &str, payload: &str) -> Tree {
        let id = self.send_iq(ty, Some(to), payload).await;
        self.answer(&id).await
    }

    /// The next element, which must be the result with this id.
    pub async fn answer(&mut self, id: &str) -> Tree {
        let got = self.next().await;
        let is_it = got.name() == "iq" && got.attr("id") == Some(id);
        if !is_it || got.attr("type") != Some("result") {
            self.fail(&format!("the result with id {id}"), &got.to_string());
        }
        got
    }

    /// Everything up to the first element of this type.
    pub async fn until(&mut self, ty: &str) -> Vec<Tree> {
        self.until_it(|tree| tree.attr("type") == Some(ty)).await
    }

    /// Everything up to the first element with this id.
    pub async fn until_id(&mut self, id: &str) -> Vec<Tree> {
        self.until_it(|tree| tree.attr("id") == Some(id)).await
    }

    async fn until_it(&mut self, is_it: impl Fn(&Tree) -> bool) -> Vec<Tree> {
        let mut seen = Vec::new();
        loop {
            let tree = self.next().await;
            let last = is_it(&tree);
            seen.push(tree);
            if last {
                return seen;
            }
        }
    }

    /// The next stanza of this kind; others are passed over.
    pub async fn next_of(&mut self, kind: &str) -> Tree {
        loop {
            let stanza = self.next().await;
            if stanza.name() == kind {
                return stanza;
            }
        }
    }

    /// Shows that nothing else has arrived: sends a ping and expects its answer as the next element.
    pub async fn barrier(&mut self) {
        let id = self.ping().await;
        let got = self.next().await;
        if got.name() != "iq" || got.attr("id") != Some(&id) {
            self.fail("nothing before the barrier", &got.to_string());
        }
    }

    /// Shows that the server has handled what was sent; what arrives meanwhile is passed over.
    pub async fn barrier_among_others(&mut self) {
        self.barrier_seeing().await;
    }

    /// Shows that nothing but presence has arrived.
    pub async fn barrier_over_presence(&mut self) {
        for tree in self.barrier_seeing().await {
            if tree.name() != "presence" {
                self.fail("nothing but presence before the barrier", &tree.to_string());
            }
        }
    }

    /// The same when at least so many elements must come first, which may still be on their way.
    pub async fn barrier_over(&mut self, least: usize) -> Vec<Tree> {
        let mut seen = Vec::new();
        while seen.len() < least {
            seen.push(self.next().await);
        }
        seen.extend(self.barrier_seeing().await);
        seen
    }

    /// What arrived before the answer to a ping.
    pub async fn barrier_seeing(&mut self) -> Vec<Tree> {
        let id = self.ping().await;
        let mut seen = self.until_id(&id).await;
        seen.pop();
        seen
    }

    async fn ping(&mut self) -> String {
        let domain = self.domain.clone();
        let ping = format!("<ping xmlns='{}'/>", ns::PING);
        self.send_iq("get", Some(&domain), &ping).await
    }

    /// Brings both online as interested resources and subscribes each to the other's presence.
    /// Nothing is pending afterwards.
    pub async fn befriend(&mut self, other: &mut Self) {
        let (we, they) = (self.bare_jid().to_owned(), other.bare_jid().to_owned());
        self.roster_get().await;
        other.roster_get().await;
        self.presence("").await;
        other.presence("").await;
        self.send(format!("<presence type='subscribe' to='{they}'/>"))
            .await;
        other.until("subscribe").await;
        other
            .send(format!("<presence type='subscribed' to='{we}'/>"))
            .await;
        other
            .send(format!("<presence type='subscribe' to='{we}'/>"))
            .await;
        self.until("subscribe").await;
        self.send(format!("<presence type='subscribed' to='{they}'/>"))
            .await;
        // in this order: what each has caused for the other is there, and passed over
        self.barrier_among_others().await;
        other.barrier_among_others().await;
        self.barrier_among_others().await;
    }

    async fn send_iq(&mut self, ty: &str, to: Option<&str>, payload: &str) -> String {
        let id = self.new_id();
        let to = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
        self.send(format!("<iq type='{ty}' id='{id}'{to}>{payload}</iq>"))
            .await;
        id
    }
}

fn roster_query() -> String {
    format!("<query xmlns='{}'/>", ns::ROSTER)
}
