use idem_runtime::prelude::*;
use idem_runtime::schedule::{Scheduled as _, Tick};

macro_rules! jobs {
    ($($(#[$attr:meta])* $vis:vis $name:ident as $job:ident($arg:ident: $ty:ty, key $key:expr, retain $retain:literal) -> $out:ty $body:block)+) => {$(
        $(#[$attr])*
        #[idempotent(key = $key, job = $job, retain = $retain)]
        $vis async fn $name(tx: &mut Tx<'_, Memory>, $arg: $ty) -> $out {
            let _ = tx.idempotency_key();
            $body
        }
    )+};
}

jobs! {
    /// The first.
    pub one as OneJob(id: i64, key id, retain "1d") -> Result<i64, String> { Ok(id) }
    two as TwoJob(pair: (u8, String), key (pair.0, pair.1), retain "2h") -> Result<u8, String> { Ok(pair.0) }
}

macro_rules! job_for {
    ($db:ty, $error:path, $pat:pat, $value:expr) => {
        #[idempotent(key = id, adopt($pat => $value), replay($error))]
        async fn three(_: &mut Tx<'_, $db>, id: i64) -> Result<i64, Failure> {
            if id == 0 { Err(Failure::Twice) } else { Err(Failure::Never) }
        }
    };
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Failure {
    Twice,
    Never,
}

job_for!(Memory, Failure::Never, Failure::Twice, 5);

macro_rules! whole {
    ($item:item) => {
        #[idempotent(key = id)]
        $item
    };
}

whole! {
    async fn four(_: &mut Tx<'_, Memory>, id: i64) -> Result<i64, String> {
        Ok(id)
    }
}

macro_rules! leased {
    ($name:ident($run:ident: $db:ty, $arg:ident: $ty:ty) steps $($step:literal)+, in_doubt $in_doubt:expr) => {
        #[idempotent(key = $arg, in_doubt = $in_doubt)]
        async fn $name($run: &mut Run<'_, $db>, $arg: $ty) -> Result<$ty, String> {
            $($run.step($step, async |_| Ok::<_, String>($arg)).await?;)+
            for i in 0..2 {
                $run.step(("turn", i), async |_| Ok::<_, String>(i)).await?;
            }
            Ok($arg)
        }
    };
    ($name:ident($arg:ident: $ty:ty) lease $lease:literal, probe $probe:path) => {
        #[idempotent(key = $arg, in_doubt = probe($probe), lock = lease($lease))]
        async fn $name($arg: $ty) -> Result<$ty, String> {
            Ok($arg)
        }
    };
}

leased!(five(run: Memory, id: i64) steps "a" "b", in_doubt rerun);
leased!(six(id: i64) lease "10s", probe look::up);

mod look {
    pub(crate) async fn up(job: &crate::Six) -> Result<Option<i64>, String> {
        Ok(Some(job.id))
    }
}

macro_rules! unique {
    ($name:ident($arg:ident: $ty:ty) $mode:expr, by $queue:expr, $run:expr, $duplicate:expr) => {
        #[idempotent(
            key = $arg,
            unique = $mode,
            unique_by(queue = $queue, run = $run),
            on_duplicate = $duplicate,
        )]
        async fn $name(_: &mut Tx<'_, Memory>, $arg: $ty) -> Result<$ty, String> {
            Ok($arg)
        }
    };
    ($name:ident($arg:ident: $ty:ty) window $window:literal, by $by:expr) => {
        #[idempotent(key = $arg, unique = until_expired($window), unique_by = $by)]
        async fn $name(_: &mut Tx<'_, Memory>, $arg: $ty) -> Result<$ty, String> {
            Ok($arg)
        }
    };
}

unique!(seven(id: i64) until_and_while_executing, by id, (id % 4, "x"), reschedule("5s"));
unique!(eight(id: i64) window "1h", by id + 1);

macro_rules! scheduled {
    ($name:ident($arg:ident: $ty:ty) $cron:literal, $zone:literal, $missed:ident) => {
        #[idempotent(key = $arg, schedule($cron, time_zone = $zone, missed = $missed))]
        async fn $name(_: &mut Tx<'_, Memory>, $arg: $ty) -> Result<i64, String> {
            Ok($arg.unix())
        }
    };
    ($name:ident($arg:ident: $ty:ty) $cron:expr) => {
        #[idempotent(key = $arg, schedule = $cron, in_doubt = rerun)]
        async fn $name($arg: $ty) -> Result<i64, String> {
            Ok($arg.unix())
        }
    };
}

scheduled!(nine(tick: Tick) "0 3 * * *", "Europe/Berlin", all);
scheduled!(ten(tick: Tick) "0 3 * * MON");

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let idem = Idem::memory().build().unwrap();
    assert_eq!(*one(&idem, 3).await.unwrap(), 3);
    assert!(idem.run(OneJob { id: 3 }).await.unwrap().is_replayed());
    assert_eq!(*two(&idem, (4, String::from("x"))).await.unwrap(), 4);
    assert_eq!(*idem.run(TwoJob { pair: (4, String::from("x")) }).await.unwrap(), 4);
    assert_eq!(*three(&idem, 0).await.unwrap(), 5);
    assert!(three(&idem, 1).await.is_err());
    assert_eq!(*four(&idem, 6).await.unwrap(), 6);
    assert_eq!(*five(&idem, 7).await.unwrap(), 7);
    assert_eq!(*six(&idem, 8).await.unwrap(), 8);
    assert_eq!(*seven(&idem, 9).await.unwrap(), 9);
    assert_eq!(Seven { id: 9 }.run_key().unwrap().unwrap().readable(), "1, x");
    assert_eq!(*eight(&idem, 9).await.unwrap(), 9);
    assert_eq!(Eight { id: 9 }.queue_key().unwrap().readable(), "10");
    assert_eq!(*idem.run(Nine::at(Tick::from_unix(9))).await.unwrap(), 9);
    assert_eq!(*ten(&idem, Tick::from_unix(10)).await.unwrap(), 10);
}
