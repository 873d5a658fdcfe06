//! When something was sent that comes late (XEP-0203), and how dates are written (XEP-0082).
//!
//! Who is believed about a date is for the reader to decide (XEP-0203 section 5).

use crate::jid::Jid;
use crate::ns;
use crate::xml::Element;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `<delay/>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delay {
    /// Who held it back.
    pub from: Option<Jid>,
    /// When it was first sent, or when it came to whom `from` names.
    pub stamp: SystemTime,
    /// Why, in words.
    pub reason: Option<String>,
}

impl Delay {
    /// Held back by `from`, or by nobody in particular.
    #[must_use]
    pub fn new(from: Option<Jid>, stamp: SystemTime) -> Self {
        Self {
            from,
            stamp,
            reason: None,
        }
    }

    /// Reads the element; `None` without a date. A `from` that is no address is passed over.
    #[must_use]
    pub fn parse(element: &Element) -> Option<Self> {
        if !element.is(ns::DELAY, "delay") {
            return None;
        }
        let reason = element.text();
        Some(Self {
            from: element.attr("from").and_then(|from| Jid::parse(from).ok()),
            stamp: parse_stamp(element.attr("stamp")?)?,
            reason: (!reason.is_empty()).then_some(reason),
        })
    }

    /// Writes the element.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut element = Element::new(ns::DELAY, "delay");
        if let Some(from) = &self.from {
            element.set_attr("from", from.as_str());
        }
        element.set_attr("stamp", &stamp(self.stamp));
        element.push_text(self.reason.as_deref().unwrap_or_default());
        element
    }
}

const SECS_OF_DAY: i64 = 86_400;

/// `2026-11-21T14:05:00.123Z` (XEP-0082 section 3.2). A moment before 1970 or after the year 9999
/// is written as the beginning of 1970.
#[must_use]
pub fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let secs = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let (year, month, day) = date_of(secs / SECS_OF_DAY);
    if year > 9999 {
        return stamp(UNIX_EPOCH);
    }
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads a date with time and offset, also in the old form of XEP-0091; `None`: it is none.
#[must_use]
pub fn parse_stamp(text: &str) -> Option<SystemTime> {
    let mut rest = text.trim().as_bytes();
    let year = number(&mut rest, 4)?;
    let is_old = !skip(&mut rest, b'-');
    let month = number(&mut rest, 2)?;
    (is_old || skip(&mut rest, b'-')).then_some(())?;
    let day = number(&mut rest, 2)?;
    skip(&mut rest, b'T').then_some(())?;
    let hour = number(&mut rest, 2)?;
    skip(&mut rest, b':').then_some(())?;
    let minute = number(&mut rest, 2)?;
    skip(&mut rest, b':').then_some(())?;
    let second = number(&mut rest, 2)?;
    let nanos = fraction(&mut rest)?;
    let offset = match is_old && rest.is_empty() {
        true => 0,
        false => offset(&mut rest)?,
    };
    let is_date = (1..=12).contains(&month) && day >= 1 && day <= days_of(year, month);
    // 60: a leap second, which SystemTime counts with the next minute.
    let is_time = hour < 24 && minute < 60 && second <= 60;
    (rest.is_empty() && is_date && is_time).then_some(())?;
    let secs = days_since_1970(year, month, day) * SECS_OF_DAY + hour * 3600 + minute * 60 + second
        - offset;
    let whole = Duration::from_secs(secs.unsigned_abs());
    let at = match secs < 0 {
        true => UNIX_EPOCH.checked_sub(whole),
        false => UNIX_EPOCH.checked_add(whole),
    };
    at?.checked_add(Duration::from_nanos(nanos))
}

fn skip(rest: &mut &[u8], byte: u8) -> bool {
    match rest.split_first() {
        Some((first, after)) if *first == byte => {
            *rest = after;
            true
        }
        _ => false,
    }
}

/// So many digits.
fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (text, after) = rest.split_at_checked(digits)?;
    *rest = after;
    text.iter().try_fold(0, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        Some(sum * 10 + digit)
    })
}

/// Nanoseconds; digits beyond these are passed over.
fn fraction(rest: &mut &[u8]) -> Option<u64> {
    if !skip(rest, b'.') {
        return Some(0);
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (text, after) = rest.split_at_checked(digits)?;
    *rest = after;
    let padded = text.iter().copied().chain(std::iter::repeat(b'0'));
    let nanos = padded
        .take(9)
        .fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    (digits > 0).then_some(nanos)
}

/// `Z` or hours and minutes east of it, in seconds.
fn offset(rest: &mut &[u8]) -> Option<i64> {
    if skip(rest, b'Z') {
        return Some(0);
    }
    let sign = match (skip(rest, b'+'), skip(rest, b'-')) {
        (true, _) => 1,
        (_, true) => -1,
        _ => return None,
    };
    let hours = number(rest, 2)?;
    skip(rest, b':').then_some(())?;
    let minutes = number(rest, 2)?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Both count in years that begin in March, so that a leap day is the last of its year, and in eras of
// 400 years, all of which have 146,097 days.
const DAYS_OF_ERA: i64 = 146_097;
/// From the first of March of the year 0 to 1970.
const DAYS_TO_1970: i64 = 719_468;

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let march_month = (month + 9) % 12;
    let march_year = year - i64::from(month <= 2);
    let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_OF_ERA + day_of_era - DAYS_TO_1970
}

fn date_of(days_since_1970: i64) -> (i64, i64, i64) {
    let days = days_since_1970 + DAYS_TO_1970;
    let (era, day_of_era) = (days.div_euclid(DAYS_OF_ERA), days.rem_euclid(DAYS_OF_ERA));
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / (DAYS_OF_ERA - 1);
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<i128> {
        let at = parse_stamp(text)?;
        Some(match at.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i128,
            Err(before) => -(before.duration().as_millis() as i128),
        })
    }

    #[test]
    fn stamps_are_read_with_offsets_and_fractions() {
        #[track_caller]
        fn check(text: &str, expected: i128) {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        check("1970-01-01T00:00:00Z", 0);
        check("1969-07-20T21:56:15-05:00", -14_159_025_000);
        check("1969-07-21T02:56:15Z", -14_159_025_000);
        check("2000-02-29T00:00:00.007Z", 951_782_400_007);
        check("2026-11-21T14:05:00.123456789123Z", 1_795_269_900_123);
        check("2026-11-21T16:05:00+02:00", 1_795_269_900_000);
        check("20020910T23:08:25", 1_031_699_305_000);
        check("2016-12-31T23:59:60Z", 1_483_228_800_000);
        check(" 1970-01-01T00:00:00Z\n", 0);
        check("0001-01-01T00:00:00Z", -62_135_596_800_000);
        check("9999-12-31T23:59:59Z", 253_402_300_799_000);
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        for text in [
            "",
            "now",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-02-30T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00+25:00",
            "1970-01-01T00:00:00Zx",
            "1970-01-01T00:00:00 ",
            "-970-01-01T00:00:00Z",
            "1970-01-01T00:0\u{661}:00Z",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn stamps_are_written_in_utc_and_read_again() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(stamp(at(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(at(1_795_269_900_123)), "2026-11-21T14:05:00.123Z");
        assert_eq!(stamp(at(253_402_300_799_999)), "9999-12-31T23:59:59.999Z");
        for day in 0..60_000 {
            let at = at(day * 86_400_000 + 43_200_001);
            assert_eq!(parse_stamp(&stamp(at)), Some(at));
        }
        // What cannot be written is shown as the beginning, never as a panic.
        for far in [u64::MAX, 253_402_300_800_000] {
            assert_eq!(stamp(at(far)), "1970-01-01T00:00:00.000Z");
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(stamp(before), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn delays_are_read_and_written() {
        let xml = "<delay xmlns='urn:xmpp:delay' from='a.test' \
                   stamp='2026-11-21T14:05:00.000Z'>Offline</delay>";
        let element = Element::parse(xml.as_bytes(), "").unwrap();
        let delay = Delay::parse(&element).unwrap();
        assert_eq!(delay.from, Some(Jid::parse("a.test").unwrap()));
        assert_eq!(delay.reason.as_deref(), Some("Offline"));
        assert_eq!(delay.to_element(), element);
        let read = |xml: &str| Delay::parse(&Element::parse(xml.as_bytes(), "").unwrap());
        assert_eq!(read("<delay xmlns='urn:xmpp:delay'/>"), None);
        assert_eq!(read("<delay stamp='1970-01-01T00:00:00Z'/>"), None);
        let odd = "<delay xmlns='urn:xmpp:delay' from='@' stamp='1970-01-01T00:00:00Z'/>";
        assert_eq!(read(odd), Some(Delay::new(None, UNIX_EPOCH)));
    }
}
