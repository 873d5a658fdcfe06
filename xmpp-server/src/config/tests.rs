//! The page of DESIGN 1 as tests: defaults, every key, every kind of error with its exact text.

use super::*;
use std::time::Duration;

const FILE: &str = "/etc/xmpp/server.toml";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml_str(text, Path::new(FILE))
}

#[track_caller]
fn good(text: &str) -> Config {
    match parse(text) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

/// `want` is the whole message after the name of the file.
#[track_caller]
fn check_error(text: &str, want: &str) {
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        format!("{FILE}:{want}")
    );
}

fn texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// What `{:?}` shows of all settings, without the file and its keys.
fn settings(config: &Config) -> String {
    let mut config = config.clone();
    config.file = None;
    config.seen.clear();
    config.domain_implied = false;
    format!("{config:#?}")
}

#[test]
fn an_empty_file_has_the_defaults_of_the_page() {
    let page = r#"
        [[domain]]
        name = "localhost"
        registration = "closed"
        admins = []
        anonymous = false
        strict_iq = false
        [c2s]
        listen = ["[::]:5222"]
        listen_tls = ["[::]:5223"]
        require_tls = true
        conflict = "generate"
        [sasl]
        plain = true
        scram_iterations = 10000
        downgrade_protection = true
        [s2s]
        enabled = true
        listen = ["[::]:5269"]
        listen_tls = ["[::]:5270"]
        require_tls = true
        dialback = "tls"
        ca = []
        [component]
        listen = []
        [storage]
        url = "sqlite"
        [dns]
        servers = []
        [dns.override]
        [limits]
        loopback_exempt = true
        [modules]
        off = []
        [log]
        filter = "info"
        format = "text"
    "#;
    assert_eq!(settings(&good("")), settings(&good(page)));
    assert_eq!(settings(&good("")), settings(&Config::default_file()));
    assert_eq!(good("").data_dir(), Path::new("xmpp-data"));
    assert_eq!(good("").file.as_deref(), Some(Path::new(FILE)));
}

#[test]
fn without_a_file_it_is_localhost_on_loopback() {
    let zero = Config::default_zero();
    assert_eq!(zero.domains.len(), 1);
    assert_eq!(zero.domains[0].name, "localhost");
    assert_eq!(zero.domains[0].registration, Registration::Loopback);
    assert_eq!(texts(&zero.c2s.listen), ["127.0.0.1:5222", "[::1]:5222"]);
    assert_eq!(
        texts(&zero.c2s.listen_tls),
        ["127.0.0.1:5223", "[::1]:5223"]
    );
    assert!(zero.c2s.require_tls);
    assert!(!zero.s2s.enabled);
    assert!(zero.s2s.listen.is_empty() && zero.s2s.listen_tls.is_empty());
    assert_eq!(zero.storage, Storage::Sqlite);
    assert_eq!(zero.data_dir(), Path::new("xmpp-data"));
    assert!(without_effect(&zero).is_empty());
}

