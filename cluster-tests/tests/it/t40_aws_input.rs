//! Malformed calls at the AWS door: the code that the caller's SDK knows, and nothing changed.

use std::time::{SystemTime, UNIX_EPOCH};

use cluster_tests::{Flotilla, Image, aws::Aws, http::Response};
use serde_json::{Value, json};

use crate::common::with_image;

const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories";
const JSON: (&str, &str) = ("Content-Type", "application/x-amz-json-1.1");

fn code(response: &Response) -> String {
    let body: Value =
        serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("not JSON: {}", response.text()));
    body["__type"].as_str().unwrap_or_default().rsplit('#').next().unwrap_or_default().to_owned()
}

fn send(flotilla: &Flotilla, headers: &[(String, String)], body: &[u8]) -> Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    flotilla.client().request("POST", "/", &headers, body)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn signatures_that_are_missing_wrong_or_old_are_refused() {
    let (_hub, flotilla) = with_image(&Image::oci(420, &[1]));
    let aws = Aws::root(&flotilla);
    let headers = [JSON, ("X-Amz-Target", TARGET)];
    let sign = |aws: &Aws, at: u64| aws.sign("ecr", &headers, b"{}", at);
    let good = sign(&aws, now());
    assert_eq!(send(&flotilla, &good, b"{}").status, 200);

    let none: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(code(&send(&flotilla, &none, b"{}")), "MissingAuthenticationTokenException");
    assert_eq!(code(&send(&flotilla, &good, b"{ }")), "InvalidSignatureException", "another body");
    let wrong_secret = Aws { secret: "wrong".into(), ..aws.clone() };
    assert_eq!(code(&send(&flotilla, &sign(&wrong_secret, now()), b"{}")), "InvalidSignatureException");
    let unknown = Aws { access_key_id: "AKIAUNKNOWNUNKNOWN00".into(), ..aws.clone() };
    assert_eq!(code(&send(&flotilla, &sign(&unknown, now()), b"{}")), "UnrecognizedClientException");
    for at in [now() - 16 * 60, now() + 16 * 60] {
        let answer = code(&send(&flotilla, &sign(&aws, at), b"{}"));
        assert_eq!(answer, "InvalidSignatureException", "16 minutes off");
    }
    let other_service = aws.sign("s3", &headers, b"{}", now());
    assert_eq!(code(&send(&flotilla, &other_service, b"{}")), "InvalidSignatureException");
    let any_region = Aws { region: "eu-nowhere-9".into(), ..aws.clone() };
    assert_eq!(send(&flotilla, &sign(&any_region, now()), b"{}").status, 200, "any region is accepted");
    for broken in [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=zz",
        "Nonsense",
    ] {
        let mut headers = good.clone();
        headers.last_mut().unwrap().1 = broken.to_owned();
        let answer = code(&send(&flotilla, &headers, b"{}"));
        assert!(
            ["IncompleteSignatureException", "MissingAuthenticationTokenException"].contains(&answer.as_str()),
            "{broken}: {answer}"
        );
    }
    // A header that must be signed and is not.
    let mut unsigned_target = aws.sign("ecr", &[JSON], b"{}", now());
    unsigned_target.push(("X-Amz-Target".into(), TARGET.into()));
    let answer = code(&send(&flotilla, &unsigned_target, b"{}"));
    assert!(["IncompleteSignatureException", "InvalidSignatureException"].contains(&answer.as_str()), "{answer}");
}

