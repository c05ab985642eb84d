//! Pull through cache rules.

mod verdict;

use std::{sync::Arc, time::Duration};

use flotilla_base::Timestamp;
use flotilla_oci::Name;
use flotilla_registry::{
    Glob, Prefix, Refusal,
    access::{Action, Resource},
    cache_rule::{CacheRule, CacheRuleOptions, Origin},
    mapping::Namespace,
    template::Scenario,
    upstream,
};
use flotilla_runtime::Published;
use flotilla_state::{CacheRuleUpdate, Op, Outcome, View};
use flotilla_transfer::Origins;
use serde::Deserialize;

use crate::{Access, Parts, Permit, ServiceError, proposer::Proposer, secrets};

/// Who lets a rule use a secret must be allowed to read it: the rule's pulls show what it opens.
const READ_SECRET: Action = Action("secretsmanager:GetSecretValue");

/// How often a change of options starts again that met another change of the same rule.
const OPTIONS_ATTEMPTS: usize = 4;

/// `[rules]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// Upstream hosts that are allowed beside the built-in list, as `host[:port]`, or `http://host[:port]` for one that
    /// speaks no TLS.
    pub allowed_upstreams: Vec<String>,
}

/// A rule as a caller asks for it; constraints of the wire are checked by the door, meaning here.
#[derive(Clone, Debug)]
pub struct NewCacheRule {
    pub prefix: Prefix,
    pub upstream_url: String,
    pub upstream_registry: Option<String>,
    pub upstream_prefix: Option<String>,
    pub credential_arn: Option<String>,
    pub custom_role_arn: Option<String>,
    pub is_default: bool,
    pub options: CacheRuleOptionsUpdate,
}

/// What of a rule's options shall change; `None` leaves a member as it is, or as it is by default.
#[derive(Clone, Debug, Default)]
pub struct CacheRuleOptionsUpdate {
    pub mirror: Option<bool>,
    pub anonymous_allowed: Option<bool>,
    pub allow: Option<Vec<Glob>>,
    pub deny: Option<Vec<Glob>>,
    pub revalidate_after: Option<Duration>,
}

impl CacheRuleOptionsUpdate {
    fn over(self, held: &CacheRuleOptions) -> CacheRuleOptions {
        CacheRuleOptions {
            mirror: self.mirror.unwrap_or(held.mirror),
            anonymous_allowed: self.anonymous_allowed.unwrap_or(held.anonymous_allowed),
            allow: self.allow.unwrap_or_else(|| held.allow.clone()),
            deny: self.deny.unwrap_or_else(|| held.deny.clone()),
        }
    }
}

/// What a name would mean.
#[derive(Clone, Debug)]
pub struct Check {
    pub repository: Name,
    pub rule: Option<CacheRule>,
    pub upstream_name: Option<Name>,
    /// The rule does not let the name through: what is held is served, and nothing else.
    pub filtered: bool,
    pub template: Option<Prefix>,
    pub repository_exists: bool,
    pub notes: Vec<String>,
}

pub struct Rules {
    view: Published<View>,
    origins: Arc<Origins>,
    config: RulesConfig,
    access: Arc<Access>,
    proposer: Proposer,
}

impl Rules {
    pub(crate) fn new(parts: &Parts, config: RulesConfig, access: Arc<Access>, proposer: Proposer) -> Self {
        Self { view: parts.view.clone(), origins: parts.origins.clone(), config, access, proposer }
    }

    /// # Errors
    /// `UnsupportedUpstream` for a host that is not allowed, `Invalid` for members that contradict each other, `Denied`
    /// for a secret that the caller may not read, `Refused(RuleExists | NoSecret | SecretDeleted | SecretPinned)`.
    pub async fn create(&self, permit: Permit<'_>, new: NewCacheRule) -> Result<CacheRule, ServiceError> {
        let options = new.options.clone().over(&CacheRuleOptions::default());
        let rule = self.read(new)?;
        self.check_secret(permit, rule.credential_arn.as_deref()).await?;
        let op = match options == CacheRuleOptions::default() {
            true => Op::CreateCacheRule(Box::new(rule)),
            false => Op::CreateCacheRuleWithOptions { rule: Box::new(rule), options: Box::new(options) },
        };
        match self.proposer.propose(permit, op).await? {
            Outcome::Rule(rule) => Ok(*rule),
            _ => Err(ServiceError::Unexpected("CreateCacheRule")),
        }
    }

    /// The named rules in the order of the request, or every rule after `after`, at most `limit`.
    ///
    /// # Errors
    /// `Refused(NoRule)` when a named one does not exist.
    pub async fn describe(
        &self,
        _: Permit<'_>,
        prefixes: Option<&[Prefix]>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<CacheRule>, ServiceError> {
        let Some(prefixes) = prefixes else {
            let view = self.view.load();
            let mut rules: Vec<_> =
                view.rules.iter().filter(|rule| after.is_none_or(|after| rule.prefix.as_str() > after)).collect();
            rules.sort_by(|a, b| a.prefix.as_str().cmp(b.prefix.as_str()));
            return Ok(rules.into_iter().take(limit).cloned().collect());
        };
        let mut rules = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            rules.push(self.get(prefix).await?);
        }
        Ok(rules)
    }

