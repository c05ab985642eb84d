use std::borrow::Cow;

use flotilla_oci::{Digest, ErrorCode, InvalidDigest, Name, Reference};
use flotilla_registry::access::Action;
use flotilla_service::Wanted;
use http::{Method, StatusCode};

use super::OciError;

/// Every endpoint of the distribution API, decoded. HEAD is GET without a body, but for a blob, which it does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Ping,
    Token,
    Catalog,
    Tags {
        name: Name,
    },
    Manifest {
        name: Name,
        reference: Reference,
    },
    Blob {
        name: Name,
        digest: Digest,
    },
    BlobHead {
        name: Name,
        digest: Digest,
    },
    Referrers {
        name: Name,
        digest: Digest,
    },
    /// Anything that would change a repository.
    Write {
        name: Name,
    },
}

/// A pull of a covered repository: the read, and what a first one brings about.
const PULL_MANIFEST: [Action; 3] =
    [Action("ecr:BatchGetImage"), Action("ecr:BatchImportUpstreamImage"), Action("ecr:CreateRepository")];
const PULL_BLOB: [Action; 3] =
    [Action("ecr:GetDownloadUrlForLayer"), Action("ecr:BatchImportUpstreamImage"), Action("ecr:CreateRepository")];
/// The upstream's word that it has the blob makes a link, and so a repository.
const LOOK_AT_BLOB: [Action; 3] =
    [Action("ecr:BatchCheckLayerAvailability"), Action("ecr:BatchImportUpstreamImage"), Action("ecr:CreateRepository")];

impl Endpoint {
    /// # Errors
    /// Names, digests and tags that break their grammar, and paths and methods that mean nothing here.
    pub(crate) fn parse(method: &Method, path: &str) -> Result<Self, OciError> {
        let path = decode(path).ok_or_else(unknown)?;
        let read = matches!(*method, Method::GET | Method::HEAD);
        let only = |allowed: bool, endpoint: Self| if allowed { Ok(endpoint) } else { Err(method_not_allowed()) };
        match path.strip_prefix("/v2").ok_or_else(unknown)? {
            "" | "/" => return only(read, Self::Ping),
            "/token" => return only(*method == Method::GET || *method == Method::POST, Self::Token),
            "/_catalog" => return only(read, Self::Catalog),
            _ => {}
        }
        let path = path.strip_prefix("/v2/").ok_or_else(unknown)?;
        // Names hold slashes, and may hold the words of the API too: the last parts say what it is.
        if let Some(raw) = path.strip_suffix("/tags/list") {
            return only(read, Self::Tags { name: name(raw)? });
        }
        let (rest, last) = path.rsplit_once('/').ok_or_else(unknown)?;
        if let Some(raw) = rest.strip_suffix("/blobs/uploads").or_else(|| path.strip_suffix("/blobs/uploads")) {
            return Ok(Self::Write { name: name(raw)? });
        }
        let (raw, kind) = rest.rsplit_once('/').ok_or_else(unknown)?;
        match kind {
            "manifests" => {
                let (name, reference) = (name(raw)?, reference(last)?);
                match *method {
                    Method::GET | Method::HEAD => Ok(Self::Manifest { name, reference }),
                    Method::PUT | Method::DELETE => Ok(Self::Write { name }),
                    _ => Err(method_not_allowed()),
                }
            }
            "blobs" => {
                let (name, digest) = (name(raw)?, digest(last)?);
                match *method {
                    Method::GET => Ok(Self::Blob { name, digest }),
                    Method::HEAD => Ok(Self::BlobHead { name, digest }),
                    Method::DELETE => Ok(Self::Write { name }),
                    _ => Err(method_not_allowed()),
                }
            }
            "referrers" => only(read, Self::Referrers { name: name(raw)?, digest: digest(last)? }),
            _ => Err(unknown()),
        }
    }

