//! `#[derive(Provides)]`.

use std::collections::HashMap;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::{Data, DeriveInput, Field, Index, Member};

use super::attr;
use crate::codes::Code;
use crate::errors::Errors;

pub(crate) fn provides(input: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => {
            errors.push_syntax(error);
            return errors.into_compile_errors();
        }
    };
    let krate = attr::krate(&input.attrs, "provides", &mut errors);
    let Data::Struct(data) = &input.data else {
        errors.push(
            &input.ident,
            Code::ProvidesOfNoStruct,
            "only a struct can provide its fields; derive `Provides` for a struct",
        );
        return errors.into_compile_errors();
    };
    if data.fields.is_empty() {
        let message = format!(
            "`{}` has no field to provide; remove the derive, every state provides itself",
            input.ident
        );
        errors.push(&input.ident, Code::ProvidesWithoutFields, message);
    }
    let provided: Vec<(Member, &Field)> = data
        .fields
        .iter()
        .enumerate()
        .filter(|(_, field)| !attr::has_word(&field.attrs, "provides", "skip", &mut errors))
        .map(|(at, field)| (member(at, field), field))
        .collect();
    check_types(&provided, &mut errors);
    if !errors.is_empty() {
        return errors.into_compile_errors();
    }
    let ident = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let impls = provided.iter().map(|(member, Field { ty, .. })| {
        quote_spanned! {Span::mixed_site()=>
            #[automatically_derived]
            impl #impl_generics #krate::Provides<#ty> for #ident #ty_generics #where_clause {
                fn provide(&self) -> &#ty {
                    &self.#member
                }
            }
        }
    });
    quote_spanned!(Span::mixed_site()=> #(#impls)*)
}

fn member(at: usize, field: &Field) -> Member {
    field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(at)), Member::Named)
}

/// A dependency is found by its type, so no two fields can have the same.
fn check_types(provided: &[(Member, &Field)], errors: &mut Errors) {
    let mut seen = HashMap::new();
    for (member, field) in provided {
        let ty = field.ty.to_token_stream().to_string();
        let name = member.to_token_stream();
        if let Some(first) = seen.insert(ty.clone(), name.clone()) {
            let message = format!(
                "`{first}` and `{name}` both provide `{ty}`; write `#[provides(skip)]` on one, or give it a newtype"
            );
            errors.push(&field.ty, Code::ProvidesTwice, message);
        }
    }
}
