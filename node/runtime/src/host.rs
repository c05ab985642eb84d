use std::sync::Arc;

use crate::{Blocking, Clock, Disk, Entropy, RealDisk, Tasks};

/// Everything non-deterministic below the network. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    pub clock: Clock,
    pub entropy: Entropy,
    pub blocking: Blocking,
    pub disk: Arc<dyn Disk>,
    pub tasks: Tasks,
}

impl Host {
    /// The machine as it is.
    pub fn system() -> Self {
        Self {
            clock: Clock::System,
            entropy: Entropy::System,
            blocking: Blocking::Pool,
            disk: Arc::new(RealDisk),
            tasks: Tasks::default(),
        }
    }
}
