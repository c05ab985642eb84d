//! Imports, links and deletions, as a pull through one repository sees them.

use std::time::Duration;

use flotilla_base::{ByteLen, NodeId, Timestamp};
use flotilla_oci::Digest;
use flotilla_registry::{
    Refusal,
    image::ImageId,
    repository::{Mutability, RepositorySettings},
};

use super::recount;
use crate::{ImageDeletion, ImportImage, Op, Outcome, PART_LIMIT, Placement, Use, tests::support::*};

const REPO: &str = "hub/library/nginx";

fn import_parts(outcome: Outcome) -> (bool, u64, bool) {
    match outcome {
        Outcome::Imported { created_repository, tag_version, moved, .. } => (created_repository, tag_version, moved),
        other => panic!("{other:?}"),
    }
}

fn delete(world: &mut World, digest: Option<Digest>, tag_text: Option<&str>) -> ImageDeletion {
    let images = vec![ImageId { digest, tag: tag_text.map(tag) }];
    match world.ok(Op::DeleteImages { repository: name(REPO), images }) {
        Outcome::ImagesDeleted(mut results) => results.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_pull_makes_the_repository_from_its_template() {
    let mut world = World::new();
    let settings = RepositorySettings { mutability: Mutability::Immutable, ..Default::default() };
    world.ok(Op::CreateTemplate(Box::new(template("hub", settings.clone()))));
    let first = image(&[1], None);
    assert_eq!(import_parts(world.pull(REPO, Some("1.27"), &first)), (true, 1, true));
    let repository = world.tables().repository(&name(REPO)).unwrap().unwrap();
    assert_eq!((repository.settings, repository.cached_by), (settings, Some(prefix("hub"))));
    let record = world.tables().image(&name(REPO), &first.digest).unwrap().unwrap();
    assert_eq!((record.size, record.pushed_at), (ByteLen(110), START));
    assert_eq!(world.tables().manifest_bytes(&first.digest).unwrap().unwrap(), first.bytes);
    assert_eq!(world.tables().tag(&name(REPO), &tag("1.27")).unwrap().unwrap().digest, first.digest);
    assert!(world.tables().link(&name(REPO), &blob(1)).unwrap().is_none(), "a mention is no link");
    recount::check(&world.replica);
}

#[test]
fn a_tag_moves_only_from_the_version_that_was_read() {
    let mut world = World::new();
    let (a, b) = (image(&[1], None), image(&[2], None));
    world.pull(REPO, Some("latest"), &a);
    let (slow, quick) = (world.import(REPO, Some("latest"), &b), world.import(REPO, Some("latest"), &b));
    world.ok(Op::ImportImage(Box::new(quick)));
    world.pull(REPO, Some("latest"), &a);
    assert_eq!(world.run(Op::ImportImage(Box::new(slow))), Err(Refusal::Moved));
    let held = world.tables().tag(&name(REPO), &tag("latest")).unwrap().unwrap();
    assert_eq!((held.digest, held.version), (a.digest, 3), "A, B, A are three versions");
    recount::check(&world.replica);
}

#[test]
fn the_same_digest_moves_only_the_validation() {
    let mut world = World::new();
    let a = image(&[1], None);
    world.pull(REPO, Some("latest"), &a);
    world.now = world.now.plus(Duration::from_secs(60));
    assert_eq!(import_parts(world.pull(REPO, Some("latest"), &a)), (false, 1, true));
    let held = world.tables().tag(&name(REPO), &tag("latest")).unwrap().unwrap();
    assert_eq!((held.moved_at, held.validated_at), (START, world.now));
}

#[test]
fn a_frozen_tag_stays_and_nothing_is_imported() {
    let mut world = World::new();
    let (a, b) = (image(&[1], None), image(&[2], None));
    world.pull(REPO, Some("latest"), &a);
    world.ok(Op::PutMutability { name: name(REPO), mutability: Mutability::Immutable });
    world.now = world.now.plus(Duration::from_secs(60));
    assert_eq!(import_parts(world.pull(REPO, Some("latest"), &b)), (false, 1, false));
    let held = world.tables().tag(&name(REPO), &tag("latest")).unwrap().unwrap();
    assert_eq!((held.digest, held.validated_at), (a.digest, world.now));
    assert!(world.tables().image(&name(REPO), &b.digest).unwrap().is_none());
    assert_eq!(import_parts(world.pull(REPO, Some("new"), &b)), (false, 2, true), "a new tag is free");
    recount::check(&world.replica);
}

#[test]
fn an_import_is_refused_when_its_ground_has_moved() {
    let mut world = World::new();
    let a = image(&[1], None);
    let read = world.import(REPO, Some("latest"), &a);
    let ok = |world: &mut World| world.import(REPO, Some("latest"), &a);
    type Case = (&'static str, fn(&mut World), fn(ImportImage) -> ImportImage);
    let cases: [Case; 5] = [
        ("rule changed", |w| drop(w.ok(update_rule())), |i| i),
        ("rule gone", |w| drop(w.ok(Op::DeleteCacheRule { prefix: prefix("hub") })), |i| i),
        ("longer rule came", |w| drop(w.ok(Op::CreateCacheRule(Box::new(rule("hub/library"))))), |i| i),
        ("repository came", |w| drop(w.pull(REPO, None, &image(&[9], None))), |i| i),
        ("repository gone", |_| {}, |i| ImportImage { expect_incarnation: Some(9), ..i }),
    ];
    for (what, before, change) in cases {
        let mut world = World::new();
        before(&mut world);
        let facts = recount::facts(&world.replica);
        assert_eq!(world.run(Op::ImportImage(Box::new(change(read.clone())))), Err(Refusal::Moved), "{what}");
        assert_eq!(recount::facts(&world.replica), facts, "{what}");
    }
    // Recreated: another incarnation.
    world.pull(REPO, None, &a);
    let read = ok(&mut world);
    world.ok(Op::DeleteRepository { name: name(REPO), force: true });
    world.pull(REPO, None, &a);
    assert_eq!(world.run(Op::ImportImage(Box::new(read))), Err(Refusal::Moved));
}

fn update_rule() -> Op {
    Op::UpdateCacheRule(crate::CacheRuleUpdate {
        prefix: prefix("hub"),
        credential_arn: None,
        custom_role_arn: None,
        revalidate_after: Some(Duration::from_secs(1)),
    })
}

#[test]
fn bytes_that_are_not_the_digests_are_refused() {
    let mut world = World::new();
    let (a, b) = (image(&[1], None), image(&[2], None));
    let good = world.import(REPO, None, &a);
    let text = Image::of("{}".into());
    let no_manifest = ImportImage { digest: text.digest, len: ByteLen(2), bytes: Some(text.bytes), ..good.clone() };
    let other_type = flotilla_oci::MediaType(flotilla_oci::MediaType::OCI_INDEX.into());
    for (what, import) in [
        ("other bytes", ImportImage { bytes: Some(b.bytes), ..good.clone() }),
        ("other length", ImportImage { len: ByteLen(1), ..good.clone() }),
        ("other type", ImportImage { media_type: other_type, ..good.clone() }),
        ("no manifest", no_manifest),
        ("too long", ImportImage { len: ByteLen::mib(5), bytes: None, ..good.clone() }),
    ] {
        let digest = import.digest;
        assert_eq!(world.run(Op::ImportImage(Box::new(import))), Err(Refusal::BadManifest(digest)), "{what}");
    }
    assert_eq!(world.tables().repository_count().unwrap(), 0);
    world.ok(Op::ImportImage(Box::new(good)));
}

/// An index of more bytes than one part.
fn long() -> Image {
    let padding = "x".repeat(PART_LIMIT.0 as usize);
    Image::of(format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"a":"{padding}"}}}}"#))
}

