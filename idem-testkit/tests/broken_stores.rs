//! Deliberately broken stores: each breaks a law, and the suite says which.
//!
//! A broken store is a good one with one method of [`Fault`] replaced. The test adds up what all of
//! them are caught at: a law that none of them breaks would be a law that cannot fail.

#![cfg(feature = "sqlite")]
#![cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "some faults show only on a server"))]

mod faults;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::store::Database;
#[cfg(feature = "postgres")]
use idem_testkit::conformance::harness::Postgres;
use idem_testkit::conformance::harness::{Memory, Sqlite};
use idem_testkit::conformance::{
    Ability, BoxError, BusinessRow, Fixture, Harness, NestedEnd, Report, Suite, TransactionEnd, Violation,
};
#[cfg(feature = "postgres")]
use idem_testkit::servers::Server;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::faults::{BrokenStore, Fault, Good};

/// The harness of a store with a fault.
struct Broken<H: Harness> {
    good: H,
    fault: Arc<dyn Fault<H::Db>>,
}

#[async_trait]
impl<H: Harness> Harness for Broken<H> {
    type Db = H::Db;

    fn name(&self) -> String {
        format!("{}, broken", self.good.name())
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        self.good.lacks(ability)
    }

    async fn open(&self) -> Result<Arc<dyn Fixture<H::Db>>, BoxError> {
        let good = self.good.open().await?;
        Ok(Arc::new(BrokenFixture { good, fault: Arc::clone(&self.fault) }))
    }
}

struct BrokenFixture<D: Database> {
    good: Arc<dyn Fixture<D>>,
    fault: Arc<dyn Fault<D>>,
}

impl<D: Database> BrokenFixture<D> {
    fn broken(&self, good: Good<D>) -> Good<D> {
        Arc::new(BrokenStore { good, fault: Arc::clone(&self.fault) })
    }
}

#[async_trait]
impl<D: Database> Fixture<D> for BrokenFixture<D> {
    fn stores(&self) -> [Good<D>; 2] {
        self.good.stores().map(|good| self.broken(good))
    }

    async fn insert(&self, connection: &mut D::Connection, effect: &str) -> Result<(), BoxError> {
        self.good.insert(connection, effect).await
    }

    async fn count(&self, effect: &str) -> Result<u64, BoxError> {
        self.good.count(effect).await
    }

    async fn let_pass(&self, time: Duration) -> Result<(), BoxError> {
        self.good.let_pass(time).await
    }

    async fn until_blocked(&self) -> Result<(), BoxError> {
        self.good.until_blocked().await
    }

    async fn insert_nested(
        &self,
        connection: &mut D::Connection,
        effect: &str,
        end: NestedEnd,
    ) -> Result<(), BoxError> {
        self.fault.insert_nested(&*self.good, connection, effect, end).await
    }

    async fn end_transaction(
        &self,
        connection: &mut D::Connection,
        end: TransactionEnd,
    ) -> Result<(), BoxError> {
        self.good.end_transaction(connection, end).await
    }

    async fn violate(&self, connection: &mut D::Connection) -> Result<Violation, BoxError> {
        self.good.violate(connection).await
    }

    fn business_row(&self) -> Result<BusinessRow, BoxError> {
        self.good.business_row()
    }

    async fn row_is_locked(&self, value: i64) -> Result<bool, BoxError> {
        self.good.row_is_locked(value).await
    }

    async fn store_with_prefix(&self, prefix: &str) -> Result<Good<D>, BoxError> {
        let good = self.good.store_with_prefix(self.fault.prefix(prefix)).await?;
        Ok(self.broken(good))
    }

    async fn kill_connections(&self) -> Result<(), BoxError> {
        self.fault.killed();
        self.good.kill_connections().await
    }

    async fn close(&self) -> Result<(), BoxError> {
        self.good.close().await
    }
}

/// Runs the suite on a store with a fault. A case that hangs has failed as well, so it need not hang for long.
async fn run<H: Harness>(good: H, fault: impl Fault<H::Db>) -> Report {
    Suite::default().time_limit(Duration::from_secs(2)).run(Broken { good, fault: Arc::new(fault) }).await
}

