use std::sync::Arc;

use flotilla_base::{ByteLen, NodeId};
use flotilla_oci::Digest;
use flotilla_registry::cache_rule::Origin;
use flotilla_runtime::{ByteStream, Flight, Host, SingleFlight};
use flotilla_storage::{BlobReader, BlobStore, Found};
use flotilla_upstream::{Class, Download, Turn};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    AlwaysGranted, Have, Lease, LocalOnly, NobodyElse, Origins, Reader, TransferError, Want,
    core::Core,
    drive,
    failures::Failures,
    fetch::Fetch,
    fill::{Fill, Follow, Orphans, Stage},
    metrics::{Metrics, Passing},
    reader::Rescue,
    shares::{Passes, Shares},
};

/// Fills that run at once. Each may hold a few pieces of memory and an open file; what is beyond is told to come again.
const FILLS_MOST: usize = 256;

/// Of these, how many may run when an anonymous caller begins one: the rest is for those who sign in.
pub(crate) const FILLS_ANONYMOUS: usize = FILLS_MOST / 4 * 3;
/// Of all, those that wait for one upstream: the others' misses go on when it stalls. The same part of them as of all is
/// kept for those who sign in.
pub(crate) const FILLS_PER_UPSTREAM: usize = FILLS_MOST / 2;

/// Fills that go on without a client (`protocols.md` §1).
pub(crate) const ORPHANS_MOST: usize = 32;

/// How often an asker that met a fill in its last moment starts again.
const ATTEMPTS: usize = 8;

/// A blob that somebody needs, and where it comes from if nobody holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub digest: Digest,
    pub len: Option<ByteLen>,
    pub origin: Option<Origin>,
    /// For whom, when an upstream has to be asked.
    #[serde(default)]
    pub class: Class,
}

/// What a node has of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Sealed,
    /// A fill is writing it.
    Growing,
    Absent,
}

/// A blob whose head is known.
#[expect(clippy::large_enum_variant, reason = "one per response, and nearly all are local: a box would be the waste")]
pub enum Blob {
    /// On this node, sealed or growing.
    Local(Reader),
    /// Passing by: not kept, verified, its last piece held back until the digest matched.
    Through { len: ByteLen, body: ByteStream },
}

impl Blob {
    /// Of the whole blob.
    pub fn len(&self) -> ByteLen {
        match self {
            Self::Local(reader) => reader.len(),
            Self::Through { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == ByteLen(0)
    }
}

/// Told when a blob has passed by whole and matched, of which length it is.
pub type Delivered = Arc<dyn Fn(ByteLen) + Send + Sync>;

/// That an upstream has a blob, as it told for one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub len: Option<ByteLen>,
    /// The host may be believed; else only its bytes count.
    pub trusted: bool,
}

pub struct Parts {
    pub node: NodeId,
    pub host: Host,
    pub blobs: BlobStore,
    pub origins: Arc<Origins>,
}

pub struct Transfer {
    core: Arc<Core>,
}

/// A fill that is followed, from before its first stage.
struct Joined {
    follow: Follow,
    /// This asker started it.
    led: bool,
    /// Closes when the fill's task is gone, however it ended.
    flight: watch::Receiver<Option<Arc<Fill>>>,
}

impl Transfer {
    /// The data plane of a cluster of one node.
    pub fn new(parts: Parts, registry: &mut Registry) -> Arc<Self> {
        let seams = (Arc::new(AlwaysGranted) as Arc<dyn Lease>, Arc::new(LocalOnly) as Arc<dyn Have>);
        Self::over(parts.host, parts.blobs, parts.origins, seams.0, seams.1, Arc::new(NobodyElse), registry)
    }

    pub(crate) fn over(
        host: Host,
        blobs: BlobStore,
        fetch: Arc<dyn Fetch>,
        lease: Arc<dyn Lease>,
        have: Arc<dyn Have>,
        want: Arc<dyn Want>,
        registry: &mut Registry,
    ) -> Arc<Self> {
        let metrics = Metrics::register(registry);
        let orphans = Arc::new(Orphans::new(ORPHANS_MOST, metrics.orphans_paused.clone()));
        let (fills, failures) = (SingleFlight::default(), Failures::default());
        let (shares, passes) = (Shares::new(FILLS_PER_UPSTREAM, FILLS_PER_UPSTREAM / 4 * 3), Passes::default());
        let core = Core { host, blobs, fetch, lease, have, want, fills, failures, orphans, shares, passes, metrics };
        Arc::new(Self { core: Arc::new(core) })
    }

