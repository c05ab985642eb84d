//! Pull through cache rules, with what AWS has no member for.

use serde::{Deserialize, Serialize};

use crate::{
    Operation,
    ecr::{CreatePullThroughCacheRule, CreatePullThroughCacheRuleInput, CreatePullThroughCacheRuleOutput},
    operation::operation,
    validate::{self, Checked},
};

operation!(
    /// Sets what AWS has no member for on a pull through cache rule. Members that are absent stay as they are.
    Flotilla::PutCacheRuleOptions(PutCacheRuleOptionsInput) -> PutCacheRuleOptionsOutput, check = check_options
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutCacheRuleOptionsInput {
    pub ecr_repository_prefix: String,
    #[serde(flatten)]
    pub options: OptionsToSet,
}

/// What is absent stays as it is; of a new rule, as it is by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OptionsToSet {
    /// Age at which a tag is validated against the upstream again, in seconds; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revalidate_after_seconds: Option<u64>,
    /// Stands in for its upstream host: `?ns=`, and the mirror's listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<bool>,
    /// Anonymous callers may use it although it has a credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_allowed: Option<bool>,
    /// Globs over whole names at the upstream; `*` is any text. An empty list admits all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// The same for names that are never fetched; it wins over `allow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<String>>,
}

/// A rule's options, with what a mirror's client has to know of the rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheRuleOptions {
    pub ecr_repository_prefix: String,
    /// The canonical host: `registry-1.docker.io` for Docker Hub.
    pub upstream_host: String,
    /// What stands before every name at the upstream, wherever it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_prefix: Option<String>,
    pub mirror: bool,
    pub anonymous_allowed: bool,
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// Absent: the node's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revalidate_after_seconds: Option<u64>,
}

/// As they are now.
pub type PutCacheRuleOptionsOutput = CacheRuleOptions;

operation!(
    /// As AWS's `CreatePullThroughCacheRule`, with options that hold from the first moment on.
    Flotilla::CreateCacheRule(CreateCacheRuleInput) -> CreatePullThroughCacheRuleOutput, check = check_create
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateCacheRuleInput {
    #[serde(flatten)]
    pub rule: CreatePullThroughCacheRuleInput,
    #[serde(flatten)]
    pub options: OptionsToSet,
}

operation!(
    /// Shows what AWS has no member for on pull through cache rules.
    Flotilla::DescribeCacheRuleOptions(DescribeCacheRuleOptionsInput) -> DescribeCacheRuleOptionsOutput,
    check = check_describe_options
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeCacheRuleOptionsInput {
    /// All rules when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecr_repository_prefixes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeCacheRuleOptionsOutput {
    pub cache_rule_options: Vec<CacheRuleOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Of each list; every pull of the rule may look at all of them.
const MAX_GLOBS: usize = 100;
/// A repository's name is not longer.
const MAX_GLOB_LEN: usize = 256;

fn check_options(input: &PutCacheRuleOptionsInput) -> Checked {
    validate::required("ecrRepositoryPrefix", &input.ecr_repository_prefix)?;
    if input.options == OptionsToSet::default() {
        return Err(validate::InvalidParameter::new("ecrRepositoryPrefix", "must come with an option to set"));
    }
    check_set(&input.options)
}

fn check_create(input: &CreateCacheRuleInput) -> Checked {
    CreatePullThroughCacheRule::check(&input.rule)?;
    check_set(&input.options)
}

fn check_set(options: &OptionsToSet) -> Checked {
    match options.revalidate_after_seconds {
        // A year and more is as good as never, and never is what digests are for.
        None | Some(1..=31_536_000) => {}
        _ => return Err(validate::InvalidParameter::new("revalidateAfterSeconds", "must be between 1 and 31536000")),
    }
    globs("allow", options.allow.as_deref())?;
    globs("deny", options.deny.as_deref())
}

fn globs(member: &str, globs: Option<&[String]>) -> Checked {
    let globs = globs.unwrap_or_default();
    validate::count(member, globs, 0, MAX_GLOBS)?;
    for (index, glob) in globs.iter().enumerate() {
        let member = format!("{member}.{}.member", index + 1);
        validate::length(&member, glob, 1, MAX_GLOB_LEN)?;
        // What no name has: such a glob is a mistake, and one in `deny` a dangerous one.
        if !glob.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-/*".contains(&c)) {
            return Err(validate::InvalidParameter::new(
                member,
                "must consist of characters of a repository name and *",
            ));
        }
    }
    Ok(())
}

fn check_describe_options(input: &DescribeCacheRuleOptionsInput) -> Checked {
    if let Some(prefixes) = &input.ecr_repository_prefixes {
        validate::count("ecrRepositoryPrefixes", prefixes, 1, 100)?;
    }
    validate::max_results(input.max_results, 1000)
}
