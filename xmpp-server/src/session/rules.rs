//! The rules of delivery by name (DESIGN 5), so that a test can take one out and see what breaks.
//!
//! Outside of tests every rule holds, at no cost: `hold` is a constant.

/// A rule that can be taken out. The numbers are those of DESIGN 5.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// 4: a row is due from the receipt, also while sessions are there.
    DueAtReceipt,
    /// 6: taking a delivery marks it.
    TakenMarks,
    /// 7: at the hard bound a session without stream management ends.
    EndAtBound,
    /// 8: what an ended session did not take is passed on, unless another has it.
    PassOn,
    /// 8: not what another session holds or has taken.
    PassOnOnce,
    /// 9: what any session holds is not drawn.
    HeldNotDrawn,
    /// 9: live items wait behind the gate.
    Gate,
    /// 10: the rows are read after the last ticket.
    WaitForTicket,
    /// 12: an unfinished claim is taken over.
    ClaimPasses,
    /// 14: what was not acknowledged is replayed.
    Replay,
    /// 15: the writer pauses at the bound of stream management.
    SmBound,
    /// 16: a hibernating session counts as present.
    Hibernating,
    /// 18: `h` covers only what is committed.
    CommittedOnly,
    /// 19: a failed ticket puts an error into the sender's queue, before `h` covers it.
    FailedTold,
    /// 20: a resumed session tells what it received after its tickets.
    TicketsBeforeResumed,
    /// 21: what is sent again is recognised.
    Resends,
}

#[cfg(test)]
impl Rule {
    /// Every rule that can be taken out.
    pub(crate) const ALL: [Self; 16] = [
        Self::DueAtReceipt,
        Self::TakenMarks,
        Self::EndAtBound,
        Self::PassOn,
        Self::PassOnOnce,
        Self::HeldNotDrawn,
        Self::Gate,
        Self::WaitForTicket,
        Self::ClaimPasses,
        Self::Replay,
        Self::SmBound,
        Self::Hibernating,
        Self::CommittedOnly,
        Self::FailedTold,
        Self::TicketsBeforeResumed,
        Self::Resends,
    ];
}

/// False when a test has taken this rule out.
#[cfg(not(test))]
pub(crate) const fn hold(_: Rule) -> bool {
    true
}

#[cfg(test)]
std::thread_local! {
    static OMITTED: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// False when a test has taken this rule out.
#[cfg(test)]
pub(crate) fn hold(rule: Rule) -> bool {
    OMITTED.get() != Some(rule)
}

/// Takes a rule out, on this thread, or puts all in force.
#[cfg(test)]
pub(crate) fn omit(rule: Option<Rule>) {
    OMITTED.set(rule);
}
