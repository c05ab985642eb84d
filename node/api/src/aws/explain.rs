use std::net::{IpAddr, Ipv4Addr};

use flotilla_aws::{
    flotilla::{
        BlobState, ExplainImage, ExplainImageInput, ExplainImageOutput, ExplainedBlob, ExplainedStep, PullStep,
        StepOutcome,
    },
    validate::InvalidParameter,
};
use flotilla_oci::Reference;
use flotilla_registry::{
    access::{Action, PrincipalArn, Resource},
    mapping::Namespace,
    upstream,
};
use flotilla_service::{Caller, Finding, Question, Step};

use super::{Call, Failure, Handle, flotilla::bare_name, repository};

impl Handle for ExplainImage {
    const ACTION: Action = Action("flotilla:ExplainImage");

    fn resource(_: &ExplainImageInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, input: ExplainImageInput) -> Result<ExplainImageOutput, Failure> {
        let caller = call.permit.caller();
        let host = input.namespace.as_deref().map(|host| upstream::canonical_host(host).to_owned());
        let namespace = match &host {
            Some(host) => Namespace::Of(host),
            None if input.mirror => Namespace::Of(&call.door.mirror_upstream),
            None => Namespace::Own,
        };
        let reference = reference(&input.image)?;
        let puller = Caller {
            principal: principal(&call.door.account_id(), input.principal.as_deref(), &caller.principal),
            access_key: None,
            source_ip: Some(source(input.source_ip.as_deref())?),
            ..caller.clone()
        };
        let name = repository("image", bare_name(&input.image))?;
        let question = Question { namespace, name, reference: reference.clone(), puller, live: input.live };
        let explained = call.services().explain.explain(call.permit, &question).await?;
        let mut steps = vec![listener(&call, namespace, input.mirror)];
        steps.extend(explained.steps.into_iter().map(step_shape));
        let failed = steps.iter().find(|step| step.outcome == StepOutcome::Failed).map(|step| step.step);
        Ok(ExplainImageOutput {
            repository_name: explained.repository.map(|name| name.to_string()),
            reference: reference.to_string(),
            steps,
            blobs: explained.blobs.into_iter().map(blob_shape).collect(),
            failed_step: failed,
        })
    }
}

fn listener(call: &Call<'_>, namespace: Namespace<'_>, mirror: bool) -> ExplainedStep {
    if mirror && !call.door.mirror_listens && !call.arrival.has_mirror_hosts {
        let text = "this node has no address or Host that stands in for a registry".to_owned();
        let hint = Some("set mirror.listen or mirror.hosts; `flotilla dev` takes --mirror-port".to_owned());
        return ExplainedStep { step: PullStep::Listener, outcome: StepOutcome::Failed, text, hint };
    }
    let text = match namespace {
        Namespace::Of(host) if mirror => {
            format!("an address or Host of [mirror], where names are those of {host} and own repositories do not exist")
        }
        Namespace::Of(host) => format!("{}, for a client that names {host}", call.arrival.origin),
        Namespace::Own => format!("{}, where names are those of repositories", call.arrival.origin),
    };
    ExplainedStep { step: PullStep::Listener, outcome: StepOutcome::Ok, text, hint: None }
}

fn source(address: Option<&str>) -> Result<IpAddr, InvalidParameter> {
    match address {
        None => Ok(Ipv4Addr::LOCALHOST.into()),
        Some(address) => address.parse().map_err(|_| InvalidParameter::new("sourceIp", "is no IP address")),
    }
}

fn principal(account_id: &str, named: Option<&str>, caller: &PrincipalArn) -> PrincipalArn {
    match named {
        None => caller.clone(),
        Some("root") => PrincipalArn::root(account_id),
        Some("anonymous") => PrincipalArn::anonymous(),
        Some(arn) if arn.starts_with("arn:") => PrincipalArn(arn.to_owned()),
        Some(name) => PrincipalArn::user(account_id, name),
    }
}

/// The digest or tag of an image reference; docker's `latest` where it has none.
fn reference(image: &str) -> Result<Reference, InvalidParameter> {
    let last = image.rsplit('/').next().unwrap_or_default();
    let text = match (last.split_once('@'), last.split_once(':')) {
        (Some((_, digest)), _) => digest,
        (None, Some((_, tag))) => tag,
        (None, None) => "latest",
    };
    text.parse().map_err(|_| InvalidParameter::new("image", "has a tag or digest that is none"))
}

fn step_shape(step: flotilla_service::ExplainedStep) -> ExplainedStep {
    let name = match step.step {
        Step::Mapping => PullStep::Mapping,
        Step::Rule => PullStep::Rule,
        Step::Template => PullStep::Template,
        Step::Decision => PullStep::Decision,
        Step::Tag => PullStep::Tag,
        Step::Upstream => PullStep::Upstream,
        Step::Blobs => PullStep::Blobs,
    };
    let outcome = match step.finding {
        Finding::Ok => StepOutcome::Ok,
        Finding::Failed => StepOutcome::Failed,
        Finding::Skipped => StepOutcome::Skipped,
    };
    ExplainedStep { step: name, outcome, text: step.text, hint: step.hint }
}

fn blob_shape(blob: flotilla_service::ExplainedBlob) -> ExplainedBlob {
    let state = match blob.state {
        flotilla_service::BlobState::Held => BlobState::Held,
        flotilla_service::BlobState::Growing => BlobState::Growing,
        flotilla_service::BlobState::Fetchable => BlobState::Fetchable,
        flotilla_service::BlobState::Missing => BlobState::Missing,
    };
    ExplainedBlob { digest: blob.digest.to_string(), size_bytes: blob.size.0, state }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_the_digest_then_the_tag_then_latest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, wanted) in [
            ("a/b:1", "1".to_owned()),
            ("host:5000/a/b", "latest".to_owned()),
            ("host:5000/a/b:v1", "v1".to_owned()),
            (&*format!("a/b@{digest}"), digest.clone()),
            (&*format!("a/b:v1@{digest}"), digest),
        ] {
            assert_eq!(reference(image).map(|found| found.to_string()).ok(), Some(wanted), "{image}");
        }
        assert!(reference("a/b:").is_err() && reference("a/b@sha256:1").is_err());
    }
}
