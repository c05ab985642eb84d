use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use flotilla_base::{ByteLen, NodeId};
use flotilla_runtime::Lead;
use flotilla_storage::{PartialWriter, StorageError};
use flotilla_upstream::Download;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::{
    HeldBy, LeaseGuard, LeaseKey, TransferError,
    core::{Core, Source},
    fill::{Fill, Stage, Stop},
    metrics::Passing,
    pump::Pump,
    shares::Share,
};

/// The head of a response leaves after this long even without an upstream's, when the length is known (11).
const HEAD_PATIENCE: Duration = Duration::from_secs(5);

/// A source that brings less than this in that time, its head included, is left for one that has not been tried: who
/// asks for a blob must not be at the mercy of somebody else's upstream.
const FLOOR: ByteLen = ByteLen::kib(320);
const FLOOR_WINDOW: Duration = Duration::from_secs(5);

/// Between two questions to a node that holds the lease and gave nothing.
const RECLAIM_AFTER: Duration = Duration::from_millis(300);

/// Runs one fill to its end and tells its followers.
pub(crate) async fn run(
    core: Arc<Core>,
    fill: Arc<Fill>,
    lead: Lead<flotilla_oci::Digest, Arc<Fill>>,
    _share: Option<Share>,
) {
    let _in_flight = InFlight::count(&core.metrics.in_flight);
    let (stage, result) = match Drive::new(&core, &fill).run().await {
        Ok(()) => (Stage::Sealed, "sealed"),
        Err(Cut::Pass(reason)) => (Stage::Pass(reason), "passed"),
        Err(Cut::Stop(Stop::Paused)) => (Stage::Paused, "paused"),
        Err(Cut::Stop(Stop::Draining)) => (Stage::Failed(Some(TransferError::Stopping)), "stopped"),
        Err(Cut::Exhausted) => (Stage::Failed(None), "failed"),
        Err(Cut::Failed(error)) => (Stage::Failed(Some(error)), "failed"),
    };
    core.metrics.ended(result);
    tracing::debug!(digest = %fill.digest, result, "fill ended");
    fill.end(stage);
    drop(lead);
}

struct InFlight(Gauge);

impl InFlight {
    fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Why a fill ends without its blob.
enum Cut {
    Pass(Passing),
    Stop(Stop),
    /// Every source has failed; each follower is told what its own said.
    Exhausted,
    Failed(TransferError),
}

struct Drive<'a> {
    core: &'a Arc<Core>,
    fill: &'a Arc<Fill>,
    peers: VecDeque<NodeId>,
    lease: Option<Box<dyn LeaseGuard>>,
    /// Whose bytes the partial is made of.
    suppliers: Vec<Source>,
}

/// How a source's body ended.
enum Flow {
    Whole,
    /// The next source goes on where this one ended.
    Short,
    /// Somebody else has sealed the blob.
    Sealed,
}

impl<'a> Drive<'a> {
    fn new(core: &'a Arc<Core>, fill: &'a Arc<Fill>) -> Self {
        Self { core, fill, peers: VecDeque::new(), lease: None, suppliers: Vec::new() }
    }

    async fn run(mut self) -> Result<(), Cut> {
        let mut stopped = std::pin::pin!(self.fill.stopped(self.core.host.tasks.drain()));
        let mut writer = None;
        let ended = self.fetch(&mut writer, stopped.as_mut()).await;
        match writer {
            // Of an origin that is not believed, and that has not proven them: nobody else goes on from these bytes.
            Some(writer) if self.fill.only.is_some() => writer.discard().await,
            // Whatever the reason: what came is good for the next attempt.
            Some(writer) => writer.abandon().await,
            None => {}
        }
        ended
    }

    /// Until the blob is sealed. A writer that is left in `writer` is whole and to be abandoned.
    async fn fetch(
        &mut self,
        writer: &mut Option<PartialWriter>,
        mut stopped: Pin<&mut impl Future<Output = Stop>>,
    ) -> Result<(), Cut> {
        if self.fill.only.is_none() {
            self.peers = self.core.have.holders(&self.fill.digest).await.into();
        }
        let mut refetched = false;
        loop {
            let source = self.next_source().await?;
            if writer.is_none()
                && let Some(len) = self.fill.len
            {
                let Some(begun) = self.begin(len).await? else { return Ok(()) };
                *writer = Some(begun);
            }
            let flow = match writer {
                Some(writer) if writer.resume_at() == writer.len().0 => Flow::Whole,
                _ => self.flow(&source, writer, stopped.as_mut()).await?,
            };
            match flow {
                Flow::Whole => {}
                Flow::Short => continue,
                Flow::Sealed => return Ok(()),
            }
            let Some(whole) = writer.take() else { continue };
            match whole.publish().await {
                Ok(_) => return Ok(()),
                // Nobody can be blamed for a patchwork: once more, all from one.
                Err(StorageError::Mismatch { .. }) if self.suppliers.len() > 1 && !refetched => {
                    refetched = true;
                    self.suppliers.clear();
                    self.core.metrics.duplicates.inc();
                    tracing::warn!(digest = %self.fill.digest, "pieces of several sources do not match, fetching again");
                }
                Err(error @ StorageError::Mismatch { .. }) => return Err(self.poisoned(error.into())),
                Err(error) => return Err(self.of_store(error)),
            }
        }
    }