    /// # Errors
    /// `Refused(NoRule | NoSecret | SecretDeleted | SecretPinned)`, `Denied` for a secret that the caller may not read.
    pub async fn update(
        &self,
        permit: Permit<'_>,
        prefix: &Prefix,
        credential_arn: Option<String>,
        custom_role_arn: Option<String>,
    ) -> Result<CacheRule, ServiceError> {
        self.get(prefix).await?;
        self.check_secret(permit, credential_arn.as_deref()).await?;
        let update =
            CacheRuleUpdate { prefix: prefix.clone(), credential_arn, custom_role_arn, revalidate_after: None };
        match self.proposer.propose(permit, Op::UpdateCacheRule(update)).await? {
            Outcome::Rule(rule) => Ok(*rule),
            _ => Err(ServiceError::Unexpected("UpdateCacheRule")),
        }
    }

    /// With the options that the rule has now.
    pub fn with_options(&self, _: Permit<'_>, rules: Vec<CacheRule>) -> Vec<(CacheRule, CacheRuleOptions)> {
        let view = self.view.load();
        let paired = |rule: CacheRule| {
            let options = view.rules.options(&rule.prefix).clone();
            (rule, options)
        };
        rules.into_iter().map(paired).collect()
    }

    /// # Errors
    /// `Refused(NoRule)`.
    pub async fn update_options(
        &self,
        permit: Permit<'_>,
        prefix: &Prefix,
        update: CacheRuleOptionsUpdate,
    ) -> Result<(CacheRule, CacheRuleOptions), ServiceError> {
        for _ in 0..OPTIONS_ATTEMPTS {
            let rule = self.get(prefix).await?;
            let held = self.view.load().rules.options(prefix).clone();
            let options = update.clone().over(&held);
            let revalidates = update.revalidate_after.is_none_or(|after| rule.revalidate_after == Some(after));
            // Another version of the rule would have every upstream asked again.
            if revalidates && options == held {
                return Ok((rule, options));
            }
            let op = Op::PutCacheRuleOptions {
                prefix: prefix.clone(),
                expect_version: rule.version,
                options: Box::new(options.clone()),
                revalidate_after: update.revalidate_after,
            };
            match self.proposer.propose(permit, op).await {
                Ok(Outcome::Rule(rule)) => return Ok((*rule, options)),
                Ok(_) => return Err(ServiceError::Unexpected("PutCacheRuleOptions")),
                // Somebody else has changed it: his change and this one both count.
                Err(ServiceError::Refused(Refusal::Moved)) => self.proposer.barrier().await.map(|_| ())?,
                Err(error) => return Err(error),
            }
        }
        Err(Refusal::Moved.into())
    }

    /// Cached repositories and images stay and are served; there is no more upstream traffic for them.
    ///
    /// # Errors
    /// `Refused(NoRule)`.
    pub async fn delete(&self, permit: Permit<'_>, prefix: &Prefix) -> Result<CacheRule, ServiceError> {
        match self.proposer.propose(permit, Op::DeleteCacheRule { prefix: prefix.clone() }).await? {
            Outcome::Rule(rule) => Ok(*rule),
            _ => Err(ServiceError::Unexpected("DeleteCacheRule")),
        }
    }

    /// Asks the upstream with the rule's credential; the inner `Err` says which step failed and why.
    ///
    /// # Errors
    /// `Refused(NoRule)`; an upstream that does not answer is no error here.
    pub async fn validate(
        &self,
        _: Permit<'_>,
        prefix: &Prefix,
    ) -> Result<(CacheRule, Result<(), String>), ServiceError> {
        let rule = self.get(prefix).await?;
        // The name is not asked about: only the upstream itself is.
        let any: Name = "library/any".parse().map_err(|_| ServiceError::Unexpected("a constant name"))?;
        let resolved = self.origins.resolve(&Origin { rule: prefix.clone(), name: any });
        let verdict = verdict::verdict(resolved).await;
        Ok((rule, verdict))
    }

