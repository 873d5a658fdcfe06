//! What may be typed while domains are served.

use crate::lab::Variant;
use crate::script::parse::duration;
use std::time::Duration;

/// What `help` prints.
pub(super) const HELP: &str = "\
on a link (A and B are domains; `all` is every link):
  cut A B          end its connections as they stand; new ones are made
  sever A B        the same, and let nobody through until mend
  hold A B         nothing gets through and nobody is told, until release or mend
  release A B      what waited goes on
  delay A B TIME   every byte takes this long, e.g. 200ms
  mend A B         all is well again
on a domain:
  expire A         it shows an expired certificate from the next handshake on
  untrusted A      one of another authority
  misname A        one of another name
  renew A          a good one again
  kill A           its server ends as by kill -9
  start A          and comes back with what it had stored
  restart A        it ends in order and comes back
links              state of each link
help, quit";

/// A line that was understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Order {
    Certificate(String, Option<Variant>),
    Help,
    Kill(String),
    Link(Ends, Fault),
    Links,
    Quit,
    Restart(String),
    Start(String),
}

/// Which links; `None`: every one.
pub(super) type Ends = Option<(String, String)>;

/// What happens to a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    Cut,
    Delay(Duration),
    Hold,
    Mend,
    Release,
    Sever,
}

/// Understands a line; `None`: there is nothing in it. `domains` are those that have links.
pub(super) fn parse(line: &str, domains: &[String]) -> Result<Option<Order>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((word, rest)) = words.split_first() else {
        return Ok(None);
    };
    let known = |name: &str| match domains.iter().find(|domain| *domain == name) {
        Some(domain) => Ok(domain.clone()),
        None => Err(format!("{name:?} is none of {}", domains.join(", "))),
    };
    let one = || match rest {
        [name] => known(name),
        _ => Err(format!("{word} is followed by a domain")),
    };
    let fault = match *word {
        "cut" => Fault::Cut,
        "sever" => Fault::Sever,
        "hold" => Fault::Hold,
        "release" => Fault::Release,
        "mend" => Fault::Mend,
        "delay" => {
            let (time, ends) = rest
                .split_last()
                .ok_or("delay is followed by two domains and a time")?;
            let time = duration(time).map_err(|_| format!("{time:?} is no time: 200ms, 2s"))?;
            return Ok(Some(Order::Link(ends_of(ends, known)?, Fault::Delay(time))));
        }
        "expire" => return Ok(Some(Order::Certificate(one()?, Some(Variant::Expired)))),
        "untrusted" => return Ok(Some(Order::Certificate(one()?, Some(Variant::OtherCa)))),
        "misname" => return Ok(Some(Order::Certificate(one()?, Some(Variant::WrongName)))),
        "renew" => return Ok(Some(Order::Certificate(one()?, None))),
        "kill" => return Ok(Some(Order::Kill(one()?))),
        "start" => return Ok(Some(Order::Start(one()?))),
        "restart" => return Ok(Some(Order::Restart(one()?))),
        "links" => return Ok(Some(Order::Links)),
        "help" => return Ok(Some(Order::Help)),
        "quit" | "exit" => return Ok(Some(Order::Quit)),
        other => return Err(format!("{other:?} is no order; help lists them")),
    };
    Ok(Some(Order::Link(ends_of(rest, known)?, fault)))
}

fn ends_of(words: &[&str], known: impl Fn(&str) -> Result<String, String>) -> Result<Ends, String> {
    match words {
        ["all"] => Ok(None),
        [one, other] if one != other => Ok(Some((known(one)?, known(other)?))),
        _ => Err("a link is named by two domains, or `all`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_understood_or_refused_with_a_reason() {
        let domains = ["a.test".to_owned(), "b.test".to_owned()];
        let parse = |line: &str| parse(line, &domains);
        let ends = Some(("a.test".to_owned(), "b.test".to_owned()));
        assert_eq!(
            parse("cut a.test b.test"),
            Ok(Some(Order::Link(ends.clone(), Fault::Cut)))
        );
        let delay = Fault::Delay(Duration::from_millis(200));
        assert_eq!(
            parse("delay a.test b.test 200ms"),
            Ok(Some(Order::Link(ends, delay)))
        );
        assert_eq!(parse("mend all"), Ok(Some(Order::Link(None, Fault::Mend))));
        let expired = Order::Certificate("b.test".into(), Some(Variant::Expired));
        assert_eq!(parse(" expire  b.test "), Ok(Some(expired)));
        assert_eq!(parse(""), Ok(None));
        for (line, why) in [
            ("cut a.test", "two domains"),
            ("cut a.test a.test", "two domains"),
            ("cut a.test c.test", "\"c.test\" is none of a.test, b.test"),
            ("delay a.test b.test soon", "\"soon\" is no time"),
            ("kill", "followed by a domain"),
            ("burn a.test", "help lists them"),
        ] {
            let said = parse(line).expect_err(line);
            assert!(said.contains(why), "{line}: {said}");
        }
    }

    /// Each word of the help is an order.
    #[test]
    fn help_names_every_order() {
        for word in [
            "cut",
            "sever",
            "hold",
            "release",
            "delay",
            "mend",
            "expire",
            "untrusted",
            "misname",
            "renew",
            "kill",
            "start",
            "restart",
            "links",
            "help",
            "quit",
        ] {
            assert!(HELP.contains(word), "{word}");
        }
    }
}
