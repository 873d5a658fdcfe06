//! In-band registration: accounts made by those who will use them, and new passwords.
//!
//! XEP-0077, by the policy of the domain. Guests ask before they sign in (section 3.1.1); whoever
//! has signed in may change the own password (3.3), under TLS only, or remove the own account (3.2).
//! Other sessions stay when a password changes. What a client submits may be plain fields or a data form (section 4); only plain
//! fields are asked for. Passwords become salted keys and are kept nowhere.

use super::{Answer, Coverage, Info, Iq, IqKind, Module, Scope, Spec};
use crate::config::Registration;
use crate::effect::Effect;
use crate::host::Host;
use crate::store::WriteOp;
use xmpp_stream::error::{ErrorType, StanzaCondition, StanzaError};
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_stream::stream::StoredKeys;
use xmpp_stream::xml::Element;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "register",
            specs: &[Spec {
                id: "XEP-0077",
                version: "2.4",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.guest(ns::REGISTER);
        scope.feature_if(ns::REGISTER, is_possible);
        scope.iq(IqKind::Get, ns::REGISTER, "query", get);
        scope.iq(IqKind::Set, ns::REGISTER, "query", set);
    }
}

/// Section 10: shown where some peer may register.
fn is_possible(host: &Host) -> bool {
    host.config.registration != Registration::Closed
}

async fn get(iq: Iq) -> Result<Answer, StanzaError> {
    form(&asker(&iq)).map(Answer::with)
}

async fn set(iq: Iq) -> Result<Answer, StanzaError> {
    match submitted(asker(&iq), &iq.host.domain, &iq.payload)? {
        Submitted::Create(account, password) => {
            let (jid, peer) = (account.as_str(), iq.peer.map(tracing::field::display));
            if iq.exists(&account).await? {
                return Err(StanzaError::conflict());
            }
            // Before the costly part; one that a commit refuses afterwards counts all the same.
            if !iq.count_registration() {
                tracing::warn!(jid, peer, "registration refused: too many from one address");
                return Err(too_many());
            }
            tracing::info!(jid, peer, "account asked for in band");
            let keys = keys(&iq, password).await?;
            let created = iq.unix_now();
            let create = WriteOp::AccountCreate {
                account,
                keys,
                created,
            };
            let mut answer = Answer::empty().effect(Effect::Write(create));
            answer.on_conflict = Some(StanzaError::conflict());
            Ok(answer)
        }
        // Section 3.3: not where others could read it.
        Submitted::Change(..) if !iq.asker.as_ref().is_some_and(|asker| asker.secure) => {
            Err(StanzaError::not_authorized())
        }
        Submitted::Change(account, password) => {
            let peer = iq.peer.map(tracing::field::display);
            tracing::info!(
                jid = account.as_str(),
                peer,
                "password change asked for in band"
            );
            let keys = keys(&iq, password).await?;
            let change = WriteOp::AccountKeys { account, keys };
            let mut answer = Answer::empty().effect(Effect::Write(change));
            // The account was removed meanwhile.
            answer.on_conflict = Some(StanzaError::not_authorized());
            Ok(answer)
        }
        Submitted::Remove(account) => {
            tracing::info!(jid = account.as_str(), peer = ?iq.peer, "account removed in band");
            Ok(Answer {
                removal: true,
                ..Answer::empty()
            })
        }
    }
}

/// Section 3.1.1: an entity that attempts to register too many times; it may do so later.
fn too_many() -> StanzaError {
    let error = StanzaError::new(ErrorType::Wait, StanzaCondition::NotAcceptable);
    error.with_text("too many registrations from this address; try again later")
}

/// Never none: an account without keys could not sign in any more.
async fn keys(iq: &Iq, password: String) -> Result<Vec<StoredKeys>, StanzaError> {
    let keys = iq.derive_keys(password).await;
    match keys.is_empty() {
        true => Err(StanzaError::internal_server_error()),
        false => Ok(keys),
    }
}

/// Who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Asker {
    /// Has not signed in, and may register.
    Guest,
    /// An account of this domain, over a session of its own.
    Owner(BareJid),
    /// Nobody for whom there is anything here.
    Stranger,
}

fn asker(iq: &Iq) -> Asker {
    match (&iq.from, &iq.asker) {
        (None, _) if iq.peer.is_some_and(|peer| iq.host.may_register(peer)) => Asker::Guest,
        (Some(from), Some(_)) if from.domain() == &*iq.host.domain => Asker::Owner(from.to_bare()),
        _ => Asker::Stranger,
    }
}

/// What a get is answered.
fn form(asker: &Asker) -> Result<Element, StanzaError> {
    let empty = |name| Element::new(ns::REGISTER, name);
    let query = empty("query");
    match asker {
        Asker::Guest => Ok(query
            .with_child(empty("instructions").with_text("Choose a username and a password."))
            .with_child(empty("username"))
            .with_child(empty("password"))),
        Asker::Owner(account) => {
            let username = account.as_jid().local().unwrap_or_default();
            Ok(query
                .with_child(empty("registered"))
                .with_child(empty("instructions").with_text("Choose a new password."))
                .with_child(empty("username").with_text(username))
                .with_child(empty("password")))
        }
        Asker::Stranger => Err(StanzaError::service_unavailable()),
    }
}

