use bytes::Bytes;
use flotilla_base::{
    LogIndex,
    store::{PAGE_ROWS, Row, Rows, StoreError, Table},
};
use flotilla_oci::{Digest, Name, Tag};
use flotilla_registry::{
    NodeRecord, Prefix, Repository, Settings,
    access::{AccessKey, Robot},
    cache_rule::{CacheRule, CacheRuleOptions, CacheRules},
    image::ImageRecord,
    secret::{Secret, SecretId},
    template::Templates,
};
use serde::de::DeserializeOwned;

use crate::{
    BlobRecord, LinkRecord, ManifestRecord, Meta, StateHash, TagRecord, format::*, meta::Counters, overlay::successor,
};

/// Rows that a walk over one image or tag reads at once.
const WALK_ROWS: usize = 64;

/// Rows that are hashed at once: a few of them may be manifests of 4 MiB.
const HASHED_ROWS: usize = 64;

/// Typed queries over whatever holds the rows: the store, an overlay within `apply`, a frozen view for a snapshot.
/// Lists are pages: at most `limit` (and never more than 1,000) after a key, in key order.
#[derive(Clone, Copy)]
pub struct Tables<'a>(&'a dyn Rows);

impl<'a> Tables<'a> {
    pub fn of(rows: &'a dyn Rows) -> Self {
        Self(rows)
    }

    pub fn meta(&self) -> Result<Meta, StoreError> {
        Ok(self.row(META, KEY_META)?.unwrap_or_default())
    }

    /// Index of the last applied log entry.
    pub fn applied(&self) -> Result<Option<LogIndex>, StoreError> {
        self.row(BOOKKEEPING, KEY_APPLIED)
    }

    /// What consensus wrote with the last batch that had something of its own.
    pub fn consensus_record(&self) -> Result<Option<Bytes>, StoreError> {
        let row = self.0.get(BOOKKEEPING, KEY_CONSENSUS)?;
        row.map(|row| decode_verbatim(BOOKKEEPING, &row)).transpose()
    }

    pub fn hash(&self) -> Result<StateHash, StoreError> {
        Ok(self.row(BOOKKEEPING, KEY_HASH)?.unwrap_or_default())
    }

    /// What [`Tables::hash`] should be: taken over every row there is.
    pub fn counted_hash(&self) -> Result<StateHash, StoreError> {
        let mut hash = StateHash::default();
        for table in TABLES.into_iter().filter(|table| *table != BOOKKEEPING) {
            let mut from = Vec::new();
            loop {
                let page = self.0.page(table, &from, HASHED_ROWS)?;
                let Some((last, _)) = page.last() else { break };
                from = successor(last);
                for (key, value) in &page {
                    hash.replace(table, key, None, Some(value));
                }
            }
        }
        Ok(hash)
    }

    pub fn settings(&self) -> Result<Settings, StoreError> {
        Ok(self.row(SETTINGS, KEY_SETTINGS)?.unwrap_or_default())
    }

    pub fn rules(&self) -> Result<CacheRules, StoreError> {
        let rules: CacheRules = self.all::<CacheRule>(CACHE_RULES)?.into_iter().collect();
        let options = self.all::<(Prefix, CacheRuleOptions)>(RULE_OPTIONS)?;
        Ok(rules.with_options(options))
    }

    pub fn templates(&self) -> Result<Templates, StoreError> {
        Ok(self.all(TEMPLATES)?.into_iter().collect())
    }

