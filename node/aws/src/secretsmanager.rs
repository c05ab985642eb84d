//! The part of Secrets Manager that a cache's user needs: the credentials of upstream registries. A required member
//! that is missing reads as empty, and `check` refuses it; what AWS has and a single account without rotation or replicas
//! has no use for is left out of outputs and ignored in inputs.

mod common;
mod secrets;
mod tags;
mod values;

pub use common::*;
pub use secrets::*;
pub use tags::*;
pub use values::*;

#[cfg(test)]
mod model_tests;
