//! Pulls and validations on their way into the replicated state, where nobody waits for them: one round a minute.
//! A crash loses the last round: tags are then validated once more, and `lastRecordedPullTime` is a minute older.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_base::Timestamp;
use flotilla_oci::{Digest, Name, Tag};
use flotilla_state::{COMMAND_LIMIT, Op, Use};

use crate::proposer::Proposer;

/// At most one round per node and minute (`protocols.md` §3.5).
pub(super) const ROUND: Duration = Duration::from_secs(60);

/// Most of each kind in one round; what is beyond is not recorded.
const ROUND_MOST: usize = 4_096;

/// What entries of one command may take, so that it fits with its head.
const COMMAND_BYTES: usize = (COMMAND_LIMIT.0 as usize) / 8 * 7;

/// Of one entry beside its name and tag: digest, version, time and lengths at their longest.
const ENTRY_BYTES: usize = 96;

#[derive(Default)]
pub(super) struct Usage(Mutex<Round>);

#[derive(Default)]
struct Round {
    /// Tag version, when upstream confirmed it.
    validated: HashMap<(Name, Tag), (u64, Timestamp)>,
    pulled: HashMap<(Name, Digest), Timestamp>,
}

impl Usage {
    fn lock(&self) -> MutexGuard<'_, Round> {
        // Whole after a panic: each holder makes one call of a map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pulled(&self, repository: &Name, digest: Digest, at: Timestamp) {
        put(&mut self.lock().pulled, (repository.clone(), digest), at);
    }

    pub(super) fn validated(&self, repository: &Name, tag: &Tag, version: u64, at: Timestamp) {
        put(&mut self.lock().validated, (repository.clone(), tag.clone()), (version, at));
    }

    /// Proposes what came since the last round. What cannot be proposed is dropped: it is of no use later.
    pub(super) async fn flush(&self, proposer: &Proposer) {
        let round = std::mem::take(&mut *self.lock());
        for uses in batches(round) {
            if let Err(error) = proposer.propose_as_node(Op::RecordUse(uses)).await {
                tracing::debug!(error = %error, "pulls and validations not recorded");
                return;
            }
        }
    }
}

fn put<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: K, value: V) {
    if map.len() < ROUND_MOST || map.contains_key(&key) {
        map.insert(key, value);
    }
}

/// As few commands as their limit allows.
fn batches(round: Round) -> Vec<Use> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Use::default(), 0);
    let mut room = |batch: &mut Use, len: usize| {
        if bytes + len > COMMAND_BYTES {
            batches.push(std::mem::take(batch));
            bytes = 0;
        }
        bytes += len;
    };
    for ((name, tag), (version, at)) in round.validated {
        room(&mut batch, ENTRY_BYTES + name.as_str().len() + tag.as_str().len());
        batch.validated.push((name, tag, version, at));
    }
    for ((name, digest), at) in round.pulled {
        room(&mut batch, ENTRY_BYTES + name.as_str().len());
        batch.pulled.push((name, digest, at));
    }
    if batch != Use::default() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use flotilla_base::{OpId, codec};
    use flotilla_registry::access::PrincipalArn;
    use flotilla_state::{Command, CommandBatch};

    use super::*;

    #[test]
    fn a_full_round_is_bounded_and_each_of_its_commands_fits_into_an_entry() {
        let usage = Usage::default();
        let name: Name = vec!["a".repeat(63); 4].join("/").parse().unwrap();
        for n in 0..u32::try_from(ROUND_MOST).unwrap() + 100 {
            let tag: Tag = format!("{:a<120}{n}", "t").parse().unwrap();
            usage.validated(&name, &tag, u64::MAX, Timestamp(u64::MAX));
            let digest = Digest::from_hash(flotilla_oci::Algorithm::Sha512, &n.to_be_bytes().repeat(16)).unwrap();
            usage.pulled(&name, digest, Timestamp(u64::MAX));
        }
        let batches = batches(std::mem::take(&mut *usage.lock()));
        assert!(batches.len() > 1);
        let count = |of: fn(&Use) -> usize| batches.iter().map(of).sum::<usize>();
        assert_eq!((count(|uses| uses.validated.len()), count(|uses| uses.pulled.len())), (ROUND_MOST, ROUND_MOST));
        for uses in batches {
            let command = Command {
                id: OpId::default(),
                acked_below: u64::MAX,
                by: PrincipalArn::system(),
                idempotency: None,
                op: Op::RecordUse(uses),
            };
            let entry = CommandBatch { at: Timestamp(u64::MAX), commands: vec![command] };
            assert!(codec::encode(1, &entry).unwrap().len() as u64 <= COMMAND_LIMIT.0);
        }
    }
}
