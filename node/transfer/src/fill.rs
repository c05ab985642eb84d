use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_base::ByteLen;
use flotilla_oci::Digest;
use flotilla_registry::cache_rule::Origin;
use flotilla_runtime::Drain;
use flotilla_upstream::{Class, Download, Turn};
use tokio::sync::watch;

use crate::{TransferError, failures::Failures, metrics::Passing};

/// How long a fill that is followed goes on after the node began to stop: doors drain first, so what is left then is
/// short or hopeless.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// A blob on its way here: what its followers see of it, and what they bring.
///
/// Invariant: once it is closed nobody joins, so that no follower waits for a source that will not be asked.
pub(crate) struct Fill {
    pub digest: Digest,
    /// As a link tells it; `None` until an upstream did.
    pub len: Option<ByteLen>,
    /// Takes bytes of this origin and of nobody else, not even those that an earlier fill left on the disk: it is led
    /// for a repository whose upstream has proven nothing yet and is not believed without its bytes.
    pub only: Option<Origin>,
    /// Of the best of those who want it.
    class: watch::Sender<Class>,
    stage: watch::Sender<Stage>,
    followers: watch::Sender<usize>,
    paused: watch::Sender<bool>,
    /// A body that there was no room for, from its first byte on: the first follower with this origin takes it.
    handed: Mutex<Option<(Origin, Download)>>,
    shared: Mutex<Shared>,
}

#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Nobody has answered.
    Deciding,
    /// The store has a partial of known length.
    Flowing,
    Sealed,
    /// It cannot be kept: each follower asks its own origin.
    Pass(Passing),
    /// For all, or for each what its own source said.
    Failed(Option<TransferError>),
    /// Nobody followed; what came is kept.
    Paused,
}

struct Shared {
    sources: Vec<(Origin, Answer)>,
    closed: bool,
    yielded: bool,
}

enum Answer {
    Untried,
    Delivers,
    /// It delivers, too slowly to be the first choice.
    Crawls,
    Failed(TransferError),
}

/// Why a fill stops before its end.
pub(crate) enum Stop {
    Paused,
    Draining,
}

