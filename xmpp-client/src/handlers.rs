//! Who answers the requests of others: handlers by namespace (RFC 6120 section 8.2.3).
//!
//! A request goes to the handler of its payload's namespace; what nobody handles the listener
//! answers itself. Requests to one handler are worked off one after the other, in a task that lives
//! only while there are any. No lock is held while a handler runs.

use crate::event::Event;
use crate::listener::Shared;
use crate::outbox::Wants;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use tracing::warn;
use xmpp_stream::error::{StanzaCondition, StanzaError};
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// What a request is answered with: a payload, none, or an error.
pub type IqAnswer = Result<Option<Element>, StanzaError>;

type Answering = Pin<Box<dyn Future<Output = IqAnswer> + Send>>;
pub(crate) type IqCallback = Box<dyn FnMut(Stanza) -> Answering + Send>;

/// Makes a callback of a plain or capturing async function.
pub(crate) fn boxed<H, F>(mut handler: H) -> IqCallback
where
    H: FnMut(Stanza) -> F + Send + 'static,
    F: Future<Output = IqAnswer> + Send + 'static,
{
    Box::new(move |request| Box::pin(handler(request)))
}

/// All handlers of a client.
#[derive(Default)]
pub(crate) struct Handlers {
    list: Mutex<Vec<Arc<Handler>>>,
}

struct Handler {
    namespace: Box<str>,
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<Stanza>,
    /// Away while it runs.
    callback: Option<IqCallback>,
    removed: bool,
}

impl Handler {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Handled {
    /// Somebody answers it.
    Yes,
    /// Nobody does.
    No,
    /// Too many wait already.
    TooMany,
}

impl Handlers {
    /// Registers a handler; one for the same namespace is replaced.
    pub(crate) fn add(&self, namespace: &str, callback: IqCallback) -> IqHandler {
        let handler = Arc::new(Handler {
            namespace: namespace.into(),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                callback: Some(callback),
                removed: false,
            }),
        });
        let replaced = {
            let mut list = self.lock();
            let is_other = |other: &mut Arc<Handler>| *other.namespace == *namespace;
            let replaced: Vec<_> = list.extract_if(.., is_other).collect();
            list.push(Arc::clone(&handler));
            replaced
        };
        // What a callback holds may do anything when it is dropped: no lock is held then.
        drop(replaced);
        IqHandler {
            handler: Arc::downgrade(&handler),
        }
    }

    /// Gives a request to its handler.
    pub(crate) fn handle(&self, shared: &Arc<Shared>, request: &Stanza) -> Handled {
        let Some(handler) = self.find(request) else {
            return Handled::No;
        };
        let mut state = handler.lock();
        if state.waiting.len() >= shared.limits.handler_queue_max {
            return Handled::TooMany;
        }
        state.waiting.push_back(request.clone());
        if let Some(callback) = state.callback.take() {
            drop(state);
            tokio::spawn(work(handler, callback, Arc::downgrade(shared)));
        }
        Handled::Yes
    }

    fn find(&self, request: &Stanza) -> Option<Arc<Handler>> {
        let kid = request.kids.first()?;
        let mut list = self.lock();
        let removed: Vec<_> = list
            .extract_if(.., |handler| handler.lock().removed)
            .collect();
        let mut handlers = list.iter();
        let found = match kid.ns.as_str() {
            _ if list.is_empty() => None,
            Some(ns) => handlers.find(|handler| *handler.namespace == *ns),
            None => {
                let (ns, _) = request.kid_name(kid);
                handlers.find(|handler| *handler.namespace == *ns)
            }
        };
        let found = found.map(Arc::clone);
        drop(list);
        drop(removed);
        found
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Handler>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers what waits, in order. A handler that panics owes an answer all the same, and goes on.
async fn work(handler: Arc<Handler>, mut callback: IqCallback, shared: Weak<Shared>) {
    loop {
        let request = {
            let mut state = handler.lock();
            match state.waiting.pop_front() {
                Some(request) => request,
                None => {
                    state.waiting.shrink_to_fit();
                    state.callback = Some(callback);
                    return;
                }
            }
        };
        let answer = answer(&mut callback, request.clone()).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let answer = answer.unwrap_or_else(|Panicked| {
            warn!("a handler of requests has panicked");
            shared.push(Event::CallbackPanicked);
            Err(StanzaCondition::InternalServerError.into())
        });
        let answer = match answer {
            Ok(payload) => Some(request.result(payload.as_ref())),
            Err(error) => request.error_reply(&error),
        };
        if let Some(answer) = answer {
            let answer = unaddressed(answer);
            let limits = &shared.limits;
            let _ = shared.outbox.push(answer, Wants::Written, limits).await;
        }
    }
}

struct Panicked;

async fn answer(callback: &mut IqCallback, request: Stanza) -> Result<IqAnswer, Panicked> {
    let caught = catch_unwind(AssertUnwindSafe(|| callback(request)));
    let mut answering = caught.map_err(|_| Panicked)?;
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

/// Our address is the server's to write: what the request named may be one that we no longer have.
pub(crate) fn unaddressed(mut answer: Stanza) -> Stanza {
    answer.head.from = None;
    answer
}

/// True for what has to be answered.
pub(crate) fn is_request(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Iq && matches!(stanza.head.ty, Ty::Get | Ty::Set)
}

/// Why a request is refused before anybody is asked: it has an id and one payload (RFC 6120 section
/// 8.2.3).
pub(crate) fn fault(request: &Stanza) -> Option<StanzaCondition> {
    let is_whole = request.head.id.is_some() && request.kids.len() == 1;
    (!is_whole).then_some(StanzaCondition::BadRequest)
}

/// A registered handler. Dropping this value changes nothing; `remove` ends the calls.
pub struct IqHandler {
    handler: Weak<Handler>,
}

impl IqHandler {
    /// No more requests go to it, but those that wait do.
    pub fn remove(self) {
        if let Some(handler) = self.handler.upgrade() {
            handler.lock().removed = true;
        }
    }
}

impl fmt::Debug for IqHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IqHandler").finish_non_exhaustive()
    }
}
