use flotilla_aws::{
    ErrorCode, Service,
    ecr::*,
    flotilla::{
        CheckImageReference, CreateAccessKey, CreateCacheRule, CreateRobot, DeleteAccessKey, DeleteRobot,
        DescribeCacheRuleOptions, ExplainImage, GetStatus, ListAccessKeys, ListRobots, PutCacheRuleOptions,
        RefreshImage, UpdateAccessKey,
    },
    json, query, secretsmanager,
    sts::GetCallerIdentity,
};
use flotilla_registry::access::Action;
use flotilla_runtime::BoxFuture;
use flotilla_service::Caller;

use super::{AwsError, Call, Failure, Handle, Payload, secrets};
use crate::{Door, http::Arrival};

type Run = for<'a> fn(&'a Door, &'a Arrival, &'a Caller, Payload) -> BoxFuture<'a, Result<Vec<u8>, AwsError>>;

/// One operation: its name on the wire, its permission, its code.
pub(super) struct Row {
    pub(super) service: Service,
    pub(super) name: &'static str,
    pub(super) action: Action,
    pub(super) run: Run,
}

/// Every operation that is served, a line each; the code of a family is a file beside this one.
pub(super) static TABLE: &[Row] = &[
    row::<CreatePullThroughCacheRule>(),
    row::<DescribePullThroughCacheRules>(),
    row::<UpdatePullThroughCacheRule>(),
    row::<DeletePullThroughCacheRule>(),
    row::<ValidatePullThroughCacheRule>(),
    row::<CreateRepositoryCreationTemplate>(),
    row::<DescribeRepositoryCreationTemplates>(),
    row::<UpdateRepositoryCreationTemplate>(),
    row::<DeleteRepositoryCreationTemplate>(),
    row::<CreateRepository>(),
    row::<DescribeRepositories>(),
    row::<DeleteRepository>(),
    row::<PutImageTagMutability>(),
    row::<PutImageScanningConfiguration>(),
    row::<ListImages>(),
    row::<DescribeImages>(),
    row::<BatchGetImage>(),
    row::<BatchDeleteImage>(),
    row::<GetAuthorizationToken>(),
    row::<TagResource>(),
    row::<UntagResource>(),
    row::<ListTagsForResource>(),
    row::<GetAccountSetting>(),
    row::<PutAccountSetting>(),
    row::<GetCallerIdentity>(),
    row::<secretsmanager::CreateSecret>(),
    row::<secretsmanager::PutSecretValue>(),
    row::<secretsmanager::UpdateSecret>(),
    row::<secretsmanager::GetSecretValue>(),
    row::<secretsmanager::DescribeSecret>(),
    row::<secretsmanager::ListSecrets>(),
    row::<secretsmanager::DeleteSecret>(),
    row::<secretsmanager::RestoreSecret>(),
    row::<secretsmanager::ListSecretVersionIds>(),
    row::<secretsmanager::UpdateSecretVersionStage>(),
    row::<secretsmanager::TagResource>(),
    row::<secretsmanager::UntagResource>(),
    row::<secretsmanager::GetResourcePolicy>(),
    row::<GetStatus>(),
    row::<RefreshImage>(),
    row::<CheckImageReference>(),
    row::<ExplainImage>(),
    row::<CreateCacheRule>(),
    row::<PutCacheRuleOptions>(),
    row::<DescribeCacheRuleOptions>(),
    row::<CreateRobot>(),
    row::<ListRobots>(),
    row::<DeleteRobot>(),
    row::<CreateAccessKey>(),
    row::<ListAccessKeys>(),
    row::<UpdateAccessKey>(),
    row::<DeleteAccessKey>(),
];

impl Row {
    pub(super) fn find(service: Service, name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|row| row.service == service && row.name == name)
    }
}

const fn row<O: Handle>() -> Row {
    Row {
        service: O::SERVICE,
        name: O::NAME,
        action: O::ACTION,
        run: |door, arrival, caller, payload| Box::pin(run::<O>(door, arrival, caller, payload)),
    }
}

