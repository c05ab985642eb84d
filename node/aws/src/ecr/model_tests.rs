//! Holds every shape against AWS's own model: `model.json` is an extract of botocore's `ecr/2015-09-21/service-2.json`.

use serde::de::DeserializeOwned;

use super::*;
use crate::{
    Operation, Service, json,
    model::{Model, members},
};

fn model() -> Model {
    serde_json::from_str(include_str!("model.json")).unwrap()
}

fn hold_shape<T: DeserializeOwned>(model: &Model, shape: &str) {
    assert_eq!(members::<T>(), model.shapes[shape].members, "{shape}");
}

/// Shapes as in the model, and a request without its required members refused for the first of them.
fn hold<O: Operation>(model: &Model, held: &mut Vec<&'static str>) {
    assert_eq!(O::SERVICE, Service::Ecr);
    let operation = &model.operations[O::NAME];
    hold_shape::<O::Input>(model, &operation.input);
    hold_shape::<O::Output>(model, &operation.output);
    let input: O::Input = json::decode(b"{}").unwrap();
    let required = &model.shapes[&operation.input].required;
    match O::check(&input) {
        Ok(()) => assert!(required.is_empty(), "{} demands {required:?}", O::NAME),
        Err(refused) => assert!(required.contains(&refused.member), "{}: {refused}", O::NAME),
    }
    held.push(O::NAME);
}

