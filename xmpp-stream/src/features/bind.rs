//! Resource binding (RFC 6120 section 7) and the legacy session request (RFC 6121 section 1.4).

use crate::jid::FullJid;
use crate::ns::{self, id, name};
use crate::stanza::{Kind, Stanza, Ty};
use crate::xml::Element;
use crate::xml::writer::write_element;

/// The features that follow a login. The session request is answered, but nobody needs it.
pub(crate) fn write_feature(out: &mut Vec<u8>) {
    write_element(out, ns::BIND, "bind", |_| {});
    write_element(out, ns::SESSION, "session", |out| {
        out.extend_from_slice(b"<optional/>");
    });
}

/// True for a request to bind a resource.
pub(crate) fn is_bind(stanza: &Stanza) -> bool {
    is_set(stanza) && stanza.has(id::BIND, name::BIND)
}

/// True for the legacy session request.
pub(crate) fn is_session(stanza: &Stanza) -> bool {
    is_set(stanza) && stanza.has(id::SESSION, name::SESSION)
}

fn is_set(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Iq && stanza.head.ty == Ty::Set
}

/// The resource asked for; an empty one counts as none, so that one is made.
pub(crate) fn wanted_resource(stanza: &Stanza) -> Option<Box<str>> {
    let kid = stanza.kid(id::BIND, name::BIND)?;
    let resource = stanza.element(kid).child(ns::BIND, "resource")?.text();
    (!resource.is_empty()).then(|| resource.into())
}

/// The payload of a client's request.
pub(crate) fn request(resource: Option<&str>) -> Element {
    let mut bind = Element::new(ns::BIND, "bind");
    if let Some(resource) = resource {
        bind.push(Element::new(ns::BIND, "resource").with_text(resource));
    }
    bind
}

/// The payload of the answer.
pub(crate) fn bound(jid: &FullJid) -> Element {
    let jid = Element::new(ns::BIND, "jid").with_text(jid.as_jid().as_str());
    Element::new(ns::BIND, "bind").with_child(jid)
}

/// The JID that a server has bound us to.
pub(crate) fn bound_jid(result: &Stanza) -> Option<FullJid> {
    let kid = result.kid(id::BIND, name::BIND)?;
    let jid = result.element(kid).child(ns::BIND, "jid")?.text();
    FullJid::parse(jid.trim()).ok()
}
