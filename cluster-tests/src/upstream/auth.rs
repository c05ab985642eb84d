use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::wire::{Answer, Head};

/// How the upstream asks who is there.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    #[default]
    None,
    Basic {
        user: String,
        password: String,
    },
    /// As [`Auth::Basic`], for several that may come.
    Logins(Vec<(String, String)>),
    /// The distribution spec's token flow, with `/token` on the same origin.
    Bearer {
        /// Without it anybody gets a token.
        login: Option<(String, String)>,
        /// As `expires_in` says it.
        expires_in_seconds: u64,
        /// What a token that was expired by [`super::Upstream::expire_tokens`] is answered with: 401 with a new challenge,
        /// or what registries were seen to do instead: 400 (ECR Public) or 403.
        expired_status: u16,
    },
}

impl Auth {
    /// Tokens for anybody, as Docker Hub gives them.
    pub const fn anonymous_tokens() -> Self {
        Self::Bearer { login: None, expires_in_seconds: 300, expired_status: 401 }
    }
}

#[derive(Default)]
pub(super) struct Gate {
    auth: Auth,
    issued: u64,
    /// Token and scope.
    valid: HashSet<(String, String)>,
}

impl Gate {
    pub(super) fn set(&mut self, auth: Auth) {
        *self = Self { auth, issued: self.issued, valid: HashSet::new() };
    }

    pub(super) fn expire(&mut self) {
        self.valid.clear();
    }

    /// The refusal of a request for `repository`, if it is refused. `origin` is the address that the client used.
    pub(super) fn refuse(&self, head: &Head, repository: Option<&str>, origin: &str) -> Option<Answer> {
        let presented = head.header("authorization");
        match &self.auth {
            Auth::None => None,
            Auth::Basic { user, password } => (presented != Some(&basic(user, password))).then(wants_password),
            Auth::Logins(logins) => {
                let known = logins.iter().any(|(user, password)| presented == Some(&basic(user, password)));
                (!known).then(wants_password)
            }
            Auth::Bearer { expired_status, .. } => {
                let scope = repository.map(|name| format!("repository:{name}:pull")).unwrap_or_default();
                let token = presented.and_then(|value| value.strip_prefix("Bearer "));
                if let Some(token) = token {
                    let known =
                        self.valid.iter().any(|(valid, of)| valid == token && (scope.is_empty() || *of == scope));
                    if known {
                        return None;
                    }
                    if *expired_status != 401 {
                        return Some(Answer::error(*expired_status, "DENIED"));
                    }
                }
                let mut challenge = format!("Bearer realm=\"http://{origin}/token\",service=\"upstream.test\"");
                if !scope.is_empty() {
                    challenge += &format!(",scope=\"{scope}\"");
                }
                Some(Answer::error(401, "UNAUTHORIZED").with("WWW-Authenticate", &challenge))
            }
        }
    }

    /// The answer of `/token`.
    pub(super) fn token(&mut self, head: &Head) -> Answer {
        let Auth::Bearer { login, expires_in_seconds, .. } = &self.auth else {
            return Answer::error(404, "NOT_FOUND");
        };
        if let Some((user, password)) = login
            && head.header("authorization") != Some(&basic(user, password))
        {
            return Answer::error(401, "UNAUTHORIZED");
        }
        let query = url::form_urlencoded::parse(head.query.as_bytes()).collect::<Vec<_>>();
        let member = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_string());
        if member("service").as_deref() != Some("upstream.test") {
            return Answer::error(400, "UNSUPPORTED");
        }
        self.issued += 1;
        let token = format!("token-{}", self.issued);
        self.valid.insert((token.clone(), member("scope").unwrap_or_default()));
        let body = serde_json::json!({"token": token, "access_token": token, "expires_in": expires_in_seconds});
        Answer::json(200, &body)
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn wants_password() -> Answer {
    Answer::error(401, "UNAUTHORIZED").with("WWW-Authenticate", "Basic realm=\"upstream\"")
}