#[test]
fn operations_have_the_members_of_the_model() {
    let model = model();
    let mut held = Vec::new();
    macro_rules! hold_all {
        ($($operation:ident)*) => { $(hold::<$operation>(&model, &mut held);)* };
    }
    hold_all! {
        CreatePullThroughCacheRule DescribePullThroughCacheRules UpdatePullThroughCacheRule DeletePullThroughCacheRule
        ValidatePullThroughCacheRule CreateRepositoryCreationTemplate DescribeRepositoryCreationTemplates
        UpdateRepositoryCreationTemplate DeleteRepositoryCreationTemplate CreateRepository DescribeRepositories
        DeleteRepository PutImageTagMutability PutImageScanningConfiguration ListImages DescribeImages BatchGetImage
        BatchDeleteImage GetAuthorizationToken TagResource UntagResource ListTagsForResource GetAccountSetting
        PutAccountSetting
    }
    held.sort_unstable();
    assert_eq!(held, model.operations.keys().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn shapes_within_have_the_members_of_the_model() {
    let model = model();
    macro_rules! hold_all {
        ($($shape:ident: $type:ty,)*) => { $(hold_shape::<$type>(&model, stringify!($shape));)* };
    }
    hold_all! {
        AuthorizationData: AuthorizationData,
        DescribeImagesFilter: ImagesFilter,
        EncryptionConfiguration: EncryptionConfiguration,
        EncryptionConfigurationForRepositoryCreationTemplate: EncryptionConfiguration,
        Image: Image,
        ImageDetail: ImageDetail,
        ImageFailure: ImageFailure,
        ImageIdentifier: ImageIdentifier,
        ImageScanFindingsSummary: ImageScanFindingsSummary,
        ImageScanStatus: ImageScanStatus,
        ImageScanningConfiguration: ImageScanningConfiguration,
        ImageTagMutabilityExclusionFilter: ImageTagMutabilityExclusionFilter,
        ListImagesFilter: ImagesFilter,
        PullThroughCacheRule: PullThroughCacheRule,
        Repository: Repository,
        RepositoryCreationTemplate: RepositoryCreationTemplate,
        Tag: Tag,
    }
}

fn refusal<O: Operation>(body: &str) -> Option<String> {
    let input: O::Input = json::decode(body.as_bytes()).unwrap();
    O::check(&input).err().map(|refused| refused.member)
}

#[test]
fn checks_pass_what_the_clients_send() {
    let rule = r#"{"ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": "registry-1.docker.io", "upstreamRegistry": "docker-hub", "credentialArn": "arn:aws:secretsmanager:us-east-1:012345678910:secret:ecr-pullthroughcache/dh-abc"}"#;
    assert_eq!(refusal::<CreatePullThroughCacheRule>(rule), None);
    let template = r#"{"prefix": "ROOT", "encryptionConfiguration": {"encryptionType": "AES256"}, "resourceTags": [{"Key": "a", "Value": "b"}], "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "latest*"}], "appliedFor": ["PULL_THROUGH_CACHE", "REPLICATION"]}"#;
    assert_eq!(refusal::<CreateRepositoryCreationTemplate>(template), None);
    let images = r#"{"repositoryName": "a/b", "imageIds": [{"imageTag": "t"}, {"imageDigest": "sha256:aa"}], "filter": {"tagStatus": "TAGGED"}}"#;
    assert_eq!(refusal::<DescribeImages>(images), None);
    assert_eq!(refusal::<UpdatePullThroughCacheRule>(r#"{"ecrRepositoryPrefix": "dh/"}"#), None);
    assert_eq!(refusal::<UpdateRepositoryCreationTemplate>(r#"{"prefix": "a", "description": ""}"#), None);
    assert_eq!(refusal::<GetAuthorizationToken>("{}"), None);
}

#[test]
fn checks_name_the_member_that_breaks_a_constraint() {
    let image_ids = |n: usize| format!(r#"{{"repositoryName": "ab", "imageIds": [{}]}}"#, vec!["{}"; n].join(","));
    let cases: &[(Option<String>, &str)] = &[
        (
            refusal::<CreatePullThroughCacheRule>(r#"{"ecrRepositoryPrefix": "A!", "upstreamRegistryUrl": "x"}"#),
            "ecrRepositoryPrefix",
        ),
        (
            refusal::<CreatePullThroughCacheRule>(
                r#"{"ecrRepositoryPrefix": "ab", "upstreamRegistryUrl": "x", "upstreamRegistry": "y"}"#,
            ),
            "upstreamRegistry",
        ),
        (
            refusal::<CreatePullThroughCacheRule>(
                r#"{"ecrRepositoryPrefix": "ROOT", "upstreamRegistryUrl": "x", "upstreamRepositoryPrefix": "ab"}"#,
            ),
            "upstreamRepositoryPrefix",
        ),
        (refusal::<DescribePullThroughCacheRules>(r#"{"maxResults": 1001}"#), "maxResults"),
        (refusal::<DescribePullThroughCacheRules>(r#"{"ecrRepositoryPrefixes": []}"#), "ecrRepositoryPrefixes"),
        (refusal::<DescribeRepositories>(r#"{"repositoryNames": ["ab"], "maxResults": 5}"#), "maxResults"),
        (refusal::<DescribeRepositories>(r#"{"registryId": "1"}"#), "registryId"),
        (
            refusal::<CreateRepository>(r#"{"repositoryName": "ab", "imageTagMutability": "immutable"}"#),
            "imageTagMutability",
        ),
        (
            refusal::<CreateRepository>(
                r#"{"repositoryName": "ab", "encryptionConfiguration": {"encryptionType": "x"}}"#,
            ),
            "encryptionConfiguration.encryptionType",
        ),
        (
            refusal::<PutImageTagMutability>(
                r#"{"repositoryName": "ab", "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"}"#,
            ),
            "imageTagMutabilityExclusionFilters",
        ),
        (
            refusal::<PutImageTagMutability>(
                r#"{"repositoryName": "ab", "imageTagMutability": "MUTABLE", "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "a"}]}"#,
            ),
            "imageTagMutabilityExclusionFilters",
        ),
        (
            refusal::<PutImageTagMutability>(
                r#"{"repositoryName": "ab", "imageTagMutability": "MUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "a/b"}]}"#,
            ),
            "imageTagMutabilityExclusionFilters.1.member.filter",
        ),
        (refusal::<CreateRepositoryCreationTemplate>(r#"{"prefix": "a", "appliedFor": ["PULL"]}"#), "appliedFor"),
        (refusal::<CreateRepositoryCreationTemplate>(r#"{"prefix": "a"}"#), "appliedFor"),
        (
            refusal::<UpdateRepositoryCreationTemplate>(
                r#"{"prefix": "a", "imageTagMutability": "MUTABLE_WITH_EXCLUSION"}"#,
            ),
            "imageTagMutabilityExclusionFilters",
        ),
        (refusal::<BatchDeleteImage>(&image_ids(0)), "imageIds"),
        (refusal::<BatchDeleteImage>(&image_ids(101)), "imageIds"),
        (
            refusal::<DescribeImages>(r#"{"repositoryName": "ab", "imageIds": [{"imageTag": ""}]}"#),
            "imageIds.1.member.imageTag",
        ),
        (refusal::<ListImages>(r#"{"repositoryName": "ab", "filter": {"tagStatus": "tagged"}}"#), "filter.tagStatus"),
        (refusal::<GetAuthorizationToken>(r#"{"registryIds": []}"#), "registryIds"),
        (refusal::<TagResource>(r#"{"resourceArn": "x", "tags": []}"#), "resourceArn"),
        (refusal::<GetAccountSetting>(&format!(r#"{{"name": "{}"}}"#, "A".repeat(65))), "name"),
    ];
    for (found, expected) in cases {
        assert_eq!(found.as_deref(), Some(*expected));
    }
}

#[test]
fn tags_obey_the_rules_for_tags() {
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    assert_eq!(check_tags(&[tag("a", ""), tag("b", "é")]), Ok(()));
    let bad = [
        vec![tag("", "x")],
        vec![tag("aws:x", "x")],
        vec![tag("AWS:x", "x")],
        vec![tag("a", "1"), tag("a", "2")],
        vec![tag(&"k".repeat(129), "")],
        vec![tag("k", &"v".repeat(257))],
    ];
    for tags in bad {
        assert_eq!(check_tags(&tags).unwrap_err().code(), crate::ErrorCode::INVALID_TAG_PARAMETER, "{tags:?}");
    }
    let many: Vec<Tag> = (0..51).map(|n| tag(&n.to_string(), "")).collect();
    assert_eq!(check_tags(&many), Err(TagsRefused::TooMany));
}

#[test]
fn tokens_stay_out_of_debug_output() {
    let data = AuthorizationData { authorization_token: "QVdTOng=".into(), ..Default::default() };
    assert!(!format!("{data:?}").contains("QVdT"));
}
