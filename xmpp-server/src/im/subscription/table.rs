//! Subscription states and their transitions: RFC 6121 appendix A as pure tables.
//!
//! The point of view is the account's; "contact" is the other side. An approval in advance (section
//! 3.4) stands beside the state, and only where the contact neither sees the account nor asks to.

use crate::store::{RosterRow, Subscription};
use xmpp_stream::stanza::Ty;

/// The nine states of appendix A.1.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// Neither sees the other; also a contact that is not in the roster.
    None,
    /// None, and the account asked.
    NoneOut,
    /// None, and the contact asked.
    NoneIn,
    /// None, and both asked.
    NoneOutIn,
    /// The account sees the contact.
    To,
    /// To, and the contact asked.
    ToIn,
    /// The contact sees the account.
    From,
    /// From, and the account asked.
    FromOut,
    /// Each sees the other.
    Both,
}

/// The four presence types that manage subscriptions.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verb {
    /// Asks to see the other's presence.
    Subscribe,
    /// Gives that up.
    Unsubscribe,
    /// Grants it.
    Subscribed,
    /// Denies or takes it back.
    Unsubscribed,
}

/// What an outbound stanza does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outbound {
    /// It goes to the contact.
    pub route: bool,
    /// The state afterwards.
    pub next: State,
    /// A request is then approved in advance.
    pub approved: bool,
}

/// What an inbound stanza does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Inbound {
    /// It goes to the account's resources.
    pub deliver: bool,
    /// Answered on behalf of the account.
    pub reply: Option<Verb>,
    /// The state afterwards.
    pub next: State,
    /// A request is then approved in advance.
    pub approved: bool,
}

impl Verb {
    /// The verb of a presence type; `None`: it has nothing to do with subscriptions.
    #[must_use]
    pub fn of(ty: &Ty) -> Option<Self> {
        match ty {
            Ty::Subscribe => Some(Self::Subscribe),
            Ty::Unsubscribe => Some(Self::Unsubscribe),
            Ty::Subscribed => Some(Self::Subscribed),
            Ty::Unsubscribed => Some(Self::Unsubscribed),
            _ => None,
        }
    }

    /// The presence type.
    #[must_use]
    pub fn ty(self) -> Ty {
        match self {
            Self::Subscribe => Ty::Subscribe,
            Self::Unsubscribe => Ty::Unsubscribe,
            Self::Subscribed => Ty::Subscribed,
            Self::Unsubscribed => Ty::Unsubscribed,
        }
    }
}

impl State {
    /// The state that a row describes; without a row it is `None`.
    #[must_use]
    pub fn of(row: Option<&RosterRow>) -> Self {
        let Some(row) = row else { return Self::None };
        // A granted subscription leaves nothing to ask for: flags that contradict it do not count.
        match (row.subscription, row.ask, row.pending_in.is_some()) {
            (Subscription::None, false, false) => Self::None,
            (Subscription::None, true, false) => Self::NoneOut,
            (Subscription::None, false, true) => Self::NoneIn,
            (Subscription::None, true, true) => Self::NoneOutIn,
            (Subscription::To, _, false) => Self::To,
            (Subscription::To, _, true) => Self::ToIn,
            (Subscription::From, false, _) => Self::From,
            (Subscription::From, true, _) => Self::FromOut,
            (Subscription::Both, _, _) => Self::Both,
        }
    }

    /// The `subscription` attribute (appendix A.1).
    #[must_use]
    pub fn subscription(self) -> Subscription {
        match self {
            Self::None | Self::NoneOut | Self::NoneIn | Self::NoneOutIn => Subscription::None,
            Self::To | Self::ToIn => Subscription::To,
            Self::From | Self::FromOut => Subscription::From,
            Self::Both => Subscription::Both,
        }
    }

    /// The account asked and waits ("Pending Out").
    #[must_use]
    pub fn asks(self) -> bool {
        matches!(self, Self::NoneOut | Self::NoneOutIn | Self::FromOut)
    }

    /// The contact asked and waits ("Pending In").
    #[must_use]
    pub fn is_asked(self) -> bool {
        matches!(self, Self::NoneIn | Self::NoneOutIn | Self::ToIn)
    }

    /// The contact sees the account's presence.
    #[must_use]
    pub fn shows_us(self) -> bool {
        matches!(self, Self::From | Self::FromOut | Self::Both)
    }

    /// The account sees the contact's presence.
    #[must_use]
    pub fn shows_them(self) -> bool {
        matches!(self, Self::To | Self::ToIn | Self::Both)
    }

