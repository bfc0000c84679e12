/// Fulfils an order.
#[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
pub fn fulfil<__State>(
    idem: &::idem_runtime::Idem<Postgres, __State>,
    order_id: i64,
) -> ::idem_runtime::Answer<
    '_,
    ::core::result::Result<
        ::idem_runtime::Done<Receipt>,
        ::idem_runtime::Error<FulfilError>,
    >,
>
where
    __State: ::idem_runtime::Provides<Gateway> + ::core::marker::Sync + 'static,
{
    idem.run(Fulfil { order_id })
}
/// The job [`fulfil`] as a value.
#[allow(dead_code, clippy::pub_underscore_fields)]
pub struct Fulfil {
    /// The argument `order_id`.
    pub order_id: i64,
}
const _: () = {
    enum __Body {}
    impl __Body {
        async fn fulfil(
            run: &mut Run<'_, Postgres>,
            order_id: i64,
            gateway: &Gateway,
        ) -> Result<Receipt, FulfilError> {
            let charge = run
                .step("charge", async |key| gateway.charge(key, order_id).await)
                .await?;
            run.tx_step("order", async |tx| insert_order(tx, order_id, charge).await)
                .await
        }
    }
    use ::idem_runtime::__private::serde as __serde;
    #[derive(__serde::Serialize, __serde::Deserialize)]
    #[serde(crate = "__serde", rename = "Fulfil")]
    struct __Fields<__T0> {
        order_id: __T0,
    }
    impl __serde::Serialize for Fulfil {
        fn serialize<__S: __serde::Serializer>(
            &self,
            serializer: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            let Self { order_id } = self;
            __serde::Serialize::serialize(
                &__Fields {
                    order_id: <i64 as ::idem_runtime::job::JobArg<_>>::give(order_id),
                },
                serializer,
            )
        }
    }
    impl<'__de> __serde::Deserialize<'__de> for Fulfil {
        fn deserialize<__D: __serde::Deserializer<'__de>>(
            deserializer: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            let __Fields { order_id } = __serde::Deserialize::deserialize(deserializer)?;
            ::core::result::Result::Ok(Self {
                order_id: <i64 as ::idem_runtime::job::JobArg<_>>::take(order_id),
            })
        }
    }
    impl ::idem_runtime::Job for Fulfil {
        type Kind = ::idem_runtime::job::Leased;
        type Output = Receipt;
        type Error = FulfilError;
        const SPEC: ::idem_runtime::job::JobSpec = ::idem_runtime::job::JobSpec::leased(
                "fulfil",
            )
            .lock(
                ::idem_runtime::job::Lock::Lease(
                    ::core::time::Duration::from_millis(60000u64),
                ),
            )
            .in_doubt(::idem_runtime::job::InDoubt::Park)
            .steps()
            .drift(::idem_runtime::job::Drift::Resume)
            .on_busy(
                ::idem_runtime::job::OnBusy::Reschedule(
                    ::core::time::Duration::from_millis(5000u64),
                ),
            )
            .retain(
                ::idem_runtime::job::Retain::For(
                    ::core::time::Duration::from_millis(604800000u64),
                ),
            );
        fn key(
            &self,
        ) -> ::core::result::Result<
            ::idem_runtime::key::KeyParts,
            ::idem_runtime::key::EmptyKey,
        > {
            #[allow(unused_variables)]
            let Self { order_id, .. } = self;
            ::idem_runtime::key::KeyParts::of(&::idem_runtime::key::part(&&order_id))
        }
        fn fingerprint(
            &self,
        ) -> ::core::result::Result<
            ::idem_runtime::fingerprint::Fingerprint,
            ::idem_runtime::codec::CodecError,
        > {
            ::core::result::Result::Ok(
                ::idem_runtime::fingerprint::Fingerprint::builder()
                    .arg(
                        "order_id",
                        <i64 as ::idem_runtime::job::JobArg<_>>::give(&self.order_id),
                    )?
                    .finish(),
            )
        }
        fn describe_error(error: &Self::Error) -> ::std::string::String {
            use ::idem_runtime::__private::describe::{
                ViaDebug as _, ViaDisplay as _, ViaName as _,
            };
            (&&&::idem_runtime::__private::describe::Described(error)).idem_text()
        }
    }
    impl<__State> ::idem_runtime::LeasedJob<Postgres, __State> for Fulfil
    where
        __State: ::idem_runtime::Provides<Gateway> + ::core::marker::Sync + 'static,
    {
        async fn body(
            self,
            run: &mut Run<'_, Postgres>,
            state: &__State,
        ) -> ::core::result::Result<
            ::idem_runtime::job::Settled<Receipt>,
            ::idem_runtime::Error<FulfilError>,
        > {
            let Self { order_id } = self;
            match __Body::fulfil(
                    run,
                    order_id,
                    ::idem_runtime::Provides::<Gateway>::provide(state),
                )
                .await
            {
                ::core::result::Result::Ok(value) => {
                    ::core::result::Result::Ok(
                        ::idem_runtime::job::Settled::Executed(value),
                    )
                }
                ::core::result::Result::Err(error) => {
                    match error {
                        FulfilError::Shipped(receipt) => {
                            let adopted = async move {
                                ::core::result::Result::<Receipt, FulfilError>::Ok(receipt)
                            };
                            return ::core::result::Result::Ok(
                                ::idem_runtime::job::Settled::Adopted(
                                    adopted.await.map_err(::idem_runtime::Error::Job)?,
                                ),
                            );
                        }
                        #[allow(unreachable_patterns)]
                        error => {
                            ::core::result::Result::Err(
                                ::idem_runtime::Error::Job(error),
                            )
                        }
                    }
                }
            }
        }
    }
};
