//! What a run, a push and their like are until they are awaited.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a run, or a push, answers, once this is awaited.
///
/// Nothing is done before. What dropping it leaves is said where it comes from, as at [`Idem::run`](crate::Idem::run).
// The future of an `async fn` repeats the bounds of its function, and rustc tells of one that does not hold at the
// argument, at the call and at the `.await`. This type has none (decision 0021).
#[must_use = "nothing is done unless this is awaited"]
pub struct Answer<'a, T>(Pin<Box<dyn Future<Output = T> + Send + 'a>>);

impl<'a, T> Answer<'a, T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Answer(Box::pin(future))
    }
}

impl<T> Future for Answer<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
