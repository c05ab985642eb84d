use std::time::Duration;

use flotilla_base::{BootId, OpId};
use flotilla_registry::{NodeState, Refusal, access::PrincipalArn};

use crate::{Command, IdempotencyKey, Op, Outcome, Reply, format, tests::support::*};

/// Creates the repository `n<seq>`: it succeeds once.
fn create(world: &mut World, boot: u64, seq: u64, acked_below: u64) -> Command {
    let op = Op::CreateRepository { name: name(&format!("n{seq}")), settings: Box::default() };
    let command = world.command(op);
    Command { id: OpId { boot: BootId(boot), seq, ..command.id }, acked_below, ..command }
}

fn is_created(reply: &Reply) -> bool {
    matches!(reply, Ok(Outcome::Repository(_)))
}

#[test]
fn a_repeated_operation_gets_its_reply_and_changes_nothing() {
    let mut world = World::new();
    let command = create(&mut world, 1, 100, 0);
    let reply = world.send(command.clone());
    assert!(is_created(&reply));
    let hash = world.tables().hash().unwrap();
    assert_eq!(world.send(command), reply);
    assert_eq!(world.tables().hash().unwrap(), hash);
    let in_one_entry = create(&mut world, 1, 101, 0);
    let replies = world.entry(vec![in_one_entry.clone(), in_one_entry]);
    assert!(is_created(&replies[0]) && replies[0] == replies[1]);
}

#[test]
fn a_refusal_is_kept_as_a_reply() {
    let mut world = World::new();
    let delete = Op::DeleteRepository { name: name("n100"), force: false };
    let refused = world.command(delete);
    assert!(world.send(refused.clone()).is_err());
    let create = create(&mut world, 1, 100, 0);
    assert!(is_created(&world.send(create)));
    assert_eq!(world.send(refused), Err(Refusal::NoRepository(name("n100"))));
}

#[test]
fn what_was_acknowledged_is_forgotten_and_stale() {
    let mut world = World::new();
    let early = create(&mut world, 1, 100, 0);
    world.send(early.clone()).unwrap();
    let kept = create(&mut world, 1, 101, 0);
    let reply = world.send(kept.clone());
    let later = create(&mut world, 1, 102, 101);
    world.send(later).unwrap();
    assert_eq!(world.send(early), Err(Refusal::StaleOperation));
    assert_eq!(world.send(kept), reply);
    let acknowledges_more = create(&mut world, 1, 110, 109);
    world.send(acknowledges_more).unwrap();
    let never_came = create(&mut world, 1, 105, 0);
    assert_eq!(world.send(never_came), Err(Refusal::StaleOperation), "answered otherwise, its node says");
    // An acknowledgement of itself would be a lie.
    let liar = create(&mut world, 1, 111, u64::MAX);
    assert!(is_created(&world.send(liar.clone())));
    assert!(is_created(&world.send(liar)));
}

#[test]
fn a_newer_start_voids_what_the_older_one_proposed() {
    let mut world = World::new();
    let old = create(&mut world, 1, u64::MAX, 0);
    world.send(old.clone()).unwrap();
    let new = create(&mut world, 2, 0, 0);
    assert!(is_created(&world.send(new)));
    assert_eq!(world.send(old), Err(Refusal::StaleOperation));
    assert_eq!(world.replica.rows(format::REPLIES).len(), 1, "the older start's replies are gone");
}

#[test]
fn at_most_1024_replies_are_kept_and_the_oldest_go() {
    let mut world = World::new();
    let commands: Vec<Command> = (100..1_130).map(|seq| create(&mut world, 1, seq, 0)).collect();
    for few in commands.chunks(200) {
        assert!(world.entry(few.to_vec()).iter().all(is_created));
    }
    let replies = world.replica.store.clone();
    let mut count = 0;
    let mut after = None::<Vec<u8>>;
    while let Some((key, _)) =
        crate::Tables::of(&replies).under(format::REPLIES, &[], after.as_deref(), 1).unwrap().first()
    {
        count += 1;
        after = Some(key.to_vec());
    }
    assert_eq!(count, 1_024);
    assert_eq!(world.send(commands[0].clone()), Err(Refusal::StaleOperation));
    assert!(is_created(&world.send(commands[1_029].clone())));
}

#[test]
fn replies_of_a_silent_or_removed_process_go_and_stay_void() {
    for removed in [false, true] {
        let mut world = World::new();
        let command = create(&mut world, 1, 100, 0);
        world.send(command.clone()).unwrap();
        // Another node proposes what follows.
        let other = |world: &mut World, op| {
            let mut command = world.command(op);
            command.id.node = flotilla_base::NodeId(2);
            world.send(command).unwrap();
        };
        if removed {
            let mut gone = node(1);
            gone.state = NodeState::Removed;
            other(&mut world, Op::PutNode(Box::new(gone)));
        } else {
            for _ in 0..24 {
                world.now = world.now.plus(Duration::from_secs(3_600));
                other(&mut world, Op::Tick);
            }
        }
        let of_first = |world: &World| {
            let rows = world.replica.rows(format::REPLIES);
            rows.into_iter().filter(|(key, _)| key.starts_with(&1u64.to_be_bytes())).count()
        };
        assert_eq!(of_first(&world), 0, "removed: {removed}");
        assert_eq!(world.send(command), Err(Refusal::StaleOperation));
    }
}

