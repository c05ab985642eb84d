//! An upstream registry that does what a test tells it: serve, forget, refuse, slow down, lie, break off, vanish and come
//! back on the same port. It counts every request and every body byte it sent.
//!
//! It speaks HTTP/1.1 from the socket up, since most of what it must do (a wrong `Content-Length`, a body that ends in a
//! RST) is what an HTTP library exists to prevent. It runs on threads of its own, so that a test may block.
//!
//! Invariant: a [`Request`] is recorded before its answer's first byte is written, and its bytes as they are written. A
//! test that has seen an answer sees its record.

mod answer;
mod auth;
mod fault;
mod record;
mod serve;
mod store;
mod wire;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use auth::Auth;
pub use fault::{Cut, Fault, On, Times};
pub use record::Request;
use tokio::runtime::Runtime;

use crate::{Content, Image};

/// A running upstream; dropping it closes its port and its connections.
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// `None` while it is off.
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Shared {
    store: Mutex<store::Store>,
    faults: Mutex<fault::Script>,
    auth: Mutex<auth::Gate>,
    record: Mutex<record::Record>,
}

impl Upstream {
    /// An empty registry on a free port of 127.0.0.1 that asks nobody who they are.
    pub fn start() -> Self {
        Self::with_auth(Auth::None)
    }

    pub fn with_auth(auth: Auth) -> Self {
        let shared = Arc::new(Shared::default());
        lock(&shared.auth).set(auth);
        let mut upstream = Self { shared, address: SocketAddr::from(([127, 0, 0, 1], 0)), runtime: None };
        upstream.listen();
        upstream
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Holds `image` with all it names in `repository`, and points `tag` at it.
    pub fn put(&self, repository: &str, tag: &str, image: &Image) {
        let mut store = lock(&self.shared.store);
        store.put_image(repository, image);
        store.tag(repository, tag, image.digest());
    }

    /// Holds `image` in `repository` under its digest only.
    pub fn put_untagged(&self, repository: &str, image: &Image) {
        lock(&self.shared.store).put_image(repository, image);
    }

    pub fn put_blob(&self, repository: &str, content: &Content) {
        lock(&self.shared.store).put_blob(repository, content);
    }

    /// Forgets the tag; the manifest stays under its digest.
    pub fn untag(&self, repository: &str, tag: &str) {
        lock(&self.shared.store).untag(repository, tag);
    }

    /// Answers what `on` matches with `fault`, that many times; rules are tried in the order they were added.
    pub fn fault(&self, on: On, times: Times, fault: Fault) {
        lock(&self.shared.faults).add(on, times, fault);
    }

    /// Behaves again.
    pub fn heal(&self) {
        *lock(&self.shared.faults) = fault::Script::default();
    }

    /// Sends blob requests to `other` with 307, as registries with a content network do; it serves them without
    /// credentials from `/cdn/`.
    pub fn redirect_blobs_to(&self, other: &Self) {
        lock(&self.shared.store).redirect_to(other.url(), Arc::clone(&other.shared));
    }

    pub fn set_auth(&self, auth: Auth) {
        lock(&self.shared.auth).set(auth);
    }

    /// Every token given so far is from now on an expired one.
    pub fn expire_tokens(&self) {
        lock(&self.shared.auth).expire();
    }

    /// Stops listening and drops every connection; what is held stays.
    pub fn off(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // The listening socket goes with its task; "off" is when nobody gets in any more.
        crate::wait_for("the port of the upstream to close", std::time::Duration::from_secs(10), || {
            std::net::TcpStream::connect(self.address).is_err()
        });
    }

    /// Listens again on the port it had.
    pub fn on(&mut self) {
        assert!(self.runtime.is_none(), "the upstream is on");
        self.listen();
    }

    /// All requests so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.record).requests()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        lock(&self.shared.record).clear();
    }

    /// How many GETs of the blob arrived, wherever it was served.
    pub fn blob_gets(&self, digest: &str) -> usize {
        self.count("GET", &format!("/blobs/{digest}"))
    }

    /// How many requests of `method` arrived whose path ends with `suffix`.
    pub fn count(&self, method: &str, suffix: &str) -> usize {
        self.requests().iter().filter(|request| request.method == method && request.path.ends_with(suffix)).count()
    }

    /// Body bytes sent for the blob, over all requests.
    pub fn blob_bytes_sent(&self, digest: &str) -> u64 {
        let suffix = format!("/blobs/{digest}");
        self.requests().iter().filter(|request| request.path.ends_with(&suffix)).map(|request| request.sent_bytes).sum()
    }

    fn listen(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("upstream")
            .enable_all()
            .build()
            .expect("a runtime for the upstream");
        let (address, shared) = (self.address, Arc::clone(&self.shared));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("a port for the upstream");
        self.address = listener.local_addr().expect("a bound socket has an address");
        runtime.spawn(serve::accept(listener, shared));
        self.runtime = Some(runtime);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
