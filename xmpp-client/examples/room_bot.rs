//! Sits in a room and greets: whoever says `!hello` is answered.
//! `cargo run -p xmpp-client --example room_bot -- JID CA-FILE ROOM NICK < PASSWORD-FILE`.

use std::error::Error;
use std::io::BufRead;
use xmpp_client::ext::muc::{self, Join, RoomEvent};
use xmpp_client::{BareJid, XmppClient, XmppProtocol};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [jid, ca, room, nick] = &arguments[..] else {
        return Err("usage: room_bot JID CA-FILE ROOM NICK, the password on standard input".into());
    };
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password)?;

    let builder = XmppClient::builder(jid).password(password.trim_end_matches(['\r', '\n']));
    let connected = builder.ca_file(ca).connect().await;
    let client = connected.map_err(|error| error.to_string())?;
    let im = XmppProtocol::new(&client);
    im.go_online().await?;

    let room = BareJid::parse(room)?;
    let mut events = client.events();
    let joined = muc::join(&client, &room, nick, &Join::default()).await?;
    if joined.is_new {
        // Nobody else can come in before that.
        muc::accept_defaults(&client, &room).await?;
    }
    while let Some(stanza) = events.next_stanza().await {
        let Some(RoomEvent::Message {
            nick: Some(who),
            body: Some(body),
            // What has a date is from the room's history.
            stamp: None,
            ..
        }) = muc::read(&joined.occupant, &stanza)
        else {
            continue;
        };
        if body.trim() == "!hello" && *who != *joined.occupant.resource_str() {
            muc::send(&client, &room, &format!("Hello, {who}!")).await?;
        }
    }
    Ok(())
}
