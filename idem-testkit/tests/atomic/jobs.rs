//! The jobs under test, once for each database, and the tables that they work on.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) charge: String,
}

/// The error of the jobs.
#[derive(Debug)]
pub(crate) enum PaymentError {
    Database(sqlx::Error),
    Declined,
    Duplicate { charge: String },
    Down,
}

impl std::fmt::Display for PaymentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for PaymentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PaymentError::Database(error) => Some(error),
            PaymentError::Declined | PaymentError::Duplicate { .. } | PaymentError::Down => None,
        }
    }
}

impl From<sqlx::Error> for PaymentError {
    fn from(error: sqlx::Error) -> Self {
        PaymentError::Database(error)
    }
}

/// An error that can be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Declined(Option<Option<String>>),
    Down,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Verdict {}

/// What jobs do to the outside, and what they are told to do, so that a test can steer and count.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// How often a body began.
    pub(crate) bodies: std::sync::atomic::AtomicU32,
    /// A body stops here, after its effect, until the gate is opened; closed gates are rare.
    pub(crate) gate: Option<tokio::sync::Semaphore>,
    /// Told as soon as a body stands at the gate.
    at_gate: tokio::sync::Notify,
    /// What the gateway answers.
    pub(crate) gateway: std::sync::Mutex<Gateway>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gateway {
    #[default]
    Charges,
    Declines,
    SaysDuplicate,
    IsDown,
}

impl World {
    pub(crate) fn gated() -> Self {
        World { gate: Some(tokio::sync::Semaphore::new(0)), ..World::default() }
    }

    pub(crate) fn open_gate(&self) {
        self.gate.as_ref().expect("this world has a gate").add_permits(1_000);
    }

    /// Opens the gate to one body.
    pub(crate) fn let_one_pass(&self) {
        self.gate.as_ref().expect("this world has a gate").add_permits(1);
    }

    pub(crate) fn bodies(&self) -> u32 {
        self.bodies.load(std::sync::atomic::Ordering::SeqCst)
    }

    pub(crate) fn set_gateway(&self, gateway: Gateway) {
        *self.gateway.lock().unwrap() = gateway;
    }

    pub(crate) fn gateway(&self) -> Gateway {
        *self.gateway.lock().unwrap()
    }

    /// Waits until a body stands at the gate. A run that never gets there fails the test instead of hanging it.
    pub(crate) async fn reached(&self) {
        let limit = std::time::Duration::from_secs(30);
        tokio::time::timeout(limit, self.at_gate.notified()).await.expect("a body reaches the gate");
    }

    pub(crate) async fn pass_gate(&self) {
        if let Some(gate) = &self.gate {
            self.at_gate.notify_one();
            gate.acquire().await.unwrap().forget();
        }
    }
}

