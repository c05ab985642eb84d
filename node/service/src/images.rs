//! Images of a repository, as lists and by id.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_oci::{Digest, MediaType, Name, Tag};
use flotilla_registry::image::{ImageId, ImageRecord};
use flotilla_state::ImageDeletion;

use crate::{Parts, Permit, Pull, ServiceError, proposer::Proposer};

pub struct Images {}

/// An image with the tags that name it.
#[derive(Clone, Debug)]
pub struct ImageView {
    pub record: ImageRecord,
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug)]
pub struct TagView {
    pub tag: Option<Tag>,
    pub digest: Digest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageFilter {
    #[default]
    Any,
    Tagged,
    Untagged,
}

/// A manifest as BatchGetImage shows it.
#[derive(Clone, Debug)]
pub struct HeldImage {
    pub digest: Digest,
    pub media_type: MediaType,
    pub manifest: Bytes,
}

impl Images {
    pub(crate) fn new(parts: &Parts, proposer: Proposer, pull: Arc<Pull>) -> Self {
        todo!()
    }

    /// Images after `after` in the order of their digests, at most `limit` that pass `filter`; and the digest to go on
    /// from, when there may be more.
    pub async fn list(
        &self,
        permit: Permit<'_>,
        repository: &Name,
        filter: ImageFilter,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<(Vec<ImageView>, Option<Digest>), ServiceError> {
        todo!()
    }

    /// The images that `ids` name, in their order; a missing one, or a tag that names another digest, fails the call.
    pub async fn describe(
        &self,
        permit: Permit<'_>,
        repository: &Name,
        ids: &[ImageId],
    ) -> Result<Vec<ImageView>, ServiceError> {
        todo!()
    }

    /// One image, imported through its rule when it is not here: this is a pull.
    pub async fn get(&self, permit: Permit<'_>, repository: &Name, id: &ImageId) -> Result<HeldImage, ServiceError> {
        todo!()
    }

    /// In the order of `ids`.
    pub async fn delete(
        &self,
        permit: Permit<'_>,
        repository: &Name,
        ids: Vec<ImageId>,
    ) -> Result<Vec<ImageDeletion>, ServiceError> {
        todo!()
    }

    /// Tags of the repository in lexical order, after `after`.
    pub async fn tags(
        &self,
        permit: Permit<'_>,
        repository: &Name,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, ServiceError> {
        todo!()
    }
}
