//! Imports: an image from upstream, moved in only if what was read before upstream was asked still holds
//! (`protocols.md` §3.4).

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA512};
use bytes::{Bytes, BytesMut};
use flotilla_base::{ByteLen, store::StoreError};
use flotilla_oci::{Algorithm, Digest, MANIFEST_LIMIT, Manifest, Name};
use flotilla_registry::{
    Refusal, Repository,
    cache_rule::{CacheRule, Origin},
    repository::RepositorySettings,
};

use super::{Applier, Halt};
use crate::{
    ImportImage, Outcome, PART_LIMIT, TagRecord, TagUpdate,
    format::{STAGED_PARTS, TAGS, TAGS_BY_DIGEST, decode_row, digest_tag_key, empty_row, part_key, tag_key},
    records::StagedPart,
};

/// Long enough to send 4 MiB over the slowest link that we promise anything for, twice.
const PART_TTL: Duration = Duration::from_secs(10 * 60);

/// Parts of the longest manifest.
const PARTS_MAX: u64 = MANIFEST_LIMIT.0.div_ceil(PART_LIMIT.0);

/// Rows that expiry reads at once: each may be as long as a part.
const PAGE: usize = 16;

/// Where an import or a link goes.
pub(super) enum Destination {
    Existing(Repository),
    /// Made once nothing can be refused any more.
    New(Origin, RepositorySettings),
}

impl Applier<'_, '_> {
    pub(super) fn put_part(&mut self, digest: Digest, index: u16, bytes: Bytes) -> Result<Outcome, Halt> {
        let fits = u64::from(index) < PARTS_MAX && bytes.len() as u64 <= PART_LIMIT.0;
        if !fits || bytes.is_empty() {
            return Err(Refusal::BadManifest(digest).into());
        }
        let part = StagedPart { arrived_at: self.meta.time, bytes };
        self.put(STAGED_PARTS, part_key(&digest, index), &part)?;
        Ok(Outcome::Done)
    }

    pub(super) fn import_image(&mut self, import: ImportImage) -> Result<Outcome, Halt> {
        let ImportImage { repository: name, expect_incarnation, origin, .. } = &import;
        // Not by its prefix alone: a longer one may have come, and the repository be another upstream's by now.
        let rule = self.tables().covering_rule(name)?;
        let is_read = |rule: &&CacheRule| rule.prefix == origin.rule && rule.version == import.expect_rule_version;
        if rule.as_ref().filter(is_read).is_none() {
            return Err(Refusal::Moved.into());
        }
        let destination = match (self.tables().repository(name)?, expect_incarnation) {
            (Some(repository), Some(expected)) if repository.incarnation == *expected => {
                Destination::Existing(repository)
            }
            (None, None) => Destination::New(origin.clone(), self.settings_from_template(name)?),
            _ => return Err(Refusal::Moved.into()),
        };
        if let Some(update) = &import.tag
            && let Some(outcome) = self.stays(&destination, name, update, &import.digest)?
        {
            return Ok(outcome);
        }
        let bytes = self.manifest_to_import(&import)?;
        let manifest =
            Manifest::parse(Some(&import.media_type.0), &bytes).map_err(|_| Refusal::BadManifest(import.digest))?;

        let created_repository = matches!(destination, Destination::New(..));
        let repository = self.settle(destination, name)?;
        self.mark_private(name, rule.as_ref())?;
        self.record_image(name, import.digest, &manifest, &bytes)?;
        self.drop_parts(&import.digest)?;
        let tag_version = match &import.tag {
            Some(update) => self.move_tag(name, update, import.digest)?,
            None => 0,
        };
        Ok(Outcome::Imported { created_repository, incarnation: repository.incarnation, tag_version, moved: true })
    }

    /// The repository of `destination`, made now if it is a new one.
    pub(super) fn settle(&mut self, destination: Destination, name: &Name) -> Result<Repository, StoreError> {
        match destination {
            Destination::Existing(repository) => Ok(repository),
            Destination::New(origin, settings) => self.put_new_repository(name.clone(), Some(origin.rule), settings),
        }
    }

