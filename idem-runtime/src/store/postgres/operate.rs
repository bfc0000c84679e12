//! What people look at in PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::statements::literal;
use super::{PostgresStore, message};
use crate::engine::TaskId;
use crate::error::StoreError;
use crate::store::sql::{
    Dialect, OperateStatements, TABLES, driver_error, read_claim_row, read_job_row, read_key_row, read_rows,
    read_size, read_volume,
};
use crate::store::{ClaimRow, JobRow, KeyFilter, KeyRow, OperateStore, Settings, Volume};

/// The SQL of what people look at and do, with the tables' names.
pub(super) struct Operate {
    pub(super) questions: OperateStatements,
    claims: String,
    audit: String,
    sizes: String,
}

impl Operate {
    pub(super) fn new(settings: &Settings) -> Self {
        let [claims, audit] = ["claims", "audit"].map(|name| settings.table(name));
        let size = |name: &str| {
            let prefix = &settings.table_prefix;
            let table = settings.table(name);
            format!(
                "SELECT '{prefix}{name}' AS name, pg_total_relation_size('{table}'::regclass)::bigint AS bytes"
            )
        };
        let sizes = TABLES.map(size).join(" UNION ALL ");
        Operate { questions: OperateStatements::new(settings, DIALECT), claims, audit, sizes }
    }
}

const DIALECT: Dialect = Dialect {
    key: "key",
    join: "CROSS JOIN",
    int: |sql| format!("({sql})::bigint"),
    text: |column| format!("{column}::text"),
    // An id is digits with dashes between, as text.
    hex: |column| match column.ends_with(".key") {
        true => format!("replace({column}::text, '-', '')"),
        false => format!("encode({column}, 'hex')"),
    },
    length: |column| format!("octet_length({column})"),
    ago: millis_ago,
    ago_exactly: millis_ago,
    contains: |column, text| format!("position({} in {column}) > 0", literal(text)),
    literal,
    key_literal: |key| format!("'{key}'"),
};

fn millis_ago(column: &str) -> String {
    format!("floor(extract(epoch FROM clock_timestamp() - {column}) * 1000)::bigint")
}

impl PostgresStore {
    pub(super) async fn question<T>(
        &self,
        doing: &str,
        sql: String,
        read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.ask(doing, sql).await?;
        read_rows(doing, &rows, read)
    }
}

#[async_trait]
impl OperateStore for PostgresStore {
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
        let Operate { claims, audit, .. } = &self.operate;
        let (action, why) = (literal(action), literal(why));
        let sql = format!(
            "WITH gone AS (DELETE FROM {claims} WHERE task = '{task}' AND expires_at IS NULL RETURNING key) \
             INSERT INTO {audit} (key, epoch, action, why, at) \
             SELECT key, 0, {action}, {why}, clock_timestamp() FROM gone RETURNING 1"
        );
        // A person's word is not sent twice.
        let mut connection = self.connections.lease_alive().await?;
        let rows = message(&mut connection, sql)
            .await
            .map_err(|error| driver_error("ending a unique claim", error))?;
        connection.give_back();
        Ok(rows.len() as u64)
    }

    async fn volume(&self) -> Result<Volume, StoreError> {
        let doing = "measuring the tables";
        let mut volumes = self.question(doing, self.operate.questions.volume(), read_volume).await?;
        let mut volume = volumes.pop().unwrap_or_default();
        volume.tables = self.question(doing, self.operate.sizes.clone(), read_size).await?;
        Ok(volume)
    }
}