    /// An approval may be given in advance (section 3.4.2).
    #[must_use]
    pub fn can_pre_approve(self) -> bool {
        matches!(self, Self::None | Self::NoneOut | Self::To)
    }

    /// The account sends (appendix A.2). "SHOULD NOT route" is taken as a rule.
    #[must_use]
    pub fn outbound(self, verb: Verb, approved: bool) -> Outbound {
        let next = match (verb, self) {
            (Verb::Subscribe, Self::None) => Self::NoneOut,
            (Verb::Subscribe, Self::NoneIn) => Self::NoneOutIn,
            (Verb::Subscribe, Self::From) => Self::FromOut,

            (Verb::Unsubscribe, Self::NoneOut | Self::To) => Self::None,
            (Verb::Unsubscribe, Self::NoneOutIn | Self::ToIn) => Self::NoneIn,
            (Verb::Unsubscribe, Self::FromOut | Self::Both) => Self::From,

            (Verb::Subscribed, asked) if asked.is_asked() => asked.granted(),

            (Verb::Unsubscribed, Self::NoneIn | Self::From) => Self::None,
            (Verb::Unsubscribed, Self::NoneOutIn | Self::FromOut) => Self::NoneOut,
            (Verb::Unsubscribed, Self::ToIn | Self::Both) => Self::To,

            (_, same) => same,
        };
        // Requests always go out: they repair what the other side may have lost. Answers go out
        // only when there was something to answer or to take back.
        let route = match verb {
            Verb::Subscribe | Verb::Unsubscribe => true,
            Verb::Subscribed | Verb::Unsubscribed => next != self,
        };
        let approved = match verb {
            Verb::Subscribed => self.can_pre_approve(),
            Verb::Unsubscribed => false,
            Verb::Subscribe | Verb::Unsubscribe => approved,
        };
        Outbound {
            route,
            next,
            approved,
        }
    }

    /// The contact sends (appendix A.3). "SHOULD NOT deliver" is taken as a rule.
    #[must_use]
    pub fn inbound(self, verb: Verb, approved: bool) -> Inbound {
        if verb == Verb::Subscribe && approved && self.can_pre_approve() {
            return Inbound {
                deliver: false,
                reply: Some(Verb::Subscribed),
                next: self.granted(),
                approved: false,
            };
        }
        let next = match (verb, self) {
            (Verb::Subscribe, Self::None) => Self::NoneIn,
            (Verb::Subscribe, Self::NoneOut) => Self::NoneOutIn,
            (Verb::Subscribe, Self::To) => Self::ToIn,

            (Verb::Unsubscribe, Self::NoneIn | Self::From) => Self::None,
            (Verb::Unsubscribe, Self::NoneOutIn | Self::FromOut) => Self::NoneOut,
            (Verb::Unsubscribe, Self::ToIn | Self::Both) => Self::To,

            (Verb::Subscribed, Self::NoneOut) => Self::To,
            (Verb::Subscribed, Self::NoneOutIn) => Self::ToIn,
            (Verb::Subscribed, Self::FromOut) => Self::Both,

            (Verb::Unsubscribed, Self::NoneOut | Self::To) => Self::None,
            (Verb::Unsubscribed, Self::NoneOutIn | Self::ToIn) => Self::NoneIn,
            (Verb::Unsubscribed, Self::FromOut | Self::Both) => Self::From,

            (_, same) => same,
        };
        let deliver = next != self;
        let reply = match verb {
            Verb::Subscribe if self.shows_us() => Some(Verb::Subscribed),
            Verb::Unsubscribe if deliver => Some(Verb::Unsubscribed),
            _ => None,
        };
        Inbound {
            deliver,
            reply,
            next,
            approved,
        }
    }

