//! Who a registry client is (`requirements.md` A, "Sign-in"). With anonymous pull on, `/v2/` without credentials is 401
//! *Bearer*: docker and skopeo then ask for a token, with their login where they have one. A 200 there would make them
//! never sign in, and `docker login` accept every password.

use base64::{Engine, prelude::BASE64_STANDARD};
use flotilla_oci::{ErrorCode, Name};
use flotilla_registry::access::PrincipalArn;
use flotilla_service::{Credential, IssuedToken, SignInFailure};
use http::{HeaderMap, Method, Response, StatusCode, header, request};
use hyper::body::Incoming;
use serde_json::json;

use super::OciError;
use crate::{
    Door,
    http::{
        Arrival, Body,
        request_body::{CollectError, collect},
    },
};

/// More than any token or form of a login.
const FORM_LIMIT_BYTES: usize = 16 << 10;

/// Credentials as a request carries them; not to be printed.
pub(super) enum Sent {
    None,
    Basic {
        user: String,
        password: String,
    },
    Bearer(String),
    /// A scheme that we do not know, or a header that is none.
    Unusable,
}

impl Sent {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Self::None };
        let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return Self::Unusable;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::Bearer(rest.to_owned());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Self::Unusable;
        }
        let decoded = BASE64_STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            // docker sends an empty pair for "no login".
            Some(("", "")) => Self::None,
            Some((user, password)) => Self::Basic { user: user.to_owned(), password: password.to_owned() },
            None => Self::Unusable,
        }
    }

    fn credential(&self) -> Option<Credential<'_>> {
        match self {
            Self::None => Some(Credential::None),
            Self::Basic { user, password } => Some(Credential::Basic { user, password }),
            Self::Bearer(token) => Some(Credential::Bearer(token)),
            Self::Unusable => None,
        }
    }
}

/// What is asked for: part of the challenge, so that clients ask for the right token.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) name: Option<&'a Name>,
    pub(super) write: bool,
}

pub(super) fn challenge(door: &Door, arrival: &Arrival, wish: Wish<'_>) -> String {
    let origin = &arrival.origin;
    if !door.services.access.anonymous_pull() {
        return format!("Basic realm=\"{origin}/\",service=\"{}\"", origin.authority);
    }
    let mut challenge = format!("Bearer realm=\"{origin}/v2/token\",service=\"{}\"", origin.authority);
    if let Some(name) = wish.name {
        let actions = if wish.write { "pull,push" } else { "pull" };
        challenge.push_str(&format!(",scope=\"repository:{name}:{actions}\""));
    }
    challenge
}

/// # Errors
/// 401 with the challenge for missing, wrong and expired credentials.
pub(super) async fn sign_in(
    door: &Door,
    arrival: &Arrival,
    sent: &Sent,
    wish: Wish<'_>,
) -> Result<PrincipalArn, OciError> {
    let refuse = |why: &str| OciError::unauthorized(why, challenge(door, arrival, wish));
    may_send(door, arrival, sent)?;
    let credential = sent.credential().ok_or_else(|| refuse("these credentials cannot be read"))?;
    door.services.access.sign_in(credential).await.map_err(|failure| match failure {
        SignInFailure::Refused(refused) => refuse(&refused.to_string()),
        SignInFailure::Service(error) => OciError::from_service(&error, &door.account_id()),
    })
}

fn may_send(door: &Door, arrival: &Arrival, sent: &Sent) -> Result<(), OciError> {
    if matches!(sent, Sent::None) || !door.refuses_credentials(arrival) {
        return Ok(());
    }
    let text = "credentials are not accepted over plain HTTP; use TLS, or set http.allow_plaintext";
    Err(OciError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, text))
}

