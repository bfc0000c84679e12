//! The fleet, run as a user runs it, and its endpoint.

#[path = "common/program.rs"]
mod program;

use std::process::{Command, Output};

use idem_examples::cli::sqlite_url;
use idem_examples::database_url::DatabaseUrl;
use idem_examples::fleet::{Accepted, Answer, Counted, Site};
use idem_examples::{postgres, sqlite};
use idem_testkit::lab::LabDatabase;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::program::refuses;

/// A run that is short, and long enough to be killed in.
const SMALL: &[&str] = &["--pushes", "1200", "--keys", "300", "--workers", "3", "--kills", "4", "--json"];

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fleet")).args(args).output().expect("the program starts")
}

/// Runs the small fleet, and returns its table and whether it succeeded.
fn fleet(more: &[&str]) -> (Value, bool) {
    let output = run(&[SMALL, more].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let table = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("stdout is no JSON: {error}\n{stderr}"));
    (table, output.status.success())
}

fn get(table: &Value, field: &str) -> u64 {
    table[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {table}"))
}

fn check_small((table, success): &(Value, bool)) {
    assert!(success, "{table}");
    assert_eq!(table["wrong"], json!([]));
    assert_eq!((get(table, "lost"), get(table, "doubled")), (0, 0));
    assert_eq!((get(table, "pushed"), get(table, "kills")), (1200, 4));
    assert!(get(table, "coalesced") >= 1, "{table}");
    assert_eq!(get(table, "tasks"), 1200 - get(table, "coalesced"));
    assert_eq!(get(table, "effects"), get(table, "tasks"));
    // Who is killed before the commit runs again.
    assert!(get(table, "runs") >= get(table, "effects") + get(table, "killed_in_the_job"), "{table}");
    // A worker that finds no task in time is killed all the same, elsewhere.
    assert!(get(table, "killed_in_the_job") + get(table, "killed_before_the_answer") >= 1, "{table}");
}

/// A database of its own on the server of a lab: apalis has its tables in a schema that all of a database share.
struct Postgres {
    url: String,
    name: String,
    lab: idem_testkit::lab::Lab<sqlx::Postgres>,
}

impl Postgres {
    /// Makes it. If there is no server, the lab says so.
    async fn new() -> Option<Postgres> {
        let lab = sqlx::Postgres::lab().await?;
        let name = format!("idem_fleet_{:016x}", fastrand::u64(..));
        lab.connect().await.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let mut url = lab.options().to_url_lossy();
        url.set_query(None);
        url.set_path(&name);
        Some(Postgres { url: url.into(), name, lab })
    }

    async fn remove(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.lab.connect().await.execute(AssertSqlSafe(drop)).await.unwrap();
    }
}

#[test]
fn nothing_is_lost_or_doubled_though_workers_are_killed() {
    check_small(&fleet(&[]));
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_on_postgres() {
    let Some(postgres) = Postgres::new().await else { return };
    let url = postgres.url.clone();
    let ran = tokio::task::spawn_blocking(move || fleet(&["--database-url", &url])).await.unwrap();
    check_small(&ran);
    postgres.remove().await;
}

#[test]
fn without_idem_the_same_run_is_seen_to_be_wrong() {
    // The only worker has every task, so it is killed where it is to be: once in the job, once behind its commit.
    let args =
        ["--pushes", "300", "--keys", "60", "--workers", "1", "--kills", "2", "--json", "--without-idem"];
    let output = run(&args);
    let table: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!output.status.success(), "{table}");
    // Who was killed between commit and answer has its effect again, and nobody knows.
    let killed = get(&table, "killed_before_the_answer");
    assert!(killed >= 1 && get(&table, "doubled") >= killed, "{table}");
}

#[test]
fn a_kept_database_is_counted_from_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite_url(&folder.path().join("kept.sqlite"));
    let args = ["--database-url", &url, "--pushes", "50", "--keys", "10", "--workers", "1", "--kills", "0"];
    for _ in 0..2 {
        let output = run(&[&args[..], &["--json"]].concat());
        let table: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{table}");
        assert_eq!((get(&table, "pushed"), get(&table, "kills")), (50, 0));
        assert_eq!(get(&table, "runs"), get(&table, "tasks"));
    }
}

#[test]
fn what_cannot_work_is_told_and_fails() {
    for (args, expected) in [
        (&["--database-url", "redis://localhost"][..], "cannot use `redis`"),
        (&["--database-url", "nothing"], "a URL begins with a scheme"),
        (&["--database-url", "mysql://localhost/a"], "has no queue on MySQL"),
        (&["--database-url", "sqlite::memory:"], "share no memory"),
        (&["--database-url", "sqlite:///nowhere/a.sqlite"], "unable to open database file"),
        (&["--database-url", "postgres://127.0.0.1:1/none"], "preparing PostgreSQL"),
        (&["--workers", "0"], "--workers"),
        (&["--pushes", "0"], "--pushes"),
        (&["--keys", "0"], "--keys"),
        (&["--kills", "many"], "--kills"),
    ] {
        refuses(env!("CARGO_BIN_EXE_fleet"), args, expected);
    }
}

