//! The command line of xmpp-lab.

use crate::lab_cli::Trouble;
use clap::{Args, Parser, Subcommand};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use xmpp_stream::jid::Jid;

/// Federated XMPP domains in one process
///
/// Each domain gets a server and a loopback address of its own; one certificate authority and a
/// small name server make them known to clients and servers of any make.
#[derive(Debug, Parser)]
#[command(
    name = "xmpp-lab",
    version,
    verbatim_doc_comment,
    after_help = "Examples:
  xmpp-lab demo                                    two domains, a conversation, the end
  xmpp-lab up a.test b.test                        servers for both, until Ctrl-C
  xmpp-lab up a.test --join c.test=127.0.0.9:5269  with a server of another make
  xmpp-lab up a.test --component gw.a.test=secret  a component may come
  dig @127.0.0.1 -p 5353 _xmpp-client._tcp.a.test SRV

Exit code: 0 it ended in order, 1 it failed, 2 usage"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) word: Word,
}

#[derive(Debug, Subcommand)]
pub(super) enum Word {
    /// Serve domains until Ctrl-C; faults on links are typed meanwhile (type help)
    ///
    /// Says where everything is: the CA certificate to trust, the name server that knows the domains,
    /// listeners, two accounts a domain with their passwords (also in a file, as xmpp-script
    /// --accounts reads it), and for each --join a folder with a certificate that its server may show
    /// and the CA. Then every stanza of the accounts is a line, and so is every change of a link.
    #[command(verbatim_doc_comment)]
    Up(Up),
    /// Play a conversation across two domains, print it, and end
    ///
    /// A server of a.test and one of b.test, a client at each: they become contacts and talk, the
    /// link between the servers is cut and mended meanwhile, and nothing is lost. No port is fixed,
    /// nothing is written, and nothing leaves this machine.
    #[command(verbatim_doc_comment)]
    Demo(Demo),
}

#[derive(Args, Debug)]
pub(super) struct Up {
    /// Domains, such as a.test b.test; the first is served on 127.0.0.1, the next on 127.0.0.2 …
    #[arg(required = true, value_name = "DOMAIN")]
    pub(super) domains: Vec<String>,
    /// A server of any make, such as c.test=127.0.0.9:5269, for all below c.test too; may be given again
    #[arg(long, value_name = "DOMAIN=HOST:PORT")]
    pub(super) join: Vec<String>,
    /// An external component below a domain, such as gw.a.test=secret; may be given again
    #[arg(long, value_name = "DOMAIN[=SECRET]")]
    pub(super) component: Vec<String>,
    /// Keep accounts, messages and the authority here [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Where the name server answers; at port 53 there is a resolv.conf too [default: 127.0.0.1:5353, or a free port]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) dns: Option<SocketAddr>,
    /// Free ports instead of 5222, 5223, 5269, 5270 and 5347
    #[arg(long)]
    pub(super) any_port: bool,
    /// Listen on ::1 as well
    #[arg(long)]
    pub(super) ipv6: bool,
    /// Do not show stanzas
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Print one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// A server that runs already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Joined {
    pub(super) domain: String,
    pub(super) address: SocketAddr,
}

/// A component that may come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Component {
    pub(super) name: String,
    /// Whose server it comes to.
    pub(super) domain: String,
    /// `None`: one is to be made.
    pub(super) secret: Option<String>,
}

impl Up {
    /// The domains in prepared form, each once.
    pub(super) fn served(&self) -> Result<Vec<String>, Trouble> {
        let mut served = Vec::new();
        for name in &self.domains {
            let domain = domain(name)?;
            if served.contains(&domain) {
                return Err(Trouble::Usage(format!("{domain} is named twice")));
            }
            served.push(domain);
        }
        Ok(served)
    }

