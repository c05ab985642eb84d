//! Pull and pull through: from a mapped name to bytes.
//!
//! Invariants: a blob or manifest is served through a repository only by its link, or a proof that becomes one (6);
//! upstream trouble never fails a pull of what is held (4); "not found" is said only after a barrier and upstream's own
//! word (13); a tag moves only from the version that was read before upstream was asked (14).

mod blob;
mod cache;
mod examine;
mod failure;
mod import;
mod links;
mod manifest;
mod metrics;
mod referrers;
mod refresh;
#[cfg(test)]
mod tests;
mod turns;
mod usage;
mod validate;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use flotilla_base::ByteLen;
use flotilla_oci::{Digest, MediaType, Name, Reference, Tag};
use flotilla_registry::{
    Prefix, Refusal,
    cache_rule::Target,
    mapping::{Namespace, Unmapped},
};
use flotilla_runtime::{Host, Published, Recent, SingleFlight};
use flotilla_state::View;
use flotilla_transfer::{Blob, LeaseKey, Origins, Transfer};
use flotilla_upstream::Upstreams;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::sync::watch;

use self::{
    blob::{Proven, Verdict},
    cache::ManifestCache,
    failure::Failure,
    metrics::{Kind, Metrics},
    turns::Turns,
    usage::Usage,
    validate::{Checked, Checks},
};
use crate::{Parts, Permit, ServiceError, limits::Limits, proposer::Proposer};

/// Absences, proofs and lengths that are remembered, each; one that is forgotten is asked for again.
const REMEMBERED: usize = 16_384;

/// Hosts whose names lead nowhere by a fault of the rules: said once in this time, not with every pull of a fleet.
const MISMAPPED: usize = 256;
const MISMAPPED_SAID: Duration = Duration::from_secs(60);

/// How long the end of a node waits for links: a blob that is whole needs a sync of the disk and a proposal.
const SETTLE: Duration = Duration::from_secs(5);

/// `[pull]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PullConfig {
    /// Seconds after which a tag is validated against its upstream again, unless its rule says otherwise. Spread by
    /// ±10 % per tag, so that a fleet's tags do not fall due together.
    pub revalidate_after_seconds: u64,
    /// Longest wait for an upstream's answer about a tag that is held; then the held image is served and the check ends
    /// in the background.
    pub revalidate_wait_seconds: u64,
    /// How long "not found upstream" is remembered.
    pub negative_seconds: u64,
    /// Count pulls by repository, too: one series for each that is pulled.
    pub repository_metrics: bool,
}

impl Default for PullConfig {
    fn default() -> Self {
        Self {
            revalidate_after_seconds: 24 * 3600,
            revalidate_wait_seconds: 2,
            negative_seconds: 5,
            repository_metrics: false,
        }
    }
}

pub struct Pull {
    config: PullConfig,
    host: Host,
    view: Published<View>,
    transfer: Arc<Transfer>,
    origins: Arc<Origins>,
    upstreams: Upstreams,
    proposer: Proposer,
    manifests: ManifestCache,
    tags: SingleFlight<LeaseKey, Result<Checked, Failure>>,
    digests: SingleFlight<LeaseKey, Result<ServedManifest, Failure>>,
    proofs: SingleFlight<(Name, Digest), Verdict>,
    /// For whom the flights of tags and digests, and those of proofs, ask.
    turns: Turns<LeaseKey>,
    proof_turns: Turns<(Name, Digest)>,
    limits: Limits,
    /// Blobs that are proven by their bytes, until the last of them has come.
    links: SingleFlight<(Name, Digest), ()>,
    /// What upstream did not have, or did not give us.
    /// With the version of the rule under which it was said.
    noes: Recent<(Name, Reference), (u64, Failure)>,
    proven: Recent<(Name, Digest), Proven>,
    /// Lengths, with the rule under which they were told.
    lens: Recent<(Name, Digest), (Proven, ByteLen)>,
    checks: Checks,
    /// Links that wait for their blob to be sealed, or for their record.
    linking: watch::Sender<usize>,
    usage: Usage,
    mismapped: Recent<String, ()>,
    /// Said once per outage of the replicated state.
    keeps_nothing: AtomicBool,
    metrics: Metrics,
}

