use flotilla_aws::{
    ecr::{
        CreateRepository, CreateRepositoryInput, CreateRepositoryOutput, DeleteRepository, DeleteRepositoryInput,
        DeleteRepositoryOutput, DescribeRepositories, DescribeRepositoriesInput, DescribeRepositoriesOutput,
        ImageScanningConfiguration, PutImageScanningConfiguration, PutImageScanningConfigurationInput,
        PutImageScanningConfigurationOutput, PutImageTagMutability, PutImageTagMutabilityInput,
        PutImageTagMutabilityOutput,
    },
    validate::InvalidParameter,
};
use flotilla_oci::Name;
use flotilla_registry::{
    access::{Action, Resource},
    repository::{EncryptionKind, RepositorySettings},
};
use flotilla_service::NewRepository;

use super::{
    Call, Failure, Handle,
    page::{Page, foreign_token, token},
    repository, repository_resource, shapes,
};

impl Handle for CreateRepository {
    const ACTION: Action = Action("ecr:CreateRepository");

    fn resource(input: &CreateRepositoryInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    async fn handle(call: Call<'_>, input: CreateRepositoryInput) -> Result<CreateRepositoryOutput, Failure> {
        let account = call.registry(input.registry_id.as_deref())?;
        let mut encryption = shapes::encryption(input.encryption_configuration);
        if encryption.kind != EncryptionKind::Aes256 && encryption.kms_key.is_none() {
            // AWS names the key that it takes; nothing is encrypted with this one.
            encryption.kms_key = Some(format!("arn:aws:kms:{}:{account}:alias/aws/ecr", call.region()));
        }
        let mode = input.image_tag_mutability.as_deref();
        let new = NewRepository {
            name: repository("repositoryName", &input.repository_name)?,
            settings: RepositorySettings {
                mutability: shapes::mutability(mode, input.image_tag_mutability_exclusion_filters),
                scan_on_push: input.image_scanning_configuration.unwrap_or_default().scan_on_push,
                encryption,
                resource_tags: shapes::resource_tags(input.tags.unwrap_or_default())?,
                policy: None,
                lifecycle: None,
            },
        };
        let repository = call.services().repositories.create(call.permit, new).await?;
        Ok(CreateRepositoryOutput { repository: call.repository_shape(&repository) })
    }
}

impl Handle for DescribeRepositories {
    const ACTION: Action = Action("ecr:DescribeRepositories");

    fn resource(_: &DescribeRepositoriesInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(call: Call<'_>, input: DescribeRepositoriesInput) -> Result<DescribeRepositoriesOutput, Failure> {
        let repositories = &call.services().repositories;
        if let Some(names) = input.repository_names {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                call.registry_of(input.registry_id.as_deref(), &name)?;
                let name = repository("repositoryNames", &name)?;
                let resource = Resource::Repository(name.clone());
                call.services().access.allow(call.permit.caller(), Self::ACTION, &resource).await?;
                found.push(call.repository_shape(&repositories.get(call.permit, &name).await?));
            }
            return Ok(DescribeRepositoriesOutput { repositories: found, next_token: None });
        }
        call.registry(input.registry_id.as_deref())?;
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let after: Option<Name> =
            page.after.as_ref().map(|name| name.parse()).transpose().map_err(|_| foreign_token())?;
        let (found, next) = repositories.list(call.permit, after.as_ref(), page.limit()).await?;
        let next_token = next.map(|name| token::<Self>(call, name.as_str())).transpose()?;
        Ok(DescribeRepositoriesOutput {
            repositories: found.iter().map(|repository| call.repository_shape(repository)).collect(),
            next_token,
        })
    }
}

impl Handle for DeleteRepository {
    const ACTION: Action = Action("ecr:DeleteRepository");

    fn resource(input: &DeleteRepositoryInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    async fn handle(call: Call<'_>, input: DeleteRepositoryInput) -> Result<DeleteRepositoryOutput, Failure> {
        call.registry_of(input.registry_id.as_deref(), &input.repository_name)?;
        let name = repository("repositoryName", &input.repository_name)?;
        let deleted = call.services().repositories.delete(call.permit, &name, input.force).await?;
        Ok(DeleteRepositoryOutput { repository: call.repository_shape(&deleted) })
    }
}

impl Handle for PutImageTagMutability {
    const ACTION: Action = Action("ecr:PutImageTagMutability");

    fn resource(input: &PutImageTagMutabilityInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    async fn handle(call: Call<'_>, input: PutImageTagMutabilityInput) -> Result<PutImageTagMutabilityOutput, Failure> {
        let registry_id = call.registry_of(input.registry_id.as_deref(), &input.repository_name)?;
        let name = repository("repositoryName", &input.repository_name)?;
        let mode = Some(input.image_tag_mutability.as_str());
        let mutability = shapes::mutability(mode, input.image_tag_mutability_exclusion_filters);
        let changed = call.services().repositories.put_mutability(call.permit, &name, mutability).await?;
        let (image_tag_mutability, image_tag_mutability_exclusion_filters) =
            shapes::mutability_shape(&changed.settings.mutability);
        Ok(PutImageTagMutabilityOutput {
            registry_id,
            repository_name: input.repository_name,
            image_tag_mutability,
            image_tag_mutability_exclusion_filters,
        })
    }
}

impl Handle for PutImageScanningConfiguration {
    const ACTION: Action = Action("ecr:PutImageScanningConfiguration");

    fn resource(input: &PutImageScanningConfigurationInput) -> Result<Resource, InvalidParameter> {
        repository_resource(&input.repository_name)
    }

    async fn handle(
        call: Call<'_>,
        input: PutImageScanningConfigurationInput,
    ) -> Result<PutImageScanningConfigurationOutput, Failure> {
        let registry_id = call.registry_of(input.registry_id.as_deref(), &input.repository_name)?;
        let name = repository("repositoryName", &input.repository_name)?;
        let scan_on_push = input.image_scanning_configuration.unwrap_or_default().scan_on_push;
        let changed = call.services().repositories.put_scan_on_push(call.permit, &name, scan_on_push).await?;
        Ok(PutImageScanningConfigurationOutput {
            registry_id,
            repository_name: input.repository_name,
            image_scanning_configuration: ImageScanningConfiguration { scan_on_push: changed.settings.scan_on_push },
        })
    }
}
