use std::time::Duration;

use super::wire::Head;

/// Which requests a fault is for.
#[derive(Clone, Debug)]
pub struct On {
    method: Option<&'static str>,
    path: Path,
}

#[derive(Clone, Debug)]
enum Path {
    Any,
    /// `/manifests/…` and `/blobs/…` of any repository, or one reference of them.
    Contains(String),
    Ends(String),
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Once,
    N(usize),
    Always,
}

/// How a connection ends in the middle of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Fin,
    Reset,
}

/// What to do instead of the right thing.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An answer of this status with these headers and an error of the registry protocol.
    Status(u16, Vec<(&'static str, String)>),
    /// The right head, `after_bytes` of this answer's body, then the end of the connection.
    CutBody { after_bytes: u64, how: Cut },
    /// The right head, `after_bytes` of the body, then silence with an open connection.
    Stall { after_bytes: u64 },
    /// The body in steps of `step_bytes`, one per `every`.
    Trickle { step_bytes: u64, every: Duration },
    /// The head comes late.
    DelayHead(Duration),
    /// Other bytes of the right length.
    WrongBytes,
    /// A `Content-Length` that is this much off; the body is what it is, and the connection ends after it.
    WrongLength(i64),
    /// A sign-in page, with 200 and `text/html`.
    Html,
    /// Closes the connection without an answer.
    HangUp,
    /// 405: registries without HEAD.
    NoHead,
    /// 200 with everything, whatever `Range` asks.
    NoRange,
}

impl Fault {
    /// 429 with `Retry-After`.
    pub fn too_many(retry_after_seconds: u64) -> Self {
        Self::Status(429, vec![("Retry-After", retry_after_seconds.to_string())])
    }

    pub const fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }
}

impl On {
    pub const fn any() -> Self {
        Self { method: None, path: Path::Any }
    }

    pub fn manifests() -> Self {
        Self { method: None, path: Path::Contains("/manifests/".into()) }
    }

    pub fn manifest(reference: &str) -> Self {
        Self { method: None, path: Path::Ends(format!("/manifests/{reference}")) }
    }

    pub fn blobs() -> Self {
        Self { method: None, path: Path::Contains("/blobs/".into()) }
    }

    pub fn blob(digest: &str) -> Self {
        Self { method: None, path: Path::Ends(format!("/blobs/{digest}")) }
    }

    pub fn token() -> Self {
        Self { method: None, path: Path::Ends("/token".into()) }
    }

    /// Only requests of `method`.
    pub const fn by(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    fn matches(&self, head: &Head) -> bool {
        let path = match &self.path {
            Path::Any => true,
            Path::Contains(part) => head.path.contains(part.as_str()),
            Path::Ends(end) => head.path.ends_with(end.as_str()),
        };
        path && self.method.is_none_or(|method| method == head.method)
    }
}

#[derive(Default)]
pub(super) struct Script(Vec<(On, Times, Fault)>);

impl Script {
    pub(super) fn add(&mut self, on: On, times: Times, fault: Fault) {
        self.0.push((on, times, fault));
    }

    /// The fault for this request; it is used up by one.
    pub(super) fn take(&mut self, head: &Head) -> Option<Fault> {
        let at = self.0.iter().position(|(on, times, _)| *times != Times::N(0) && on.matches(head))?;
        let (_, times, fault) = &mut self.0[at];
        *times = match *times {
            Times::Always => Times::Always,
            Times::Once => Times::N(0),
            Times::N(n) => Times::N(n - 1),
        };
        Some(fault.clone())
    }
}
