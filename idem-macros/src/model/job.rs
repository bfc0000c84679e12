//! A job that keeps every rule; the expansion needs nothing else and cannot fail.

use std::time::Duration;

use proc_macro2::{Ident, TokenTree};
use syn::{Attribute, Expr, LitStr, Pat, Path, Type, Visibility};

use super::RawFunction;

/// A valid job with every default filled in.
pub(crate) struct Job {
    /// The path of the runtime crate.
    pub(crate) krate: Path,
    pub(crate) function: Function,
    /// The name of the struct that is the job as a value.
    pub(crate) struct_name: Ident,
    pub(crate) kind: Kind,
    pub(crate) spec: Spec,
    pub(crate) key: Key,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) check: Option<Path>,
    pub(crate) adopt: Vec<Adopt>,
    pub(crate) replay: Vec<Pat>,
}

/// What the first parameter makes of a job, and the facts that only such a job has.
pub(crate) enum Kind {
    /// `tx: &mut Tx<'_, Db>`: one transaction around everything.
    Atomic { tx: Handle, lock: Lock },
    /// The claim first, then the body: in steps if it takes `run: &mut Run<'_, Db>`, else on any database.
    Leased { run: Option<Handle>, lease: Duration, in_doubt: InDoubt, drift: Drift },
}

impl Kind {
    /// Returns the first parameter, unless the job has neither a transaction nor steps.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        match self {
            Kind::Atomic { tx, .. } => Some(tx),
            Kind::Leased { run, .. } => run.as_ref(),
        }
    }
}

/// What idem hands to the body: `tx: &mut Tx<'_, Db>` or `run: &mut Run<'_, Db>`.
#[derive(Clone)]
pub(crate) struct Handle {
    /// Lint levels on the parameter.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) pat: Pat,
    /// The name, unless it is `_`.
    pub(crate) ident: Option<Ident>,
    pub(crate) ty: Type,
    pub(crate) db: Type,
}

/// What becomes of an effect whose outcome nobody knows.
pub(crate) enum InDoubt {
    Rerun,
    Probe(Path),
    Park,
}

/// What a run does whose recorded steps are not the first ones that the body takes.
pub(crate) enum Drift {
    Refuse,
    Resume,
    Park,
}

/// The user's function, taken apart.
pub(crate) struct Function {
    pub(crate) attrs: Attrs,
    pub(crate) vis: Visibility,
    pub(crate) ident: Ident,
    /// All parameters but the transaction or the run, in the written order.
    pub(crate) params: Vec<Param>,
    pub(crate) returns: Returns,
    pub(crate) body: TokenTree,
}

impl Function {
    pub(crate) fn args(&self) -> impl Iterator<Item = &Arg> {
        self.params.iter().filter_map(|param| match param {
            Param::Arg(arg) => Some(arg),
            Param::State(_) => None,
        })
    }

    pub(crate) fn states(&self) -> impl Iterator<Item = &State> {
        self.params.iter().filter_map(|param| match param {
            Param::State(state) => Some(state),
            Param::Arg(_) => None,
        })
    }
}

/// The attributes of the function, by the item that they belong to.
#[derive(Default)]
pub(crate) struct Attrs {
    /// `doc`: the guarded function's.
    pub(crate) docs: Vec<Attribute>,
    /// `cfg`: every item's.
    pub(crate) cfgs: Vec<Attribute>,
    /// `deprecated`, `must_use` and the like: the guarded function's.
    pub(crate) outer: Vec<Attribute>,
    /// Lint levels and everything else: the body's.
    pub(crate) body: Vec<Attribute>,
    /// Of the lint levels those that allow something, once more: every item's.
    pub(crate) lints: Vec<Attribute>,
}

#[expect(clippy::large_enum_variant, reason = "a handful of values that live for one expansion")]
pub(crate) enum Param {
    Arg(Arg),
    State(State),
}

/// An owned parameter: a field of the job.
pub(crate) struct Arg {
    pub(crate) docs: Vec<Attribute>,
    /// Lint levels on the parameter.
    pub(crate) attrs: Vec<Attribute>,
    /// The name with its `mut`.
    pub(crate) pat: Pat,
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
}

/// A `#[state]` parameter: a dependency.
pub(crate) struct State {
    /// Lint levels on the parameter.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) pat: Pat,
    /// The name, unless the parameter is a pattern.
    pub(crate) ident: Option<Ident>,
    pub(crate) ty: Type,
    /// What the reference points to.
    pub(crate) target: Type,
}

