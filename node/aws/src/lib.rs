//! The AWS contract, for both ends of the wire: operations with their input, output and constraints, error codes, the
//! Query protocol, ARNs, SigV4. Pure: the server answers these operations, the command line and the tests call them.
//!
//! Invariants:
//! - A member that is `null` or missing is absent, an unknown member of an input is ignored, an absent member of an
//!   output is not written.
//! - What a member may hold is checked by [`Operation::check`], so that a wrong value is an `InvalidParameterException`
//!   and only a wrong JSON type is a `SerializationException`.

pub mod arn;
pub mod ecr;
mod error;
pub mod flotilla;
pub mod json;
#[cfg(test)]
mod model;
mod operation;
pub mod query;
pub mod secretsmanager;
pub mod sigv4;
pub mod sts;
pub mod validate;

pub use error::{ErrorBody, ErrorCode};
pub use operation::{Operation, Service};
