//! Content discovery: tags, repositories, referrers.

use flotilla_oci::{Digest, ErrorCode, Name};
use flotilla_registry::cache_rule::Target;
use flotilla_service::{Caller, Permit, ServiceError};
use http::{HeaderValue, Response, StatusCode, Uri, header};
use serde_json::json;

use super::OciError;
use crate::{Door, http::Body};

/// Page when the client names none, and the largest: a page is built in memory.
const PAGE: usize = 1000;

const CATALOG: &str = "/v2/_catalog";

/// Begins a `last` that is sealed; no repository's name does.
const SEALED: char = '~';

/// `?n=` and `?last=`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    limit: usize,
    last: Option<String>,
    /// Whose name the next page is asked for by, as for this one.
    ns: Option<String>,
}

impl Page {
    /// # Errors
    /// 400 for an `n` that is no number.
    pub(super) fn read(uri: &Uri) -> Result<Self, OciError> {
        let mut page = Self { limit: PAGE, last: None, ns: None };
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "n" => {
                    let digits = !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit());
                    if !digits {
                        let text = "n is not a number of entries";
                        let code = ErrorCode::PaginationNumberInvalid;
                        return Err(OciError::new(StatusCode::BAD_REQUEST, code, text));
                    }
                    // More digits than fit ask for more than a page has.
                    page.limit = value.parse().unwrap_or(usize::MAX).min(PAGE);
                }
                "ns" => page.ns = Some(value.into_owned()),
                "last" if !value.is_empty() => page.last = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(page)
    }

    /// One entry more than is shown says whether there is a next page. `n=0` shows nothing (distribution spec,
    /// "Listing Tags").
    fn fetch(&self) -> usize {
        if self.limit == 0 { 0 } else { self.limit + 1 }
    }

    fn link(&self, path: &str, last: &str) -> Option<HeaderValue> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &self.limit.to_string()).append_pair("last", last);
        if let Some(ns) = &self.ns {
            query.append_pair("ns", ns);
        }
        let query = query.finish();
        HeaderValue::from_str(&format!("<{path}?{query}>; rel=\"next\"")).ok()
    }

    /// Cuts what was fetched to the page, and names the next one.
    fn cut(&self, entries: &mut Vec<String>, path: &str) -> Option<HeaderValue> {
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        entries.last().filter(|_| more).and_then(|last| self.link(path, last))
    }

    fn last<T: std::str::FromStr>(&self, what: &str) -> Result<Option<T>, OciError> {
        let parse = |text: &String| text.parse().map_err(|_| no_position(format!("last is not a {what}")));
        self.last.as_ref().map(parse).transpose()
    }
}

pub(super) async fn tags(
    door: &Door,
    permit: Permit<'_>,
    target: &Target,
    page: &Page,
) -> Result<Response<Body>, OciError> {
    let name = &target.repository;
    let after = page.last("tag")?;
    // Asked even for nothing: an unknown repository is 404 whatever `n` is.
    let found = door.services.images.tags(permit, name, after.as_ref(), page.fetch().max(1)).await;
    let mut tags: Vec<String> = found.map_err(|error| told(door, &error))?.iter().map(ToString::to_string).collect();
    let link = page.cut(&mut tags, &format!("/v2/{name}/tags/list"));
    Ok(listed(&json!({ "name": name.as_str(), "tags": tags }), link))
}

/// A name to go on from is shown as it is where the client has just seen it, and sealed where it may be one that he may
/// not know of.
pub(super) async fn catalog(
    door: &Door,
    permit: Permit<'_>,
    caller: &Caller,
    page: &Page,
) -> Result<Response<Body>, OciError> {
    let access = &door.services.access;
    let after: Option<Name> = match page.last.as_deref().and_then(|last| last.strip_prefix(SEALED)) {
        Some(token) => {
            let name = access.open_page_token(caller, CATALOG, token).and_then(|name| name.parse().ok());
            Some(name.ok_or_else(|| no_position("last is not one that this registry gave"))?)
        }
        None => page.last("repository name")?,
    };
    if page.limit == 0 {
        return Ok(listed(&json!({ "repositories": [] }), None));
    }
    let found = door.services.repositories.list(permit, after.as_ref(), page.limit).await;
    let (found, next) = found.map_err(|error| told(door, &error))?;
    let names: Vec<&str> = found.iter().map(|repository| repository.name.as_str()).collect();
    let link = match next {
        Some(next) if names.last() == Some(&next.as_str()) => page.link(CATALOG, next.as_str()),
        Some(next) => {
            let token = access.page_token(caller, CATALOG, next.as_str()).map_err(|error| told(door, &error))?;
            page.link(CATALOG, &format!("{SEALED}{token}"))
        }
        None => None,
    };
    Ok(listed(&json!({ "repositories": names }), link))
}

