//! The commands that change something: they show what, ask, and change it only if it is still so.

use idem_runtime::cleanup::Swept;
use idem_runtime::engine::TaskId;
use idem_runtime::job::Retain;
use idem_runtime::record::{Epoch, State};
use idem_runtime::store::Database;
use idem_runtime::{Idem, KeyReport, Resolution};
use serde::Serialize;

use crate::args::{Change, KeyArg, state_name};
use crate::ask::{Ask, Asking, confirm};
use crate::failure::Failure;
use crate::print::{Output, counted, duration, note, spoken};
use crate::{json, look};

/// Where changes are made.
pub(crate) struct Desk<'a, D: Database> {
    pub(crate) idem: &'a Idem<D>,
    pub(crate) asking: Asking,
    pub(crate) ask: &'a mut dyn Ask,
    pub(crate) output: &'a mut Output,
}

/// What a person says of a parked key.
pub(crate) struct Said<'a> {
    /// The result; `None` if the effect has not happened.
    pub(crate) done: Option<&'a str>,
    pub(crate) retain: Option<&'a str>,
    /// It takes the place of what was said before.
    pub(crate) correct: bool,
}

#[derive(Serialize)]
struct ChangedJson {
    action: &'static str,
    job: String,
    key: String,
    hash: String,
    epoch: i64,
    was: &'static str,
    why: String,
}

#[derive(Serialize)]
struct ReleasedJson {
    action: &'static str,
    task: String,
    claims: u64,
    why: String,
}

#[derive(Serialize)]
struct MigratedJson {
    migrated: bool,
}

#[derive(Serialize)]
struct SweptJson {
    dry_run: bool,
    records: u64,
    claims: u64,
}

