use std::net::IpAddr;

use flotilla_base::RequestId;
use flotilla_registry::access::{Action, PrincipalArn};
use flotilla_state::IdempotencyKey;
use flotilla_upstream::Class;

/// Who asks, as the door has established it.
#[derive(Clone, Debug)]
pub struct Caller {
    pub principal: PrincipalArn,
    /// The access key that signed the call; `None` for tokens and anonymous callers.
    pub access_key: Option<String>,
    pub source_ip: Option<IpAddr>,
    pub request: RequestId,
    /// The region of the caller's signature scope; a label in replies (`requirements.md` A). `None` on `/v2`.
    pub region: Option<String>,
    /// The client's own mark of this call over its retries.
    pub idempotency: Option<IdempotencyKey>,
}

impl Caller {
    /// As what upstreams are asked for him about something that is not held.
    pub(crate) fn class(&self) -> Class {
        if self.principal.is_anonymous() { Class::Anonymous } else { Class::Authenticated }
    }
}

/// Proof that `caller` may do `action` to what it was asked for. Only [`crate::Access::allow`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Permit<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) action: Action,
}

impl Permit<'_> {
    pub fn caller(&self) -> &Caller {
        self.caller
    }

    pub fn action(&self) -> Action {
        self.action
    }
}
