//! Robots and access keys. A secret is in the reply of the call that made it, and in no other.

use serde::{Deserialize, Serialize};

use crate::{
    operation::operation,
    validate::{self, Checked, InvalidParameter},
};

const ROBOT_NAME_PATTERN: &str = "[A-Za-z0-9+=,.@_-]{1,64}";
const REPOSITORY_PATTERN: &str = "[a-z0-9._/*-]{1,256}";
const REPOSITORY_PATTERNS_MAX: usize = 100;
const ACCESS_KEY_ID_PATTERN: &str = "[A-Z0-9]{12,128}";
const PAGE_MAX: i64 = 1000;

operation!(
    /// Makes a principal that may pull and do nothing else, with its first key.
    Flotilla::CreateRobot(CreateRobotInput) -> CreateRobotOutput, check = check_create_robot
);
operation!(
    Flotilla::ListRobots(ListRobotsInput) -> ListRobotsOutput,
    check = |input| check_page(input.next_token.as_deref(), input.max_results)
);
operation!(
    /// With its keys, whose tokens end at once.
    Flotilla::DeleteRobot(DeleteRobotInput) -> DeleteRobotOutput, check = |input| robot_name(&input.robot_name)
);
operation!(
    /// Another key of a robot, or of root.
    Flotilla::CreateAccessKey(CreateAccessKeyInput) -> CreateAccessKeyOutput, check = check_create_key
);
operation!(
    Flotilla::ListAccessKeys(ListAccessKeysInput) -> ListAccessKeysOutput,
    check = |input| check_page(input.next_token.as_deref(), input.max_results)
);
operation!(
    /// Enables or disables a key; tokens of before end with either.
    Flotilla::UpdateAccessKey(UpdateAccessKeyInput) -> UpdateAccessKeyOutput, check = check_update_key
);
operation!(
    Flotilla::DeleteAccessKey(DeleteAccessKeyInput) -> DeleteAccessKeyOutput,
    check = |input| access_key_id(&input.access_key_id)
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateRobotInput {
    pub robot_name: String,
    /// Repositories that it may pull, `*` in them being any text; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<f64>,
}

/// Its secret is not to be printed by accident.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewAccessKey {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub principal_arn: String,
}

impl std::fmt::Debug for NewAccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { access_key_id, principal_arn, .. } = self;
        f.debug_struct("NewAccessKey")
            .field("access_key_id", access_key_id)
            .field("principal_arn", principal_arn)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateRobotOutput {
    pub robot: Robot,
    pub access_key: NewAccessKey,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Robot {
    pub robot_name: String,
    pub principal_arn: String,
    pub repositories: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<f64>,
    pub expired: bool,
    pub created_at: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListRobotsInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListRobotsOutput {
    pub robots: Vec<Robot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteRobotInput {
    pub robot_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteRobotOutput {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateAccessKeyInput {
    /// Absent: root's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub robot_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateAccessKeyOutput {
    pub access_key: NewAccessKey,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListAccessKeysInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListAccessKeysOutput {
    pub access_keys: Vec<AccessKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessKey {
    pub access_key_id: String,
    pub principal_arn: String,
    /// Absent: root's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub robot_name: Option<String>,
    pub enabled: bool,
    pub created_at: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateAccessKeyInput {
    pub access_key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateAccessKeyOutput {
    pub access_key: AccessKey,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteAccessKeyInput {
    pub access_key_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteAccessKeyOutput {}

fn check_create_robot(input: &CreateRobotInput) -> Checked {
    robot_name(&input.robot_name)?;
    validate::count("repositories", &input.repositories, 0, REPOSITORY_PATTERNS_MAX)?;
    for (index, glob) in input.repositories.iter().enumerate() {
        let member = format!("repositories.{}.member", index + 1);
        let is_letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._/*-".contains(&c);
        matches(&member, glob, 1..=256, is_letter, REPOSITORY_PATTERN)?;
    }
    match input.expires_at {
        // What no clock of ours can be: it would not be the end that was meant.
        Some(at) if !(at.is_finite() && at > 0.0 && at < 1e11) => {
            Err(InvalidParameter::new("expiresAt", "must be seconds since 1970"))
        }
        _ => Ok(()),
    }
}

fn check_create_key(input: &CreateAccessKeyInput) -> Checked {
    input.robot_name.as_deref().map_or(Ok(()), robot_name)
}

fn check_update_key(input: &UpdateAccessKeyInput) -> Checked {
    access_key_id(&input.access_key_id)?;
    match input.enabled {
        Some(_) => Ok(()),
        None => Err(InvalidParameter::new("enabled", "must not be null")),
    }
}

fn check_page(next_token: Option<&str>, max_results: Option<i64>) -> Checked {
    if next_token == Some("") {
        return Err(InvalidParameter::new("nextToken", "must have length greater than or equal to 1"));
    }
    match max_results {
        Some(max) if !(1..=PAGE_MAX).contains(&max) => {
            Err(InvalidParameter::new("maxResults", format!("must be between 1 and {PAGE_MAX}")))
        }
        _ => Ok(()),
    }
}

fn robot_name(name: &str) -> Checked {
    let is_letter = |c: u8| c.is_ascii_alphanumeric() || b"+=,.@_-".contains(&c);
    matches("robotName", name, 1..=64, is_letter, ROBOT_NAME_PATTERN)
}

fn access_key_id(id: &str) -> Checked {
    let is_letter = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit();
    matches("accessKeyId", id, 12..=128, is_letter, ACCESS_KEY_ID_PATTERN)
}

fn matches(
    member: &str,
    text: &str,
    len: std::ops::RangeInclusive<usize>,
    is_letter: impl Fn(u8) -> bool,
    pattern: &str,
) -> Checked {
    if len.contains(&text.len()) && text.bytes().all(is_letter) {
        return Ok(());
    }
    Err(InvalidParameter::new(member, format!("must satisfy regular expression '{pattern}'")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    #[test]
    fn names_globs_and_ends_are_held_against_their_grammar() {
        let robot = |name: &str, glob: &str, expires_at| {
            let repositories = vec![glob.to_owned()];
            let input = CreateRobotInput { robot_name: name.into(), repositories, expires_at };
            CreateRobot::check(&input).map_err(|error| error.member)
        };
        assert_eq!(robot("ci.bot+1@x", "team-*/app", Some(2e9)), Ok(()));
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert_eq!(robot(bad, "a", None), Err("robotName".into()), "{bad}");
        }
        for bad in ["", "A", "a b", &"x".repeat(257)] {
            assert_eq!(robot("ci", bad, None), Err("repositories.1.member".into()), "{bad}");
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(robot("ci", "a", Some(bad)), Err("expiresAt".into()), "{bad}");
        }
        let update = UpdateAccessKeyInput { access_key_id: "AKIA00000000".into(), enabled: None };
        assert_eq!(UpdateAccessKey::check(&update).unwrap_err().member, "enabled");
        for max_results in [0, 1001] {
            let input = ListAccessKeysInput { max_results: Some(max_results), next_token: None };
            assert!(ListAccessKeys::check(&input).is_err());
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = NewAccessKey { secret_access_key: "hush".into(), ..NewAccessKey::default() };
        let shown = format!("{:?}", CreateAccessKeyOutput { access_key: key });
        assert!(!shown.contains("hush"), "{shown}");
    }
}