#[test]
fn a_long_manifest_comes_in_parts() {
    let mut world = World::new();
    let long = long();
    let parts: Vec<_> = long.bytes.chunks(PART_LIMIT.0 as usize).collect();
    let put = |index: u16| Op::PutManifestPart {
        digest: long.digest,
        index,
        bytes: bytes::Bytes::copy_from_slice(parts[usize::from(index)]),
    };
    let import = ImportImage { bytes: None, ..world.import(REPO, None, &long) };
    let import = Op::ImportImage(Box::new(import));
    world.ok(put(1));
    assert_eq!(world.run(import.clone()), Err(Refusal::PartsMissing(long.digest)));
    world.now = world.now.plus(Duration::from_secs(600));
    world.ok(put(0));
    assert_eq!(world.run(import.clone()), Err(Refusal::PartsMissing(long.digest)), "the other one is too old");
    world.ok(Op::Tick);
    assert_eq!(world.replica.rows(crate::format::STAGED_PARTS).len(), 1);
    world.ok(put(1));
    world.ok(import);
    assert_eq!(world.tables().manifest_bytes(&long.digest).unwrap().unwrap(), long.bytes);
    assert!(world.replica.rows(crate::format::STAGED_PARTS).is_empty());
    // Held now: another repository needs no parts.
    let again = ImportImage { bytes: None, ..world.import("hub/other", None, &long) };
    world.ok(Op::ImportImage(Box::new(again)));
    assert_eq!(world.tables().manifest(&long.digest).unwrap().unwrap().references, 2);
    recount::check(&world.replica);
}

