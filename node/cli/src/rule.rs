mod options;

use clap::Subcommand;
use flotilla_aws::{
    ecr::{
        CreatePullThroughCacheRule, CreatePullThroughCacheRuleInput, DeletePullThroughCacheRule,
        DeletePullThroughCacheRuleInput, DescribePullThroughCacheRules, DescribePullThroughCacheRulesInput,
        UpdatePullThroughCacheRule, UpdatePullThroughCacheRuleInput, ValidatePullThroughCacheRule,
        ValidatePullThroughCacheRuleInput,
    },
    flotilla::{
        CheckImageReference, CheckImageReferenceInput, CheckImageReferenceOutput, CreateCacheRule,
        CreateCacheRuleInput, PutCacheRuleOptions, PutCacheRuleOptionsInput, RefreshImage, RefreshImageInput,
        RefreshImageOutput, RefreshOutcome,
    },
};
use flotilla_base::Timestamp;

pub use self::options::RuleOptions;
pub(crate) use self::options::describe;
use self::options::{RuleView, Rules};
use crate::{
    error::CliError,
    output::{age, facts, plain, short_digest, table, yes},
    run::{Report, Session, paged},
    secret,
};

/// Prefixes whose upstream everybody means the same by.
const WELL_KNOWN: &[(&str, &str)] = &[
    ("chainguard", "cgr.dev"),
    ("docker-hub", "registry-1.docker.io"),
    ("ecr-public", "public.ecr.aws"),
    ("gcr", "gcr.io"),
    ("ghcr", "ghcr.io"),
    ("gitlab", "registry.gitlab.com"),
    ("k8s", "registry.k8s.io"),
    ("lscr", "lscr.io"),
    ("mcr", "mcr.microsoft.com"),
    ("nvcr", "nvcr.io"),
    ("quay", "quay.io"),
    ("redhat", "registry.access.redhat.com"),
];

#[derive(Subcommand, Clone, Debug)]
pub enum RuleCommand {
    /// Fetch names below a prefix from an upstream registry
    #[command(after_long_help = "Examples:\n  \
        flotilla rule add docker-hub                      # a well-known prefix needs no upstream\n  \
        flotilla rule add hub registry-1.docker.io\n  \
        flotilla rule add team quay.io --upstream-prefix our-team\n  \
        flotilla rule add quay --mirror --deny 'secret-org/*'\n  \
        flotilla rule add private ghcr.io --secret ghcr   # after `flotilla secret put ghcr`\n  \
        flotilla rule add ROOT registry-1.docker.io       # every name no other rule covers\n\n\
        Well-known prefixes: chainguard, docker-hub, ecr-public, gcr, ghcr, gitlab, k8s, lscr, mcr, nvcr, quay, redhat.")]
    Add {
        /// First part of the names the rule covers, or ROOT
        prefix: String,
        /// Host of the upstream registry; may be left out for a well-known prefix
        upstream: Option<String>,
        /// What stands before the name upstream, in place of the prefix
        #[arg(long, value_name = "PREFIX")]
        upstream_prefix: Option<String>,
        /// Credential to sign in upstream with, kept with `flotilla secret put`
        #[arg(long, value_name = "NAME", conflicts_with = "credential_arn")]
        secret: Option<String>,
        /// The same, by its ARN
        #[arg(long, value_name = "ARN")]
        credential_arn: Option<String>,
        #[command(flatten)]
        options: RuleOptions,
    },
    /// List the rules
    List,
    /// Show one rule with its options
    Show {
        /// Prefix of the rule, as `flotilla rule list` shows it
        prefix: String,
    },
    /// Show which rule, upstream name and template a pull of NAME would use
    #[command(after_long_help = "Examples:\n  \
        flotilla rule check docker-hub/library/nginx:latest\n  \
        flotilla rule check nginx --ns docker.io            # as a mirror's client asks for docker.io/nginx")]
    Check {
        /// Name as a client pulls it; host, tag and digest may be part of it
        name: String,
        /// The registry that a mirror's client means, as containerd sends it
        #[arg(long, value_name = "HOST")]
        ns: Option<String>,
    },
    /// Remove a rule; what was cached through it stays and keeps serving
    Remove {
        /// Prefix of the rule, as `flotilla rule list` shows it
        prefix: String,
    },
    /// Ask the upstream now whether held tags moved, whatever their age
    #[command(after_long_help = "Examples:\n  \
        flotilla rule refresh docker-hub/library/nginx:latest\n  \
        flotilla rule refresh docker-hub/library/nginx          # all tags that are held")]
    Refresh {
        /// Repository, or repository and tag
        #[arg(value_name = "REPOSITORY[:TAG]")]
        reference: String,
    },
    /// Change how a rule works
    #[command(after_long_help = "Examples:\n  \
        flotilla rule set docker-hub --revalidate-after 3600\n  \
        flotilla rule set docker-hub --mirror=false\n  \
        flotilla rule set quay --allow 'our-org/*' --allow 'prometheus/*'\n  \
        flotilla rule set quay --no-allow                   # everything again")]
    Set {
        /// Prefix of the rule, as `flotilla rule list` shows it
        prefix: String,
        #[command(flatten)]
        options: RuleOptions,
        /// Age at which a held tag is checked against the upstream again
        #[arg(long, value_name = "SECONDS")]
        revalidate_after: Option<u64>,
    },
    /// Give a rule a credential, or another one
    #[command(after_long_help = "Example:\n  flotilla rule set-secret docker-hub hub")]
    SetSecret {
        /// Prefix of the rule, as `flotilla rule list` shows it
        prefix: String,
        /// Kept with `flotilla secret put`
        secret: String,
    },
    /// Contact a rule's upstream and sign in there
    Validate {
        /// Prefix of the rule, as `flotilla rule list` shows it
        prefix: String,
    },
}

