//! A database that real jobs have worked on, and the program that looks at it.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use idem_runtime::engine::{Engine, Enqueued};
use idem_runtime::prelude::*;
use idem_testkit::lab::{Attach as _, Lab, LabDatabase};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Failure {
    #[error("no stock")]
    NoStock,
    #[error("the courier does not answer")]
    NoAnswer,
    #[error("refused for good")]
    Refused,
}

/// What `mail` returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) number: i64,
    pub(crate) way: Way,
    pub(crate) note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    Air(Option<u8>, String),
}

/// A job without steps, whose callee never answers.
#[idempotent(key = id, in_doubt = park)]
async fn mail(id: i64) -> Result<Letter, Failure> {
    let _ = id;
    Err(Failure::NoAnswer)
}

/// A job that excludes others of its kind while it runs.
#[idempotent(key = id, unique = while_executing, in_doubt = rerun)]
async fn label(id: i64, #[state] desk: &Desk) -> Result<String, Failure> {
    desk.parcel(id).await
}

/// What the jobs depend on.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Runs that stand in their parcel step, and may go on.
    arrived: Semaphore,
    open: Semaphore,
    stands: AtomicBool,
    no_answer: AtomicBool,
    /// The keys that charges were asked for under.
    charges: Mutex<HashMap<i64, String>>,
}

impl Desk {
    async fn charge(&self, id: i64, key: String) -> Result<i64, Failure> {
        self.charges.lock().unwrap().insert(id, key);
        if id == 6 { Err(Failure::Refused) } else { Ok(id) }
    }

    async fn stock(&self, id: i64) -> Result<(), Failure> {
        if id == 3 { Err(Failure::NoStock) } else { Ok(()) }
    }

    async fn parcel(&self, id: i64) -> Result<String, Failure> {
        if self.no_answer.load(Ordering::SeqCst) {
            return Err(Failure::NoAnswer);
        }
        if self.stands.swap(false, Ordering::SeqCst) {
            self.arrived.add_permits(1);
            self.open.acquire().await.expect("it is never closed").forget();
        }
        Ok(format!("parcel {id}"))
    }
}

/// A database, with the jobs on it.
pub(crate) trait Jobs: LabDatabase {
    fn fulfil(idem: &Idem<Self, Desk>, id: i64) -> impl Future<Output = Fulfilled> + Send;
    fn fulfil_anew(idem: &Idem<Self>, id: i64) -> impl Future<Output = Fulfilled> + Send;
    fn pay(idem: &Idem<Self, Desk>, id: i64) -> impl Future<Output = Done<i64>> + Send;
    fn push(idem: &Idem<Self, Desk>, id: i64) -> impl Future<Output = String> + Send;
    fn url(lab: &Lab<Self>) -> String;
}

pub(crate) type Fulfilled = Result<Done<String>, Error<Failure>>;

