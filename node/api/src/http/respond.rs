//! A request becomes an [`Arrival`] here, and every response leaves with the headers that all have in common.

use flotilla_base::RequestId;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{
    Answer, Arrival, Body,
    forwarded::Sender,
    gate::Peer,
    live::Live,
    ns::Ns,
    observe::{Observation, ObservedBody},
    origin::{HostPolicy, HostRefused},
    server::Shared,
};

/// Content of others is served under our name: a browser must neither guess a type, nor run it, nor frame it, nor tell
/// others that it was here.
const SECURITY: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];
/// A year, and only this very name: what else lives below it is not ours to decide for.
const HSTS: &str = "max-age=31536000";

/// h2 carries the Host in its target; signatures and doors look for the header.
pub(super) fn restore_host(request: &mut Request<Incoming>) {
    if !request.headers().contains_key(header::HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, value);
    }
}

pub(super) async fn respond<A: Answer>(
    shared: &Shared<A>,
    live: &Live,
    peer: Peer,
    sender: Sender,
    observation: &Observation,
    request: Request<Incoming>,
) -> Response<Body> {
    let refuse = |reason, status, text: &'static str| {
        shared.observer.metrics.refuse(reason);
        observation.record.note(|facts| facts.api = "http");
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response
    };
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > live.max_uri_bytes) {
        let text = "the request's target is longer than http.max_uri_bytes\n";
        return refuse("uri_too_long", StatusCode::URI_TOO_LONG, text);
    }
    // hyper looks only when a read has ended, which may be twice as far.
    let head_bytes = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if head_bytes.sum::<usize>() > shared.max_header_bytes {
        let text = "the request's headers are longer than http.max_header_bytes\n";
        return refuse("head_too_large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text);
    }
    let host = HostPolicy::host(request.uri(), request.headers())
        .and_then(|host| live.hosts.admit(&host, peer.local).map(|()| host));
    let host = match host {
        Ok(host) => host,
        Err(HostRefused::Malformed) => {
            return refuse("host", StatusCode::BAD_REQUEST, "the request needs one valid Host\n");
        }
        Err(HostRefused::Foreign) => {
            let text = "this node does not go by that Host on its loopback address; see http.allowed_hosts\n";
            return refuse("host", StatusCode::MISDIRECTED_REQUEST, text);
        }
    };
    let entrance = live.hosts.entrance(&host, peer.listener);
    let beside = peer.local.ip().to_canonical().is_loopback() && sender.client.is_loopback();
    let arrival = Arrival {
        entrance,
        has_mirror_hosts: live.hosts.has_mirror(),
        ns: Ns::read(request.uri(), &live.hosts, &host, peer.local),
        client: sender.client,
        private: sender.tls.unwrap_or(peer.tls || beside),
        request: observation.request,
        origin: live.hosts.origin(Some(&host), peer.local, sender.tls.unwrap_or(peer.tls), entrance),
        record: observation.record.clone(),
    };
    let head_only = request.method() == Method::HEAD;
    let mut response = shared.door.answer(arrival, request).await;
    if head_only {
        *response.body_mut() = Body::Empty;
    }
    response
}

/// What every response carries, and the length that its body is held to.
pub(super) fn finish(
    mut response: Response<Body>,
    id: RequestId,
    multiplexed: bool,
    tls: bool,
    mut observation: Observation,
) -> Response<ObservedBody> {
    observation.answered(response.status());
    let bodiless = response.status() == StatusCode::NO_CONTENT || response.status() == StatusCode::NOT_MODIFIED;
    let len = match response.body() {
        Body::Empty => 0,
        _ if bodiless => 0,
        Body::Full(bytes) => bytes.len() as u64,
        Body::Blob(_) | Body::Stream(_) | Body::Multipart(_) => announced(&response),
    };
    let headers = response.headers_mut();
    if !bodiless && !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-amzn-requestid", value.clone());
        headers.insert("x-request-id", value);
    }
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    response.map(|body| ObservedBody::new(body, len, multiplexed, observation))
}

fn announced(response: &Response<Body>) -> u64 {
    let header = response.headers().get(header::CONTENT_LENGTH);
    header.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}