    pub fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.all(NODES)
    }

    pub fn access_key(&self, id: &str) -> Result<Option<AccessKey>, StoreError> {
        self.row(ACCESS_KEYS, id.as_bytes())
    }

    /// In order of their ids.
    pub fn access_keys(&self, after: Option<&str>, limit: usize) -> Result<Vec<AccessKey>, StoreError> {
        self.listed(ACCESS_KEYS, after, limit)
    }

    pub fn robot(&self, name: &str) -> Result<Option<Robot>, StoreError> {
        self.row(ROBOTS, name.as_bytes())
    }

    pub fn robots(&self, after: Option<&str>, limit: usize) -> Result<Vec<Robot>, StoreError> {
        self.listed(ROBOTS, after, limit)
    }

    /// Also one that is scheduled for deletion.
    pub fn secret(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        self.row(SECRETS, name.as_bytes())
    }

    /// The secret that a name or an ARN means, also one that is scheduled for deletion.
    pub fn secret_by_id(&self, id: &str) -> Result<Option<Secret>, StoreError> {
        for reading in SecretId::readings(id) {
            if let Some(secret) = self.secret(&reading.name)?.filter(|secret| reading.is(secret)) {
                return Ok(Some(secret));
            }
        }
        Ok(None)
    }

    pub fn secrets(&self, after: Option<&str>, limit: usize) -> Result<Vec<Secret>, StoreError> {
        self.listed(SECRETS, after, limit)
    }

    pub fn repository(&self, name: &Name) -> Result<Option<Repository>, StoreError> {
        self.row(REPOSITORIES, name.as_str().as_bytes())
    }

    pub fn repositories(&self, after: Option<&Name>, limit: usize) -> Result<Vec<Repository>, StoreError> {
        let after = after.map(|name| name.as_str().as_bytes());
        let rows = self.under(REPOSITORIES, &[], after, limit)?;
        rows.iter().map(|(_, row)| decode_row(REPOSITORIES, row)).collect()
    }

    pub fn repository_count(&self) -> Result<u64, StoreError> {
        Ok(self.counters()?.repositories)
    }

    /// Whether something in it came through a rule with a credential, which may be gone by now.
    pub fn is_private(&self, repository: &Name) -> Result<bool, StoreError> {
        Ok(self.0.get(PRIVATE_REPOSITORIES, repository.as_str().as_bytes())?.is_some())
    }

    pub fn tag(&self, repository: &Name, tag: &Tag) -> Result<Option<TagRecord>, StoreError> {
        self.row(TAGS, &tag_key(repository, tag))
    }

    pub fn tags(
        &self,
        repository: &Name,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<(Tag, TagRecord)>, StoreError> {
        let after = after.map(|tag| tag.as_str().as_bytes());
        let rows = self.under(TAGS, &in_repository(repository), after, limit)?;
        rows.iter().map(|(key, row)| Ok((read_tag(TAGS, key)?, decode_row(TAGS, row)?))).collect()
    }

    /// Tags that name `digest`, in order.
    pub fn tags_of(&self, repository: &Name, digest: &Digest) -> Result<Vec<Tag>, StoreError> {
        let mut tags = Vec::new();
        self.walk(TAGS_BY_DIGEST, &under_digest(repository, digest), |key| {
            tags.push(read_tag(TAGS_BY_DIGEST, key)?);
            Ok(())
        })?;
        Ok(tags)
    }

    /// The manifest's link to this repository; what has none is not served through it.
    pub fn image(&self, repository: &Name, digest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        self.row(IMAGES, &digest_key(repository, digest))
    }

    pub fn images(
        &self,
        repository: &Name,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ImageRecord>, StoreError> {
        let after = after.map(Digest::key);
        let rows = self.under(IMAGES, &in_repository(repository), after.as_deref(), limit)?;
        rows.iter().map(|(_, row)| decode_row(IMAGES, row)).collect()
    }

    pub fn manifest(&self, digest: &Digest) -> Result<Option<ManifestRecord>, StoreError> {
        self.row(MANIFESTS, &digest.key())
    }

    /// Verbatim, as their digest names them. Ask [`Tables::image`] first.
    pub fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let row = self.0.get(MANIFEST_BYTES, &digest.key())?;
        row.map(|row| decode_verbatim(MANIFEST_BYTES, &row)).transpose()
    }

    pub fn blob(&self, digest: &Digest) -> Result<Option<BlobRecord>, StoreError> {
        self.row(BLOBS, &digest.key())
    }

    pub fn link(&self, repository: &Name, digest: &Digest) -> Result<Option<LinkRecord>, StoreError> {
        self.row(LINKS, &digest_key(repository, digest))
    }

    /// The rule that [`CacheRules::resolve`] would choose, without reading all of them.
    pub(crate) fn covering_rule(&self, repository: &Name) -> Result<Option<CacheRule>, StoreError> {
        let mut prefix = repository.as_str();
        while let Some((parent, _)) = prefix.rsplit_once('/') {
            if let Some(rule) = self.row(CACHE_RULES, parent.as_bytes())? {
                return Ok(Some(rule));
            }
            prefix = parent;
        }
        self.row(CACHE_RULES, Prefix::Root.as_str().as_bytes())
    }

    /// Lists in this repository that name `child`.
    pub(crate) fn lists_naming(&self, repository: &Name, child: &Digest) -> Result<Vec<Digest>, StoreError> {
        let mut lists = Vec::new();
        self.walk(CHILDREN, &under_digest(repository, child), |key| {
            lists.push(read_digest(CHILDREN, key)?);
            Ok(())
        })?;
        Ok(lists)
    }

    pub(crate) fn counters(&self) -> Result<Counters, StoreError> {
        Ok(self.row(META, KEY_COUNTERS)?.unwrap_or_default())
    }

    pub(crate) fn row<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        let row = self.0.get(table, key)?;
        row.map(|row| decode_row(table, &row)).transpose()
    }

    /// The first rows whose key begins with `prefix`, from behind `prefix` and `after`; keys without the prefix. As many
    /// as `limit` and [`PAGE_ROWS`] allow: fewer only when there are no more.
    pub(crate) fn under(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let mut from = match after {
            Some(after) => successor(&[prefix, after].concat()),
            None => prefix.to_vec(),
        };
        let limit = limit.min(PAGE_ROWS);
        let mut rows = Vec::new();
        // A page of long rows is shorter than it was asked for.
        while rows.len() < limit {
            let page = self.0.page(table, &from, limit - rows.len())?;
            let Some((last, _)) = page.last() else { break };
            from = successor(last);
            let ends = !last.starts_with(prefix);
            let inside = page.into_iter().take_while(|(key, _)| key.starts_with(prefix));
            rows.extend(inside.map(|(key, row)| (key.slice(prefix.len()..), row)));
            if ends {
                break;
            }
        }
        Ok(rows)
    }

    /// Every key that begins with `prefix`, without it.
    fn walk(
        &self,
        table: Table,
        prefix: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after: Option<Bytes> = None;
        loop {
            // Most walks end within a few rows, and a page is read whole.
            let page = self.under(table, prefix, after.as_deref(), WALK_ROWS)?;
            for (key, _) in &page {
                each(key)?;
            }
            match page.last() {
                Some((key, _)) if page.len() == WALK_ROWS => after = Some(key.clone()),
                _ => return Ok(()),
            }
        }
    }

    fn listed<T: DeserializeOwned>(
        &self,
        table: Table,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.under(table, &[], after.map(str::as_bytes), limit)?;
        rows.iter().map(|(_, row)| decode_row(table, row)).collect()
    }

    /// Every record of a table that is small by a limit.
    fn all<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>, StoreError> {
        let mut records = Vec::new();
        let mut from = Vec::new();
        loop {
            let page = self.0.page(table, &from, PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { return Ok(records) };
            from = successor(last);
            for (_, row) in &page {
                records.push(decode_row(table, row)?);
            }
        }
    }
}
