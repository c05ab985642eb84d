use flotilla_aws::flotilla::{GetStatus, GetStatusInput, GetStatusOutput, UpstreamStatus};
use flotilla_base::ByteLen;

use crate::{
    error::CliError,
    output::{duration, facts, table, yes},
    run::{Report, Session},
};

pub(crate) async fn run(session: &Session) -> Result<Report, CliError> {
    let status = session.call::<GetStatus>(&GetStatusInput {}).await?;
    Ok(session.report(&status, || text(&status)))
}

fn text(status: &GetStatusOutput) -> String {
    let GetStatusOutput { raft, storage, counts, .. } = status;
    let bytes = |n: u64| ByteLen(n).to_string();
    let mut text = facts([
        ("node", Some(format!("{} ({})", status.node_name, status.node_id))),
        ("version", Some(status.version.clone())),
        ("endpoint", Some(status.endpoint.clone())),
        ("region", Some(status.region.clone())),
        ("cluster", Some(status.cluster_id.clone())),
        ("ready", Some(yes(status.ready))),
        ("up", Some(duration(status.uptime_seconds))),
        (
            "raft",
            Some(format!(
                "{}, term {}, applied {}, leader {}",
                raft.state,
                raft.term,
                raft.last_applied,
                raft.leader.as_deref().unwrap_or("unknown")
            )),
        ),
        (
            "storage",
            Some(format!(
                "{} of {} in {} blobs, {} free on disk",
                bytes(storage.used_bytes),
                bytes(storage.max_bytes),
                storage.blobs,
                bytes(storage.free_bytes)
            )),
        ),
        ("quarantined", (storage.quarantined > 0).then(|| format!("{} blobs with bad bytes", storage.quarantined))),
        (
            "holds",
            Some(format!(
                "{} rules, {} templates, {} repositories",
                counts.rules, counts.templates, counts.repositories
            )),
        ),
        ("fills", Some(format!("{} in flight", status.fills_in_flight))),
    ]);
    if !status.upstreams.is_empty() {
        text.push('\n');
        text += &table(
            ["UPSTREAM", "STATE", "PULLS LEFT"],
            status.upstreams.iter().map(|upstream| {
                [
                    upstream.host.clone(),
                    state(upstream),
                    upstream.rate_limit_remaining.map_or_else(|| "-".into(), |left| left.to_string()),
                ]
            }),
        );
    }
    text
}

fn state(upstream: &UpstreamStatus) -> String {
    match &upstream.credential_failure {
        Some(failure) => failure.clone(),
        None if upstream.circuit_open => "held back after failures".to_owned(),
        None => "ok".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{fake_node::FakeNode, run::tests::execute_line};

    const REPLY: &str = r#"{"version": "0.1.0", "nodeId": "00ff", "nodeName": "n1", "clusterId": "0c", "region": "us-east-1",
        "endpoint": "http://127.0.0.1:5000", "uptimeSeconds": 7300, "ready": true,
        "raft": {"leader": "00ff", "term": 2, "lastApplied": 41, "state": "Leader"},
        "storage": {"usedBytes": 1048576, "maxBytes": 21474836480, "freeBytes": 1073741824, "blobs": 3, "quarantined": 1},
        "counts": {"rules": 7, "templates": 0, "repositories": 1},
        "upstreams": [{"host": "quay.io", "circuitOpen": true}, {"host": "registry-1.docker.io", "circuitOpen": false, "rateLimitRemaining": 98}],
        "fillsInFlight": 0}"#;

    #[tokio::test]
    async fn a_status_is_facts_and_upstreams() {
        let node = FakeNode::start(&[(200, REPLY)]).await;
        let report = execute_line(&node, &["status"]).await.unwrap();
        assert_eq!(
            report.text,
            "node         n1 (00ff)\n\
             version      0.1.0\n\
             endpoint     http://127.0.0.1:5000\n\
             region       us-east-1\n\
             cluster      0c\n\
             ready        yes\n\
             up           2h\n\
             raft         Leader, term 2, applied 41, leader 00ff\n\
             storage      1 MiB of 20 GiB in 3 blobs, 1 GiB free on disk\n\
             quarantined  1 blobs with bad bytes\n\
             holds        7 rules, 0 templates, 1 repositories\n\
             fills        0 in flight\n\
             \n\
             UPSTREAM              STATE                     PULLS LEFT\n\
             quay.io               held back after failures  -\n\
             registry-1.docker.io  ok                        98\n"
        );
    }

    #[tokio::test]
    async fn programs_get_the_answer_of_the_api() {
        let node = FakeNode::start(&[(200, REPLY)]).await;
        let report = execute_line(&node, &["status", "--json"]).await.unwrap();
        let printed: serde_json::Value = serde_json::from_str(&report.text).unwrap();
        assert_eq!(printed, serde_json::from_str::<serde_json::Value>(REPLY).unwrap());
    }
}