#[test]
fn the_table_names_what_was_asked_for() {
    let output = run(&["--pushes", "5", "--keys", "5", "--workers", "1", "--kills", "0"]);
    let table = String::from_utf8(output.stdout).unwrap();
    for name in ["pushed", "coalesced", "runs", "effects", "kills", "lost", "doubled", "right: "] {
        assert!(table.contains(name), "{table}");
    }
    assert!(!table.contains('\x1b'), "no colours or cursor movements where no terminal is");
}

/// Serves the endpoint, and returns what speaks to it.
async fn serve(site: &dyn Site) -> Client {
    site.prepare().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client { address: listener.local_addr().unwrap().to_string() };
    tokio::spawn(axum::serve(listener, site.endpoint().await.unwrap()).into_future());
    client
}

struct Client {
    address: String,
}

impl Client {
    async fn send(&self, request: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("an answer has a status"), body.to_owned())
    }

    async fn change(&self, user_id: i64, email: &str) -> (u16, String) {
        let body = json!({ "email": email }).to_string();
        self.send(&format!("POST /users/{user_id}/sync"), &body).await
    }

    async fn accepted(&self, user_id: i64, email: &str) -> Accepted {
        let (status, body) = self.change(user_id, email).await;
        assert_eq!(status, 202, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// The address is checked by the table of changes, into which the endpoint writes after it has enqueued.
async fn check_rollback(site: Box<dyn Site>) {
    let client = serve(&*site).await;
    assert_eq!(client.send("GET /health", "").await, (200, String::from("ok")));

    let (status, body) = client.change(7, "nobody").await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(site.count().await.unwrap(), Counted::default());
    assert_eq!(site.tasks().await.unwrap(), (0, 0));

    // Neither the user nor the unique claim is there.
    let first = client.accepted(7, "ada@example.org").await;
    assert_eq!((first.version, first.enqueued), (1, Answer::New));
    // Now the claim is there, and what is rolled back takes nothing of it along.
    assert_eq!(client.change(7, "nobody").await.0, 422);
    let second = client.accepted(7, "ada@example.com").await;
    assert_eq!((second.version, second.enqueued), (2, Answer::Duplicate));
    assert_eq!(second.task, first.task);
    let other = client.accepted(8, "bo@example.org").await;
    assert_eq!((other.version, other.enqueued), (1, Answer::New));
    assert_eq!(site.tasks().await.unwrap(), (2, 0));
    let counted = site.count().await.unwrap();
    assert_eq!(counted, Counted { changes: 3, coalesced: 1, lost: 3, ..Counted::default() });
    assert_eq!(site.changes().await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_error_after_the_push_leaves_neither_change_nor_task() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite_url(&folder.path().join("fleet.sqlite")).parse::<DatabaseUrl>().unwrap();
    check_rollback(sqlite::demos::fleet::site(&url)).await;
}

#[tokio::test]
async fn an_error_after_the_push_leaves_neither_change_nor_task_on_postgres() {
    let Some(postgres) = Postgres::new().await else { return };
    check_rollback(postgres::demos::fleet::site(&postgres.url.parse().unwrap())).await;
    postgres.remove().await;
}

/// The counts find what they are there to find.
#[tokio::test]
async fn a_change_that_nobody_saw_and_an_effect_that_came_twice_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite_url(&folder.path().join("fleet.sqlite"));
    let site = sqlite::demos::fleet::site(&url.parse().unwrap());
    let client = serve(&*site).await;
    for email in ["a@example.org", "b@example.org", "c@example.org"] {
        client.accepted(7, email).await;
    }
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let mut sync = async |version: i64, seen: i64| {
        let sql = "INSERT INTO profile_syncs (user_id, version, seen, email) VALUES (7, $1, $2, '')";
        sqlx::query(sql).bind(version).bind(seen).execute(&mut connection).await.unwrap();
        let counted = site.count().await.unwrap();
        (counted.effects, counted.lost, counted.doubled)
    };
    assert_eq!(sync(1, 2).await, (1, 1, 0), "the third change came after the effect");
    assert_eq!(sync(3, 3).await, (2, 0, 0));
    assert_eq!(sync(1, 3).await, (3, 0, 1), "the first task had a second effect");
    assert_eq!(sync(1, 3).await, (4, 0, 2));
}
