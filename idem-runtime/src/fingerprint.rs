//! The hash of a job's arguments: same key with other arguments is refused.

use std::fmt;

use serde::Serialize;

use crate::codec::{self, CodecError};

/// The hash of the arguments that a second run of a key must share.
///
/// It covers names and values of the arguments, in declaration order; a map counts as the same
/// whatever order it iterates in. A `HashSet` does not, since serde shows it as a list: take a
/// `BTreeSet`. 64 bits: a fingerprint detects a mistake, it does not identify anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a job that compares nothing: equal to every other.
    pub const NONE: Fingerprint = Fingerprint(0);

    /// Starts a fingerprint; add each argument, then [`finish`](FingerprintBuilder::finish).
    pub fn builder() -> FingerprintBuilder {
        FingerprintBuilder(blake3::Hasher::new())
    }

    /// Tells whether two runs may share a key: equal, or one of them compares nothing.
    pub fn agrees_with(self, other: Fingerprint) -> bool {
        self == other || self == Self::NONE || other == Self::NONE
    }

    /// Returns the bits as a store keeps them.
    pub fn to_bits(self) -> i64 {
        i64::from_ne_bytes(self.0.to_ne_bytes())
    }

    /// Reads what [`to_bits`](Self::to_bits) gave.
    pub fn from_bits(bits: i64) -> Self {
        Fingerprint(u64::from_ne_bytes(bits.to_ne_bytes()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Collects the arguments of a [`Fingerprint`].
#[derive(Debug)]
pub struct FingerprintBuilder(blake3::Hasher);

impl FingerprintBuilder {
    /// Adds an argument.
    ///
    /// # Errors
    ///
    /// The argument's own `Serialize` fails.
    pub fn arg<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Result<Self, CodecError> {
        self.0.update(&codec::encode_canonical(&(name, value))?);
        Ok(self)
    }

    /// Returns the fingerprint of what was added.
    pub fn finish(self) -> Fingerprint {
        let mut low = [0; 8];
        low.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        // Zero means "compares nothing", so a hash of zero takes the neighbouring value.
        Fingerprint(u64::from_le_bytes(low).max(1))
    }
}
