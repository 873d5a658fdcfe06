//! A directory of users to search (XEP-0055), and ad-hoc commands (XEP-0050).

use super::peer::{Account, DOMAIN, Peer};
use super::stage::Outcome;
use std::sync::Arc;
use xmpp_client::ext::RequestError;
use xmpp_client::{Action, BareJid, CommandStatus, Jid, VCard, XmppClient, XmppProtocol};

fn server() -> Jid {
    Jid::parse(DOMAIN).expect("an address")
}

/// The first service of the server that says that it can do this.
async fn offering(im: &XmppProtocol, feature: &str) -> Option<Jid> {
    let items = im.disco_items(&server(), None).await.expect("items");
    for item in items {
        let info = im.disco_info(&item.jid, None).await;
        if info.is_ok_and(|info| info.has(feature)) {
            return Some(item.jid);
        }
    }
    None
}

pub(crate) async fn user_search(peer: Arc<Peer>) -> Outcome {
    let account = peer.account().await;
    let ann = XmppProtocol::new(&peer.client(&account, "search").await);
    let Some(directory) = offering(&ann, "jabber:iq:search").await else {
        return Outcome::NotOffered;
    };
    let card = VCard::default()
        .with(&["FN"], "Ann Findable")
        .with(&["N", "FAMILY"], "Findable")
        .with(&["NICKNAME"], "seeker")
        .with(&["EMAIL", "USERID"], "ann@example.org");
    ann.set_vcard(&card).await.expect("set");

    let ben = XmppProtocol::new(&peer.online("search").await);
    let mut asked = ben.search_questions(&directory).await.expect("questions");
    assert!(asked.form.is_some(), "{asked:?}");
    assert!(asked.set("last", "Findable"), "{asked:?}");
    let found = ben.search(&directory, &asked).await.expect("a result");
    let jids: Vec<&Jid> = found.iter().map(|found| &found.jid).collect();
    assert_eq!(jids, [account.jid.as_jid()]);
    let says = |name: &str| {
        let mut fields = found[0].fields.iter();
        fields.find(|(var, _)| var == name).map(|(_, text)| &**text)
    };
    assert_eq!(says("nick"), Some("seeker"), "{found:?}");
    assert_eq!(says("email"), Some("ann@example.org"), "{found:?}");

    assert!(asked.set("last", "Nobody At All"));
    let found = ben.search(&directory, &asked).await.expect("a result");
    assert_eq!(found, []);
    Outcome::Done
}

/// Commands of anybody in one stage, of the operator in two, given up, refused, unknown.
pub(crate) async fn commands(peer: Arc<Peer>) -> Outcome {
    const ADD_USER: &str = "http://jabber.org/protocol/admin#add-user";
    let ben = XmppProtocol::new(&peer.online("commands").await);
    let offered = match ben.commands(&server()).await {
        Ok(offered) if !offered.is_empty() => offered,
        _ => return Outcome::NotOffered,
    };
    let nodes: Vec<_> = offered
        .iter()
        .filter_map(|item| item.node.as_deref())
        .collect();
    assert!(!nodes.contains(&ADD_USER), "only for operators: {nodes:?}");
    let (node, word) = match peer.name {
        "ejabberd" => ("ping", "pong"),
        _ => ("uptime", "has been running"),
    };
    assert!(nodes.contains(&node), "{nodes:?}");
    let done = ben.execute(&server(), node).await.expect("done");
    assert_eq!(done.reply.status, CommandStatus::Completed);
    let says = format!("{:?}", done.reply.notes).to_lowercase();
    assert!(says.contains(word), "{:?}", done.reply);

    let refused = ben.execute(&server(), ADD_USER).await;
    assert!(matches!(refused, Err(RequestError::Iq(_))), "{refused:?}");
    let unknown = ben.execute(&server(), "urn:x:no-such-command").await;
    assert!(matches!(unknown, Err(RequestError::Iq(_))), "{unknown:?}");

    let operator = peer.operator().await;
    let operator: XmppClient = peer.client(&operator, "commands").await;
    let operator = XmppProtocol::new(&operator);
    let offered = operator.commands(&server()).await.expect("commands");
    assert!(
        offered
            .iter()
            .any(|item| item.node.as_deref() == Some(ADD_USER))
    );
    let mut given_up = operator.execute(&server(), ADD_USER).await.expect("a form");
    assert!(given_up.is_executing());
    given_up.cancel().await.expect("given up");
    assert_eq!(given_up.reply.status, CommandStatus::Canceled);

    let mut adding = operator.execute(&server(), ADD_USER).await.expect("a form");
    let form = adding.reply.form.as_ref().expect("a form");
    let mut answer = form.answer();
    let jid = BareJid::account("added", DOMAIN).expect("an address");
    answer.set("accountjid", jid.as_jid().as_str());
    answer.set("password", "by command");
    answer.set("password-verify", "by command");
    let can_complete = adding.reply.actions.contains(&Action::Complete);
    let done = match can_complete {
        true => adding.complete(Some(&answer)).await,
        false => adding.act(Action::Execute, Some(&answer)).await,
    };
    done.expect("done");
    assert_eq!(
        adding.reply.status,
        CommandStatus::Completed,
        "{:?}",
        adding.reply
    );
    let added = Account {
        jid,
        password: "by command".into(),
    };
    let client = peer.client(&added, "new").await;
    client.disconnect().await.expect("an end in order");
    Outcome::Done
}
