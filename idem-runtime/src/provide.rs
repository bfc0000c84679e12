//! Dependencies of a job: found in the state of an `Idem` by their type.

/// A state that holds a `T` for the `#[state]` parameters of jobs.
///
/// Every type provides itself, so a state of one piece needs nothing more. A struct of several
/// pieces derives it, which provides each of its fields:
///
/// ```
/// # use idem_runtime::Provides;
/// struct Gateway;
/// struct Mailer;
///
/// #[derive(Provides)]
/// struct App {
///     gateway: Gateway,
///     mailer: Mailer,
/// }
///
/// let app = App { gateway: Gateway, mailer: Mailer };
/// let _gateway: &Gateway = app.provide();
/// let _mailer: &Mailer = app.provide();
/// ```
#[diagnostic::on_unimplemented(
    message = "the state `{Self}` does not provide the `{T}` that this job takes as `#[state]` [idem::not_provided]",
    label = "this job takes `&{T}`",
    note = "hand it over with `.state(...)`, to `Idem::builder` or to a test's `Scenario`: the `{T}` itself, or a struct that has a field of that type and `#[derive(Provides)]`",
    note = "it is found by its exact type, so an `Arc` is on both sides or on neither: `.state(Arc::new(bank))` for `#[state] bank: &Arc<Bank>`, `.state(bank)` for `&Bank`"
)]
pub trait Provides<T: ?Sized> {
    /// Returns the dependency.
    fn provide(&self) -> &T;
}

impl<T: ?Sized> Provides<T> for T {
    fn provide(&self) -> &T {
        self
    }
}