#[test]
fn every_key_of_the_page_is_read() {
    let config = good(
        r#"
        data_dir = "/var/lib/xmpp-server"
        [[domain]]
        name = "Example.ORG"
        certificate = "/etc/ssl/example.org.pem"
        client_ca = ["clients.pem"]
        key = "keys/example.org.key"
        registration = "open"
        admins = ["alice@example.org"]
        anonymous = true
        strict_iq = true
        [domain.contact]
        abuse = ["mailto:abuse@example.org", "xmpp:abuse@example.org"]
        support = ["https://example.org/help"]
        [[domain]]
        name = "b.test"
        [c2s]
        listen = []
        listen_tls = ["127.0.0.1:0", "[::1]:7000"]
        require_tls = false
        conflict = "kick-old"
        [sasl]
        plain = false
        scram_iterations = 4096
        downgrade_protection = false
        [s2s]
        enabled = false
        listen = ["0.0.0.0:5269"]
        listen_tls = []
        require_tls = false
        dialback = "always"
        ca = ["ca.pem", "/ca/other.pem"]
        [storage]
        url = "memory"
        [dns]
        servers = ["127.0.0.1:5353"]
        [dns.override]
        "b.test" = "127.0.0.2:5269"
        "c.test" = { addr = "127.0.0.2:5270", direct_tls = true }
        [limits]
        loopback_exempt = false
        sessions_max = 5
        stanza_bytes_max = "1 MiB"
        silence_max = 90
        outbox_pause_max = "7ms"
        login_failures_max = 3
        [modules]
        off = ["ping"]
        muc.host = "conference.example.org"
        [log]
        filter = "warn,xmpp_server=debug"
        format = "json"
    "#,
    );
    assert_eq!(config.data_dir(), Path::new("/var/lib/xmpp-server"));
    let domain = config.domain("example.org").unwrap();
    let files = domain.certificate.clone().unwrap();
    assert_eq!(files.certificate, Path::new("/etc/ssl/example.org.pem"));
    let clients = &domain.client_ca;
    assert!(
        clients.len() == 1 && clients[0].ends_with("clients.pem"),
        "{clients:?}"
    );
    assert_eq!(files.key, Path::new("/etc/xmpp/keys/example.org.key"));
    assert_eq!(domain.registration, Registration::Open);
    assert_eq!(
        domain.admins,
        [BareJid::parse("alice@example.org").unwrap()]
    );
    assert!(domain.anonymous && domain.strict_iq);
    let abuse = ["mailto:abuse@example.org", "xmpp:abuse@example.org"].map(str::to_owned);
    let support = ["https://example.org/help".to_owned()];
    assert_eq!(
        domain.contact,
        [("abuse", abuse.to_vec()), ("support", support.to_vec())]
    );
    let second = config.domain("b.test").unwrap();
    assert_eq!(second.registration, Registration::Closed);
    assert_eq!(second.certificate, None);
    assert!(config.c2s.listen.is_empty());
    assert_eq!(texts(&config.c2s.listen_tls), ["127.0.0.1:0", "[::1]:7000"]);
    assert!(!config.c2s.require_tls);
    assert_eq!(config.c2s.conflict, Conflict::KickOld);
    let sasl = Sasl {
        plain: false,
        scram_iterations: 4096,
        downgrade_protection: false,
    };
    assert_eq!(config.sasl, sasl);
    assert!(!config.s2s.enabled && !config.s2s.require_tls);
    assert_eq!(texts(&config.s2s.listen), ["0.0.0.0:5269"]);
    assert_eq!(config.s2s.dialback, Dialback::Always);
    let ca = [
        PathBuf::from("/etc/xmpp/ca.pem"),
        PathBuf::from("/ca/other.pem"),
    ];
    assert_eq!(config.s2s.ca, ca);
    assert_eq!(config.storage, Storage::Memory);
    assert_eq!(texts(&config.dns.servers), ["127.0.0.1:5353"]);
    let at = |domain: &str| config.dns.overrides[domain];
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(
        at("b.test"),
        DnsOverride {
            addr: addr("127.0.0.2:5269"),
            direct_tls: false
        }
    );
    assert_eq!(
        at("c.test"),
        DnsOverride {
            addr: addr("127.0.0.2:5270"),
            direct_tls: true
        }
    );
    assert!(!config.limits.loopback_exempt);
    assert_eq!(config.limits.sessions_max, 5);
    assert_eq!(config.limits.stream.after_auth.stanza_bytes_max, 1 << 20);
    assert_eq!(config.limits.stream.silence_max, Duration::from_secs(90));
    assert_eq!(config.limits.outbox_pause_max, Duration::from_millis(7));
    assert_eq!(config.limits.stream.login_failures_max, 3);
    assert_eq!(config.modules.off, ["ping"]);
    let muc = &config.modules.tables["muc"];
    assert_eq!(muc["host"].as_str(), Some("conference.example.org"));
    assert_eq!(&*config.log.filter, "warn,xmpp_server=debug");
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn sizes_and_times_have_units() {
    let size = |text: &str| {
        good(&format!("[limits]\nturn_bytes_max = {text}"))
            .limits
            .turn_bytes_max
    };
    assert_eq!(size("4096"), 4096);
    assert_eq!(size("0x1000"), 4096);
    assert_eq!(size("\"4 KiB\""), 4096);
    assert_eq!(size("\"4KiB\""), 4096);
    assert_eq!(size("\"1 GiB\""), 1 << 30);
    let time = |text: &str| {
        good(&format!("[limits]\nticket_max = {text}"))
            .limits
            .ticket_max
    };
    assert_eq!(time("3"), Duration::from_secs(3));
    assert_eq!(time("\"250 ms\""), Duration::from_millis(250));
    assert_eq!(time("\"2s\""), Duration::from_secs(2));
    assert_eq!(time("\"2 m\""), Duration::from_secs(120));
    assert_eq!(time("\"1 h\""), Duration::from_secs(3600));
    assert_eq!(time("\"366 d\""), Duration::from_secs(366 * 86400));
}

#[test]
fn unknown_keys_name_the_nearest() {
    let check = check_error;
    check(
        "datadir = 1",
        "1:1: unknown key `datadir`; the nearest known key is `data_dir`",
    );
    check(
        "\n[c2s]\n  lisen = []",
        "3:3: unknown key `c2s.lisen`; the nearest known key is `c2s.listen`",
    );
    check(
        "[c2s]\nlisten-tls = []",
        "2:1: unknown key `c2s.listen-tls`; the nearest known key is `c2s.listen_tls`",
    );
    check(
        "[c2z]",
        "1:2: unknown key `c2z`; the nearest known key is `c2s`",
    );
    check(
        "[[domain]]\nname = \"a.test\"\nregister = \"open\"",
        "3:1: unknown key `domain.register`; the nearest known key is `domain.registration`",
    );
    check(
        "[dns.override]\n\"b.test\" = { adr = \"127.0.0.2:1\" }",
        "2:14: unknown key `dns.override.b.test.adr`; the nearest known key is \
         `dns.override.b.test.addr`",
    );
    check(
        "[limits]\nsession_max = 3",
        "2:1: unknown key `limits.session_max`; the nearest known key is `limits.sessions_max`",
    );
    check(
        "[log]\nformats = \"text\"",
        "2:1: unknown key `log.formats`; the nearest known key is `log.format`",
    );
    check(
        "storage.uri = \"sqlite\"",
        "1:9: unknown key `storage.uri`; the nearest known key is `storage.url`",
    );
}

#[test]
fn the_first_error_in_the_file_is_reported() {
    check_error(
        "zzz = 1\naaa = 2",
        "1:1: unknown key `zzz`; the nearest known key is `c2s`",
    );
}

#[test]
fn components_have_a_domain_of_their_own_and_a_secret() {
    let one = |domain: &str| format!("[[component.allow]]\ndomain = '{domain}'\nsecret = 's'\n");
    let config = good(&format!(
        "[component]\nlisten = ['127.0.0.1:5347']\n{}{}",
        one("GW.example.org"),
        one("irc.test")
    ));
    assert_eq!(texts(&config.component.listen), ["127.0.0.1:5347"]);
    let allow = config.component.allow.iter();
    let domains: Vec<_> = allow.map(|one| &*one.domain).collect();
    assert_eq!(domains, ["gw.example.org", "irc.test"]);
    assert!(!format!("{config:?}").contains("\"s\""));
    check_error(
        &format!("{}{}", one("gw.test"), one("GW.test")),
        "4:1: the domain `gw.test` is configured twice",
    );
    check_error(
        &format!("[[domain]]\nname = 'a.test'\n{}", one("a.test")),
        " the domain `a.test` is configured twice",
    );
    check_error(
        "[[component.allow]]\ndomain = 'gw.test'",
        "1:1: `component.allow.secret` is missing: each [[component.allow]] has one",
    );
    check_error(
        "[[component.allow]]\nsecret = 's'",
        "1:1: `component.allow.domain` is missing: each [[component.allow]] has one",
    );
    check_error(
        "[[component.allow]]\nsecret = ''",
        "2:10: `component.allow.secret` is ''; allowed: a text that is not empty",
    );
    check_error(
        "[component]\nallow = 3",
        "2:9: `component.allow` is 3; allowed: tables headed [[component.allow]]",
    );
}

#[test]
fn wrong_values_name_what_is_allowed() {
    let check = check_error;
    check(
        "[[domain]]\nname = \"a.test\"\nregistration = \"opn\"",
        "3:16: `domain.registration` is \"opn\"; allowed: \"closed\", \"loopback\", \"open\"",
    );
    check(
        "[c2s]\nconflict = true",
        "2:12: `c2s.conflict` is true; allowed: \"generate\", \"kick-old\"",
    );
    check(
        "[c2s]\nrequire_tls = 1",
        "2:15: `c2s.require_tls` is 1; allowed: true, false",
    );
    let addresses = "IP addresses with a port, such as \"127.0.0.1:5222\" or \"[::]:5222\"";
    check(
        "[c2s]\nlisten = [\"[::]:5222\", \"localhost:5222\"]",
        &format!("2:24: `c2s.listen` is \"localhost:5222\"; allowed: {addresses}"),
    );
    check(
        "[c2s]\nlisten = \"[::]:5222\"",
        &format!("2:10: `c2s.listen` is \"[::]:5222\"; allowed: a list of {addresses}"),
    );
    check(
        "[c2s]\nlisten = [5222]",
        &format!("2:11: `c2s.listen` is 5222; allowed: {addresses}"),
    );
    check("c2s = 3", "1:7: `c2s` is 3; allowed: a table, [c2s]");
    check(
        "data_dir = \"\"",
        "1:12: `data_dir` is \"\"; allowed: a path",
    );
    check(
        "[[domain]]\nname = \"a..b\"",
        "2:8: `domain.name` is \"a..b\"; allowed: a domain name such as \"example.org\"",
    );
    check(
        "[domain]\nname = \"a.test\"",
        "1:1: `domain` is [domain]; allowed: tables headed [[domain]]",
    );
    check(
        "[[domain]]\nname = \"a.test\"\nadmins = [\"a.test/x\"]",
        "3:11: `domain.admins` is \"a.test/x\"; allowed: addresses of accounts, such as \
         \"alice@example.org\"",
    );
    check(
        "[[domain]]\nname = \"a.test\"\n[domain.contact]\nabuse = [\"abuse@a.test\"]",
        "4:10: `domain.contact.abuse` is \"abuse@a.test\"; allowed: URIs, such as \
         \"mailto:abuse@example.org\"",
    );
    check(
        "[sasl]\nscram_iterations = 1000",
        "2:20: `sasl.scram_iterations` is 1000; allowed: a number from 4096 to 1000000",
    );
    check(
        "[storage]\nurl = \"postgres://db\"",
        "2:7: `storage.url` is \"postgres://db\"; allowed: \"sqlite\", \"memory\"",
    );
    check(
        "[s2s]\ndialback = \"no\"",
        "2:12: `s2s.dialback` is \"no\"; allowed: \"never\", \"tls\", \"always\"",
    );
    check(
        "[log]\nfilter = \"=,=x=\"",
        "2:10: `log.filter` is \"=,=x=\"; allowed: a filter such as \"info\" or \
         \"info,xmpp_server=debug\"",
    );
    check(
        "[dns.override]\n\"b.test\" = \"b\"",
        "2:12: `dns.override.b.test` is \"b\"; allowed: an IP address with a port, such as \
         \"127.0.0.2:5269\", or { addr = \"127.0.0.2:5270\", direct_tls = true }",
    );
    check(
        "[dns.override]\n\"b..c\" = \"127.0.0.2:5269\"",
        "2:1: `dns.override` is for `b..c`; allowed: a domain name such as \"example.org\"",
    );
    check(
        "[modules]\nmuc = 1",
        "2:7: `modules.muc` is 1; allowed: a table, [modules.muc]",
    );
    check(
        "[modules]\noff = \"muc\"",
        "2:7: `modules.off` is \"muc\"; allowed: a list of names of modules",
    );
}

#[test]
fn wrong_limits() {
    let check = check_error;
    let size = "or such as \"64 KiB\", \"1 MiB\"";
    check(
        "[limits]\nsessions_max = 0",
        "2:16: `limits.sessions_max` is 0; allowed: a number from 1 to 4294967295",
    );
    check(
        "[limits]\nsessions_max = -3",
        "2:16: `limits.sessions_max` is -3; allowed: a number from 1 to 4294967295",
    );
    check(
        "[limits]\nturn_bytes_max = \"4 kB\"",
        &format!(
            "2:18: `limits.turn_bytes_max` is \"4 kB\"; allowed: bytes from 1 to 4294967295, {size}"
        ),
    );
    check(
        "[limits]\nstanza_bytes_max = 9999",
        &format!(
            "2:20: `limits.stanza_bytes_max` is 9999; allowed: bytes from 10000 to 4294967295, {size}"
        ),
    );
    let time = "allowed: seconds from 1 to a year, or such as \"5 ms\", \"30 s\", \"10 m\", \
                \"1 h\", \"2 d\"";
    for value in [
        "0",
        "\"0 s\"",
        "\"30\"",
        "\"367 d\"",
        "\"9 weeks\"",
        "1.5",
        "\"\"",
    ] {
        check(
            &format!("[limits]\nticket_max = {value}"),
            &format!("2:14: `limits.ticket_max` is {value}; {time}"),
        );
    }
    check(
        "[limits]\nbind_tries_max = 4",
        "2:18: `limits.bind_tries_max` is 4; allowed: a number from 5 to 10",
    );
}

#[test]
fn domains_are_whole_and_unique() {
    check_error(
        "[[domain]]\nregistration = \"open\"",
        "1:1: `domain.name` is missing: each [[domain]] has one",
    );
    check_error(
        "[[domain]]\nname = \"a.test\"\ncertificate = \"a.pem\"",
        "1:1: `domain.key` is missing: a certificate needs its key",
    );
    check_error(
        "[[domain]]\nname = \"a.test\"\nkey = \"a.key\"",
        "1:1: `domain.certificate` is missing: a key needs its certificate",
    );
    check_error(
        "[[domain]]\nname = \"a.test\"\n\n[[domain]]\nname = \"A.TEST\"",
        "4:1: the domain `a.test` is configured twice",
    );
    check_error(
        "[dns.override]\n\"b.test\" = { direct_tls = true }",
        "2:12: `dns.override.b.test.addr` is missing: it says where the server is",
    );
}

#[test]
fn what_is_not_toml_is_placed() {
    let error = parse("[c2s\nlisten = []").unwrap_err();
    assert!(matches!(error.problem, Problem::Syntax { .. }));
    assert_eq!(error.at.unwrap().line, 1);
    assert!(
        error.to_string().starts_with(&format!("{FILE}:1:")),
        "{error}"
    );
    assert_eq!(error.to_string().lines().count(), 1);
    let twice = parse("[c2s]\nlisten = []\nlisten = []").unwrap_err();
    assert_eq!(twice.at, Some(Position { line: 3, column: 1 }));
    assert!(
        twice.to_string().contains("not valid TOML: duplicate key"),
        "{twice}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/x.toml")).unwrap_err();
    assert!(matches!(error.problem, Problem::Read(_)));
    let text = error.to_string();
    assert!(
        text.starts_with("/nonexistent/x.toml: cannot be read: No such file"),
        "{text}"
    );
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let relative = |file: &str| {
        let config = Config::from_toml_str("data_dir = \"data\"", Path::new(file)).unwrap();
        config.data_dir().to_owned()
    };
    assert_eq!(
        relative("/etc/xmpp/server.toml"),
        Path::new("/etc/xmpp/data")
    );
    assert_eq!(relative("conf/server.toml"), Path::new("conf/data"));
    assert_eq!(relative("server.toml"), Path::new("data"));
}

