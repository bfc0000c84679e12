//! Keys: what makes two runs the same work.
//!
//! A key is encoded part by part, each with its type's tag and its length, and hashed together with
//! the namespace and the job's name. The readable form stands beside the hash for people.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;

/// The longest readable form that is kept, in bytes; the hash always covers the whole key.
pub const READABLE_BYTES_MAX: usize = 200;

/// A value that can be part of a key.
///
/// Integers, `bool`, `char`, strings, byte arrays, tuples, `Option`, slices and vectors of such are
/// parts; with the features `uuid`, `chrono`, `time` and `jiff` so are ids, dates and timestamps.
/// Derive it for newtypes:
///
/// ```
/// use idem_runtime::KeyPart;
/// use idem_runtime::key::KeyParts;
///
/// #[derive(KeyPart)]
/// struct PaymentId(i64);
///
/// assert_eq!(KeyParts::of(&PaymentId(42)), KeyParts::of(&42_i64));
/// ```
///
/// Integers of one sign encode alike whatever their width, so widening an id keeps its history.
/// Floats, maps and pointers are no parts: their equality is not that of the work.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key [idem::not_a_key_part]",
    label = "this value does not identify work",
    note = "a key is made of integers, strings, ids, dates and tuples of them; derive `KeyPart` for a newtype of one, and write an amount as an integer, such as cents"
)]
pub trait KeyPart {
    /// Writes the value into a key.
    fn write(&self, key: &mut KeyWriter);
}

/// Takes one part of a key, so that a value that cannot be one is underlined on its own.
#[doc(hidden)]
pub fn part<K: KeyPart>(part: &K) -> &dyn KeyPart {
    part
}

/// The parts of a key, encoded; not yet bound to a namespace and a job.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyParts {
    encoded: Vec<u8>,
    readable: String,
}

impl KeyParts {
    /// Encodes a key.
    ///
    /// # Errors
    ///
    /// [`EmptyKey`], if a string or byte part is empty or blank wherever it stands, or if there is
    /// nothing in the key at all: such a key would make unrelated runs the same work.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::key::KeyParts;
    ///
    /// let key = KeyParts::of(&("github", "evt_1")).unwrap();
    /// assert_eq!(key.readable(), "github, evt_1");
    /// assert!(KeyParts::of(&("github", " ")).is_err());
    /// assert!(KeyParts::of(&None::<i64>).is_err());
    /// ```
    pub fn of<K: KeyPart + ?Sized>(key: &K) -> Result<KeyParts, EmptyKey> {
        let mut writer = KeyWriter::new();
        key.write(&mut writer);
        writer.finish()
    }

    /// The key of `key = global`: one run ever.
    pub fn global() -> KeyParts {
        KeyParts { encoded: vec![Tag::Global as u8], readable: String::from("global") }
    }

    /// Returns the form for people, cut at [`READABLE_BYTES_MAX`].
    pub fn readable(&self) -> &str {
        &self.readable
    }

    /// Returns the bytes that are hashed: equal exactly for equal keys.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

impl fmt::Debug for KeyParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyParts({})", self.readable)
    }
}

/// A key with no content: an empty or blank string, or nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmptyKey;

impl EmptyKey {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> &'static str {
        "the key is empty: a part of it is a blank string or nothing at all, so unrelated runs would share it; give every run an id"
    }
}

/// A key bound to its namespace and job: what a record is found by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    hash: KeyHash,
    readable: String,
}

impl Key {
    /// Binds the parts of a key to the namespace and the job that they belong to.
    pub fn new(namespace: &str, job: &str, parts: &KeyParts) -> Key {
        let hash = hash(b"idem record v1", &[namespace.as_bytes(), job.as_bytes(), &parts.encoded]);
        Key { hash: KeyHash(hash), readable: parts.readable.clone() }
    }

    /// Returns the hash.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    /// Returns the form for people.
    pub fn readable(&self) -> &str {
        &self.readable
    }

    /// Returns this key with a remark behind its form for people, which gets no longer by it.
    pub(crate) fn remarked(&self, remark: &str) -> Key {
        let mut readable = self.readable.clone();
        cut(&mut readable, READABLE_BYTES_MAX - remark.len());
        Key { hash: self.hash, readable: readable + remark }
    }

