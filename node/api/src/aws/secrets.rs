//! Secrets Manager, as far as the credentials of upstream registries need it.

mod listing;
mod values;

use std::{collections::BTreeMap, time::Duration};

use flotilla_aws::{
    ErrorCode, ecr,
    secretsmanager::{
        CreateSecret, CreateSecretInput, CreateSecretOutput, DeleteSecret, DeleteSecretInput, DeleteSecretOutput,
        DescribeSecret, DescribeSecretInput, DescribeSecretOutput, GetResourcePolicy, GetResourcePolicyInput,
        GetResourcePolicyOutput, RestoreSecret, RestoreSecretInput, RestoreSecretOutput, TagResource, TagResourceInput,
        TagResourceOutput, UntagResource, UntagResourceInput, UntagResourceOutput, UpdateSecret, UpdateSecretInput,
        UpdateSecretOutput,
    },
    validate::InvalidParameter,
};
use flotilla_registry::{
    Refusal,
    access::{Action, Resource},
    secret::{Secret, SecretId},
};
use flotilla_service::{NewSecret, SecretUpdate, ServiceError};

use self::values::value;
use super::{AwsError, Call, Failure, Handle, shapes::resource_tags_shape};

const DAY: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_WINDOW_DAYS: u32 = 30;

/// The secret as a policy names it: what is more likely meant, where an ARN can be read in two ways.
fn resource(id: &str) -> Result<Resource, InvalidParameter> {
    match SecretId::readings(id).into_iter().next() {
        Some(reading) => Ok(Resource::Secret(reading.name)),
        None => Err(InvalidParameter::new("SecretId", "is neither a secret's name nor its ARN")),
    }
}

/// As this service calls what went wrong, which is not what ECR calls it.
pub(super) fn error(error: &ServiceError, account_id: &str) -> AwsError {
    use ErrorCode as C;
    let (code, text) = match error {
        ServiceError::Refused(Refusal::NoSecret(_)) => {
            (C::RESOURCE_NOT_FOUND, "Secrets Manager can't find the specified secret.".to_owned())
        }
        ServiceError::NoSecretVersion(of) => {
            (C::RESOURCE_NOT_FOUND, format!("Secrets Manager can't find the specified secret value for {of}"))
        }
        ServiceError::Refused(Refusal::SecretExists(name)) => {
            (C::RESOURCE_EXISTS, format!("The operation failed because the secret {name} already exists."))
        }
        ServiceError::Refused(Refusal::SecretDeleted(_)) => (
            C::INVALID_REQUEST,
            "You can't perform this operation on the secret because it was marked for deletion.".to_owned(),
        ),
        ServiceError::Refused(Refusal::TooManyTags(limit)) => {
            (C::LIMIT_EXCEEDED, format!("a secret may have at most {limit} tags"))
        }
        ServiceError::SecretRequest(text) => (C::RESOURCE_EXISTS, text.clone()),
        ServiceError::Unseal(_) => {
            (C::DECRYPTION_FAILURE, "The value cannot be opened with the keys of this node.".to_owned())
        }
        _ => return AwsError::from_service(error, account_id),
    };
    AwsError::new(code, text)
}

impl Call<'_> {
    fn secret_arn(&self, secret: &Secret) -> String {
        secret.arn(&self.region(), &self.door.account_id())
    }
}

fn tags(tags: Option<Vec<ecr::Tag>>) -> BTreeMap<String, String> {
    tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value)).collect()
}

fn stages(secret: &Secret) -> BTreeMap<String, Vec<String>> {
    let staged = secret.versions.iter().filter(|version| !version.stages.is_empty());
    staged.map(|version| (version.id.clone(), version.stages.iter().cloned().collect())).collect()
}

impl Handle for CreateSecret {
    const ACTION: Action = Action("secretsmanager:CreateSecret");

    fn resource(input: &CreateSecretInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Secret(input.name.clone()))
    }

    async fn handle(call: Call<'_>, input: CreateSecretInput) -> Result<CreateSecretOutput, Failure> {
        let new = NewSecret {
            name: input.name,
            description: input.description,
            kms_key_id: input.kms_key_id,
            tags: tags(input.tags),
            value: value(input.secret_string.as_ref(), input.secret_binary.as_ref())?,
            token: input.client_request_token,
        };
        let (secret, version_id) = call.services().secrets.create(call.permit, new).await?;
        Ok(CreateSecretOutput { arn: call.secret_arn(&secret), name: secret.name, version_id })
    }
}

impl Handle for UpdateSecret {
    const ACTION: Action = Action("secretsmanager:UpdateSecret");

