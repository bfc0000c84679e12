//! The job as a value: a serde struct with a field for each argument.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;

use crate::model::{Arg, Job};

pub(super) fn job_struct(job: &Job) -> TokenStream {
    let Job { krate, function, struct_name, .. } = job;
    let (vis, cfgs) = (&function.vis, &function.attrs.cfgs);
    let doc = format!("The job [`{}`] as a value.", function.ident.unraw());
    let serde = quote_spanned!(Span::mixed_site()=> #krate::__private::serde);
    let serde_path = serde.to_token_stream().to_string();
    let fields = function.args().map(|arg| field(arg, vis));
    quote_spanned! {Span::mixed_site()=>
        #[doc = #doc]
        #(#cfgs)*
        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path)]
        #[allow(dead_code)]
        #vis struct #struct_name { #(#fields),* }
    }
}

fn field(arg: &Arg, vis: &syn::Visibility) -> TokenStream {
    let Arg { docs, ident, ty, .. } = arg;
    let own_doc = format!("The argument `{}`.", ident.unraw());
    let docs = if docs.is_empty() {
        quote_spanned!(Span::mixed_site()=> #[doc = #own_doc])
    } else {
        quote_spanned!(Span::mixed_site()=> #(#docs)*)
    };
    quote_spanned!(Span::mixed_site()=> #docs #vis #ident: #ty)
}
