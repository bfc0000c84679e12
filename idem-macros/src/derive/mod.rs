//! The derives. Each is small enough to check its input and write its impl in one file.

mod attr;
mod key_part;
mod provides;

pub(crate) use self::key_part::key_part;
pub(crate) use self::provides::provides;
