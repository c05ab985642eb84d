//! A state to apply commands to, as a node would.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use flotilla_base::{
    BootId, ByteLen, ClusterId, LogIndex, NodeId, OpId, Timestamp,
    store::{Memory, PAGE_ROWS, Row, Rows, Store},
};
use flotilla_oci::{Algorithm, Digest, Manifest, MediaType, Name, Tag};
use flotilla_registry::{
    Glob, NodeRecord, NodeState, Sealed,
    access::{AccessKey, PrincipalArn, Robot},
    cache_rule::{CacheRule, Origin},
    repository::RepositorySettings,
    secret::{self, Secret, SecretVersion},
    template::{Scenario, Template},
};

use crate::*;

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);

/// One replica: a store and the index of its last entry.
#[derive(Default)]
pub(crate) struct Replica {
    pub(crate) store: Memory,
    pub(crate) applied: u64,
}

impl Replica {
    /// Applies the entries as one batch of writes.
    pub(crate) fn apply(&mut self, entries: &[Bytes]) -> Vec<Vec<Reply>> {
        let (batch, replies) = {
            let mut overlay = Overlay::over(&self.store).unwrap();
            let replies = entries.iter().map(|entry| apply(&mut overlay, entry).unwrap()).collect();
            self.applied += entries.len() as u64;
            (overlay.finish(LogIndex(self.applied), None).0, replies)
        };
        self.store.write(batch).unwrap();
        replies
    }

    pub(crate) fn tables(&self) -> Tables<'_> {
        Tables::of(&self.store)
    }

    pub(crate) fn rows(&self, table: flotilla_base::store::Table) -> Vec<Row> {
        let rows = self.store.page(table, &[], PAGE_ROWS).unwrap();
        assert!(rows.len() < PAGE_ROWS, "the test outgrew one page");
        rows
    }
}

/// A replica with a proposer in front of it: a founded cluster with the rule `hub`.
pub(crate) struct World {
    pub(crate) replica: Replica,
    pub(crate) now: Timestamp,
    pub(crate) next_seq: u64,
    pub(crate) last: Option<Bytes>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self::unfounded();
        world.ok(Op::Found(Box::new(founding())));
        world.ok(Op::CreateCacheRule(Box::new(rule("hub"))));
        world
    }

    pub(crate) fn unfounded() -> Self {
        Self { replica: Replica::default(), now: START, next_seq: 0, last: None }
    }

    pub(crate) fn tables(&self) -> Tables<'_> {
        self.replica.tables()
    }

    pub(crate) fn command(&mut self, op: Op) -> Command {
        let id = OpId { node: NodeId(1), boot: BootId(1), seq: self.next_seq };
        self.next_seq += 1;
        Command { id, acked_below: 0, by: PrincipalArn::root("000000000000"), idempotency: None, op }
    }

    pub(crate) fn entry(&mut self, commands: Vec<Command>) -> Vec<Reply> {
        let entry = CommandBatch { at: self.now, commands }.encode().unwrap();
        self.last = Some(entry.clone());
        self.replica.apply(&[entry]).remove(0)
    }

    pub(crate) fn send(&mut self, command: Command) -> Reply {
        self.entry(vec![command]).remove(0)
    }

    pub(crate) fn run(&mut self, op: Op) -> Reply {
        let command = self.command(op);
        self.send(command)
    }

    pub(crate) fn ok(&mut self, op: Op) -> Outcome {
        self.run(op).unwrap()
    }

    /// An import as a pull proposes it: with what is read now.
    pub(crate) fn import(&self, repository: &str, tag: Option<&str>, image: &Image) -> ImportImage {
        let name = name(repository);
        let tag = tag.map(|text| {
            let held = self.tables().tag(&name, &self::tag(text)).unwrap();
            TagUpdate { tag: self::tag(text), expect_version: held.map_or(0, |held| held.version) }
        });
        let rule = self.tables().covering_rule(&name).unwrap();
        ImportImage {
            expect_incarnation: self.tables().repository(&name).unwrap().map(|repository| repository.incarnation),
            origin: Origin { rule: rule.as_ref().map_or(prefix("hub"), |r| r.prefix.clone()), name: self::name("x") },
            expect_rule_version: rule.map_or(0, |rule| rule.version),
            repository: name,
            tag,
            digest: image.digest,
            media_type: image.manifest().media_type,
            len: ByteLen(image.bytes.len() as u64),
            bytes: Some(image.bytes.clone()),
        }
    }

    pub(crate) fn pull(&mut self, repository: &str, tag: Option<&str>, image: &Image) -> Outcome {
        let import = self.import(repository, tag, image);
        self.ok(Op::ImportImage(Box::new(import)))
    }

    pub(crate) fn link(&self, repository: &str, blob: Digest, size: u64) -> LinkBlob {
        let import = self.import(repository, None, &image(&[0], None));
        LinkBlob {
            repository: import.repository,
            expect_incarnation: import.expect_incarnation,
            origin: Some(import.origin),
            digest: blob,
            size: ByteLen(size),
            copies: Vec::new(),
        }
    }
}

