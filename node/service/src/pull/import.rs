//! From a manifest that upstream gave to an image of a repository.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use flotilla_base::ByteLen;
use flotilla_oci::{Digest, Manifest, MediaType, Tag};
use flotilla_registry::{
    Refusal, Repository,
    cache_rule::{Origin, Target},
};
use flotilla_state::{ImportImage, Op, Outcome, PART_LIMIT, TagRecord, TagUpdate};
use flotilla_transfer::Resolved;
use flotilla_upstream::{FetchedManifest, UpstreamError};

use super::{Pull, failure::Failure};
use crate::ServiceError;

/// How long a client waits for a proposal before its image passes by without being kept (`protocols.md` §3.6).
const IMPORT_WAIT: Duration = Duration::from_secs(1);

/// A manifest whose bytes are its digest's, and which is one.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
}

/// What was read before upstream was asked; the import holds only while it is still so.
pub(super) struct Read {
    pub origin: Origin,
    pub repository: Option<Repository>,
    pub tag: Option<TagRecord>,
    pub resolved: Resolved,
}

/// How an import ended.
pub(super) enum Import {
    /// The repository has it, and the tag names it.
    Done,
    /// The tag is frozen on what it names.
    Frozen,
    /// It could not be recorded; the bytes are right nevertheless.
    NotKept,
}

impl Pull {
    /// # Errors
    /// `Origin` when upstream cannot be asked.
    pub(super) fn read(&self, target: &Target, tag: Option<&Tag>) -> Result<Read, Failure> {
        let origin = target.origin.clone().ok_or(Failure::Absent)?;
        let view = self.view.load();
        let tables = view.tables();
        // The target may be older than the rule's filters.
        if !view.rules.options(&origin.rule).admits(&origin.name) {
            return Err(Failure::Filtered(origin.rule));
        }
        // The rule first: one that changes from here on refuses the import.
        let resolved = self.origins.resolve(&origin)?;
        let repository = tables.repository(&target.repository)?;
        let tag = match tag {
            Some(tag) => tables.tag(&target.repository, tag)?,
            None => None,
        };
        Ok(Read { origin, repository, tag, resolved })
    }

    /// # Errors
    /// `Upstream` for bytes that are no manifest that we serve.
    pub(super) fn judge(read: &Read, fetched: FetchedManifest) -> Result<Image, Failure> {
        let content_type = fetched.media_type.as_ref().map(|media_type| media_type.0.as_str());
        let manifest = Manifest::parse(content_type, &fetched.bytes).map_err(|error| {
            tracing::warn!(host = read.resolved.host, name = %read.resolved.name, error = %error, "no manifest");
            Failure::Upstream(UpstreamError::Malformed {
                host: read.resolved.host.as_str().into(),
                reason: "what it gave is no manifest that is served here",
            })
        })?;
        Ok(Image { digest: fetched.digest, media_type: manifest.media_type, bytes: fetched.bytes })
    }

    /// Records `image`, and `tag` on it, if what was read still holds.
    ///
    /// # Errors
    /// `Refused`; `Refused(Moved)` when something changed since.
    pub(super) async fn import(
        &self,
        target: &Target,
        read: &Read,
        tag: Option<&Tag>,
        image: &Image,
    ) -> Result<Import, Failure> {
        let expect_version = read.tag.as_ref().map_or(0, |held| held.version);
        let fits = image.bytes.len() as u64 <= PART_LIMIT.0;
        let held = self.view.load().tables().manifest(&image.digest)?.is_some();
        let import = ImportImage {
            repository: target.repository.clone(),
            expect_incarnation: read.repository.as_ref().map(|repository| repository.incarnation),
            origin: read.origin.clone(),
            expect_rule_version: read.resolved.rule_version,
            tag: tag.map(|tag| TagUpdate { tag: tag.clone(), expect_version }),
            digest: image.digest,
            media_type: image.media_type.clone(),
            len: ByteLen(image.bytes.len() as u64),
            bytes: (fits && !held).then(|| image.bytes.clone()),
        };
        let mut staged = fits || held;
        // Parts may expire, and a held manifest go, between the staging and the import: then once more.
        for _ in 0..3 {
            if !staged && self.stage(image).await.is_none() {
                return Ok(Import::NotKept);
            }
            match self.propose(Op::ImportImage(Box::new(import.clone()))).await {
                None => return Ok(Import::NotKept),
                Some(Ok(Outcome::Imported { moved, .. })) => {
                    return Ok(if moved { Import::Done } else { Import::Frozen });
                }
                Some(Ok(_)) => return Err(Failure::Unexpected("an import")),
                Some(Err(Refusal::PartsMissing(_))) => staged = false,
                Some(Err(refusal)) => return Err(Failure::Refused(refusal)),
            }
        }
        Ok(Import::NotKept)
    }

    /// Puts the manifest into the state, part by part; `None` when that cannot be done now.
    async fn stage(&self, image: &Image) -> Option<()> {
        let part_len = usize::try_from(PART_LIMIT.0).unwrap_or(usize::MAX);
        for (index, part) in image.bytes.chunks(part_len).enumerate() {
            let bytes = image.bytes.slice_ref(part);
            let op = Op::PutManifestPart { digest: image.digest, index: u16::try_from(index).ok()?, bytes };
            self.propose(op).await?.ok()?;
        }
        Some(())
    }

    /// `None` when there is no answer in time: the client is served, the image perhaps not kept.
    async fn propose(&self, op: Op) -> Option<Result<Outcome, Refusal>> {
        let proposed = tokio::time::timeout(IMPORT_WAIT, self.proposer.propose_as_node(op)).await;
        let (answer, error) = match proposed {
            Ok(Ok(outcome)) => (Some(Ok(outcome)), None),
            Ok(Err(ServiceError::Refused(refusal))) => (Some(Err(refusal)), None),
            Ok(Err(error)) => (None, Some(error)),
            Err(_) => (None, Some(ServiceError::Unavailable { retry_after: IMPORT_WAIT })),
        };
        // Once, not with each pull of an outage.
        match error {
            Some(error) if !self.keeps_nothing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(error = %error, "imports are not recorded now, images pass through");
            }
            None if self.keeps_nothing.swap(false, Ordering::Relaxed) => tracing::info!("imports are recorded again"),
            _ => {}
        }
        answer
    }
}
