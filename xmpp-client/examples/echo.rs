//! Gives back every message it gets: `cargo run -p xmpp-client --example echo -- JID CA-FILE < PASSWORD-FILE`.

use std::error::Error;
use std::io::BufRead;
use xmpp_client::{Kind, Stanza, Ty, XmppClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(jid), Some(ca)) = (arguments.next(), arguments.next()) else {
        return Err("usage: echo JID CA-FILE, the password as a line on standard input".into());
    };
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password)?;

    let builder = XmppClient::builder(&jid).password(password.trim_end_matches(['\r', '\n']));
    let connected = builder.ca_file(ca).connect().await;
    let client = connected.map_err(|error| error.to_string())?;
    client.send_stanza(Stanza::presence(Ty::None)).await?;
    while let Some(stanza) = client.next_stanza().await {
        let is_message = stanza.kind == Kind::Message && stanza.head.ty != Ty::Error;
        if let (true, Some(from), Some(body)) = (is_message, &stanza.head.from, stanza.body()) {
            client
                .send_stanza(Stanza::chat(from.as_str(), &body)?)
                .await?;
        }
    }
    Ok(())
}
