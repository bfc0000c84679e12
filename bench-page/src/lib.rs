//! What the benches print, and the page that is made of it, `docs/benchmarks.md`.
//!
//! Every figure of the page is one that a run of the benches measured, or is computed from such. Words about
//! them stand here; a sentence that says that something is slower depends on the figure that says so.

mod compare;
mod contender;
mod figures;
mod page;
mod targets;
mod words;

pub use contender::{Contender, Form, Store};
pub use figures::{Counted, Figures, Load, Machine, Round, Row, Run, Server, Version};
pub use page::page;
