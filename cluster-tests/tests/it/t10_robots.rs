//! Robots, which may only pull, and keys that can be taken away.

use base64::{Engine, prelude::BASE64_STANDARD};
use cluster_tests::{
    Client, Flotilla, Image,
    aws::Aws,
    clients::{Python, required, run},
    process::files_below,
};
use serde_json::{Value, json};

use crate::common::{APP, DOCKER_HUB, client, create_rule, manifest_path, pull, with_image};

/// As `flotilla key create` makes it.
pub(crate) struct Robot {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Robot {
    pub(crate) fn create(flotilla: &Flotilla, name: &str, more: &[&str]) -> Self {
        let line = [&["key", "create", "--pull-only", "--name", name, "--json"], more].concat();
        Self::of(&serde_json::from_str(&flotilla.run(&line)).unwrap())
    }

    fn of(made: &Value) -> Self {
        let text = |name: &str| made["accessKey"][name].as_str().unwrap().to_owned();
        Self { id: text("accessKeyId"), secret: text("secretAccessKey") }
    }

    fn aws(&self, flotilla: &Flotilla) -> Aws {
        Aws { access_key_id: self.id.clone(), secret: self.secret.clone(), ..Aws::root(flotilla) }
    }

    fn client(&self, flotilla: &Flotilla) -> Client {
        let basic = BASE64_STANDARD.encode(format!("{}:{}", self.id, self.secret));
        client(flotilla).with("Authorization", &format!("Basic {basic}"))
    }
}

fn bearer(client: &Client, flotilla: &Flotilla, repository: &str) -> Client {
    let token = client.get(&format!("/v2/token?service=x&scope=repository:{repository}:pull")).json();
    self::client(flotilla).with("Authorization", &format!("Bearer {}", token["token"].as_str().unwrap()))
}

#[test]
fn a_robot_pulls_what_it_may_and_changes_nothing() {
    let image = Image::oci(86, &[1000]);
    let (hub, flotilla) = with_image(&image);
    hub.put("library/secret", "v1", &Image::oci(87, &[10]));
    let ci = Robot::create(&flotilla, "ci", &["--repositories", "docker-hub/library/app", "own/*"]);
    let its = ci.client(&flotilla);
    pull(&its, APP, "latest", &image);
    pull(&bearer(&its, &flotilla, APP), APP, "latest", &image);
    let foreign = manifest_path("docker-hub/library/secret", "v1");
    let refused = its.get(&foreign);
    assert_eq!((refused.status, refused.error_code().as_str()), (403, "DENIED"));
    assert_eq!(hub.requests().iter().filter(|request| request.path.contains("secret")).count(), 0, "nobody was asked");
    let detail = &refused.json()["errors"][0]["detail"];
    assert!(detail["requestId"].is_string(), "who signed in can ask about it: {detail}");
    assert_eq!(client(&flotilla).get(&foreign).status, 200, "it is open to others");
    let push = its.request("POST", &format!("/v2/{APP}/blobs/uploads/"), &[], b"");
    assert_eq!((push.status, push.error_code().as_str()), (405, "UNSUPPORTED"));

    let aws = ci.aws(&flotilla);
    for (operation, input) in [
        ("CreateRepository", json!({"repositoryName": "own/new"})),
        ("DeleteRepository", json!({"repositoryName": APP, "force": true})),
        ("CreatePullThroughCacheRule", json!({"ecrRepositoryPrefix": "xx", "upstreamRegistryUrl": "quay.io"})),
        ("DeletePullThroughCacheRule", json!({"ecrRepositoryPrefix": "docker-hub"})),
        ("PutAccountSetting", json!({"name": "BLOB_MOUNTING", "value": "ENABLED"})),
        ("BatchDeleteImage", json!({"repositoryName": APP, "imageIds": [{"imageTag": "latest"}]})),
    ] {
        assert_eq!(aws.ecr_refusal(operation, &input), "AccessDeniedException", "{operation}");
    }
    for operation in ["CreateRobot", "DeleteRobot", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "GetStatus"]
    {
        let input = json!({"robotName": "ci", "accessKeyId": ci.id, "enabled": true});
        let refused = aws.try_flotilla(operation, &input).unwrap_err();
        assert_eq!(refused.code(), "AccessDeniedException", "{operation}");
    }
    let listed = aws.ecr("DescribeRepositories", &json!({}));
    let names = listed["repositories"].as_array().unwrap().iter().map(|found| found["repositoryName"].clone());
    assert_eq!(names.collect::<Vec<_>>(), [json!(APP)]);
    pull(&its, APP, "latest", &image);
}

#[test]
fn a_key_that_is_taken_away_takes_its_tokens_along_and_stays_away_after_a_restart() {
    let image = Image::oci(88, &[1000]);
    let (_hub, mut flotilla) = with_image(&image);
    let ci = Robot::create(&flotilla, "ci", &["--expires", "90d"]);
    let rotated = Robot::of(&serde_json::from_str(&flotilla.run(&["key", "rotate", &ci.id, "--json"])).unwrap());
    let path = manifest_path(APP, "latest");
    let token = bearer(&ci.client(&flotilla), &flotilla, APP);
    for client in [&ci.client(&flotilla), &token, &rotated.client(&flotilla)] {
        assert_eq!(client.get(&path).status, 200);
    }
    flotilla.run(&["key", "disable", &ci.id]);
    assert_eq!((ci.client(&flotilla).get(&path).status, token.get(&path).status), (401, 401));
    let listed = flotilla.run(&["key", "list"]);
    let line = listed.lines().find(|line| line.contains(&ci.id)).unwrap();
    assert!(line.contains("disabled") && line.contains("in 89d"), "{listed}");
    assert!(!listed.contains(&ci.secret) && !listed.contains(&rotated.secret));
    assert!(flotilla.terminate().success());
    flotilla.start_again();
    assert_eq!(ci.client(&flotilla).get(&path).status, 401);
    let token = bearer(&rotated.client(&flotilla), &flotilla, APP);
    assert_eq!((rotated.client(&flotilla).get(&path).status, token.get(&path).status), (200, 200));
    flotilla.run(&["key", "enable", &ci.id]);
    assert_eq!(ci.client(&flotilla).get(&path).status, 200);
    flotilla.run(&["key", "remove", "--robot", "ci"]);
    for client in [ci.client(&flotilla), rotated.client(&flotilla), token] {
        assert_eq!(client.get(&path).status, 401);
    }
    let root = Aws::root(&flotilla).access_key_id;
    let output = flotilla.command(&["key", "disable", &root]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("last one of root"), "{said}");

    // Shown once, and kept nowhere as it was shown.
    let log = flotilla.log().join("\n");
    for secret in [&ci.secret, &rotated.secret] {
        assert!(!log.contains(secret.as_str()));
        for file in files_below(flotilla.folder()) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{}", file.display());
        }
    }
}

