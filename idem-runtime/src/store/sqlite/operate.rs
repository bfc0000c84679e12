//! What people look at in SQLite.

use std::fmt::Write as _;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::SqliteStore;
use super::lease_statements::NOW;
use crate::engine::TaskId;
use crate::error::StoreError;
use crate::store::sql::{
    Dialect, OperateStatements, read_claim_row, read_job_row, read_key_row, read_rows, read_size, read_volume,
};
use crate::store::{ClaimRow, JobRow, KeyFilter, KeyRow, OperateStore, Settings, Volume};

/// The SQL of what people look at and do, with the tables' names.
pub(super) struct Operate {
    pub(super) questions: OperateStatements,
    release_claims: SqlStr,
    sizes: SqlStr,
}

impl Operate {
    pub(super) fn new(settings: &Settings) -> Self {
        let [claims, audit] = ["claims", "audit"].map(|name| settings.table(name));
        let safe = |sql: String| AssertSqlSafe(sql).into_sql_str();
        let of_task = "task = $1 AND expires_at IS NULL";
        let like = format!("{}%", settings.table_prefix.replace('_', "\\_"));
        Operate {
            questions: OperateStatements::new(settings, DIALECT),
            release_claims: safe(format!(
                "BEGIN IMMEDIATE; INSERT INTO {audit} (key, epoch, action, why, at) \
                 SELECT key, 0, $2, $3, unixepoch() FROM {claims} WHERE {of_task}; \
                 DELETE FROM {claims} WHERE {of_task} RETURNING 1 AS idem_held; COMMIT"
            )),
            sizes: safe(format!(
                "SELECT m.tbl_name AS name, CAST(sum(d.pgsize) AS INTEGER) AS bytes FROM dbstat d \
                 JOIN sqlite_master m ON m.name = d.name \
                 WHERE d.aggregate = TRUE AND m.tbl_name LIKE '{like}' ESCAPE '\\' GROUP BY 1 ORDER BY 1"
            )),
        }
    }
}

const DIALECT: Dialect = Dialect {
    key: "key",
    join: "CROSS JOIN",
    int: |sql| format!("CAST({sql} AS INTEGER)"),
    text: str::to_owned,
    hex: |column| format!("hex({column})"),
    length: |column| format!("length({column})"),
    ago: |column| format!("((unixepoch() - {column}) * 1000)"),
    ago_exactly: |column| format!("({NOW} - {column})"),
    contains: |column, text| format!("instr({column}, {}) > 0", literal(text)),
    literal,
    key_literal: |key| format!("x'{key}'"),
};

/// Writes a text whose every character may be anything.
fn literal(text: &str) -> String {
    let digits = text.bytes().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a string takes everything");
        digits
    });
    format!("CAST(x'{digits}' AS TEXT)")
}

impl SqliteStore {
    pub(super) async fn question<T>(
        &self,
        doing: &str,
        sql: String,
        read: impl Fn(&sqlx::sqlite::SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.look(doing, sqlx::query(AssertSqlSafe(sql)).persistent(false)).await?;
        read_rows(doing, &rows, read)
    }
}

#[async_trait]
impl OperateStore for SqliteStore {
    async fn keys(&self, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, StoreError> {
        self.question("listing keys", self.operate.questions.keys(filter), read_key_row).await
    }

    async fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        self.question("counting the keys of jobs", self.operate.questions.jobs(), read_job_row).await
    }

    async fn claims(&self, filter: &KeyFilter<'_>) -> Result<Vec<ClaimRow>, StoreError> {
        self.question("listing unique claims", self.operate.questions.claims(filter), read_claim_row).await
    }

    async fn release_claims(&self, task: TaskId, action: &str, why: &str) -> Result<u64, StoreError> {
        let query = sqlx::query(self.operate.release_claims.clone())
            .bind(task.to_string())
            .bind(action.to_owned())
            .bind(why.to_owned());
        Ok(self.write("ending a unique claim", query).await?.len() as u64)
    }

    async fn volume(&self) -> Result<Volume, StoreError> {
        let doing = "measuring the tables";
        let mut volumes = self.question(doing, self.operate.questions.volume(), read_volume).await?;
        let mut volume = volumes.pop().unwrap_or_default();
        // A SQLite of somebody's own may be built without the table that knows.
        let mut reader = self.readers.lease().await?;
        if let Ok(rows) = sqlx::query(self.operate.sizes.clone()).fetch_all(&mut *reader).await {
            reader.give_back();
            volume.tables = read_rows(doing, &rows, read_size)?;
        }
        Ok(volume)
    }
}
