//! Where a script is played: a server in this process, or others that are running.

use crate::lab::{Arrival, LabError, Net, TestLab};
use crate::script::login::Login;
use crate::script::model::{Character, CharacterKind, LinkFault, Script, StoreFault};
use crate::script::peer::{Got, Peer};
use crate::script::server::Speaker;
use crate::trust::Trust;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use xmpp_server::config::{AllowedComponent, Config};
use xmpp_server::store::Crash;
use xmpp_server::users::{UserError, Users};
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stream::Password;
use xmpp_stream::stream::component::Secret;

/// A command that makes an account may take this long at least: some start a runtime for it.
const COMMAND_MIN: Duration = Duration::from_secs(10);

/// Servers that are running, and how to come by accounts there.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Host and port of each domain.
    pub servers: BTreeMap<String, String>,
    /// The same for characters that begin with TLS.
    pub servers_tls: BTreeMap<String, String>,
    /// The CA to trust.
    pub trust: Option<Trust>,
    /// Accounts that exist: bare address and password. `None`: they are registered in band.
    pub accounts: Option<BTreeMap<String, String>>,
    /// A command that makes an account: `{local}`, `{domain}` and `{password}` are replaced.
    pub command: Option<Vec<String>>,
}

/// Why there is no stage, or no connection to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StageError(pub(crate) String);

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StageError {}

impl From<LabError> for StageError {
    fn from(error: LabError) -> Self {
        Self(error.to_string())
    }
}

/// A server or several, set up for one script.
pub(crate) enum Stage {
    Here(Box<Here>),
    Elsewhere(Elsewhere),
}

/// One server for all domains of the script.
pub(crate) struct Here {
    lab: TestLab,
    domain: String,
    /// The servers of the script, by their names.
    speakers: BTreeMap<String, Arc<Speaker>>,
    /// What comes to them, until they are asked for it.
    calls: BTreeMap<String, Calls>,
    /// The domains of the script's servers.
    others: BTreeSet<String>,
}

/// Who calls a `[Server]`.
pub(crate) enum Calls {
    /// They were answered, and this came over them.
    Answered(UnboundedReceiver<Got>),
    /// The script answers.
    ByHand(UnboundedReceiver<Arrival>),
}

impl Stage {
    /// A server in this process that hosts every domain and has every account that the script names.
    pub(crate) async fn here(script: &Script) -> Result<Self, StageError> {
        let config = match &script.config {
            None => None,
            Some((at, text)) => match Config::from_toml_str(text, &script.file) {
                Ok(config) => Some(config),
                Err(why) => return Err(StageError(format!("{at}: {why}"))),
            },
        };
        let mut domains: Vec<String> = Vec::new();
        for one in &script.cast {
            if !is_component(&script.cast, &one.domain) && !domains.contains(&one.domain) {
                domains.push(one.domain.clone());
            }
        }
        if domains.is_empty() {
            domains.push("localhost".into());
        }
        let here = Here::start(domains, config, &script.cast).await?;
        for one in script.cast.iter().filter(|one| one.has_account) {
            here.make_account(one).await?;
        }
        Ok(Self::Here(Box::new(here)))
    }

    /// Whom to trust.
    pub(crate) fn trust(&self) -> Option<Trust> {
        match self {
            Self::Here(here) => Some(Trust::pem(here.lab.ca_pem())),
            Self::Elsewhere(elsewhere) => elsewhere.trust.clone(),
        }
    }

    /// A connection in clear to the server of this character.
    pub(crate) async fn connect(
        &self,
        one: &Character,
        patience: Duration,
    ) -> Result<Peer, StageError> {
        match self {
            Self::Here(here) => Ok(here.connect(one)),
            Self::Elsewhere(elsewhere) => elsewhere.connect(one, patience).await,
        }
    }

    /// True when nobody else can read what goes to the server.
    pub(crate) fn is_local(&self, domain: &str) -> bool {
        match self {
            Self::Here(_) => true,
            Self::Elsewhere(elsewhere) => {
                let host = elsewhere
                    .servers
                    .get(domain)
                    .and_then(|it| it.rsplit_once(':'));
                host.is_some_and(|(host, _)| ["localhost", "127.0.0.1", "[::1]"].contains(&host))
            }
        }
    }

