//! The endpoint that enqueues, the worker that runs, and the counting of what they left.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use apalis::layers::WorkerBuilderExt as _;
use apalis::layers::retry::RetryPolicy;
use apalis::prelude::*;
use async_trait::async_trait;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use idem_runtime::engine::apalis::{Delivery, Every, POLL, Payload, PayloadCodec};
use idem_runtime::engine::{Engine, Queue};
use idem_runtime::{Idem, Job as _};
use sqlx::{Connection as _, Pool};

use super::jobs::sync_profile::{SyncProfile, change, create_tables, sync};
use super::{BEGIN, Connection, Db, JOBS, QueueConfig, Storage, WRITERS, pool, set_up_apalis};
use crate::database_url::DatabaseUrl;
use crate::fleet::{Change, Counted, Desk, Site, Stage};

/// How often a worker tells apalis that it lives. Whole seconds: apalis cuts fractions off.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// After how many heartbeats that do not come the tasks of a worker go to others.
const MISSED_MAX: usize = 3;

/// How many tasks a worker has under way.
const CONCURRENCY: usize = 4;

/// How often a worker tries a task at once, before apalis offers it again.
const RETRIES: usize = 3;

/// Returns the fleet in a database of this kind. Nothing is sent there yet.
pub fn site(url: &DatabaseUrl) -> Box<dyn Site> {
    Box::new(Database { url: url.as_str().to_owned() })
}

struct Database {
    url: String,
}

impl Database {
    fn idem(&self, pool: &Pool<Db>, desk: Desk) -> anyhow::Result<Idem<Db, Desk>> {
        Ok(Idem::builder(pool.clone()).state(desk).build()?)
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        // Not through a pool, which would go on trying to reach a server that is not there.
        Ok(Connection::connect_with(&pool(&self.url, 1)?.connect_options()).await?)
    }
}

#[async_trait]
impl Site for Database {
    async fn prepare(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        create_tables(&mut connection).await?;
        connection.close().await?;
        let pool = pool(&self.url, 1)?;
        set_up_apalis(&pool).await.context("making the tables of apalis")?;
        let idem = self.idem(&pool, Desk::default())?;
        idem.migrate().await?;
        // The triggers end a claim in the transaction in which apalis gives the task up.
        idem.queue(Engine::Apalis).set_up().await?;
        pool.close().await;
        Ok(())
    }

    async fn endpoint(&self) -> anyhow::Result<Router> {
        let pool = pool(&self.url, WRITERS)?;
        let idem = self.idem(&pool, Desk::default())?;
        idem.enrol::<SyncProfile>().await?;
        let endpoint = Endpoint { pool, queue: idem.queue(Engine::Apalis) };
        Ok(Router::new()
            .route("/health", get(async || "ok"))
            .route("/users/{id}/sync", post(post_sync))
            .with_state(Arc::new(endpoint)))
    }

    async fn work(&self, name: &str, desk: Desk, without_idem: bool) -> anyhow::Result<()> {
        let pool = pool(&self.url, WRITERS)?;
        let idem = self.idem(&pool, desk)?;
        idem.enrol::<SyncProfile>().await?;
        let config = QueueConfig::default()
            .queue(SyncProfile::SPEC.name)
            // No more than it works on, so that each worker gets some.
            .batch_size(CONCURRENCY)
            .heartbeat_interval(HEARTBEAT)
            .missed_heartbeats(MISSED_MAX);
        let storage = Storage::<Payload<SyncProfile>>::new(&pool)
            .with_config(config)
            .with_codec(PayloadCodec)
            .poll_with_strategy(Every::new(POLL));
        let worker = WorkerBuilder::new(name)
            .backend(storage)
            .concurrency(CONCURRENCY)
            .retry(RetryPolicy::retries(RETRIES));
        let running = match without_idem {
            false => {
                let handler = idem.queue(Engine::Apalis).handler::<SyncProfile>();
                let run = move |payload: Payload<SyncProfile>, delivery: Delivery| {
                    let (handled, idem) = (handler(payload, delivery), idem.clone());
                    async move {
                        let ran = handled.await;
                        idem.state().pass(Stage::BeforeTheAnswer).await;
                        ran
                    }
                };
                tokio::spawn(worker.build(run).run())
            }
            true => {
                let run = move |payload: Payload<SyncProfile>| {
                    let (pool, idem) = (pool.clone(), idem.clone());
                    async move {
                        let SyncProfile { user_id, version } = payload.read()?;
                        let mut tx = pool.begin_with(BEGIN).await?;
                        let synced = sync(&mut tx, user_id, version, idem.state()).await?;
                        tx.commit().await?;
                        idem.state().pass(Stage::BeforeTheAnswer).await;
                        Ok::<_, BoxDynError>(synced)
                    }
                };
                tokio::spawn(worker.build(run).run())
            }
        };
        Ok(running.await??)
    }

    async fn count(&self) -> anyhow::Result<Counted> {
        let mut connection = self.connect().await?;
        let sql = format!(
            "SELECT (SELECT COUNT(*) FROM profile_changes), \
             (SELECT COUNT(*) FROM profile_changes WHERE coalesced), \
             (SELECT COUNT(*) FROM profile_syncs), \
             (SELECT COUNT(*) FROM profile_changes c WHERE NOT EXISTS \
             (SELECT 1 FROM profile_syncs s WHERE s.user_id = c.user_id AND s.seen >= c.version)), \
             (SELECT CAST(COALESCE(SUM(effects - 1), 0) AS BIGINT) FROM \
             (SELECT COUNT(*) AS effects FROM profile_syncs GROUP BY user_id, version) AS tasks), \
             (SELECT COUNT(*) FROM {JOBS} WHERE job_type = $1 AND \
             (status = 'Killed' OR status = 'Failed' AND attempts >= max_attempts))"
        );
        let counted: (i64, i64, i64, i64, i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(SyncProfile::SPEC.name)
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        let (changes, coalesced, effects, lost, doubled, given_up) = counted;
        let [changes, coalesced, effects, lost, doubled, given_up] =
            [changes, coalesced, effects, lost, doubled, given_up].map(i64::unsigned_abs);
        Ok(Counted { changes, coalesced, effects, lost, doubled, given_up })
    }

    async fn changes(&self) -> anyhow::Result<Vec<(i64, i64)>> {
        let mut connection = self.connect().await?;
        let changes =
            sqlx::query_as("SELECT user_id, version FROM profile_changes").fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(changes)
    }

    async fn tasks(&self) -> anyhow::Result<(u64, u64)> {
        let mut connection = self.connect().await?;
        let over = "status IN ('Done', 'Killed') OR status = 'Failed' AND attempts >= max_attempts";
        let sql =
            format!("SELECT COUNT(*), COUNT(CASE WHEN {over} THEN 1 END) FROM {JOBS} WHERE job_type = $1");
        let (all, over): (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(SyncProfile::SPEC.name)
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(((all - over).unsigned_abs(), over.unsigned_abs()))
    }
}

struct Endpoint {
    pool: Pool<Db>,
    queue: Queue<Db, Desk>,
}

async fn post_sync(
    State(endpoint): State<Arc<Endpoint>>,
    Path(user_id): Path<i64>,
    Json(body): Json<Change>,
) -> Response {
    match change(&endpoint.pool, &endpoint.queue, user_id, &body).await {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(error) => {
            let status = match () {
                () if error.is_refusal() => StatusCode::UNPROCESSABLE_ENTITY,
                () if error.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
                () => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, error.to_string()).into_response()
        }
    }
}
