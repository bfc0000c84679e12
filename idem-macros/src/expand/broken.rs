//! What stands in for a job with mistakes: its names and types, so that its uses show no mistakes of their own.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};

use super::{own, spans};
use crate::model::{Broken, BrokenParam, RawFunction};

/// Returns the guarded function and the struct without their contents, beside the user's function.
pub(crate) fn broken(job: &Broken) -> TokenStream {
    let RawFunction { attrs, vis, sig, body } = &job.function;
    if sig.receiver().is_some() {
        // Nothing but the function itself can stand in an `impl`.
        return quote!(#[allow(dead_code)] #(#attrs)* #vis #sig #body);
    }
    let checked = job.body_can_be_checked.then(|| {
        let mut sig = sig.clone();
        // An `.await` in the body is no second mistake.
        sig.asyncness.get_or_insert_with(Default::default);
        quote!(#sig #body)
    });
    let guarded = guarded(job);
    let value = value(job);
    quote_spanned! {Span::mixed_site()=>
        #guarded
        #value
        #[allow(dead_code)]
        const _: () = { #checked };
    }
}

fn guarded(job: &Broken) -> TokenStream {
    let Broken { krate, params, function, .. } = job;
    let RawFunction { vis, sig, .. } = function;
    let (ident, idem) = (&sig.ident, own("_idem"));
    let (generics, _, clause) = sig.generics.split_for_impl();
    let params = params.iter().enumerate().map(|(at, param)| {
        // Whatever a call passes for a parameter that is a mistake itself is right.
        let anything = quote!(impl ::core::marker::Sized);
        let ty = param.ty.as_ref().map_or(anything, |ty| quote!(#ty));
        let name = own(&format!("_{at}"));
        quote_spanned!(Span::mixed_site()=> #name: #ty)
    });
    let (output, error) = types(job);
    quote_spanned! {Span::mixed_site()=>
        #[allow(dead_code, unused, clippy::all)]
        #vis async fn #ident #generics(
            #idem: impl ::core::marker::Sized,
            #(#params),*
        ) -> ::core::result::Result<#krate::Done<#output>, #krate::Error<#error>> #clause {
            loop {}
        }
    }
}

fn value(job: &Broken) -> Option<TokenStream> {
    let Broken { krate, params, function, atomic_on, scheduled, .. } = job;
    let name = job.struct_name.as_ref()?;
    if !function.sig.generics.params.is_empty() {
        return None;
    }
    let vis = &function.vis;
    let fields = params
        .iter()
        .map(|BrokenParam { ident, ty }| {
            Some(quote_spanned!(Span::mixed_site()=> #vis #ident: #ty)).filter(|_| ty.is_some())
        })
        .collect::<Option<Vec<_>>>()?;
    let (output, error) = types(job);
    let state = own("__State");
    let (kind, kind_impl) = match atomic_on {
        Some(db) => {
            let kind_impl = quote_spanned! {Span::mixed_site()=>
                impl<#state: ::core::marker::Sync + 'static> #krate::AtomicJob<#state> for #name {
                    type Db = #db;
                    async fn body(
                        self,
                        _: &mut #krate::Tx<'_, #db>,
                        _: &#state,
                    ) -> ::core::result::Result<#krate::job::Settled<#output>, #krate::Error<#error>> {
                        loop {}
                    }
                }
            };
            (own("Atomic"), kind_impl)
        }
        None => {
            let db = own("__Db");
            let kind_impl = quote_spanned! {Span::mixed_site()=>
                impl<#db, #state> #krate::LeasedJob<#db, #state> for #name
                where
                    #db: #krate::store::Database,
                    #state: ::core::marker::Sync + 'static,
                {
                    async fn body(
                        self,
                        _: &mut #krate::Run<'_, #db>,
                        _: &#state,
                    ) -> ::core::result::Result<#krate::job::Settled<#output>, #krate::Error<#error>> {
                        loop {}
                    }
                }
            };
            (own("Leased"), kind_impl)
        }
    };
    let scheduled_impl = scheduled.then(|| {
        quote_spanned! {Span::mixed_site()=>
            impl #krate::schedule::Scheduled for #name {
                fn at(_: #krate::schedule::Tick) -> Self {
                    loop {}
                }
            }
        }
    });
    Some(quote_spanned! {Span::mixed_site()=>
        #[allow(dead_code, missing_docs)]
        #vis struct #name { #(#fields),* }
        const _: () = {
            impl #krate::__private::serde::Serialize for #name {
                fn serialize<S: #krate::__private::serde::Serializer>(
                    &self,
                    _: S,
                ) -> ::core::result::Result<S::Ok, S::Error> {
                    loop {}
                }
            }
            impl<'de> #krate::__private::serde::Deserialize<'de> for #name {
                fn deserialize<D: #krate::__private::serde::Deserializer<'de>>(
                    _: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    loop {}
                }
            }
            impl #krate::Job for #name {
                type Kind = #krate::job::#kind;
                type Output = #output;
                type Error = #error;
                const SPEC: #krate::job::JobSpec = #krate::job::JobSpec::new("");
                fn key(&self) -> ::core::result::Result<#krate::key::KeyParts, #krate::key::EmptyKey> {
                    loop {}
                }
            }
            #kind_impl
            #scheduled_impl
        };
    })
}

fn types(job: &Broken) -> (TokenStream, TokenStream) {
    match &job.returns {
        Some(returns) => spans::split(returns, &job.krate),
        None => (quote!(()), quote!(::core::convert::Infallible)),
    }
}
