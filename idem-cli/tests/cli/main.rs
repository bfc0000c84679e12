//! The command as people and programs call it: the built program, on databases that real jobs have worked on.

mod world;

use idem_runtime::prelude::*;

use serde_json::Value;
use sqlx::Connection as _;

use self::world::{Failure, Jobs, Letter, Way, World, command, ended, idem};

/// Declares a test for each database.
macro_rules! on_each_database {
    ($($name:ident)+) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::$name::<sqlx::Sqlite>().await })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::$name::<sqlx::Postgres>().await })+
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::$name::<sqlx::MySql>().await })+
        }
    };
}
on_each_database! {
    keys_of_every_state_are_listed_and_explained
    a_misspelt_job_is_told_the_nearest
    a_parked_key_is_resolved_with_a_result
    a_wrong_word_is_corrected_until_the_next_run
    a_result_of_a_wrong_type_is_given_again
    of_a_key_that_is_parked_for_its_steps_no_effect_is_told
    a_parked_job_is_resolved_with_a_result_of_its_type
    of_two_resolvers_one_wins
    a_running_key_is_released
    a_key_is_forgotten
    a_run_that_excludes_others_is_told_from_its_key
    unique_claims_are_listed_and_released
    jobs_stats_and_sweep_count
    nothing_is_changed_without_a_word
    what_the_readme_types_works
}

