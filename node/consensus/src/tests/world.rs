//! One node over a disk in memory, its state in memory that loses what was not made durable.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flotilla_base::{
    ByteLen, ClusterId, NodeId, Timestamp,
    store::{Batch, Memory, Row, Rows, Store, StoreError, Table},
};
use flotilla_registry::{
    NodeRecord, NodeState, Sealed,
    access::{AccessKey, PrincipalArn},
    cache_rule::CacheRule,
};
use flotilla_runtime::{Blocking, Clock, Entropy, Host, MemoryDisk, Tasks};
use flotilla_state::{CLUSTER_VERSION, Founding, Op, Outcome};
use prometheus_client::registry::Registry;

use crate::{Consensus, ConsensusConfig, Parts, ProposeError, StartError, home::Home, start};

pub const NODE: NodeId = NodeId(7);
pub const NOON: u64 = 1_800_000_000_000;

#[derive(Clone, Default)]
pub struct Stores(Arc<Mutex<BTreeMap<u64, MemoryStore>>>);

/// A frozen view of too much.
struct Melted;

impl Rows for Melted {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Err(StoreError::FrozenTooLong)
    }

    fn page(&self, _: Table, _: &[u8], _: usize) -> Result<Vec<Row>, StoreError> {
        Err(StoreError::FrozenTooLong)
    }
}

/// Whether frozen views cannot be read at the moment.
type Melts = Arc<Mutex<Option<Box<dyn Fn() -> bool + Send>>>>;

struct Frozen(Box<dyn Rows>, Melts);

impl Frozen {
    fn look(&self) -> Result<&dyn Rows, StoreError> {
        let melts = self.1.lock().unwrap();
        if melts.as_ref().is_some_and(|melts| melts()) { Err(StoreError::FrozenTooLong) } else { Ok(&*self.0) }
    }
}

impl Rows for Frozen {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.look()?.get(table, key)
    }

    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.look()?.page(table, from, limit)
    }
}

/// What reading an open store comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sick {
    Damage,
    Panic,
    /// What passes by itself.
    Full,
}

#[derive(Clone, Default)]
pub struct MemoryStore {
    live: Memory,
    durable: Arc<Mutex<Memory>>,
    damaged: bool,
    sick: Arc<Mutex<Option<Sick>>>,
    /// Frozen views to come that cannot be read to their end.
    melting: Arc<AtomicU64>,
    melts: Melts,
}

fn copy(from: &Memory) -> Memory {
    let to = Memory::default();
    for table in 0..=u8::MAX {
        let mut from_key = Vec::new();
        loop {
            let page = from.page(Table(table), &from_key, 1000).unwrap();
            let Some((last, _)) = page.last() else { break };
            from_key = [last.as_ref(), &[0]].concat();
            let mut batch = Batch::default();
            for (key, value) in page {
                batch.put(Table(table), key, value);
            }
            to.write(batch).unwrap();
        }
    }
    to
}

impl Rows for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if self.damaged {
            return Err(StoreError::Corrupt { table, reason: "made by the test".into() });
        }
        let sick = *self.sick.lock().unwrap();
        match sick {
            None => self.live.get(table, key),
            Some(Sick::Damage) => Err(StoreError::Corrupt { table, reason: "made by the test".into() }),
            Some(Sick::Panic) => panic!("made by the test"),
            Some(Sick::Full) => Err(StoreError::Io { operation: "read", source: io::ErrorKind::StorageFull.into() }),
        }
    }

    fn page(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.live.page(table, from, limit)
    }
}

impl Store for MemoryStore {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.live.write(batch)
    }

    fn durable(&self) -> Result<(), StoreError> {
        *self.durable.lock().unwrap() = copy(&self.live);
        Ok(())
    }

    fn freeze(&self) -> Result<Box<dyn Rows>, StoreError> {
        let melts = self.melting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if melts.is_ok() { Ok(Box::new(Melted)) } else { Ok(Box::new(Frozen(self.live.freeze()?, self.melts.clone()))) }
    }
}

impl Stores {
    pub fn crash(&self) -> Self {
        let stores = self.0.lock().unwrap();
        let after = |store: &MemoryStore| {
            let kept = store.durable.lock().unwrap();
            MemoryStore { live: copy(&kept), durable: Arc::new(copy(&kept).into()), ..MemoryStore::default() }
        };
        Self(Arc::new(Mutex::new(stores.iter().map(|(number, store)| (*number, after(store))).collect())))
    }

    pub fn damage(&self) {
        for store in self.0.lock().unwrap().values_mut() {
            store.damaged = true;
        }
    }

    pub fn sicken(&self, sick: Option<Sick>) {
        for store in self.0.lock().unwrap().values() {
            *store.sick.lock().unwrap() = sick;
        }
    }