/// Constraints, permission, then the code: the order of `ecr-api.md` §4.
async fn run<O: Handle>(
    door: &Door,
    arrival: &Arrival,
    caller: &Caller,
    payload: Payload,
) -> Result<Vec<u8>, AwsError> {
    let malformed = |text: String| match O::SERVICE {
        // The text shows what has the wrong type, and that may be a value.
        Service::SecretsManager => AwsError::new(ErrorCode::SERIALIZATION, "a member of the body has the wrong type"),
        _ => AwsError::new(ErrorCode::SERIALIZATION, text),
    };
    let (input, is_form) = match payload {
        Payload::Json(body) => (json::decode::<O::Input>(&body).map_err(|e| malformed(e.to_string()))?, false),
        Payload::Query(form) => (form.decode::<O::Input>().map_err(|e| malformed(e.to_string()))?, true),
    };
    O::check(&input)?;
    let resource = O::resource(&input)?;
    let permit = door.services.access.allow(caller, O::ACTION, &resource).await.map_err(|error| {
        AwsError::from_denied(error, caller, &resource, &door.account_id(), &door.services.cluster.home_region())
    })?;
    let call = Call { door, arrival, permit };
    let output = O::handle(call, input).await.map_err(|failure| match failure {
        Failure::Service(error) if O::SERVICE == Service::SecretsManager => secrets::error(&error, &door.account_id()),
        Failure::Service(error) => AwsError::from_service(&error, &door.account_id()),
        Failure::Aws(error) => error,
    })?;
    Ok(if is_form {
        query::reply::<O>(&output, &arrival.request.to_string()).into_bytes()
    } else {
        json::encode(&output)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What issue "One node does the main job" promises under "AWS slice".
    const PROMISED: [(Service, &str); 24] = [
        (Service::Ecr, "CreatePullThroughCacheRule"),
        (Service::Ecr, "DescribePullThroughCacheRules"),
        (Service::Ecr, "UpdatePullThroughCacheRule"),
        (Service::Ecr, "DeletePullThroughCacheRule"),
        (Service::Ecr, "ValidatePullThroughCacheRule"),
        (Service::Ecr, "CreateRepositoryCreationTemplate"),
        (Service::Ecr, "DescribeRepositoryCreationTemplates"),
        (Service::Ecr, "UpdateRepositoryCreationTemplate"),
        (Service::Ecr, "DeleteRepositoryCreationTemplate"),
        (Service::Ecr, "CreateRepository"),
        (Service::Ecr, "DescribeRepositories"),
        (Service::Ecr, "DeleteRepository"),
        (Service::Ecr, "ListImages"),
        (Service::Ecr, "DescribeImages"),
        (Service::Ecr, "BatchGetImage"),
        (Service::Ecr, "BatchDeleteImage"),
        (Service::Ecr, "GetAuthorizationToken"),
        (Service::Ecr, "PutImageTagMutability"),
        (Service::Ecr, "TagResource"),
        (Service::Ecr, "UntagResource"),
        (Service::Ecr, "ListTagsForResource"),
        (Service::Ecr, "GetAccountSetting"),
        (Service::Ecr, "PutAccountSetting"),
        (Service::Sts, "GetCallerIdentity"),
    ];

    #[test]
    fn every_promised_operation_has_its_row() {
        for (service, name) in PROMISED {
            assert!(Row::find(service, name).is_some(), "{name}");
        }
        assert!(Row::find(Service::Sts, "ListImages").is_none());
    }

    #[test]
    fn every_row_has_an_action_of_its_own_named_after_it() {
        let mut actions = BTreeSet::new();
        for row in TABLE {
            assert_eq!(row.action.0, format!("{}:{}", row.service.signing_name(), row.name));
            assert!(actions.insert(row.action.0), "{}", row.name);
        }
    }
}
