//! What the steps of a pull would find now, for `explain`.

use std::sync::Arc;

use flotilla_oci::{Manifest, Reference};
use flotilla_registry::{Prefix, RepositoryCreation, cache_rule::Target, template::Scenario};
use flotilla_state::View;
use flotilla_transfer::Presence;
use flotilla_upstream::{Class, UpstreamError};

use super::{Freshness, Pull, ServedManifest, failure::Failure};
use crate::{
    ServiceError,
    error::chain,
    explain::{BlobState, Explained, ExplainedBlob, ExplainedStep, Step},
};

/// What is held for a reference.
enum Held {
    Nothing,
    /// Upstream need not be asked.
    Fresh(ServedManifest),
    /// Upstream is asked first, and this is served whatever it says.
    Due(ServedManifest),
}

impl Held {
    fn manifest(&self) -> Option<&ServedManifest> {
        match self {
            Self::Nothing => None,
            Self::Fresh(manifest) | Self::Due(manifest) => Some(manifest),
        }
    }
}

impl Pull {
    /// Every step but the mapping and the decision.
    pub(crate) async fn examine(
        self: &Arc<Self>,
        target: &Target,
        reference: &Reference,
        live: bool,
    ) -> Result<Explained, ServiceError> {
        let view = self.view.load();
        let held = self.held_for(&view, target, reference).map_err(Failure::into_error)?;
        let mut steps = vec![
            self.examine_rule(&view, target, held.manifest().is_some()),
            examine_template(&view, target)?,
            examine_tag(target, reference, &held),
        ];
        drop(view);
        steps.push(self.examine_upstream(target, reference, &held, live).await);
        let mut blobs = Vec::new();
        steps.push(match held.manifest() {
            Some(manifest) => {
                blobs = self.blobs_of(target, manifest).await?;
                examine_blobs(&blobs)
            }
            None => ExplainedStep::skipped(Step::Blobs, "no manifest is held that would name them"),
        });
        Ok(Explained { repository: None, steps, blobs })
    }

    fn held_for(&self, view: &View, target: &Target, reference: &Reference) -> Result<Held, Failure> {
        let (digest, is_fresh) = match reference {
            Reference::Digest(digest) => (*digest, true),
            Reference::Tag(tag) => match view.tables().tag(&target.repository, tag)? {
                None => return Ok(Held::Nothing),
                Some(record) => {
                    let fresh = |origin| self.is_fresh(view, origin, &target.repository, tag, &record);
                    (record.digest, target.origin.as_ref().is_none_or(fresh))
                }
            },
        };
        match self.held(view, &target.repository, &digest, Freshness::Hit) {
            Ok(manifest) if is_fresh => Ok(Held::Fresh(manifest)),
            Ok(manifest) => Ok(Held::Due(manifest)),
            Err(Failure::Absent) => Ok(Held::Nothing),
            Err(failure) => Err(failure),
        }
    }

    fn examine_rule(&self, view: &View, target: &Target, is_held: bool) -> ExplainedStep {
        if let Some(rule) = &target.filtered_by {
            let text = format!("rule '{rule}' does not let this name through to its upstream");
            let hint = format!("`flotilla rule set {rule} --allow … --deny …` changes its filters");
            return match is_held {
                true => ExplainedStep { hint: Some(hint), ..ExplainedStep::ok(Step::Rule, text + "; it is held") },
                false => ExplainedStep::failed(Step::Rule, text, hint),
            };
        }
        let Some(origin) = &target.origin else {
            return ExplainedStep::ok(Step::Rule, "no cache rule covers it: only what is here is served");
        };
        let Some(rule) = view.rules.get(&origin.rule) else {
            return ExplainedStep::failed(Step::Rule, "the rule is gone", "ask again");
        };
        let account = match &rule.credential_arn {
            None => "without a credential".to_owned(),
            Some(secret) => format!("with secret {secret}"),
        };
        let text = format!("rule '{}' fetches '{}' from {} {account}", rule.prefix, origin.name, rule.upstream_host);
        match self.origins.resolve(origin) {
            Ok(_) => ExplainedStep::ok(Step::Rule, text),
            Err(error) => {
                let hint = "`flotilla rule validate` and `flotilla secret show` say more";
                let text = format!("{text}: {}", chain(&error));
                match is_held {
                    true => ExplainedStep { hint: Some(hint.to_owned()), ..ExplainedStep::ok(Step::Rule, text) },
                    false => ExplainedStep::failed(Step::Rule, text, hint),
                }
            }
        }
    }

    async fn examine_upstream(&self, target: &Target, reference: &Reference, held: &Held, live: bool) -> ExplainedStep {
        let Some(origin) = &target.origin else {
            return ExplainedStep::skipped(Step::Upstream, "there is none to ask");
        };
        if !live {
            return ExplainedStep::skipped(Step::Upstream, "not asked; --live asks");
        }
        let resolved = match self.origins.resolve(origin) {
            Ok(resolved) => resolved,
            Err(error) => return ExplainedStep::skipped(Step::Upstream, chain(&error)),
        };
        let upstream = resolved.upstream.on_behalf_of(Class::Authenticated);
        match upstream.head(&resolved.name, reference).await {
            Ok(head) => {
                let digest = head.digest.map_or_else(|| "a digest it does not tell".to_owned(), |d| d.to_string());
                ExplainedStep::ok(Step::Upstream, format!("{} has it, {digest}", resolved.host))
            }
            Err(error) => {
                let text = chain(&error);
                match held.manifest() {
                    Some(_) => ExplainedStep::ok(Step::Upstream, format!("{text}; what is held is served")),
                    None => ExplainedStep::failed(Step::Upstream, text, hint(&error, &origin.rule)),
                }
            }
        }
    }