    fn poisoned(&self, error: TransferError) -> Cut {
        tracing::warn!(digest = %self.fill.digest, suppliers = ?self.suppliers, "wrong bytes from upstream, not kept");
        for supplier in &self.suppliers {
            if let Source::Origin(origin) = supplier {
                self.core.failures.remember(&self.fill.digest, origin, &error);
                self.fill.failed(origin, error.clone());
            }
        }
        Cut::Exhausted
    }

    /// Nodes that have it, then upstreams, which only the holder of the lease asks.
    async fn next_source(&mut self) -> Result<Source, Cut> {
        if let Some(peer) = self.peers.pop_front() {
            return Ok(Source::Peer(peer));
        }
        if !self.lease.as_ref().is_some_and(|lease| lease.is_valid()) {
            // The old one goes first: a lease that is over is never taken up again.
            self.lease = None;
            match self.core.lease.claim(&LeaseKey::Fill(self.fill.digest)).await {
                Ok(lease) => self.lease = Some(lease),
                Err(HeldBy(_)) if self.fill.only.is_some() => return Err(Cut::Pass(Passing::Unproven)),
                Err(HeldBy(node)) => return Ok(Source::Peer(node)),
            }
        }
        self.fill.next_origin(&self.core.failures).map(Source::Origin).ok_or(Cut::Exhausted)
    }

    /// `None` when the blob is sealed already.
    async fn begin(&mut self, len: ByteLen) -> Result<Option<PartialWriter>, Cut> {
        match self.core.blobs.begin(&self.fill.digest, len).await {
            Ok(writer) if writer.resume_at() > 0 && self.fill.only.is_some() => {
                writer.abandon().await;
                Err(Cut::Pass(Passing::Unproven))
            }
            Ok(writer) => {
                if writer.resume_at() > 0 {
                    self.suppliers.push(Source::Disk);
                }
                Ok(Some(writer))
            }
            // Sealed meanwhile, with others' bytes.
            Err(StorageError::Sealed { .. }) if self.fill.only.is_some() => Err(Cut::Pass(Passing::Unproven)),
            Err(StorageError::Sealed { .. }) => Ok(None),
            Err(error) => Err(self.of_store(error)),
        }
    }

    fn of_store(&self, error: StorageError) -> Cut {
        match error {
            StorageError::Full { .. } => {
                // The store has warned, once for many.
                tracing::debug!(digest = %self.fill.digest, "no room for blob, it passes through");
                Cut::Pass(Passing::DiskFull)
            }
            // The upstream can still be had, and readers of what was written are rescued from it.
            error @ StorageError::Io { .. } => {
                tracing::error!(digest = %self.fill.digest, error = %error, "disk failed in a fill, blob passes through");
                Cut::Pass(Passing::DiskFailed)
            }
            error => {
                tracing::error!(digest = %self.fill.digest, error = %error, "blob store failed in a fill");
                Cut::Failed(error.into())
            }
        }
    }

