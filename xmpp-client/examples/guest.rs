//! Registers an account: `cargo run -p xmpp-client --example guest -- DOMAIN CA-FILE`.
//!
//! Asks on the terminal whatever the server wants to know, again if it does not like an answer.
#![allow(clippy::print_stdout, reason = "a conversation on the terminal")]

use std::error::Error;
use std::io::{BufRead, Write};
use xmpp_client::{Questions, RegisterError, XmppClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(domain), Some(ca)) = (arguments.next(), arguments.next()) else {
        return Err("usage: guest DOMAIN CA-FILE".into());
    };
    let mut guest = XmppClient::builder(&domain)
        .ca_file(ca)
        .connect_guest()
        .await
        .map_err(|error| error.to_string())?;
    let mut asked = guest.questions().await?;
    if let Some(instructions) = &asked.instructions {
        println!("{instructions}");
    }
    loop {
        fill_in(&mut asked)?;
        match guest.register(&asked).await {
            Ok(registered) => {
                match guest.account(&registered) {
                    Some(account) => println!("registered: {account}"),
                    None => println!("registered; the server did not say under which name"),
                }
                break;
            }
            Err(error @ (RegisterError::Conflict | RegisterError::NotAcceptable(_))) => {
                println!("{error}; once more");
            }
            Err(error) => return Err(error.into()),
        }
    }
    guest.disconnect().await?;
    Ok(())
}

/// An empty line leaves a field as it is.
fn fill_in(asked: &mut Questions) -> std::io::Result<()> {
    let names: Vec<String> = asked.names().into_iter().map(Into::into).collect();
    for name in names.iter().filter(|name| *name != "FORM_TYPE") {
        let form = asked.form.as_ref();
        let label = form.and_then(|form| form.field(name)?.label.clone());
        print!("{}: ", label.as_deref().unwrap_or(name));
        std::io::stdout().flush()?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.is_empty() {
            asked.set(name, line);
        }
    }
    Ok(())
}
