//! Third pass: a valid job to tokens. It reports nothing and cannot fail.

mod adopt;
mod atomic;
mod body;
mod broken;
mod guarded;
mod job;
mod leased;
mod scheduled;
mod spans;
mod spec;
mod value;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};

use crate::model::{Function, Job, Kind, State};

pub(crate) use self::broken::broken;

/// Returns everything that stands in the place of the user's function.
pub(crate) fn job(job: &Job) -> TokenStream {
    let guarded = guarded::function(job);
    let value = value::job_struct(job);
    let serde_impls = value::serde_impls(job);
    let body = body::function(job);
    let job_impl = job::job_impl(job);
    let kind_impl = match &job.kind {
        Kind::Atomic { tx, .. } => atomic::atomic_impl(job, tx),
        Kind::Leased { run, in_doubt, .. } => leased::leased_impl(job, run.as_ref(), in_doubt),
    };
    let scheduled_impl = job.spec.schedule.as_ref().map(|_| scheduled::scheduled_impl(job));
    let crate::model::Attrs { cfgs, lints, .. } = &job.function.attrs;
    quote_spanned! {Span::mixed_site()=>
        #guarded
        #value
        #(#cfgs)*
        #(#lints)*
        const _: () = {
            #body
            #serde_impls
            #job_impl
            #kind_impl
            #scheduled_impl
        };
    }
}

/// Returns a name that cannot meet one of the user's.
fn own(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// Returns the types of result and error; where only rustc can tell them, as `impl Job` has split them.
fn halves(job: &Job) -> (TokenStream, TokenStream) {
    let Job { krate, function, struct_name, .. } = job;
    match &function.returns.halves {
        Some((output, error)) => (quote!(#output), quote!(#error)),
        None => {
            let half =
                |name| spans::projection(&function.returns.ty, krate, &quote!(#struct_name), "Job", name);
            (half("Output"), half("Error"))
        }
    }
}

/// Returns the bounds on a state that provides all `#[state]` parameters.
fn state_bounds(krate: &syn::Path, function: &Function) -> TokenStream {
    let targets = function.states().map(|state| &state.target);
    quote_spanned!(Span::mixed_site()=> #(#krate::Provides<#targets> +)* ::core::marker::Sync + 'static)
}

/// Returns the dependency that a `#[state]` parameter takes.
fn provided(krate: &syn::Path, param: &State, state: &Ident) -> TokenStream {
    let target = &param.target;
    quote_spanned!(Span::mixed_site()=> #krate::Provides::<#target>::provide(#state))
}
