//! The business row of `lock = row(table.column = …)`.

use std::time::Duration;

use idem_runtime::StoreErrorKind;
use idem_runtime::key::Key;
use idem_runtime::store::{Begun, Claim, Committed, Database, Found, RowLock, RowValue};

use super::{Outcome, law};
use crate::conformance::BusinessRow;
use crate::conformance::suite::Law;
use crate::conformance::trial::{Trial, begin, claim, ensure, ensure_eq, record, recorded, unlocked};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            a_business_row_is_locked_until_the_end,
            "The business row is locked against everybody until the transaction ends, through an undo too, \
             and free after it.",
            needs BusinessRows
        ),
        law!(
            a_missing_row_is_told,
            "A business row that does not exist is told as such, and the key is free after the rollback.",
            needs BusinessRows
        ),
        law!(
            a_record_answers_before_its_row,
            "A live record is found whatever became of the business row, and without waiting for it.",
            needs BusinessRows
        ),
        law!(
            runs_of_one_row_take_turns,
            "A run of another key with the same business row is told that the row is busy while it is held, and \
             runs after it; a run whose own key is held is told of the key, and leaves the row alone.",
            needs BusinessRows
        ),
        law!(
            an_unlocked_run_waits_for_no_key,
            "A run that locks no key, but a business row, is not busy because its key is held.",
            needs BusinessRows ConcurrentTransactions
        ),
        law!(
            a_row_is_checked_by_name,
            "A table and column that exist pass the check; those that do not are told as an unknown row.",
            needs BusinessRows
        ),
    ]
}

/// A claim of a key with the business row that holds `value`.
fn with_row<'a>(key: &'a Key, row: &'a BusinessRow, value: &'a RowValue) -> Claim<'a> {
    Claim { row: Some(RowLock { table: &row.table, column: &row.column, value }), ..claim(key) }
}

async fn a_business_row_is_locked_until_the_end<D: Database>(trial: Trial<D>) -> Outcome {
    let row = trial.fixture.business_row()?;
    for wait in [Duration::ZERO, Duration::from_secs(5)] {
        let key = trial.key(&format!("{wait:?}"));
        ensure!(!trial.fixture.row_is_locked(1).await?, "the row was locked before the run");
        let claim = Claim { wait, ..with_row(&key, &row, &RowValue::Int(1)) };
        let (mut tx, found) = begin(&trial.one, claim).await?;
        ensure_eq!(found, Found::Absent, "`begin` finds");
        ensure!(
            trial.fixture.row_is_locked(1).await?,
            "the row was not locked by a begin that waits for {wait:?}"
        );
        trial.insert(&mut tx, "undone").await?;
        tx.undo().await?;
        ensure!(trial.fixture.row_is_locked(1).await?, "the row was not locked any more after an undo");
        trial.insert(&mut tx, "e").await?;
        ensure_eq!(tx.commit(Some(&record(&key, b"r"))).await?, Committed::Yes, "the commit ended with");
        ensure!(!trial.fixture.row_is_locked(1).await?, "the row was still locked after the commit");
    }
    let text = RowValue::Text(String::from("2"));
    let (tx, found) = begin(&trial.two, with_row(&trial.key("text"), &row, &text)).await?;
    ensure_eq!(found, Found::Absent, "with the number as a text `begin` finds");
    tx.rollback().await?;
    ensure!(!trial.fixture.row_is_locked(2).await?, "the row was still locked after the rollback");
    trial.ensure_count("undone", 0).await?;
    trial.ensure_count("e", 2).await
}

async fn a_missing_row_is_told<D: Database>(trial: Trial<D>) -> Outcome {
    let row = trial.fixture.business_row()?;
    for wait in [Duration::ZERO, Duration::from_secs(5)] {
        let key = trial.key("k");
        let claim = Claim { wait, ..with_row(&key, &row, &RowValue::Int(3)) };
        let (tx, found) = begin(&trial.one, claim).await?;
        ensure_eq!(found, Found::NoRow, "with a wait of {wait:?} `begin` finds");
        tx.rollback().await?;
        trial.ensure_untouched(&key, "e").await?;
    }
    Ok(())
}

