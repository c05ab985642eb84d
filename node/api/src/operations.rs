//! For those who run the node: is it alive, can it serve, what does it count. No permission is asked: nothing here names
//! content or callers.

use std::sync::atomic::Ordering;

use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::json;

use crate::{
    Door,
    http::{Arrival, Body, Entrance},
};

const WELCOME: &str = "flotilla: a pull through container registry cache\n\n\
    docker pull HOST/PREFIX/IMAGE    pulls through the cache rule of PREFIX\n\
    AWS_ENDPOINT_URL=http://HOST     makes the aws command line manage this registry\n\
    /healthz /readyz /metrics        for those who run it\n";

pub(crate) fn serve<B>(door: &Door, arrival: &Arrival, request: &Request<B>) -> Response<Body> {
    arrival.record.note(|facts| facts.api = "operations");
    let at = arrival.entrance;
    let details = at == Entrance::Admin || (at == Entrance::Registry && !door.admin_apart);
    match request.uri().path() {
        "/" if at != Entrance::Mirror => plain(StatusCode::OK, WELCOME),
        // The process answers: that is all it says.
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => {
            ready(door, details && request.uri().query().is_some_and(|query| query.split('&').any(is_verbose)))
        }
        "/metrics" if details => metrics(door),
        _ => not_found(arrival),
    }
}

pub(crate) fn not_found(arrival: &Arrival) -> Response<Body> {
    arrival.record.note(|facts| facts.api = "operations");
    plain(StatusCode::NOT_FOUND, "not found\n")
}

fn is_verbose(parameter: &str) -> bool {
    parameter == "verbose" || parameter.starts_with("verbose=")
}

/// This node can serve what it holds: it asks neither leader, quorum, upstream nor peers, which `?verbose` shows.
fn ready(door: &Door, verbose: bool) -> Response<Body> {
    let not_ready =
        if door.draining.load(Ordering::Relaxed) { Some("stopping") } else { door.services.cluster.ready().err() };
    let status = if not_ready.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !verbose {
        return plain(status, format!("{}\n", not_ready.unwrap_or("ready")));
    }
    let raft = door.services.cluster.raft();
    let node = door.services.cluster.node();
    let fields = json!({
        "ready": not_ready.is_none(),
        "reason": not_ready,
        "node": node.node.to_string(),
        "name": node.name,
        "region": node.region,
        "version": node.version,
        "leader": raft.leader.map(|leader| leader.to_string()),
        "isLeader": raft.is_leader,
        "term": raft.term,
        "lastLog": raft.last_log.map(|index| index.0),
        "applied": raft.applied.map(|index| index.0),
        "mirrors": door.mirror_upstream,
        "health": format!("{:?}", raft.health),
    });
    let mut response = plain(status, format!("{fields:#}\n"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn metrics(door: &Door) -> Response<Body> {
    let mut text = String::with_capacity(16 << 10);
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &door.registry) {
        tracing::error!(%error, "metrics cannot be encoded");
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n");
    }
    let mut response = plain(StatusCode::OK, text);
    let media_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

fn plain(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
