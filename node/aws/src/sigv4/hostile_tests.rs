//! What an attacker may try: every part tampered with, every rule broken, any bytes.

use std::time::Duration;

use flotilla_base::Timestamp;
use http::{HeaderValue, Request, request};
use proptest::prelude::*;

use super::{
    vector_tests::{BOTOCORE_NOW, Fixture, secret, signed},
    *,
};

fn verdict(head: &request::Parts, body: &[u8], key: &str, now: Timestamp) -> Result<(), SignatureError> {
    claim(head)?.verify(head, body, &secret(key), now)
}

fn good() -> request::Parts {
    let credentials =
        Credentials { access_key_id: "AKID".into(), secret_access_key: secret("s"), session_token: Some(secret("t")) };
    signed(&credentials, b"{}", BOTOCORE_NOW)
}

fn with(change: impl FnOnce(&mut request::Parts)) -> Result<(), SignatureError> {
    let mut head = good();
    change(&mut head);
    verdict(&head, b"{}", "s", BOTOCORE_NOW)
}

fn authorization(change: impl FnOnce(&str) -> String) -> Result<(), SignatureError> {
    with(|head| {
        let text = change(head.headers["authorization"].to_str().unwrap());
        head.headers.insert("authorization", text.parse().unwrap());
    })
}

#[test]
fn tampering_with_any_signed_part_fails() {
    assert_eq!(with(|_| {}), Ok(()));
    let mismatch = Err(SignatureError::Mismatch);
    assert_eq!(verdict(&good(), b"{ }", "s", BOTOCORE_NOW), mismatch);
    assert_eq!(verdict(&good(), b"{}", "S", BOTOCORE_NOW), mismatch);
    assert_eq!(with(|head| head.method = "PUT".parse().unwrap()), mismatch);
    assert_eq!(with(|head| head.uri = "/x".parse().unwrap()), mismatch);
    assert_eq!(with(|head| head.uri = "/?a".parse().unwrap()), mismatch);
    for name in ["host", "content-type", "x-amz-target", "x-amz-security-token"] {
        let changed = with(|head| drop(head.headers.insert(name, HeaderValue::from_static("other"))));
        assert_eq!(changed, mismatch, "{name}");
        let gone = with(|head| drop(head.headers.remove(name)));
        assert!(matches!(gone, Err(SignatureError::Incomplete(_))), "{name}: {gone:?}");
    }
    assert_eq!(with(|head| drop(head.headers.insert("x-amz-date", "20261122T185831Z".parse().unwrap()))), mismatch);
    assert_eq!(authorization(|text| text.replace("us-east-1", "us-east-2")), mismatch);
    assert_eq!(authorization(|text| text.replace("/ecr/", "/sts/")), mismatch);
    assert_eq!(with(|head| drop(head.headers.insert("user-agent", "other".parse().unwrap()))), Ok(()));
}

#[test]
fn every_bit_of_the_signature_counts() {
    let head = good();
    let text = head.headers["authorization"].to_str().unwrap().to_owned();
    let (front, signature) = text.split_at(text.len() - 64);
    for at in 0..64 {
        let mut digits = signature.as_bytes().to_vec();
        digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
        let changed = format!("{front}{}", String::from_utf8(digits).unwrap());
        assert_eq!(authorization(|_| changed), Err(SignatureError::Mismatch), "digit {at}");
    }
}

#[test]
fn what_decides_the_meaning_must_be_signed() {
    for name in ["host", "x-amz-date", "x-amz-security-token", "x-amz-target"] {
        let unsigned = authorization(|text| {
            let (front, rest) = text.split_once("SignedHeaders=").unwrap();
            let (names, rest) = rest.split_once(',').unwrap();
            let names: Vec<&str> = names.split(';').filter(|signed| *signed != name).collect();
            format!("{front}SignedHeaders={},{rest}", names.join(";"))
        });
        assert_eq!(unsigned, Err(SignatureError::Unsigned(name)));
    }
    let twice = with(|head| {
        head.headers.append("x-amz-target", HeaderValue::from_static("other"));
    });
    assert!(matches!(twice, Err(SignatureError::Incomplete(_))));
}

#[test]
fn clocks_may_differ_by_fifteen_minutes() {
    let head = good();
    for (offset, good) in [(0, true), (15 * 60, true), (15 * 60 + 1, false)] {
        let offset = Duration::from_secs(offset);
        let later = BOTOCORE_NOW.plus(offset);
        let earlier = Timestamp(BOTOCORE_NOW.0 - u64::try_from(offset.as_millis()).unwrap());
        for now in [later, earlier] {
            let verdict = verdict(&head, b"{}", "s", now);
            assert_eq!(verdict.is_ok(), good, "{offset:?}: {verdict:?}");
        }
    }
    let error = verdict(&head, b"{}", "s", Timestamp(0)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::INVALID_SIGNATURE);
    assert!(error.to_string().contains("20261122T185830Z") && error.to_string().contains("19700101T000000Z"));
}

#[test]
fn the_scope_is_of_the_day_that_was_signed() {
    let other_day = authorization(|text| text.replace("20261122/", "20261121/"));
    assert!(matches!(other_day, Err(SignatureError::Scope(_))));
    for region in ["US-EAST-1", "a%20b", "a region", &"a".repeat(26)] {
        let refused = authorization(|text| text.replace("us-east-1", region));
        assert!(matches!(refused, Err(SignatureError::Scope("region"))), "{region}");
    }
}

