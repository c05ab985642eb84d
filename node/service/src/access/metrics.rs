use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignInLabels {
    result: &'static str,
}

/// Sign-ins by how they ended: counters of their own, so that a request looks nothing up.
pub(super) struct Metrics {
    pub(super) anonymous: Counter,
    pub(super) key: Counter,
    pub(super) token: Counter,
    /// A mirror's client that sent its login at another registry, and is anonymous here.
    pub(super) foreign: Counter,
    /// No credentials where some are needed; clients begin with it.
    pub(super) required: Counter,
    pub(super) wrong: Counter,
    pub(super) expired: Counter,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family: Family<SignInLabels, Counter> = Family::default();
        registry.register("flotilla_sign_ins", "Sign-ins of registry clients, by how they ended", family.clone());
        let of = |result| family.get_or_create(&SignInLabels { result }).clone();
        Self {
            anonymous: of("anonymous"),
            key: of("key"),
            token: of("token"),
            foreign: of("foreign"),
            required: of("required"),
            wrong: of("wrong"),
            expired: of("expired"),
        }
    }
}
