use flotilla_aws::{
    ecr::{
        GetAccountSetting, GetAccountSettingInput, GetAccountSettingOutput, PutAccountSetting, PutAccountSettingInput,
        PutAccountSettingOutput,
    },
    validate::InvalidParameter,
};
use flotilla_registry::access::{Action, Resource};

use super::{Call, Failure, Handle};

impl Handle for GetAccountSetting {
    const ACTION: Action = Action("ecr:GetAccountSetting");

    fn resource(_: &GetAccountSettingInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(call: Call<'_>, input: GetAccountSettingInput) -> Result<GetAccountSettingOutput, Failure> {
        let value = call.services().cluster.setting(call.permit, &input.name);
        let value = value.ok_or_else(|| InvalidParameter::new("name", "is not the name of an account setting"))?;
        Ok(GetAccountSettingOutput { name: input.name, value })
    }
}

impl Handle for PutAccountSetting {
    const ACTION: Action = Action("ecr:PutAccountSetting");

    fn resource(_: &PutAccountSettingInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(call: Call<'_>, input: PutAccountSettingInput) -> Result<PutAccountSettingOutput, Failure> {
        call.services().cluster.put_setting(call.permit, &input.name, &input.value).await?;
        Ok(PutAccountSettingOutput { name: input.name, value: input.value })
    }
}
