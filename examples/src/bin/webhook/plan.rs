//! Who receives what, in which order, and where the kills fall.

use crate::events::Event;
use crate::protocol::Stage;

/// The work of all workers.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// One for each worker that has anything to do.
    pub(crate) shares: Vec<Share>,
}

/// The work of one worker.
#[derive(Debug)]
pub(crate) struct Share {
    /// Indices of events, in the order of delivery.
    pub(crate) deliveries: Vec<usize>,
    /// Where the worker is killed the first time, the second time and so on. It has answered half of its
    /// share each time.
    pub(crate) kills: Vec<Stage>,
}

impl Share {
    /// Returns the delivery that a kill falls on.
    pub(crate) fn half_way(&self) -> usize {
        self.deliveries.len() / 2
    }
}

impl Plan {
    /// Shuffles `copies` of every event and deals them out.
    pub(crate) fn new(events: &[Event], copies: u32, workers: u32, kills: u32, seed: u64) -> Plan {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut deliveries: Vec<usize> = (0..copies).flat_map(|_| 0..events.len()).collect();
        rng.shuffle(&mut deliveries);

        let workers = deliveries.len().min(workers as usize);
        let mut shares: Vec<Share> = (0..workers)
            .map(|worker| Share {
                deliveries: deliveries.iter().skip(worker).step_by(workers).copied().collect(),
                kills: Vec::new(),
            })
            .collect();
        if workers > 0 {
            for kill in 0..kills as usize {
                let stage = match kill % 2 {
                    0 => Stage::InTheJob,
                    _ => Stage::BeforeTheAnswer,
                };
                shares[kill % workers].kills.push(stage);
            }
        }
        for victim in 0..workers {
            if !shares[victim].kills.is_empty() {
                deliver_first(&mut shares, victim, events, &mut rng);
            }
        }
        Plan { seed, shares }
    }

    /// Returns how many deliveries there are without those after a kill.
    pub(crate) fn deliveries(&self) -> u64 {
        self.shares.iter().map(|share| share.deliveries.len() as u64).sum()
    }
}

/// Moves the other copies of the event that a worker is killed on behind the kill, in the same share.
///
/// Otherwise another worker would most likely have received it by then, and there would be no run of
/// the job to be killed in. A share that is too short for all copies takes what fits.
fn deliver_first(shares: &mut [Share], victim: usize, events: &[Event], rng: &mut fastrand::Rng) {
    let half_way = shares[victim].half_way();
    let delivery = |index: usize| &events[index].webhook.delivery;
    let event = delivery(shares[victim].deliveries[half_way]);
    let mut places: Vec<usize> = (half_way + 1..shares[victim].deliveries.len())
        .filter(|place| delivery(shares[victim].deliveries[*place]) != event)
        .collect();
    rng.shuffle(&mut places);
    for share in 0..shares.len() {
        for place in 0..shares[share].deliveries.len() {
            let index = shares[share].deliveries[place];
            if delivery(index) != event || (share == victim && place >= half_way) {
                continue;
            }
            let Some(free) = places.pop() else { return };
            let other = std::mem::replace(&mut shares[victim].deliveries[free], index);
            shares[share].deliveries[place] = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::Value;

    use super::*;
    use crate::events::Webhook;

    fn events(count: usize) -> Vec<Event> {
        let webhook =
            |n| Webhook { delivery: format!("d{n}"), event: String::from("push"), payload: Value::Null };
        (0..count).map(|n| Event { line: n + 1, webhook: webhook(n) }).collect()
    }

    #[test]
    fn every_copy_of_every_event_is_dealt_out_once() {
        for (count, copies, workers, kills) in
            [(329, 4, 4, 2), (5, 3, 4, 9), (1, 1, 4, 1), (2, 1, 7, 3), (0, 4, 4, 1)]
        {
            for seed in 0..50 {
                let plan = Plan::new(&events(count), copies, workers, kills, seed);
                let mut dealt: HashMap<usize, u32> = HashMap::new();
                for index in plan.shares.iter().flat_map(|share| &share.deliveries) {
                    *dealt.entry(*index).or_default() += 1;
                }
                assert_eq!(dealt.len(), count, "seed {seed}");
                assert!(dealt.values().all(|times| *times == copies), "seed {seed}");
                assert!(plan.shares.iter().all(|share| !share.deliveries.is_empty()), "seed {seed}");
            }
        }
    }

    #[test]
    fn nobody_else_receives_the_event_of_a_kill_before_it() {
        for seed in 0..200 {
            let plan = Plan::new(&events(329), 4, 4, 4, seed);
            for (victim, share) in plan.shares.iter().enumerate() {
                let event = share.deliveries[share.half_way()];
                for (other, share) in plan.shares.iter().enumerate() {
                    let first = share.deliveries.iter().position(|index| *index == event);
                    let expected = (other == victim).then(|| share.half_way());
                    assert_eq!(first, expected, "seed {seed}, kill in {victim}, share {other}");
                }
            }
        }
    }

    #[test]
    fn kills_go_round_the_workers_and_take_turns_in_where() {
        let plan = Plan::new(&events(10), 1, 2, 3, 1);
        assert_eq!(plan.shares[0].kills, [Stage::InTheJob, Stage::InTheJob]);
        assert_eq!(plan.shares[1].kills, [Stage::BeforeTheAnswer]);
    }

    #[test]
    fn a_seed_replays_its_plan() {
        let order = |seed| {
            let plan = Plan::new(&events(50), 3, 3, 2, seed);
            plan.shares.into_iter().map(|share| share.deliveries).collect::<Vec<_>>()
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }
}
