//! Manifests: from what is held, else from upstream, once for all who ask.

use std::{sync::Arc, time::Duration};

use flotilla_oci::{Digest, Name, Reference, Tag};
use flotilla_registry::{
    Refusal,
    cache_rule::{Origin, Target},
};
use flotilla_runtime::{Flight, Lead, SingleFlight};
use flotilla_state::{TagRecord, View};
use flotilla_transfer::LeaseKey;
use flotilla_upstream::{Turn, UpstreamError};

use super::{
    Freshness, Pull, ServedManifest, Source,
    failure::Failure,
    import::{Image, Import},
    turns::Standing,
    validate::Checked,
};
use crate::{Caller, ServiceError};

/// What an upstream says with a manifest, or when it confirms one.
const ANSWERED: u16 = 200;
/// Circles of other callers that one looks beyond.
const CIRCLES_MOST: usize = 3;

impl Pull {
    pub(super) async fn serve_manifest(
        self: &Arc<Self>,
        caller: &Caller,
        target: &Target,
        reference: &Reference,
    ) -> Result<ServedManifest, ServiceError> {
        let served = match reference {
            Reference::Tag(tag) => self.by_tag(caller, target, tag).await,
            Reference::Digest(digest) => self.by_digest(caller, target, digest).await,
        };
        let served = served.map_err(|failure| {
            // Docker Hub answers so for a name that is mistyped: a fleet that comes back must not cost a request each.
            if let Failure::Upstream(UpstreamError::Denied { .. } | UpstreamError::Unauthorized { .. }) = &failure {
                self.remember(target, reference.clone(), failure.clone());
            }
            self.missing(target, failure.of_manifest(&target.repository, reference))
        })?;
        if served.freshness != Freshness::Passthrough {
            self.usage.pulled(&target.repository, served.digest, self.host.clock.now());
        }
        Ok(served)
    }

    async fn by_tag(self: &Arc<Self>, caller: &Caller, target: &Target, tag: &Tag) -> Result<ServedManifest, Failure> {
        let view = self.view.load();
        let held = view.tables().tag(&target.repository, tag)?;
        match (&held, &target.origin) {
            (Some(record), None) => self.held(&view, &target.repository, &record.digest, Freshness::Hit),
            (Some(record), Some(origin)) => {
                if self.is_fresh(&view, origin, &target.repository, tag, record) {
                    return self.held(&view, &target.repository, &record.digest, Freshness::Hit);
                }
                drop(view);
                self.validated(caller, target, origin, tag, record).await
            }
            (None, Some(_)) => {
                let reference = Reference::Tag(tag.clone());
                drop(view);
                if let Some(no) = self.known_no(target, reference) {
                    return Err(no);
                }
                self.check(caller, target, tag, false).await.map(|checked| checked.served)
            }
            (None, None) => {
                drop(view);
                self.barrier().await?;
                let view = self.view.load();
                let held = view.tables().tag(&target.repository, tag)?.ok_or(Failure::Absent)?;
                self.held(&view, &target.repository, &held.digest, Freshness::Hit)
            }
        }
    }

    /// Due: asks upstream, but never lets a client wait long for what is held, nor fails it (4).
    async fn validated(
        self: &Arc<Self>,
        caller: &Caller,
        target: &Target,
        origin: &Origin,
        tag: &Tag,
        record: &TagRecord,
    ) -> Result<ServedManifest, Failure> {
        let stale = || {
            let view = self.view.load();
            self.held(&view, &target.repository, &record.digest, Freshness::Stale)
        };
        if self.checks.is_early(&target.repository, tag) {
            return stale();
        }
        // An upstream that failed of late is not waited for, but asked: one of these questions finds it well again.
        let seconds = if self.is_circuit_open(origin) { 0 } else { self.config.revalidate_wait_seconds };
        let patience = Duration::from_secs(seconds);
        match tokio::time::timeout(patience, self.check(caller, target, tag, false)).await {
            Ok(Ok(checked)) => Ok(checked.served),
            Ok(Err(_)) | Err(_) => stale(),
        }
    }

