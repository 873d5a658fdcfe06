//! SASL on the accepting side (RFC 6120 section 6): from `<auth/>` to `<success/>` or `<failure/>`.

use super::{Asked, Credentials, Exchange, Login, Responder, Stage, State, TlsRule};
use super::{is_same_account, not_authorized};
use crate::error::{SaslCondition, StreamCondition, StreamError};
use crate::features::plain::Plain;
use crate::features::sasl::{self, Mechanism, Refusal};
use crate::features::scram;
use crate::jid::{BareJid, Jid};
use crate::ns;
use crate::stream::{Note, Output, ScramHash};
use crate::xml::Element;

/// What a first message leads to.
pub(super) enum Next {
    Verdict(Login),
    Credentials(Box<Asked>),
}

impl Responder {
    pub(super) fn auth(
        &mut self,
        mut stage: Box<Stage>,
        element: &Element,
    ) -> Result<State, StreamError> {
        let name = element.attr("mechanism").unwrap_or_default();
        stage.tried = Mechanism::of(name);
        let Some(mechanism) = Mechanism::of(name) else {
            let refusal = Refusal::form(SaslCondition::InvalidMechanism, "unknown mechanism");
            return self.refuse(stage, None, refusal);
        };
        let is_scram = matches!(mechanism, Mechanism::Scram { .. });
        let needs_tls = !is_scram || self.config.tls == TlsRule::Required;
        let refusal = if self.tls.is_none() && needs_tls {
            Some(Refusal::form(
                SaslCondition::EncryptionRequired,
                "no TLS yet",
            ))
        } else if !stage.offer.mechanisms.contains(&mechanism) {
            let is_external = mechanism == Mechanism::External;
            Some(match stage.certificate.is_some() && is_external {
                true => Refusal::no_certificate(),
                false => Refusal::form(SaslCondition::InvalidMechanism, "mechanism not offered"),
            })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.refuse(stage, None, refusal);
        }
        match sasl::decode(&element.text()) {
            Ok(Some(data)) => self.initial(stage, mechanism, &data),
            Ok(None) => {
                // Row sa-11: the slower form, an empty challenge first.
                sasl::write_step(&mut self.wire.out, "challenge", b"");
                Ok(State::AwaitResponse(
                    stage,
                    Box::new(Exchange::Initial(mechanism)),
                ))
            }
            Err(refusal) => self.refuse(stage, None, refusal),
        }
    }

    pub(super) fn response(
        &mut self,
        stage: Box<Stage>,
        exchange: Exchange,
        element: &Element,
    ) -> Result<State, StreamError> {
        match (element.ns(), element.name()) {
            (ns::SASL, "response") => {}
            (ns::SASL, "abort") => {
                let refusal = Refusal::form(SaslCondition::Aborted, "aborted by the client");
                return self.refuse(stage, None, refusal);
            }
            // Row sa-08: a second attempt drops the first; it counts, since it costs a look-up.
            (ns::SASL, "auth") => {
                self.count(false)?;
                return self.auth(stage, element);
            }
            _ => return Err(not_authorized()),
        }
        let data = match sasl::decode(&element.text()) {
            Ok(data) => data.unwrap_or_default(),
            Err(refusal) => return self.refuse(stage, None, refusal),
        };
        match exchange {
            Exchange::Initial(mechanism) => self.initial(stage, mechanism, &data),
            Exchange::Final(login, server) => match server.finish(&data) {
                Ok(signature) => Ok(self.signed_in(login, signature.as_bytes())),
                Err(refusal) => self.refuse(stage, Some(login), refusal),
            },
        }
    }

    /// The client's first data.
    fn initial(
        &mut self,
        stage: Box<Stage>,
        mechanism: Mechanism,
        data: &[u8],
    ) -> Result<State, StreamError> {
        let asked = match mechanism {
            Mechanism::External => self.ask_account(&stage, data),
            Mechanism::Plain => self.ask_password(&stage, data),
            Mechanism::Scram { hash, plus } => self.ask_keys(&stage, mechanism, hash, plus, data),
        };
        match asked {
            Ok(Next::Verdict(login)) => Ok(State::AwaitVerdict(stage, login)),
            Ok(Next::Credentials(asked)) => Ok(State::AwaitCredentials(stage, asked)),
            Err((login, refusal)) => self.refuse(stage, login, refusal),
        }
    }

    fn ask_password(
        &mut self,
        stage: &Stage,
        data: &[u8],
    ) -> Result<Next, (Option<Login>, Refusal)> {
        let plain = Plain::parse(data).map_err(|refusal| (None, refusal))?;
        let login = self.login(stage, Mechanism::Plain, &plain.authcid, None)?;
        let (login, account) = self.check_names(stage, login, plain.authzid.as_deref())?;
        self.wire.tell(Output::CheckPassword {
            account,
            password: plain.password,
        });
        Ok(Next::Verdict(login))
    }

    fn ask_keys(
        &mut self,
        stage: &Stage,
        mechanism: Mechanism,
        hash: ScramHash,
        plus: bool,
        data: &[u8],
    ) -> Result<Next, (Option<Login>, Refusal)> {
        let first = scram::ClientFirst::parse(data, plus, &stage.offer)
            .map_err(|refusal| (None, refusal))?;
        let login = self.login(stage, mechanism, &first.username, first.binding)?;
        let (login, account) = self.check_names(stage, login, first.authzid.as_deref())?;
        self.wire.tell(Output::NeedCredentials { account, hash });
        Ok(Next::Credentials(Box::new(Asked { login, hash, first })))
    }

