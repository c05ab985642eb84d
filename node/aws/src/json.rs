//! JSON bodies of the contract. `null` and missing are one thing, which serde does not offer for plain members; so
//! nulls are taken out before a shape is read.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The body is no JSON object, or a member has the wrong JSON type: `SerializationException`.
#[derive(Debug, thiserror::Error)]
pub enum MalformedBody {
    #[error("the body is not valid JSON")]
    Syntax(#[source] serde_json::Error),
    #[error("the body is not a JSON object")]
    NotAnObject,
    #[error("a member of the body has the wrong type: {0}")]
    Type(serde_json::Error),
}

/// Reads an input (server) or an output (client). An empty body is `{}`, as some clients send it for calls without
/// arguments.
///
/// # Errors
/// [`MalformedBody`]; depth is bounded by serde_json's limit of 128.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, MalformedBody> {
    let mut value = if body.iter().all(u8::is_ascii_whitespace) {
        Value::Object(serde_json::Map::new())
    } else {
        serde_json::from_slice(body).map_err(MalformedBody::Syntax)?
    };
    if !value.is_object() {
        return Err(MalformedBody::NotAnObject);
    }
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(MalformedBody::Type)
}

/// Writes an output (server) or an input (client).
pub fn encode<T: Serialize>(shape: &T) -> Vec<u8> {
    serde_json::to_vec(shape).expect("shapes have string keys only and their Serialize does not fail")
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecr::{CreateRepositoryInput, DescribeRepositoriesInput, DescribeRepositoriesOutput};

    #[test]
    fn null_is_absent_and_unknown_members_are_ignored() {
        let input: CreateRepositoryInput =
            decode(br#"{"repositoryName": null, "registryId": null, "imageScanningConfiguration": {"scanOnPush": null}, "x": 1}"#)
                .unwrap();
        assert_eq!(input.repository_name, "");
        assert_eq!(input.registry_id, None);
        assert!(!input.image_scanning_configuration.unwrap().scan_on_push);
    }

    #[test]
    fn bodies_of_calls_without_arguments_may_be_empty() {
        for body in [&b""[..], b"{}", b"\n"] {
            assert!(decode::<DescribeRepositoriesInput>(body).unwrap().repository_names.is_none());
        }
    }

    #[test]
    fn malformed_bodies_are_told_apart() {
        assert!(matches!(decode::<CreateRepositoryInput>(b"{"), Err(MalformedBody::Syntax(_))));
        assert!(matches!(decode::<CreateRepositoryInput>(b"[]"), Err(MalformedBody::NotAnObject)));
        assert!(matches!(decode::<CreateRepositoryInput>(br#"{"repositoryName": 5}"#), Err(MalformedBody::Type(_))));
        assert!(matches!(decode::<CreateRepositoryInput>("[".repeat(1000).as_bytes()), Err(MalformedBody::Syntax(_))));
    }

    #[test]
    fn outputs_write_empty_lists_and_omit_what_is_absent() {
        assert_eq!(encode(&DescribeRepositoriesOutput::default()), br#"{"repositories":[]}"#);
    }
}
