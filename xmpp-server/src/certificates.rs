//! Certificates of the served domains: from configured files, else from the development CA; the
//! authorities of their clients; and whether they changed since they were read.
//!
//! DESIGN 1. A pair is taken when it parses and the key belongs to it; until then the one in use
//! stays. Nothing here replaces what is in use: `server.rs` and `reload.rs` do.

use crate::check::Level;
use crate::check::certificates::{Pair, service_hosts};
use crate::config::{CertificateFiles, Config, DomainConfig};
use crate::listener::{DomainTls, ServerTls};
use crate::server::StartError;
use rustls::RootCertStore;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tracing::warn;
use xmpp_certs::{DevCa, Leaf};
use xmpp_stream::tls;

/// Bytes of a certificate with its chain, or of a key: a hundred times what these have.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// TLS settings by domain.
pub(crate) type ByDomain = HashMap<Box<str>, Arc<DomainTls>>;

/// Where certificates come from, and what was read from there.
pub(crate) struct Source {
    /// The data directory; without one the development CA lives in memory.
    dir: Option<PathBuf>,
    ca: Option<Arc<DevCa>>,
    read: HashMap<Box<str>, Read>,
}

/// The certificate of a domain as it was read, and whose it believes of clients.
struct Read {
    tls: Arc<DomainTls>,
    from: Origin,
    stamp: Stamp,
    /// A newer pair that does not fit, so that it is told once.
    refused: Option<Stamp>,
}

/// Where a certificate came from.
enum Origin {
    /// Files, and those of the authorities of clients.
    Files(CertificateFiles, Vec<PathBuf>),
    /// Issued in memory.
    Memory(Leaf),
}

/// When two are the same, no file was written in between.
type Stamp = Vec<Option<(u64, u64, i64, i64)>>;

impl Read {
    fn files(&self) -> Option<(&CertificateFiles, &[PathBuf])> {
        match &self.from {
            Origin::Files(files, client_ca) => Some((files, client_ca)),
            Origin::Memory(_) => None,
        }
    }
}

impl Source {
    /// Where an authority is given, the directory has none.
    pub(crate) fn new(dir: Option<&Path>, given: Option<Arc<DevCa>>) -> Self {
        Self {
            dir: dir.filter(|_| given.is_none()).map(Path::to_owned),
            ca: given,
            read: HashMap::new(),
        }
    }

    /// The development CA's certificate, once some domain needed it.
    pub(crate) fn ca_pem(&self) -> Option<&str> {
        self.ca.as_deref().map(DevCa::pem)
    }

    /// False when all was issued in memory: then nothing can change.
    pub(crate) fn has_files(&self) -> bool {
        self.read.values().any(|one| one.files().is_some())
    }

    /// Reads or issues the certificates of all domains. After an error everything is as before.
    pub(crate) fn load(
        &mut self,
        config: &Config,
        now: SystemTime,
    ) -> Result<ByDomain, StartError> {
        let mut read = HashMap::new();
        for domain in &config.domains {
            let one = match self.files(domain, now)? {
                Some(files) => {
                    let client_ca = domain.client_ca.clone();
                    let one = read_pair(&domain.name, files, client_ca, config.s2s.enabled)?;
                    report(config, &domain.name, &one, now);
                    one
                }
                None => self.in_memory(domain, config.s2s.enabled, now)?,
            };
            read.insert(Box::from(domain.name.as_str()), one);
        }
        self.read = read;
        let all = self.read.iter();
        Ok(all
            .map(|(name, one)| (name.clone(), Arc::clone(&one.tls)))
            .collect())
    }

    /// Certificates whose files changed and are in order again.
    pub(crate) fn changed(&mut self, config: &Config, now: SystemTime) -> ByDomain {
        let mut changed = ByDomain::new();
        for (domain, one) in &mut self.read {
            let Some((files, client_ca)) = one.files() else {
                continue;
            };
            let stamp = stamp_of(files, client_ca);
            if stamp == one.stamp {
                continue;
            }
            let (files, client_ca) = (files.clone(), client_ca.to_vec());
            match read_pair(domain, files, client_ca, config.s2s.enabled) {
                Ok(new) => {
                    report(config, domain, &new, now);
                    changed.insert(domain.clone(), Arc::clone(&new.tls));
                    *one = new;
                }
                Err(error) if one.refused.as_ref() != Some(&stamp) => {
                    warn!(%error, "certificate changed, but is not usable; the old one stays");
                    one.refused = Some(stamp);
                }
                Err(_) => {}
            }
        }
        changed
    }

    /// The files of a domain, made by the development CA where none are configured.
    fn files(
        &mut self,
        domain: &DomainConfig,
        now: SystemTime,
    ) -> Result<Option<CertificateFiles>, StartError> {
        if let Some(files) = &domain.certificate {
            return Ok(Some(files.clone()));
        }
        let Some(dir) = self.dir.clone() else {
            return Ok(None);
        };
        let ca = DevCa::load_or_create(&dir.join("ca"), now).map_err(StartError::Certificate)?;
        let made = ca.ensure_domain(&dir.join("certs"), &domain.name, now);
        let made = made.map_err(StartError::Certificate)?;
        self.ca = Some(Arc::new(ca));
        Ok(Some(CertificateFiles {
            certificate: made.certificate,
            key: made.key,
        }))
    }

