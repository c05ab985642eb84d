use aws_lc_rs::hmac;
use flotilla_base::{Secret, Timestamp};
use http::{HeaderValue, header, request};

use super::{ALGORITHM, Scope, canonical, signing_key, time};

/// Who signs.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}

/// A credential that no HTTP header can carry.
#[derive(Debug, thiserror::Error)]
#[error("the access key id or session token holds characters that an HTTP header cannot carry")]
pub struct Unsignable;

/// Signs a request that is otherwise complete, `Host` included: adds `x-amz-date`, `x-amz-security-token` with a
/// session token, and `Authorization`. Signs host, content-type and every `x-amz-` header; what proxies may add or
/// change stays out.
///
/// # Errors
/// [`Unsignable`]; the request is then not to be sent.
pub fn sign(
    head: &mut request::Parts,
    body: &[u8],
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: Timestamp,
) -> Result<(), Unsignable> {
    let amz_date = time::format(now);
    head.headers.insert("x-amz-date", HeaderValue::from_str(&amz_date).map_err(|_| Unsignable)?);
    if let Some(token) = &credentials.session_token {
        let mut value = HeaderValue::from_bytes(token.expose()).map_err(|_| Unsignable)?;
        value.set_sensitive(true);
        head.headers.insert("x-amz-security-token", value);
    }
    let mut signed: Vec<String> = head
        .headers
        .keys()
        .map(header::HeaderName::as_str)
        .filter(|name| *name == "content-type" || name.starts_with("x-amz-"))
        .chain(["host"])
        .map(str::to_owned)
        .collect();
    signed.sort();
    let date = amz_date.split('T').next().unwrap_or_default().to_owned();
    let scope = Scope { date, region: region.to_owned(), service: service.to_owned() };
    let hash = canonical::hash(head, body, signed.iter().map(String::as_str)).ok_or(Unsignable)?;
    let signature = hmac::sign(
        &signing_key(&credentials.secret_access_key, &scope),
        scope.string_to_sign(&amz_date, &hash).as_bytes(),
    );
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}/{region}/{service}/aws4_request, SignedHeaders={}, Signature={}",
        credentials.access_key_id,
        scope.date,
        signed.join(";"),
        hex::encode(signature),
    );
    let mut value = HeaderValue::from_str(&authorization).map_err(|_| Unsignable)?;
    value.set_sensitive(true);
    head.headers.insert(header::AUTHORIZATION, value);
    Ok(())
}
