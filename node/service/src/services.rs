use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::{
    Access, AccessConfig, Cluster, Images, Parts, Principals, Pull, PullConfig, Repositories, Rules, RulesConfig,
    Templates, proposer::Proposer,
};

/// All use cases of one node; no logic of its own.
pub struct Services {
    pub access: Access,
    pub principals: Principals,
    pub pull: Arc<Pull>,
    pub rules: Rules,
    pub templates: Templates,
    pub repositories: Repositories,
    pub images: Images,
    pub cluster: Cluster,
}

/// Configuration of the use cases.
#[derive(Clone, Debug, Default)]
pub struct ServicesConfig {
    pub access: AccessConfig,
    pub pull: PullConfig,
    pub rules: RulesConfig,
}

impl Services {
    pub fn new(parts: &Parts, config: ServicesConfig, registry: &mut Registry) -> Arc<Self> {
        let proposer = Proposer::new(parts);
        let pull = Pull::new(parts, config.pull, proposer.clone(), registry);
        let access = Access::new(parts, config.access, proposer.clone(), registry);
        Arc::new(Self {
            principals: Principals::new(parts, proposer.clone()),
            rules: Rules::new(parts, config.rules, proposer.clone()),
            templates: Templates::new(parts, proposer.clone()),
            repositories: Repositories::new(parts, access.policy(), proposer.clone()),
            images: Images::new(parts, proposer.clone(), pull.clone()),
            cluster: Cluster::new(parts, proposer),
            pull,
            access,
        })
    }
}