#[test]
fn keys_without_effect_are_named_and_no_error() {
    let text = "[[domain]]\nname = \"a.test\"\nanonymous = true\n[c2s]\nlisten = []\n\
                [s2s]\nenabled = false\ndialback = \"never\"\n[dns]\nservers = []\n\
                [limits]\nsessions_max = 3\nrooms_max = 60\n[modules]\nmuc.host = \"c.a.test\"";
    let keys = without_effect(&good(text));
    assert_eq!(
        keys,
        ["domain.anonymous", "limits.rooms_max", "modules.muc"]
    );
    assert!(without_effect(&good("")).is_empty());
}

#[test]
fn domains_are_allowed_and_denied_by_name() {
    let check = |lists: &str, domain: &str, want: bool| {
        let config = good(&format!("[s2s]\n{lists}"));
        assert_eq!(config.s2s.admits(domain), want, "{lists} {domain}");
    };
    check("", "b.test", true);
    check("deny = ['B.test']", "b.test", false);
    check("deny = ['b.test']", "x.b.test", true);
    check("deny = ['*.b.test']", "x.b.test", false);
    check("deny = ['*.b.test']", "b.test", true);
    check("deny = ['*.b.test']", "xb.test", true);
    check("allow = ['b.test']", "b.test", true);
    check("allow = ['b.test']", "c.test", false);
    check("allow = ['*.test']\ndeny = ['b.test']", "b.test", false);
    check("allow = ['*.test']\ndeny = ['b.test']", "c.test", true);
}

