//! Tags against their upstream: when it is time, what the answer means, and what to do when there is none.

use std::{sync::Arc, time::Duration};

use flotilla_base::Timestamp;
use flotilla_oci::{Digest, Name, Reference, Tag};
use flotilla_registry::{
    Refusal,
    cache_rule::{Origin, Target},
};
use flotilla_runtime::{Recent, Trail};
use flotilla_state::{TagRecord, View};
use flotilla_upstream::{Class, Turn, UpstreamError};

use super::{
    Freshness, Pull, ServedManifest, Validation,
    failure::Failure,
    import::{Import, Read},
};

/// After a check that failed; doubled with each further one up to the longest (`protocols.md` §3.5). A tag that is to be
/// fresher than that is asked for again after its own time, but not with every pull.
const RECHECK: Duration = Duration::from_secs(60);
const RECHECK_LEAST: Duration = Duration::from_secs(5);
const RECHECK_MOST: Duration = Duration::from_secs(600);

/// A held tag that upstream does not know any more is asked for again after this (`protocols.md` §3.4).
const RECHECK_GONE: Duration = Duration::from_secs(600);

/// How far the state's time may be ahead of this node's clock (design, invariant 19).
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// Tags that are remembered; one that is forgotten is asked for once more.
const TAGS_MOST: usize = 65_536;

/// How a tag stands after upstream was asked, for all who waited.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub served: ServedManifest,
    pub validation: Validation,
    pub previous: Option<Digest>,
}

/// What this node knows about its checks beyond the replicated state.
pub(super) struct Checks {
    /// Version that upstream confirmed, and when: fresh here before the next round of records is applied.
    confirmed: Recent<(Name, Tag), (u64, Timestamp)>,
    /// No check before this entry ends.
    early: Recent<(Name, Tag), ()>,
    /// How long the last wait was; kept beyond it, so that the next one is longer.
    waits: Recent<(Name, Tag), Duration>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { confirmed: Recent::new(TAGS_MOST), early: Recent::new(TAGS_MOST), waits: Recent::new(TAGS_MOST) }
    }
}

impl Checks {
    pub(super) fn is_early(&self, repository: &Name, tag: &Tag) -> bool {
        self.early.get(&(repository.clone(), tag.clone())).is_some()
    }

    fn confirmed(&self, repository: &Name, tag: &Tag, version: u64) -> Option<Timestamp> {
        let (confirmed, at) = self.confirmed.get(&(repository.clone(), tag.clone()))?;
        (confirmed == version).then_some(at)
    }

    fn confirm(&self, repository: &Name, tag: &Tag, version: u64, at: Timestamp, ttl: Duration) {
        let key = (repository.clone(), tag.clone());
        self.waits.remove(&key);
        self.early.remove(&key);
        self.confirmed.put(key, (version, at), ttl);
    }

    fn wait(&self, repository: &Name, tag: &Tag, ttl: Duration, at_least: Duration) {
        let key = (repository.clone(), tag.clone());
        let first = RECHECK.min(ttl.max(RECHECK_LEAST));
        let wait = self.waits.get(&key).map_or(first, |wait| wait.saturating_mul(2)).min(RECHECK_MOST).max(at_least);
        self.early.put(key.clone(), (), wait);
        self.waits.put(key, wait, wait.saturating_mul(2));
    }
}

impl Pull {
    /// Validated within its time, as the replicated state or this node knows.
    pub(super) fn is_fresh(
        &self,
        view: &View,
        origin: &Origin,
        repository: &Name,
        tag: &Tag,
        record: &TagRecord,
    ) -> bool {
        let (now, ttl) = (self.host.clock.now(), self.ttl(view, origin, repository, tag));
        // A time ahead of ours was stamped by a clock that has been set back since: it would count until then.
        let is_past = record.validated_at <= now.plus(CLOCK_SKEW);
        is_past && now.since(record.validated_at) < ttl
            || self.checks.confirmed(repository, tag, record.version).is_some_and(|at| now.since(at) < ttl)
    }

