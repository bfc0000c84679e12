//! Bugs of keys: two runs with the same arguments are taken for different work.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use idem_runtime::key::KeyWriter;
use idem_runtime::prelude::*;
use idem_testkit::Scenario;
use serde::{Deserialize, Serialize};

use crate::harness::gateway::lock;
use crate::harness::tables;

bugs! {
    a_key_with_a_counter {
        what: "the key has a number in it that a counter of the process gives out",
        origin: "zoolutions/sidekiq-unique-jobs#48, #235: the key is worked out anew, and otherwise, on the other side",
        plan: Repeat, at: "2 times", hint: "make `key` out of the arguments alone",
        scenario: Scenario::new(PayCounted { id: Counted(42) }).setup(tables::set_up),
    }
    a_key_with_the_time {
        what: "the key has the time in it at which it is worked out",
        origin: "a timestamp in milliseconds as ownership (records-and-steps 8, point 10)",
        plan: Repeat, at: "2 times", hint: "make `key` out of the arguments alone",
        scenario: Scenario::new(PayTimed { id: Timed(42) }).setup(tables::set_up),
    }
    a_key_from_debug_of_a_map {
        what: "the key is the debug text of a map, whose order is another one every time",
        origin: "unordered maps in keys (unique-jobs 6, point 8); sidekiq-unique-jobs sorts its JSON before it hashes",
        plan: Repeat, at: "2 times", hint: "the order of a map",
        scenario: Scenario::new(PayMapped { order: Mapped((0..16).map(|n| (n, n)).collect()) })
            .setup(tables::set_up),
    }
    a_key_prefix_that_grows {
        what: "the prefix of the key is kept in shared state and grows with every call",
        origin: "aws-powertools/powertools-lambda-typescript#5707: nested calls make the prefix grow",
        plan: Repeat, at: "2 times", hint: "a global",
        scenario: Scenario::new(PayPrefixed { id: Prefixed(42) }).setup(tables::set_up),
    }
    a_key_with_a_version_that_the_job_bumps {
        what: "the key has a version in it that the job itself counts up when it has worked",
        origin: "acidic_job 1.0.0.rc7: the definition has the version of the library in it",
        plan: Repeat, at: "2 times", hint: "a global",
        scenario: Scenario::new(PayVersioned { id: Versioned(42) }).setup(tables::set_up),
    }
}

/// Declares a newtype whose key is more than its value.
macro_rules! keys {
    ($($name:ident($inner:ty): |$value:ident, $key:ident| $write:expr;)+) => {$(
        #[derive(Debug, Clone, Serialize, Deserialize)]
        struct $name($inner);

        impl KeyPart for $name {
            fn write(&self, $key: &mut KeyWriter) {
                let $value = &self.0;
                $write
            }
        }
    )+};
}

keys! {
    Counted(i64): |id, key| {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        (*id, CALLS.fetch_add(1, Ordering::SeqCst)).write(key);
    };
    Timed(i64): |id, key| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (*id, now.as_nanos()).write(key);
    };
    Mapped(HashMap<i64, i64>): |order, key| format!("{order:?}").write(key);
    Prefixed(i64): |id, key| {
        static PREFIX: Mutex<String> = Mutex::new(String::new());
        let mut prefix = lock(&PREFIX);
        prefix.push_str("pay#");
        format!("{prefix}{id}").write(key);
    };
    Versioned(i64): |id, key| (*id, VERSION.load(Ordering::SeqCst)).write(key);
}

static VERSION: AtomicU64 = AtomicU64::new(0);

#[idempotent(key = id)]
async fn pay_counted(tx: &mut Tx<'_, Sqlite>, id: Counted) -> Result<(), sqlx::Error> {
    tables::post(tx, id.0).await
}

#[idempotent(key = id)]
async fn pay_timed(tx: &mut Tx<'_, Sqlite>, id: Timed) -> Result<(), sqlx::Error> {
    tables::post(tx, id.0).await
}

#[idempotent(key = order, fingerprint = none)]
async fn pay_mapped(tx: &mut Tx<'_, Sqlite>, order: Mapped) -> Result<(), sqlx::Error> {
    tables::post(tx, order.0.len() as i64).await
}

#[idempotent(key = id)]
async fn pay_prefixed(tx: &mut Tx<'_, Sqlite>, id: Prefixed) -> Result<(), sqlx::Error> {
    tables::post(tx, id.0).await
}

#[idempotent(key = id)]
async fn pay_versioned(tx: &mut Tx<'_, Sqlite>, id: Versioned) -> Result<(), sqlx::Error> {
    tables::post(tx, id.0).await?;
    VERSION.fetch_add(1, Ordering::SeqCst);
    Ok(())
}
