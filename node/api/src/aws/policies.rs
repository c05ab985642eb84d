//! Policy documents that are stored and given back before anything acts on them: they must at least be documents.

use flotilla_aws::validate::InvalidParameter;
use serde_json::Value;

/// # Errors
/// With AWS's text for a repository policy that is none.
pub(super) fn check_repository_policy(text: &str) -> Result<(), InvalidParameter> {
    let document: Option<Value> = serde_json::from_str(text).ok();
    let statement = document.as_ref().and_then(|document| document.as_object()?.get("Statement"));
    let whole = match statement {
        Some(Value::Array(statements)) => !statements.is_empty() && statements.iter().all(Value::is_object),
        Some(statement) => statement.is_object(),
        None => false,
    };
    if whole {
        return Ok(());
    }
    Err(InvalidParameter::new("PolicyText", "Invalid repository policy provided"))
}

/// # Errors
/// With AWS's text for a lifecycle policy that is none.
pub(super) fn check_lifecycle_policy(text: &str) -> Result<(), InvalidParameter> {
    let invalid = |detail: String| {
        InvalidParameter::new("LifecyclePolicyText", format!("Lifecycle policy validation failure: {detail}"))
    };
    let document: Value = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    let rules = document.get("rules").and_then(Value::as_array);
    let rules = rules.ok_or_else(|| invalid("object has missing required properties ([\"rules\"])".to_owned()))?;
    if rules.is_empty() || rules.len() > 50 {
        return Err(invalid(format!("{} rules, between 1 and 50 are allowed", rules.len())));
    }
    for rule in rules {
        let missing: Vec<&str> =
            ["action", "rulePriority", "selection"].into_iter().filter(|member| rule.get(member).is_none()).collect();
        if !missing.is_empty() {
            return Err(invalid(format!("object has missing required properties ({missing:?})")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_are_stored() {
        let statement = r#"{"Effect":"Allow","Principal":"*","Action":"ecr:*"}"#;
        assert!(check_repository_policy(&format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)).is_ok());
        assert!(check_repository_policy(&format!(r#"{{"Statement":{statement}}}"#)).is_ok());
        for bad in ["", "{", "[]", "{}", r#"{"Statement":"x"}"#, r#"{"Statement":[]}"#, r#"{"Statement":[1]}"#] {
            let error = check_repository_policy(bad).unwrap_err().to_string();
            assert_eq!(
                error,
                "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'"
            );
        }
        let rule = r#"{"rulePriority":1,"selection":{},"action":{"type":"expire"}}"#;
        assert!(check_lifecycle_policy(&format!(r#"{{"rules":[{rule}]}}"#)).is_ok());
        for bad in ["", "{}", r#"{"rules":[]}"#, r#"{"rules":[{}]}"#, r#"{"rules":[null]}"#] {
            let error = check_lifecycle_policy(bad).unwrap_err();
            assert!(error.why.starts_with("Lifecycle policy validation failure: "), "{bad}");
        }
        assert!(check_lifecycle_policy(r#"{"rules":[{"rulePriority":1}]}"#).unwrap_err().why.contains("selection"));
    }
}