impl<D: Database> Desk<'_, D> {
    pub(crate) async fn migrate(&mut self, print: bool) -> Result<(), Failure> {
        if print {
            self.output.raw(&self.idem.migration_sql());
            return Ok(());
        }
        let migrated = self.idem.store().migrate().await?;
        if self.output.json {
            self.output.value(&MigratedJson { migrated });
            return Ok(());
        }
        self.output.line(match migrated {
            false => "idem's tables were up to date; nothing was changed",
            true => "idem's tables are made and up to date",
        });
        Ok(())
    }

    pub(crate) async fn release(
        &mut self,
        key: &str,
        job: Option<&str>,
        change: &Change,
    ) -> Result<(), Failure> {
        let report = look::find(self.idem, key, job).await?;
        let (State::Running | State::Lapsed) = report.key.state else {
            return Err(not_so(&report, "released", "only a key that a run has is"));
        };
        let what =
            "This ends the claim of the run: the key counts as failed, and the next run takes it over.";
        let (epoch, why) = self.agree(&report, what, change)?;
        self.idem.operator().release(report.key.hash, epoch, &why).await?;
        self.changed("release", &report, "The claim is ended; the next run takes the key over.", why);
        Ok(())
    }

    pub(crate) async fn release_task(&mut self, task: TaskId, change: &Change) -> Result<(), Failure> {
        let why = signed(&change.why)?;
        let claims = look::claims_of(self.idem, task).await?;
        if claims.is_empty() {
            return Err(Failure::stale(format!(
                "task {task} has no unique claim that would end with it; `idem list --claims` shows those that there are"
            )));
        }
        for claim in &claims {
            note(format!(
                "task {task} has the claim of {} of job {}, for {}",
                claim.key,
                claim.job,
                spoken(claim.holder.since)
            ));
        }
        note("This ends the claim: another task may come beside this one, if it is still in its queue.");
        confirm(self.asking, self.ask, "End it?")?;
        let ended = self.idem.operator().release_task(task, &why).await?;
        if ended == 0 {
            return Err(Failure::stale(format!(
                "the claim of task {task} has ended meanwhile; nothing was changed"
            )));
        }
        match self.output.json {
            true => self.output.value(&ReleasedJson {
                action: "release",
                task: task.to_string(),
                claims: ended,
                why,
            }),
            false => self.output.line("The claim is ended."),
        }
        Ok(())
    }

    pub(crate) async fn forget(&mut self, key: &KeyArg, change: &Change) -> Result<(), Failure> {
        let report = look::find(self.idem, &key.key, key.job.as_deref()).await?;
        if matches!(report.key.state, State::Running | State::Lapsed | State::Absent) {
            let what = "only one that has an outcome, has failed or is parked is; a run that has a key can be released";
            return Err(not_so(&report, "forgotten", what));
        }
        let steps: Vec<&str> = report.steps.iter().map(|step| step.name.as_str()).collect();
        let steps = match steps.as_slice() {
            [] => String::from("recorded steps are gone"),
            steps => format!("the recorded steps are gone ({})", steps.join(", ")),
        };
        let what = format!(
            "This lets the key count as if nothing had ever run for it: a recorded result answers no more, {steps}, and the \
             effects may be had again."
        );
        let (epoch, why) = self.agree(&report, &what, change)?;
        self.idem.operator().forget(report.key.hash, epoch, &why).await?;
        self.changed("forget", &report, "The key is forgotten.", why);
        Ok(())
    }

    pub(crate) async fn resolve(
        &mut self,
        key: &KeyArg,
        &Said { done, retain, correct }: &Said<'_>,
        change: &Change,
    ) -> Result<(), Failure> {
        let retain = retain.map(|text| retention(text).map(|retain| (retain, text))).transpose()?;
        let resolution = match done {
            None => Resolution::rerun(),
            Some(text) => {
                let wrong = |what| Failure::usage(format!("--done cannot be taken as it is: {what}"));
                let value = json::parse(text).map_err(wrong)?;
                Resolution::done(&value).map_err(|error| wrong(error.to_string()))?
            }
        };
        let report = look::find(self.idem, &key.key, key.job.as_deref()).await?;
        let parked = match (&report.key.parked, &report.key.resolved, &report.key.settled) {
            (Some(parked), ..) => parked,
            (None, Some(parked), _) if correct => parked,
            (None, resolved, Some(settled)) => {
                let hint = match resolved {
                    Some(_) => "; until then, --correct lets another word take the place of that",
                    None => "",
                };
                return Err(Failure::stale(format!(
                    "{} is settled already, {settled}; it waits for its next run: deliver the job again{hint}; nothing was changed",
                    named(&report)
                )));
            }
            (None, ..) => return Err(not_so(&report, "resolved", "only a parked key is")),
        };
        let resolution = if correct { resolution.correcting() } else { resolution };
        let (retain, text) = match (done, &parked.step, retain) {
            (Some(_), None, None) => {
                return Err(Failure::usage(format!(
                    "{} is parked as a whole, so what is given here is the result of the job; say how long it answers with \
                     --retain, as the job's `retain` says: 7d if it says nothing, forever or none; nothing was changed",
                    named(&report)
                )));
            }
            (_, _, Some(said)) => said,
            // Neither a step nor what is to be done again is kept.
            (_, _, None) => (Retain::None, ""),
        };
        let what = match (done, &parked.step) {
            (None, _) if parked.drifted => String::from(
                "This lets the next run look at the recorded steps again: if its code does not have them, it parks the key once more.",
            ),
            (None, _) => String::from("This says that the effect has not happened: the next run has it."),
            (Some(result), Some(step)) => {
                format!(
                    "This says that step `{step}` has happened, with the result {result}: the next run goes on behind it. Whether that is \
                     of the step's type nobody can check here: with a wrong one the next run parks the step again."
                )
            }
            (Some(result), None) => format!(
                "This says that the job has been done, with the result {result}, which replays return; it is kept: {text}. Whether \
                 that is of the job's type nobody can check here: with a wrong one every replay fails until the key is forgotten, and then \
                 the job is done again."
            ),
        };
        let (epoch, why) = self.agree(&report, &what, change)?;
        self.idem.operator().resolve(report.key.hash, epoch, &resolution, retain, &why).await?;
        let said = match (done, &parked.step) {
            (Some(_), None) => "The key is resolved: it is completed.",
            _ => {
                "The key is resolved; it counts as failed until its next run, so see that the job is delivered again."
            }
        };
        self.changed("resolve", &report, said, why);
        Ok(())
    }

    pub(crate) async fn sweep(&mut self, dry_run: bool) -> Result<(), Failure> {
        let operator = self.idem.operator();
        let records: u64 = operator.jobs().await?.iter().map(|job| job.counts.expired).sum();
        let claims = operator.volume().await?.expired_claims;
        let expired = format!(
            "In all namespaces {} and {} have expired",
            counted(records, "record", "records"),
            counted(claims, "unique claim", "unique claims")
        );
        // Nobody is asked about nothing.
        if dry_run || records + claims == 0 {
            match self.output.json {
                true => self.output.value(&SweptJson { dry_run, records, claims }),
                false => self.output.line(format!("{expired}; nothing was changed")),
            }
            return Ok(());
        }
        note(format!("{expired}; nothing is answered from them any more."));
        confirm(self.asking, self.ask, "Delete them?")?;
        let swept = operator
            .sweep(|records| note(format!("{} deleted", counted(records, "record", "records"))))
            .await?;
        let Swept { deleted: records, claims, .. } = swept;
        match self.output.json {
            true => self.output.value(&SweptJson { dry_run, records, claims }),
            false => self.output.line(format!(
                "{} and {} deleted",
                counted(records, "record", "records"),
                counted(claims, "unique claim", "unique claims")
            )),
        }
        Ok(())
    }

    /// Shows the key and what is about to happen to it, and asks; returns the epoch to act under, and who and why.
    fn agree(&mut self, report: &KeyReport, what: &str, change: &Change) -> Result<(Epoch, String), Failure> {
        let why = signed(&change.why)?;
        let seen = report.key.epoch;
        let epoch = change.epoch.map_or(seen, Epoch);
        if epoch != seen {
            return Err(Failure::stale(format!(
                "{} is under epoch {seen}, not {epoch}; nothing was changed; look at it again with `idem explain {}`",
                named(report),
                report.key.hash
            )));
        }
        for (name, value) in look::facts(report, None) {
            note(format!("{name:<12} {value}"));
        }
        note(what);
        confirm(self.asking, self.ask, "Go on?")?;
        Ok((epoch, why))
    }

    fn changed(&mut self, action: &'static str, report: &KeyReport, said: &str, why: String) {
        let key = &report.key;
        match self.output.json {
            true => self.output.value(&ChangedJson {
                action,
                job: key.job.clone(),
                key: key.key.clone(),
                hash: key.hash.to_string(),
                epoch: key.epoch.0,
                was: state_name(key.state),
                why,
            }),
            false => self.output.line(said),
        }
    }
}