    fn resource(input: &UpdateSecretInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: UpdateSecretInput) -> Result<UpdateSecretOutput, Failure> {
        let update = SecretUpdate {
            description: input.description,
            kms_key_id: input.kms_key_id,
            value: value(input.secret_string.as_ref(), input.secret_binary.as_ref())?,
            token: input.client_request_token,
        };
        let (secret, version_id) = call.services().secrets.update(call.permit, &input.secret_id, update).await?;
        Ok(UpdateSecretOutput { arn: call.secret_arn(&secret), name: secret.name, version_id })
    }
}

impl Handle for DescribeSecret {
    const ACTION: Action = Action("secretsmanager:DescribeSecret");

    fn resource(input: &DescribeSecretInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: DescribeSecretInput) -> Result<DescribeSecretOutput, Failure> {
        let secret = call.services().secrets.describe(call.permit, &input.secret_id).await?;
        Ok(DescribeSecretOutput {
            arn: call.secret_arn(&secret),
            tags: resource_tags_shape(&secret.tags),
            version_ids_to_stages: stages(&secret),
            name: secret.name,
            description: secret.description,
            kms_key_id: secret.kms_key_id,
            rotation_enabled: false,
            last_changed_date: secret.changed_at.seconds(),
            deleted_date: secret.deletion.map(|deletion| deletion.requested_at.seconds()),
            created_date: secret.created_at.seconds(),
        })
    }
}

impl Handle for DeleteSecret {
    const ACTION: Action = Action("secretsmanager:DeleteSecret");

    fn resource(input: &DeleteSecretInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    /// At once, what is not there is deleted: the same call again meets it so.
    async fn handle(call: Call<'_>, input: DeleteSecretInput) -> Result<DeleteSecretOutput, Failure> {
        let window = match input.force_delete_without_recovery {
            Some(true) => None,
            _ => {
                let days = input.recovery_window_in_days.and_then(|days| u32::try_from(days).ok());
                Some(DAY * days.unwrap_or(DEFAULT_WINDOW_DAYS))
            }
        };
        let now = call.door.host.clock.now();
        let deleted = call.services().secrets.delete(call.permit, &input.secret_id, window).await?;
        let Some(secret) = deleted else {
            return Ok(DeleteSecretOutput {
                arn: input.secret_id.clone(),
                name: input.secret_id,
                deletion_date: now.seconds(),
            });
        };
        let deletion_date = match window {
            Some(_) => secret.deletion.map_or(now, |deletion| deletion.purge_at).seconds(),
            None => now.seconds(),
        };
        Ok(DeleteSecretOutput { arn: call.secret_arn(&secret), name: secret.name, deletion_date })
    }
}

impl Handle for RestoreSecret {
    const ACTION: Action = Action("secretsmanager:RestoreSecret");

    fn resource(input: &RestoreSecretInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: RestoreSecretInput) -> Result<RestoreSecretOutput, Failure> {
        let secret = call.services().secrets.restore(call.permit, &input.secret_id).await?;
        Ok(RestoreSecretOutput { arn: call.secret_arn(&secret), name: secret.name })
    }
}

impl Handle for TagResource {
    const ACTION: Action = Action("secretsmanager:TagResource");

    fn resource(input: &TagResourceInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: TagResourceInput) -> Result<TagResourceOutput, Failure> {
        let secrets = &call.services().secrets;
        secrets.tag(call.permit, &input.secret_id, tags(input.tags), Vec::new()).await?;
        Ok(TagResourceOutput {})
    }
}

impl Handle for UntagResource {
    const ACTION: Action = Action("secretsmanager:UntagResource");

    fn resource(input: &UntagResourceInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: UntagResourceInput) -> Result<UntagResourceOutput, Failure> {
        let secrets = &call.services().secrets;
        let keys = input.tag_keys.unwrap_or_default();
        secrets.tag(call.permit, &input.secret_id, BTreeMap::new(), keys).await?;
        Ok(UntagResourceOutput {})
    }
}

impl Handle for GetResourcePolicy {
    const ACTION: Action = Action("secretsmanager:GetResourcePolicy");

    fn resource(input: &GetResourcePolicyInput) -> Result<Resource, InvalidParameter> {
        resource(&input.secret_id)
    }

    async fn handle(call: Call<'_>, input: GetResourcePolicyInput) -> Result<GetResourcePolicyOutput, Failure> {
        let secret = call.services().secrets.describe(call.permit, &input.secret_id).await?;
        Ok(GetResourcePolicyOutput { arn: call.secret_arn(&secret), name: secret.name })
    }
}