macro_rules! jobs {
    ($module:ident on $db:ident, $scheme:literal) => {
        mod $module {
            use super::*;

            // No heartbeat comes meanwhile that would wake a key whose lease was let pass.
            #[idempotent(key = id, in_doubt = rerun, replay(Failure::Refused), lock = lease("1h"))]
            pub(crate) async fn fulfil(
                run: &mut Run<'_, $db>,
                id: i64,
                #[state] desk: &Desk,
            ) -> Result<String, Failure> {
                run.step("charge", async |key| desk.charge(id, key).await).await?;
                desk.stock(id).await?;
                run.step("parcel", async |_| desk.parcel(id).await).park().await
            }

            // The same job after a change of its code.
            #[idempotent(key = id, name = "fulfil", in_doubt = rerun, drift = park)]
            pub(crate) async fn fulfil_anew(run: &mut Run<'_, $db>, id: i64) -> Result<String, Failure> {
                run.step("weigh", async |_| Ok::<_, Failure>(format!("parcel {id}"))).await
            }

            #[idempotent(key = id)]
            pub(crate) async fn pay(tx: &mut Tx<'_, $db>, id: i64) -> Result<i64, Failure> {
                let _ = tx;
                Ok(id)
            }

            #[idempotent(key = id, unique = until_executed)]
            pub(crate) async fn export(tx: &mut Tx<'_, $db>, id: i64) -> Result<(), Failure> {
                let _ = (tx, id);
                Ok(())
            }
        }

        impl Jobs for $db {
            async fn fulfil(idem: &Idem<Self, Desk>, id: i64) -> Fulfilled {
                $module::fulfil(idem, id).await
            }

            async fn fulfil_anew(idem: &Idem<Self>, id: i64) -> Fulfilled {
                $module::fulfil_anew(idem, id).await
            }

            async fn pay(idem: &Idem<Self, Desk>, id: i64) -> Done<i64> {
                $module::pay(idem, id).await.unwrap()
            }

            async fn push(idem: &Idem<Self, Desk>, id: i64) -> String {
                match idem.queue(Engine::Outbox).push($module::Export { id }).await.unwrap() {
                    Enqueued::New(task) => task.to_string(),
                    other => panic!("it is not enqueued: {other:?}"),
                }
            }

            fn url(lab: &Lab<Self>) -> String {
                format!("{}{}", $scheme, $db::place(&lab.options()))
            }
        }
    };
}
jobs!(on_sqlite on Sqlite, "sqlite://");
jobs!(on_postgres on Postgres, "");
jobs!(on_mysql on MySql, "");

/// A throw-away database with idem's tables.
pub(crate) struct World<D: Jobs> {
    lab: Lab<D>,
    idem: Idem<D, Desk>,
}

/// A run that stands in its last step.
pub(crate) struct Standing<D: Jobs> {
    idem: Idem<D, Desk>,
    run: JoinHandle<Fulfilled>,
}

impl<D: Jobs> Standing<D> {
    pub(crate) fn let_go(&self) {
        self.idem.state().open.add_permits(1);
    }

    pub(crate) async fn end(self) -> Fulfilled {
        tokio::time::timeout(PATIENCE, self.run).await.expect("it ends").expect("it does not panic")
    }
}

impl<D: Jobs> World<D> {
    /// `None` if the server is not there.
    pub(crate) async fn new() -> Option<Self> {
        let lab = D::lab().await?;
        let desk = Desk {
            arrived: Semaphore::new(0),
            open: Semaphore::new(0),
            stands: AtomicBool::new(false),
            no_answer: AtomicBool::new(false),
            charges: Mutex::default(),
        };
        let idem = Idem::builder(lab.pool(4)).state(desk).build().unwrap();
        idem.migrate().await.unwrap();
        Some(World { lab, idem })
    }

    pub(crate) async fn fulfil(&self, id: i64) -> Fulfilled {
        D::fulfil(&self.idem, id).await
    }

    /// Returns the key that the charge of an order was asked for under.
    pub(crate) fn charged_as(&self, id: i64) -> String {
        self.idem.state().charges.lock().unwrap()[&id].clone()
    }

    pub(crate) async fn mail(&self, id: i64) -> Result<Done<Letter>, Error<Failure>> {
        mail(&self.idem, id).await
    }

    pub(crate) async fn pay(&self, id: i64) -> Done<i64> {
        D::pay(&self.idem, id).await
    }

    pub(crate) async fn push(&self, id: i64) -> String {
        D::push(&self.idem, id).await
    }

    /// Leaves a key parked, under epoch 2.
    pub(crate) async fn parked(&self, id: i64) {
        self.idem.state().no_answer.store(true, Ordering::SeqCst);
        assert!(matches!(self.fulfil(id).await, Err(Error::Job(Failure::NoAnswer))));
        assert!(matches!(self.fulfil(id).await, Err(Error::Parked(_))));
        self.idem.state().no_answer.store(false, Ordering::SeqCst);
    }

