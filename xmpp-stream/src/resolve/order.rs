//! The order in which SRV records are tried (RFC 2782): priorities upwards, within one by weight.

use super::Srv;

/// Records in the order to try them, each with what the caller keeps beside it; at most `max`, those
/// of the lowest priorities. `random` fills from a source of random bytes.
#[must_use]
pub fn order<T>(
    mut records: Vec<(Srv, T)>,
    max: usize,
    random: &mut (dyn FnMut(&mut [u8]) + Send),
) -> Vec<(Srv, T)> {
    records.sort_by_key(|(srv, _)| (srv.priority, srv.weight));
    records.truncate(max);
    let mut ordered = Vec::with_capacity(records.len());
    while let Some((first, _)) = records.first() {
        let priority = first.priority;
        let same = records.partition_point(|(srv, _)| srv.priority == priority);
        ordered.push(records.remove(choose(records.iter().take(same), random)));
    }
    ordered
}

/// One of these, chosen by weight. Those of weight 0 stand first: they have a small chance, and
/// any at all only if the number drawn is 0.
fn choose<'a, T: 'a>(
    records: impl Iterator<Item = &'a (Srv, T)> + Clone,
    random: &mut (dyn FnMut(&mut [u8]) + Send),
) -> usize {
    let sum: u64 = records.clone().map(|(srv, _)| u64::from(srv.weight)).sum();
    let mut bytes = [0; 8];
    random(&mut bytes);
    // A sum of 16-bit weights is so small that the remainder favours nothing that can be measured.
    let drawn = u64::from_le_bytes(bytes) % (sum + 1);
    let mut running = 0;
    let chosen = records.into_iter().position(|(srv, _)| {
        running += u64::from(srv.weight);
        running >= drawn
    });
    chosen.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> (Srv, ()) {
        let target = target.into();
        let port = 5222;
        let srv = Srv {
            priority,
            weight,
            port,
            target,
        };
        (srv, ())
    }

    /// The order when these numbers are drawn, one after the other.
    fn ordered(records: &[(Srv, ())], draws: &[u64]) -> String {
        let mut draws = draws.iter();
        let mut random = |bytes: &mut [u8]| {
            let draw = draws.next().copied().unwrap_or_default();
            bytes.copy_from_slice(&draw.to_le_bytes());
        };
        let all = order(records.to_vec(), 16, &mut random);
        let names: Vec<&str> = all.iter().map(|(srv, ())| &*srv.target).collect();
        names.join(" ")
    }

    #[test]
    fn c6120_dn_03_priorities_go_upwards() {
        let records = [srv(20, 9, "c"), srv(5, 1, "a"), srv(10, 0, "b")];
        assert_eq!(ordered(&records, &[]), "a b c");
        assert_eq!(ordered(&[], &[]), "");
    }

    #[test]
    fn ats_tu_06_within_a_priority_the_weight_decides() {
        #[track_caller]
        fn check(draws: &[u64], expected: &str) {
            let records = [srv(1, 10, "ten"), srv(1, 60, "sixty"), srv(1, 0, "none")];
            assert_eq!(ordered(&records, draws), expected, "{draws:?}");
        }
        // By weight they stand as none (0), ten (10), sixty (70); drawn is one of 0 to 70.
        check(&[0, 0, 0], "none ten sixty");
        check(&[1, 0, 0], "ten none sixty");
        check(&[10, 1, 0], "ten sixty none");
        check(&[11, 0, 0], "sixty none ten");
        check(&[70, 1, 0], "sixty ten none");
        check(&[71, 0, 0], "none ten sixty");
    }

    #[test]
    fn weights_give_shares() {
        let records = [srv(1, 1, "one"), srv(1, 3, "three")];
        let mut state = 1_u64;
        let mut random = |bytes: &mut [u8]| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            bytes.copy_from_slice(&(state >> 16).to_le_bytes());
        };
        let first = |random: &mut (dyn FnMut(&mut [u8]) + Send)| {
            order(records.to_vec(), 16, random).swap_remove(0).0.weight
        };
        let threes = (0..10_000).filter(|_| first(&mut random) == 3).count();
        // Numbers from 0 to 4: "one" at 0 and 1, as the RFC's inclusive draw has it.
        assert!((5_800..6_200).contains(&threes), "{threes}");
    }

    #[test]
    fn no_more_than_the_bound_is_tried() {
        let records = (0..40).map(|n| srv(40 - n, 0, &n.to_string())).collect();
        let kept = order(records, 3, &mut |bytes| bytes.fill(0));
        let priorities: Vec<u16> = kept.iter().map(|(srv, ())| srv.priority).collect();
        assert_eq!(priorities, [1, 2, 3]);
    }
}