    /// The server in this process, for what an operator does.
    pub(crate) fn operator(&mut self) -> Result<&mut Here, StageError> {
        match self {
            Self::Here(here) => Ok(here),
            Self::Elsewhere(_) => Err(StageError("only with a server in this process".into())),
        }
    }

    pub(crate) async fn end(self) {
        drop(self);
    }
}

impl Here {
    async fn start(
        domains: Vec<String>,
        given: Option<Config>,
        cast: &[Character],
    ) -> Result<Self, StageError> {
        let mut given = given;
        let change = |config: &mut Config| {
            if let Some(mut given) = given.take() {
                // addresses, certificates and the store stay the lab's
                let pattern = given.domains.first().cloned();
                for name in &domains {
                    if !given.domains.iter().any(|domain| domain.name == *name)
                        && let Some(mut domain) = pattern.clone()
                    {
                        domain.name.clone_from(name);
                        given.domains.push(domain);
                    }
                }
                given
                    .domains
                    .retain(|domain| domains.contains(&domain.name));
                given.c2s.listen.clone_from(&config.c2s.listen);
                given.c2s.listen_tls.clone_from(&config.c2s.listen_tls);
                given.sasl.scram_iterations = config.sasl.scram_iterations;
                given.given = config.given.clone();
                given.s2s.enabled = config.s2s.enabled;
                given.s2s.listen.clone_from(&config.s2s.listen);
                given.s2s.listen_tls.clone_from(&config.s2s.listen_tls);
                given.dns.overrides.clone_from(&config.dns.overrides);
                given.storage = config.storage;
                *config = given;
            }
            config.component.allow.extend(components(cast));
        };
        let names = domains.iter().map(String::as_str);
        let net = Net::default();
        let mut builder = TestLab::builder().server(names).config(change).net(&net);
        let mut called = BTreeMap::new();
        for (name, one) in hosts(cast) {
            let (address, arrivals) = net.listen_any();
            called.insert(one.name.as_str(), arrivals);
            builder = builder.join(name, address);
        }
        let lab = builder.start().await?;
        let others = servers(cast).map(|(name, _)| name.to_owned()).collect();
        let (mut speakers, mut calls) = (BTreeMap::new(), BTreeMap::new());
        for (_, one) in servers(cast) {
            let speaker = Arc::new(Speaker::new(&lab, one)?);
            if let Some(arrivals) = called.remove(one.name.as_str()) {
                let calls_of = match one.is_called_by_hand {
                    true => Calls::ByHand(arrivals),
                    false => Calls::Answered(Arc::clone(&speaker).listen(arrivals)),
                };
                calls.insert(one.name.clone(), calls_of);
            }
            speakers.insert(one.name.clone(), speaker);
        }
        let domain = domains.first().cloned().unwrap_or_default();
        Ok(Self {
            lab,
            domain,
            speakers,
            calls,
            others,
        })
    }

    /// What a `[Server]` is.
    pub(crate) fn speaker(&self, one: &Character) -> Option<Arc<Speaker>> {
        self.speakers.get(&one.name).cloned()
    }

    /// Who calls a `[Server]`, told once.
    pub(crate) fn calls(&mut self, one: &Character) -> Option<Calls> {
        self.calls.remove(&one.name)
    }

    /// The first domain that is served.
    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    fn users(&self) -> Users {
        Users::Running(self.lab.handle().core().clone())
    }

    async fn make_account(&self, one: &Character) -> Result<(), StageError> {
        let (Some(jid), Some(password)) = (&one.jid, &one.password) else {
            return Ok(());
        };
        if one.kind == CharacterKind::Component || !jid.contains('@') {
            return Ok(());
        }
        match self
            .users()
            .add(&bare(jid)?, Password(password.clone()))
            .await
        {
            Ok(()) | Err(UserError::Exists) => Ok(()),
            Err(why) => Err(StageError(format!(
                "the account {jid} cannot be made: {why}"
            ))),
        }
    }

    fn connect(&self, one: &Character) -> Peer {
        match one.kind {
            CharacterKind::Server => {
                let stream = self.lab.connect_server(&self.domain, one.direct_tls);
                Peer::over(stream).speaking(ns::SERVER)
            }
            CharacterKind::Component => {
                let stream = self.lab.connect_component(&self.domain);
                Peer::over(stream).speaking(ns::COMPONENT)
            }
            _ => Peer::over(self.lab.connect(&self.domain, one.direct_tls)),
        }
    }

