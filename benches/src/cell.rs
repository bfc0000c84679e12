//! One contender under load for a moment.

use std::future::Future;
use std::time::{Duration, Instant};

use idem_bench_page::Round;

/// Makes calls from all callers at once, each one call after the other, until the time is over.
///
/// A call is told the number of its caller, and is about so many `things`, which are what the rate counts.
///
/// # Errors
///
/// A call failed.
pub async fn run<C, F>(callers: usize, duration: Duration, things: usize, call: C) -> anyhow::Result<Round>
where
    C: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let started = Instant::now();
    let until = started + duration;
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let began = Instant::now();
                    call(caller).await?;
                    latencies.push(began.elapsed());
                    if Instant::now() >= until {
                        return anyhow::Ok(latencies);
                    }
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for caller in callers {
        latencies.extend(caller.await??);
    }
    let per_second = (latencies.len() * things) as f64 / started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| {
        let latency = latencies[((latencies.len() - 1) as f64 * share) as usize];
        u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
    };
    // More digits say nothing, and are in the way of whoever reads them.
    Ok(Round { per_second: (per_second * 10.0).round() / 10.0, p50_us: at(0.5), p99_us: at(0.99) })
}
