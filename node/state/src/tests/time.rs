use flotilla_base::{NodeId, Timestamp};
use flotilla_registry::{NodeRecord, NodeState, Refusal};

use crate::{ApplyError, Op, Outcome, Overlay, apply, tests::support::*};

fn time(world: &World) -> Timestamp {
    world.tables().meta().unwrap().time
}

fn at(minutes: u64) -> Timestamp {
    Timestamp(START.0 + minutes * MINUTE)
}

#[test]
fn time_follows_the_leaders_stamp_and_never_goes_back() {
    let mut world = World::new();
    for (stamp, expected) in [(1, 1), (0, 1), (61, 61), (30, 61)] {
        world.now = at(stamp);
        world.ok(Op::Tick);
        assert_eq!(time(&world), at(expected), "stamp {stamp}");
    }
}

#[test]
fn a_step_of_more_than_an_hour_refuses_the_whole_entry() {
    let mut world = World::new();
    let hash = world.tables().hash().unwrap();
    world.now = Timestamp(at(60).0 + 1);
    let ops = [Op::Tick, Op::CreateCacheRule(Box::new(rule("quay")))];
    let commands = ops.into_iter().map(|op| world.command(op)).collect();
    assert_eq!(world.entry(commands), vec![Err(Refusal::TimeStep), Err(Refusal::TimeStep)]);
    assert_eq!((time(&world), world.tables().hash().unwrap()), (START, hash));
    world.now = at(60);
    world.ok(Op::Tick);
}

#[test]
fn a_refused_step_can_be_proposed_again() {
    let mut world = World::new();
    world.now = at(90);
    let command = world.command(Op::CreateCacheRule(Box::new(rule("quay"))));
    assert_eq!(world.send(command.clone()), Err(Refusal::TimeStep));
    world.now = at(1);
    assert!(matches!(world.send(command), Ok(Outcome::Rule(_))));
}

#[test]
fn a_large_step_needs_clocks_that_vouch_for_it() {
    let to = at(600);
    let clock = |behind: u64| (NodeId(1), Timestamp(to.0 - behind));
    for (clocks, accepted) in [
        (vec![clock(0), clock(5_000)], true),
        (vec![clock(0), clock(5_001)], false),
        (vec![(NodeId(1), Timestamp(u64::MAX))], true),
        (vec![], false),
    ] {
        let mut world = World::new();
        let reply = world.run(Op::AdvanceTime { to, clocks: clocks.clone() });
        let expected = if accepted { (Ok(Outcome::Done), to) } else { (Err(Refusal::TimeStep), START) };
        assert_eq!((reply, time(&world)), expected, "{clocks:?}");
    }
}

#[test]
fn a_large_step_needs_the_clocks_of_more_than_half_of_the_nodes() {
    let states = [NodeState::Active, NodeState::Draining, NodeState::Active, NodeState::Joining, NodeState::Removed];
    for (clocks, accepted) in [
        (vec![1], false),
        (vec![1, 2], true),
        (vec![2, 3, 4], true),
        (vec![1, 1, 1], false),
        (vec![1, 4, 5], false),
        (vec![1, 9], false),
    ] {
        let mut world = World::new();
        for (id, state) in (1..).zip(states) {
            world.ok(Op::PutNode(Box::new(NodeRecord { state, ..node(id) })));
        }
        let step = clocks.iter().map(|id| (NodeId(*id), at(600))).collect();
        let reply = world.run(Op::AdvanceTime { to: at(600), clocks: step });
        assert_eq!(reply.is_ok(), accepted, "{clocks:?}: {reply:?}");
    }
}

#[test]
fn a_large_step_comes_alone() {
    let mut world = World::new();
    let step = Op::AdvanceTime { to: at(600), clocks: vec![(NodeId(1), at(600))] };
    let commands = [Op::Tick, step].into_iter().map(|op| world.command(op)).collect();
    assert_eq!(world.entry(commands), vec![Ok(Outcome::Done), Err(Refusal::TimeStep)]);
    assert_eq!(time(&world), START);
}

#[test]
fn an_entry_of_another_version_or_none_at_all_stops_the_node() {
    let store = flotilla_base::store::Memory::default();
    let mut overlay = Overlay::over(&store).unwrap();
    assert!(matches!(apply(&mut overlay, &[2, 0, 0]), Err(ApplyError::Unknown(2))));
    for bytes in [&[][..], &[1], &[1, 0, 0, 0], &[1; 70_000]] {
        assert!(matches!(apply(&mut overlay, bytes), Err(ApplyError::Undecodable(_))), "{} bytes", bytes.len());
    }
}

#[test]
fn a_cluster_version_that_is_not_spoken_here_stops_the_node() {
    let mut world = World::new();
    let next = crate::CLUSTER_VERSION + 1;
    assert_eq!(world.run(Op::RaiseClusterVersion { to: next }), Err(Refusal::BadSetting("cluster_version".into())));
    let mut newer = node(1);
    newer.speaks = next;
    world.ok(Op::PutNode(Box::new(newer)));
    let command = world.command(Op::RaiseClusterVersion { to: next });
    let entry = crate::CommandBatch { at: world.now, commands: vec![command] }.encode().unwrap();
    let mut overlay = Overlay::over(&world.replica.store).unwrap();
    assert!(matches!(apply(&mut overlay, &entry), Err(ApplyError::Unknown(version)) if u16::from(version) == next));
}
