//! The AWS API: verify the signature, look the operation up in one table, run its row.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::{
    Door,
    http::{Arrival, Body},
};

pub(crate) async fn serve(_: &Door, arrival: &Arrival, _: Request<Incoming>) -> Response<Body> {
    arrival.record.note(|facts| facts.api = "aws");
    let mut response = Response::new(Body::from(r#"{"__type":"UnknownOperationException","message":""}"#));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
