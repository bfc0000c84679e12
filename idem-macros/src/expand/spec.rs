//! `Job::SPEC`: the facts of the job as a constant.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;

use crate::model::{Job, Lock, OnBusy, Retain, Spec};

pub(super) fn spec(job: &Job) -> TokenStream {
    let krate = &job.krate;
    let Spec { name, lock, on_busy, retain, timeout } = &job.spec;
    let lock = match lock {
        Lock::Row => quote_spanned!(Span::mixed_site()=> Row),
        Lock::BusinessRow(row) => {
            let (table, column) = (&row.table, &row.column);
            quote_spanned!(Span::mixed_site()=> BusinessRow { table: #table, column: #column })
        }
        Lock::Advisory => quote_spanned!(Span::mixed_site()=> Advisory),
        Lock::None => quote_spanned!(Span::mixed_site()=> None),
    };
    let on_busy = match on_busy {
        OnBusy::Wait(limit) => {
            let limit = duration(*limit);
            quote_spanned!(Span::mixed_site()=> Wait(#limit))
        }
        OnBusy::Skip => quote_spanned!(Span::mixed_site()=> Skip),
        OnBusy::Error => quote_spanned!(Span::mixed_site()=> Error),
    };
    let retain = match retain {
        Retain::For(time) => {
            let time = duration(*time);
            quote_spanned!(Span::mixed_site()=> For(#time))
        }
        Retain::Forever => quote_spanned!(Span::mixed_site()=> Forever),
        Retain::None => quote_spanned!(Span::mixed_site()=> None),
    };
    let timeout = timeout.map(duration).map(|limit| quote_spanned!(Span::mixed_site()=> .timeout(#limit)));
    let undo = (!job.adopt.is_empty() || !job.replay.is_empty())
        .then(|| quote_spanned!(Span::mixed_site()=> .undo()));
    quote_spanned! {Span::mixed_site()=>
        #krate::job::JobSpec::new(#name)
            .lock(#krate::job::Lock::#lock)
            .on_busy(#krate::job::OnBusy::#on_busy)
            .retain(#krate::job::Retain::#retain)
            #timeout
            #undo
    }
}

fn duration(duration: Duration) -> TokenStream {
    let millis =
        u64::try_from(duration.as_millis()).expect("a duration of an option is shorter than a century");
    quote_spanned!(Span::mixed_site()=> ::core::time::Duration::from_millis(#millis))
}
