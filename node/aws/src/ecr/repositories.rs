use serde::{Deserialize, Serialize};

use super::common::{
    EncryptionConfiguration, ImageScanningConfiguration, ImageTagMutabilityExclusionFilter, Tag, check_encryption,
    check_mutability, check_registry, check_repository,
};
use crate::{
    operation::operation,
    validate::{self, Checked, InvalidParameter},
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Repository {
    pub repository_arn: String,
    pub registry_id: String,
    pub repository_name: String,
    /// Host, port if any, and name; no scheme.
    pub repository_uri: String,
    pub created_at: f64,
    pub image_tag_mutability: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
    pub image_scanning_configuration: ImageScanningConfiguration,
    pub encryption_configuration: EncryptionConfiguration,
}

operation!(Ecr::CreateRepository(CreateRepositoryInput) -> CreateRepositoryOutput, check = check_create);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateRepositoryInput {
    pub repository_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_scanning_configuration: Option<ImageScanningConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption_configuration: Option<EncryptionConfiguration>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateRepositoryOutput {
    pub repository: Repository,
}

operation!(
    /// One unknown name fails the whole call.
    Ecr::DescribeRepositories(DescribeRepositoriesInput) -> DescribeRepositoriesOutput, check = check_describe
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeRepositoriesInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_names: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeRepositoriesOutput {
    pub repositories: Vec<Repository>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

operation!(
    Ecr::DeleteRepository(DeleteRepositoryInput) -> DeleteRepositoryOutput,
    check = |input| check_repository(input.registry_id.as_ref(), &input.repository_name)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteRepositoryInput {
    pub repository_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    /// Also with images in it.
    pub force: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteRepositoryOutput {
    pub repository: Repository,
}

operation!(
    Ecr::PutImageTagMutability(PutImageTagMutabilityInput) -> PutImageTagMutabilityOutput, check = check_put_mutability
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutImageTagMutabilityInput {
    pub repository_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub image_tag_mutability: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutImageTagMutabilityOutput {
    pub registry_id: String,
    pub repository_name: String,
    pub image_tag_mutability: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
}

operation!(
    Ecr::PutImageScanningConfiguration(PutImageScanningConfigurationInput) -> PutImageScanningConfigurationOutput,
    check = check_put_scanning
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutImageScanningConfigurationInput {
    pub repository_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    /// Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_scanning_configuration: Option<ImageScanningConfiguration>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutImageScanningConfigurationOutput {
    pub registry_id: String,
    pub repository_name: String,
    pub image_scanning_configuration: ImageScanningConfiguration,
}

fn check_create(input: &CreateRepositoryInput) -> Checked {
    check_repository(input.registry_id.as_ref(), &input.repository_name)?;
    check_mutability(input.image_tag_mutability.as_deref(), input.image_tag_mutability_exclusion_filters.as_deref())?;
    check_encryption(input.encryption_configuration.as_ref(), 1)
}

fn check_describe(input: &DescribeRepositoriesInput) -> Checked {
    check_registry(input.registry_id.as_ref())?;
    if let Some(names) = &input.repository_names {
        validate::count("repositoryNames", names, 1, 100)?;
        for name in names {
            validate::repository_name("repositoryNames", name)?;
        }
    }
    validate::max_results(input.max_results, 1000)?;
    let named = input.repository_names.is_some();
    validate::no_paging_with("repositoryNames", named, input.next_token.as_deref(), input.max_results)
}

fn check_put_mutability(input: &PutImageTagMutabilityInput) -> Checked {
    check_repository(input.registry_id.as_ref(), &input.repository_name)?;
    validate::required("imageTagMutability", &input.image_tag_mutability)?;
    check_mutability(Some(&input.image_tag_mutability), input.image_tag_mutability_exclusion_filters.as_deref())
}

fn check_put_scanning(input: &PutImageScanningConfigurationInput) -> Checked {
    check_repository(input.registry_id.as_ref(), &input.repository_name)?;
    match &input.image_scanning_configuration {
        Some(_) => Ok(()),
        None => Err(InvalidParameter::new("imageScanningConfiguration", "must not be null")),
    }
}
