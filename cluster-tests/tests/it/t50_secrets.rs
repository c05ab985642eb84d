//! Secrets by the unmodified `aws` command line, boto3 and the node's own command line.

use std::{io::Write, process::Stdio};

use cluster_tests::{
    Image, Upstream,
    clients::{Python, required, run},
    upstream::Auth,
};
use serde_json::Value;

use crate::{
    common::{APP, DOCKER_HUB, before, pull},
    t10_secrets::nowhere,
    t30_credentials::signed_in,
};

#[test]
fn the_aws_command_line_keeps_a_credential() {
    let Some(python) = required(Python::find(), "the aws command line") else { return };
    let image = Image::oci(510, &[5000]);
    let auth = Auth::Bearer {
        login: Some(("robot".into(), "token-of-the-hub".into())),
        expires_in_seconds: 300,
        expired_status: 401,
    };
    let hub = Upstream::with_auth(auth);
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).arg("--no-default-rules").start();
    let aws = |line: &[&str]| -> Value {
        let out = run(&mut python.aws(&flotilla, line));
        serde_json::from_str(&out).unwrap_or_default()
    };
    const NAME: &str = "ecr-pullthroughcache/hub";
    let value = r#"{"username":"robot","accessToken":"token-of-the-hub"}"#;
    let secret = aws(&["secretsmanager", "create-secret", "--name", NAME, "--secret-string", value]);
    let arn = secret["ARN"].as_str().unwrap();
    aws(&[
        "ecr",
        "create-pull-through-cache-rule",
        "--ecr-repository-prefix",
        "docker-hub",
        "--upstream-registry-url",
        DOCKER_HUB,
        "--credential-arn",
        arn,
    ]);
    let verdict = aws(&["ecr", "validate-pull-through-cache-rule", "--ecr-repository-prefix", "docker-hub"]);
    assert_eq!(verdict["isValid"], true, "{verdict}");
    pull(&signed_in(&flotilla), APP, "latest", &image);
    let listed = aws(&["secretsmanager", "list-secrets", "--filters", "Key=name,Values=ecr-pullthroughcache"]);
    assert_eq!(listed["SecretList"][0]["ARN"], arn);
    let read = aws(&["secretsmanager", "get-secret-value", "--secret-id", arn]);
    assert_eq!(read["SecretString"], value);
    aws(&["secretsmanager", "delete-secret", "--secret-id", NAME, "--recovery-window-in-days", "7"]);
    aws(&["secretsmanager", "restore-secret", "--secret-id", NAME]);
    let elsewhere = python.aws(&flotilla, &["secretsmanager", "create-secret", "--name", "db"]).output().unwrap();
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("InvalidParameterException"));
}

/// The calls that Terraform's AWS provider makes for `aws_secretsmanager_secret` and `aws_secretsmanager_secret_version`.
const TERRAFORM: &str = r#"
import boto3, uuid
s = boto3.client("secretsmanager")
NAME = "ecr-pullthroughcache/tf"
def read(id):
    d = s.describe_secret(SecretId=id)
    p = s.get_resource_policy(SecretId=id)
    assert "ResourcePolicy" not in p, p
    d.pop("ResponseMetadata"); return d
def read_version(id, version):
    v = s.get_secret_value(SecretId=id, VersionId=version)
    v.pop("ResponseMetadata"); return v
# create
arn = s.create_secret(Name=NAME, ClientRequestToken=str(uuid.uuid4()), Description="d", Tags=[{"Key": "a", "Value": "b"}])["ARN"]
first = read(arn)
assert first == read(arn) and first["Name"] == NAME and first["Description"] == "d" and not first["RotationEnabled"]
token = str(uuid.uuid4())
version = s.put_secret_value(SecretId=arn, ClientRequestToken=token, SecretString='{"username":"u","accessToken":"t"}')
assert version["VersionId"] == token and version["VersionStages"] == ["AWSCURRENT"]
assert read_version(arn, token) == read_version(arn, token)
# update
s.update_secret(SecretId=arn, Description="e", KmsKeyId="alias/k")
s.tag_resource(SecretId=arn, Tags=[{"Key": "c", "Value": "d"}])
s.untag_resource(SecretId=arn, TagKeys=["a"])
second = read(arn)
assert second["Description"] == "e" and second["KmsKeyId"] == "alias/k" and second["Tags"] == [{"Key": "c", "Value": "d"}], second
# the version is replaced
after = s.put_secret_value(SecretId=arn, ClientRequestToken=str(uuid.uuid4()), SecretString="x")["VersionId"]
assert read_version(arn, token)["VersionStages"] == ["AWSPREVIOUS"]
s.update_secret_version_stage(SecretId=arn, VersionStage="AWSPREVIOUS", RemoveFromVersionId=token)
assert [v["VersionId"] for v in s.list_secret_version_ids(SecretId=arn)["Versions"]] == [after]
# a secret with a binary value
b = s.create_secret(Name="ecr-pullthroughcache/b", SecretBinary=b"\x00\x01")
assert s.get_secret_value(SecretId=b["ARN"])["SecretBinary"] == b"\x00\x01"
# destroy
s.delete_secret(SecretId=arn, RecoveryWindowInDays=30)
assert "DeletedDate" in read(arn)
s.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
try:
    s.describe_secret(SecretId=arn); raise SystemExit("still there")
except s.exceptions.ResourceNotFoundException as error:
    assert "can't find the specified secret" in str(error), error
print("done")
"#;

#[test]
fn boto3_makes_the_calls_of_terraform() {
    let Some(python) = required(Python::find(), "boto3") else { return };
    let hub = Upstream::start();
    let flotilla = before(&hub).arg("--no-default-rules").start();
    assert_eq!(run(&mut python.script(&flotilla, TERRAFORM)).trim(), "done");
}

#[test]
fn the_own_command_line_keeps_a_credential_and_never_shows_it() {
    const PASSWORD: &str = "a-password-on-standard-input";
    let image = Image::oci(511, &[5000]);
    let hub = Upstream::with_auth(Auth::Basic { user: "robot".into(), password: PASSWORD.into() });
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).arg("--no-default-rules").start();
    let put = |password: &str| {
        let arguments = ["secret", "put", "hub", "--username", "robot", "--password-stdin"];
        let mut child = flotilla
            .command(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(put("wrong").contains("ecr-pullthroughcache/hub"));
    let added = flotilla.command(&["rule", "add", "docker-hub", "--secret", "hub"]).output().unwrap();
    let warned = String::from_utf8_lossy(&added.stderr).into_owned();
    assert!(added.status.success() && warned.contains("no filter"), "{warned}");
    assert!(flotilla.command(&["rule", "validate", "docker-hub"]).output().unwrap().status.code() != Some(0));
    put(PASSWORD);
    assert!(flotilla.run(&["rule", "validate", "docker-hub"]).contains("is valid"));
    pull(&signed_in(&flotilla), APP, "latest", &image);
    for shown in [
        flotilla.run(&["secret", "list"]),
        flotilla.run(&["secret", "show", "hub"]),
        flotilla.run(&["secret", "show", "hub", "--json"]),
        flotilla.run(&["status"]),
    ] {
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
    nowhere(&flotilla, PASSWORD);
    flotilla.run(&["secret", "remove", "hub"]);
    assert!(flotilla.run(&["status"]).contains("scheduled for deletion"));
    flotilla.run(&["secret", "remove", "hub", "--now"]);
    assert!(!flotilla.run(&["secret", "list"]).contains("hub"));
}
