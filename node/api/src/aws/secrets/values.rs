//! Versions and their values.

use base64::{Engine, prelude::BASE64_STANDARD};
use flotilla_aws::{
    secretsmanager::{
        GetSecretValue, GetSecretValueInput, GetSecretValueOutput, ListSecretVersionIds, ListSecretVersionIdsInput,
        ListSecretVersionIdsOutput, PutSecretValue, PutSecretValueInput, PutSecretValueOutput, SecretVersionsListEntry,
        Sensitive, UpdateSecretVersionStage, UpdateSecretVersionStageInput, UpdateSecretVersionStageOutput,
    },
    validate::InvalidParameter,
};
use flotilla_base::Secret as Bytes;
use flotilla_registry::{
    access::{Action, Resource},
    secret::SecretValue,
};
use flotilla_service::OpenedSecret;

use super::{
    super::{Call, Failure, Handle, page::Page},
    resource,
};

/// What a client sent as a value, in one of its two forms.
pub(super) fn value(
    text: Option<&Sensitive>,
    binary: Option<&Sensitive>,
) -> Result<Option<SecretValue>, InvalidParameter> {
    if let Some(Sensitive(text)) = text {
        return Ok(Some(SecretValue::Text(Bytes::new(text.as_bytes()))));
    }
    let Some(Sensitive(binary)) = binary else { return Ok(None) };
    let bytes = BASE64_STANDARD.decode(binary);
    let bytes = bytes.map_err(|_| InvalidParameter::new("SecretBinary", "is not Base64"))?;
    Ok(Some(SecretValue::Binary(Bytes::new(bytes))))
}

impl Handle for PutSecretValue {
    const ACTION: Action = Action("secretsmanager:PutSecretValue");

    fn resource(input: &PutSecretValueInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: PutSecretValueInput) -> Result<PutSecretValueOutput, Failure> {
        let value = value(input.secret_string.as_ref(), input.secret_binary.as_ref())?;
        let value = value.ok_or_else(|| {
            InvalidParameter::new("SecretString", "You must provide either SecretString or SecretBinary")
        })?;
        let stages = input.version_stages.unwrap_or_default().into_iter().collect();
        let put =
            call.services().secrets.put_value(call.permit, &input.secret_id, value, input.client_request_token, stages);
        let (secret, version_id) = put.await?;
        let version = secret.versions.iter().find(|version| version.id == version_id);
        let version_stages = version.map(|version| version.stages.iter().cloned().collect()).unwrap_or_default();
        Ok(PutSecretValueOutput { arn: call.secret_arn(&secret), name: secret.name, version_id, version_stages })
    }
}

impl Handle for GetSecretValue {
    const ACTION: Action = Action("secretsmanager:GetSecretValue");

    fn resource(input: &GetSecretValueInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: GetSecretValueInput) -> Result<GetSecretValueOutput, Failure> {
        let secrets = &call.services().secrets;
        let (version, stage) = (input.version_id.as_deref(), input.version_stage.as_deref());
        let opened = secrets.value(call.permit, &input.secret_id, version, stage).await?;
        let OpenedSecret { secret, version, value } = opened;
        let (secret_string, secret_binary) = match &value {
            SecretValue::Text(text) => (text.expose_str().map(|text| Sensitive(text.to_owned())), None),
            SecretValue::Binary(bytes) => (None, Some(Sensitive(BASE64_STANDARD.encode(bytes.expose())))),
        };
        Ok(GetSecretValueOutput {
            arn: call.secret_arn(&secret),
            name: secret.name,
            version_id: version.id,
            secret_binary,
            secret_string,
            version_stages: version.stages.into_iter().collect(),
            created_date: version.created_at.seconds(),
        })
    }
}

impl Handle for ListSecretVersionIds {
    const ACTION: Action = Action("secretsmanager:ListSecretVersionIds");

    fn resource(input: &ListSecretVersionIdsInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: ListSecretVersionIdsInput) -> Result<ListSecretVersionIdsOutput, Failure> {
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let secret = call.services().secrets.describe(call.permit, &input.secret_id).await?;
        let arn = call.secret_arn(&secret);
        let all = input.include_deprecated == Some(true);
        let versions = secret.versions.into_iter().filter(|version| all || !version.stages.is_empty());
        let mut versions: Vec<_> = versions
            .map(|version| SecretVersionsListEntry {
                version_id: version.id,
                version_stages: version.stages.into_iter().collect(),
                created_date: version.created_at.seconds(),
            })
            .collect();
        versions.sort_by(|a, b| a.version_id.cmp(&b.version_id));
        versions.retain(|version| page.after.as_ref().is_none_or(|after| version.version_id > *after));
        let next_token = page.cut::<Self, _>(call, &mut versions, |version| version.version_id.clone())?;
        Ok(ListSecretVersionIdsOutput { versions, next_token, arn, name: secret.name })
    }
}

impl Handle for UpdateSecretVersionStage {
    const ACTION: Action = Action("secretsmanager:UpdateSecretVersionStage");

    fn resource(input: &UpdateSecretVersionStageInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(
        call: Call<'_>,
        input: UpdateSecretVersionStageInput,
    ) -> Result<UpdateSecretVersionStageOutput, Failure> {
        let moved = call.services().secrets.move_stage(
            call.permit,
            &input.secret_id,
            &input.version_stage,
            input.remove_from_version_id.as_deref(),
            input.move_to_version_id.as_deref(),
        );
        let secret = moved.await?;
        Ok(UpdateSecretVersionStageOutput { arn: call.secret_arn(&secret), name: secret.name })
    }
}
