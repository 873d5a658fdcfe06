//! The configuration file: which keys stand in which table (DESIGN 1), and where they go.

use super::error::{ConfigError, Position, Problem};
use super::value::{Reader, Slot, Value};
use super::{
    AllowedComponent, C2s, CONTACTS, CertificateFiles, Components, Config, Dns, DnsOverride,
    DomainConfig, Log, Modules, Registration, S2s, Sasl, Storage,
};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;
use xmpp_stream::jid::Jid;
use xmpp_stream::stream::component::Secret;

/// Reads the text of the file `path`.
pub(super) fn read(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let root = DeTable::parse(text).map_err(|error| syntax(&error, text, path))?;
    let reader = Reader::new(path, text);
    let r = &reader;
    let mut config = Config::default_file();
    let mut domains = Vec::new();
    r.table(
        "",
        root.get_ref(),
        &mut [
            ("data_dir", Slot::Path(&mut config.data_dir)),
            (
                "domain",
                Slot::Other(&mut |key, value| read_domains(r, key, value, &mut domains)),
            ),
            (
                "c2s",
                Slot::Other(&mut |key, value| read_c2s(r, key, value, &mut config.c2s)),
            ),
            (
                "sasl",
                Slot::Other(&mut |key, value| read_sasl(r, key, value, &mut config.sasl)),
            ),
            (
                "s2s",
                Slot::Other(&mut |key, value| read_s2s(r, key, value, &mut config.s2s)),
            ),
            (
                "component",
                Slot::Other(&mut |key, value| read_component(r, key, value, &mut config.component)),
            ),
            (
                "storage",
                Slot::Other(&mut |key, value| read_storage(r, key, value, &mut config.storage)),
            ),
            (
                "dns",
                Slot::Other(&mut |key, value| read_dns(r, key, value, &mut config.dns)),
            ),
            (
                "limits",
                Slot::Other(&mut |key, value| r.section(key, value, &mut config.limits.slots())),
            ),
            (
                "modules",
                Slot::Other(&mut |key, value| read_modules(r, key, value, &mut config.modules)),
            ),
            (
                "log",
                Slot::Other(&mut |key, value| read_log(r, key, value, &mut config.log)),
            ),
        ],
    )?;
    if !domains.is_empty() {
        config.domains = domains;
        config.domain_implied = false;
    }
    let served = |domain: &str| config.domains.iter().any(|other| other.name == domain);
    let mut components = config.component.allow.iter();
    if let Some(component) = components.find(|one| served(&one.domain)) {
        let domain = component.domain.clone();
        return Err(ConfigError::in_file(path, None, Problem::Twice { domain }));
    }
    config.file = Some(path.to_owned());
    config.seen = reader.into_seen().into_iter().collect();
    Ok(config)
}

fn syntax(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let message = error
        .message()
        .lines()
        .collect::<Vec<_>>()
        .join(", ")
        .into();
    let at = error.span().map(|span| Position::of(text, span.start));
    ConfigError::in_file(path, at, Problem::Syntax { message })
}

fn read_domains(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    domains: &mut Vec<DomainConfig>,
) -> Result<(), ConfigError> {
    let tables = value.get_ref().as_array();
    let tables = tables.ok_or_else(|| r.wrong(key, value, "tables headed [[domain]]"))?;
    for table in tables.iter() {
        let domain = read_domain(r, key, table)?;
        if domains
            .iter()
            .any(|other: &DomainConfig| other.name == domain.name)
        {
            return Err(r.fail(
                table.span(),
                Problem::Twice {
                    domain: domain.name.into(),
                },
            ));
        }
        domains.push(domain);
    }
    Ok(())
}

