use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::engine::{PushError, TaskId};
use crate::key::KeyParts;
use crate::record::{Event, State, next};
use crate::schedule::ScheduleError;

const JOB: &str = "pay";

/// Returns the text of an error of this code, and the code that the error itself names.
fn example(code: Code) -> (String, Option<Code>) {
    fn of(error: Error<fmt::Error>) -> (String, Option<Code>) {
        (error.to_string(), error.code())
    }
    let key = || String::from("42");
    let fingerprint = Fingerprint::from_bits;
    let schedule = |error: ScheduleError| (error.to_string(), Some(error.code()));
    match code {
        Code::Busy => of(Error::Busy(Busy {
            job: JOB,
            key: key(),
            waited: Duration::ZERO,
            skipped: false,
            row_of: None,
            again_in: None,
        })),
        Code::KeyReused => of(Error::KeyReused(KeyReused {
            job: JOB,
            key: key(),
            recorded: fingerprint(1),
            given: fingerprint(2),
        })),
        Code::RowNotFound => {
            of(Error::RowNotFound(RowNotFound { job: JOB, key: key(), table: "payments", column: "id" }))
        }
        Code::Timeout => {
            of(Error::Timeout(Timeout { job: JOB, key: key(), limit: Duration::from_secs(5), leased: false }))
        }
        Code::LostClaim => of(Error::LostClaim(LostClaim { job: JOB, key: key(), epoch: Epoch(1) })),
        Code::Parked => of(Error::Parked(Parked {
            job: JOB,
            key: key(),
            hash: crate::key::Key::new("default", JOB, &KeyParts::global()).hash(),
            epoch: Epoch(1),
            step: None,
            reason: String::from("it was cut off"),
        })),
        Code::Drift => of(Error::Drift(DriftError {
            job: JOB,
            key: key(),
            recorded: String::from("charge"),
            asked: Some(String::from("mail")),
        })),
        Code::EmptyKey => of(Error::Args(ArgsError {
            job: JOB,
            reason: KeyParts::of(" ").expect_err("it is blank").into(),
        })),
        Code::Unserializable => of(Error::Args(ArgsError {
            job: JOB,
            reason: <CodecError as serde::ser::Error>::custom("it is locked").into(),
        })),
        Code::Unavailable
        | Code::Exhausted
        | Code::Conflict
        | Code::NotMigrated
        | Code::ReadOnly
        | Code::UnknownRow
        | Code::NameTaken
        | Code::Unrecordable
        | Code::Unreadable
        | Code::StepName
        | Code::Stale
        | Code::OutcomeUnknown
        | Code::Misconfigured
        | Code::Refused => {
            let of_store = |kind: &StoreErrorKind| kind.code() == code;
            let kind = KINDS.into_iter().find(of_store).expect("each has a kind");
            of(Error::Store(StoreError::new(kind, "it cannot be done")))
        }
        Code::Duplicate => {
            let error = PushError::Duplicate {
                job: JOB,
                claim: key(),
                of: TaskId::new().expect("the system has random numbers"),
                since: Duration::from_secs(1),
            };
            (error.to_string(), Some(error.code()))
        }
        Code::TaskId => {
            let error = "42".parse::<TaskId>().expect_err("it is no ULID");
            (error.to_string(), Some(error.code()))
        }
        // It is an error of apalis, whose text is all that idem has a say in.
        Code::Panicked => (crate::engine::apalis::panicked("no such payment"), Some(Code::Panicked)),
        Code::AttemptsUsedUp => {
            let text = crate::engine::apalis::attempts_used_up(JOB, "01JQ");
            (text, Some(Code::AttemptsUsedUp))
        }
        Code::NoSchedule => schedule(ScheduleError::Missing { job: JOB }),
        Code::UnusableSchedule => {
            schedule(ScheduleError::Cron { job: JOB, cron: "x", why: String::from("it is too short") })
        }
        Code::UnknownTimeZone => schedule(ScheduleError::TimeZone { job: JOB, time_zone: "Europe/Berlinn" }),
        Code::ScheduledTwice => schedule(ScheduleError::Twice { job: JOB }),
        Code::IllegalEvent => {
            let error = next(State::Completed, Event::Begin).expect_err("it is done");
            (error.to_string(), Some(error.code()))
        }
    }
}

const KINDS: [StoreErrorKind; 14] = [
    StoreErrorKind::Unavailable,
    StoreErrorKind::Exhausted,
    StoreErrorKind::Conflict,
    StoreErrorKind::NotMigrated,
    StoreErrorKind::ReadOnly,
    StoreErrorKind::UnknownRow,
    StoreErrorKind::NameTaken,
    StoreErrorKind::Unrecordable,
    StoreErrorKind::Unreadable,
    StoreErrorKind::StepName,
    StoreErrorKind::Stale,
    StoreErrorKind::OutcomeUnknown,
    StoreErrorKind::Misconfigured,
    StoreErrorKind::Refused,
];

#[test]
fn each_error_ends_with_its_code_and_names_it_once() {
    for code in Code::ALL {
        let (text, named) = example(*code);
        assert_eq!(named, Some(*code), "{text}");
        assert!(text.ends_with(&format!(" [{code}]")), "{code:?}: {text}");
        assert_eq!(text.matches("idem::").count(), 1, "{text}");
    }
}

#[test]
fn the_jobs_own_error_has_no_code_and_its_own_text() {
    let error = Error::Job(fmt::Error);
    assert_eq!(error.code(), None);
    assert_eq!(error.to_string(), fmt::Error.to_string());
}

#[test]
fn codes_have_names_of_their_own_and_sentences() {
    let slugs: BTreeSet<_> = Code::ALL.iter().map(|code| code.slug()).collect();
    assert_eq!(slugs.len(), Code::ALL.len());
    for code in Code::ALL {
        let slug = code.slug();
        assert!(slug.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{slug}");
        for text in [code.meaning(), code.remedy()] {
            assert!(text.ends_with('.') && !text.contains("  "), "{slug}: {text}");
            assert_eq!(text.matches('`').count() % 2, 0, "{slug}: {text}");
        }
    }
}

#[test]
fn a_text_inside_of_another_leaves_its_code_out() {
    let error = KeyParts::of(" ").expect_err("it is blank");
    assert_eq!(error.to_string(), format!("{} [idem::empty_key]", error.says()));
    let error = <CodecError as serde::ser::Error>::custom("it is locked, see [idem::busy]");
    assert_eq!(error.says(), "it is locked, see [idem::busy]");
    assert_eq!(error.to_string(), format!("{} [idem::unserializable]", error.says()));
}

#[test]
fn an_error_of_the_store_names_the_run_once() {
    let run = "job `pay` for key `42`";
    let error = || StoreError::new(StoreErrorKind::Refused, "`pay` has no row");
    let named = "job `pay` for key `42`: `pay` has no row [idem::refused]";
    assert_eq!(error().of_run(&run).to_string(), named, "a table may be called as the job is");
    assert_eq!(error().of_run(&run).of_run(&run).to_string(), named);
    assert_eq!(error().names_run().of_run(&run).to_string(), error().to_string());
}
