//! Feature modules: what a module is, what it may register, and the one list of them.
//!
//! One file and one word in the list below add a module (CONTRIBUTING.md). Roster, subscriptions,
//! presence and message delivery (`crate::im`) are written on the same interface.

pub use self::caps::cache::{Cache as Caps, Features as CapsFeatures};
use crate::hooks::{Cx, Filter, Flow, Hooks, Registered, Stage};
use crate::host::Host;
pub use crate::iq::{Answer, At, AtSet, Iq, IqKind, KeySpace};
use crate::iq::{IqTable, Registered as IqRegistered};
use std::future::Future;
use xmpp_stream::error::StanzaError;
use xmpp_stream::ns;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::xml::Element;

/// How much of a spec a module covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coverage {
    /// All that binds a server.
    Complete,
    /// Some; the head of the module's file says what is left out.
    Partial,
    /// Not all that binds a server: what is missing, or what alone is there, in a few words.
    Lacks(&'static str),
}

/// A spec that a module implements.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// "RFC 6121" or "XEP-0199".
    pub id: &'static str,
    /// Version of the document.
    pub version: &'static str,
    /// How much of it.
    pub coverage: Coverage,
}

/// What a module says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Its name in configuration, logs and store.
    pub name: &'static str,
    /// Specs it implements.
    pub specs: &'static [Spec],
}

/// A feature module.
pub trait Module: Send + Sync + 'static {
    /// Name and specs.
    fn info(&self) -> &'static Info;
    /// Declares handlers and what is announced.
    fn register(&self, scope: &mut Scope<'_>);
}

/// An identity of service discovery (XEP-0030).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Category, e.g. "server".
    pub category: &'static str,
    /// Type, e.g. "im".
    pub ty: &'static str,
    /// Name for people.
    pub name: Option<&'static str>,
}

/// Says of which domains something is true.
pub type HostRule = fn(&Host) -> bool;

/// Makes a form about a domain (XEP-0128); `None`: there is nothing to say of this one.
pub type HostForm = fn(&Host) -> Option<Element>;

/// Makes a stream feature of a domain.
pub type HostFeature = fn(&Announced, &Host) -> Option<Element>;

/// Says whether a disco#info node of a domain is another name for the domain itself.
pub type HostNode = fn(&Announced, &Host, &str) -> bool;

/// Everything that registrations announce: what is announced is what is handled.
#[derive(Debug, Default)]
pub struct Announced {
    /// disco#info features of the domain, sorted.
    pub host_features: Vec<&'static str>,
    /// disco#info features of domains whose policy is as the predicate asks.
    pub host_features_if: Vec<(&'static str, HostRule)>,
    /// disco#info features of accounts, sorted.
    pub account_features: Vec<&'static str>,
    /// disco#info forms of domains.
    pub host_forms: Vec<HostForm>,
    /// Identities of the domain.
    pub host_identities: Vec<Identity>,
    /// Identities of accounts.
    pub account_identities: Vec<Identity>,
    /// Namespaces in which guests may send requests before login.
    pub guest_ns: Vec<&'static str>,
    /// Stream features after login.
    pub features_after_auth: Vec<Element>,
    /// Those that depend on the domain.
    pub features_after_auth_of: Vec<HostFeature>,
    /// disco#info nodes that stand for a domain itself.
    pub host_nodes: Vec<HostNode>,
    /// What clients can do.
    pub caps: std::sync::Arc<Caps>,
    /// Name and specs of each loaded module.
    pub infos: Vec<&'static Info>,
}

impl Announced {
    /// disco#info features of one domain, sorted.
    #[must_use]
    pub fn features_of(&self, host: &Host) -> Vec<&'static str> {
        let mut features = self.host_features.clone();
        for (ns, holds) in &self.host_features_if {
            if holds(host) {
                insert(&mut features, ns);
            }
        }
        features
    }

    /// Stream features after login to one domain.
    #[must_use]
    pub fn stream_features_of(&self, host: &Host) -> Vec<Element> {
        let of_host = self.features_after_auth_of.iter();
        let of_host = of_host.filter_map(|feature| feature(self, host));
        let all = self.features_after_auth.iter().cloned();
        all.chain(of_host).collect()
    }

    /// disco#info forms of one domain.
    #[must_use]
    pub fn forms_of(&self, host: &Host) -> Vec<Element> {
        let forms = self.host_forms.iter();
        forms.filter_map(|form| form(host)).collect()
    }
}

/// What a module may say while it registers. All declarative: listing and documenting come for free.
pub struct Scope<'a> {
    pub(crate) module: &'static str,
    pub(crate) hooks: &'a mut Hooks,
    pub(crate) iqs: &'a mut IqTable,
    pub(crate) announced: &'a mut Announced,
    pub(crate) errors: &'a mut Vec<RegisterError>,
}

/// Two modules want the same query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegisterError {
    /// Namespace of the query.
    pub ns: String,
    /// Who had it.
    pub first: &'static str,
    /// Who wanted it too.
    pub second: &'static str,
}