    /// Returns the key to hand to a callee: a pure function of namespace, job, key and step.
    pub fn outbound(&self, step: &str) -> String {
        self.hash.outbound(step)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {})", self.readable, self.hash)
    }
}

/// 128 bits that stand for a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub(crate) [u8; 16]);

impl KeyHash {
    /// Wraps bytes that a store kept.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        KeyHash(bytes)
    }

    /// Reads the 32 hex digits that a hash is displayed as; `None` if the text is something else.
    ///
    /// # Example
    ///
    /// ```
    /// use idem_runtime::key::KeyHash;
    ///
    /// let hash = KeyHash::from_bytes([7; 16]);
    /// assert_eq!(KeyHash::from_hex(&hash.to_string()), Some(hash));
    /// assert_eq!(KeyHash::from_hex("42"), None);
    /// ```
    pub fn from_hex(digits: &str) -> Option<Self> {
        if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(|bits| KeyHash(bits.to_be_bytes()))
    }

    /// Returns the key that a callee is handed: by a step of this name, with its index if it has one, or, if the name is
    /// empty, by the job as a whole.
    ///
    /// Whoever looks for the call in the callee's own records looks for this.
    pub fn outbound(&self, step: &str) -> String {
        let hash = hash(b"idem outbound v1", &[&self.0, step.as_bytes()]);
        format!("idem_{}", KeyHash(hash))
    }

    /// Returns the bytes as a store keeps them.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns the hash of this key among the records in one place.
    ///
    /// A lock of a server knows no tables: without the place, equal keys of two databases or schemas of
    /// one server would wait for each other.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) fn at(&self, place: u64) -> KeyHash {
        let mut bytes = self.0;
        for (byte, other) in bytes.iter_mut().zip(place.to_be_bytes()) {
            *byte ^= other;
        }
        KeyHash(bytes)
    }

    /// Returns 64 of the bits, for a lock that takes a number.
    #[cfg(feature = "postgres")]
    pub(crate) fn lock_number(&self) -> i64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It stands in every statement of a run, so it is written in one piece.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

