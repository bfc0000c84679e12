//! The best that can be written by hand on PostgreSQL: what locks and reads rides with BEGIN, the
//! record rides with COMMIT, and the session has the statements prepared. It is the same protocol
//! as idem's without a library around it, so what is between the two is idem's own cost.

use async_trait::async_trait;
use idem_bench_page::Contender;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _};
use tokio::sync::Mutex;

use super::databases::{Receipt, postgres_effect};
use super::{System, fresh_key};

const TABLE: &str = "CREATE TABLE folded (name bigint PRIMARY KEY, completed_at timestamptz NOT NULL, \
                     expires_at timestamptz, result text NOT NULL)";

const PREPARE: &str = "PREPARE folded_lock(bigint) AS SELECT pg_try_advisory_xact_lock($1); \
    PREPARE folded_get(bigint) AS SELECT result FROM folded WHERE name = $1; \
    PREPARE folded_put(bigint, text) AS INSERT INTO folded VALUES ($1, clock_timestamp(), \
    clock_timestamp() + interval '7 days', $2)";

pub(super) struct Folded {
    connections: Vec<Mutex<PgConnection>>,
}

impl Folded {
    pub(super) async fn new(pool: &PgPool, callers: usize) -> anyhow::Result<Self> {
        sqlx::raw_sql(TABLE).execute(pool).await?;
        let mut connections = Vec::new();
        for _ in 0..callers {
            let mut connection = pool.acquire().await?.detach();
            sqlx::raw_sql(PREPARE).execute(&mut connection).await?;
            connections.push(Mutex::new(connection));
        }
        Ok(Folded { connections })
    }
}

#[async_trait]
impl System for Folded {
    fn contender(&self) -> Contender {
        Contender::FoldedOwn
    }

    async fn run(&self, caller: usize) -> anyhow::Result<()> {
        let id = fresh_key();
        let c = &mut *self.connections[caller % self.connections.len()].lock().await;
        let begin = format!("BEGIN; EXECUTE folded_lock('{id}'); EXECUTE folded_get('{id}')");
        let rows = sqlx::raw_sql(AssertSqlSafe(begin)).fetch_all(&mut *c).await?;
        anyhow::ensure!(
            rows.len() == 1 && rows[0].try_get::<bool, _>(0)?,
            "a fresh key is locked or recorded"
        );
        let receipt: Receipt = postgres_effect(c, "folded", id).await?;
        let result = serde_json::to_string(&receipt)?;
        let commit = format!("EXECUTE folded_put('{id}', '{result}'); COMMIT");
        sqlx::raw_sql(AssertSqlSafe(commit)).execute(c).await?;
        Ok(())
    }
}
