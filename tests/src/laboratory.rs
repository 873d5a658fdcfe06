//! The command xmpp-lab as a process of its own, for tests: what it says, and what is typed.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use xmpp_client::{Builder, Reconnect, XmppClient};

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A laboratory in a process of its own, told of by JSON. It ends with this.
pub struct LabProcess {
    child: Child,
    orders: Option<ChildStdin>,
    events: UnboundedReceiver<Value>,
    seen: Vec<Value>,
}

impl Drop for LabProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LabProcess {
    /// Runs `up` of this program with these words; it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub async fn up(program: &str, words: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["up", "--any-port", "--json"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the command");
        let orders = child.stdin.take();
        let out = child.stdout.take().expect("its output");
        let (sender, events) = unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).expect("an object a line");
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut lab = Self {
            child,
            orders,
            events,
            seen: Vec::new(),
        };
        lab.until(|event| event["event"] == "ready").await;
        lab
    }

    /// The next event of this kind.
    ///
    /// # Panics
    /// It does not come.
    pub async fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("after {:#?}", self.seen));
            let event = event.unwrap_or_else(|| panic!("the end, after {:#?}", self.seen));
            self.seen.push(event.clone());
            if is_it(&event) {
                return event;
            }
        }
    }

    /// An event that came, by what stands in it.
    ///
    /// # Panics
    /// There was none such.
    #[must_use]
    pub fn find(&self, key: &str, value: &str) -> Value {
        let found = self.seen.iter().find(|event| event[key] == value);
        found
            .unwrap_or_else(|| panic!("no {value} in {:#?}", self.seen))
            .clone()
    }

    /// All that came.
    #[must_use]
    pub fn seen(&self) -> &[Value] {
        &self.seen
    }

    /// Types a line.
    ///
    /// # Panics
    /// It has ended.
    pub fn order(&mut self, line: &str) {
        let orders = self.orders.as_mut().expect("its input");
        writeln!(orders, "{line}").expect("it reads");
    }

    /// Where a domain listens.
    ///
    /// # Panics
    /// It said no address.
    #[must_use]
    pub fn listening(&self, domain: &str, listener: &str) -> Vec<SocketAddr> {
        let those = self.seen.iter();
        let those = those.filter(|event| {
            event["event"] == "listening"
                && event["domain"] == domain
                && event["listener"] == listener
        });
        let address = |event: &Value| event["address"].as_str().expect("text").parse();
        let addresses: Result<_, _> = those.map(address).collect();
        addresses.expect("addresses")
    }

    /// The first of these.
    #[must_use]
    pub fn address(&self, domain: &str, listener: &str) -> SocketAddr {
        self.listening(domain, listener)[0]
    }

    /// Where its name server answers.
    ///
    /// # Panics
    /// It said no address.
    #[must_use]
    pub fn names(&self) -> SocketAddr {
        let dns = self.find("event", "dns");
        dns["address"]
            .as_str()
            .expect("text")
            .parse()
            .expect("an address")
    }

    /// A client that finds everything as any other client would.
    ///
    /// # Panics
    /// It cannot sign in.
    pub async fn client(&self, jid: &str) -> XmppClient {
        let builder = self.builder(jid).name_servers(&[self.names()]);
        builder.connect().await.expect("a client")
    }

    /// A client of an account that was made, as the library builds it.
    ///
    /// # Panics
    /// There is none such.
    pub fn builder(&self, jid: &str) -> Builder {
        let account = self.find("jid", jid);
        let ca = self.find("event", "ca");
        XmppClient::builder(jid)
            .password(account["password"].as_str().expect("text"))
            .ca_file(path(&ca["file"]))
            .reconnect(Reconnect::never())
    }

    /// It ends in order. Whoever is connected is there to answer meanwhile.
    ///
    /// # Panics
    /// It does not end.
    pub async fn ends(&mut self) -> bool {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let ended = timeout(PATIENCE, async {
            loop {
                looks.tick().await;
                if let Some(status) = self.child.try_wait().expect("a process") {
                    return status.success();
                }
            }
        });
        ended.await.expect("an end in time")
    }

    /// Sends it a signal, such as `-TERM`.
    ///
    /// # Panics
    /// There is no program that does it.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill").success());
    }
}

/// A path in an event.
///
/// # Panics
/// It is none.
#[must_use]
pub fn path(text: &Value) -> PathBuf {
    PathBuf::from(text.as_str().expect("a path"))
}
