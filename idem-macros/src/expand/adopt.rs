//! What an error of the body means: adopted, or the job's own.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use syn::Path;
use syn::spanned::Spanned;

use super::halves;
use crate::model::{Adopt, AdoptCase, Job};

/// Returns the arm of an error: constraints are asked first, since they look at it, then patterns, which take it.
/// What the body did is undone first, if that is in a transaction.
pub(super) fn on_error(job: &Job, tx: Option<&Ident>, error: &Ident) -> TokenStream {
    let constraints = tx.map(|tx| constraints(job, tx));
    let undo = tx.map(|tx| quote_spanned!(Span::mixed_site()=> #tx.undo().await?;));
    let patterns: Vec<_> = job
        .adopt
        .iter()
        .filter_map(|adopt| match &adopt.case {
            AdoptCase::Pattern { pat, guard } => {
                let adopted = adopted(job, adopt);
                let guard = guard.as_ref().map(|guard| quote_spanned!(Span::mixed_site()=> if #guard));
                Some(quote_spanned! {Span::mixed_site()=>
                    #pat #guard => {
                        #undo
                        #adopted
                    }
                })
            }
            AdoptCase::Constraint(_) => None,
        })
        .collect();
    let own_error = own_error(&job.krate, error);
    let patterns = if patterns.is_empty() {
        own_error
    } else {
        quote_spanned! {Span::mixed_site()=>
            match #error {
                #(#patterns)*
                #[allow(unreachable_patterns)]
                #error => #own_error,
            }
        }
    };
    quote_spanned!(Span::mixed_site()=> { #constraints #patterns })
}

fn constraints(job: &Job, tx: &Ident) -> TokenStream {
    job.adopt
        .iter()
        .filter_map(|adopt| match &adopt.case {
            AdoptCase::Constraint(name) => {
                let adopted = adopted(job, adopt);
                // The span of the name: an error type that cannot have a database's error in it is its mistake.
                let at_name = name.span().resolved_at(Span::mixed_site());
                let error = Ident::new("error", at_name);
                let error = quote_spanned!(at_name=> &#error);
                Some(quote_spanned! {Span::mixed_site()=>
                    if #tx.undo_violation(#error, #name).await? {
                        #adopted
                    }
                })
            }
            AdoptCase::Pattern { .. } => None,
        })
        .collect()
}

fn own_error(krate: &Path, error: &Ident) -> TokenStream {
    quote_spanned!(Span::mixed_site()=> ::core::result::Result::Err(#krate::Error::Job(#error)))
}

/// Returns the result to record. Its expression may wait, and may fail with the job's own error. It takes the
/// transaction with it: a reference to one cannot go to another thread.
fn adopted(job: &Job, adopt: &Adopt) -> TokenStream {
    let krate = &job.krate;
    let value = &adopt.value;
    let (output, error) = halves(job);
    let value = quote_spanned!(value.span()=> #value);
    quote_spanned! {Span::mixed_site()=>
        let adopted = async move { ::core::result::Result::<#output, #error>::Ok(#value) };
        return ::core::result::Result::Ok(
            #krate::job::Settled::Adopted(adopted.await.map_err(#krate::Error::Job)?)
        );
    }
}