impl Scope<'_> {
    /// "I answer this query", to the domain or the own account.
    pub fn iq<F, Fut>(&mut self, kind: IqKind, ns: &'static str, name: &'static str, handler: F)
    where
        F: Fn(Iq) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Answer, StanzaError>> + Send + 'static,
    {
        self.iq_at(AtSet::SERVER, kind, ns, name, handler);
    }

    /// "I answer this query" addressed to one of `at`. An empty `name` means any child name in `ns`.
    pub fn iq_at<F, Fut>(
        &mut self,
        at: AtSet,
        kind: IqKind,
        ns: &'static str,
        name: &'static str,
        handler: F,
    ) where
        F: Fn(Iq) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Answer, StanzaError>> + Send + 'static,
    {
        let handler = Box::new(move |iq| Box::pin(handler(iq)) as crate::iq::Answering);
        let guest = self.announced.guest_ns.contains(&ns);
        let registered = IqRegistered {
            module: self.module,
            at,
            guest,
            handler,
        };
        if let Err(first) = self.iqs.add(kind, ns, name, registered) {
            self.errors.push(RegisterError {
                ns: ns.to_owned(),
                first,
                second: self.module,
            });
        }
    }

    /// Guests may send requests of this namespace to the domain before login; say so before `iq`.
    pub fn guest(&mut self, ns: &'static str) {
        self.announced.guest_ns.push(ns);
    }

    /// "I look at stanzas that pass this stage."
    pub fn hook<F>(&mut self, stage: Stage, filter: Filter, hook: F)
    where
        F: Fn(&Stanza, &mut Cx<'_>) -> Flow + Send + Sync + 'static,
    {
        let registered = Registered {
            module: self.module,
            payload: filter.payload,
            hook: Box::new(hook),
        };
        self.hooks.add(stage, filter, registered);
    }

    /// Shown in disco#info of the domain.
    pub fn feature(&mut self, ns: &'static str) {
        insert(&mut self.announced.host_features, ns);
    }

    /// Shown in disco#info of those domains for which `holds` is true.
    pub fn feature_if(&mut self, ns: &'static str, holds: HostRule) {
        self.announced.host_features_if.push((ns, holds));
    }

    /// A form shown in disco#info of the domain.
    pub fn form(&mut self, form: HostForm) {
        self.announced.host_forms.push(form);
    }

    /// Shown in disco#info of accounts.
    pub fn account_feature(&mut self, ns: &'static str) {
        insert(&mut self.announced.account_features, ns);
    }

    /// Shown in disco#info of the domain.
    pub fn identity(
        &mut self,
        category: &'static str,
        ty: &'static str,
        name: Option<&'static str>,
    ) {
        let identity = Identity { category, ty, name };
        add_identity(&mut self.announced.host_identities, identity);
    }

    /// Shown in disco#info of accounts.
    pub fn account_identity(&mut self, category: &'static str, ty: &'static str) {
        let identity = Identity {
            category,
            ty,
            name: None,
        };
        add_identity(&mut self.announced.account_identities, identity);
    }

    /// Offered in stream features after login, made anew for each domain.
    pub fn stream_feature_of(&mut self, feature: HostFeature) {
        self.announced.features_after_auth_of.push(feature);
    }

    /// A disco#info node that stands for the domain itself.
    pub fn node(&mut self, node: HostNode) {
        self.announced.host_nodes.push(node);
    }

    /// What clients can do, as far as they were asked.
    #[must_use]
    pub fn caps(&self) -> std::sync::Arc<Caps> {
        std::sync::Arc::clone(&self.announced.caps)
    }

    /// Offered in stream features after login.
    pub fn stream_feature(&mut self, feature: Element) {
        self.announced.features_after_auth.push(feature);
    }
}

fn insert(list: &mut Vec<&'static str>, ns: &'static str) {
    if let Err(at) = list.binary_search(&ns) {
        list.insert(at, ns);
    }
}

// XEP-0030 section 3.1: no two identities of one category and type with different names.
fn add_identity(list: &mut Vec<Identity>, identity: Identity) {
    let is_same = |other: &Identity| (other.category, other.ty) == (identity.category, identity.ty);
    if !list.iter().any(is_same) {
        list.push(identity);
    }
}

/// A form of facts (XEP-0004 section 3.1, XEP-0068): its type, and the values of each field.
fn form_of_facts(form_type: &str, fields: &[(String, &[String])]) -> Element {
    let field = |var: &str, ty: &str| {
        Element::new(ns::DATA_FORMS, "field")
            .with_attr("var", var)
            .with_attr("type", ty)
    };
    let value = |text: &str| Element::new(ns::DATA_FORMS, "value").with_text(text);
    let mut form = Element::new(ns::DATA_FORMS, "x")
        .with_attr("type", "result")
        .with_child(field("FORM_TYPE", "hidden").with_child(value(form_type)));
    for (var, values) in fields {
        let mut field = field(var, "list-multi");
        for text in *values {
            field.push(value(text));
        }
        form.push(field);
    }
    form
}

/// What this server calls itself.
const SOFTWARE: &str = env!("CARGO_PKG_NAME");

/// An element that a module has stored.
///
/// # Errors
/// internal-server-error when the stored bytes are no XML: the store was changed by other hands.
fn stored(xml: &[u8]) -> Result<Element, StanzaError> {
    Element::parse(xml, "").map_err(|error| {
        tracing::error!(?error, "stored element does not parse");
        StanzaError::internal_server_error()
    })
}

/// An element as `stored` reads it.
fn to_store(element: &Element) -> Vec<u8> {
    let mut xml = Vec::new();
    element.write(&mut xml, "");
    xml
}

macro_rules! modules {
    ($($name:ident,)*) => {
        $(mod $name;)*
        /// Every module of this package, in the order of their names.
        pub static ALL: &[&dyn Module] = &[$(&$name::Feature,)*];
    };
}

modules! {
    caps,
    contact,
    disco,
    last,
    ping,
    private,
    register,
    time,
    vcard,
    version,
}

/// The always-on modules of RFC 6121 and those of this list that are not switched off.
pub fn enabled(off: &[String]) -> Vec<&'static dyn Module> {
    let optional = ALL
        .iter()
        .filter(|module| !off.iter().any(|name| name == module.info().name));
    crate::im::ALL.iter().chain(optional).copied().collect()
}

#[cfg(test)]
mod tests;
