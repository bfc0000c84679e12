//! The body: the user's function, the call of it, and what its errors mean.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use super::{adopt, own, provided, spans};
use crate::model::{Arg, Handle, Job, Kind, Param};

/// The user's function with its tokens untouched. It is a function of a type that nobody can name,
/// so that the user's own name for it, also inside the body, means the guarded function.
pub(super) fn function(job: &Job) -> TokenStream {
    let crate::model::Function { attrs, ident, params, returns, body, .. } = &job.function;
    let (attrs, returns) = (&attrs.body, &returns.ty);
    let handle = job.kind.handle().map(|Handle { attrs, pat, ty, .. }| (attrs, pat, ty));
    let params = handle.into_iter().chain(params.iter().map(|param| match param {
        Param::Arg(arg) => (&arg.attrs, &arg.pat, &arg.ty),
        Param::State(state) => (&state.attrs, &state.pat, &state.ty),
    }));
    let params = params.map(|(attrs, pat, ty)| quote_spanned!(Span::mixed_site()=> #(#attrs)* #pat: #ty));
    quote_spanned! {Span::mixed_site()=>
        enum __Body {}
        impl __Body {
            #(#attrs)*
            async fn #ident(#(#params),*) -> #returns #body
        }
    }
}

/// The method `body` of the job's kind.
pub(super) fn method(job: &Job) -> TokenStream {
    let Job { krate, function, kind, .. } = job;
    let ident = &function.ident;
    let returns = spans::result(job, &quote!(job::Settled));
    let (state, state_ty) = (own("state"), own("__State"));
    // A name of the user's is bound only where an expression of theirs needs it.
    let needed = |name: &Ident| job.adopt.iter().any(|adopt| adopt.uses.contains(name));
    let own_handle = match kind {
        Kind::Atomic { .. } => own("tx"),
        Kind::Leased { .. } => own("run"),
    };
    let handle = kind.handle().map(|handle| {
        let name = handle.ident.clone().filter(|name| needed(name));
        (name.unwrap_or(own_handle), &handle.ty)
    });
    let handle_param = match &handle {
        Some((name, ty)) => quote_spanned!(Span::mixed_site()=> #name: #ty),
        None => {
            let db = own("__Db");
            quote_spanned!(Span::mixed_site()=> _: &mut #krate::Run<'_, #db>)
        }
    };
    let name = |arg: &Arg| if needed(&arg.ident) { arg.ident.clone() } else { spans::quiet(&arg.ident) };
    let args = function.args().map(name);
    let bindings = function.states().filter_map(|param| {
        let (name, target) = (param.ident.as_ref()?, &param.target);
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
        Param::State(param) => provided(krate, param, &state),
    });
    let handle = handle.map(|(name, _)| name);
    let passed = handle.iter().map(ToTokens::to_token_stream).chain(params);
    let value = own("value");
    // The span of the error's type: if `Result` is an alias that has another one, that is the return type's mistake.
    let error = match &function.returns.halves {
        Some((_, error)) => Ident::new("error", spans::ends(error).0.resolved_at(Span::mixed_site())),
        None => own("error"),
    };
    let mut result = quote_spanned!(Span::mixed_site()=> __Body::#ident(#(#passed),*).await);
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
    let tx = handle.as_ref().filter(|_| matches!(kind, Kind::Atomic { .. }));
    let outcome = adopt::on_error(job, tx, &error);
    quote_spanned! {Span::mixed_site()=>
        async fn body(
            self,
            #handle_param,
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
