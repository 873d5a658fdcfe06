//! The accounts of a laboratory: two a domain, with passwords that are kept in its folder as
//! `address,password` a line, which `xmpp-script --accounts` reads too.

use crate::lab::TestLab;
use crate::lab_cli::Trouble;
use crate::script::stage::read_accounts;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use xmpp_server::random;
use xmpp_server::users::UserError;
use xmpp_stream::jid::Jid;
use xmpp_stream::stream::Password;

/// Who lives in each domain.
const LOCAL_PARTS: [&str; 2] = ["ann", "ben"];

/// Makes the accounts that are missing; gives all of them with their passwords.
pub(super) async fn make(lab: &TestLab, file: &Path) -> Result<BTreeMap<String, String>, Trouble> {
    let mut known = match file.exists() {
        true => read_accounts(file).map_err(|why| Trouble::Usage(why.to_string()))?,
        false => BTreeMap::new(),
    };
    let trouble =
        |what: String, why: UserError| Trouble::Io(what, io::Error::other(why.to_string()));
    let mut accounts = BTreeMap::new();
    for domain in lab.domains() {
        for local in LOCAL_PARTS {
            let name = format!("{local}@{domain}");
            let Ok(jid) = Jid::parse(&name) else { continue };
            let password = known.remove(&name).unwrap_or_else(new_password);
            let (users, account) = (lab.users(domain), jid.to_bare());
            let secret = || Password(password.clone());
            let made = match users.add(&account, secret()).await {
                // Of an earlier run: the password in the file holds.
                Err(UserError::Exists) => users.set_password(&account, secret()).await,
                made => made,
            };
            made.map_err(|why| trouble(name.clone(), why))?;
            accounts.insert(name, password);
        }
    }
    let mut text = String::from("# accounts of xmpp-lab: address,password\n");
    for (name, password) in accounts.iter().chain(&known) {
        let _ = writeln!(text, "{name},{password}");
    }
    let written = write(file, &text);
    written.map_err(|error| Trouble::Io(file.display().to_string(), error))?;
    Ok(accounts)
}

/// For nobody else's eyes.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(file)?.write_all(text.as_bytes())
}

/// Twelve letters and digits that are not mistaken for one another.
pub(super) fn new_password() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 12];
    random::fill(&mut bytes);
    let letters = bytes.iter().map(|byte| LETTERS[usize::from(byte % 32)]);
    letters.map(char::from).collect()
}
