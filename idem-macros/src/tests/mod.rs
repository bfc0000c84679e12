//! The passes together, on tokens. What rustc makes of the result is in `ui-tests`.

use proc_macro2::TokenStream;
use quote::quote;

/// Expands a job and formats it; panics if the result is no Rust.
fn expand(args: TokenStream, item: TokenStream) -> String {
    let tokens = crate::expand_idempotent(args, item);
    prettyplease::unparse(&syn::parse2(tokens).expect("an expansion is a list of items"))
}

/// The expansion is short and straight, for those who read it. `UPDATE=1 cargo test` writes it anew.
#[test]
fn the_expansion_of_a_payment_reads_as_recorded() {
    let expansion = expand(
        quote! {
            key = payment_id,
            lock = row(payments.id = payment_id),
            retain = "7d",
            check = already_paid,
            adopt(PaymentError::DuplicateCharge { id } => Receipt { charge_id: id }),
            replay(PaymentError::Declined),
        },
        quote! {
            /// Charges a payment once.
            pub async fn process_payment(
                tx: &mut Tx<'_, Postgres>,
                payment_id: i64,
                #[state] gateway: &Gateway,
            ) -> Result<Receipt, PaymentError> {
                effect(tx, payment_id, gateway).await
            }
        },
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/process_payment.rs");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &expansion).expect("the record can be written");
    }
    let recorded = std::fs::read_to_string(path).expect("the record can be read");
    assert!(expansion == recorded, "the expansion has changed; is it still as short?\n{expansion}");
}

#[test]
fn the_body_is_not_touched() {
    let body = quote!({ half . written ; [ = ] });
    let tokens = crate::expand_idempotent(
        quote!(key = id),
        quote!(async fn job(tx: &mut Tx<'_, Db>, id: i64) -> Result<(), E> #body),
    );
    assert!(tokens.to_string().contains(&body.to_string()));
}

#[test]
fn a_default_is_written_out() {
    let job = quote!(
        async fn ship(tx: &mut Tx<'_, Db>, id: i64) -> Result<(), E> {}
    );
    let written_out = quote!(
        key = id,
        name = "ship",
        job = Ship,
        lock = row,
        on_busy = wait("10s"),
        retain = "7d",
        fingerprint = args,
        crate = ::idem_runtime
    );
    assert_eq!(expand(quote!(key = id), job.clone()), expand(written_out, job));
}

#[test]
fn a_job_with_a_mistake_keeps_its_names() {
    let expansion = expand(
        quote!(key = id, retain = "7 days"),
        quote!(
            pub async fn ship(tx: &mut Tx<'_, Db>, id: i64, note: &str) -> Result<u8, E> {
                Ok(1)
            }
        ),
    );
    assert_eq!(expansion.matches("compile_error!").count(), 2, "{expansion}");
    assert!(expansion.contains("pub async fn ship("), "{expansion}");
    // Without the type of `note` there is no struct.
    assert!(!expansion.contains("struct Ship"), "{expansion}");

    let expansion = expand(
        quote!(key = id, retain = "7 days"),
        quote!(
            pub async fn ship(tx: &mut Tx<'_, Db>, id: i64) -> Result<u8, E> {
                Ok(1)
            }
        ),
    );
    assert_eq!(expansion.matches("compile_error!").count(), 1, "{expansion}");
    assert!(expansion.contains("pub struct Ship"), "{expansion}");
}

#[test]
fn the_runtime_is_named_only_through_the_option() {
    let expansion = expand(
        quote!(key = id, crate = renamed, replay(_), adopt(E::A => 1), check = f, lock = row(t.c = id)),
        quote!(
            async fn job(tx: &mut Tx<'_, Db>, id: i64, #[state] s: &S) -> Alias<u8> {
                Ok(1)
            }
        ),
    );
    assert!(expansion.contains("renamed::"));
    assert!(!expansion.contains("idem_runtime"), "{expansion}");
}
