use serde::{Deserialize, Serialize};

use super::common::{Sensitive, check_id, check_page, check_stage, check_token, check_value};
use crate::{
    operation::operation,
    validate::{self, Checked, InvalidParameter},
};

operation!(
    /// A new version; in use from the answer on when it becomes `AWSCURRENT`.
    SecretsManager::PutSecretValue(PutSecretValueInput) -> PutSecretValueOutput, check = check_put
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutSecretValueInput {
    pub secret_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_string: Option<Sensitive>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_binary: Option<Sensitive>,
    /// `AWSCURRENT` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_stages: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutSecretValueOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    pub version_id: String,
    pub version_stages: Vec<String>,
}

operation!(
    /// The only answer that holds a value.
    SecretsManager::GetSecretValue(GetSecretValueInput) -> GetSecretValueOutput, check = check_get
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetSecretValueInput {
    pub secret_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// `AWSCURRENT` when neither is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_stage: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetSecretValueOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
    pub version_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_binary: Option<Sensitive>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_string: Option<Sensitive>,
    pub version_stages: Vec<String>,
    pub created_date: f64,
}

operation!(
    SecretsManager::ListSecretVersionIds(ListSecretVersionIdsInput) -> ListSecretVersionIdsOutput,
    check = |input| {
        check_id(&input.secret_id)?;
        check_page(input.max_results)
    }
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListSecretVersionIdsInput {
    pub secret_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    /// Also versions without a stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_deprecated: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListSecretVersionIdsOutput {
    pub versions: Vec<SecretVersionsListEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SecretVersionsListEntry {
    pub version_id: String,
    pub version_stages: Vec<String>,
    pub created_date: f64,
}

operation!(
    SecretsManager::UpdateSecretVersionStage(UpdateSecretVersionStageInput) -> UpdateSecretVersionStageOutput,
    check = check_stage_move
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateSecretVersionStageInput {
    pub secret_id: String,
    pub version_stage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_from_version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_to_version_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateSecretVersionStageOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
}

fn check_put(input: &PutSecretValueInput) -> Checked {
    check_id(&input.secret_id)?;
    check_token(input.client_request_token.as_deref())?;
    check_value(input.secret_string.as_ref(), input.secret_binary.as_ref())?;
    if let Some(stages) = &input.version_stages {
        validate::count("VersionStages", stages, 1, 20)?;
        for stage in stages {
            check_stage("VersionStages", stage)?;
        }
    }
    Ok(())
}

fn check_get(input: &GetSecretValueInput) -> Checked {
    check_id(&input.secret_id)?;
    if let Some(id) = &input.version_id {
        validate::length("VersionId", id, 1, 64)?;
    }
    match &input.version_stage {
        Some(stage) => check_stage("VersionStage", stage),
        None => Ok(()),
    }
}

fn check_stage_move(input: &UpdateSecretVersionStageInput) -> Checked {
    check_id(&input.secret_id)?;
    check_stage("VersionStage", &input.version_stage)?;
    for (member, id) in
        [("RemoveFromVersionId", &input.remove_from_version_id), ("MoveToVersionId", &input.move_to_version_id)]
    {
        if let Some(id) = id {
            validate::length(member, id, 1, 64)?;
        }
    }
    if input.remove_from_version_id.is_none() && input.move_to_version_id.is_none() {
        return Err(InvalidParameter::new("MoveToVersionId", "must be given, or RemoveFromVersionId, or both"));
    }
    Ok(())
}
