//! Images with what hangs on them: the manifest's bytes, references to blobs, children, referrers, sizes of lists.
//!
//! Which blobs an image counts is not recorded: it is read from its manifest again when the image goes. The reading of
//! [`Manifest::parse`] is therefore format, and frozen: a manifest that was accepted once names the same blobs for ever.

use std::collections::BTreeSet;

use bytes::Bytes;
use flotilla_base::{ByteLen, store::StoreError};
use flotilla_oci::{Descriptor, Digest, Manifest, Name};
use flotilla_registry::image::{ImageRecord, Provenance};

use super::Applier;
use crate::{
    BlobRecord, ManifestRecord,
    format::{
        BLOBS, CHILDREN, IMAGES, MANIFEST_BYTES, MANIFESTS, REFERRERS, corrupt, digest_key, digest_pair_key, empty_row,
        encode_verbatim,
    },
};

impl Applier<'_, '_> {
    /// Nothing changes when the repository has the image already.
    pub(super) fn record_image(
        &mut self,
        name: &Name,
        digest: Digest,
        manifest: &Manifest,
        bytes: &Bytes,
    ) -> Result<(), StoreError> {
        if self.tables().image(name, &digest)?.is_some() {
            return Ok(());
        }
        self.hold_manifest(&digest, manifest, bytes)?;
        for blob in distinct(&manifest.blobs) {
            self.change_blob(&blob, |blob| blob.cached_references = blob.cached_references.saturating_add(1))?;
        }
        let mut size = manifest.blobs.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.size.0));
        for child in distinct(&manifest.children) {
            self.overlay.write(CHILDREN, digest_pair_key(name, &child, &digest), Some(empty_row()))?;
            size = size.max(self.tables().image(name, &child)?.map_or(0, |child| child.size.0));
        }
        let subject = manifest.subject.as_ref().map(|subject| subject.digest);
        if let Some(subject) = &subject {
            self.overlay.write(REFERRERS, digest_pair_key(name, subject, &digest), Some(empty_row()))?;
        }
        let image = ImageRecord {
            digest,
            media_type: manifest.media_type.clone(),
            artifact_type: manifest.artifact_type.clone(),
            size: ByteLen(size),
            pushed_at: self.meta.time,
            last_pulled_at: None,
            subject,
            provenance: Provenance::Cached,
        };
        self.put(IMAGES, digest_key(name, &digest), &image)?;
        self.raise_lists(name, digest, ByteLen(size))
    }

    /// The image and what it counts; its tags are the caller's to remove.
    pub(super) fn forget_image(&mut self, name: &Name, digest: &Digest) -> Result<(), StoreError> {
        let Some(image) = self.tables().image(name, digest)? else { return Ok(()) };
        let bytes = self.tables().manifest_bytes(digest)?;
        let bytes = bytes.ok_or_else(|| corrupt(MANIFEST_BYTES, format_args!("{digest} has an image and no bytes")))?;
        let manifest =
            Manifest::parse(Some(&image.media_type.0), &bytes).map_err(|error| corrupt(MANIFEST_BYTES, error))?;
        for blob in distinct(&manifest.blobs) {
            self.change_blob(&blob, |blob| match image.provenance {
                Provenance::Cached => blob.cached_references = blob.cached_references.saturating_sub(1),
                Provenance::Pushed => blob.pushed_references = blob.pushed_references.saturating_sub(1),
            })?;
        }
        for child in distinct(&manifest.children) {
            self.remove(CHILDREN, digest_pair_key(name, &child, digest))?;
        }
        if let Some(subject) = &manifest.subject {
            self.remove(REFERRERS, digest_pair_key(name, &subject.digest, digest))?;
        }
        self.remove(IMAGES, digest_key(name, digest))?;
        self.release_manifest(digest)
    }

    fn hold_manifest(&mut self, digest: &Digest, manifest: &Manifest, bytes: &Bytes) -> Result<(), StoreError> {
        let record = match self.tables().manifest(digest)? {
            Some(held) => ManifestRecord { references: held.references.saturating_add(1), ..held },
            None => {
                self.overlay.write(MANIFEST_BYTES, digest.key(), Some(encode_verbatim(bytes)))?;
                let len = ByteLen(bytes.len() as u64);
                ManifestRecord { media_type: manifest.media_type.clone(), len, references: 1 }
            }
        };
        self.put(MANIFESTS, digest.key(), &record)
    }

    fn release_manifest(&mut self, digest: &Digest) -> Result<(), StoreError> {
        let Some(held) = self.tables().manifest(digest)? else { return Ok(()) };
        if held.references > 1 {
            return self.put(MANIFESTS, digest.key(), &ManifestRecord { references: held.references - 1, ..held });
        }
        self.remove(MANIFESTS, digest.key())?;
        self.remove(MANIFEST_BYTES, digest.key())
    }

    /// Lists are as large as the largest of their children that are here, and lists may name lists. It ends: each list
    /// grows to `size` once.
    fn raise_lists(&mut self, name: &Name, child: Digest, size: ByteLen) -> Result<(), StoreError> {
        let mut raised = vec![child];
        while let Some(child) = raised.pop() {
            for list in self.tables().lists_naming(name, &child)? {
                match self.tables().image(name, &list)? {
                    Some(image) if image.size < size => {
                        self.put(IMAGES, digest_key(name, &list), &ImageRecord { size, ..image })?;
                        raised.push(list);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Every change of a blob's counts goes through here: it keeps the time since when nothing holds the blob.
    pub(super) fn change_blob(
        &mut self,
        digest: &Digest,
        change: impl FnOnce(&mut BlobRecord),
    ) -> Result<(), StoreError> {
        let mut blob = self.tables().blob(digest)?.unwrap_or_else(BlobRecord::unknown);
        change(&mut blob);
        let unheld_since = blob.unreferenced_since.unwrap_or(self.meta.time);
        blob.unreferenced_since = if blob.is_held() { None } else { Some(unheld_since) };
        self.put(BLOBS, digest.key(), &blob)
    }
}

/// A manifest may name a blob twice (an empty layer, say); it counts once.
fn distinct(descriptors: &[Descriptor]) -> BTreeSet<Digest> {
    descriptors.iter().map(|descriptor| descriptor.digest).collect()
}