    /// What `name` means, without asking anybody.
    ///
    /// # Errors
    /// `Unmapped`, and when the state cannot be read.
    pub fn check(&self, _: Permit<'_>, namespace: Namespace<'_>, name: &Name) -> Result<Check, ServiceError> {
        let view = self.view.load();
        let target = view.rules.map(namespace, name)?;
        let name = &target.repository;
        let origin = view.rules.origin_of(name);
        let rule = origin.as_ref().and_then(|origin| view.rules.get(&origin.rule)).cloned();
        let upstream_name = origin.map(|origin| origin.name);
        let template =
            view.templates.covering(name, Scenario::PullThroughCache).map(|template| template.prefix.clone());
        let mut notes = Vec::new();
        if let (Some(rule), Some(upstream_name)) = (&rule, &upstream_name) {
            let rest = rule.prefix.rest(name).unwrap_or_default();
            if upstream::is_docker_hub(&rule.upstream_host) && upstream_name.as_str() == format!("library/{rest}") {
                notes.push(format!(
                    "'{name}' and '{}/library/{rest}' are two repositories; their blobs are shared",
                    rule.prefix
                ));
            }
        } else {
            notes.push("no cache rule covers this name: only what is here is served".to_owned());
        }
        let filtered = target.filtered_by.is_some();
        if filtered {
            notes.push("the rule's filters keep this name from the upstream: only what is here is served".to_owned());
        }
        let repository = view.tables().repository(name)?;
        if namespace != Namespace::Own && repository.as_ref().is_some_and(|repository| repository.cached_by.is_none()) {
            notes.push(format!("'{name}' was created here, not by its rule: clients of a mirror do not see it"));
        }
        let repository_exists = repository.is_some();
        Ok(Check { repository: target.repository, rule, upstream_name, filtered, template, repository_exists, notes })
    }

    /// One rule; "no" only after a barrier.
    async fn get(&self, prefix: &Prefix) -> Result<CacheRule, ServiceError> {
        if let Some(rule) = self.view.load().rules.get(prefix) {
            return Ok(rule.clone());
        }
        self.proposer.barrier().await?;
        let view = self.view.load();
        Ok(view.rules.get(prefix).cloned().ok_or_else(|| Refusal::NoRule(prefix.clone()))?)
    }

    /// The secret is there, and the caller may read it. It may be without a value: infrastructure tools make it first.
    /// Whether it belongs to the rule's upstream is said when the rule is applied.
    async fn check_secret(&self, permit: Permit<'_>, id: Option<&str>) -> Result<(), ServiceError> {
        let Some(id) = id else { return Ok(()) };
        let found = secrets::find(&self.view, &self.proposer, id).await;
        // Without the permission nobody learns what there is.
        let name = match &found {
            Ok(secret) => secret.name.clone(),
            Err(_) => id.to_owned(),
        };
        self.access.allow(permit.caller(), READ_SECRET, &Resource::Secret(name)).await?;
        found.map(|_| ())
    }

    fn read(&self, new: NewCacheRule) -> Result<CacheRule, ServiceError> {
        let unsupported = || ServiceError::UnsupportedUpstream(new.upstream_url.clone());
        let url = upstream::parse_url(&new.upstream_url).map_err(|_| unsupported())?;
        if !self.allows(&url) {
            return Err(unsupported());
        }
        let known = upstream::known(&url.host).map(|known| known.id);
        if let (Some(sent), Some(known)) = (new.upstream_registry.as_deref(), known)
            && sent != known
        {
            let why = format!("'{}' is the upstream registry '{known}', not '{sent}'", url.host);
            return Err(ServiceError::Invalid { member: "upstreamRegistry", why });
        }
        let upstream_prefix = upstream_prefix(&new, url.prefix)?;
        Ok(CacheRule {
            prefix: new.prefix,
            upstream_url: new.upstream_url,
            upstream_host: url.host,
            upstream_prefix,
            upstream_prefix_sent: new.upstream_prefix,
            upstream_registry: new.upstream_registry.or(known.map(str::to_owned)),
            credential_arn: new.credential_arn,
            custom_role_arn: new.custom_role_arn,
            // Stamped when it is applied.
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            version: 0,
            revalidate_after: new.options.revalidate_after,
            is_default: new.is_default,
        })
    }

    fn allows(&self, url: &upstream::UpstreamUrl) -> bool {
        let listed = |plain: bool| {
            self.config
                .allowed_upstreams
                .iter()
                .filter_map(|entry| upstream::parse_url(entry).ok())
                .any(|entry| entry.host == url.host && entry.plain == plain)
        };
        if url.plain { listed(true) } else { upstream::is_built_in(&url.host) || listed(false) || listed(true) }
    }
}

/// What stands before a name at the upstream: the URL's path or the upstream prefix, not both.
fn upstream_prefix(new: &NewCacheRule, path: Option<Name>) -> Result<Option<Name>, ServiceError> {
    let invalid = |why: &str| ServiceError::Invalid { member: "upstreamRepositoryPrefix", why: why.to_owned() };
    let sent = match new.upstream_prefix.as_deref() {
        None => return Ok(path),
        Some(sent) => sent.parse::<Prefix>().map_err(|_| invalid("must be a repository prefix or ROOT"))?,
    };
    match (sent, path) {
        (_, Some(_)) => Err(invalid("must be absent when the upstream registry URL carries a path")),
        (Prefix::Root, None) => Ok(None),
        (Prefix::Below(_), None) if new.prefix == Prefix::Root => {
            Err(invalid("must be absent or ROOT when the repository prefix is ROOT"))
        }
        (Prefix::Below(name), None) => Ok(Some(name)),
    }
}