    /// Asks upstream about a tag, once for all who wait. The work goes on when they leave.
    pub(super) async fn check(
        self: &Arc<Self>,
        caller: &Caller,
        target: &Target,
        tag: &Tag,
        forced: bool,
    ) -> Result<Checked, Failure> {
        let key = LeaseKey::Tag(target.repository.clone(), tag.clone());
        let pay = || {
            let view = self.view.load();
            match view.tables().tag(&target.repository, tag)? {
                Some(_) => Ok(self.limits.revalidation(&self.limits.payer(caller))?),
                None => self.pay_for_miss(caller, target),
            }
        };
        let lead = |lead: Lead<LeaseKey, _>, standing: Arc<Standing<LeaseKey>>| {
            let (pull, target, tag) = (self.clone(), target.clone(), tag.clone());
            self.host.tasks.spawn("tag", async move {
                let _lease = pull.transfer.lease().claim(lead.key()).await;
                lead.publish(pull.check_now(&target, &tag, forced, &standing.turn()).await);
            });
        };
        self.once(&self.tags, caller, &key, pay, lead).await
    }

    /// What one caller leads and pays for, and all others follow.
    async fn once<T: Clone>(
        &self,
        flights: &SingleFlight<LeaseKey, Result<T, Failure>>,
        caller: &Caller,
        key: &LeaseKey,
        pay: impl Fn() -> Result<(), Failure>,
        lead: impl Fn(Lead<LeaseKey, Result<T, Failure>>, Arc<Standing<LeaseKey>>),
    ) -> Result<T, Failure> {
        let mut is_last = caller.principal.is_anonymous();
        let mut circles = 0;
        loop {
            let mut leads = false;
            let standing = self.turns.join(key, caller.class());
            let mut outcome = match flights.follow(key) {
                Some(outcome) => outcome,
                None => {
                    pay()?;
                    match flights.claim(key.clone()) {
                        Flight::Follow(outcome) => outcome,
                        Flight::Lead(leading) => {
                            (is_last, leads) = (true, true);
                            let outcome = leading.follow();
                            lead(leading, standing.clone());
                            outcome
                        }
                    }
                }
            };
            let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
            match ended.unwrap_or_else(|| Err(Failure::abandoned())) {
                // Joined too late to raise it: what anonymous callers are refused is no answer for this one.
                Err(failure) if failure.is_of_its_class() && !is_last => is_last = true,
                // Anybody can claim to come through caches that he does not come through.
                Err(failure) if failure.is_circle() && !leads && circles < CIRCLES_MOST => circles += 1,
                ended => return ended,
            }
        }
    }

    /// The repository comes with the first image; whether upstream has one is not known yet.
    fn pay_for_miss(&self, caller: &Caller, target: &Target) -> Result<(), Failure> {
        let makes_repository = self.view.load().tables().repository(&target.repository)?.is_none();
        Ok(self.limits.miss(&self.limits.payer(caller), makes_repository)?)
    }

    async fn by_digest(
        self: &Arc<Self>,
        caller: &Caller,
        target: &Target,
        digest: &Digest,
    ) -> Result<ServedManifest, Failure> {
        if let Some(held) = self.linked(&target.repository, digest)? {
            return Ok(held);
        }
        if target.origin.is_none() {
            self.barrier().await?;
            return self.linked(&target.repository, digest)?.ok_or(Failure::Absent);
        }
        if let Some(no) = self.known_no(target, Reference::Digest(*digest)) {
            return Err(no);
        }
        let key = LeaseKey::Manifest(target.repository.clone(), *digest);
        let lead = |lead: Lead<LeaseKey, _>, standing: Arc<Standing<LeaseKey>>| {
            let (pull, target, digest) = (self.clone(), target.clone(), *digest);
            self.host.tasks.spawn("manifest", async move {
                let _lease = pull.transfer.lease().claim(lead.key()).await;
                lead.publish(pull.fetch_digest(&target, &digest, &standing.turn()).await);
            });
        };
        self.once(&self.digests, caller, &key, || self.pay_for_miss(caller, target), lead).await
    }

