use serde::{Deserialize, Serialize};

use crate::{
    operation::operation,
    validate::{self, Checked},
};

/// Settings of the registry that clients may read and set.
pub mod setting {
    pub const BASIC_SCAN_TYPE_VERSION: &str = "BASIC_SCAN_TYPE_VERSION";
    pub const BLOB_MOUNTING: &str = "BLOB_MOUNTING";
    pub const REGISTRY_POLICY_SCOPE: &str = "REGISTRY_POLICY_SCOPE";
    /// Of this registry, unknown to AWS: `DEFAULTS` or `TEMPLATE_REQUIRED`.
    pub const PULL_THROUGH_REPOSITORY_CREATION: &str = "PULL_THROUGH_REPOSITORY_CREATION";
}

operation!(
    Ecr::GetAccountSetting(GetAccountSettingInput) -> GetAccountSettingOutput, check = |input| check_name(&input.name)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetAccountSettingInput {
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetAccountSettingOutput {
    pub name: String,
    pub value: String,
}

operation!(Ecr::PutAccountSetting(PutAccountSettingInput) -> PutAccountSettingOutput, check = check_put);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutAccountSettingInput {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutAccountSettingOutput {
    pub name: String,
    pub value: String,
}

fn check_name(name: &str) -> Checked {
    validate::required("name", name)?;
    validate::length("name", name, 1, 64)
}

fn check_put(input: &PutAccountSettingInput) -> Checked {
    check_name(&input.name)?;
    validate::required("value", &input.value)
}