#[test]
fn bodies_that_are_not_what_the_operation_wants_are_refused() {
    let (_hub, flotilla) = with_image(&Image::oci(421, &[1]));
    let aws = Aws::root(&flotilla);
    let call = |operation: &str, body: &[u8]| {
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
        code(&aws.post("ecr", &[JSON, ("X-Amz-Target", target.as_str())], body).unwrap())
    };
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    for body in [b"{".as_slice(), b"[]", b"null", b"\"x\"", b"{\"maxResults\": \"many\"}", b"\xff\xfe", b"{} {}", &deep]
    {
        assert_eq!(call("DescribeRepositories", body), "SerializationException", "{:?}", &body[..body.len().min(30)]);
    }
    assert_eq!(call("NoSuchOperation", b"{}"), "UnknownOperationException");
    let no_target = aws.post("ecr", &[JSON], b"{}").unwrap();
    assert_eq!(code(&no_target), "UnknownOperationException");
    // Members that nobody knows are ignored.
    let unknown = aws.ecr("DescribeRepositories", &json!({"noSuchMember": [1, {"a": null}], "nextToken": null}));
    assert_eq!(unknown["repositories"], json!([]));
}

#[test]
fn values_out_of_bounds_are_refused_and_change_nothing() {
    let (_hub, flotilla) = with_image(&Image::oci(422, &[1]));
    let aws = Aws::root(&flotilla);
    let before = state(&aws);
    let invalid = ["InvalidParameterException", "ValidationException"];
    let rule = |prefix: &str, url: &str| json!({"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": url});
    let cases: Vec<(&str, Value, &[&str])> = vec![
        ("CreateRepository", json!({}), &invalid),
        ("CreateRepository", json!({"repositoryName": ""}), &invalid),
        ("CreateRepository", json!({"repositoryName": "a"}), &invalid),
        ("CreateRepository", json!({"repositoryName": "UPPER"}), &invalid),
        ("CreateRepository", json!({"repositoryName": "a".repeat(257)}), &invalid),
        ("CreateRepository", json!({"repositoryName": "a/../b"}), &invalid),
        ("CreateRepository", json!({"repositoryName": "ok", "imageTagMutability": "SOMETIMES"}), &invalid),
        (
            "CreateRepository",
            json!({"repositoryName": "ok", "tags": [{"Key": "k".repeat(129), "Value": ""}]}),
            &["InvalidParameterException", "ValidationException", "InvalidTagParameterException"],
        ),
        ("DescribeRepositories", json!({"maxResults": 0}), &invalid),
        ("DescribeRepositories", json!({"maxResults": 1001}), &invalid),
        ("DescribeRepositories", json!({"maxResults": 5, "repositoryNames": ["aa"]}), &invalid),
        ("CreatePullThroughCacheRule", rule("a", "quay.io"), &invalid),
        ("CreatePullThroughCacheRule", rule(&"a".repeat(31), "quay.io"), &invalid),
        ("CreatePullThroughCacheRule", rule("a b", "quay.io"), &invalid),
        (
            "CreatePullThroughCacheRule",
            rule("mine", ""),
            &["InvalidParameterException", "ValidationException", "UnsupportedUpstreamRegistryException"],
        ),
        ("CreatePullThroughCacheRule", rule("mine", "evil.example"), &["UnsupportedUpstreamRegistryException"]),
        ("CreatePullThroughCacheRule", rule("mine", "http://quay.io"), &["UnsupportedUpstreamRegistryException"]),
        ("CreatePullThroughCacheRule", rule("mine", "169.254.169.254"), &["UnsupportedUpstreamRegistryException"]),
        (
            "CreatePullThroughCacheRule",
            rule("mine", "quay.io@evil.example"),
            &["UnsupportedUpstreamRegistryException", "InvalidParameterException"],
        ),
        (
            "UpdatePullThroughCacheRule",
            json!({"ecrRepositoryPrefix": "nothing-here"}),
            &["PullThroughCacheRuleNotFoundException"],
        ),
        (
            "DeletePullThroughCacheRule",
            json!({"ecrRepositoryPrefix": "nothing-here"}),
            &["PullThroughCacheRuleNotFoundException"],
        ),
        (
            "ValidatePullThroughCacheRule",
            json!({"ecrRepositoryPrefix": "nothing-here"}),
            &["PullThroughCacheRuleNotFoundException"],
        ),
        ("CreateRepositoryCreationTemplate", json!({"prefix": "x/"}), &invalid),
        ("CreateRepositoryCreationTemplate", json!({"prefix": "x", "appliedFor": ["SOMETHING"]}), &invalid),
        (
            "CreateRepositoryCreationTemplate",
            json!({"prefix": "x", "appliedFor": ["PULL_THROUGH_CACHE"], "repositoryPolicy": "{not json"}),
            &invalid,
        ),
        ("DeleteRepositoryCreationTemplate", json!({"prefix": "nothing-here"}), &["TemplateNotFoundException"]),
        ("ListImages", json!({"repositoryName": "nothing/here"}), &["RepositoryNotFoundException"]),
        ("DescribeImages", json!({"repositoryName": "nothing/here"}), &["RepositoryNotFoundException"]),
        (
            "BatchGetImage",
            json!({"repositoryName": "nothing/here", "imageIds": [{"imageTag": "t"}]}),
            &["RepositoryNotFoundException"],
        ),
        ("BatchGetImage", json!({"repositoryName": "nothing/here", "imageIds": []}), &invalid),
        ("ListTagsForResource", json!({"resourceArn": "arn:nonsense"}), &invalid),
        ("PutAccountSetting", json!({"name": "NO_SUCH_SETTING", "value": "x"}), &invalid),
        (
            "DescribeRepositories",
            json!({"registryId": "999999999999", "repositoryNames": ["aa"]}),
            &["RepositoryNotFoundException"],
        ),
    ];
    for (operation, input, codes) in cases {
        let code = aws.ecr_refusal(operation, &input);
        assert!(codes.contains(&code.as_str()), "{operation} {input}: {code}");
    }
    assert_eq!(state(&aws), before);
}

