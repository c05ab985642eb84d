use std::{fmt, net::IpAddr};

/// Why we do not go where we were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockReason {
    /// Hosts that an upstream names must not lead inside.
    #[error("{address} is {kind}, which upstream.allow_hosts or upstream.allow_networks must list")]
    Address { address: IpAddr, kind: AddressKind },
    /// Nor must the name of an upstream itself: whoever owns the name is not who wrote the rule.
    #[error("{address} is a metadata service, which a name must not lead to unless upstream.allow_networks lists it")]
    Metadata { address: IpAddr },
    #[error("it leads back to this node")]
    Own,
    #[error("a redirect must not lead from https to http")]
    Downgrade,
    #[error("a redirect must not bring a credential of its own")]
    Userinfo,
    #[error("a redirect must not have a fragment")]
    Fragment,
    #[error("too many redirects")]
    TooManyRedirects,
    #[error("its realm is not a plain http or https URL")]
    RealmUrl,
    #[error("the token service of an https registry must be https")]
    RealmDowngrade,
    #[error("a token service on another host, or without TLS, must be listed in realm_allow")]
    RealmPlain,
    #[error("a token service on another host must be listed in realm_allow")]
    RealmUnlisted,
}

/// What an address is that does not belong to the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    Unspecified,
    Loopback,
    LinkLocal,
    Metadata,
    /// RFC 1918, and ULA of IPv6.
    Private,
    /// The network behind a carrier's NAT (RFC 6598), which clouds use for their own purposes.
    Shared,
    Multicast,
    /// For documentation, benchmarks, protocols, or not given out at all.
    Reserved,
}

impl BlockReason {
    /// As a label of a metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Address { kind, .. } => kind.label(),
            Self::Metadata { .. } => AddressKind::Metadata.label(),
            Self::Own => "own",
            Self::Downgrade | Self::RealmDowngrade => "downgrade",
            Self::Userinfo => "userinfo",
            Self::Fragment => "fragment",
            Self::TooManyRedirects => "redirects",
            Self::RealmUrl | Self::RealmPlain | Self::RealmUnlisted => "realm",
        }
    }
}

impl AddressKind {
    fn label(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "no address",
            Self::Loopback => "on this machine",
            Self::LinkLocal => "on this machine's link",
            Self::Metadata => "a metadata service",
            Self::Private => "private",
            Self::Shared => "a carrier's or cloud's own",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        })
    }
}
