//! Sign-in by certificate on the accepting side: SASL EXTERNAL for clients (XEP-0178 section 2, RFC 6120
//! section 13.7.2.2). Whether a certificate is good, and whether there is such an account, is the
//! caller's to say.

use super::login::Next;
use super::{HostView, Login, Responder, Stage, is_same_account};
use crate::error::SaslCondition;
use crate::features::external;
use crate::features::sasl::{Mechanism, Refusal};
use crate::jid::{BareJid, Jid};
use crate::stream::Output;
use std::time::Instant;

/// What the certificate of a client is worth to a domain.
#[derive(Clone, Debug, Default)]
pub struct ClientCertificate {
    /// Accounts of the domain that it names, each once; none where it is not good.
    pub accounts: Vec<BareJid>,
    /// Until when it is good: then the stream ends.
    pub good_until: Option<Instant>,
}

impl ClientCertificate {
    pub(super) fn is_usable(&self) -> bool {
        !self.accounts.is_empty()
    }

    /// Whom it stands for: who is named, else the only one, else who the header said (RFC 6120 section
    /// 13.7.2.2.1).
    fn account(&self, authzid: Option<&str>, from: Option<&Jid>) -> Result<&BareJid, Refusal> {
        let is = |jid: &Jid| {
            let mut all = self.accounts.iter();
            all.find(|account| is_same_account(jid, account))
        };
        let refusal = |reason| Refusal::form(SaslCondition::InvalidAuthzid, reason);
        match (authzid, &*self.accounts) {
            (Some(authzid), _) => {
                let jid = Jid::parse(authzid).ok().filter(Jid::is_bare);
                let named = jid.as_ref().and_then(is);
                named.ok_or_else(|| refusal("authzid that is not in the certificate"))
            }
            (None, [only]) => Ok(only),
            (None, _) => {
                let named = from.and_then(is);
                named.ok_or_else(|| refusal("no authzid, and several addresses in the certificate"))
            }
        }
    }
}

impl Responder {
    /// What the client has shown is worth to a domain: asked once, behind its first header under TLS,
    /// as no session needs to carry certificates about.
    pub(super) fn certificate(&mut self, host: &HostView) -> Option<ClientCertificate> {
        let chain = std::mem::take(&mut self.tls.as_mut()?.peer);
        match chain.is_empty() {
            true => None,
            false => self.config.hosts.certificate(&host.domain, &chain),
        }
    }

    /// The whole of EXTERNAL: one message, then the caller's word on the account.
    pub(super) fn ask_account(
        &mut self,
        stage: &Stage,
        data: &[u8],
    ) -> Result<Next, (Option<Login>, Refusal)> {
        let authzid = external::parse(data).map_err(|refusal| (None, refusal))?;
        // It was offered, so there is one.
        let shown = stage.certificate.as_ref();
        let shown = shown.ok_or((None, Refusal::no_certificate()))?;
        let account = shown.account(authzid, stage.from.as_ref());
        let account = account.map_err(|refusal| (None, refusal))?;
        let login = Login {
            mechanism: Mechanism::External,
            account: account.clone(),
            is_name: true,
            binding: None,
            good_until: shown.good_until,
        };
        let (login, account) = self.check_names(stage, login, None)?;
        self.wire.tell(Output::CheckAccount { account });
        Ok(Next::Verdict(login))
    }
}