    /// Spread by ±10 % with the tag's name, so that tags that came together do not fall due together.
    fn ttl(&self, view: &View, origin: &Origin, repository: &Name, tag: &Tag) -> Duration {
        let rule = view.rules.get(&origin.rule).and_then(|rule| rule.revalidate_after);
        let ttl = rule.unwrap_or(Duration::from_secs(self.config.revalidate_after_seconds));
        ttl.mul_f64(spread(repository, tag))
    }

    pub(super) fn is_circuit_open(&self, origin: &Origin) -> bool {
        let view = self.view.load();
        view.rules.get(&origin.rule).is_some_and(|rule| self.upstreams.circuit_open(&rule.upstream_host))
    }

    /// The work of the one who leads.
    pub(super) async fn check_now(
        self: &Arc<Self>,
        target: &Target,
        tag: &Tag,
        forced: bool,
        turn: &Turn,
    ) -> Result<Checked, Failure> {
        // Without a quorum we go on: what is held is served whatever upstream says, what is not passes through.
        let barrier = self.barrier().await;
        let mut again = true;
        loop {
            let read = match self.read(target, Some(tag)) {
                Ok(read) => read,
                Err(failure) => return self.despite(target, tag, failure),
            };
            let checked = match &read.tag {
                Some(held) => {
                    let view = self.view.load();
                    // Another one may have asked while we came to lead.
                    if !forced && self.is_fresh(&view, &read.origin, &target.repository, tag, held) {
                        return self.as_held(target, held.digest, Freshness::Hit, Validation::Unchanged);
                    }
                    drop(view);
                    self.revalidate(target, tag, &read, held).await
                }
                None => self.first_pull(target, tag, &read, turn).await,
            };
            match checked {
                Err(Failure::Refused(Refusal::Moved)) if again => {
                    again = false;
                    // Its outcome changes nothing: the import is refused again if this read is old, too.
                    let _ = self.barrier().await;
                }
                Err(Failure::Refused(Refusal::Moved)) => return self.despite(target, tag, Failure::Busy),
                Err(Failure::Absent) if read.tag.is_none() => {
                    return Err(self.absence(target, Reference::Tag(tag.clone()), barrier));
                }
                Err(failure) => return self.despite(target, tag, failure),
                checked => return checked,
            }
        }
    }

    /// Upstream trouble never fails a pull of what is held (4).
    fn despite(&self, target: &Target, tag: &Tag, failure: Failure) -> Result<Checked, Failure> {
        let view = self.view.load();
        let Some(held) = view.tables().tag(&target.repository, tag)? else { return Err(failure) };
        let ttl = target.origin.as_ref().map_or(RECHECK, |origin| self.ttl(&view, origin, &target.repository, tag));
        let validation = match &failure {
            Failure::Absent => {
                self.checks.wait(&target.repository, tag, ttl, RECHECK_GONE);
                Validation::MissingUpstream
            }
            // Nobody else waits for it: whoever claims to come through many caches could freeze a tag.
            circle if circle.is_circle() && !Trail::current().hops().is_empty() => {
                Validation::UpstreamFailed(circle.explain())
            }
            other => {
                self.checks.wait(&target.repository, tag, ttl, retry_after(other));
                Validation::UpstreamFailed(other.explain())
            }
        };
        drop(view);
        tracing::debug!(repository = %target.repository, %tag, ?failure, "held image is served without validation");
        let mut checked = self.as_held(target, held.digest, Freshness::Stale, validation)?;
        checked.served.upstream_status = failure.upstream_status();
        Ok(checked)
    }

    fn as_held(
        &self,
        target: &Target,
        digest: Digest,
        freshness: Freshness,
        validation: Validation,
    ) -> Result<Checked, Failure> {
        let view = self.view.load();
        let served = self.held(&view, &target.repository, &digest, freshness)?;
        Ok(Checked { served, validation, previous: Some(digest) })
    }