#[test]
fn the_aws_command_line_signs_a_robot_in() {
    let Some(python) = required(Python::find(), "the AWS command line") else { return };
    let image = Image::oci(89, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    create_rule(&Aws::root(&flotilla), "again", DOCKER_HUB);
    let ci = Robot::create(&flotilla, "ci", &[]);
    let aws = |arguments: &[&str]| {
        let mut command = python.aws(&flotilla, arguments);
        command.env_remove("AWS_SHARED_CREDENTIALS_FILE");
        command.env("AWS_ACCESS_KEY_ID", &ci.id).env("AWS_SECRET_ACCESS_KEY", &ci.secret);
        command
    };
    let password = run(&mut aws(&["ecr", "get-login-password"]));
    let basic = BASE64_STANDARD.encode(format!("AWS:{}", password.trim()));
    let its = client(&flotilla).with("Authorization", &format!("Basic {basic}"));
    pull(&its, APP, "latest", &image);
    let identity: Value = serde_json::from_str(&run(&mut aws(&["sts", "get-caller-identity"]))).unwrap();
    assert_eq!(identity["Arn"], "arn:aws:iam::000000000000:user/ci");
    assert!(
        !aws(&["ecr", "delete-repository", "--repository-name", APP, "--force"]).output().unwrap().status.success()
    );
}
