//! The AWS slice as its callers see it, beyond what single scenarios use: paging, idempotence, what a pull leaves behind.

use cluster_tests::{Image, aws::Aws};
use serde_json::json;

use crate::common::{APP, client, manifest_path, pull, with_image};

#[test]
fn what_was_pulled_is_described() {
    let child = Image::oci(100, &[5000]);
    let image = Image::index(vec![child.clone(), Image::oci_for("arm64", 101, &[5000])]);
    let (_hub, flotilla) = with_image(&image);
    pull(&client(&flotilla), APP, "latest", &image);
    let aws = Aws::root(&flotilla);
    let listed = aws.ecr("ListImages", &json!({"repositoryName": APP, "filter": {"tagStatus": "TAGGED"}}));
    assert_eq!(listed["imageIds"], json!([{"imageDigest": image.digest(), "imageTag": "latest"}]));
    let by_tag = json!({"repositoryName": APP, "imageIds": [{"imageTag": "latest"}]});
    let described = aws.ecr("DescribeImages", &by_tag)["imageDetails"][0].clone();
    assert_eq!(described["imageDigest"], image.digest());
    assert_eq!(described["imageTags"], json!(["latest"]));
    assert_eq!(described["imageManifestMediaType"], image.media_type);
    assert!(described["imagePushedAt"].is_number(), "{described}");
    let by_digest = json!({"repositoryName": APP, "imageIds": [{"imageDigest": child.digest()}]});
    let size = aws.ecr("DescribeImages", &by_digest)["imageDetails"][0]["imageSizeInBytes"].as_u64().unwrap();
    let blobs: u64 = child.blobs.iter().map(|blob| blob.len()).sum();
    assert!((blobs..=blobs + child.manifest.len()).contains(&size), "{size}");
}

#[test]
fn a_deleted_image_is_gone_and_comes_back_by_a_pull() {
    let image = Image::oci(102, &[5000]);
    let (hub, flotilla) = with_image(&image);
    let (aws, client) = (Aws::root(&flotilla), client(&flotilla));
    pull(&client, APP, "latest", &image);
    assert_eq!(aws.ecr_refusal("DeleteRepository", &json!({"repositoryName": APP})), "RepositoryNotEmptyException");
    let gone =
        aws.ecr("BatchDeleteImage", &json!({"repositoryName": APP, "imageIds": [{"imageDigest": image.digest()}]}));
    assert_eq!(gone["failures"], json!([]));
    assert_eq!(aws.ecr("ListImages", &json!({"repositoryName": APP}))["imageIds"], json!([]));
    hub.forget_requests();
    pull(&client, APP, "latest", &image);
    assert!(hub.count("GET", "/manifests/latest") + hub.count("GET", image.digest()) >= 1, "it was asked for again");
    aws.ecr("DeleteRepository", &json!({"repositoryName": APP, "force": true}));
    let described = json!({"repositoryNames": [APP]});
    assert_eq!(aws.ecr_refusal("DescribeRepositories", &described), "RepositoryNotFoundException");
    assert_eq!(client.get(&manifest_path(APP, "latest")).status, 200, "the rule is still there");
}

#[test]
fn lists_come_in_pages_that_survive_deletions() {
    let (_hub, flotilla) = with_image(&Image::oci(103, &[1]));
    let aws = Aws::root(&flotilla);
    let names: Vec<_> = (0..7).map(|i| format!("paged/r{i}")).collect();
    for name in &names {
        aws.ecr("CreateRepository", &json!({"repositoryName": name}));
    }
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let mut input = json!({"maxResults": 3});
        if let Some(token) = &token {
            input["nextToken"] = json!(token);
        }
        let page = aws.ecr("DescribeRepositories", &input);
        let found = page["repositories"].as_array().unwrap().clone();
        assert!(found.len() <= 3);
        seen.extend(found.iter().map(|one| one["repositoryName"].as_str().unwrap().to_owned()));
        if seen.len() == 3 {
            // The row that the token stands on.
            aws.ecr("DeleteRepository", &json!({"repositoryName": seen[2]}));
        }
        match page.get("nextToken").and_then(|token| token.as_str()) {
            Some(next) => token = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen, names);
    assert_eq!(aws.ecr_refusal("DescribeRepositories", &json!({"nextToken": "garbage"})), "InvalidParameterException");
}

#[test]
fn creating_twice_is_refused_and_a_default_rule_gives_way() {
    let (_hub, flotilla) = with_image(&Image::oci(104, &[1]));
    let aws = Aws::root(&flotilla);
    let repository = json!({"repositoryName": "mine"});
    aws.ecr("CreateRepository", &repository);
    assert_eq!(aws.ecr_refusal("CreateRepository", &repository), "RepositoryAlreadyExistsException");
    let rule = json!({"ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": "registry-1.docker.io"});
    aws.ecr("CreatePullThroughCacheRule", &rule);
    assert_eq!(aws.ecr_refusal("CreatePullThroughCacheRule", &rule), "PullThroughCacheRuleAlreadyExistsException");
}

#[test]
fn dev_begins_with_the_rules_that_it_promises() {
    let (_hub, flotilla) = with_image(&Image::oci(105, &[1]));
    let rules = Aws::root(&flotilla).ecr("DescribePullThroughCacheRules", &json!({}));
    let rules = rules["pullThroughCacheRules"].as_array().unwrap();
    let mut prefixes: Vec<_> = rules.iter().map(|rule| rule["ecrRepositoryPrefix"].as_str().unwrap()).collect();
    prefixes.sort_unstable();
    assert_eq!(prefixes, ["docker-hub", "ecr-public", "ghcr", "k8s", "mcr", "quay", "redhat"]);
}

#[test]
fn a_large_repository_is_deleted_whole() {
    let image = Image::index(vec![Image::oci(106, &[1]), Image::oci_for("arm64", 107, &[1])]);
    let (hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    pull(&client, APP, "latest", &image);
    for n in 0..230 {
        hub.put("library/app", &format!("v{n}"), &Image::oci(1000 + n, &[1]));
        assert_eq!(client.get(&manifest_path(APP, &format!("v{n}"))).status, 200);
    }
    let aws = Aws::root(&flotilla);
    let repository = json!({"repositoryName": APP});
    assert_eq!(aws.ecr_refusal("DeleteRepository", &repository), "RepositoryNotEmptyException");
    aws.ecr("DeleteRepository", &json!({"repositoryName": APP, "force": true}));
    assert_eq!(aws.ecr_refusal("ListImages", &repository), "RepositoryNotFoundException");
    aws.ecr("CreateRepository", &repository);
    assert_eq!(aws.ecr("ListImages", &repository)["imageIds"], json!([]), "nothing of before is left");
}
