//! `impl Scheduled`: the job of a tick.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};

use super::{own, spans};
use crate::model::Job;

pub(super) fn scheduled_impl(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let tick = own("tick");
    let fields = function.args().map(|arg| {
        // An argument that the clock has nothing for is the type's mistake.
        let from_tick =
            spans::projection(&arg.ty, krate, &arg.ty.to_token_stream(), "schedule::FromTick", "from_tick");
        let given = spans::parenthesized(spans::ends(&arg.ty).1, tick.to_token_stream());
        let ident = spans::quiet(&arg.ident);
        quote_spanned!(Span::mixed_site()=> #ident: #from_tick #given)
    });
    quote_spanned! {Span::mixed_site()=>
        impl #krate::schedule::Scheduled for #struct_name {
            fn at(#tick: #krate::schedule::Tick) -> Self {
                Self { #(#fields),* }
            }
        }
    }
}