paged!(DescribePullThroughCacheRules, pull_through_cache_rules);

pub(crate) async fn run(command: RuleCommand, session: &Session) -> Result<Report, CliError> {
    match command {
        RuleCommand::Add { prefix, upstream, upstream_prefix, secret, credential_arn, options } => {
            let credential_arn = match secret {
                Some(name) => Some(secret::arn(&name, session).await?),
                None => credential_arn,
            };
            let is_unfiltered = credential_arn.is_some() && options.allow.is_empty();
            let input = CreatePullThroughCacheRuleInput {
                upstream_registry_url: upstream_of(&prefix, upstream.as_deref())?,
                ecr_repository_prefix: prefix,
                upstream_repository_prefix: upstream_prefix,
                credential_arn,
                ..Default::default()
            };
            let rule = match options.to_set(None) {
                // In one step: without its filters it would fetch what they are to keep away.
                Some(options) => {
                    session.call::<CreateCacheRule>(&CreateCacheRuleInput { rule: input, options }).await?
                }
                None => session.call::<CreatePullThroughCacheRule>(&input).await?,
            };
            let mut report = session.report(&rule, || {
                let prefix = plain(rule.ecr_repository_prefix.trim_end_matches('/'));
                let pull = if prefix == "ROOT" { "NAME".to_owned() } else { format!("{prefix}/NAME") };
                format!(
                    "added {prefix}, cached from {}\ntry: docker pull {}/{pull}\n",
                    plain(&rule.upstream_registry_url),
                    session.client.endpoint().authority(),
                )
            });
            if is_unfiltered {
                report.notes.push(unfiltered(&rule.ecr_repository_prefix, &rule.upstream_registry_url));
            }
            Ok(report)
        }
        RuleCommand::List => {
            let input = DescribePullThroughCacheRulesInput::default();
            let rules = session.call_all::<DescribePullThroughCacheRules>(input).await?;
            let rules = Rules { rules, options: describe(session, None).await? };
            Ok(session.report(&rules, || list(&rules, session.now)))
        }
        RuleCommand::Show { prefix } => {
            let input = DescribePullThroughCacheRulesInput {
                ecr_repository_prefixes: Some(vec![prefix.clone()]),
                ..Default::default()
            };
            let rules = session.call::<DescribePullThroughCacheRules>(&input).await?;
            let view = RuleView {
                rule: rules.pull_through_cache_rules.into_iter().next().unwrap_or_default(),
                options: describe(session, Some(prefix)).await?.into_iter().next().unwrap_or_default(),
            };
            Ok(session.report(&view, || view.text(session.now)))
        }
        RuleCommand::Check { name, ns } => {
            let found = session.call::<CheckImageReference>(&CheckImageReferenceInput { name, ns }).await?;
            Ok(session.report(&found, || explain(&found)))
        }
        RuleCommand::Remove { prefix } => {
            let input = DeletePullThroughCacheRuleInput { ecr_repository_prefix: prefix, registry_id: None };
            let rule = session.call::<DeletePullThroughCacheRule>(&input).await?;
            Ok(session.report(&rule, || {
                format!(
                    "removed {}; its cached images stay (see `flotilla repository list`)\n",
                    plain(&rule.ecr_repository_prefix)
                )
            }))
        }
        RuleCommand::Refresh { reference } => {
            let input = refresh_input(&reference, session.client.endpoint().authority())?;
            let refreshed = session.call::<RefreshImage>(&input).await?;
            let mut report = session.report(&refreshed, || refreshes(&refreshed));
            let failed = |outcome| matches!(outcome, RefreshOutcome::UpstreamFailed);
            if refreshed.refreshed.iter().any(|image| failed(image.outcome)) {
                report.outcome = Err(CliError::Outcome("the upstream could not be asked about every tag".into()));
            }
            Ok(report)
        }
        RuleCommand::Set { prefix, options, revalidate_after } => {
            let Some(options) = options.to_set(revalidate_after) else {
                return Err(CliError::Usage("nothing to set: see `flotilla rule set --help`".into()));
            };
            let input = PutCacheRuleOptionsInput { ecr_repository_prefix: prefix, options };
            let set = session.call::<PutCacheRuleOptions>(&input).await?;
            Ok(session.report(&set, || options::text(&set)))
        }
        RuleCommand::SetSecret { prefix, secret } => {
            let input = UpdatePullThroughCacheRuleInput {
                ecr_repository_prefix: prefix,
                credential_arn: Some(secret::arn(&secret, session).await?),
                ..Default::default()
            };
            let rule = session.call::<UpdatePullThroughCacheRule>(&input).await?;
            Ok(session.report(&rule, || format!("{} has another credential\n", plain(&rule.ecr_repository_prefix))))
        }
        RuleCommand::Validate { prefix } => {
            let input = ValidatePullThroughCacheRuleInput { ecr_repository_prefix: prefix, registry_id: None };
            let verdict = session.call::<ValidatePullThroughCacheRule>(&input).await?;
            let name = plain(&verdict.ecr_repository_prefix);
            let mut report = session.report(&verdict, || {
                let upstream = plain(&verdict.upstream_registry_url);
                if verdict.is_valid { format!("{name} is valid: {upstream} answers\n") } else { String::new() }
            });
            if !verdict.is_valid {
                let failure = plain(verdict.failure.as_deref().unwrap_or("no reason given"));
                report.outcome = Err(CliError::Outcome(format!("{name} is not valid: {failure}")));
            }
            Ok(report)
        }
    }
}