    /// Takes what `source` gives, from where the partial ends.
    async fn flow(
        &mut self,
        source: &Source,
        writer: &mut Option<PartialWriter>,
        mut stopped: Pin<&mut impl Future<Output = Stop>>,
    ) -> Result<Flow, Cut> {
        let from = writer.as_ref().map_or(0, PartialWriter::resume_at);
        let mut windows = tokio::time::interval_at(Instant::now() + FLOOR_WINDOW, FLOOR_WINDOW);
        let download = {
            let mut opening = std::pin::pin!(self.open(source, from));
            let mut patience = std::pin::pin!(tokio::time::sleep(HEAD_PATIENCE));
            let mut waiting = writer.is_some();
            loop {
                tokio::select! {
                    biased;
                    stop = stopped.as_mut() => return Err(Cut::Stop(stop)),
                    opened = &mut opening => break opened,
                    _ = windows.tick() => if self.is_passed_over(source) {
                        return Ok(Flow::Short);
                    },
                    () = &mut patience, if waiting => {
                        waiting = false;
                        self.fill.enter(Stage::Flowing);
                    }
                }
            }
        };
        let Some(download) = download else { return Ok(Flow::Short) };
        let known = writer.as_ref().map(PartialWriter::len).or(self.fill.len);
        if known.is_some_and(|len| len != download.len) {
            self.failed(source, TransferError::other_len(&label(source)));
            return Ok(Flow::Short);
        }
        let partial = match writer {
            Some(partial) => partial,
            None => match self.begin(download.len).await {
                Ok(Some(begun)) => writer.insert(begun),
                Ok(None) => return Ok(Flow::Sealed),
                Err(Cut::Pass(reason)) => {
                    if let Source::Origin(origin) = source {
                        self.fill.hand_over(origin, download);
                    }
                    return Err(Cut::Pass(reason));
                }
                Err(cut) => return Err(cut),
            },
        };
        if let Source::Origin(origin) = source {
            self.fill.delivers(origin);
        }
        self.fill.enter(Stage::Flowing);
        if partial.resume_at() != from {
            // An earlier fill left a part: the same source is asked again, for the rest.
            return Ok(if partial.resume_at() == partial.len().0 { Flow::Whole } else { Flow::Short });
        }
        if !self.suppliers.contains(source) {
            self.suppliers.push(source.clone());
        }
        let mut pump = Pump::new(download.body);
        let mut window_from = from;
        while partial.resume_at() < partial.len().0 {
            let piece = tokio::select! {
                biased;
                stop = stopped.as_mut() => return Err(Cut::Stop(stop)),
                _ = windows.tick() => {
                    if partial.resume_at() - window_from < FLOOR.0 && self.is_passed_over(source) {
                        return Ok(Flow::Short);
                    }
                    window_from = partial.resume_at();
                    continue;
                }
                piece = pump.piece() => piece,
            };
            let error = match piece {
                Some(Ok(bytes)) => match partial.write(bytes).await {
                    Ok(()) if self.may_go_on(source) => continue,
                    Ok(()) => return Ok(Flow::Short),
                    Err(error) => {
                        // The writer is void after an error, and its partial gone.
                        *writer = None;
                        return match TransferError::from(error.clone()) {
                            error @ TransferError::Mismatch(_) => Err(self.poisoned(error)),
                            _ => Err(self.of_store(error)),
                        };
                    }
                },
                Some(Err(error)) => TransferError::of_body(&self.fill.digest, &label(source), error),
                None => TransferError::short_body(&label(source)),
            };
            self.failed(source, error);
            return Ok(Flow::Short);
        }
        Ok(Flow::Whole)
    }

    fn is_passed_over(&self, slow: &Source) -> bool {
        let passed_over = matches!(slow, Source::Origin(origin) if self.fill.pass_over(origin));
        if passed_over {
            tracing::debug!(digest = %self.fill.digest, source = ?slow, "slow source of a fill left for another");
        }
        passed_over
    }

    fn may_go_on(&self, source: &Source) -> bool {
        !matches!(source, Source::Origin(_)) || self.lease.as_ref().is_some_and(|lease| lease.is_valid())
    }

    /// `None` when the source has nothing for us; why is noted.
    async fn open(&self, source: &Source, from: u64) -> Option<Download> {
        match source {
            Source::Disk => None,
            Source::Peer(node) => {
                let download = self.core.want.open(*node, &self.fill.digest, from).await;
                if download.is_none() {
                    tokio::time::sleep(RECLAIM_AFTER).await;
                }
                download
            }
            Source::Origin(origin) => {
                let asked = self.core.ask(origin, &self.fill.digest, from, self.fill.turn()).await;
                asked.inspect_err(|error| self.fill.failed(origin, error.clone())).ok()
            }
        }
    }

    fn failed(&self, source: &Source, error: TransferError) {
        tracing::debug!(digest = %self.fill.digest, ?source, error = %error, "source of a fill failed");
        if let Source::Origin(origin) = source {
            self.core.failures.remember(&self.fill.digest, origin, &error);
            self.fill.failed(origin, error);
        }
    }
}

fn label(source: &Source) -> String {
    match source {
        Source::Disk => "disk".to_owned(),
        Source::Peer(node) => node.to_string(),
        Source::Origin(origin) => origin.rule.as_str().to_owned(),
    }
}