/// Hashes parts so that no other split of the same bytes has the same hash.
pub(crate) fn hash(domain: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in std::iter::once(&domain).chain(parts) {
        hasher.update(&length(part.len()));
        hasher.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    first
}

/// Hashes the place where records are, for [`KeyHash::at`].
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn place(schema: &str, table: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash(b"idem place v1", &[schema.as_bytes(), table.as_bytes()]);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn length(len: usize) -> [u8; 8] {
    u64::try_from(len).expect("a length fits 64 bits").to_le_bytes()
}

/// The first byte of every encoded part. The numbers are part of every stored key: never reuse one.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Tag {
    Global = 0,
    Unsigned = 1,
    Signed = 2,
    Text = 3,
    Bytes = 4,
    Bool = 5,
    Char = 6,
    None = 7,
    Some = 8,
    Group = 9,
    Named = 10,
}

/// Takes the parts of a key one after the other; see [`KeyPart`].
#[derive(Debug)]
pub struct KeyWriter {
    encoded: Vec<u8>,
    readable: String,
    /// A blank string or byte part was seen.
    blank: bool,
    /// Something that distinguishes one run from another was seen.
    content: bool,
}

impl KeyWriter {
    fn new() -> Self {
        KeyWriter { encoded: Vec::new(), readable: String::new(), blank: false, content: false }
    }

    fn finish(mut self) -> Result<KeyParts, EmptyKey> {
        if self.blank || !self.content {
            return Err(EmptyKey);
        }
        cut(&mut self.readable, READABLE_BYTES_MAX);
        Ok(KeyParts { encoded: self.encoded, readable: self.readable })
    }

    /// Writes a number that is never negative.
    pub fn unsigned(&mut self, value: u128) {
        self.value(Tag::Unsigned, &value.to_le_bytes(), &value);
    }

    /// Writes a number that may be negative.
    pub fn signed(&mut self, value: i128) {
        self.value(Tag::Signed, &value.to_le_bytes(), &value);
    }

    /// Writes a string; an empty or blank one makes the whole key empty.
    pub fn text(&mut self, value: &str) {
        self.blank |= value.trim().is_empty();
        self.value(Tag::Text, value.as_bytes(), &value);
    }

    /// Writes bytes; none at all make the whole key empty.
    pub fn bytes(&mut self, value: &[u8]) {
        self.blank |= value.is_empty();
        self.value(Tag::Bytes, value, &Hex(value));
    }

    /// Writes a truth value.
    pub fn boolean(&mut self, value: bool) {
        self.value(Tag::Bool, &[u8::from(value)], &value);
    }

    /// Writes a character.
    pub fn character(&mut self, value: char) {
        self.value(Tag::Char, &u32::from(value).to_le_bytes(), &value);
    }

    /// Writes the absence of a value. Alone it is no key.
    pub fn none(&mut self) {
        self.encoded.push(Tag::None as u8);
        self.show(&"-");
    }

    /// Writes the presence of a value, which `write` writes.
    pub fn some(&mut self, write: impl FnOnce(&mut Self)) {
        self.encoded.push(Tag::Some as u8);
        write(self);
    }

    /// Writes `len` parts as one; none at all make the whole key empty.
    pub fn group(&mut self, len: usize, write: impl FnOnce(&mut Self)) {
        self.blank |= len == 0;
        self.encoded.push(Tag::Group as u8);
        self.encoded.extend(length(len));
        write(self);
    }

    /// Writes a value of a type of its own, such as a date: `kind` tells it from all others.
    pub(crate) fn named(&mut self, kind: &str, value: &[u8], readable: &dyn fmt::Display) {
        self.encoded.push(Tag::Named as u8);
        self.encoded.extend(length(kind.len()));
        self.encoded.extend(kind.as_bytes());
        self.encoded.extend(length(value.len()));
        self.encoded.extend(value);
        self.content = true;
        self.show(readable);
    }

    fn value(&mut self, tag: Tag, bytes: &[u8], readable: &dyn fmt::Display) {
        self.encoded.push(tag as u8);
        self.encoded.extend(length(bytes.len()));
        self.encoded.extend(bytes);
        self.content = true;
        self.show(readable);
    }

    fn show(&mut self, readable: &dyn fmt::Display) {
        // The tail would be cut anyway; stopping here bounds the work for a long list of parts.
        if self.readable.len() > READABLE_BYTES_MAX {
            return;
        }
        if !self.readable.is_empty() {
            self.readable.push_str(", ");
        }
        let mut printable = Printable(&mut self.readable);
        write!(printable, "{readable}").expect("a string takes everything");
    }
}

/// Replaces characters that would break a log line or that a database refuses in text.
struct Printable<'a>(&'a mut String);

impl fmt::Write for Printable<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }));
        Ok(())
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Twice as many digits as the readable form can keep say no more than that many.
        self.0.iter().take(READABLE_BYTES_MAX).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Shortens `text` to at most `bytes_max` bytes, with an ellipsis where something is missing.
fn cut(text: &mut String, bytes_max: usize) {
    const ELLIPSIS: char = '…';
    if text.len() <= bytes_max {
        return;
    }
    let mut end = bytes_max - ELLIPSIS.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push(ELLIPSIS);
}

macro_rules! integer_parts {
    ($method:ident as $wide:ty: $($int:ty)+) => {$(
        impl KeyPart for $int {
            fn write(&self, key: &mut KeyWriter) {
                key.$method(<$wide>::try_from(*self).expect("the widest integer holds every other"));
            }
        }
    )+};
}
integer_parts!(unsigned as u128: u8 u16 u32 u64 u128 usize);
integer_parts!(signed as i128: i8 i16 i32 i64 i128 isize);

macro_rules! nonzero_parts {
    ($($int:ident)+) => {$(
        impl KeyPart for std::num::$int {
            fn write(&self, key: &mut KeyWriter) {
                self.get().write(key);
            }
        }
    )+};
}
nonzero_parts!(NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroUsize);
nonzero_parts!(NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 NonZeroIsize);

impl KeyPart for bool {
    fn write(&self, key: &mut KeyWriter) {
        key.boolean(*self);
    }
}

impl KeyPart for char {
    fn write(&self, key: &mut KeyWriter) {
        key.character(*self);
    }
}

