//! The cluster's own operations.

mod keys;

use flotilla_aws::{
    flotilla::{
        CheckImageReference, CheckImageReferenceInput, CheckImageReferenceOutput, Counts, GetStatus, GetStatusInput,
        GetStatusOutput, RaftStatus, RefreshImage, RefreshImageInput, RefreshImageOutput, RefreshOutcome,
        RefreshedImage, StorageStatus, UpstreamStatus,
    },
    validate::InvalidParameter,
};
use flotilla_oci::Tag;
use flotilla_registry::{
    access::{Action, Resource},
    mapping::Namespace,
    upstream,
};
use flotilla_service::{Refreshed, UpstreamHealth, Validation};

use super::{Call, Failure, Handle, repository, repository_resource};

impl Handle for GetStatus {
    const ACTION: Action = Action("flotilla:GetStatus");

    fn resource(_: &GetStatusInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, _: GetStatusInput) -> Result<GetStatusOutput, Failure> {
        let cluster = &call.services().cluster;
        let status = cluster.status(call.permit)?;
        let state = match (status.raft.is_leader, status.raft.leader) {
            (true, _) => "Leader",
            (false, Some(_)) => "Follower",
            (false, None) => "Candidate",
        };
        let upstream = |health: UpstreamHealth| UpstreamStatus {
            host: health.host,
            circuit_open: health.circuit_open,
            credential_failure: health.credential_failure,
            rate_limit_remaining: health.rate_limit_remaining,
        };
        Ok(GetStatusOutput {
            version: status.node.version.to_owned(),
            node_id: status.node.node.to_string(),
            node_name: status.node.name,
            cluster_id: status.node.cluster.to_string(),
            region: status.node.region,
            endpoint: call.arrival.origin.to_string(),
            uptime_seconds: call.door.host.clock.now().since(status.started_at).as_secs(),
            ready: cluster.ready().is_ok(),
            raft: RaftStatus {
                leader: status.raft.leader.map(|leader| leader.to_string()),
                term: status.raft.term,
                last_applied: status.raft.applied.unwrap_or_default().0,
                state: state.to_owned(),
            },
            storage: StorageStatus {
                used_bytes: status.storage.used.0,
                max_bytes: status.storage.max.0,
                free_bytes: status.storage.free.0,
                blobs: status.storage.blobs,
                quarantined: status.storage.quarantined,
            },
            counts: Counts {
                rules: status.counts.rules,
                templates: status.counts.templates,
                repositories: status.counts.repositories,
            },
            upstreams: status.upstreams.into_iter().map(upstream).collect(),
            fills_in_flight: status.fills_in_flight,
        })
    }
}

impl Handle for RefreshImage {
    const ACTION: Action = Action("flotilla:RefreshImage");

    fn resource(input: &RefreshImageInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    async fn handle(call: Call<'_>, input: RefreshImageInput) -> Result<RefreshImageOutput, Failure> {
        let name = repository("repositoryName", &input.repository_name)?;
        let tag: Option<Tag> = input.image_tag.as_ref().map(|tag| tag.parse()).transpose().map_err(|_| {
            InvalidParameter::new("imageTag", "must satisfy regular expression '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'")
        })?;
        let pull = &call.services().pull;
        let refreshed = pull.refresh(call.permit, &pull.target(&name), tag.as_ref()).await?;
        Ok(RefreshImageOutput { refreshed: refreshed.into_iter().map(refreshed_shape).collect() })
    }
}

fn refreshed_shape(refreshed: Refreshed) -> RefreshedImage {
    let (outcome, message) = match refreshed.validation {
        Validation::Unchanged => (RefreshOutcome::Unchanged, None),
        Validation::Moved => (RefreshOutcome::Moved, None),
        Validation::Frozen => (RefreshOutcome::Frozen, None),
        Validation::MissingUpstream => (RefreshOutcome::MissingUpstream, None),
        Validation::UpstreamFailed(why) => (RefreshOutcome::UpstreamFailed, Some(why)),
    };
    RefreshedImage {
        image_tag: refreshed.tag.to_string(),
        image_digest: refreshed.digest.map(|digest| digest.to_string()).unwrap_or_default(),
        previous_digest: refreshed.previous.map(|digest| digest.to_string()),
        outcome,
        message,
    }
}

impl Handle for CheckImageReference {
    const ACTION: Action = Action("flotilla:CheckImageReference");

    fn resource(_: &CheckImageReferenceInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(call: Call<'_>, input: CheckImageReferenceInput) -> Result<CheckImageReferenceOutput, Failure> {
        let name = repository("name", bare_name(&input.name))?;
        let ns = input.ns.as_deref().map(|ns| {
            let not_a_host = || InvalidParameter::new("ns", "must be a registry host with an optional port");
            upstream::parse_host(ns).ok_or_else(not_a_host)
        });
        let ns = ns.transpose()?;
        let namespace = ns.as_deref().map_or(Namespace::Own, Namespace::Of);
        let check = call.services().rules.check(call.permit, namespace, &name)?;
        let rule = check.rule.as_ref();
        Ok(CheckImageReferenceOutput {
            repository_name: check.repository.to_string(),
            ecr_repository_prefix: rule.map(|rule| rule.prefix.to_string()),
            upstream_host: rule.map(|rule| rule.upstream_host.clone()),
            upstream_name: check.upstream_name.map(|name| name.to_string()),
            filtered: check.filtered,
            template_prefix: check.template.map(|prefix| prefix.to_string()),
            repository_exists: check.repository_exists,
            notes: check.notes,
        })
    }
}

/// The repository of an image reference as docker reads it: without host, tag and digest.
pub(super) fn bare_name(reference: &str) -> &str {
    let reference = reference.split('@').next().unwrap_or_default();
    let name = match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    };
    match name.split_once('/') {
        // docker's rule for what is a host: a dot, a port, or localhost.
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lose_host_tag_and_digest() {
        for (reference, name) in [
            ("docker-hub/library/nginx", "docker-hub/library/nginx"),
            ("127.0.0.1:5000/docker-hub/library/nginx:latest", "docker-hub/library/nginx"),
            ("registry.example/a/b@sha256:00", "a/b"),
            ("localhost/a/b:1@sha256:00", "a/b"),
            ("a:1", "a"),
            ("[::1]:5000/a/b", "a/b"),
            ("", ""),
        ] {
            assert_eq!(bare_name(reference), name, "{reference}");
        }
    }
}