    /// The permission table of this API: the action that names the request, then what it may bring about where a cache
    /// rule covers the repository.
    pub(crate) const fn actions(&self, covered: bool) -> &'static [Action] {
        const fn pull(actions: &[Action; 3], covered: bool) -> &[Action] {
            if covered { actions } else { actions.split_at(1).0 }
        }
        match self {
            // Signing in is all there is to them.
            Self::Ping | Self::Token | Self::Write { .. } => &[],
            Self::Catalog => &[Action("ecr:DescribeRepositories")],
            Self::Tags { .. } => &[Action("ecr:ListImages")],
            Self::Manifest { .. } => pull(&PULL_MANIFEST, covered),
            Self::Blob { .. } => pull(&PULL_BLOB, covered),
            Self::BlobHead { .. } => pull(&LOOK_AT_BLOB, covered),
            Self::Referrers { .. } => &[Action("ecr:BatchGetImage")],
        }
    }

    /// What is pulled, as pulls are counted.
    pub(crate) const fn pulled(&self) -> Option<&'static str> {
        match self {
            Self::Manifest { .. } => Some("manifest"),
            Self::Blob { .. } => Some("blob"),
            _ => None,
        }
    }

    pub(crate) const fn name(&self) -> Option<&Name> {
        match self {
            Self::Ping | Self::Token | Self::Catalog => None,
            Self::Tags { name }
            | Self::Manifest { name, .. }
            | Self::Blob { name, .. }
            | Self::BlobHead { name, .. }
            | Self::Referrers { name, .. }
            | Self::Write { name } => Some(name),
        }
    }

    /// What a token must be for.
    pub(crate) const fn wanted(&self) -> Wanted<'_> {
        match (self, self.name()) {
            (Self::Catalog, _) => Wanted::Catalog,
            (Self::Write { .. }, Some(name)) => Wanted::Push(name),
            (_, Some(name)) => Wanted::Pull(name),
            (_, None) => Wanted::SignIn,
        }
    }

    /// The tag or digest that is asked for.
    pub(crate) fn reference(&self) -> Option<String> {
        match self {
            Self::Manifest { reference, .. } => Some(reference.to_string()),
            Self::Blob { digest, .. } | Self::BlobHead { digest, .. } | Self::Referrers { digest, .. } => {
                Some(digest.to_string())
            }
            Self::Ping | Self::Token | Self::Catalog | Self::Tags { .. } | Self::Write { .. } => None,
        }
    }
}

fn unknown() -> OciError {
    OciError::new(StatusCode::NOT_FOUND, ErrorCode::Unsupported, "no such endpoint of the distribution API")
}

fn method_not_allowed() -> OciError {
    OciError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, "this endpoint has no such method")
}

fn name(text: &str) -> Result<Name, OciError> {
    text.parse().map_err(|_| {
        let why = "a repository name has parts of a-z and 0-9, joined by '.', '_', '__' or '-', between slashes, and \
                   at most 256 characters in all";
        OciError::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, why)
    })
}

fn digest(text: &str) -> Result<Digest, OciError> {
    text.parse().map_err(|error: InvalidDigest| {
        OciError::new(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid, error.to_string())
    })
}

fn reference(text: &str) -> Result<Reference, OciError> {
    if text.contains(':') {
        return digest(text).map(Reference::Digest);
    }
    text.parse().map_err(|_| {
        let why =
            "a tag has at most 128 characters of A-Z, a-z, 0-9, '_', '.' and '-', and begins with none of the last two";
        OciError::new(StatusCode::BAD_REQUEST, ErrorCode::TagInvalid, why)
    })
}

