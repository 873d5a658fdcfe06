//! Can each configured address be listened on, by this server or the one that runs already?

use super::{Finding, Level, Topic};
use crate::config::Config;
use crate::datadir::{self, RunningServer};
use crate::listener::{self, ListenerKind};
use std::io;
use std::net::SocketAddr;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let running = datadir::running(config.data_dir());
    let (mut findings, mut held) = (Vec::new(), Vec::new());
    for (kind, address) in ListenerKind::wanted(config) {
        let (level, text) = match listener::bind(address).await {
            _ if address.port() == 0 => (Level::Ok, "any free port".to_owned()),
            Ok(listener) => {
                // Held to the end, so that an address that stands there twice is found.
                held.push((address, listener));
                (Level::Ok, "free".to_owned())
            }
            Err(error) => judge(address, &error, running.as_ref(), &held),
        };
        let subject = format!("{} {address}", kind.as_str());
        findings.push(Finding::new(level, Topic::Port, subject, text));
    }
    findings
}

fn judge<T>(
    address: SocketAddr,
    error: &io::Error,
    running: Option<&RunningServer>,
    held: &[(SocketAddr, T)],
) -> (Level, String) {
    if error.kind() != io::ErrorKind::AddrInUse {
        return (Level::Error, format!("cannot be listened on: {error}"));
    }
    if held.iter().any(|(other, _)| overlap(*other, address)) {
        return (
            Level::Error,
            "is taken by another listener of this configuration".into(),
        );
    }
    match running {
        Some(server) if server.addresses.iter().any(|a| overlap(*a, address)) => (
            Level::Ok,
            format!(
                "held by the running server of this data directory (pid {})",
                server.pid
            ),
        ),
        _ => (Level::Error, "is taken by another program".into()),
    }
}

/// One listener on both would not do.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && (any || a.ip() == b.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_port_it_is() {
        let address: SocketAddr = "127.0.0.1:5222".parse().unwrap();
        let used = io::Error::from(io::ErrorKind::AddrInUse);
        let server = |text: &str| RunningServer {
            pid: 7,
            addresses: vec![text.parse().unwrap()],
        };
        let check = |server: Option<&RunningServer>, level, words: &str| {
            let (got, text) = judge::<()>(address, &used, server, &[]);
            assert_eq!(got, level, "{text}");
            assert!(text.contains(words), "{text}");
        };
        check(None, Level::Error, "another program");
        check(Some(&server("127.0.0.1:5222")), Level::Ok, "pid 7");
        check(Some(&server("[::]:5222")), Level::Ok, "pid 7");
        check(
            Some(&server("127.0.0.2:5222")),
            Level::Error,
            "another program",
        );
        check(
            Some(&server("127.0.0.1:5223")),
            Level::Error,
            "another program",
        );
        let (level, text) = judge(address, &used, None, &[("[::]:5222".parse().unwrap(), ())]);
        assert_eq!(level, Level::Error);
        assert!(text.contains("this configuration"), "{text}");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let (level, text) = judge::<()>(address, &denied, Some(&server("[::]:5222")), &[]);
        assert_eq!(level, Level::Error);
        assert!(text.contains("permission denied"), "{text}");
    }
}