/// What a set asks for. Holds a password: has no `Debug`.
enum Submitted {
    /// A new account.
    Create(BareJid, String),
    /// A new password of the own account.
    Change(BareJid, String),
    /// The end of the own account.
    Remove(BareJid),
}

/// Reads what was submitted; section 3.1 to 3.3 name the errors.
fn submitted(asker: Asker, domain: &str, query: &Element) -> Result<Submitted, StanzaError> {
    if asker == Asker::Stranger {
        return Err(StanzaError::service_unavailable());
    }
    if query.child(ns::REGISTER, "remove").is_some() {
        return remove(asker, query);
    }
    let fields = fields(query)?;
    match asker {
        Asker::Owner(account) => change(account, domain, fields),
        Asker::Guest | Asker::Stranger => create(domain, fields),
    }
}

fn create(domain: &str, fields: Fields) -> Result<Submitted, StanzaError> {
    let not_acceptable = || StanzaError::not_acceptable();
    let (Some(username), Some(password)) = (fields.username, fields.password) else {
        return Err(not_acceptable());
    };
    let account = BareJid::account(&username, domain).map_err(|_| not_acceptable())?;
    Ok(Submitted::Create(account, password))
}

fn change(account: BareJid, domain: &str, fields: Fields) -> Result<Submitted, StanzaError> {
    let (Some(username), Some(password)) = (fields.username, fields.password) else {
        // Section 3.3: never an empty password.
        return Err(StanzaError::bad_request());
    };
    match BareJid::account(&username, domain) {
        Ok(named) if named == account => Ok(Submitted::Change(account, password)),
        // Somebody else's password, or a second account.
        _ => Err(StanzaError::not_allowed()),
    }
}

/// Section 3.2: the element stands alone.
fn remove(asker: Asker, query: &Element) -> Result<Submitted, StanzaError> {
    if query.children().count() > 1 {
        return Err(StanzaError::bad_request());
    }
    match asker {
        Asker::Owner(account) => Ok(Submitted::Remove(account)),
        Asker::Guest | Asker::Stranger => Err(StanzaError::unexpected_request()),
    }
}

/// The fields we know; an empty one is a missing one.
#[derive(Default)]
struct Fields {
    username: Option<String>,
    password: Option<String>,
}

/// Section 6: a data form goes before plain fields.
fn fields(query: &Element) -> Result<Fields, StanzaError> {
    match query.child(ns::DATA_FORMS, "x") {
        Some(form) => form_fields(form),
        None => {
            let text = |name| query.child(ns::REGISTER, name).map(Element::text);
            Ok(Fields {
                username: filled(text("username")),
                password: filled(text("password")),
            })
        }
    }
}

