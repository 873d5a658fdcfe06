//! The authority and its leaves as files.
//!
//! `ca.pem` and `ca.key` in one folder, `DOMAIN.pem` and `DOMAIN.key` in another or the same.
//! Every file is written beside its place and renamed into it, the key before the certificate: a
//! reader never sees half a file, and a crash in between leaves a pair that is made anew.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{Issuer, KeyPair, PublicKeyData};
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use crate::{CA_NAME, CertError, DevCa, Leaf, ends_soon, names, subject_key_id};

const CERTIFICATE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o700;
const KEY_MODE: u32 = 0o600;

/// Where the certificate of a domain or an account lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainFiles {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// True when this call made them.
    pub written: bool,
}

impl DevCa {
    /// Reads the authority of a folder, or makes one (the folder too, for its owner only). One
    /// that has less than 30 days left is replaced: clients then have to trust the new one.
    ///
    /// # Errors
    /// `Parse` and `Key` for files that are damaged or of which one is missing; `Io`, `Clock`,
    /// `Sign`.
    pub fn load_or_create(dir: &Path, now: SystemTime) -> Result<Self, CertError> {
        create_folder(dir)?;
        let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        if let Some(ca) = load(&cert_path, &key_path, now)? {
            return Ok(ca);
        }
        let (ca, key_pem) = Self::with_key(now)?;
        replace(&key_path, &key_pem, KEY_MODE)?;
        replace(&cert_path, ca.pem(), CERTIFICATE_MODE)?;
        Ok(ca)
    }

    /// Sees to it that `dir` holds a certificate for `domain`: leaves a good one alone; makes one
    /// where there is none, where under 30 days are left, where key and certificate differ, and
    /// where an earlier development authority issued it. One by anybody else is never touched.
    ///
    /// # Errors
    /// `Name` when it is no domain; `Parse` for a file that is no certificate; `Io`, `Clock`,
    /// `Sign`.
    pub fn ensure_domain(
        &self,
        dir: &Path,
        domain: &str,
        now: SystemTime,
    ) -> Result<DomainFiles, CertError> {
        self.ensure(dir, domain_paths(dir, domain)?, now, || {
            self.issue_for_domain(domain, now)
        })
    }

    /// The same for an account such as `juliet@a.test`, which signs in by it.
    ///
    /// # Errors
    /// `Account` when it is none; else as `ensure_domain`.
    pub fn ensure_client(
        &self,
        dir: &Path,
        account: &str,
        now: SystemTime,
    ) -> Result<DomainFiles, CertError> {
        self.ensure(dir, client_paths(dir, account)?, now, || {
            self.issue_client(&[account], now)
        })
    }

    fn ensure(
        &self,
        dir: &Path,
        (certificate, key): (PathBuf, PathBuf),
        now: SystemTime,
        issue: impl FnOnce() -> Result<Leaf, CertError>,
    ) -> Result<DomainFiles, CertError> {
        create_folder(dir)?;
        let written = !self.is_good(&certificate, &key, now)?;
        if written {
            issue()?.write(&certificate, &key)?;
        }
        Ok(DomainFiles {
            certificate,
            key,
            written,
        })
    }

    fn is_good(
        &self,
        cert_path: &Path,
        key_path: &Path,
        now: SystemTime,
    ) -> Result<bool, CertError> {
        let Some(block) = read_certificate(cert_path)? else {
            return Ok(false);
        };
        let cert = parse(&block, cert_path)?;
        if !is_ours(&cert) {
            return Ok(true);
        }
        let key = read(key_path)?.and_then(|pem| KeyPair::from_pem(&pem).ok());
        let fits = key.is_some_and(|key| belongs(&key, &cert));
        Ok(fits && self.issued(&cert) && !ends_soon(&cert, now)?)
    }
}

