//! The way from a connection to the task that owns all state, and back.

use super::Caller;
use facron_proto::method::{
    Add, Explain, GetStatus, List, Method, Pause, Reload, Remove, Resume, Show, Tail, Version,
};
use facron_proto::rpc::{Code, Error};
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for the engine; more wait in their connections.
const QUEUE: usize = 64;

/// What answers a method.
///
/// The reply is sent when this returns, so what it tells must be true by then.
pub trait Serve<M: Method> {
    /// Does what was asked.
    fn serve(&mut self, params: M::Params, caller: &Caller) -> Result<M::Reply, Error>;
}

/// What answers all methods.
pub trait Api:
    Serve<Version>
    + Serve<List>
    + Serve<Show>
    + Serve<Add>
    + Serve<Remove>
    + Serve<Pause>
    + Serve<Resume>
    + Serve<Reload>
    + Serve<Tail>
    + Serve<GetStatus>
    + Serve<Explain>
    + 'static
{
}

impl<E> Api for E where
    E: Serve<Version>
        + Serve<List>
        + Serve<Show>
        + Serve<Add>
        + Serve<Remove>
        + Serve<Pause>
        + Serve<Resume>
        + Serve<Reload>
        + Serve<Tail>
        + Serve<GetStatus>
        + Serve<Explain>
        + 'static
{
}

/// One call, to be applied to the engine by the task that owns it.
pub type Call<E> = Box<dyn FnOnce(&mut E) + Send>;

/// The calls in their order.
pub type Calls<E> = mpsc::Receiver<Call<E>>;

/// A handle on the engine, and the calls that come through it and its clones.
pub fn channel<E>() -> (EngineHandle<E>, Calls<E>) {
    let (calls, received) = mpsc::channel(QUEUE);
    (EngineHandle { calls }, received)
}

/// Reaches the engine from other tasks.
#[derive(Debug)]
pub struct EngineHandle<E> {
    calls: mpsc::Sender<Call<E>>,
}

impl<E> Clone for EngineHandle<E> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

impl<E> EngineHandle<E> {
    /// Calls a method and waits for its reply.
    pub async fn call<M>(&self, params: M::Params, caller: Caller) -> Result<M::Reply, Error>
    where
        M: Method,
        E: Serve<M>,
        M::Params: Send + 'static,
        M::Reply: Send + 'static,
    {
        let (reply, replied) = oneshot::channel();
        let call = Box::new(move |engine: &mut E| {
            // nobody waits for it any more if the connection is gone
            let _ = reply.send(Serve::<M>::serve(engine, params, &caller));
        });
        let stopping = || Error::new(Code::FAILED, "the daemon is stopping");
        self.calls.send(call).await.map_err(|_| stopping())?;
        replied.await.map_err(|_| stopping())?
    }
}
