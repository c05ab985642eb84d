//! What response headers say, read without trust.

use std::time::{Duration, UNIX_EPOCH};

use flotilla_base::{ByteLen, Timestamp};
use flotilla_oci::{Digest, InvalidDigest, MediaType};
use http::{HeaderMap, HeaderName, header};

/// The digest of a manifest or blob as the registry sees it.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `Retry-After` in seconds or as a date; zero for a date that is over.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = text(headers, header::RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_millis(now.0)))
}

/// `ratelimit-remaining: 76;w=21600`.
pub(crate) fn rate_limit_remaining(headers: &HeaderMap) -> Option<i64> {
    text(headers, RATELIMIT_REMAINING)?.split(';').next()?.trim().parse().ok()
}

/// `ratelimit-limit: 100;w=21600`: how much there is, and in which time.
pub(crate) fn rate_limit(headers: &HeaderMap) -> Option<(u64, Option<Duration>)> {
    let mut parts = text(headers, RATELIMIT_LIMIT)?.split(';').map(str::trim);
    let limit = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok());
    Some((limit, window.map(Duration::from_secs)))
}

/// `ratelimit-reset: 30`, in seconds.
pub(crate) fn rate_limit_reset(headers: &HeaderMap) -> Option<Duration> {
    text(headers, RATELIMIT_RESET)?.parse().ok().map(Duration::from_secs)
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<ByteLen> {
    text(headers, header::CONTENT_LENGTH)?.parse().ok().map(ByteLen)
}

/// `Content-Type` without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let essence = text(headers, header::CONTENT_TYPE)?.split(';').next()?.trim();
    (!essence.is_empty()).then(|| MediaType(essence.to_owned()))
}

/// A page for people: a login form, a portal, an error of a proxy. No registry sends one for content.
pub(crate) fn is_html(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|MediaType(essence)| {
        essence.eq_ignore_ascii_case("text/html") || essence.eq_ignore_ascii_case("application/xhtml+xml")
    })
}

/// The body is packed, though we asked for it as it is.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// # Errors
/// When there is one that is no digest.
pub(crate) fn content_digest(headers: &HeaderMap) -> Result<Option<Digest>, InvalidDigest> {
    match headers.get(CONTENT_DIGEST) {
        None => Ok(None),
        Some(value) => value.to_str().map_err(|_| InvalidDigest)?.trim().parse().map(Some),
    }
}

/// `Content-Range: bytes START-END/TOTAL`, with the end exclusive here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// `None` for `*`.
    pub(crate) total: Option<u64>,
}

/// `None` for anything that is not one well-formed range of bytes.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let (range, total) = text(headers, header::CONTENT_RANGE)?.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    let end = last.checked_add(1)?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (start < end && total.is_none_or(|total| end <= total)).then_some(ContentRange { start, end, total })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_bytes(value.as_bytes()).unwrap())])
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp(784_111_777_000);
        let after = |value| retry_after(&with(header::RETRY_AFTER, value), now);
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        for bad in ["", "-1", "soon", "1.5"] {
            assert_eq!(after(bad), None, "{bad}");
        }
    }

    #[test]
    fn content_ranges_are_read_exactly() {
        let range = |value| content_range(&with(header::CONTENT_RANGE, value));
        assert_eq!(range("bytes 5-9/10"), Some(ContentRange { start: 5, end: 10, total: Some(10) }));
        assert_eq!(range("bytes 0-0/*"), Some(ContentRange { start: 0, end: 1, total: None }));
        for bad in ["", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "items 0-1/2", "bytes 0-18446744073709551615/*"]
        {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_rest_is_read_leniently() {
        assert_eq!(rate_limit_remaining(&with(RATELIMIT_REMAINING, "76;w=21600")), Some(76));
        assert_eq!(rate_limit_remaining(&with(RATELIMIT_REMAINING, "x")), None);
        let hub = rate_limit(&with(RATELIMIT_LIMIT, "100;w=21600"));
        assert_eq!(hub, Some((100, Some(Duration::from_secs(21600)))));
        assert_eq!(rate_limit(&with(RATELIMIT_LIMIT, "60")), Some((60, None)));
        assert_eq!(rate_limit(&with(RATELIMIT_LIMIT, "-1;w=x")), None);
        let html = with(header::CONTENT_TYPE, "Text/HTML; charset=utf-8");
        assert!(is_html(&html));
        assert_eq!(media_type(&html).unwrap().0, "Text/HTML");
        assert!(is_encoded(&with(header::CONTENT_ENCODING, "gzip")));
        assert!(!is_encoded(&with(header::CONTENT_ENCODING, "identity")));
        assert_eq!(content_digest(&HeaderMap::new()), Ok(None));
        assert_eq!(content_digest(&with(CONTENT_DIGEST, "sha256:x")), Err(InvalidDigest));
    }

    proptest! {
        #[test]
        fn hostile_values_never_panic(value in "[ -~]{0,40}", digits in "bytes [0-9]{0,25}-[0-9]{0,25}/[0-9*]{0,25}") {
            for value in [&value, &digits] {
                for name in [header::RETRY_AFTER, header::CONTENT_RANGE, header::CONTENT_TYPE, RATELIMIT_REMAINING, RATELIMIT_LIMIT] {
                    let headers = with(name, value);
                    let _ = (retry_after(&headers, Timestamp(0)), content_range(&headers), media_type(&headers));
                    let _ = (rate_limit_remaining(&headers), rate_limit(&headers), rate_limit_reset(&headers));
                }
            }
        }
    }
}
