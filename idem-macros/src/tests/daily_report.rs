/// Sends the figures of the day before.
#[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
pub fn daily_report<__Db, __State>(
    idem: &::idem_runtime::Idem<__Db, __State>,
    tick: Tick,
) -> ::idem_runtime::Answer<
    '_,
    ::core::result::Result<::idem_runtime::Done<()>, ::idem_runtime::Error<MailError>>,
>
where
    __Db: ::idem_runtime::store::Database,
    __State: ::idem_runtime::Provides<Mailer> + ::core::marker::Sync + 'static,
{
    idem.run(DailyReport { tick })
}
/// The job [`daily_report`] as a value.
#[allow(dead_code, clippy::pub_underscore_fields)]
pub struct DailyReport {
    /// The argument `tick`.
    pub tick: Tick,
}
const _: () = {
    enum __Body {}
    impl __Body {
        async fn daily_report(tick: Tick, mailer: &Mailer) -> Result<(), MailError> {
            mailer.send(figures(tick)).await
        }
    }
    use ::idem_runtime::__private::serde as __serde;
    #[derive(__serde::Serialize, __serde::Deserialize)]
    #[serde(crate = "__serde", rename = "DailyReport")]
    struct __Fields<__T0> {
        tick: __T0,
    }
    impl __serde::Serialize for DailyReport {
        fn serialize<__S: __serde::Serializer>(
            &self,
            serializer: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            let Self { tick } = self;
            __serde::Serialize::serialize(
                &__Fields {
                    tick: <Tick as ::idem_runtime::job::JobArg<_>>::give(tick),
                },
                serializer,
            )
        }
    }
    impl<'__de> __serde::Deserialize<'__de> for DailyReport {
        fn deserialize<__D: __serde::Deserializer<'__de>>(
            deserializer: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            let __Fields { tick } = __serde::Deserialize::deserialize(deserializer)?;
            ::core::result::Result::Ok(Self {
                tick: <Tick as ::idem_runtime::job::JobArg<_>>::take(tick),
            })
        }
    }
    impl ::idem_runtime::Job for DailyReport {
        type Kind = ::idem_runtime::job::Leased;
        type Output = ();
        type Error = MailError;
        const SPEC: ::idem_runtime::job::JobSpec = ::idem_runtime::job::JobSpec::leased(
                "daily_report",
            )
            .lock(
                ::idem_runtime::job::Lock::Lease(
                    ::core::time::Duration::from_millis(30000u64),
                ),
            )
            .in_doubt(::idem_runtime::job::InDoubt::Rerun)
            .on_busy(
                ::idem_runtime::job::OnBusy::Wait(
                    ::core::time::Duration::from_millis(10000u64),
                ),
            )
            .retain(
                ::idem_runtime::job::Retain::For(
                    ::core::time::Duration::from_millis(604800000u64),
                ),
            )
            .schedule(
                ::idem_runtime::job::Schedule::new("0 3 * * *")
                    .time_zone("Europe/Berlin")
                    .missed(::idem_runtime::job::Missed::All),
            );
        fn key(
            &self,
        ) -> ::core::result::Result<
            ::idem_runtime::key::KeyParts,
            ::idem_runtime::key::EmptyKey,
        > {
            #[allow(unused_variables)]
            let Self { tick, .. } = self;
            ::idem_runtime::key::KeyParts::of(&::idem_runtime::key::part(&&tick))
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
                        "tick",
                        <Tick as ::idem_runtime::job::JobArg<_>>::give(&self.tick),
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
    impl<__Db, __State> ::idem_runtime::LeasedJob<__Db, __State> for DailyReport
    where
        __Db: ::idem_runtime::store::Database,
        __State: ::idem_runtime::Provides<Mailer> + ::core::marker::Sync + 'static,
    {
        async fn body(
            self,
            _: &mut ::idem_runtime::Run<'_, __Db>,
            state: &__State,
        ) -> ::core::result::Result<
            ::idem_runtime::job::Settled<()>,
            ::idem_runtime::Error<MailError>,
        > {
            let Self { tick } = self;
            match __Body::daily_report(
                    tick,
                    ::idem_runtime::Provides::<Mailer>::provide(state),
                )
                .await
            {
                ::core::result::Result::Ok(value) => {
                    ::core::result::Result::Ok(
                        ::idem_runtime::job::Settled::Executed(value),
                    )
                }
                ::core::result::Result::Err(error) => {
                    ::core::result::Result::Err(::idem_runtime::Error::Job(error))
                }
            }
        }
    }
    impl ::idem_runtime::schedule::Scheduled for DailyReport {
        fn at(tick: ::idem_runtime::schedule::Tick) -> Self {
            Self {
                tick: <Tick as ::idem_runtime::schedule::FromTick>::from_tick(tick),
            }
        }
    }
};
