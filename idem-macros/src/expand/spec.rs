//! `Job::SPEC`: the facts of the job as a constant.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::Path;

use crate::model::{
    Drift, InDoubt, Job, Kind, Lock, Missed, OnBusy, OnDuplicate, Retain, Schedule, Spec, Unique, UniqueMode,
};

pub(super) fn spec(job: &Job) -> TokenStream {
    let krate = &job.krate;
    let Spec { on_busy, retain, timeout, unique: is_unique, schedule: is_scheduled, .. } = &job.spec;
    let of_kind = match &job.kind {
        Kind::Atomic { lock, .. } => atomic(job, lock),
        Kind::Leased { run: None, lease, in_doubt, .. } => leased(job, *lease, in_doubt),
        Kind::Leased { run: Some(_), lease, in_doubt, drift } => {
            let (leased, steps) = (leased(job, *lease, in_doubt), steps(job, drift));
            quote_spanned!(Span::mixed_site()=> #leased #steps)
        }
    };
    let on_busy = match on_busy {
        OnBusy::Wait(limit) => {
            let limit = duration(*limit);
            quote_spanned!(Span::mixed_site()=> Wait(#limit))
        }
        OnBusy::Skip => quote_spanned!(Span::mixed_site()=> Skip),
        OnBusy::Error => quote_spanned!(Span::mixed_site()=> Error),
        OnBusy::Reschedule(delay) => {
            let delay = duration(*delay);
            quote_spanned!(Span::mixed_site()=> Reschedule(#delay))
        }
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
    let unique = is_unique.as_ref().map(|it| unique(krate, it));
    let schedule = is_scheduled.as_ref().map(|it| schedule(krate, it));
    quote_spanned! {Span::mixed_site()=>
        #of_kind
            .on_busy(#krate::job::OnBusy::#on_busy)
            .retain(#krate::job::Retain::#retain)
            #timeout
            #unique
            #schedule
    }
}

fn atomic(job: &Job, lock: &Lock) -> TokenStream {
    let Job { krate, spec: Spec { name, .. }, .. } = job;
    let lock = match lock {
        Lock::Row => quote_spanned!(Span::mixed_site()=> Row),
        Lock::BusinessRow(row) => {
            let (table, column) = (&row.table, &row.column);
            quote_spanned!(Span::mixed_site()=> BusinessRow { table: #table, column: #column })
        }
        Lock::Advisory => quote_spanned!(Span::mixed_site()=> Advisory),
        Lock::None => quote_spanned!(Span::mixed_site()=> None),
    };
    let undo = (!job.adopt.is_empty() || !job.replay.is_empty())
        .then(|| quote_spanned!(Span::mixed_site()=> .undo()));
    quote_spanned! {Span::mixed_site()=>
        #krate::job::JobSpec::new(#name)
            .lock(#krate::job::Lock::#lock)
            #undo
    }
}

fn leased(job: &Job, lease: Duration, in_doubt: &InDoubt) -> TokenStream {
    let Job { krate, spec: Spec { name, .. }, .. } = job;
    let lease = duration(lease);
    let in_doubt = match in_doubt {
        InDoubt::Rerun => quote_spanned!(Span::mixed_site()=> Rerun),
        InDoubt::Probe(_) => quote_spanned!(Span::mixed_site()=> Probe),
        InDoubt::Park => quote_spanned!(Span::mixed_site()=> Park),
    };
    quote_spanned! {Span::mixed_site()=>
        #krate::job::JobSpec::leased(#name)
            .lock(#krate::job::Lock::Lease(#lease))
            .in_doubt(#krate::job::InDoubt::#in_doubt)
    }
}

fn steps(Job { krate, .. }: &Job, drift: &Drift) -> TokenStream {
    let drift = match drift {
        Drift::Refuse => quote_spanned!(Span::mixed_site()=> Refuse),
        Drift::Resume => quote_spanned!(Span::mixed_site()=> Resume),
        Drift::Park => quote_spanned!(Span::mixed_site()=> Park),
    };
    quote_spanned!(Span::mixed_site()=> .steps().drift(#krate::job::Drift::#drift))
}

fn unique(krate: &Path, Unique { mode, on_duplicate, .. }: &Unique) -> TokenStream {
    let mode = match mode {
        UniqueMode::UntilExecuting => quote_spanned!(Span::mixed_site()=> UntilExecuting),
        UniqueMode::UntilExecuted => quote_spanned!(Span::mixed_site()=> UntilExecuted),
        UniqueMode::UntilExpired(window) => {
            let window = duration(*window);
            quote_spanned!(Span::mixed_site()=> UntilExpired(#window))
        }
        UniqueMode::WhileExecuting => quote_spanned!(Span::mixed_site()=> WhileExecuting),
        UniqueMode::UntilAndWhileExecuting => quote_spanned!(Span::mixed_site()=> UntilAndWhileExecuting),
        UniqueMode::KeepLatest => quote_spanned!(Span::mixed_site()=> KeepLatest),
    };
    let on_duplicate = on_duplicate.as_ref().map(|on_duplicate| {
        let on_duplicate = match on_duplicate {
            OnDuplicate::Skip => quote_spanned!(Span::mixed_site()=> Skip),
            OnDuplicate::Error => quote_spanned!(Span::mixed_site()=> Error),
            OnDuplicate::Replace => quote_spanned!(Span::mixed_site()=> Replace),
            OnDuplicate::Reschedule(delay) => {
                let delay = duration(*delay);
                quote_spanned!(Span::mixed_site()=> Reschedule(#delay))
            }
        };
        quote_spanned!(Span::mixed_site()=> .on_duplicate(#krate::job::OnDuplicate::#on_duplicate))
    });
    quote_spanned!(Span::mixed_site()=> .unique(#krate::job::Unique::#mode) #on_duplicate)
}

fn schedule(krate: &Path, Schedule { cron, time_zone, missed }: &Schedule) -> TokenStream {
    let missed = match missed {
        Missed::Latest => quote_spanned!(Span::mixed_site()=> Latest),
        Missed::All => quote_spanned!(Span::mixed_site()=> All),
    };
    quote_spanned! {Span::mixed_site()=>
        .schedule(
            #krate::job::Schedule::new(#cron)
                .time_zone(#time_zone)
                .missed(#krate::job::Missed::#missed)
        )
    }
}

fn duration(duration: Duration) -> TokenStream {
    let millis =
        u64::try_from(duration.as_millis()).expect("a duration of an option is shorter than a century");
    quote_spanned!(Span::mixed_site()=> ::core::time::Duration::from_millis(#millis))
}