    async fn blobs_of(&self, target: &Target, manifest: &ServedManifest) -> Result<Vec<ExplainedBlob>, ServiceError> {
        let Ok(parsed) = Manifest::parse(Some(&manifest.media_type.0), &manifest.bytes) else {
            return Ok(Vec::new());
        };
        let mut blobs = Vec::with_capacity(parsed.blobs.len() + parsed.children.len());
        for child in parsed.children {
            let is_held = self.view.load().tables().image(&target.repository, &child.digest)?.is_some();
            let state = if is_held { BlobState::Held } else { absent(target) };
            blobs.push(ExplainedBlob { digest: child.digest, size: child.size, state });
        }
        for blob in parsed.blobs {
            let state = match self.transfer.presence(&blob.digest).await.map_err(ServiceError::Transfer)? {
                Presence::Sealed => BlobState::Held,
                Presence::Growing => BlobState::Growing,
                Presence::Absent => absent(target),
            };
            blobs.push(ExplainedBlob { digest: blob.digest, size: blob.size, state });
        }
        Ok(blobs)
    }
}

fn absent(target: &Target) -> BlobState {
    if target.origin.is_some() { BlobState::Fetchable } else { BlobState::Missing }
}

fn examine_template(view: &View, target: &Target) -> Result<ExplainedStep, ServiceError> {
    if view.tables().repository(&target.repository)?.is_some() {
        return Ok(ExplainedStep::ok(Step::Template, "the repository exists: its own settings count"));
    }
    if target.origin.is_none() {
        let text = format!("repository '{}' does not exist, and no rule would create it", target.repository);
        let hint = "`flotilla rule add PREFIX HOST` makes a rule, `flotilla repository create` a repository";
        return Ok(ExplainedStep::failed(Step::Template, text, hint));
    }
    Ok(match view.templates.covering(&target.repository, Scenario::PullThroughCache) {
        Some(template) => ExplainedStep::ok(Step::Template, format!("created as template '{}' says", template.prefix)),
        None if view.settings.repository_creation == RepositoryCreation::TemplateRequired => ExplainedStep::failed(
            Step::Template,
            "no creation template covers it, and one is required",
            "`flotilla template add`, or account setting PULL_THROUGH_REPOSITORY_CREATION = DEFAULTS",
        ),
        None => ExplainedStep::ok(Step::Template, "created with the defaults: no template covers it"),
    })
}

fn examine_tag(target: &Target, reference: &Reference, held: &Held) -> ExplainedStep {
    match held {
        Held::Fresh(manifest) => ExplainedStep::ok(Step::Tag, format!("held and fresh, {}", manifest.digest)),
        Held::Due(manifest) => {
            ExplainedStep::ok(Step::Tag, format!("held, and due to be validated upstream, {}", manifest.digest))
        }
        Held::Nothing if target.origin.is_some() => ExplainedStep::ok(Step::Tag, "not held: upstream would be asked"),
        Held::Nothing => {
            let text = format!("'{reference}' is not in '{}'", target.repository);
            ExplainedStep::failed(Step::Tag, text, "`flotilla image list` shows what is")
        }
    }
}

/// What to do about an upstream that does not have it, or does not give it to us.
fn hint(error: &UpstreamError, rule: &Prefix) -> String {
    match error {
        UpstreamError::NotFound { .. } => {
            "look at the name and the tag; Docker Hub's own images are library/NAME".to_owned()
        }
        UpstreamError::Denied { .. } | UpstreamError::Unauthorized { .. } => {
            format!(
                "it does not exist there, or rule '{rule}' wants a credential that may read it: `flotilla secret put`"
            )
        }
        UpstreamError::Throttled { .. } | UpstreamError::Reserved { .. } => {
            format!("most registries allow more to those who sign in: `flotilla rule set-secret {rule} NAME`")
        }
        UpstreamError::Blocked { .. } => {
            "upstream.allow_hosts, allow_networks and realm_allow list where upstreams may lead".to_owned()
        }
        _ => format!("`flotilla rule validate {rule}` asks it for more"),
    }
}

fn examine_blobs(blobs: &[ExplainedBlob]) -> ExplainedStep {
    let count = |state| blobs.iter().filter(|blob| blob.state == state).count();
    let (held, missing) = (count(BlobState::Held), count(BlobState::Missing));
    let text = format!("{held} of {} are here", blobs.len());
    match missing {
        0 => ExplainedStep::ok(Step::Blobs, text),
        _ => ExplainedStep::failed(
            Step::Blobs,
            format!("{text}; {missing} are lost, and no rule can fetch them again"),
            "make the rule again that they came through",
        ),
    }
}