/// A manifest that is linked to the repository, as its upstream wrote it.
#[derive(Clone, Debug)]
pub struct ServedManifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
    pub freshness: Freshness,
    pub source: Source,
    /// What the upstream answered, if it was asked for this request and did.
    pub upstream_status: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Held, and validated within its time.
    Hit,
    /// Fetched or confirmed upstream for this request.
    Miss,
    /// Held, and upstream could not be asked.
    Stale,
    /// Served without being kept.
    Passthrough,
}

/// Where the bytes come from; the log's and the metrics' `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Local,
    Upstream,
    Passthrough,
}

pub struct ServedBlob {
    pub blob: Blob,
    pub len: ByteLen,
    pub source: Source,
    pub freshness: Freshness,
}

/// What a forced refresh found.
#[derive(Clone, Debug)]
pub struct Refreshed {
    pub tag: Tag,
    pub digest: Option<Digest>,
    pub previous: Option<Digest>,
    pub validation: Validation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    Unchanged,
    Moved,
    Frozen,
    MissingUpstream,
    UpstreamFailed(String),
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Upstream => "upstream",
            Self::Passthrough => "passthrough",
        }
    }
}

impl Pull {
    pub(crate) fn new(
        parts: &Parts,
        config: PullConfig,
        limits: Limits,
        proposer: Proposer,
        registry: &mut Registry,
    ) -> Arc<Self> {
        let per_repository = config.repository_metrics;
        let pull = Arc::new(Self {
            config,
            host: parts.host.clone(),
            view: parts.view.clone(),
            transfer: parts.transfer.clone(),
            origins: parts.origins.clone(),
            upstreams: parts.upstreams.clone(),
            proposer,
            manifests: ManifestCache::default(),
            tags: SingleFlight::default(),
            digests: SingleFlight::default(),
            proofs: SingleFlight::default(),
            turns: Turns::default(),
            proof_turns: Turns::default(),
            limits,
            links: SingleFlight::default(),
            noes: Recent::new(REMEMBERED),
            proven: Recent::new(REMEMBERED),
            lens: Recent::new(REMEMBERED),
            checks: Checks::default(),
            linking: watch::Sender::new(0),
            usage: Usage::default(),
            mismapped: Recent::new(MISMAPPED),
            keeps_nothing: AtomicBool::new(false),
            metrics: Metrics::register(registry, per_repository),
        });
        let recorder = pull.clone();
        pull.host.tasks.spawn("usage", async move { recorder.record_usage().await });
        pull
    }

    async fn record_usage(&self) {
        let drain = self.host.tasks.drain();
        while !drain.is_begun() {
            tokio::select! {
                () = drain.begun() => {}
                () = tokio::time::sleep(usage::ROUND) => {}
            }
            self.flush().await;
        }
    }

    /// Records the pulls and validations of the last minute now.
    async fn flush(&self) {
        self.usage.flush(&self.proposer).await;
    }

    /// For the end of a node, when its tasks were asked to finish and before its consensus stops: what was pulled to the
    /// last moment is linked, or the next start asks upstream about it again. Waits for at most [`SETTLE`].
    pub async fn settle(&self) {
        let mut linking = self.linking.subscribe();
        if tokio::time::timeout(SETTLE, linking.wait_for(|linking| *linking == 0)).await.is_err() {
            tracing::info!("blobs are still being sealed; the next pull proves them again");
        }
        self.flush().await;
    }

    /// Counts a pull whose name leads nowhere; `kind` as for [`Pull::count_denied`].
    pub fn count_unmapped(&self, kind: &'static str) {
        self.metrics.unmapped(kind);
    }

    /// Counts a pull that was denied before it came here; `kind` is `manifest` or `blob`.
    pub fn count_denied(&self, kind: &'static str) {
        self.metrics.denied(kind);
    }

    /// What one of our own repositories is and where it comes from.
    pub fn target(&self, name: &Name) -> Target {
        self.view.load().rules.resolve(name)
    }