fn unfiltered(prefix: &str, upstream: &str) -> String {
    format!(
        "no filter: every repository of {upstream} that this account may read can be pulled by everybody who may pull \
         below {prefix}; --allow narrows it"
    )
}

/// The API takes hosts; people paste URLs. An `http://` stays: only an operator's explicit entry allows it.
fn upstream_of(prefix: &str, given: Option<&str>) -> Result<String, CliError> {
    if let Some(given) = given {
        return Ok(given.strip_prefix("https://").unwrap_or(given).trim_end_matches('/').to_owned());
    }
    let prefix = prefix.trim_end_matches('/');
    WELL_KNOWN.iter().find(|(known, _)| *known == prefix).map(|(_, host)| (*host).to_owned()).ok_or_else(|| {
        let known: Vec<&str> = WELL_KNOWN.iter().map(|(known, _)| *known).collect();
        CliError::Usage(format!(
            "'{prefix}' is no well-known prefix ({}): say which upstream it is, as in `flotilla rule add {prefix} quay.io`",
            known.join(", ")
        ))
    })
}

/// Takes what `docker pull` takes, as long as it is ours.
fn refresh_input(reference: &str, authority: &str) -> Result<RefreshImageInput, CliError> {
    if reference.contains('@') {
        return Err(CliError::Usage("a digest always names the same bytes: refresh a tag or a repository".into()));
    }
    let name = reference.strip_prefix(authority).and_then(|rest| rest.strip_prefix('/')).unwrap_or(reference);
    let (repository_name, image_tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_owned())),
        _ => (name, None),
    };
    Ok(RefreshImageInput { repository_name: repository_name.to_owned(), image_tag })
}