    /// The outcome when the tag names `digest` already or is frozen on another: only its validation moves.
    fn stays(
        &mut self,
        destination: &Destination,
        name: &Name,
        update: &TagUpdate,
        digest: &Digest,
    ) -> Result<Option<Outcome>, Halt> {
        let held = self.tables().tag(name, &update.tag)?;
        if held.as_ref().map_or(0, |held| held.version) != update.expect_version {
            return Err(Refusal::Moved.into());
        }
        let (Some(held), Destination::Existing(repository)) = (held, destination) else { return Ok(None) };
        let same = held.digest == *digest;
        if !same && !repository.settings.mutability.freezes(&update.tag) {
            return Ok(None);
        }
        let validated_at = held.validated_at.max(self.meta.time);
        let tag_version = held.version;
        self.put(TAGS, tag_key(name, &update.tag), &TagRecord { validated_at, ..held })?;
        let incarnation = repository.incarnation;
        Ok(Some(Outcome::Imported { created_repository: false, incarnation, tag_version, moved: same }))
    }

    fn move_tag(&mut self, name: &Name, update: &TagUpdate, digest: Digest) -> Result<u64, StoreError> {
        if let Some(held) = self.tables().tag(name, &update.tag)? {
            self.remove(TAGS_BY_DIGEST, digest_tag_key(name, &held.digest, &update.tag))?;
        }
        self.meta.last_tag_version += 1;
        let (version, now) = (self.meta.last_tag_version, self.meta.time);
        let record = TagRecord { digest, version, moved_at: now, validated_at: now };
        self.put(TAGS, tag_key(name, &update.tag), &record)?;
        self.overlay.write(TAGS_BY_DIGEST, digest_tag_key(name, &digest, &update.tag), Some(empty_row()))?;
        Ok(version)
    }

    /// From the command, from what is held under this digest already, or from its staged parts; always the bytes that
    /// the digest names.
    fn manifest_to_import(&self, import: &ImportImage) -> Result<Bytes, Halt> {
        let bad = || Halt::from(Refusal::BadManifest(import.digest));
        if import.len > MANIFEST_LIMIT {
            return Err(bad());
        }
        let bytes = match &import.bytes {
            Some(bytes) => bytes.clone(),
            None => match self.tables().manifest_bytes(&import.digest)? {
                Some(held) => return Ok(held),
                None => self.assemble(&import.digest, import.len)?,
            },
        };
        if bytes.len() as u64 != import.len.0 || !names(&import.digest, &bytes) {
            return Err(bad());
        }
        Ok(bytes)
    }

    /// The parts from the first one on, until `len` is reached.
    fn assemble(&self, digest: &Digest, len: ByteLen) -> Result<Bytes, Halt> {
        let mut bytes = BytesMut::new();
        for index in 0..=u16::MAX {
            if bytes.len() as u64 >= len.0 {
                break;
            }
            let part = self.tables().row::<StagedPart>(STAGED_PARTS, &part_key(digest, index))?;
            match part.filter(|part| self.meta.time.since(part.arrived_at) < PART_TTL) {
                Some(part) => bytes.extend_from_slice(&part.bytes),
                None => return Err(Refusal::PartsMissing(*digest).into()),
            }
        }
        Ok(bytes.freeze())
    }

    fn drop_parts(&mut self, digest: &Digest) -> Result<(), StoreError> {
        let prefix = digest.key();
        loop {
            let page = self.tables().under(STAGED_PARTS, &prefix, None, PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            for (index, _) in page {
                self.remove(STAGED_PARTS, [prefix.as_slice(), &index].concat())?;
            }
        }
    }

    /// Drops at most `limit` of them.
    pub(super) fn expire_parts(&mut self, limit: usize) -> Result<(), StoreError> {
        let mut after: Option<Bytes> = None;
        let mut dropped = 0;
        while dropped < limit {
            let page = self.tables().under(STAGED_PARTS, &[], after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, row) in page {
                let part: StagedPart = decode_row(STAGED_PARTS, &row)?;
                if self.meta.time.since(part.arrived_at) >= PART_TTL && dropped < limit {
                    self.remove(STAGED_PARTS, key.to_vec())?;
                    dropped += 1;
                }
            }
        }
        Ok(())
    }
}

/// Whether `digest` is that of `bytes`.
fn names(digest: &Digest, bytes: &[u8]) -> bool {
    let algorithm = match digest.algorithm() {
        Algorithm::Sha256 => &SHA256,
        Algorithm::Sha512 => &SHA512,
    };
    aws_lc_rs::digest::digest(algorithm, bytes).as_ref() == digest.hash()
}
