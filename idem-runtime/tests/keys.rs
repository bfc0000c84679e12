//! Keys: different keys never share an encoding, equal ones always do.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use idem_runtime::KeyPart;
use idem_runtime::key::{EmptyKey, Key, KeyParts, KeyWriter, READABLE_BYTES_MAX};

/// A key that can be of any type, so that a family of keys can be generated.
#[derive(Debug, Clone)]
enum Any {
    Unsigned(u64),
    Signed(i64),
    Bool(bool),
    Char(char),
    Text(&'static str),
    None,
    Some(Box<Any>),
    List(Vec<Any>),
}

impl KeyPart for Any {
    fn write(&self, key: &mut KeyWriter) {
        match self {
            Any::Unsigned(value) => value.write(key),
            Any::Signed(value) => value.write(key),
            Any::Bool(value) => value.write(key),
            Any::Char(value) => value.write(key),
            Any::Text(value) => value.write(key),
            Any::None => None::<u8>.write(key),
            Any::Some(value) => Some(value).write(key),
            Any::List(values) => values.write(key),
        }
    }
}

fn some(value: &Any) -> Any {
    Any::Some(Box::new(value.clone()))
}

fn list<const N: usize>(values: [&Any; N]) -> Any {
    Any::List(values.into_iter().cloned().collect())
}

/// Values that are easily taken for one another.
fn seeds() -> Vec<Any> {
    let texts = ["1", "0", "a", "b", "ab", "bc", "abc", "c", "true", "-1", "a, b", "-", "\u{1}", "1\0"];
    let mut seeds: Vec<Any> = texts.into_iter().map(Any::Text).collect();
    seeds.extend([0, 1, 2, 8, 255, 256, u64::MAX].map(Any::Unsigned));
    seeds.extend([0, 1, -1, 8, 255, 256, i64::MIN, i64::MAX].map(Any::Signed));
    seeds.extend([Any::Bool(false), Any::Bool(true), Any::Char('1'), Any::Char('a'), Any::Char('\0')]);
    seeds.extend([Any::None, Any::List(vec![])]);
    seeds
}

#[test]
fn no_two_keys_of_a_large_family_share_an_encoding() {
    let seeds = seeds();
    let mut family = seeds.clone();
    for one in &seeds {
        family.extend([some(one), some(&some(one)), list([one]), list([&list([one])])]);
        for other in &seeds {
            family.extend([
                list([one, other]),
                list([one, &list([other])]),
                list([&list([one]), other]),
                list([&some(one), other]),
            ]);
            for third in &seeds {
                family.extend([
                    list([one, other, third]),
                    list([&list([one, other]), third]),
                    list([one, &list([other, third])]),
                ]);
            }
        }
    }
    let (mut encodings, mut hashes) = (HashMap::new(), HashMap::new());
    for value in &family {
        // Some members have no content; they are refused, which is no collision.
        let Ok(parts) = KeyParts::of(value) else { continue };
        let hash = Key::new("family", "job", &parts).hash();
        if let Some(other) = encodings.insert(parts.encoded().to_vec(), value) {
            panic!("{value:?} and {other:?} share an encoding");
        }
        if let Some(other) = hashes.insert(hash, value) {
            panic!("{value:?} and {other:?} share a hash");
        }
    }
    assert!(encodings.len() > 100_000, "the family has only {} members", encodings.len());
}

#[test]
fn the_classic_confusions_are_none() {
    let distinct = [
        KeyParts::of(&("a", "bc")),
        KeyParts::of(&("ab", "c")),
        KeyParts::of("abc"),
        KeyParts::of(&1_u64),
        KeyParts::of(&1_i64),
        KeyParts::of("1"),
        KeyParts::of(&'1'),
        KeyParts::of(&true),
        KeyParts::of(&(1_u64,)),
        KeyParts::of(&((1_u64, 2_u64), 3_u64)),
        KeyParts::of(&(1_u64, (2_u64, 3_u64))),
        KeyParts::of(&(1_u64, 2_u64, 3_u64)),
        KeyParts::of(&(1_u64, None::<u64>)),
        KeyParts::of(&(1_u64, Some(0_u64))),
        KeyParts::of(&Some(1_u64)),
        KeyParts::of(&Some(Some(1_u64))),
        Ok(KeyParts::global()),
    ];
    let encodings: HashSet<Vec<u8>> =
        distinct.iter().map(|key| key.clone().unwrap().encoded().to_vec()).collect();
    assert_eq!(encodings.len(), distinct.len());
}

#[test]
fn equal_keys_have_one_encoding_however_they_are_held() {
    let text = KeyParts::of("evt_1").unwrap();
    assert_eq!(KeyParts::of(&String::from("evt_1")), Ok(text.clone()));
    assert_eq!(KeyParts::of(&Cow::Borrowed("evt_1")), Ok(text.clone()));
    assert_eq!(KeyParts::of(&Arc::<str>::from("evt_1")), Ok(text.clone()));
    assert_eq!(KeyParts::of(&&&Box::new("evt_1")), Ok(text));
    // Widening an id keeps its history.
    assert_eq!(KeyParts::of(&7_u8), KeyParts::of(&7_u128));
    assert_eq!(KeyParts::of(&-7_i16), KeyParts::of(&-7_i64));
    assert_eq!(KeyParts::of(&NonZeroU64::MIN), KeyParts::of(&1_u64));
    assert_eq!(KeyParts::of(&[1_u8, 2]), KeyParts::of(&vec![1_u8, 2]));
}

#[test]
fn an_empty_key_is_refused_wherever_it_is_empty() {
    for blank in ["", " ", "\t\n", "\u{a0}"] {
        assert_eq!(KeyParts::of(blank), Err(EmptyKey), "{blank:?}");
        assert_eq!(KeyParts::of(&("github", blank)), Err(EmptyKey));
        assert_eq!(KeyParts::of(&(1_u8, Some(blank))), Err(EmptyKey));
    }
    assert_eq!(KeyParts::of(&None::<u8>), Err(EmptyKey));
    assert_eq!(KeyParts::of(&(None::<u8>, None::<String>)), Err(EmptyKey));
    assert_eq!(KeyParts::of(&Vec::<u8>::new()), Err(EmptyKey));
    assert!(KeyParts::of(&(1_u8, None::<u8>)).is_ok());
}

#[test]
fn a_long_key_is_hashed_whole_and_shown_cut() {
    let long = "ü".repeat(10_000);
    let longer = format!("{long}!");
    let (one, other) = (KeyParts::of(&long).unwrap(), KeyParts::of(&longer).unwrap());
    assert!(one.readable().len() <= READABLE_BYTES_MAX && one.readable().ends_with('…'));
    assert_ne!(Key::new("n", "j", &one).hash(), Key::new("n", "j", &other).hash());
    let many = KeyParts::of(&vec!["part"; 1_000]).unwrap();
    assert!(many.readable().len() <= READABLE_BYTES_MAX);
}

#[test]
fn the_readable_form_is_one_printable_line() {
    let parts = KeyParts::of(&("line\nbreak \0", 42_u8, true, Some('x'), None::<u8>)).unwrap();
    assert_eq!(parts.readable(), "line\u{fffd}break \u{fffd}, 42, true, x, -");
}

#[test]
fn namespace_job_and_step_are_part_of_what_is_handed_out() {
    let parts = KeyParts::of(&42_i64).unwrap();
    let key = Key::new("billing", "charge", &parts);
    assert_eq!(key.hash(), Key::new("billing", "charge", &parts).hash());
    assert_ne!(key.hash(), Key::new("billing", "refund", &parts).hash());
    assert_ne!(key.hash(), Key::new("shipping", "charge", &parts).hash());
    // Not even if the border between the two moves.
    assert_ne!(Key::new("ab", "c", &parts).hash(), Key::new("a", "bc", &parts).hash());
    assert_eq!(key.outbound(""), Key::new("billing", "charge", &parts).outbound(""));
    assert_ne!(key.outbound(""), key.outbound("refund"));
    assert!(!key.outbound("").contains(&key.hash().to_string()));
}

/// Hashes like these are in every database out there, and at every callee: this test never changes.
#[test]
fn the_encoding_is_what_it_always_was() {
    let parts = KeyParts::of(&("github", 42_u64, -1_i8, Some(true), None::<char>)).unwrap();
    let key = Key::new("default", "webhook", &parts);
    assert_eq!(key.hash().to_string(), "eaf84e770a19d23f426651133e55f003");
    assert_eq!(key.outbound(""), "idem_8dee5317ad37a1eaed17802f386d46e4");
}

#[derive(KeyPart)]
struct PaymentId(i64);

#[derive(KeyPart)]
struct Address {
    street: String,
    number: u32,
}

#[derive(KeyPart)]
enum Source {
    Shop,
    Partner { id: u64 },
    Import(String, u8),
}

#[test]
fn derived_parts_are_transparent_newtypes_groups_and_named_variants() {
    assert_eq!(KeyParts::of(&PaymentId(42)), KeyParts::of(&42_i64));
    let address = Address { street: String::from("High Street"), number: 1 };
    assert_eq!(KeyParts::of(&address), KeyParts::of(&("High Street", 1_u32)));
    let sources =
        [Source::Shop, Source::Partner { id: 1 }, Source::Partner { id: 2 }, Source::Import("a".into(), 1)];
    let keys: HashSet<_> = sources.iter().map(|source| KeyParts::of(source).unwrap()).collect();
    assert_eq!(keys.len(), sources.len());
}

#[cfg(feature = "uuid")]
#[test]
fn a_uuid_is_no_text() {
    let id = uuid::Uuid::from_u128(7);
    assert_ne!(KeyParts::of(&id), KeyParts::of(&id.to_string()));
    assert_eq!(KeyParts::of(&id).unwrap().readable(), id.to_string());
}

#[cfg(feature = "chrono")]
#[test]
fn an_instant_of_chrono_is_the_same_in_every_zone() {
    use chrono::{DateTime, FixedOffset, NaiveDate};
    let utc = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let there = utc.with_timezone(&FixedOffset::east_opt(3_600).unwrap());
    assert_eq!(KeyParts::of(&utc), KeyParts::of(&there));
    let date = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();
    assert_eq!(KeyParts::of(&date).unwrap().readable(), "2026-11-23");
}

#[cfg(feature = "time")]
#[test]
fn an_instant_of_time_is_the_same_at_every_offset() {
    use time::{Date, Month, OffsetDateTime, UtcOffset};
    let utc = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
    let there = utc.to_offset(UtcOffset::from_hms(1, 0, 0).unwrap());
    assert_eq!(KeyParts::of(&utc).unwrap().encoded(), KeyParts::of(&there).unwrap().encoded());
    assert!(KeyParts::of(&Date::from_calendar_date(2026, Month::November, 23).unwrap()).is_ok());
}

#[cfg(feature = "jiff")]
#[test]
fn a_date_of_jiff_is_no_text() {
    let date = jiff::civil::date(2026, 11, 23);
    assert_eq!(KeyParts::of(&date).unwrap().readable(), "2026-11-23");
    assert_ne!(KeyParts::of(&date), KeyParts::of("2026-11-23"));
    assert!(KeyParts::of(&jiff::Timestamp::UNIX_EPOCH).is_ok());
}
