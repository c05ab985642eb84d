//! Holds the shapes against AWS's own model: `model.json` is an extract of botocore's
//! `secretsmanager/2017-10-17/service-2.json`. Rotation and replicas are left out here, so a shape of ours has members of
//! the model, not all of them.

use std::{cell::Cell, collections::BTreeMap, fmt};

use serde::{Deserialize, de};

use super::*;
use crate::{Operation, Service, ecr::Tag, json};

#[derive(Deserialize)]
struct Model {
    operations: BTreeMap<String, OperationModel>,
    shapes: BTreeMap<String, ShapeModel>,
}

#[derive(Deserialize)]
struct OperationModel {
    input: String,
    /// Empty where there is none.
    output: String,
}

#[derive(Deserialize)]
struct ShapeModel {
    members: Vec<String>,
    required: Vec<String>,
}

/// Catches the member names that a derived `Deserialize` asks for.
struct MemberNames<'a>(&'a Cell<&'static [&'static str]>);

#[derive(Debug)]
struct Caught;

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("caught")
    }
}

impl std::error::Error for Caught {}

impl de::Error for Caught {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> de::Deserializer<'de> for MemberNames<'_> {
    type Error = Caught;

    fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Caught> {
        Err(Caught)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        members: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Caught> {
        self.0.set(members);
        Err(Caught)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn hold_shape<T: de::DeserializeOwned>(model: &Model, shape: &str) {
    let caught = Cell::new(&[][..]);
    assert!(T::deserialize(MemberNames(&caught)).is_err());
    let known = model.shapes.get(shape).map(|shape| shape.members.as_slice()).unwrap_or_default();
    for member in caught.get() {
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