fn marked(world: &mut World, invocation: &str, seconds: u64) -> Command {
    world.now = world.now.plus(Duration::from_secs(seconds));
    let command = world.command(Op::CreateCacheRule(Box::new(rule("quay"))));
    let key = IdempotencyKey { invocation: invocation.into(), operation: "Create".into(), body: [0; 32] };
    Command { idempotency: Some(key), ..command }
}

#[test]
fn a_clients_mark_gets_the_same_success_for_15_minutes() {
    let mut world = World::new();
    let first = marked(&mut world, "a", 0);
    let made = world.send(first);
    assert!(made.is_ok());
    let again = marked(&mut world, "a", 15 * 60 - 1);
    assert_eq!(world.send(again), made);
    let other = marked(&mut world, "b", 0);
    assert_eq!(world.send(other), Err(Refusal::RuleExists(prefix("quay"))));
    let stranger = Command { by: PrincipalArn::anonymous(), ..marked(&mut world, "a", 0) };
    assert_eq!(world.send(stranger), Err(Refusal::RuleExists(prefix("quay"))));
    let expired = marked(&mut world, "a", 1);
    assert_eq!(world.send(expired), Err(Refusal::RuleExists(prefix("quay"))));
}

#[test]
fn a_failure_is_not_kept_under_a_mark() {
    let mut world = World::new();
    let first = marked(&mut world, "a", 0);
    world.send(first).unwrap();
    let fails = marked(&mut world, "b", 0);
    world.send(fails).unwrap_err();
    world.ok(Op::DeleteCacheRule { prefix: prefix("quay") });
    let succeeds = marked(&mut world, "b", 0);
    assert!(world.send(succeeds).is_ok());
}

#[test]
fn a_tick_drops_marks_that_expired() {
    let mut world = World::new();
    let first = marked(&mut world, "a", 0);
    world.send(first).unwrap();
    world.ok(Op::DeleteCacheRule { prefix: prefix("quay") });
    let second = marked(&mut world, "b", 60);
    world.send(second).unwrap();
    world.now = world.now.plus(Duration::from_secs(14 * 60));
    world.ok(Op::Tick);
    assert_eq!(world.replica.rows(format::IDEMPOTENCY).len(), 1);
    assert_eq!(world.replica.rows(format::IDEMPOTENCY_BY_TIME).len(), 1);
    assert_eq!(world.tables().counters().unwrap().idempotency, 1);
}

fn with_mark(world: &mut World, number: usize) -> Command {
    let op = Op::PutAccountSetting { name: "BLOB_MOUNTING".into(), value: "ENABLED".into() };
    let key = IdempotencyKey { invocation: number.to_string(), operation: "Put".into(), body: [0; 32] };
    Command { idempotency: Some(key), acked_below: u64::MAX, ..world.command(op) }
}

#[test]
fn a_tick_drops_some_of_the_expired_marks() {
    let mut world = World::new();
    for chunk in 0..11 {
        let commands = (0..100).map(|n| with_mark(&mut world, chunk * 100 + n)).collect();
        assert!(world.entry(commands).iter().all(Result::is_ok));
    }
    let kept = |world: &World| world.tables().counters().unwrap().idempotency;
    assert_eq!(kept(&world), 1_100);
    world.now = world.now.plus(Duration::from_secs(15 * 60));
    world.ok(Op::Tick);
    assert_eq!(kept(&world), 1_100 - 512);
    world.ok(Op::Tick);
    world.ok(Op::Tick);
    assert_eq!(kept(&world), 0);
    assert!(world.replica.rows(format::IDEMPOTENCY_BY_TIME).is_empty());
}

#[test]
fn a_tick_drops_some_of_the_expired_parts() {
    let mut world = World::new();
    for index in 0..6 {
        let part = |n| Op::PutManifestPart { digest: blob(n), index, bytes: "x".into() };
        let commands = (0..100).map(|n| world.command(part(n))).collect();
        assert!(world.entry(commands).iter().all(Result::is_ok));
    }
    assert_eq!(world.replica.rows(format::STAGED_PARTS).len(), 600);
    world.now = world.now.plus(Duration::from_secs(10 * 60));
    world.ok(Op::Tick);
    assert_eq!(world.replica.rows(format::STAGED_PARTS).len(), 600 - 512);
    world.ok(Op::Tick);
    assert_eq!(world.replica.rows(format::STAGED_PARTS).len(), 0);
}

#[test]
fn a_tick_drops_the_replies_of_one_silent_process() {
    let mut world = World::new();
    for node in [2, 3] {
        let command = create(&mut world, 1, node, 0);
        let command = Command { id: OpId { node: flotilla_base::NodeId(node), ..command.id }, ..command };
        world.send(command).unwrap();
    }
    for _ in 0..23 {
        world.now = world.now.plus(Duration::from_secs(3_600));
        world.ok(Op::Tick);
    }
    let silent = |world: &World| {
        let rows = world.replica.rows(format::REPLIES);
        rows.iter().filter(|(key, _)| !key.starts_with(&1u64.to_be_bytes())).count()
    };
    assert_eq!(silent(&world), 2);
    world.now = world.now.plus(Duration::from_secs(3_600));
    world.ok(Op::Tick);
    assert_eq!(silent(&world), 1);
    world.ok(Op::Tick);
    assert_eq!(silent(&world), 0);
}
