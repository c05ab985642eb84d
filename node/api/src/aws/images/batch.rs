//! Calls about many images, whose troubles are told one by one.

use flotilla_aws::{
    ecr::{
        BatchDeleteImage, BatchDeleteImageInput, BatchDeleteImageOutput, BatchGetImage, BatchGetImageInput,
        BatchGetImageOutput, Image, ImageFailure, ImageIdentifier, failure,
    },
    validate::{InvalidParameter, is_digest},
};
use flotilla_registry::{
    Refusal,
    access::{Action, Resource},
    image::ImageId,
};
use flotilla_service::ServiceError;
use flotilla_state::ImageDeletion;
use flotilla_transfer::TransferError;
use flotilla_upstream::UpstreamError;

use super::super::{Call, Failure, Handle, repository, repository_resource};

type Trouble = (&'static str, &'static str);

const NOT_FOUND: Trouble = (failure::IMAGE_NOT_FOUND, failure::REASON_IMAGE_NOT_FOUND);
const DISAGREES: Trouble = (
    failure::IMAGE_TAG_DOES_NOT_MATCH_DIGEST,
    "Invalid request parameters: the image tag does not match the image digest",
);
const MISSING: Trouble = (failure::MISSING_DIGEST_AND_TAG, failure::REASON_MISSING_DIGEST_AND_TAG);

/// Manifests of one reply: four of the largest, and a hundred of the usual. It is built in memory.
const REPLY_BYTES: usize = 16 << 20;
const REPLY_FULL: Trouble = (failure::IMAGE_INACCESSIBLE, "The reply is full; ask for this image in another call");

impl Handle for BatchGetImage {
    const ACTION: Action = Action("ecr:BatchGetImage");

    fn resource(input: &BatchGetImageInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    /// On a repository that a cache rule covers this is a pull, and may import.
    async fn handle(call: Call<'_>, input: BatchGetImageInput) -> Result<BatchGetImageOutput, Failure> {
        let registry_id = call.registry_of(input.registry_id.as_deref(), &input.repository_name)?;
        let name = repository("repositoryName", &input.repository_name)?;
        if call.services().pull.target(&name).origin.is_some() {
            let resource = Resource::Repository(name.clone());
            let imports = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"].map(Action);
            call.services().access.allow_pull(call.permit.caller(), &imports, &resource).await?;
        }
        let mut output = BatchGetImageOutput::default();
        let mut left_bytes = REPLY_BYTES;
        for asked in input.image_ids {
            let id = match parse(&asked) {
                // Of the rest nothing is fetched: one that is small would be served and the large ones before it not.
                Ok(_) if left_bytes == 0 => {
                    output.failures.push(failed(asked, REPLY_FULL));
                    continue;
                }
                Ok(id) => id,
                Err(trouble) => {
                    output.failures.push(failed(asked, trouble));
                    continue;
                }
            };
            let held = match call.services().images.get(call.permit, &name, &id).await {
                Ok(held) => held,
                Err(error) => {
                    output.failures.push(failed(asked, get_trouble(&id, error)?));
                    continue;
                }
            };
            match left_bytes.checked_sub(held.manifest.len()) {
                Some(left) => left_bytes = left,
                None => {
                    left_bytes = 0;
                    output.failures.push(failed(asked, REPLY_FULL));
                    continue;
                }
            }
            let Ok(manifest) = String::from_utf8(held.manifest.to_vec()) else {
                let reason = "the manifest is no text and cannot be carried in JSON";
                output.failures.push(failed(asked, (failure::IMAGE_INACCESSIBLE, reason)));
                continue;
            };
            output.images.push(Image {
                registry_id: registry_id.clone(),
                repository_name: input.repository_name.clone(),
                image_id: ImageIdentifier { image_digest: Some(held.digest.to_string()), image_tag: asked.image_tag },
                image_manifest: manifest,
                image_manifest_media_type: Some(held.media_type.0),
            });
        }
        Ok(output)
    }
}

impl Handle for BatchDeleteImage {
    const ACTION: Action = Action("ecr:BatchDeleteImage");

