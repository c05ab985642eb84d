//! A pull, step by step, without doing it.

use serde::{Deserialize, Serialize};

use crate::{
    operation::operation,
    validate::{self, Checked, InvalidParameter},
};

operation!(
    /// Walks a pull of one image step by step and says where it would end. Changes nothing; only `live` asks an upstream.
    Flotilla::ExplainImage(ExplainImageInput) -> ExplainImageOutput, check = check_explain
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainImageInput {
    /// Reference as a client pulls it: name, tag or digest, with or without this node's host. Without tag and digest it
    /// means `latest`, as for docker.
    pub image: String,
    /// Who pulls: an ARN, a robot's name, `root` or `anonymous`. The caller when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Address that the request would come from; what anonymous callers may depends on it. This machine when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    /// The registry that a mirror's client names, as `docker.io`; containerd's `?ns=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Through the mirror's own listener or Host.
    pub mirror: bool,
    /// Ask the upstream, too: for the manifest's head, with the rule's credential.
    pub live: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainImageOutput {
    /// Absent when the name maps to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_name: Option<String>,
    /// The tag or digest.
    pub reference: String,
    /// In the order in which a pull takes them; the ones after a failed step that depend on it are skipped.
    pub steps: Vec<ExplainedStep>,
    /// The blobs and children that the held manifest names.
    pub blobs: Vec<ExplainedBlob>,
    /// The first step that fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<PullStep>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainedStep {
    pub step: PullStep,
    pub outcome: StepOutcome,
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExplainedBlob {
    pub digest: String,
    pub size_bytes: u64,
    pub state: BlobState,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BlobState {
    #[default]
    Held,
    /// Being fetched now.
    Growing,
    /// Not here; the rule can fetch it.
    Fetchable,
    /// Not here, and nothing can fetch it.
    Missing,
}

/// The steps of a pull, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PullStep {
    /// Which door the request comes to.
    #[default]
    Listener,
    /// Which repository the name means.
    Mapping,
    /// Which rule and upstream name cover it.
    Rule,
    /// What a new repository would be made from.
    Template,
    /// Whether the principal may.
    Decision,
    /// What is held for the tag or digest, and whether it is fresh.
    Tag,
    /// What the upstream says.
    Upstream,
    /// Which blobs of the image are here.
    Blobs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepOutcome {
    #[default]
    Ok,
    Failed,
    /// Not looked at: an earlier step decides, or nobody asked for it.
    Skipped,
}

fn check_explain(input: &ExplainImageInput) -> Checked {
    // Room for a host, a name of 256 characters, a tag and a digest.
    validate::length("image", &input.image, 1, 1024)?;
    for (member, value) in [("principal", &input.principal), ("namespace", &input.namespace)] {
        if let Some(value) = value {
            validate::length(member, value, 1, 300)?;
        }
    }
    match &input.source_ip {
        Some(address) if address.parse::<std::net::IpAddr>().is_err() => {
            Err(InvalidParameter::new("sourceIp", "must be an IPv4 or IPv6 address"))
        }
        _ => Ok(()),
    }
}
