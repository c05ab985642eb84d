//! The registry's rules, as values and pure functions: what a name maps to, what a new repository is made of, which tag
//! may move, why something is refused. It holds no data, reads no clock and knows no wire format.

pub mod access;
pub mod cache_rule;
mod glob;
pub mod image;
pub mod mapping;
mod node;
mod prefix;
mod refusal;
pub mod repository;
mod sealed;
pub mod secret;
mod settings;
pub mod template;
pub mod upstream;

pub use glob::Glob;
pub use node::{NodeRecord, NodeState};
pub use prefix::{InvalidPrefix, Prefix};
pub use refusal::Refusal;
pub use repository::Repository;
pub use sealed::Sealed;
pub use settings::{RepositoryCreation, Settings};
