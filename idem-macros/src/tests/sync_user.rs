/// Copies a user to the mail provider.
#[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
pub fn sync_user<__Db, __State>(
    idem: &::idem_runtime::Idem<__Db, __State>,
    user_id: i64,
) -> ::idem_runtime::Answer<
    '_,
    ::core::result::Result<::idem_runtime::Done<()>, ::idem_runtime::Error<SyncError>>,
>
where
    __Db: ::idem_runtime::store::Database,
    __State: ::idem_runtime::Provides<Mailer> + ::core::marker::Sync + 'static,
{
    idem.run(SyncUser { user_id })
}
/// The job [`sync_user`] as a value.
#[allow(dead_code, clippy::pub_underscore_fields)]
pub struct SyncUser {
    /// The argument `user_id`.
    pub user_id: i64,
}
const _: () = {
    enum __Body {}
    impl __Body {
        async fn sync_user(user_id: i64, mailer: &Mailer) -> Result<(), SyncError> {
            mailer.put(user_id).await
        }
    }
    use ::idem_runtime::__private::serde as __serde;
    #[derive(__serde::Serialize, __serde::Deserialize)]
    #[serde(crate = "__serde", rename = "SyncUser")]
    struct __Fields<__T0> {
        user_id: __T0,
    }
    impl __serde::Serialize for SyncUser {
        fn serialize<__S: __serde::Serializer>(
            &self,
            serializer: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            let Self { user_id } = self;
            __serde::Serialize::serialize(
                &__Fields {
                    user_id: <i64 as ::idem_runtime::job::JobArg<_>>::give(user_id),
                },
                serializer,
            )
        }
    }
    impl<'__de> __serde::Deserialize<'__de> for SyncUser {
        fn deserialize<__D: __serde::Deserializer<'__de>>(
            deserializer: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            let __Fields { user_id } = __serde::Deserialize::deserialize(deserializer)?;
            ::core::result::Result::Ok(Self {
                user_id: <i64 as ::idem_runtime::job::JobArg<_>>::take(user_id),
            })
        }
    }
    impl ::idem_runtime::Job for SyncUser {
        type Kind = ::idem_runtime::job::Leased;
        type Output = ();
        type Error = SyncError;
        const SPEC: ::idem_runtime::job::JobSpec = ::idem_runtime::job::JobSpec::leased(
                "sync_user",
            )
            .lock(
                ::idem_runtime::job::Lock::Lease(
                    ::core::time::Duration::from_millis(30000u64),
                ),
            )
            .in_doubt(::idem_runtime::job::InDoubt::Probe)
            .on_busy(
                ::idem_runtime::job::OnBusy::Wait(
                    ::core::time::Duration::from_millis(10000u64),
                ),
            )
            .retain(::idem_runtime::job::Retain::None);
        fn key(
            &self,
        ) -> ::core::result::Result<
            ::idem_runtime::key::KeyParts,
            ::idem_runtime::key::EmptyKey,
        > {
            #[allow(unused_variables)]
            let Self { user_id, .. } = self;
            ::idem_runtime::key::KeyParts::of(&::idem_runtime::key::part(&&user_id))
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
                        "user_id",
                        <i64 as ::idem_runtime::job::JobArg<_>>::give(&self.user_id),
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
    impl<__Db, __State> ::idem_runtime::LeasedJob<__Db, __State> for SyncUser
    where
        __Db: ::idem_runtime::store::Database,
        __State: ::idem_runtime::Provides<Mailer> + ::core::marker::Sync + 'static,
    {
        async fn check(
            &self,
            state: &__State,
        ) -> ::core::result::Result<::core::option::Option<()>, SyncError> {
            is_current(self, ::idem_runtime::Provides::<Mailer>::provide(state)).await
        }
        async fn probe(
            &self,
            state: &__State,
        ) -> ::core::result::Result<::core::option::Option<()>, SyncError> {
            find_user(self, ::idem_runtime::Provides::<Mailer>::provide(state)).await
        }
        async fn body(
            self,
            _: &mut ::idem_runtime::Run<'_, __Db>,
            state: &__State,
        ) -> ::core::result::Result<
            ::idem_runtime::job::Settled<()>,
            ::idem_runtime::Error<SyncError>,
        > {
            let Self { user_id } = self;
            match __Body::sync_user(
                    user_id,
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
};
