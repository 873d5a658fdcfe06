//! `xmpp-lab demo`: two domains, a contact made, a conversation, a link that is cut meanwhile.

use crate::lab::{LabBuilder, TestLab};
use crate::lab_cli::Trouble;
use crate::lab_cli::arguments::Demo;
use crate::lab_cli::view::{Event, View};
use std::time::Duration;
use tokio::time::timeout;
use xmpp_client::{ImEvent, ImEvents, XmppClient, XmppProtocol};
use xmpp_stream::jid::{BareJid, Jid};

const ANN: &str = "ann@a.test";
const BEN: &str = "ben@b.test";
/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody at a client.
struct Person {
    name: &'static str,
    address: &'static str,
    im: XmppProtocol,
    events: ImEvents,
}

/// Plays it.
pub(super) async fn run(demo: Demo) -> Result<(), Trouble> {
    let view = View::new(demo.json);
    let say = |what: String| view.show(&Event::Demo(what));
    let builder: LabBuilder<'_> = TestLab::builder().domains(["a.test", "b.test"]);
    let lab = builder.start().await?;
    for domain in lab.domains() {
        let address = lab.place(domain).address;
        say(format!("* a server of {domain} listens on {address}"));
    }
    let mut ann = Person::sign_in(&lab, "Ann", ANN).await?;
    let mut ben = Person::sign_in(&lab, "Ben", BEN).await?;
    for person in [&ann, &ben] {
        say(format!("* {} signs in as {}", person.name, person.address));
    }
    befriend(&mut ann, &mut ben).await?;
    say("* Ann asks to see Ben's presence, Ben agrees: each has the other as a contact".into());
    ann.says(&mut ben, "Good morning from a.test!", &say)
        .await?;
    ben.says(&mut ann, "And to you, from b.test.", &say).await?;
    if lab.has_links() {
        let links = lab.links("a.test", "b.test");
        links.iter().for_each(crate::relay::Relay::sever);
        say("* the link between the two servers is cut ...".into());
        ann.sends(ben.address, "Still there?").await?;
        say("  Ann: Still there?".into());
        links.iter().for_each(crate::relay::Relay::mend);
        say("* ... and mended".into());
        ben.hears("Still there?").await?;
        say("* what Ann said has arrived".into());
        ben.says(&mut ann, "Still here.", &say).await?;
    }
    for person in [&ann, &ben] {
        let done = person.im.client().disconnect().await;
        done.map_err(|_| Trouble::Demo("a client signs out", None))?;
    }
    lab.shutdown().await;
    say("* all have signed out, the servers have ended".into());
    Ok(())
}

impl Person {
    async fn sign_in(
        lab: &TestLab,
        name: &'static str,
        address: &'static str,
    ) -> Result<Self, Trouble> {
        let builder = lab.client_builder(address).await;
        let client: XmppClient = builder.connect().await.map_err(|error| {
            let error = crate::lab::LabError::Connect(error);
            Trouble::Demo("a client signs in", Some(error))
        })?;
        let im = XmppProtocol::new(&client);
        let events = im.events();
        let online = im.go_online().await;
        online.map_err(|_| Trouble::Demo("a client goes online", None))?;
        Ok(Self {
            name,
            address,
            im,
            events,
        })
    }

    async fn says(&self, to: &mut Self, what: &str, say: &impl Fn(String)) -> Result<(), Trouble> {
        self.sends(to.address, what).await?;
        to.hears(what).await?;
        say(format!("  {}: {what}", self.name));
        Ok(())
    }

    async fn sends(&self, to: &str, what: &str) -> Result<(), Trouble> {
        let sent = self.im.send_message(&jid(to)?, what).await;
        sent.map(drop)
            .map_err(|_| Trouble::Demo("a message is sent", None))
    }

    async fn hears(&mut self, what: &str) -> Result<(), Trouble> {
        self.until(
            "a message arrives",
            |event| matches!(event, ImEvent::Message(message) if message.body() == Some(what)),
        )
        .await
    }

    async fn until(
        &mut self,
        step: &'static str,
        is_it: impl Fn(&ImEvent) -> bool,
    ) -> Result<(), Trouble> {
        let found = timeout(PATIENCE, async {
            while let Some(event) = self.events.next().await {
                if is_it(&event) {
                    return true;
                }
            }
            false
        });
        match found.await {
            Ok(true) => Ok(()),
            _ => Err(Trouble::Demo(step, None)),
        }
    }
}

/// Each asks and is approved (RFC 6121 section 3.1).
async fn befriend(ann: &mut Person, ben: &mut Person) -> Result<(), Trouble> {
    for (one, other) in [(&*ann, &*ben), (&*ben, &*ann)] {
        // In advance where it comes first, in answer where it comes second.
        let approved = one.im.approve(&bare(other.address)?).await;
        approved.map_err(|_| Trouble::Demo("a contact is approved", None))?;
        let asked = one.im.subscribe(&bare(other.address)?, None).await;
        asked.map_err(|_| Trouble::Demo("a contact is asked", None))?;
    }
    for (one, of) in [(ann, BEN), (ben, ANN)] {
        one.until(
            "presence of a contact arrives",
            |event| matches!(event, ImEvent::Presence(presence) if presence.from.bare_str() == of),
        )
        .await?;
    }
    Ok(())
}

fn jid(text: &str) -> Result<Jid, Trouble> {
    Jid::parse(text).map_err(|_| Trouble::Demo("an address is written", None))
}

fn bare(text: &str) -> Result<BareJid, Trouble> {
    Ok(jid(text)?.to_bare())
}