async fn keys_of_every_state_are_listed_and_explained<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    world.one_of_each().await;

    let listed = world.json(&["list"]);
    let mut states: Vec<_> =
        listed["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    states.sort();
    assert_eq!(
        states,
        ["completed", "completed", "expired", "failed", "lapsed", "parked", "rejected", "running"]
    );
    assert_eq!(listed["next"], Value::Null);

    for (state, readable) in [
        ("running", "1"),
        ("lapsed", "2"),
        ("failed", "3"),
        ("parked", "4"),
        ("rejected", "6"),
        ("expired", "7"),
    ] {
        let keys = world.json(&["list", "--state", state]);
        let keys = keys["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 1, "{state}: {keys:?}");
        assert_eq!(keys[0]["key"], readable, "{state}");
        let shown = world.text(&["list", "--state", state]);
        assert!(shown.contains("JOB") && shown.contains(state), "{shown}");
    }
    assert_eq!(world.json(&["list", "--job", "pay"])["keys"].as_array().unwrap().len(), 1);
    assert_eq!(world.json(&["list", "--key", "7"])["keys"].as_array().unwrap().len(), 1);
    assert_eq!(world.json(&["list", "--namespace", "elsewhere"])["keys"].as_array().unwrap().len(), 0);
    assert!(world.text(&["list", "--namespace", "elsewhere"]).contains("no keys"));

    // Page by page.
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut args = vec!["list", "--limit", "3"];
        args.extend(after.iter().flat_map(|after| ["--after", &**after]));
        let page = world.json(&args);
        seen.extend(
            page["keys"].as_array().unwrap().iter().map(|key| key["hash"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen.len(), 8);
    assert!(seen.is_sorted());

    let failed = world.json(&["explain", "3", "--job", "fulfil"]);
    assert_eq!(
        (&failed["state"], &failed["epoch"], &failed["attempts"]),
        (&"failed".into(), &1.into(), &1.into())
    );
    assert!(failed["error"].as_str().unwrap().contains("no stock"), "{failed}");
    // What the callee was handed is what its own records are searched for.
    let called = world.charged_as(3);
    assert_eq!(
        failed["steps"],
        serde_json::json!([{ "name": "charge", "is_done": true, "is_given": false, "call_key": called }])
    );
    assert_eq!(failed["call_key"], Value::Null);
    assert!(world.text(&["explain", "3", "--job", "fulfil"]).contains(&called));
    // Which charge it was is shown only to who asks for it.
    let shown = world.json(&["explain", "3", "--job", "fulfil", "--show-result"]);
    assert_eq!((&shown["steps"][0]["result"], shown.get("result")), (&3.into(), None));
    let shown = world.text(&["explain", "3", "--job", "fulfil", "--show-result"]);
    assert!(shown.contains("RESULT") && shown.contains(&format!("{called}  3\n")), "{shown}");
    let parked = world.json(&["explain", "4", "--job", "fulfil"]);
    assert_eq!(parked["parked"]["step"], "parcel");
    assert_eq!(parked["call_key"], parked["steps"][1]["call_key"]);
    let shown = world.text(&["explain", "4", "--job", "fulfil"]);
    assert!(shown.contains("step `parcel`") && shown.contains("begun, in doubt"), "{shown}");
    // What the run before ended with is worth a look.
    assert!(parked["error"].as_str().unwrap().contains("the courier does not answer"), "{parked}");
    assert!(shown.contains("last error") && shown.contains("does not answer"), "{shown}");
    assert!(world.text(&["list", "--state", "parked"]).contains("parcel: an earlier run"));
    let running = world.json(&["explain", "1", "--job", "fulfil"]);
    assert!(running["lease_left_ms"].as_u64().unwrap() > 0, "{running}");

    // A result is shown only to who asks for it.
    let hidden = world.text(&["explain", "5", "--job", "fulfil"]);
    assert!(hidden.contains("bytes") && !hidden.contains("parcel 5"), "{hidden}");
    assert!(world.json(&["explain", "5", "--job", "fulfil"]).get("result").is_none());
    let shown = world.json(&["explain", "5", "--job", "fulfil", "--show-result"]);
    assert_eq!(shown["result"], "parcel 5");
    assert!(world.text(&["explain", "5", "--job", "fulfil", "--show-result"]).contains("parcel 5"));
    assert!(hidden.contains("--show-result"), "{hidden}");
    let refused = world.text(&["explain", "6", "--job", "fulfil"]);
    assert!(refused.contains("final error") && !refused.contains("result  "), "{refused}");
    let refused = world.text(&["explain", "6", "--job", "fulfil", "--show-result"]);
    assert!(refused.contains("Refused") && !refused.contains("bytes"), "{refused}");

    // Which key is meant.
    let several = world.fails(&["explain", "5"], 1);
    assert!(several.contains("several keys read \"5\"") && several.contains("of job pay"), "{several}");
    let unknown = world.fails(&["explain", "99", "--job", "fulfil"], 1);
    assert!(unknown.contains("nothing is recorded of a key \"99\""), "{unknown}");
    let hash = parked["hash"].as_str().unwrap();
    assert_eq!(world.json(&["explain", hash])["key"], "4");
    assert!(world.fails(&["explain", hash, "--namespace", "elsewhere"], 1).contains("--namespace default"));
    assert!(world.fails(&["explain", hash, "--job", "pay"], 1).contains("not of pay"));
    assert!(world.fails(&["explain", &"0".repeat(32)], 1).contains("nothing is recorded"));
}

async fn a_misspelt_job_is_told_the_nearest<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    let none = world.fails(&["explain", "4", "--job", "fulfil"], 1);
    assert!(none.contains("no job is called fulfil in namespace default; none has run there"), "{none}");
    world.parked(4).await;
    world.pay(5).await;
    for args in [
        &["explain", "4"][..],
        &["forget", "4", "--why", "w", "--yes"],
        &["release", "4", "--why", "w", "--yes"],
        &["resolve", "4", "--rerun", "--why", "w", "--yes"],
    ] {
        let unknown = world.fails(&[args, &["--job", "fullfil"]].concat(), 1);
        assert!(
            unknown.contains("no job is called fullfil in namespace default; did you mean fulfil?"),
            "{unknown}"
        );
    }
    let unknown = world.fails(&["explain", "4", "--job", "refund"], 1);
    assert!(
        unknown.contains("no job is called refund in namespace default; there are fulfil, pay"),
        "{unknown}"
    );
    let elsewhere = world.fails(&["explain", "4", "--job", "pay", "--namespace", "elsewhere"], 1);
    assert!(elsewhere.contains("it is in namespace default: give --namespace default"), "{elsewhere}");
    // A listing of nothing is none that has failed.
    for args in [&["list"][..], &["list", "--claims"], &["list", "--all-namespaces"]] {
        let args = [args, &["--job", "fullfil"]].concat();
        let listed = world.text(&args);
        assert!(listed.starts_with("no ") && listed.contains("did you mean fulfil?"), "{listed}");
        let listed = ended(world.spawn(&[&args[..], &["--json"]].concat()));
        serde_json::from_str::<Value>(&listed.stdout).unwrap();
        assert_eq!(listed.code, 0);
        assert!(listed.stderr.contains("note: no job is called fullfil"), "{}", listed.stderr);
    }
    assert!(!world.text(&["list", "--job", "fulfil", "--key", "99"]).contains("did you mean"));
    // Of a job that there is, one can look which keys it has.
    let unknown = world.fails(&["explain", "99", "--job", "fulfil"], 1);
    assert!(unknown.contains("`idem list --job fulfil` shows what there is"), "{unknown}");
}

async fn a_parked_key_is_resolved_with_a_result<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    world.parked(4).await;
    world.parked(14).await;
    let done = ["resolve", "4", "--job", "fulfil", "--done", r#""found it""#, "--why", "asked the courier"];
    let asked = world.fails(&done, 2);
    assert!(asked.contains("nobody can check here") && asked.contains("parks the step again"), "{asked}");
    // A stale epoch changes nothing, and the key is named as it was typed.
    let stale = world.fails(&[&done[..], &["--yes", "--epoch", "9"]].concat(), 3);
    assert!(stale.contains("under epoch 2, not 9") && stale.contains(r#"key "4" ("#), "{stale}");
    assert!(
        world
            .fails(&["resolve", "4", "--job", "fulfil", "--done", "{", "--why", "w", "--yes"], 2)
            .contains("--done")
    );
    assert!(
        world
            .fails(&["resolve", "4", "--done", "99999999999999999999", "--why", "w", "--yes"], 2)
            .contains("64 bits")
    );
    // Most likely the shell has taken the quotes.
    let bare = world.fails(&["resolve", "4", "--done", "ride 17", "--why", "w", "--yes"], 2);
    assert!(bare.contains(r#"as in --done '"ride 17"'"#), "{bare}");
    assert!(world.fails(&["resolve", "4", "--rerun", "--why", " ", "--yes"], 2).contains("--why"));
    assert_eq!(world.json(&["explain", "4"])["state"], "parked");

    let resolved = world.json(&[&done[..], &["--yes"]].concat());
    assert_eq!(
        (&resolved["action"], &resolved["was"], &resolved["epoch"]),
        (&"resolve".into(), &"parked".into(), &2.into())
    );
    let audit = &world.json(&["explain", "4"])["audit"][0];
    assert_eq!((&audit["epoch"], &audit["action"]), (&2.into(), &"done".into()));
    let why = audit["why"].as_str().unwrap();
    assert!(why.ends_with(": asked the courier") && !why.starts_with(':'), "{why}");
    assert!(world.text(&["explain", "4"]).contains("asked the courier"));
    // The job goes on behind the step, with the result as its own type.
    assert_eq!(world.fulfil(4).await.unwrap(), Done::Executed(String::from("found it")));

    let rerun = ["resolve", "14", "--rerun", "--why", "it never left", "--yes"];
    assert!(world.text(&rerun).contains("until its next run"));
    // What was decided is not taken for what failed, nor for a key that nobody has looked at.
    assert!(world.fails(&rerun, 3).contains("it never left; it waits for its next run"));
    let known = world.json(&["explain", "14"]);
    let settled = known["settled"].as_str().unwrap();
    assert!(settled.starts_with("resolved as rerun: ") && settled.ends_with(": it never left"), "{settled}");
    assert!(!known["error"].as_str().unwrap().contains("never left"), "{known}");
    assert!(world.text(&["explain", "14"]).contains("it never left; it waits for its next run"));
    assert!(world.text(&["list", "--state", "failed"]).contains("failed, settled"));
    assert_eq!(world.fulfil(14).await.unwrap(), Done::Executed(String::from("parcel 14")));
    assert!(
        world.fails(&["resolve", "14", "--rerun", "--why", "w", "--yes"], 3).contains("only a parked key")
    );
}

async fn a_wrong_word_is_corrected_until_the_next_run<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    let resolve = |id, found: &[&'static str]| {
        [&["resolve", id, "--job", "fulfil", "--why", "w", "--yes"][..], found].concat()
    };
    let (rerun, done) = (["--rerun"], ["--done", r#""found it""#]);
    // 14 was meant: nobody is to have the parcel of 4 once more.
    world.parked(4).await;
    world.text(&resolve("4", &rerun));
    let told = world.fails(&resolve("4", &done), 3);
    assert!(told.contains("resolved as rerun") && told.contains("--correct"), "{told}");
    let stale = resolve("4", &[&done[..], &["--correct", "--epoch", "1"]].concat());
    assert!(world.fails(&stale, 3).contains("under epoch 2, not 1"));
    let unsure = ["resolve", "4", "--job", "fulfil", "--why", "w", done[0], done[1], "--correct"];
    let asked = world.fails(&unsure, 2);
    assert!(asked.contains("resolved as rerun") && asked.contains("step `parcel` has happened"), "{asked}");
    world.text(&resolve("4", &[&done[..], &["--correct"]].concat()));
    let known = world.json(&["explain", "4", "--job", "fulfil"]);
    assert!(known["settled"].as_str().unwrap().starts_with("resolved as done: "), "{known}");
    assert!(known["error"].as_str().unwrap().contains("the courier does not answer"), "{known}");
    assert_eq!(
        (&known["steps"][1]["name"], &known["steps"][1]["is_given"]),
        (&"parcel".into(), &true.into())
    );
    let noted: Vec<_> = known["audit"].as_array().unwrap().iter().map(|note| &note["action"]).collect();
    assert_eq!(noted, ["rerun", "done"]);
    assert_eq!(world.fulfil(4).await.unwrap(), Done::Executed(String::from("found it")));
    // A run has gone by it.
    assert!(world.fails(&resolve("4", &["--rerun", "--correct"]), 3).contains("only a parked key"));

    world.parked(14).await;
    world.text(&resolve("14", &done));
    world.text(&resolve("14", &["--done", "7", "--correct"]));
    world.text(&resolve("14", &["--rerun", "--correct"]));
    assert_eq!(world.fulfil(14).await.unwrap(), Done::Executed(String::from("parcel 14")));

    // A job that is parked as a whole is completed by the correction.
    assert!(matches!(world.mail(5).await, Err(Error::Job(Failure::NoAnswer))));
    assert!(matches!(world.mail(5).await, Err(Error::Parked(_))));
    world.text(&["resolve", "5", "--rerun", "--why", "w", "--yes"]);
    let letter = r#"{"number": 7, "way": {"Air": [null, "express"]}, "note": null}"#;
    let done = ["resolve", "5", "--done", letter, "--correct", "--why", "w", "--yes"];
    assert!(world.fails(&done, 2).contains("--retain"));
    world.text(&[&done[..], &["--retain", "2h"]].concat());
    assert!(matches!(world.mail(5).await, Ok(Done::Replayed(Letter { number: 7, .. }))));

    // Somebody has tidied up by hand.
    world.parked(24).await;
    world.lose_steps().await;
    let told = world.fails(&resolve("24", &["--rerun"]), 3);
    assert!(told.contains("its step `parcel` is not on record any more; nothing was changed"), "{told}");
    assert_eq!(world.json(&["explain", "24", "--job", "fulfil"])["state"], "parked");

    // Who ends a run has said nothing of what it did.
    drop(world.running(1).await);
    world.text(&["release", "1", "--job", "fulfil", "--why", "its machine is gone", "--yes"]);
    let told = world.fails(&resolve("1", &["--rerun", "--correct"]), 3);
    assert!(told.contains("released: ") && !told.contains("--correct"), "{told}");
}

async fn a_result_of_a_wrong_type_is_given_again<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    world.parked(4).await;
    world.parked(14).await;
    for (id, found) in [("4", &["--done", r#""found it""#][..]), ("14", &["--rerun"])] {
        let resolve = ["resolve", id, "--why", "asked the courier", "--yes"];
        world.text(&[&resolve[..], &["--done", "7"]].concat());
        let number = id.parse().unwrap();
        // No run has the parcel again, and every one of them parks.
        for _ in 0..2 {
            assert!(matches!(world.fulfil(number).await, Err(Error::Parked(_))));
        }
        let known = world.json(&["explain", id]);
        assert_eq!((&known["parked"]["step"], &known["epoch"]), (&"parcel".into(), &3.into()));
        let reason = known["parked"]["reason"].as_str().unwrap();
        assert!(reason.contains("`alloc::string::String`: invalid type"), "{reason}");
        let parcel = &known["steps"][1];
        assert_eq!(
            (&parcel["name"], &parcel["is_done"], &parcel["is_given"], parcel.get("result")),
            (&"parcel".into(), &true.into(), &true.into(), None)
        );
        assert!(world.text(&["explain", id]).contains("done, as a person has said"));
        // What the person has given is shown as what a step has recorded.
        assert_eq!(world.json(&["explain", id, "--show-result"])["steps"][1]["result"], 7);

        world.text(&[&resolve[..], found].concat());
        let known = world.json(&["explain", id]);
        assert_eq!((&known["audit"][0]["epoch"], &known["audit"][1]["epoch"]), (&2.into(), &3.into()));
    }
    assert_eq!(world.fulfil(4).await.unwrap(), Done::Executed(String::from("found it")));
    assert_eq!(world.fulfil(14).await.unwrap(), Done::Executed(String::from("parcel 14")));
}

async fn of_a_key_that_is_parked_for_its_steps_no_effect_is_told<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    world.drifted().await;
    assert_eq!(world.json(&["explain", "3"])["parked"]["drifted"], true);
    assert_eq!(world.json(&["explain", "3"])["call_key"], Value::Null);
    let asked = world.fails(&["resolve", "3", "--rerun", "--why", "w"], 2);
    assert!(asked.contains("its code does not have them") && !asked.contains("the effect"), "{asked}");
}

async fn a_parked_job_is_resolved_with_a_result_of_its_type<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    assert!(matches!(world.mail(4).await, Err(Error::Job(Failure::NoAnswer))));
    assert!(matches!(world.mail(4).await, Err(Error::Parked(_))));
    let parked = &world.json(&["explain", "4"])["parked"];
    assert_eq!(parked["step"], Value::Null);
    assert!(parked["reason"].as_str().unwrap().contains("world::Letter"), "{parked}");
    let called = world.json(&["explain", "4"])["call_key"].as_str().unwrap().to_owned();
    assert!(called.starts_with("idem_") && called.len() == 37, "{called}");
    assert!(world.text(&["explain", "4"]).contains(&format!("key of call  {called}")));
    assert!(world.fails(&["resolve", "4", "--rerun", "--why", "w"], 2).contains(&called));
    let letter = r#"{"number": 7, "way": {"Air": [null, "express"]}, "note": null}"#;
    let done = ["resolve", "4", "--done", letter, "--why", "it is on the list", "--yes"];
    assert!(world.fails(&[&done[..], &["--retain", "soon"]].concat(), 2).contains("no time"));
    // How long it answers is the job's to say, and nobody here knows it.
    assert!(world.fails(&done, 2).contains("--retain"));
    let asked = world.fails(&[&done[..6], &["--retain", "2h"]].concat(), 2);
    assert!(asked.contains("nobody can check here") && asked.contains("every replay fails until"), "{asked}");
    world.text(&[&done[..], &["--retain", "2h"]].concat());
    let known = world.json(&["explain", "4", "--show-result"]);
    assert_eq!(known["result"], serde_json::from_str::<Value>(letter).unwrap());
    assert!((7_000_000..=7_201_000).contains(&known["expires_in_ms"].as_u64().unwrap()), "{known}");
    let way = Way::Air(None, String::from("express"));
    assert_eq!(world.mail(4).await.unwrap(), Done::Replayed(Letter { number: 7, way, note: None }));

    // With a wrong one there is a way out, and the replay says which.
    assert!(matches!(world.mail(14).await, Err(Error::Job(Failure::NoAnswer))));
    assert!(matches!(world.mail(14).await, Err(Error::Parked(_))));
    world.text(&["resolve", "14", "--done", "null", "--retain", "2h", "--why", "a guess", "--yes"]);
    assert!(world.text(&["explain", "14"]).contains("1 byte; "));
    for _ in 0..2 {
        let replayed = world.mail(14).await.unwrap_err();
        assert_eq!(replayed.code(), Some(idem_runtime::Code::Unreadable));
        assert!(replayed.to_string().contains("forget the key"), "{replayed}");
    }
    world.text(&["forget", "14", "--why", "it was no letter", "--yes"]);
    assert!(matches!(world.mail(14).await, Err(Error::Job(Failure::NoAnswer))));
}

async fn of_two_resolvers_one_wins<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    world.parked(4).await;
    let args = ["resolve", "4", "--rerun", "--why", "race", "--yes", "--epoch", "2"];
    let racers: Vec<_> = (0..4).map(|_| world.spawn(&args)).collect();
    let mut codes: Vec<_> =
        racers.into_iter().map(|racer| racer.wait_with_output().unwrap().status.code().unwrap()).collect();
    codes.sort();
    assert_eq!(codes, [0, 3, 3, 3]);
    assert_eq!(world.json(&["explain", "4"])["audit"].as_array().unwrap().len(), 1);
}

async fn a_running_key_is_released<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    let run = world.running(1).await;
    world.text(&["release", "1", "--job", "fulfil", "--why", "its machine is gone", "--yes"]);
    let known = world.json(&["explain", "1"]);
    assert_eq!((&known["state"], &known["epoch"]), (&"failed".into(), &1.into()));
    assert_eq!(known["audit"][0]["action"], "release");
    assert!(known["settled"].as_str().unwrap().starts_with("released: "), "{known}");
    assert!(
        world.fails(&["release", "1", "--why", "again", "--yes"], 3).contains("only a key that a run has")
    );

    // The run lives after all: it writes nothing more, and the next one has the key.
    run.let_go();
    let late = run.end().await;
    assert!(matches!(late, Err(Error::LostClaim(_))), "{late:?}");
    // The parcel that was under way is in doubt, as if the lease had passed.
    assert!(matches!(world.fulfil(1).await, Err(Error::Parked(_))));
    assert_eq!(world.json(&["explain", "1"])["epoch"], 2);
    world.text(&["resolve", "1", "--rerun", "--why", "it never left", "--yes"]);
    assert_eq!(world.fulfil(1).await.unwrap(), Done::Executed(String::from("parcel 1")));
}

async fn a_key_is_forgotten<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    assert_eq!(world.pay(5).await, Done::Executed(5));
    assert_eq!(world.pay(5).await, Done::Replayed(5));
    world.text(&["forget", "5", "--why", "paid back", "--yes"]);
    let known = world.json(&["explain", "5"]);
    assert_eq!((&known["state"], &known["audit"][0]["action"]), (&"expired".into(), &"forget".into()));
    assert!(world.text(&["explain", "5"]).contains("somebody has forgotten it"));
    assert!(world.fails(&["forget", "5", "--why", "again", "--yes"], 3).contains("expired"));
    assert_eq!(world.pay(5).await, Done::Executed(5));
    let run = world.running(1).await;
    assert!(world.fails(&["forget", "1", "--job", "fulfil", "--why", "w", "--yes"], 3).contains("running"));
    run.let_go();
    assert!(run.end().await.is_ok());
}

async fn a_run_that_excludes_others_is_told_from_its_key<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    let run = world.labelling(9).await;
    let listed = world.json(&["list", "--state", "running"]);
    let mut keys: Vec<_> =
        listed["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect();
    keys.sort();
    assert_eq!(keys, ["9", "9 (while executing)"]);
    assert_eq!(world.json(&["explain", "9"])["key"], "9");
    assert_eq!(world.json(&["explain", "9 (while executing)"])["state"], "running");
    run.let_go();
    assert!(run.end().await.is_ok());
    assert_eq!(world.json(&["list", "--state", "running"])["keys"].as_array().unwrap().len(), 0);
    assert_eq!(world.json(&["explain", "9"])["state"], "completed");
}

async fn unique_claims_are_listed_and_released<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    assert!(world.text(&["list", "--claims"]).contains("no unique claims"));
    let task = world.push(8).await;
    let claims = world.json(&["list", "--claims"]);
    let claims = claims["claims"].as_array().unwrap();
    assert_eq!((claims.len(), &claims[0]["key"], &claims[0]["task"]), (1, &"8".into(), &(&*task).into()));
    assert!(world.text(&["list", "--claims"]).contains(&task));
    // Nothing is recorded of the key yet, but somebody may ask what has become of it.
    let waiting = world.fails(&["explain", "8"], 1);
    assert!(waiting.contains(&task) && waiting.contains("in the queue"), "{waiting}");

    let args = ["release", "--task", &task, "--why", "the queue was wiped"];
    assert!(world.fails(&args, 2).contains("--yes"));
    assert_eq!(world.json(&[&args[..], &["--yes"]].concat())["claims"], 1);
    assert!(world.fails(&[&args[..], &["--yes"]].concat(), 3).contains("no unique claim"));
    assert_eq!(world.json(&["list", "--claims"])["claims"].as_array().unwrap().len(), 0);
    // Another one may be enqueued.
    assert_ne!(world.push(8).await, task);
}

async fn jobs_stats_and_sweep_count<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    world.one_of_each().await;
    world.push(8).await;
    let jobs = world.json(&["jobs"]);
    let fulfil = jobs.as_array().unwrap().iter().find(|job| job["job"] == "fulfil").unwrap();
    assert_eq!(
        fulfil["keys"],
        serde_json::json!({"running": 1, "lapsed": 1, "failed": 1, "parked": 1, "completed": 1, "rejected": 1, "expired": 1})
    );
    assert!(world.text(&["jobs", "--all-namespaces"]).contains("fulfil"));
    assert!(world.text(&["jobs", "--namespace", "elsewhere"]).contains("no jobs"));
    let stats = world.json(&["stats"]);
    assert_eq!(
        (&stats["keys"]["completed"], &stats["claims"], &stats["outbox"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert!(
        stats["tables"]
            .as_array()
            .unwrap()
            .iter()
            .any(|table| table["name"] == "idem_records" && table["bytes"].as_u64() > Some(0)),
        "{stats}"
    );
    let shown = world.text(&["stats"]);
    assert!(shown.contains("ON DISK") && shown.contains("parked"), "{shown}");

    assert_eq!(
        world.json(&["sweep", "--dry-run"]),
        serde_json::json!({"dry_run": true, "records": 1, "claims": 0})
    );
    assert!(world.fails(&["sweep"], 2).contains("--yes"));
    assert_eq!(world.json(&["jobs"]), jobs);
    assert!(world.text(&["sweep", "--dry-run"]).contains("1 record and 0 unique claims have expired"));
    assert_eq!(world.json(&["sweep", "--yes"])["records"], 1);
    // Where there is nothing, nobody is asked.
    let nothing = world.text(&["sweep"]);
    assert!(nothing.contains("0 records and 0 unique claims have expired; nothing was changed"), "{nothing}");
    assert_eq!(world.json(&["sweep"]), serde_json::json!({"dry_run": false, "records": 0, "claims": 0}));
    // A claim alone is something.
    world.expired_claim().await;
    assert!(world.fails(&["sweep"], 2).contains("--yes"));
    assert!(world.text(&["sweep", "--yes"]).starts_with("0 records and 1 unique claim deleted"));
    assert_eq!(world.json(&["list", "--state", "expired"])["keys"].as_array().unwrap().len(), 0);
}

async fn nothing_is_changed_without_a_word<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    world.parked(4).await;
    let before = world.json(&["explain", "4"]);
    for args in [
        &["resolve", "4", "--rerun", "--why", "w"][..],
        &["forget", "4", "--why", "w"],
        &["resolve", "4", "--done", "null", "--why", "w", "--json"],
    ] {
        let refused = world.fails(args, 2);
        assert!(refused.contains("no terminal to ask at") && refused.contains("epoch"), "{refused}");
    }
    for args in [&["forget", "4", "--yes"][..], &["resolve", "4", "--why", "w"], &["release", "--why", "w"]] {
        world.fails(args, 2);
    }
    let after = world.json(&["explain", "4"]);
    assert_eq!((&after["state"], &after["audit"]), (&before["state"], &before["audit"]));
}

/// The lines that the README gives to the command, word for word, but that nobody is there to be asked.
async fn what_the_readme_types_works<D: Jobs>() {
    let Some(world) = World::<D>::new().await else { return };
    world.parked(42).await;
    drop(world.running(43).await);
    let readme = include_str!("../../../README.md");
    let console =
        readme.split("## At the console").nth(1).and_then(|text| text.split("\n## ").next()).unwrap();
    let lines: Vec<&str> = console.lines().filter(|line| line.starts_with("idem ")).collect();
    assert!(lines.len() > 4, "{lines:?}");
    for line in lines {
        let yes = if line.contains("--why") { " --yes" } else { "" };
        let ended = world.shell(&format!("{line}{yes}"));
        assert_eq!(ended.code, 0, "{line}: {}{}", ended.stdout, ended.stderr);
        assert!(!ended.stdout.is_empty(), "{line}");
    }
    assert_eq!(world.fulfil(42).await.unwrap(), Done::Executed(String::from("ch_1")));
}

#[test]
fn a_database_that_cannot_be_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.sqlite");
    let url = format!("sqlite://{}", file.display());
    let missing = idem(&["--database-url", &url, "jobs"]);
    assert_eq!(missing.code, 1);
    assert!(
        missing.stderr.contains("there is no file") && missing.stderr.contains("idem migrate"),
        "{}",
        missing.stderr
    );
    assert!(!file.exists());

    for (url, says) in [
        ("memory:", "in memory"),
        ("sqlite::memory:", "in memory"),
        ("redis://host", "no store for `redis:`"),
        ("points.db", "write sqlite://points.db"),
        ("postgres://ada:s3cret@127.0.0.1:1/db", "cannot be reached"),
        ("mysql://ada:s3cret@127.0.0.1:1/db", "cannot be reached"),
    ] {
        let failed = idem(&["--database-url", url, "jobs"]);
        assert!(matches!(failed.code, 1 | 2) && failed.stderr.contains(says), "{url}: {}", failed.stderr);
        assert!(!failed.stderr.contains("s3cret"), "{}", failed.stderr);
    }
    let unsaid = idem(&["jobs"]);
    assert!(unsaid.code == 2 && unsaid.stderr.contains("IDEM_DATABASE_URL"), "{}", unsaid.stderr);

    // An empty file is no database of idem's until it is migrated.
    std::fs::write(&file, "").unwrap();
    let empty = idem(&["--database-url", &url, "jobs"]);
    assert!(empty.code == 1 && empty.stderr.contains("run `idem migrate`"), "{}", empty.stderr);
    let printed = idem(&["--database-url", &url, "migrate", "--print"]);
    assert!(printed.code == 0 && printed.stdout.contains("CREATE TABLE"), "{}", printed.stderr);
    assert_eq!(idem(&["--database-url", &url, "jobs"]).code, 1);
    let made = idem(&["--database-url", &url, "migrate"]);
    assert!(made.code == 0 && made.stdout.contains("made"), "{}{}", made.stdout, made.stderr);
    assert!(idem(&["--database-url", &url, "migrate"]).stdout.contains("nothing was changed"));
    // What a listing of keys does not look at may be what is missing.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let older =
            "ALTER TABLE idem_jobs DROP COLUMN last_tick; DELETE FROM idem_migrations WHERE version = 4";
        sqlx::raw_sql(older).execute(&mut file).await.unwrap();
        file.close().await.unwrap();
    });
    let upgraded = idem(&["--database-url", &url, "--json", "migrate"]);
    assert!(upgraded.code == 0 && upgraded.stdout.contains("true"), "{}{}", upgraded.stdout, upgraded.stderr);
    assert_eq!(idem(&["--database-url", &url, "jobs"]).code, 0);
    assert_eq!(idem(&["--database-url", &url, "--table-prefix", "other_", "jobs"]).code, 1);
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let done = idem(&["completions", shell]);
        assert!(done.code == 0 && done.stdout.contains("explain"), "{shell}: {}", done.stderr);
    }
}

