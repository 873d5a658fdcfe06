//! Nodes: options, making, configuring, emptying and deleting them (XEP-0060 section 8).

use super::{PubsubError, of_node};
use crate::client::XmppClient;
use crate::ext::{RequestError, expect, get, set};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::forms::Form;
use xmpp_stream::xml::Element;

/// Who may read a node (section 4.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "each is its own name on the wire")]
pub enum AccessModel {
    Authorize,
    Open,
    Presence,
    Roster,
    Whitelist,
}

/// How many items a node keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MaxItems {
    /// As many as the service allows.
    Max,
    /// So many.
    Count(u32),
}

/// When a subscriber gets the last item unasked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendLast {
    /// Never.
    Never,
    /// When the subscription begins.
    OnSubscription,
    /// Then, and whenever the subscriber comes online.
    OnSubscriptionAndPresence,
}

/// What a node is to be like; what is `None` is left to the service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// Who may read it.
    pub access: Option<AccessModel>,
    /// Items are kept.
    pub persist: Option<bool>,
    /// How many.
    pub max_items: Option<MaxItems>,
    /// When the last one is sent unasked.
    pub send_last: Option<SendLast>,
    /// Other fields, by their names on the wire.
    pub others: Vec<(String, String)>,
}

impl Options {
    /// What only the own account may read (XEP-0223 section 2).
    #[must_use]
    pub fn private() -> Self {
        Self {
            access: Some(AccessModel::Whitelist),
            persist: Some(true),
            ..Self::default()
        }
    }

    /// Those that every service knows, and that keep what is private so.
    pub(in crate::ext) fn few(&self) -> Self {
        Self {
            access: self.access,
            persist: self.persist,
            ..Self::default()
        }
    }

    /// As a form of this type; the fields are the same in both types that there are.
    pub(super) fn to_form(&self, form_type: &str) -> Form {
        let mut form = Form::submit(form_type);
        let access = self.access.map(|access| match access {
            AccessModel::Authorize => "authorize",
            AccessModel::Open => "open",
            AccessModel::Presence => "presence",
            AccessModel::Roster => "roster",
            AccessModel::Whitelist => "whitelist",
        });
        let persist = self
            .persist
            .map(|persist| if persist { "true" } else { "false" });
        let max_items = self.max_items.map(|max| match max {
            MaxItems::Max => "max".to_owned(),
            MaxItems::Count(count) => count.to_string(),
        });
        let send_last = self.send_last.map(|when| match when {
            SendLast::Never => "never",
            SendLast::OnSubscription => "on_sub",
            SendLast::OnSubscriptionAndPresence => "on_sub_and_presence",
        });
        let fields = [
            ("pubsub#access_model", access),
            ("pubsub#persist_items", persist),
            ("pubsub#max_items", max_items.as_deref()),
            ("pubsub#send_last_published_item", send_last),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                form.set(name, value);
            }
        }
        for (name, value) in &self.others {
            form.set(name, value);
        }
        form
    }
}

/// Makes a node.
///
/// # Errors
/// `Refused` with conflict where it exists; else as it says.
pub async fn create(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
    options: Option<&Options>,
) -> Result<(), PubsubError> {
    let mut pubsub = Element::new(ns::PUBSUB, "pubsub").with_child(of_node("create", node));
    if let Some(options) = options {
        let form = options.to_form(ns::PUBSUB_NODE_CONFIG).to_element();
        pubsub.push(Element::new(ns::PUBSUB, "configure").with_child(form));
    }
    set(client, service, &pubsub).await?;
    Ok(())
}

/// The node's configuration as a form.
///
/// # Errors
/// `Refused` (forbidden: only owners); else the request failed, or the answer holds no form.
pub async fn config(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
) -> Result<Form, PubsubError> {
    let asked = owners("configure", node);
    let answer = get(client, service, &asked).await?;
    let answer = expect(answer, ns::PUBSUB_OWNER, "pubsub")?;
    let configure = answer.child(ns::PUBSUB_OWNER, "configure");
    let form = configure.and_then(Form::find);
    Ok(form.ok_or(RequestError::Malformed("it holds no form"))?)
}

/// Configures a node; what the options leave out stays as it is.
///
/// # Errors
/// `Refused`; else the request failed.
pub async fn configure(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
    options: &Options,
) -> Result<(), PubsubError> {
    let form = options.to_form(ns::PUBSUB_NODE_CONFIG).to_element();
    let configure = Element::new(ns::PUBSUB_OWNER, "configure")
        .with_attr("node", node)
        .with_child(form);
    let pubsub = Element::new(ns::PUBSUB_OWNER, "pubsub").with_child(configure);
    set(client, service, &pubsub).await?;
    Ok(())
}

/// Deletes all items of a node.
///
/// # Errors
/// `Refused`; else the request failed.
pub async fn purge(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
) -> Result<(), PubsubError> {
    set(client, service, &owners("purge", node)).await?;
    Ok(())
}

/// Deletes a node with all its items.
///
/// # Errors
/// `Refused`; else the request failed.
pub async fn delete_node(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
) -> Result<(), PubsubError> {
    set(client, service, &owners("delete", node)).await?;
    Ok(())
}

fn owners(name: &str, node: &str) -> Element {
    let what = Element::new(ns::PUBSUB_OWNER, name).with_attr("node", node);
    Element::new(ns::PUBSUB_OWNER, "pubsub").with_child(what)
}