/// Reads how long a record answers.
fn retention(text: &str) -> Result<Retain, Failure> {
    match (text, duration(text)) {
        ("forever", _) => Ok(Retain::Forever),
        ("none", _) => Ok(Retain::None),
        (_, Some(duration)) => Ok(Retain::For(duration)),
        (_, None) => Err(Failure::usage(format!(
            "--retain {text:?} is no time; write 7d, 12h, 30m, 10s, forever or none"
        ))),
    }
}

/// Returns a reason with the name of who gives it.
fn signed(why: &str) -> Result<String, Failure> {
    if why.trim().is_empty() {
        return Err(Failure::usage("--why is empty; write what you have found out, and where"));
    }
    let who = whoami::username().unwrap_or_else(|_| String::from("somebody"));
    Ok(format!("{who}: {why}"))
}

/// Returns a key as it may have been typed, and as no other can be meant.
fn named(report: &KeyReport) -> String {
    format!("key {:?} ({} of job {})", report.key.key, report.key.hash, report.key.job)
}

/// The error of a key in a state that nothing can be done about.
fn not_so(report: &KeyReport, done: &str, what: &str) -> Failure {
    Failure::stale(format!(
        "{} is {} and cannot be {done}: {what}; nothing was changed",
        named(report),
        state_name(report.key.state)
    ))
}
