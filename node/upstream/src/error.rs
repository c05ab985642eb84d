use std::{io, sync::Arc, time::Duration};

use flotilla_base::ByteLen;

use crate::BlockReason;

/// Why an upstream gave no answer that can be used. `host` is the upstream's canonical name.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// 404 or 410: what was asked for is definitely not there.
    #[error("{host} does not have it")]
    NotFound { host: Arc<str> },
    /// 401, or the token service refused us.
    #[error("{host} does not let us in: {reason}")]
    Unauthorized { host: Arc<str>, reason: Refusal },
    /// 403.
    #[error("{host} denies this to our account")]
    Denied { host: Arc<str> },
    /// 429.
    #[error("{host} throttles us")]
    Throttled { host: Arc<str>, retry_after: Option<Duration> },
    /// Its limit is nearly used up; what is left is kept for callers who signed in and for tags that are held.
    #[error("what is left of {host}'s rate limit is kept from anonymous callers")]
    Reserved { host: Arc<str>, retry_after: Duration },
    /// Not reached, timed out, cut, or answered 5xx.
    #[error("{host} is not available")]
    Unavailable {
        host: Arc<str>,
        #[source]
        source: HttpError,
    },
    /// Too many requests of ours are under way there already.
    #[error("{host} is busy with other requests of this node")]
    Busy { host: Arc<str> },
    /// It failed too often of late; nothing was sent.
    #[error("{host} failed repeatedly and is left alone for {retry_after:?}")]
    CircuitOpen { host: Arc<str>, retry_after: Duration },
    #[error("{host} does not answer like a registry: {reason}")]
    NotARegistry { host: Arc<str>, reason: &'static str },
    /// An answer that breaks the distribution spec or HTTP.
    #[error("{host} gave an answer that cannot be used: {reason}")]
    Malformed { host: Arc<str>, reason: &'static str },
    /// A status that means nothing here.
    #[error("{host} answered with the unexpected status {status}")]
    Status { host: Arc<str>, status: u16 },
    /// The bytes are not those that the digest, or an earlier answer, promised.
    #[error("{host} gave other content than it promised: {reason}")]
    Mismatch { host: Arc<str>, reason: &'static str },
    #[error("{host} gave more than the {limit} that are accepted")]
    TooLarge { host: Arc<str>, limit: ByteLen },
    /// A redirect, realm or address that our rules forbid to follow.
    #[error("{host} leads to {target}, which is refused: {reason}")]
    Blocked { host: Arc<str>, target: Arc<str>, reason: BlockReason },
    /// 508: the upstream, or one behind it, asks a cluster that is waiting for this very answer.
    #[error("{host} leads back to a cluster that this request came through")]
    Loop { host: Arc<str> },
}

impl UpstreamError {
    /// The status with which the upstream answered, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::NotFound { .. } => Some(404),
            Self::Unauthorized { .. } => Some(401),
            Self::Denied { .. } => Some(403),
            Self::Throttled { .. } => Some(429),
            Self::Loop { .. } => Some(508),
            Self::Status { status, .. } | Self::Unavailable { source: HttpError::Status { status, .. }, .. } => {
                Some(*status)
            }
            Self::Reserved { .. }
            | Self::Unavailable { .. }
            | Self::Busy { .. }
            | Self::CircuitOpen { .. }
            | Self::NotARegistry { .. }
            | Self::Malformed { .. }
            | Self::Mismatch { .. }
            | Self::TooLarge { .. }
            | Self::Blocked { .. } => None,
        }
    }
}

/// Why we are not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it wants a username and a password")]
    WantsPassword,
    #[error("its token service refuses to give a token")]
    TokenService,
    #[error("it does not accept what it was given")]
    NotAccepted,
    #[error("it says 401 without a challenge that can be answered")]
    NoChallenge,
    #[error("the secret holds AWS keys, and it is no registry of Amazon ECR, nor has it an ecr_endpoint")]
    NotEcr,
    #[error("Amazon ECR does not accept the AWS keys, or the time of this node")]
    AwsKeys,
    #[error("the AWS keys may not call ecr:GetAuthorizationToken")]
    AwsDenied,
    #[error("the session token of the AWS keys has expired")]
    AwsExpired,
}

/// What failed below the meaning of an answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HttpError {
    #[error("cannot resolve {target}")]
    Resolve {
        target: Arc<str>,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("cannot connect to {target}")]
    Connect {
        target: Arc<str>,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("TLS handshake with {target} failed")]
    Tls {
        target: Arc<str>,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("no connection to {target} in time")]
    ConnectTimeout { target: Arc<str> },
    #[error("{target} is refused: {reason}")]
    Blocked { target: Arc<str>, reason: BlockReason },
    #[error("the proxy {proxy} cannot be used")]
    Proxy {
        proxy: Arc<str>,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the proxy {proxy} refuses with status {status}")]
    ProxyStatus { proxy: Arc<str>, status: u16 },
    #[error("{target} sent no response in time")]
    HeadTimeout { target: Arc<str> },
    #[error("{target} sent nothing for too long in the middle of a body")]
    Stalled { target: Arc<str> },
    #[error("connection to {target} was cut")]
    Cut {
        target: Arc<str>,
        #[source]
        source: Arc<hyper::Error>,
    },
    #[error("{target} ended a body early")]
    Short { target: Arc<str> },
    #[error("a URL at {target} cannot be sent as a request")]
    Url { target: Arc<str> },
    #[error("{target} answered with status {status}")]
    Status { target: Arc<str>, status: u16 },
}

impl UpstreamError {
    /// The upstream said for certain that what was asked for does not exist; anything else says nothing about it.
    pub fn is_definite_absence(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Worth another attempt at once. Not what took its full time already.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } => match source {
                HttpError::Resolve { .. }
                | HttpError::Connect { .. }
                | HttpError::Cut { .. }
                | HttpError::Short { .. } => true,
                HttpError::Status { status, .. } => *status >= 500,
                _ => false,
            },
            _ => false,
        }
    }
}

impl HttpError {
    /// As a label of a metric.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } | Self::ConnectTimeout { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Proxy { .. } | Self::ProxyStatus { .. } => "proxy",
            Self::Blocked { .. } | Self::Url { .. } => "refused",
            Self::HeadTimeout { .. } | Self::Stalled { .. } => "timeout",
            Self::Cut { .. } | Self::Short { .. } => "cut",
            Self::Status { .. } => "status",
        }
    }
}
