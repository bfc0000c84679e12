//! The MySQL and MariaDB store.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::store::{MySqlStore, Settings, Store};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Connection, MySql as Db, MySqlPool, Row};

use super::{end_nested, statement};
use crate::conformance::trial::unique;
use crate::conformance::{
    Ability, BoxError, BusinessRow, Fixture, Harness, NestedEnd, TransactionEnd, Violation,
};

/// Tests the MySQL store, each case in a database of its own.
#[derive(Debug)]
pub struct MySql {
    url: String,
}

impl MySql {
    /// Makes the harness for the server at `url`.
    ///
    /// The user must be allowed to make databases, to see and kill its own sessions, and to see transactions that wait.
    pub fn new(url: impl Into<String>) -> Self {
        MySql { url: url.into() }
    }
}

#[async_trait]
impl Harness for MySql {
    type Db = Db;

    fn name(&self) -> String {
        String::from("mysql")
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::ConcurrentTransactions
            | Ability::BusyToldApart
            | Ability::NestedTransactions
            | Ability::EndedTransactions
            | Ability::UniqueConstraints
            | Ability::BusinessRows
            | Ability::Tables
            | Ability::LostConnections
            | Ability::TasksInTransactions => None,
        }
    }

    async fn open(&self) -> Result<Arc<dyn Fixture<Db>>, BoxError> {
        let database = unique("idem_conformance");
        let options = MySqlConnectOptions::from_str(&self.url)?;
        // Stays in the database of the URL, so that sessions in the new one are the stores' alone.
        let own = MySqlPoolOptions::new().max_connections(2).connect_lazy_with(options.clone());
        let tables = format!(
            "CREATE DATABASE {database}; \
             CREATE TABLE {database}.effects \
             (name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL); \
             CREATE TABLE {database}.things (id BIGINT PRIMARY KEY); \
             INSERT INTO {database}.things VALUES (1), (2); \
             CREATE TABLE {database}.taken (value INT NOT NULL, UNIQUE INDEX taken_once (value))"
        );
        sqlx::raw_sql(AssertSqlSafe(tables)).execute(&own).await?;
        let options = options.database(&database);
        let pool = || MySqlPoolOptions::new().max_connections(16).connect_lazy_with(options.clone());
        let others = [pool(), pool()];
        let stores = others.clone().map(|pool| Arc::new(MySqlStore::new(pool, Settings::default())));
        stores[0].migrate().await?;
        Ok(Arc::new(MySqlFixture { stores, own, others, database }))
    }
}

struct MySqlFixture {
    stores: [Arc<MySqlStore>; 2],
    own: MySqlPool,
    others: [MySqlPool; 2],
    database: String,
}

impl MySqlFixture {
    /// Returns number and state of the stores' sessions.
    async fn sessions(&self) -> Result<Vec<(u64, String)>, BoxError> {
        let sql = "SELECT CAST(id AS UNSIGNED) AS id, CAST(coalesce(state, '') AS CHAR) AS state \
                   FROM information_schema.processlist WHERE db = ?";
        let rows = sqlx::query(sql).bind(&self.database).fetch_all(&self.own).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get("state")?))).collect()
    }
}

#[async_trait]
impl Fixture<Db> for MySqlFixture {
    fn stores(&self) -> [Arc<dyn Store<Db>>; 2] {
        self.stores.clone().map(|store| store as _)
    }

    async fn insert(&self, connection: &mut MySqlConnection, effect: &str) -> Result<(), BoxError> {
        sqlx::query("INSERT INTO effects VALUES (?)").bind(effect).execute(connection).await?;
        Ok(())
    }

    async fn count(&self, effect: &str) -> Result<u64, BoxError> {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {}.effects WHERE name = ?", self.database));
        let count: i64 = sqlx::query_scalar(sql).bind(effect).fetch_one(&self.own).await?;
        Ok(u64::try_from(count)?)
    }

    async fn let_pass(&self, time: Duration) -> Result<(), BoxError> {
        let millis = time.as_millis();
        let sql = format!(
            "UPDATE {0}.idem_records SET expires_at = expires_at - {millis}, lease_until = lease_until - {millis}, \
             completed_at = completed_at - {millis}; \
             UPDATE {0}.idem_claims SET since = since - {millis}, expires_at = expires_at - {millis}; \
             UPDATE {0}.idem_outbox SET due = due - {millis} WHERE due IS NOT NULL",
            self.database
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.own).await?;
        Ok(())
    }

    async fn until_blocked(&self) -> Result<(), BoxError> {
        // "User lock" is the state of a session that waits in GET_LOCK.
        loop {
            for _ in 0..150 {
                if self.sessions().await?.iter().any(|(_, state)| state.eq_ignore_ascii_case("User lock")) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // One that waits for a row looks busy otherwise. The server shows what was so when the table had last not
            // been read for a tenth of a second.
            let sql = "SELECT CAST(trx_mysql_thread_id AS UNSIGNED) AS id FROM information_schema.innodb_trx \
                       WHERE trx_state = 'LOCK WAIT'";
            let waiting: Vec<u64> = sqlx::query_scalar(sql).fetch_all(&self.own).await?;
            if self.sessions().await?.iter().any(|(id, _)| waiting.contains(id)) {
                return Ok(());
            }
        }
    }

    async fn insert_nested(
        &self,
        connection: &mut MySqlConnection,
        effect: &str,
        end: NestedEnd,
    ) -> Result<(), BoxError> {
        let mut nested = connection.begin().await?;
        self.insert(&mut nested, effect).await?;
        end_nested(nested, end).await
    }

    async fn end_transaction(
        &self,
        connection: &mut MySqlConnection,
        end: TransactionEnd,
    ) -> Result<(), BoxError> {
        sqlx::raw_sql(statement(end)).execute(connection).await?;
        Ok(())
    }

    async fn violate(&self, connection: &mut MySqlConnection) -> Result<Violation, BoxError> {
        match sqlx::raw_sql("INSERT INTO taken VALUES (7), (7)").execute(connection).await {
            Ok(_) => Err("a unique index took a value twice".into()),
            Err(error) => Ok(Violation { error: error.into(), constraint: String::from("taken_once") }),
        }
    }

    fn business_row(&self) -> Result<BusinessRow, BoxError> {
        Ok(BusinessRow { table: String::from("things"), column: String::from("id") })
    }

    async fn row_is_locked(&self, value: i64) -> Result<bool, BoxError> {
        let sql =
            format!("SELECT id FROM {}.things WHERE id = {value} FOR UPDATE SKIP LOCKED", self.database);
        Ok(sqlx::raw_sql(AssertSqlSafe(sql)).fetch_optional(&self.own).await?.is_none())
    }

    async fn store_with_prefix(&self, prefix: &str) -> Result<Arc<dyn Store<Db>>, BoxError> {
        let mut settings = Settings::default();
        prefix.clone_into(&mut settings.table_prefix);
        Ok(Arc::new(MySqlStore::new(self.others[0].clone(), settings)))
    }

    async fn kill_connections(&self) -> Result<(), BoxError> {
        loop {
            let sessions = self.sessions().await?;
            if sessions.is_empty() {
                return Ok(());
            }
            for (id, _) in sessions {
                // One that is gone by now is what was asked for.
                let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&self.own).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn close(&self) -> Result<(), BoxError> {
        // A case that failed may have left transactions open, which would be in the way.
        self.kill_connections().await?;
        let drop = AssertSqlSafe(format!("DROP DATABASE {}", self.database));
        sqlx::raw_sql(drop).execute(&self.own).await?;
        self.own.close().await;
        Ok(())
    }
}
