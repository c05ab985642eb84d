//! kill -9 of a process under writes.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

use flotilla_base::ByteLen;
use flotilla_runtime::Host;
use prometheus_client::registry::Registry;

use super::world::{NODE, founding, has_rule};
use crate::{Consensus, ConsensusConfig, Parts};

const DIR: &str = "FLOTILLA_TEST_KILL_DIR";
/// Starts; `FLOTILLA_TEST_KILLS` asks for more.
const KILLS: u64 = 12;

async fn start(dir: &str) -> std::sync::Arc<Consensus> {
    let config = ConsensusConfig { compact_after: ByteLen::kib(32), ..ConsensusConfig::default() };
    let parts = Parts { node: NODE, host: Host::system(), dir: dir.into(), config };
    Consensus::start(parts, &mut Registry::default()).await.unwrap()
}

/// Not a test: what [`nothing_acknowledged_is_lost_by_kill_9`] runs and kills. Says each name after its acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by another test, in a process of its own"]
async fn child() {
    let dir = std::env::var(DIR).unwrap();
    let consensus = start(&dir).await;
    if !consensus.view().load().is_founded() {
        consensus.found(founding(NODE)).await.unwrap();
    }
    let mut out = std::io::stdout();
    writeln!(out, "ready").unwrap();
    for n in 0u64.. {
        // One rule comes and one goes, so that their number stays within its limit.
        let name = format!("k{}-{n}", std::process::id());
        super::world::create(&consensus, &name).await.unwrap();
        writeln!(out, "made {name}").unwrap();
        if n >= 8 {
            let old = format!("k{}-{}", std::process::id(), n - 8);
            writeln!(out, "drop {old}").unwrap();
            let op = flotilla_state::Op::DeleteCacheRule { prefix: old.parse().unwrap() };
            consensus.propose(&flotilla_registry::access::PrincipalArn::system(), None, op).await.unwrap();
            writeln!(out, "gone {old}").unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let kills = std::env::var("FLOTILLA_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut there: Vec<String> = Vec::new();
    let mut gone: Vec<String> = Vec::new();
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::kill::child", "--ignored", "--nocapture"])
            .env(DIR, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed after a different number of acknowledgements each time, at no particular point of the next.
        let until = 1 + (round * 7) % 23;
        let mut made = 0;
        let mut take = |line: String, there: &mut Vec<String>, gone: &mut Vec<String>| {
            if let Some(name) = line.strip_prefix("made ") {
                there.push(name.to_owned());
                made += 1;
            } else if let Some(name) = line.strip_prefix("drop ") {
                there.retain(|other| other != name);
            } else if let Some(name) = line.strip_prefix("gone ") {
                gone.push(name.to_owned());
            }
            made
        };
        for line in lines.by_ref() {
            if take(line.unwrap(), &mut there, &mut gone) >= until {
                break;
            }
        }
        child.kill().unwrap();
        // What it had said before it died.
        for line in lines.map_while(Result::ok) {
            take(line, &mut there, &mut gone);
        }
        child.wait().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let consensus = start(path).await;
            for name in &there {
                assert!(has_rule(&consensus, name), "{name} is lost after kill {round}");
            }
            for name in &gone {
                assert!(!has_rule(&consensus, name), "{name} is back after kill {round}");
            }
            // Room for the next round: a limit of rules is not what is tested.
            for name in there.drain(..) {
                let op = flotilla_state::Op::DeleteCacheRule { prefix: name.parse().unwrap() };
                consensus.propose(&flotilla_registry::access::PrincipalArn::system(), None, op).await.unwrap();
                gone.push(name);
            }
            consensus.stop().await;
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}
