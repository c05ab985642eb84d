//! Random commands over a small world, applied in different batchings.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_base::{ByteLen, LogIndex, OpId, Timestamp, codec, store::Memory};
use flotilla_registry::{
    Glob,
    cache_rule::CacheRule,
    image::ImageId,
    repository::{Mutability, RepositorySettings},
};
use proptest::prelude::*;

use super::recount;
use crate::{
    Command, CommandBatch, IdempotencyKey, ImportImage, Op, Overlay, Reply, TagUpdate, Use, apply,
    command::COMMAND_VERSION, tests::support::*,
};

const REPOSITORIES: [&str; 3] = ["hub/a", "hub/a/b", "quay/c"];
const TAGS: [&str; 2] = ["latest", "v1"];
const PREFIXES: [&str; 4] = ["hub", "hub/a", "quay", "ROOT"];

/// What somebody wants; `n` picks among few.
#[derive(Clone, Debug)]
enum Wish {
    Import {
        repository: usize,
        tag: Option<usize>,
        image: usize,
        staged: bool,
        stale: bool,
    },
    Link {
        repository: usize,
        blob: u8,
        size: u64,
        stale: bool,
    },
    DeleteImages {
        repository: usize,
        ids: Vec<(Option<usize>, Option<usize>)>,
    },
    CreateRepository {
        repository: usize,
        mutability: usize,
    },
    DeleteRepository {
        repository: usize,
        force: bool,
    },
    PutMutability {
        repository: usize,
        mutability: usize,
    },
    CreateRule {
        prefix: usize,
        is_default: bool,
    },
    DeleteRule {
        prefix: usize,
    },
    CreateTemplate {
        prefix: usize,
        mutability: usize,
    },
    DeleteTemplate {
        prefix: usize,
    },
    Use {
        repository: usize,
        tag: usize,
        image: usize,
        version: u64,
    },
    Tick,
    /// An earlier command, sent once more.
    Again {
        earlier: usize,
    },
}

fn wish() -> impl Strategy<Value = Wish> {
    let (repository, image, mutability, prefix) = (0..3usize, 0..images().len(), 0..4usize, 0..4usize);
    let tag = || 0..2usize;
    let id = (prop::option::of(image.clone()), prop::option::of(tag()));
    prop_oneof![
        8 => (repository.clone(), prop::option::of(tag()), image.clone(), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(repository, tag, image, staged, stale)| Wish::Import { repository, tag, image, staged, stale }),
        3 => (repository.clone(), 0u8..6, prop::bool::weighted(0.1), prop::bool::weighted(0.1)).prop_map(
            |(repository, blob, other, stale)| {
                Wish::Link { repository, blob, size: 100 + u64::from(other), stale }
            }
        ),
        3 => (repository.clone(), prop::collection::vec(id, 0..4))
            .prop_map(|(repository, ids)| Wish::DeleteImages { repository, ids }),
        1 => (repository.clone(), mutability.clone())
            .prop_map(|(repository, mutability)| Wish::CreateRepository { repository, mutability }),
        1 => (repository.clone(), any::<bool>())
            .prop_map(|(repository, force)| Wish::DeleteRepository { repository, force }),
        2 => (repository.clone(), mutability.clone())
            .prop_map(|(repository, mutability)| Wish::PutMutability { repository, mutability }),
        1 => (prefix.clone(), any::<bool>()).prop_map(|(prefix, is_default)| Wish::CreateRule { prefix, is_default }),
        1 => prefix.clone().prop_map(|prefix| Wish::DeleteRule { prefix }),
        1 => (prefix.clone(), mutability)
            .prop_map(|(prefix, mutability)| Wish::CreateTemplate { prefix, mutability }),
        1 => prefix.prop_map(|prefix| Wish::DeleteTemplate { prefix }),
        1 => (repository, tag(), image, 0u64..9)
            .prop_map(|(repository, tag, image, version)| Wish::Use { repository, tag, image, version }),
        1 => Just(Wish::Tick),
        2 => any::<prop::sample::Index>().prop_map(|index| Wish::Again { earlier: index.index(1_000) }),
    ]
}

/// Images that share blobs, lists of them, a list of lists, and a signature.
fn images() -> Vec<Image> {
    let (a, b, c) = (image(&[1, 2], None), image(&[2, 3, 3], None), image(&[], None));
    let list = index(&[&a, &b, &b]);
    let lists = index(&[&list, &c]);
    let signature = image(&[4], Some(&a));
    vec![a, b, c, list, lists, signature]
}

fn mutability(n: usize) -> Mutability {
    let filters = vec![Glob("v*".into())];
    match n {
        0 => Mutability::Mutable,
        1 => Mutability::Immutable,
        2 => Mutability::ImmutableExcept(filters),
        _ => Mutability::MutableExcept(filters),
    }
}