    /// The lock of the cluster's fetches, for the keys that are not the data plane's own.
    pub fn lease(&self) -> &Arc<dyn Lease> {
        &self.core.lease
    }

    /// Returns as soon as the length is known; the bytes follow. The fill is a task of its own: dropping the blob does
    /// not stop it. On a full disk the blob passes through. Cancel safe.
    ///
    /// # Errors
    /// [`TransferError::Nowhere`] only when the blob's own origin said so, or there is none.
    pub async fn open(self: &Arc<Self>, wanted: &Wanted) -> Result<Blob, TransferError> {
        for _ in 0..ATTEMPTS {
            if let Found::Sealed(reader) = self.core.blobs.find(&wanted.digest).await? {
                return Ok(Blob::Local(self.reader(reader, wanted, None)));
            }
            let Some(joined) = self.join(wanted, None, None).await? else { continue };
            let led = joined.led;
            match self.follow(joined, wanted, &unheard()).await {
                Ok(Some(blob)) => return Ok(blob),
                Ok(None) => {}
                Err(error) if error.is_circle() && !led => {}
                Err(error) => return Err(error),
            }
        }
        Err(TransferError::Busy)
    }

    /// As [`Transfer::open`], but only where nothing has to be begun for it: the blob is sealed here, or on its way
    /// already; `None` otherwise. Cancel safe.
    ///
    /// # Errors
    /// As [`Transfer::open`].
    pub async fn open_begun(self: &Arc<Self>, wanted: &Wanted) -> Result<Option<Blob>, TransferError> {
        for _ in 0..ATTEMPTS {
            if let Found::Sealed(reader) = self.core.blobs.find(&wanted.digest).await? {
                return Ok(Some(Blob::Local(self.reader(reader, wanted, None))));
            }
            if !self.has_begun(wanted) {
                return Ok(None);
            }
            if let Some(joined) = self.join(wanted, None, None).await?
                && let Some(blob) = self.follow(joined, wanted, &unheard()).await?
            {
                return Ok(Some(blob));
            }
        }
        Err(TransferError::Busy)
    }

    /// A fill is under way that `wanted` may join: one for another origin alone would have to be begun anew.
    fn has_begun(&self, wanted: &Wanted) -> bool {
        self.core.fills.follow(&wanted.digest).is_some_and(|flight| {
            let fill = flight.borrow();
            let only = fill.as_ref().and_then(|fill| fill.only.as_ref());
            only.is_none_or(|only| wanted.origin.as_ref() == Some(only))
        })
    }

    /// Opens a blob for a repository that has no link to it: what comes is what `wanted`'s own origin delivers, or what
    /// it has answered for while its host is trusted; `turn` may rise meanwhile. `None` when the blob is here already, or comes from somewhere
    /// else: then [`Transfer::prove`] tells whether the origin has it. `done` is called when the blob passes by and all
    /// bytes matched. Cancel safe.
    ///
    /// # Errors
    /// As [`Transfer::open`].
    pub async fn open_unproven(
        self: &Arc<Self>,
        wanted: &Wanted,
        turn: &Turn,
        done: &Delivered,
    ) -> Result<Option<Blob>, TransferError> {
        let origin = wanted.origin.as_ref().ok_or(TransferError::Nowhere(wanted.digest))?;
        let trusted = self.core.fetch.is_trusted(origin);
        for _ in 0..ATTEMPTS {
            if let Found::Sealed(_) = self.core.blobs.look(&wanted.digest).await? {
                return Ok(None);
            }
            let Some(joined) = self.join(wanted, (!trusted).then_some(origin), Some(turn)).await? else { continue };
            let alone = joined.follow.fill().only.as_ref() == Some(origin);
            if !trusted && !alone {
                return Ok(None);
            }
            let (fill, led) = (joined.follow.clone(), joined.led);
            let blob = match self.follow(joined, wanted, done).await {
                Ok(Some(blob)) => blob,
                Ok(None) => continue,
                Err(error) if error.is_circle() && !led => continue,
                Err(error) => return Err(error),
            };
            return match blob {
                Blob::Local(_) if !alone && !fill.fill().is_delivered_by(origin) => {
                    match fill.fill().failure_for(Some(origin)) {
                        Some(error) if led => Err(error),
                        _ => Ok(None),
                    }
                }
                blob => Ok(Some(blob)),
            };
        }
        Err(TransferError::Busy)
    }

