//! The attribute of idem; use it through `idem-runtime`.
//!
//! A small compiler in passes: `parse` reads tokens into a raw job, `validate` checks every rule and
//! fills in every default, `expand` writes the valid job as Rust. `model` is what they hand on.

mod errors;
mod suggest;

mod parse;

mod model;

mod validate;

mod expand;

mod derive;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

use crate::errors::Errors;

/// Makes an `async fn` a job that is safe to run again.
///
/// ```text
/// #[idempotent(key = payment_id, lock = row(payments.id = payment_id), retain = "7d")]
/// async fn process_payment(
///     tx: &mut Tx<'_, Postgres>,     // the transaction that effect and record share; always the first
///     payment_id: i64,               // owned parameters are the job's arguments
///     #[state] gateway: &Gateway,    // dependencies, found in the state of `Idem` by their types
/// ) -> Result<Receipt, PaymentError> { … }
/// ```
///
/// It becomes a guarded function of the same name, docs and visibility, which takes `&Idem` and the
/// arguments and returns `Result<Done<Receipt>, Error<PaymentError>>`, and a serde struct named after
/// it, here `ProcessPayment`, which `Idem::run` takes. There is no unguarded way to call the body.
///
/// # Options
///
/// | option | values | default |
/// |---|---|---|
/// | `key` | what makes two runs the same work: an expression over the arguments such as `id`, `(source, event_id)` or `order.id`; `global` for one run ever | required |
/// | `name` | string of up to 100 characters out of `a-z A-Z 0-9 _ . : -`; records belong to it, so keep it when the function moves | the function's name |
/// | `job` | name of the struct | the function's name in CamelCase |
/// | `lock` | `row` (the key's record), `row(table.column = arg)` (also the business row, `FOR UPDATE`; a schema may stand before), `advisory`, `none` | `row` |
/// | `on_busy` | what a run does while another one holds the key: `wait("10s")`, `skip`, `error` | `wait("10s")` |
/// | `retain` | how long a completed record answers: a duration, `forever`, or `none` (may run again once executed) | `"7d"` |
/// | `fingerprint` | the arguments that a second run must share: `args`, `ignore(arg, …)`, `none` | `args` |
/// | `check` | path of an `async fn(&mut Tx<'_, Db>, &Job) -> Result<Option<T>, E>`: work that turns out to be done is adopted | off |
/// | `adopt` | `adopt(pattern if condition => value)` or `adopt(constraint("index") => value)`: an error that means that the work is done. The value may name the parameters, wait, and use `?` with the job's error. Constraints are asked first. | off |
/// | `replay` | `replay(pattern)`: errors that are final, recorded and replayed; all others leave the key free | off |
/// | `timeout` | limit on the body, a duration | off |
/// | `crate` | path of `idem_runtime`, if it has another name | `::idem_runtime` |
///
/// `adopt` and `replay` may stand several times and take several cases. A duration is made of numbers
/// with the units `ms s m h d w`, from large to small: `"10s"`, `"1h30m"`.
///
/// # Errors
///
/// Whatever is not in the table, and every other mistake that can be seen, is a compile error at its
/// place; several show at once. What only rustc can see, such as an argument that serde cannot carry,
/// is checked through traits of the runtime.
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    expand_idempotent(args.into(), item.into()).into()
}

fn expand_idempotent(
    args: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let function = match parse::function(item.clone()) {
        Ok(function) => function,
        Err(error) => return error.into_compile_error(),
    };
    let options = parse::options(args, &mut errors);
    match validate::job(function, options, &mut errors) {
        Ok(job) => expand::job(&job),
        Err(broken) => {
            let mut tokens = errors.into_compile_errors();
            tokens.extend(expand::broken(&broken));
            tokens
        }
    }
}

/// Makes a type of your own a part of keys.
///
/// A struct with one field, named or not, is written as that field, so wrapping an id keeps its
/// history. A struct with several fields is a group of them, an enum a group of its variant's name and
/// fields. Type parameters get the bound `KeyPart`.
///
/// `#[key_part(crate = path)]` names the runtime crate if it is not `::idem_runtime`.
#[proc_macro_derive(KeyPart, attributes(key_part))]
pub fn key_part(input: TokenStream) -> TokenStream {
    derive::key_part(input.into()).into()
}

/// Makes each field of a struct available to the `#[state]` parameters of jobs, by its type.
///
/// `#[provides(skip)]` leaves a field out, which all but one of several fields of one type need.
/// `#[provides(crate = path)]` on the struct names the runtime crate if it is not `::idem_runtime`.
#[proc_macro_derive(Provides, attributes(provides))]
pub fn provides(input: TokenStream) -> TokenStream {
    derive::provides(input.into()).into()
}
