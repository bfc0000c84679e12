//! What people look at in MySQL and MariaDB.

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use sqlx::{Column as _, Row as _};

use super::lease_statements::CHANGED;
use super::statements::{NOW, literal};
use super::{MySqlStore, message};
use crate::engine::TaskId;
use crate::error::StoreError;
use crate::store::sql::{
    Columns, Dialect, OperateStatements, TABLES, driver_error, read_claim_row, read_job_row, read_key_row,
    read_rows, read_size, read_volume,
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
        let schema = settings
            .schema
            .as_ref()
            .map_or_else(|| String::from("DATABASE()"), |schema| format!("'{schema}'"));
        let prefix = &settings.table_prefix;
        let names = TABLES.map(|name| format!("'{prefix}{name}'")).join(",");
        let sizes = format!(
            "SELECT CONVERT(table_name USING utf8mb4) AS name, CAST(data_length + index_length AS SIGNED) AS bytes \
             FROM information_schema.tables WHERE table_schema = {schema} AND table_name IN ({names}) ORDER BY 1"
        );
        Operate { questions: OperateStatements::new(settings, DIALECT), claims, audit, sizes }
    }
}

const DIALECT: Dialect = Dialect {
    key: "`key`",
    join: "STRAIGHT_JOIN",
    int: |sql| format!("CAST({sql} AS SIGNED)"),
    text: |column| format!("CONVERT({column} USING utf8mb4)"),
    hex: |column| format!("CONVERT(HEX({column}) USING utf8mb4)"),
    length: |column| format!("LENGTH({column})"),
    ago: |column| format!("({NOW} - {column})"),
    ago_exactly: |column| format!("({NOW} - {column})"),
    // By bytes: the collation of the column takes some letters for others.
    contains: |column, text| {
        format!("LOCATE(CAST({} AS BINARY), CAST({column} AS BINARY)) > 0", literal(text))
    },
    literal,
    key_literal: |key| format!("x'{key}'"),
};

impl MySqlStore {
    pub(super) async fn question<T>(
        &self,
        doing: &str,
        sql: String,
        read: impl Fn(&MySqlRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.ask(doing, || sql.clone()).await?;
        read_rows(doing, &rows, read)
    }
}

#[async_trait]
impl OperateStore for MySqlStore {
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
        let failed = |error| driver_error("ending a unique claim", error);
        let Operate { claims, audit, .. } = &self.operate;
        let (action, why) = (literal(action), literal(why));
        let of_task = format!("task = '{task}' AND expires_at IS NULL");
        let sql = format!(
            "BEGIN;SELECT 1 FROM {claims} WHERE {of_task} FOR UPDATE;\
             INSERT INTO {audit} (`key`, epoch, action, why, at) \
             SELECT `key`, 0, {action}, {why}, {NOW} FROM {claims} WHERE {of_task};\
             DELETE FROM {claims} WHERE {of_task};{CHANGED};COMMIT"
        );
        // A person's word is not sent twice.
        let mut connection = self.connections.lease_alive().await?;
        let rows = message(&mut connection, sql).await.map_err(failed)?;
        connection.give_back();
        let deleted = rows.iter().find(|row| row.column(0).name() == "idem_held");
        let deleted = deleted.map(|row| row.number("idem_held")).transpose().map_err(failed)?.flatten();
        Ok(deleted.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }

    async fn volume(&self) -> Result<Volume, StoreError> {
        let doing = "measuring the tables";
        let mut volumes = self.question(doing, self.operate.questions.volume(), read_volume).await?;
        let mut volume = volumes.pop().unwrap_or_default();
        volume.tables = self.question(doing, self.operate.sizes.clone(), read_size).await?;
        Ok(volume)
    }
}