    /// Streams the blob from its own origin, verified, whatever is held here: what an untrusted upstream must do before
    /// a repository of its is linked to content that is here already. `done` is called when all bytes matched.
    ///
    /// # Errors
    /// As [`Transfer::open`].
    pub async fn through(self: &Arc<Self>, wanted: &Wanted, done: &Delivered) -> Result<Blob, TransferError> {
        self.core.metrics.duplicates.inc();
        self.pass(wanted, Passing::Unproven, None, done).await
    }

    /// Only what is here, sealed, without causing anything.
    ///
    /// # Errors
    /// [`TransferError::Storage`].
    pub async fn held(&self, digest: &Digest) -> Result<Option<BlobReader>, TransferError> {
        match self.core.blobs.look(digest).await? {
            Found::Sealed(reader) => Ok(Some(reader)),
            Found::Partial(_) | Found::Absent => Ok(None),
        }
    }

    /// What there is here, without opening it or counting it as a use.
    ///
    /// # Errors
    /// [`TransferError::Storage`].
    pub async fn presence(&self, digest: &Digest) -> Result<Presence, TransferError> {
        Ok(match self.core.blobs.look(digest).await? {
            Found::Sealed(_) => Presence::Sealed,
            Found::Partial(_) => Presence::Growing,
            Found::Absent => Presence::Absent,
        })
    }

    /// Somebody of `class` waits for the fill of `digest`, if there is one, without having joined it yet.
    pub fn raise(&self, digest: &Digest, class: Class) {
        if let Some(flight) = self.core.fills.follow(digest)
            && let Some(fill) = &*flight.borrow()
        {
            fill.raise(class);
        }
    }

    /// Fills that run now.
    pub fn fills_in_flight(&self) -> u64 {
        self.core.fills.len() as u64
    }

    /// Waits until a fill of `digest` that runs now has ended; `true` when the blob is sealed here.
    pub async fn sealed(&self, digest: &Digest) -> bool {
        if let Some(mut flight) = self.core.fills.follow(digest) {
            // Closed when the fill's task is gone; an `Ok` would be its first publication.
            while flight.changed().await.is_ok() {}
        }
        matches!(self.core.blobs.look(digest).await, Ok(Found::Sealed(_)))
    }

    /// The origin is believed without its bytes; not so when it cannot be asked at all.
    pub fn is_trusted(&self, origin: &Origin) -> bool {
        self.core.fetch.is_trusted(origin)
    }

    /// Asks the origin whether it has the blob (HEAD).
    ///
    /// # Errors
    /// As [`Transfer::open`].
    pub async fn prove(&self, digest: &Digest, origin: &Origin, turn: Turn) -> Result<Proof, TransferError> {
        if let Some(error) = self.core.failures.of(digest, origin) {
            return Err(error);
        }
        let proof = self.core.fetch.prove(origin, digest, turn).await;
        proof.inspect_err(|error| self.core.failures.remember(digest, origin, error))
    }

    #[cfg(test)]
    pub(crate) async fn followers(&self, digest: &Digest, count: usize) {
        let mut flight = self.core.fills.follow(digest).unwrap();
        let fill = flight.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        fill.followed_by(count).await;
    }

    fn reader(&self, reader: BlobReader, wanted: &Wanted, follow: Option<Follow>) -> Reader {
        let rescue =
            wanted.origin.clone().map(|origin| Rescue { core: self.core.clone(), origin, class: wanted.class });
        Reader::new(reader, rescue, follow)
    }

    async fn pass(
        &self,
        wanted: &Wanted,
        reason: Passing,
        opened: Option<Download>,
        done: &Delivered,
    ) -> Result<Blob, TransferError> {
        let origin = wanted.origin.as_ref().ok_or(TransferError::Nowhere(wanted.digest))?;
        let done = done.clone();
        let verdict = Box::new(move |end: Result<ByteLen, &TransferError>| {
            if let Ok(len) = end {
                done(len);
            }
        });
        let (len, body) = self.core.pass(wanted, origin, reason, opened, verdict).await?;
        Ok(Blob::Through { len, body })
    }