fn list(rules: &Rules, now: Timestamp) -> String {
    let header = ["PREFIX", "UPSTREAM", "UPSTREAM PREFIX", "CREDENTIAL", "OPTIONS", "AGE"];
    table(
        header,
        rules.rules.pull_through_cache_rules.iter().map(|rule| {
            [
                rule.ecr_repository_prefix.clone(),
                rule.upstream_registry_url.clone(),
                rule.upstream_repository_prefix.clone().unwrap_or_else(|| "-".into()),
                secret_name(rule.credential_arn.as_deref()).unwrap_or("-").to_owned(),
                rules.words(&rule.ecr_repository_prefix),
                age(rule.created_at, now),
            ]
        }),
    )
}

/// The secret's name says more than the ARN around it.
fn secret_name(arn: Option<&str>) -> Option<&str> {
    arn.and_then(|arn| arn.rsplit(':').next())
}

fn explain(found: &CheckImageReferenceOutput) -> String {
    let upstream = match (&found.upstream_host, &found.upstream_name) {
        (Some(host), Some(name)) => Some(format!("{host}/{name}")),
        _ => None,
    };
    let rule =
        found.ecr_repository_prefix.clone().unwrap_or_else(|| "none: the name is not fetched from anywhere".into());
    let mut text = facts([
        ("repository", Some(found.repository_name.clone())),
        ("exists", Some(yes(found.repository_exists))),
        ("rule", Some(rule)),
        ("upstream", upstream),
        ("filtered", found.filtered.then(|| "yes: it is never fetched, only served where it is held".into())),
        ("template", found.template_prefix.clone()),
    ]);
    for note in &found.notes {
        text.push_str(&format!("note: {}\n", plain(note)));
    }
    text
}

