//! Sign-ins that were found good a moment ago, so that a client who pulls an image with forty requests costs the
//! unsealing of one.
//!
//! Invariant: an entry counts only while the state is the one that it was found good under. A key that is disabled,
//! changed or removed is a change of the state, and is acknowledged only after the view that has it is published.

use std::{sync::Arc, time::Duration};

use flotilla_base::{LogIndex, Timestamp};
use flotilla_runtime::{Entropy, Recent};

use super::{Credential, Scope, SignedIn};

/// More clients than pull within the same minute from one node.
const ENTRIES: usize = 4096;

/// The state changes about once in it even where nothing happens.
const LIFE: Duration = Duration::from_secs(60);

/// Tokens for more are rare, and their names would make the table large.
const GRANTS_MAX: usize = 2;

type Mark = [u8; 32];

pub(super) struct Verified {
    /// Of this process alone: what is kept gives no credential away, and nobody can aim at an entry.
    key: [u8; 32],
    found: Recent<Mark, Arc<Found>>,
}

struct Found {
    under: LogIndex,
    ends_at: Option<Timestamp>,
    signed_in: SignedIn,
}

impl Verified {
    pub(super) fn new(entropy: &Entropy) -> Self {
        Self { key: entropy.bytes(), found: Recent::new(ENTRIES) }
    }

    /// `None` for those who send none: there is nothing to verify.
    pub(super) fn mark(&self, credential: Credential<'_>) -> Option<Mark> {
        let (kind, first, second) = match credential {
            Credential::None => return None,
            Credential::Basic { user, password } => (1, user, password),
            Credential::Bearer(token) => (2, token, ""),
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // With its length, or a letter could move from the one to the other.
        hasher.update(&[kind]).update(&(first.len() as u64).to_be_bytes());
        hasher.update(first.as_bytes()).update(second.as_bytes());
        Some(*hasher.finalize().as_bytes())
    }

    pub(super) fn get(&self, mark: &Mark, under: LogIndex, now: Timestamp) -> Option<SignedIn> {
        let found = self.found.get(mark)?;
        let counts = found.under == under && found.ends_at.is_none_or(|ends_at| now < ends_at);
        counts.then(|| found.signed_in.clone())
    }

    /// `under` was read before anything was looked up.
    pub(super) fn put(&self, mark: Mark, under: LogIndex, signed_in: &SignedIn) {
        if matches!(&signed_in.scope, Scope::Only(grants) if grants.len() > GRANTS_MAX) {
            return;
        }
        let found = Found { under, ends_at: signed_in.ends_at, signed_in: signed_in.clone() };
        self.found.put(mark, Arc::new(found), LIFE);
    }
}

#[cfg(test)]
mod tests {
    use flotilla_registry::access::PrincipalArn;

    use super::*;

    #[tokio::test]
    async fn a_sign_in_counts_under_the_state_and_until_the_end_that_it_was_found_with() {
        let verified = Verified::new(&Entropy::System);
        let basic = |user, password| verified.mark(Credential::Basic { user, password }).unwrap();
        let marks =
            [basic("a", "bc"), basic("ab", "c"), basic("a", "b"), verified.mark(Credential::Bearer("abc")).unwrap()];
        let principal = PrincipalArn::user("0", "ci");
        let signed_in = SignedIn { principal, scope: Scope::Everything, key: None, ends_at: Some(Timestamp(10)) };
        verified.put(marks[0], LogIndex(5), &signed_in);
        assert!(verified.get(&marks[0], LogIndex(5), Timestamp(9)).is_some());
        assert!(verified.get(&marks[0], LogIndex(6), Timestamp(9)).is_none(), "something has changed");
        assert!(verified.get(&marks[0], LogIndex(5), Timestamp(10)).is_none(), "it has ended");
        for other in &marks[1..] {
            assert!(verified.get(other, LogIndex(5), Timestamp(9)).is_none());
        }
        assert!(verified.mark(Credential::None).is_none());
    }
}