fn read_domain(r: &Reader<'_>, key: &str, value: &Value<'_>) -> Result<DomainConfig, ConfigError> {
    let mut name: Option<String> = None;
    let mut domain = DomainConfig::localhost(Registration::Closed);
    let mut certificate: Option<PathBuf> = None;
    let mut private_key: Option<PathBuf> = None;
    let mut off = Default::default();
    let mut contact = Vec::new();
    r.section(
        key,
        value,
        &mut [
            (
                "name",
                Slot::Other(&mut |key, value| {
                    name = Some(r.text(key, value, DOMAIN, prepared)?);
                    Ok(())
                }),
            ),
            ("certificate", Slot::Path(&mut certificate)),
            ("key", Slot::Path(&mut private_key)),
            ("client_ca", Slot::Paths(&mut domain.client_ca)),
            ("registration", Slot::Choice(&mut domain.registration)),
            ("admins", Slot::Jids(&mut domain.admins)),
            ("anonymous", Slot::Flag(&mut domain.anonymous)),
            ("strict_iq", Slot::Flag(&mut domain.strict_iq)),
            (
                "modules",
                Slot::Other(&mut |key, value| {
                    let mut read_off = |key: &str, value: &Value<'_>| {
                        off = read_off(r, key, value)?;
                        Ok(())
                    };
                    r.section(key, value, &mut [("off", Slot::Other(&mut read_off))])
                }),
            ),
            (
                "contact",
                Slot::Other(&mut |key, value| {
                    contact = read_contact(r, key, value)?;
                    Ok(())
                }),
            ),
        ],
    )?;
    (domain.modules_off, domain.modules_at) = off;
    let missing = |name: &str, why| {
        r.fail(
            value.span(),
            Problem::Missing {
                key: format!("{key}.{name}").into(),
                why,
            },
        )
    };
    domain.contact = contact;
    domain.name = name.ok_or_else(|| missing("name", "each [[domain]] has one"))?;
    domain.certificate = match (certificate, private_key) {
        (Some(certificate), Some(key)) => Some(CertificateFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => return Err(missing("key", "a certificate needs its key")),
        (None, Some(_)) => return Err(missing("certificate", "a key needs its certificate")),
    };
    Ok(domain)
}

fn read_contact(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
) -> Result<Vec<(&'static str, Vec<String>)>, ConfigError> {
    let mut contact: Vec<_> = CONTACTS.map(|kind| (kind, Vec::new())).into();
    let mut readers: Vec<_> = contact
        .iter_mut()
        .map(|(kind, uris)| {
            let reader = move |key: &str, value: &Value<'_>| {
                *uris = r.list(key, value, URIS, uri)?;
                Ok(())
            };
            (*kind, reader)
        })
        .collect();
    let mut slots: Vec<_> = readers
        .iter_mut()
        .map(|(kind, reader)| (*kind, Slot::Other(reader)))
        .collect();
    r.section(key, value, &mut slots)?;
    drop(slots);
    drop(readers);
    contact.retain(|(_, uris)| !uris.is_empty());
    Ok(contact)
}

/// A scheme, a colon and what is no space (RFC 3986 section 3.1).
fn uri(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_good = is_scheme && !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic());
    is_good.then(|| text.to_owned())
}

fn read_c2s(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    c2s: &mut C2s,
) -> Result<(), ConfigError> {
    let slots = &mut [
        ("listen", Slot::Addresses(&mut c2s.listen)),
        ("listen_tls", Slot::Addresses(&mut c2s.listen_tls)),
        ("require_tls", Slot::Flag(&mut c2s.require_tls)),
        ("conflict", Slot::Choice(&mut c2s.conflict)),
    ];
    r.section(key, value, slots)
}

fn read_sasl(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    sasl: &mut Sasl,
) -> Result<(), ConfigError> {
    let slots = &mut [
        ("plain", Slot::Flag(&mut sasl.plain)),
        (
            "scram_iterations",
            Slot::Count32(&mut sasl.scram_iterations, ITERATIONS),
        ),
        (
            "downgrade_protection",
            Slot::Flag(&mut sasl.downgrade_protection),
        ),
    ];
    r.section(key, value, slots)
}

