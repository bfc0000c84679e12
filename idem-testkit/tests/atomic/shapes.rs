//! Results of every shape come back from the record as the first run returned them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use idem_runtime::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    One(Option<Box<Tree>>),
    Two(Box<Tree>, Option<()>),
    Named { left: Result<u8, String>, right: Option<Option<f64>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Loose {
    Number(i64),
    Text(String),
    Fields { value: Option<Option<bool>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Empty {}

/// Writes a job for each result, runs it twice and compares.
macro_rules! shapes {
    ($($name:ident: $ty:ty = $value:expr;)+) => {
        $(
            #[idempotent(key = n)]
            async fn $name(tx: &mut Tx<'_, Memory>, n: u8) -> Result<$ty, std::convert::Infallible> {
                tx.set(format!("{} {n}", stringify!($name)), "done");
                Ok($value)
            }
        )+

        #[tokio::test]
        async fn a_replay_returns_what_the_first_run_returned() {
            let idem = Idem::memory().build().unwrap();
            $(
                let first = $name(&idem, 0).await.unwrap();
                assert!(first.is_executed());
                let again = $name(&idem, 0).await.unwrap();
                assert!(again.is_replayed());
                check(stringify!($name), first.into_inner(), again.into_inner());
            )+
        }
    };
}

fn check<T: PartialEq + Debug>(name: &str, first: T, again: T) {
    assert_eq!(first, again, "{name}");
}

shapes! {
    unit: () = ();
    no: bool = false;
    zero: u64 = 0;
    nothing: Option<u8> = None;
    some_none: Option<Option<u8>> = Some(None);
    some_unit: Option<()> = Some(());
    empty_text: String = String::new();
    empty_list: Vec<u8> = vec![];
    no_fields: Empty = Empty {};
    inner_error: Result<(), String> = Err(String::new());
    inner_ok: Result<Option<()>, ()> = Ok(None);
    largest: (u64, i64, u128, i128) = (u64::MAX, i64::MIN, u128::MAX, i128::MIN);
    floats: [f64; 4] = [0.1, -0.0, f64::INFINITY, f64::MIN_POSITIVE];
    tuple_keys: BTreeMap<(u8, Option<u8>), char> = BTreeMap::from([((1, None), 'ß'), ((1, Some(0)), '\0')]);
    map: HashMap<String, Option<Vec<()>>> = HashMap::from([("a".into(), Some(vec![(), ()])), ("b".into(), None)]);
    a_tree: Vec<Tree> = vec![
        Tree::Leaf,
        Tree::One(None),
        Tree::One(Some(Box::new(Tree::Leaf))),
        Tree::Two(Box::new(Tree::One(None)), Some(())),
        Tree::Named { left: Err("no".into()), right: Some(None) },
    ];
    untagged: Vec<Loose> = vec![
        Loose::Number(-1),
        Loose::Text("1".into()),
        Loose::Fields { value: Some(None) },
        Loose::Fields { value: None },
    ];
    json: serde_json::Value = serde_json::json!({"a": [null, {}, [], 0, -1.5, "text", false]});
}

#[idempotent(key = n, replay(Refusal::Final(_)))]
async fn refuse(tx: &mut Tx<'_, Memory>, n: u8) -> Result<(), Refusal> {
    tx.set(format!("refused {n}"), "never seen");
    match n {
        0 => Err(Refusal::Final(Some(None))),
        _ => Err(Refusal::Passing),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Refusal {
    Final(Option<Option<u8>>),
    Passing,
}

#[tokio::test]
async fn a_final_error_comes_back_as_it_was_and_its_effect_does_not() {
    let store = std::sync::Arc::new(idem_runtime::store::memory::MemoryStore::new());
    let idem = Idem::with_store(std::sync::Arc::clone(&store) as _).build().unwrap();
    for _ in 0..3 {
        assert_eq!(refuse(&idem, 0).await.unwrap_err().into_job().unwrap(), Refusal::Final(Some(None)));
        assert_eq!(refuse(&idem, 1).await.unwrap_err().into_job().unwrap(), Refusal::Passing);
    }
    assert!(store.effects().is_empty());
}
