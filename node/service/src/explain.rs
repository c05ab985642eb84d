//! A pull, step by step, without doing it: what each of its steps would find now. Nothing is changed, nothing is paid for,
//! and only a live question asks an upstream.

use std::sync::Arc;

use flotilla_base::ByteLen;
use flotilla_oci::{Digest, Name, Reference};
use flotilla_registry::{
    access::{Action, Resource},
    cache_rule::Target,
    mapping::Namespace,
};

use crate::{Access, Caller, Permit, Pull, ServiceError};

/// What a pull of a manifest asks for: the read, then what a first one of a covered repository brings about.
const PULL: [Action; 3] =
    [Action("ecr:BatchGetImage"), Action("ecr:BatchImportUpstreamImage"), Action("ecr:CreateRepository")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Mapping,
    Rule,
    Template,
    Decision,
    Tag,
    Upstream,
    Blobs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Ok,
    Failed,
    /// An earlier step decides, or nobody asked for it.
    Skipped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedStep {
    pub step: Step,
    pub finding: Finding,
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A blob or a child of the image, and what a pull of it would meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedBlob {
    pub digest: Digest,
    pub size: ByteLen,
    pub state: BlobState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobState {
    /// Here, whole.
    Held,
    /// Being fetched now.
    Growing,
    /// Not here; the rule of the repository can fetch it.
    Fetchable,
    /// Not here, and nothing can fetch it.
    Missing,
}

#[derive(Clone, Debug, Default)]
pub struct Explained {
    pub repository: Option<Name>,
    pub steps: Vec<ExplainedStep>,
    pub blobs: Vec<ExplainedBlob>,
}

/// What is to be explained.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    pub namespace: Namespace<'a>,
    pub name: Name,
    pub reference: Reference,
    /// Who would pull.
    pub puller: Caller,
    /// Ask the upstream, too.
    pub live: bool,
}

pub struct Explain {
    access: Arc<Access>,
    pull: Arc<Pull>,
}

impl ExplainedStep {
    pub(crate) fn ok(step: Step, text: impl Into<String>) -> Self {
        Self { step, finding: Finding::Ok, text: text.into(), hint: None }
    }

    pub(crate) fn failed(step: Step, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { step, finding: Finding::Failed, text: text.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn skipped(step: Step, text: impl Into<String>) -> Self {
        Self { step, finding: Finding::Skipped, text: text.into(), hint: None }
    }
}

impl Explain {
    pub(crate) fn new(access: Arc<Access>, pull: Arc<Pull>) -> Self {
        Self { access, pull }
    }

    /// Walks through the pull. Every later step is looked at though an earlier one fails, unless it has nothing to look
    /// at: who mends one thing wants to know of the next.
    ///
    /// # Errors
    /// When the state cannot be read. What is wrong with the pull is in its steps.
    pub async fn explain(&self, _: Permit<'_>, question: &Question<'_>) -> Result<Explained, ServiceError> {
        let target = match self.pull.map(question.namespace, &question.name) {
            Ok(target) => target,
            Err(ServiceError::Unmapped(unmapped)) => {
                let hint = "`flotilla rule list` shows which rules mirror which registry";
                let failed = ExplainedStep::failed(Step::Mapping, unmapped.to_string(), hint);
                return Ok(Explained { steps: vec![failed], ..Explained::default() });
            }
            Err(error) => return Err(error),
        };
        let mut steps = vec![mapped(question, &target)];
        let mut examined = self.pull.examine(&target, &question.reference, question.live).await?;
        let decision = self.decision(question, &target)?;
        // The order of a pull: the rule and the template are known before anybody is asked for permission.
        let after = examined.steps.iter().position(|step| step.step == Step::Tag).unwrap_or(examined.steps.len());
        examined.steps.insert(after, decision);
        steps.append(&mut examined.steps);
        Ok(Explained { repository: Some(target.repository), steps, blobs: examined.blobs })
    }

    /// As the door of the registry asks: whatever a pull may bring about belongs to it.
    fn decision(&self, question: &Question<'_>, target: &Target) -> Result<ExplainedStep, ServiceError> {
        let resource = Resource::Repository(target.repository.clone());
        let actions = if target.origin.is_some() { &PULL[..] } else { &PULL[..1] };
        let Caller { principal, .. } = &question.puller;
        Ok(match self.access.denial(&question.puller, actions, &resource)? {
            None => ExplainedStep::ok(Step::Decision, format!("{principal} may pull it")),
            Some((action, denial)) => {
                let text = format!("{principal} may not {} on '{}': {denial}", action.0, target.repository);
                ExplainedStep::failed(Step::Decision, text, denial.hint())
            }
        })
    }
}

fn mapped(question: &Question<'_>, target: &Target) -> ExplainedStep {
    let text = match question.namespace {
        Namespace::Own => format!("repository '{}'", target.repository),
        Namespace::Of(host) => format!("'{}' of {host} is repository '{}'", question.name, target.repository),
    };
    ExplainedStep::ok(Step::Mapping, text)
}