    async fn first_pull(&self, target: &Target, tag: &Tag, read: &Read, turn: &Turn) -> Result<Checked, Failure> {
        let reference = Reference::Tag(tag.clone());
        let upstream = read.resolved.upstream.on_behalf_of(turn.clone());
        let image = Self::judge(read, upstream.manifest(&read.resolved.name, &reference).await?)?;
        let freshness = match self.import(target, read, Some(tag), &image).await? {
            Import::Done => Freshness::Miss,
            // Not possible for a tag that did not exist; what we have is right either way.
            Import::Frozen | Import::NotKept => Freshness::Passthrough,
        };
        Ok(Checked { served: self.fetched(image, freshness), validation: Validation::Moved, previous: None })
    }

    async fn revalidate(&self, target: &Target, tag: &Tag, read: &Read, held: &TagRecord) -> Result<Checked, Failure> {
        // Whoever pulls: the tag is held, and many may have it.
        let upstream = read.resolved.upstream.on_behalf_of(Class::Revalidation);
        let name = &read.resolved.name;
        let named = match upstream.head(name, &Reference::Tag(tag.clone())).await {
            Ok(head) => head.digest,
            // It knows no HEAD; a GET says the same at a higher price.
            Err(UpstreamError::Status { status: 405 | 501, .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if named == Some(held.digest) {
            self.confirm(target, tag, read, held);
            return self.as_held(target, held.digest, Freshness::Miss, Validation::Unchanged);
        }
        let frozen = read.repository.as_ref().is_some_and(|repository| repository.settings.mutability.freezes(tag));
        if frozen && named.is_some() {
            self.confirm(target, tag, read, held);
            return self.as_held(target, held.digest, Freshness::Miss, Validation::Frozen);
        }
        // By digest: what HEAD named is what is imported, whatever the tag names by then.
        let reference = named.map_or_else(|| Reference::Tag(tag.clone()), Reference::Digest);
        let fetched = match upstream.manifest(name, &reference).await {
            // Not there though HEAD named it: that is trouble, not an absence.
            Err(error) if named.is_some() => return Err(Failure::Upstream(error)),
            fetched => fetched?,
        };
        let image = Self::judge(read, fetched)?;
        if image.digest == held.digest {
            self.confirm(target, tag, read, held);
            return self.as_held(target, held.digest, Freshness::Miss, Validation::Unchanged);
        }
        match self.import(target, read, Some(tag), &image).await? {
            Import::Done => {
                let served = self.fetched(image, Freshness::Miss);
                Ok(Checked { served, validation: Validation::Moved, previous: Some(held.digest) })
            }
            Import::Frozen => self.as_held(target, held.digest, Freshness::Miss, Validation::Frozen),
            Import::NotKept => Err(Failure::Unavailable(RECHECK)),
        }
    }

    /// Fresh here at once, and for the cluster with the next round.
    fn confirm(&self, target: &Target, tag: &Tag, read: &Read, held: &TagRecord) {
        let (view, now) = (self.view.load(), self.host.clock.now());
        let ttl = self.ttl(&view, &read.origin, &target.repository, tag);
        self.checks.confirm(&target.repository, tag, held.version, now, ttl);
        self.usage.validated(&target.repository, tag, held.version, now);
    }
}

fn retry_after(failure: &Failure) -> Duration {
    let told = match failure {
        Failure::Upstream(UpstreamError::Throttled { retry_after, .. }) => retry_after.unwrap_or_default(),
        Failure::Upstream(UpstreamError::CircuitOpen { retry_after, .. }) => *retry_after,
        _ => Duration::ZERO,
    };
    told.min(RECHECK_MOST)
}

/// 0.9 to 1.1, the same for a tag on every node.
fn spread(repository: &Name, tag: &Tag) -> f64 {
    let mut hasher = blake3::Hasher::new();
    for part in [repository.as_str(), ":", tag.as_str()] {
        hasher.update(part.as_bytes());
    }
    let bytes = hasher.finalize();
    let [a, b, c, d, ..] = *bytes.as_bytes();
    0.9 + 0.2 * f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}