    /// The image's link to the repository is that its own upstream gives it.
    async fn fetch_digest(&self, target: &Target, digest: &Digest, turn: &Turn) -> Result<ServedManifest, Failure> {
        // Without a quorum we go on: upstream says what is right, and the image passes through.
        let barrier = self.barrier().await;
        if let Some(held) = self.linked(&target.repository, digest)? {
            return Ok(held);
        }
        let mut moved = 0;
        loop {
            let read = self.read(target, None)?;
            let reference = Reference::Digest(*digest);
            let upstream = read.resolved.upstream.on_behalf_of(turn.clone());
            let fetched = match upstream.manifest(&read.resolved.name, &reference).await {
                Err(error) if error.is_definite_absence() => return Err(self.absence(target, reference, barrier)),
                fetched => fetched?,
            };
            let image = Self::judge(&read, fetched)?;
            match self.import(target, &read, None, &image).await {
                Ok(Import::Done | Import::Frozen) => return Ok(self.fetched(image, Freshness::Miss)),
                Ok(Import::NotKept) => return Ok(self.fetched(image, Freshness::Passthrough)),
                Err(Failure::Refused(Refusal::Moved)) if moved == 0 => moved += 1,
                Err(Failure::Refused(Refusal::Moved)) => return Ok(self.fetched(image, Freshness::Passthrough)),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Upstream's "no" is one only after a barrier (13); then it is remembered for a few seconds.
    pub(super) fn absence(&self, target: &Target, reference: Reference, barrier: Result<(), Failure>) -> Failure {
        match barrier {
            Ok(()) => {
                self.remember(target, reference, Failure::Absent);
                Failure::Absent
            }
            Err(unavailable) => unavailable,
        }
    }

    fn remember(&self, target: &Target, reference: Reference, no: Failure) {
        // What is repeated from here must not live on by being repeated.
        if self.known_no(target, reference.clone()).is_none() {
            let (key, version) = ((target.repository.clone(), reference), self.rule_version(target));
            self.noes.put(key, (version, no), Duration::from_secs(self.config.negative_seconds));
        }
    }

    /// What was said of late under the rule as it is: another rule, or another credential, may open what was closed.
    fn known_no(&self, target: &Target, reference: Reference) -> Option<Failure> {
        let (version, no) = self.noes.get(&(target.repository.clone(), reference))?;
        (version == self.rule_version(target)).then_some(no)
    }

    fn rule_version(&self, target: &Target) -> u64 {
        let view = self.view.load();
        let rule = target.origin.as_ref().and_then(|origin| view.rules.get(&origin.rule));
        rule.map_or(0, |rule| rule.version)
    }

    pub(super) fn fetched(&self, image: Image, freshness: Freshness) -> ServedManifest {
        let Image { digest, media_type, bytes } = image;
        self.manifests.put(digest, bytes.clone());
        let source = if freshness == Freshness::Passthrough { Source::Passthrough } else { Source::Upstream };
        ServedManifest { digest, media_type, bytes, freshness, source, upstream_status: Some(ANSWERED) }
    }

    /// An image of the repository.
    fn linked(&self, repository: &Name, digest: &Digest) -> Result<Option<ServedManifest>, Failure> {
        let view = self.view.load();
        match self.held(&view, repository, digest, Freshness::Hit) {
            Err(Failure::Absent) => Ok(None),
            held => held.map(Some),
        }
    }

    /// What the repository is known to have: a tag of it names `digest`, or an image does.
    pub(super) fn held(
        &self,
        view: &View,
        repository: &Name,
        digest: &Digest,
        freshness: Freshness,
    ) -> Result<ServedManifest, Failure> {
        let tables = view.tables();
        // Deleted since the tag was read: gone is gone.
        let image = tables.image(repository, digest)?.ok_or(Failure::Absent)?;
        let bytes = match self.manifests.get(digest) {
            Some(bytes) => bytes,
            None => {
                let bytes = tables.manifest_bytes(digest)?.ok_or(Failure::Absent)?;
                self.manifests.put(*digest, bytes.clone());
                bytes
            }
        };
        // Of all that is held, only this has just been confirmed.
        let upstream_status = (freshness == Freshness::Miss).then_some(ANSWERED);
        let (media_type, source) = (image.media_type, Source::Local);
        Ok(ServedManifest { digest: *digest, media_type, bytes, freshness, source, upstream_status })
    }

    pub(super) async fn barrier(&self) -> Result<(), Failure> {
        self.proposer.barrier().await.map(|_| ()).map_err(Failure::from)
    }
}