/// Percent-decoded once; `None` when that is not possible or gives no UTF-8.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (hex, tail) = tail.split_at_checked(2)?;
        let digit = |c: &u8| char::from(*c).to_digit(16);
        let (high, low) = (digit(hex.first()?)?, digit(hex.last()?)?);
        bytes.push(u8::try_from(high << 4 | low).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest_text() -> String {
        format!("sha256:{}", "ab".repeat(32))
    }

    #[test]
    fn paths_name_endpoints() {
        let digest = digest_text();
        let name: Name = "a/manifests/blobs".parse().unwrap();
        let read = |path: &str| Endpoint::parse(&Method::GET, path).unwrap();
        assert_eq!(read("/v2"), Endpoint::Ping);
        assert_eq!(read("/v2/"), Endpoint::Ping);
        assert_eq!(read("/v2/token"), Endpoint::Token);
        assert_eq!(read("/v2/_catalog"), Endpoint::Catalog);
        assert_eq!(read("/v2/a/manifests/blobs/tags/list"), Endpoint::Tags { name: name.clone() });
        for text in ["latest", digest.as_str()] {
            let reference = text.parse().unwrap();
            let expected = Endpoint::Manifest { name: name.clone(), reference };
            assert_eq!(read(&format!("/v2/{name}/manifests/{text}")), expected);
        }
        let blob = Endpoint::Blob { name: name.clone(), digest: digest.parse().unwrap() };
        assert_eq!(read(&format!("/v2/{name}/blobs/{digest}")), blob);
        assert_eq!(read(&format!("/v2/{name}/blobs/{}", digest.replace(':', "%3A"))), blob);
        let referrers = Endpoint::Referrers { name, digest: digest.parse().unwrap() };
        assert_eq!(read(&format!("/v2/a/manifests/blobs/referrers/{digest}")), referrers);
    }

    #[test]
    fn writes_are_known_as_such() {
        let digest = digest_text();
        for (method, path) in [
            (Method::POST, "/v2/a/b/blobs/uploads/".to_owned()),
            (Method::POST, "/v2/a/b/blobs/uploads".to_owned()),
            (Method::PATCH, "/v2/a/b/blobs/uploads/some-id".to_owned()),
            (Method::PUT, "/v2/a/b/blobs/uploads/some-id".to_owned()),
            (Method::PUT, "/v2/a/b/manifests/latest".to_owned()),
            (Method::DELETE, format!("/v2/a/b/manifests/{digest}")),
            (Method::DELETE, format!("/v2/a/b/blobs/{digest}")),
        ] {
            let name = "a/b".parse().unwrap();
            assert_eq!(Endpoint::parse(&method, &path).unwrap(), Endpoint::Write { name }, "{method} {path}");
        }
    }

    #[test]
    fn malformed_requests_are_told_apart() {
        let digest = digest_text();
        let status = |method: &Method, path: &str| Endpoint::parse(method, path).unwrap_err().status().as_u16();
        for (path, expected) in [
            ("/v2/UPPER/manifests/latest".to_owned(), 400),
            ("/v2/a/manifests/.bad".to_owned(), 400),
            ("/v2/a/manifests/sha256:short".to_owned(), 400),
            ("/v2/a/manifests/".to_owned(), 400),
            ("/v2/a/blobs/latest".to_owned(), 400),
            (format!("/v2/../blobs/{digest}"), 400),
            (format!("/v2/a/..%2Fb/blobs/{digest}"), 400),
            ("/v2/manifests/latest".to_owned(), 404),
            ("/v2/a".to_owned(), 404),
            ("/v2/a%zz/manifests/x".to_owned(), 404),
            ("/v2/a%ff/manifests/x".to_owned(), 404),
            ("/v2x/a/manifests/x".to_owned(), 404),
        ] {
            assert_eq!(status(&Method::GET, &path), expected, "{path}");
        }
        assert_eq!(status(&Method::POST, "/v2/a/manifests/latest"), 405);
        assert_eq!(status(&Method::PUT, "/v2/"), 405);
        assert_eq!(status(&Method::DELETE, "/v2/_catalog"), 405);
    }

    #[test]
    fn everything_that_shows_content_asks_for_a_permission() {
        let name: Name = "a".parse().unwrap();
        let digest: Digest = digest_text().parse().unwrap();
        let reference = Reference::Digest(digest);
        for (endpoint, action) in [
            (Endpoint::Catalog, "ecr:DescribeRepositories"),
            (Endpoint::Tags { name: name.clone() }, "ecr:ListImages"),
            (Endpoint::Manifest { name: name.clone(), reference }, "ecr:BatchGetImage"),
            (Endpoint::Blob { name: name.clone(), digest }, "ecr:GetDownloadUrlForLayer"),
            (Endpoint::BlobHead { name: name.clone(), digest }, "ecr:BatchCheckLayerAvailability"),
            (Endpoint::Referrers { name, digest }, "ecr:BatchGetImage"),
        ] {
            assert_eq!(endpoint.actions(false), [Action(action)], "{endpoint:?}");
            assert_eq!(endpoint.actions(true).first(), Some(&Action(action)), "{endpoint:?}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "(/v2)?[a-zA-Z0-9/%._:é-]{0,80}", method in 0usize..5) {
            let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
            let _ = Endpoint::parse(&methods[method], &path);
        }

        #[test]
        fn well_formed_requests_round_trip(
            name in "[a-z0-9]{1,5}(/(manifests|blobs|tags|uploads|referrers|[a-z]{1,4})){0,3}",
            tag in "[a-zA-Z0-9_][a-z0-9._-]{0,8}",
        ) {
            let path = format!("/v2/{name}/manifests/{tag}");
            // `…/blobs/uploads/manifests` is the one name that a reader of the spec must give up.
            let taken = name.ends_with("blobs/uploads");
            let endpoint = Endpoint::parse(&Method::GET, &path).unwrap();
            let expected = Endpoint::Manifest { name: name.parse().unwrap(), reference: tag.parse().unwrap() };
            prop_assert!(taken || endpoint == expected, "{endpoint:?}");
        }
    }
}
