//! Vectors of others: AWS's published suite, requests signed by botocore, and the key derivation AWS documents.

use flotilla_base::{Secret, Timestamp};
use http::{Request, request};
use serde::Deserialize;

use super::*;
use crate::Service;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

pub(super) fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

#[derive(Deserialize)]
pub(super) struct Fixture {
    pub(super) name: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) secret: String,
}

impl Fixture {
    /// Requests signed by botocore 1.43 at [`BOTOCORE_NOW`].
    pub(super) fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("botocore_requests.json")).unwrap()
    }

    pub(super) fn head(&self) -> request::Parts {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }
}

/// 2026-11-22T18:58:30Z.
pub(super) const BOTOCORE_NOW: Timestamp = Timestamp(1_795_373_910_000);

#[test]
fn requests_signed_by_botocore_verify() {
    let fixtures = Fixture::all();
    assert_eq!(fixtures.len(), 10);
    for fixture in fixtures {
        let head = fixture.head();
        let claim = claim(&head).unwrap();
        assert_eq!(claim.access_key_id, "AKIDEXAMPLE");
        assert_eq!(claim.signed_at, BOTOCORE_NOW);
        let verdict = claim.verify(&head, fixture.body.as_bytes(), &secret(&fixture.secret), BOTOCORE_NOW);
        assert_eq!(verdict, Ok(()), "{}", fixture.name);
    }
}

type Headers = &'static [(&'static str, &'static str)];

/// From AWS's signature version 4 test suite: name, method, target, further headers, body, signature.
const SUITE: &[(&str, &str, &str, Headers, &str, &str)] = &[
    ("get-vanilla", "GET", "/", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (
        "get-vanilla-query-order-key-case",
        "GET",
        "/?Param2=value2&Param1=value1",
        &[],
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    ("post-vanilla", "POST", "/", &[], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("get-slash-dot-slash", "GET", "/./", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (
        "get-relative-relative",
        "GET",
        "/example1/example2/../..",
        &[],
        "",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    (
        "get-header-value-trim",
        "GET",
        "/",
        &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
        "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    (
        "post-x-www-form-urlencoded",
        "POST",
        "/",
        &[("content-type", "application/x-www-form-urlencoded")],
        "Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
];

#[test]
fn the_suite_of_aws_verifies() {
    for (name, method, target, headers, body, signature) in SUITE {
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).chain(["host", "x-amz-date"]).collect();
        names.sort_unstable();
        let mut request = Request::builder()
            .method(*method)
            .uri(*target)
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .header(
                "authorization",
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders={}, Signature={signature}",
                    names.join(";")
                ),
            );
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let verdict =
            claim(&head).unwrap().verify(&head, body.as_bytes(), &secret(SECRET), Timestamp(1_440_938_160_000));
        assert_eq!(verdict, Ok(()), "{name}");
    }
}

/// AWS's documentation derives this key from the suite's secret.
#[test]
fn the_derived_key_is_that_of_the_documentation() {
    let scope = Scope { date: "20120215".into(), region: "us-east-1".into(), service: "iam".into() };
    let key = signing_key(&secret(SECRET), &scope);
    // The documented key itself is not readable from `hmac::Key`; a MAC under it is.
    let documented = hex::decode("f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d").unwrap();
    let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &documented), b"x");
    assert_eq!(hmac::sign(&key, b"x").as_ref(), expected.as_ref());
}

pub(super) fn signed(credentials: &Credentials, body: &[u8], now: Timestamp) -> request::Parts {
    let mut head = Request::builder()
        .method("POST")
        .uri("/")
        .header("host", "127.0.0.1:5000")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.ListImages")
        .header("user-agent", "flotilla")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    sign(&mut head, body, credentials, "us-east-1", Service::Ecr.signing_name(), now).unwrap();
    head
}

#[test]
fn what_we_sign_verifies() {
    for session_token in [None, Some(secret("token=="))] {
        let credentials =
            Credentials { access_key_id: "AKID/with/slashes".into(), secret_access_key: secret("s"), session_token };
        let head = signed(&credentials, b"{}", BOTOCORE_NOW);
        let claim = claim(&head).unwrap();
        assert_eq!(claim.access_key_id, "AKID/with/slashes");
        assert_eq!((claim.scope.region.as_str(), claim.scope.service.as_str()), ("us-east-1", "ecr"));
        assert_eq!(claim.session_token.is_some(), credentials.session_token.is_some());
        assert_eq!(claim.verify(&head, b"{}", &secret("s"), BOTOCORE_NOW), Ok(()));
    }
}

#[test]
fn http2_requests_sign_their_authority() {
    let credentials = Credentials { access_key_id: "AKID".into(), secret_access_key: secret("s"), session_token: None };
    let mut head = signed(&credentials, b"{}", BOTOCORE_NOW);
    head.headers.remove("host");
    head.uri = "http://127.0.0.1:5000/".parse().unwrap();
    assert_eq!(claim(&head).unwrap().verify(&head, b"{}", &secret("s"), BOTOCORE_NOW), Ok(()));
    head.uri = "http://127.0.0.1:5001/".parse().unwrap();
    assert_eq!(claim(&head).unwrap().verify(&head, b"{}", &secret("s"), BOTOCORE_NOW), Err(SignatureError::Mismatch));
}

#[test]
fn credentials_that_no_header_can_carry_are_refused() {
    let credentials = Credentials { access_key_id: "a\nb".into(), secret_access_key: secret("s"), session_token: None };
    let mut head = Request::builder().header("host", "h").body(()).unwrap().into_parts().0;
    assert!(sign(&mut head, b"", &credentials, "", "ecr", BOTOCORE_NOW).is_err());
}
