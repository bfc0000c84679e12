//! The guarded function: the name that the user gave, and the only way to call it.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};

use super::{own, spans, state_bounds};
use crate::model::Job;

pub(super) fn function(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let crate::model::Attrs { docs, cfgs, outer, .. } = &function.attrs;
    let (vis, ident, db) = (&function.vis, &function.ident, &function.tx.db);
    let (idem, state) = (own("idem"), own("__State"));
    let (args, tys): (Vec<_>, Vec<_>) =
        function.args().map(|arg| (spans::quiet(&arg.ident), &arg.ty)).unzip();
    let returns = spans::result(job, &quote!(Done));
    let bounds = state_bounds(krate, function);
    let idem_ty = {
        // A database that is none is one mistake, at its name.
        let (start, end) = spans::ends(db);
        let krate = spans::krate_at(krate, start);
        let close = quote_spanned!(end=> >);
        quote_spanned!(start=> #krate::Idem<#db, #state #close)
    };
    quote_spanned! {Span::mixed_site()=>
        #(#docs)*
        #(#cfgs)*
        #(#outer)*
        #[allow(dead_code)]
        #vis async fn #ident<#state>(
            #idem: &#idem_ty,
            #(#args: #tys,)*
        ) -> #returns
        where
            #state: #bounds,
        {
            #idem.run(#struct_name { #(#args),* }).await
        }
    }
}