/// The operations that fulfil a wish as things stand.
fn ops(world: &World, wish: &Wish) -> Vec<Op> {
    let repo = |n: usize| name(REPOSITORIES[n]);
    match wish {
        Wish::Import { repository, tag, image, staged, stale } => {
            let image = &images()[*image];
            let mut import = world.import(REPOSITORIES[*repository], tag.map(|n| TAGS[n]), image);
            if *stale {
                import.expect_incarnation = Some(1);
                import.tag = import.tag.map(|update| TagUpdate { expect_version: 1, ..update });
            }
            if !staged {
                return vec![Op::ImportImage(Box::new(import))];
            }
            let part = Op::PutManifestPart { digest: image.digest, index: 0, bytes: image.bytes.clone() };
            vec![part, Op::ImportImage(Box::new(ImportImage { bytes: None, ..import }))]
        }
        Wish::Link { repository, blob, size, stale } => {
            let mut link = world.link(REPOSITORIES[*repository], self::blob(*blob), *size);
            if *stale {
                link.expect_incarnation = Some(1);
            }
            vec![Op::LinkBlob(link)]
        }
        Wish::DeleteImages { repository, ids } => {
            let id = |(digest, tag): &(Option<usize>, Option<usize>)| ImageId {
                digest: digest.map(|n| images()[n].digest),
                tag: tag.map(|n| self::tag(TAGS[n])),
            };
            vec![Op::DeleteImages { repository: repo(*repository), images: ids.iter().map(id).collect() }]
        }
        Wish::CreateRepository { repository, mutability: n } => {
            let settings = RepositorySettings { mutability: mutability(*n), ..Default::default() };
            vec![Op::CreateRepository { name: repo(*repository), settings: Box::new(settings) }]
        }
        Wish::DeleteRepository { repository, force } => {
            vec![Op::DeleteRepository { name: repo(*repository), force: *force }]
        }
        Wish::PutMutability { repository, mutability: n } => {
            vec![Op::PutMutability { name: repo(*repository), mutability: mutability(*n) }]
        }
        Wish::CreateRule { prefix, is_default } => {
            vec![Op::CreateCacheRule(Box::new(CacheRule { is_default: *is_default, ..rule(PREFIXES[*prefix]) }))]
        }
        Wish::DeleteRule { prefix } => vec![Op::DeleteCacheRule { prefix: self::prefix(PREFIXES[*prefix]) }],
        Wish::CreateTemplate { prefix, mutability: n } => {
            let settings = RepositorySettings { mutability: mutability(*n), ..Default::default() };
            vec![Op::CreateTemplate(Box::new(template(PREFIXES[*prefix], settings)))]
        }
        Wish::DeleteTemplate { prefix } => vec![Op::DeleteTemplate { prefix: self::prefix(PREFIXES[*prefix]) }],
        Wish::Use { repository, tag, image, version } => {
            let validated = vec![(repo(*repository), self::tag(TAGS[*tag]), *version, world.now)];
            let pulled = vec![(repo(*repository), images()[*image].digest, world.now)];
            vec![Op::RecordUse(Use { validated, pulled })]
        }
        Wish::Tick => vec![Op::Tick],
        Wish::Again { .. } => Vec::new(),
    }
}

/// One command per entry, and what it was answered.
type History = Vec<(Bytes, Command, Timestamp, Reply)>;

/// Applies the wishes one by one and watches tags; every second command carries a client's mark.
fn play(wishes: &[(Wish, u64)]) -> (World, History) {
    let mut world = World::unfounded();
    let mut history: History = Vec::new();
    let mut highest_version = 0;
    let mut step = |world: &mut World, history: &mut History, command: Command| {
        let tags = recount::all_tags(&world.replica);
        let frozen = frozen(world, &tags);
        let facts = recount::facts(&world.replica);
        let reply = world.send(command.clone());
        if reply.is_err() {
            assert_eq!(recount::facts(&world.replica), facts, "refused, and something changed: {command:?}");
        }
        for (key, record) in recount::all_tags(&world.replica) {
            let before = tags.get(&key);
            if before.is_none_or(|before| before.version != record.version) {
                assert!(record.version > highest_version, "versions rise");
                highest_version = record.version;
                assert!(!frozen.contains_key(&key), "a frozen tag moved: {command:?}");
            } else {
                assert_eq!(before.map(|before| before.digest), Some(record.digest), "moved without a version");
            }
        }
        history.push((world.last.clone().unwrap(), command, world.now, reply));
    };
    for op in first_ops() {
        let command = world.command(op);
        step(&mut world, &mut history, command);
    }
    for (wish, minutes) in wishes {
        world.now = Timestamp(world.now.0 + minutes * MINUTE);
        if let Wish::Again { earlier } = wish {
            let command = history[earlier % history.len()].1.clone();
            step(&mut world, &mut history, command);
        }
        for op in ops(&world, wish) {
            let mut command = world.command(op);
            if command.id.seq.is_multiple_of(2) {
                // Few marks, so that some come again.
                let invocation = format!("{:?}", wish);
                command.idempotency = Some(IdempotencyKey { invocation, operation: "x".into(), body: [0; 32] });
            }
            command.acked_below = command.id.seq.saturating_sub(20);
            step(&mut world, &mut history, command);
        }
    }
    (world, history)
}