fn read_s2s(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    s2s: &mut S2s,
) -> Result<(), ConfigError> {
    let (allow, deny) = (&mut s2s.allow, &mut s2s.deny);
    let mut read_allow = |key: &str, value: &Value<'_>| {
        *allow = r.list(key, value, DOMAINS, domains)?;
        Ok(())
    };
    let mut read_deny = |key: &str, value: &Value<'_>| {
        *deny = r.list(key, value, DOMAINS, domains)?;
        Ok(())
    };
    let slots = &mut [
        ("enabled", Slot::Flag(&mut s2s.enabled)),
        ("listen", Slot::Addresses(&mut s2s.listen)),
        ("listen_tls", Slot::Addresses(&mut s2s.listen_tls)),
        ("require_tls", Slot::Flag(&mut s2s.require_tls)),
        ("dialback", Slot::Choice(&mut s2s.dialback)),
        ("ca", Slot::Paths(&mut s2s.ca)),
        ("allow", Slot::Other(&mut read_allow)),
        ("deny", Slot::Other(&mut read_deny)),
    ];
    r.section(key, value, slots)
}

fn read_component(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    component: &mut Components,
) -> Result<(), ConfigError> {
    let Components { listen, allow } = component;
    let mut read_allow = |key: &str, value: &Value<'_>| {
        let tables = value.get_ref().as_array();
        let what = "tables headed [[component.allow]]";
        let tables = tables.ok_or_else(|| r.wrong(key, value, what))?;
        for table in tables.iter() {
            let one = read_allowed(r, key, table)?;
            if allow.iter().any(|other| other.domain == one.domain) {
                let domain = one.domain;
                return Err(r.fail(table.span(), Problem::Twice { domain }));
            }
            allow.push(one);
        }
        Ok(())
    };
    let slots = &mut [
        ("listen", Slot::Addresses(listen)),
        ("allow", Slot::Other(&mut read_allow)),
    ];
    r.section(key, value, slots)
}

fn read_allowed(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
) -> Result<AllowedComponent, ConfigError> {
    let (mut domain, mut secret) = (None, None);
    let mut read_domain = |key: &str, value: &Value<'_>| {
        domain = Some(r.text(key, value, DOMAIN, prepared)?);
        Ok(())
    };
    let mut read_secret = |key: &str, value: &Value<'_>| {
        let made = |text: &str| (!text.is_empty()).then(|| Secret::new(text));
        secret = Some(r.text(key, value, "a text that is not empty", made)?);
        Ok(())
    };
    let slots = &mut [
        ("domain", Slot::Other(&mut read_domain)),
        ("secret", Slot::Other(&mut read_secret)),
    ];
    r.section(key, value, slots)?;
    let missing = |name: &str| {
        let key = format!("{key}.{name}").into();
        let why = "each [[component.allow]] has one";
        r.fail(value.span(), Problem::Missing { key, why })
    };
    Ok(AllowedComponent {
        domain: domain.ok_or_else(|| missing("domain"))?.into(),
        secret: secret.ok_or_else(|| missing("secret"))?,
    })
}

fn read_storage(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    storage: &mut Storage,
) -> Result<(), ConfigError> {
    r.section(key, value, &mut [("url", Slot::Choice(storage))])
}

fn read_dns(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    dns: &mut Dns,
) -> Result<(), ConfigError> {
    let Dns { servers, overrides } = dns;
    let mut read_overrides = |key: &str, value: &Value<'_>| {
        for (name, place) in r.as_table(key, value)?.iter() {
            let whole = format!("{key}.{}", name.get_ref());
            let Some(domain) = prepared(name.get_ref()) else {
                return Err(r.fail(
                    name.span(),
                    Problem::Value {
                        key: key.into(),
                        found: format!("for `{}`", name.get_ref()).into(),
                        allowed: DOMAIN.into(),
                    },
                ));
            };
            overrides.insert(domain.into(), read_override(r, &whole, place)?);
        }
        Ok(())
    };
    r.section(
        key,
        value,
        &mut [
            ("servers", Slot::Addresses(servers)),
            ("override", Slot::Other(&mut read_overrides)),
        ],
    )
}

