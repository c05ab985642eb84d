use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Shared, lock};
use crate::{Content, Image};

#[derive(Default)]
pub(super) struct Store {
    repositories: BTreeMap<String, Repository>,
    /// What `/cdn/` serves: blobs that another upstream sent clients here for.
    cdn: HashMap<String, Content>,
    redirect: Option<Redirect>,
}

#[derive(Clone)]
struct Redirect {
    url: String,
    to: Arc<Shared>,
}

#[derive(Default)]
struct Repository {
    manifests: HashMap<String, (&'static str, Content)>,
    blobs: HashMap<String, Content>,
    tags: BTreeMap<String, String>,
}

impl Store {
    pub(super) fn put_image(&mut self, repository: &str, image: &Image) {
        for child in &image.children {
            self.put_image(repository, child);
        }
        for blob in &image.blobs {
            self.put_blob(repository, blob);
        }
        let held = self.repositories.entry(repository.to_owned()).or_default();
        held.manifests.insert(image.digest().to_owned(), (image.media_type, image.manifest.clone()));
    }

    pub(super) fn put_blob(&mut self, repository: &str, content: &Content) {
        let held = self.repositories.entry(repository.to_owned()).or_default();
        held.blobs.insert(content.digest().to_owned(), content.clone());
    }

    pub(super) fn tag(&mut self, repository: &str, tag: &str, digest: &str) {
        let held = self.repositories.entry(repository.to_owned()).or_default();
        held.tags.insert(tag.to_owned(), digest.to_owned());
    }

    pub(super) fn untag(&mut self, repository: &str, tag: &str) {
        if let Some(held) = self.repositories.get_mut(repository) {
            held.tags.remove(tag);
        }
    }

    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<(&'static str, Content)> {
        let held = self.repositories.get(repository)?;
        let digest = if reference.contains(':') { reference } else { held.tags.get(reference)? };
        held.manifests.get(digest).cloned()
    }

    pub(super) fn blob(&self, repository: &str, digest: &str) -> Option<Content> {
        self.repositories.get(repository)?.blobs.get(digest).cloned()
    }

    pub(super) fn tags(&self, repository: &str) -> Option<Vec<String>> {
        Some(self.repositories.get(repository)?.tags.keys().cloned().collect())
    }

    pub(super) fn cdn(&self, digest: &str) -> Option<Content> {
        self.cdn.get(digest).cloned()
    }

    pub(super) fn redirect_to(&mut self, url: String, to: Arc<Shared>) {
        self.redirect = Some(Redirect { url, to });
    }

    /// Where the blob is to be fetched instead; its content is put there first.
    pub(super) fn redirect(&self, content: &Content) -> Option<String> {
        let redirect = self.redirect.as_ref()?;
        lock(&redirect.to.store).cdn.insert(content.digest().to_owned(), content.clone());
        Some(format!("{}/cdn/blobs/{}?signature=for-this-address-only", redirect.url, content.digest()))
    }
}