fn refreshes(output: &RefreshImageOutput) -> String {
    let header = ["TAG", "OUTCOME", "DIGEST", "BEFORE", "MESSAGE"];
    table(
        header,
        output.refreshed.iter().map(|image| {
            let outcome = match image.outcome {
                RefreshOutcome::Unchanged => "unchanged",
                RefreshOutcome::Moved => "moved",
                RefreshOutcome::Frozen => "frozen",
                RefreshOutcome::MissingUpstream => "missing upstream",
                RefreshOutcome::UpstreamFailed => "upstream failed",
            };
            [
                image.image_tag.clone(),
                outcome.to_owned(),
                short_digest(&image.image_digest),
                image.previous_digest.as_deref().map_or_else(|| "-".into(), short_digest),
                image.message.clone().unwrap_or_default(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_node::FakeNode,
        run::tests::{calls, execute_line},
    };

    #[tokio::test]
    async fn adding_infers_a_well_known_upstream_and_says_what_to_try() {
        let reply =
            r#"{"ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": "registry-1.docker.io", "createdAt": 1.5}"#;
        let node = FakeNode::start(&[(200, reply)]).await;
        let report = execute_line(&node, &["rule", "add", "docker-hub"]).await.unwrap();
        assert_eq!(
            report.text,
            format!(
                "added docker-hub, cached from registry-1.docker.io\ntry: docker pull {}/docker-hub/NAME\n",
                node.endpoint().authority()
            )
        );
        let body = r#"{"ecrRepositoryPrefix":"docker-hub","upstreamRegistryUrl":"registry-1.docker.io"}"#;
        assert_eq!(calls(&node), [("CreatePullThroughCacheRule".to_owned(), body.to_owned())]);
    }

    #[tokio::test]
    async fn a_secret_is_named_and_what_it_opens_is_said() {
        let rule = r#"{"ecrRepositoryPrefix": "private", "upstreamRegistryUrl": "ghcr.io", "credentialArn": "arn:s"}"#;
        let node = FakeNode::start(&[(200, r#"{"ARN": "arn:s", "Name": "ecr-pullthroughcache/g"}"#)]).await;
        let refused = execute_line(&node, &["rule", "add", "private", "ghcr.io", "--secret", "g"]).await.unwrap_err();
        assert!(refused.to_string().contains("credentialArn"), "held against the contract: {refused}");
        let arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/g-AbCd12";
        let secret = format!(r#"{{"ARN": "{arn}", "Name": "ecr-pullthroughcache/g"}}"#);
        let node = FakeNode::start(&[(200, &secret), (200, rule)]).await;
        let report = execute_line(&node, &["rule", "add", "private", "ghcr.io", "--secret", "g"]).await.unwrap();
        assert!(report.notes.iter().any(|note| note.starts_with("no filter: every repository of ghcr.io")));
        let calls = calls(&node);
        assert_eq!(calls[0].1, r#"{"SecretId":"ecr-pullthroughcache/g"}"#);
        assert!(calls[1].1.contains(&format!(r#""credentialArn":"{arn}""#)), "{}", calls[1].1);
    }

    #[test]
    fn upstreams_are_hosts() {
        for (prefix, given, host) in [
            ("quay", None, "quay.io"),
            ("quay/", None, "quay.io"),
            ("x", Some("https://ghcr.io/"), "ghcr.io"),
            ("x", Some("http://localhost:5001"), "http://localhost:5001"),
            ("x", Some("public.ecr.aws/docker/library"), "public.ecr.aws/docker/library"),
        ] {
            assert_eq!(upstream_of(prefix, given).unwrap(), host);
        }
        assert_eq!(upstream_of("mine", None).unwrap_err().code(), 2);
    }

    #[tokio::test]
    async fn rules_are_listed_as_a_table() {
        let reply = r#"{"pullThroughCacheRules": [
            {"ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": "registry-1.docker.io", "createdAt": 9e12},
            {"ecrRepositoryPrefix": "t", "upstreamRegistryUrl": "quay.io", "upstreamRepositoryPrefix": "team", "createdAt": 9e12,
             "credentialArn": "arn:aws:secretsmanager:us-east-1:012345678910:secret:ecr-pullthroughcache/q"}]}"#;
        let options =
            r#"{"cacheRuleOptions": [{"ecrRepositoryPrefix": "docker-hub", "mirror": true, "deny": ["x/*"]}]}"#;
        let node = FakeNode::start(&[(200, reply), (200, options), (200, reply), (200, options)]).await;
        let report = execute_line(&node, &["rule", "list"]).await.unwrap();
        assert_eq!(
            report.text,
            "PREFIX      UPSTREAM              UPSTREAM PREFIX  CREDENTIAL              OPTIONS        AGE\n\
             docker-hub  registry-1.docker.io  -                -                       mirror,filter  0s\n\
             t           quay.io               team             ecr-pullthroughcache/q  -              0s\n"
        );
        let report = execute_line(&node, &["rule", "list", "--json"]).await.unwrap();
        let shown: serde_json::Value = serde_json::from_str(&report.text).unwrap();
        assert_eq!(shown["cacheRuleOptions"][0]["mirror"], true);
        assert_eq!(shown["pullThroughCacheRules"][1]["ecrRepositoryPrefix"], "t");
    }

    #[tokio::test]
    async fn checks_explain_where_a_name_leads() {
        let reply = r#"{"repositoryName": "docker-hub/nginx", "ecrRepositoryPrefix": "docker-hub", "upstreamHost": "registry-1.docker.io",
            "upstreamName": "library/nginx", "repositoryExists": false, "notes": ["docker-hub/library/nginx is another repository"]}"#;
        let node = FakeNode::start(&[(200, reply), (200, r#"{"repositoryName": "own"}"#)]).await;
        let report = execute_line(&node, &["rule", "check", "docker-hub/nginx"]).await.unwrap();
        assert_eq!(
            report.text,
            "repository  docker-hub/nginx\nexists      no\nrule        docker-hub\n\
             upstream    registry-1.docker.io/library/nginx\nnote: docker-hub/library/nginx is another repository\n"
        );
        let report = execute_line(&node, &["rule", "check", "own"]).await.unwrap();
        assert!(report.text.contains("rule        none"), "{}", report.text);
    }

    #[tokio::test]
    async fn a_rule_that_is_not_valid_fails_the_command() {
        let node = FakeNode::start(&[
            (200, r#"{"ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io", "isValid": true}"#),
            (200, r#"{"ecrRepositoryPrefix": "quay", "isValid": false, "failure": "wrong password"}"#),
        ])
        .await;
        let report = execute_line(&node, &["rule", "validate", "quay"]).await.unwrap();
        assert_eq!((report.text.as_str(), report.outcome.is_ok()), ("quay is valid: quay.io answers\n", true));
        let report = execute_line(&node, &["rule", "validate", "quay", "--json"]).await.unwrap();
        let error = report.outcome.unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (1, "quay is not valid: wrong password"));
        assert!(report.text.contains(r#""isValid": false"#));
    }

    #[tokio::test]
    async fn refreshes_show_each_tag_and_fail_with_the_upstream() {
        let reply = r#"{"refreshed": [
            {"imageTag": "latest", "imageDigest": "sha256:0123456789abcdef", "previousDigest": "sha256:fedcba9876543210", "outcome": "MOVED"},
            {"imageTag": "v1", "imageDigest": "sha256:00", "outcome": "UPSTREAM_FAILED", "message": "429"}]}"#;
        let node = FakeNode::start(&[(200, reply)]).await;
        let reference = format!("{}/docker-hub/library/nginx:latest", node.endpoint().authority());
        let report = execute_line(&node, &["rule", "refresh", &reference]).await.unwrap();
        assert_eq!(
            report.text,
            "TAG     OUTCOME          DIGEST               BEFORE               MESSAGE\n\
             latest  moved            sha256:0123456789ab  sha256:fedcba987654\n\
             v1      upstream failed  sha256:00            -                    429\n"
        );
        assert_eq!(report.outcome.unwrap_err().code(), 1);
        let body = r#"{"repositoryName":"docker-hub/library/nginx","imageTag":"latest"}"#;
        assert_eq!(calls(&node), [("RefreshImage".to_owned(), body.to_owned())]);
    }

    #[test]
    fn references_are_repositories_with_an_optional_tag() {
        let parsed = |text: &str| {
            refresh_input(text, "h:5000").map(|input| (input.repository_name, input.image_tag.unwrap_or_default()))
        };
        assert_eq!(parsed("a/b").unwrap(), ("a/b".into(), "".into()));
        assert_eq!(parsed("a/b:v1").unwrap(), ("a/b".into(), "v1".into()));
        assert_eq!(parsed("h:5000/a/b").unwrap(), ("a/b".into(), "".into()));
        assert_eq!(parsed("a@sha256:00").unwrap_err().code(), 2);
    }
}