    /// Leaves a key parked whose recorded steps its new code does not have.
    pub(crate) async fn drifted(&self) {
        assert!(matches!(self.fulfil(3).await, Err(Error::Job(Failure::NoStock))));
        let anew = Idem::builder(self.lab.pool(1)).build().unwrap();
        assert!(matches!(D::fulfil_anew(&anew, 3).await, Err(Error::Parked(_))));
    }

    /// Begins a run that stands until it is let go.
    pub(crate) async fn running(&self, id: i64) -> Standing<D> {
        let idem = self.idem.clone();
        self.standing(async move { D::fulfil(&idem, id).await }).await
    }

    /// The same of a run that excludes others.
    pub(crate) async fn labelling(&self, id: i64) -> Standing<D> {
        let idem = self.idem.clone();
        self.standing(async move { label(&idem, id).await }).await
    }

    async fn standing(&self, run: impl Future<Output = Fulfilled> + Send + 'static) -> Standing<D> {
        self.idem.state().stands.store(true, Ordering::SeqCst);
        let run = tokio::spawn(run);
        let arrival = self.idem.state().arrived.acquire();
        tokio::time::timeout(PATIENCE, arrival)
            .await
            .expect("it arrives")
            .expect("it is never closed")
            .forget();
        Standing { idem: self.idem.clone(), run }
    }

    /// Leaves keys of `fulfil` in every state, 1 to 7, and one of `pay`; the running one runs until the process ends.
    pub(crate) async fn one_of_each(&self) {
        assert!(self.fulfil(7).await.is_ok());
        self.run_sql("UPDATE idem_records SET expires_at = completed_at").await;
        drop(self.running(2).await);
        self.run_sql(D::LET_LEASES_LAPSE).await;
        assert!(matches!(self.fulfil(3).await, Err(Error::Job(Failure::NoStock))));
        self.parked(4).await;
        assert!(self.fulfil(5).await.is_ok());
        assert!(matches!(self.fulfil(6).await, Err(Error::Job(Failure::Refused))));
        self.pay(5).await;
        drop(self.running(1).await);
    }

    /// Leaves a unique claim whose time is over.
    pub(crate) async fn expired_claim(&self) {
        self.push(9).await;
        self.run_sql("UPDATE idem_claims SET expires_at = since WHERE readable = '9'").await;
    }

    /// Deletes the steps of all keys.
    pub(crate) async fn lose_steps(&self) {
        self.run_sql("DELETE FROM idem_steps").await;
    }

    async fn run_sql(&self, sql: &'static str) {
        D::rows(&mut self.lab.connect().await, sql).await.unwrap();
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        command(&[&["--database-url", &D::url(&self.lab)], args].concat()).spawn().unwrap()
    }

    /// Runs the command, which must succeed, and returns what it prints.
    pub(crate) fn text(&self, args: &[&str]) -> String {
        let ended = ended(self.spawn(args));
        assert_eq!(ended.code, 0, "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Runs a line of a shell that finds the command and the database.
    pub(crate) fn shell(&self, line: &str) -> Ended {
        let program = Path::new(env!("CARGO_BIN_EXE_idem"));
        let mut path = program.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .env("PATH", path)
            .env("DATABASE_URL", D::url(&self.lab))
            .env_remove("IDEM_DATABASE_URL");
        ended(piped(shell).spawn().unwrap())
    }

    /// Runs the command as [`text`](Self::text) does, and returns its JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.text(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// Runs the command, which must fail, and returns what it says.
    pub(crate) fn fails(&self, args: &[&str], code: i32) -> String {
        let ended = ended(self.spawn(args));
        assert_eq!(ended.code, code, "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended.stderr
    }
}

/// A command that has ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the command.
pub(crate) fn idem(args: &[&str]) -> Ended {
    ended(command(args).spawn().unwrap())
}

pub(crate) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idem"));
    command.args(args).env_remove("IDEM_DATABASE_URL").env_remove("DATABASE_URL").env_remove("NO_COLOR");
    piped(command)
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
