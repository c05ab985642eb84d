use std::sync::Arc;

use flotilla_base::{ByteLen, NodeId};
use flotilla_oci::Digest;
use flotilla_registry::cache_rule::Origin;
use flotilla_runtime::{ByteStream, Host, SingleFlight};
use flotilla_storage::BlobStore;
use flotilla_upstream::{Download, Turn};

use crate::{
    Have, Lease, TransferError, Want, Wanted,
    failures::Failures,
    fetch::Fetch,
    fill::{Fill, Orphans},
    metrics::{Metrics, Passing},
    shares::{Pace, Passes, Shares},
    verified::{Verdict, Verified},
};

/// What fills, readers and the face share.
pub(crate) struct Core {
    pub host: Host,
    pub blobs: BlobStore,
    pub fetch: Arc<dyn Fetch>,
    pub lease: Arc<dyn Lease>,
    pub have: Arc<dyn Have>,
    pub want: Arc<dyn Want>,
    pub fills: SingleFlight<Digest, Arc<Fill>>,
    pub failures: Failures,
    pub orphans: Arc<Orphans>,
    pub shares: Arc<Shares>,
    pub passes: Passes,
    pub metrics: Metrics,
}

/// Who gives bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// What an earlier fill left here.
    Disk,
    Peer(NodeId),
    Origin(Origin),
}

impl Core {
    /// Asks `origin`, unless it failed so lately that the answer is known.
    pub(crate) async fn ask(
        &self,
        origin: &Origin,
        digest: &Digest,
        from: u64,
        turn: Turn,
    ) -> Result<Download, TransferError> {
        if let Some(error) = self.failures.of(digest, origin) {
            return Err(error);
        }
        let asked = self.fetch.open(origin, digest, from, turn).await;
        asked.inspect_err(|error| self.failures.remember(digest, origin, error))
    }

    /// The whole of `wanted` from its `origin`, verified on its way and not kept. `opened` is a body of it from there that
    /// a fill had no room for.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        wanted: &Wanted,
        origin: &Origin,
        reason: Passing,
        opened: Option<Download>,
        verdict: Verdict,
    ) -> Result<(ByteLen, ByteStream), TransferError> {
        let (digest, len) = (wanted.digest, wanted.len);
        let (place, opened) = match self.fetch.site(origin) {
            Some(site) => match (self.passes.try_enter(&site, wanted.class), opened) {
                (Some(place), opened) => (Some(place), opened),
                (None, opened) => {
                    // Who waits for a place here holds none there.
                    drop(opened);
                    (Some(self.passes.enter(&site, wanted.class).await.ok_or(TransferError::Busy)?), None)
                }
            },
            None => (None, opened),
        };
        let download = match opened {
            Some(download) => download,
            None => self.ask(origin, &digest, 0, wanted.class.into()).await?,
        };
        if len.is_some_and(|len| len != download.len) {
            let error = TransferError::other_len(origin.rule.as_str());
            self.failures.remember(&digest, origin, &error);
            return Err(error);
        }
        self.metrics.passing(reason);
        let (core, blamed) = (self.clone(), origin.clone());
        let verdict: Verdict = Box::new(move |end| {
            if let Err(TransferError::SlowClient(_)) = end {
                core.metrics.slow_clients.inc();
                tracing::info!(%digest, "client that took a passing blob too slowly was cut");
            } else if let Err(error) = end {
                tracing::warn!(%digest, error = %error, "blob cut while it passed through");
                core.failures.remember(&digest, &blamed, error);
            }
            verdict(end);
        });
        let source = origin.rule.as_str().to_owned();
        let body = Verified::stream(download.body, digest, download.len, source, place.map(Pace::new), verdict);
        Ok((download.len, body))
    }
}
