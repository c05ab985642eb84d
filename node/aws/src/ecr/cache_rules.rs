use serde::{Deserialize, Serialize};

use super::common::check_registry;
use crate::{
    operation::operation,
    validate::{self, Checked, InvalidParameter},
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PullThroughCacheRule {
    pub ecr_repository_prefix: String,
    pub upstream_registry_url: String,
    pub created_at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<f64>,
    pub registry_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_registry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
    /// Only when it was sent: an echoed default makes infrastructure tools replace the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_repository_prefix: Option<String>,
}

operation!(
    Ecr::CreatePullThroughCacheRule(CreatePullThroughCacheRuleInput) -> CreatePullThroughCacheRuleOutput,
    check = check_create
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreatePullThroughCacheRuleInput {
    pub ecr_repository_prefix: String,
    pub upstream_registry_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    /// Inferred from the URL when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_registry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_repository_prefix: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreatePullThroughCacheRuleOutput {
    pub ecr_repository_prefix: String,
    pub upstream_registry_url: String,
    pub created_at: f64,
    pub registry_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_registry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
    /// Only when it was sent: an echoed default makes infrastructure tools replace the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_repository_prefix: Option<String>,
}

operation!(
    Ecr::DescribePullThroughCacheRules(DescribePullThroughCacheRulesInput) -> DescribePullThroughCacheRulesOutput,
    check = check_describe
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribePullThroughCacheRulesInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    /// All rules when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecr_repository_prefixes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribePullThroughCacheRulesOutput {
    pub pull_through_cache_rules: Vec<PullThroughCacheRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

operation!(
    Ecr::UpdatePullThroughCacheRule(UpdatePullThroughCacheRuleInput) -> UpdatePullThroughCacheRuleOutput,
    check = check_update
);

/// Neither ARN given changes nothing and succeeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdatePullThroughCacheRuleInput {
    pub ecr_repository_prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdatePullThroughCacheRuleOutput {
    pub ecr_repository_prefix: String,
    pub registry_id: String,
    pub updated_at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
    /// Only when it was sent: an echoed default makes infrastructure tools replace the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_repository_prefix: Option<String>,
}

operation!(
    Ecr::DeletePullThroughCacheRule(DeletePullThroughCacheRuleInput) -> DeletePullThroughCacheRuleOutput,
    check = |input| check_named(input.registry_id.as_ref(), &input.ecr_repository_prefix)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletePullThroughCacheRuleInput {
    pub ecr_repository_prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletePullThroughCacheRuleOutput {
    pub ecr_repository_prefix: String,
    pub upstream_registry_url: String,
    pub created_at: f64,
    pub registry_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
    /// Only when it was sent: an echoed default makes infrastructure tools replace the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_repository_prefix: Option<String>,
}

operation!(
    /// Contacts the upstream; a bad outcome is a success with `is_valid` false.
    Ecr::ValidatePullThroughCacheRule(ValidatePullThroughCacheRuleInput) -> ValidatePullThroughCacheRuleOutput,
    check = |input| check_named(input.registry_id.as_ref(), &input.ecr_repository_prefix)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ValidatePullThroughCacheRuleInput {
    pub ecr_repository_prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ValidatePullThroughCacheRuleOutput {
    pub ecr_repository_prefix: String,
    pub registry_id: String,
    pub upstream_registry_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
    /// Only when it was sent: an echoed default makes infrastructure tools replace the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_repository_prefix: Option<String>,
    pub is_valid: bool,
    /// Why, when not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

fn check_named(registry_id: Option<&String>, prefix: &str) -> Checked {
    check_registry(registry_id)?;
    validate::ptc_prefix("ecrRepositoryPrefix", prefix)
}

fn check_create(input: &CreatePullThroughCacheRuleInput) -> Checked {
    check_named(input.registry_id.as_ref(), &input.ecr_repository_prefix)?;
    validate::required("upstreamRegistryUrl", &input.upstream_registry_url)?;
    if let Some(registry) = &input.upstream_registry {
        validate::one_of("upstreamRegistry", registry, validate::UPSTREAM_REGISTRIES)?;
    }
    validate::credential_arn("credentialArn", input.credential_arn.as_deref())?;
    validate::custom_role_arn("customRoleArn", input.custom_role_arn.as_deref())?;
    let Some(upstream_prefix) = &input.upstream_repository_prefix else { return Ok(()) };
    validate::ptc_prefix("upstreamRepositoryPrefix", upstream_prefix)?;
    if input.ecr_repository_prefix == "ROOT" && upstream_prefix != "ROOT" {
        return Err(InvalidParameter::new(
            "upstreamRepositoryPrefix",
            "must be absent or ROOT when 'ecrRepositoryPrefix' is ROOT",
        ));
    }
    Ok(())
}

fn check_describe(input: &DescribePullThroughCacheRulesInput) -> Checked {
    check_registry(input.registry_id.as_ref())?;
    if let Some(prefixes) = &input.ecr_repository_prefixes {
        validate::count("ecrRepositoryPrefixes", prefixes, 1, 100)?;
        for prefix in prefixes {
            validate::ptc_prefix("ecrRepositoryPrefixes", prefix)?;
        }
    }
    validate::max_results(input.max_results, 1000)
}

fn check_update(input: &UpdatePullThroughCacheRuleInput) -> Checked {
    check_named(input.registry_id.as_ref(), &input.ecr_repository_prefix)?;
    validate::credential_arn("credentialArn", input.credential_arn.as_deref())?;
    validate::custom_role_arn("customRoleArn", input.custom_role_arn.as_deref())
}
