use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    operation::operation,
    validate::{self, Checked},
};

operation!(Ecr::GetAuthorizationToken(GetAuthorizationTokenInput) -> GetAuthorizationTokenOutput, check = check);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetAuthorizationTokenInput {
    /// Deprecated by AWS, still answered: one token per id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_ids: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetAuthorizationTokenOutput {
    pub authorization_data: Vec<AuthorizationData>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationData {
    /// Standard base64 of `AWS:<password>`; no colon in the password.
    pub authorization_token: String,
    pub expires_at: f64,
    /// Scheme and host, no path.
    pub proxy_endpoint: String,
}

// The token is a credential: it must not reach a log by way of a derived format.
impl fmt::Debug for AuthorizationData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationData")
            .field("expires_at", &self.expires_at)
            .field("proxy_endpoint", &self.proxy_endpoint)
            .finish_non_exhaustive()
    }
}

fn check(input: &GetAuthorizationTokenInput) -> Checked {
    let Some(ids) = &input.registry_ids else { return Ok(()) };
    validate::count("registryIds", ids, 1, 10)?;
    ids.iter().try_for_each(|id| validate::registry_id("registryIds", Some(id)))
}
