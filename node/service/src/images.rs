//! Images of a repository, as lists and by id.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_oci::{Digest, MediaType, Name, Reference, Tag};
use flotilla_registry::{
    Refusal,
    image::{ImageId, ImageRecord},
};
use flotilla_runtime::Published;
use flotilla_state::{ImageDeletion, Op, Outcome, Tables, View};

use crate::{Parts, Permit, Pull, ServiceError, proposer::Proposer, repositories};

pub struct Images {
    view: Published<View>,
    proposer: Proposer,
    pull: Arc<Pull>,
}

/// An image with the tags that name it.
#[derive(Clone, Debug)]
pub struct ImageView {
    pub record: ImageRecord,
    pub tags: Vec<Tag>,
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
        Self { view: parts.view.clone(), proposer, pull }
    }

    /// Images after `after` in the order of their digests, at most `limit` that pass `filter`; and the digest to go on
    /// from, when there may be more.
    ///
    /// # Errors
    /// `Refused(NoRepository)`.
    pub async fn list(
        &self,
        _: Permit<'_>,
        repository: &Name,
        filter: ImageFilter,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<(Vec<ImageView>, Option<Digest>), ServiceError> {
        repositories::find(&self.view, &self.proposer, repository).await?;
        let view = self.view.load();
        let tables = view.tables();
        let mut found = Vec::new();
        let mut after = after.copied();
        loop {
            let page = tables.images(repository, after.as_ref(), limit)?;
            let Some(last) = page.last().map(|record| record.digest) else { return Ok((found, None)) };
            for record in page {
                let digest = record.digest;
                let tags = tables.tags_of(repository, &digest)?;
                let passes = match filter {
                    ImageFilter::Any => true,
                    ImageFilter::Tagged => !tags.is_empty(),
                    ImageFilter::Untagged => tags.is_empty(),
                };
                if passes {
                    found.push(ImageView { record, tags });
                    if found.len() == limit {
                        return Ok((found, Some(digest)));
                    }
                }
            }
            after = Some(last);
        }
    }

    /// The images that `ids` name, in their order.
    ///
    /// # Errors
    /// `Refused(NoRepository)`; `Refused(NoImage)` for a missing one and for a tag that names another digest.
    pub async fn describe(
        &self,
        _: Permit<'_>,
        repository: &Name,
        ids: &[ImageId],
    ) -> Result<Vec<ImageView>, ServiceError> {
        repositories::find(&self.view, &self.proposer, repository).await?;
        let look = |id: &ImageId| lookup(&self.view.load().tables(), repository, id);
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let mut image = look(id)?;
            if image.is_none() {
                self.proposer.barrier().await?;
                image = look(id)?;
            }
            found.push(image.ok_or_else(|| no_image(repository, id))?);
        }
        Ok(found)
    }

    /// One image, imported through its rule when it is not here: this is a pull.
    ///
    /// # Errors
    /// As [`Pull::manifest`]; `Refused(NoImage)` when tag and digest disagree, `Invalid` when both are missing.
    pub async fn get(&self, permit: Permit<'_>, repository: &Name, id: &ImageId) -> Result<HeldImage, ServiceError> {
        let reference = match (&id.tag, &id.digest) {
            (Some(tag), _) => Reference::Tag(tag.clone()),
            (None, Some(digest)) => Reference::Digest(*digest),
            (None, None) => {
                let why = "both tag and digest cannot be null".to_owned();
                return Err(ServiceError::Invalid { member: "imageIds", why });
            }
        };
        let target = self.pull.target(repository);
        let served = self.pull.manifest(permit, &target, &reference).await?;
        if id.digest.is_some_and(|digest| digest != served.digest) {
            return Err(no_image(repository, id));
        }
        Ok(HeldImage { digest: served.digest, media_type: served.media_type, manifest: served.bytes })
    }

    /// In the order of `ids`.
    ///
    /// # Errors
    /// `Refused(NoRepository)`; what is wrong with one id is said in its place.
    pub async fn delete(
        &self,
        permit: Permit<'_>,
        repository: &Name,
        ids: Vec<ImageId>,
    ) -> Result<Vec<ImageDeletion>, ServiceError> {
        match self.proposer.propose(permit, Op::DeleteImages { repository: repository.clone(), images: ids }).await? {
            Outcome::ImagesDeleted(deletions) => Ok(deletions),
            _ => Err(ServiceError::Unexpected("DeleteImages")),
        }
    }

    /// Tags of the repository in lexical order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// `Refused(NoRepository)`.
    pub async fn tags(
        &self,
        _: Permit<'_>,
        repository: &Name,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, ServiceError> {
        repositories::find(&self.view, &self.proposer, repository).await?;
        let tags = self.view.load().tables().tags(repository, after, limit)?;
        Ok(tags.into_iter().map(|(tag, _)| tag).collect())
    }
}

fn no_image(repository: &Name, id: &ImageId) -> ServiceError {
    Refusal::NoImage { repository: repository.clone(), digest: id.digest, tag: id.tag.clone() }.into()
}

/// The image that `id` names; `None` also when its tag and its digest disagree.
fn lookup(tables: &Tables<'_>, repository: &Name, id: &ImageId) -> Result<Option<ImageView>, ServiceError> {
    let named = match &id.tag {
        Some(tag) => match tables.tag(repository, tag)? {
            Some(record) => Some(record.digest),
            None => return Ok(None),
        },
        None => None,
    };
    let digest = match (named, id.digest) {
        (Some(named), Some(asked)) if named != asked => return Ok(None),
        (Some(digest), _) | (None, Some(digest)) => digest,
        (None, None) => return Ok(None),
    };
    let Some(record) = tables.image(repository, &digest)? else { return Ok(None) };
    let tags = tables.tags_of(repository, &digest)?;
    Ok(Some(ImageView { record, tags }))
}