fn no_position(text: impl Into<String>) -> OciError {
    OciError::new(StatusCode::BAD_REQUEST, ErrorCode::PaginationNumberInvalid, text)
}

pub(super) async fn referrers(
    door: &Door,
    permit: Permit<'_>,
    target: &Target,
    digest: &Digest,
    uri: &Uri,
) -> Result<Response<Body>, ServiceError> {
    let query = uri.query().unwrap_or_default();
    let artifact_type = url::form_urlencoded::parse(query.as_bytes())
        .find_map(|(name, value)| (name == "artifactType" && !value.is_empty()).then_some(value));
    let index = door.services.pull.referrers(permit, target, digest, artifact_type.as_deref()).await?;
    // Upstreams need not filter, and what they did is not known here.
    let filtered = artifact_type.and_then(|wanted| filtered(&index, &wanted));
    let is_filtered = filtered.is_some();
    let mut response = Response::new(filtered.map_or(Body::Full(index), Body::from));
    let media_type = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    if is_filtered {
        response.headers_mut().insert("OCI-Filters-Applied", HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

/// The index with the referrers of one type only; `None` when it is no index.
fn filtered(index: &[u8], artifact_type: &str) -> Option<Vec<u8>> {
    let mut index: serde_json::Value = serde_json::from_slice(index).ok()?;
    let referrers = index.get_mut("manifests")?.as_array_mut()?;
    referrers.retain(|referrer| referrer["artifactType"] == artifact_type);
    serde_json::to_vec(&index).ok()
}

fn told(door: &Door, error: &ServiceError) -> OciError {
    OciError::from_service(error, &door.account_id())
}

fn listed(list: &serde_json::Value, link: Option<HeaderValue>) -> Response<Body> {
    let mut response = super::json(list);
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Page, OciError> {
        Page::read(&format!("/v2/a/tags/list?{query}").parse().unwrap())
    }

    #[test]
    fn pages_are_read_and_bounded() {
        assert_eq!(read("").unwrap(), Page { limit: PAGE, last: None, ns: None });
        assert_eq!(read("n=3&last=v1").unwrap(), Page { limit: 3, last: Some("v1".into()), ns: None });
        assert_eq!(read("n=99999999999999999999999").unwrap().limit, PAGE);
        assert_eq!(read("n=0").unwrap().fetch(), 0);
        for bad in ["n=-1", "n=", "n=x", "n=1.5"] {
            assert_eq!(read(bad).unwrap_err().status(), 400, "{bad}");
        }
        assert!(read("last=%2F").unwrap().last::<Name>("repository name").is_err());
    }

    #[test]
    fn only_a_full_page_with_more_behind_it_has_a_link() {
        let entries = |n: usize| (0..n).map(|i| format!("t/{i}")).collect::<Vec<_>>();
        let page = read("n=2").unwrap();
        let mut found = entries(3);
        let link = page.cut(&mut found, "/v2/a/tags/list").unwrap();
        assert_eq!(link, "</v2/a/tags/list?n=2&last=t%2F1>; rel=\"next\"");
        assert_eq!(found, entries(2));
        assert_eq!(page.cut(&mut entries(2), "/x"), None);
        let link = read("n=1&ns=quay.io").unwrap().cut(&mut entries(2), "/v2/quay/a/tags/list").unwrap();
        assert_eq!(link, "</v2/quay/a/tags/list?n=1&last=t%2F0&ns=quay.io>; rel=\"next\"");
        let none = read("n=0").unwrap();
        let mut found = entries(1);
        assert_eq!((none.cut(&mut found, "/x"), found.len()), (None, 0));
    }
}
