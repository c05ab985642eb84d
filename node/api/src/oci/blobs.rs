use flotilla_base::{ByteLen, ByteRange};
use flotilla_oci::{Digest, ErrorCode};
use flotilla_registry::cache_rule::Target;
use flotilla_service::{Freshness, Permit, ServiceError, Source};
use flotilla_transfer::Blob;
use http::{HeaderMap, Response, StatusCode, header, response};

use super::{
    OciError,
    range::{self, Wanted},
    reply::{self, ETag},
};
use crate::{
    Door,
    http::{
        Arrival, Body,
        body::slice,
        multipart::{Framing, Multipart, content_range},
    },
};

/// Whatever a manifest calls it: a browser that is sent here must not show it as ours (`requirements.md` A).
const MEDIA_TYPE: &str = "application/octet-stream";

/// Why a blob is not served.
pub(super) enum BlobFailure {
    Service(ServiceError),
    Request(OciError),
}

impl From<ServiceError> for BlobFailure {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

/// The length, without fetching anything.
pub(super) async fn head(
    door: &Door,
    permit: Permit<'_>,
    target: &Target,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<Response<Body>, ServiceError> {
    let len = door.services.pull.blob_len(permit, target, digest).await?;
    let etag = ETag::new(digest);
    let response = reply::content(&etag, Freshness::Hit);
    if etag.matches_any(headers.get_all(header::IF_NONE_MATCH)) {
        return Ok(reply::finish(response.status(StatusCode::NOT_MODIFIED), Body::Empty));
    }
    Ok(reply::finish(whole(response, len), Body::Empty))
}

pub(super) async fn get(
    door: &Door,
    arrival: &Arrival,
    permit: Permit<'_>,
    target: &Target,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<Response<Body>, BlobFailure> {
    let etag = ETag::new(digest);
    if etag.matches_any(headers.get_all(header::IF_NONE_MATCH)) {
        // The client holds it already; whether it may know that it is here is asked all the same.
        door.services.pull.blob_len(permit, target, digest).await?;
        let response = reply::content(&etag, Freshness::Hit).status(StatusCode::NOT_MODIFIED);
        return Ok(reply::finish(response, Body::Empty));
    }
    let served = door.services.pull.blob(permit, target, digest).await?;
    arrival.record.note(|facts| {
        facts.source = Some(reply::source(served.source));
        // Bytes that come from there now follow a head that said so.
        facts.upstream_status = (served.source != Source::Local).then_some(200);
    });
    let len = served.len;
    let response = reply::content(&etag, served.freshness);
    let wanted = match headers.get(header::RANGE).map(http::HeaderValue::to_str) {
        Some(Ok(text)) if etag.allows_range(headers) => range::parse(text, len.0),
        _ => Wanted::Whole,
    };
    match (wanted, served.blob) {
        (Wanted::Unsatisfiable, _) => Err(BlobFailure::Request(OciError::unsatisfiable(len.0))),
        (Wanted::TooMany, _) => {
            let text = "too many ranges in one request";
            Err(BlobFailure::Request(OciError::new(StatusCode::BAD_REQUEST, ErrorCode::RangeInvalid, text)))
        }
        (Wanted::Ranges(ranges), blob) => match (ranges.as_slice(), blob) {
            ([single], Blob::Local(reader)) => {
                Ok(reply::finish(partial(response, *single, len), Body::Blob(Box::new(reader.range(*single)))))
            }
            ([single], Blob::Through { body, .. }) => {
                Ok(reply::finish(partial(response, *single, len), Body::Stream(slice(body, *single))))
            }
            (_, Blob::Local(reader)) => {
                let framing = Framing::new(door.host.entropy.u128(), MEDIA_TYPE, len);
                let response = response
                    .status(StatusCode::PARTIAL_CONTENT)
                    .header(header::CONTENT_TYPE, framing.media_type())
                    .header(header::CONTENT_LENGTH, framing.content_len(&ranges))
                    .header(header::ACCEPT_RANGES, "bytes");
                let parts = Multipart::new(framing, reader, ranges);
                Ok(reply::finish(response, Body::Multipart(Box::new(parts))))
            }
            // What passes by is read once, forwards; the whole is an answer too.
            (_, Blob::Through { body, .. }) => Ok(reply::finish(whole(response, len), Body::Stream(body))),
        },
        (Wanted::Whole, Blob::Local(reader)) => Ok(reply::finish(whole(response, len), Body::Blob(Box::new(reader)))),
        (Wanted::Whole, Blob::Through { body, .. }) => Ok(reply::finish(whole(response, len), Body::Stream(body))),
    }
}

fn whole(response: response::Builder, len: ByteLen) -> response::Builder {
    response
        .header(header::CONTENT_TYPE, MEDIA_TYPE)
        .header(header::CONTENT_LENGTH, len.0)
        .header(header::ACCEPT_RANGES, "bytes")
}

fn partial(response: response::Builder, range: ByteRange, len: ByteLen) -> response::Builder {
    whole(response, ByteLen(range.len()))
        .status(StatusCode::PARTIAL_CONTENT)
        .header(header::CONTENT_RANGE, content_range(range, len))
}
