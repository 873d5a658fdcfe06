//! One question and its answer as bytes (RFC 1035 section 4, RFC 2782).
//!
//! What comes is hostile until shown otherwise: every read is bounded, names included.

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// An IPv4 address.
    A = 1,
    /// An IPv6 address.
    Aaaa = 28,
    /// A service.
    Srv = 33,
}

/// One record of an answer; others are left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Data {
    /// An address, whichever it is.
    Address,
    /// Where a service is; an empty target: nowhere.
    Srv { port: u16, target: String },
}

/// What a message says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// The server cannot or will not say.
    Failed,
    /// What it knows: nothing, when the name does not exist.
    Ours(Vec<Data>),
}

const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 253;
/// Labels and pointers of one name: 127 labels fit a name.
const NAME_STEPS_MAX: usize = 160;
const RECURSION_DESIRED: u8 = 1;
const IS_ANSWER: u8 = 0x80;
const INTERNET: u16 = 1;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

/// `None` when the name is none.
pub(super) fn question(id: [u8; 2], name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut bytes = vec![id[0], id[1], RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    for label in name.split('.') {
        let len = u8::try_from(label.len())
            .ok()
            .filter(|len| (1..64).contains(len))?;
        bytes.push(len);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend((kind as u16).to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    Some(bytes)
}

/// `None` for what does not answer this question, or cannot be read.
pub(super) fn answer(bytes: &[u8], question: &[u8]) -> Option<Answer> {
    let asked = question.get(HEADER_BYTES..)?;
    let same_id = bytes.get(..2)? == question.get(..2)?;
    let repeated = bytes.get(HEADER_BYTES..HEADER_BYTES + asked.len())?;
    if !same_id || bytes.get(2)? & IS_ANSWER == 0 || !repeated.eq_ignore_ascii_case(asked) {
        return None;
    }
    match bytes.get(3)? & 0x0f {
        NO_ERROR => {}
        NO_SUCH_NAME => return Some(Answer::Ours(Vec::new())),
        _ => return Some(Answer::Failed),
    }
    let mut at = HEADER_BYTES + asked.len();
    let mut found = Vec::new();
    for _ in 0..u16_at(bytes, 6)? {
        // A message that was cut short ends somewhere: what stood before is good.
        let Some((data, next)) = record(bytes, at) else {
            break;
        };
        found.extend(data);
        at = next;
    }
    Some(Answer::Ours(found))
}

/// One record, when it is of a kind that is asked for, and where the next one begins.
fn record(bytes: &[u8], at: usize) -> Option<(Option<Data>, usize)> {
    let (_, at) = name(bytes, at)?;
    let (kind, len) = (u16_at(bytes, at)?, u16_at(bytes, at + 8)?);
    let begin = at + 10;
    let end = begin + usize::from(len);
    bytes.get(begin..end)?;
    let data = match kind {
        kind if kind == Kind::A as u16 || kind == Kind::Aaaa as u16 => Some(Data::Address),
        kind if kind == Kind::Srv as u16 => {
            let (target, _) = name(bytes, begin + 6)?;
            let port = u16_at(bytes, begin + 4)?;
            Some(Data::Srv { port, target })
        }
        _ => None,
    };
    Some((data, end))
}

/// A name, and what stands behind it. Pointers are followed; they cannot lead in circles for long.
fn name(bytes: &[u8], from: usize) -> Option<(String, usize)> {
    let (mut text, mut at, mut behind) = (String::new(), from, None);
    for _ in 0..NAME_STEPS_MAX {
        let len = usize::from(*bytes.get(at)?);
        match len >> 6 {
            0 if len == 0 => return Some((text, behind.unwrap_or(at + 1))),
            0 => {
                let label = bytes.get(at + 1..at + 1 + len)?;
                let shown = label
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
                if !shown || text.len() + len > NAME_BYTES_MAX {
                    return None;
                }
                if !text.is_empty() {
                    text.push('.');
                }
                text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
                at += 1 + len;
            }
            3 => {
                behind = behind.or(Some(at + 2));
                at = usize::from(u16_at(bytes, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with these records, names by pointer to the question.
    fn message(question: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] |= IS_ANSWER;
        bytes[3] = code;
        bytes[7] = u8::try_from(records.len()).unwrap();
        for (kind, data) in records {
            bytes.extend([0xc0, 12]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 60]);
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    fn asked() -> Vec<u8> {
        question([1, 2], "_xmpp-client._tcp.a.example", Kind::Srv).unwrap()
    }

    #[test]
    fn answers_are_read() {
        let asked = asked();
        // 5, 0, port 5222, "im" and a pointer to "a.example".
        let a_example = u8::try_from(asked.len() - 4 - 11).unwrap();
        let srv = [0, 5, 0, 0, 0x14, 0x66, 2, b'I', b'm', 0xc0, a_example];
        let srv_data = Data::Srv {
            port: 5222,
            target: "im.a.example".into(),
        };
        let nowhere = Data::Srv {
            port: 0,
            target: String::new(),
        };
        let records: [(u16, &[u8]); 4] = [
            (33, &srv),
            (5, &[0]),
            (1, &[127, 0, 0, 1]),
            (33, &[0, 0, 0, 0, 0, 0, 0]),
        ];
        let got = answer(&message(&asked, 0, &records), &asked);
        let want = vec![srv_data, Data::Address, nowhere];
        assert_eq!(got, Some(Answer::Ours(want)));
        assert_eq!(
            answer(&message(&asked, 3, &[]), &asked),
            Some(Answer::Ours(vec![]))
        );
        assert_eq!(
            answer(&message(&asked, 2, &[]), &asked),
            Some(Answer::Failed)
        );
    }

    #[test]
    fn what_is_no_answer_is_passed_over() {
        let asked = asked();
        let good = message(&asked, 0, &[(1, &[127, 0, 0, 1])]);
        assert_eq!(answer(&asked, &asked), None, "a question");
        let mut other = good.clone();
        other[0] = 9;
        assert_eq!(answer(&other, &asked), None, "another id");
        let mut other = good.clone();
        other[14] = b'z';
        assert_eq!(answer(&other, &asked), None, "another name");
        for len in 0..good.len() {
            let cut = answer(&good[..len], &asked);
            assert!(matches!(cut, None | Some(Answer::Ours(_))), "{len}");
        }
    }

    #[test]
    fn names_do_not_lead_in_circles() {
        assert_eq!(name(&[0xc0, 0], 0), None);
        assert_eq!(name(&[1, b'a', 0xc0, 0], 0), None);
        assert_eq!(name(&[0x40, 0], 0), None);
        assert_eq!(
            name(&[1, b' ', 0], 0),
            None,
            "not to be shown at a terminal"
        );
        assert_eq!(name(&[1, b'a', 0], 0), Some(("a".into(), 3)));
        assert_eq!(question([0, 0], "a..b", Kind::A), None);
        assert_eq!(question([0, 0], &"a.".repeat(200), Kind::A), None);
    }
}
