//! Who am I. Spoken in the Query protocol (see [`crate::query`]).

use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Needs no permission: whoever signs may ask who signed.
    Sts::GetCallerIdentity(GetCallerIdentityInput) -> GetCallerIdentityOutput
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GetCallerIdentityInput {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetCallerIdentityOutput {
    /// ARN of the principal.
    pub arn: String,
    pub user_id: String,
    pub account: String,
}
