//! PLAIN (RFC 4616), both roles.
//!
//! Parsed here and not through a SASL library: the message is three strings between NULs, and the
//! guard that a library's parser would need in front of it is the parser.

use super::sasl::Refusal;
use crate::stream::Password;

/// `[authzid] NUL authcid NUL password`.
pub(crate) struct Plain {
    pub(crate) authzid: Option<String>,
    pub(crate) authcid: String,
    pub(crate) password: Password,
}

impl Plain {
    /// Parses strictly: UTF-8, exactly two NULs, neither name nor password empty.
    pub(crate) fn parse(raw: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(raw).map_err(|_| Refusal::malformed("not UTF-8"))?;
        let mut parts = text.split('\0');
        let message = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(authzid), Some(authcid), Some(password), None) = message else {
            return Err(Refusal::malformed("not two NULs"));
        };
        if authcid.is_empty() || password.is_empty() {
            return Err(Refusal::malformed("empty name or password"));
        }
        Ok(Self {
            authzid: Some(authzid)
                .filter(|authzid| !authzid.is_empty())
                .map(str::to_owned),
            authcid: authcid.to_owned(),
            password: Password(password.to_owned()),
        })
    }

    /// The message of a client that acts for itself.
    pub(crate) fn message(authcid: &str, password: &str) -> String {
        format!("\0{authcid}\0{password}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &[u8], expected: Option<(Option<&str>, &str, &str)>) {
        let parsed = Plain::parse(raw).ok();
        let parsed = parsed.as_ref().map(|plain| {
            (
                plain.authzid.as_deref(),
                plain.authcid.as_str(),
                &*plain.password.0,
            )
        });
        assert_eq!(parsed, expected, "{:?}", String::from_utf8_lossy(raw));
    }

    #[test]
    fn ats_4_2_plain_takes_exactly_three_strings() {
        check(
            b"\0tim\0tanstaaftanstaaf",
            Some((None, "tim", "tanstaaftanstaaf")),
        );
        check(
            b"Ursel\0Kurt\0xipj3plmq",
            Some((Some("Ursel"), "Kurt", "xipj3plmq")),
        );
        check(
            "\0t\u{e4}m\0p\u{e4}ss".as_bytes(),
            Some((None, "t\u{e4}m", "p\u{e4}ss")),
        );
        for raw in [
            &b""[..],
            b"\0",
            b"tim\0pass",
            b"\0tim",
            b"\0tim\0",
            b"\0\0pass",
        ] {
            check(raw, None);
        }
        for raw in [
            &b"\0tim\0pass\0"[..],
            b"\0\0tim\0pass",
            b"\0tim\0p\xff",
            b"\xc0\x80\0a\0b",
        ] {
            check(raw, None);
        }
    }

    #[test]
    fn ats_4_2_plain_takes_255_octets_of_each() {
        let long = "x".repeat(255);
        let raw = format!("{long}\0{long}\0{long}");
        check(raw.as_bytes(), Some((Some(&long), &long, &long)));
    }

    #[test]
    fn the_message_of_a_client_is_read_back() {
        check(
            Plain::message("tim", "p,=").as_bytes(),
            Some((None, "tim", "p,=")),
        );
    }
}
