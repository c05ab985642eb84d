use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::common::{ImageIdentifier, ImagesFilter, check_image_ids, check_images_filter, check_repository};
use crate::{
    operation::operation,
    validate::{self, Checked},
};

operation!(
    /// One entry per tag; an untagged image has one entry without a tag.
    Ecr::ListImages(ListImagesInput) -> ListImagesOutput, check = check_list
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListImagesInput {
    pub repository_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<ImagesFilter>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListImagesOutput {
    pub image_ids: Vec<ImageIdentifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

operation!(
    /// One entry per digest.
    Ecr::DescribeImages(DescribeImagesInput) -> DescribeImagesOutput, check = check_describe
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeImagesInput {
    pub repository_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_ids: Option<Vec<ImageIdentifier>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<ImagesFilter>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeImagesOutput {
    pub image_details: Vec<ImageDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageDetail {
    pub registry_id: String,
    pub repository_name: String,
    pub image_digest: String,
    /// Absent when untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tags: Option<Vec<String>>,
    /// Compressed layers and configuration; of an index, the largest over its manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size_in_bytes: Option<u64>,
    pub image_pushed_at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_scan_status: Option<ImageScanStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_scan_findings_summary: Option<ImageScanFindingsSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_recorded_pull_time: Option<f64>,
    /// Of referrers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_manifest_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_archived_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activated_at: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageScanStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageScanFindingsSummary {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_scan_completed_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vulnerability_source_updated_at: Option<f64>,
    /// Only the severities that occur.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding_severity_counts: Option<BTreeMap<String, u64>>,
}

operation!(
    /// On a repository that a cache rule covers this is a pull. What is wrong with one image is one of `failures`.
    Ecr::BatchGetImage(BatchGetImageInput) -> BatchGetImageOutput, check = check_get
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchGetImageInput {
    pub repository_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub image_ids: Vec<ImageIdentifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_media_types: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchGetImageOutput {
    pub images: Vec<Image>,
    pub failures: Vec<ImageFailure>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    pub registry_id: String,
    pub repository_name: String,
    /// With the tag that was asked for.
    pub image_id: ImageIdentifier,
    /// The stored bytes, as they are.
    pub image_manifest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_media_type: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageFailure {
    pub image_id: ImageIdentifier,
    /// See [`failure`].
    pub failure_code: String,
    pub failure_reason: String,
}

/// Values of `failure_code`, with AWS's reasons where they are known.
pub mod failure {
    pub const IMAGE_INACCESSIBLE: &str = "ImageInaccessible";
    pub const IMAGE_NOT_FOUND: &str = "ImageNotFound";
    pub const IMAGE_REFERENCED_BY_MANIFEST_LIST: &str = "ImageReferencedByManifestList";
    pub const IMAGE_TAG_DOES_NOT_MATCH_DIGEST: &str = "ImageTagDoesNotMatchDigest";
    pub const INVALID_IMAGE_DIGEST: &str = "InvalidImageDigest";
    pub const INVALID_IMAGE_TAG: &str = "InvalidImageTag";
    pub const MISSING_DIGEST_AND_TAG: &str = "MissingDigestAndTag";
    pub const UPSTREAM_ACCESS_DENIED: &str = "UpstreamAccessDenied";
    pub const UPSTREAM_TOO_MANY_REQUESTS: &str = "UpstreamTooManyRequests";
    pub const UPSTREAM_UNAVAILABLE: &str = "UpstreamUnavailable";

    pub const REASON_IMAGE_NOT_FOUND: &str = "Requested image not found";
    pub const REASON_INVALID_IMAGE_DIGEST: &str =
        "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
    pub const REASON_MISSING_DIGEST_AND_TAG: &str = "Invalid request parameters: both tag and digest cannot be null";
}

operation!(
    /// By tag: the tag goes, and with its last tag the image. By digest: the image with all its tags.
    Ecr::BatchDeleteImage(BatchDeleteImageInput) -> BatchDeleteImageOutput, check = check_delete
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchDeleteImageInput {
    pub repository_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<String>,
    pub image_ids: Vec<ImageIdentifier>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchDeleteImageOutput {
    pub image_ids: Vec<ImageIdentifier>,
    pub failures: Vec<ImageFailure>,
}

fn check_list(input: &ListImagesInput) -> Checked {
    check_repository(input.registry_id.as_ref(), &input.repository_name)?;
    validate::max_results(input.max_results, 1000)?;
    check_images_filter(input.filter.as_ref())
}

fn check_describe(input: &DescribeImagesInput) -> Checked {
    check_repository(input.registry_id.as_ref(), &input.repository_name)?;
    if let Some(ids) = &input.image_ids {
        check_image_ids(ids)?;
    }
    validate::max_results(input.max_results, 1000)?;
    validate::no_paging_with("imageIds", input.image_ids.is_some(), input.next_token.as_deref(), input.max_results)?;
    check_images_filter(input.filter.as_ref())
}

// Tags and digests of one id are judged one by one: a bad one is a failure of that id, not of the call.
fn check_get(input: &BatchGetImageInput) -> Checked {
    check_repository(input.registry_id.as_ref(), &input.repository_name)?;
    validate::count("imageIds", &input.image_ids, 1, 100)?;
    match &input.accepted_media_types {
        Some(types) => validate::count("acceptedMediaTypes", types, 1, 100),
        None => Ok(()),
    }
}

fn check_delete(input: &BatchDeleteImageInput) -> Checked {
    check_repository(input.registry_id.as_ref(), &input.repository_name)?;
    validate::count("imageIds", &input.image_ids, 1, 100)
}
