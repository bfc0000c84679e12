//! The guarded function: the name that the user gave, and the only way to call it.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;

use super::{halves, own, state_bounds};
use crate::model::Job;

pub(super) fn function(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let crate::model::Attrs { docs, cfgs, outer, .. } = &function.attrs;
    let (vis, ident, db) = (&function.vis, &function.ident, &function.tx.db);
    let (idem, state) = (own("idem"), own("__State"));
    let (args, tys): (Vec<_>, Vec<_>) = function.args().map(|arg| (&arg.ident, &arg.ty)).unzip();
    let (output, error) = halves(krate, &function.returns);
    let bounds = state_bounds(krate, function);
    quote_spanned! {Span::mixed_site()=>
        #(#docs)*
        #(#cfgs)*
        #(#outer)*
        #[allow(dead_code)]
        #vis async fn #ident<#state>(
            #idem: &#krate::Idem<#db, #state>,
            #(#args: #tys,)*
        ) -> ::core::result::Result<#krate::Done<#output>, #krate::Error<#error>>
        where
            #state: #bounds,
        {
            #idem.run(#struct_name { #(#args),* }).await
        }
    }
}
