use std::time::Duration;

use bytes::Bytes;
use flotilla_oci::Digest;
use flotilla_registry::{Refusal, access::PrincipalArn};
use flotilla_state::{COMMAND_LIMIT, IdempotencyKey, Op};

use super::world::{Machine, NODE, NOON, create, has_rule, rule};
use crate::{Health, ProposeError, StartError, types::Proposal};

#[tokio::test(start_paused = true)]
async fn of_two_that_race_one_is_refused_and_both_have_an_answer() {
    let consensus = Machine::new(NODE).founded().await;
    let (one, two, other) =
        tokio::join!(create(&consensus, "hub"), create(&consensus, "hub"), create(&consensus, "quay"));
    assert_eq!([&one, &two].iter().filter(|answer| answer.is_ok()).count(), 1);
    let refused = if one.is_ok() { two } else { one };
    assert_eq!(refused, Err(ProposeError::Refused(Refusal::RuleExists("hub".parse().unwrap()))));
    assert!(other.is_ok(), "operations of one entry succeed or fail one by one");
}

#[tokio::test(start_paused = true)]
async fn a_clients_mark_is_answered_once() {
    let consensus = Machine::new(NODE).founded().await;
    let by = PrincipalArn::root("123456789012");
    let key = IdempotencyKey { invocation: "i".into(), operation: "CreatePullThroughCacheRule".into(), body: [1; 32] };
    let first = consensus.propose(&by, Some(key.clone()), rule("hub")).await.unwrap();
    let again = consensus.propose(&by, Some(key.clone()), rule("hub")).await.unwrap();
    assert_eq!(first, again);
    let other = IdempotencyKey { body: [2; 32], ..key };
    assert!(matches!(consensus.propose(&by, Some(other), rule("hub")).await, Err(ProposeError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn many_share_entries_and_each_has_its_own_answer() {
    let consensus = Machine::new(NODE).founded().await;
    let before = consensus.status().last_log.unwrap().0;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..500 {
        let consensus = consensus.clone();
        all.spawn(async move { (n, create(&consensus, &format!("r{n}")).await) });
    }
    let mut done = 0;
    while let Some(answer) = all.join_next().await {
        let (n, answer) = answer.unwrap();
        // Each has its own or is told that there are too many rules.
        match answer {
            Ok(flotilla_state::Outcome::Rule(rule)) => assert_eq!(rule.prefix.as_str(), format!("r{n}")),
            Err(ProposeError::Refused(Refusal::Limit { .. })) => {}
            other => panic!("{other:?}"),
        }
        done += 1;
    }
    assert_eq!(done, 500);
    let entries = consensus.status().last_log.unwrap().0 - before;
    assert!(entries <= 60, "{entries} entries for 500 operations");
}

#[tokio::test(start_paused = true)]
async fn a_lone_operation_waits_for_no_other() {
    let consensus = Machine::new(NODE).founded().await;
    let before = tokio::time::Instant::now();
    create(&consensus, "hub").await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_and_what_fits_passes() {
    let consensus = Machine::new(NODE).founded().await;
    let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let part = |len| Op::PutManifestPart { digest, index: 0, bytes: Bytes::from(vec![0; len]) };
    let by = PrincipalArn::system();
    let too_large = consensus.propose(&by, None, part(65 * 1024)).await;
    assert!(matches!(too_large, Err(ProposeError::TooLarge { limit: COMMAND_LIMIT, .. })), "{too_large:?}");
    // Two that fit alone but not together.
    let (one, two) =
        tokio::join!(consensus.propose(&by, None, part(48 * 1024)), consensus.propose(&by, None, part(48 * 1024 - 1)));
    assert!(!matches!(one, Err(ProposeError::TooLarge { .. })), "{one:?}");
    assert!(!matches!(two, Err(ProposeError::TooLarge { .. })), "{two:?}");
}

#[tokio::test(start_paused = true)]
async fn too_many_at_once_are_told_to_come_back() {
    let mut machine = Machine::new(NODE);
    machine.config.max_pending = 1;
    let consensus = machine.founded().await;
    // None of them is taken up before all have asked: they are polled in turn.
    let (a, b, c) = tokio::join!(create(&consensus, "a"), create(&consensus, "b"), create(&consensus, "c"));
    assert!(a.is_ok());
    assert!([b, c].iter().any(|answer| matches!(answer, Err(ProposeError::Unavailable(_)))));
}

#[tokio::test(start_paused = true)]
async fn state_time_follows_the_clock_but_never_back() {
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    let time = || consensus.view().load().meta.time.0;
    assert_eq!(time(), NOON);
    machine.advance(-5_000);
    create(&consensus, "a").await.unwrap();
    assert_eq!(time(), NOON);
    machine.advance(5_000 + 3 * 3_600_000);
    create(&consensus, "b").await.unwrap();
    assert_eq!(time(), NOON + 3 * 3_600_000, "a long step is said, not refused");
}

#[tokio::test(start_paused = true)]
async fn state_time_ticks_and_is_moved_at_start() {
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    machine.advance(60_000);
    let mut view = consensus.view();
    let ticked = tokio::time::timeout(Duration::from_secs(70), view.wait_until(|view| view.meta.time.0 > NOON)).await;
    assert_eq!(ticked.unwrap().unwrap().meta.time.0, NOON + 60_000);
    consensus.stop().await;
    machine.advance(86_400_000);
    let again = machine.start().await.unwrap();
    assert_eq!(again.view().load().meta.time.0, NOON + 60_000 + 86_400_000);
}

#[tokio::test(start_paused = true)]
async fn a_committed_command_that_is_not_understood_stops_the_node_and_says_so() {
    let machine = Machine::new(NODE);
    let consensus = machine.founded().await;
    create(&consensus, "hub").await.unwrap();
    let newer = consensus.raft.client_write(Proposal(Bytes::from_static(&[99, 1, 2, 3]))).await;
    assert!(newer.is_err());
    let Health::Stopped(reason) = consensus.status().health else { panic!("still healthy") };
    assert!(reason.contains("version 99") && reason.contains("upgrade"), "{reason}");
    assert_eq!(create(&consensus, "late").await, Err(ProposeError::Stopped));
    assert!(has_rule(&consensus, "hub"), "what was applied can still be read");

    let again = machine.start().await;
    let Err(StartError::Raft(reason)) = again else { panic!("it started") };
    assert!(reason.contains("upgrade"), "{reason}");
}
