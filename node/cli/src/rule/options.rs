//! What AWS has no member for on a rule.

use clap::Args;
use flotilla_aws::{
    ecr::{DescribePullThroughCacheRulesOutput, PullThroughCacheRule},
    flotilla::{CacheRuleOptions, DescribeCacheRuleOptions, DescribeCacheRuleOptionsInput, OptionsToSet},
};
use flotilla_base::Timestamp;
use serde::Serialize;

use super::secret_name;
use crate::{
    error::CliError,
    output::{age, facts, yes},
    run::{Session, paged},
};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of the rule")]
pub struct RuleOptions {
    /// Stand in for the upstream host: plain image names of that registry lead through this rule
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub mirror: Option<bool>,
    /// Serve callers without credentials although the rule has one
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub anonymous: Option<bool>,
    /// Fetch only names at the upstream that match; `*` is any text. May be repeated
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Fetch every name that is not denied
    #[arg(long, conflicts_with = "allow")]
    pub no_allow: bool,
    /// Never fetch names at the upstream that match, whatever is allowed. May be repeated
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub deny: Vec<String>,
    /// Deny nothing
    #[arg(long, conflicts_with = "deny")]
    pub no_deny: bool,
}

paged!(DescribeCacheRuleOptions, cache_rule_options);

impl RuleOptions {
    /// `None` when nothing shall change.
    pub(super) fn to_set(&self, revalidate_after: Option<u64>) -> Option<OptionsToSet> {
        let globs = |given: &[String], none: bool| (none || !given.is_empty()).then(|| given.to_vec());
        let options = OptionsToSet {
            revalidate_after_seconds: revalidate_after,
            mirror: self.mirror,
            anonymous_allowed: self.anonymous,
            allow: globs(&self.allow, self.no_allow),
            deny: globs(&self.deny, self.no_deny),
        };
        (options != OptionsToSet::default()).then_some(options)
    }
}

/// Those of one rule, or of all.
pub(crate) async fn describe(session: &Session, prefix: Option<String>) -> Result<Vec<CacheRuleOptions>, CliError> {
    let input = DescribeCacheRuleOptionsInput {
        ecr_repository_prefixes: prefix.map(|prefix| vec![prefix]),
        ..Default::default()
    };
    Ok(session.call_all::<DescribeCacheRuleOptions>(input).await?.cache_rule_options)
}

/// All rules with what the API says of them in two answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rules {
    #[serde(flatten)]
    pub(super) rules: DescribePullThroughCacheRulesOutput,
    #[serde(rename = "cacheRuleOptions")]
    pub(super) options: Vec<CacheRuleOptions>,
}

impl Rules {
    /// The options of a rule in one cell.
    pub(super) fn words(&self, prefix: &str) -> String {
        let Some(options) = self.options.iter().find(|options| options.ecr_repository_prefix == prefix) else {
            return "-".to_owned();
        };
        let filtered = !options.allow.is_empty() || !options.deny.is_empty();
        let words = [(options.mirror, "mirror"), (options.anonymous_allowed, "anonymous"), (filtered, "filter")];
        let words: Vec<&str> = words.into_iter().filter_map(|(set, word)| set.then_some(word)).collect();
        if words.is_empty() { "-".to_owned() } else { words.join(",") }
    }
}

/// One rule.
#[derive(Serialize)]
pub(super) struct RuleView {
    pub(super) rule: PullThroughCacheRule,
    pub(super) options: CacheRuleOptions,
}

impl RuleView {
    pub(super) fn text(&self, now: Timestamp) -> String {
        let rule = &self.rule;
        let upstream = facts([
            ("prefix", Some(rule.ecr_repository_prefix.clone())),
            ("upstream", Some(rule.upstream_registry_url.clone())),
            ("upstream prefix", rule.upstream_repository_prefix.clone()),
            ("credential", secret_name(rule.credential_arn.as_deref()).map(str::to_owned)),
            ("age", Some(age(rule.created_at, now))),
        ]);
        upstream + &text(&self.options)
    }
}

pub(super) fn text(options: &CacheRuleOptions) -> String {
    let globs = |globs: &[String], none: &str| if globs.is_empty() { none.to_owned() } else { globs.join(" ") };
    facts([
        ("mirror", Some(yes(options.mirror))),
        (
            "anonymous",
            Some(if options.anonymous_allowed { "also with a credential" } else { "not with a credential" }.into()),
        ),
        ("allow", Some(globs(&options.allow, "everything"))),
        ("deny", Some(globs(&options.deny, "nothing"))),
        ("revalidates", options.revalidate_after_seconds.map(|after| format!("after {after} s"))),
    ])
}

#[cfg(test)]
mod tests {
    use crate::{
        fake_node::FakeNode,
        run::tests::{calls, execute_line},
    };

    const SET: &str =
        r#"{"ecrRepositoryPrefix": "quay", "mirror": true, "deny": ["a/*", "b"], "revalidateAfterSeconds": 60}"#;

    #[tokio::test]
    async fn only_what_is_given_is_set() {
        let node = FakeNode::start(&[(200, SET), (200, SET), (200, SET)]).await;
        let report = execute_line(&node, &["rule", "set", "quay", "--mirror", "--deny", "a/*,b"]).await.unwrap();
        assert_eq!(
            report.text,
            "mirror       yes\nanonymous    not with a credential\nallow        everything\ndeny         a/* b\n\
             revalidates  after 60 s\n"
        );
        execute_line(&node, &["rule", "set", "quay", "--mirror=false", "--no-allow"]).await.unwrap();
        execute_line(&node, &["rule", "set", "quay", "--revalidate-after", "60"]).await.unwrap();
        let bodies: Vec<String> = calls(&node).into_iter().map(|(_, body)| body).collect();
        assert_eq!(
            bodies,
            [
                r#"{"ecrRepositoryPrefix":"quay","mirror":true,"deny":["a/*","b"]}"#,
                r#"{"ecrRepositoryPrefix":"quay","mirror":false,"allow":[]}"#,
                r#"{"ecrRepositoryPrefix":"quay","revalidateAfterSeconds":60}"#,
            ]
        );
        let error = execute_line(&node, &["rule", "set", "quay"]).await.unwrap_err();
        assert_eq!(error.code(), 2);
    }

    #[tokio::test]
    async fn a_rule_is_not_added_when_its_filters_are_wrong() {
        let node = FakeNode::start(&[]).await;
        let error = execute_line(&node, &["rule", "add", "quay", "--deny", "UPPER/*"]).await.unwrap_err();
        assert_eq!((error.code(), node.calls().len()), (2, 0), "{error}");
    }

    #[tokio::test]
    async fn a_rule_is_never_added_without_its_options() {
        let rule = r#"{"ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io", "createdAt": 1.5}"#;
        let node = FakeNode::start(&[(200, rule)]).await;
        execute_line(&node, &["rule", "add", "quay", "--mirror", "--anonymous", "--allow", "org/*"]).await.unwrap();
        let body = r#"{"ecrRepositoryPrefix":"quay","upstreamRegistryUrl":"quay.io","mirror":true,"anonymousAllowed":true,"allow":["org/*"]}"#;
        assert_eq!(calls(&node), [("CreateCacheRule".to_owned(), body.to_owned())]);
    }
}
