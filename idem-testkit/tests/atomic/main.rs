//! Atomic jobs on every database: what a job answers, what it costs and what a crash leaves behind.

#[macro_use]
mod jobs;

mod answers;
mod cancel;
mod outage;
mod shapes;