    pub fn melt_while(&self, melts: impl Fn() -> bool + Send + Clone + 'static) {
        for store in self.0.lock().unwrap().values() {
            *store.melts.lock().unwrap() = Some(Box::new(melts.clone()));
        }
    }

    pub fn melt(&self, times: u64) {
        for store in self.0.lock().unwrap().values() {
            store.melting.store(times, Ordering::Relaxed);
        }
    }

    /// Frozen views that still will melt.
    pub fn melting(&self) -> u64 {
        self.0.lock().unwrap().values().map(|store| store.melting.load(Ordering::Relaxed)).sum()
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Home for Stores {
    fn open(&self, generation: u64) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.0.lock().unwrap().entry(generation).or_default().clone()))
    }

    fn generations(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().unwrap().keys().copied().collect())
    }

    fn discard(&self, generation: u64) -> io::Result<()> {
        self.0.lock().unwrap().remove(&generation).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn set_aside(&self, generation: u64) -> io::Result<PathBuf> {
        self.discard(generation).map(|()| PathBuf::from("aside"))
    }
}

/// A node's machine between its starts.
#[derive(Clone)]
pub struct Machine {
    pub node: NodeId,
    pub disk: MemoryDisk,
    pub stores: Stores,
    pub clock: Arc<AtomicU64>,
    pub config: ConsensusConfig,
}

impl Machine {
    pub fn new(node: NodeId) -> Self {
        let config = ConsensusConfig { compact_after: ByteLen::mib(64), ..ConsensusConfig::default() };
        let clock = Arc::new(AtomicU64::new(NOON));
        Self { node, disk: MemoryDisk::default(), stores: Stores::default(), clock, config }
    }

    pub fn host(&self) -> Host {
        Host {
            clock: Clock::Simulated(self.clock.clone()),
            entropy: Entropy::Seeded(Arc::new(1.into())),
            blocking: Blocking::Inline,
            disk: Arc::new(self.disk.clone()),
            tasks: Tasks::default(),
        }
    }

    pub fn dir() -> PathBuf {
        PathBuf::from("/node")
    }

    pub async fn start(&self) -> Result<Arc<Consensus>, StartError> {
        let parts = Parts { node: self.node, host: self.host(), dir: Self::dir(), config: self.config.clone() };
        start::start(parts, Arc::new(self.stores.clone()), &mut Registry::default()).await
    }

    pub async fn founded(&self) -> Arc<Consensus> {
        let consensus = self.start().await.unwrap();
        consensus.found(founding(self.node)).await.unwrap();
        consensus
    }

    /// After loss of power.
    pub fn crash(&self, seed: Option<u64>) -> Self {
        Self { disk: self.disk.crash(seed), stores: self.stores.crash(), ..self.clone() }
    }

    pub fn advance(&self, ms: i64) {
        self.clock.fetch_add(ms.cast_unsigned(), Ordering::Relaxed);
    }
}

pub fn founding(node: NodeId) -> Founding {
    let account_id = "123456789012".to_owned();
    Founding {
        cluster: ClusterId(9),
        home_region: "eu-central-1".into(),
        node: NodeRecord {
            id: node,
            name: "n1".into(),
            region: "eu-central-1".into(),
            zone: "a".into(),
            speaks: CLUSTER_VERSION,
            state: NodeState::Active,
            joined_at: Timestamp(NOON),
        },
        root_key: AccessKey {
            id: "AKIA0000000000000000".into(),
            principal: PrincipalArn::root(&account_id),
            secret: Sealed { key_id: 1, bytes: vec![1; 32] },
            generation: 1,
            enabled: true,
            created_at: Timestamp(NOON),
        },
        account_id,
    }
}

pub fn rule(prefix: &str) -> Op {
    Op::CreateCacheRule(Box::new(CacheRule {
        prefix: prefix.parse().unwrap(),
        upstream_url: "registry-1.docker.io".into(),
        upstream_host: "registry-1.docker.io".into(),
        upstream_prefix: None,
        upstream_prefix_sent: None,
        upstream_registry: None,
        credential_arn: None,
        custom_role_arn: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        version: 0,
        revalidate_after: None,
        is_default: false,
    }))
}

pub async fn create(consensus: &Consensus, prefix: &str) -> Result<Outcome, ProposeError> {
    consensus.propose(&PrincipalArn::root("123456789012"), None, rule(prefix)).await
}

pub fn has_rule(consensus: &Consensus, prefix: &str) -> bool {
    consensus.view().load().rules.get(&prefix.parse().unwrap()).is_some()
}

pub fn state_hash(consensus: &Consensus) -> flotilla_state::StateHash {
    consensus.view().load().tables().hash().unwrap()
}
