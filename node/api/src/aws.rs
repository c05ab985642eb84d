//! The AWS API: find the operation's row, verify the signature, run the row. One path for JSON (ECR and our own) and for
//! Query with XML (STS).
//!
//! Order of the checks (`ecr-api.md` §4): signature, constraints, permission, existence, state.

mod account;
mod authorization;
mod cache_rules;
mod error;
mod flotilla;
mod handle;
mod images;
mod page;
mod policies;
mod protocol;
mod repositories;
mod shapes;
mod signer;
mod sts;
mod table;
mod tags;
mod templates;

use http::{Request, Response};
use hyper::body::Incoming;

use self::{
    error::AwsError,
    handle::{Call, Failure, Handle, repository, repository_resource},
    protocol::{Payload, Protocol},
    table::Row,
};
use crate::{
    Door,
    http::{
        Arrival, Body,
        body::{CollectError, collect},
    },
};

/// Of the operations that are served now the largest carries a template with both of its policies. Uploads in parts will
/// need more.
const BODY_LIMIT: usize = 1 << 20;

pub(crate) async fn serve(door: &Door, arrival: &Arrival, request: Request<Incoming>) -> Response<Body> {
    arrival.record.note(|facts| facts.api = "aws");
    let protocol = Protocol::of(request.headers());
    match answer(door, arrival, protocol, request).await {
        Ok(reply) => protocol.success(reply),
        Err(error) => {
            arrival.record.note(|facts| facts.error = Some(error.logged()));
            protocol.failure(&error, arrival.request)
        }
    }
}

async fn answer(
    door: &Door,
    arrival: &Arrival,
    protocol: Protocol,
    request: Request<Incoming>,
) -> Result<Vec<u8>, AwsError> {
    let (head, body) = request.into_parts();
    let body = collect(body, BODY_LIMIT).await.map_err(|error| match error {
        CollectError::TooLong(_) => AwsError::new(error::TOO_LARGE, error.to_string()),
        CollectError::Cut(_) => AwsError::new(flotilla_aws::ErrorCode::SERIALIZATION, error.to_string()),
    })?;
    let (row, payload) = protocol.read(&head, &body)?;
    arrival.record.note(|facts| facts.operation = Some(row.action.0));
    let caller = signer::verify(door, arrival, &head, &body, row).await?;
    arrival.record.note(|facts| facts.principal = Some(caller.principal.to_string()));
    (row.run)(door, arrival, &caller, payload).await
}
