//! Signed calls of the AWS API. The signature is made here, not by `flotilla_aws`: a mistake that both ends of one
//! implementation share must not hide.

use std::{
    fs, io,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{digest, hmac};
use serde_json::Value;

use crate::{Client, Flotilla};

const ECR: &str = "AmazonEC2ContainerRegistry_V20150921";

/// A principal at an endpoint.
#[derive(Clone, Debug)]
pub struct Aws {
    pub client: Client,
    pub access_key_id: String,
    pub secret: String,
    pub region: String,
}

/// What the service refused, or why nothing is known of the outcome.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    #[error("{code}: {message}")]
    Refused { status: u16, code: String, message: String },
    /// The call may have happened.
    #[error("no answer")]
    NoAnswer(#[source] io::Error),
}

impl AwsError {
    /// The service's error code; empty when there was no answer.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::NoAnswer(_) => "",
        }
    }
}

impl Aws {
    /// The root principal of a `dev` server.
    ///
    /// # Panics
    /// When its credentials file cannot be read.
    pub fn root(flotilla: &Flotilla) -> Self {
        let file = flotilla.credentials();
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let value = |key: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(key));
            line.and_then(|line| line.split_once('=')).map(|(_, value)| value.trim().to_owned())
        };
        Self {
            client: flotilla.client(),
            access_key_id: value("aws_access_key_id").expect("the credentials file has a key id"),
            secret: value("aws_secret_access_key").expect("the credentials file has a secret"),
            region: "us-east-1".to_owned(),
        }
    }

    /// Calls an operation of ECR.
    ///
    /// # Errors
    /// [`AwsError`].
    pub fn try_ecr(&self, operation: &str, input: &Value) -> Result<Value, AwsError> {
        self.try_call("ecr", &format!("{ECR}.{operation}"), input)
    }

    /// Calls an operation of Secrets Manager.
    ///
    /// # Errors
    /// [`AwsError`].
    pub fn try_secrets(&self, operation: &str, input: &Value) -> Result<Value, AwsError> {
        self.try_call("secretsmanager", &format!("secretsmanager.{operation}"), input)
    }

    /// Calls one of the cluster's own operations.
    ///
    /// # Errors
    /// [`AwsError`].
    pub fn try_flotilla(&self, operation: &str, input: &Value) -> Result<Value, AwsError> {
        self.try_call("flotilla", &format!("Flotilla_20261101.{operation}"), input)
    }

    /// # Panics
    /// When the call does not succeed.
    #[track_caller]
    pub fn flotilla(&self, operation: &str, input: &Value) -> Value {
        self.try_flotilla(operation, input).unwrap_or_else(|error| panic!("{operation} {input}: {error}"))
    }

    /// # Panics
    /// When the call does not succeed.
    #[track_caller]
    pub fn secrets(&self, operation: &str, input: &Value) -> Value {
        self.try_secrets(operation, input).unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    /// The code with which the operation is refused.
    ///
    /// # Panics
    /// When it succeeds, or is not answered.
    #[track_caller]
    pub fn secrets_refusal(&self, operation: &str, input: &Value) -> String {
        match self.try_secrets(operation, input) {
            Ok(_) => panic!("{operation} succeeded"),
            Err(error @ AwsError::NoAnswer(_)) => panic!("{operation}: {error:?}"),
            Err(error) => error.code().to_owned(),
        }
    }

    /// A call in JSON.
    ///
    /// # Errors
    /// [`AwsError`].
    pub fn try_call(&self, service: &str, target: &str, input: &Value) -> Result<Value, AwsError> {
        let body = input.to_string();
        let headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", target)];
        let response = self.post(service, &headers, body.as_bytes()).map_err(AwsError::NoAnswer)?;
        let value: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if response.status == 200 {
            return Ok(value);
        }
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let code = text("__type").rsplit('#').next().unwrap_or_default().to_owned();
        Err(AwsError::Refused { status: response.status, code, message: text("message") })
    }

    /// # Panics
    /// When the call does not succeed.
    #[track_caller]
    pub fn ecr(&self, operation: &str, input: &Value) -> Value {
        self.try_ecr(operation, input).unwrap_or_else(|error| panic!("{operation} {input}: {error}"))
    }

    /// The code with which the operation is refused.
    ///
    /// # Panics
    /// When it succeeds, or is not answered.
    #[track_caller]
    pub fn ecr_refusal(&self, operation: &str, input: &Value) -> String {
        match self.try_ecr(operation, input) {
            Ok(output) => panic!("{operation} {input} succeeded: {output}"),
            Err(error @ AwsError::NoAnswer(_)) => panic!("{operation} {input}: {error:?}"),
            Err(error) => error.code().to_owned(),
        }
    }

    /// A signed `POST /`.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub fn post(&self, service: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<crate::http::Response> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs();
        let signed = self.sign(service, headers, body, now);
        let headers = signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>();
        self.client.try_request("POST", "/", &headers, body)
    }

    /// `headers` with `Host`, `X-Amz-Date` and `Authorization` added, as of `now` (seconds since the Unix epoch).
    pub fn sign(&self, service: &str, headers: &[(&str, &str)], body: &[u8], now: u64) -> Vec<(String, String)> {
        let date = iso_basic(now);
        let host = self.client.address().to_string();
        let mut all: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.push(("Host".to_owned(), host));
        all.push(("X-Amz-Date".to_owned(), date.clone()));
        let mut sorted: Vec<_> = all.iter().map(|(name, value)| (name.to_lowercase(), value.trim())).collect();
        sorted.sort();
        let names = sorted.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let lines = sorted.iter().map(|(name, value)| format!("{name}:{value}\n")).collect::<String>();
        let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", sha256(body));
        let scope = format!("{}/{}/{service}/aws4_request", &date[..8], self.region);
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            key = mac(&key, part);
        }
        let signature = hex::encode(mac(&key, &to_sign));
        let id = &self.access_key_id;
        let value = format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        all.push(("Authorization".to_owned(), value));
        all
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// `20261122T185830Z`
fn iso_basic(seconds: u64) -> String {
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}{:02}{:02}T{hour:02}{minute:02}{second:02}Z", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_calendar_dates() {
        assert_eq!(iso_basic(0), "19700101T000000Z");
        assert_eq!(iso_basic(951_782_400), "20000229T000000Z");
        assert_eq!(iso_basic(1_795_373_910), "20261122T185830Z");
    }

    #[test]
    fn a_signature_is_that_of_botocore() {
        // Made with botocore.auth.SigV4Auth for the same request, key and instant.
        let aws = Aws {
            client: Client::new("http://127.0.0.1:18765"),
            access_key_id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            region: "us-east-1".into(),
        };
        let headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "T.Op")];
        let signed = aws.sign("ecr", &headers, b"{}", 1_795_373_910);
        let (_, value) = signed.last().unwrap();
        assert!(
            value.ends_with("Signature=57b15f9ca222b0972ddc29a0bec9bc48c36785e70b4d050534e4c9d7cb04afe4"),
            "{value}"
        );
    }
}