    /// Ends the server, in order or at once, and starts it again with what it had stored.
    pub(crate) async fn restart(&self, in_order: bool) -> Result<(), StageError> {
        match in_order {
            true => self.lab.stop(&self.domain).await,
            false => self.lab.kill(&self.domain),
        }
        Ok(self.lab.start(&self.domain).await?)
    }

    /// What happens to the server's own link to a `[Server]`.
    pub(crate) fn link(&self, fault: LinkFault, domain: &str) -> Result<(), StageError> {
        if !self.others.contains(domain) {
            return Err(StageError(format!("{domain} is no [Server]'s")));
        }
        let link = self.lab.link(&self.domain, domain);
        match fault {
            LinkFault::Cut => link.cut(),
            LinkFault::Hold => link.hold(),
            LinkFault::Mend => link.mend(),
            LinkFault::Release => link.release(),
            LinkFault::Sever => link.sever(),
        }
        Ok(())
    }

    pub(crate) fn store(&self, fault: StoreFault) -> Result<(), StageError> {
        let store = self.lab.memory();
        match fault {
            StoreFault::Crash { kept: true } => store.crash_at(1, Crash::AfterCommit),
            StoreFault::Crash { kept: false } => store.crash_at(1, Crash::BeforeCommit),
            StoreFault::Delay(time) => store.set_delay((!time.is_zero()).then_some(time)),
            StoreFault::Fail(count) => store.fail_next(count),
            StoreFault::Hold => store.hold(),
            StoreFault::Release => store.release(),
        }
        Ok(())
    }

    pub(crate) async fn ban(&self, jid: &str) -> Result<(), StageError> {
        told(self.users().ban(&bare(jid)?, None).await)
    }

    pub(crate) async fn unban(&self, jid: &str) -> Result<(), StageError> {
        told(self.users().unban(&bare(jid)?).await)
    }

    pub(crate) async fn remove(&self, jid: &str) -> Result<(), StageError> {
        told(self.users().remove(&bare(jid)?).await)
    }

    pub(crate) async fn kick(&self, jid: &str) -> Result<(), StageError> {
        let full = FullJid::parse(jid)
            .map_err(|why| StageError(format!("{jid:?} is no full address: {why}")))?;
        match self.lab.handle().kick(&full).await {
            true => Ok(()),
            false => Err(StageError(format!("{jid} has no session"))),
        }
    }
}

/// True for the domain of a component, which is nobody else's.
fn is_component(cast: &[Character], domain: &str) -> bool {
    let mut components = cast
        .iter()
        .filter(|one| one.kind == CharacterKind::Component);
    components.any(|one| one.domain == domain)
}

/// Those that are servers, by their domains.
fn servers(cast: &[Character]) -> impl Iterator<Item = (&str, &Character)> {
    let servers = cast.iter().filter(|one| one.kind == CharacterKind::Server);
    servers.filter_map(|one| Some((one.jid.as_deref()?, one)))
}

/// Those of them that are called: of several with one domain the one that does it by hand, else the
/// first.
fn hosts(cast: &[Character]) -> BTreeMap<&str, &Character> {
    let mut hosts: BTreeMap<&str, &Character> = BTreeMap::new();
    for (name, one) in servers(cast) {
        let host = hosts.entry(name).or_insert(one);
        if one.is_called_by_hand && !host.is_called_by_hand {
            *host = one;
        }
    }
    hosts
}

/// Those that are components, each domain once: the first secret is the right one.
fn components(cast: &[Character]) -> Vec<AllowedComponent> {
    let mut allowed: Vec<AllowedComponent> = Vec::new();
    let components = cast
        .iter()
        .filter(|one| one.kind == CharacterKind::Component);
    for one in components.filter(|one| one.has_account) {
        if let (Some(domain), Some(secret)) = (&one.jid, &one.password)
            && !allowed.iter().any(|known| *known.domain == **domain)
        {
            allowed.push(AllowedComponent {
                domain: domain.as_str().into(),
                secret: Secret::new(secret),
            });
        }
    }
    allowed
}

fn told(result: Result<(), UserError>) -> Result<(), StageError> {
    result.map_err(|why| StageError(why.to_string()))
}

