use std::sync::Arc;

use tokio::sync::watch;

/// How a lower floor tells the upper ones that something moved: calls go down, published values go up.
pub struct Published<T>(watch::Receiver<Arc<T>>);

pub struct Publisher<T>(watch::Sender<Arc<T>>);

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Publisher<T> {
    pub fn new(first: T) -> (Self, Published<T>) {
        let (tx, rx) = watch::channel(Arc::new(first));
        (Self(tx), Published(rx))
    }

    pub fn publish(&self, value: T) {
        self.0.send_replace(Arc::new(value));
    }
}

impl<T> Published<T> {
    /// The newest value: one read lock and one count.
    pub fn load(&self) -> Arc<T> {
        self.0.borrow().clone()
    }

    /// Waits until `ready` holds; `None` when the publisher is gone. Cancel safe.
    pub async fn wait_until(&mut self, mut ready: impl FnMut(&T) -> bool) -> Option<Arc<T>> {
        self.0.wait_for(|value| ready(value)).await.ok().map(|value| value.clone())
    }

    /// Waits for a value that this handle has not seen; `None` when the publisher is gone. Cancel safe.
    pub async fn changed(&mut self) -> Option<Arc<T>> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
