use serde::{Deserialize, Serialize};

use super::common::{
    EncryptionConfiguration, ImageTagMutabilityExclusionFilter, Tag, check_encryption, check_mutability,
};
use crate::{
    operation::operation,
    validate::{self, Checked, InvalidParameter},
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepositoryCreationTemplate {
    pub prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_configuration: Option<EncryptionConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_tags: Option<Vec<Tag>>,
    pub image_tag_mutability: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle_policy: Option<String>,
    /// Of `PULL_THROUGH_CACHE`, `REPLICATION`, `CREATE_ON_PUSH`.
    pub applied_for: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
    pub created_at: f64,
    pub updated_at: f64,
}

operation!(
    Ecr::CreateRepositoryCreationTemplate(CreateRepositoryCreationTemplateInput)
        -> CreateRepositoryCreationTemplateOutput,
    check = check_create
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateRepositoryCreationTemplateInput {
    pub prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_configuration: Option<EncryptionConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_tags: Option<Vec<Tag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle_policy: Option<String>,
    /// Required; an empty list is a template that applies to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_for: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateRepositoryCreationTemplateOutput {
    pub registry_id: String,
    pub repository_creation_template: RepositoryCreationTemplate,
}

operation!(
    /// Unknown prefixes are missing from the answer: AWS models no error for them.
    Ecr::DescribeRepositoryCreationTemplates(DescribeRepositoryCreationTemplatesInput)
        -> DescribeRepositoryCreationTemplatesOutput,
    check = check_describe
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeRepositoryCreationTemplatesInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeRepositoryCreationTemplatesOutput {
    pub registry_id: String,
    pub repository_creation_templates: Vec<RepositoryCreationTemplate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

operation!(
    /// Absent members stay as they are; an empty text clears description, repository policy and lifecycle policy.
    Ecr::UpdateRepositoryCreationTemplate(UpdateRepositoryCreationTemplateInput)
        -> UpdateRepositoryCreationTemplateOutput,
    check = check_update
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateRepositoryCreationTemplateInput {
    pub prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_configuration: Option<EncryptionConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_tags: Option<Vec<Tag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle_policy: Option<String>,
    /// Replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_for: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateRepositoryCreationTemplateOutput {
    pub registry_id: String,
    pub repository_creation_template: RepositoryCreationTemplate,
}

operation!(
    Ecr::DeleteRepositoryCreationTemplate(DeleteRepositoryCreationTemplateInput)
        -> DeleteRepositoryCreationTemplateOutput,
    check = |input| validate::template_prefix("prefix", &input.prefix)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteRepositoryCreationTemplateInput {
    pub prefix: String,
}

/// Carries the template that was deleted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteRepositoryCreationTemplateOutput {
    pub registry_id: String,
    pub repository_creation_template: RepositoryCreationTemplate,
}

fn check_create(input: &CreateRepositoryCreationTemplateInput) -> Checked {
    validate::template_prefix("prefix", &input.prefix)?;
    if let Some(description) = &input.description {
        validate::length("description", description, 0, 256)?;
    }
    check_encryption(input.encryption_configuration.as_ref(), 0)?;
    check_mutability(input.image_tag_mutability.as_deref(), input.image_tag_mutability_exclusion_filters.as_deref())?;
    check_policies(input.repository_policy.as_deref(), input.lifecycle_policy.as_deref())?;
    let Some(applied_for) = &input.applied_for else {
        return Err(InvalidParameter::new("appliedFor", "must not be null"));
    };
    check_applied_for(applied_for)?;
    validate::custom_role_arn("customRoleArn", input.custom_role_arn.as_deref())
}

fn check_update(input: &UpdateRepositoryCreationTemplateInput) -> Checked {
    validate::template_prefix("prefix", &input.prefix)?;
    if let Some(description) = &input.description {
        validate::length("description", description, 0, 256)?;
    }
    check_encryption(input.encryption_configuration.as_ref(), 0)?;
    // Filters alone change those of the stored mode, which only the state knows.
    let mode = input.image_tag_mutability.as_deref().or(Some("MUTABLE_WITH_EXCLUSION"));
    match &input.image_tag_mutability_exclusion_filters {
        None if input.image_tag_mutability.is_none() => {}
        filters => check_mutability(mode, filters.as_deref())?,
    }
    check_policies(input.repository_policy.as_deref(), input.lifecycle_policy.as_deref())?;
    check_applied_for(input.applied_for.as_deref().unwrap_or_default())?;
    validate::custom_role_arn("customRoleArn", input.custom_role_arn.as_deref())
}

fn check_describe(input: &DescribeRepositoryCreationTemplatesInput) -> Checked {
    for prefix in input.prefixes.iter().flatten() {
        validate::template_prefix("prefixes", prefix)?;
    }
    validate::max_results(input.max_results, 1000)
}

fn check_policies(repository_policy: Option<&str>, lifecycle_policy: Option<&str>) -> Checked {
    validate::length("repositoryPolicy", repository_policy.unwrap_or_default(), 0, 10_240)?;
    validate::length("lifecyclePolicy", lifecycle_policy.unwrap_or_default(), 0, 30_720)
}

fn check_applied_for(scenarios: &[String]) -> Checked {
    scenarios.iter().try_for_each(|scenario| validate::one_of("appliedFor", scenario, validate::APPLIED_FOR))
}
