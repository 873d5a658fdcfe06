//! `[Client] Romeo` and its properties.

use crate::lab::Variant;
use crate::script::lines::{Block, error};
use crate::script::model::{
    At, Certificate, Character, CharacterKind, OddKind, Proof, ScriptError,
};
use xmpp_stream::jid::Jid;

pub(super) fn character(block: &Block) -> Result<Character, ScriptError> {
    let at = block.at.clone();
    let header = block
        .text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let Some((kind, name)) = header else {
        return Err(error(
            at,
            "a character is defined by `[Client] NAME`".into(),
        ));
    };
    let kind = match kind.trim().to_ascii_lowercase().as_str() {
        "client" => CharacterKind::Client,
        "component" => CharacterKind::Component,
        "raw" => CharacterKind::Raw,
        "server" => CharacterKind::Server,
        other => {
            let what = format!("[{other}] is unknown; there are Client, Raw, Server and Component");
            return Err(error(at, what));
        }
    };
    let name = name.trim();
    if name.is_empty() || name.contains(['{', '}', ':']) {
        return Err(error(
            at,
            "a character needs a name, without braces and colons".into(),
        ));
    }
    let mut one = Character {
        kind,
        name: name.into(),
        at,
        jid: None,
        domain: String::new(),
        password: None,
        resource: None,
        connect: (None, None),
        has_account: true,
        direct_tls: false,
        certificate: Certificate::default(),
        proof: Proof::default(),
        is_called_by_hand: false,
    };
    for (at, line) in &block.body {
        property(&mut one, at, line)?;
    }
    complete(one)
}

fn property(one: &mut Character, at: &At, line: &str) -> Result<(), ScriptError> {
    let text = line.trim();
    if text.starts_with('#') {
        return Ok(());
    }
    let mut at = at.clone();
    at.column += line.chars().take_while(|c| c.is_whitespace()).count();
    let Some((key, value)) = text.split_once(':') else {
        return Err(error(
            at,
            format!("{text:?} is no property: write `name: value`"),
        ));
    };
    let value = value.trim();
    let mut value_at = at.clone();
    value_at.column += text.chars().count() - value.chars().count();
    match key.trim() {
        "jid" => {
            let jid = Jid::parse(value)
                .map_err(|why| error(value_at, format!("{value:?} is no address: {why}")))?;
            one.resource = jid
                .resource()
                .map(str::to_owned)
                .or_else(|| one.resource.take());
            one.domain = jid.domain().to_owned();
            one.jid = Some(jid.to_bare().as_str().to_owned());
        }
        "domain" | "host" => {
            let jid = Jid::parse(value)
                .ok()
                .filter(|jid| jid.domain() == jid.as_str());
            let Some(jid) = jid else {
                return Err(error(value_at, format!("{value:?} is no domain")));
            };
            one.domain = jid.domain().to_owned();
        }
        "password" | "secret" => one.password = Some(value.into()),
        "resource" => one.resource = Some(value.into()),
        "connect_host" | "custom_host" => one.connect.0 = Some(value.into()),
        "connect_port" | "custom_port" => {
            let port = value.parse();
            one.connect.1 =
                Some(port.map_err(|_| error(value_at, format!("{value:?} is no port")))?);
        }
        "account" if value == "none" => one.has_account = false,
        "tls" if value == "direct" => one.direct_tls = true,
        "tls" if value == "starttls" => one.direct_tls = false,
        "certificate" => {
            one.certificate = certificate(value).map_err(|what| error(value_at, what))?;
        }
        "calls" if value == "by hand" => one.is_called_by_hand = true,
        "calls" if value == "answered" => one.is_called_by_hand = false,
        "proof" if value == "dialback" => one.proof = Proof::Dialback,
        "proof" if value == "none" => one.proof = Proof::None,
        "proof" if value == "certificate" => one.proof = Proof::Certificate,
        "account" | "calls" | "proof" | "tls" => {
            return Err(error(value_at, format!("{value:?} is not known here")));
        }
        other => {
            let known = "jid, domain, password, resource, account, tls, certificate, proof, \
                         calls, connect_host, connect_port";
            return Err(error(
                at,
                format!("{other:?} is no property; there are {known}"),
            ));
        }
    }
    Ok(())
}

/// What can be shown.
const CERTIFICATES: &str = "good, none, expired, untrusted, misnamed, authority, calling, common name, \
                            for NAME, NAME, service NAME or address NAME";

/// What a server shows.
fn certificate(value: &str) -> Result<Certificate, String> {
    Ok(match value {
        "good" => Certificate::Good,
        "none" => Certificate::None,
        "expired" => Certificate::Wrong(Variant::Expired),
        "untrusted" => Certificate::Wrong(Variant::OtherCa),
        "misnamed" => Certificate::Wrong(Variant::WrongName),
        "authority" => Certificate::Odd(OddKind::Authority, None),
        "calling" => Certificate::Odd(OddKind::Caller, None),
        "common name" => Certificate::Odd(OddKind::CommonName, None),
        _ => match value.split_once(' ') {
            Some(("address", name)) => Certificate::Odd(OddKind::Address, Some(name.into())),
            Some(("service", name)) => Certificate::Odd(OddKind::Service, Some(name.into())),
            Some(("for", names)) => {
                Certificate::For(names.split(',').map(|it| it.trim().into()).collect())
            }
            _ => return Err(format!("{value:?}: {CERTIFICATES}")),
        },
    })
}

fn complete(mut one: Character) -> Result<Character, ScriptError> {
    if one.kind == CharacterKind::Component && one.jid.is_none() && !one.domain.is_empty() {
        one.jid = Some(one.domain.clone());
    }
    let needs_jid = one.kind == CharacterKind::Client;
    let has_local = one.jid.as_deref().is_some_and(|jid| jid.contains('@'));
    if needs_jid && !has_local {
        return Err(error(
            one.at,
            format!("{} needs `jid: local@domain`", one.name),
        ));
    }
    let is_beside = matches!(one.kind, CharacterKind::Server | CharacterKind::Component);
    if is_beside && (one.jid.is_none() || has_local) {
        return Err(error(
            one.at,
            format!("{} needs `jid: its own domain`", one.name),
        ));
    }
    if one.kind == CharacterKind::Server && one.jid.as_deref() == Some(&one.domain) {
        return Err(error(
            one.at,
            format!("{} needs `domain: the one it talks to`", one.name),
        ));
    }
    if needs_jid && one.password.is_none() {
        return Err(error(one.at, format!("{} needs a password", one.name)));
    }
    if one.domain.is_empty() {
        return Err(error(
            one.at,
            format!("{} needs a jid or a domain", one.name),
        ));
    }
    Ok(one)
}
