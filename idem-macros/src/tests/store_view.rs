/// Stores what a user has looked at last.
#[allow(dead_code, clippy::too_many_arguments, clippy::type_complexity)]
pub fn store_view<__State>(
    idem: &::idem_runtime::Idem<Postgres, __State>,
    user_id: i64,
    revision: u32,
) -> ::idem_runtime::Answer<
    '_,
    ::core::result::Result<::idem_runtime::Done<()>, ::idem_runtime::Error<sqlx::Error>>,
>
where
    __State: ::core::marker::Sync + 'static,
{
    idem.run(StoreView { user_id, revision })
}
/// The job [`store_view`] as a value.
#[allow(dead_code, clippy::pub_underscore_fields)]
pub struct StoreView {
    /// The argument `user_id`.
    pub user_id: i64,
    /// The argument `revision`.
    pub revision: u32,
}
const _: () = {
    enum __Body {}
    impl __Body {
        async fn store_view(
            tx: &mut Tx<'_, Postgres>,
            user_id: i64,
            revision: u32,
        ) -> Result<(), sqlx::Error> {
            update(tx, user_id, revision).await
        }
    }
    use ::idem_runtime::__private::serde as __serde;
    #[derive(__serde::Serialize, __serde::Deserialize)]
    #[serde(crate = "__serde", rename = "StoreView")]
    struct __Fields<__T0, __T1> {
        user_id: __T0,
        revision: __T1,
    }
    impl __serde::Serialize for StoreView {
        fn serialize<__S: __serde::Serializer>(
            &self,
            serializer: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            let Self { user_id, revision } = self;
            __serde::Serialize::serialize(
                &__Fields {
                    user_id: <i64 as ::idem_runtime::job::JobArg<_>>::give(user_id),
                    revision: <u32 as ::idem_runtime::job::JobArg<_>>::give(revision),
                },
                serializer,
            )
        }
    }
    impl<'__de> __serde::Deserialize<'__de> for StoreView {
        fn deserialize<__D: __serde::Deserializer<'__de>>(
            deserializer: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            let __Fields { user_id, revision } = __serde::Deserialize::deserialize(
                deserializer,
            )?;
            ::core::result::Result::Ok(Self {
                user_id: <i64 as ::idem_runtime::job::JobArg<_>>::take(user_id),
                revision: <u32 as ::idem_runtime::job::JobArg<_>>::take(revision),
            })
        }
    }
    impl ::idem_runtime::Job for StoreView {
        type Kind = ::idem_runtime::job::Atomic;
        type Output = ();
        type Error = sqlx::Error;
        const SPEC: ::idem_runtime::job::JobSpec = ::idem_runtime::job::JobSpec::new(
                "store_view",
            )
            .lock(::idem_runtime::job::Lock::Row)
            .on_busy(
                ::idem_runtime::job::OnBusy::Reschedule(
                    ::core::time::Duration::from_millis(5000u64),
                ),
            )
            .retain(
                ::idem_runtime::job::Retain::For(
                    ::core::time::Duration::from_millis(604800000u64),
                ),
            )
            .unique(::idem_runtime::job::Unique::UntilAndWhileExecuting)
            .on_duplicate(
                ::idem_runtime::job::OnDuplicate::Reschedule(
                    ::core::time::Duration::from_millis(5000u64),
                ),
            );
        fn key(
            &self,
        ) -> ::core::result::Result<
            ::idem_runtime::key::KeyParts,
            ::idem_runtime::key::EmptyKey,
        > {
            #[allow(unused_variables)]
            let Self { user_id, revision, .. } = self;
            ::idem_runtime::key::KeyParts::of(
                &(
                    ::idem_runtime::key::part(&&user_id),
                    ::idem_runtime::key::part(&&revision),
                ),
            )
        }
        fn queue_key(
            &self,
        ) -> ::core::result::Result<
            ::idem_runtime::key::KeyParts,
            ::idem_runtime::key::EmptyKey,
        > {
            #[allow(unused_variables)]
            let Self { user_id, .. } = self;
            ::idem_runtime::key::KeyParts::of(&::idem_runtime::key::part(&&user_id))
        }
        fn run_key(
            &self,
        ) -> ::core::result::Result<
            ::core::option::Option<::idem_runtime::key::KeyParts>,
            ::idem_runtime::key::EmptyKey,
        > {
            ::core::result::Result::Ok(::idem_runtime::key::KeyParts::global())
                .map(::core::option::Option::Some)
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
                    .arg(
                        "revision",
                        <u32 as ::idem_runtime::job::JobArg<_>>::give(&self.revision),
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
    impl<__State> ::idem_runtime::AtomicJob<__State> for StoreView
    where
        __State: ::core::marker::Sync + 'static,
    {
        type Db = Postgres;
        async fn body(
            self,
            tx: &mut Tx<'_, Postgres>,
            state: &__State,
        ) -> ::core::result::Result<
            ::idem_runtime::job::Settled<()>,
            ::idem_runtime::Error<sqlx::Error>,
        > {
            let Self { user_id, revision } = self;
            match __Body::store_view(tx, user_id, revision).await {
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