#[test]
fn modules_are_known_by_name() {
    let known = ["disco", "ping", "vcard"];
    let check = |text: &str, want: &str| {
        let error = good(text).check_modules(&known).unwrap_err();
        assert_eq!(error.to_string(), format!("{FILE}:{want}"));
    };
    check(
        "[modules]\noff = [\"pong\"]",
        "2:7: unknown module `pong`; the nearest known module is `ping`",
    );
    check(
        "[modules]\nvcards.photo = 1",
        "2:1: unknown module `vcards`; the nearest known module is `vcard`",
    );
    check(
        "[[domain]]\nname = \"a.test\"\nmodules = { off = [\"pong\"] }",
        "3:19: unknown module `pong`; the nearest known module is `ping`",
    );
    let own = good("[[domain]]\nname = \"a.test\"\n[domain.modules]\noff = [\"ping\"]");
    own.check_modules(&known).unwrap();
    assert_eq!(own.domains[0].modules_off, ["ping"]);
    let fine = good("[modules]\noff = [\"ping\", \"carbons\"]\n[modules.muc]\nhost = \"x\"");
    fine.check_modules(&known).unwrap();
    let mut built = Config::default_zero();
    built.modules.off.push("pong".into());
    let error = built.check_modules(&known).unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown module `pong`; the nearest known module is `ping`"
    );
}

