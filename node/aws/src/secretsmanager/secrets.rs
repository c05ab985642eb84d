use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::common::{
    Sensitive, check_described, check_id, check_name, check_page, check_secret_tags, check_token, check_value,
};
use crate::{
    ecr::Tag,
    operation::operation,
    validate::{self, Checked, InvalidParameter},
};

operation!(
    /// With a value, or without one: infrastructure tools make the secret first.
    SecretsManager::CreateSecret(CreateSecretInput) -> CreateSecretOutput, check = check_create
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateSecretInput {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Stored and returned; values are sealed under the cluster's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_string: Option<Sensitive>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_binary: Option<Sensitive>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
    /// Refused: every node has every secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_replica_regions: Option<Vec<ReplicaRegion>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReplicaRegion {
    pub region: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateSecretOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    /// Only with a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
}

operation!(
    SecretsManager::UpdateSecret(UpdateSecretInput) -> UpdateSecretOutput, check = check_update
);

/// What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateSecretInput {
    pub secret_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_string: Option<Sensitive>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_binary: Option<Sensitive>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateSecretOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
}

operation!(
    /// All but the value.
    SecretsManager::DescribeSecret(DescribeSecretInput) -> DescribeSecretOutput,
    check = |input| check_id(&input.secret_id)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeSecretInput {
    pub secret_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DescribeSecretOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    pub rotation_enabled: bool,
    pub last_changed_date: f64,
    /// While it is scheduled for deletion: since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_date: Option<f64>,
    pub tags: Vec<Tag>,
    pub version_ids_to_stages: BTreeMap<String, Vec<String>>,
    pub created_date: f64,
}

operation!(
    SecretsManager::ListSecrets(ListSecretsInput) -> ListSecretsOutput, check = check_list
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListSecretsInput {
    /// Also those that are scheduled for deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_planned_deletion: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    /// A secret is shown when it meets all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<Filter>>,
    /// By name: `asc` (when absent) or `desc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort_order: Option<String>,
}

/// Met by one value at least; a value that begins with `!` is met by what does not begin with the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Filter {
    pub key: String,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListSecretsOutput {
    pub secret_list: Vec<SecretListEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SecretListEntry {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    pub rotation_enabled: bool,
    pub last_changed_date: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_date: Option<f64>,
    pub tags: Vec<Tag>,
    pub secret_versions_to_stages: BTreeMap<String, Vec<String>>,
    pub created_date: f64,
}

operation!(
    /// Schedules the deletion, or deletes at once.
    SecretsManager::DeleteSecret(DeleteSecretInput) -> DeleteSecretOutput, check = check_delete
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteSecretInput {
    pub secret_id: String,
    /// 7 to 30; 30 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_window_in_days: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_delete_without_recovery: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteSecretOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    /// When it goes for good.
    pub deletion_date: f64,
}

operation!(
    SecretsManager::RestoreSecret(RestoreSecretInput) -> RestoreSecretOutput,
    check = |input| check_id(&input.secret_id)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestoreSecretInput {
    pub secret_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestoreSecretOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
}

/// What a listing may be filtered by.
pub const FILTER_KEYS: &[&str] =
    &["description", "name", "tag-key", "tag-value", "primary-region", "owning-service", "all"];

fn check_create(input: &CreateSecretInput) -> Checked {
    check_name(&input.name)?;
    check_token(input.client_request_token.as_deref())?;
    check_described(input.description.as_deref(), input.kms_key_id.as_deref())?;
    check_value(input.secret_string.as_ref(), input.secret_binary.as_ref())?;
    check_secret_tags(input.tags.as_deref().unwrap_or_default())?;
    if input.add_replica_regions.as_ref().is_some_and(|regions| !regions.is_empty()) {
        return Err(InvalidParameter::new("AddReplicaRegions", "is not served here: every node has every secret"));
    }
    Ok(())
}

fn check_update(input: &UpdateSecretInput) -> Checked {
    check_id(&input.secret_id)?;
    check_token(input.client_request_token.as_deref())?;
    check_described(input.description.as_deref(), input.kms_key_id.as_deref())?;
    check_value(input.secret_string.as_ref(), input.secret_binary.as_ref())
}

fn check_list(input: &ListSecretsInput) -> Checked {
    check_page(input.max_results)?;
    if let Some(order) = &input.sort_order {
        validate::one_of("SortOrder", order, &["asc", "desc"])?;
    }
    let filters = input.filters.as_deref().unwrap_or_default();
    validate::count("Filters", filters, 0, 10)?;
    for (at, filter) in filters.iter().enumerate() {
        validate::one_of(&format!("Filters.{}.member.Key", at + 1), &filter.key, FILTER_KEYS)?;
        validate::count(&format!("Filters.{}.member.Values", at + 1), &filter.values, 1, 10)?;
    }
    Ok(())
}

fn check_delete(input: &DeleteSecretInput) -> Checked {
    const WINDOW: &str = "RecoveryWindowInDays";
    check_id(&input.secret_id)?;
    match input.recovery_window_in_days {
        Some(_) if input.force_delete_without_recovery == Some(true) => {
            Err(InvalidParameter::new(WINDOW, "must not be given together with ForceDeleteWithoutRecovery"))
        }
        Some(days) if !(7..=30).contains(&days) => {
            Err(InvalidParameter::new(WINDOW, "must be between 7 and 30 days (inclusive)"))
        }
        _ => Ok(()),
    }
}
