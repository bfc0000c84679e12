//! The protocol with one rule taken out.

/// A rule that the protocol does without: each must lead to something that a law forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A write asks for the epoch only.
    ///
    /// An epoch names one claim that was made, but many that were asked for: all runs that find the same record ask for
    /// the next one. Of those, one whose claim was not answered gives back a key that it never had.
    TokenUnchecked,
    /// A write asks for the token only.
    ///
    /// Breaks no law: tokens are random, so inside of the store the epoch adds nothing. It is for those outside, who
    /// see it grow and refuse a lower one.
    EpochUnchecked,
    /// A run that gives the key back leaves it with epoch zero, as a lock that is deleted does.
    ///
    /// Breaks the law of the epoch and no other: in the store the token still tells the runs apart.
    EpochRestarts,
    /// The same, and the token is the process's, which all runs share here: a write of an earlier run passes for the
    /// later one's.
    EpochRestartsForOneProcess,
    /// The outcome is written whoever has the key.
    SettleUnchecked,
    /// A heartbeat renews the lease whoever has the key.
    RenewUnchecked,
    /// Steps are written, and the transactions of steps committed, whoever has the key.
    StepUnchecked,
    /// A run takes a key over by its own clock, before the store says that the lease is over.
    TakesOverTheLiving,
    /// A completed key is deleted, as a lock is.
    SettledIsDeleted,
    /// The effect comes before its intent.
    IntentUnwritten,
    /// A transaction whose commit was not answered is run again, without asking whether it was applied.
    CommitUnasked,
    /// An outcome that was refused when it was sent again counts as lost, without asking whether the first try was
    /// applied; or the question fails.
    SettleUnasked,
    /// An outcome that was refused when it was sent again counts as written.
    SettleAssumed,
    /// A run that comes to a begun step takes it, as if it had not been begun.
    DoubtIgnored,
    /// A run that comes to a begun step passes it by, as if it had been taken.
    DoubtPassed,
    /// A run of a job without steps which ends between its claim and its body says that nothing is in doubt, though the
    /// run before had left it so. Only jobs without steps: of others the begun step is on record.
    DoubtForgotten,
    /// An intent is written over whatever is recorded of the step, so one that arrives late takes the result away.
    BeginOverwrites,
    /// The key for the callee holds the number of the claim.
    KeyOfTheClaim,
}
