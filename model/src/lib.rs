//! A model of the lease protocol, of which a checker visits every state.
//!
//! The model has one key, the runs that want it, the store with its clock, the callees, a network that loses answers and
//! delays writes, and a person. Where the protocol decides, it calls what the runtime and the stores call:
//! `record::next`, `record::decide`, `record::holds` and `Key::outbound`. What surrounds these is written down again,
//! as short as it goes, and has to follow the runtime by hand:
//!
//! | here | follows |
//! |---|---|
//! | `row.rs` | `store/memory/lease.rs`: what a store does with a claim and a change |
//! | `run.rs`, `act.rs`, `world.rs` | `run/leased.rs`, `run/steps.rs`, `run/heart.rs`: what a run does, and what may befall it |
//! | `seen.rs`, `laws.rs` | what must hold, judged by somebody who sees everything |
//! | `broken.rs` | the protocol with one rule left out |
//! | `trace.rs` | the shortest way to break a law, as text |
//!
//! # What can happen
//!
//! * A run stands still for as long as it likes, between any two of its steps: it is a zombie when it goes on.
//! * The lease passes, at any time; the heart renews it, also when it has passed and nobody has taken the key.
//! * A write is not answered. It may be applied at any later time, or never; the run meanwhile writes again, asks, or gives
//!   up.
//! * A run ends without an outcome, anywhere: an error, a timeout, a dropped future, a killed process. The word that it
//!   has ended arrives at any later time, or never.
//! * A callee refuses, so that the intent is taken back. A person says of a parked effect that it happened or did not,
//!   and may think again until the next run.
//! * The retention passes, and the record is deleted.
//!
//! Each of these happens a limited number of times, so that the space is finite.
//!
//! # What is checked
//!
//! [`Law`] lists what holds in every state; `tests/holds.rs` visits them all. [`Broken`] lists the rules; `tests/bites.rs`
//! leaves out one at a time and prints how that breaks a law. A law that nothing breaks would say nothing:
//! each is broken by something.
//!
//! # What is not checked
//!
//! * That a run gets anywhere. With a limit on everything it need not, so there are only states that must be reached.
//! * Probes, checks, final errors, atomic jobs on the same key, several keys.
//! * SQL: that a store's statements are what `row.rs` says is for the conformance suite.
//! * A person who acts on an old listing; a callee that hears of a call after the run has gone on.
//!
//! # Example
//!
//! ```
//! use idem_model::{Broken, Law, Limits, Protocol, Step};
//!
//! let limits = Limits { runs: 2, lapses: 1, losses: 0, resolutions: 0, expiries: 0 };
//! let sound = Protocol { job: &[Step::Unkeyed], workers: 2, limits, broken: None };
//! assert!(sound.breaks(Law::NotRepeatedBlindly).is_none());
//!
//! let broken = Protocol { broken: Some(Broken::IntentUnwritten), ..sound };
//! println!("{}", broken.breaks(Law::NotRepeatedBlindly).unwrap());
//! ```

mod act;
mod broken;
mod laws;
mod row;
mod run;
mod seen;
mod trace;
mod world;

pub use self::broken::Broken;
pub use self::laws::Law;
pub use self::run::Step;
pub use self::trace::Trace;
pub use self::world::{Limits, Protocol};