fn read_override(r: &Reader<'_>, key: &str, value: &Value<'_>) -> Result<DnsOverride, ConfigError> {
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        let addr = r.text(key, value, OVERRIDE, |text| text.parse().ok())?;
        return Ok(DnsOverride {
            addr,
            direct_tls: false,
        });
    }
    let mut addr = None;
    let mut direct_tls = false;
    let mut read_addr = |key: &str, value: &Value<'_>| {
        addr = Some(r.text(key, value, OVERRIDE, |text| text.parse().ok())?);
        Ok(())
    };
    let slots = &mut [
        ("addr", Slot::Other(&mut read_addr)),
        ("direct_tls", Slot::Flag(&mut direct_tls)),
    ];
    r.section(key, value, slots)?;
    let missing = Problem::Missing {
        key: format!("{key}.addr").into(),
        why: "it says where the server is",
    };
    Ok(DnsOverride {
        addr: addr.ok_or_else(|| r.fail(value.span(), missing))?,
        direct_tls,
    })
}

/// Names are checked by `Config::check_modules`, when it is known which modules there are.
fn read_modules(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    modules: &mut Modules,
) -> Result<(), ConfigError> {
    for (name, value) in r.as_table(key, value)?.iter() {
        let whole = format!("{key}.{}", name.get_ref());
        if name.get_ref() == "off" {
            let (off, at) = read_off(r, &whole, value)?;
            modules.at.extend(at);
            modules.off.extend(off);
        } else {
            let table = plain_table(r, &whole, value)?;
            let at = r.position(name.span());
            let name = Box::<str>::from(&**name.get_ref());
            modules.at.insert(name.clone(), at);
            modules.tables.insert(name, table);
        }
    }
    Ok(())
}

/// Names of modules, and where they stand.
type Off = (Vec<String>, BTreeMap<Box<str>, Position>);

fn read_off(r: &Reader<'_>, key: &str, value: &Value<'_>) -> Result<Off, ConfigError> {
    let off: Vec<String> = r.list(key, value, "names of modules", |text| Some(text.into()))?;
    let at = r.position(value.span());
    let places = off.iter().map(|name| (name.as_str().into(), at)).collect();
    Ok((off, places))
}

/// The table without its places: modules read theirs with serde.
fn plain_table(r: &Reader<'_>, key: &str, value: &Value<'_>) -> Result<toml::Table, ConfigError> {
    r.as_table(key, value)?;
    toml::Table::deserialize(value.clone().into_deserializer())
        .map_err(|_| r.wrong(key, value, "a table"))
}

fn read_log(
    r: &Reader<'_>,
    key: &str,
    value: &Value<'_>,
    log: &mut Log,
) -> Result<(), ConfigError> {
    let Log { filter, format } = log;
    let mut read_filter = |key: &str, value: &Value<'_>| {
        *filter = r.text(key, value, FILTER, |text| {
            EnvFilter::try_new(text).is_ok().then(|| Box::from(text))
        })?;
        Ok(())
    };
    let slots = &mut [
        ("filter", Slot::Other(&mut read_filter)),
        ("format", Slot::Choice(format)),
    ];
    r.section(key, value, slots)
}

/// RFC 5802 section 5.1 asks for 4,096 at least; above the other bound a login costs a second.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
const URIS: &str = "URIs, such as \"mailto:abuse@example.org\"";
const DOMAIN: &str = "a domain name such as \"example.org\"";
const DOMAINS: &str = "domain names such as \"example.org\", or \"*.example.org\" for all below it";
const FILTER: &str = "a filter such as \"info\" or \"info,xmpp_server=debug\"";
const OVERRIDE: &str = "an IP address with a port, such as \"127.0.0.2:5269\", or \
                        { addr = \"127.0.0.2:5270\", direct_tls = true }";

/// A domain, or with `*.` all below it.
fn domains(text: &str) -> Option<Box<str>> {
    match text.strip_prefix("*.") {
        Some(parent) => Some(format!("*.{}", prepared(parent)?).into()),
        None => Some(prepared(text)?.into()),
    }
}

fn prepared(name: &str) -> Option<String> {
    Jid::domain_only(name)
        .ok()
        .map(|jid| jid.as_str().to_owned())
}
