//! The guarded function: the name that the user gave, and the only way to call it.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};

use super::{own, spans, state_bounds};
use crate::model::{Handle, Job};

pub(super) fn function(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let crate::model::Attrs { docs, cfgs, outer, lints, .. } = &function.attrs;
    let (vis, ident) = (&function.vis, &function.ident);
    let (idem, state) = (own("idem"), own("__State"));
    let (args, tys): (Vec<_>, Vec<_>) =
        function.args().map(|arg| (spans::quiet(&arg.ident), &arg.ty)).unzip();
    let returns = spans::result(job, &quote!(Done));
    let bounds = state_bounds(krate, function);
    let (generics, db_bound, idem_ty) = match job.kind.handle() {
        Some(Handle { db, .. }) => {
            // A database that is none is one mistake, at its name.
            let (start, end) = spans::ends(db);
            let krate = spans::krate_at(krate, start);
            let close = quote_spanned!(end=> >);
            (quote!(#state), None, quote_spanned!(start=> #krate::Idem<#db, #state #close))
        }
        None => {
            let db = own("__Db");
            (
                quote!(#db, #state),
                Some(quote_spanned!(Span::mixed_site()=> #db: #krate::store::Database,)),
                quote_spanned!(Span::mixed_site()=> #krate::Idem<#db, #state>),
            )
        }
    };
    quote_spanned! {Span::mixed_site()=>
        #(#docs)*
        #(#cfgs)*
        #(#outer)*
        #(#lints)*
        #[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
        #vis fn #ident<#generics>(
            #idem: &#idem_ty,
            #(#args: #tys,)*
        ) -> #krate::Answer<'_, #returns>
        where
            #db_bound
            #state: #bounds,
        {
            #idem.run(#struct_name { #(#args),* })
        }
    }
}
