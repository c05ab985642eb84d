//! The use cases: pull, rules, secrets, templates, repositories, images, access, cluster. Every API and every job ends here.
//!
//! Invariant: a function that serves a caller takes a [`Permit`], which only [`Access`] makes; so no door can forget to
//! ask. Denied is denied through every door (10), and an explicit no of the replicated state is never softened here.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests stand in for the world around a node"))]

mod access;
mod caller;
mod cluster;
mod error;
mod explain;
mod images;
mod limits;
mod parts;
mod principals;
mod proposer;
mod pull;
mod repositories;
mod rules;
mod secrets;
mod services;
mod templates;
mod token;

pub use access::{
    ACCESS_KEY_PURPOSE, Access, AccessConfig, Anonymous, Credential, Grant, IssuedToken, Scope, SignInError,
    SignInFailure, SignedIn, TooManyScopes, Wanted,
};
pub use caller::{Caller, Permit};
pub use cluster::{Cluster, Counts, NodeStatus, UpstreamHealth};
pub use error::ServiceError;
pub use explain::{BlobState, Explain, Explained, ExplainedBlob, ExplainedStep, Finding, Question, Step};
pub use images::{HeldImage, ImageFilter, ImageView, Images};
pub use limits::{CallerLimits, Limit, LimitsConfig, Rate};
pub use parts::{NodeIdentity, Parts};
pub use principals::{NewKey, Principals, RobotView};
pub use pull::{Freshness, Pull, PullConfig, Refreshed, ServedBlob, ServedManifest, Source, Validation};
pub use repositories::{NewRepository, Repositories};
pub use rules::{CacheRuleOptionsUpdate, Check, NewCacheRule, Rules, RulesConfig};
pub use secrets::{NewSecret, OpenedSecret, SecretUpdate, Secrets};
pub use services::{Services, ServicesConfig};
pub use templates::Templates;