#[test]
fn a_part_that_no_manifest_can_have_is_refused() {
    let mut world = World::new();
    let digest = blob(1);
    for (index, len) in [(86, 1), (0, 0), (0, PART_LIMIT.0 as usize + 1)] {
        let op = Op::PutManifestPart { digest, index, bytes: vec![0; len].into() };
        assert_eq!(world.run(op), Err(Refusal::BadManifest(digest)), "{index} {len}");
    }
}

#[test]
fn an_index_is_as_large_as_its_largest_child_that_is_here() {
    let mut world = World::new();
    let (small, large) = (image(&[1], None), image(&[5], None));
    let inner = index(&[&small, &large]);
    let outer = index(&[&inner]);
    let size = |world: &World, image: &Image| world.tables().image(&name(REPO), &image.digest).unwrap().unwrap().size.0;
    world.pull(REPO, Some("latest"), &outer);
    world.pull(REPO, None, &small);
    assert_eq!(size(&world, &outer), 0);
    world.pull(REPO, None, &inner);
    assert_eq!((size(&world, &inner), size(&world, &outer)), (110, 110));
    world.pull(REPO, None, &large);
    assert_eq!((size(&world, &inner), size(&world, &outer)), (510, 510));
    recount::check(&world.replica);
}

#[test]
fn images_are_deleted_item_by_item_in_order() {
    let mut world = World::new();
    let (child, other) = (image(&[1], None), image(&[2], None));
    let list = index(&[&child]);
    for (tag, image) in [(Some("list"), &list), (Some("child"), &child), (Some("a"), &other), (Some("b"), &other)] {
        world.pull(REPO, tag, image);
    }
    let absent = ImageDeletion::NotFound;
    assert_eq!(delete(&mut world, None, None), ImageDeletion::MissingDigestAndTag);
    assert_eq!(delete(&mut world, None, Some("absent")), absent);
    assert_eq!(delete(&mut world, Some(blob(9)), None), absent);
    assert_eq!(delete(&mut world, Some(list.digest), Some("a")), ImageDeletion::TagDoesNotMatchDigest);
    assert_eq!(delete(&mut world, Some(child.digest), None), ImageDeletion::ReferencedByList);
    assert_eq!(delete(&mut world, None, Some("child")), ImageDeletion::ReferencedByList);
    let gone = |image: &Image, tags: &[&str]| ImageDeletion::Deleted {
        digest: image.digest,
        tags: tags.iter().map(|text| tag(text)).collect(),
    };
    assert_eq!(delete(&mut world, Some(other.digest), Some("b")), gone(&other, &["b"]));
    assert!(world.tables().image(&name(REPO), &other.digest).unwrap().is_some());
    assert_eq!(delete(&mut world, None, Some("a")), gone(&other, &["a"]), "the last tag takes the image with it");
    assert!(world.tables().image(&name(REPO), &other.digest).unwrap().is_none());
    recount::check(&world.replica);
    world.pull(REPO, Some("list2"), &list);
    let ids = [(Some(list.digest), None), (Some(child.digest), None), (Some(child.digest), None)];
    let images = ids.into_iter().map(|(digest, tag)| ImageId { digest, tag }).collect();
    let deleted = vec![gone(&list, &["list", "list2"]), gone(&child, &["child"]), absent];
    assert_eq!(world.ok(Op::DeleteImages { repository: name(REPO), images }), Outcome::ImagesDeleted(deleted));
    let record = world.tables().blob(&blob(1)).unwrap().unwrap();
    assert_eq!(record.unreferenced_since, Some(world.now));
    recount::check(&world.replica);
}

#[test]
fn what_comes_back_has_a_new_version_and_incarnation() {
    let mut world = World::new();
    let a = image(&[1], None);
    world.pull(REPO, Some("latest"), &a);
    delete(&mut world, None, Some("latest"));
    assert_eq!(import_parts(world.pull(REPO, Some("latest"), &a)).1, 2);
    world.ok(Op::DeleteRepository { name: name(REPO), force: true });
    let Outcome::Imported { incarnation, tag_version, .. } = world.pull(REPO, Some("latest"), &a) else { panic!() };
    assert_eq!((incarnation, tag_version), (2, 3));
}

