//! Who asks and what for.

use std::fmt;

use flotilla_base::Timestamp;
use flotilla_oci::Name;
use serde::{Deserialize, Serialize};

use crate::{Glob, Sealed};

/// `arn:aws:iam::<account>:root`, `…:user/<name>`; anonymous callers have [`PrincipalArn::anonymous`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PrincipalArn(pub String);

impl PrincipalArn {
    pub fn root(account_id: &str) -> Self {
        Self(format!("arn:aws:iam::{account_id}:root"))
    }

    pub fn user(account_id: &str, name: &str) -> Self {
        Self(format!("arn:aws:iam::{account_id}:user/{name}"))
    }

    /// The name in [`PrincipalArn::user`].
    pub fn user_name(&self) -> Option<&str> {
        self.0.split_once(":user/").map(|(_, name)| name)
    }

    /// Without making the ARN: asked for each request.
    pub fn is_root(&self, account_id: &str) -> bool {
        self.resource_of(account_id) == Some("root")
    }

    /// The name in [`PrincipalArn::user`] of this account.
    pub fn user_of(&self, account_id: &str) -> Option<&str> {
        self.resource_of(account_id)?.strip_prefix("user/").filter(|name| !name.is_empty())
    }

    fn resource_of(&self, account_id: &str) -> Option<&str> {
        self.0.strip_prefix("arn:aws:iam::")?.strip_prefix(account_id)?.strip_prefix(':')
    }

    /// A principal of its own that no ARN of IAM can spell, so that `*` in a policy does not mean it.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    pub fn is_anonymous(&self) -> bool {
        self.0 == "anonymous"
    }

    /// The node itself, doing what the state asks of it.
    pub fn system() -> Self {
        Self("system".into())
    }
}

impl fmt::Display for PrincipalArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A long-lived credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub id: String,
    pub principal: PrincipalArn,
    /// Sealed under the purpose `access-key`.
    pub secret: Sealed,
    /// Rises when the key is disabled or its principal revoked: tokens of an earlier generation are dead.
    pub generation: u64,
    pub enabled: bool,
    pub created_at: Timestamp,
}

/// A machine's own principal, `user/<name>`: it may pull and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Robot {
    /// 1 to 64 letters, digits, `+=,.@_-`, as IAM's user names.
    pub name: String,
    /// Repositories that it may pull; none means all.
    pub repositories: Vec<Glob>,
    /// Its keys and their tokens are dead from then on.
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// `ecr:BatchGetImage`, `flotilla:GetStatus`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Action(pub &'static str);

/// What an action is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Registry,
    Repository(Name),
    Cluster,
    /// By its name, without what an ARN adds to it.
    Secret(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_told_apart_by_their_whole_arn() {
        let (root, user) = (PrincipalArn::root("012"), PrincipalArn::user("012", "ci"));
        assert!(root.is_root("012") && !root.is_root("01") && !root.is_root("0123") && !user.is_root("012"));
        assert_eq!((user.user_of("012"), user.user_of("01"), root.user_of("012")), (Some("ci"), None, None));
        for other in ["root", "anonymous", "system", "arn:aws:iam::012:user/", "arn:aws:iam::012:role/root", ""] {
            let other = PrincipalArn(other.into());
            assert!(!other.is_root("012") && other.user_of("012").is_none(), "{other}");
        }
    }
}
