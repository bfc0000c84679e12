//! The passes together, on tokens. What rustc makes of the result is in `ui-tests`.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::quote;

use crate::codes::Code;

/// Expands a job and formats it; panics if the result is no Rust.
fn expand(args: TokenStream, item: TokenStream) -> String {
    let tokens = crate::expand_idempotent(args, item);
    prettyplease::unparse(&syn::parse2(tokens).expect("an expansion is a list of items"))
}

/// Compares an expansion with the one that stands beside this file, for those who read it. It must stay short
/// and straight. `UPDATE=1 cargo test` writes it anew.
#[track_caller]
fn assert_recorded(name: &str, expansion: &str) {
    let path = format!("{}/src/tests/{name}.rs", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, expansion).expect("the record can be written");
    }
    let recorded = std::fs::read_to_string(&path).expect("the record can be read");
    assert!(expansion == recorded, "the expansion has changed; is it still as short?\n{expansion}");
}

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
    assert_recorded("process_payment", &expansion);
}

#[test]
fn the_expansion_of_a_job_in_steps_reads_as_recorded() {
    let expansion = expand(
        quote! {
            key = order_id,
            lock = lease("1m"),
            in_doubt = park,
            drift = resume,
            on_busy = reschedule("5s"),
            adopt(FulfilError::Shipped(receipt) => receipt),
        },
        quote! {
            /// Fulfils an order.
            pub async fn fulfil(
                run: &mut Run<'_, Postgres>,
                order_id: i64,
                #[state] gateway: &Gateway,
            ) -> Result<Receipt, FulfilError> {
                let charge = run.step("charge", async |key| gateway.charge(key, order_id).await).await?;
                run.tx_step("order", async |tx| insert_order(tx, order_id, charge).await).await
            }
        },
    );
    assert_recorded("fulfil", &expansion);
}

#[test]
fn the_expansion_of_a_job_without_steps_reads_as_recorded() {
    let expansion = expand(
        quote!(key = user_id, in_doubt = probe(find_user), check = is_current, retain = none),
        quote! {
            /// Copies a user to the mail provider.
            pub async fn sync_user(user_id: i64, #[state] mailer: &Mailer) -> Result<(), SyncError> {
                mailer.put(user_id).await
            }
        },
    );
    assert_recorded("sync_user", &expansion);
}

#[test]
fn the_expansion_of_a_unique_job_reads_as_recorded() {
    let expansion = expand(
        quote! {
            key = (user_id, revision),
            unique = until_and_while_executing,
            unique_by(queue = user_id, run = global),
            on_duplicate = reschedule("5s"),
        },
        quote! {
            /// Stores what a user has looked at last.
            pub async fn store_view(
                tx: &mut Tx<'_, Postgres>,
                user_id: i64,
                revision: u32,
            ) -> Result<(), sqlx::Error> {
                update(tx, user_id, revision).await
            }
        },
    );
    assert_recorded("store_view", &expansion);
}

#[test]
fn the_expansion_of_a_scheduled_job_reads_as_recorded() {
    let expansion = expand(
        quote!(
            key = tick,
            schedule("0 3 * * *", time_zone = "Europe/Berlin", missed = all),
            in_doubt = rerun
        ),
        quote! {
            /// Sends the figures of the day before.
            pub async fn daily_report(tick: Tick, #[state] mailer: &Mailer) -> Result<(), MailError> {
                mailer.send(figures(tick)).await
            }
        },
    );
    assert_recorded("daily_report", &expansion);
}

