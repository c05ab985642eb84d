//! The contract's constraints, with the texts AWS answers. Every checker takes the member's path, so that the message
//! names what the client sent.

mod grammar;

use crate::arn::{Arn, RepositoryArn, is_account};

pub use grammar::{is_digest, is_exclusion_filter, is_ptc_prefix, is_repository_name, is_template_prefix};

/// `InvalidParameterException`, with AWS's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid parameter at '{member}' failed to satisfy constraint: '{why}'")]
pub struct InvalidParameter {
    pub member: String,
    pub why: String,
}

impl InvalidParameter {
    pub fn new(member: impl Into<String>, why: impl Into<String>) -> Self {
        Self { member: member.into(), why: why.into() }
    }

    fn pattern(member: &str, pattern: &str) -> Self {
        Self::new(member, format!("must satisfy regular expression '{pattern}'"))
    }
}

pub type Checked = Result<(), InvalidParameter>;

/// As AWS prints it for a name that does not match.
pub const REPOSITORY_NAME_PATTERN: &str = "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(\\/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*";
const PREFIX_PATTERN: &str =
    "((?:[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*(?:\\/[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*)*\\/?)|ROOT)";
const CREDENTIAL_ARN_PATTERN: &str =
    "^arn:aws(-\\w+)*:secretsmanager:[a-zA-Z0-9-:]+:secret:ecr\\-pullthroughcache\\/[a-zA-Z0-9\\/_+=.@-]+$";
const EXCLUSION_FILTER_PATTERN: &str = "^[0-9a-zA-Z._*-]{1,128}$";

pub const TAG_MUTABILITIES: &[&str] = &["MUTABLE", "IMMUTABLE", "IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION"];
pub const UPSTREAM_REGISTRIES: &[&str] = &[
    "ecr",
    "ecr-public",
    "quay",
    "k8s",
    "docker-hub",
    "github-container-registry",
    "azure-container-registry",
    "gitlab-container-registry",
    "chainguard",
];
pub const ENCRYPTION_TYPES: &[&str] = &["AES256", "KMS", "KMS_DSSE"];
pub const APPLIED_FOR: &[&str] = &["REPLICATION", "PULL_THROUGH_CACHE", "CREATE_ON_PUSH"];
pub const TAG_STATUSES: &[&str] = &["TAGGED", "UNTAGGED", "ANY"];
pub const IMAGE_STATUSES: &[&str] = &["ACTIVE", "ARCHIVED", "ACTIVATING", "ANY"];

pub fn required(member: &str, value: &str) -> Checked {
    if value.is_empty() { Err(InvalidParameter::new(member, "must not be null")) } else { Ok(()) }
}

/// Length in characters, both ends included.
pub fn length(member: &str, value: &str, min: usize, max: usize) -> Checked {
    within(member, value.chars().count(), min, max, "length")
}

/// Number of items, both ends included.
pub fn count<T>(member: &str, items: &[T], min: usize, max: usize) -> Checked {
    within(member, items.len(), min, max, "size")
}

fn within(member: &str, found: usize, min: usize, max: usize, what: &str) -> Checked {
    if found < min {
        Err(InvalidParameter::new(member, format!("must have {what} greater than or equal to {min}")))
    } else if found > max {
        Err(InvalidParameter::new(member, format!("must have {what} less than or equal to {max}")))
    } else {
        Ok(())
    }
}

pub fn one_of(member: &str, value: &str, allowed: &[&str]) -> Checked {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(InvalidParameter::new(member, format!("must satisfy enum value set: [{}]", allowed.join(", "))))
}

pub fn registry_id(member: &str, value: Option<&str>) -> Checked {
    match value {
        Some(id) if !is_account(id) => Err(InvalidParameter::pattern(member, "[0-9]{12}")),
        _ => Ok(()),
    }
}

pub fn repository_name(member: &str, value: &str) -> Checked {
    required(member, value)?;
    length(member, value, 2, 256)?;
    if is_repository_name(value) { Ok(()) } else { Err(InvalidParameter::pattern(member, REPOSITORY_NAME_PATTERN)) }
}

/// Prefix of a pull through cache rule, here or upstream.
pub fn ptc_prefix(member: &str, value: &str) -> Checked {
    required(member, value)?;
    length(member, value, 2, 30)?;
    if is_ptc_prefix(value) { Ok(()) } else { Err(InvalidParameter::pattern(member, PREFIX_PATTERN)) }
}

/// Prefix of a repository creation template.
pub fn template_prefix(member: &str, value: &str) -> Checked {
    required(member, value)?;
    length(member, value, 1, 256)?;
    if is_template_prefix(value) { Ok(()) } else { Err(InvalidParameter::pattern(member, PREFIX_PATTERN)) }
}

pub fn credential_arn(member: &str, value: Option<&str>) -> Checked {
    let Some(value) = value else { return Ok(()) };
    length(member, value, 50, 612)?;
    if grammar::is_credential_arn(value) {
        Ok(())
    } else {
        Err(InvalidParameter::pattern(member, CREDENTIAL_ARN_PATTERN))
    }
}

