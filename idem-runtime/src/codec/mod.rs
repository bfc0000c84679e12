//! The one encoding of results, final errors and arguments.
//!
//! A replay returns what the first run returned, for *every* serde value. JSON, CBOR and
//! MessagePack cannot promise that: they write `Some(None)` as `None`, `Some(())` as `None`, or
//! lose NaN; formats without names cannot carry `#[serde(flatten)]` or `untagged`. This one mirrors
//! serde's data model, tag by tag: self-describing, lossless, compact. See
//! `docs/decisions/0002-result-encoding.md`.

mod decode;
mod encode;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::decode::Decoder;
use self::encode::{Encoder, MapOrder};
use crate::error::Code;

/// The first byte of every encoded value. The numbers are in every stored record: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Tag {
    End = 0,
    Unit = 1,
    None = 2,
    Some = 3,
    False = 4,
    True = 5,
    Unsigned = 6,
    Negative = 7,
    F32 = 8,
    F64 = 9,
    Char = 10,
    Str = 11,
    Bytes = 12,
    Seq = 13,
    Map = 14,
    UnitVariant = 15,
    Variant = 16,
    /// Nothing, as a text of JSON has it: the type that it is read into says what that is.
    Null = 17,
}

impl Tag {
    fn from_byte(byte: u8) -> Option<Tag> {
        const ALL: [Tag; 18] = [
            Tag::End,
            Tag::Unit,
            Tag::None,
            Tag::Some,
            Tag::False,
            Tag::True,
            Tag::Unsigned,
            Tag::Negative,
            Tag::F32,
            Tag::F64,
            Tag::Char,
            Tag::Str,
            Tag::Bytes,
            Tag::Seq,
            Tag::Map,
            Tag::UnitVariant,
            Tag::Variant,
            Tag::Null,
        ];
        ALL.get(usize::from(byte)).copied()
    }
}

/// Encodes a value so that [`decode`] gives it back exactly.
///
/// # Errors
///
/// The value's own `Serialize` fails.
///
/// # Example
///
/// ```
/// use idem_runtime::codec::{decode, encode};
///
/// let bytes = encode(&Some(None::<u8>)).unwrap();
/// assert_eq!(decode::<Option<Option<u8>>>(&bytes).unwrap(), Some(None));
/// ```
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    Encoder::new(MapOrder::AsGiven).encode(value)
}

/// Encodes a value so that equal values have equal bytes: the entries of maps are sorted.
///
/// # Errors
///
/// The value's own `Serialize` fails.
#[doc(hidden)]
pub fn encode_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    Encoder::new(MapOrder::Sorted).encode(value)
}

/// Decodes what [`encode`] gave.
///
/// Fields may have been added (`#[serde(default)]`), removed or reordered since.
///
/// # Errors
///
/// Bytes of another shape; the error names the field.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = Decoder::new(bytes);
    let value = serde_path_to_error::deserialize(&mut decoder).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        CodecError { path: Some(path).filter(|path| path != "."), ..inner }
    })?;
    decoder.finish()?;
    Ok(value)
}

/// What stands before a value that a person has given instead of the job: no [`Tag`] has this number.
const GIVEN: u8 = 255;

/// Marks an encoded value as given by a person, who does not have the types of the job and may be wrong about them.
pub(crate) fn given(value: &[u8]) -> Vec<u8> {
    [&[GIVEN], value].concat()
}

/// Returns the encoded value that a person has given; `None` if the job has recorded it itself.
pub(crate) fn as_given(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(&[GIVEN])
}

/// A value that is nothing, and does not say of which type: `None` and `()` are read out of it.
///
/// It is what a JSON `null` becomes, so that a result which a person has written down as JSON is read as the job's type:
/// there, too, an enum is a text, or a map of one entry.
///
/// # Example
///
/// ```
/// use idem_runtime::codec::{Null, decode, encode};
///
/// let bytes = encode(&Null).unwrap();
/// assert_eq!(decode::<Option<u8>>(&bytes).unwrap(), None);
/// decode::<()>(&bytes).unwrap();
/// assert!(decode::<u8>(&bytes).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Null;

/// The name by which the encoder knows [`Null`].
const NULL: &str = "idem_runtime::codec::Null";

impl Serialize for Null {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit_struct(NULL)
    }
}

/// A value that cannot be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError {
    pub(crate) code: Code,
    what: String,
    path: Option<String>,
}

impl CodecError {
    /// Returns the field where the value went wrong, from the outside in; `None` at the top.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    pub(crate) fn no_final_errors() -> Self {
        Self::unreadable("the job has no `replay(...)` any more, but an error is recorded")
    }

    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        let CodecError { what, path, .. } = self;
        path.as_ref().map_or_else(|| what.clone(), |path| format!("field `{path}`: {what}"))
    }

    fn unreadable(what: impl Into<String>) -> Self {
        CodecError { code: Code::Unreadable, what: what.into(), path: None }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.says(), self.code)
    }
}

impl std::error::Error for CodecError {}

impl serde::ser::Error for CodecError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        let what = without_values(&what.to_string());
        CodecError { code: Code::Unserializable, what, path: None }
    }
}

impl serde::de::Error for CodecError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        CodecError::unreadable(without_values(&what.to_string()))
    }
}

/// Takes out of a text of serde's, or of a type's own, the value that it quotes, which may be secret: what is
/// `invalid type: string "…", expected u8` there becomes `invalid type: string, expected u8`. Names of fields stay.
pub(crate) fn without_values(text: &str) -> String {
    const OF_FIELDS: [&str; 3] = ["missing field", "unknown field", "duplicate field"];
    let Some(quote) = text.find(['"', '`', '\'']) else { return text.to_owned() };
    if OF_FIELDS.iter().any(|start| text.starts_with(start)) {
        return text.to_owned();
    }
    let before = text[..quote].trim_end_matches([' ', ':']);
    let expected = text.rfind(", expected ").filter(|expected| *expected > quote);
    format!("{before}{}", expected.map_or(", the value is not shown", |expected| &text[expected..]))
}

#[cfg(test)]
mod tests;
