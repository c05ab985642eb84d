//! Everything that `apply` keeps beside the facts, counted again from the facts alone.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_base::store::Table;
use flotilla_oci::Digest;
use flotilla_registry::image::ImageRecord;

use crate::{LinkRecord, StateHash, TagRecord, format::*, meta::Counters, tests::support::Replica};

/// # Panics
/// When a count, an index or the state hash is not what the facts say.
pub(crate) fn check(replica: &Replica) {
    let tables = replica.tables();
    let mut expected: BTreeMap<Table, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut manifests: BTreeMap<Digest, u64> = BTreeMap::new();
    // Cached references and links.
    let mut blobs: BTreeMap<Digest, (u64, u64)> = BTreeMap::new();
    let repositories = tables.repositories(None, 1_000).unwrap();
    for repository in &repositories {
        let name = &repository.name;
        let images = tables.images(name, None, 1_000).unwrap();
        for image in &images {
            *manifests.entry(image.digest).or_default() += 1;
            let bytes = tables.manifest_bytes(&image.digest).unwrap().expect("an image has bytes");
            let manifest = flotilla_oci::Manifest::parse(None, &bytes).unwrap();
            for blob in manifest.blobs.iter().map(|blob| blob.digest).collect::<BTreeSet<_>>() {
                blobs.entry(blob).or_default().0 += 1;
            }
            for child in &manifest.children {
                expected.entry(CHILDREN).or_default().insert(digest_pair_key(name, &child.digest, &image.digest));
            }
            if let Some(subject) = &manifest.subject {
                expected.entry(REFERRERS).or_default().insert(digest_pair_key(name, &subject.digest, &image.digest));
            }
            assert_eq!(image.size.0, size(&images, &manifest), "size of {}", image.digest);
        }
        for (tag, record) in tables.tags(name, None, 1_000).unwrap() {
            assert!(tables.image(name, &record.digest).unwrap().is_some(), "tag {tag} names no image");
            expected.entry(TAGS_BY_DIGEST).or_default().insert(digest_tag_key(name, &record.digest, &tag));
        }
    }
    for (key, row) in replica.rows(LINKS) {
        let record: LinkRecord = decode_row(LINKS, &row).unwrap();
        let at = key.iter().position(|byte| *byte == 0).unwrap();
        let digest = read_digest(LINKS, &key[at + 1..]).unwrap();
        assert_eq!(tables.blob(&digest).unwrap().unwrap().size, Some(record.size));
        blobs.entry(digest).or_default().1 += 1;
    }

    for table in [TAGS_BY_DIGEST, CHILDREN, REFERRERS] {
        let keys: BTreeSet<Vec<u8>> = replica.rows(table).into_iter().map(|(key, _)| key.to_vec()).collect();
        assert_eq!(keys, expected.remove(&table).unwrap_or_default(), "{table:?}");
    }
    let held: BTreeSet<Vec<u8>> = manifests.keys().map(Digest::key).collect();
    for table in [MANIFESTS, MANIFEST_BYTES] {
        let keys: BTreeSet<Vec<u8>> = replica.rows(table).into_iter().map(|(key, _)| key.to_vec()).collect();
        assert_eq!(keys, held, "{table:?}");
    }
    for (digest, references) in &manifests {
        assert_eq!(tables.manifest(digest).unwrap().unwrap().references, *references);
    }
    for (key, _) in replica.rows(BLOBS) {
        let digest = read_digest(BLOBS, &key).unwrap();
        let record = tables.blob(&digest).unwrap().unwrap();
        let counted = blobs.remove(&digest).unwrap_or_default();
        assert_eq!((record.cached_references, record.links), counted, "{digest}");
        assert_eq!(record.pushed_references, 0);
        assert_eq!(record.unreferenced_since.is_none(), counted != (0, 0), "{digest}");
    }
    assert!(blobs.is_empty(), "blobs without a record: {blobs:?}");
    // Of repositories that are gone nothing is left.
    let names: BTreeSet<&[u8]> = repositories.iter().map(|repository| repository.name.as_str().as_bytes()).collect();
    for table in [TAGS, TAGS_BY_DIGEST, IMAGES, LINKS, CHILDREN, REFERRERS] {
        for (key, _) in replica.rows(table) {
            assert!(key.split(|byte| *byte == 0).next().is_some_and(|name| names.contains(name)), "{table:?}");
        }
    }
    let rows = |table| replica.rows(table).len() as u64;
    let counters = Counters {
        rules: rows(CACHE_RULES),
        templates: rows(TEMPLATES),
        repositories: rows(REPOSITORIES),
        idempotency: rows(IDEMPOTENCY),
    };
    assert_eq!(tables.counters().unwrap(), counters);
    assert_eq!(rows(IDEMPOTENCY), rows(IDEMPOTENCY_BY_TIME));
    assert_eq!(tables.hash().unwrap(), rehash(replica));
}

/// Config and layers, or the largest child that is here.
fn size(images: &[ImageRecord], manifest: &flotilla_oci::Manifest) -> u64 {
    let children = manifest.children.iter().map(|child| child.digest);
    let present = children.filter_map(|child| images.iter().find(|image| image.digest == child));
    let largest = present.map(|image| image.size.0).max().unwrap_or_default();
    manifest.blobs.iter().map(|blob| blob.size.0).sum::<u64>().max(largest)
}

fn rehash(replica: &Replica) -> StateHash {
    let mut hash = StateHash::default();
    for table in TABLES.into_iter().filter(|table| *table != BOOKKEEPING) {
        for (key, row) in replica.rows(table) {
            hash.replace(table, &key, None, Some(&row));
        }
    }
    hash
}

/// Every tag of every repository.
pub(crate) fn all_tags(replica: &Replica) -> BTreeMap<Vec<u8>, TagRecord> {
    replica.rows(TAGS).into_iter().map(|(key, row)| (key.to_vec(), decode_row(TAGS, &row).unwrap())).collect()
}

/// The facts: every row that an operation is about, without what is kept of any operation (replies, time).
pub(crate) fn facts(replica: &Replica) -> Vec<(Table, Vec<flotilla_base::store::Row>)> {
    let kept = [BOOKKEEPING, META, PROCESSES, REPLIES];
    TABLES.into_iter().filter(|table| !kept.contains(table)).map(|table| (table, replica.rows(table))).collect()
}
