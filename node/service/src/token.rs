//! Tokens of every kind: claims sealed under a key of their purpose, so that one kind is never taken for another, no node
//! needs a table of them, and any node of the cluster opens what another has issued.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use flotilla_base::{ByteLen, ClusterId, Timestamp, codec};
use flotilla_registry::{Sealed, access::PrincipalArn};
use flotilla_storage::Keyring;
use serde::{Deserialize, Serialize};

use crate::access::Grant;

/// Tokens of the first one had no claims of their own.
const FORMAT: u8 = 2;

/// Longest claims that are opened: an ARN, a key id, four numbers, and as many grants as one token may hold.
const CLAIMS_LIMIT: ByteLen = ByteLen::kib(8);

/// Longest token text that is looked at; fits into a request's head.
const TOKEN_LIMIT_BYTES: usize = 12 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The password of `docker login`: 12 hours.
    Login,
    /// The Bearer flow: 10 minutes.
    Bearer,
    /// Where a listing goes on: 24 hours.
    Page,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "token-login",
            Self::Bearer => "token-bearer",
            Self::Page => "token-page",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub cluster: ClusterId,
    pub principal: PrincipalArn,
    /// The access key it was issued to, and that key's generation then; `None` for anonymous callers. The token dies
    /// with its key.
    pub key: Option<(String, u64)>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub body: Body,
}

/// What only tokens of one kind say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    Login,
    Bearer(Vec<Grant>),
    Page { operation: String, after: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("not a token of this cluster")]
    Foreign,
    #[error("token has expired")]
    Expired,
}

/// Base64 without padding: no colon, which the AWS CLI splits at, and nothing that a header or URL has to quote.
pub fn issue(keyring: &Keyring, purpose: Purpose, claims: &Claims) -> Result<String, codec::CodecError> {
    let sealed = keyring.seal(purpose.as_str(), &codec::encode(FORMAT, claims)?);
    Ok(URL_SAFE_NO_PAD.encode([&sealed.key_id.to_be_bytes()[..], &sealed.bytes].concat()))
}

/// Claims of a token that is of this purpose, this cluster and not expired. Whether its key still counts is the
/// caller's to ask.
pub fn open(
    keyring: &Keyring,
    purpose: Purpose,
    cluster: ClusterId,
    token: &str,
    now: Timestamp,
) -> Result<Claims, InvalidToken> {
    if token.len() > TOKEN_LIMIT_BYTES {
        return Err(InvalidToken::Foreign);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidToken::Foreign)?;
    let (key_id, sealed) = bytes.split_first_chunk::<4>().ok_or(InvalidToken::Foreign)?;
    let sealed = Sealed { key_id: u32::from_be_bytes(*key_id), bytes: sealed.to_vec() };
    let plain = keyring.open(purpose.as_str(), &sealed).map_err(|_| InvalidToken::Foreign)?;
    let claims: Claims =
        codec::decode_version(FORMAT, CLAIMS_LIMIT, plain.expose()).map_err(|_| InvalidToken::Foreign)?;
    if claims.cluster != cluster {
        return Err(InvalidToken::Foreign);
    }
    if claims.expires_at <= now {
        return Err(InvalidToken::Expired);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use flotilla_runtime::Host;

    use super::*;

    fn claims() -> Claims {
        Claims {
            cluster: ClusterId(7),
            principal: PrincipalArn::root("000000000000"),
            key: Some(("AKIA".into(), 3)),
            issued_at: Timestamp(1_000),
            expires_at: Timestamp(2_000),
            body: Body::Login,
        }
    }

    #[test]
    fn a_token_opens_for_its_purpose_cluster_and_time_only() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open_or_create(&Host::system(), &dir.path().join("keyring")).unwrap();
        let token = issue(&keyring, Purpose::Login, &claims()).unwrap();
        assert!(!token.contains(':'));
        let open = |purpose, cluster, now| open(&keyring, purpose, ClusterId(cluster), &token, Timestamp(now));
        assert_eq!(open(Purpose::Login, 7, 1_999), Ok(claims()));
        assert_eq!(open(Purpose::Bearer, 7, 1_999), Err(InvalidToken::Foreign));
        assert_eq!(open(Purpose::Page, 7, 1_999), Err(InvalidToken::Foreign));
        assert_eq!(open(Purpose::Login, 8, 1_999), Err(InvalidToken::Foreign));
        assert_eq!(open(Purpose::Login, 7, 2_000), Err(InvalidToken::Expired));
    }

    #[test]
    fn a_token_with_one_letter_changed_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open_or_create(&Host::system(), &dir.path().join("keyring")).unwrap();
        let token = issue(&keyring, Purpose::Login, &claims()).unwrap();
        for at in 0..token.len() {
            let mut letters = token.clone().into_bytes();
            letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(letters).unwrap();
            if URL_SAFE_NO_PAD.decode(&forged).is_ok() {
                assert!(open(&keyring, Purpose::Login, ClusterId(7), &forged, Timestamp(0)).is_err(), "letter {at}");
            }
        }
    }
}
