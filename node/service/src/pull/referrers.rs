use bytes::Bytes;
use flotilla_oci::{Digest, MediaType};
use flotilla_registry::cache_rule::Target;
use flotilla_upstream::UpstreamError;
use serde::Deserialize;

use super::{Pull, failure::Failure, filtered};
use crate::{Caller, ServiceError};

/// What a digest without referrers has (distribution spec 1.1, "Listing Referrers").
const NONE: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// What must be there for the answer to be an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(rename = "manifests")]
    _manifests: Vec<serde::de::IgnoredAny>,
}

impl Pull {
    pub(super) async fn find_referrers(
        &self,
        caller: &Caller,
        target: &Target,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Bytes, ServiceError> {
        let none = || Bytes::from_static(NONE);
        if let Some(rule) = &target.filtered_by {
            // Not "none": what refers to an image is how its signature is looked for.
            return Err(filtered(target, rule));
        }
        let Some(origin) = &target.origin else { return Ok(none()) };
        let resolved = self.origins.resolve(origin).map_err(ServiceError::Origin)?;
        // Nothing of it is kept: each call asks.
        self.limits.miss(&self.limits.payer(caller), false)?;
        let upstream = resolved.upstream.on_behalf_of(caller.class());
        let artifact_type = artifact_type.map(|text| MediaType(text.to_owned()));
        match upstream.referrers(&resolved.name, digest, artifact_type.as_ref()).await.map_err(Failure::from) {
            Ok(Some(index)) if is_index(&index) => Ok(index),
            Ok(Some(_)) => Err(ServiceError::Upstream(UpstreamError::Malformed {
                host: resolved.host.into(),
                reason: "its referrers are no index",
            })),
            Ok(None) | Err(Failure::Absent) => Ok(none()),
            Err(failure) => Err(failure.of_blob(&target.repository, digest)),
        }
    }
}

fn is_index(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Index>(bytes).is_ok_and(|index| index.schema_version == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_empty_answer_is_an_index_and_a_web_page_is_none() {
        assert!(is_index(NONE));
        for bad in [&b"<html>"[..], b"{}", b"[]", br#"{"schemaVersion":1,"manifests":[]}"#] {
            assert!(!is_index(bad));
        }
    }
}
