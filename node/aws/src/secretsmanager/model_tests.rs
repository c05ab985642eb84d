//! Holds the shapes against AWS's own model: `model.json` is an extract of botocore's
//! `secretsmanager/2017-10-17/service-2.json`. Rotation and replicas are left out here, so a shape of ours has members of
//! the model, not all of them.

use serde::de::DeserializeOwned;

use super::*;
use crate::{
    Operation, Service,
    ecr::Tag,
    json,
    model::{Model, members},
};

fn hold_shape<T: DeserializeOwned>(model: &Model, shape: &str) {
    let known = model.shapes.get(shape).map(|shape| shape.members.as_slice()).unwrap_or_default();
    for member in members::<T>() {
        assert!(known.iter().any(|name| name == member), "{shape} has no {member}");
    }
}

fn hold<O: Operation>(model: &Model, held: &mut Vec<&'static str>) {
    assert_eq!(O::SERVICE, Service::SecretsManager);
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
fn operations_have_members_of_the_model() {
    let model: Model = serde_json::from_str(include_str!("model.json")).unwrap();
    let mut held = Vec::new();
    macro_rules! hold_all {
        ($($operation:ident)*) => { $(hold::<$operation>(&model, &mut held);)* };
    }
    hold_all! {
        CreateSecret DeleteSecret DescribeSecret GetResourcePolicy GetSecretValue ListSecretVersionIds ListSecrets
        PutSecretValue RestoreSecret TagResource UntagResource UpdateSecret UpdateSecretVersionStage
    }
    assert_eq!(held, model.operations.keys().map(String::as_str).collect::<Vec<_>>());
    hold_shape::<Filter>(&model, "Filter");
    hold_shape::<ReplicaRegion>(&model, "ReplicaRegionType");
    hold_shape::<SecretListEntry>(&model, "SecretListEntry");
    hold_shape::<SecretVersionsListEntry>(&model, "SecretVersionsListEntry");
    hold_shape::<Tag>(&model, "Tag");
}

fn refusal<O: Operation>(body: &str) -> Option<String> {
    let input: O::Input = json::decode(body.as_bytes()).unwrap();
    O::check(&input).err().map(|refused| refused.member)
}

#[test]
fn inputs_are_held_against_their_constraints() {
    let name = |rest: &str| refusal::<CreateSecret>(&format!(r#"{{"Name": "{rest}"}}"#));
    assert_eq!(name("ecr-pullthroughcache/hub"), None);
    for bad in ["hub", "ecr-pullthroughcache/", "ecr-pullthroughcache/a b", "ecr-pullthroughcache/a:b", ""] {
        assert_eq!(name(bad).as_deref(), Some("Name"), "{bad}");
    }
    assert_eq!(name(&format!("ecr-pullthroughcache/{}", "a".repeat(512))).as_deref(), Some("Name"));

    let create = |more: &str| refusal::<CreateSecret>(&format!(r#"{{"Name": "ecr-pullthroughcache/a", {more}}}"#));
    for (more, member) in [
        (r#""SecretString": "x""#, None),
        (r#""SecretString": """#, Some("SecretString")),
        (r#""SecretString": "x", "SecretBinary": "eA==""#, Some("SecretBinary")),
        (r#""ClientRequestToken": "short""#, Some("ClientRequestToken")),
        (r#""Tags": [{"Key": "a", "Value": ""}, {"Key": "a", "Value": "x"}]"#, Some("Tags")),
        (r#""Tags": [{"Key": "aws:a", "Value": ""}]"#, Some("Tags")),
        (r#""AddReplicaRegions": []"#, None),
        (r#""AddReplicaRegions": [{"Region": "eu-west-1"}]"#, Some("AddReplicaRegions")),
    ] {
        assert_eq!(create(more).as_deref(), member, "{more}");
    }
    let long = "x".repeat(65_537);
    assert_eq!(create(&format!(r#""SecretString": "{long}""#)).as_deref(), Some("SecretString"));

    let delete = |more: &str| refusal::<DeleteSecret>(&format!(r#"{{"SecretId": "a"{more}}}"#));
    assert_eq!(delete(""), None);
    assert_eq!(delete(r#", "RecoveryWindowInDays": 7"#), None);
    for bad in ["6", "31", r#"7, "ForceDeleteWithoutRecovery": true"#] {
        assert!(delete(&format!(r#", "RecoveryWindowInDays": {bad}"#)).is_some(), "{bad}");
    }
    let list = refusal::<ListSecrets>(r#"{"Filters": [{"Key": "nonsense", "Values": ["x"]}]}"#);
    assert_eq!(list.as_deref(), Some("Filters.1.member.Key"));
    let stage = refusal::<UpdateSecretVersionStage>(r#"{"SecretId": "a", "VersionStage": "X"}"#);
    assert_eq!(stage.as_deref(), Some("MoveToVersionId"));
}

#[test]
fn a_value_is_never_printed() {
    let input: PutSecretValueInput = json::decode(br#"{"SecretId": "a", "SecretString": "hunter2"}"#).unwrap();
    assert!(!format!("{input:?}").contains("hunter2"));
    assert!(String::from_utf8(json::encode(&input)).unwrap().contains("hunter2"));
}
