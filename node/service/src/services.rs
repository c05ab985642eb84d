use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::{
    Access, AccessConfig, Cluster, Explain, Images, LimitsConfig, Parts, Principals, Pull, PullConfig, Repositories,
    Rules, RulesConfig, Secrets, Templates, limits::Limits, proposer::Proposer,
};

/// All use cases of one node; no logic of its own.
pub struct Services {
    pub access: Arc<Access>,
    pub principals: Principals,
    pub pull: Arc<Pull>,
    pub rules: Rules,
    pub secrets: Secrets,
    pub templates: Templates,
    pub repositories: Repositories,
    pub images: Images,
    pub explain: Explain,
    pub cluster: Cluster,
}

/// Configuration of the use cases.
#[derive(Clone, Debug, Default)]
pub struct ServicesConfig {
    pub access: AccessConfig,
    pub limits: LimitsConfig,
    pub pull: PullConfig,
    pub rules: RulesConfig,
}

impl Services {
    pub fn new(parts: &Parts, config: ServicesConfig, registry: &mut Registry) -> Arc<Self> {
        let proposer = Proposer::new(parts);
        let limits = Limits::new(config.limits, registry);
        let pull = Pull::new(parts, config.pull, limits, proposer.clone(), registry);
        let access = Arc::new(Access::new(parts, config.access, proposer.clone(), registry));
        Arc::new(Self {
            principals: Principals::new(parts, proposer.clone()),
            rules: Rules::new(parts, config.rules, access.clone(), proposer.clone()),
            explain: Explain::new(access.clone(), pull.clone()),
            secrets: Secrets::new(parts, proposer.clone()),
            templates: Templates::new(parts, proposer.clone()),
            repositories: Repositories::new(parts, access.policy(), proposer.clone()),
            images: Images::new(parts, proposer.clone(), pull.clone()),
            cluster: Cluster::new(parts, proposer),
            pull,
            access,
        })
    }
}
