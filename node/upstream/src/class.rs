use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// For whom an upstream is asked: what is scarce there is shared between them. In the order of what each may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// A miss of a caller without credentials: at most half of an upstream's places.
    Anonymous,
    /// A tag that is held, whoever pulls it: at most half of the places, and never those that are kept from anonymous
    /// callers.
    Revalidation,
    /// A miss of a caller who signed in, and the node's own work.
    #[default]
    Authenticated,
}

/// The class of a piece of work that others may join while it waits: it rises to that of the best of them, so that who
/// joins never waits where he would not have waited alone.
#[derive(Clone, Debug)]
pub struct Turn(watch::Receiver<Class>);

impl Turn {
    /// Follows `class`, until its sender is gone.
    pub fn rising(class: &watch::Sender<Class>) -> Self {
        Self(class.subscribe())
    }

    pub fn class(&self) -> Class {
        *self.0.borrow()
    }

    /// The class now; [`Turn::rises`] then waits for another one.
    pub(crate) fn seen(&mut self) -> Class {
        *self.0.borrow_and_update()
    }

    /// Never, when nobody can raise it any more. Cancel safe.
    pub(crate) async fn rises(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl From<Class> for Turn {
    fn from(class: Class) -> Self {
        Self(watch::channel(class).1)
    }
}
