use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest;
use flotilla_runtime::Host;
use prometheus_client::registry::Registry;
use rustls::ClientConfig;
use url::Url;

use crate::{
    Account, HostConfig, Upstream, UpstreamConfig, UpstreamConfigError,
    bounded::BoundedMap,
    breaker::Breaker,
    config::canonical,
    ecr::Endpoint,
    gate::Gate,
    metrics::Metrics,
    origin::{Origin, authority},
    session::{Session, Shared, Site},
    tls::Trust,
    wire::Behalf,
};

/// Clients and upstreams remembered. One that is forgotten is made anew, without its tokens and its breaker's state.
const MAX_ACCOUNTS: usize = 1024;

/// All upstreams of a node. Clones share connections, tokens, limits and breakers.
#[derive(Clone)]
pub struct Upstreams(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    config: UpstreamConfig,
    /// Of hosts with a CA file.
    tls: BTreeMap<String, Arc<ClientConfig>>,
    system_tls: Arc<ClientConfig>,
    metrics: Metrics,
    known: Mutex<Known>,
}

struct Known {
    sites: BoundedMap<String, Arc<Site>>,
    accounts: BoundedMap<AccountKey, Arc<Upstream>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct AccountKey {
    host: String,
    /// The user, and the hash of its secret: one copy of a secret is enough.
    credential: Option<(String, Vec<u8>)>,
}

impl AccountKey {
    pub(crate) fn of(account: &Account) -> Self {
        let credential = account.credential.as_ref().map(|credential| {
            let (who, secrets) = credential.parts();
            let mut hash = digest::Context::new(&digest::SHA256);
            for secret in secrets {
                hash.update(&(secret.expose().len() as u64).to_le_bytes());
                hash.update(secret.expose());
            }
            (who.to_owned(), hash.finish().as_ref().to_vec())
        });
        Self { host: canonical(&account.host), credential }
    }
}

impl Upstreams {
    /// Reads the system's root certificates and the CA files, and registers the metrics.
    ///
    /// # Errors
    /// [`UpstreamConfigError`], which names the key.
    pub fn new(host: Host, config: UpstreamConfig, registry: &mut Registry) -> Result<Self, UpstreamConfigError> {
        let config = config.checked()?;
        let trust = Trust::load(config.ca_file.as_deref())?;
        let mut tls = BTreeMap::new();
        for (name, host) in &config.hosts {
            if let Some(path) = &host.ca_file {
                tls.insert(name.clone(), trust.with_ca(name, path)?);
            }
        }
        let listed = config.hosts.iter().filter_map(|(name, host)| base(name, Some(host))).map(|(_, origin)| origin);
        let shared = Shared::new(&host, &config, trust.system.clone(), listed.collect())?;
        let known = Known { sites: BoundedMap::new(MAX_ACCOUNTS), accounts: BoundedMap::new(MAX_ACCOUNTS) };
        Ok(Self(Arc::new(Inner {
            shared: Arc::new(shared),
            tls,
            system_tls: trust.system,
            metrics: Metrics::register(registry),
            known: Mutex::new(known),
            config,
        })))
    }

    /// The client of `account`, made at its first use. Accounts of one host share its limits and its breaker.
    pub fn client(&self, account: &Account) -> Arc<Upstream> {
        let key = AccountKey::of(account);
        let mut known = self.lock();
        if let Some(upstream) = known.accounts.get(&key) {
            return upstream.clone();
        }
        let site = self.site(&mut known, &key.host);
        let shared = &self.0.shared;
        let session = Session::new(shared.clone(), site, shared.number(), account.credential.clone());
        let upstream = Arc::new(Upstream::new(session));
        known.accounts.insert(key, upstream.clone());
        upstream
    }

    /// Forgets an account that is no longer used, with its credential and its tokens. What is under way goes on.
    pub fn forget(&self, account: &Account) {
        let key = AccountKey::of(account);
        let forgotten = self.lock().accounts.remove(&key);
        if let Some(upstream) = forgotten {
            self.0.shared.tokens.drop_account(upstream.account());
        }
    }

    /// Whether `host` refuses the credential of an account that is in use.
    pub fn account_refused(&self, host: &str) -> bool {
        let host = canonical(host);
        self.lock().accounts.values().any(|upstream| upstream.is_refused_at(&host))
    }

    /// What the rate limit of `host` leaves, as it last said; of several accounts, to the one with the least.
    pub fn rate_limit_remaining(&self, host: &str) -> Option<u64> {
        let host = canonical(host);
        self.lock().accounts.values().filter_map(|upstream| upstream.remaining_at(&host)).min()
    }

    /// Whether requests to `host` fail at once because it failed too often of late.
    pub fn circuit_open(&self, host: &str) -> bool {
        self.lock().sites.get(canonical(host).as_str()).is_some_and(|site| site.breaker.is_open())
    }

    fn site(&self, known: &mut Known, host: &str) -> Arc<Site> {
        if let Some(site) = known.sites.get(host) {
            return site.clone();
        }
        let Inner { shared, config, tls, system_tls, metrics, .. } = &*self.0;
        let own = config.hosts.get(host);
        let name: Arc<str> = host.into();
        let metrics = metrics.host(&name);
        let concurrency = own.and_then(|own| own.concurrency).unwrap_or(config.concurrency);
        let site = Arc::new(Site {
            base: base(host, own),
            ecr: Endpoint::of(host, own.and_then(|own| own.ecr_endpoint.as_ref())),
            gate: Gate::new(concurrency, config.head_timeout, config.queue_timeout),
            breaker: Arc::new(Breaker::new(name.clone(), metrics.circuit_open.clone())),
            behalf: Behalf { number: shared.number(), tls: tls.get(host).unwrap_or(system_tls).clone(), metrics },
            name,
        });
        known.sites.insert(host.to_owned(), site.clone());
        site
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Whole after a panic: an entry is written as one, and a lost one is made anew.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where requests for `host` go.
fn base(host: &str, own: Option<&HostConfig>) -> Option<(Url, Origin)> {
    let url = match own.and_then(|own| own.base_url.clone()) {
        Some(url) => url,
        None => Url::parse(&format!("https://{}/", authority(host)?)).ok()?,
    };
    let origin = Origin::of(&url)?;
    Some((url, origin))
}
