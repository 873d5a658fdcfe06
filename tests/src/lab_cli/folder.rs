//! The folder of a laboratory: authority, accounts, and what servers of other makes are given.
//!
//! What belongs to one of them is in a folder of its own, which can be given to whoever it runs as.

use crate::lab_cli::Trouble;
use crate::lab_cli::arguments::Joined;
use crate::lab_cli::view::Event;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use xmpp_certs::{DevCa, domain_paths};

/// The port that resolv.conf cannot change.
const DNS_PORT: u16 = 53;

/// A folder; a temporary one goes at the end.
pub(super) struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    pub(super) fn new(data: Option<&Path>) -> Result<Self, Trouble> {
        let temporary = || {
            let name = format!("xmpp-lab-{}", std::process::id());
            std::env::temp_dir().join(name)
        };
        let path = data.map_or_else(temporary, Path::to_owned);
        make(&path)?;
        let is_temporary = data.is_none();
        Ok(Self { path, is_temporary })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The authority that is kept here.
    pub(super) fn authority(&self, now: SystemTime) -> Result<DevCa, Trouble> {
        DevCa::load_or_create(&self.path.join("ca"), now).map_err(Trouble::Authority)
    }

    /// Where its certificate is.
    pub(super) fn ca_file(&self) -> PathBuf {
        self.path.join("ca").join("ca.pem")
    }

    /// A folder for each server that joins, with a certificate that it may show and the authority.
    pub(super) fn given(
        &self,
        ca: &DevCa,
        joined: &[Joined],
        now: SystemTime,
    ) -> Result<Vec<Event>, Trouble> {
        let all = self.path.join("joined");
        let mut given = Vec::new();
        for Joined { domain, .. } in joined {
            let (name, _) = domain_paths(&all, domain).map_err(Trouble::Authority)?;
            let own = name.with_extension("");
            make(&all)?;
            let made = ca.ensure_domain(&own, domain, now);
            let made = made.map_err(Trouble::Authority)?;
            given.push(Event::Certificate {
                domain: domain.clone(),
                certificate: made.certificate,
                key: made.key,
                ca: write(own.join("ca.pem"), ca.pem())?,
            });
        }
        Ok(given)
    }

    /// For programs that ask whom /etc/resolv.conf names: what may stand in its place, where the name
    /// server has the port that they ask.
    pub(super) fn resolver(&self, names: SocketAddr) -> Result<Option<PathBuf>, Trouble> {
        if names.port() != DNS_PORT {
            return Ok(None);
        }
        let text = format!("nameserver {}\n", names.ip());
        write(self.path.join("resolv.conf"), &text).map(Some)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make(path: &Path) -> Result<(), Trouble> {
    fs::create_dir_all(path).map_err(|error| trouble(path, error))
}

fn write(path: PathBuf, text: &str) -> Result<PathBuf, Trouble> {
    fs::write(&path, text).map_err(|error| trouble(&path, error))?;
    Ok(path)
}

fn trouble(path: &Path, error: io::Error) -> Trouble {
    Trouble::Io(path.display().to_string(), error)
}
