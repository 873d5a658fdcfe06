//! `xmpp-server check`: looks at all that a start needs and leaves nothing behind (DESIGN 1).
//!
//! One finding a line. What a start would fail on, and what clients would refuse, is an error; what
//! an operator should see to is a warning. Also what a reload says of certificates that it takes.

pub(crate) mod certificates;
mod dns;
mod ports;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, without_effect};
use crate::modules;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Looked at, and well.
    Ok,
    /// To be seen to.
    Warning,
    /// Nothing starts with it, or clients refuse it.
    Error,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topic {
    /// The file and what the command line adds.
    Configuration,
    /// Where everything is kept.
    DataDirectory,
    /// Certificate, chain and key of a domain.
    Certificate,
    /// What clients learn of a domain.
    Dns,
    /// An address to listen on.
    Port,
}

/// One thing that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub topic: Topic,
    /// Which one: a file, a domain, an address.
    pub subject: Box<str>,
    /// What is the matter with it.
    pub text: Box<str>,
}

/// Looks at everything, in the order of the topics.
pub async fn run(config: &Config) -> Vec<Finding> {
    let mut findings = configuration(config);
    findings.push(data_directory(config.data_dir()));
    let now = Clock::start().system_now();
    for domain in &config.domains {
        findings.extend(certificates::of_domain(config, domain, now));
    }
    findings.extend(dns::check(config).await);
    findings.extend(ports::check(config).await);
    findings
}

/// The one finding of a file that does not load.
#[must_use]
pub fn of_error(error: &ConfigError) -> Finding {
    let subject = error.file.as_deref().map_or_else(String::new, shown);
    Finding::new(
        Level::Error,
        Topic::Configuration,
        subject,
        error.without_file(),
    )
}

/// True when none is an error.
#[must_use]
pub fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level != Level::Error)
}

/// The findings as lines for people or, with `json`, one object a line.
#[must_use]
pub fn lines(findings: &[Finding], json: bool) -> String {
    let line = |finding: &Finding| match json {
        false => format!("{finding}\n"),
        true => {
            let object = serde_json::json!({
                "level": finding.level.as_str(),
                "topic": finding.topic.as_str(),
                "subject": finding.subject,
                "text": finding.text,
            });
            format!("{object}\n")
        }
    };
    findings.iter().map(line).collect()
}

fn configuration(config: &Config) -> Vec<Finding> {
    let subject = config
        .file
        .as_deref()
        .map_or_else(|| "(none; defaults)".to_owned(), shown);
    let finding =
        |level, text: String| Finding::new(level, Topic::Configuration, subject.as_str(), text);
    let known: Vec<&str> = modules::ALL
        .iter()
        .map(|module| module.info().name)
        .collect();
    if let Err(error) = config.check_modules(&known) {
        return vec![of_error(&error)];
    }
    let domains: Vec<&str> = config.domains.iter().map(|d| d.name.as_str()).collect();
    let mut findings = vec![finding(
        Level::Ok,
        format!("loads; serves {}", domains.join(", ")),
    )];
    let later = without_effect(config).into_iter();
    // These have an effect here.
    let later = later.filter(|key| !key.starts_with("dns."));
    findings.extend(later.map(|key| {
        finding(
            Level::Warning,
            format!("`{key}` has no effect in this version"),
        )
    }));
    for domain in &config.domains {
        for admin in &domain.admins {
            if config.domain(admin.domain()).is_none() {
                let text = format!(
                    "`domain.admins` of {} names {admin}, whose domain is not served here",
                    domain.name
                );
                findings.push(finding(Level::Warning, text));
            }
        }
    }
    findings
}

fn data_directory(path: &Path) -> Finding {
    use std::os::unix::fs::MetadataExt;
    const STICKY: u32 = 0o1000;
    let finding =
        |level, text: String| Finding::new(level, Topic::DataDirectory, shown(path), text);
    let error = |text: &str| finding(Level::Error, text.to_owned());
    match std::fs::metadata(path) {
        Ok(data) if !data.is_dir() => error("is no directory"),
        Ok(data) if data.mode() & STICKY != 0 => {
            error("is shared with others; give a directory of its own")
        }
        Ok(_) => match try_to_write(path) {
            Ok(()) => finding(Level::Ok, "is there and can be written to".into()),
            Err(why) => finding(Level::Error, format!("cannot be written to: {why}")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.ancestors().skip(1).find(|above| above.exists());
            let above = above.unwrap_or_else(|| Path::new("."));
            match try_to_write(above) {
                Ok(()) => finding(Level::Ok, "is made by the first start".into()),
                Err(why) => {
                    let text = format!("cannot be made in {}: {why}", shown(above));
                    finding(Level::Error, text)
                }
            }
        }
        Err(why) => error(&why.to_string()),
    }
}

/// Makes a file there and removes it again: what permissions say is not all that may forbid it.
fn try_to_write(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".xmpp-server-check.{}", std::process::id()));
    let mut new = OpenOptions::new();
    new.write(true).create_new(true).mode(0o600).open(&probe)?;
    std::fs::remove_file(&probe)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Finding {
    pub(crate) fn new(
        level: Level,
        topic: Topic,
        subject: impl Into<Box<str>>,
        text: impl Into<Box<str>>,
    ) -> Self {
        Self {
            level,
            topic,
            subject: subject.into(),
            text: text.into(),
        }
    }
}

impl Level {
    /// Its name in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Topic {
    /// Its name in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::DataDirectory => "data directory",
            Self::Certificate => "certificate",
            Self::Dns => "dns",
            Self::Port => "port",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (level, topic) = (self.level.as_str(), self.topic.as_str());
        write!(f, "{level}: {topic} {}: {}", self.subject, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line() {
        let finding = |level| Finding::new(level, Topic::Port, "127.0.0.1:1", "is \"taken\"");
        let findings = [finding(Level::Warning), finding(Level::Ok)];
        assert_eq!(
            lines(&findings, false),
            "warning: port 127.0.0.1:1: is \"taken\"\nok: port 127.0.0.1:1: is \"taken\"\n"
        );
        let object: serde_json::Value =
            serde_json::from_str(lines(&findings, true).lines().next().unwrap()).unwrap();
        assert_eq!(
            object,
            serde_json::json!({
                "level": "warning", "topic": "port", "subject": "127.0.0.1:1",
                "text": "is \"taken\"",
            })
        );
        assert!(is_well(&findings));
        assert!(!is_well(&[finding(Level::Ok), finding(Level::Error)]));
    }
}