    pub(super) fn joined(&self, served: &[String]) -> Result<Vec<Joined>, Trouble> {
        let mut joined: Vec<Joined> = Vec::new();
        for text in &self.join {
            let usage = |what: &str| Trouble::Usage(format!("--join {text}: {what}"));
            let (name, place) = text
                .split_once('=')
                .ok_or_else(|| usage("this is written DOMAIN=HOST:PORT"))?;
            let domain = domain(name)?;
            if served.contains(&domain) || joined.iter().any(|one| one.domain == domain) {
                return Err(usage("the domain has a server already"));
            }
            let mut found = place
                .to_socket_addrs()
                .map_err(|why| usage(&why.to_string()))?;
            let address = found
                .next()
                .ok_or_else(|| usage("the host has no address"))?;
            joined.push(Joined { domain, address });
        }
        Ok(joined)
    }
}

impl Up {
    pub(super) fn components(&self, served: &[String]) -> Result<Vec<Component>, Trouble> {
        let mut components: Vec<Component> = Vec::new();
        for text in &self.component {
            let usage = |what: &str| Trouble::Usage(format!("--component {text}: {what}"));
            let (name, secret) = match text.split_once('=') {
                Some((_, "")) => return Err(usage("the secret is empty")),
                Some((name, secret)) => (name, Some(secret.to_owned())),
                None => (text.as_str(), None),
            };
            let name = domain(name)?;
            let is_above = |domain: &&String| {
                let rest = name.strip_suffix(domain.as_str());
                rest.is_some_and(|rest| rest.ends_with('.'))
            };
            let above = served.iter().find(is_above);
            let above = above.ok_or_else(|| usage("it is below none of the domains"))?;
            if served.contains(&name) || components.iter().any(|one| one.name == name) {
                return Err(usage("this is named twice"));
            }
            components.push(Component {
                domain: above.clone(),
                name,
                secret,
            });
        }
        Ok(components)
    }
}

/// A domain in prepared form.
fn domain(name: &str) -> Result<String, Trouble> {
    let usage = |what: String| Trouble::Usage(format!("{name:?} is no domain: {what}"));
    if name.contains(['@', '/', ':']) {
        return Err(usage("it is only a name, such as a.test".into()));
    }
    let jid = Jid::domain_only(name).map_err(|why| usage(why.to_string()))?;
    Ok(jid.domain().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(words: &[&str]) -> Up {
        let words = ["xmpp-lab", "up"].iter().chain(words);
        match Arguments::try_parse_from(words).expect("usage").word {
            Word::Up(up) => up,
            Word::Demo(_) => unreachable!(),
        }
    }

    #[track_caller]
    fn refused(words: &[&str], what: &str) {
        let up = up(words);
        let said = up.served().and_then(|served| {
            up.joined(&served)?;
            up.components(&served)
        });
        let said = said.expect_err("a mistake").to_string();
        assert!(said.contains(what), "{words:?}: {said}");
    }

    #[test]
    fn names_are_prepared_and_mistakes_are_named() {
        let up = up(&["A.test", "bücher.test", "--join", "c.test=127.0.0.9:5269"]);
        let served = up.served().expect("domains");
        assert_eq!(served, ["a.test", "bücher.test"]);
        let joined = up.joined(&served).expect("one");
        assert_eq!(joined[0].domain, "c.test");
        assert_eq!(joined[0].address.to_string(), "127.0.0.9:5269");
        refused(&["ann@a.test"], "no domain");
        refused(&["a test"], "no domain");
        refused(&["a.test", "A.test"], "a.test is named twice");
        refused(&["a.test", "--join", "c.test"], "DOMAIN=HOST:PORT");
        refused(
            &["a.test", "--join", "a.test=127.0.0.9:5269"],
            "has a server",
        );
        refused(&["a.test", "--join", "c.test=127.0.0.9"], "--join c.test");
        let component = |name: &'static str| ["a.test", "b.a.test", "--component", name];
        refused(&component("gw.c.test"), "below none of the domains");
        refused(&component("xa.test"), "below none of the domains");
        refused(&component("gw.a.test="), "the secret is empty");
        refused(&component("b.a.test"), "named twice");
        refused(&component("x@a.test"), "no domain");
        let up = self::up(&component("gw.a.test=s=t"));
        let found = up.components(&["a.test".into()]).expect("one");
        let Component {
            name,
            domain,
            secret,
        } = &found[0];
        assert_eq!((&**name, &**domain), ("gw.a.test", "a.test"));
        assert_eq!(secret.as_deref(), Some("s=t"));
    }
}
