//! The options by name: unknown, repeated and contradictory ones.

use proc_macro2::Ident;
use syn::{Expr, Path, parse_quote};

use super::params::{First, Params};
use super::value;
use crate::codes::Code;
use crate::errors::Errors;
use crate::model::{RawArm, RawOption, RawValue};
use crate::suggest;

const NAMES: &[&str] = &[
    "key",
    "name",
    "job",
    "lock",
    "on_busy",
    "in_doubt",
    "drift",
    "retain",
    "fingerprint",
    "check",
    "adopt",
    "replay",
    "timeout",
    "unique",
    "unique_by",
    "on_duplicate",
    "schedule",
    "crate",
];

/// An option `name = expr`.
pub(crate) struct Given {
    pub(crate) name: Ident,
    pub(crate) expr: Expr,
}

/// An option `name = expr` or `name(expr, part = expr)`.
pub(crate) struct GivenParts {
    pub(crate) name: Ident,
    pub(crate) value: Parts,
}

pub(crate) enum Parts {
    /// What stands behind `=`.
    Whole(Expr),
    /// What stands in parentheses.
    Each(Vec<Expr>),
}

/// One `replay(...)`.
pub(crate) struct GivenReplay {
    pub(crate) name: Ident,
    pub(crate) patterns: Vec<syn::Pat>,
}

/// Every option that was given, by its name.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) key: Option<Given>,
    pub(crate) name: Option<Given>,
    pub(crate) job: Option<Given>,
    pub(crate) lock: Option<Given>,
    pub(crate) on_busy: Option<Given>,
    pub(crate) in_doubt: Option<Given>,
    pub(crate) drift: Option<Given>,
    pub(crate) retain: Option<Given>,
    pub(crate) fingerprint: Option<Given>,
    pub(crate) check: Option<Given>,
    pub(crate) timeout: Option<Given>,
    pub(crate) unique: Option<Given>,
    pub(crate) unique_by: Option<GivenParts>,
    pub(crate) on_duplicate: Option<Given>,
    pub(crate) schedule: Option<GivenParts>,
    pub(crate) krate: Option<Given>,
    pub(crate) adopt: Vec<RawArm>,
    pub(crate) replay: Vec<GivenReplay>,
    /// The names of options that were given in a way that cannot be used: their absence is no further mistake.
    broken: Vec<String>,
}

impl Options {
    /// Sorts the options by their names.
    pub(crate) fn sort(raw: Vec<RawOption>, params: &Params, errors: &mut Errors) -> Options {
        let mut options = Options::default();
        for RawOption { name, value } in raw {
            if matches!(value, RawValue::Missing) && is_only_an_argument(&name, params) {
                let message = format!("`{name}` is an argument and no option; write `key = {name}`");
                errors.push(&name, Code::UnknownOption, message);
                options.broken.push(String::from("key"));
                continue;
            }
            options.put(name, value, errors);
        }
        options
    }

    fn put(&mut self, name: Ident, value: RawValue, errors: &mut Errors) {
        let text = name.to_string();
        let slot = match text.as_str() {
            "adopt" => return self.put_adopt(name, value, errors),
            "replay" => return self.put_replay(name, value, errors),
            "unique_by" | "schedule" => return self.put_parts(name, value, errors),
            "key" => &mut self.key,
            "name" => &mut self.name,
            "job" => &mut self.job,
            "lock" => &mut self.lock,
            "on_busy" => &mut self.on_busy,
            "in_doubt" => &mut self.in_doubt,
            "drift" => &mut self.drift,
            "retain" => &mut self.retain,
            "fingerprint" => &mut self.fingerprint,
            "check" => &mut self.check,
            "timeout" => &mut self.timeout,
            "unique" => &mut self.unique,
            "on_duplicate" => &mut self.on_duplicate,
            "crate" => &mut self.krate,
            _ => return self.unknown(&name, errors),
        };
        match value {
            RawValue::Broken => self.broken.push(text),
            RawValue::Expr(_) if slot.is_some() => twice(&name, errors),
            RawValue::Expr(expr) => *slot = Some(Given { name, expr }),
            RawValue::List => {
                let message = format!("`{name}` takes its value behind `=`; write `{}`", example(&text));
                errors.push(&name, Code::MissingValue, message);
                self.broken.push(text);
            }
            _ => self.no_value(&name, errors),
        }
    }

    fn put_parts(&mut self, name: Ident, value: RawValue, errors: &mut Errors) {
        let slot = if name == "schedule" { &mut self.schedule } else { &mut self.unique_by };
        let value = match value {
            RawValue::Broken => return self.broken.push(name.to_string()),
            RawValue::Expr(_) | RawValue::Parts(_) if slot.is_some() => return twice(&name, errors),
            RawValue::Expr(expr) => Parts::Whole(expr),
            RawValue::Parts(parts) if !parts.is_empty() => Parts::Each(parts),
            _ => return self.no_value(&name, errors),
        };
        *slot = Some(GivenParts { name, value });
    }

    fn no_value(&mut self, name: &Ident, errors: &mut Errors) {
        let text = name.to_string();
        errors.push(
            name,
            Code::MissingValue,
            format_args!("`{name}` needs a value; write `{}`", example(&text)),
        );
        self.broken.push(text);
    }

    fn put_adopt(&mut self, name: Ident, value: RawValue, errors: &mut Errors) {
        match value {
            RawValue::Broken => self.broken.push(name.to_string()),
            RawValue::Arms(arms) if !arms.is_empty() => self.adopt.extend(arms),
            _ => {
                let message =
                    "`adopt` needs an error and what to return instead; write `adopt(pattern => value)`";
                errors.push(&name, Code::MissingValue, message);
                self.broken.push(name.to_string());
            }
        }
    }

