//! The disk is cut at each of its mutating steps in turn; whatever had been acknowledged is there afterwards.

use flotilla_base::ByteLen;
use flotilla_runtime::Fault;

use super::world::{Machine, NODE, create, founding, has_rule};

struct Acknowledged {
    founded: bool,
    rules: Vec<String>,
    compacted: bool,
}

/// As far as the disk lets it.
async fn work(machine: &Machine) -> Acknowledged {
    let mut done = Acknowledged { founded: false, rules: Vec::new(), compacted: false };
    let Ok(consensus) = machine.start().await else { return done };
    if consensus.found(founding(NODE)).await.is_err() {
        return done;
    }
    done.founded = true;
    for n in 0..24 {
        let name = format!("r{n}");
        match create(&consensus, &name).await {
            Ok(_) => done.rules.push(name),
            Err(_) => break,
        }
        // Lets a compaction run between the proposals.
        tokio::task::yield_now().await;
    }
    done.compacted = consensus.log.purged().is_some();
    done
}

fn machine() -> Machine {
    let mut machine = Machine::new(NODE);
    machine.config.compact_after = ByteLen::kib(2);
    machine
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_cut_at_any_step_loses_nothing_acknowledged() {
    let whole = machine();
    whole.disk.fail(None);
    let all = work(&whole).await;
    assert_eq!(all.rules.len(), 24);
    assert!(all.compacted, "the steps of snapshot and purge are among those that are cut");
    let steps = whole.disk.steps();
    assert!((60..2_000).contains(&steps), "{steps}");

    for step in 1..=steps {
        let machine = machine();
        machine.disk.fail(Some(Fault::cut(step)));
        let done = work(&machine).await;
        for seed in [None, Some(step)] {
            let after = machine.crash(seed);
            let again = match after.start().await {
                Ok(again) => again,
                Err(error) => panic!("cut at step {step}, seed {seed:?}: {error}"),
            };
            // An unknown outcome may be either, and can be finished.
            if !again.view().load().is_founded() {
                assert!(!done.founded, "cut at step {step}, seed {seed:?}");
                again.found(founding(NODE)).await.unwrap();
            }
            for name in &done.rules {
                assert!(has_rule(&again, name), "{name} is lost, cut at step {step}, seed {seed:?}");
            }
            create(&again, "after").await.unwrap();
        }
    }
}