    /// Maps what a client asked for to exactly one repository. The only function that does; no handler sees the raw name
    /// afterwards.
    ///
    /// # Errors
    /// `Unmapped`, at once and without asking anybody. What only who made the rules can change is warned of.
    pub fn map(&self, namespace: Namespace<'_>, name: &Name) -> Result<Target, ServiceError> {
        let view = self.view.load();
        let mapped = view.rules.map(namespace, name);
        let mapped = match (namespace, mapped) {
            (Namespace::Of(host), Ok(target)) => {
                let held = view.tables().repository(&target.repository)?;
                let created_here = held.is_some_and(|repository| repository.cached_by.is_none());
                match target.rule().filter(|_| created_here).cloned() {
                    Some(rule) => Err(Unmapped::CreatedHere {
                        host: host.to_owned(),
                        name: name.to_string(),
                        repository: target.repository.to_string(),
                        rule,
                    }),
                    None => Ok(target),
                }
            }
            (_, mapped) => mapped,
        };
        mapped.map_err(|unmapped| {
            if let Unmapped::Ambiguous { host, .. }
            | Unmapped::Shadowed { host, .. }
            | Unmapped::CreatedHere { host, .. } = &unmapped
                && self.mismapped.get(host.as_str()).is_none()
            {
                self.mismapped.put(host.clone(), (), MISMAPPED_SAID);
                tracing::warn!(%unmapped, "a mirrored name leads to no repository");
            }
            unmapped.into()
        })
    }

    /// Where a rule keeps the name from its upstream, that is why it is missing; where nothing can come from anywhere, a repository that does not exist is what is missing.
    fn missing(&self, target: &Target, absence: ServiceError) -> ServiceError {
        let is_absence = matches!(absence, ServiceError::NoManifest { .. } | ServiceError::NoBlob { .. });
        if !is_absence || target.origin.is_some() {
            return absence;
        }
        if let Some(rule) = &target.filtered_by {
            return filtered(target, rule);
        }
        match self.view.load().tables().repository(&target.repository) {
            Ok(None) => Refusal::NoRepository(target.repository.clone()).into(),
            Ok(Some(_)) => absence,
            Err(error) => error.into(),
        }
    }

    /// # Errors
    /// `NoManifest` only when every source of this repository said so (13); upstream trouble never fails what is held
    /// (4). `Limited` only for what is not held.
    pub async fn manifest(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        reference: &Reference,
    ) -> Result<ServedManifest, ServiceError> {
        let served = self.serve_manifest(permit.caller(), target, reference).await;
        self.metrics.pulled(Kind::Manifest, served.as_ref().map(|served| served.freshness));
        if served.is_ok() {
            self.metrics.pulled_from(&target.repository);
        }
        served
    }

    /// Returns as soon as the length is known; the bytes follow. Cancel safe, as all pulls are: what was begun goes on.
    ///
    /// # Errors
    /// `NoBlob` only when the repository's own upstream said so, or after a barrier (13).
    pub async fn blob(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        digest: &Digest,
    ) -> Result<ServedBlob, ServiceError> {
        let served = self.serve_blob(permit.caller(), target, digest).await;
        self.metrics.pulled(Kind::Blob, served.as_ref().map(|served| served.freshness));
        served
    }

    /// The length of a blob, without fetching it.
    ///
    /// # Errors
    /// As [`Pull::blob`].
    pub async fn blob_len(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        digest: &Digest,
    ) -> Result<ByteLen, ServiceError> {
        self.serve_blob_len(permit.caller(), target, digest).await
    }

    /// Index of the manifests that refer to `digest`: upstream's on a cached repository, else one that is empty.
    ///
    /// # Errors
    /// `Upstream` and `Origin`, when it cannot be told.
    pub async fn referrers(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Bytes, ServiceError> {
        self.find_referrers(permit.caller(), target, digest, artifact_type).await
    }

    /// Validates one tag, or every tag of the repository, against upstream now.
    ///
    /// # Errors
    /// `Invalid` when no rule covers the repository; what upstream said is in each tag's place.
    pub async fn refresh(
        self: &Arc<Self>,
        permit: Permit<'_>,
        target: &Target,
        tag: Option<&Tag>,
    ) -> Result<Vec<Refreshed>, ServiceError> {
        self.refresh_tags(permit.caller(), target, tag).await
    }
}

/// Not here, and upstream may not be asked.
fn filtered(target: &Target, rule: &Prefix) -> ServiceError {
    ServiceError::Filtered { repository: target.repository.clone(), rule: rule.clone() }
}
