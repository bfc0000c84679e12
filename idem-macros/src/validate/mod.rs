//! Second pass: the raw job to a valid one. Every rule and every default is here; no token is built.

mod adopt;
mod attrs;
mod cron;
mod duration;
mod executor;
mod key;
mod kind;
mod lock;
mod names;
mod options;
mod params;
mod retain;
mod returns;
mod scan;
mod schedule;
mod signature;
mod steps;
mod unique;
mod value;

use crate::errors::Errors;
use crate::model::{Broken, Function, Job, RawFunction, RawOption, Spec};

use self::options::Options;
use self::params::First;

/// Checks every rule, and returns the job, or what is known of it if `errors` has any.
///
/// A rule that is broken stands in with its default, so that the rules after it are checked as well.
pub(crate) fn job(
    mut function: RawFunction,
    options: Vec<RawOption>,
    errors: &mut Errors,
) -> Result<Box<Job>, Box<Broken>> {
    attrs::take_second(&mut function, errors);
    let sig = &function.sig;
    signature::check(sig, errors);
    let can_be_checked = signature::can_be_checked(sig) && !returns::borrows(sig);
    let params = params::params(sig, errors);
    let returns = returns::returns(sig, errors);

    let options = Options::sort(options, &params, errors);
    options.check_contradictions(&params, errors);
    let krate = options.krate(errors);
    let struct_name = names::struct_name(&sig.ident, options.job.as_ref(), errors);
    let key = key::key(&options, &sig.ident, &params, errors);
    let unique = unique::unique(&options, &params, errors);
    unique::check_newer_arguments(&options, &key, unique.as_ref(), &params, errors);
    let kind = kind::kind(&sig.ident, &params, &options, unique.as_ref(), errors);
    let spec = Spec {
        name: names::job_name(&sig.ident, options.name.as_ref(), errors),
        on_busy: lock::on_busy(options.on_busy.as_ref(), unique.as_ref(), errors),
        retain: retain::retain(options.retain.as_ref(), errors),
        timeout: retain::timeout(options.timeout.as_ref(), errors),
        schedule: schedule::schedule(&options, &sig.ident, &params, errors),
        unique,
    };
    let fingerprint = key::fingerprint(options.fingerprint.as_ref(), &key, &params, errors);
    let check = options.check.as_ref().and_then(|check| value::path(check, errors));
    let adopt = adopt::adopt(&options.adopt, kind.as_ref(), &params, errors);
    let replay = options.replay.iter().flat_map(|replay| replay.patterns.clone()).collect();
    if let (First::Run(_), Some(run)) = (&params.first, &params.handle_name) {
        steps::check(&function.body, run, errors);
    }
    let tx = params.handle_name.as_ref().filter(|_| matches!(params.first, First::Tx(_)));
    let queries_are_faulty = executor::check(&function.body, tx, errors);

    let attrs = attrs::sort(&function.attrs);
    match (struct_name, kind, returns) {
        (Some(struct_name), Some(kind), Some(returns)) if errors.is_empty() => {
            let RawFunction { vis, sig, body, .. } = function;
            let function = Function { attrs, vis, ident: sig.ident, params: params.valid, returns, body };
            Ok(Box::new(Job {
                krate,
                function,
                struct_name,
                kind,
                spec,
                key,
                fingerprint,
                check,
                adopt,
                replay,
            }))
        }
        (struct_name, _, returns) => Err(Box::new(Broken {
            krate,
            struct_name,
            params: params.args,
            atomic_on: params.first.atomic_on(),
            scheduled: options.schedule.is_some() || options.was_tried("schedule"),
            returns,
            function: attrs::without_helpers(function),
            body_can_be_checked: can_be_checked && !params.unchecked && !queries_are_faulty,
        })),
    }
}