/// `GET /v2/token`, and the form that OAuth2 clients post. The scope is not looked at: permissions are asked at use.
pub(super) async fn token(
    door: &Door,
    arrival: &Arrival,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, OciError> {
    let mut sent = Sent::read(&head.headers);
    if head.method == Method::POST {
        let form = collect(body, FORM_LIMIT_BYTES, &door.forms).await.map_err(|error| {
            let (status, code) = match error {
                CollectError::TooLong(_) => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::Unsupported),
                CollectError::Slow => (StatusCode::REQUEST_TIMEOUT, ErrorCode::Unsupported),
                CollectError::Busy => (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests),
                CollectError::Cut => (StatusCode::BAD_REQUEST, ErrorCode::Unsupported),
            };
            OciError::new(status, code, error.to_string())
        })?;
        if let Some(posted) = from_form(&form)? {
            sent = posted;
        }
    }
    may_send(door, arrival, &sent)?;
    // The client is at the realm already: what it lacks is a login.
    let refuse = |why: &str| OciError::unauthorized(why, format!("Basic realm=\"{}/v2/token\"", arrival.origin));
    let told = |failure| match failure {
        SignInFailure::Refused(refused) => refuse(&refused.to_string()),
        SignInFailure::Service(error) => OciError::from_service(&error, &door.account_id()),
    };
    // A token is not renewed by itself, or it would live for ever.
    let credential = sent.credential().filter(|credential| !matches!(credential, Credential::Bearer(_)));
    let credential = credential.ok_or_else(|| refuse("a user name and a password are needed here"))?;
    let principal = door.services.access.sign_in(credential).await.map_err(told)?;
    arrival.record.note(|facts| facts.principal = Some(principal.to_string()));
    let issued = door.services.access.bearer_token(credential).await.map_err(told)?;
    Ok(super::json(&token_reply(&issued)))
}

/// The password grant; `None` for a form without credentials.
fn from_form(form: &[u8]) -> Result<Option<Sent>, OciError> {
    let (mut grant, mut user, mut password) = (String::new(), None, None);
    for (name, value) in url::form_urlencoded::parse(form) {
        match name.as_ref() {
            "grant_type" => grant = value.into_owned(),
            "username" => user = Some(value.into_owned()),
            "password" => password = Some(value.into_owned()),
            _ => {}
        }
    }
    match (grant.as_str(), user, password) {
        ("password", Some(user), Some(password)) => Ok(Some(Sent::Basic { user, password })),
        ("" | "password", ..) => Ok(None),
        _ => {
            let text = "only grant_type=password is served; refresh tokens are not issued here";
            Err(OciError::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, text))
        }
    }
}

fn token_reply(issued: &IssuedToken) -> serde_json::Value {
    json!({
        // Two names for one thing: docker reads the first, OAuth2 clients the second.
        "token": issued.token,
        "access_token": issued.token,
        "expires_in": issued.expires_at.since(issued.issued_at).as_secs(),
        "issued_at": rfc3339(issued.issued_at.0 / 1000),
    })
}

/// `2026-11-22T18:58:30Z` from seconds since the Unix epoch (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Sent {
        Sent::read(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]))
    }

    #[test]
    fn authorization_is_read_as_clients_write_it() {
        let basic = |text: &str| read(&format!("Basic {}", BASE64_STANDARD.encode(text)));
        assert!(matches!(basic("AWS:a:b"), Sent::Basic { user, password } if user == "AWS" && password == "a:b"));
        assert!(matches!(basic(":"), Sent::None));
        assert!(matches!(read("bearer x.y"), Sent::Bearer(token) if token == "x.y"));
        for bad in ["Basic", "Basic !!!", "Basic dXNlcg==", "Negotiate abc", "AWS4-HMAC-SHA256 Credential=x"] {
            assert!(matches!(read(bad), Sent::Unusable), "{bad}");
        }
        assert!(matches!(Sent::read(&HeaderMap::new()), Sent::None));
    }

    #[test]
    fn forms_carry_the_password_grant_and_no_other() {
        let form = b"grant_type=password&username=AWS&password=a%2Bb&service=x&scope=repository%3Aa%3Apull";
        let sent = from_form(form).unwrap().unwrap();
        assert!(matches!(sent, Sent::Basic { user, password } if user == "AWS" && password == "a+b"));
        assert!(from_form(b"service=x").unwrap().is_none());
        assert!(from_form(b"grant_type=refresh_token&refresh_token=x").is_err());
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_373_910, "2026-11-22T18:58:30Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