#[test]
fn configurations_are_built_in_code() {
    let port0 = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::default_zero()
        .with_domain("A.test")
        .unwrap()
        .with_domain("b.test")
        .unwrap()
        .with_domain("a.test")
        .unwrap()
        .listen([port0])
        .memory()
        .registration(Registration::Open);
    let names: Vec<_> = config
        .domains
        .iter()
        .map(|domain| domain.name.as_str())
        .collect();
    assert_eq!(names, ["a.test", "b.test"]);
    assert!(
        config
            .domains
            .iter()
            .all(|d| d.registration == Registration::Open)
    );
    assert_eq!(
        (config.c2s.listen.as_slice(), config.c2s.listen_tls.len()),
        (&[port0][..], 0)
    );
    assert_eq!(config.storage, Storage::Memory);
    assert_eq!(config.clone().listen_tls([port0]).c2s.listen_tls, [port0]);
    assert_eq!(config.in_dir("x").data_dir(), Path::new("x"));
    assert_eq!(
        Config::default_zero().with_domain("a..b").unwrap_err(),
        JidError::Domain
    );
    // localhost stays when it is named.
    let named = Config::default_zero().with_domain("localhost").unwrap();
    assert_eq!(named.with_domain("a.test").unwrap().domains.len(), 2);
}
