//! Deletion of images, item by item in the order of the request (`ecr-api.md` §5.4, BatchDeleteImage).

use flotilla_oci::{Digest, Name, Tag};
use flotilla_registry::{Refusal, image::ImageId};

use super::{Applier, Halt};
use crate::{
    ImageDeletion, Outcome,
    format::{TAGS, TAGS_BY_DIGEST, digest_tag_key, tag_key},
};

impl Applier<'_, '_> {
    pub(super) fn delete_images(&mut self, repository: Name, images: Vec<ImageId>) -> Result<Outcome, Halt> {
        if self.tables().repository(&repository)?.is_none() {
            return Err(Refusal::NoRepository(repository).into());
        }
        let results = images.iter().map(|image| match (&image.digest, &image.tag) {
            (None, None) => Ok(ImageDeletion::MissingDigestAndTag),
            (digest, Some(tag)) => self.delete_by_tag(&repository, digest.as_ref(), tag),
            (Some(digest), None) => self.delete_by_digest(&repository, digest),
        });
        let results = results.collect::<Result<_, Halt>>()?;
        Ok(Outcome::ImagesDeleted(results))
    }

    /// The tag goes; with the last one the image goes, unless a list needs it: then nothing does.
    fn delete_by_tag(&mut self, name: &Name, expected: Option<&Digest>, tag: &Tag) -> Result<ImageDeletion, Halt> {
        let Some(held) = self.tables().tag(name, tag)? else { return Ok(ImageDeletion::NotFound) };
        let digest = held.digest;
        if expected.is_some_and(|expected| *expected != digest) {
            return Ok(ImageDeletion::TagDoesNotMatchDigest);
        }
        let is_last = self.tables().tags_of(name, &digest)?.len() <= 1;
        if is_last {
            return self.delete_by_digest(name, &digest);
        }
        self.remove_tag(name, &digest, tag)?;
        Ok(ImageDeletion::Deleted { digest, tags: vec![tag.clone()] })
    }

    fn delete_by_digest(&mut self, name: &Name, digest: &Digest) -> Result<ImageDeletion, Halt> {
        if self.tables().image(name, digest)?.is_none() {
            return Ok(ImageDeletion::NotFound);
        }
        if !self.tables().lists_naming(name, digest)?.is_empty() {
            return Ok(ImageDeletion::ReferencedByList);
        }
        let tags = self.tables().tags_of(name, digest)?;
        for tag in &tags {
            self.remove_tag(name, digest, tag)?;
        }
        self.forget_image(name, digest)?;
        Ok(ImageDeletion::Deleted { digest: *digest, tags })
    }

    fn remove_tag(&mut self, name: &Name, digest: &Digest, tag: &Tag) -> Result<(), Halt> {
        self.remove(TAGS, tag_key(name, tag))?;
        self.remove(TAGS_BY_DIGEST, digest_tag_key(name, digest, tag))?;
        Ok(())
    }
}
