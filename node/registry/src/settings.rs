use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What all nodes must agree on and an operator may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// 12 digits; one account per cluster.
    pub account_id: String,
    /// The region of replies that have no caller's region: `/v2` and events.
    pub home_region: String,
    pub repository_creation: RepositoryCreation,
    /// Account settings that are stored and returned; the ones above have a field of their own.
    pub account_settings: BTreeMap<String, String>,
}

/// What a first pull through a rule does when no template covers the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepositoryCreation {
    /// ECR's behaviour: mutable, AES256, no policies.
    #[default]
    Defaults,
    TemplateRequired,
}
