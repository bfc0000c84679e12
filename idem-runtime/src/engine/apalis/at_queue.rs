//! A worker comes to the queue of its job, or ends.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::worker::context::WorkerContext;

use crate::error::StoreError;

/// The storage of a [`Handler`](super::Handler)'s worker. It makes sure that the worker has come to the queue of the job: at any
/// other it would wait for ever, without a word.
// Not a matter of the service, whose errors apalis tells nobody but its event handlers.
pub struct AtQueue<B> {
    backend: B,
    look: Arc<Look>,
    state: Looked,
}

/// Looks for which queue a worker is registered; an error if it is not the job's.
pub(super) type Look = dyn Fn(String) -> Looking + Send + Sync;

pub(super) type Looking = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

enum Looked {
    NotYet,
    Looking(Looking),
    Yes,
}

impl<B> AtQueue<B> {
    pub(super) fn new(backend: B, look: Arc<Look>) -> Self {
        AtQueue { backend, look, state: Looked::NotYet }
    }
}

impl<B: fmt::Debug> fmt::Debug for AtQueue<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtQueue").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl<B: Backend> Backend for AtQueue<B> {
    type Task = B::Task;
    type Error = AtQueueError<B::Error>;

    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Self::Error>> {
        // Whatever registers workers has registered this one once it is ready.
        ready!(self.backend.poll_ready(context, worker)).map_err(AtQueueError::Storage)?;
        loop {
            match &mut self.state {
                Looked::NotYet => self.state = Looked::Looking((self.look)(worker.name().to_owned())),
                Looked::Looking(looking) => {
                    let looked = ready!(looking.as_mut().poll(context));
                    self.state = Looked::Yes;
                    looked.map_err(AtQueueError::Queue)?;
                }
                Looked::Yes => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<B::Task, Self::Error>>> {
        self.backend.poll_next(context, worker).map_err(AtQueueError::Storage)
    }

    fn poll_close(
        &mut self,
        context: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Self::Error>> {
        self.backend.poll_close(context, worker).map_err(AtQueueError::Storage)
    }
}

impl<B: BackendConfig> BackendConfig for AtQueue<B> {
    type Args = B::Args;
    type Id = B::Id;
    type Kind = B::Kind;
    type Config = B::Config;
    type Layer = B::Layer;

    fn config(&self) -> &B::Config {
        self.backend.config()
    }

    fn middleware(&mut self, worker: &mut WorkerContext) -> B::Layer {
        self.backend.middleware(worker)
    }
}

/// What ends a worker.
#[derive(Debug)]
pub enum AtQueueError<E> {
    /// It waits at another queue than that of its handler's job.
    Queue(StoreError),
    /// Its storage has failed.
    Storage(E),
}

impl<E: fmt::Display> fmt::Display for AtQueueError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtQueueError::Queue(error) => error.fmt(f),
            AtQueueError::Storage(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for AtQueueError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AtQueueError::Queue(error) => error.source(),
            AtQueueError::Storage(error) => error.source(),
        }
    }
}
