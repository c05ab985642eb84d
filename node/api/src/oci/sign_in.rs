//! Who a registry client is (`requirements.md` A, "Sign-in"). With anonymous pull on, `/v2/` without credentials is 401
//! *Bearer*: docker and skopeo then ask for a token, with their login where they have one. A 200 there would make them
//! never sign in, and `docker login` accept every password.

use base64::{Engine, prelude::BASE64_STANDARD};
use flotilla_oci::ErrorCode;
use flotilla_service::{Credential, Grant, IssuedToken, SignInFailure, SignedIn, Wanted};
use http::{HeaderMap, Method, Response, StatusCode, header, request};
use hyper::body::Incoming;
use serde_json::json;

use super::OciError;
use crate::{
    Door,
    http::{
        Arrival, Body, Entrance,
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
pub(super) struct Wish<'a>(pub(super) Wanted<'a>);

impl Wish<'_> {
    /// As clients send it to the realm.
    fn scope(self) -> Option<String> {
        match self.0 {
            Wanted::SignIn => None,
            Wanted::Catalog => Some("registry:catalog:*".to_owned()),
            Wanted::Pull(name) => Some(format!("repository:{name}:pull")),
            Wanted::Push(name) => Some(format!("repository:{name}:pull,push")),
        }
    }
}

pub(super) fn challenge(door: &Door, arrival: &Arrival, wish: Wish<'_>) -> String {
    let origin = &arrival.origin;
    if !door.services.access.serves_anonymous(arrival.client) {
        return format!("Basic realm=\"{origin}/\",service=\"{}\"", origin.authority);
    }
    bearer_challenge(arrival, wish)
}

fn bearer_challenge(arrival: &Arrival, wish: Wish<'_>) -> String {
    let origin = &arrival.origin;
    let mut challenge = format!("Bearer realm=\"{origin}/v2/token\",service=\"{}\"", origin.authority);
    if let Some(scope) = wish.scope() {
        challenge.push_str(&format!(",scope=\"{scope}\""));
    }
    challenge
}

/// For a token that is good, but for something else: clients get one for this (RFC 6750, section 3.1). The challenge is
/// Bearer even where strangers are told Basic, or a token's holder would take it for a wrong password.
pub(super) fn insufficient_scope(arrival: &Arrival, wish: Wish<'_>) -> OciError {
    let challenge = format!("{},error=\"insufficient_scope\"", bearer_challenge(arrival, wish));
    OciError::unauthorized("this token is for something else", challenge)
}

/// Takes a login at another registry off a request to a mirror: dockerd sends every mirror what it has for Docker Hub.
/// It is neither looked at nor logged, and the client is who he is without it.
///
/// # Errors
/// When the state cannot tell whose key it is.
pub(super) async fn without_foreign(door: &Door, arrival: &Arrival, sent: Sent) -> Result<Sent, OciError> {
    let Sent::Basic { user, .. } = &sent else { return Ok(sent) };
    if arrival.entrance != Entrance::Mirror {
        return Ok(sent);
    }
    let foreign = door.services.access.is_foreign(user).await;
    let foreign = foreign.map_err(|error| OciError::from_service(&error, &door.account_id()))?;
    Ok(if foreign { Sent::None } else { sent })
}

