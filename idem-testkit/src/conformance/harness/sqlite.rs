//! The SQLite store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::store::{Settings, SqliteStore, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Sqlite as Db, SqlitePool};

use super::{end_nested, statement};
use crate::conformance::trial::unique;
use crate::conformance::{
    Ability, BoxError, BusinessRow, Fixture, Harness, NestedEnd, TransactionEnd, Violation,
};

/// Tests the SQLite store, each case in a file of its own.
#[derive(Debug)]
pub struct Sqlite {
    busy_timeout: Duration,
}

impl Default for Sqlite {
    fn default() -> Self {
        // Who waits in SQLite asks again now and then, and may find another of many short runs each time.
        Sqlite { busy_timeout: Duration::from_secs(2) }
    }
}

impl Sqlite {
    /// Makes the harness.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits how long a writer of another handle is waited for, 2 seconds if it is not set. Runs of the suite are
    /// short, but a begin that waits for no time at all ends only with this.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }
}

#[async_trait]
impl Harness for Sqlite {
    type Db = Db;

    fn name(&self) -> String {
        String::from("sqlite")
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::ConcurrentTransactions => Some("SQLite has one writer at a time"),
            Ability::BusyToldApart => {
                Some("SQLite locks the whole file; which key the other writer is at, nobody can tell")
            }
            Ability::LostConnections => Some("a file has no connections to lose"),
            Ability::NestedTransactions
            | Ability::EndedTransactions
            | Ability::UniqueConstraints
            | Ability::BusinessRows
            | Ability::Tables
            | Ability::TasksInTransactions => None,
        }
    }

    async fn open(&self) -> Result<Arc<dyn Fixture<Db>>, BoxError> {
        let folder = Folder(std::env::temp_dir().join(unique("idem_conformance")));
        std::fs::create_dir_all(&folder.0)?;
        let file = folder.0.join("db");
        let pool = || {
            let options = SqliteConnectOptions::new()
                .filename(&file)
                .create_if_missing(true)
                .busy_timeout(self.busy_timeout)
                // No case cuts the power.
                .synchronous(SqliteSynchronous::Off);
            SqlitePoolOptions::new().connect_lazy_with(options)
        };
        let [own, one, two] = [pool(), pool(), pool()];
        let store = |pool: &SqlitePool| SqliteStore::new(pool.clone(), Settings::default()).map(Arc::new);
        let stores = [store(&one)?, store(&two)?];
        stores[0].migrate().await?;
        let tables = "CREATE TABLE effects (name TEXT NOT NULL); \
            CREATE TABLE things (id INTEGER PRIMARY KEY); INSERT INTO things VALUES (1), (2); \
            CREATE TABLE taken (value INTEGER NOT NULL); CREATE UNIQUE INDEX taken_once ON taken (value)";
        sqlx::raw_sql(tables).execute(&own).await?;
        Ok(Arc::new(SqliteFixture { stores, own, others: [one, two], _folder: folder }))
    }
}

struct SqliteFixture {
    stores: [Arc<SqliteStore>; 2],
    own: SqlitePool,
    others: [SqlitePool; 2],
    _folder: Folder,
}

#[async_trait]
impl Fixture<Db> for SqliteFixture {
    fn stores(&self) -> [Arc<dyn Store<Db>>; 2] {
        self.stores.clone().map(|store| store as _)
    }

    async fn insert(&self, connection: &mut SqliteConnection, effect: &str) -> Result<(), BoxError> {
        sqlx::query("INSERT INTO effects VALUES (?1)").bind(effect).execute(connection).await?;
        Ok(())
    }

    async fn count(&self, effect: &str) -> Result<u64, BoxError> {
        let query = sqlx::query_scalar("SELECT count(*) FROM effects WHERE name = ?1").bind(effect);
        let count: i64 = query.fetch_one(&self.own).await?;
        Ok(u64::try_from(count)?)
    }

    async fn let_pass(&self, time: Duration) -> Result<(), BoxError> {
        let query = sqlx::query(
            "UPDATE idem_records SET expires_at = expires_at - ?1, lease_until = lease_until - ?1 * 1000, \
             completed_at = completed_at - ?1",
        );
        query.bind(i64::try_from(time.as_secs())?).execute(&self.own).await?;
        let millis = time.as_millis();
        let queue = format!(
            "UPDATE idem_claims SET since = since - {millis}, expires_at = expires_at - {millis}; \
             UPDATE idem_outbox SET due = due - {millis} WHERE due IS NOT NULL"
        );
        sqlx::raw_sql(AssertSqlSafe(queue)).execute(&self.own).await?;
        Ok(())
    }

    async fn until_blocked(&self) -> Result<(), BoxError> {
        // SQLite shows no waiters. A few turns of a thread like the one that the begin is on let it get there;
        // if they do not, the begin comes later and finds the same.
        for _ in 0..20 {
            sqlx::query("SELECT 1").execute(&self.own).await?;
        }
        Ok(())
    }

    async fn insert_nested(
        &self,
        connection: &mut SqliteConnection,
        effect: &str,
        end: NestedEnd,
    ) -> Result<(), BoxError> {
        let mut nested = connection.begin().await?;
        self.insert(&mut nested, effect).await?;
        end_nested(nested, end).await
    }

    async fn end_transaction(
        &self,
        connection: &mut SqliteConnection,
        end: TransactionEnd,
    ) -> Result<(), BoxError> {
        sqlx::raw_sql(statement(end)).execute(connection).await?;
        Ok(())
    }

    async fn violate(&self, connection: &mut SqliteConnection) -> Result<Violation, BoxError> {
        match sqlx::raw_sql("INSERT INTO taken VALUES (7); INSERT INTO taken VALUES (7)")
            .execute(connection)
            .await
        {
            Ok(_) => Err("a unique index took a value twice".into()),
            Err(error) => Ok(Violation { error: error.into(), constraint: String::from("taken_once") }),
        }
    }

    fn business_row(&self) -> Result<BusinessRow, BoxError> {
        Ok(BusinessRow { table: String::from("things"), column: String::from("id") })
    }

    async fn row_is_locked(&self, value: i64) -> Result<bool, BoxError> {
        let sql = format!("PRAGMA busy_timeout = 0; UPDATE things SET id = id WHERE id = {value}");
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.own).await {
            Ok(_) => Ok(false),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("5") => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn store_with_prefix(&self, prefix: &str) -> Result<Arc<dyn Store<Db>>, BoxError> {
        let mut settings = Settings::default();
        prefix.clone_into(&mut settings.table_prefix);
        Ok(Arc::new(SqliteStore::new(self.others[0].clone(), settings)?))
    }

    async fn close(&self) -> Result<(), BoxError> {
        for pool in self.others.iter().chain([&self.own]) {
            pool.close().await;
        }
        Ok(())
    }
}

/// A folder that goes with the fixture.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over in the folder for temporary files is no test's failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
