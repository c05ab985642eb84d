//! What replies with content have in common.

use flotilla_oci::Digest;
use flotilla_service::{Freshness, Source};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response};

use crate::http::Body;

/// The digest in quotes: content never changes under it, so it is a strong tag.
pub(super) struct ETag {
    digest: String,
    tag: String,
}

impl ETag {
    pub(super) fn new(digest: &Digest) -> Self {
        let digest = digest.to_string();
        Self { tag: format!("\"{digest}\""), digest }
    }

    /// If-None-Match, where a weak tag is as good as a strong one.
    pub(super) fn matches_any(&self, values: header::GetAll<'_, HeaderValue>) -> bool {
        values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag)
    }

    /// Whether If-Range lets a Range through: without the header, or when it names this content. A date never does: we
    /// send none.
    pub(super) fn allows_range(&self, headers: &HeaderMap) -> bool {
        headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == self.tag.as_bytes())
    }
}

pub(super) fn content(etag: &ETag, freshness: Freshness) -> response::Builder {
    let cache = match freshness {
        Freshness::Hit => "hit",
        Freshness::Miss => "miss",
        Freshness::Stale => "stale",
        Freshness::Passthrough => "passthrough",
    };
    Response::builder()
        .header("Docker-Content-Digest", &etag.digest)
        .header(header::ETAG, &etag.tag)
        .header("X-Flotilla-Cache", cache)
}

/// A builder fails only on a header that is none; every value here is ours, or was held against its grammar when it came
/// in.
pub(super) fn finish(builder: response::Builder, body: Body) -> Response<Body> {
    builder.body(body).unwrap_or_else(|error| {
        tracing::error!(%error, "a reply cannot be written");
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

pub(super) fn source(source: Source) -> &'static str {
    match source {
        Source::Local => "local",
        Source::Upstream => "upstream",
        Source::Passthrough => "passthrough",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_compare_digests() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let etag = ETag::new(&digest);
        let matches = |values: &[&str]| {
            let values = values.iter().map(|value| (header::IF_NONE_MATCH, value.parse().unwrap()));
            etag.matches_any(HeaderMap::from_iter(values).get_all(header::IF_NONE_MATCH))
        };
        let other = format!("\"sha256:{}\"", "cd".repeat(32));
        let own = format!("\"{digest}\"");
        assert!(matches(&[&own]) && matches(&["*"]) && matches(&[&format!("W/{own}")]));
        assert!(matches(&[&format!("{other}, {own}")]));
        assert!(!matches(&[]) && !matches(&[&other]) && !matches(&[&digest.to_string()]));

        let allows =
            |value: &str| etag.allows_range(&HeaderMap::from_iter([(header::IF_RANGE, value.parse().unwrap())]));
        assert!(allows(&own) && etag.allows_range(&HeaderMap::new()));
        assert!(!allows(&other) && !allows(&format!("W/{own}")) && !allows("Sat, 29 Oct 1994 19:43:31 GMT"));
    }
}
