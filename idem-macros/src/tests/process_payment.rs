/// Charges a payment once.
#[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
pub fn process_payment<__State>(
    idem: &::idem_runtime::Idem<Postgres, __State>,
    payment_id: i64,
) -> ::idem_runtime::Answer<
    '_,
    ::core::result::Result<
        ::idem_runtime::Done<Receipt>,
        ::idem_runtime::Error<PaymentError>,
    >,
>
where
    __State: ::idem_runtime::Provides<Gateway> + ::core::marker::Sync + 'static,
{
    idem.run(ProcessPayment { payment_id })
}
/// The job [`process_payment`] as a value.
#[allow(dead_code, clippy::pub_underscore_fields)]
pub struct ProcessPayment {
    /// The argument `payment_id`.
    pub payment_id: i64,
}
const _: () = {
    enum __Body {}
    impl __Body {
        async fn process_payment(
            tx: &mut Tx<'_, Postgres>,
            payment_id: i64,
            gateway: &Gateway,
        ) -> Result<Receipt, PaymentError> {
            effect(tx, payment_id, gateway).await
        }
    }
    use ::idem_runtime::__private::serde as __serde;
    #[derive(__serde::Serialize, __serde::Deserialize)]
    #[serde(crate = "__serde", rename = "ProcessPayment")]
    struct __Fields<__T0> {
        payment_id: __T0,
    }
    impl __serde::Serialize for ProcessPayment {
        fn serialize<__S: __serde::Serializer>(
            &self,
            serializer: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            let Self { payment_id } = self;
            __serde::Serialize::serialize(
                &__Fields {
                    payment_id: <i64 as ::idem_runtime::job::JobArg<_>>::give(payment_id),
                },
                serializer,
            )
        }
    }
    impl<'__de> __serde::Deserialize<'__de> for ProcessPayment {
        fn deserialize<__D: __serde::Deserializer<'__de>>(
            deserializer: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            let __Fields { payment_id } = __serde::Deserialize::deserialize(
                deserializer,
            )?;
            ::core::result::Result::Ok(Self {
                payment_id: <i64 as ::idem_runtime::job::JobArg<_>>::take(payment_id),
            })
        }
    }
    impl ::idem_runtime::Job for ProcessPayment {
        type Kind = ::idem_runtime::job::Atomic;
        type Output = Receipt;
        type Error = PaymentError;
        const SPEC: ::idem_runtime::job::JobSpec = ::idem_runtime::job::JobSpec::new(
                "process_payment",
            )
            .lock(::idem_runtime::job::Lock::BusinessRow {
                table: "payments",
                column: "id",
            })
            .undo()
            .on_busy(
                ::idem_runtime::job::OnBusy::Wait(
                    ::core::time::Duration::from_millis(10000u64),
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
            let Self { payment_id, .. } = self;
            ::idem_runtime::key::KeyParts::of(&::idem_runtime::key::part(&&payment_id))
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
                        "payment_id",
                        <i64 as ::idem_runtime::job::JobArg<_>>::give(&self.payment_id),
                    )?
                    .finish(),
            )
        }
        fn row(&self) -> ::core::option::Option<::idem_runtime::store::RowValue> {
            #[allow(unused_variables)]
            let Self { payment_id, .. } = self;
            ::core::option::Option::Some(
                ::idem_runtime::store::RowKey::row_value(&payment_id),
            )
        }
        fn final_error(
            error: &Self::Error,
        ) -> ::core::option::Option<
            ::core::result::Result<
                ::std::vec::Vec<u8>,
                ::idem_runtime::codec::CodecError,
            >,
        > {
            match error {
                PaymentError::Declined => {
                    ::core::option::Option::Some(
                        <PaymentError as ::idem_runtime::job::FinalError>::encode_error(
                            error,
                        ),
                    )
                }
                #[allow(unreachable_patterns)]
                _ => ::core::option::Option::None,
            }
        }
        fn decode_error(
            bytes: &[u8],
        ) -> ::core::result::Result<Self::Error, ::idem_runtime::codec::CodecError> {
            <PaymentError as ::idem_runtime::job::FinalError>::decode_error(bytes)
        }
        fn describe_error(error: &Self::Error) -> ::std::string::String {
            use ::idem_runtime::__private::describe::{
                ViaDebug as _, ViaDisplay as _, ViaName as _,
            };
            (&&&::idem_runtime::__private::describe::Described(error)).idem_text()
        }
    }
    impl<__State> ::idem_runtime::AtomicJob<__State> for ProcessPayment
    where
        __State: ::idem_runtime::Provides<Gateway> + ::core::marker::Sync + 'static,
    {
        type Db = Postgres;
        async fn check(
            &self,
            tx: &mut Tx<'_, Postgres>,
        ) -> ::core::result::Result<::core::option::Option<Receipt>, PaymentError> {
            already_paid(tx, self).await
        }
        async fn body(
            self,
            tx: &mut Tx<'_, Postgres>,
            state: &__State,
        ) -> ::core::result::Result<
            ::idem_runtime::job::Settled<Receipt>,
            ::idem_runtime::Error<PaymentError>,
        > {
            let Self { payment_id } = self;
            match __Body::process_payment(
                    tx,
                    payment_id,
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
                        PaymentError::DuplicateCharge { id } => {
                            tx.undo().await?;
                            let adopted = async move {
                                ::core::result::Result::<
                                    Receipt,
                                    PaymentError,
                                >::Ok(Receipt { charge_id: id })
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
