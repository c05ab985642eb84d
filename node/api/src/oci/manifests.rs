use flotilla_oci::Reference;
use flotilla_registry::cache_rule::Target;
use flotilla_service::{Permit, ServiceError};
use http::{HeaderMap, Response, StatusCode, header};

use super::reply::{self, ETag};
use crate::{
    Door,
    http::{Arrival, Body},
};

/// The bytes as upstream wrote them; Accept chooses nothing, for another form would have another digest.
pub(super) async fn get(
    door: &Door,
    arrival: &Arrival,
    permit: Permit<'_>,
    target: &Target,
    reference: &Reference,
    headers: &HeaderMap,
) -> Result<Response<Body>, ServiceError> {
    let manifest = door.services.pull.manifest(permit, target, reference).await?;
    arrival.record.note(|facts| {
        facts.source = Some(reply::source(manifest.source));
        facts.upstream_status = manifest.upstream_status;
    });
    let etag = ETag::new(&manifest.digest);
    let response = reply::content(&etag, manifest.freshness);
    if etag.matches_any(headers.get_all(header::IF_NONE_MATCH)) {
        return Ok(reply::finish(response.status(StatusCode::NOT_MODIFIED), Body::Empty));
    }
    // HEAD has the length of what GET would send; the server takes the body off.
    let response = response
        .header(header::CONTENT_TYPE, manifest.media_type.0.as_str())
        .header(header::CONTENT_LENGTH, manifest.bytes.len());
    Ok(reply::finish(response, Body::Full(manifest.bytes)))
}
