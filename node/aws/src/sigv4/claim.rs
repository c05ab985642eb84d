use aws_lc_rs::hmac;
use flotilla_base::{Secret, Timestamp};
use http::{HeaderMap, header, request};

use super::{ALGORITHM, MAX_SKEW, SignatureError, canonical, signing_key, time};
use crate::arn::is_region;

/// More signed headers than any SDK sends.
const MAX_SIGNED_HEADERS: usize = 64;
/// Longer than any key id or service name.
const MAX_NAME_BYTES: usize = 128;

/// What a request says about itself; to be believed only after [`Claim::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub access_key_id: String,
    pub session_token: Option<String>,
    /// The caller must compare `scope.service` with the service of the operation it dispatches to.
    pub scope: Scope,
    pub signed_at: Timestamp,
    amz_date: String,
    signed_headers: Vec<String>,
    signature: [u8; 32],
}

/// What a signing key is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `YYYYMMDD`.
    pub date: String,
    /// As the client was configured: a label, possibly empty.
    pub region: String,
    pub service: String,
}

impl Scope {
    pub(super) fn string_to_sign(&self, amz_date: &str, canonical_hash: &str) -> String {
        let Self { date, region, service } = self;
        format!("{ALGORITHM}\n{amz_date}\n{date}/{region}/{service}/aws4_request\n{canonical_hash}")
    }
}

/// Reads the signature of a request, without judging it.
///
/// # Errors
/// Every request that is not signed as this contract demands, before a key is looked up.
pub fn claim(head: &request::Parts) -> Result<Claim, SignatureError> {
    let Some(authorization) = only(&head.headers, header::AUTHORIZATION.as_str())? else {
        return Err(if in_query(head.uri.query().unwrap_or_default()) {
            SignatureError::QueryString
        } else {
            SignatureError::Missing
        });
    };
    let Some(fields) = authorization.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' ')) else {
        return Err(if authorization.starts_with("AWS4") {
            SignatureError::Incomplete("only AWS4-HMAC-SHA256 is accepted")
        } else {
            SignatureError::Missing
        });
    };
    let fields = Fields::parse(fields)?;
    let signed_headers = signed_headers(fields.signed_headers)?;
    let (access_key_id, scope) = credential(fields.credential)?;
    let mut signature = [0; 32];
    hex::decode_to_slice(fields.signature, &mut signature)
        .map_err(|_| SignatureError::Incomplete("the Signature is not 64 hexadecimal digits"))?;

    let amz_date = only(&head.headers, "x-amz-date")?.ok_or(SignatureError::Incomplete("X-Amz-Date is missing"))?;
    let signed_at =
        time::parse(amz_date).ok_or(SignatureError::Incomplete("X-Amz-Date is not of the form YYYYMMDDTHHMMSSZ"))?;
    if !amz_date.starts_with(&scope.date) {
        return Err(SignatureError::Scope("date: that of X-Amz-Date"));
    }
    let session_token = only(&head.headers, "x-amz-security-token")?;
    let target = only(&head.headers, "x-amz-target")?;
    for (name, given) in [
        ("host", true),
        ("x-amz-date", true),
        ("x-amz-security-token", session_token.is_some()),
        ("x-amz-target", target.is_some()),
    ] {
        if given && !signed_headers.iter().any(|signed| signed == name) {
            return Err(SignatureError::Unsigned(name));
        }
    }
    Ok(Claim {
        access_key_id,
        session_token: session_token.map(str::to_owned),
        scope,
        signed_at,
        amz_date: amz_date.to_owned(),
        signed_headers,
        signature,
    })
}

impl Claim {
    /// Holds the claim against the request it was read from, the key and the time. The comparison takes the same time
    /// wherever a wrong signature differs.
    ///
    /// # Errors
    /// [`SignatureError::Skew`] or [`SignatureError::Mismatch`]; [`SignatureError::Incomplete`] when a signed header is
    /// not in the request.
    pub fn verify(
        &self,
        head: &request::Parts,
        body: &[u8],
        secret: &Secret,
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        if self.signed_at.0.abs_diff(now.0) > u64::try_from(MAX_SKEW.as_millis()).unwrap_or(u64::MAX) {
            return Err(SignatureError::Skew { signed: self.amz_date.clone(), now: time::format(now) });
        }
        let hash = canonical::hash(head, body, self.signed_headers.iter().map(String::as_str))
            .ok_or(SignatureError::Incomplete("a header of SignedHeaders is not in the request"))?;
        let string = self.scope.string_to_sign(&self.amz_date, &hash);
        hmac::verify(&signing_key(secret, &self.scope), string.as_bytes(), &self.signature)
            .map_err(|_| SignatureError::Mismatch)
    }
}

/// A header that decides something must be there once: of two, signer and reader could mean different ones.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(SignatureError::Incomplete("Authorization or an X-Amz header is given twice"));
    }
    let text =
        value.to_str().map_err(|_| SignatureError::Incomplete("Authorization or an X-Amz header is not text"))?;
    Ok(Some(text))
}

fn in_query(query: &str) -> bool {
    query.split('&').any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        name.eq_ignore_ascii_case("X-Amz-Signature") || name.eq_ignore_ascii_case("X-Amz-Algorithm")
    })
}

struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Self, SignatureError> {
        const FORM: SignatureError =
            SignatureError::Incomplete("Authorization needs Credential, SignedHeaders and Signature, once each");
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in text.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or(FORM)?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(FORM),
            };
            if slot.replace(value).is_some() {
                return Err(FORM);
            }
        }
        match (credential, signed_headers, signature) {
            (Some(credential), Some(signed_headers), Some(signature)) => {
                Ok(Self { credential, signed_headers, signature })
            }
            _ => Err(FORM),
        }
    }
}

/// Names in lower case, ascending, each once: the only order in which both sides build the same bytes.
fn signed_headers(text: &str) -> Result<Vec<String>, SignatureError> {
    let names: Vec<String> = text.split(';').take(MAX_SIGNED_HEADERS + 1).map(str::to_owned).collect();
    let well_formed = names
        .iter()
        .all(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
    let ascending = names.is_sorted_by(|a, b| a < b);
    if names.len() > MAX_SIGNED_HEADERS || !well_formed || !ascending {
        return Err(SignatureError::Incomplete("SignedHeaders must be header names in lower case, ascending"));
    }
    Ok(names)
}

fn credential(text: &str) -> Result<(String, Scope), SignatureError> {
    // From the right: the scope's parts hold no slash, while nothing forbids one in a key id.
    let mut parts = text.rsplitn(5, '/');
    let (Some("aws4_request"), Some(service), Some(region), Some(date), Some(key)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SignatureError::Incomplete("Credential needs <key id>/<date>/<region>/<service>/aws4_request"));
    };
    if key.is_empty() || key.len() > MAX_NAME_BYTES {
        return Err(SignatureError::Incomplete("Credential has no valid access key id"));
    }
    if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SignatureError::Scope("date: that of X-Amz-Date"));
    }
    if !is_region(region) {
        return Err(SignatureError::Scope("region"));
    }
    if service.is_empty() || service.len() > MAX_NAME_BYTES {
        return Err(SignatureError::Scope("service"));
    }
    Ok((key.to_owned(), Scope { date: date.to_owned(), region: region.to_owned(), service: service.to_owned() }))
}
