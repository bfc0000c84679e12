//! One system under load for a moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::systems::System;

/// How hard and how long.
pub(crate) struct Load {
    pub(crate) workers: usize,
    pub(crate) duration: Duration,
}

/// What came out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// Runs a system with all workers at once until the time is over.
pub(crate) async fn run(system: &Arc<dyn System>, load: &Load) -> anyhow::Result<Cell> {
    let started = Instant::now();
    let until = started + load.duration;
    let workers: Vec<_> = (0..load.workers)
        .map(|worker| {
            let system = Arc::clone(system);
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    system.run(worker).await?;
                    latencies.push(began.elapsed());
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Ok(Cell { per_second: latencies.len() as f64 / elapsed, p50: at(0.5), p99: at(0.99) })
}
