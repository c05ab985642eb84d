//! The distribution API. One enum of endpoints, one match; authenticate, map, authorize, serve, in this order.

mod blobs;
mod endpoint;
mod error;
mod lists;
mod manifests;
mod range;
mod reply;
mod sign_in;

use flotilla_oci::ErrorCode;
use flotilla_registry::{
    access::{PrincipalArn, Resource},
    cache_rule::Target,
    mapping::Namespace,
};
use flotilla_service::{Caller, Permit, ServiceError, SignedIn};
use http::{HeaderValue, Request, Response, StatusCode, header, request};
use hyper::body::Incoming;

use self::{
    blobs::BlobFailure,
    endpoint::Endpoint,
    error::OciError,
    lists::Page,
    sign_in::{Sent, Wish},
};
use crate::{
    Door,
    http::{Arrival, Body, Entrance, Ns},
};

pub(crate) async fn serve(door: &Door, arrival: &Arrival, request: Request<Incoming>) -> Response<Body> {
    arrival.record.note(|facts| facts.api = "oci");
    let mut principal = None;
    let answer = route(door, arrival, request, &mut principal).await;
    let mut response = answer.unwrap_or_else(|error| error.into_response(arrival, principal.as_ref()));
    response.headers_mut().insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    response
}

/// A request that came back to the cluster which sent it.
pub(crate) fn refuse_loop(arrival: &Arrival) -> Response<Body> {
    arrival.record.note(|facts| facts.api = "oci");
    let text = "this request has come through this cluster before, or through too many: a cache rule leads back to it";
    OciError::new(StatusCode::LOOP_DETECTED, ErrorCode::Unsupported, text).into_response(arrival, None)
}

async fn route(
    door: &Door,
    arrival: &Arrival,
    request: Request<Incoming>,
    principal: &mut Option<PrincipalArn>,
) -> Result<Response<Body>, OciError> {
    let (head, body) = request.into_parts();
    let endpoint = Endpoint::parse(&head.method, head.uri.path())?;
    if endpoint == Endpoint::Token {
        return Box::pin(sign_in::token(door, arrival, &head, body)).await;
    }
    let sent = sign_in::without_foreign(door, arrival, Sent::read(&head.headers)).await?;
    let wish = Wish(endpoint.wanted());
    if matches!((&endpoint, &sent), (Endpoint::Ping, Sent::None)) {
        let text = "sign in, or ask for an anonymous token";
        return Err(OciError::unauthorized(text, sign_in::challenge(door, arrival, wish)));
    }
    let who = sign_in::sign_in(door, arrival, &sent, wish).await.inspect_err(|error| {
        // Who sends nothing is only told where to sign in.
        if !matches!(sent, Sent::None) {
            count_denied(door, &endpoint, error);
        }
    })?;
    let SignedIn { principal: who, scope, .. } = who;
    let who = principal.insert(who).clone();
    arrival.record.note(|facts| {
        facts.principal = Some(who.to_string());
        facts.reference = endpoint.reference();
    });
    if !scope.covers(wish.0) {
        let error = sign_in::insufficient_scope(arrival, wish);
        count_denied(door, &endpoint, &error);
        return Err(error);
    }
    let caller = Caller {
        principal: who,
        access_key: None,
        source_ip: Some(arrival.client),
        request: arrival.request,
        region: None,
        idempotency: None,
    };
    let namespace = namespace(door, arrival)?;
    match &endpoint {
        Endpoint::Ping | Endpoint::Token => Ok(json(&serde_json::json!({}))),
        Endpoint::Write { .. } => Err(OciError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Unsupported,
            "this registry serves pulls; push and delete are not supported yet",
        )),
        Endpoint::Catalog if namespace != Namespace::Own => {
            let text = "a catalog is shown of this registry's own names only";
            Err(OciError::new(StatusCode::NOT_FOUND, ErrorCode::Unsupported, text))
        }
        Endpoint::Catalog => {
            let page = Page::read(&head.uri)?;
            let permit = allow(door, arrival, &caller, &endpoint, &Resource::Registry, false).await?;
            lists::catalog(door, permit, &caller, &page).await
        }
        Endpoint::Tags { name }
        | Endpoint::Manifest { name, .. }
        | Endpoint::Blob { name, .. }
        | Endpoint::BlobHead { name, .. }
        | Endpoint::Referrers { name, .. } => {
            let mapped = door.services.pull.map(namespace, name);
            let target = mapped.map_err(|error| {
                if let Some(kind) = endpoint.pulled() {
                    door.services.pull.count_unmapped(kind);
                }
                OciError::from_service(&error, &door.account_id())
            })?;
            arrival.record.note(|facts| facts.repository = Some(target.repository.to_string()));
            let resource = Resource::Repository(target.repository.clone());
            let permit = allow(door, arrival, &caller, &endpoint, &resource, target.origin.is_some())
                .await
                .inspect_err(|error| count_denied(door, &endpoint, error))?;
            let served = content(door, arrival, permit, &target, &endpoint, &head).await;
            served.map_err(|failure| match failure {
                BlobFailure::Service(error) => OciError::from_service(&error, &door.account_id()),
                BlobFailure::Request(error) => error,
            })
        }
    }
}