    fn resource(input: &BatchDeleteImageInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    async fn handle(call: Call<'_>, input: BatchDeleteImageInput) -> Result<BatchDeleteImageOutput, Failure> {
        call.registry_of(input.registry_id.as_deref(), &input.repository_name)?;
        let name = repository("repositoryName", &input.repository_name)?;
        let asked: Vec<_> = input.image_ids.into_iter().map(|id| (parse(&id), id)).collect();
        let good: Vec<ImageId> = asked.iter().filter_map(|(parsed, _)| parsed.as_ref().ok().cloned()).collect();
        // Also when no id can name an image: an unknown repository fails the call.
        call.services().repositories.get(call.permit, &name).await?;
        let deletions =
            if good.is_empty() { Vec::new() } else { call.services().images.delete(call.permit, &name, good).await? };
        let mut deletions = deletions.into_iter();
        let mut output = BatchDeleteImageOutput::default();
        for (parsed, id) in asked {
            let trouble = match parsed {
                Err(trouble) => trouble,
                Ok(_) => match deletions.next() {
                    Some(ImageDeletion::Deleted { digest, tags }) => {
                        let shape = |image_tag| ImageIdentifier { image_digest: Some(digest.to_string()), image_tag };
                        if tags.is_empty() {
                            output.image_ids.push(shape(None));
                        }
                        output.image_ids.extend(tags.iter().map(|tag| shape(Some(tag.to_string()))));
                        continue;
                    }
                    Some(ImageDeletion::NotFound) => NOT_FOUND,
                    Some(ImageDeletion::TagDoesNotMatchDigest) => DISAGREES,
                    Some(ImageDeletion::ReferencedByList) => {
                        (failure::IMAGE_REFERENCED_BY_MANIFEST_LIST, "Requested image referenced by manifest list")
                    }
                    Some(ImageDeletion::MissingDigestAndTag) => MISSING,
                    None => return Err(ServiceError::Unexpected("fewer deletions than images").into()),
                },
            };
            output.failures.push(failed(id, trouble));
        }
        Ok(output)
    }
}

fn parse(id: &ImageIdentifier) -> Result<ImageId, Trouble> {
    const BAD_DIGEST: Trouble = (failure::INVALID_IMAGE_DIGEST, failure::REASON_INVALID_IMAGE_DIGEST);
    const BAD_TAG: Trouble = (
        failure::INVALID_IMAGE_TAG,
        "Invalid request parameters: image tag should satisfy the regex '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'",
    );
    if id.image_digest.is_none() && id.image_tag.is_none() {
        return Err(MISSING);
    }
    let digest = id.image_digest.as_deref().map(|text| {
        // Of ECR's form, but no digest that a manifest here can have.
        text.parse().map_err(|_| if is_digest(text) { NOT_FOUND } else { BAD_DIGEST })
    });
    let tag = id.image_tag.as_deref().map(|text| text.parse().map_err(|_| BAD_TAG));
    Ok(ImageId { digest: digest.transpose()?, tag: tag.transpose()? })
}

fn failed(image_id: ImageIdentifier, (code, reason): Trouble) -> ImageFailure {
    ImageFailure { image_id, failure_code: code.to_owned(), failure_reason: reason.to_owned() }
}

/// What is wrong with one image; anything else fails the call.
fn get_trouble(id: &ImageId, error: ServiceError) -> Result<Trouble, ServiceError> {
    const DENIED: Trouble = (failure::UPSTREAM_ACCESS_DENIED, "The upstream registry denied access to the image");
    const FILTERED: Trouble =
        (failure::UPSTREAM_ACCESS_DENIED, "The filters of the cache rule keep this image from the upstream registry");
    const THROTTLED: Trouble =
        (failure::UPSTREAM_TOO_MANY_REQUESTS, "The upstream registry limits the rate of requests");
    const UNAVAILABLE: Trouble = (failure::UPSTREAM_UNAVAILABLE, "The upstream registry is not available");
    const LIMITED: Trouble =
        (failure::UPSTREAM_TOO_MANY_REQUESTS, "The limit of requests to upstream registries is reached, retry later");
    let upstream = |error: &UpstreamError| match error {
        UpstreamError::NotFound { .. } => NOT_FOUND,
        UpstreamError::Unauthorized { .. } | UpstreamError::Denied { .. } => DENIED,
        UpstreamError::Throttled { .. } | UpstreamError::Reserved { .. } => THROTTLED,
        _ => UNAVAILABLE,
    };
    match &error {
        ServiceError::NoManifest { .. } => Ok(NOT_FOUND),
        // The service says so for a tag that names another digest, too.
        ServiceError::Refused(Refusal::NoImage { .. }) if id.tag.is_some() && id.digest.is_some() => Ok(DISAGREES),
        ServiceError::Refused(Refusal::NoImage { .. }) => Ok(NOT_FOUND),
        ServiceError::Limited { .. } => Ok(LIMITED),
        ServiceError::Upstream(error) => Ok(upstream(error)),
        ServiceError::Transfer(TransferError::Upstream(error)) => Ok(upstream(error)),
        ServiceError::Origin(_) => Ok(UNAVAILABLE),
        ServiceError::Filtered { .. } => Ok(FILTERED),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flotilla_service::Limit;

    use super::*;

    #[test]
    fn every_malformed_id_has_its_failure() {
        let good = format!("sha256:{}", "ab".repeat(32));
        for (digest, tag, code) in [
            (Some(good.as_str()), Some("v1"), ""),
            (Some(&good), None, ""),
            (None, Some("v1"), ""),
            (None, None, "MissingDigestAndTag"),
            (Some("junk"), None, "InvalidImageDigest"),
            (Some("sha256:aa"), None, "ImageNotFound"),
            (None, Some(".bad"), "InvalidImageTag"),
        ] {
            let id = ImageIdentifier { image_digest: digest.map(str::to_owned), image_tag: tag.map(str::to_owned) };
            assert_eq!(parse(&id).err().map_or("", |(code, _)| code), code, "{id:?}");
        }
    }

    #[test]
    fn upstream_trouble_is_a_failure_of_the_image_and_ours_of_the_call() {
        let id = ImageId { digest: None, tag: Some("v1".parse().unwrap()) };
        let host: std::sync::Arc<str> = "quay.io".into();
        let throttled = ServiceError::Upstream(UpstreamError::Throttled { host: host.clone(), retry_after: None });
        assert_eq!(get_trouble(&id, throttled).unwrap().0, "UpstreamTooManyRequests");
        let limited = ServiceError::Limited { what: Limit::Misses, retry_after: Duration::ZERO };
        assert_eq!(get_trouble(&id, limited).unwrap().0, "UpstreamTooManyRequests");
        let denied = ServiceError::Upstream(UpstreamError::Denied { host });
        assert_eq!(get_trouble(&id, denied).unwrap().0, "UpstreamAccessDenied");
        let repository = Refusal::NoRepository("a".parse().unwrap());
        assert!(get_trouble(&id, repository.into()).is_err());
    }
}
