//! `impl AtomicJob`: the body, and what its errors mean.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Path;
use syn::spanned::Spanned;

use super::{adopt, halves, own, spans, state_bounds};
use crate::model::{Arg, Function, Job, Param, TxParam};

/// The user's function with its tokens untouched. It is a function of a type that nobody can name,
/// so that the user's own name for it, also inside the body, means the guarded function.
pub(super) fn body_function(function: &Function) -> TokenStream {
    let Function { attrs, ident, tx, returns, body, .. } = function;
    let (attrs, returns) = (&attrs.body, &returns.ty);
    let TxParam { attrs: tx_attrs, pat: tx_pat, ty: tx_ty, .. } = tx;
    let params = function.params.iter().map(|param| {
        let (attrs, pat, ty) = match param {
            Param::Arg(arg) => (&arg.attrs, &arg.pat, &arg.ty),
            Param::State(state) => (&state.attrs, &state.pat, &state.ty),
        };
        quote_spanned!(Span::mixed_site()=> #(#attrs)* #pat: #ty)
    });
    quote_spanned! {Span::mixed_site()=>
        enum __Body {}
        impl __Body {
            #(#attrs)*
            async fn #ident(#(#tx_attrs)* #tx_pat: #tx_ty, #(#params),*) -> #returns #body
        }
    }
}

pub(super) fn atomic_impl(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let db = &function.tx.db;
    let state = own("__State");
    let bounds = state_bounds(krate, function);
    let check = job.check.as_ref().map(|path| check(job, path));
    let body = body(job);
    quote_spanned! {Span::mixed_site()=>
        impl<#state> #krate::AtomicJob<#state> for #struct_name
        where
            #state: #bounds,
        {
            type Db = #db;
            #check
            #body
        }
    }
}

fn check(job: &Job, path: &Path) -> TokenStream {
    let Job { function, .. } = job;
    let tx_ty = &function.tx.ty;
    let (output, error) = halves(job);
    let tx = own("tx");
    // A signature that does not fit is the path's mistake.
    let call = quote_spanned!(path.span().resolved_at(Span::mixed_site())=> #path(#tx, self).await);
    quote_spanned! {Span::mixed_site()=>
        async fn check(
            &self,
            #tx: #tx_ty,
        ) -> ::core::result::Result<::core::option::Option<#output>, #error> {
            #call
        }
    }
}

fn body(job: &Job) -> TokenStream {
    let Job { krate, function, .. } = job;
    let (ident, tx_ty) = (&function.ident, &function.tx.ty);
    let returns = spans::result(job, &quote!(job::Settled));
    let (state, state_ty) = (own("state"), own("__State"));
    // A name of the user's is bound only where an expression of theirs needs it.
    let needed = |name: &Ident| job.adopt.iter().any(|adopt| adopt.uses.contains(name));
    let tx = function.tx.ident.clone().filter(|tx| needed(tx)).unwrap_or_else(|| own("tx"));
    let name = |arg: &Arg| if needed(&arg.ident) { arg.ident.clone() } else { spans::quiet(&arg.ident) };
    let args = function.args().map(name);
    let bindings = function.states().filter_map(|state_param| {
        let (name, target) = (state_param.ident.as_ref()?, &state_param.target);
        needed(name).then(
            || quote_spanned!(Span::mixed_site()=> let #name: &#target = #krate::Provides::provide(#state);),
        )
    });
    let params = function.params.iter().map(|param| match param {
        Param::Arg(arg) if needed(&arg.ident) => {
            let ident = &arg.ident;
            quote_spanned!(Span::mixed_site()=> ::core::clone::Clone::clone(&#ident))
        }
        Param::Arg(arg) => name(arg).to_token_stream(),
        Param::State(param) => {
            let target = &param.target;
            quote_spanned!(Span::mixed_site()=> #krate::Provides::<#target>::provide(#state))
        }
    });
    let (value, error) = (own("value"), own("error"));
    let mut result = quote_spanned!(Span::mixed_site()=> __Body::#ident(#tx, #(#params),*).await);
    if function.returns.halves.is_none() {
        let into_result = spans::projection(
            &function.returns.ty,
            krate,
            &function.returns.ty.to_token_stream(),
            "job::JobResult",
            "into_result",
        );
        let result_of_body = spans::parenthesized(spans::ends(&function.returns.ty).1, result);
        result = quote_spanned!(Span::mixed_site()=> #into_result #result_of_body);
    }
    let outcome = adopt::on_error(job, &tx, &error);
    quote_spanned! {Span::mixed_site()=>
        async fn body(
            self,
            #tx: #tx_ty,
            #state: &#state_ty,
        ) -> #returns {
            let Self { #(#args),* } = self;
            #(#bindings)*
            match #result {
                ::core::result::Result::Ok(#value) => {
                    ::core::result::Result::Ok(#krate::job::Settled::Executed(#value))
                }
                ::core::result::Result::Err(#error) => #outcome
            }
        }
    }
}
