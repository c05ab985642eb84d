use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::common::Tag;
use crate::{
    ErrorCode,
    operation::operation,
    validate::{self, Checked, InvalidParameter},
};

operation!(Ecr::TagResource(TagResourceInput) -> TagResourceOutput, check = check_tag);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagResourceInput {
    /// Of a repository.
    pub resource_arn: String,
    /// Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TagResourceOutput {}

operation!(
    /// A key that is not there is no error.
    Ecr::UntagResource(UntagResourceInput) -> UntagResourceOutput, check = check_untag
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UntagResourceInput {
    pub resource_arn: String,
    /// Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_keys: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UntagResourceOutput {}

operation!(
    Ecr::ListTagsForResource(ListTagsForResourceInput) -> ListTagsForResourceOutput,
    check = |input| check_arn(&input.resource_arn)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListTagsForResourceInput {
    pub resource_arn: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListTagsForResourceOutput {
    pub tags: Vec<Tag>,
}

fn check_arn(arn: &str) -> Checked {
    validate::required("resourceArn", arn)?;
    validate::repository_arn("resourceArn", arn)
}

fn check_tag(input: &TagResourceInput) -> Checked {
    check_arn(&input.resource_arn)?;
    if input.tags.is_none() { Err(InvalidParameter::new("tags", "must not be null")) } else { Ok(()) }
}

fn check_untag(input: &UntagResourceInput) -> Checked {
    check_arn(&input.resource_arn)?;
    if input.tag_keys.is_none() { Err(InvalidParameter::new("tagKeys", "must not be null")) } else { Ok(()) }
}

/// Why a list of tags is refused: `InvalidTagParameterException` or `TooManyTagsException`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagsRefused {
    #[error("Invalid parameter at 'tags' failed to satisfy constraint: '{0}'")]
    Invalid(&'static str),
    #[error("The number of tags exceeds the limit of {MAX_TAGS} tags per repository")]
    TooMany,
}

impl TagsRefused {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::INVALID_TAG_PARAMETER,
            Self::TooMany => ErrorCode::TOO_MANY_TAGS,
        }
    }
}

/// Tags on one repository: AWS's limit for all resources.
pub const MAX_TAGS: usize = 50;

/// Holds the tags of one request against the rules for tags. That a repository ends with at most [`MAX_TAGS`] is for
/// who knows the others.
///
/// # Errors
/// Keys that are empty, longer than 128 characters, given twice or start with `aws:`; values longer than 256
/// characters; more than [`MAX_TAGS`].
pub fn check_tags(tags: &[Tag]) -> Result<(), TagsRefused> {
    if tags.len() > MAX_TAGS {
        return Err(TagsRefused::TooMany);
    }
    let mut keys = BTreeSet::new();
    for Tag { key, value } in tags {
        let why = if key.is_empty() {
            "a tag key must not be empty"
        } else if key.chars().count() > 128 {
            "a tag key must have length less than or equal to 128"
        } else if value.chars().count() > 256 {
            "a tag value must have length less than or equal to 256"
        } else if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            "tag keys that start with aws: are reserved"
        } else if !keys.insert(key) {
            "a tag key must not be given twice"
        } else {
            continue;
        };
        return Err(TagsRefused::Invalid(why));
    }
    Ok(())
}