/// The return type and its two halves.
#[derive(Clone)]
pub(crate) struct Returns {
    pub(crate) ty: Type,
    /// The halves as types, unless only rustc knows them, as with an alias.
    pub(crate) halves: Option<(Type, Type)>,
}

/// The facts of a job of any kind that do not depend on its arguments.
pub(crate) struct Spec {
    pub(crate) name: LitStr,
    pub(crate) on_busy: OnBusy,
    pub(crate) retain: Retain,
    pub(crate) timeout: Option<Duration>,
    pub(crate) unique: Option<Unique>,
    pub(crate) schedule: Option<Schedule>,
}

/// What of the job there is only one of, in its queue and in its runs.
pub(crate) struct Unique {
    pub(crate) mode: UniqueMode,
    /// What becomes of a task whose claim is taken, if that was said.
    pub(crate) on_duplicate: Option<OnDuplicate>,
    /// What makes two tasks the same, if it is not the key.
    pub(crate) queue_key: Option<Key>,
    /// What makes two runs exclude each other, if it is not the key.
    pub(crate) run_key: Option<Key>,
}

#[derive(Clone, Copy)]
pub(crate) enum UniqueMode {
    UntilExecuting,
    UntilExecuted,
    UntilExpired(Duration),
    WhileExecuting,
    UntilAndWhileExecuting,
    KeepLatest,
}

impl UniqueMode {
    /// Tells whether a task takes a claim as it is enqueued.
    pub(crate) fn in_queue(self) -> bool {
        !matches!(self, UniqueMode::WhileExecuting)
    }

    /// Tells whether a run takes a claim while it runs.
    pub(crate) fn in_run(self) -> bool {
        matches!(
            self,
            UniqueMode::WhileExecuting | UniqueMode::UntilAndWhileExecuting | UniqueMode::KeepLatest
        )
    }
}

pub(crate) enum OnDuplicate {
    Skip,
    Error,
    Replace,
    Reschedule(Duration),
}

/// When the clock starts the job.
pub(crate) struct Schedule {
    pub(crate) cron: String,
    pub(crate) time_zone: String,
    pub(crate) missed: Missed,
}

pub(crate) enum Missed {
    Latest,
    All,
}

/// How runs of an atomic job keep out of each other's way.
#[expect(clippy::large_enum_variant, reason = "a handful of values that live for one expansion")]
pub(crate) enum Lock {
    Row,
    BusinessRow(RowLock),
    Advisory,
    None,
}

/// `row(table.column = value)`.
pub(crate) struct RowLock {
    pub(crate) table: String,
    pub(crate) column: String,
    pub(crate) value: Expr,
    /// The arguments that the value names.
    pub(crate) uses: Vec<Ident>,
}

pub(crate) enum OnBusy {
    Wait(Duration),
    Skip,
    Error,
    Reschedule(Duration),
}

pub(crate) enum Retain {
    For(Duration),
    Forever,
    None,
}

#[derive(Clone)]
pub(crate) enum Key {
    /// One run ever.
    Global,
    Of {
        expr: Expr,
        /// The arguments that the expression names.
        uses: Vec<Ident>,
    },
}

/// The arguments that a second run must share; none are compared if there are none.
pub(crate) struct Fingerprint(pub(crate) Vec<Ident>);

/// An error that means that the work is done already, and the result to record then.
pub(crate) struct Adopt {
    pub(crate) case: AdoptCase,
    pub(crate) value: Expr,
    /// The parameters that value and guard name.
    pub(crate) uses: Vec<Ident>,
}

#[expect(clippy::large_enum_variant, reason = "a handful of values that live for one expansion")]
pub(crate) enum AdoptCase {
    Constraint(LitStr),
    Pattern { pat: Pat, guard: Option<Expr> },
}

/// A job with mistakes: what can be said about it, so that its uses show no mistakes of their own.
pub(crate) struct Broken {
    pub(crate) krate: Path,
    pub(crate) struct_name: Option<Ident>,
    pub(crate) params: Vec<BrokenParam>,
    /// The database of an atomic job; any other runs on every database.
    pub(crate) atomic_on: Option<Type>,
    /// Whether the clock is to start it.
    pub(crate) scheduled: bool,
    pub(crate) returns: Option<Returns>,
    /// The function without helper attributes.
    pub(crate) function: RawFunction,
    /// Whether rustc can check the body without repeating a mistake that has been reported.
    pub(crate) body_can_be_checked: bool,
}

/// An argument of a job with mistakes.
pub(crate) struct BrokenParam {
    pub(crate) ident: Ident,
    /// The type, unless a struct cannot have it as it stands.
    pub(crate) ty: Option<Type>,
}
