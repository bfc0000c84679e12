//! `impl AtomicJob`: body and check, inside the transaction.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::Path;
use syn::spanned::Spanned;

use super::{body, halves, own, state_bounds};
use crate::model::{Handle, Job};

pub(super) fn atomic_impl(job: &Job, tx: &Handle) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let db = &tx.db;
    let state = own("__State");
    let bounds = state_bounds(krate, function);
    let check = job.check.as_ref().map(|path| check(job, tx, path));
    let body = body::method(job);
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

fn check(job: &Job, Handle { ty: tx_ty, .. }: &Handle, path: &Path) -> TokenStream {
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
