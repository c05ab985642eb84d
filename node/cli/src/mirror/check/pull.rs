//! A pull as containerd's first request makes it, so that a node's own answer says whether it would succeed.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, uri::PathAndQuery};
use http_body_util::Full;

use super::{Target, Verdict, Verdicts};
use crate::{
    error::CliError,
    transport::{Transport, TransportError},
};

/// A first pull waits for the upstream, as long as containerd would.
const WITHIN: Duration = Duration::from_secs(30);
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// An image as people name it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) host: String,
    name: String,
    reference: String,
}

impl Image {
    /// docker's reading: without a host it is Docker Hub's.
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let wrong = || CliError::Usage(format!("'{text}' is not an image's name"));
        let (rest, reference) = match (text.split_once('@'), text.rsplit_once(':')) {
            (Some((name, digest)), _) => (name, digest),
            (None, Some((name, tag))) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        let (host, name) = match rest.split_once('/') {
            Some((host, name)) if host.contains(['.', ':']) || host == "localhost" => (host, name),
            _ => ("docker.io", rest),
        };
        if name.is_empty() {
            return Err(wrong());
        }
        let name = if host == "docker.io" && !name.contains('/') { format!("library/{name}") } else { name.to_owned() };
        let plain = |text: &str, more: &[u8]| {
            !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
        };
        if !plain(host, b".-:[]") || !plain(&name, b"._-/") || !plain(reference, b"._-:") {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), name, reference: reference.to_owned() })
    }

    fn target(&self) -> PathAndQuery {
        let Self { host, name, reference } = self;
        let text = format!("/v2/{name}/manifests/{reference}?ns={host}");
        text.parse().unwrap_or_else(|_| PathAndQuery::from_static("/v2/"))
    }
}

pub(super) async fn attempt(target: &Target, image: &Image, verdicts: &mut Verdicts) {
    let at = &target.endpoint;
    match resolve(target, image).await {
        Ok(Answer { reply, method }) => {
            let id = text_of(reply.headers(), "x-request-id").unwrap_or("none");
            let status = reply.status();
            if status == StatusCode::OK && method == Method::HEAD {
                let digest = text_of(reply.headers(), "docker-content-digest").unwrap_or("no digest");
                let text = format!("{at}: {}/{} is served, {digest} (request {id})", image.host, image.name);
                verdicts.say(Verdict::Ok, text);
            } else {
                let why = message(reply.body()).unwrap_or_else(|| "no reason given".into());
                let text = format!("{at}: {}/{}: {status}: {why} (request {id})", image.host, image.name);
                verdicts.say(Verdict::Failed, text);
            }
        }
        Err(why) => verdicts.say(Verdict::Failed, why),
    }
}

struct Answer {
    reply: Response<Bytes>,
    method: Method,
}

/// Signs in as an anonymous client does when it is told to.
async fn resolve(target: &Target, image: &Image) -> Result<Answer, String> {
    let transport = Transport::new(target.endpoint.clone(), target.ca_file.as_ref()).map_err(|error| chain(&error))?;
    let mut authorization = target.authorization.as_ref().and_then(|value| value.expose_str().map(str::to_owned));
    let first = ask(&transport, Method::HEAD, image, authorization.as_deref()).await?;
    let told = text_of(first.headers(), "www-authenticate").filter(|_| first.status() == StatusCode::UNAUTHORIZED);
    let mut reply = match told.filter(|_| authorization.is_none()).and_then(realm) {
        Some(realm) => {
            authorization = Some(format!("Bearer {}", token(&transport, realm).await?));
            ask(&transport, Method::HEAD, image, authorization.as_deref()).await?
        }
        None => first,
    };
    if reply.headers().get("docker-distribution-api-version").is_none() {
        return Err(format!("{}: what answers there is no registry", target.endpoint));
    }
    if reply.status() == StatusCode::OK {
        return Ok(Answer { reply, method: Method::HEAD });
    }
    // A HEAD has no text.
    reply = ask(&transport, Method::GET, image, authorization.as_deref()).await?;
    Ok(Answer { reply, method: Method::GET })
}

async fn ask(
    transport: &Transport,
    method: Method,
    image: &Image,
    authorization: Option<&str>,
) -> Result<Response<Bytes>, String> {
    let mut request = Request::builder()
        .method(method)
        .uri(transport.endpoint().with_target(image.target()))
        .header(header::ACCEPT, ACCEPT)
        .header(header::USER_AGENT, concat!("flotilla/", env!("CARGO_PKG_VERSION")));
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let unsendable = |_| format!("{}: the authorization cannot be sent", transport.endpoint());
    let request = request.body(Full::default()).map_err(unsendable)?;
    transport.exchange(request, WITHIN).await.map_err(|error| chain(&error))
}

/// The token's address on the same node; another's is not asked.
fn realm(challenge: &str) -> Option<PathAndQuery> {
    let rest = challenge.strip_prefix("Bearer ")?.split_once("realm=\"")?.1;
    let realm: http::Uri = rest.split_once('"')?.0.parse().ok()?;
    realm.path_and_query().cloned()
}

async fn token(transport: &Transport, realm: PathAndQuery) -> Result<String, String> {
    let request = Request::builder().uri(transport.endpoint().with_target(realm)).body(Full::default());
    let request = request.map_err(|error| error.to_string())?;
    let reply = transport.exchange(request, WITHIN).await.map_err(|error| chain(&error))?;
    let body: Option<serde_json::Value> = serde_json::from_slice(reply.body()).ok();
    let token = body.as_ref().and_then(|body| body["token"].as_str());
    token.map(str::to_owned).ok_or_else(|| format!("{}: no token for anonymous pulls", transport.endpoint()))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a registry says of its error.
fn message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = &body["errors"][0];
    Some(format!("{}: {}", error["code"].as_str()?, error["message"].as_str()?))
}

fn chain(error: &TransportError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_as_docker_reads_them() {
        let image = |host: &str, name: &str, reference: &str| Image {
            host: host.into(),
            name: name.into(),
            reference: reference.into(),
        };
        for (text, read) in [
            ("nginx", image("docker.io", "library/nginx", "latest")),
            ("org/app:v1", image("docker.io", "org/app", "v1")),
            ("docker.io/busybox", image("docker.io", "library/busybox", "latest")),
            ("quay.io/org/app@sha256:00", image("quay.io", "org/app", "sha256:00")),
            ("registry.example:5000/app", image("registry.example:5000", "app", "latest")),
        ] {
            assert_eq!(Image::parse(text).unwrap(), read, "{text}");
        }
        for bad in ["", "a b", "quay.io/", "a?x=y", "a#b", "quay.io/a:"] {
            assert!(Image::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Image::parse("nginx").unwrap().target(), "/v2/library/nginx/manifests/latest?ns=docker.io");
    }

    #[test]
    fn only_the_path_of_a_realm_is_taken() {
        let told = "Bearer realm=\"http://elsewhere.example/v2/token\",service=\"x\"";
        assert_eq!(realm(told).unwrap(), "/v2/token");
        assert_eq!(realm("Basic realm=\"x\""), None);
    }
}
