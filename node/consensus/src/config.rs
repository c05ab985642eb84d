use std::time::Duration;

use flotilla_base::ByteLen;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsensusConfig {
    /// How far apart the members are; the same on all of them. Default: `lan`.
    pub profile: Profile,
    /// Bytes of log after which a snapshot is written and the log before it dropped. Default: 64 MiB.
    pub compact_after: ByteLen,
    /// Operations that may wait to be taken up; one more is told to come back. Default: 1,024.
    pub max_pending: usize,
}

impl Default for ConsensusConfig {
    fn default() -> Self {
        Self { profile: Profile::Lan, compact_after: ByteLen::mib(64), max_pending: 1024 }
    }
}

/// Timers of Raft. A heartbeat must leave room for two round trips, the largest append and an fsync, or a far member
/// never catches up (`protocols.md` §0, §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Members within 50 ms of each other: a lost leader is replaced within 3 s.
    Lan,
    /// Members within 400 ms of each other: within 8 s.
    Wan,
}

impl Profile {
    pub(crate) fn heartbeat(self) -> Duration {
        match self {
            Self::Lan => Duration::from_millis(200),
            Self::Wan => Duration::from_secs(1),
        }
    }

    /// Shortest and longest wait for a leader before another one is elected.
    pub(crate) fn election(self) -> (Duration, Duration) {
        match self {
            Self::Lan => (Duration::from_millis(500), Duration::from_millis(800)),
            Self::Wan => (Duration::from_secs(2), Duration::from_secs(3)),
        }
    }
}
