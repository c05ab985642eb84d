use flotilla_aws::{
    ecr::{
        CreatePullThroughCacheRule, CreatePullThroughCacheRuleInput, CreatePullThroughCacheRuleOutput,
        DeletePullThroughCacheRule, DeletePullThroughCacheRuleInput, DeletePullThroughCacheRuleOutput,
        DescribePullThroughCacheRules, DescribePullThroughCacheRulesInput, DescribePullThroughCacheRulesOutput,
        PullThroughCacheRule, UpdatePullThroughCacheRule, UpdatePullThroughCacheRuleInput,
        UpdatePullThroughCacheRuleOutput, ValidatePullThroughCacheRule, ValidatePullThroughCacheRuleInput,
        ValidatePullThroughCacheRuleOutput,
    },
    validate::InvalidParameter,
};
use flotilla_registry::{
    access::{Action, Resource},
    cache_rule::CacheRule,
};
use flotilla_service::{CacheRuleOptionsUpdate, NewCacheRule};

use super::{
    Call, Failure, Handle,
    page::Page,
    shapes::{prefix, prefixes},
};

const PREFIX: &str = "ecrRepositoryPrefix";

/// Rules belong to the registry; a policy about a repository says nothing about them.
fn registry<T>(_: &T) -> Result<Resource, InvalidParameter> {
    Ok(Resource::Registry)
}

impl Handle for CreatePullThroughCacheRule {
    const ACTION: Action = Action("ecr:CreatePullThroughCacheRule");

    fn resource(input: &CreatePullThroughCacheRuleInput) -> Result<Resource, InvalidParameter> {
        registry(input)
    }

    async fn handle(
        call: Call<'_>,
        input: CreatePullThroughCacheRuleInput,
    ) -> Result<CreatePullThroughCacheRuleOutput, Failure> {
        create(call, input, CacheRuleOptionsUpdate::default()).await
    }
}

pub(super) async fn create(
    call: Call<'_>,
    input: CreatePullThroughCacheRuleInput,
    options: CacheRuleOptionsUpdate,
) -> Result<CreatePullThroughCacheRuleOutput, Failure> {
    let registry_id = call.registry(input.registry_id.as_deref())?;
    let new = NewCacheRule {
        prefix: prefix(PREFIX, &input.ecr_repository_prefix)?,
        upstream_url: input.upstream_registry_url,
        upstream_registry: input.upstream_registry,
        upstream_prefix: input.upstream_repository_prefix,
        credential_arn: input.credential_arn,
        custom_role_arn: input.custom_role_arn,
        is_default: false,
        options,
    };
    let rule = call.services().rules.create(call.permit, new).await?;
    Ok(CreatePullThroughCacheRuleOutput {
        ecr_repository_prefix: input.ecr_repository_prefix,
        upstream_registry_url: rule.upstream_url,
        created_at: rule.created_at.seconds(),
        registry_id,
        upstream_registry: rule.upstream_registry,
        credential_arn: rule.credential_arn,
        custom_role_arn: rule.custom_role_arn,
        upstream_repository_prefix: rule.upstream_prefix_sent,
    })
}

impl Handle for DescribePullThroughCacheRules {
    const ACTION: Action = Action("ecr:DescribePullThroughCacheRules");

    fn resource(input: &DescribePullThroughCacheRulesInput) -> Result<Resource, InvalidParameter> {
        registry(input)
    }

    async fn handle(
        call: Call<'_>,
        input: DescribePullThroughCacheRulesInput,
    ) -> Result<DescribePullThroughCacheRulesOutput, Failure> {
        let registry_id = call.registry(input.registry_id.as_deref())?;
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let named = prefixes("ecrRepositoryPrefixes", input.ecr_repository_prefixes.as_deref())?;
        let rules = &call.services().rules;
        let found = rules.describe(call.permit, named.as_deref(), page.after.as_deref(), page.fetch());
        let mut rules = found.await?;
        let next_token =
            if named.is_some() { None } else { page.cut::<Self, _>(call, &mut rules, |rule| rule.prefix.to_string())? };
        let shape = |rule| described(rule, &registry_id);
        Ok(DescribePullThroughCacheRulesOutput {
            pull_through_cache_rules: rules.into_iter().map(shape).collect(),
            next_token,
        })
    }
}