/// A broken store on trial: its name, the laws that must catch it, and its run.
type Check = (&'static str, &'static [&'static str], Pin<Box<dyn Future<Output = Report> + Send>>);

/// Lists broken stores: fault, harness of the good store, laws that the fault breaks.
macro_rules! broken {
    ($($fault:ident on $harness:expr => $($law:ident)|+,)+) => {
        vec![$((
            stringify!($fault),
            &[$(stringify!($law)),+],
            Box::pin(run($harness, faults::$fault::default())) as _,
        )),+]
    };
}

/// SQLite for stores that may fail: the cases in which it waits to the end fit into the limit of [`run`].
fn impatient() -> Sqlite {
    Sqlite::new().busy_timeout(Duration::from_millis(300))
}

fn broken_stores() -> Vec<Check> {
    broken![
        ForgetsTheRecord on Memory::new() => a_record_commits_with_its_effect,
        RecordsAfterwards on Memory::new() => the_loser_of_a_race_leaves_nothing,
        RecordsAfterwards on impatient() => a_commit_dropped_anywhere_is_all_or_nothing,
        ReplacesALiveRecord on impatient() => a_live_record_is_never_replaced,
        BareCommitRollsBack on Memory::new() => a_commit_without_record_commits_the_effect,
        RollbackCommits on Memory::new() => a_rollback_leaves_nothing,
        DropCommits on Memory::new() => a_dropped_transaction_leaves_nothing,
        DropKeepsTheLock on Memory::new() => a_twin_waits_and_runs_after_a_drop,
        TakesNoLock on Memory::new() => a_twin_waits_and_sees_the_winners_record
            | one_of_sixteen_begins_runs,
        LocksEverything on Memory::new() => other_keys_do_not_wait,
        AlwaysWaits on Memory::new() => no_wait_ends_while_the_key_is_held,
        BusyIsAnError on Memory::new() => a_held_key_is_busy,
        BeginsDetached on Memory::new() => a_begin_dropped_while_it_waits_frees_the_key,
        BeginsDetached on impatient() => a_begin_dropped_anywhere_frees_the_key,
        RecordsAtBegin on Memory::new() => an_open_run_is_invisible,
        AnswersOnce on Memory::new() => a_recorded_key_is_never_absent_again,
        DropsAnEmptyResult on Memory::new() => results_come_back_bit_by_bit,
        CutsResults on Memory::new() => results_come_back_bit_by_bit,
        DropsTheFingerprint on Memory::new() => fingerprints_come_back,
        RejectsAsCompleted on Memory::new() => a_rejection_comes_back_as_one,
        RefusesQuotes on Memory::new() => any_readable_key_is_recorded,
        ReadsNeighbours on Memory::new() => keys_one_bit_apart_do_not_meet,
        BeginIgnoresExpiry on Memory::new() => an_expired_key_begins_as_absent,
        ReadIgnoresExpiry on Memory::new() => an_expired_record_is_not_read,
        KeepsForEver on Memory::new() => an_expired_record_is_replaced,
        RacesOverExpiredRecords on Memory::new() => one_run_replaces_an_expired_record,
        HalvesTheRetention on Memory::new() => a_record_answers_for_its_whole_retention,
        ForgetsForEver on Memory::new() => for_ever_never_expires,
        SweepsLiveRecords on impatient() => a_sweep_deletes_only_what_has_expired
            | a_sweep_spares_what_was_replaced_meanwhile
            | a_sweep_spares_what_has_no_outcome,
        SweepForgetsToRetry on Memory::new() => a_sweep_disturbs_no_run,
        SweepNeverEnds on Memory::new() => a_sweep_goes_in_bounded_batches_to_its_end,
        SweepStopsEarly on Memory::new() => a_sweep_goes_in_bounded_batches_to_its_end,
        SweepIgnoresItsLimit on Memory::new() => a_sweep_goes_in_bounded_batches_to_its_end,
        UndoDoesNothing on Memory::new() => undo_discards_the_body_and_keeps_the_key,
        EnqueuesNothing on Memory::new() => what_a_body_enqueues_commits_with_it,
        EnqueuesAside on Memory::new() => what_a_body_enqueues_commits_with_it,
        EnqueuesAfterTheEnd on impatient() => a_body_that_ends_its_transaction_enqueues_nothing,
        TakesAnyErrorForTheViolation on impatient() => undo_violation_tells_other_errors_apart,
        KnowsNoViolation on impatient() => undo_violation_recovers_from_the_named_constraint,
        HidesTheTransactionFromTheDriver on impatient() => a_nested_commit_is_a_savepoint
            | a_nested_rollback_is_a_savepoint,
        TakesErrorsForCommits on impatient() => a_body_that_ends_its_transaction_records_nothing,
        IgnoresAMissingRow on impatient() => a_missing_row_is_told,
        AsksForTheRowFirst on impatient() => a_record_answers_before_its_row,
        ChecksNoRow on impatient() => a_row_is_checked_by_name,
        NumbersAllJobsOne on Memory::new() => a_job_keeps_its_number,
        NumbersJobsAnew on Memory::new() => a_name_enrolled_at_once_has_one_number,
        MigratesOnlyOnce on impatient() => migrating_again_changes_nothing
            | migrations_at_once_do_not_collide,
        HidesMissingTables on impatient() => missing_tables_are_told,
        IgnoresThePrefix on impatient() => table_prefixes_do_not_meet,
        ForgetsTheAttempt on Memory::new() => a_claim_is_running_with_all_that_it_names,
        ClaimsLapsedKeys on Memory::new() => a_claimed_key_is_found_and_not_touched,
        LooksThenClaims on Memory::new() => of_claims_at_once_one_has_the_key,
        TakesOverTheLiving on Memory::new() => a_live_claim_is_never_taken_over,
        TakesOverWithoutSteps on Memory::new() => a_lapsed_claim_is_taken_over,
        TakesOverForEverybody on Memory::new() => of_take_overs_at_once_one_has_the_key,
        TakesOverWhatItFinds on Memory::new() => a_take_over_of_what_has_changed_fails,
        RenewsNothing on Memory::new() => a_renewed_lease_lasts,
        LosesNothing on Memory::new() => renewing_tells_what_is_lost,
        ChecksNoEpoch on Memory::new() => a_stale_epoch_writes_nothing,
        ChecksNoToken on Memory::new() => a_stale_token_writes_nothing,
        SaysYesToTheEnded on Memory::new() => an_ended_run_writes_nothing,
        RefusesTheLate on Memory::new() => a_late_run_writes_until_it_is_overtaken,
        ReversesSteps on Memory::new() => steps_come_back_as_they_were_written,
        WritesStepsOnce on Memory::new() => a_step_written_again_changes_nothing,
        ForgetsNoStep on Memory::new() => only_a_step_without_result_is_forgotten,
        SettleLosesTasks on Memory::new() => a_settled_run_is_a_record,
        KeepsWhatIsNotKept on Memory::new() => an_outcome_that_is_not_kept_frees_the_key,
        StartsEpochsAgain on Memory::new() => an_epoch_outlives_its_record,
        FailureLosesSteps on Memory::new() => a_failed_run_leaves_its_steps,
        ForgetsTheStep on Memory::new() => a_tx_step_commits_with_its_effect,
        StepsAfterwards on Memory::new() => a_lost_tx_step_has_no_effect
            | a_tx_step_overtaken_while_open_has_no_effect,
        StepsAfterwards on impatient() => a_tx_step_dropped_anywhere_is_all_or_nothing,
        HidesAtomicRecords on Memory::new() => an_atomic_record_answers_a_leased_run,
        HidesRunsFromAtomicJobs on Memory::new() => an_atomic_job_leaves_a_claimed_key_alone,
        ClaimsThenNames on impatient() => a_claim_dropped_anywhere_is_whole_or_none,
        NeverWakes on Memory::new() => a_watch_tells_that_a_claim_has_ended,
        ResolvesAnyEpoch on Memory::new() => a_parked_key_is_resolved_by_its_epoch_alone,
        ResolvesAsFailed on Memory::new() => a_resolved_key_is_as_the_person_said,
        ResolvesNoStep on Memory::new() => a_resolved_step_is_done_or_gone,
        ResolvesRecordedStepsOnly on Memory::new() => a_resolution_is_corrected_until_the_next_run,
        KeepsNoAudit on Memory::new() => a_resolution_is_in_the_audit,
        ResolvesForAnybody on Memory::new() => a_key_is_resolved_for_its_own_job_alone,
        ForgetsAnyEpoch on Memory::new() => a_key_is_forgotten_as_it_was_found_alone,
        ForgetsAnyState on Memory::new() => a_key_is_forgotten_as_it_was_found_alone,
        ForgetsNothing on Memory::new() => a_forgotten_key_begins_as_absent | a_forgotten_key_is_swept,
        KeepsNoAudit on Memory::new() => forgetting_is_in_the_audit,
        ListsKeysByHash on Memory::new() => the_longest_unchanged_keys_are_listed_first,
        ListsKeysInEveryState on Memory::new() => keys_of_any_state_are_listed,
        ListsEveryJob on Memory::new() => keys_are_listed_by_job_and_text,
        PagesFromTheStart on Memory::new() => keys_are_listed_page_by_page,
        CountsNoKeys on Memory::new() => keys_are_counted_by_job_and_state,
        ReleasesAnyState on Memory::new() => a_run_is_released_by_its_epoch_alone,
        ReleasesNoRun on Memory::new() => a_released_run_writes_nothing | a_release_is_in_the_audit,
        ListsNoClaims on Memory::new() => claims_are_listed_with_their_tasks,
        ReleasesWithoutANote on Memory::new() => a_claim_released_by_hand_leaves_a_note,
        SeesAnEmptyOutbox on Memory::new() => the_volume_is_told,
        SeesNoExpiredClaim on Memory::new() => the_volume_is_told,
        CountsMillisecondsAsSeconds on Memory::new() => the_clock_counts_from_1970,
        StopsTheClock on Memory::new() => the_clock_goes_on,
        AdvancesFromAnywhere on Memory::new() => a_tick_advances_only_from_where_it_was,
        LooksThenAdvances on Memory::new() => of_advances_at_once_one_succeeds,
        SharesTheTick on impatient() => a_tick_advances_only_from_where_it_was,
        TakesNoClaim on Memory::new() => a_first_push_has_the_claim
            | a_second_push_is_told_the_holder
            | of_pushes_at_once_one_has_the_claim,
        ForgetsSinceWhen on Memory::new() => a_second_push_is_told_the_holder,
        ClaimsUnasked on Memory::new() => without_a_claim_every_task_is_enqueued,
        EnqueuesTheDone on Memory::new() => a_done_task_is_not_enqueued,
        TakesEveryRecordForAnOutcome on Memory::new() => a_task_without_an_outcome_is_enqueued,
        ClaimsForEver on Memory::new() => a_claim_for_a_time_ends_with_it
            | a_claim_for_a_time_is_not_released,
        ReleasesNothing on Memory::new() => a_claim_ends_by_its_task_alone,
        AcquiresForEverybody on Memory::new() => a_claim_is_acquired_by_one_task,
        ReplacesAnyHolder on Memory::new() => a_task_that_waits_is_replaced_in_its_place,
        KeepsNoLatest on Memory::new() => a_task_that_was_taken_before_a_newer_one_came_does_not_begin
            | a_task_begins_again_until_a_newer_one_has_begun
            | a_task_that_waits_again_has_its_claim_unless_a_newer_one_waits
            | a_task_that_begins_and_a_newer_one_that_comes_take_turns,
        ForgetsWhoBegan on impatient() => a_task_begins_again_until_a_newer_one_has_begun,
        WaitsWithoutItsClaim on Memory::new() => a_task_that_waits_again_has_its_claim_unless_a_newer_one_waits,
        SupersedesAnyHolder on Memory::new() => a_claim_is_handed_over_by_its_holder_alone,
        MovesThenDeletes on Memory::new() => a_row_of_the_outbox_is_moved_once
            | a_row_of_the_outbox_ends_with_its_task,
        MovesByNumber on Memory::new() => a_row_of_the_outbox_that_has_changed_is_not_moved,
        TakesAndLetsReplace on Memory::new() => a_task_that_a_relay_has_taken_is_not_replaced,
        KeepsTheRowsOfDuplicates on Memory::new() => a_row_of_the_outbox_ends_with_its_task,
        HoldsClaimsAgainstTheirTasks on Memory::new() => a_claim_that_the_task_has_is_free_to_it,
        TakesNoClaim on impatient() => a_push_dropped_in_a_callers_transaction_is_whole_or_none,
        PushesOnItsOwn on impatient() => a_push_rolled_back_leaves_nothing,
        DuplicatesAreErrors on impatient() => a_duplicate_leaves_the_transaction_usable,
        LooksThenEnqueues on Memory::new() => of_pushes_at_once_one_has_the_claim
            | a_push_dropped_anywhere_is_whole_or_none,
        AnswersBackwards on Memory::new() => each_task_of_a_batch_has_its_own_answer,
        LocksInGivenOrder on Memory::new() => overlapping_batches_all_come_to_their_end,
        ClaimsByTheReadableKey on Memory::new() => claims_of_different_jobs_do_not_meet,
        SweepsAllClaims on Memory::new() => a_sweep_of_claims_spares_the_live,
        TasksAreDueAtOnce on Memory::new() => a_task_comes_out_of_the_outbox_as_it_went_in,
        ForgetsThePriority on Memory::new() => a_task_comes_out_of_the_outbox_as_it_went_in,
    ]
}

/// Broken stores on PostgreSQL; none without the server.
#[cfg(feature = "postgres")]
fn broken_on_postgres() -> Vec<Check> {
    let Some(url) = Server::Postgres.url() else { return Vec::new() };
    broken![
        TakesErrorsForCommits on Postgres::new(&*url) => a_swallowed_error_never_parts_record_and_effect
            | a_connection_killed_inside_a_run_leaves_nothing,
        FailsOnDeadConnections on Postgres::new(&*url) => connections_killed_while_idle_are_replaced
            | killed_connections_spoil_no_other_call,
        LocksKeysUnasked on Postgres::new(&*url) => an_unlocked_run_waits_for_no_key,
        LocksNoRow on Postgres::new(&*url) => a_business_row_is_locked_until_the_end
            | runs_of_one_row_take_turns,
        RecordsAfterwards on Postgres::new(&*url) => an_unlocked_commit_dropped_anywhere_is_all_or_nothing,
        TakesNoLock on Postgres::new(&*url) => a_twin_waits_and_sees_the_winners_record,
        TakesNoClaim on Postgres::new(&*url) => a_push_is_held_once_the_one_before_commits
            | a_push_goes_on_once_the_one_before_is_undone,
        PushesOnItsOwn on Postgres::new(&*url) => a_push_rolled_back_leaves_nothing
            | a_claim_that_a_caller_was_told_of_stays_until_that_commits,
    ]
}

#[cfg(not(feature = "postgres"))]
fn broken_on_postgres() -> Vec<Check> {
    Vec::new()
}

/// Laws that are broken only where there is a server.
const NEED_A_SERVER: [&str; 10] = [
    "a_claim_that_a_caller_was_told_of_stays_until_that_commits",
    "a_push_is_held_once_the_one_before_commits",
    "a_push_goes_on_once_the_one_before_is_undone",
    "killed_connections_spoil_no_other_call",
    "an_unlocked_run_waits_for_no_key",
    "a_swallowed_error_never_parts_record_and_effect",
    "a_connection_killed_inside_a_run_leaves_nothing",
    "connections_killed_while_idle_are_replaced",
    "a_business_row_is_locked_until_the_end",
    "runs_of_one_row_take_turns",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_store_is_caught_and_every_law_catches_one() {
    // Most of them wait most of the time.
    let turns = Arc::new(Semaphore::new(8));
    let mut runs = JoinSet::new();
    let on_postgres = broken_on_postgres();
    let server_is_there = !on_postgres.is_empty();
    for (fault, laws, run) in broken_stores().into_iter().chain(on_postgres) {
        let turns = Arc::clone(&turns);
        runs.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("the semaphore is never closed");
            (fault, laws, run.await)
        });
    }
    let mut uncaught = Vec::new();
    let mut caught = BTreeSet::new();
    while let Some(run) = runs.join_next().await {
        let (fault, laws, report) = run.expect("a run of the suite does not panic");
        println!("{fault}: {:?}", report.failures());
        let failures = report.failures();
        for law in laws.iter().filter(|law| !failures.contains(law)) {
            uncaught.push(format!("`{law}` did not catch `{fault}`\n{report}"));
        }
        caught.extend(failures);
    }
    assert!(uncaught.is_empty(), "{}", uncaught.join("\n"));

    let all = run(Memory::new(), NoFault).await;
    let never: Vec<&str> = all
        .cases()
        .iter()
        .map(|case| case.name)
        .filter(|law| !caught.contains(law) && (server_is_there || !NEED_A_SERVER.contains(law)))
        .collect();
    assert!(never.is_empty(), "no broken store is caught by {never:?}: can these laws fail?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_stores_without_a_fault_are_found_good() {
    check_good(Memory::new()).await;
    check_good(Sqlite::new()).await;
    #[cfg(feature = "postgres")]
    if let Some(url) = Server::Postgres.url() {
        check_good(Postgres::new(url)).await;
    }
}

/// Runs the suite on a store without a fault. No case of it hangs, so each has the time that the suite gives.
async fn check_good<H: Harness>(good: H) {
    Suite::default().run(Broken { good, fault: Arc::new(NoFault) }).await.assert();
}

#[tokio::test]
#[should_panic(expected = "a_record_commits_with_its_effect")]
async fn a_report_with_a_failure_panics_and_names_it() {
    run(Memory::new(), faults::ForgetsTheRecord).await.assert();
}

/// Nothing wrong.
struct NoFault;

impl<D: Database> Fault<D> for NoFault {}