async fn a_record_answers_before_its_row<D: Database>(trial: Trial<D>) -> Outcome {
    let row = trial.fixture.business_row()?;
    let key = trial.key("k");
    trial.complete(&key, "e", b"r").await?;
    for value in [1, 3].map(RowValue::Int) {
        for wait in [Duration::ZERO, Duration::from_secs(5)] {
            let (tx, found) = begin(&trial.one, Claim { wait, ..with_row(&key, &row, &value) }).await?;
            ensure_eq!(found, Found::Record(recorded(b"r")), "with the row {value:?} `begin` finds");
            if trial.tells_busy {
                ensure!(!trial.fixture.row_is_locked(1).await?, "a replay locked the row");
            }
            tx.rollback().await?;
        }
    }
    Ok(())
}

async fn runs_of_one_row_take_turns<D: Database>(trial: Trial<D>) -> Outcome {
    let row = trial.fixture.business_row()?;
    let (first, second) = (trial.key("first"), trial.key("second"));
    let value = RowValue::Int(1);
    let (mut tx, _) = begin(&trial.one, with_row(&first, &row, &value)).await?;
    trial.insert(&mut tx, "first").await?;
    for wait in [Duration::ZERO, Duration::from_secs(1)] {
        let begun = trial.two.begin(&Claim { wait, ..with_row(&second, &row, &value) }).await;
        match begun {
            Ok(Begun::RowBusy) => {}
            Err(error) if error.is_temporary() && !trial.tells_busy => {}
            other => return Err(format!("a run whose row is held for {wait:?} ended with {other:?}").into()),
        }
    }
    if trial.tells_busy {
        let (holder, _) = trial.begin(&second).await?;
        for wait in [Duration::ZERO, Duration::from_millis(50)] {
            let begun = trial.two.begin(&Claim { wait, ..with_row(&second, &row, &value) }).await?;
            ensure!(
                matches!(begun, Begun::Busy),
                "with a wait of {wait:?} a run whose key and row are held is {begun:?}"
            );
        }
        holder.rollback().await?;
    }
    ensure_eq!(tx.commit(Some(&record(&first, b"r"))).await?, Committed::Yes, "the commit ended with");
    let (mut tx, found) = begin(&trial.two, with_row(&second, &row, &value)).await?;
    ensure_eq!(found, Found::Absent, "`begin` finds");
    trial.insert(&mut tx, "second").await?;
    ensure_eq!(tx.commit(Some(&record(&second, b"r"))).await?, Committed::Yes, "the commit ended with");
    trial.ensure_count("first", 1).await?;
    trial.ensure_count("second", 1).await
}

async fn an_unlocked_run_waits_for_no_key<D: Database>(trial: Trial<D>) -> Outcome {
    let row = trial.fixture.business_row()?;
    let key = trial.key("k");
    let (holder, _) = trial.begin(&key).await?;
    for wait in [Duration::ZERO, Duration::from_secs(1)] {
        for row in [None, with_row(&key, &row, &RowValue::Int(1)).row] {
            let (tx, found) = begin(&trial.two, Claim { wait, row, ..unlocked(&key) }).await?;
            ensure_eq!(found, Found::Absent, "`begin` finds");
            tx.rollback().await?;
        }
    }
    holder.rollback().await?;
    Ok(())
}

async fn a_row_is_checked_by_name<D: Database>(trial: Trial<D>) -> Outcome {
    let BusinessRow { table, column } = trial.fixture.business_row()?;
    trial.one.check_row(&table, &column).await?;
    for (table, column) in [("no_such_table", column.as_str()), (table.as_str(), "no_such_column")] {
        match trial.one.check_row(table, column).await {
            Ok(()) => return Err(format!("`{table}.{column}` passed the check").into()),
            Err(error) => {
                ensure_eq!(
                    error.kind(),
                    StoreErrorKind::UnknownRow,
                    "the check of `{table}.{column}` failed with"
                );
            }
        }
    }
    trial.one.check_row(&table, &column).await?;
    Ok(())
}