/// Whose names this request speaks. What `ns` says wins; the mirror's own entrance has a registry to stand for, and no
/// names of ours.
fn namespace<'a>(door: &'a Door, arrival: &'a Arrival) -> Result<Namespace<'a>, OciError> {
    let namespace = match (&arrival.ns, arrival.entrance) {
        (Ns::Unreadable, _) => {
            let text = "ns is not one registry host";
            return Err(OciError::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, text));
        }
        (Ns::Of(host), _) | (Ns::Own(host), Entrance::Mirror) => Namespace::Of(host),
        (Ns::Absent, Entrance::Mirror) => Namespace::Of(&door.mirror_upstream),
        (Ns::Absent | Ns::Own(_), _) => Namespace::Own,
    };
    if let Namespace::Of(host) = namespace {
        arrival.record.note(|facts| facts.ns = Some(host.to_owned()));
    }
    Ok(namespace)
}

async fn content(
    door: &Door,
    arrival: &Arrival,
    permit: Permit<'_>,
    target: &Target,
    endpoint: &Endpoint,
    head: &request::Parts,
) -> Result<Response<Body>, BlobFailure> {
    match endpoint {
        Endpoint::Manifest { reference, .. } => {
            Ok(manifests::get(door, arrival, permit, target, reference, &head.headers).await?)
        }
        Endpoint::Blob { digest, .. } => blobs::get(door, arrival, permit, target, digest, &head.headers).await,
        Endpoint::BlobHead { digest, .. } => Ok(blobs::head(door, permit, target, digest, &head.headers).await?),
        Endpoint::Referrers { digest, .. } => {
            Ok(Box::pin(lists::referrers(door, permit, target, digest, &head.uri)).await?)
        }
        Endpoint::Tags { .. } => {
            let page = Page::read(&head.uri).map_err(BlobFailure::Request)?;
            Box::pin(lists::tags(door, permit, target, &page)).await.map_err(BlobFailure::Request)
        }
        Endpoint::Ping | Endpoint::Token | Endpoint::Catalog | Endpoint::Write { .. } => {
            Err(BlobFailure::Service(ServiceError::Unexpected("an endpoint without content")))
        }
    }
}

/// Asks for every action of the endpoint; the permit is that of the first, which names the request. A caller who could
/// do it after signing in is told to.
async fn allow<'a>(
    door: &Door,
    arrival: &Arrival,
    caller: &'a Caller,
    endpoint: &Endpoint,
    resource: &Resource,
    covered: bool,
) -> Result<Permit<'a>, OciError> {
    let allowed = door.services.access.allow_pull(caller, endpoint.actions(covered), resource).await;
    allowed.map_err(|error| match error {
        ServiceError::Denied { .. } if caller.principal.is_anonymous() => {
            let challenge = sign_in::challenge(door, arrival, Wish(endpoint.wanted()));
            OciError::unauthorized("anonymous callers may not do this", challenge)
        }
        error => OciError::from_service(&error, &door.account_id()),
    })
}

fn count_denied(door: &Door, endpoint: &Endpoint, error: &OciError) {
    let is_denial = matches!(error.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if let Some(kind) = endpoint.pulled().filter(|_| is_denial) {
        door.services.pull.count_denied(kind);
    }
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
