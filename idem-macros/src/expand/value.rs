//! The job as a value: a serde struct with a field for each argument.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::ext::IdentExt;

use super::{own, spans};
use crate::model::{Arg, Job};

/// Returns the struct itself, as users see it.
pub(super) fn job_struct(job: &Job) -> TokenStream {
    let Job { function, struct_name, .. } = job;
    let crate::model::Attrs { cfgs, lints, .. } = &function.attrs;
    let vis = &function.vis;
    let doc = format!(" The job [`{}`] as a value.", function.ident.unraw());
    let fields = function.args().map(|arg| field(arg, vis));
    quote_spanned! {Span::mixed_site()=>
        #[doc = #doc]
        #(#cfgs)*
        #(#lints)*
        #[allow(dead_code, clippy::pub_underscore_fields)]
        #vis struct #struct_name { #(#fields),* }
    }
}

/// Returns its serde impls. serde's derives stand on a mirror of it that is generic in every field: an
/// argument that serde cannot carry is then one error, at its type, instead of one for each use in them.
pub(super) fn serde_impls(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    // The derives read a path out of a text, in which `$crate` would mean nothing.
    let serde = own("__serde");
    let serde_path = serde.to_string();
    let name = struct_name.unraw().to_string();
    let names: Vec<_> = function.args().map(|arg| spans::quiet(&arg.ident)).collect();
    let params: Vec<_> = (0..names.len()).map(|at| own(&format!("__T{at}"))).collect();
    let given = function.args().map(|arg| {
        let ident = spans::quiet(&arg.ident);
        spans::carried(arg, krate, "give", quote_spanned!(Span::mixed_site()=> #ident))
    });
    let taken = function.args().map(|arg| {
        let ident = spans::quiet(&arg.ident);
        spans::carried(arg, krate, "take", quote_spanned!(Span::mixed_site()=> #ident))
    });
    let fields = own("__Fields");
    quote_spanned! {Span::mixed_site()=>
        use #krate::__private::serde as #serde;

        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path, rename = #name)]
        struct #fields<#(#params),*> { #(#names: #params),* }

        impl #serde::Serialize for #struct_name {
            fn serialize<__S: #serde::Serializer>(&self, serializer: __S) -> ::core::result::Result<__S::Ok, __S::Error> {
                let Self { #(#names),* } = self;
                #serde::Serialize::serialize(&#fields { #(#names: #given),* }, serializer)
            }
        }

        impl<'__de> #serde::Deserialize<'__de> for #struct_name {
            fn deserialize<__D: #serde::Deserializer<'__de>>(deserializer: __D) -> ::core::result::Result<Self, __D::Error> {
                let #fields { #(#names),* } = #serde::Deserialize::deserialize(deserializer)?;
                ::core::result::Result::Ok(Self { #(#names: #taken),* })
            }
        }
    }
}

fn field(arg: &Arg, vis: &syn::Visibility) -> TokenStream {
    let Arg { docs, ident, ty, .. } = arg;
    let own_doc = format!(" The argument `{}`.", ident.unraw());
    let docs = if docs.is_empty() {
        quote_spanned!(Span::mixed_site()=> #[doc = #own_doc])
    } else {
        quote_spanned!(Span::mixed_site()=> #(#docs)*)
    };
    quote_spanned!(Span::mixed_site()=> #docs #vis #ident: #ty)
}
