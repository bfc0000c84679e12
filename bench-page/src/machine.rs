//! What Linux says of the machine, and of what else runs on it.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use idem_bench_page::Machine;

/// A moment of the machine before a run.
pub(crate) struct Before {
    load_average: f64,
    busy: f64,
    ticks: Ticks,
}

impl Before {
    /// Looks for a few seconds at what else is going on.
    pub(crate) fn look() -> anyhow::Result<Before> {
        let load_average = load_average()?;
        let (busy, ticks) = busy()?;
        Ok(Before { load_average, busy, ticks })
    }

    /// Looks again, and tells about the machine.
    pub(crate) fn after(self) -> anyhow::Result<Machine> {
        let load_average = load_average()?;
        let stolen = Ticks::read()?.since(&self.ticks).stolen();
        let (busy, _) = busy()?;
        Ok(Machine {
            processor: value_in("/proc/cpuinfo", "model name")
                .unwrap_or_else(|_| format!("unknown, {}", std::env::consts::ARCH)),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory_gib()?,
            system: system()?,
            load_average: [self.load_average, load_average],
            busy_beside: [self.busy, busy],
            stolen,
        })
    }
}

/// How long is looked at what else is going on.
const LOOK: Duration = Duration::from_secs(3);

/// Returns the share of the processors' time that is used now, and the time after that.
fn busy() -> anyhow::Result<(f64, Ticks)> {
    let before = Ticks::read()?;
    std::thread::sleep(LOOK);
    let after = Ticks::read()?;
    Ok((after.since(&before).busy(), after))
}

/// What the processors did with their time since the machine began: user, nice, system, idle, wait for the disk,
/// interrupts, soft interrupts, stolen.
struct Ticks([u64; 8]);

impl Ticks {
    fn read() -> anyhow::Result<Ticks> {
        let text = read("/proc/stat")?;
        let line = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("cpu "))
            .context("/proc/stat has no cpu")?;
        let mut ticks = [0; 8];
        for (tick, word) in ticks.iter_mut().zip(line.split_whitespace()) {
            *tick = word.parse().with_context(|| format!("/proc/stat: {word}"))?;
        }
        Ok(Ticks(ticks))
    }

    fn since(&self, before: &Ticks) -> Ticks {
        Ticks(std::array::from_fn(|n| self.0[n].saturating_sub(before.0[n])))
    }

    fn share(&self, ticks: u64) -> f64 {
        ticks as f64 / self.0.iter().sum::<u64>().max(1) as f64
    }

    fn busy(&self) -> f64 {
        let [user, nice, system, _, _, interrupts, soft, _] = self.0;
        self.share(user + nice + system + interrupts + soft)
    }

    fn stolen(&self) -> f64 {
        self.share(self.0[7])
    }
}

fn load_average() -> anyhow::Result<f64> {
    let text = read("/proc/loadavg")?;
    let minute = text.split(' ').next().unwrap_or_default();
    minute.parse().with_context(|| format!("/proc/loadavg: {minute}"))
}

fn memory_gib() -> anyhow::Result<f64> {
    let text = value_in("/proc/meminfo", "MemTotal")?;
    let kib: f64 = text.trim_end_matches(" kB").parse().with_context(|| format!("/proc/meminfo: {text}"))?;
    Ok(kib / 1024.0 / 1024.0)
}

fn system() -> anyhow::Result<String> {
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let text = read("/etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
    Ok(format!("{}, Linux {}", name.trim_matches('"'), kernel.trim()))
}

/// Returns what stands behind a name and a colon.
fn value_in(path: &str, name: &str) -> anyhow::Result<String> {
    let text = read(path)?;
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|own| own.trim() == name));
    let (_, value) =
        line.and_then(|line| line.split_once(':')).with_context(|| format!("{path} has no {name}"))?;
    Ok(value.trim().to_owned())
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).context(path.to_owned())
}