#[test]
fn who_takes_a_transaction_of_sqlx_is_told_of_one_with_its_database() {
    for (given, database) in [
        (quote!(sqlx::Transaction<'_, sqlx::Sqlite>), "Sqlite"),
        (quote!(sqlx::MySqlConnection), "MySql"),
        (quote!(sqlx::PgConnection), "Postgres"),
    ] {
        let item = quote!(
            async fn charge(tx: &mut #given, id: i64) -> Result<(), sqlx::Error> {
                Ok(())
            }
        );
        let expansion = crate::expand_idempotent(quote!(key = id), item).to_string();
        assert!(expansion.contains(&format!("write `tx: &mut Tx<'_, {database}>`")), "{expansion}");
    }
}

#[test]
fn the_body_is_not_touched() {
    let body = quote!({ half . written ; [ = ] });
    let tokens = crate::expand_idempotent(
        quote!(key = id),
        quote!(async fn ship(tx: &mut Tx<'_, Db>, id: i64) -> Result<(), E> #body),
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
fn a_default_of_a_leased_job_is_written_out() {
    let job = quote!(
        async fn ship(run: &mut Run<'_, Db>, id: i64) -> Result<(), E> {}
    );
    let written_out = quote!(
        key = id,
        in_doubt = rerun,
        lock = lease("30s"),
        on_busy = wait("10s"),
        retain = "7d",
        drift = refuse
    );
    assert_eq!(expand(quote!(key = id, in_doubt = rerun), job.clone()), expand(written_out, job));
}

#[test]
fn a_default_of_a_scheduled_job_is_written_out() {
    let job = quote!(
        async fn report(tx: &mut Tx<'_, Db>, tick: Tick) -> Result<(), E> {}
    );
    let short = quote!(key = tick, schedule = "0 3 * * *");
    let written_out = quote!(key = tick, schedule("0 3 * * *", time_zone = "UTC", missed = latest));
    assert_eq!(expand(short, job.clone()), expand(written_out, job));
}

#[test]
fn a_run_that_is_unique_or_frees_its_claim_comes_again_later_by_default() {
    let job = quote!(
        async fn ship(tx: &mut Tx<'_, Db>, id: i64) -> Result<(), E> {}
    );
    for mode in [
        quote!(until_executing),
        quote!(while_executing),
        quote!(until_and_while_executing),
        quote!(keep_latest),
    ] {
        let short = expand(quote!(key = id, unique = #mode), job.clone());
        let later = expand(quote!(key = id, unique = #mode, on_busy = reschedule("5s")), job.clone());
        let wait = expand(quote!(key = id, unique = #mode, on_busy = wait("10s")), job.clone());
        assert_eq!(short, later);
        assert_ne!(short, wait);
    }
    for mode in [quote!(until_executed), quote!(until_expired("1h"))] {
        let short = expand(quote!(key = id, unique = #mode), job.clone());
        assert_eq!(short, expand(quote!(key = id, unique = #mode, on_busy = wait("10s")), job.clone()));
    }
}

#[test]
fn the_keys_of_a_unique_job_are_those_of_its_phases() {
    let job = quote!(
        async fn ship(tx: &mut Tx<'_, Db>, id: i64) -> Result<(), E> {}
    );
    let keys = |options: TokenStream| {
        let expansion = expand(quote!(key = id, #options), job.clone());
        assert!(!expansion.contains("compile_error"), "{expansion}");
        (expansion.contains("fn queue_key("), expansion.contains("fn run_key("))
    };
    assert_eq!(keys(quote!(unique = keep_latest)), (false, false));
    assert_eq!(keys(quote!(unique = until_executed, unique_by = id)), (true, false));
    assert_eq!(keys(quote!(unique = while_executing, unique_by = id)), (false, true));
    assert_eq!(keys(quote!(unique = keep_latest, unique_by = id)), (true, true));
    assert_eq!(keys(quote!(unique = keep_latest, unique_by(queue = id))), (true, false));
    assert_eq!(keys(quote!(unique = keep_latest, unique_by(run = id))), (false, true));
}

#[test]
fn a_probe_is_written_as_a_call_or_as_an_assignment() {
    let job = quote!(
        async fn ship(id: i64) -> Result<(), E> {}
    );
    let call = quote!(key = id, in_doubt = probe(find::it));
    assert_eq!(expand(call, job.clone()), expand(quote!(key = id, in_doubt = probe = find::it), job));
}

#[test]
fn a_name_that_is_a_keyword_since_2024_stays_a_name() {
    let expansion = expand(
        quote!(key = r#gen),
        quote!(
            async fn ship(tx: &mut Tx<'_, Db>, r#gen: i64) -> Result<(), E> {}
        ),
    );
    let written_in_2021 = TokenStream::from_iter([TokenTree::Ident(Ident::new("gen", Span::call_site()))]);
    let older = expand(
        quote!(key = #written_in_2021),
        quote!(
            async fn ship(tx: &mut Tx<'_, Db>, #written_in_2021: i64) -> Result<(), E> {}
        ),
    );
    let count =
        |text: &str| (text.matches("let Self { r#gen }").count(), text.matches("r#gen: __T0").count());
    assert_eq!(count(&older), count(&expansion), "{older}");
    assert_ne!(count(&older), (0, 0), "{older}");
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
    assert!(!expansion.contains("Scheduled"), "{expansion}");
}

#[test]
fn a_scheduled_job_with_a_mistake_is_scheduled() {
    for options in [
        quote!(key = tick, schedule = "0 3 * *"),
        quote!(key = tick, schedule),
        quote!(key = tick, schedule = ),
        quote!(key = tick, schedul = "0 3 * * *"),
        quote!(key = tick, schedule = "0 3 * * *", retain = "7 days"),
    ] {
        let expansion = expand(
            options,
            quote!(
                async fn report(tx: &mut Tx<'_, Db>, tick: Tick) -> Result<u8, E> {
                    Ok(1)
                }
            ),
        );
        assert_eq!(expansion.matches("compile_error!").count(), 1, "{expansion}");
        assert!(expansion.contains("impl ::idem_runtime::schedule::Scheduled for Report"), "{expansion}");
    }
}

#[test]
fn the_runtime_is_named_only_through_the_option() {
    let expansion = expand(
        quote!(key = id, crate = renamed, replay(_), adopt(E::A => 1), check = f, lock = row(t.c = id)),
        quote!(
            async fn ship(tx: &mut Tx<'_, Db>, id: i64, #[state] s: &S) -> Alias<u8> {
                Ok(1)
            }
        ),
    );
    assert!(expansion.contains("renamed::"));
    assert!(!expansion.contains("idem_runtime"), "{expansion}");

    let expansion = expand(
        quote!(
            key = tick,
            crate = renamed,
            unique = keep_latest,
            unique_by(queue = tick, run = global),
            schedule = "0 3 * * *",
        ),
        quote!(
            async fn report(tx: &mut Tx<'_, Db>, tick: Tick) -> Result<u8, E> {
                Ok(1)
            }
        ),
    );
    assert!(expansion.contains("renamed::schedule::Scheduled"), "{expansion}");
    assert!(!expansion.contains("idem_runtime"), "{expansion}");
}

#[test]
fn the_runtime_of_a_leased_job_is_named_only_through_the_option() {
    let options = quote!(key = id, crate = renamed, replay(_), adopt(E::A => 1), check = f, in_doubt = rerun);
    let steps = expand(
        options.clone(),
        quote!(
            async fn ship(run: &mut Run<'_, Db>, id: i64, #[state] s: &S) -> Alias<u8> {
                Ok(1)
            }
        ),
    );
    let whole = expand(
        options,
        quote!(
            async fn ship(id: i64, #[state] s: &S) -> Alias<u8> {
                Ok(1)
            }
        ),
    );
    for expansion in [steps, whole] {
        assert!(expansion.contains("renamed::LeasedJob"), "{expansion}");
        assert!(!expansion.contains("idem_runtime"), "{expansion}");
    }
}

#[test]
fn a_pattern_that_takes_every_error_is_refused() {
    let errors = |pattern: &TokenStream| {
        errors_of(
            quote!(key = id, adopt(#pattern => ())),
            quote!(
                async fn ship(tx: &mut Tx<'_, Db>, id: i64) -> Result<(), E> {}
            ),
        )
    };
    for pattern in [
        quote!(_),
        quote!(error),
        quote!(_error),
        quote!(__),
        quote!(r#type),
        quote!(mut error),
        quote!((_)),
        quote!(E::A | _),
        quote!(E::A | (E::B | error)),
        quote!(error @ _),
        quote!(error @ (_)),
        quote!(&_),
    ] {
        let errors = errors(&pattern);
        assert!(
            matches!(&errors[..], [only] if only.contains("adopt_of_everything")),
            "{pattern}: {errors:#?}"
        );
    }
    for pattern in [
        quote!(E::A),
        quote!(A),
        quote!(DUPLICATE),
        quote!((E::A)),
        quote!(E::A | E::B),
        quote!(error @ E::A),
        quote!(_error if _error.is_known()),
        quote!(E::A(_)),
        quote!(E::B { .. }),
    ] {
        assert_eq!(errors(&pattern), [""; 0], "{pattern}");
    }
}

/// Returns the errors about a key.
fn errors_of_key(key: &TokenStream) -> Vec<String> {
    errors_of(
        quote!(key = #key),
        quote!(
            async fn ship(
                tx: &mut Tx<'_, Db>,
                id: i64,
                email: Option<String>,
                #[state] app: &App,
            ) -> Result<(), E> {
            }
        ),
    )
}

#[test]
fn chance_is_found_wherever_it_stands_in_a_key() {
    for (key, culprit) in [
        (quote!(email.unwrap_or_else(Uuid::new_v4)), "Uuid::new_v4"),
        (quote!(email.unwrap_or_else(uuid::Uuid::new_v4)), "uuid::Uuid::new_v4"),
        (quote!(email.unwrap_or_else(rand::any)), "rand::any"),
        (quote!(email.unwrap_or_else(random)), "random"),
        (quote!(email.unwrap_or_else(|| Uuid::new_v4())), "Uuid::new_v4()"),
        (quote!(email.unwrap_or_else(|| { rand::any(id) })), "rand::any(id)"),
        (quote!(email.unwrap_or_else(|| random::<u8>())), "random::<u8>()"),
        (quote!(format!("{id}-{}", Utc::now())), "Utc::now()"),
        (quote!(format!("{id}-{}", ::time::OffsetDateTime::now_utc())), "::time::OffsetDateTime::now_utc()"),
        (quote!(format!("{id}-{:?}", email.elapsed())), "elapsed()"),
        (quote!(format!("{id}-{:?}", email.random::<u8>())), "random::<u8>()"),
        (quote!(Parts { id, part: Uuid::new_v4() }), "Uuid::new_v4()"),
        (
            quote!({
                let now = Utc::now();
                (id, now)
            }),
            "Utc::now()",
        ),
    ] {
        let errors = errors_of_key(&key);
        let begins = format!("`{culprit}` is another in every run");
        assert!(matches!(&errors[..], [only] if only.starts_with(&begins)), "{key}: {errors:#?}");
    }
}

#[test]
fn what_only_looks_like_chance_is_left_alone() {
    for key in [
        quote!(email.map(normalize)),
        quote!(email.as_ref().map_or(0, (length))),
        quote!(email.map(text::normalize)),
        quote!(format!("{}", id.now)),
        quote!(format!("{}", email.rng.id)),
        quote!(email.map(|email| email.random)),
        quote!(email.map(|rand| rand)),
        quote!(email.map(|now| (id, now))),
        quote!(email.map(rng::of)),
        quote!(format!("{}", my::rng::of(id))),
        quote!(format!("{}", my::rand::of(id))),
        quote!(format!("now: {id}")),
    ] {
        assert_eq!(errors_of_key(&key), [""; 0], "{key}");
    }
    for (key, named) in
        [(quote!(id.max(app)), "`#[state]`"), (quote!(id.max(tx)), "transaction"), (quote!(idd), "`idd`")]
    {
        let errors = errors_of_key(&key);
        assert!(matches!(&errors[..], [only] if only.contains(named)), "{key}: {errors:#?}");
    }
}

#[test]
fn the_name_of_a_field_is_no_argument() {
    let key = |key: TokenStream| {
        expand(
            quote!(key = #key),
            quote!(
                async fn ship(tx: &mut Tx<'_, Db>, id: i64, order: Order) -> Result<(), E> {}
            ),
        )
    };
    let only = |arg: &str| format!("let Self {{ {arg}, .. }} = self;");
    assert!(key(quote!(format!("{}", order.id))).contains(&only("order")));
    assert!(key(quote!(format!("{}", Parts { id: order }.hash))).contains(&only("order")));
    let both = only("id, order");
    for expr in [quote!(0..id + order), quote!(Parts { id, at: order }), quote!(json!({ id: order.at }))] {
        assert!(key(quote!(hash!(#expr))).contains(&both), "{expr}");
    }
    // Whoever names only fields names no argument.
    assert!(
        matches!(&errors_of_key(&quote!(format!("{}", CONFIG.id)))[..], [only] if only.contains("constant_key"))
    );

    let adopted = expand(
        quote!(key = id, adopt(E::Dup { order: at } => Receipt { order: at, at: at.id })),
        quote!(
            async fn ship(tx: &mut Tx<'_, Db>, id: i64, order: Order) -> Result<Receipt, E> {}
        ),
    );
    assert!(!adopted.contains("Clone::clone"), "{adopted}");
}

/// Returns the errors about the steps of a body, which need not be Rust.
fn errors_of_steps(body: TokenStream) -> Vec<String> {
    errors_of(
        quote!(key = id, in_doubt = rerun),
        quote!(async fn ship(run: &mut Run<'_, Db>, id: i64) -> Result<(), E> { #body }),
    )
}

/// Returns the errors that a job expands to.
fn errors_of(args: TokenStream, item: TokenStream) -> Vec<String> {
    let tokens = crate::expand_idempotent(args, item);
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_error = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == "compile_error");
    let errors = tokens.windows(3).filter(|tokens| is_error(&tokens[0]));
    errors
        .map(|tokens| match &tokens[2] {
            TokenTree::Group(group) => syn::parse2::<syn::LitStr>(group.stream()).expect("a message").value(),
            other => panic!("`{other}` is no message"),
        })
        .collect()
}

#[test]
fn steps_of_different_names_are_left_alone() {
    for body in [
        quote!(run.step("a", f).await?; run.tx_step("b", f).await?;),
        quote!(for i in 0..3 {
            run.step(("a", i), f).await?;
        }),
        quote!(run.step(("a", 0), f).await?; run.step(("a", 1), f).await?; run.step("a", f).await?;),
        quote!(for line in run.step("lines", f).await? {
            work(line);
        }),
        quote!(other.run.step("a", f); other.step("a", f); run.step("a", f);),
        quote!(step("a"); run.stepped("a"); run.step(name, f); run.step(name, f); run.step("a", f)),
        quote!(run.step(b"a", f); run.step(b"a", f); run.step(1, f); run.step(1, f); run.step((), f)),
        quote!(
            fn inner(run: &mut Other) {
                run.step("a");
                run.step("a");
            },
            run.step("a", f)
        ),
        quote!(impl Step for Other { fn run(run: &Other) { loop { run.step("a") } } } run.step("a", f)),
        quote!(let f: fn(u8) -> u8 = g; run.step("a", f); let f: for<'a> fn(&'a u8) = g;),
        quote!(for x in match y {
            Z { a } => {
                a
            }
        } {
            run.step(("a", x), f);
        }),
        quote!(for x in y { work(x) } run.step("a", f); while x { work() } loop { break } run.step("b", f);),
        quote!(run.step("a", f) for in = { run. while loop ; fn }),
        quote!(run),
        quote!(run.),
        quote!(run.step),
        quote!(run.step::),
        quote!(run.step::<),
        quote!(run.step::<A>),
        quote!(run.step::<A>()),
    ] {
        assert_eq!(errors_of_steps(body.clone()), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn a_step_whose_name_is_taken_is_one_error() {
    for body in [
        quote!(run.step("a", f).await?; run.step("a", g).await?;),
        quote!(run.step("a", f).await?; run.tx_step("a", g).await?;),
        quote!(if x { run.step("a", f) } else { run.step("a", g) }),
        quote!(match x {
            1 => run.step("a", f),
            _ => run.step("\x61", g),
        }),
        quote!(run.step::<Vec<u8>, fn() -> u8>("a", f); run.step(("a"), g)),
        quote!(select! { a = run.step("a", f) => {}, b = run.step("a", g) => {} }),
        quote!(run.step("a", run.step("a", f).await?)),
        quote!(run.step(("a", 1), f); run.step(("a", 1u8), g)),
        quote!(for i in x { run.step(("a", i), f); } for j in x { run.step(("a", j), f); }),
    ] {
        let errors = errors_of_steps(body.clone());
        assert_eq!(
            errors,
            ["`a` is the name of two steps; give this one another name [idem::step_twice]"],
            "{body}"
        );
    }
}

#[test]
fn a_step_in_a_loop_without_an_index_is_one_error() {
    for body in [
        quote!(for x in y {
            run.step("a", f).await?;
        }),
        quote!(for Line { x, .. } in (Z { y }).z(|_| { 1 }) {
            run.step("a", f).await?;
        }),
        quote!(while let Some(x) = y.next() {
            if x {
                run.step("a", f).await?;
            }
        }),
        quote!(while run.step("a", f).await? {
            work()
        }),
        quote!('outer: loop {
            match run.step("a", f).await {
                Ok(_) => break,
                Err(_) => {}
            }
        }),
        quote!(for x in if y { z } else { w } {
            run.step(("a", 0), f).await?;
        }),
        quote!(for x in y {
            join!(run.tx_step("a", f))
        }),
        quote!(for x in y {
            for z in run.step("a", f).await? {
                work(z)
            }
        }),
        quote!(run.step("b", f); loop { run.step("a", f).await?; half. }),
    ] {
        let errors = errors_of_steps(body.clone());
        assert_eq!(
            errors,
            [
                "`a` stands in a loop, so a second turn would have the same step; write `(\"a\", i)` [idem::step_in_loop]"
            ],
            "{body}"
        );
    }
}

/// What `macro_rules!` puts in the place of its parameters stands in invisible groups.
#[test]
fn steps_are_seen_through_invisible_groups() {
    let hidden = |tokens: TokenStream| TokenTree::from(Group::new(Delimiter::None, tokens));
    let (run, name) = (hidden(quote!(run)), hidden(quote!("a")));
    let twice = hidden(quote!({ #run.step(#name, f); #run.step((#name, #name), f); #run.step(#name, f) }));
    assert_eq!(errors_of_steps(quote!(#twice)).len(), 1);
    let repeated = hidden(quote!({ #run.step(#name, f) }));
    assert_eq!(errors_of_steps(quote!(for x in y #repeated)).len(), 1);
}

#[test]
fn the_name_of_a_step_is_a_plain_word() {
    assert_eq!(errors_of_steps(quote!(run.step("", f))).len(), 1);
    assert_eq!(errors_of_steps(quote!(run.step("two words", f))).len(), 1);
    assert_eq!(errors_of_steps(quote!(run.step(("ä", i), f))).len(), 1);
    let (longest, too_long) = ("x".repeat(100), "x".repeat(101));
    assert_eq!(errors_of_steps(quote!(run.step(#longest, f))).len(), 0);
    assert_eq!(errors_of_steps(quote!(run.step(#too_long, f))).len(), 1);
}

#[test]
fn a_run_without_a_name_has_no_steps() {
    let expansion = expand(
        quote!(key = id, in_doubt = rerun),
        quote!(
            async fn ship(_: &mut Run<'_, Db>, id: i64) -> Result<(), E> {
                run.step("a", f);
                run.step("a", f)
            }
        ),
    );
    assert!(!expansion.contains("compile_error"), "{expansion}");
}

#[test]
fn every_code_has_a_name_and_texts_of_its_own() {
    let mut seen = std::collections::HashSet::new();
    for code in Code::ALL {
        let slug = code.slug();
        assert!(seen.insert(slug), "{slug} is there twice");
        let snake =
            slug.split('_').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()));
        assert!(snake, "{slug} is not in snake_case");
        for text in [code.meaning(), code.remedy()] {
            assert!(text.ends_with('.') && !text.contains("  "), "{slug}: {text}");
        }
    }
}
