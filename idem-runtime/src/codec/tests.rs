use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::{decode, encode, encode_canonical, without_values};

#[track_caller]
fn check_round_trip<T: Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = encode(&value).expect("encodes");
    let back: T = decode(&bytes).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    assert_eq!(back, value);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Option<Box<Nested>>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Nested {
    Unit,
    Newtype(Newtype),
    Tuple(u8, Option<()>),
    Struct { a: Result<u8, String>, b: Option<Option<i64>> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Pair { left: Option<u8>, right: Nested },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    A { x: u8 },
    B,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    A(u8, u8),
    B,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u64,
    #[serde(flatten)]
    rest: BTreeMap<String, i32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Bytes(#[serde(with = "as_bytes")] Vec<u8>);

mod as_bytes {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Expect;
        impl Visitor<'_> for Expect {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Expect)
    }
}

#[test]
fn every_shape_of_serde_value_comes_back() {
    check_round_trip(());
    check_round_trip(Unit);
    check_round_trip(false);
    check_round_trip(true);
    check_round_trip(None::<u8>);
    check_round_trip(Some(()));
    check_round_trip(Some(None::<()>));
    check_round_trip(Some(Some(Some(None::<Unit>))));
    check_round_trip(String::new());
    check_round_trip(String::from("nul \0, quote ', ünïcode 🦀"));
    check_round_trip('\0');
    check_round_trip(char::MAX);
    check_round_trip(Vec::<u8>::new());
    check_round_trip(vec![None, Some(0_u8), Some(255)]);
    check_round_trip((1_u8, (), "two".to_owned(), [3_i16; 3]));
    check_round_trip(Bytes(vec![]));
    check_round_trip(Bytes(vec![0, 255, 10]));
    check_round_trip(Ok::<(), String>(()));
    check_round_trip(Err::<(), String>(String::new()));
    check_round_trip(HashMap::from([((1, 2), "tuple key".to_owned())]));
    check_round_trip(BTreeMap::from([(None, 1), (Some(false), 2)]));
    check_round_trip(Flat { id: 0, rest: BTreeMap::from([("a".to_owned(), -1)]) });
    check_round_trip([Internal::A { x: 0 }, Internal::B]);
    check_round_trip([Adjacent::A(0, 1), Adjacent::B]);
    check_round_trip(vec![
        Nested::Unit,
        Nested::Newtype(Newtype(None)),
        Nested::Newtype(Newtype(Some(Box::new(Nested::Unit)))),
        Nested::Tuple(0, Some(())),
        Nested::Struct { a: Err(String::new()), b: Some(None) },
    ]);
    check_round_trip(vec![
        Untagged::Number(0),
        Untagged::Text(String::new()),
        Untagged::Pair { left: None, right: Nested::Unit },
        Untagged::Pair { left: Some(0), right: Nested::Newtype(Newtype(None)) },
    ]);
}

#[test]
fn every_number_comes_back() {
    check_round_trip([0_u8, 1, 127, 128, 255]);
    check_round_trip([i8::MIN, -1, 0, i8::MAX]);
    check_round_trip([0, u64::MAX, 1 << 53, (1 << 53) + 1]);
    check_round_trip([i64::MIN, i64::MAX]);
    check_round_trip([0, u128::MAX, 1 << 127]);
    check_round_trip([i128::MIN, -1, i128::MAX]);
    check_round_trip([0.1_f64, -0.0, f64::MIN_POSITIVE, f64::INFINITY, 1e300]);
    check_round_trip([0.1_f32, f32::MAX, f32::NEG_INFINITY]);
    let nan: f64 = decode(&encode(&f64::NAN).expect("encodes")).expect("decodes");
    assert_eq!(nan.to_bits(), f64::NAN.to_bits());
    let negative_zero: f64 = decode(&encode(&-0.0_f64).expect("encodes")).expect("decodes");
    assert!(negative_zero.is_sign_negative());
}

#[test]
fn a_json_value_comes_back() {
    let value = serde_json::json!({"a": [null, true, -1, 2.5, "x", {}, []], "b": {"c": null}});
    check_round_trip(value);
}

#[test]
fn fields_may_be_added_removed_and_made_optional() {
    #[derive(Serialize)]
    struct Old {
        gone: Vec<Option<u8>>,
        kept: u8,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct New {
        kept: Option<u8>,
        #[serde(default)]
        added: bool,
    }
    let bytes = encode(&Old { gone: vec![None, Some(1)], kept: 7 }).expect("encodes");
    assert_eq!(decode::<New>(&bytes).expect("decodes"), New { kept: Some(7), added: false });
}

#[test]
fn an_error_names_the_field() {
    #[derive(Serialize)]
    struct Old {
        inner: Vec<BTreeMap<&'static str, &'static str>>,
    }
    #[derive(Debug, Deserialize)]
    struct New {
        #[expect(dead_code, reason = "never read back")]
        inner: Vec<BTreeMap<String, u8>>,
    }
    let bytes = encode(&Old { inner: vec![BTreeMap::from([("a", "text")])] }).expect("encodes");
    let error = decode::<New>(&bytes).expect_err("a text is no number");
    assert_eq!(error.path(), Some("inner[0].a"));
    assert!(error.to_string().contains("invalid type: string, expected u8"), "{error}");
}

#[test]
fn broken_bytes_are_an_error_and_never_a_panic() {
    let bytes = encode(&Nested::Struct { a: Ok(1), b: Some(Some(i64::MIN)) }).expect("encodes");
    for len in 0..bytes.len() {
        decode::<Nested>(&bytes[..len]).expect_err("cut short");
    }
    for index in 0..bytes.len() {
        for byte in 0..=u8::MAX {
            let mut broken = bytes.clone();
            broken[index] = byte;
            // Some changes give another valid value; none may panic.
            let _ = decode::<Nested>(&broken);
        }
    }
    decode::<u8>(&[&encode(&1_u8).expect("encodes")[..], &[0]].concat()).expect_err("too long");
    decode::<u8>(&[]).expect_err("empty");
}

#[test]
fn canonical_bytes_do_not_depend_on_the_order_of_a_map() {
    let forwards: Vec<(u32, u32)> = (0..100).map(|n| (n, n * 7)).collect();
    let one: HashMap<u32, u32> = forwards.iter().copied().collect();
    let other: HashMap<u32, u32> = forwards.iter().rev().copied().collect();
    assert_eq!(encode_canonical(&one).expect("encodes"), encode_canonical(&other).expect("encodes"));
    let different: HashMap<u32, u32> = forwards.iter().map(|(n, m)| (*m, *n)).collect();
    assert_ne!(encode_canonical(&one).expect("encodes"), encode_canonical(&different).expect("encodes"));
}

#[test]
fn a_text_of_serde_is_shown_without_the_value() {
    for (text, shown) in [
        ("invalid type: string \"hunter2\", expected i64", "invalid type: string, expected i64"),
        (
            "invalid value: integer `300`, expected u8 at line 1 column 9",
            "invalid value: integer, expected u8 at line 1 column 9",
        ),
        ("invalid type: string \"a, expected b\", expected unit", "invalid type: string, expected unit"),
        ("unknown variant `hunter2`, expected one of `a`, `b`", "unknown variant, expected one of `a`, `b`"),
        ("failed to parse 'hunter2': no date", "failed to parse, the value is not shown"),
        ("missing field `amount`", "missing field `amount`"),
        ("invalid digit found in string", "invalid digit found in string"),
    ] {
        assert_eq!(without_values(text), shown);
    }
}
