//! The names of a job: the stable one of its records, and the one of its struct.

use proc_macro2::Ident;
use syn::LitStr;
use syn::ext::IdentExt;

use super::options::Given;
use super::value;
use crate::codes::Code;
use crate::errors::Errors;

const NAME_CHARS_MAX: usize = 100;

/// Names that every module has: a struct of such a name would hide them.
const PRELUDE: &[&str] = &[
    "Self", "Option", "Result", "String", "Vec", "Box", "Send", "Sync", "Sized", "Copy", "Clone", "Drop",
    "Fn", "FnMut", "FnOnce", "Default", "Iterator", "Extend", "From", "Into", "Eq", "Ord", "Tx", "Run",
    "Done", "Idem", "Job", "Error",
];

/// Returns the stable identity of the job: `name = "…"`, or the name of the function.
pub(crate) fn job_name(function: &Ident, given: Option<&Given>, errors: &mut Errors) -> LitStr {
    let default = LitStr::new(&function.unraw().to_string(), function.span());
    let Some(given) = given else {
        if let Some(fault) = fault(&default.value()) {
            errors.push(
                function,
                Code::JobName,
                format_args!("the name of a job {fault}; write `name = \"…\"`"),
            );
        }
        return default;
    };
    let Some(name) = value::string(&given.expr) else {
        errors.push(
            &given.expr,
            Code::NotAString,
            format_args!("`name` must be a string; write `name = \"{}\"`", function.unraw()),
        );
        return default;
    };
    match fault(&name.value()) {
        None => name.clone(),
        Some(fault) => {
            errors.push(
                name,
                Code::JobName,
                format_args!("`name` {fault}; write `name = \"{}\"`", function.unraw()),
            );
            default
        }
    }
}

/// Tells what is wrong with the name of a job or of a step.
pub(crate) fn fault(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if name.is_empty() {
        return Some(String::from("must not be empty"));
    }
    if let Some(odd) = name.chars().find(|c| !plain(*c)) {
        return Some(format!("cannot contain `{}`, only `a-z A-Z 0-9 _ . : -`", odd.escape_debug()));
    }
    (name.len() > NAME_CHARS_MAX).then(|| format!("must not be longer than {NAME_CHARS_MAX} characters"))
}

/// Returns the name of the job's struct: `job = Name`, or the function's name in CamelCase.
pub(crate) fn struct_name(function: &Ident, given: Option<&Given>, errors: &mut Errors) -> Option<Ident> {
    if let Some(given) = given {
        let name = value::word(&given.expr);
        if name.is_none() {
            errors.push(
                &given.expr,
                Code::StructName,
                "`job` must be the name of a struct; write `job = ProcessPayment`",
            );
        }
        return name.cloned();
    }
    let camel: String = function.unraw().to_string().split('_').map(capitalized).collect();
    if camel.is_empty() || camel.starts_with(|c: char| c.is_numeric()) || PRELUDE.contains(&camel.as_str()) {
        errors.push(
            function,
            Code::StructName,
            format_args!("the struct of this job cannot be called `{camel}`; write `job = {camel}Job`"),
        );
        return None;
    }
    Some(Ident::new(&camel, function.span()))
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
