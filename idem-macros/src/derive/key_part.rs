//! `#[derive(KeyPart)]`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Field, Fields, GenericParam, Path, parse_quote};

use super::attr;
use crate::codes::Code;
use crate::errors::Errors;

pub(crate) fn key_part(input: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => {
            errors.push_syntax(error);
            return errors.into_compile_errors();
        }
    };
    let krate = attr::krate(&input.attrs, "key_part", &mut errors);
    let key = Ident::new("key", Span::mixed_site());
    let arms: Vec<TokenStream> = match &input.data {
        Data::Struct(data) => {
            if data.fields.is_empty() {
                let message = format!(
                    "`{}` has no field and identifies nothing; give it one, or leave it out of the key",
                    input.ident
                );
                errors.push(&input.ident, Code::KeyPartWithoutFields, message);
            }
            vec![struct_arm(&krate, &key, &data.fields)]
        }
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| variant_arm(&krate, &key, &variant.ident, &variant.fields))
            .collect(),
        Data::Union(data) => {
            errors.push(
                &data.union_token,
                Code::KeyPartOfUnion,
                "a union cannot be part of a key; derive `KeyPart` for a struct or an enum",
            );
            Vec::new()
        }
    };
    if !errors.is_empty() {
        return errors.into_compile_errors();
    }
    let mut generics = input.generics.clone();
    for param in &mut generics.params {
        if let GenericParam::Type(param) = param {
            param.bounds.push(parse_quote!(#krate::KeyPart));
        }
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let ident = &input.ident;
    // A reference to an enum without variants is still something to match.
    let target = if arms.is_empty() {
        quote_spanned!(Span::mixed_site()=> *self)
    } else {
        quote_spanned!(Span::mixed_site()=> self)
    };
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl #impl_generics #krate::KeyPart for #ident #ty_generics #where_clause {
            fn write(&self, #key: &mut #krate::key::KeyWriter) {
                match #target { #(#arms)* }
            }
        }
    }
}

/// A newtype is its field; several fields are a group.
fn struct_arm(krate: &Path, key: &Ident, fields: &Fields) -> TokenStream {
    let (pattern, writes) = fields_of(krate, key, fields);
    let count = fields.len();
    let body = if count == 1 {
        quote!(#(#writes)*)
    } else {
        quote_spanned!(Span::mixed_site()=> #key.group(#count, |#key| { #(#writes)* });)
    };
    quote_spanned!(Span::mixed_site()=> Self #pattern => { #body })
}

/// A variant is a group of its name and its fields.
fn variant_arm(krate: &Path, key: &Ident, variant: &Ident, fields: &Fields) -> TokenStream {
    let (pattern, writes) = fields_of(krate, key, fields);
    let count = fields.len() + 1;
    let name = variant.unraw().to_string();
    quote_spanned! {Span::mixed_site()=>
        Self::#variant #pattern => #key.group(#count, |#key| {
            #key.text(#name);
            #(#writes)*
        }),
    }
}

/// Returns the pattern that takes the fields apart, and a statement for each.
fn fields_of(krate: &Path, key: &Ident, fields: &Fields) -> (TokenStream, Vec<TokenStream>) {
    let names: Vec<Ident> =
        (0..fields.len()).map(|at| Ident::new(&format!("field{at}"), Span::mixed_site())).collect();
    let writes = fields.iter().zip(&names).map(|(field, name)| write(krate, key, field, name)).collect();
    let pattern = match fields {
        Fields::Named(fields) => {
            let idents = fields.named.iter().map(|field| field.ident.to_token_stream());
            quote_spanned!(Span::mixed_site()=> { #(#idents: #names),* })
        }
        Fields::Unnamed(_) => quote_spanned!(Span::mixed_site()=> (#(#names),*)),
        Fields::Unit => TokenStream::new(),
    };
    (pattern, writes)
}

fn write(krate: &Path, key: &Ident, field: &Field, name: &Ident) -> TokenStream {
    let ty = &field.ty;
    // The type's span: a field that cannot be part of a key is underlined there.
    let write = quote_spanned!(ty.span().resolved_at(Span::mixed_site())=> <#ty as #krate::KeyPart>::write);
    quote_spanned!(Span::mixed_site()=> #write(#name, #key);)
}