    fn in_memory(
        &mut self,
        domain: &DomainConfig,
        s2s: bool,
        now: SystemTime,
    ) -> Result<Read, StartError> {
        if self.ca.is_none() {
            let ca = DevCa::new(now).map_err(StartError::Certificate)?;
            self.ca = Some(Arc::new(ca));
        }
        let issued = self.read.get(domain.name.as_str()).map(|one| &one.from);
        let leaf = match (issued, &self.ca) {
            (Some(Origin::Memory(leaf)), _) => leaf.clone(),
            (_, Some(ca)) => {
                let leaf = ca.issue_for_domain(&domain.name, now);
                leaf.map_err(StartError::Certificate)?
            }
            (_, None) => return Err(StartError::Certificate(xmpp_certs::CertError::Sign)),
        };
        let clients = authorities(&domain.client_ca)?;
        let tls = domain_tls(&domain.name, (&leaf.chain_pem, &leaf.key_pem), s2s, clients)?;
        Ok(Read {
            tls: Arc::new(tls),
            from: Origin::Memory(leaf),
            stamp: Stamp::new(),
            refused: None,
        })
    }
}

fn read_pair(
    domain: &str,
    files: CertificateFiles,
    client_ca: Vec<PathBuf>,
    s2s: bool,
) -> Result<Read, StartError> {
    // Before the reading: what is written meanwhile is read again.
    let stamp = stamp_of(&files, &client_ca);
    let (chain, key) = (text(&files.certificate)?, text(&files.key)?);
    let clients = authorities(&client_ca)?;
    Ok(Read {
        tls: Arc::new(domain_tls(domain, (&chain, &key), s2s, clients)?),
        from: Origin::Files(files, client_ca),
        stamp,
        refused: None,
    })
}

/// Who issues the certificates of clients; `None`: clients have none.
fn authorities(files: &[PathBuf]) -> Result<Option<Arc<RootCertStore>>, StartError> {
    let mut all = RootCertStore::empty();
    for path in files {
        let some = tls::roots(&text(path)?);
        let some = some.map_err(|error| StartError::ClientCa(path.clone(), error))?;
        all.extend(some.roots);
    }
    Ok((!files.is_empty()).then(|| Arc::new(all)))
}

fn text(path: &Path) -> Result<String, StartError> {
    read_pem(path).map_err(|error| StartError::TlsFile(path.to_owned(), error))
}

/// The text of a certificate or key. Whatever else a path may name (a device, a pipe, a log that
/// grew) neither keeps the server waiting nor fills its memory.
pub(crate) fn read_pem(path: &Path) -> io::Result<String> {
    // Before it is opened: opening a pipe waits for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(PEM_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > PEM_BYTES_MAX {
        return Err(io::Error::other("is larger than 1 MiB"));
    }
    Ok(text)
}

fn stamp_of(files: &CertificateFiles, client_ca: &[PathBuf]) -> Stamp {
    let all = [&files.certificate, &files.key]
        .into_iter()
        .chain(client_ca);
    all.map(|path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    })
    .collect()
}

/// `clients`: who issues certificates of clients, which are then asked for them.
pub(crate) fn domain_tls(
    domain: &str,
    (chain, key): (&str, &str),
    s2s: bool,
    clients: Option<Arc<RootCertStore>>,
) -> Result<DomainTls, StartError> {
    let error = |error| StartError::Tls {
        domain: domain.into(),
        error,
    };
    let (mut starttls, leaf) = tls::server_config(chain, key, false).map_err(error)?;
    let (mut direct, _) = tls::server_config(chain, key, true).map_err(error)?;
    if let Some(clients) = &clients {
        starttls = tls::c2s::ask(&starttls, clients).map_err(error)?;
        direct = tls::c2s::ask(&direct, clients).map_err(error)?;
    }
    let between = || {
        let accept = |direct| Ok(tls::s2s::server_config(chain, key, direct)?.0);
        let call = |direct| tls::s2s::client_config(chain, key, direct);
        Ok(ServerTls {
            accept: [accept(false)?, accept(true)?],
            call: [call(false)?, call(true)?],
        })
    };
    Ok(DomainTls {
        starttls,
        direct,
        leaf,
        clients,
        s2s: s2s.then(between).transpose().map_err(error)?,
    })
}

/// It is used all the same, but clients will not like it.
fn report(config: &Config, domain: &str, one: &Read, now: SystemTime) {
    let Some((files, _)) = one.files() else {
        return;
    };
    let (Ok(chain), Ok(key)) = (text(&files.certificate), text(&files.key)) else {
        return;
    };
    let pair = Pair {
        domain,
        hosts: &service_hosts(config, domain),
        chain: &chain,
        key: &key,
        in_data_directory: false,
    };
    for finding in pair.check(now) {
        if finding.level != Level::Ok {
            warn!(domain, reason = %finding.text, "certificate is not in order");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_and_keys_are_regular_files_of_a_mebibyte_at_most() {
        let dir = std::env::temp_dir().join(format!("xmpp-pem-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        #[track_caller]
        fn check(path: &Path, expected: Result<usize, &str>) {
            let read = read_pem(path).map(|text| text.len());
            let read = read.map_err(|error| error.to_string());
            assert_eq!(read, expected.map_err(str::to_owned), "{}", path.display());
        }
        let max = PEM_BYTES_MAX as usize;
        for (bytes, expected) in [
            (0, Ok(0)),
            (max, Ok(max)),
            (max + 1, Err("is larger than 1 MiB")),
        ] {
            let path = dir.join(bytes.to_string());
            std::fs::write(&path, "x".repeat(bytes)).unwrap();
            check(&path, expected);
        }
        for path in [Path::new("/dev/zero"), dir.as_path()] {
            check(path, Err("is no regular file"));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
