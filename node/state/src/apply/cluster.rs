//! The cluster itself: its founding, nodes, access keys and settings.

use flotilla_base::Epoch;
use flotilla_registry::{NodeRecord, NodeState, Refusal, RepositoryCreation, Settings, access::AccessKey};

use super::{Applier, ApplyError, Halt};
use crate::{
    CLUSTER_VERSION, Founding, Outcome,
    format::{ACCESS_KEYS, KEY_SETTINGS, NODES, SETTINGS, node_key},
};

/// What AWS lets an account set, and to what (`ecr-api.md` §6). They are stored and returned.
const ACCOUNT_SETTINGS: [(&str, [&str; 2]); 3] = [
    ("BASIC_SCAN_TYPE_VERSION", ["AWS_NATIVE", "CLAIR"]),
    ("REGISTRY_POLICY_SCOPE", ["V1", "V2"]),
    ("BLOB_MOUNTING", ["ENABLED", "DISABLED"]),
];

impl Applier<'_, '_> {
    pub(super) fn found(&mut self, founding: Founding) -> Result<Outcome, Halt> {
        if self.meta.cluster.is_some() {
            return Err(Refusal::AlreadyFounded.into());
        }
        let Founding { cluster, account_id, home_region, node, root_key } = founding;
        check_version(node.speaks)?;
        self.meta.cluster = Some(cluster);
        self.meta.cluster_epoch = Epoch(1);
        self.meta.ring_epoch = 1;
        self.meta.cluster_version = node.speaks;
        let settings = Settings { account_id, home_region, ..self.tables().settings()? };
        self.put(SETTINGS, KEY_SETTINGS.to_vec(), &settings)?;
        self.put_access_key(&root_key)?;
        self.put_node(&node)
    }

    /// Refused while a node that is not removed does not speak it.
    pub(super) fn raise_cluster_version(&mut self, to: u16) -> Result<Outcome, Halt> {
        let nodes = self.tables().nodes()?;
        if nodes.iter().any(|node| node.state != NodeState::Removed && node.speaks < to) {
            return Err(Refusal::BadSetting("cluster_version".into()).into());
        }
        check_version(to)?;
        self.meta.cluster_version = self.meta.cluster_version.max(to);
        Ok(Outcome::Done)
    }

    pub(super) fn put_node(&mut self, node: &NodeRecord) -> Result<Outcome, Halt> {
        self.put(NODES, node_key(node.id), node)?;
        if node.state == NodeState::Removed {
            self.forget_replies(node.id)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn put_access_key(&mut self, key: &AccessKey) -> Result<Outcome, Halt> {
        self.put(ACCESS_KEYS, key.id.clone().into_bytes(), key)?;
        Ok(Outcome::Done)
    }

    pub(super) fn put_account_setting(&mut self, name: String, value: String) -> Result<Outcome, Halt> {
        let mut settings = self.tables().settings()?;
        match (name.as_str(), value.as_str()) {
            ("PULL_THROUGH_REPOSITORY_CREATION", "DEFAULTS") => {
                settings.repository_creation = RepositoryCreation::Defaults;
            }
            ("PULL_THROUGH_REPOSITORY_CREATION", "TEMPLATE_REQUIRED") => {
                settings.repository_creation = RepositoryCreation::TemplateRequired;
            }
            (known, allowed) if ACCOUNT_SETTINGS.iter().any(|(n, v)| *n == known && v.contains(&allowed)) => {
                settings.account_settings.insert(name, value);
            }
            _ => return Err(Refusal::BadSetting(name).into()),
        }
        self.put(SETTINGS, KEY_SETTINGS.to_vec(), &settings)?;
        Ok(Outcome::Done)
    }
}

/// A cluster whose level this program does not speak may hold commands that it would apply otherwise than the rest: it
/// stops, it does not refuse.
fn check_version(version: u16) -> Result<(), Halt> {
    if version > CLUSTER_VERSION {
        return Err(Halt::Stop(ApplyError::Unknown(u8::try_from(version).unwrap_or(u8::MAX))));
    }
    Ok(())
}
