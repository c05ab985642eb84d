use flotilla_base::Secret;

/// Whom we ask, as whom: one client, one set of tokens.
#[derive(Clone, Debug)]
pub struct Account {
    /// The upstream's canonical host, with a port when it is not the scheme's own: `registry-1.docker.io`,
    /// `registry.example:5000`.
    pub host: String,
    /// `None` pulls as anonymous.
    pub credential: Option<Credential>,
}

/// What an upstream knows us by: a user and a password, or a user and an access token.
#[derive(Clone, Debug)]
pub struct Credential {
    pub username: String,
    pub secret: Secret,
}
