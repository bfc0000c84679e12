//! What was recorded comes back as it was.

use idem_runtime::fingerprint::Fingerprint;
use idem_runtime::key::{KeyHash, READABLE_BYTES_MAX};
use idem_runtime::record::{NewRecord, Outcome as Ending, Record};
use idem_runtime::store::{Committed, Database, Found};

use super::{Outcome, law};
use crate::conformance::suite::Law;
use crate::conformance::trial::{Trial, ensure_eq, record};

pub(super) fn laws<D: Database>() -> Vec<Law<D>> {
    vec![
        law!(
            results_come_back_bit_by_bit,
            "A result comes back as it was, be it empty, of all 256 bytes or of 1 MiB, from read and from \
             begin."
        ),
        law!(
            a_rejection_comes_back_as_one,
            "A rejected record comes back rejected, and is as final as a completed one."
        ),
        law!(fingerprints_come_back, "A fingerprint comes back as it was, whatever its 64 bits."),
        law!(
            any_readable_key_is_recorded,
            "A key can be recorded whatever its readable form contains: quotes, backslashes, emoji, 200 \
             bytes."
        ),
        law!(
            keys_one_bit_apart_do_not_meet,
            "A record is not found under any key whose hash differs from its own in one bit."
        ),
    ]
}

async fn results_come_back_bit_by_bit<D: Database>(trial: Trial<D>) -> Outcome {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let text = br#"'; DROP TABLE "x"; -- \' \\x00 $1 ? :a"#;
    let large: Vec<u8> =
        (0..1024 * 1024_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for (name, result) in
        [("empty", &[][..]), ("zero", &[0]), ("all", &all), ("text", text), ("large", &large)]
    {
        let key = trial.key(name);
        trial.complete(&key, name, result).await?;
        for store in [&trial.one, &trial.two] {
            let Some(Record { result: read, .. }) = store.read(key.hash()).await? else {
                return Err(format!("the result `{name}` was not recorded").into());
            };
            if read != result {
                return Err(format!("the result `{name}` was read as {} other bytes", read.len()).into());
            }
        }
        let (tx, found) = trial.begin_two(&key).await?;
        match found {
            Found::Record(record) if record.result == result => tx.rollback().await?,
            _ => return Err(format!("the result `{name}` was not found as it was by `begin`").into()),
        }
    }
    Ok(())
}

async fn a_rejection_comes_back_as_one<D: Database>(trial: Trial<D>) -> Outcome {
    for (name, ending) in [("no", Ending::Rejected), ("yes", Ending::Completed)] {
        let key = trial.key(name);
        let new = NewRecord { outcome: ending, ..record(&key, b"why") };
        let (tx, _) = trial.begin(&key).await?;
        ensure_eq!(tx.commit(Some(&new)).await?, Committed::Yes, "the commit ended with");
        let read = trial.two.read(key.hash()).await?.map(|record| record.outcome);
        ensure_eq!(read, Some(ending), "`read` returns");
        let (tx, found) = trial.begin_two(&key).await?;
        match found {
            Found::Record(record) => {
                ensure_eq!(record.outcome, ending, "`begin` finds");
            }
            other => return Err(format!("a recorded key was found {other:?}").into()),
        }
        tx.rollback().await?;
    }
    Ok(())
}

async fn fingerprints_come_back<D: Database>(trial: Trial<D>) -> Outcome {
    for bits in [0, 1, -1, i64::MIN, i64::MAX, 0x0123_4567_89ab_cdef] {
        let (key, fingerprint) = (trial.key(&bits.to_string()), Fingerprint::from_bits(bits));
        let (tx, _) = trial.begin(&key).await?;
        tx.commit(Some(&NewRecord { fingerprint, ..record(&key, b"r") })).await?;
        let read = trial.two.read(key.hash()).await?.map(|record| record.fingerprint);
        ensure_eq!(read, Some(fingerprint), "`read` returns");
        let (tx, found) = trial.begin_two(&key).await?;
        let Found::Record(found) = found else {
            return Err(format!("a recorded key was found {found:?}").into());
        };
        ensure_eq!(found.fingerprint, fingerprint, "`begin` finds");
        tx.rollback().await?;
    }
    Ok(())
}

async fn any_readable_key_is_recorded<D: Database>(trial: Trial<D>) -> Outcome {
    let names = [
        String::from("it's"),
        String::from(r#"a\'; DROP TABLE idem_records; --"#),
        String::from("\\"),
        String::from("\"`$1 ?1 :x %s {}\""),
        String::from("nul \0 and \n"),
        String::from("🦀 ünï 漢字 \u{202e}"),
        "x".repeat(READABLE_BYTES_MAX),
        "🦀".repeat(READABLE_BYTES_MAX),
    ];
    for name in &names {
        let key = trial.key(name);
        trial.complete(&key, "e", name.as_bytes()).await?;
        trial.ensure_recorded(&key, Some(name.as_bytes())).await?;
        // The way over an expired record is another statement.
        trial.fixture.let_pass(crate::conformance::trial::RETAINED * 2).await?;
        trial.complete(&key, "e", b"again").await?;
        trial.ensure_recorded(&key, Some(b"again")).await?;
    }
    trial.ensure_count("e", 2 * names.len() as u64).await
}

async fn keys_one_bit_apart_do_not_meet<D: Database>(trial: Trial<D>) -> Outcome {
    let key = trial.key("k");
    trial.complete(&key, "e", b"r").await?;
    for bit in 0..128 {
        let mut bytes = *key.hash().as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = trial.one.read(KeyHash::from_bytes(bytes)).await?;
        ensure_eq!(read, None, "under the key that differs in bit {bit} `read` returns");
    }
    trial.ensure_recorded(&trial.key("K"), None).await?;
    trial.ensure_recorded(&trial.key("k "), None).await?;
    trial.ensure_recorded(&key, Some(b"r")).await
}
