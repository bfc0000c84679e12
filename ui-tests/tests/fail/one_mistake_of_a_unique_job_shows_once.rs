#![allow(unused)]

use idem_runtime::prelude::*;

#[idempotent(key = id, unique = until_expired, unique_by = user, in_doubt = rerun)]
async fn copy_user(id: i64, user: i64) -> Result<i64, String> {
    Ok(id + user)
}

async fn call(idem: Idem<Memory>) -> Result<i64, Error<String>> {
    let job = CopyUser { id: 1, user: 2 };
    let _ = (job.key(), job.queue_key(), job.run_key());
    let first = copy_user(&idem, 1, 2).await?;
    let second = idem.run(job).await?;
    Ok(*first + *second)
}

fn main() {}
