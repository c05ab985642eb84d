use flotilla_aws::{
    ecr::{
        DescribeImages, DescribeImagesInput, DescribeImagesOutput, ImageDetail, ImageIdentifier, ImagesFilter,
        ListImages, ListImagesInput, ListImagesOutput,
    },
    validate::{InvalidParameter, is_digest},
};
use flotilla_oci::{Digest, Name, Tag};
use flotilla_registry::{
    Refusal,
    access::{Action, Resource},
    image::ImageId,
};
use flotilla_service::{ImageFilter, ImageView, ServiceError};

use super::{
    Call, Failure, Handle,
    error::no_image,
    page::{Page, foreign_token, token},
    repository, repository_resource,
};

pub(super) mod batch;

impl Handle for ListImages {
    const ACTION: Action = Action("ecr:ListImages");

    fn resource(input: &ListImagesInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    async fn handle(call: Call<'_>, input: ListImagesInput) -> Result<ListImagesOutput, Failure> {
        call.registry_of(input.registry_id.as_deref(), &input.repository_name)?;
        let name = repository("repositoryName", &input.repository_name)?;
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let mut after = page.after.as_deref().map(Position::parse).transpose()?;
        let Some(filter) = filter(input.filter.as_ref()) else {
            // Nothing is ever archived here; that the repository is there is asked all the same.
            call.services().repositories.get(call.permit, &name).await?;
            return Ok(ListImagesOutput::default());
        };
        let mut entries = match &after {
            Some(position) => rest_of(call, &name, filter, position).await?,
            None => Vec::new(),
        };
        while entries.len() < page.fetch() {
            let from = after.as_ref().map(|position| &position.digest);
            let images = &call.services().images;
            let (found, next) = images.list(call.permit, &name, filter, from, page.limit()).await?;
            entries.extend(found.iter().flat_map(Position::of));
            let Some(digest) = next else { break };
            after = Some(Position { digest, tag: None });
        }
        let more = entries.len() > page.limit();
        entries.truncate(page.limit());
        let next_token = entries.last().filter(|_| more).map(|last| token::<Self>(call, &last.key())).transpose()?;
        Ok(ListImagesOutput { image_ids: entries.into_iter().map(Position::shape).collect(), next_token })
    }
}

/// One entry of a list: an image by one of its tags, or without one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    digest: Digest,
    tag: Option<Tag>,
}

impl Position {
    fn of(image: &ImageView) -> Vec<Self> {
        let digest = image.record.digest;
        if image.tags.is_empty() {
            return vec![Self { digest, tag: None }];
        }
        let mut tags = image.tags.clone();
        tags.sort();
        tags.into_iter().map(|tag| Self { digest, tag: Some(tag) }).collect()
    }

    fn key(&self) -> String {
        let tag = self.tag.as_ref().map(Tag::as_str).unwrap_or_default();
        format!("{} {tag}", self.digest)
    }

    fn parse(key: &str) -> Result<Self, InvalidParameter> {
        let (digest, tag) = key.split_once(' ').ok_or_else(foreign_token)?;
        let tag = if tag.is_empty() { None } else { Some(tag.parse().map_err(|_| foreign_token())?) };
        Ok(Self { digest: digest.parse().map_err(|_| foreign_token())?, tag })
    }

    fn shape(self) -> ImageIdentifier {
        ImageIdentifier { image_digest: Some(self.digest.to_string()), image_tag: self.tag.map(|tag| tag.to_string()) }
    }
}