pub fn custom_role_arn(member: &str, value: Option<&str>) -> Checked {
    let Some(value) = value else { return Ok(()) };
    length(member, value, 0, 2048)?;
    match Arn::parse(value) {
        Some(arn) if arn.service == "iam" && is_account(arn.account) && arn.resource.starts_with("role/") => Ok(()),
        None | Some(_) => Err(InvalidParameter::new(member, "Invalid ARN")),
    }
}

/// Pattern of tags that a mutability mode excludes.
pub fn exclusion_filter(member: &str, value: &str) -> Checked {
    if is_exclusion_filter(value) { Ok(()) } else { Err(InvalidParameter::pattern(member, EXCLUSION_FILTER_PATTERN)) }
}

/// ARN of a repository, whatever its account and region.
pub fn repository_arn(member: &str, value: &str) -> Checked {
    match RepositoryArn::parse(value) {
        Some(_) => Ok(()),
        None => Err(InvalidParameter::new(member, "Invalid ARN")),
    }
}

pub fn max_results(value: Option<i64>, max: i64) -> Checked {
    match value {
        Some(found) if found < 1 => {
            Err(InvalidParameter::new("maxResults", "must have value greater than or equal to 1"))
        }
        Some(found) if found > max => {
            Err(InvalidParameter::new("maxResults", format!("must have value less than or equal to {max}")))
        }
        _ => Ok(()),
    }
}

/// Asking for named things and for pages excludes each other.
pub fn no_paging_with(member: &str, named: bool, next_token: Option<&str>, max_results: Option<i64>) -> Checked {
    match (named, next_token, max_results) {
        (true, Some(_), _) => Err(InvalidParameter::new("nextToken", format!("must not be given with '{member}'"))),
        (true, None, Some(_)) => Err(InvalidParameter::new("maxResults", format!("must not be given with '{member}'"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_form_of_aws() {
        let text = repository_name("repositoryName", "Nginx").unwrap_err().to_string();
        assert_eq!(
            text,
            "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression \
             '[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(\\/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*''"
        );
        let text = repository_arn("resourceArn", "x").unwrap_err().to_string();
        assert_eq!(text, "Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN'");
    }

    #[test]
    fn bounds_are_inclusive_and_say_which_side_broke() {
        assert!(repository_name("r", &"a".repeat(256)).is_ok());
        assert!(repository_name("r", &"a".repeat(257)).unwrap_err().why.contains("less than or equal to 256"));
        assert!(repository_name("r", "a").unwrap_err().why.contains("greater than or equal to 2"));
        assert_eq!(repository_name("r", "").unwrap_err().why, "must not be null");
        assert!(ptc_prefix("p", &"a".repeat(30)).is_ok());
        assert!(ptc_prefix("p", &"a".repeat(31)).is_err());
        assert!(template_prefix("p", "a").is_ok());
        for (value, good) in [(None, true), (Some(1), true), (Some(1000), true), (Some(0), false), (Some(1001), false)]
        {
            assert_eq!(max_results(value, 1000).is_ok(), good, "{value:?}");
        }
    }

    #[test]
    fn registry_ids_have_twelve_digits() {
        for (value, good) in [("123456789012", true), ("12345678901", false), ("12345678901a", false), ("", false)] {
            assert_eq!(registry_id("registryId", Some(value)).is_ok(), good, "{value}");
        }
        assert!(registry_id("registryId", None).is_ok());
    }

    #[test]
    fn credentials_live_under_their_prefix() {
        let good = "arn:aws:secretsmanager:us-east-1:012345678910:secret:ecr-pullthroughcache/dh-abc";
        assert!(credential_arn("credentialArn", Some(good)).is_ok());
        assert!(credential_arn("credentialArn", Some(&good.replace("arn:aws:", "arn:aws-us-gov:"))).is_ok());
        for bad in [
            good.replace("ecr-pullthroughcache/", "other/"),
            good.replace("secretsmanager", "ssm"),
            good.replace("dh-abc", ""),
            good.replace("dh-abc", "a b"),
            good.replace("arn:aws:", "arn:gcp:"),
            good.replace("us-east-1", "us_east_1"),
            "arn".to_owned(),
        ] {
            assert!(credential_arn("credentialArn", Some(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn roles_are_arns_of_iam_roles() {
        assert!(custom_role_arn("customRoleArn", Some("arn:aws:iam::000000000000:role/x")).is_ok());
        for bad in ["", "x", "arn:aws:iam::000000000000:user/x", "arn:aws:s3:::role/x"] {
            assert!(custom_role_arn("customRoleArn", Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn naming_things_excludes_paging() {
        assert!(no_paging_with("imageIds", true, None, Some(5)).is_err());
        assert_eq!(no_paging_with("imageIds", true, Some("t"), None).unwrap_err().member, "nextToken");
        assert!(no_paging_with("imageIds", true, None, None).is_ok());
        assert!(no_paging_with("imageIds", false, Some("t"), Some(5)).is_ok());
    }
}