/// Defines the jobs of one database, whose parameters are written as `$p1` and so on.
macro_rules! define_jobs {
    ($db:ident, $connection:ident, serial: $serial:literal, p1: $p1:literal, p2: $p2:literal) => {
        use std::sync::Arc;
        use std::sync::atomic::Ordering::SeqCst;

        use idem_runtime::prelude::*;
        use idem_testkit::lab::{Lab, LabDatabase};
        use sqlx::$connection;

        use super::{Gateway, PaymentError, Receipt, Verdict, World};

        pub(crate) type State = Arc<World>;
        pub(crate) type Db = $db;

        pub(crate) const TABLES: &str = concat!(
            "CREATE TABLE charges (seq ",
            $serial,
            ", payment BIGINT NOT NULL, note VARCHAR(100) NOT NULL);",
            "CREATE TABLE payments (id BIGINT PRIMARY KEY, charge VARCHAR(100));",
            "CREATE TABLE subscriptions (seq ",
            $serial,
            ", customer BIGINT NOT NULL);",
            "CREATE UNIQUE INDEX one_per_customer ON subscriptions (customer);",
            "INSERT INTO payments VALUES (42, NULL), (43, NULL);",
        );

        /// What most of the jobs here do.
        async fn charge_through_the_gate(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            world: &State,
        ) -> Result<Receipt, sqlx::Error> {
            let receipt = effect(tx, payment).await?;
            world.pass_gate().await;
            Ok(receipt)
        }

        pub(crate) async fn effect(c: &mut $connection, payment: i64) -> Result<Receipt, sqlx::Error> {
            let sql = concat!("INSERT INTO charges (payment, note) VALUES (", $p1, ", ", $p2, ")");
            sqlx::query(sql).bind(payment).bind("effect").execute(&mut *c).await?;
            let sql = concat!("UPDATE payments SET charge = ", $p1, " WHERE id = ", $p2);
            sqlx::query(sql).bind("ch").bind(payment).execute(c).await?;
            Ok(Receipt { charge: format!("ch_{payment}") })
        }

        /// One effect in the database, and nothing else.
        #[idempotent(key = payment)]
        pub(crate) async fn charge(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            amount: u32,
            #[state] world: &State,
        ) -> Result<Receipt, sqlx::Error> {
            world.bodies.fetch_add(1, SeqCst);
            let _ = amount;
            charge_through_the_gate(tx, payment, world).await
        }

        /// The same without a lock: the record's key alone decides.
        #[idempotent(key = payment, lock = none)]
        pub(crate) async fn charge_unlocked(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<u32, sqlx::Error> {
            let body = world.bodies.fetch_add(1, SeqCst);
            effect(tx, payment).await?;
            world.pass_gate().await;
            Ok(body)
        }

        /// The same for runs that do not wait.
        #[idempotent(key = payment, on_busy = error)]
        pub(crate) async fn charge_or_fail(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<Receipt, sqlx::Error> {
            charge_through_the_gate(tx, payment, world).await
        }

        /// The same for runs that leave the work to the other one.
        #[idempotent(key = payment, on_busy = skip)]
        pub(crate) async fn charge_or_skip(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<Receipt, sqlx::Error> {
            charge_through_the_gate(tx, payment, world).await
        }

        /// Keeps no record: what the business row says is all that is known.
        #[idempotent(key = payment, retain = none, check = has_charge)]
        pub(crate) async fn charge_checked(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<Receipt, sqlx::Error> {
            charge_through_the_gate(tx, payment, world).await
        }

        /// The same with the business row locked.
        #[idempotent(key = payment, lock = row(payments.id = payment), retain = none, check = has_charge_too)]
        pub(crate) async fn charge_row_checked(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<Receipt, sqlx::Error> {
            charge_through_the_gate(tx, payment, world).await
        }

        async fn has_charge(
            tx: &mut Tx<'_, $db>,
            job: &ChargeChecked,
        ) -> Result<Option<Receipt>, sqlx::Error> {
            charge_of(tx, job.payment).await
        }

        async fn has_charge_too(
            tx: &mut Tx<'_, $db>,
            job: &ChargeRowChecked,
        ) -> Result<Option<Receipt>, sqlx::Error> {
            charge_of(tx, job.payment).await
        }

        async fn charge_of(c: &mut $connection, payment: i64) -> Result<Option<Receipt>, sqlx::Error> {
            let sql = concat!("SELECT charge FROM payments WHERE id = ", $p1);
            let charge: Option<String> = sqlx::query_scalar(sql).bind(payment).fetch_one(c).await?;
            Ok(charge.map(|charge| Receipt { charge }))
        }

        /// Locks the business row as well, and leaves the work to another run.
        #[idempotent(key = payment, lock = row(payments.id = payment), on_busy = skip)]
        pub(crate) async fn charge_row_or_skip(
            tx: &mut Tx<'_, $db>,
            payment: i64,
        ) -> Result<Receipt, sqlx::Error> {
            effect(tx, payment).await
        }

        /// The same for runs that wait a moment.
        #[idempotent(key = payment, on_busy = wait("150ms"))]
        pub(crate) async fn charge_or_wait(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<Receipt, sqlx::Error> {
            charge_through_the_gate(tx, payment, world).await
        }

        /// Locks the business row, looks at it, and adopts what the gateway calls a duplicate.
        #[idempotent(
                    key = payment,
                    lock = row(payments.id = payment),
                    check = already_paid,
                    adopt(PaymentError::Duplicate { charge } => mark_paid(tx, payment, charge).await?),
                )]
        pub(crate) async fn pay(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<Receipt, PaymentError> {
            world.bodies.fetch_add(1, SeqCst);
            effect(tx, payment).await?;
            world.pass_gate().await;
            match world.gateway() {
                Gateway::Charges => Ok(Receipt { charge: format!("ch_{payment}") }),
                Gateway::Declines => Err(PaymentError::Declined),
                Gateway::SaysDuplicate => Err(PaymentError::Duplicate { charge: String::from("ch_first") }),
                Gateway::IsDown => Err(PaymentError::Down),
            }
        }

        async fn already_paid(tx: &mut Tx<'_, $db>, job: &Pay) -> Result<Option<Receipt>, PaymentError> {
            let sql = concat!("SELECT charge FROM payments WHERE id = ", $p1);
            let charge: Option<String> =
                sqlx::query_scalar(sql).bind(job.payment).fetch_one(&mut **tx).await?;
            Ok(charge.map(|charge| Receipt { charge }))
        }

        async fn mark_paid(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            charge: String,
        ) -> Result<Receipt, PaymentError> {
            let sql = concat!("UPDATE payments SET charge = ", $p1, " WHERE id = ", $p2);
            sqlx::query(sql).bind(charge.clone()).bind(payment).execute(&mut **tx).await?;
            Ok(Receipt { charge })
        }

        /// Adopts the violation of a unique index, by name.
        #[idempotent(
                    key = (customer, nonce),
                    adopt(constraint("one_per_customer") => existing(tx, customer).await?),
                )]
        pub(crate) async fn subscribe(
            tx: &mut Tx<'_, $db>,
            customer: i64,
            nonce: u32,
        ) -> Result<i64, PaymentError> {
            let _ = nonce;
            effect(tx, 43).await?;
            let sql = concat!("INSERT INTO subscriptions (customer) VALUES (", $p1, ")");
            sqlx::query(sql).bind(customer).execute(&mut **tx).await?;
            existing(tx, customer).await
        }

        async fn existing(tx: &mut Tx<'_, $db>, customer: i64) -> Result<i64, PaymentError> {
            let sql = concat!("SELECT seq FROM subscriptions WHERE customer = ", $p1);
            Ok(sqlx::query_scalar(sql).bind(customer).fetch_one(&mut **tx).await?)
        }

        /// Adopts the violation of another index than the one that is violated.
        #[idempotent(key = customer, adopt(constraint("some_other_index") => 0))]
        pub(crate) async fn subscribe_wrongly(
            tx: &mut Tx<'_, $db>,
            customer: i64,
        ) -> Result<i64, PaymentError> {
            let sql = concat!("INSERT INTO subscriptions (customer) VALUES (", $p1, ")");
            sqlx::query(sql).bind(customer).execute(&mut **tx).await?;
            Ok(1)
        }

        /// Some errors are final.
        #[idempotent(key = payment, replay(Verdict::Declined(_)))]
        pub(crate) async fn judge(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<(), Verdict> {
            world.bodies.fetch_add(1, SeqCst);
            effect(tx, payment).await.map_err(|_| Verdict::Down)?;
            world.pass_gate().await;
            match world.gateway() {
                Gateway::Declines => Err(Verdict::Declined(Some(None))),
                Gateway::IsDown => Err(Verdict::Down),
                Gateway::Charges | Gateway::SaysDuplicate => Ok(()),
            }
        }

        /// Keeps no record.
        #[idempotent(key = payment, retain = none)]
        pub(crate) async fn sync_payment(tx: &mut Tx<'_, $db>, payment: i64) -> Result<(), sqlx::Error> {
            effect(tx, payment).await.map(|_| ())
        }

        /// Keeps no record, and stands at the gate.
        #[idempotent(name = "charge_or_wait", job = ChargeUnrecorded, key = payment, retain = none, on_busy = error)]
        pub(crate) async fn charge_unrecorded(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<(), sqlx::Error> {
            charge_through_the_gate(tx, payment, world).await.map(drop)
        }

        /// Does not end by itself.
        #[idempotent(key = payment, timeout = "100ms")]
        pub(crate) async fn hang(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<(), sqlx::Error> {
            charge_through_the_gate(tx, payment, world).await.map(drop)
        }

        /// The same, with all the time that it wants.
        #[idempotent(name = "hang", job = HangOn, key = payment)]
        pub(crate) async fn hang_on(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            #[state] world: &State,
        ) -> Result<(), sqlx::Error> {
            charge_through_the_gate(tx, payment, world).await.map(drop)
        }

        /// Returns as many bytes as it is told.
        #[idempotent(key = payment, retain = forever)]
        pub(crate) async fn grow(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            bytes: usize,
        ) -> Result<String, sqlx::Error> {
            effect(tx, payment).await?;
            Ok("x".repeat(bytes))
        }

        /// Uses a savepoint of the driver, and leaves it open.
        #[idempotent(key = payment)]
        pub(crate) async fn nest(tx: &mut Tx<'_, $db>, payment: i64) -> Result<(), sqlx::Error> {
            use sqlx::Connection as _;
            let mut kept = tx.begin().await?;
            effect(&mut kept, payment).await?;
            kept.commit().await?;
            let mut dropped = tx.begin().await?;
            effect(&mut dropped, payment).await?;
            drop(dropped);
            Ok(())
        }

        /// Asks the driver for what it refuses inside a transaction, and takes no notice of the refusal.
        #[idempotent(key = payment)]
        pub(crate) async fn nest_wrongly(
            tx: &mut Tx<'_, $db>,
            payment: i64,
            notice: bool,
        ) -> Result<(), sqlx::Error> {
            use sqlx::Connection as _;
            effect(tx, payment).await?;
            match tx.begin_with("BEGIN").await.map(|_| ()) {
                Err(error) if notice => Err(error),
                _ => Ok(()),
            }
        }

        /// The same name for a job that returns something else: an older or newer version of it.
        pub(crate) mod before {
            use super::*;

            #[idempotent(name = "versioned", key = id)]
            pub(crate) async fn version_one(
                tx: &mut Tx<'_, $db>,
                id: i64,
            ) -> Result<(String, u8), sqlx::Error> {
                effect(tx, id).await?;
                Ok((String::from("text"), 7))
            }

            #[idempotent(name = "versioned", key = id)]
            pub(crate) async fn version_two(tx: &mut Tx<'_, $db>, id: i64) -> Result<(u64, u8), sqlx::Error> {
                effect(tx, id).await?;
                Ok((0, 7))
            }
        }

        /// Names a row that does not exist.
        #[idempotent(key = id, lock = row(payments.idd = id))]
        pub(crate) async fn misnamed(tx: &mut Tx<'_, $db>, id: i64) -> Result<(), sqlx::Error> {
            effect(tx, id).await.map(|_| ())
        }

        /// Makes the tables in a fresh database.
        pub(crate) async fn lab() -> Option<Lab<$db>> {
            let lab = <$db as LabDatabase>::lab().await?;
            sqlx::raw_sql(TABLES).execute(&mut lab.connect().await).await.expect("tables can be made");
            Some(lab)
        }

        pub(crate) async fn idem_on(pool: sqlx::Pool<$db>, world: &State) -> Idem<$db, State> {
            let idem = Idem::builder(pool).state(Arc::clone(world)).build().expect("the settings are right");
            idem.migrate().await.expect("the tables can be made");
            idem
        }

        pub(crate) async fn idem(lab: &Lab<$db>, world: &State) -> Idem<$db, State> {
            idem_on(lab.pool(5), world).await
        }

        /// Counts the effects from a connection of its own.
        pub(crate) async fn effects(lab: &Lab<$db>) -> i64 {
            count(lab, "SELECT count(*) FROM charges").await
        }

        pub(crate) async fn count(lab: &Lab<$db>, sql: &'static str) -> i64 {
            sqlx::query_scalar(sql).fetch_one(&mut lab.connect().await).await.expect("counting works")
        }
    };
}

pub(crate) mod sqlite {
    define_jobs!(Sqlite, SqliteConnection, serial: "INTEGER PRIMARY KEY", p1: "?", p2: "?");
}

#[cfg(feature = "postgres")]
pub(crate) mod postgres {
    define_jobs!(
        Postgres, PgConnection, serial: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", p1: "$1", p2: "$2"
    );
}

#[cfg(feature = "mysql")]
pub(crate) mod mysql {
    define_jobs!(MySql, MySqlConnection, serial: "BIGINT AUTO_INCREMENT PRIMARY KEY", p1: "?", p2: "?");
}

/// Writes a set of tests for each database.
macro_rules! on_each_database {
    ($tests:ident) => {
        mod sqlite {
            use crate::jobs::sqlite::*;
            $tests!();
        }
        #[cfg(feature = "postgres")]
        mod postgres {
            use crate::jobs::postgres::*;
            $tests!();
        }
        #[cfg(feature = "mysql")]
        mod mysql {
            use crate::jobs::mysql::*;
            $tests!();
        }
    };
}
