//! bytes → serde value.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Visitor};

use super::{CodecError, Tag};

pub(super) struct Decoder<'de> {
    input: &'de [u8],
}

impl<'de> Decoder<'de> {
    pub(super) fn new(input: &'de [u8]) -> Self {
        Decoder { input }
    }

    /// Checks that nothing is left.
    pub(super) fn finish(self) -> Result<(), CodecError> {
        match self.input.len() {
            0 => Ok(()),
            left => Err(CodecError::unreadable(format!("{left} bytes follow the value"))),
        }
    }

    fn peek(&self) -> Result<Tag, CodecError> {
        let byte = *self.input.first().ok_or_else(ends_early)?;
        Tag::from_byte(byte).ok_or_else(|| CodecError::unreadable(format!("byte {byte} begins no value")))
    }

    fn tag(&mut self) -> Result<Tag, CodecError> {
        let tag = self.peek()?;
        self.input = &self.input[1..];
        Ok(tag)
    }

    fn take(&mut self, len: usize) -> Result<&'de [u8], CodecError> {
        let (taken, rest) = self.input.split_at_checked(len).ok_or_else(ends_early)?;
        self.input = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.input.split_first_chunk().ok_or_else(ends_early)?;
        self.input = rest;
        Ok(*taken)
    }

    fn varint(&mut self) -> Result<u128, CodecError> {
        let mut value = 0;
        for shift in (0..u128::BITS).step_by(7) {
            let [byte] = self.array()?;
            let bits = u128::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::unreadable("a number is longer than 128 bits"))
    }

    fn blob(&mut self) -> Result<&'de [u8], CodecError> {
        let len = usize::try_from(self.varint()?).map_err(|_| ends_early())?;
        self.take(len)
    }

    fn text(&mut self) -> Result<&'de str, CodecError> {
        std::str::from_utf8(self.blob()?)
            .map_err(|error| CodecError::unreadable(format!("a text is not UTF-8: {error}")))
    }

    fn negative(&mut self) -> Result<i128, CodecError> {
        let below = i128::try_from(self.varint()?)
            .map_err(|_| CodecError::unreadable("a negative number is longer than 128 bits"))?;
        Ok(-1 - below)
    }

    /// Goes past the end of a sequence or map, if this is one.
    fn at_end(&mut self) -> Result<bool, CodecError> {
        let end = self.peek()? == Tag::End;
        if end {
            self.tag()?;
        }
        Ok(end)
    }
}