    fn login(
        &self,
        stage: &Stage,
        mechanism: Mechanism,
        authcid: &str,
        binding: Option<&'static str>,
    ) -> Result<Login, (Option<Login>, Refusal)> {
        let domain = &stage.host.domain;
        let login = |account, is_name| Login {
            mechanism,
            account,
            is_name,
            binding,
            good_until: None,
        };
        if let Ok(account) = BareJid::account(authcid, domain) {
            return Ok(login(account, true));
        }
        // A name that no account can have behaves as an unknown one: the caller makes a fake for
        // a stand-in, the same for each try.
        let digest = ring::digest::digest(&ring::digest::SHA256, authcid.as_bytes());
        let stand_in: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        match BareJid::account(&stand_in, domain) {
            Ok(account) => Ok(login(account, false)),
            Err(_) => Err((None, Refusal::unavailable("domain"))),
        }
    }

    /// The authorization identity, and the `from` of a protected header, have to be the account's.
    pub(super) fn check_names(
        &self,
        stage: &Stage,
        login: Login,
        authzid: Option<&str>,
    ) -> Result<(Login, BareJid), (Option<Login>, Refusal)> {
        let account = login.account.clone();
        if let Some(authzid) = authzid {
            let jid = Jid::parse(authzid).ok().filter(Jid::is_bare);
            if !jid.is_some_and(|jid| is_same_account(&jid, &account)) {
                let refusal = Refusal::form(SaslCondition::InvalidAuthzid, "authzid of another");
                return Err((Some(login), refusal));
            }
        }
        let from = stage.from.as_ref().filter(|_| self.tls.is_some());
        if from.is_some_and(|from| !is_same_account(from, &account)) {
            // RFC 6120 section 6.4.6, row sasl-correlate.
            let refusal = Refusal::form(SaslCondition::NotAuthorized, "not who the header said");
            return Err((Some(login), refusal));
        }
        Ok((login, account))
    }

    /// The server's first message, once the keys are there.
    pub(super) fn challenge(
        &mut self,
        stage: Box<Stage>,
        asked: Asked,
        credentials: Credentials,
    ) -> Result<State, StreamError> {
        let Asked { login, hash, first } = asked;
        let credentials = match credentials {
            Credentials::Keys(keys) | Credentials::Disabled(keys) if !login.is_name => {
                Credentials::Fake {
                    salt: keys.salt.clone(),
                    iterations: keys.iterations,
                }
            }
            other => other,
        };
        let nonce = self.wire.token();
        let announced = stage.offer.announcement_hash(hash);
        let is_told = self.config.downgrade_protection;
        let tls = scram::tls_version(self.tls.as_ref()).filter(|_| is_told);
        let announced = is_told.then_some(announced.as_str());
        match scram::Server::begin(&first, hash, credentials, &nonce, announced, tls) {
            Ok((server, message)) => {
                sasl::write_step(&mut self.wire.out, "challenge", message.as_bytes());
                let exchange = Box::new(Exchange::Final(login, server));
                Ok(State::AwaitResponse(stage, exchange))
            }
            Err(refusal) => self.refuse(stage, Some(login), refusal),
        }
    }

    /// `<success/>`, and a new stream (RFC 6120 section 6.4.6).
    pub(super) fn signed_in(&mut self, login: Login, data: &[u8]) -> State {
        sasl::write_step(&mut self.wire.out, "success", data);
        self.wire.tell(Output::Note(Note::LoggedIn {
            mechanism: login.mechanism.name(),
            account: login.account.clone(),
            channel_binding: login.binding,
        }));
        self.account = Some(login.account);
        self.wire.restart(self.config.limits.after_auth);
        State::AwaitHeader
    }

    /// `<failure/>`; the client may try again until it has tried too often (row sa-10).
    pub(super) fn refuse(
        &mut self,
        stage: Box<Stage>,
        login: Option<Login>,
        refusal: Refusal,
    ) -> Result<State, StreamError> {
        sasl::write_failure(&mut self.wire.out, refusal.condition);
        let mechanism = stage.tried.map_or("unknown", Mechanism::name);
        self.wire.tell(Output::Note(Note::LoginFailed {
            mechanism: mechanism.into(),
            account: login
                .filter(|login| login.is_name)
                .map(|login| login.account),
            condition: refusal.condition,
            reason: refusal.reason,
        }));
        self.count(refusal.wrong_password)?;
        Ok(State::AwaitFeature(stage))
    }

    fn count(&mut self, wrong_password: bool) -> Result<(), StreamError> {
        let limits = &self.config.limits;
        let (count, max) = match wrong_password {
            true => (&mut self.tries.passwords, limits.login_failures_max),
            false => (&mut self.tries.refusals, limits.login_refusals_max),
        };
        *count += 1;
        if *count < max {
            return Ok(());
        }
        Err(StreamError::new(StreamCondition::PolicyViolation).with_text("too many login attempts"))
    }
}
