use std::{
    error::Error,
    fmt::Write,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;

use crate::Health;

/// Why this node takes no further part: the first reason stays. openraft stops on any error of its storage and keeps only
/// text of it; this keeps the words for the operator.
#[derive(Clone, Default)]
pub(crate) struct Halt(Arc<Inner>);

#[derive(Default)]
struct Inner {
    reason: OnceLock<String>,
    is_set: watch::Sender<bool>,
}

impl Halt {
    pub(crate) fn set(&self, error: &dyn Error) {
        let reason = chain(error);
        if self.0.reason.set(reason.clone()).is_ok() {
            self.0.is_set.send_replace(true);
            tracing::error!(reason, "consensus has stopped on this node");
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.0.reason.get().map_or(Health::Healthy, |reason| Health::Stopped(reason.clone()))
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.0.reason.get().map(String::as_str)
    }

    /// Until there is a reason. Cancel safe.
    pub(crate) async fn wait(&self) {
        // The sender lives as long as this.
        let _ = self.0.is_set.subscribe().wait_for(|is_set| *is_set).await;
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        // A write to a String cannot fail.
        let _ = write!(text, ": {source}");
        next = source.source();
    }
    text
}
