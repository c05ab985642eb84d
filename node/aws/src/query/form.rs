use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Deeper names than any operation has.
const MAX_DEPTH: usize = 16;
/// More members than any operation takes.
const MAX_MEMBERS: usize = 1000;

/// A call in the Query protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub action: String,
    pub version: String,
    members: Value,
}

#[derive(Debug, thiserror::Error)]
pub enum MalformedForm {
    #[error("the form has no Action")]
    NoAction,
    #[error("the form has more than {MAX_MEMBERS} members, or a name of more than {MAX_DEPTH} parts")]
    TooLarge,
    #[error("a member of the form has the wrong type: {0}")]
    Type(serde_json::Error),
}

/// Reads a body of type `application/x-www-form-urlencoded`.
///
/// # Errors
/// [`MalformedForm`] when it is no call.
pub fn parse(body: &[u8]) -> Result<Request, MalformedForm> {
    let (mut action, mut version) = (None, String::new());
    let mut members = Map::new();
    for (at, (name, value)) in url::form_urlencoded::parse(body).enumerate() {
        if at >= MAX_MEMBERS || name.split('.').count() > MAX_DEPTH {
            return Err(MalformedForm::TooLarge);
        }
        match name.as_ref() {
            "Action" => action = Some(value.into_owned()),
            "Version" => version = value.into_owned(),
            _ => insert(&mut members, &name, value.into_owned()),
        }
    }
    let action = action.filter(|action| !action.is_empty()).ok_or(MalformedForm::NoAction)?;
    let members = members.into_iter().map(|(name, member)| (name, fold_lists(member))).collect();
    Ok(Request { action, version, members: Value::Object(members) })
}

impl Request {
    /// The members as an operation's input. Every scalar arrives as text.
    ///
    /// # Errors
    /// [`MalformedForm::Type`] when a member has another type than the input's.
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, MalformedForm> {
        serde_json::from_value(self.members).map_err(MalformedForm::Type)
    }
}

/// `Tags.member.1.Key` is the path to a value in nested objects. A name that is both a value and a parent keeps what
/// came last: no client writes such a form.
fn insert(members: &mut Map<String, Value>, name: &str, value: String) {
    match name.split_once('.') {
        None => {
            members.insert(name.to_owned(), Value::String(value));
        }
        Some((parent, rest)) => {
            let child = members.entry(parent).or_insert(Value::Null);
            if !child.is_object() {
                *child = Value::Object(Map::new());
            }
            if let Value::Object(child) = child {
                insert(child, rest, value);
            }
        }
    }
}

/// `{"member": {"1": a, "2": b}}` becomes `[a, b]`, by ascending number.
fn fold_lists(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    let is_list = members.len() == 1
        && members
            .get("member")
            .and_then(Value::as_object)
            .is_some_and(|items| !items.is_empty() && items.keys().all(|key| key.parse::<u32>().is_ok()));
    if !is_list {
        return Value::Object(members.into_iter().map(|(name, member)| (name, fold_lists(member))).collect());
    }
    let mut items: Vec<(u32, Value)> = members
        .into_iter()
        .filter_map(|(_, list)| if let Value::Object(list) = list { Some(list) } else { None })
        .flatten()
        .filter_map(|(key, item)| Some((key.parse().ok()?, fold_lists(item))))
        .collect();
    items.sort_by_key(|(number, _)| *number);
    Value::Array(items.into_iter().map(|(_, item)| item).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct CreateRole {
        role_name: String,
        tags: Vec<crate::ecr::Tag>,
    }

    #[test]
    fn the_call_of_the_cli_reads() {
        let request = parse(b"Action=GetCallerIdentity&Version=2011-06-15").unwrap();
        assert_eq!((request.action.as_str(), request.version.as_str()), ("GetCallerIdentity", "2011-06-15"));
        request.decode::<crate::sts::GetCallerIdentityInput>().unwrap();
    }

    #[test]
    fn lists_are_numbered_members() {
        let body = b"Action=CreateRole&RoleName=a+b%2F&Tags.member.10.Key=z&Tags.member.10.Value=10&Tags.member.2.Key=y&Tags.member.2.Value=";
        let role: CreateRole = parse(body).unwrap().decode().unwrap();
        assert_eq!(role.role_name, "a b/");
        let tags: Vec<(&str, &str)> = role.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())).collect();
        assert_eq!(tags, [("y", ""), ("z", "10")]);
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for body in [&b""[..], b"Version=2011-06-15", b"Action=", b"{}"] {
            assert!(matches!(parse(body), Err(MalformedForm::NoAction)), "{body:?}");
        }
        let deep = format!("Action=A&{}=1", "a.".repeat(20));
        assert!(matches!(parse(deep.as_bytes()), Err(MalformedForm::TooLarge)));
        let wide = format!("Action=A{}", "&a=1".repeat(1000));
        assert!(matches!(parse(wide.as_bytes()), Err(MalformedForm::TooLarge)));
        let wrong = parse(b"Action=A&RoleName.x=1&Tags=2").unwrap().decode::<CreateRole>();
        assert!(matches!(wrong, Err(MalformedForm::Type(_))));
    }

    proptest! {
        #[test]
        fn no_form_panics(body in proptest::collection::vec(any::<u8>(), 0..200), names in "([a.&=1%]|member){0,40}") {
            let _ = parse(&body);
            let _ = parse(format!("Action=A&{names}").as_bytes());
        }
    }
}
