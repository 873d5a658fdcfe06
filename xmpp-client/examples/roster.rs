//! Shows the contact list and who of it is online:
//! `cargo run -p xmpp-client --example roster -- JID CA-FILE < PASSWORD-FILE`.
#![allow(clippy::print_stdout, reason = "what this program is for")]

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;
use xmpp_client::{XmppClient, XmppProtocol};

/// How long those who are online are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(jid), Some(ca)) = (arguments.next(), arguments.next()) else {
        return Err("usage: roster JID CA-FILE, the password as a line on standard input".into());
    };
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password)?;

    let builder = XmppClient::builder(&jid).password(password.trim_end_matches(['\r', '\n']));
    let connected = builder.ca_file(ca).connect().await;
    let client = connected.map_err(|error| error.to_string())?;
    let im = XmppProtocol::new(&client);
    im.go_online().await?;
    // Presence comes when it comes: nothing says that all of it is there.
    tokio::time::sleep(PATIENCE).await;
    for contact in im.roster() {
        let name = contact.name.as_deref().unwrap_or(contact.jid.as_str());
        println!("{name} <{}>: {:?}", contact.jid, contact.subscription);
        for device in im.presence_of(&contact.jid) {
            let status = device.status.as_deref().unwrap_or_default();
            println!("    {}: {:?} {status}", device.from, device.show);
        }
    }
    client.disconnect().await?;
    Ok(())
}