fn bare(jid: &str) -> Result<BareJid, StageError> {
    let jid = Jid::parse(jid).map_err(|why| StageError(format!("{jid:?}: {why}")))?;
    Ok(jid.to_bare())
}

impl Elsewhere {
    /// Makes the accounts of a script, or finds their passwords.
    pub(crate) async fn prepare(
        &self,
        cast: &mut [Character],
        patience: Duration,
    ) -> Result<(), StageError> {
        let mut made: Vec<String> = Vec::new();
        for one in cast {
            let Some(jid) = one.jid.clone().filter(|jid| jid.contains('@')) else {
                continue;
            };
            if let Some(password) = self.accounts.as_ref().and_then(|known| known.get(&jid)) {
                one.password = Some(password.clone());
            }
            if !one.has_account || self.accounts.is_some() || made.contains(&jid) {
                continue;
            }
            made.push(jid.clone());
            let (local, domain) = jid.split_once('@').unwrap_or_default();
            let password = one.password.clone().unwrap_or_default();
            match &self.command {
                Some(command) => run(command, local, domain, &password, patience).await?,
                // whether it worked is seen at login: it may be there already
                None => self.register(one, local, &password, patience).await?,
            }
        }
        Ok(())
    }

    async fn register(
        &self,
        one: &Character,
        local: &str,
        password: &str,
        patience: Duration,
    ) -> Result<(), StageError> {
        let one = &Character {
            direct_tls: false,
            ..one.clone()
        };
        let mut peer = self.connect(one, patience).await?;
        let stage = Stage::Elsewhere(self.clone());
        let is_local = stage.is_local(&one.domain);
        let trust = self.trust.as_ref();
        let (peer, domain) = (&mut peer, one.domain.as_str());
        let mut login = Login {
            peer,
            domain,
            trust,
            patience,
            is_local,
        };
        if login.open_secure().await.is_ok() {
            let _ = login.register(local, password).await;
        }
        Ok(())
    }

    async fn connect(&self, one: &Character, patience: Duration) -> Result<Peer, StageError> {
        let (servers, option) = match one.direct_tls {
            true => (&self.servers_tls, "--server-tls"),
            false => (&self.servers, "--server"),
        };
        let Some(server) = servers.get(&one.domain) else {
            let domain = &one.domain;
            return Err(StageError(format!("no {option} is given for {domain}")));
        };
        let connecting = timeout(patience, TcpStream::connect(server)).await;
        let error = |why: String| StageError(format!("{server} cannot be reached: {why}"));
        let stream = connecting
            .map_err(|_| error(format!("no answer in {patience:?}")))?
            .map_err(|why| error(why.to_string()))?;
        let _ = stream.set_nodelay(true);
        Ok(Peer::over(stream))
    }
}

/// Runs the command that makes an account. It may fail: the account may be there.
async fn run(
    command: &[String],
    local: &str,
    domain: &str,
    password: &str,
    patience: Duration,
) -> Result<(), StageError> {
    let word = |word: &String| {
        word.replace("{local}", local)
            .replace("{domain}", domain)
            .replace("{password}", password)
    };
    let words: Vec<String> = command.iter().map(word).collect();
    let Some((program, arguments)) = words.split_first() else {
        return Err(StageError("--account-command is empty".into()));
    };
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|why| StageError(format!("{program}: {why}")))?;
    let until = tokio::time::Instant::now() + patience.max(COMMAND_MIN);
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        match child.try_wait() {
            Ok(Some(_)) | Err(_) => return Ok(()),
            Ok(None) if tokio::time::Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(StageError(format!("{program} does not end")));
            }
            Ok(None) => tick.tick().await,
        };
    }
}

/// Reads a list of accounts: `address,password` or `address password` a line, `#` for comments.
///
/// # Errors
/// The line that is wrong, or that the file cannot be read.
pub fn read_accounts(file: &Path) -> Result<BTreeMap<String, String>, StageError> {
    let text = std::fs::read_to_string(file)
        .map_err(|why| StageError(format!("{}: {why}", file.display())))?;
    let mut accounts = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((jid, password)) = line.split_once([',', ' ', '\t']) else {
            let what = "an account is `address,password`";
            return Err(StageError(format!(
                "{}:{}:1: {what}",
                file.display(),
                index + 1
            )));
        };
        accounts.insert(jid.trim().into(), password.trim().into());
    }
    Ok(accounts)
}
