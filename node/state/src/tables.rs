use bytes::Bytes;
use flotilla_base::{
    LogIndex,
    store::{Rows, StoreError},
};
use flotilla_oci::{Digest, Name, Tag};
use flotilla_registry::{
    NodeRecord, Repository, Settings, access::AccessKey, cache_rule::CacheRules, image::ImageRecord,
    template::Templates,
};

use crate::{BlobRecord, LinkRecord, ManifestRecord, Meta, StateHash, TagRecord};

/// Typed queries over whatever holds the rows: the store, an overlay within `apply`, a frozen view for a snapshot.
/// Lists are pages: at most `limit` (and never more than 1,000) after a key, in key order.
#[derive(Clone, Copy)]
pub struct Tables<'a>(&'a dyn Rows);

impl<'a> Tables<'a> {
    pub fn of(rows: &'a dyn Rows) -> Self {
        Self(rows)
    }

    pub fn meta(&self) -> Result<Meta, StoreError> {
        todo!()
    }

    /// Index of the last applied log entry.
    pub fn applied(&self) -> Result<Option<LogIndex>, StoreError> {
        todo!()
    }

    /// What consensus wrote with the last batch that had something of its own.
    pub fn consensus_record(&self) -> Result<Option<Bytes>, StoreError> {
        todo!()
    }

    pub fn hash(&self) -> Result<StateHash, StoreError> {
        todo!()
    }

    pub fn settings(&self) -> Result<Settings, StoreError> {
        todo!()
    }

    pub fn rules(&self) -> Result<CacheRules, StoreError> {
        todo!()
    }

    pub fn templates(&self) -> Result<Templates, StoreError> {
        todo!()
    }

    pub fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        todo!()
    }

    pub fn access_key(&self, id: &str) -> Result<Option<AccessKey>, StoreError> {
        todo!()
    }

    pub fn repository(&self, name: &Name) -> Result<Option<Repository>, StoreError> {
        todo!()
    }

    pub fn repositories(&self, after: Option<&Name>, limit: usize) -> Result<Vec<Repository>, StoreError> {
        todo!()
    }

    pub fn repository_count(&self) -> Result<u64, StoreError> {
        todo!()
    }

    pub fn tag(&self, repository: &Name, tag: &Tag) -> Result<Option<TagRecord>, StoreError> {
        todo!()
    }

    pub fn tags(
        &self,
        repository: &Name,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<(Tag, TagRecord)>, StoreError> {
        todo!()
    }

    /// Tags that name `digest`, in order.
    pub fn tags_of(&self, repository: &Name, digest: &Digest) -> Result<Vec<Tag>, StoreError> {
        todo!()
    }

    /// The manifest's link to this repository; what has none is not served through it.
    pub fn image(&self, repository: &Name, digest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        todo!()
    }

    pub fn images(
        &self,
        repository: &Name,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ImageRecord>, StoreError> {
        todo!()
    }

    pub fn manifest(&self, digest: &Digest) -> Result<Option<ManifestRecord>, StoreError> {
        todo!()
    }

    /// Verbatim, as their digest names them. Ask [`Tables::image`] first.
    pub fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        todo!()
    }

    pub fn blob(&self, digest: &Digest) -> Result<Option<BlobRecord>, StoreError> {
        todo!()
    }

    pub fn link(&self, repository: &Name, digest: &Digest) -> Result<Option<LinkRecord>, StoreError> {
        todo!()
    }
}