#[test]
fn help_tells_exit_codes_and_colours_can_be_had_and_left() {
    let help = idem(&["--help"]);
    assert!(
        help.code == 0 && help.stdout.contains("Exit codes") && help.stdout.contains("DATABASE_URL"),
        "{}",
        help.stdout
    );
    assert!(idem(&["--color", "always", "jobs"]).stderr.contains('\u{1b}'));
    assert!(!idem(&["jobs"]).stderr.contains('\u{1b}'));
}

#[test]
fn the_option_goes_before_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("jobs.sqlite").display());
    assert_eq!(idem(&["--database-url", &url, "migrate"]).code, 0);
    let wrong = "redis://host";
    for (option, own, common, is_found) in [
        (Some(&*url), Some(wrong), Some(wrong), true),
        (None, Some(&*url), Some(wrong), true),
        (None, None, Some(&*url), true),
        (Some(wrong), Some(&*url), Some(&*url), false),
        (None, Some(wrong), Some(&*url), false),
    ] {
        let args: Vec<&str> = option.iter().flat_map(|url| ["--database-url", url]).chain(["jobs"]).collect();
        let mut command = command(&args);
        own.map(|url| command.env("IDEM_DATABASE_URL", url));
        common.map(|url| command.env("DATABASE_URL", url));
        assert_eq!(command.output().unwrap().status.success(), is_found, "{option:?} {own:?} {common:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = command(&["completions", "zsh"]).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}
