//! How the calling side signs in (RFC 6120 section 6): by the strongest mechanism that both sides have,
//! and what it makes of the answers.

use super::offer::{Announced, Means};
use super::{End, Failure, Initiator, InitiatorConfig, State};
use crate::features::plain::Plain;
use crate::features::sasl::{self, Bindings, Mechanism};
use crate::features::scram::{self, Flag, ServerFault};
use crate::ns;
use crate::stream::{Note, Output};
use crate::xml::Element;

pub(super) struct Scram {
    client: scram::Client,
    /// The `h` of XEP-0474 over what we saw.
    announced: String,
}

impl Initiator {
    /// Chooses a mechanism and sends its first message.
    pub(super) fn login(&mut self, announced: Announced) -> Result<State, End> {
        let bindings = Bindings::of(self.tls.as_ref());
        let username = self.config.account.local().unwrap_or_default();
        let means = Means {
            certificate: self.tls.as_ref().is_some_and(|tls| tls.is_certified),
            password: self.config.password.is_some(),
            plain: self.tls.is_some() && self.config.plain,
            bindings: &bindings,
        };
        let choice = announced.choose(&means, self.config.least);
        let (mechanism, flag) = choice.map_err(End::Failed)?;
        let binding = match flag {
            Flag::Bound(name) => Some(name),
            Flag::Unable | Flag::NotOffered => None,
        };
        self.login = Some((mechanism, binding));
        match mechanism {
            Mechanism::External => {
                let authzid = authzid(&self.config);
                sasl::write_auth(&mut self.wire.out, mechanism, authzid.as_bytes());
                Ok(State::AwaitVerdict(Box::new(announced)))
            }
            Mechanism::Scram { hash, .. } => {
                let nonce = self.wire.token();
                let (client, first) = scram::Client::begin(hash, username, &nonce, flag, &bindings);
                sasl::write_auth(&mut self.wire.out, mechanism, first.as_bytes());
                let announced = announced.hash(hash);
                Ok(State::AwaitChallenge(Box::new(Scram { client, announced })))
            }
            Mechanism::Plain => {
                let message = Plain::message(username, self.password());
                sasl::write_auth(&mut self.wire.out, mechanism, message.as_bytes());
                Ok(State::AwaitSuccess(None))
            }
        }
    }

    fn password(&self) -> &str {
        let password = self.config.password.as_ref();
        password.map_or("", |password| &password.0)
    }

    /// Where the certificate is not enough the password may be.
    pub(super) fn external_verdict(
        &mut self,
        mut announced: Box<Announced>,
        element: &Element,
    ) -> Result<State, End> {
        if element.is(ns::SASL, "challenge") {
            // Row sa-11: a server that takes no initial response.
            let authzid = authzid(&self.config);
            sasl::write_step(&mut self.wire.out, "response", authzid.as_bytes());
            return Ok(State::AwaitVerdict(announced));
        }
        if element.is(ns::SASL, "failure") && self.config.password.is_some() {
            announced.forget(Mechanism::External);
            return self.login(*announced);
        }
        self.success(None, element)
    }

    pub(super) fn challenge(&mut self, scram: &Scram, element: &Element) -> Result<State, End> {
        let data = sasl_data(element, "challenge")?;
        let tls = scram::tls_version(self.tls.as_ref());
        let (last, response) = scram
            .client
            .respond(&data, self.password(), &scram.announced, tls)
            .map_err(|fault| self.distrust(fault))?;
        sasl::write_step(&mut self.wire.out, "response", response.as_bytes());
        Ok(State::AwaitSuccess(Some(Box::new(last))))
    }

    fn distrust(&mut self, fault: ServerFault) -> End {
        sasl::write_step(&mut self.wire.out, "abort", b"");
        End::Failed(match fault {
            ServerFault::Malformed => Failure::Unexpected,
            ServerFault::Nonce | ServerFault::Signature => Failure::ServerNotProven,
            ServerFault::Iterations => Failure::Iterations,
            ServerFault::Downgrade => Failure::Downgrade,
        })
    }

    pub(super) fn success(
        &mut self,
        last: Option<Box<scram::ClientFinal>>,
        element: &Element,
    ) -> Result<State, End> {
        // Row sa-11: the signature may come as a challenge, which is answered with nothing.
        if let Some(last) = &last
            && element.is(ns::SASL, "challenge")
        {
            let data = sasl_data(element, "challenge")?;
            last.verify(&data).map_err(|fault| self.distrust(fault))?;
            sasl::write_step(&mut self.wire.out, "response", b"");
            return Ok(State::AwaitSuccess(None));
        }
        let data = sasl_data(element, "success")?;
        if let Some(last) = last
            && last.verify(&data).is_err()
        {
            // Row sc-11: a success that proves nothing is none.
            return Err(End::Failed(Failure::ServerNotProven));
        }
        self.signed_in = true;
        if let Some((mechanism, channel_binding)) = self.login {
            self.wire.tell(Output::Note(Note::LoggedIn {
                mechanism: mechanism.name(),
                account: self.config.account.clone(),
                channel_binding,
            }));
        }
        self.wire.restart(self.config.limits.after_auth);
        self.open();
        Ok(State::AwaitHeader)
    }
}

/// Nothing, where the certificate says it all (XEP-0178 section 2).
fn authzid(config: &InitiatorConfig) -> &str {
    match config.name_account {
        true => config.account.as_str(),
        false => "",
    }
}

/// The data of the expected element, or what a `<failure/>` says.
fn sasl_data(element: &Element, name: &str) -> Result<Vec<u8>, End> {
    if element.is(ns::SASL, "failure") {
        let text = element
            .child(ns::SASL, "text")
            .map(|text| text.text().into());
        let condition = sasl::failure_condition(element);
        return Err(End::Failed(Failure::Login { condition, text }));
    }
    if !element.is(ns::SASL, name) {
        return Err(End::Failed(Failure::Unexpected));
    }
    match sasl::decode(&element.text()) {
        Ok(data) => Ok(data.unwrap_or_default()),
        Err(_) => Err(End::Failed(Failure::Unexpected)),
    }
}
