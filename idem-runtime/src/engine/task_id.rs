//! Ids of tasks.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{StoreError, StoreErrorKind};
use crate::key::KeyHash;

/// The letters of Crockford's base 32, five bits each.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The id of a task, which prints as a ULID.
///
/// # Example
///
/// ```
/// use idem_runtime::engine::TaskId;
///
/// let id: TaskId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
/// assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u128);

impl TaskId {
    /// Makes an id that is new: the milliseconds of this process's clock, and 80 random bits.
    ///
    /// # Errors
    ///
    /// The operating system has no random numbers.
    pub fn new() -> Result<Self, StoreError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random[6..]).map_err(|error| {
            let text = format!("the operating system has no random numbers for the id of a task: {error}; nothing was enqueued");
            StoreError::new(StoreErrorKind::Unavailable, text)
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Ok(TaskId(now << 80 | u128::from_be_bytes(random)))
    }

    /// Makes the id of a task that a relay takes out of the outbox: the same whenever it is taken.
    pub fn of_outbox(task: KeyHash, number: i64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"idem outbox").update(task.as_bytes()).update(&number.to_be_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        TaskId(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |place: u32| {
            let five = (self.0 >> (5 * place)) & 31;
            char::from(ALPHABET[usize::try_from(five).expect("five bits are an index")])
        };
        // 128 bits are 26 letters, of which the first has three.
        let text: String = (0..26).rev().map(letter).collect();
        f.pad(&text)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

/// A text that is not the id of a task of idem's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskIdError(String);

impl TaskIdError {
    /// Returns what it says, without its code.
    pub(crate) fn says(&self) -> String {
        format!(
            "{:?} is no task id of idem's: these are ULIDs of 26 letters and digits; enqueue with `Idem::queue`, which makes them",
            self.0
        )
    }
}

impl FromStr for TaskId {
    type Err = TaskIdError;

    fn from_str(text: &str) -> Result<Self, TaskIdError> {
        let wrong = || TaskIdError(text.to_owned());
        if text.len() != 26 || !text.starts_with(|first: char| ('0'..='7').contains(&first)) {
            return Err(wrong());
        }
        text.bytes()
            .map(|byte| ALPHABET.iter().position(|letter| *letter == byte.to_ascii_uppercase()))
            .try_fold(0_u128, |id, five| Some(id << 5 | u128::try_from(five?).ok()?))
            .map(TaskId)
            .ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::TaskId;

    #[test]
    fn an_id_is_the_same_read_as_it_was_written() {
        for id in [
            TaskId(0),
            TaskId(u128::MAX),
            TaskId(1 << 100 | 31),
            TaskId::new().expect("the system has random numbers"),
        ] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_no_ulid_is_no_id() {
        let wrong =
            ["", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01ARZ3NDEKTSV4RRFFQ69G5FAI"];
        for text in wrong {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_are_different_and_in_the_order_of_time() {
        let (first, second) = (
            TaskId::new().expect("the system has random numbers"),
            TaskId::new().expect("the system has random numbers"),
        );
        assert_ne!(first, second);
        assert!(first.0 >> 80 <= second.0 >> 80);
    }
}