/// # Errors
/// 401 with the challenge for missing, wrong and expired credentials.
pub(super) async fn sign_in(door: &Door, arrival: &Arrival, sent: &Sent, wish: Wish<'_>) -> Result<SignedIn, OciError> {
    let refuse = |why: &str| OciError::unauthorized(why, challenge(door, arrival, wish));
    may_send(door, arrival, sent)?;
    let credential = sent.credential().ok_or_else(|| refuse("these credentials cannot be read"))?;
    door.services.access.sign_in(credential, Some(arrival.client)).await.map_err(|failure| match failure {
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

/// `GET /v2/token`, and the form that OAuth2 clients post. The scope only narrows: permissions are asked at use.
pub(super) async fn token(
    door: &Door,
    arrival: &Arrival,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, OciError> {
    let mut sent = Sent::read(&head.headers);
    let mut asked = Asked::read(head.uri.query().unwrap_or_default().as_bytes());
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
        let posted = Asked::read(&form);
        match posted.credential(arrival.entrance)? {
            Posted::Credential(posted) => sent = posted,
            Posted::Foreign => {
                door.services.access.count_foreign();
                sent = Sent::None;
            }
            Posted::None => {}
        }
        asked.scopes.extend(posted.scopes);
    }
    let grants = Grant::parse(asked.scopes.iter().map(String::as_str))
        .map_err(|error| OciError::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, error.to_string()))?;
    let sent = without_foreign(door, arrival, sent).await?;
    may_send(door, arrival, &sent)?;
    // The client is at the realm already: what it lacks is a login.
    let refuse = |why: &str| OciError::unauthorized(why, format!("Basic realm=\"{}/v2/token\"", arrival.origin));
    // A token is not renewed by itself, or it would live for ever.
    let credential = sent.credential().filter(|credential| !matches!(credential, Credential::Bearer(_)));
    let credential = credential.ok_or_else(|| refuse("a user name and a password are needed here"))?;
    let of_service = |error| OciError::from_service(&error, &door.account_id());
    let access = &door.services.access;
    let signed_in = access.sign_in(credential, Some(arrival.client)).await.map_err(|failure| match failure {
        SignInFailure::Refused(refused) => refuse(&refused.to_string()),
        SignInFailure::Service(error) => of_service(error),
    })?;
    arrival.record.note(|facts| facts.principal = Some(signed_in.principal.to_string()));
    let issued = access.bearer_token(signed_in, grants).map_err(of_service)?;
    Ok(super::json(&token_reply(&issued)))
}

/// Parameters of a token request, in its query or its form.
#[derive(Default)]
struct Asked {
    grant: String,
    user: Option<String>,
    password: Option<String>,
    scopes: Vec<String>,
}

/// What a form brings to sign in with.
enum Posted {
    Credential(Sent),
    /// A refresh token of another registry, at a mirror.
    Foreign,
    None,
}

impl Asked {
    fn read(encoded: &[u8]) -> Self {
        let mut asked = Self::default();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            match name.as_ref() {
                "grant_type" => asked.grant = value.into_owned(),
                "username" => asked.user = Some(value.into_owned()),
                "password" => asked.password = Some(value.into_owned()),
                "scope" => asked.scopes.push(value.into_owned()),
                _ => {}
            }
        }
        asked
    }

    /// Only the password grant. dockerd offers a mirror the refresh token of Docker Hub: that is no login here.
    fn credential(&self, entrance: Entrance) -> Result<Posted, OciError> {
        match (self.grant.as_str(), &self.user, &self.password) {
            ("password", Some(user), Some(password)) => {
                Ok(Posted::Credential(Sent::Basic { user: user.clone(), password: password.clone() }))
            }
            ("" | "password", ..) => Ok(Posted::None),
            ("refresh_token", ..) if entrance == Entrance::Mirror => Ok(Posted::Foreign),
            _ => {
                let text = "only grant_type=password is served; refresh tokens are not issued here";
                Err(OciError::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, text))
            }
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
        let posted = |form: &[u8], entrance| Asked::read(form).credential(entrance);
        let form = b"grant_type=password&username=AWS&password=a%2Bb&service=x&scope=repository%3Aa%3Apull";
        let sent = posted(form, Entrance::Registry).ok().unwrap();
        assert!(
            matches!(sent, Posted::Credential(Sent::Basic { user, password }) if user == "AWS" && password == "a+b")
        );
        assert_eq!(Asked::read(form).scopes, ["repository:a:pull"]);
        assert!(matches!(posted(b"service=x", Entrance::Registry), Ok(Posted::None)));
        let refresh = b"grant_type=refresh_token&refresh_token=x";
        assert!(posted(refresh, Entrance::Registry).is_err());
        assert!(matches!(posted(refresh, Entrance::Mirror), Ok(Posted::Foreign)));
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
