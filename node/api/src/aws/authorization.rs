use base64::{Engine, prelude::BASE64_STANDARD};
use flotilla_aws::{
    ecr::{AuthorizationData, GetAuthorizationToken, GetAuthorizationTokenInput, GetAuthorizationTokenOutput},
    validate::InvalidParameter,
};
use flotilla_registry::access::{Action, Resource};

use super::{Call, Failure, Handle};

impl Handle for GetAuthorizationToken {
    const ACTION: Action = Action("ecr:GetAuthorizationToken");

    fn resource(_: &GetAuthorizationTokenInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(call: Call<'_>, input: GetAuthorizationTokenInput) -> Result<GetAuthorizationTokenOutput, Failure> {
        let ids = input.registry_ids.unwrap_or_default();
        for id in &ids {
            call.registry(Some(id))?;
        }
        let issued = call.services().access.login_token(call.permit).await?;
        let data = AuthorizationData {
            authorization_token: BASE64_STANDARD.encode(format!("AWS:{}", issued.token)),
            expires_at: issued.expires_at.seconds(),
            proxy_endpoint: call.arrival.origin.to_string(),
        };
        Ok(GetAuthorizationTokenOutput { authorization_data: vec![data; ids.len().max(1)] })
    }
}