    /// Joins the fill of the blob, or starts it; `None` when one was met in its last moment and is gone now.
    async fn join(
        &self,
        wanted: &Wanted,
        only: Option<&Origin>,
        turn: Option<&Turn>,
    ) -> Result<Option<Joined>, TransferError> {
        let core = &self.core;
        let class = turn.map_or(wanted.class, Turn::class);
        match core.fills.claim(wanted.digest) {
            Flight::Lead(lead) => {
                let origin = wanted.origin.as_ref().ok_or(TransferError::Nowhere(wanted.digest))?;
                if core.host.tasks.drain().is_begun() {
                    return Err(TransferError::Stopping);
                }
                let most = if class == Class::Anonymous { FILLS_ANONYMOUS } else { FILLS_MOST };
                if core.fills.len() > most {
                    return Err(TransferError::Busy);
                }
                let share = match core.fetch.site(origin) {
                    Some(site) => Some(core.shares.take(site.host, class).ok_or(TransferError::Busy)?),
                    None => None,
                };
                let fill = Arc::new(Fill::new(wanted.digest, wanted.len, only.cloned()));
                lead.publish(fill.clone());
                let flight = lead.follow();
                let Some(follow) = Follow::attach(fill.clone(), Some(origin), class, core.orphans.clone()) else {
                    return Ok(None);
                };
                // What rises from here on finds the fill with `raise`.
                fill.raise(turn.map_or(wanted.class, Turn::class));
                core.host.tasks.spawn("fill", drive::run(core.clone(), fill, lead, share));
                Ok(Some(Joined { follow, led: true, flight }))
            }
            Flight::Follow(mut flight) => {
                let fill = match flight.wait_for(Option::is_some).await {
                    Ok(fill) => fill.clone(),
                    Err(_) => return Ok(None),
                };
                if only.is_none()
                    && let Some(fill) = &fill
                    && fill.only.as_ref().is_some_and(|other| wanted.origin.as_ref() != Some(other))
                {
                    // What an unbelieved origin sends is for those who asked it, until it has proven right.
                    if wanted.origin.is_none() {
                        return Err(TransferError::Busy);
                    }
                    if core.host.tasks.drain().is_begun() {
                        return Err(TransferError::Stopping);
                    }
                    fill.give_way();
                    while flight.changed().await.is_ok() {}
                    return Ok(None);
                }
                let attach = |fill| Follow::attach(fill, wanted.origin.as_ref(), class, core.orphans.clone());
                if let Some(follow) = fill.and_then(attach) {
                    return Ok(Some(Joined { follow, led: false, flight }));
                }
                while flight.changed().await.is_ok() {}
                Ok(None)
            }
        }
    }

    /// Waits for the head; `None` when the fill is no use to this asker, who then tries again.
    async fn follow(&self, joined: Joined, wanted: &Wanted, done: &Delivered) -> Result<Option<Blob>, TransferError> {
        let Joined { follow, mut flight, .. } = joined;
        let mut stage = follow.fill().stage();
        let gone = async { while flight.changed().await.is_ok() {} };
        let stage = tokio::select! {
            biased;
            stage = stage.wait_for(|stage| !matches!(stage, Stage::Deciding)) => stage.ok().map(|stage| stage.clone()),
            () = gone => None,
        };
        match stage {
            Some(Stage::Flowing | Stage::Sealed) => match self.core.blobs.find(&wanted.digest).await? {
                Found::Sealed(reader) | Found::Partial(reader) => {
                    Ok(Some(Blob::Local(self.reader(reader, wanted, Some(follow)))))
                }
                Found::Absent => Ok(None),
            },
            Some(Stage::Pass(reason)) => {
                let opened = follow.fill().handed_over(wanted.origin.as_ref());
                // What was handed over for others must not wait with this one for its place.
                drop(follow);
                self.pass(wanted, reason, opened, done).await.map(Some)
            }
            Some(Stage::Failed(Some(error))) => Err(error),
            Some(Stage::Failed(None)) => match follow.fill().failure_for(wanted.origin.as_ref()) {
                Some(error) => Err(error),
                None => Ok(None),
            },
            Some(Stage::Deciding | Stage::Paused) | None => Ok(None),
        }
    }
}

fn unheard() -> Delivered {
    Arc::new(|_| ())
}