#[test]
fn requests_that_are_not_signed_are_told_so() {
    let cases: &[(&str, Option<&str>, ErrorCode)] = &[
        ("/", None, ErrorCode::MISSING_AUTHENTICATION_TOKEN),
        ("/", Some("Basic QVdTOng="), ErrorCode::MISSING_AUTHENTICATION_TOKEN),
        ("/", Some("Bearer AWS4-HMAC-SHA256"), ErrorCode::MISSING_AUTHENTICATION_TOKEN),
        ("/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00", None, ErrorCode::INCOMPLETE_SIGNATURE),
        ("/", Some("AWS4-ECDSA-P256-SHA256 Credential=x"), ErrorCode::INCOMPLETE_SIGNATURE),
        ("/", Some("AWS4-HMAC-SHA256"), ErrorCode::INCOMPLETE_SIGNATURE),
        ("/", Some("AWS4-HMAC-SHA256 "), ErrorCode::INCOMPLETE_SIGNATURE),
        ("/", Some("AWS4-HMAC-SHA256 Credential=a, Signature=b"), ErrorCode::INCOMPLETE_SIGNATURE),
    ];
    for (uri, authorization, code) in cases {
        let mut request = Request::builder().method("POST").uri(*uri);
        if let Some(authorization) = authorization {
            request = request.header("authorization", *authorization);
        }
        let head = request.body(()).unwrap().into_parts().0;
        assert_eq!(claim(&head).unwrap_err().code(), *code, "{uri} {authorization:?}");
    }
}

#[test]
fn malformed_fields_are_incomplete() {
    let replacements = [
        ("aws4_request", "aws5_request"),
        ("AKID/", "/"),
        ("AKID/20261122/us-east-1/ecr/", ""),
        ("content-type;host", "host;content-type"),
        ("content-type;host", "Content-Type;host"),
        ("content-type;host", "host;host"),
        ("content-type;host", ";host"),
        ("Signature=", "Signature=0"),
        ("Signature=", "Signature=zz"),
        ("Signature=", "Signature=00, Signature="),
        ("Signature=", "Extra=1, Signature="),
    ];
    for (from, to) in replacements {
        let verdict = authorization(|text| text.replace(from, to));
        assert_eq!(verdict.clone().unwrap_err().code(), ErrorCode::INCOMPLETE_SIGNATURE, "{to}: {verdict:?}");
    }
    let many: Vec<String> = (10..99).map(|n| format!("x{n}")).collect();
    let verdict = authorization(|text| text.replace("content-type;", &format!("{};", many.join(";"))));
    assert!(matches!(verdict, Err(SignatureError::Incomplete(_))));
    let verdict = with(|head| drop(head.headers.insert("x-amz-date", HeaderValue::from_static("today"))));
    assert!(matches!(verdict, Err(SignatureError::Incomplete(_))));
    let verdict =
        with(|head| drop(head.headers.insert("x-amz-security-token", HeaderValue::from_bytes(b"\xff").unwrap())));
    assert!(matches!(verdict, Err(SignatureError::Incomplete(_))));
}

proptest! {
    #[test]
    fn hostile_headers_never_panic(
        authorization in proptest::collection::vec(any::<u8>(), 0..200),
        date in proptest::collection::vec(any::<u8>(), 0..20),
        fields in "AWS4-HMAC-SHA256 ((Credential|SignedHeaders|Signature)=[a-f0-9/;é]{0,70},? ?){0,4}",
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        for authorization in [authorization.as_slice(), fields.as_bytes()] {
            let mut request = Request::builder().method("POST").uri("/%zz?%=&a%41");
            for (name, value) in [("authorization", authorization), ("x-amz-date", &date)] {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    request = request.header(name, value);
                }
            }
            let head = request.body(()).unwrap().into_parts().0;
            prop_assert!(verdict(&head, &body, "s", BOTOCORE_NOW).is_err());
        }
    }

    /// One byte of one header changed: never accepted unless the header is not signed, and never a panic.
    #[test]
    fn changed_bytes_of_signed_requests_are_refused(
        which in 0usize..10, header in 0usize..12, at in 0usize..300, byte in 0x21u8..0x7f,
    ) {
        let fixture = &Fixture::all()[which];
        let mut head = fixture.head();
        let names: Vec<_> = head.headers.keys().cloned().collect();
        let name = &names[header % names.len()];
        let mut value = head.headers[name].as_bytes().to_vec();
        let at = at % value.len();
        prop_assume!(value[at] != byte);
        // Hexadecimal digits of the signature may be of either case.
        prop_assume!(!value[at].eq_ignore_ascii_case(&byte));
        value[at] = byte;
        head.headers.insert(name, HeaderValue::from_bytes(&value).unwrap());
        let unsigned = ["user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "content-length"];
        let verdict = verdict(&head, fixture.body.as_bytes(), &fixture.secret, BOTOCORE_NOW);
        if unsigned.contains(&name.as_str()) {
            return Ok(());
        }
        // The key id is not signed: it selects the secret, and here the secret is given.
        let key_only = claim(&head).is_ok_and(|claim| claim.access_key_id != "AKIDEXAMPLE");
        prop_assert!(verdict.is_err() || key_only, "{}: {}", fixture.name, name);
    }
}
