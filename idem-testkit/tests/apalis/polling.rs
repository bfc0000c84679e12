//! When a worker looks for tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake};
use std::time::Duration;

use apalis::prelude::*;
use idem_runtime::engine::apalis::Every;

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_told_of_an_interval_is_woken_by_the_next_one() {
    let mut every = Every::new(Duration::from_millis(200));
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let mut context = Context::from_waker(&waker);
    for n in 0..5 {
        // The worker looks once and finds nothing; it does not ask again before it is woken.
        assert!(every.poll_drive(&mut context, &PollSnapshot::new()).is_ready(), "interval {n}");
        assert_eq!(woken.0.load(Ordering::SeqCst), n);
        tokio::time::sleep(Duration::from_millis(201)).await;
        assert_eq!(woken.0.load(Ordering::SeqCst), n + 1);
    }
    assert!(every.poll_drive(&mut context, &PollSnapshot::new()).is_ready());
    assert!(every.poll_drive(&mut context, &PollSnapshot::new()).is_pending(), "it has been told");
}
