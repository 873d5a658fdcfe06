//! Licence expressions: is what a package says acceptable, given the licences we accept?
//!
//! SPDX with OR, AND, WITH and parentheses, and the older `/` that means OR.

/// True when the expression can be met with accepted licences alone. AND binds tighter than OR.
pub(crate) fn is_met(expression: &str, accepted: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let met = any(&mut rest, accepted);
    met && rest.is_empty()
}

fn any(rest: &mut &[&str], accepted: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(rest, accepted);
    while take(rest, "OR") {
        met |= all(rest, accepted);
    }
    met
}

fn all(rest: &mut &[&str], accepted: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(rest, accepted);
    while take(rest, "AND") {
        met &= one(rest, accepted);
    }
    met
}

fn one(rest: &mut &[&str], accepted: &dyn Fn(&str) -> bool) -> bool {
    if take(rest, "(") {
        let met = any(rest, accepted);
        return take(rest, ")") && met;
    }
    let Some((name, tail)) = rest.split_first() else {
        return false;
    };
    *rest = tail;
    if take(rest, "WITH") {
        let Some((exception, tail)) = rest.split_first() else {
            return false;
        };
        *rest = tail;
        return accepted(&format!("{name} WITH {exception}"));
    }
    accepted(name)
}

fn take(rest: &mut &[&str], token: &str) -> bool {
    match rest.split_first() {
        Some((first, tail)) if *first == token => {
            *rest = tail;
            true
        }
        _ => false,
    }
}

#[test]
fn licence_expressions() {
    #[track_caller]
    fn check(expression: &str, expected: bool) {
        let accepted = |name: &str| ["MIT", "ISC", "A WITH x"].contains(&name);
        assert_eq!(is_met(expression, &accepted), expected, "{expression}");
    }
    check("MIT", true);
    check("GPL-3.0", false);
    check("GPL-3.0 OR MIT", true);
    check("GPL-3.0/MIT", true);
    check("GPL-3.0 AND MIT", false);
    check("MIT AND (GPL-3.0 OR ISC)", true);
    check("MIT OR GPL-3.0 AND GPL-2.0", true);
    check("(MIT OR GPL-3.0) AND GPL-2.0", false);
    check("A WITH x", true);
    check("A WITH y", false);
    check("A", false);
    check("", false);
    check("MIT ISC", false);
    check("(MIT", false);
}
