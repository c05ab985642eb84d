use flotilla_aws::{
    arn::PrincipalArn,
    sts::{GetCallerIdentity, GetCallerIdentityInput, GetCallerIdentityOutput},
    validate::InvalidParameter,
};
use flotilla_registry::access::{Action, Resource};

use super::{Call, Failure, Handle};

impl Handle for GetCallerIdentity {
    const ACTION: Action = Action("sts:GetCallerIdentity");

    fn resource(_: &GetCallerIdentityInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, _: GetCallerIdentityInput) -> Result<GetCallerIdentityOutput, Failure> {
        let account = call.door.account_id();
        let arn = call.permit.caller().principal.to_string();
        // AWS gives root the account's number, and everyone else an id of their own.
        let user_id = match PrincipalArn::parse(&arn) {
            Some(PrincipalArn::User { name, .. } | PrincipalArn::Role { name, .. }) => name,
            Some(PrincipalArn::Root { .. }) | None => account.clone(),
        };
        Ok(GetCallerIdentityOutput { arn, user_id, account })
    }
}
