//! Repository creation templates in the pull-through scenario.

use cluster_tests::{Image, Upstream, aws::Aws};
use serde_json::{Value, json};

use crate::common::{APP, before, client, manifest_path, pull, status_of, with_image};

const REPOSITORY_POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"ecr:BatchGetImage"}]}"#;
const LIFECYCLE: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}"#;

fn repository(aws: &Aws, name: &str) -> Value {
    aws.ecr("DescribeRepositories", &json!({"repositoryNames": [name]}))["repositories"][0].clone()
}

#[test]
fn a_repository_made_by_a_pull_is_as_its_template_says() {
    let image = Image::oci(90, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    let aws = Aws::root(&flotilla);
    aws.ecr(
        "CreateRepositoryCreationTemplate",
        &json!({"prefix": "docker-hub", "appliedFor": ["PULL_THROUGH_CACHE"], "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "latest*"}],
            "encryptionConfiguration": {"encryptionType": "AES256"}, "repositoryPolicy": REPOSITORY_POLICY,
            "lifecyclePolicy": LIFECYCLE, "resourceTags": [{"Key": "team", "Value": "infra"}]}),
    );
    // A longer prefix that is only for another scenario does not count.
    aws.ecr(
        "CreateRepositoryCreationTemplate",
        &json!({"prefix": "docker-hub/library", "appliedFor": ["REPLICATION"]}),
    );
    pull(&client(&flotilla), APP, "latest", &image);
    let made = repository(&aws, APP);
    assert_eq!(made["imageTagMutability"], "IMMUTABLE_WITH_EXCLUSION");
    assert_eq!(made["imageTagMutabilityExclusionFilters"], json!([{"filterType": "WILDCARD", "filter": "latest*"}]));
    assert_eq!(made["encryptionConfiguration"]["encryptionType"], "AES256");
    let tags = aws.ecr("ListTagsForResource", &json!({"resourceArn": made["repositoryArn"]}));
    assert_eq!(tags["tags"], json!([{"Key": "team", "Value": "infra"}]));
}

#[test]
fn without_a_template_a_repository_has_the_defaults() {
    let image = Image::oci(91, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    pull(&client(&flotilla), APP, "latest", &image);
    let made = repository(&Aws::root(&flotilla), APP);
    assert_eq!(made["imageTagMutability"], "MUTABLE");
    assert_eq!(made["encryptionConfiguration"]["encryptionType"], "AES256");
    assert_eq!(made["imageScanningConfiguration"]["scanOnPush"], false);
}

#[test]
fn an_immutable_tag_is_not_moved_by_revalidation_and_an_excluded_one_is() {
    let hub = Upstream::start();
    let (old, new) = (Image::oci(92, &[1000]), Image::oci(93, &[1000]));
    let flotilla = before(&hub).arg("--tag-ttl-seconds").arg("0").start();
    let (aws, client) = (Aws::root(&flotilla), client(&flotilla));
    aws.ecr(
        "CreateRepositoryCreationTemplate",
        &json!({"prefix": "ROOT", "appliedFor": ["PULL_THROUGH_CACHE"], "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "edge*"}]}),
    );
    for tag in ["v1", "edge-1"] {
        hub.put("library/app", tag, &old);
        pull(&client, APP, tag, &old);
        hub.put("library/app", tag, &new);
    }
    cluster_tests::wait_for("the excluded tag to move", crate::common::SOON, || {
        client.get(&manifest_path(APP, "edge-1")).body == new.manifest.bytes()
    });
    for _ in 0..3 {
        pull(&client, APP, "v1", &old);
    }
    // What upstream has now is still to be had, by its digest.
    pull(&client, APP, new.digest(), &new);
    pull(&client, APP, "v1", &old);
}

#[test]
fn where_templates_are_required_a_pull_without_one_finds_no_repository() {
    let image = Image::oci(94, &[1000]);
    let (hub, flotilla) = with_image(&image);
    let (aws, client) = (Aws::root(&flotilla), client(&flotilla));
    let setting = |value: &str| json!({"name": "PULL_THROUGH_REPOSITORY_CREATION", "value": value});
    aws.ecr("PutAccountSetting", &setting("TEMPLATE_REQUIRED"));
    let read = aws.ecr("GetAccountSetting", &json!({"name": "PULL_THROUGH_REPOSITORY_CREATION"}));
    assert_eq!(read["value"], "TEMPLATE_REQUIRED");
    for reference in ["latest", image.digest()] {
        assert_eq!(status_of(&client, &manifest_path(APP, reference)), (404, "NAME_UNKNOWN".into()));
    }
    assert_eq!(aws.ecr("DescribeRepositories", &json!({}))["repositories"], json!([]));
    assert_eq!(hub.blob_gets(image.layers()[0].digest()), 0);
    aws.ecr("CreateRepositoryCreationTemplate", &json!({"prefix": "docker-hub", "appliedFor": ["PULL_THROUGH_CACHE"]}));
    pull(&client, APP, "latest", &image);
    // A repository that exists needs no template any more.
    aws.ecr("DeleteRepositoryCreationTemplate", &json!({"prefix": "docker-hub"}));
    pull(&client, APP, "latest", &image);
    aws.ecr("PutAccountSetting", &setting("DEFAULTS"));
}