/// A page may end between two tags of one image; these are its later ones, as far as they are still there.
async fn rest_of(
    call: Call<'_>,
    name: &Name,
    filter: ImageFilter,
    last: &Position,
) -> Result<Vec<Position>, ServiceError> {
    if last.tag.is_none() || filter == ImageFilter::Untagged {
        return Ok(Vec::new());
    }
    let id = ImageId { digest: Some(last.digest), tag: None };
    match call.services().images.describe(call.permit, name, &[id]).await {
        Ok(images) => Ok(images
            .iter()
            .flat_map(Position::of)
            .filter(|position| position.tag.is_some() && position.tag > last.tag)
            .collect()),
        Err(ServiceError::Refused(Refusal::NoImage { .. })) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl Handle for DescribeImages {
    const ACTION: Action = Action("ecr:DescribeImages");

    fn resource(input: &DescribeImagesInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    async fn handle(call: Call<'_>, input: DescribeImagesInput) -> Result<DescribeImagesOutput, Failure> {
        let registry_id = call.registry_of(input.registry_id.as_deref(), &input.repository_name)?;
        let name = repository("repositoryName", &input.repository_name)?;
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let images = &call.services().images;
        let filter = filter(input.filter.as_ref());
        let (found, next) = match (input.image_ids, filter) {
            (Some(ids), filter) => {
                // An unknown repository is said before an unknown image.
                call.services().repositories.get(call.permit, &name).await?;
                let ids = ids.iter().map(|id| image_id(id, &input.repository_name, &registry_id));
                let ids = ids.collect::<Result<Vec<_>, Failure>>()?;
                let mut found = images.describe(call.permit, &name, &ids).await?;
                found.retain(|image| match filter {
                    Some(ImageFilter::Any) => true,
                    Some(ImageFilter::Tagged) => !image.tags.is_empty(),
                    Some(ImageFilter::Untagged) => image.tags.is_empty(),
                    None => false,
                });
                (found, None)
            }
            (None, None) => {
                call.services().repositories.get(call.permit, &name).await?;
                (Vec::new(), None)
            }
            (None, Some(filter)) => {
                let after: Option<Digest> =
                    page.after.as_ref().map(|digest| digest.parse()).transpose().map_err(|_| foreign_token())?;
                images.list(call.permit, &name, filter, after.as_ref(), page.limit()).await?
            }
        };
        let shape = |image| detail(image, &registry_id, &input.repository_name);
        Ok(DescribeImagesOutput {
            image_details: found.into_iter().map(shape).collect(),
            next_token: next.map(|digest| token::<Self>(call, &digest.to_string())).transpose()?,
        })
    }
}

/// `None` when nothing can pass: images are neither archived nor activated here.
fn filter(filter: Option<&ImagesFilter>) -> Option<ImageFilter> {
    let Some(filter) = filter else { return Some(ImageFilter::Any) };
    if matches!(filter.image_status.as_deref(), Some("ARCHIVED" | "ACTIVATING")) {
        return None;
    }
    Some(match filter.tag_status.as_deref() {
        Some("TAGGED") => ImageFilter::Tagged,
        Some("UNTAGGED") => ImageFilter::Untagged,
        _ => ImageFilter::Any,
    })
}

/// # Errors
/// For an id that names nothing, and for one that no image can have.
fn image_id(id: &ImageIdentifier, repository: &str, registry_id: &str) -> Result<ImageId, Failure> {
    let (digest, tag) = (id.image_digest.as_deref(), id.image_tag.as_deref());
    if digest.is_none() && tag.is_none() {
        let why = "Invalid request parameters: both tag and digest cannot be null";
        return Err(InvalidParameter::new("imageIds", why).into());
    }
    if digest.is_some_and(|digest| !is_digest(digest)) {
        let why = "image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
        return Err(InvalidParameter::new("imageIds", why).into());
    }
    let absent = || Failure::Aws(no_image(repository, digest, tag, registry_id));
    Ok(ImageId {
        digest: digest.map(|digest| digest.parse()).transpose().map_err(|_| absent())?,
        tag: tag.map(|tag| tag.parse()).transpose().map_err(|_| absent())?,
    })
}

fn detail(image: ImageView, registry_id: &str, repository: &str) -> ImageDetail {
    let ImageView { record, tags } = image;
    let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    ImageDetail {
        registry_id: registry_id.to_owned(),
        repository_name: repository.to_owned(),
        image_digest: record.digest.to_string(),
        image_tags: (!tags.is_empty()).then_some(tags),
        image_size_in_bytes: Some(record.size.0),
        image_pushed_at: record.pushed_at.seconds(),
        image_manifest_media_type: Some(record.media_type.0),
        artifact_media_type: record.artifact_type.map(|media_type| media_type.0),
        last_recorded_pull_time: record.last_pulled_at.map(|at| at.seconds()),
        subject_manifest_digest: record.subject.map(|digest| digest.to_string()),
        image_status: Some("ACTIVE".to_owned()),
        ..ImageDetail::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        format!("sha256:{}", "ab".repeat(32)).parse().unwrap()
    }

    #[test]
    fn positions_round_trip() {
        for tag in [None, Some("v1".parse().unwrap())] {
            let position = Position { digest: digest(), tag };
            assert_eq!(Position::parse(&position.key()).unwrap(), position);
        }
        for bad in ["", "x", "x y", &format!("{} .bad", digest())] {
            assert!(Position::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_that_no_image_can_have_are_absent_and_malformed_ones_are_errors() {
        let code = |digest: Option<&str>, tag: Option<&str>| {
            let id = ImageIdentifier { image_digest: digest.map(str::to_owned), image_tag: tag.map(str::to_owned) };
            match image_id(&id, "a/b", "000000000000") {
                Ok(_) => "",
                Err(Failure::Aws(error)) => error.code().0,
                Err(Failure::Service(_)) => "service",
            }
        };
        assert_eq!(code(Some(&digest().to_string()), Some("v1")), "");
        assert_eq!(code(None, None), "InvalidParameterException");
        assert_eq!(code(Some("junk"), None), "InvalidParameterException");
        assert_eq!(code(Some("sha256:aa"), None), "ImageNotFoundException");
        assert_eq!(code(None, Some("no tag")), "ImageNotFoundException");
    }
}
