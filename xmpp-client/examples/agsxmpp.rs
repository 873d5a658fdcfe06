//! The first program of every agsXMPP tutorial, with this library (docs/AGSXMPP.md):
//! `cargo run -p xmpp-client --example agsxmpp -- SERVER USER [CA-FILE] < PASSWORD-FILE`.
#![allow(clippy::print_stdout, reason = "a console program")]

use std::error::Error;
use std::io::BufRead;
use xmpp_client::{ImEvent, Step, XmppClient, XmppProtocol};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(user)) = (arguments.next(), arguments.next()) else {
        return Err("usage: agsxmpp SERVER USER [CA-FILE], the password on standard input".into());
    };
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password)?;

    // Server, user name, password. The address is resolved by itself.
    let mut xmpp = XmppClient::builder(&format!("{user}@{server}"))
        .password(password.trim_end_matches(['\r', '\n']));
    if let Some(ca) = arguments.next() {
        xmpp = xmpp.ca_file(ca);
    }

    // Open: OnAuthError and OnSocketError are its errors, OnLogin that it returns.
    let client = match xmpp.connect().await {
        Ok(client) => client,
        Err(error) if error.step() == Step::Authentication => {
            return Err(format!("OnAuthError: {error}").into());
        }
        Err(error) => return Err(format!("OnSocketError: {error}").into()),
    };
    println!("OnLogin: {}", client.jid());

    let im = XmppProtocol::new(&client);
    let mut events = im.events();
    im.go_online().await?;
    while let Some(event) = events.next().await {
        match event {
            ImEvent::RosterReceived => {
                for contact in im.roster() {
                    println!("OnRosterItem: {}", contact.jid);
                }
                println!("OnRosterEnd");
            }
            ImEvent::Presence(presence) => {
                println!("OnPresence: {} {:?}", presence.from, presence.show);
            }
            ImEvent::Message(message) => {
                let body = message.body().unwrap_or_default();
                println!("OnMessage: {}: {body}", message.from);
            }
            ImEvent::AuthFailed { reason } => println!("OnAuthError: {reason}"),
            ImEvent::Disconnected { reason } => println!("OnClose: {reason:?}"),
            _ => {}
        }
    }
    Ok(())
}
