//! The way from a connection to the task that owns all state, and back.

use super::Caller;
use facron_proto::method::{
    Add, Explain, GetStatus, List, Method, Pause, Reload, Remove, Resume, Show, Tail, Version,
};
use facron_proto::rpc::{Code, Error};
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for the engine; more wait in their connections.
const QUEUE: usize = 64;

/// A method that is answered at once. The reply is sent when `serve` returns, so all
/// that it says must be true by then.
pub trait Serve<M: Method> {
    fn serve(&mut self, params: M::Params, caller: &Caller) -> Result<M::Reply, Error>;
}

/// A method that may be answered later: the engine keeps the reply handle until the effect
/// is real, and does other work meanwhile. Each [`Serve`] is also one of these.
pub trait ServeLater<M: Method> {
    /// Begins to carry out the request; `reply` takes the result, now or later.
    fn serve_later(&mut self, params: M::Params, caller: &Caller, reply: ReplyHandle<M>);
}

impl<M: Method, E: Serve<M>> ServeLater<M> for E {
    fn serve_later(&mut self, params: M::Params, caller: &Caller, reply: ReplyHandle<M>) {
        reply.send(self.serve(params, caller));
    }
}

/// The way back to the client of one request. Where it is dropped without a reply, the
/// client reads that the daemon is stopping.
#[derive(Debug)]
pub struct ReplyHandle<M: Method>(oneshot::Sender<Result<M::Reply, Error>>);

impl<M: Method> ReplyHandle<M> {
    /// Sends the reply. A client that has gone away does not miss it.
    pub fn send(self, result: Result<M::Reply, Error>) {
        let _ = self.0.send(result);
    }
}

macro_rules! api {
    ($first:ident $($method:ident)*) => {
        /// An engine that answers all methods.
        pub trait Api: ServeLater<$first> $(+ ServeLater<$method>)* + 'static {}
        impl<E: ServeLater<$first> $(+ ServeLater<$method>)* + 'static> Api for E {}
    };
}

api!(Version List Show Add Remove Pause Resume Reload Tail GetStatus Explain);

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
        E: ServeLater<M>,
        M::Params: Send + 'static,
        M::Reply: Send + 'static,
    {
        let (reply, replied) = oneshot::channel();
        let call = Box::new(move |engine: &mut E| {
            ServeLater::<M>::serve_later(engine, params, &caller, ReplyHandle(reply));
        });
        let stopping = || Error::new(Code::FAILED, "the daemon is stopping");
        self.calls.send(call).await.map_err(|_| stopping())?;
        replied.await.map_err(|_| stopping())?
    }
}
