//! The AWS API: find the operation's row, verify the signature, run the row. One path for JSON (ECR, Secrets Manager and our own) and for
//! Query with XML (STS).
//!
//! Order of the checks (`ecr-api.md` §4): signature, constraints, permission, existence, state.

mod account;
mod authorization;
mod cache_rules;
mod error;
mod explain;
mod flotilla;
mod handle;
mod images;
mod page;
mod policies;
mod protocol;
mod repositories;
mod rule_options;
mod secrets;
mod shapes;
mod signer;
mod sts;
mod table;
mod tags;
mod templates;

use flotilla_aws::ErrorCode;
use http::{Request, Response, header};
use hyper::body::Incoming;

use self::{
    error::AwsError,
    handle::{Call, Failure, Handle, repository, repository_resource},
    protocol::{Payload, Protocol},
    signer::Signer,
    table::Row,
};
use crate::{
    Door,
    http::{
        Arrival, Body,
        request_body::{CollectError, collect, discard},
    },
};

/// Of the operations that are served now the largest carries a template with both of its policies. Uploads in parts will
/// need more.
const BODY_LIMIT_BYTES: usize = 1 << 20;

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
    if head.headers.contains_key(header::AUTHORIZATION) && door.refuses_credentials(arrival) {
        discard(body).await;
        let text = "Credentials are not accepted over plain HTTP; use TLS, or set http.allow_plaintext.";
        return Err(AwsError::new(ErrorCode::ACCESS_DENIED, text));
    }
    // Nothing is kept for somebody whose key nobody knows.
    let signer = match Signer::find(door, &head).await {
        Ok(signer) => signer,
        Err(error) => {
            discard(body).await;
            return Err(error);
        }
    };
    let body = collect(body, BODY_LIMIT_BYTES, &door.calls).await.map_err(|error| {
        let code = match error {
            CollectError::TooLong(_) => error::TOO_LARGE,
            CollectError::Busy => ErrorCode::THROTTLING,
            CollectError::Slow | CollectError::Cut => ErrorCode::SERIALIZATION,
        };
        AwsError::new(code, error.to_string())
    })?;
    let (row, payload) = protocol.read(&head, &body)?;
    arrival.record.note(|facts| facts.operation = Some(row.action.0));
    let caller = signer.verify(door, arrival, &head, &body, row)?;
    arrival.record.note(|facts| facts.principal = Some(caller.principal.to_string()));
    (row.run)(door, arrival, &caller, payload).await
}
