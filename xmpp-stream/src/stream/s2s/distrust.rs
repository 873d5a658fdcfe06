//! Why a server's certificate is not good for its domain, in words that a sender can be told.

use std::fmt;

/// What is wrong with a certificate, or with there being none.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Distrust {
    /// Without TLS, or without a certificate.
    NoCertificate,
    /// Its time is over.
    Expired {
        /// Seconds since 1970.
        since: i64,
    },
    /// Its time has not come.
    NotYetValid {
        /// Seconds since 1970.
        until: i64,
    },
    /// It is good for other names.
    WrongName {
        /// The name that it should be good for.
        wanted: Box<str>,
        /// Those that it has.
        names: Vec<Box<str>>,
    },
    /// Nobody whom we trust has issued it.
    UnknownIssuer,
    /// It has signed itself.
    SelfSigned,
    /// Its issuer has taken it back.
    Revoked,
    /// It is an authority's own, which must not stand for a server (RFC 6120 section 13.7.1.1).
    Authority,
    /// It was issued for another purpose than TLS.
    WrongPurpose,
    /// It cannot be read, or a signature in the chain is wrong.
    Invalid,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no certificate was shown"),
            Self::Expired { since } => write!(f, "certificate expired on {}", Day(*since)),
            Self::NotYetValid { until } => {
                write!(f, "certificate is not valid before {}", Day(*until))
            }
            Self::WrongName { wanted, names } if names.is_empty() => {
                write!(f, "certificate is not for {wanted}, nor for any other name")
            }
            Self::WrongName { wanted, names } => {
                write!(
                    f,
                    "certificate is not for {wanted} but for {}",
                    names.join(", ")
                )
            }
            Self::UnknownIssuer => f.write_str("certificate is from an unknown issuer"),
            Self::SelfSigned => f.write_str("certificate is self-signed"),
            Self::Revoked => f.write_str("certificate was revoked"),
            Self::Authority => f.write_str("certificate is that of an authority"),
            Self::WrongPurpose => f.write_str("certificate was issued for another purpose"),
            Self::Invalid => f.write_str("certificate is not valid"),
        }
    }
}

impl std::error::Error for Distrust {}

/// A day of the calendar out of seconds since 1970.
struct Day(i64);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(86_400));
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Year, month and day of so many days after 1970-01-01, in the proleptic Gregorian calendar: years
/// begin in March, so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        #[track_caller]
        fn check(seconds: i64, expected: &str) {
            assert_eq!(Day(seconds).to_string(), expected);
        }
        check(0, "1970-01-01");
        check(-1, "1969-12-31");
        check(951_782_400, "2000-02-29");
        check(1_000_000_000, "2001-09-09");
        check(1_709_164_800, "2024-02-29");
        check(1_798_761_599, "2026-12-31");
        check(4_107_542_400, "2100-03-01");
        // Whatever a certificate says.
        let _ = Day(i64::MAX).to_string();
        let _ = Day(i64::MIN).to_string();
    }
}