impl KeyPart for str {
    fn write(&self, key: &mut KeyWriter) {
        key.text(self);
    }
}

impl KeyPart for String {
    fn write(&self, key: &mut KeyWriter) {
        key.text(self);
    }
}

impl<T: KeyPart + ToOwned + ?Sized> KeyPart for Cow<'_, T> {
    fn write(&self, key: &mut KeyWriter) {
        self.as_ref().write(key);
    }
}

macro_rules! transparent_parts {
    ($($outer:ty)+) => {$(
        impl<T: KeyPart + ?Sized> KeyPart for $outer {
            fn write(&self, key: &mut KeyWriter) {
                (**self).write(key);
            }
        }
    )+};
}
transparent_parts!(&T &mut T Box<T> Arc<T> Rc<T>);

impl<T: KeyPart> KeyPart for Option<T> {
    fn write(&self, key: &mut KeyWriter) {
        match self {
            None => key.none(),
            Some(value) => key.some(|key| value.write(key)),
        }
    }
}

impl<T: KeyPart> KeyPart for [T] {
    fn write(&self, key: &mut KeyWriter) {
        key.group(self.len(), |key| self.iter().for_each(|part| part.write(key)));
    }
}

impl<T: KeyPart> KeyPart for Vec<T> {
    fn write(&self, key: &mut KeyWriter) {
        self.as_slice().write(key);
    }
}

impl<T: KeyPart, const N: usize> KeyPart for [T; N] {
    fn write(&self, key: &mut KeyWriter) {
        self.as_slice().write(key);
    }
}

macro_rules! tuple_parts {
    ($($len:literal: $($part:ident)+;)+) => {$(
        impl<$($part: KeyPart),+> KeyPart for ($($part,)+) {
            fn write(&self, key: &mut KeyWriter) {
                #[expect(non_snake_case, reason = "the parts are named after their types")]
                let ($($part,)+) = self;
                key.group($len, |key| { $($part.write(key);)+ });
            }
        }
    )+};
}
tuple_parts! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
}

#[cfg(feature = "uuid")]
impl KeyPart for uuid::Uuid {
    fn write(&self, key: &mut KeyWriter) {
        key.named("uuid", self.as_bytes(), self);
    }
}

/// Implements parts whose text is canonical: one value has exactly one text.
#[cfg(any(feature = "chrono", feature = "jiff"))]
macro_rules! text_parts {
    ($($kind:literal: $part:ty;)+) => {$(
        impl KeyPart for $part {
            fn write(&self, key: &mut KeyWriter) {
                let text = self.to_string();
                key.named($kind, text.as_bytes(), &text);
            }
        }
    )+};
}

#[cfg(feature = "chrono")]
text_parts! {
    "date": chrono::NaiveDate;
    "time": chrono::NaiveTime;
    "datetime": chrono::NaiveDateTime;
}

/// The instant counts, not the zone that it is written in.
#[cfg(feature = "chrono")]
impl<Tz: chrono::TimeZone> KeyPart for chrono::DateTime<Tz> {
    fn write(&self, key: &mut KeyWriter) {
        let text = self.naive_utc().to_string();
        key.named("timestamp", text.as_bytes(), &text);
    }
}

#[cfg(feature = "jiff")]
text_parts! {
    "date": jiff::civil::Date;
    "time": jiff::civil::Time;
    "datetime": jiff::civil::DateTime;
    "timestamp": jiff::Timestamp;
}

#[cfg(feature = "time")]
impl KeyPart for time::Date {
    fn write(&self, key: &mut KeyWriter) {
        key.named("date", &self.to_julian_day().to_le_bytes(), self);
    }
}

/// The instant counts, not the offset that it is written in.
#[cfg(feature = "time")]
impl KeyPart for time::OffsetDateTime {
    fn write(&self, key: &mut KeyWriter) {
        key.named("timestamp", &self.unix_timestamp_nanos().to_le_bytes(), self);
    }
}

#[cfg(feature = "time")]
impl KeyPart for time::PrimitiveDateTime {
    fn write(&self, key: &mut KeyWriter) {
        let nanos = self.assume_utc().unix_timestamp_nanos();
        key.named("datetime", &nanos.to_le_bytes(), self);
    }
}
