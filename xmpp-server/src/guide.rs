//! What a start says: to a person at first start, to scripts always (DESIGN 1).

use crate::config::Config;
use crate::datadir;
use crate::listener::ListenerKind;
use crate::server::Addresses;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A dozen lines: where everything is and what to do next.
#[must_use]
pub fn first_start(config: &Config, addresses: &Addresses) -> String {
    // As it was started: after `cargo run` it is not in the search path.
    let program = std::env::args().next();
    text(
        config,
        addresses,
        program.as_deref().unwrap_or("xmpp-server"),
    )
}

/// One line a listener, then `ready`: what scripts wait for.
#[must_use]
pub fn ready(addresses: &Addresses) -> String {
    let mut text = String::new();
    for (kind, list) in addresses {
        for address in list {
            // Writing to a String does not fail.
            let _ = writeln!(text, "listening {} {address}", kind.as_str());
        }
    }
    text + "ready\n"
}

fn text(config: &Config, addresses: &Addresses, program: &str) -> String {
    let domain = config
        .domains
        .first()
        .map_or("localhost", |domain| domain.name.as_str());
    let dir = absolute(config.data_dir());
    let ca = datadir::ca_certificate(&dir);
    let list = |kind| {
        let list = addresses.get(&kind).into_iter().flatten();
        list.map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" and ")
    };
    let data = match config.data_dir() == Path::new("xmpp-data") {
        true => String::new(),
        false => format!(" --data {}", config.data_dir().display()),
    };
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{words}");
    };
    line(format_args!(
        "This server serves {domain}, for clients on this machine only."
    ));
    line(format_args!(
        "  STARTTLS    {}",
        list(ListenerKind::C2sStartTls)
    ));
    line(format_args!("  direct TLS  {}", list(ListenerKind::C2sTls)));
    line(format_args!("  data        {}", dir.display()));
    line(format_args!("  CA          {}", ca.display()));
    line(format_args!(""));
    line(format_args!(
        "1. Let clients trust the CA above: the system's store (on Debian copy it to"
    ));
    line(format_args!(
        "   /usr/local/share/ca-certificates/xmpp-dev.crt, run update-ca-certificates),"
    ));
    line(format_args!(
        "   or accept the certificate when the client asks."
    ));
    line(format_args!(
        "2. Add an account:  {program}{data} user add alice@{domain}"
    ));
    line(format_args!(
        "   Clients on this machine may also register one themselves."
    ));
    line(format_args!(
        "3. In Gajim: Add Account, Log In, alice@{domain} and the password. Done."
    ));
    line(format_args!(""));
    text
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_addresses_directory_and_first_steps() {
        let config = Config::default_zero().in_dir("/srv/x");
        let starttls = vec![
            "127.0.0.1:5222".parse().unwrap(),
            "[::1]:5222".parse().unwrap(),
        ];
        let direct = vec!["127.0.0.1:5223".parse().unwrap()];
        let addresses = Addresses::from([
            (ListenerKind::C2sStartTls, starttls),
            (ListenerKind::C2sTls, direct),
        ]);
        let text = text(&config, &addresses, "bin/xmpp-server");
        for words in [
            "serves localhost",
            "127.0.0.1:5222 and [::1]:5222",
            "127.0.0.1:5223",
            "/srv/x/ca/ca.pem",
            "bin/xmpp-server --data /srv/x user add alice@localhost",
            "Gajim",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!((11..=14).contains(&text.lines().count()), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let here = first_start(&Config::default_zero(), &addresses);
        assert!(here.contains(" user add alice@localhost"), "{here}");
        assert!(!here.contains("--data"), "{here}");
    }

    #[test]
    fn scripts_get_a_line_a_listener() {
        let starttls = vec![
            "127.0.0.1:5222".parse().unwrap(),
            "[::1]:5222".parse().unwrap(),
        ];
        let direct = vec!["127.0.0.1:40000".parse().unwrap()];
        let addresses = Addresses::from([
            (ListenerKind::C2sTls, direct),
            (ListenerKind::C2sStartTls, starttls),
        ]);
        let want = "listening c2s-starttls 127.0.0.1:5222\nlistening c2s-starttls [::1]:5222\n\
                    listening c2s-tls 127.0.0.1:40000\nready\n";
        assert_eq!(ready(&addresses), want);
        assert_eq!(ready(&Addresses::new()), "ready\n");
    }
}
