//! The attribute of idem; use it through `idem-runtime`.

use proc_macro::TokenStream;

/// x
#[proc_macro_attribute]
pub fn idempotent(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}

/// x
#[proc_macro_derive(KeyPart)]
pub fn key_part(_: TokenStream) -> TokenStream {
    TokenStream::new()
}

/// x
#[proc_macro_derive(Provides)]
pub fn provides(_: TokenStream) -> TokenStream {
    TokenStream::new()
}
