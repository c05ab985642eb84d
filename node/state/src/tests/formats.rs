//! Stored fixtures: what programs of before wrote must be read for ever. A failure here is no reason to change a
//! fixture: the record needs another version and a migration.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use bytes::Bytes;
use flotilla_base::{BootId, ByteLen, LogIndex, NodeId, OpId, Timestamp, codec, store::Table};
use flotilla_oci::MediaType;
use flotilla_registry::{
    Glob, NodeRecord, Refusal, Repository, RepositoryCreation, Settings,
    access::PrincipalArn,
    cache_rule::CacheRuleOptions,
    image::{ImageRecord, Provenance},
    repository::{Encryption, EncryptionKind, Mutability, RepositorySettings},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    BlobRecord, Command, CommandBatch, IdempotencyKey, LinkRecord, ManifestRecord, Meta, Op, Outcome, Placement, Reply,
    StateHash, TABLES, TagRecord, TagUpdate,
    command::COMMAND_VERSION,
    format::*,
    meta::Counters,
    records::{KeptOutcome, Process, StagedPart},
    tests::support::*,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Records as they are written now, by name, each read back from what is stored under that name.
struct Fixtures {
    stored: BTreeMap<&'static str, &'static str>,
    written: Vec<(&'static str, String)>,
}

impl Fixtures {
    fn record<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &'static str, record: &T) {
        self.written.push((name, hex(&encode_row(record))));
        if let Some(stored) = self.stored.get(name) {
            let read: T = decode_row(Table(255), &unhex(stored)).unwrap();
            assert_eq!(read, *record, "{name}");
        }
    }
}

#[test]
fn records_are_read_and_written_as_ever() {
    let lines = include_str!("fixtures.txt").lines();
    let stored = lines.filter_map(|line| line.split_once(' ')).collect();
    let mut fixtures = Fixtures { stored, written: Vec::new() };
    let at = |minutes: u64| Timestamp(START.0 + minutes * MINUTE);
    let settings = RepositorySettings {
        mutability: Mutability::ImmutableExcept(vec![Glob("latest*".into())]),
        scan_on_push: true,
        encryption: Encryption { kind: EncryptionKind::Kms, kms_key: Some("key".into()) },
        resource_tags: [("team".into(), "a".into())].into(),
        policy: Some("{}".into()),
        lifecycle: None,
    };
    let repository = Repository {
        name: name("hub/library/nginx"),
        created_at: START,
        incarnation: 300,
        cached_by: Some(prefix("hub")),
        settings: settings.clone(),
    };
    fixtures.record("applied", &LogIndex(70_000));
    fixtures.record("hash", &StateHash([(1, [7; 32]), (9, [8; 32])].into()));
    fixtures.record(
        "meta",
        &Meta {
            cluster: Some(flotilla_base::ClusterId(7)),
            cluster_epoch: flotilla_base::Epoch(1),
            ring_epoch: 2,
            cluster_version: 1,
            time: START,
            last_incarnation: 3,
            last_tag_version: 4,
            last_rule_version: 5,
        },
    );
    fixtures.record("counters", &Counters { rules: 1, templates: 2, repositories: 3, idempotency: 4 });
    fixtures.record(
        "settings",
        &Settings {
            account_id: "000000000000".into(),
            home_region: "us-east-1".into(),
            repository_creation: RepositoryCreation::TemplateRequired,
            account_settings: [("BLOB_MOUNTING".into(), "ENABLED".into())].into(),
        },
    );
    let mut rule = rule("hub");
    rule.upstream_prefix = Some(name("library"));
    rule.revalidate_after = Some(Duration::from_millis(1_500));
    rule.version = 9;
    fixtures.record("cache-rule", &rule);
    fixtures.record("template", &template("ROOT", settings));
    fixtures.record("repository", &repository);
    fixtures.record("tag", &TagRecord { digest: blob(1), version: 300, moved_at: START, validated_at: at(1) });
    let wide = flotilla_oci::Digest::from_hash(flotilla_oci::Algorithm::Sha512, &[9; 64]).unwrap();
    fixtures.record(
        "image",
        &ImageRecord {
            digest: wide,
            media_type: MediaType(MediaType::OCI_MANIFEST.into()),
            artifact_type: Some(MediaType("a/b".into())),
            size: ByteLen(5_000_000_000),
            pushed_at: START,
            last_pulled_at: Some(at(2)),
            subject: Some(blob(2)),
            provenance: Provenance::Pushed,
        },
    );
    fixtures.record(
        "manifest",
        &ManifestRecord { media_type: MediaType(MediaType::DOCKER_LIST.into()), len: ByteLen(1234), references: 2 },
    );
    fixtures.record("staged-part", &StagedPart { arrived_at: START, bytes: Bytes::from_static(b"{}") });
    fixtures.record(
        "blob",
        &BlobRecord {
            size: Some(ByteLen(1)),
            links: 2,
            cached_references: 3,
            pushed_references: 4,
            homes: vec!["local".into()],
            unreferenced_since: Some(START),
            condemned: true,
            placement: Placement::Copies(vec![NodeId(1), NodeId(u64::MAX)]),
        },
    );
    fixtures.record("link", &LinkRecord { size: ByteLen(1), linked_at: START });
    fixtures.record("access-key", &access_key());
    fixtures.record("rule-options", &(prefix("hub"), CacheRuleOptions { mirror: true, ..CacheRuleOptions::default() }));
    fixtures.record("secret", &secret("ecr-pullthroughcache/a"));
    fixtures.record("robot", &robot("ci"));
    fixtures.record("node", &NodeRecord { speaks: 1, ..node(1) });
    fixtures.record("process", &Process { boot: BootId(2), floor: 3, kept: 4, last_at: START });
    fixtures.record::<Reply>("reply-refused", &Err(Refusal::PartsMissing(blob(3))));
    fixtures.record::<Reply>("reply", &Ok(Outcome::Repository(Box::new(repository))));
    fixtures.record("kept-outcome", &KeptOutcome { at: START, outcome: Outcome::Done });

    let entry = entry();
    fixtures.written.push(("entry", hex(&entry.encode().unwrap())));
    if let Some(stored) = fixtures.stored.get("entry") {
        let read: CommandBatch = codec::decode_version(COMMAND_VERSION, crate::COMMAND_LIMIT, &unhex(stored)).unwrap();
        assert_eq!(read, entry);
    }
    let text: String = fixtures.written.iter().map(|(name, hex)| format!("{name} {hex}\n")).collect();
    assert_eq!(include_str!("fixtures.txt"), text, "what is written now:\n{text}");
}

fn entry() -> CommandBatch {
    let import = crate::ImportImage {
        repository: name("hub/a"),
        expect_incarnation: Some(1),
        origin: flotilla_registry::cache_rule::Origin { rule: prefix("hub"), name: name("a") },
        expect_rule_version: 2,
        tag: Some(TagUpdate { tag: tag("latest"), expect_version: 3 }),
        digest: blob(1),
        media_type: MediaType(MediaType::OCI_INDEX.into()),
        len: ByteLen(2),
        bytes: Some(Bytes::from_static(b"{}")),
    };
    let command = |seq, op| Command {
        id: OpId { node: NodeId(1), boot: BootId(2), seq },
        acked_below: 3,
        by: PrincipalArn::root("000000000000"),
        idempotency: Some(IdempotencyKey { invocation: "i".into(), operation: "o".into(), body: [1; 32] }),
        op,
    };
    let last = Op::RecordUse(crate::Use { validated: vec![], pulled: vec![(name("hub/a"), blob(1), START)] });
    CommandBatch { at: START, commands: vec![command(4, Op::ImportImage(Box::new(import))), command(5, last)] }
}

/// The log holds operations by their number.
#[test]
fn operations_keep_their_numbers() {
    let repository = || name("a");
    let template_update = crate::TemplateUpdate {
        prefix: prefix("a"),
        description: None,
        settings: crate::TemplateSettingsUpdate::default(),
        applied_for: None,
        custom_role_arn: None,
    };
    let rule_update = crate::CacheRuleUpdate {
        prefix: prefix("a"),
        credential_arn: None,
        custom_role_arn: None,
        revalidate_after: None,
    };
    let world = World::unfounded();
    let ops = [
        Op::Found(Box::new(founding())),
        Op::Tick,
        Op::AdvanceTime { to: START, clocks: vec![] },
        Op::RaiseClusterVersion { to: 1 },
        Op::PutNode(Box::new(node(1))),
        Op::PutAccessKey(Box::new(access_key())),
        Op::PutAccountSetting { name: String::new(), value: String::new() },
        Op::CreateCacheRule(Box::new(rule("a"))),
        Op::UpdateCacheRule(rule_update),
        Op::DeleteCacheRule { prefix: prefix("a") },
        Op::CreateTemplate(Box::new(template("a", RepositorySettings::default()))),
        Op::UpdateTemplate(Box::new(template_update)),
        Op::DeleteTemplate { prefix: prefix("a") },
        Op::CreateRepository { name: repository(), settings: Box::default() },
        Op::DeleteRepository { name: repository(), force: true },
        Op::PutMutability { name: repository(), mutability: Mutability::Mutable },
        Op::PutScanOnPush { name: repository(), scan_on_push: true },
        Op::TagRepository { name: repository(), put: BTreeMap::new(), remove: vec![] },
        Op::PutManifestPart { digest: blob(1), index: 0, bytes: Bytes::new() },
        Op::ImportImage(Box::new(world.import("a", None, &image(&[1], None)))),
        Op::LinkBlob(world.link("a", blob(1), 1)),
        Op::DeleteImages { repository: repository(), images: vec![] },
        Op::RecordUse(crate::Use::default()),
        Op::PutCacheRuleOptions {
            prefix: prefix("a"),
            expect_version: 1,
            options: Box::default(),
            revalidate_after: None,
        },
        Op::PutSecret { expect_revision: 0, secret: Box::new(secret("ecr-pullthroughcache/a")) },
        Op::DeleteSecret { name: String::new(), expect_revision: 1 },
        Op::CreateRobot { robot: Box::new(robot("ci")), key: Box::new(access_key()) },
        Op::DeleteRobot { name: String::new() },
        Op::DeleteAccessKey { id: String::new() },
        Op::CreateCacheRuleWithOptions { rule: Box::new(rule("a")), options: Box::default() },
    ];
    for (number, op) in ops.iter().enumerate() {
        assert_eq!(usize::from(encode_row(op)[1]), number, "{op:?}");
    }
}

#[test]
fn keys_are_written_as_ever() {
    let (repo, d) = (name("a/b"), blob(0xdd));
    let digest = format!("01{}", "dd".repeat(32));
    for (key, expected) in [
        (tag_key(&repo, &tag("v1")), "612f62007631".to_owned()),
        (digest_key(&repo, &d), format!("612f6200{digest}")),
        (digest_tag_key(&repo, &d, &tag("v1")), format!("612f6200{digest}007631")),
        (digest_pair_key(&repo, &d, &d), format!("612f6200{digest}00{digest}")),
        (part_key(&d, 258), format!("{digest}0102")),
        (node_key(NodeId(1)), "0000000000000001".to_owned()),
        (
            reply_key(OpId { node: NodeId(1), boot: BootId(2), seq: 3 }),
            "000000000000000100000000000000020000000000000003".to_owned(),
        ),
        (time_key(Timestamp(1), &[0xee; 32]), format!("0000000000000001{}", "ee".repeat(32))),
    ] {
        assert_eq!(hex(&key), expected);
    }
    assert_eq!(encode_verbatim(b"{}"), [&[1], &b"{}"[..]].concat());
}

#[test]
fn tables_are_numbered_without_gaps() {
    let numbers: Vec<u8> = TABLES.iter().map(|table| table.0).collect();
    assert_eq!(numbers, (0..26).collect::<Vec<u8>>());
}

#[test]
fn a_row_of_another_version_is_corrupt_and_not_guessed() {
    let row = [&[2], &encode_row(&LogIndex(1))[1..]].concat();
    assert!(decode_row::<LogIndex>(BOOKKEEPING, &row).is_err());
    assert!(decode_verbatim(MANIFEST_BYTES, &Bytes::from_static(&[2, 0])).is_err());
    assert!(decode_verbatim(MANIFEST_BYTES, &Bytes::new()).is_err());
}
