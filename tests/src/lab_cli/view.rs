//! What is shown, each thing as one line or one JSON object.

use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Of a stanza so much is shown in a line.
const SHOWN_CHARS: usize = 400;
/// Clears the line that the cursor stands in.
const CLEAR: &str = "\r\x1b[K";
const PROMPT: &str = "> ";

/// Something to be shown.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The file of accounts.
    Accounts(PathBuf),
    Account {
        jid: String,
        password: String,
    },
    /// The file of the CA certificate.
    Authority(PathBuf),
    /// What the server of a joined domain may show, and whom it is to believe.
    Certificate {
        domain: String,
        certificate: PathBuf,
        key: PathBuf,
        ca: PathBuf,
    },
    /// A component that may come, and by what.
    Component {
        name: String,
        secret: String,
    },
    /// What a demonstration does.
    Demo(String),
    /// An order was carried out.
    Done(String),
    Ending,
    Joined {
        domain: String,
        address: SocketAddr,
    },
    Link {
        from: String,
        to: String,
        condition: String,
        connections: usize,
        bytes: u64,
    },
    Listening {
        domain: String,
        listener: &'static str,
        address: SocketAddr,
        /// The port that was taken.
        instead_of: Option<u16>,
    },
    /// Where the name server answers.
    Names(SocketAddr),
    Ready,
    /// For programs that can ask no other port than 53.
    Resolver(PathBuf),
    /// An order was not understood.
    Refused(String),
    Stanza {
        domain: String,
        /// From another domain; else sent by a client.
        arrived: bool,
        from: Option<String>,
        to: Option<String>,
        xml: String,
    },
}

/// Where it is shown.
pub(super) struct View {
    json: bool,
    /// Somebody types: the line in which they do stays the last.
    prompt: bool,
}

impl View {
    pub(super) fn new(json: bool) -> Self {
        let typed = io::stdin().is_terminal() && io::stdout().is_terminal();
        Self {
            json,
            prompt: typed && !json,
        }
    }

    /// A reader that went away ends nothing.
    pub(super) fn show(&self, event: &Event) {
        let mut out = io::stdout().lock();
        let _ = match (self.json, self.prompt) {
            (true, _) => writeln!(out, "{}", event.object()),
            (false, false) => writeln!(out, "{}", event.line()),
            (false, true) => write!(out, "{CLEAR}{}\n{PROMPT}", event.line()),
        };
        let _ = out.flush();
    }
}

impl Event {
    fn line(&self) -> String {
        match self {
            Self::Accounts(file) => format!("accounts        {}", file.display()),
            Self::Account { jid, password } => format!("account         {jid} {password}"),
            Self::Authority(file) => format!("CA certificate  {}", file.display()),
            Self::Certificate {
                domain,
                certificate,
                key,
                ca,
            } => format!(
                "certificate     {domain} {} {} {}",
                certificate.display(),
                key.display(),
                ca.display()
            ),
            Self::Component { name, secret } => format!("component       {name} {secret}"),
            Self::Demo(what) | Self::Done(what) => what.clone(),
            Self::Ending => "ending".into(),
            Self::Joined { domain, address } => format!("joined          {domain} {address}"),
            Self::Link {
                from,
                to,
                condition,
                connections,
                bytes,
            } => format!(
                "link            {from} -> {to}: {condition}, {connections} connections, {bytes} bytes"
            ),
            Self::Listening {
                domain,
                listener,
                address,
                instead_of,
            } => {
                let note = instead_of.map_or_else(String::new, |port| {
                    format!(" (instead of {port}, which is taken)")
                });
                format!("listening       {domain} {listener} {address}{note}")
            }
            Self::Names(address) => format!("name server     {address}"),
            Self::Ready => "ready".into(),
            Self::Resolver(file) => format!("resolv.conf     {}", file.display()),
            Self::Refused(why) => format!("? {why}"),
            Self::Stanza {
                domain,
                arrived,
                xml,
                ..
            } => {
                let way = if *arrived { "in " } else { "out" };
                format!("{domain} {way} {}", shortened(xml))
            }
        }
    }

    fn object(&self) -> Value {
        match self {
            Self::Accounts(file) => json!({"event": "accounts", "file": file}),
            Self::Account { jid, password } => {
                json!({"event": "account", "jid": jid, "password": password})
            }
            Self::Authority(file) => json!({"event": "ca", "file": file}),
            Self::Certificate {
                domain,
                certificate,
                key,
                ca,
            } => json!({
                "event": "certificate", "domain": domain, "file": certificate, "key": key, "ca": ca
            }),
            Self::Component { name, secret } => {
                json!({"event": "component", "domain": name, "secret": secret})
            }
            Self::Demo(what) => json!({"event": "demo", "text": what}),
            Self::Done(what) => json!({"event": "done", "text": what}),
            Self::Ending => json!({"event": "ending"}),
            Self::Joined { domain, address } => {
                json!({"event": "joined", "domain": domain, "address": address.to_string()})
            }
            Self::Link {
                from,
                to,
                condition,
                connections,
                bytes,
            } => json!({
                "event": "link", "from": from, "to": to, "condition": condition,
                "connections": connections, "bytes": bytes
            }),
            Self::Listening {
                domain,
                listener,
                address,
                instead_of,
            } => json!({
                "event": "listening", "domain": domain, "listener": listener,
                "address": address.to_string(), "instead_of": instead_of
            }),
            Self::Names(address) => json!({"event": "dns", "address": address.to_string()}),
            Self::Ready => json!({"event": "ready"}),
            Self::Resolver(file) => json!({"event": "resolver", "file": file}),
            Self::Refused(why) => json!({"event": "refused", "text": why}),
            Self::Stanza {
                domain,
                arrived,
                from,
                to,
                xml,
            } => {
                let way = if *arrived { "in" } else { "out" };
                json!({
                    "event": "stanza", "domain": domain, "way": way, "from": from, "to": to,
                    "xml": xml
                })
            }
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.into(),
    }
}