fn state(aws: &Aws) -> Vec<Value> {
    ["DescribeRepositories", "DescribePullThroughCacheRules", "DescribeRepositoryCreationTemplates"]
        .map(|operation| aws.ecr(operation, &json!({})))
        .to_vec()
}

#[test]
fn sts_speaks_query_and_xml() {
    let (_hub, flotilla) = with_image(&Image::oci(423, &[1]));
    let aws = Aws::root(&flotilla);
    let form = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")];
    let identity = aws.post("sts", &form, b"Action=GetCallerIdentity&Version=2011-06-15").unwrap();
    assert_eq!(identity.status, 200);
    assert!(identity.text().contains("<Arn>arn:aws:iam::000000000000:root</Arn>"), "{}", identity.text());
    let unknown = aws.post("sts", &form, b"Action=NoSuchAction&Version=2011-06-15").unwrap();
    assert!(unknown.status >= 400 && unknown.text().contains("<Code>InvalidAction</Code>"), "{}", unknown.text());
    let wrong = Aws { secret: "wrong".into(), ..aws };
    let refused = wrong.post("sts", &form, b"Action=GetCallerIdentity&Version=2011-06-15").unwrap();
    assert!(
        refused.status >= 400 && refused.text().contains("<Code>SignatureDoesNotMatch</Code>"),
        "{}",
        refused.text()
    );
}

#[test]
fn a_body_beyond_every_limit_is_refused_without_being_kept() {
    let (_hub, flotilla) = with_image(&Image::oci(424, &[1]));
    let client = flotilla.client().patient(std::time::Duration::from_secs(10));
    // Announced only: a server that reads it first would wait for it.
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nX-Amz-Target: {TARGET}\r\nContent-Length: 999999999999\r\n\r\n",
        flotilla.host()
    );
    let answer = client.connect().unwrap().send_raw("POST", head.as_bytes());
    assert!(answer.as_ref().is_ok_and(|head| (400..500).contains(&head.status)), "{answer:?}");
    assert_eq!(flotilla.client().get("/healthz").status, 200);
}
