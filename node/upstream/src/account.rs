use flotilla_aws::sigv4::Credentials;
use flotilla_base::Secret;

use crate::upstreams::AccountKey;

/// Whom we ask, as whom: one client, one set of tokens.
#[derive(Clone, Debug)]
pub struct Account {
    /// The upstream's canonical host, with a port when it is not the scheme's own: `registry-1.docker.io`,
    /// `registry.example:5000`.
    pub host: String,
    /// `None` pulls as anonymous.
    pub credential: Option<Credential>,
}

impl Account {
    /// The same client.
    pub fn is(&self, other: &Self) -> bool {
        AccountKey::of(self) == AccountKey::of(other)
    }
}

/// What an upstream knows us by.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A user and a password, or a user and an access token.
    Password { username: String, secret: Secret },
    /// Keys that sign for a password of Amazon ECR; they never leave this node.
    Aws(Credentials),
}

impl Credential {
    /// Who, and each secret that makes him believed.
    pub(crate) fn parts(&self) -> (&str, Vec<&Secret>) {
        match self {
            Self::Password { username, secret } => (username, vec![secret]),
            Self::Aws(keys) => {
                let secrets = [Some(&keys.secret_access_key), keys.session_token.as_ref()];
                (&keys.access_key_id, secrets.into_iter().flatten().collect())
            }
        }
    }
}
