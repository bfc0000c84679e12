//! serde value → bytes.

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::{CodecError, NULL, Tag};

/// In which order the entries of a map are written.
#[derive(Clone, Copy)]
pub(super) enum MapOrder {
    /// As the map iterates, so that an ordered map comes back in its order.
    AsGiven,
    /// By the bytes of the keys, so that equal maps have equal bytes.
    Sorted,
}

pub(super) struct Encoder {
    out: Vec<u8>,
    order: MapOrder,
}

impl Encoder {
    pub(super) fn new(order: MapOrder) -> Self {
        Encoder { out: Vec::new(), order }
    }

    pub(super) fn encode<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Vec<u8>, CodecError> {
        value.serialize(&mut self)?;
        Ok(self.out)
    }

    fn tag(&mut self, tag: Tag) {
        self.out.push(tag as u8);
    }

    /// Seven bits a byte, low bits first; the top bit says that more follows.
    fn varint(&mut self, mut value: u128) {
        while value >= 0x80 {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn unsigned(&mut self, value: u128) {
        self.tag(Tag::Unsigned);
        self.varint(value);
    }

    fn signed(&mut self, value: i128) {
        match u128::try_from(value) {
            Ok(value) => self.unsigned(value),
            Err(_) => {
                self.tag(Tag::Negative);
                self.varint(value.unsigned_abs() - 1);
            }
        }
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u128);
        self.out.extend_from_slice(bytes);
    }

    fn name(&mut self, tag: Tag, name: &str) {
        self.tag(tag);
        self.blob(name.as_bytes());
    }

    fn key(&mut self, name: &'static str) {
        self.name(Tag::Str, name);
    }
}

macro_rules! integers {
    ($($method:ident $int:ty => $wide:ident as $to:ty;)+) => {$(
        fn $method(self, value: $int) -> Result<(), CodecError> {
            self.$wide(<$to>::from(value));
            Ok(())
        }
    )+};
}

impl<'a> Serializer for &'a mut Encoder {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = MapEncoder<'a>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    integers! {
        serialize_u8 u8 => unsigned as u128;
        serialize_u16 u16 => unsigned as u128;
        serialize_u32 u32 => unsigned as u128;
        serialize_u64 u64 => unsigned as u128;
        serialize_u128 u128 => unsigned as u128;
        serialize_i8 i8 => signed as i128;
        serialize_i16 i16 => signed as i128;
        serialize_i32 i32 => signed as i128;
        serialize_i64 i64 => signed as i128;
        serialize_i128 i128 => signed as i128;
    }

    fn serialize_bool(self, value: bool) -> Result<(), CodecError> {
        self.tag(if value { Tag::True } else { Tag::False });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), CodecError> {
        self.tag(Tag::F32);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), CodecError> {
        self.tag(Tag::F64);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), CodecError> {
        self.tag(Tag::Char);
        self.varint(u128::from(u32::from(value)));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), CodecError> {
        self.name(Tag::Str, value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), CodecError> {
        self.tag(Tag::Bytes);
        self.blob(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), CodecError> {
        self.tag(Tag::None);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CodecError> {
        self.tag(Tag::Some);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), CodecError> {
        self.tag(Tag::Unit);
        Ok(())
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), CodecError> {
        match name {
            NULL => self.tag(Tag::Null),
            _ => self.tag(Tag::Unit),
        }
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), CodecError> {
        self.name(Tag::UnitVariant, variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), CodecError> {
        self.name(Tag::Variant, variant);
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, CodecError> {
        self.tag(Tag::Seq);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, CodecError> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, CodecError> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, CodecError> {
        self.name(Tag::Variant, variant);
        self.serialize_seq(None)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<MapEncoder<'a>, CodecError> {
        self.tag(Tag::Map);
        let start = self.out.len();
        Ok(MapEncoder { encoder: self, start, entries: Vec::new() })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, CodecError> {
        self.tag(Tag::Map);
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, CodecError> {
        self.name(Tag::Variant, variant);
        self.tag(Tag::Map);
        Ok(self)
    }
}

/// The items of a sequence, up to its end.
macro_rules! items {
    ($($compound:ident $method:ident;)+) => {$(
        impl ser::$compound for &mut Encoder {
            type Ok = ();
            type Error = CodecError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), CodecError> {
                self.tag(Tag::End);
                Ok(())
            }
        }
    )+};
}
items! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

/// The fields of a struct, up to its end.
macro_rules! fields {
    ($($compound:ident;)+) => {$(
        impl ser::$compound for &mut Encoder {
            type Ok = ();
            type Error = CodecError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), CodecError> {
                self.key(name);
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), CodecError> {
                self.tag(Tag::End);
                Ok(())
            }
        }
    )+};
}
fields! {
    SerializeStruct;
    SerializeStructVariant;
}

/// The entries of a map, whose order may have to be made.
pub(super) struct MapEncoder<'a> {
    encoder: &'a mut Encoder,
    /// Where the entries begin.
    start: usize,
    /// Where each entry begins and where its value begins, counted from the start of the output.
    entries: Vec<(usize, usize)>,
}

impl ser::SerializeMap for MapEncoder<'_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CodecError> {
        let entry = self.encoder.out.len();
        key.serialize(&mut *self.encoder)?;
        self.entries.push((entry, self.encoder.out.len()));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        value.serialize(&mut *self.encoder)
    }

    fn end(self) -> Result<(), CodecError> {
        let MapEncoder { encoder, start, entries } = self;
        if let MapOrder::Sorted = encoder.order {
            let out = encoder.out.split_off(start);
            let ends = entries.iter().skip(1).map(|(entry, _)| *entry).chain([start + out.len()]);
            let mut sorted: Vec<(&[u8], &[u8])> = entries
                .iter()
                .zip(ends)
                .map(|((entry, value), end)| {
                    (&out[entry - start..value - start], &out[value - start..end - start])
                })
                .collect();
            sorted.sort();
            encoder.out.extend(sorted.into_iter().flat_map(|(key, value)| [key, value].concat()));
        }
        encoder.tag(Tag::End);
        Ok(())
    }
}
