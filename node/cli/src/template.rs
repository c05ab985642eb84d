use std::{fs, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use flotilla_aws::ecr::{
    CreateRepositoryCreationTemplate, CreateRepositoryCreationTemplateInput, DeleteRepositoryCreationTemplate,
    DeleteRepositoryCreationTemplateInput, DescribeRepositoryCreationTemplates,
    DescribeRepositoryCreationTemplatesInput, EncryptionConfiguration, ImageTagMutabilityExclusionFilter,
    RepositoryCreationTemplate, Tag, UpdateRepositoryCreationTemplate, UpdateRepositoryCreationTemplateInput,
};
use flotilla_base::Timestamp;

use crate::{
    error::CliError,
    output::{age, plain, table},
    run::{Report, Session, paged},
    settings::Environment,
};

#[derive(Subcommand, Clone, Debug)]
pub enum TemplateCommand {
    /// Give the repositories that first pulls create below a prefix their settings
    #[command(after_long_help = "Examples:\n  \
        flotilla template add docker-hub --mutability immutable --exclude-tag 'latest*'\n  \
        flotilla template add ROOT --tag team=platform      # every name no other template covers")]
    Add {
        /// First part of the names the template is for, or ROOT
        prefix: String,
        #[command(flatten)]
        fields: TemplateFields,
    },
    /// List the templates
    List,
    /// Remove a template; repositories made from it stay as they are
    Remove {
        /// Prefix of the template, as `flotilla template list` shows it
        prefix: String,
    },
    /// Change a template; what is not named stays. Existing repositories do not change
    Update {
        /// Prefix of the template, as `flotilla template list` shows it
        prefix: String,
        #[command(flatten)]
        fields: TemplateFields,
    },
}

#[derive(Args, Clone, Debug, Default)]
pub struct TemplateFields {
    /// What creates repositories from it (repeatable) [default of add: pull-through-cache]
    #[arg(long, value_name = "SCENARIO")]
    pub applied_for: Vec<Scenario>,
    /// At most 256 characters; empty clears it
    #[arg(long)]
    pub description: Option<String>,
    /// Whether tags may move
    #[arg(long)]
    pub mutability: Option<Mutability>,
    /// Tags that the mutability does not hold for, `*` as wildcard (repeatable, at most 5)
    #[arg(long, value_name = "PATTERN", requires = "mutability")]
    pub exclude_tag: Vec<String>,
    /// Tag for the repositories (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Vec<String>,
    /// AES256, KMS or KMS_DSSE
    #[arg(long, value_name = "TYPE")]
    pub encryption: Option<String>,
    /// Key for KMS encryption
    #[arg(long, value_name = "ARN", requires = "encryption")]
    pub kms_key: Option<String>,
    /// File with the repository policy (JSON); an empty file clears it
    #[arg(long, value_name = "FILE")]
    pub repository_policy: Option<PathBuf>,
    /// File with the lifecycle policy (JSON); an empty file clears it
    #[arg(long, value_name = "FILE")]
    pub lifecycle_policy: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Scenario {
    PullThroughCache,
    Replication,
    CreateOnPush,
}

impl Scenario {
    fn name(self) -> String {
        match self {
            Self::PullThroughCache => "PULL_THROUGH_CACHE",
            Self::Replication => "REPLICATION",
            Self::CreateOnPush => "CREATE_ON_PUSH",
        }
        .to_owned()
    }
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Mutability {
    Mutable,
    Immutable,
}

paged!(DescribeRepositoryCreationTemplates, repository_creation_templates);

pub(crate) async fn run(
    command: TemplateCommand,
    session: &Session,
    environment: &Environment,
) -> Result<Report, CliError> {
    match command {
        TemplateCommand::Add { prefix, fields } => {
            let fields = Fields::of(fields, environment)?;
            let applied_for = fields.applied_for.or_else(|| Some(vec![Scenario::PullThroughCache.name()]));
            let input = CreateRepositoryCreationTemplateInput {
                prefix,
                description: fields.description,
                encryption_configuration: fields.encryption_configuration,
                resource_tags: fields.resource_tags,
                image_tag_mutability: fields.image_tag_mutability,
                image_tag_mutability_exclusion_filters: fields.exclusion_filters,
                repository_policy: fields.repository_policy,
                lifecycle_policy: fields.lifecycle_policy,
                applied_for,
                custom_role_arn: None,
            };
            let output = session.call::<CreateRepositoryCreationTemplate>(&input).await?;
            Ok(session.report(&output, || said("added", &output.repository_creation_template)))
        }
        TemplateCommand::List => {
            let input = DescribeRepositoryCreationTemplatesInput::default();
            let output = session.call_all::<DescribeRepositoryCreationTemplates>(input).await?;
            Ok(session.report(&output, || list(&output.repository_creation_templates, session.now)))
        }
        TemplateCommand::Remove { prefix } => {
            let input = DeleteRepositoryCreationTemplateInput { prefix };
            let output = session.call::<DeleteRepositoryCreationTemplate>(&input).await?;
            Ok(session.report(&output, || said("removed", &output.repository_creation_template)))
        }
        TemplateCommand::Update { prefix, fields } => {
            let fields = Fields::of(fields, environment)?;
            let input = UpdateRepositoryCreationTemplateInput {
                prefix,
                description: fields.description,
                encryption_configuration: fields.encryption_configuration,
                resource_tags: fields.resource_tags,
                image_tag_mutability: fields.image_tag_mutability,
                image_tag_mutability_exclusion_filters: fields.exclusion_filters,
                repository_policy: fields.repository_policy,
                lifecycle_policy: fields.lifecycle_policy,
                applied_for: fields.applied_for,
                custom_role_arn: None,
            };
            let output = session.call::<UpdateRepositoryCreationTemplate>(&input).await?;
            Ok(session.report(&output, || said("updated", &output.repository_creation_template)))
        }
    }
}

/// The fields in the API's form.
struct Fields {
    applied_for: Option<Vec<String>>,
    description: Option<String>,
    image_tag_mutability: Option<String>,
    exclusion_filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
    resource_tags: Option<Vec<Tag>>,
    encryption_configuration: Option<EncryptionConfiguration>,
    repository_policy: Option<String>,
    lifecycle_policy: Option<String>,
}

impl Fields {
    fn of(fields: TemplateFields, environment: &Environment) -> Result<Self, CliError> {
        let exclusion_filters: Option<Vec<_>> = some(fields.exclude_tag, |filter| {
            Ok(ImageTagMutabilityExclusionFilter { filter_type: "WILDCARD".into(), filter })
        })?;
        let image_tag_mutability = fields.mutability.map(|mutability| {
            match (mutability, exclusion_filters.is_some()) {
                (Mutability::Mutable, false) => "MUTABLE",
                (Mutability::Mutable, true) => "MUTABLE_WITH_EXCLUSION",
                (Mutability::Immutable, false) => "IMMUTABLE",
                (Mutability::Immutable, true) => "IMMUTABLE_WITH_EXCLUSION",
            }
            .to_owned()
        });
        let read = |path: Option<PathBuf>| {
            path.map(|path| {
                fs::read_to_string(environment.path(&path)).map_err(|source| CliError::ReadFile { path, source })
            })
            .transpose()
        };
        Ok(Self {
            applied_for: some(fields.applied_for, |scenario| Ok(scenario.name()))?,
            description: fields.description,
            image_tag_mutability,
            exclusion_filters,
            resource_tags: some(fields.tag, |tag| parse_tag(&tag))?,
            encryption_configuration: fields
                .encryption
                .map(|encryption_type| EncryptionConfiguration { encryption_type, kms_key: fields.kms_key }),
            repository_policy: read(fields.repository_policy)?,
            lifecycle_policy: read(fields.lifecycle_policy)?,
        })
    }
}

/// An option that was not given is absent, not empty.
fn some<T, U>(items: Vec<T>, convert: impl FnMut(T) -> Result<U, CliError>) -> Result<Option<Vec<U>>, CliError> {
    if items.is_empty() { Ok(None) } else { items.into_iter().map(convert).collect::<Result<_, _>>().map(Some) }
}

fn parse_tag(text: &str) -> Result<Tag, CliError> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| CliError::Usage(format!("'{text}' is not a tag: write KEY=VALUE")))?;
    Ok(Tag { key: key.to_owned(), value: value.to_owned() })
}

fn said(what: &str, template: &RepositoryCreationTemplate) -> String {
    format!("{what} {}\n", plain(&template.prefix))
}

fn list(templates: &[RepositoryCreationTemplate], now: Timestamp) -> String {
    table(
        ["PREFIX", "APPLIED FOR", "MUTABILITY", "ENCRYPTION", "POLICIES", "AGE"],
        templates.iter().map(|template| {
            let mut policies = vec![];
            if template.repository_policy.as_deref().is_some_and(|text| !text.is_empty()) {
                policies.push("repository");
            }
            if template.lifecycle_policy.as_deref().is_some_and(|text| !text.is_empty()) {
                policies.push("lifecycle");
            }
            let encryption = template.encryption_configuration.as_ref().map_or("", |e| e.encryption_type.as_str());
            [
                template.prefix.clone(),
                template.applied_for.join(","),
                template.image_tag_mutability.clone(),
                if encryption.is_empty() { "AES256" } else { encryption }.to_owned(),
                if policies.is_empty() { "-".into() } else { policies.join(",") },
                age(template.created_at, now),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use crate::{
        fake_node::FakeNode,
        run::tests::{calls, execute_line},
    };

    const REPLY: &str = r#"{"repositoryCreationTemplate": {"prefix": "docker-hub"}}"#;

    #[tokio::test]
    async fn options_become_the_members_of_a_template() {
        let node = FakeNode::start(&[(200, REPLY), (200, REPLY)]).await;
        let line = "template add docker-hub --mutability immutable --exclude-tag latest* --tag a=b=c --encryption KMS \
                    --kms-key k --description x";
        let report = execute_line(&node, &line.split_whitespace().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(report.text, "added docker-hub\n");
        execute_line(&node, &["template", "update", "docker-hub", "--description", ""]).await.unwrap();
        let calls = calls(&node);
        assert_eq!(
            calls[0].1,
            r#"{"prefix":"docker-hub","description":"x","encryptionConfiguration":{"encryptionType":"KMS","kmsKey":"k"},"resourceTags":[{"Key":"a","Value":"b=c"}],"imageTagMutability":"IMMUTABLE_WITH_EXCLUSION","imageTagMutabilityExclusionFilters":[{"filterType":"WILDCARD","filter":"latest*"}],"appliedFor":["PULL_THROUGH_CACHE"]}"#
        );
        assert_eq!(calls[1].1, r#"{"prefix":"docker-hub","description":""}"#);
    }

    #[tokio::test]
    async fn templates_are_listed_as_a_table() {
        let reply = r#"{"repositoryCreationTemplates": [{"prefix": "ROOT", "appliedFor": ["PULL_THROUGH_CACHE", "REPLICATION"],
            "imageTagMutability": "MUTABLE", "lifecyclePolicy": "{}", "createdAt": 9e12}]}"#;
        let node = FakeNode::start(&[(200, reply)]).await;
        let report = execute_line(&node, &["template", "list"]).await.unwrap();
        assert_eq!(
            report.text,
            "PREFIX  APPLIED FOR                     MUTABILITY  ENCRYPTION  POLICIES   AGE\n\
             ROOT    PULL_THROUGH_CACHE,REPLICATION  MUTABLE     AES256      lifecycle  0s\n"
        );
    }

    #[tokio::test]
    async fn bad_options_send_nothing() {
        let node = FakeNode::start(&[]).await;
        for line in [
            &["template", "add", "a", "--tag", "novalue"][..],
            &["template", "add", "a", "--exclude-tag", "x"],
            &["template", "add", "a", "--encryption", "ROT13"],
            &["template", "add", "a", "--repository-policy", "/nowhere/at/all"],
        ] {
            assert_eq!(execute_line(&node, line).await.unwrap_err().code(), 2, "{line:?}");
        }
        assert_eq!(node.calls().len(), 0);
    }
}
