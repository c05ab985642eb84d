use flotilla_aws::{
    ErrorCode,
    ecr::{
        CreateRepositoryCreationTemplate, CreateRepositoryCreationTemplateInput,
        CreateRepositoryCreationTemplateOutput, DeleteRepositoryCreationTemplate,
        DeleteRepositoryCreationTemplateInput, DeleteRepositoryCreationTemplateOutput,
        DescribeRepositoryCreationTemplates, DescribeRepositoryCreationTemplatesInput,
        DescribeRepositoryCreationTemplatesOutput, RepositoryCreationTemplate, UpdateRepositoryCreationTemplate,
        UpdateRepositoryCreationTemplateInput, UpdateRepositoryCreationTemplateOutput,
    },
    validate::{self, InvalidParameter},
};
use flotilla_base::Timestamp;
use flotilla_registry::{
    Prefix, Refusal,
    access::{Action, Resource},
    repository::{Mutability, RepositorySettings},
    template::{Scenario, Template},
};
use flotilla_state::{TemplateSettingsUpdate, TemplateUpdate};

use super::{
    AwsError, Call, Failure, Handle,
    page::Page,
    policies::{check_lifecycle_policy, check_repository_policy},
    shapes::{self, Filters, encryption, encryption_shape, mutability, mutability_shape, prefix, prefixes},
};

impl Handle for CreateRepositoryCreationTemplate {
    const ACTION: Action = Action("ecr:CreateRepositoryCreationTemplate");

    fn resource(_: &CreateRepositoryCreationTemplateInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(
        call: Call<'_>,
        input: CreateRepositoryCreationTemplateInput,
    ) -> Result<CreateRepositoryCreationTemplateOutput, Failure> {
        let policy = given(input.repository_policy);
        let lifecycle = given(input.lifecycle_policy);
        policy.as_deref().map(check_repository_policy).transpose()?;
        lifecycle.as_deref().map(check_lifecycle_policy).transpose()?;
        let mode = input.image_tag_mutability.as_deref();
        let template = Template {
            prefix: prefix("prefix", &input.prefix)?,
            description: given(input.description),
            settings: RepositorySettings {
                mutability: mutability(mode, input.image_tag_mutability_exclusion_filters),
                scan_on_push: false,
                encryption: encryption(input.encryption_configuration),
                resource_tags: shapes::resource_tags(input.resource_tags.unwrap_or_default())?,
                policy,
                lifecycle,
            },
            applied_for: scenarios(&input.applied_for.unwrap_or_default()),
            custom_role_arn: input.custom_role_arn,
            // Stamped when it is applied.
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        };
        let template = call.services().templates.create(call.permit, template).await?;
        Ok(CreateRepositoryCreationTemplateOutput {
            registry_id: call.door.account_id(),
            repository_creation_template: shape(template),
        })
    }
}

impl Handle for DescribeRepositoryCreationTemplates {
    const ACTION: Action = Action("ecr:DescribeRepositoryCreationTemplates");

    fn resource(_: &DescribeRepositoryCreationTemplatesInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(
        call: Call<'_>,
        input: DescribeRepositoryCreationTemplatesInput,
    ) -> Result<DescribeRepositoryCreationTemplatesOutput, Failure> {
        // A client that names none means all, whether it leaves the list out or empty.
        let named = input.prefixes.filter(|prefixes| !prefixes.is_empty());
        let next_token = input.next_token.as_deref();
        validate::no_paging_with("prefixes", named.is_some(), next_token, input.max_results)?;
        let page = Page::read::<Self>(call, next_token, input.max_results)?;
        let named = prefixes("prefixes", named.as_deref())?;
        let templates = &call.services().templates;
        let found = templates.describe(call.permit, named.as_deref(), page.after.as_deref(), page.fetch());
        let mut found = found.await?;
        let next_token = if named.is_some() {
            None
        } else {
            page.cut::<Self, _>(call, &mut found, |template| template.prefix.to_string())?
        };
        Ok(DescribeRepositoryCreationTemplatesOutput {
            registry_id: call.door.account_id(),
            repository_creation_templates: found.into_iter().map(shape).collect(),
            next_token,
        })
    }
}

impl Handle for UpdateRepositoryCreationTemplate {
    const ACTION: Action = Action("ecr:UpdateRepositoryCreationTemplate");

