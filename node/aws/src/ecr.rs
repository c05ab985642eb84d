//! The registry's operations, a file per family. Timestamps are seconds since the Unix epoch with a fraction; a
//! required member that is missing reads as empty, and `check` refuses it.

mod account;
mod authorization;
mod cache_rules;
mod common;
mod images;
mod repositories;
mod tags;
mod templates;

pub use account::*;
pub use authorization::*;
pub use cache_rules::*;
pub use common::*;
pub use images::*;
pub use repositories::*;
pub use tags::*;
pub use templates::*;

#[cfg(test)]
mod model_tests;