    fn put_replay(&mut self, name: Ident, value: RawValue, errors: &mut Errors) {
        match value {
            RawValue::Broken => {}
            RawValue::Patterns(patterns) if !patterns.is_empty() => {
                self.replay.push(GivenReplay { name, patterns });
            }
            _ => errors.push(
                &name,
                Code::MissingValue,
                "`replay` needs the errors that are final; write `replay(pattern)`",
            ),
        }
    }

    fn unknown(&mut self, name: &Ident, errors: &mut Errors) {
        let text = name.to_string();
        let instead = match meant(&text) {
            Some(meant) => format!("; {meant}"),
            None => suggest::instead_of(&text, NAMES),
        };
        errors.push(name, Code::UnknownOption, format_args!("there is no option `{name}`{instead}"));
        self.broken.extend(suggest::closest(&text, NAMES).map(String::from));
    }

    /// Tells whether the option was given, be it with a value that does not parse.
    pub(crate) fn was_tried(&self, name: &str) -> bool {
        self.broken.iter().any(|broken| broken == name)
    }

    /// Tells whether nothing is recorded of runs.
    pub(crate) fn keeps_no_record(&self) -> bool {
        let retain = self.retain.as_ref().and_then(|retain| value::word(&retain.expr));
        retain.is_some_and(|retain| retain == "none")
    }

    /// Returns the path of the runtime crate.
    pub(crate) fn krate(&self, errors: &mut Errors) -> Path {
        self.krate
            .as_ref()
            .and_then(|krate| value::path(krate, errors))
            .unwrap_or_else(|| parse_quote!(::idem_runtime))
    }

    /// Finds options that cannot stand together.
    pub(crate) fn check_contradictions(&self, params: &Params, errors: &mut Errors) {
        if self.keeps_no_record() {
            for replay in &self.replay {
                let message = "`replay` cannot stand with `retain = none`: nothing is recorded that could be \
                               replayed; remove one of them";
                errors.push(&replay.name, Code::NothingRecorded, message);
            }
            // The steps of an unfinished run are on record, and what they were taken for is compared.
            let has_steps = matches!(params.first, First::Run(_));
            if let Some(fingerprint) = self.fingerprint.as_ref().filter(|_| !has_steps) {
                let message = "`fingerprint` cannot stand with `retain = none`: nothing is recorded to compare \
                               with; remove one of them";
                errors.push(&fingerprint.name, Code::NothingRecorded, message);
            }
        }
    }
}

fn is_only_an_argument(name: &Ident, params: &Params) -> bool {
    params.arg(name).is_some() && !NAMES.iter().any(|option| name == option)
}

fn twice(name: &Ident, errors: &mut Errors) {
    errors.push(name, Code::GivenTwice, format_args!("`{name}` is given twice; remove one of them"));
}

fn example(name: &str) -> &'static str {
    match name {
        "key" => "key = payment_id",
        "name" => "name = \"process_payment\"",
        "job" => "job = ProcessPayment",
        "lock" => "lock = row",
        "on_busy" => "on_busy = wait(\"10s\")",
        "in_doubt" => "in_doubt = rerun",
        "drift" => "drift = resume",
        "retain" => "retain = \"7d\"",
        "fingerprint" => "fingerprint = args",
        "check" => "check = already_done",
        "timeout" => "timeout = \"30s\"",
        "unique" => "unique = until_executed",
        "unique_by" => "unique_by = payment_id",
        "on_duplicate" => "on_duplicate = skip",
        "schedule" => "schedule = \"0 3 * * *\"",
        _ => "crate = idem_runtime",
    }
}

/// Says what to write for what an option is called elsewhere, or where it is said instead.
fn meant(name: &str) -> Option<&'static str> {
    Some(match name {
        "id" | "idempotency_key" | "dedup_key" | "dedupe" => {
            "write `key = ...` to say which runs are the same work"
        }
        "ttl" | "expires" | "expires_in" | "retention" => {
            "write `retain = \"7d\"` to say how long a record answers"
        }
        "retries" | "max_retries" | "retry" | "tries" | "attempts" | "max_attempts" => {
            "write `Enqueue::new(job).attempts(3)` where the task is enqueued"
        }
        "backoff" | "retry_after" | "retry_delay" => "write `queue.backoff(...)` where the worker is built",
        "delay" | "run_at" | "after" | "priority" => {
            "write `Enqueue::new(job).after(...).priority(...)` where the task is enqueued"
        }
        "queue" | "queue_name" => "each job has a queue of its own, and `queue.name::<Job>()` says which",
        "concurrency" | "max_concurrency" | "singleton" => {
            "write `unique = while_executing` for one run at a time; how many keys a worker runs at once is said where it is built"
        }
        "debounce" => "write `unique = keep_latest` for a task whose place the next one takes",
        "throttle" | "rate_limit" => "write `unique = until_expired(\"1h\")` for one task in that time",
        "lease" | "heartbeat" | "visibility_timeout" => {
            "write `lock = lease(\"30s\")` to say how long a claim outlives its worker"
        }
        "wait" => "write `on_busy = wait(\"10s\")` to say how long a run waits for another one",
        "on_conflict" => "write `on_duplicate` for a task whose claim is taken, `on_busy` for a run",
        "unique_for" | "unique_until" | "lock_ttl" => {
            "write `unique = until_expired(\"1h\")` for a claim that ends by the clock"
        }
        "unique_key" | "unique_args" => "write `unique_by = ...` to say what is unique, if it is not the key",
        "cron" | "every" => "write `schedule = \"0 3 * * *\"` for a job that the clock starts",
        "time_zone" | "timezone" | "tz" => "write `schedule(\"0 3 * * *\", time_zone = \"Europe/Berlin\")`",
        _ => return None,
    })
}
