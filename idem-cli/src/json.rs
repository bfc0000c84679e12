//! Recorded values as JSON, and JSON as what a job's type can be read out of.

use std::fmt;

use idem_runtime::codec::Null;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Any value, with its fields in their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that is none of the negative ones.
    Unsigned(u128),
    /// A negative number.
    Signed(i128),
    /// A number with a point.
    Float(f64),
    /// A text.
    Text(String),
    /// An array.
    Seq(Vec<Json>),
    /// An object.
    Map(Vec<(String, Json)>),
}

/// Reads JSON that a person has written down, for a job's type to be read out of.
///
/// What would not come back as it was written is refused: numbers of more than 64 bits, and objects with a name twice.
///
/// # Errors
///
/// What is wrong, and where.
pub(crate) fn parse(text: &str) -> Result<Json, String> {
    let value: Json = serde_json::from_str(text).map_err(|error| match text.trim_start() {
        quoted if quoted.starts_with(['"', '{', '[']) => error.to_string(),
        // Most likely a text, whose quotes the shell has taken if there were any.
        _ => {
            let json = serde_json::to_string(text).expect("a text can be written");
            let typed = json.replace('\'', r"'\''");
            format!("it is no JSON: {error}; a text has quotes of its own, as in --done '{typed}'")
        }
    })?;
    match long_integer(text) {
        None => Ok(value),
        Some(number) => Err(format!(
            "the number {number} has more than 64 bits, and JSON would round it; settle the key in code, with `Idem::resolve`"
        )),
    }
}

/// Finds a number without a point that 64 bits cannot hold.
fn long_integer(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[at..];
        let end = match rest.strip_prefix('"') {
            Some(inside) => {
                let mut is_escaped = false;
                let is_end = |c: char| {
                    let ends = c == '"' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                    ends
                };
                inside.find(is_end).map_or(rest.len(), |at| at + 2)
            }
            None => {
                let end = rest.find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'));
                let number = &rest[..end.unwrap_or(rest.len())];
                let is_whole = !number.contains(['.', 'e', 'E']);
                if is_whole && number.parse::<u64>().is_err() && number.parse::<i64>().is_err() {
                    return Some(number);
                }
                number.len()
            }
        };
        rest = &rest[end..];
    }
    None
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => Null.serialize(serializer),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Unsigned(value) => serializer.serialize_u128(*value),
            Json::Signed(value) => serializer.serialize_i128(*value),
            Json::Float(value) => serializer.serialize_f64(*value),
            Json::Text(value) => serializer.serialize_str(value),
            Json::Seq(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Json::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (name, value) in entries {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value.into()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Json, E> {
        self.visit_i128(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Json, E> {
        Ok(u128::try_from(value).map_or(Json::Signed(value), Json::Unsigned))
    }

    fn visit_f32<E: serde::de::Error>(self, value: f32) -> Result<Json, E> {
        // The shortest digits that name it, not those of the number of 64 bits beside it.
        self.visit_f64(value.to_string().parse().unwrap_or(f64::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(if value.is_finite() { Json::Float(value) } else { Json::Text(value.to_string()) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Json, E> {
        Ok(Json::Seq(value.iter().map(|byte| Json::Unsigned((*byte).into())).collect()))
    }

    fn visit_none<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        Json::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        Json::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<Json, Json>()? {
            let name = match key {
                Json::Text(name) => name,
                // JSON has texts for names; the value is shown, and not read back.
                other => serde_json::to_string(&other).map_err(A::Error::custom)?,
            };
            if entries.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!("the name {name:?} is there twice")));
            }
            entries.push((name, value));
        }
        Ok(Json::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use idem_runtime::codec::{decode, encode};
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Line(i64),
        Edge(i64, String),
        Box { width: Option<u8>, inner: Box<Shape> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Receipt {
        id: i64,
        name: String,
        left: Option<Unit>,
        right: Option<String>,
        shapes: Vec<Shape>,
        pair: (u64, i8),
        ratio: f64,
        half: f32,
        letter: char,
        unit: (),
        map: BTreeMap<String, Option<bool>>,
        bytes: Vec<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        One { id: Option<u32> },
        Two,
    }

    /// What a job records is shown as JSON, and the JSON, put in as the result, is read as the same value.
    fn check_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
        let shown: Json = decode(&encode(&value).unwrap()).unwrap();
        let text = serde_json::to_string(&shown).unwrap();
        let read: T = decode(&encode(&parse(&text).unwrap()).unwrap())
            .unwrap_or_else(|error| panic!("{text} is not read as {value:?}: {error}"));
        assert_eq!(read, value, "by way of {text}");
    }

    #[test]
    fn what_is_shown_can_be_put_in_as_a_result() {
        check_round_trip(Receipt {
            id: i64::MIN,
            name: String::from("it's \"9\" \\ 🦀"),
            left: None,
            right: Some(String::from("r")),
            shapes: vec![
                Shape::Point,
                Shape::Line(-3),
                Shape::Edge(4, String::from("e")),
                Shape::Box {
                    width: None,
                    inner: Box::new(Shape::Box { width: Some(7), inner: Box::new(Shape::Point) }),
                },
            ],
            pair: (u64::MAX, -128),
            ratio: 0.1,
            half: 0.1,
            letter: 'ü',
            unit: (),
            map: BTreeMap::from([(String::from("a"), None), (String::from("b"), Some(true))]),
            bytes: vec![0, 255],
        });
        for shape in [Shape::Point, Shape::Line(1), Shape::Edge(1, String::new())] {
            check_round_trip(shape);
        }
        check_round_trip(Tagged::One { id: None });
        check_round_trip(Tagged::Two);
        check_round_trip(());
        check_round_trip(None::<i64>);
        check_round_trip(Some(5_u8));
        check_round_trip(vec![Some(String::from("x")), None]);
        check_round_trip(u64::MAX);
    }

    #[test]
    fn bytes_are_shown_as_numbers_and_long_numbers_as_they_are() {
        struct Bytes;
        impl Serialize for Bytes {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&[1, 255])
            }
        }
        let shown = |bytes: Vec<u8>| serde_json::to_string(&decode::<Json>(&bytes).unwrap()).unwrap();
        assert_eq!(shown(encode(&Bytes).unwrap()), "[1,255]");
        assert_eq!(shown(encode(&u128::MAX).unwrap()), u128::MAX.to_string());
        assert_eq!(shown(encode(&f64::NAN).unwrap()), "\"NaN\"");
        assert_eq!(shown(encode(&BTreeMap::from([(1, 2)])).unwrap()), r#"{"1":2}"#);
    }

    #[test]
    fn what_json_would_change_is_refused() {
        for text in ["18446744073709551616", "[1, -9223372036854775809]", r#"{"a\"1": 99999999999999999999}"#]
        {
            assert!(parse(text).unwrap_err().contains("64 bits"), "{text}");
        }
        assert!(parse(r#"{"a": 1, "a": 2}"#).unwrap_err().contains("twice"));
        assert!(!parse("{").unwrap_err().contains("quotes"));
        assert!(parse("ride 17").unwrap_err().ends_with(r#"as in --done '"ride 17"'"#));
        assert!(parse("it's").unwrap_err().ends_with(r#"as in --done '"it'\''s"'"#));
        for text in [r#""18446744073709551616""#, "1.5e300", "18446744073709551615", r#"{"\\": 1}"#] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }
}
