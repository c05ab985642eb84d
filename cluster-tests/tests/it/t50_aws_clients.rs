//! The unmodified `aws` command line and boto3.

use cluster_tests::{
    Image,
    clients::{Python, required, run},
};
use serde_json::Value;

use crate::common::{APP, client, pull, with_image};

#[test]
fn the_aws_command_line_does_the_main_job() {
    let Some(python) = required(Python::find(), "the aws command line") else { return };
    let image = Image::oci(500, &[5000]);
    let (_hub, flotilla) = with_image(&image);
    let aws = |arguments: &[&str]| run(&mut python.aws(&flotilla, arguments));
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&aws(arguments)).unwrap() };
    assert_eq!(json(&["sts", "get-caller-identity"])["Account"], "000000000000");
    let rule = [
        "ecr",
        "create-pull-through-cache-rule",
        "--ecr-repository-prefix",
        "mine",
        "--upstream-registry-url",
        "registry-1.docker.io",
    ];
    assert_eq!(json(&rule)["ecrRepositoryPrefix"], "mine");
    let rules = json(&["ecr", "describe-pull-through-cache-rules", "--ecr-repository-prefixes", "mine"]);
    assert_eq!(rules["pullThroughCacheRules"][0]["upstreamRegistryUrl"], "registry-1.docker.io");
    json(&["ecr", "validate-pull-through-cache-rule", "--ecr-repository-prefix", "mine"]);
    json(&[
        "ecr",
        "create-repository-creation-template",
        "--prefix",
        "mine",
        "--applied-for",
        "PULL_THROUGH_CACHE",
        "--image-tag-mutability",
        "IMMUTABLE",
    ]);
    let templates = json(&["ecr", "describe-repository-creation-templates"]);
    assert_eq!(templates["repositoryCreationTemplates"][0]["prefix"], "mine");
    assert!(!aws(&["ecr", "get-login-password"]).trim().is_empty());
    pull(&client(&flotilla), "mine/library/app", "latest", &image);
    let images = json(&["ecr", "describe-images", "--repository-name", "mine/library/app"]);
    assert_eq!(images["imageDetails"][0]["imageDigest"], image.digest());
    let repositories = json(&["ecr", "describe-repositories", "--page-size", "1"]);
    assert_eq!(repositories["repositories"][0]["imageTagMutability"], "IMMUTABLE");
    let deleted =
        json(&["ecr", "batch-delete-image", "--repository-name", "mine/library/app", "--image-ids", "imageTag=latest"]);
    assert_eq!(deleted["failures"], serde_json::json!([]));
    json(&["ecr", "delete-repository", "--repository-name", "mine/library/app", "--force"]);
    json(&["ecr", "delete-repository-creation-template", "--prefix", "mine"]);
    json(&["ecr", "delete-pull-through-cache-rule", "--ecr-repository-prefix", "mine"]);
    let missing =
        python.aws(&flotilla, &["ecr", "describe-images", "--repository-name", "mine/library/app"]).output().unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("RepositoryNotFoundException"));
}

#[test]
fn boto3_pages_retries_and_raises_what_it_should() {
    let Some(python) = required(Python::find(), "boto3") else { return };
    let image = Image::oci(501, &[5000]);
    let (_hub, flotilla) = with_image(&image);
    pull(&client(&flotilla), APP, "latest", &image);
    let script = r"
import boto3, datetime
ecr, sts = boto3.client('ecr'), boto3.client('sts')
assert sts.get_caller_identity()['Arn'].endswith(':root')
for i in range(25):
    ecr.create_repository(repositoryName=f'boto/r{i:02}', tags=[{'Key': 'n', 'Value': str(i)}])
pages = list(ecr.get_paginator('describe_repositories').paginate(PaginationConfig={'PageSize': 7}))
names = [r['repositoryName'] for page in pages for r in page['repositories']]
assert names == sorted(names) and len(names) == 26 and len(pages) == 4, (names, len(pages))
assert isinstance(pages[0]['repositories'][0]['createdAt'], datetime.datetime)
arn = pages[0]['repositories'][0]['repositoryArn']
ecr.tag_resource(resourceArn=arn, tags=[{'Key': 'x', 'Value': 'y'}])
assert {'Key': 'x', 'Value': 'y'} in ecr.list_tags_for_resource(resourceArn=arn)['tags']
ecr.untag_resource(resourceArn=arn, tagKeys=['x'])
assert ecr.list_tags_for_resource(resourceArn=arn)['tags'] == [{'Key': 'n', 'Value': '0'}]
assert ecr.put_image_tag_mutability(repositoryName='boto/r00', imageTagMutability='IMMUTABLE')['imageTagMutability'] == 'IMMUTABLE'
try:
    ecr.create_repository(repositoryName='boto/r00')
    raise SystemExit('created twice')
except ecr.exceptions.RepositoryAlreadyExistsException:
    pass
try:
    ecr.describe_images(repositoryName='boto/nothing')
    raise SystemExit('described nothing')
except ecr.exceptions.RepositoryNotFoundException:
    pass
got = ecr.batch_get_image(repositoryName='docker-hub/library/app', imageIds=[{'imageTag': 'latest'}, {'imageTag': 'none'}])
assert len(got['images']) == 1 and got['failures'][0]['failureCode'] == 'ImageNotFound'
detail = ecr.describe_images(repositoryName='docker-hub/library/app')['imageDetails'][0]
assert isinstance(detail['imagePushedAt'], datetime.datetime)
token = ecr.get_authorization_token()['authorizationData'][0]
assert token['expiresAt'] > datetime.datetime.now(datetime.timezone.utc)
";
    run(&mut python.script(&flotilla, script));
}
