//! What AWS has no member for on a cache rule.

use std::time::Duration;

use flotilla_aws::{
    ecr::CreatePullThroughCacheRuleOutput,
    flotilla::{
        CacheRuleOptions, CreateCacheRule, CreateCacheRuleInput, DescribeCacheRuleOptions,
        DescribeCacheRuleOptionsInput, DescribeCacheRuleOptionsOutput, OptionsToSet, PutCacheRuleOptions,
        PutCacheRuleOptionsInput, PutCacheRuleOptionsOutput,
    },
    validate::InvalidParameter,
};
use flotilla_registry::{
    Glob,
    access::{Action, Resource},
    cache_rule,
};
use flotilla_service::CacheRuleOptionsUpdate;

use super::{
    Call, Failure, Handle, cache_rules,
    page::Page,
    shapes::{prefix, prefixes},
};

impl Handle for PutCacheRuleOptions {
    const ACTION: Action = Action("flotilla:PutCacheRuleOptions");

    fn resource(_: &PutCacheRuleOptionsInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(call: Call<'_>, input: PutCacheRuleOptionsInput) -> Result<PutCacheRuleOptionsOutput, Failure> {
        let prefix = prefix("ecrRepositoryPrefix", &input.ecr_repository_prefix)?;
        let rules = &call.services().rules;
        let (rule, options) = rules.update_options(call.permit, &prefix, update(input.options)).await?;
        Ok(shown(rule, options))
    }
}

impl Handle for CreateCacheRule {
    const ACTION: Action = Action("flotilla:CreateCacheRule");

    fn resource(_: &CreateCacheRuleInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(call: Call<'_>, input: CreateCacheRuleInput) -> Result<CreatePullThroughCacheRuleOutput, Failure> {
        cache_rules::create(call, input.rule, update(input.options)).await
    }
}

fn update(options: OptionsToSet) -> CacheRuleOptionsUpdate {
    let globs = |globs: Vec<String>| globs.into_iter().map(Glob).collect();
    CacheRuleOptionsUpdate {
        mirror: options.mirror,
        anonymous_allowed: options.anonymous_allowed,
        allow: options.allow.map(globs),
        deny: options.deny.map(globs),
        revalidate_after: options.revalidate_after_seconds.map(Duration::from_secs),
    }
}

impl Handle for DescribeCacheRuleOptions {
    const ACTION: Action = Action("flotilla:DescribeCacheRuleOptions");

    fn resource(_: &DescribeCacheRuleOptionsInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(
        call: Call<'_>,
        input: DescribeCacheRuleOptionsInput,
    ) -> Result<DescribeCacheRuleOptionsOutput, Failure> {
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let named = prefixes("ecrRepositoryPrefixes", input.ecr_repository_prefixes.as_deref())?;
        let rules = &call.services().rules;
        let found = rules.describe(call.permit, named.as_deref(), page.after.as_deref(), page.fetch());
        let mut found = found.await?;
        let next_token =
            if named.is_some() { None } else { page.cut::<Self, _>(call, &mut found, |rule| rule.prefix.to_string())? };
        let with_options = rules.with_options(call.permit, found);
        let cache_rule_options = with_options.into_iter().map(|(rule, options)| shown(rule, options)).collect();
        Ok(DescribeCacheRuleOptionsOutput { cache_rule_options, next_token })
    }
}

fn shown(rule: cache_rule::CacheRule, options: cache_rule::CacheRuleOptions) -> CacheRuleOptions {
    let globs = |globs: Vec<Glob>| globs.into_iter().map(|glob| glob.0).collect();
    CacheRuleOptions {
        ecr_repository_prefix: rule.prefix.to_string(),
        upstream_host: rule.upstream_host,
        upstream_prefix: rule.upstream_prefix.map(|prefix| prefix.to_string()),
        mirror: options.mirror,
        anonymous_allowed: options.anonymous_allowed,
        allow: globs(options.allow),
        deny: globs(options.deny),
        revalidate_after_seconds: rule.revalidate_after.map(|after| after.as_secs()),
    }
}
