use http::{Method, StatusCode};

use crate::{
    Probe, Refusal, UpstreamError,
    exchange::{Answer, Ask},
    headers,
    session::Session,
};

/// `GET /v2/` as an account that has learned nothing and holds no token yet.
pub(crate) async fn probe(session: &Session) -> Result<Probe, UpstreamError> {
    let fresh = session.fresh();
    let ask = Ask::new(Method::GET, "/v2/".to_owned());
    let answered = fresh.retrying(|| fresh.exchange_or_unavailable(&ask)).await;
    let anonymous = !fresh.has_credential();
    let not_a_registry = |reason| UpstreamError::NotARegistry { host: fresh.site.name.clone(), reason };
    let answer = match answered {
        Ok(answer) => answer,
        // Some token services give anonymous clients nothing but tokens for a repository, and none is named here.
        Err(UpstreamError::Unauthorized { reason: Refusal::TokenService, .. }) if anonymous => {
            return Ok(Probe::Anonymous);
        }
        Err(error) => return Err(error),
    };
    match answer.status {
        StatusCode::OK if headers::is_html(&answer.headers) => Err(not_a_registry("/v2/ is a web page")),
        StatusCode::OK if !answer.authorized => Ok(Probe::Open),
        StatusCode::OK if anonymous => Ok(Probe::Anonymous),
        StatusCode::OK => Ok(Probe::Authenticated),
        StatusCode::UNAUTHORIZED if answer.authorized && anonymous => Ok(Probe::Anonymous),
        StatusCode::UNAUTHORIZED if answer.authorized => {
            Err(UpstreamError::Unauthorized { host: fresh.site.name.clone(), reason: Refusal::NotAccepted })
        }
        StatusCode::UNAUTHORIZED => Err(not_a_registry("/v2/ answers 401 without a challenge that can be answered")),
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            // Never a success, so that what it means is an error.
            fresh.accept(answer).await.and(Err(not_a_registry("/v2/ answers neither 200 nor 401")))
        }
        _ => Err(not_a_registry("/v2/ answers neither 200 nor 401")),
    }
}

impl Session {
    /// The same account without its memory.
    fn fresh(&self) -> Self {
        Self::new(self.shared.clone(), self.site.clone(), self.shared.number(), self.credential())
    }

    /// As [`Session::exchange`], with 5xx as an error, so that it is repeated.
    async fn exchange_or_unavailable(&self, ask: &Ask) -> Result<Answer, UpstreamError> {
        let answer = self.exchange(ask).await?;
        if answer.status.is_server_error() { Err(self.unavailable(&answer)) } else { Ok(answer) }
    }
}