fn ends_early() -> CodecError {
    CodecError::unreadable("the value ends early")
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = CodecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        match self.tag()? {
            Tag::End => Err(CodecError::unreadable("a sequence ends where a value should be")),
            Tag::Unit | Tag::Null => visitor.visit_unit(),
            Tag::None => visitor.visit_none(),
            Tag::Some => visitor.visit_some(self),
            Tag::False => visitor.visit_bool(false),
            Tag::True => visitor.visit_bool(true),
            Tag::Unsigned => {
                let value = self.varint()?;
                match u64::try_from(value) {
                    Ok(value) => visitor.visit_u64(value),
                    Err(_) => visitor.visit_u128(value),
                }
            }
            Tag::Negative => {
                let value = self.negative()?;
                match i64::try_from(value) {
                    Ok(value) => visitor.visit_i64(value),
                    Err(_) => visitor.visit_i128(value),
                }
            }
            Tag::F32 => visitor.visit_f32(f32::from_le_bytes(self.array()?)),
            Tag::F64 => visitor.visit_f64(f64::from_le_bytes(self.array()?)),
            Tag::Char => {
                let value = self.varint()?;
                let char = u32::try_from(value).ok().and_then(char::from_u32);
                visitor.visit_char(
                    char.ok_or_else(|| CodecError::unreadable(format!("{value} is no character")))?,
                )
            }
            Tag::Str => visitor.visit_borrowed_str(self.text()?),
            Tag::Bytes => visitor.visit_borrowed_bytes(self.blob()?),
            Tag::Seq => {
                let mut items = Items { decoder: self, ended: false };
                let value = visitor.visit_seq(&mut items)?;
                items.finish("item")?;
                Ok(value)
            }
            Tag::Map => {
                let mut items = Items { decoder: self, ended: false };
                let value = visitor.visit_map(&mut items)?;
                items.finish("entry")?;
                Ok(value)
            }
            // Without knowing the enum, a variant looks as it does in JSON.
            Tag::UnitVariant => visitor.visit_borrowed_str(self.text()?),
            Tag::Variant => {
                let name = self.text()?;
                visitor.visit_map(OneEntry { decoder: self, name: Some(name) })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        match self.peek()? {
            Tag::None | Tag::Some => self.deserialize_any(visitor),
            Tag::Null => {
                self.tag()?;
                visitor.visit_none()
            }
            // The type was not an `Option` when the record was written.
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        match self.peek()? {
            // A text is a variant without content, and a map of one entry is one with it: as in JSON.
            Tag::UnitVariant | Tag::Variant | Tag::Str => visitor.visit_enum(self),
            Tag::Map => {
                self.tag()?;
                let value = visitor.visit_enum(Entry { decoder: self })?;
                match self.at_end()? {
                    true => Ok(value),
                    false => Err(CodecError::unreadable("a map of several entries is no variant")),
                }
            }
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The items of a sequence or the entries of a map.
struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    ended: bool,
}

impl Items<'_, '_> {
    fn finish(self, what: &str) -> Result<(), CodecError> {
        match self.ended || self.decoder.at_end()? {
            true => Ok(()),
            false => Err(CodecError::unreadable(format!("there is an {what} too many"))),
        }
    }

    fn more(&mut self) -> Result<bool, CodecError> {
        self.ended = self.ended || self.decoder.at_end()?;
        Ok(!self.ended)
    }
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = CodecError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, CodecError> {
        match self.more()? {
            true => seed.deserialize(&mut *self.decoder).map(Some),
            false => Ok(None),
        }
    }
}

impl<'de> de::MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, CodecError> {
        match self.more()? {
            true => seed.deserialize(&mut *self.decoder).map(Some),
            false => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, CodecError> {
        seed.deserialize(&mut *self.decoder)
    }
}

/// A variant as a map of one entry.
struct OneEntry<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    name: Option<&'de str>,
}

impl<'de> de::MapAccess<'de> for OneEntry<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, CodecError> {
        match self.name.take() {
            Some(name) => seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, CodecError> {
        seed.deserialize(&mut *self.decoder)
    }
}

impl<'a, 'de> de::EnumAccess<'de> for &'a mut Decoder<'de> {
    type Error = CodecError;
    type Variant = VariantBody<'a, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), CodecError> {
        let tag = match self.tag()? {
            Tag::Str => Tag::UnitVariant,
            tag => tag,
        };
        let name = self.text()?;
        let variant = seed.deserialize(BorrowedStrDeserializer::<CodecError>::new(name))?;
        Ok((variant, VariantBody { decoder: self, tag }))
    }
}

/// A variant that is the one entry of a map, behind the map's tag.
struct Entry<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
}

impl<'a, 'de> de::EnumAccess<'de> for Entry<'a, 'de> {
    type Error = CodecError;
    type Variant = VariantBody<'a, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), CodecError> {
        let Tag::Str = self.decoder.peek()? else {
            return Err(CodecError::unreadable("a map without the name of a variant is none"));
        };
        let (variant, body) = de::EnumAccess::variant_seed(self.decoder, seed)?;
        Ok((variant, VariantBody { tag: Tag::Variant, ..body }))
    }
}

pub(super) struct VariantBody<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    tag: Tag,
}

impl<'a, 'de> VariantBody<'a, 'de> {
    fn content(self) -> Result<&'a mut Decoder<'de>, CodecError> {
        match self.tag {
            Tag::Variant => Ok(self.decoder),
            _ => Err(CodecError::unreadable("a variant had no content when it was recorded, but has now")),
        }
    }
}

impl<'de> de::VariantAccess<'de> for VariantBody<'_, 'de> {
    type Error = CodecError;

    fn unit_variant(self) -> Result<(), CodecError> {
        match self.tag {
            Tag::UnitVariant => Ok(()),
            _ => Err(CodecError::unreadable("a variant had content when it was recorded, but has none now")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, CodecError> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, CodecError> {
        self.content()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.content()?.deserialize_any(visitor)
    }
}