    /// The same with the contact's request granted.
    fn granted(self) -> Self {
        match self {
            Self::None | Self::NoneIn => Self::From,
            Self::NoneOut | Self::NoneOutIn => Self::FromOut,
            Self::To | Self::ToIn => Self::Both,
            same => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Inbound, Outbound, State, Verb};
    use crate::im::testkit::row;

    // The tables as the RFC has them: Y or D: goes on; n: does not; ar: answered for the account;
    // a last a: approved in advance then. Rows with a: the same with an approval in advance.
    const OUTBOUND: &str = "
        N     | Y N+PO  | Y =    | n = a  | n =
        N+PO  | Y =     | Y N    | n = a  | n =
        N+PI  | Y N+POI | Y =    | Y F    | Y N
        N+POI | Y =     | Y N+PI | Y F+PO | Y N+PO
        T     | Y =     | Y N    | n = a  | n =
        T+PI  | Y =     | Y N+PI | Y B    | Y T
        F     | Y F+PO  | Y =    | n =    | Y N
        F+PO  | Y =     | Y F    | n =    | Y N+PO
        B     | Y =     | Y F    | n =    | Y T
        N a    | Y N+PO a | Y = a | n = a | n =
        N+PO a | Y = a    | Y N a | n = a | n =
        T a    | Y = a    | Y N a | n = a | n =";
    const INBOUND: &str = "
        N     | D N+PI          | n =                     | n =    | n =
        N+PO  | D N+POI         | n =                     | D T    | D N
        N+PI  | n =             | D N ar(unsubscribed)    | n =    | n =
        N+POI | n =             | D N+PO ar(unsubscribed) | D T+PI | D N+PI
        T     | D T+PI          | n =                     | n =    | D N
        T+PI  | n =             | D T ar(unsubscribed)    | n =    | D N+PI
        F     | n = ar(subscribed) | D N ar(unsubscribed)    | n = | n =
        F+PO  | n = ar(subscribed) | D N+PO ar(unsubscribed) | D B | D F
        B     | n = ar(subscribed) | D T ar(unsubscribed)    | n = | D F
        N a    | n F ar(subscribed)    | n = a | n = a | n = a
        N+PO a | n F+PO ar(subscribed) | n = a | D T a | D N a
        T a    | n B ar(subscribed)    | n = a | n = a | D N a";
    const VERBS: [Verb; 4] = [
        Verb::Subscribe,
        Verb::Unsubscribe,
        Verb::Subscribed,
        Verb::Unsubscribed,
    ];

    fn state(text: &str) -> State {
        match text {
            "N" => State::None,
            "N+PO" => State::NoneOut,
            "N+PI" => State::NoneIn,
            "N+POI" => State::NoneOutIn,
            "T" => State::To,
            "T+PI" => State::ToIn,
            "F" => State::From,
            "F+PO" => State::FromOut,
            "B" => State::Both,
            other => panic!("no state {other}"),
        }
    }

    /// Calls `check(state, approved, verb, cell words)` for each of the 36 cells of a table, and for
    /// the 12 that differ where a request is approved in advance.
    fn cells(table: &str, mut check: impl FnMut(State, bool, Verb, &[&str])) {
        let mut count = 0;
        for line in table.lines().filter(|line| !line.trim().is_empty()) {
            let columns: Vec<_> = line.split('|').map(str::trim).collect();
            assert_eq!(columns.len(), 5, "{line}");
            for (verb, cell) in VERBS.into_iter().zip(&columns[1..]) {
                let words: Vec<_> = cell.split_whitespace().collect();
                let (name, approved) = match columns[0].strip_suffix(" a") {
                    Some(name) => (name.trim(), true),
                    None => (columns[0], false),
                };
                check(state(name), approved, verb, &words);
                count += 1;
            }
        }
        assert_eq!(count, 36 + 12);
    }

    fn next(from: State, word: &str) -> State {
        if word == "=" { from } else { state(word) }
    }

    #[test]
    fn c6121_table_a2_outbound() {
        cells(OUTBOUND, |from, approved, verb, words| {
            let expected = Outbound {
                route: words[0] == "Y",
                next: next(from, words[1]),
                approved: words.last() == Some(&"a"),
            };
            let what = format!("{from:?} {approved} {verb:?}");
            assert_eq!(from.outbound(verb, approved), expected, "{what}");
        });
    }

    #[test]
    fn c6121_table_a3_inbound() {
        cells(INBOUND, |from, approved, verb, words| {
            let expected = Inbound {
                deliver: words[0] == "D",
                next: next(from, words[1]),
                reply: words.get(2).and_then(|word| match *word {
                    "ar(subscribed)" => Some(Verb::Subscribed),
                    "ar(unsubscribed)" => Some(Verb::Unsubscribed),
                    "a" => None,
                    other => panic!("no reply {other}"),
                }),
                approved: words.last() == Some(&"a"),
            };
            let what = format!("{from:?} {approved} {verb:?}");
            assert_eq!(from.inbound(verb, approved), expected, "{what}");
        });
    }

    #[test]
    fn c6121_a1_states_are_kept_in_rows() {
        assert_eq!(State::of(None), State::None);
        let all = "N N+PO N+PI N+POI T T+PI F F+PO B";
        for text in all.split(' ') {
            assert_eq!(State::of(Some(&row("c@b.test", text))), state(text));
        }
    }
}
