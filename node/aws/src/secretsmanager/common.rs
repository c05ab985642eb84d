use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ecr::Tag,
    validate::{self, Checked, InvalidParameter},
};

/// What every name begins with: AWS's own rule for the secrets of pull through cache rules, and here there are no others.
pub const NAME_PREFIX: &str = "ecr-pullthroughcache/";

/// Text that is never printed: what a client sends or reads as a secret's value.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(pub String);

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive(..)")
    }
}

impl Drop for Sensitive {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        // Keeps the compiler from dropping the stores above as dead.
        std::hint::black_box(&bytes);
    }
}

pub(super) fn check_name(name: &str) -> Checked {
    validate::required("Name", name)?;
    validate::length("Name", name, 1, 512)?;
    let Some(rest) = name.strip_prefix(NAME_PREFIX) else {
        return Err(InvalidParameter::new(
            "Name",
            format!("must begin with {NAME_PREFIX}: only credentials of upstream registries are kept here"),
        ));
    };
    if rest.is_empty() || !rest.bytes().all(|c| c.is_ascii_alphanumeric() || b"/_+=.@-".contains(&c)) {
        return Err(InvalidParameter::new(
            "Name",
            "must only contain alphanumeric characters and the characters /_+=.@-",
        ));
    }
    Ok(())
}

pub(super) fn check_id(id: &str) -> Checked {
    validate::required("SecretId", id)?;
    validate::length("SecretId", id, 1, 2048)
}

/// Which version a value becomes; a repeated call has the same token.
pub(super) fn check_token(token: Option<&str>) -> Checked {
    match token {
        Some(token) => validate::length("ClientRequestToken", token, 32, 64),
        None => Ok(()),
    }
}

pub(super) fn check_value(text: Option<&Sensitive>, binary: Option<&Sensitive>) -> Checked {
    if let Some(Sensitive(text)) = text {
        validate::length("SecretString", text, 1, 65_536)?;
    }
    if let Some(Sensitive(binary)) = binary {
        // In Base64.
        validate::length("SecretBinary", binary, 1, 65_536 / 3 * 4 + 4)?;
    }
    if text.is_some() && binary.is_some() {
        return Err(InvalidParameter::new("SecretBinary", "must not be given together with SecretString"));
    }
    Ok(())
}

pub(super) fn check_described(description: Option<&str>, kms_key_id: Option<&str>) -> Checked {
    validate::length("Description", description.unwrap_or_default(), 0, 2048)?;
    validate::length("KmsKeyId", kms_key_id.unwrap_or_default(), 0, 2048)
}

pub(super) fn check_stage(member: &str, stage: &str) -> Checked {
    validate::required(member, stage)?;
    validate::length(member, stage, 1, 256)
}

pub(super) fn check_secret_tags(tags: &[Tag]) -> Checked {
    validate::count("Tags", tags, 0, 50)?;
    for (at, tag) in tags.iter().enumerate() {
        validate::length(&format!("Tags.{}.member.Key", at + 1), &tag.key, 1, 128)?;
        validate::length(&format!("Tags.{}.member.Value", at + 1), &tag.value, 0, 256)?;
        if tag.key.starts_with("aws:") {
            return Err(InvalidParameter::new("Tags", "keys that begin with aws: are reserved"));
        }
        if tags[..at].iter().any(|before| before.key == tag.key) {
            return Err(InvalidParameter::new("Tags", format!("'{}' is given twice", tag.key)));
        }
    }
    Ok(())
}

pub(super) fn check_page(max_results: Option<i64>) -> Checked {
    match max_results {
        Some(found) if !(1..=100).contains(&found) => {
            Err(InvalidParameter::new("MaxResults", "must have value between 1 and 100"))
        }
        _ => Ok(()),
    }
}