    fn resource(_: &UpdateRepositoryCreationTemplateInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    /// An absent member stays as it is, an empty text clears.
    async fn handle(
        call: Call<'_>,
        input: UpdateRepositoryCreationTemplateInput,
    ) -> Result<UpdateRepositoryCreationTemplateOutput, Failure> {
        let prefix = prefix("prefix", &input.prefix)?;
        let policy = input.repository_policy.map(|text| given(Some(text)));
        let lifecycle = input.lifecycle_policy.map(|text| given(Some(text)));
        policy.iter().flatten().try_for_each(|text| check_repository_policy(text))?;
        lifecycle.iter().flatten().try_for_each(|text| check_lifecycle_policy(text))?;
        let mode = input.image_tag_mutability.as_deref();
        let filters = input.image_tag_mutability_exclusion_filters;
        let update = TemplateUpdate {
            description: input.description.map(|text| given(Some(text))),
            settings: TemplateSettingsUpdate {
                mutability: match (mode, filters) {
                    (None, Some(filters)) => Some(refiltered(call, &prefix, filters).await?),
                    (None, None) => None,
                    (Some(_), filters) => Some(mutability(mode, filters)),
                },
                encryption: input.encryption_configuration.map(|configuration| encryption(Some(configuration))),
                resource_tags: input.resource_tags.map(shapes::resource_tags).transpose()?,
                policy,
                lifecycle,
            },
            applied_for: input.applied_for.as_deref().map(scenarios),
            custom_role_arn: input.custom_role_arn.map(|arn| given(Some(arn))),
            prefix,
        };
        let template = call.services().templates.update(call.permit, update).await?;
        Ok(UpdateRepositoryCreationTemplateOutput {
            registry_id: call.door.account_id(),
            repository_creation_template: shape(template),
        })
    }
}

impl Handle for DeleteRepositoryCreationTemplate {
    const ACTION: Action = Action("ecr:DeleteRepositoryCreationTemplate");

    fn resource(_: &DeleteRepositoryCreationTemplateInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(
        call: Call<'_>,
        input: DeleteRepositoryCreationTemplateInput,
    ) -> Result<DeleteRepositoryCreationTemplateOutput, Failure> {
        let prefix = prefix("prefix", &input.prefix)?;
        let template = call.services().templates.delete(call.permit, &prefix).await?;
        Ok(DeleteRepositoryCreationTemplateOutput {
            registry_id: call.door.account_id(),
            repository_creation_template: shape(template),
        })
    }
}

/// Filters without a mode change those of the mode that is stored.
async fn refiltered(call: Call<'_>, prefix: &Prefix, filters: Filters) -> Result<Mutability, Failure> {
    let named = std::slice::from_ref(prefix);
    let found = call.services().templates.describe(call.permit, Some(named), None, 1).await?;
    let template =
        found.into_iter().next().ok_or_else(|| Failure::Service(Refusal::TemplateMissing(prefix.clone()).into()))?;
    let (mode, stored) = mutability_shape(&template.settings.mutability);
    match (stored.is_some(), filters.is_empty()) {
        (true, false) => Ok(mutability(Some(&mode), Some(filters))),
        (false, true) => Ok(template.settings.mutability),
        (true, true) | (false, false) => Err(AwsError::new(
            ErrorCode::INVALID_PARAMETER,
            InvalidParameter::new(
                "imageTagMutabilityExclusionFilters",
                format!("must be given with a mode that excludes, and only then; the template's is {mode}"),
            )
            .to_string(),
        )
        .into()),
    }
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// In the order of the request, each once; their names are checked before.
fn scenarios(names: &[String]) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for name in names {
        let scenario = match name.as_str() {
            "REPLICATION" => Scenario::Replication,
            "CREATE_ON_PUSH" => Scenario::CreateOnPush,
            _ => Scenario::PullThroughCache,
        };
        if !scenarios.contains(&scenario) {
            scenarios.push(scenario);
        }
    }
    scenarios
}

fn shape(template: Template) -> RepositoryCreationTemplate {
    let settings = template.settings;
    let (image_tag_mutability, image_tag_mutability_exclusion_filters) = mutability_shape(&settings.mutability);
    let applied_for = template.applied_for.iter().map(|scenario| match scenario {
        Scenario::PullThroughCache => "PULL_THROUGH_CACHE",
        Scenario::Replication => "REPLICATION",
        Scenario::CreateOnPush => "CREATE_ON_PUSH",
    });
    let tags = shapes::resource_tags_shape(&settings.resource_tags);
    RepositoryCreationTemplate {
        prefix: template.prefix.to_string(),
        description: template.description,
        encryption_configuration: Some(encryption_shape(&settings.encryption)),
        resource_tags: (!tags.is_empty()).then_some(tags),
        image_tag_mutability,
        image_tag_mutability_exclusion_filters,
        repository_policy: settings.policy,
        lifecycle_policy: settings.lifecycle,
        applied_for: applied_for.map(str::to_owned).collect(),
        custom_role_arn: template.custom_role_arn,
        created_at: template.created_at.seconds(),
        updated_at: template.updated_at.seconds(),
    }
}
