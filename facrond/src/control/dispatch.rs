//! From the name of a method to its type.

use super::{Access, Api, Caller, EngineHandle, ServeLater};
use facron_proto::Text;
use facron_proto::method::{
    Add, Empty, Explain, GetStatus, List, Method, Pause, Reload, Remove, Resume, Show, Tail, Unsubscribe,
    Version,
};
use facron_proto::rpc::{Code, Error, Request};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// How much of an unknown method's name is repeated.
const MAX_NAME: usize = 64;

/// Does what a request asks and returns its result.
pub(super) async fn dispatch<E: Api>(
    engine: &EngineHandle<E>,
    request: &Request<'_>,
    caller: &Caller,
) -> Result<Box<RawValue>, Error> {
    match &*request.method {
        Version::NAME => call::<Version, E>(engine, request, caller).await,
        List::NAME => call::<List, E>(engine, request, caller).await,
        Show::NAME => call::<Show, E>(engine, request, caller).await,
        Add::NAME => call::<Add, E>(engine, request, caller).await,
        Remove::NAME => call::<Remove, E>(engine, request, caller).await,
        Pause::NAME => call::<Pause, E>(engine, request, caller).await,
        Resume::NAME => call::<Resume, E>(engine, request, caller).await,
        Reload::NAME => call::<Reload, E>(engine, request, caller).await,
        Tail::NAME => call::<Tail, E>(engine, request, caller).await,
        GetStatus::NAME => call::<GetStatus, E>(engine, request, caller).await,
        Explain::NAME => call::<Explain, E>(engine, request, caller).await,
        Unsubscribe::NAME => unsubscribe(request, caller),
        unknown => {
            let name: String = unknown.chars().take(MAX_NAME).collect();
            let name = Text::from(name).to_string();
            if caller.access == Access::Denied {
                caller.check(&name)?;
            }
            Err(Error::new(Code::METHOD_NOT_FOUND, format!("method not found: {name}")))
        }
    }
}

async fn call<M, E>(
    engine: &EngineHandle<E>,
    request: &Request<'_>,
    caller: &Caller,
) -> Result<Box<RawValue>, Error>
where
    M: Method,
    E: ServeLater<M>,
    M::Params: Send + 'static,
    M::Reply: Send + 'static,
{
    caller.check(M::NAME)?;
    let params = request.params::<M>()?;
    to_result(&engine.call::<M>(params, caller.clone()).await?)
}

/// The connection's own affair; the engine finds its follower closed.
fn unsubscribe(request: &Request<'_>, caller: &Caller) -> Result<Box<RawValue>, Error> {
    caller.check(Unsubscribe::NAME)?;
    caller.unsubscribe(request.params::<Unsubscribe>()?.subscription)?;
    to_result(&Empty {})
}

fn to_result(reply: &impl Serialize) -> Result<Box<RawValue>, Error> {
    to_raw_value(reply).map_err(|error| Error::new(Code::INTERNAL_ERROR, error.to_string()))
}