fn first_ops() -> [Op; 2] {
    [Op::Found(Box::new(founding())), Op::CreateCacheRule(Box::new(rule("hub")))]
}

/// Tags that must not move.
fn frozen(world: &World, tags: &BTreeMap<Vec<u8>, crate::TagRecord>) -> BTreeMap<Vec<u8>, ()> {
    let mut frozen = BTreeMap::new();
    for repository in world.tables().repositories(None, 10).unwrap() {
        for text in TAGS {
            let key = crate::format::tag_key(&repository.name, &tag(text));
            if tags.contains_key(&key) && repository.settings.mutability.freezes(&tag(text)) {
                frozen.insert(key, ());
            }
        }
    }
    frozen
}

/// The history in entries of one or more commands, each of one time.
fn merged(history: &History, sizes: &[usize]) -> Vec<Bytes> {
    let mut entries = Vec::new();
    let mut at = 0;
    let mut sizes = sizes.iter().cycle();
    while at < history.len() {
        let time = history[at].2;
        let same = history[at..].iter().take_while(|(_, _, t, _)| *t == time);
        let commands: Vec<Command> =
            same.take(*sizes.next().unwrap()).map(|(_, command, _, _)| command.clone()).collect();
        at += commands.len();
        entries.push(CommandBatch { at: time, commands }.encode().unwrap());
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn counts_are_exact_and_batching_changes_nothing(
        wishes in prop::collection::vec((wish(), 0u64..12), 1..60),
        sizes in prop::collection::vec(1usize..5, 1..6),
    ) {
        let (world, history) = play(&wishes);
        recount::check(&world.replica);
        let replies: Vec<&Reply> = history.iter().map(|(_, _, _, reply)| reply).collect();
        let hash = world.tables().hash().unwrap();
        let singles: Vec<Bytes> = history.iter().map(|(entry, ..)| entry.clone()).collect();
        for entries in [singles, merged(&history, &sizes)] {
            let mut other = Replica::default();
            let mut got = Vec::new();
            let mut rest = entries.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (run, later) = rest.split_at((*size).min(rest.len()));
                got.extend(other.apply(run).into_iter().flatten());
                rest = later;
            }
            prop_assert_eq!(got.iter().collect::<Vec<_>>(), replies.clone());
            prop_assert_eq!(other.tables().hash().unwrap(), hash.clone());
        }
    }

    #[test]
    fn hostile_entries_never_panic(bytes: Vec<u8>, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let store = Memory::default();
        let attempt = |entry: &[u8]| {
            let mut overlay = Overlay::over(&store).unwrap();
            let _ = apply(&mut overlay, entry);
            let _ = overlay.finish(LogIndex(1), None);
        };
        attempt(&bytes);
        let versioned = [&[COMMAND_VERSION], bytes.as_slice()].concat();
        attempt(&versioned);
        let (_, history) = play(&[(Wish::Import { repository: 0, tag: Some(0), image: 3, staged: true, stale: false }, 1)]);
        for (entry, ..) in history {
            let mut entry = entry.to_vec();
            for (index, byte) in &flips {
                let at = index.index(entry.len());
                entry[at] = *byte;
            }
            attempt(&entry);
        }
    }
}

#[test]
fn extreme_numbers_never_panic() {
    let mut world = World::new();
    let mut import = world.import("hub/a", Some("latest"), &images()[0]);
    import.len = ByteLen(u64::MAX);
    import.expect_rule_version = u64::MAX;
    let use_ = Use { validated: vec![(name("hub/a"), tag("v1"), u64::MAX, Timestamp(u64::MAX))], pulled: vec![] };
    let ops = [Op::ImportImage(Box::new(import)), Op::RecordUse(use_), Op::RaiseClusterVersion { to: 0 }];
    for (n, op) in ops.into_iter().enumerate() {
        let mut command = world.command(op);
        command.id = OpId { seq: u64::MAX - n as u64, ..command.id };
        command.acked_below = u64::MAX;
        let _ = world.send(command);
    }
    let at = Timestamp(u64::MAX);
    let _ = world.run(Op::AdvanceTime { to: at, clocks: vec![(flotilla_base::NodeId(1), at)] });
    world.now = at;
    let _ = world.run(Op::Tick);
    recount::check(&world.replica);
}

#[test]
fn an_entry_that_is_too_long_is_not_made() {
    let mut world = World::new();
    let bytes = vec![0; 65 * 1024].into();
    let command = world.command(Op::PutManifestPart { digest: blob(1), index: 0, bytes });
    let batch = CommandBatch { at: START, commands: vec![command] };
    assert!(matches!(batch.encode(), Err(codec::CodecError::TooLong { .. })));
    let bytes = vec![0; crate::PART_LIMIT.0 as usize].into();
    let command = world.command(Op::PutManifestPart { digest: blob(1), index: 0, bytes });
    assert!(CommandBatch { at: START, commands: vec![command] }.encode().is_ok(), "a part fits");
}
