//! Between the contract's shapes and our values, where several operations share them.

use std::collections::BTreeMap;

use flotilla_aws::{
    arn::RepositoryArn,
    ecr::{self, EncryptionConfiguration, ImageTagMutabilityExclusionFilter, check_tags},
    validate::InvalidParameter,
};
use flotilla_registry::{
    Glob, Prefix, Repository,
    repository::{Encryption, EncryptionKind, Mutability},
};

use super::{AwsError, Call, Failure};

pub(super) type Filters = Vec<ImageTagMutabilityExclusionFilter>;

/// The mode's name is checked before; anything else is the default.
pub(super) fn mutability(mode: Option<&str>, filters: Option<Filters>) -> Mutability {
    let filters = filters.unwrap_or_default().into_iter().map(|filter| Glob(filter.filter)).collect();
    match mode {
        Some("IMMUTABLE") => Mutability::Immutable,
        Some("IMMUTABLE_WITH_EXCLUSION") => Mutability::ImmutableExcept(filters),
        Some("MUTABLE_WITH_EXCLUSION") => Mutability::MutableExcept(filters),
        _ => Mutability::Mutable,
    }
}

pub(super) fn mutability_shape(mutability: &Mutability) -> (String, Option<Filters>) {
    let (mode, filters) = match mutability {
        Mutability::Mutable => ("MUTABLE", None),
        Mutability::Immutable => ("IMMUTABLE", None),
        Mutability::ImmutableExcept(filters) => ("IMMUTABLE_WITH_EXCLUSION", Some(filters)),
        Mutability::MutableExcept(filters) => ("MUTABLE_WITH_EXCLUSION", Some(filters)),
    };
    let shape = |filter: &Glob| ImageTagMutabilityExclusionFilter {
        filter_type: "WILDCARD".to_owned(),
        filter: filter.0.clone(),
    };
    (mode.to_owned(), filters.map(|filters| filters.iter().map(shape).collect()))
}

pub(super) fn encryption(configuration: Option<EncryptionConfiguration>) -> Encryption {
    let Some(configuration) = configuration else { return Encryption::default() };
    let kind = match configuration.encryption_type.as_str() {
        "KMS" => EncryptionKind::Kms,
        "KMS_DSSE" => EncryptionKind::KmsDsse,
        _ => EncryptionKind::Aes256,
    };
    Encryption { kind, kms_key: configuration.kms_key.filter(|key| !key.is_empty()) }
}

pub(super) fn encryption_shape(encryption: &Encryption) -> EncryptionConfiguration {
    let kind = match encryption.kind {
        EncryptionKind::Aes256 => "AES256",
        EncryptionKind::Kms => "KMS",
        EncryptionKind::KmsDsse => "KMS_DSSE",
    };
    EncryptionConfiguration { encryption_type: kind.to_owned(), kms_key: encryption.kms_key.clone() }
}

/// # Errors
/// `InvalidTagParameterException`, `TooManyTagsException`.
pub(super) fn resource_tags(tags: Vec<ecr::Tag>) -> Result<BTreeMap<String, String>, AwsError> {
    check_tags(&tags)?;
    Ok(tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
}

pub(super) fn resource_tags_shape(tags: &BTreeMap<String, String>) -> Vec<ecr::Tag> {
    tags.iter().map(|(key, value)| ecr::Tag { key: key.clone(), value: value.clone() }).collect()
}

/// # Errors
/// For a prefix that breaks the grammar.
pub(super) fn prefix(member: &'static str, text: &str) -> Result<Prefix, InvalidParameter> {
    text.parse().map_err(|_| InvalidParameter::new(member, "is not a repository prefix"))
}

/// # Errors
/// For the first prefix that breaks the grammar.
pub(super) fn prefixes(member: &'static str, texts: Option<&[String]>) -> Result<Option<Vec<Prefix>>, Failure> {
    let Some(texts) = texts else { return Ok(None) };
    let parsed: Result<Vec<_>, _> = texts.iter().map(|text| prefix(member, text)).collect();
    Ok(Some(parsed?))
}

impl Call<'_> {
    pub(super) fn repository_shape(&self, repository: &Repository) -> ecr::Repository {
        let account = self.door.account_id();
        let name = repository.name.to_string();
        let settings = &repository.settings;
        let (image_tag_mutability, image_tag_mutability_exclusion_filters) = mutability_shape(&settings.mutability);
        let arn = RepositoryArn { region: self.region(), account: account.clone(), name: name.clone() };
        ecr::Repository {
            repository_arn: arn.to_string(),
            registry_id: account,
            repository_uri: format!("{}/{name}", self.arrival.origin.authority),
            repository_name: name,
            created_at: repository.created_at.seconds(),
            image_tag_mutability,
            image_tag_mutability_exclusion_filters,
            image_scanning_configuration: ecr::ImageScanningConfiguration { scan_on_push: settings.scan_on_push },
            encryption_configuration: encryption_shape(&settings.encryption),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutability_and_encryption_round_trip() {
        let filter = ImageTagMutabilityExclusionFilter { filter_type: "WILDCARD".into(), filter: "latest*".into() };
        for mode in ["MUTABLE", "IMMUTABLE", "IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION"] {
            let filters = mode.ends_with("EXCLUSION").then(|| vec![filter.clone()]);
            let value = mutability(Some(mode), filters.clone());
            assert_eq!(mutability_shape(&value), (mode.to_owned(), filters));
        }
        assert_eq!(mutability(None, None), Mutability::Mutable);
        for (kind, key) in [("AES256", None), ("KMS", Some("alias/x")), ("KMS_DSSE", None)] {
            let shape = EncryptionConfiguration { encryption_type: kind.into(), kms_key: key.map(str::to_owned) };
            assert_eq!(encryption_shape(&encryption(Some(shape.clone()))), shape);
        }
        assert_eq!(encryption_shape(&encryption(None)).encryption_type, "AES256");
    }
}