#[test]
fn a_deleted_repository_takes_all_that_is_its_own() {
    let mut world = World::new();
    let child = image(&[1, 2], None);
    let signature = image(&[3], Some(&child));
    for (repository, tag, image) in [
        (REPO, Some("latest"), &index(&[&child])),
        (REPO, None, &child),
        (REPO, Some("sig"), &signature),
        ("hub/other", Some("latest"), &child),
    ] {
        world.pull(repository, tag, image);
    }
    let link = world.link(REPO, blob(1), 100);
    world.ok(Op::LinkBlob(link));
    recount::check(&world.replica);
    let refused = world.run(Op::DeleteRepository { name: name(REPO), force: false });
    assert_eq!(refused, Err(Refusal::RepositoryNotEmpty(name(REPO))));
    assert!(matches!(world.ok(Op::DeleteRepository { name: name(REPO), force: true }), Outcome::Repository(_)));
    recount::check(&world.replica);
    assert_eq!(world.tables().repository_count().unwrap(), 1);
    assert_eq!(world.tables().blob(&blob(3)).unwrap().unwrap().unreferenced_since, Some(world.now));
    assert_eq!(world.tables().blob(&blob(1)).unwrap().unwrap().unreferenced_since, None, "another one names it");
    assert!(world.tables().manifest_bytes(&child.digest).unwrap().is_some());
    assert!(world.tables().manifest_bytes(&signature.digest).unwrap().is_none());
}

#[test]
fn a_link_is_made_once_and_keeps_the_size() {
    let mut world = World::new();
    let link = world.link(REPO, blob(1), 100);
    let Outcome::Linked { incarnation } = world.ok(Op::LinkBlob(link.clone())) else { panic!() };
    assert_eq!(incarnation, 1, "the repository was made");
    world.ok(Op::LinkBlob(link.clone()));
    let copies = |nodes: [u64; 2]| nodes.into_iter().map(NodeId).collect::<Vec<_>>();
    let expect_incarnation = Some(1);
    world.ok(Op::LinkBlob(crate::LinkBlob { expect_incarnation, copies: copies([2, 1]), ..link.clone() }));
    world.ok(Op::LinkBlob(crate::LinkBlob { expect_incarnation, copies: copies([2, 3]), ..link }));
    let record = world.tables().blob(&blob(1)).unwrap().unwrap();
    assert_eq!((record.links, record.size), (1, Some(ByteLen(100))));
    assert_eq!(record.placement, Placement::Copies(vec![NodeId(1), NodeId(2), NodeId(3)]));
    let other_size = world.link("hub/other", blob(1), 101);
    assert_eq!(world.run(Op::LinkBlob(other_size)), Err(Refusal::Moved));
    assert_eq!(world.tables().repository_count().unwrap(), 1);
    recount::check(&world.replica);
}

#[test]
fn use_moves_clocks_forward_on_what_is_still_the_same() {
    let mut world = World::new();
    let a = image(&[1], None);
    world.pull(REPO, Some("latest"), &a);
    let (repo, latest) = (name(REPO), tag("latest"));
    world.now = world.now.plus(Duration::from_secs(600));
    let at = |seconds: u64| START.plus(Duration::from_secs(seconds));
    let seen = |world: &World| {
        let held = world.tables().tag(&repo, &latest).unwrap().unwrap();
        (held.validated_at, world.tables().image(&repo, &a.digest).unwrap().unwrap().last_pulled_at)
    };
    for (version, validated, pulled, expected) in [
        (1, 30, 40, (at(30), Some(at(40)))),
        (1, 20, 20, (at(30), Some(at(40)))),
        (2, 50, 50, (at(30), Some(at(50)))),
        (1, 9_999, 9_999, (at(600), Some(at(600)))),
    ] {
        let validated: Vec<(_, _, u64, Timestamp)> = vec![
            (name("absent"), latest.clone(), version, at(validated)),
            (repo.clone(), latest.clone(), version, at(validated)),
        ];
        let pulled = vec![(repo.clone(), blob(1), at(pulled)), (repo.clone(), a.digest, at(pulled))];
        world.ok(Op::RecordUse(Use { validated, pulled }));
        assert_eq!(seen(&world), expected);
    }
}