impl Handle for UpdatePullThroughCacheRule {
    const ACTION: Action = Action("ecr:UpdatePullThroughCacheRule");

    fn resource(input: &UpdatePullThroughCacheRuleInput) -> Result<Resource, InvalidParameter> {
        registry(input)
    }

    /// With neither field given nothing changes, and the call succeeds (`requirements.md` A, "Terraform").
    async fn handle(
        call: Call<'_>,
        input: UpdatePullThroughCacheRuleInput,
    ) -> Result<UpdatePullThroughCacheRuleOutput, Failure> {
        let registry_id = call.registry(input.registry_id.as_deref())?;
        let prefix = prefix(PREFIX, &input.ecr_repository_prefix)?;
        let (credential_arn, custom_role_arn) = (input.credential_arn, input.custom_role_arn);
        let rules = &call.services().rules;
        let rule = rules.update(call.permit, &prefix, credential_arn, custom_role_arn).await?;
        Ok(UpdatePullThroughCacheRuleOutput {
            ecr_repository_prefix: input.ecr_repository_prefix,
            registry_id,
            updated_at: rule.updated_at.seconds(),
            credential_arn: rule.credential_arn,
            custom_role_arn: rule.custom_role_arn,
            upstream_repository_prefix: rule.upstream_prefix_sent,
        })
    }
}

impl Handle for DeletePullThroughCacheRule {
    const ACTION: Action = Action("ecr:DeletePullThroughCacheRule");

    fn resource(input: &DeletePullThroughCacheRuleInput) -> Result<Resource, InvalidParameter> {
        registry(input)
    }

    async fn handle(
        call: Call<'_>,
        input: DeletePullThroughCacheRuleInput,
    ) -> Result<DeletePullThroughCacheRuleOutput, Failure> {
        let registry_id = call.registry(input.registry_id.as_deref())?;
        let prefix = prefix(PREFIX, &input.ecr_repository_prefix)?;
        let rule = call.services().rules.delete(call.permit, &prefix).await?;
        Ok(DeletePullThroughCacheRuleOutput {
            ecr_repository_prefix: input.ecr_repository_prefix,
            upstream_registry_url: rule.upstream_url,
            created_at: rule.created_at.seconds(),
            registry_id,
            credential_arn: rule.credential_arn,
            custom_role_arn: rule.custom_role_arn,
            upstream_repository_prefix: rule.upstream_prefix_sent,
        })
    }
}

impl Handle for ValidatePullThroughCacheRule {
    const ACTION: Action = Action("ecr:ValidatePullThroughCacheRule");

    fn resource(input: &ValidatePullThroughCacheRuleInput) -> Result<Resource, InvalidParameter> {
        registry(input)
    }

    async fn handle(
        call: Call<'_>,
        input: ValidatePullThroughCacheRuleInput,
    ) -> Result<ValidatePullThroughCacheRuleOutput, Failure> {
        let registry_id = call.registry(input.registry_id.as_deref())?;
        let prefix = prefix(PREFIX, &input.ecr_repository_prefix)?;
        let (rule, outcome) = call.services().rules.validate(call.permit, &prefix).await?;
        Ok(ValidatePullThroughCacheRuleOutput {
            ecr_repository_prefix: input.ecr_repository_prefix,
            registry_id,
            upstream_registry_url: rule.upstream_url,
            credential_arn: rule.credential_arn,
            custom_role_arn: rule.custom_role_arn,
            upstream_repository_prefix: rule.upstream_prefix_sent,
            is_valid: outcome.is_ok(),
            failure: outcome.err(),
        })
    }
}

fn described(rule: CacheRule, registry_id: &str) -> PullThroughCacheRule {
    PullThroughCacheRule {
        ecr_repository_prefix: rule.prefix.to_string(),
        upstream_registry_url: rule.upstream_url,
        created_at: rule.created_at.seconds(),
        updated_at: Some(rule.updated_at.seconds()),
        registry_id: registry_id.to_owned(),
        upstream_registry: rule.upstream_registry,
        credential_arn: rule.credential_arn,
        custom_role_arn: rule.custom_role_arn,
        upstream_repository_prefix: rule.upstream_prefix_sent,
    }
}
