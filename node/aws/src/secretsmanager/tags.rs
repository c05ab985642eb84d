use serde::{Deserialize, Serialize};

use super::common::{check_id, check_secret_tags};
use crate::{
    ecr::Tag,
    operation::operation,
    validate::{self, Checked},
};

operation!(
    SecretsManager::TagResource(TagResourceInput) -> TagResourceOutput, check = check_tag
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TagResourceInput {
    pub secret_id: String,
    pub tags: Option<Vec<Tag>>,
}

/// The operation has no output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TagResourceOutput {}

operation!(
    SecretsManager::UntagResource(UntagResourceInput) -> UntagResourceOutput, check = check_untag
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UntagResourceInput {
    pub secret_id: String,
    pub tag_keys: Option<Vec<String>>,
}

/// The operation has no output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UntagResourceOutput {}

operation!(
    /// No secret has a policy of its own: infrastructure tools read that there is none.
    SecretsManager::GetResourcePolicy(GetResourcePolicyInput) -> GetResourcePolicyOutput,
    check = |input| check_id(&input.secret_id)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetResourcePolicyInput {
    pub secret_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetResourcePolicyOutput {
    #[serde(rename = "ARN")]
    pub arn: String,
    pub name: String,
}

fn check_tag(input: &TagResourceInput) -> Checked {
    check_id(&input.secret_id)?;
    match &input.tags {
        Some(tags) => check_secret_tags(tags),
        None => validate::required("Tags", ""),
    }
}

fn check_untag(input: &UntagResourceInput) -> Checked {
    check_id(&input.secret_id)?;
    match &input.tag_keys {
        Some(keys) => validate::count("TagKeys", keys, 0, 200),
        None => validate::required("TagKeys", ""),
    }
}
