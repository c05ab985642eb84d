//! Secrets Manager as infrastructure tools use it: made with and without a value, versions and stages, deletion with a
//! window, and what is refused.

use cluster_tests::{Flotilla, Upstream, aws::Aws, process::files_below};
use serde_json::{Value, json};

use crate::common::{DOCKER_HUB, before};

const NAME: &str = "ecr-pullthroughcache/hub";
const TOKEN: &str = "11111111-2222-3333-4444-555555555555";
const OTHER_TOKEN: &str = "11111111-2222-3333-4444-666666666666";

fn start() -> (Upstream, Flotilla, Aws) {
    let hub = Upstream::start();
    let flotilla = before(&hub).arg("--no-default-rules").start();
    let aws = Aws::root(&flotilla);
    (hub, flotilla, aws)
}

fn create(aws: &Aws, name: &str) -> String {
    aws.secrets("CreateSecret", &json!({"Name": name}))["ARN"].as_str().unwrap().to_owned()
}

fn current(aws: &Aws, id: &str) -> Value {
    aws.secrets("GetSecretValue", &json!({"SecretId": id}))
}

#[test]
fn a_secret_without_a_value_gets_one_and_another() {
    let (_hub, _flotilla, aws) = start();
    let made = json!({
        "Name": NAME, "Description": "of the hub", "KmsKeyId": "alias/x", "ClientRequestToken": TOKEN,
        "Tags": [{"Key": "team", "Value": "a"}],
    });
    let created = aws.secrets("CreateSecret", &made);
    let arn = created["ARN"].as_str().unwrap();
    let suffix = arn.strip_prefix(&format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{NAME}-")).unwrap();
    assert!(suffix.len() == 6 && created["Name"] == NAME && created.get("VersionId").is_none(), "{created}");
    assert_eq!(aws.secrets_refusal("GetSecretValue", &json!({"SecretId": NAME})), "ResourceNotFoundException");

    let described = aws.secrets("DescribeSecret", &json!({"SecretId": arn}));
    assert_eq!(
        (&described["ARN"], &described["Description"], &described["KmsKeyId"], &described["Tags"]),
        (&created["ARN"], &json!("of the hub"), &json!("alias/x"), &made["Tags"])
    );
    assert_eq!((&described["RotationEnabled"], &described["VersionIdsToStages"]), (&json!(false), &json!({})));
    assert!(described.get("DeletedDate").is_none() && described["CreatedDate"].is_number(), "{described}");
    assert_eq!(aws.secrets("DescribeSecret", &json!({"SecretId": arn})), described, "a second read is the first");
    let policy = aws.secrets("GetResourcePolicy", &json!({"SecretId": arn}));
    assert_eq!(policy, json!({"ARN": arn, "Name": NAME}));

    let put = json!({"SecretId": arn, "SecretString": "one", "ClientRequestToken": TOKEN});
    let first = aws.secrets("PutSecretValue", &put);
    assert_eq!((&first["VersionId"], &first["VersionStages"]), (&json!(TOKEN), &json!(["AWSCURRENT"])));
    assert_eq!(aws.secrets("PutSecretValue", &put), first, "the same call again");
    let conflict = json!({"SecretId": arn, "SecretString": "two", "ClientRequestToken": TOKEN});
    assert_eq!(aws.secrets_refusal("PutSecretValue", &conflict), "ResourceExistsException");
    let value = current(&aws, arn);
    assert_eq!((&value["SecretString"], &value["VersionId"]), (&json!("one"), &json!(TOKEN)));
    assert!(value.get("SecretBinary").is_none() && value["CreatedDate"].is_number());

    let second = aws.secrets("UpdateSecret", &json!({"SecretId": NAME, "SecretBinary": "AAEC", "Description": "new"}));
    let value = current(&aws, NAME);
    assert_eq!((&value["SecretBinary"], &value["VersionId"]), (&json!("AAEC"), &second["VersionId"]));
    let previous = aws.secrets("GetSecretValue", &json!({"SecretId": NAME, "VersionStage": "AWSPREVIOUS"}));
    assert_eq!(previous["SecretString"], "one");
    let by_id = json!({"SecretId": NAME, "VersionId": TOKEN, "VersionStage": "AWSCURRENT"});
    assert_eq!(aws.secrets_refusal("GetSecretValue", &by_id), "ResourceNotFoundException");
    assert_eq!(aws.secrets("DescribeSecret", &json!({"SecretId": arn}))["Description"], "new");
}

#[test]
fn stages_move_and_old_versions_are_listed() {
    let (_hub, _flotilla, aws) = start();
    let made = json!({"Name": NAME, "SecretString": "one", "ClientRequestToken": TOKEN});
    let created = aws.secrets("CreateSecret", &made);
    assert_eq!(created["VersionId"], TOKEN);
    assert_eq!(aws.secrets("CreateSecret", &made), created, "the same call again");
    let other = json!({"Name": NAME, "SecretString": "two", "ClientRequestToken": TOKEN});
    assert_eq!(aws.secrets_refusal("CreateSecret", &other), "ResourceExistsException");
    assert_eq!(aws.secrets_refusal("CreateSecret", &json!({"Name": NAME})), "ResourceExistsException");

    let pending = json!({
        "SecretId": NAME, "SecretString": "two", "ClientRequestToken": OTHER_TOKEN, "VersionStages": ["AWSPENDING"],
    });
    aws.secrets("PutSecretValue", &pending);
    assert_eq!(current(&aws, NAME)["SecretString"], "one");
    let promote = json!({"SecretId": NAME, "VersionStage": "AWSCURRENT", "MoveToVersionId": OTHER_TOKEN});
    assert_eq!(aws.secrets_refusal("UpdateSecretVersionStage", &promote), "InvalidParameterException");
    let promote = json!({
        "SecretId": NAME, "VersionStage": "AWSCURRENT", "MoveToVersionId": OTHER_TOKEN, "RemoveFromVersionId": TOKEN,
    });
    aws.secrets("UpdateSecretVersionStage", &promote);
    assert_eq!(current(&aws, NAME)["SecretString"], "two");
    let stages = aws.secrets("DescribeSecret", &json!({"SecretId": NAME}))["VersionIdsToStages"].clone();
    assert_eq!(stages, json!({TOKEN: ["AWSPREVIOUS"], OTHER_TOKEN: ["AWSCURRENT", "AWSPENDING"]}));

    let take = |stage: &str, from: &str| json!({"SecretId": NAME, "VersionStage": stage, "RemoveFromVersionId": from});
    assert_eq!(
        aws.secrets_refusal("UpdateSecretVersionStage", &take("AWSCURRENT", OTHER_TOKEN)),
        "InvalidParameterException"
    );
    aws.secrets("UpdateSecretVersionStage", &take("AWSPREVIOUS", TOKEN));
    let listed = |more: Value| {
        let mut input = json!({"SecretId": NAME});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let listed = aws.secrets("ListSecretVersionIds", &input);
        let ids = listed["Versions"].as_array().unwrap().iter().map(|version| version["VersionId"].clone());
        (ids.collect::<Vec<_>>(), listed["NextToken"].clone())
    };
    assert_eq!(listed(json!({})).0, [OTHER_TOKEN]);
    let (first, token) = listed(json!({"IncludeDeprecated": true, "MaxResults": 1}));
    let (second, end) = listed(json!({"IncludeDeprecated": true, "MaxResults": 1, "NextToken": token}));
    assert_eq!((first, second, end), (vec![json!(TOKEN)], vec![json!(OTHER_TOKEN)], Value::Null));
}

#[test]
fn a_deletion_waits_and_can_be_taken_back() {
    let (_hub, _flotilla, aws) = start();
    let arn = create(&aws, NAME);
    let deleted = aws.secrets("DeleteSecret", &json!({"SecretId": arn, "RecoveryWindowInDays": 7}));
    let described = aws.secrets("DescribeSecret", &json!({"SecretId": arn}));
    let days = (deleted["DeletionDate"].as_f64().unwrap() - described["DeletedDate"].as_f64().unwrap()) / 86_400.0;
    assert!((6.99..7.01).contains(&days), "{days}");
    for (operation, input) in [
        ("GetSecretValue", json!({"SecretId": NAME})),
        ("PutSecretValue", json!({"SecretId": NAME, "SecretString": "x"})),
        ("DeleteSecret", json!({"SecretId": NAME})),
        ("CreateSecret", json!({"Name": NAME})),
        ("TagResource", json!({"SecretId": NAME, "Tags": []})),
    ] {
        assert_eq!(aws.secrets_refusal(operation, &input), "InvalidRequestException", "{operation}");
    }
    let list = |more: Value| aws.secrets("ListSecrets", &more)["SecretList"].as_array().unwrap().len();
    assert_eq!((list(json!({})), list(json!({"IncludePlannedDeletion": true}))), (0, 1));
    aws.secrets("RestoreSecret", &json!({"SecretId": NAME}));
    assert_eq!(list(json!({})), 1);
    let now = json!({"SecretId": NAME, "ForceDeleteWithoutRecovery": true});
    assert_eq!(aws.secrets("DeleteSecret", &now)["ARN"], json!(arn));
    assert_eq!(aws.secrets_refusal("DescribeSecret", &json!({"SecretId": NAME})), "ResourceNotFoundException");
    aws.secrets("DeleteSecret", &now);
    assert_ne!(create(&aws, NAME), arn, "another secret of the same name");
    assert_eq!(aws.secrets_refusal("DescribeSecret", &json!({"SecretId": arn})), "ResourceNotFoundException");
}

#[test]
fn secrets_are_listed_in_pages_and_by_filters() {
    let (_hub, _flotilla, aws) = start();
    for name in ["a", "b", "c"] {
        create(&aws, &format!("ecr-pullthroughcache/{name}"));
    }
    let id = "ecr-pullthroughcache/b";
    aws.secrets(
        "TagResource",
        &json!({"SecretId": id, "Tags": [{"Key": "env", "Value": "x"}, {"Key": "k", "Value": ""}]}),
    );
    aws.secrets("UntagResource", &json!({"SecretId": id, "TagKeys": ["k", "absent"]}));
    let tags = aws.secrets("DescribeSecret", &json!({"SecretId": id}))["Tags"].clone();
    assert_eq!(tags, json!([{"Key": "env", "Value": "x"}]));
    let names = |input: Value| {
        let listed = aws.secrets("ListSecrets", &input);
        let of = |entry: &Value| entry["Name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let names: String = listed["SecretList"].as_array().unwrap().iter().map(of).collect();
        (names, listed["NextToken"].clone())
    };
    let (first, token) = names(json!({"MaxResults": 2}));
    assert_eq!(
        (first.as_str(), names(json!({"MaxResults": 2, "NextToken": token}))),
        ("ab", ("c".into(), Value::Null))
    );
    let (first, token) = names(json!({"MaxResults": 2, "SortOrder": "desc"}));
    let rest = names(json!({"MaxResults": 2, "SortOrder": "desc", "NextToken": token}));
    assert_eq!((first.as_str(), rest.0.as_str()), ("cb", "a"));
    for (key, value, found) in
        [("name", id, "b"), ("tag-key", "env", "b"), ("tag-value", "y", ""), ("name", "!ecr", "")]
    {
        assert_eq!(names(json!({"Filters": [{"Key": key, "Values": [value]}]})).0, found, "{key} {value}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_codes_of_aws() {
    let (_hub, flotilla, aws) = start();
    for (operation, input, code) in [
        ("CreateSecret", json!({}), "InvalidParameterException"),
        ("CreateSecret", json!({"Name": "database"}), "InvalidParameterException"),
        ("CreateSecret", json!({"Name": NAME, "SecretString": "x".repeat(70_000)}), "InvalidParameterException"),
        ("CreateSecret", json!({"Name": NAME, "SecretString": "x".repeat(20_000)}), "InvalidParameterException"),
        ("CreateSecret", json!({"Name": NAME, "SecretBinary": "!"}), "InvalidParameterException"),
        ("CreateSecret", json!({"Name": NAME, "SecretString": 987_654_321}), "SerializationException"),
        ("PutSecretValue", json!({"SecretId": NAME}), "InvalidParameterException"),
        ("GetSecretValue", json!({"SecretId": NAME}), "ResourceNotFoundException"),
        ("DescribeSecret", json!({"SecretId": "arn:aws:s3:::x"}), "InvalidParameterException"),
        ("RestoreSecret", json!({"SecretId": NAME}), "ResourceNotFoundException"),
        ("DeleteSecret", json!({"SecretId": NAME}), "ResourceNotFoundException"),
        ("RotateSecret", json!({"SecretId": NAME}), "UnknownOperationException"),
    ] {
        assert_eq!(aws.secrets_refusal(operation, &input), code, "{operation}");
    }
    let number = aws.try_secrets("CreateSecret", &json!({"Name": NAME, "SecretString": 987_654_321})).unwrap_err();
    assert!(!number.to_string().contains("987"), "{number}");
    assert!(flotilla.log().iter().all(|line| !line.contains("987654321")));
    // The signature is for this service, and anonymous callers have none.
    let wrong = aws.try_call("ecr", "secretsmanager.ListSecrets", &json!({})).unwrap_err();
    assert_eq!(wrong.code(), "InvalidSignatureException");
    let target = [("X-Amz-Target", "secretsmanager.ListSecrets"), ("Content-Type", "application/x-amz-json-1.1")];
    assert_eq!(aws.client.request("POST", "/", &target, b"{}").status, 400);
}

#[test]
fn a_rule_names_a_secret_that_is_there_and_belongs_to_its_upstream() {
    let (_hub, _flotilla, aws) = start();
    let arn = create(&aws, NAME);
    let rule = |prefix: &str, host: &str, arn: &str| json!({"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": host, "credentialArn": arn});
    let absent = arn.replace("/hub-", "/absent-");
    let create = "CreatePullThroughCacheRule";
    assert_eq!(aws.ecr_refusal(create, &rule("hub", DOCKER_HUB, &absent)), "SecretNotFoundException");
    let made = aws.ecr(create, &rule("hub", DOCKER_HUB, &arn));
    assert_eq!(made["credentialArn"], json!(arn), "without a value yet");
    // The region is a label, and the letters at the end may be missing.
    let short = arn.replace("us-east-1", "eu-west-1");
    aws.ecr(create, &rule("hub2", DOCKER_HUB, &short[..short.len() - 7]));
    assert_eq!(aws.ecr_refusal(create, &rule("other", "quay.io", &arn)), "UnableToAccessSecretException");
    let validate = |prefix: &str| aws.ecr("ValidatePullThroughCacheRule", &json!({"ecrRepositoryPrefix": prefix}));
    let verdict = validate("hub");
    let failure = verdict["failure"].as_str().unwrap();
    assert!(
        verdict["isValid"] == false && failure.starts_with("secret: ") && failure.contains("no value"),
        "{failure}"
    );
    aws.secrets("PutSecretValue", &json!({"SecretId": arn, "SecretString": "hunter2 is no JSON"}));
    let failure = validate("hub")["failure"].as_str().unwrap().to_owned();
    assert!(failure.starts_with("secret: ") && failure.contains("JSON") && !failure.contains("hunter2"), "{failure}");
    aws.secrets("DeleteSecret", &json!({"SecretId": arn}));
    let failure = validate("hub")["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("scheduled for deletion"), "{failure}");
    assert_eq!(aws.ecr_refusal(create, &rule("third", DOCKER_HUB, &arn)), "UnableToAccessSecretException");
    let update = json!({"ecrRepositoryPrefix": "hub", "credentialArn": absent});
    assert_eq!(aws.ecr_refusal("UpdatePullThroughCacheRule", &update), "SecretNotFoundException");
}

/// The text, and how it looks where bytes are written for people or wires.
pub(crate) fn spellings(secret: &str) -> Vec<Vec<u8>> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let mut all = vec![secret.as_bytes().to_vec(), hex::encode(secret).into_bytes()];
    // Of Base64, what is the same wherever the text stands in what was encoded.
    for skip in 0..3 {
        let encoded = BASE64_STANDARD.encode([&vec![b'x'; skip], secret.as_bytes()].concat());
        let inner = &encoded[4..encoded.len() - 4];
        all.push(inner.as_bytes().to_vec());
    }
    all
}

/// Neither the log, nor metrics, nor any file of the data folder holds the text.
#[track_caller]
pub(crate) fn nowhere(flotilla: &Flotilla, secret: &str) {
    let metrics = flotilla.client().get("/metrics").body;
    let log = flotilla.log().join("\n").into_bytes();
    let files = files_below(flotilla.folder());
    assert!(files.len() > 3, "the data folder was looked at");
    let files = files.iter().map(|file| (file.display().to_string(), std::fs::read(file).unwrap_or_default()));
    for (place, bytes) in files.chain([("the metrics".to_owned(), metrics), ("the log".to_owned(), log)]) {
        for text in spellings(secret) {
            assert!(!bytes.windows(text.len()).any(|window| window == text), "the secret is in {place}");
        }
    }
}
