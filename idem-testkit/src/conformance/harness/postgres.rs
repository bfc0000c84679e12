//! The PostgreSQL store.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::store::{PostgresStore, Settings, Store};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgPool, Postgres as Db};
use tokio::sync::OnceCell;

use super::{end_nested, statement};
use crate::conformance::trial::unique;
use crate::conformance::{
    Ability, BoxError, BusinessRow, Fixture, Harness, NestedEnd, TransactionEnd, Violation,
};

/// Tests the PostgreSQL store, each case in a schema of its own.
#[derive(Debug)]
pub struct Postgres {
    url: String,
    pooler: Option<String>,
    /// For what is looked at from outside of the stores, in all cases.
    own: OnceCell<PgPool>,
}

impl Postgres {
    /// Makes the harness for the database at `url`.
    ///
    /// The user must be allowed to make schemas, and to end its own sessions.
    pub fn new(url: impl Into<String>) -> Self {
        Postgres { url: url.into(), pooler: None, own: OnceCell::new() }
    }

    /// Makes the stores connect to `url`, where a pooler in transaction mode stands before the same database.
    #[must_use]
    pub fn through_pooler(self, url: impl Into<String>) -> Self {
        Postgres { pooler: Some(url.into()), ..self }
    }
}

#[async_trait]
impl Harness for Postgres {
    type Db = Db;

    fn name(&self) -> String {
        String::from(if self.pooler.is_some() { "postgres through a pooler" } else { "postgres" })
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::LostConnections if self.pooler.is_some() => {
                Some("the server's connections are the pooler's, which replaces them itself")
            }
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
        let schema = unique("idem_conformance");
        let own = self.own.get_or_try_init(async || {
            let options = PgConnectOptions::from_str(&self.url)?;
            Ok::<_, sqlx::Error>(PgPoolOptions::new().max_connections(8).connect_lazy_with(options))
        });
        let own = own.await?.clone();
        let tables = format!(
            "CREATE SCHEMA {schema}; SET LOCAL search_path = {schema}; CREATE TABLE effects (name text NOT NULL); \
             CREATE TABLE things (id bigint PRIMARY KEY); INSERT INTO things VALUES (1), (2); \
             CREATE TABLE taken (value int NOT NULL CONSTRAINT taken_once UNIQUE)"
        );
        sqlx::raw_sql(AssertSqlSafe(tables)).execute(&own).await?;
        // The stores' sessions are known by this name.
        let options = PgConnectOptions::from_str(self.pooler.as_ref().unwrap_or(&self.url))?;
        let mut options = options.application_name(&schema);
        if self.pooler.is_some() {
            // What sqlx, and so idem, must be told where a session is not one of the server's.
            options = options.statement_cache_capacity(0);
        }
        let pool = || PgPoolOptions::new().max_connections(16).connect_lazy_with(options.clone());
        let others = [pool(), pool()];
        let stores =
            others.clone().map(|pool| Arc::new(PostgresStore::new(pool, settings(&schema, "idem_"))));
        stores[0].migrate().await?;
        let pooled = self.pooler.is_some();
        Ok(Arc::new(PostgresFixture { stores, own, others, schema, pooled }))
    }
}

struct PostgresFixture {
    stores: [Arc<PostgresStore>; 2],
    own: PgPool,
    others: [PgPool; 2],
    schema: String,
    pooled: bool,
}