fn form_fields(form: &Element) -> Result<Fields, StanzaError> {
    let value = |var: &str| {
        let field = form
            .children()
            .find(|child| child.is(ns::DATA_FORMS, "field") && child.attr("var") == Some(var));
        field
            .and_then(|field| field.child(ns::DATA_FORMS, "value"))
            .map(Element::text)
    };
    let is_ours = value("FORM_TYPE").is_some_and(|form_type| form_type == ns::REGISTER);
    if form.attr("type") != Some("submit") || !is_ours {
        return Err(StanzaError::not_acceptable());
    }
    Ok(Fields {
        username: filled(value("username")),
        password: filled(value("password")),
    })
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::{Registry, element, host, refused};

    const DOMAIN: &str = "localhost";

    fn query(content: &str) -> Element {
        element(&format!(
            "<query xmlns='jabber:iq:register'>{content}</query>"
        ))
    }

    fn alice() -> Asker {
        Asker::Owner(BareJid::parse("alice@localhost").unwrap())
    }

    fn submit(asker: Asker, content: &str) -> Result<String, StanzaError> {
        Ok(match submitted(asker, DOMAIN, &query(content))? {
            Submitted::Create(account, password) => {
                format!("create {} {password}", account.as_str())
            }
            Submitted::Change(account, password) => {
                format!("change {} {password}", account.as_str())
            }
            Submitted::Remove(account) => format!("remove {}", account.as_str()),
        })
    }

    fn plain(username: &str, password: &str) -> String {
        format!("<username>{username}</username><password>{password}</password>")
    }

    fn data_form(ty: &str, form_type: &str, username: &str, password: &str) -> String {
        let field =
            |var: &str, value: &str| format!("<field var='{var}'><value>{value}</value></field>");
        format!(
            "<x xmlns='jabber:x:data' type='{ty}'>{}{}{}</x>",
            field("FORM_TYPE", form_type),
            field("username", username),
            field("password", password),
        )
    }

    #[test]
    fn im_ib_01_guest_gets_plain_fields() {
        let form = form(&Asker::Guest).unwrap();
        let names: Vec<&str> = form.children().map(Element::name).collect();
        assert_eq!(names, ["instructions", "username", "password"]);
        assert_eq!(form.child(ns::REGISTER, "username").unwrap().text(), "");
    }

    #[test]
    fn im_ib_01_who_is_registered_is_told_so() {
        let form = form(&alice()).unwrap();
        assert!(form.child(ns::REGISTER, "registered").is_some());
        assert_eq!(
            form.child(ns::REGISTER, "username").unwrap().text(),
            "alice"
        );
        assert_eq!(form.child(ns::REGISTER, "password").unwrap().text(), "");
    }

    #[test]
    fn im_ib_01_disabled_is_service_unavailable() {
        let contents = [
            String::new(),
            plain("bob", "secret"),
            "<remove/>".to_owned(),
        ];
        for content in contents {
            assert_eq!(
                submit(Asker::Stranger, &content),
                Err(StanzaError::service_unavailable())
            );
        }
        assert_eq!(
            form(&Asker::Stranger),
            Err(StanzaError::service_unavailable())
        );
    }

    #[test]
    fn im_ib_01_account_is_named_by_prepared_username() {
        let check = |content: &str, expected: &str| {
            assert_eq!(submit(Asker::Guest, content).as_deref(), Ok(expected));
        };
        check(&plain("bob", "secret"), "create bob@localhost secret");
        check(&plain("Bob", " s p "), "create bob@localhost  s p ");
    }

    #[test]
    fn im_ib_01_data_form_is_accepted_and_goes_first() {
        let form = data_form("submit", "jabber:iq:register", "bob", "secret");
        let both = format!("{}{form}", plain("eve", "other"));
        for content in [form, both] {
            assert_eq!(
                submit(Asker::Guest, &content).as_deref(),
                Ok("create bob@localhost secret")
            );
        }
    }

    #[test]
    fn im_ib_01_missing_or_invalid_is_not_acceptable() {
        let contents = [
            String::new(),
            "<username>bob</username>".to_owned(),
            "<password>secret</password>".to_owned(),
            plain("", "secret"),
            plain("bob", ""),
            plain("b@b", "secret"),
            plain("b b", "secret"),
            plain("b/b", "secret"),
            plain(&"b".repeat(1024), "secret"),
            data_form("submit", "jabber:iq:register", "bob", ""),
            data_form("submit", "other", "bob", "secret"),
            data_form("cancel", "jabber:iq:register", "bob", "secret"),
            "<x xmlns='jabber:x:data' type='submit'/>".to_owned(),
            "<username xmlns='n'>bob</username><password xmlns='n'>secret</password>".to_owned(),
        ];
        for content in contents {
            let answer = submit(Asker::Guest, &content);
            refused(answer, ErrorType::Modify, StanzaCondition::NotAcceptable);
        }
    }

    #[test]
    fn im_ib_02_feature_is_shown_where_registration_is_possible() {
        let registry = Registry::of(&Feature);
        let check = |registration, expected: &[&str]| {
            assert_eq!(
                registry.announced.features_of(&host(registration)),
                expected
            );
        };
        check(Registration::Closed, &[]);
        check(Registration::Loopback, &[ns::REGISTER]);
        check(Registration::Open, &[ns::REGISTER]);
    }

    #[test]
    fn im_ib_01_guests_are_let_through() {
        let registry = Registry::of(&Feature);
        assert_eq!(registry.announced.guest_ns, [ns::REGISTER]);
        registry.check(IqKind::Get, ns::REGISTER, "query", "host own guest");
        registry.check(IqKind::Set, ns::REGISTER, "query", "host own guest");
    }

    #[test]
    fn im_ib_04_password_of_the_own_account_changes() {
        for username in ["alice", "Alice"] {
            assert_eq!(
                submit(alice(), &plain(username, "new")).as_deref(),
                Ok("change alice@localhost new")
            );
        }
    }

    #[test]
    fn im_ib_04_password_of_nobody_else_and_never_to_an_empty_one() {
        let answer = submit(alice(), &plain("bob", "new"));
        refused(answer, ErrorType::Cancel, StanzaCondition::NotAllowed);
        for content in [plain("alice", ""), "<password>new</password>".to_owned()] {
            let answer = submit(alice(), &content);
            refused(answer, ErrorType::Modify, StanzaCondition::BadRequest);
        }
    }

    #[test]
    fn im_ib_05_removal_is_of_the_own_account_and_stands_alone() {
        let answer = submit(alice(), "<remove/>");
        assert_eq!(answer.as_deref(), Ok("remove alice@localhost"));
        let answer = submit(alice(), "<remove/><username>alice</username>");
        refused(answer, ErrorType::Modify, StanzaCondition::BadRequest);
        let answer = submit(Asker::Guest, "<remove/>");
        refused(answer, ErrorType::Wait, StanzaCondition::UnexpectedRequest);
    }
}
