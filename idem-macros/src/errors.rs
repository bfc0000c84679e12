//! Collects errors, so that one compile shows every mistake. Each names its code.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

use crate::codes::Code;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// Adds a mistake that underlines `culprit`.
    pub(crate) fn push(&mut self, culprit: &impl ToTokens, code: Code, message: impl Display) {
        self.add(syn::Error::new_spanned(culprit, format_args!("{message} [{code}]")));
    }

    /// Adds a mistake that underlines one span.
    pub(crate) fn push_at(&mut self, span: Span, code: Code, message: impl Display) {
        self.add(syn::Error::new(span, format_args!("{message} [{code}]")));
    }

    /// Adds what `syn` says of tokens that do not parse.
    pub(crate) fn push_syntax(&mut self, error: syn::Error) {
        for error in error {
            self.push_at(error.span(), Code::Syntax, &error);
        }
    }

    fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns a `compile_error!` for each mistake.
    pub(crate) fn into_compile_errors(self) -> TokenStream {
        self.0.map(syn::Error::into_compile_error).unwrap_or_default()
    }
}
