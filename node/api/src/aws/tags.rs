//! Resource tags, which only repositories have.

use std::collections::BTreeMap;

use flotilla_aws::{
    ErrorCode,
    arn::RepositoryArn,
    ecr::{
        ListTagsForResource, ListTagsForResourceInput, ListTagsForResourceOutput, TagResource, TagResourceInput,
        TagResourceOutput, UntagResource, UntagResourceInput, UntagResourceOutput,
    },
    validate::InvalidParameter,
};
use flotilla_oci::Name;
use flotilla_registry::access::{Action, Resource};

use super::{AwsError, Call, Failure, Handle, repository_resource, shapes};

/// More keys than a repository can have.
const MAX_UNTAG_KEYS: usize = 200;

fn parse(arn: &str) -> Result<RepositoryArn, InvalidParameter> {
    RepositoryArn::parse(arn).ok_or_else(|| InvalidParameter::new("resourceArn", "Invalid ARN"))
}

fn resource(arn: &str) -> Result<Resource, InvalidParameter> {
    repository_resource(&parse(arn)?.name)
}

/// The repository, which must be of our account; its region is a label.
fn own(call: Call<'_>, arn: &str) -> Result<Name, Failure> {
    let arn = parse(arn)?;
    call.registry_of(Some(&arn.account), &arn.name)?;
    Ok(super::repository("resourceArn", &arn.name)?)
}

impl Handle for TagResource {
    const ACTION: Action = Action("ecr:TagResource");

    fn resource(input: &TagResourceInput) -> Result<Resource, InvalidParameter> {
        resource(&input.resource_arn)
    }

    async fn handle(call: Call<'_>, input: TagResourceInput) -> Result<TagResourceOutput, Failure> {
        let put = shapes::resource_tags(input.tags.unwrap_or_default())?;
        let name = own(call, &input.resource_arn)?;
        call.services().repositories.tag(call.permit, &name, put, Vec::new()).await?;
        Ok(TagResourceOutput {})
    }
}

impl Handle for UntagResource {
    const ACTION: Action = Action("ecr:UntagResource");

    fn resource(input: &UntagResourceInput) -> Result<Resource, InvalidParameter> {
        resource(&input.resource_arn)
    }

    async fn handle(call: Call<'_>, input: UntagResourceInput) -> Result<UntagResourceOutput, Failure> {
        let remove = input.tag_keys.unwrap_or_default();
        if remove.len() > MAX_UNTAG_KEYS {
            let text = format!("at most {MAX_UNTAG_KEYS} tag keys may be given");
            return Err(AwsError::new(ErrorCode::TOO_MANY_TAGS, text).into());
        }
        let name = own(call, &input.resource_arn)?;
        call.services().repositories.tag(call.permit, &name, BTreeMap::new(), remove).await?;
        Ok(UntagResourceOutput {})
    }
}

impl Handle for ListTagsForResource {
    const ACTION: Action = Action("ecr:ListTagsForResource");

    fn resource(input: &ListTagsForResourceInput) -> Result<Resource, InvalidParameter> {
        resource(&input.resource_arn)
    }

    async fn handle(call: Call<'_>, input: ListTagsForResourceInput) -> Result<ListTagsForResourceOutput, Failure> {
        let name = own(call, &input.resource_arn)?;
        let repository = call.services().repositories.get(call.permit, &name).await?;
        Ok(ListTagsForResourceOutput { tags: shapes::resource_tags_shape(&repository.settings.resource_tags) })
    }
}