/// A manifest with its digest.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

impl Image {
    pub(crate) fn of(text: String) -> Self {
        let bytes = Bytes::from(text);
        let hash = digest(&SHA256, &bytes);
        Self { digest: Digest::from_hash(Algorithm::Sha256, hash.as_ref()).unwrap(), bytes }
    }

    pub(crate) fn manifest(&self) -> Manifest {
        Manifest::parse(None, &self.bytes).unwrap()
    }
}

pub(crate) fn blob(byte: u8) -> Digest {
    Digest::Sha256([byte; 32])
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

/// An image manifest: the config is blob 0 with 10 bytes, each layer has 100 times its number.
pub(crate) fn image(layers: &[u8], subject: Option<&Image>) -> Image {
    let layer = |n: &u8| descriptor("application/vnd.oci.image.layer.v1.tar", &blob(*n), u64::from(*n) * 100);
    let layers: Vec<String> = layers.iter().map(layer).collect();
    let subject = subject.map_or(String::new(), |subject| {
        format!(r#","subject":{}"#, descriptor(MediaType::OCI_MANIFEST, &subject.digest, 1))
    });
    Image::of(format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]{subject}}}"#,
        MediaType::OCI_MANIFEST,
        descriptor("application/vnd.oci.image.config.v1+json", &blob(0), 10),
        layers.join(",")
    ))
}

pub(crate) fn index(children: &[&Image]) -> Image {
    let children: Vec<String> =
        children.iter().map(|c| descriptor(&c.manifest().media_type.0, &c.digest, c.bytes.len() as u64)).collect();
    let media_type = MediaType::OCI_INDEX;
    Image::of(format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#, children.join(",")))
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(crate) fn prefix(text: &str) -> flotilla_registry::Prefix {
    text.parse().unwrap()
}

pub(crate) fn node(id: u64) -> NodeRecord {
    NodeRecord {
        id: NodeId(id),
        name: format!("n{id}"),
        region: "local".into(),
        zone: "a".into(),
        speaks: CLUSTER_VERSION,
        state: NodeState::Active,
        joined_at: START,
    }
}

pub(crate) fn access_key() -> AccessKey {
    AccessKey {
        id: "FLOTILLA0001".into(),
        principal: PrincipalArn::root("000000000000"),
        secret: Sealed { key_id: 1, bytes: vec![1, 2, 3] },
        generation: 1,
        enabled: true,
        created_at: START,
    }
}

pub(crate) fn robot(name: &str) -> Robot {
    Robot { name: name.into(), repositories: vec![Glob("hub/*".into())], expires_at: Some(START), created_at: START }
}

pub(crate) fn secret(name: &str) -> Secret {
    let value = Sealed { key_id: 1, bytes: vec![4, 5] };
    let stages = [secret::CURRENT.to_owned()].into();
    Secret {
        name: name.into(),
        suffix: "AbCd12".into(),
        description: Some("of a test".into()),
        kms_key_id: None,
        tags: [("team".into(), "a".into())].into(),
        versions: vec![SecretVersion { id: "v1".into(), stages, value, created_at: START }],
        created_at: START,
        changed_at: START,
        deletion: None,
        pinned_host: None,
        revision: 0,
    }
}

pub(crate) fn founding() -> Founding {
    Founding {
        cluster: ClusterId(7),
        account_id: "000000000000".into(),
        home_region: "us-east-1".into(),
        node: node(1),
        root_key: access_key(),
    }
}

pub(crate) fn rule(prefix: &str) -> CacheRule {
    CacheRule {
        prefix: self::prefix(prefix),
        upstream_url: "registry-1.docker.io".into(),
        upstream_host: "registry-1.docker.io".into(),
        upstream_prefix: None,
        upstream_prefix_sent: None,
        upstream_registry: Some("docker-hub".into()),
        credential_arn: None,
        custom_role_arn: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        version: 0,
        revalidate_after: None,
        is_default: false,
    }
}

pub(crate) fn template(prefix: &str, settings: RepositorySettings) -> Template {
    Template {
        prefix: self::prefix(prefix),
        description: None,
        settings,
        applied_for: vec![Scenario::PullThroughCache],
        custom_role_arn: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}
