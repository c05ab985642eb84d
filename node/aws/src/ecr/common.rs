use serde::{Deserialize, Serialize};

use crate::validate::{self, Checked, InvalidParameter};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageIdentifier {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
}

/// The one shape of this API whose members start with a capital.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Tag {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EncryptionConfiguration {
    /// `AES256`, `KMS` or `KMS_DSSE`; empty reads as `AES256`.
    pub encryption_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageScanningConfiguration {
    pub scan_on_push: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageTagMutabilityExclusionFilter {
    /// `WILDCARD`.
    pub filter_type: String,
    /// `*` stands for any run of characters, everything else for itself; matches whole tags.
    pub filter: String,
}

/// Which images a listing shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagesFilter {
    /// `TAGGED`, `UNTAGGED` or `ANY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_status: Option<String>,
    /// `ACTIVE` (when absent), `ARCHIVED`, `ACTIVATING` or `ANY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_status: Option<String>,
}

pub(super) fn check_registry(registry_id: Option<&String>) -> Checked {
    validate::registry_id("registryId", registry_id.map(String::as_str))
}

pub(super) fn check_repository(registry_id: Option<&String>, repository_name: &str) -> Checked {
    check_registry(registry_id)?;
    validate::repository_name("repositoryName", repository_name)
}

pub(super) fn check_image_ids(ids: &[ImageIdentifier]) -> Checked {
    validate::count("imageIds", ids, 1, 100)?;
    for (at, id) in ids.iter().enumerate() {
        if let Some(tag) = &id.image_tag {
            validate::length(&format!("imageIds.{}.member.imageTag", at + 1), tag, 1, 300)?;
        }
    }
    Ok(())
}

pub(super) fn check_images_filter(filter: Option<&ImagesFilter>) -> Checked {
    let Some(filter) = filter else { return Ok(()) };
    if let Some(status) = &filter.tag_status {
        validate::one_of("filter.tagStatus", status, validate::TAG_STATUSES)?;
    }
    if let Some(status) = &filter.image_status {
        validate::one_of("filter.imageStatus", status, validate::IMAGE_STATUSES)?;
    }
    Ok(())
}

/// Exclusion filters come with the `_WITH_EXCLUSION` modes, and only with them.
pub(super) fn check_mutability(
    mutability: Option<&str>,
    filters: Option<&[ImageTagMutabilityExclusionFilter]>,
) -> Checked {
    const FILTERS: &str = "imageTagMutabilityExclusionFilters";
    if let Some(mutability) = mutability {
        validate::one_of("imageTagMutability", mutability, validate::TAG_MUTABILITIES)?;
    }
    let excludes = mutability.is_some_and(|mode| mode.ends_with("_WITH_EXCLUSION"));
    let Some(filters) = filters else {
        return if excludes {
            Err(InvalidParameter::new(FILTERS, format!("must be given with '{}'", mutability.unwrap_or_default())))
        } else {
            Ok(())
        };
    };
    // Clients that describe and put back what they saw send an empty list for a plain mode.
    if filters.is_empty() && !excludes {
        return Ok(());
    }
    validate::count(FILTERS, filters, 1, 5)?;
    for (at, filter) in filters.iter().enumerate() {
        let member = format!("{FILTERS}.{}.member", at + 1);
        validate::one_of(&format!("{member}.filterType"), &filter.filter_type, &["WILDCARD"])?;
        validate::exclusion_filter(&format!("{member}.filter"), &filter.filter)?;
    }
    if excludes {
        return Ok(());
    }
    Err(InvalidParameter::new(
        FILTERS,
        "must not be given unless 'imageTagMutability' is IMMUTABLE_WITH_EXCLUSION or MUTABLE_WITH_EXCLUSION",
    ))
}

/// `kms_key_min` is what the direct calls (1) and the templates (0) differ in.
pub(super) fn check_encryption(configuration: Option<&EncryptionConfiguration>, kms_key_min: usize) -> Checked {
    let Some(configuration) = configuration else { return Ok(()) };
    if !configuration.encryption_type.is_empty() {
        validate::one_of(
            "encryptionConfiguration.encryptionType",
            &configuration.encryption_type,
            validate::ENCRYPTION_TYPES,
        )?;
    }
    let Some(key) = &configuration.kms_key else { return Ok(()) };
    validate::length("encryptionConfiguration.kmsKey", key, kms_key_min, 2048)?;
    if matches!(configuration.encryption_type.as_str(), "" | "AES256") && !key.is_empty() {
        return Err(InvalidParameter::new("encryptionConfiguration.kmsKey", "must not be given with AES256"));
    }
    Ok(())
}
