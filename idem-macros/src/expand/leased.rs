//! `impl LeasedJob`: body, check and probe, under a claim.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::Path;
use syn::spanned::Spanned;

use super::{body, halves, own, provided, state_bounds};
use crate::model::{Handle, InDoubt, Job};

pub(super) fn leased_impl(job: &Job, run: Option<&Handle>, in_doubt: &InDoubt) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let state = own("__State");
    let bounds = state_bounds(krate, function);
    let any_db = own("__Db");
    let (generics, db, db_bound) = match run {
        Some(Handle { db, .. }) => {
            (quote_spanned!(Span::mixed_site()=> #state), quote_spanned!(Span::mixed_site()=> #db), None)
        }
        None => (
            quote_spanned!(Span::mixed_site()=> #any_db, #state),
            quote_spanned!(Span::mixed_site()=> #any_db),
            Some(quote_spanned!(Span::mixed_site()=> #any_db: #krate::store::Database,)),
        ),
    };
    let check = job.check.as_ref().map(|path| question(job, "check", path));
    let probe = match in_doubt {
        InDoubt::Probe(path) => Some(question(job, "probe", path)),
        InDoubt::Rerun | InDoubt::Park => None,
    };
    let body = body::method(job);
    quote_spanned! {Span::mixed_site()=>
        impl<#generics> #krate::LeasedJob<#db, #state> for #struct_name
        where
            #db_bound
            #state: #bounds,
        {
            #check
            #probe
            #body
        }
    }
}

/// Returns the method that asks the user's function whether the work is done already.
fn question(job: &Job, name: &str, path: &Path) -> TokenStream {
    let (output, error) = halves(job);
    let (name, state, state_ty) = (own(name), own("state"), own("__State"));
    let states = job.function.states().map(|param| provided(&job.krate, param, &state));
    // A signature that does not fit is the path's mistake.
    let call = quote_spanned!(path.span().resolved_at(Span::mixed_site())=> #path(self, #(#states),*).await);
    quote_spanned! {Span::mixed_site()=>
        async fn #name(
            &self,
            #state: &#state_ty,
        ) -> ::core::result::Result<::core::option::Option<#output>, #error> {
            #call
        }
    }
}