impl Fill {
    pub(crate) fn new(digest: Digest, len: Option<ByteLen>, only: Option<Origin>) -> Self {
        Self {
            digest,
            len,
            only,
            class: watch::Sender::new(Class::Anonymous),
            stage: watch::Sender::new(Stage::Deciding),
            followers: watch::Sender::new(0),
            paused: watch::Sender::new(false),
            handed: Mutex::default(),
            shared: Mutex::new(Shared { sources: Vec::new(), closed: false, yielded: false }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Whole after a panic: each holder makes one change.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a follower and takes up its source; `false` when the fill is about to end.
    pub(crate) fn attach(&self, origin: Option<&Origin>, class: Class) -> bool {
        let mut shared = self.lock();
        if shared.closed {
            return false;
        }
        if let Some(origin) = origin
            && self.only.as_ref().is_none_or(|only| only == origin)
            && !shared.sources.iter().any(|(known, _)| known == origin)
        {
            shared.sources.push((origin.clone(), Answer::Untried));
        }
        self.followers.send_modify(|followers| *followers += 1);
        self.raise(class);
        true
    }

    pub(crate) fn raise(&self, class: Class) {
        self.class.send_if_modified(|best| {
            let rises = class > *best;
            *best = class.max(*best);
            rises
        });
    }

    /// When its upstream is asked: who joins with a better right takes all who wait with him.
    pub(crate) fn turn(&self) -> Turn {
        Turn::rising(&self.class)
    }

    #[cfg(test)]
    pub(crate) async fn followed_by(&self, count: usize) {
        self.followers.subscribe().wait_for(|followers| *followers == count).await.unwrap();
    }

    pub(crate) fn follow_again(&self) {
        self.followers.send_modify(|followers| *followers += 1);
    }

    /// `true` when the last follower left a fill that goes on.
    pub(crate) fn detach(&self) -> bool {
        let shared = self.lock();
        self.followers.send_modify(|followers| *followers = followers.saturating_sub(1));
        !shared.closed && *self.followers.borrow() == 0
    }

    /// It goes on, and nobody wants it now.
    pub(crate) fn is_orphan(&self) -> bool {
        !self.lock().closed && *self.followers.borrow() == 0
    }

    /// Asks an orphan to stop; `false` when it is none any more.
    pub(crate) fn pause(&self) -> bool {
        let mut shared = self.lock();
        if shared.closed || *self.followers.borrow() > 0 {
            return false;
        }
        shared.closed = true;
        self.paused.send_replace(true);
        true
    }

    /// Stops for the sake of one who must not be fed from here. Its followers go on alone.
    pub(crate) fn give_way(&self) {
        let mut shared = self.lock();
        shared.closed = true;
        shared.yielded = true;
        self.paused.send_replace(true);
    }

    pub(crate) fn gave_way(&self) -> bool {
        self.lock().yielded
    }

    /// Resolves when the fill must stop though it could go on. Cancel safe.
    pub(crate) async fn stopped(&self, drain: Drain) -> Stop {
        let (mut paused, mut followers) = (self.paused.subscribe(), self.followers.subscribe());
        let drained = async {
            drain.begun().await;
            // Its error is impossible, as `self` holds the sender; what it gave up is the same either way.
            let _ = tokio::time::timeout(DRAIN_GRACE, followers.wait_for(|followers| *followers == 0)).await;
        };
        tokio::select! {
            _ = paused.wait_for(|paused| *paused) => Stop::Paused,
            () = drained => Stop::Draining,
        }
    }

    /// The first source that has not failed, the slow ones last. Without one the fill is closed.
    pub(crate) fn next_origin(&self, failures: &Failures) -> Option<Origin> {
        let mut shared = self.lock();
        for (origin, answer) in &mut shared.sources {
            if matches!(answer, Answer::Untried)
                && let Some(error) = failures.of(&self.digest, origin)
            {
                *answer = Answer::Failed(error);
            }
        }
        let first = |is: fn(&Answer) -> bool| shared.sources.iter().find(|(_, answer)| is(answer));
        let next = first(|answer| matches!(answer, Answer::Untried | Answer::Delivers));
        let next = next.or_else(|| first(|answer| matches!(answer, Answer::Crawls)));
        let next = next.map(|(origin, _)| origin.clone());
        shared.closed |= next.is_none();
        next
    }

    fn answer(&self, origin: &Origin, is: Answer) {
        if let Some((_, answer)) = self.lock().sources.iter_mut().find(|(known, _)| known == origin) {
            *answer = is;
        }
    }

    pub(crate) fn delivers(&self, origin: &Origin) {
        self.answer(origin, Answer::Delivers);
    }

    /// Sets a slow source back behind one that has not been tried; `false` when there is none.
    pub(crate) fn pass_over(&self, slow: &Origin) -> bool {
        let mut shared = self.lock();
        let other = shared.sources.iter().any(|(known, answer)| known != slow && matches!(answer, Answer::Untried));
        if other && let Some((_, answer)) = shared.sources.iter_mut().find(|(known, _)| known == slow) {
            *answer = Answer::Crawls;
        }
        other
    }

    pub(crate) fn failed(&self, origin: &Origin, error: TransferError) {
        self.answer(origin, Answer::Failed(error));
    }

    /// `origin` has answered that it has the blob, and not failed since.
    pub(crate) fn is_delivered_by(&self, origin: &Origin) -> bool {
        let delivers = |answer: &Answer| matches!(answer, Answer::Delivers | Answer::Crawls);
        self.lock().sources.iter().any(|(known, answer)| known == origin && delivers(answer))
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// The last stage: nobody joins from now on.
    pub(crate) fn end(&self, stage: Stage) {
        self.lock().closed = true;
        self.stage.send_replace(stage);
    }

    pub(crate) fn hand_over(&self, origin: &Origin, download: Download) {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = Some((origin.clone(), download));
    }

    pub(crate) fn handed_over(&self, origin: Option<&Origin>) -> Option<Download> {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        handed.take_if(|(of, _)| Some(&*of) == origin).map(|(_, download)| download)
    }

    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// What a failed fill means for a follower; `None` when its own source was not asked, and it should try again.
    pub(crate) fn failure_for(&self, origin: Option<&Origin>) -> Option<TransferError> {
        let Some(origin) = origin else { return Some(TransferError::Nowhere(self.digest)) };
        self.lock().sources.iter().find_map(|(known, answer)| match answer {
            Answer::Failed(error) if known == origin => Some(error.clone()),
            _ => None,
        })
    }
}

/// One who wants a fill's bytes.
pub(crate) struct Follow {
    fill: Arc<Fill>,
    orphanage: Arc<Orphans>,
}

impl Follow {
    /// `None` when the fill is about to end.
    pub(crate) fn attach(
        fill: Arc<Fill>,
        origin: Option<&Origin>,
        class: Class,
        orphanage: Arc<Orphans>,
    ) -> Option<Self> {
        fill.attach(origin, class).then_some(Self { fill, orphanage })
    }

    pub(crate) fn fill(&self) -> &Fill {
        &self.fill
    }
}

impl Clone for Follow {
    fn clone(&self) -> Self {
        self.fill.follow_again();
        Self { fill: self.fill.clone(), orphanage: self.orphanage.clone() }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        if self.fill.detach() {
            self.orphanage.take(&self.fill);
        }
    }
}

/// Fills that go on without a follower: the bytes may be wanted soon, but not at the price of all other work.
pub(crate) struct Orphans {
    most: usize,
    fills: Mutex<Vec<Arc<Fill>>>,
    paused: prometheus_client::metrics::counter::Counter,
}

impl Orphans {
    pub(crate) fn new(most: usize, paused: prometheus_client::metrics::counter::Counter) -> Self {
        Self { most, fills: Mutex::default(), paused }
    }

    /// Takes one more, and pauses the oldest when there are too many.
    fn take(&self, fill: &Arc<Fill>) {
        let mut fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        fills.retain(|known| !Arc::ptr_eq(known, fill) && known.is_orphan());
        fills.push(fill.clone());
        if fills.len() > self.most {
            let oldest = fills.remove(0);
            if oldest.pause() {
                self.paused.inc();
                tracing::info!(digest = %oldest.digest, "fill without a client paused");
            }
        }
    }
}
