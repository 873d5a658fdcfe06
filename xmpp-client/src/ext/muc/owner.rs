//! Making, configuring and destroying a room (XEP-0045 section 10).
//!
//! A new room is locked until its owner configures it or accepts the defaults.

use crate::client::XmppClient;
use crate::ext::{RequestError, expect, get, set};
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_stream::payload::forms::{Form, FormKind};
use xmpp_stream::xml::Element;

/// The room's configuration as a form: fill in its `answer` and give that to `configure`.
///
/// # Errors
/// The request failed (forbidden: only owners), or the answer holds no form.
pub async fn config(client: &XmppClient, room: &BareJid) -> Result<Form, RequestError> {
    let query = Element::new(ns::MUC_OWNER, "query");
    let answer = get(client, Some(room.as_jid()), &query).await?;
    let query = expect(answer, ns::MUC_OWNER, "query")?;
    Form::find(&query).ok_or(RequestError::Malformed("it holds no form"))
}

/// Configures the room; fields that the form lacks stay as they are. A new room opens.
///
/// # Errors
/// The request failed: forbidden, not-acceptable.
pub async fn configure(
    client: &XmppClient,
    room: &BareJid,
    form: &Form,
) -> Result<(), RequestError> {
    submit(client, room, form).await
}

/// Opens a new room as it is (section 10.1.2).
///
/// # Errors
/// The request failed.
pub async fn accept_defaults(client: &XmppClient, room: &BareJid) -> Result<(), RequestError> {
    submit(client, room, &Form::new(FormKind::Submit)).await
}

/// Does not configure after all; a new room is destroyed by that.
///
/// # Errors
/// The request failed.
pub async fn cancel(client: &XmppClient, room: &BareJid) -> Result<(), RequestError> {
    submit(client, room, &Form::new(FormKind::Cancel)).await
}

/// Destroys the room; everybody is told where to go instead, and why.
///
/// # Errors
/// The request failed (forbidden: only owners).
pub async fn destroy(
    client: &XmppClient,
    room: &BareJid,
    instead: Option<&BareJid>,
    reason: Option<&str>,
) -> Result<(), RequestError> {
    let mut destroy = Element::new(ns::MUC_OWNER, "destroy");
    if let Some(instead) = instead {
        destroy.set_attr("jid", instead.as_jid().as_str());
    }
    if let Some(reason) = reason {
        destroy.push(Element::new(ns::MUC_OWNER, "reason").with_text(reason));
    }
    let query = Element::new(ns::MUC_OWNER, "query").with_child(destroy);
    set(client, Some(room.as_jid()), &query).await?;
    Ok(())
}

async fn submit(client: &XmppClient, room: &BareJid, form: &Form) -> Result<(), RequestError> {
    let query = Element::new(ns::MUC_OWNER, "query").with_child(form.to_element());
    set(client, Some(room.as_jid()), &query).await?;
    Ok(())
}