/// Where `ensure_domain` keeps the certificate of a domain and its key, there or not.
///
/// # Errors
/// `Name` when it is no domain.
pub fn domain_paths(dir: &Path, domain: &str) -> Result<(PathBuf, PathBuf), CertError> {
    Ok(paths(dir, &names::file_stem(domain)?))
}

/// Where `ensure_client` keeps the certificate of an account and its key, there or not.
///
/// # Errors
/// `Account` when it is none.
pub fn client_paths(dir: &Path, account: &str) -> Result<(PathBuf, PathBuf), CertError> {
    Ok(paths(dir, &names::account_stem(account)?))
}

fn paths(dir: &Path, stem: &str) -> (PathBuf, PathBuf) {
    let path = |ending| dir.join(format!("{stem}.{ending}"));
    (path("pem"), path("key"))
}

impl Leaf {
    /// Writes the certificate and its key, which only the owner can read.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), CertError> {
        replace(key, &self.key_pem, KEY_MODE)?;
        replace(certificate, &self.chain_pem, CERTIFICATE_MODE)
    }
}

/// The authority of these two files; `None` where there is none or it is about to end.
fn load(cert_path: &Path, key_path: &Path, now: SystemTime) -> Result<Option<DevCa>, CertError> {
    let Some(block) = read_certificate(cert_path)? else {
        return Ok(None);
    };
    let cert = parse(&block, cert_path)?;
    let unfit = || CertError::Key {
        path: key_path.to_owned(),
    };
    let key_pem = read(key_path)?.ok_or_else(unfit)?;
    let key = KeyPair::from_pem(&key_pem).map_err(|_| unfit())?;
    if !belongs(&key, &cert) {
        return Err(unfit());
    }
    let not_an_authority = || CertError::Parse {
        path: cert_path.to_owned(),
    };
    let key_id = subject_key_id(&cert).ok_or_else(not_an_authority)?.to_vec();
    if !cert.is_ca() {
        return Err(not_an_authority());
    }
    if ends_soon(&cert, now)? {
        return Ok(None);
    }
    let der = block.contents.clone();
    let pem = read(cert_path)?.ok_or_else(not_an_authority)?;
    let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|_| not_an_authority())?;
    Ok(Some(DevCa {
        issuer,
        pem,
        der,
        key_id,
    }))
}

/// True for a leaf of any development authority.
fn is_ours(cert: &X509Certificate<'_>) -> bool {
    let mut names = cert
        .issuer()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok());
    names.any(|name| name.starts_with(CA_NAME))
}

fn belongs(key: &KeyPair, cert: &X509Certificate<'_>) -> bool {
    key.subject_public_key_info() == cert.public_key().raw
}

fn parse<'a>(block: &'a Pem, path: &Path) -> Result<X509Certificate<'a>, CertError> {
    block.parse_x509().map_err(|_| CertError::Parse {
        path: path.to_owned(),
    })
}

/// The first PEM block of a file; `None` when there is no file or nothing in it.
fn read_certificate(path: &Path) -> Result<Option<Pem>, CertError> {
    let Some(text) = read(path)?.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    match x509_parser::pem::parse_x509_pem(text.as_bytes()) {
        Ok((_, block)) => Ok(Some(block)),
        Err(_) => Err(CertError::Parse {
            path: path.to_owned(),
        }),
    }
}

fn read(path: &Path) -> Result<Option<String>, CertError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(path, source)),
    }
}

fn create_folder(dir: &Path) -> Result<(), CertError> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(dir)
        .map_err(|source| io_error(dir, source))
}

/// Writes a file beside its place and moves it there when it is on the disk.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // One left by a crash may have other permissions.
    match fs::remove_file(&beside) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&beside, source));
        }
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .map_err(|source| io_error(&beside, source))?;
    fs::rename(&beside, path).map_err(|source| io_error(path, source))
}

fn io_error(path: &Path, source: io::Error) -> CertError {
    CertError::Io {
        path: path.to_owned(),
        source,
    }
}
