//! A bounded queue of bytes with one worker behind it that runs in the blocking pool while there is something to do.
//! A partial has two over the same bytes, one that writes and one that hashes, so that neither waits for the other and
//! both wait for the disk rather than the client for either.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use flotilla_runtime::Host;
use tokio::sync::Notify;

use super::StorageError;

/// The lanes of a partial hold the same bytes, so this bounds its writer: 64 MiB for 32 fills at once. Half of it lets
/// the writer sleep while a piece's worth is hashed.
const QUEUE_BYTES: usize = 2 << 20;
/// A tiny slice may hold a large buffer of the connection it came from.
const QUEUE_PARTS: usize = 256;
/// Longer input is cut: one part may exceed an empty queue's bound.
pub(super) const PART_BYTES: usize = 256 << 10;

pub(super) trait Work: Send + 'static {
    /// # Errors
    /// The lane then takes nothing more.
    fn take(&mut self, bytes: &Bytes) -> Result<(), StorageError>;
}

pub(super) struct Lane<W> {
    shared: Arc<Shared<W>>,
    host: Host,
}

struct Shared<W> {
    state: Mutex<State<W>>,
    /// The writer waits alone: a stored permit is never lost.
    moved: Notify,
    lost: StorageError,
}

/// Fails the lane when it is dropped by a panic: the writer must not wait for a worker that is no more.
struct Alarm<W>(Arc<Shared<W>>);

impl<W> Drop for Alarm<W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().failed = Some(self.0.lost.clone());
            self.0.moved.notify_one();
        }
    }
}

struct State<W> {
    queue: VecDeque<Bytes>,
    /// Queued, and in work.
    bytes: usize,
    /// `None` while it runs.
    worker: Option<W>,
    failed: Option<StorageError>,
    /// The writer is gone: what is queued will not be wanted.
    closed: bool,
}

impl<W> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Work> Lane<W> {
    /// `lost` is what the lane fails with when its worker panics.
    pub(super) fn new(host: Host, worker: W, lost: StorageError) -> Self {
        let state = State { queue: VecDeque::new(), bytes: 0, worker: Some(worker), failed: None, closed: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), moved: Notify::new(), lost }), host }
    }

    /// Waits until a part fits. Cancel safe.
    ///
    /// # Errors
    /// What the worker failed with.
    pub(super) async fn room(&self) -> Result<(), StorageError> {
        loop {
            {
                let state = self.shared.lock();
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                let fits = state.bytes + PART_BYTES <= QUEUE_BYTES && state.queue.len() < QUEUE_PARTS;
                if fits || state.bytes == 0 {
                    return Ok(());
                }
            }
            self.shared.moved.notified().await;
        }
    }

    /// After [`Lane::room`], with at most `PART_BYTES`.
    pub(super) fn push(&self, part: Bytes) {
        let worker = {
            let mut state = self.shared.lock();
            state.bytes += part.len();
            state.queue.push_back(part);
            state.worker.take()
        };
        let Some(mut worker) = worker else { return };
        let (shared, blocking) = (self.shared.clone(), self.host.blocking);
        self.host.tasks.spawn("blob lane", async move {
            let work = move || {
                let alarm = Alarm(shared.clone());
                if drain(&alarm.0, &mut worker) {
                    shared.home(worker);
                }
            };
            blocking.run(work).await;
        });
    }

    /// Waits until all is done, and takes the worker out.
    ///
    /// # Errors
    /// What the worker failed with.
    pub(super) async fn finish(&self) -> Result<W, StorageError> {
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                if state.queue.is_empty()
                    && let Some(worker) = state.worker.take()
                {
                    return Ok(worker);
                }
            }
            self.shared.moved.notified().await;
        }
    }

    /// Drops what is queued; a worker that runs stops after the part it has.
    pub(super) fn close(&self) {
        let idle = {
            let mut state = self.shared.lock();
            state.closed = true;
            state.queue.clear();
            state.worker.take()
        };
        // Outside the lock: what the worker holds may do more than free memory.
        drop(idle);
    }
}

impl<W: Work> Shared<W> {
    /// The worker rests here until there is more; more may have come since it looked.
    fn home(&self, worker: W) {
        let mut worker = Some(worker);
        loop {
            {
                let mut state = self.lock();
                if state.closed {
                    break;
                }
                if state.queue.is_empty() {
                    state.worker = worker.take();
                    break;
                }
            }
            let Some(again) = worker.as_mut() else { break };
            if !drain(self, again) {
                break;
            }
        }
        self.moved.notify_one();
    }
}

/// Works the queue off; `false` when it failed.
fn drain<W: Work>(shared: &Shared<W>, worker: &mut W) -> bool {
    loop {
        // Its own statement: the lock is not held while the worker works.
        let part = shared.lock().queue.pop_front();
        let Some(part) = part else { return true };
        let outcome = worker.take(&part);
        let mut state = shared.lock();
        state.bytes -= part.len().min(state.bytes);
        // Not for each part: a change of threads costs as much as hashing some kilobytes.
        let wake = state.bytes <= QUEUE_BYTES / 2;
        if let Err(error) = outcome {
            state.queue.clear();
            state.failed = Some(error);
        }
        let failed = state.failed.is_some();
        drop(state);
        if wake || failed {
            shared.moved.notify_one();
        }
        if failed {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Gated(mpsc::Receiver<()>, Vec<u8>);

    impl Work for Gated {
        fn take(&mut self, bytes: &Bytes) -> Result<(), StorageError> {
            self.0.recv().unwrap();
            self.1.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn lost() -> StorageError {
        StorageError::Abandoned { digest: flotilla_oci::Digest::Sha256([0; 32]) }
    }

    #[tokio::test]
    async fn a_worker_that_panics_fails_the_lane() {
        let (gate, gated) = mpsc::channel();
        let lane = Lane::new(Host::system(), Gated(gated, Vec::new()), lost());
        drop(gate);
        lane.push(Bytes::from("x"));
        assert!(lane.finish().await.is_err());
        assert!(lane.room().await.is_err());
    }

    #[tokio::test]
    async fn what_a_writer_has_in_flight_is_bounded_and_order_is_kept() {
        let (gate, gated) = mpsc::channel();
        let lane = Lane::new(Host::system(), Gated(gated, Vec::new()), lost());
        let mut sent = 0u8;
        while tokio::select! { biased; room = lane.room() => room.is_ok(), () = std::future::ready(()) => false } {
            lane.push(Bytes::from(vec![sent; PART_BYTES]));
            sent += 1;
        }
        assert_eq!(usize::from(sent) * PART_BYTES, QUEUE_BYTES, "the queue is full while the worker stands still");
        for _ in 0..sent {
            gate.send(()).unwrap();
        }
        let worker = lane.finish().await.unwrap();
        assert!(worker.1.is_sorted() && worker.1.len() == QUEUE_BYTES);
    }
}
