//! A job as the user wrote it; nothing is checked beyond its grammar.

use proc_macro2::{Ident, TokenTree};
use syn::{Attribute, Expr, Pat, Signature, Visibility};

/// The function under the attribute. Its body stays a token: only rustc reads it.
pub(crate) struct RawFunction {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: TokenTree,
}

/// One option of the attribute.
pub(crate) struct RawOption {
    pub(crate) name: Ident,
    pub(crate) value: RawValue,
}

/// What stands behind the name of an option.
pub(crate) enum RawValue {
    /// Something that does not parse, which has been reported.
    Broken,
    /// Nothing: `key`.
    Missing,
    /// `key = payment_id`.
    Expr(Expr),
    /// `adopt(pattern => value, …)`.
    Arms(Vec<RawArm>),
    /// `replay(pattern, …)`.
    Patterns(Vec<Pat>),
    /// `schedule("0 3 * * *", missed = all)`, `unique_by(queue = expr, run = expr)`.
    Parts(Vec<Expr>),
    /// Parentheses behind the name of any other option.
    List,
}

/// One case of `adopt(...)`.
pub(crate) struct RawArm {
    pub(crate) pat: Pat,
    pub(crate) guard: Option<Expr>,
    /// What stands behind `=>`, if anything does.
    pub(crate) value: Option<Expr>,
}
