//! First pass: tokens to the raw job. It knows the grammar, and neither rules nor defaults.

mod function;
mod options;

pub(crate) use self::function::function;
pub(crate) use self::options::options;
