//! Names of resources and principals. There is one namespace: the region in one of our own ARNs is a label, so every
//! region is read, and the writer says which one to put there.

use std::fmt;

use crate::validate::is_repository_name;

/// `arn:aws:ecr:<region>:<account>:repository/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepositoryArn {
    pub region: String,
    pub account: String,
    pub name: String,
}

impl RepositoryArn {
    /// `None` when the text is no ARN of a repository with a well-formed name.
    pub fn parse(text: &str) -> Option<Self> {
        let arn = Arn::parse(text)?;
        let name = arn.resource.strip_prefix("repository/")?;
        let whole =
            arn.service == "ecr" && is_region(arn.region) && is_account(arn.account) && is_repository_name(name);
        whole.then(|| Self { region: arn.region.to_owned(), account: arn.account.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for RepositoryArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:ecr:{}:{}:repository/{}", self.region, self.account, self.name)
    }
}

/// `arn:aws:iam::<account>:root`, `…:user/<path and name>`, `…:role/<path and name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalArn {
    Root { account: String },
    User { account: String, name: String },
    Role { account: String, name: String },
}

impl PrincipalArn {
    /// `None` when the text is no ARN of a principal.
    pub fn parse(text: &str) -> Option<Self> {
        let arn = Arn::parse(text)?;
        if arn.service != "iam" || !arn.region.is_empty() || !is_account(arn.account) {
            return None;
        }
        let account = arn.account.to_owned();
        if arn.resource == "root" {
            return Some(Self::Root { account });
        }
        let (kind, name) = arn.resource.split_once('/')?;
        if name.is_empty() || !name.split('/').all(is_iam_name) {
            return None;
        }
        match kind {
            "user" => Some(Self::User { account, name: name.to_owned() }),
            "role" => Some(Self::Role { account, name: name.to_owned() }),
            _ => None,
        }
    }

    pub fn account(&self) -> &str {
        match self {
            Self::Root { account } | Self::User { account, .. } | Self::Role { account, .. } => account,
        }
    }
}

impl fmt::Display for PrincipalArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root { account } => write!(f, "arn:aws:iam::{account}:root"),
            Self::User { account, name } => write!(f, "arn:aws:iam::{account}:user/{name}"),
            Self::Role { account, name } => write!(f, "arn:aws:iam::{account}:role/{name}"),
        }
    }
}

/// A region name as clients may configure it: `us-east-1`, but also `local-1` and nothing at all.
pub fn is_region(text: &str) -> bool {
    text.len() <= 25 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Twelve digits.
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_iam_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
}

/// The six parts of any ARN; the resource may hold colons.
pub(crate) struct Arn<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let ("arn", partition) = (parts.next()?, parts.next()?) else { return None };
        let known = partition == "aws" || partition.strip_prefix("aws-").is_some_and(|rest| !rest.is_empty());
        let arn =
            Self { service: parts.next()?, region: parts.next()?, account: parts.next()?, resource: parts.next()? };
        known.then_some(arn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_arns_read_any_region_and_write_the_given_one() {
        for text in [
            "arn:aws:ecr:us-east-1:000000000000:repository/a/b",
            "arn:aws:ecr:local-1:123456789012:repository/docker-hub/library/nginx",
            "arn:aws:ecr::123456789012:repository/ab",
        ] {
            assert_eq!(RepositoryArn::parse(text).unwrap().to_string(), text);
        }
        let cn = RepositoryArn::parse("arn:aws-cn:ecr:cn-north-1:000000000000:repository/ab").unwrap();
        assert_eq!((cn.region.as_str(), cn.name.as_str()), ("cn-north-1", "ab"));
        for bad in [
            "",
            "repository/ab",
            "arn:aws:ecr:us-east-1:000000000000:repository/A",
            "arn:aws:ecr:us-east-1:000000000000:repository/",
            "arn:aws:ecr:us-east-1:00000000000:repository/ab",
            "arn:aws:s3:us-east-1:000000000000:repository/ab",
            "arn:gcp:ecr:us-east-1:000000000000:repository/ab",
            "arn:aws:ecr:us-east-1:000000000000:image/ab",
            "arn:aws:ecr:us east:000000000000:repository/ab",
        ] {
            assert_eq!(RepositoryArn::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn principals_read_and_print() {
        for text in [
            "arn:aws:iam::000000000000:root",
            "arn:aws:iam::000000000000:user/ci",
            "arn:aws:iam::000000000000:role/teams/a/deployer",
        ] {
            let arn = PrincipalArn::parse(text).unwrap();
            assert_eq!((arn.to_string().as_str(), arn.account()), (text, "000000000000"));
        }
        for bad in ["arn:aws:iam::000000000000:user/", "arn:aws:iam::1:root", "arn:aws:iam:x:000000000000:root", "*"] {
            assert_eq!(PrincipalArn::parse(bad), None, "{bad}");
        }
    }
}
