//! A job as the user wrote it; nothing is checked beyond its grammar.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;
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
    /// Nothing: `key`.
    Missing,
    /// `key = payment_id`.
    Expr(Expr),
    /// `adopt(pattern => value, …)`.
    Arms(Vec<RawArm>),
    /// `replay(pattern, …)`.
    Patterns(Vec<Pat>),
    /// Parentheses behind the name of any other option.
    List(Group),
}

impl ToTokens for RawOption {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.name.to_tokens(tokens);
        match &self.value {
            RawValue::Expr(expr) => expr.to_tokens(tokens),
            RawValue::List(group) => group.to_tokens(tokens),
            RawValue::Missing | RawValue::Arms(_) | RawValue::Patterns(_) => {}
        }
    }
}

/// One case of `adopt(...)`.
pub(crate) struct RawArm {
    pub(crate) pat: Pat,
    pub(crate) guard: Option<Expr>,
    pub(crate) value: Expr,
}