impl PostgresFixture {
    /// Asks the server about the stores' sessions until the answer is yes.
    async fn until(&self, sql: &'static str) -> Result<(), BoxError> {
        while !sqlx::query_scalar::<_, bool>(sql).bind(&self.schema).fetch_one(&self.own).await? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Fixture<Db> for PostgresFixture {
    fn stores(&self) -> [Arc<dyn Store<Db>>; 2] {
        self.stores.clone().map(|store| store as _)
    }

    async fn insert(&self, connection: &mut PgConnection, effect: &str) -> Result<(), BoxError> {
        // As a pooler wants it: full names, and no prepared statement that outlasts its use.
        let sql = AssertSqlSafe(format!("INSERT INTO {}.effects VALUES ($1)", self.schema));
        sqlx::query(sql).bind(effect).persistent(false).execute(connection).await?;
        Ok(())
    }

    async fn count(&self, effect: &str) -> Result<u64, BoxError> {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {}.effects WHERE name = $1", self.schema));
        let query = sqlx::query_scalar(sql).bind(effect).persistent(false);
        let count: i64 = query.fetch_one(&self.own).await?;
        Ok(u64::try_from(count)?)
    }

    async fn let_pass(&self, time: Duration) -> Result<(), BoxError> {
        let schema = &self.schema;
        let seconds = format!("interval '{} seconds'", time.as_secs());
        let past = format!("interval '{} milliseconds'", time.as_millis());
        let sql = format!(
            "UPDATE {schema}.idem_records SET expires_at = expires_at - {seconds}, \
             lease_until = lease_until - {seconds}, completed_at = completed_at - {seconds}; \
             UPDATE {schema}.idem_claims SET since = since - {past}, expires_at = expires_at - {past}; \
             UPDATE {schema}.idem_outbox SET due = due - {past} WHERE due IS NOT NULL"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.own).await?;
        Ok(())
    }

    async fn until_blocked(&self) -> Result<(), BoxError> {
        self.until(
            "SELECT EXISTS (SELECT FROM pg_stat_activity \
             WHERE application_name = $1 AND wait_event_type = 'Lock')",
        )
        .await
    }

    async fn insert_nested(
        &self,
        connection: &mut PgConnection,
        effect: &str,
        end: NestedEnd,
    ) -> Result<(), BoxError> {
        let mut nested = connection.begin().await?;
        self.insert(&mut nested, effect).await?;
        end_nested(nested, end).await
    }

    async fn end_transaction(
        &self,
        connection: &mut PgConnection,
        end: TransactionEnd,
    ) -> Result<(), BoxError> {
        sqlx::raw_sql(statement(end)).execute(connection).await?;
        Ok(())
    }

    async fn violate(&self, connection: &mut PgConnection) -> Result<Violation, BoxError> {
        let sql = AssertSqlSafe(format!("INSERT INTO {}.taken VALUES (7), (7)", self.schema));
        match sqlx::raw_sql(sql).execute(connection).await {
            Ok(_) => Err("a unique constraint took a value twice".into()),
            Err(error) => Ok(Violation { error: error.into(), constraint: String::from("taken_once") }),
        }
    }

    fn business_row(&self) -> Result<BusinessRow, BoxError> {
        Ok(BusinessRow { table: format!("{}.things", self.schema), column: String::from("id") })
    }

    async fn row_is_locked(&self, value: i64) -> Result<bool, BoxError> {
        let sql = AssertSqlSafe(format!(
            "SELECT id FROM {}.things WHERE id = $1 FOR UPDATE SKIP LOCKED",
            self.schema
        ));
        let free: Option<i64> =
            sqlx::query_scalar(sql).bind(value).persistent(false).fetch_optional(&self.own).await?;
        Ok(free.is_none())
    }

    async fn store_with_prefix(&self, prefix: &str) -> Result<Arc<dyn Store<Db>>, BoxError> {
        Ok(Arc::new(PostgresStore::new(self.others[0].clone(), settings(&self.schema, prefix))))
    }

    async fn kill_connections(&self) -> Result<(), BoxError> {
        // More than once, since a store may connect in between.
        self.until(
            "SELECT count(pg_terminate_backend(pid)) = 0 FROM pg_stat_activity WHERE application_name = $1",
        )
        .await
    }

    async fn close(&self) -> Result<(), BoxError> {
        // A case that failed may have left transactions open, which would be in the way.
        if !self.pooled {
            self.kill_connections().await?;
        }
        let drop = AssertSqlSafe(format!("DROP SCHEMA {} CASCADE", self.schema));
        sqlx::raw_sql(drop).execute(&self.own).await?;
        Ok(())
    }
}

fn settings(schema: &str, prefix: &str) -> Settings {
    let mut settings = Settings::default();
    settings.schema = Some(schema.to_owned());
    prefix.clone_into(&mut settings.table_prefix);
    settings
}
