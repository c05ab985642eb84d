//! The canonical request: the bytes both sides hash.

use aws_lc_rs::digest;
use http::{header, request};

/// Hex SHA-256 of the canonical request. `None` when a signed header is not in the request.
pub(super) fn hash<'a>(
    head: &request::Parts,
    body: &[u8],
    signed_headers: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    let mut text: Vec<u8> = Vec::with_capacity(512);
    text.extend_from_slice(head.method.as_str().as_bytes());
    text.push(b'\n');
    text.extend_from_slice(path(head.uri.path()).as_bytes());
    text.push(b'\n');
    text.extend_from_slice(query(head.uri.query().unwrap_or_default()).as_bytes());
    text.push(b'\n');
    for name in signed_headers.clone() {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        header_value(&mut text, head, name)?;
        text.push(b'\n');
    }
    text.push(b'\n');
    for (at, name) in signed_headers.enumerate() {
        if at > 0 {
            text.push(b';');
        }
        text.extend_from_slice(name.as_bytes());
    }
    text.push(b'\n');
    text.extend_from_slice(sha256_hex(body).as_bytes());
    Some(sha256_hex(&text))
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// All values of a header joined by commas, each trimmed and with runs of spaces made one.
fn header_value(text: &mut Vec<u8>, head: &request::Parts, name: &str) -> Option<()> {
    let mut values = head.headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        // HTTP/2 has no Host header; its authority is what the client signed as one.
        let authority = head.uri.authority().filter(|_| name == header::HOST.as_str())?;
        text.extend_from_slice(authority.as_str().as_bytes());
        return Some(());
    }
    for (at, value) in values.enumerate() {
        if at > 0 {
            text.push(b',');
        }
        let words = value.as_bytes().split(|b| *b == b' ' || *b == b'\t').filter(|word| !word.is_empty());
        for (at, word) in words.enumerate() {
            if at > 0 {
                text.push(b' ');
            }
            text.extend_from_slice(word);
        }
    }
    Some(())
}

/// Dot segments and double slashes removed, then each byte encoded once more than it arrived: the rule for all services
/// but S3.
fn path(raw: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(raw.len() + 1);
    for segment in &segments {
        out.push('/');
        encode(&mut out, segment.as_bytes());
    }
    let folder = raw.ends_with('/') || raw.ends_with("/.") || raw.ends_with("/..");
    if segments.is_empty() || folder {
        out.push('/');
    }
    out
}

/// Parameters sorted by name, then value, in one encoding whatever encoding they came in.
fn query(raw: &str) -> String {
    let mut parameters: Vec<(String, String)> = raw
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (recode(name), recode(value))
        })
        .collect();
    parameters.sort();
    parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn recode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode(&mut out, &percent_decode(text));
    out
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let mut byte = [0];
        match (first, tail.split_at_checked(2)) {
            (b'%', Some((digits, after))) if hex::decode_to_slice(digits, &mut byte).is_ok() => {
                bytes.extend_from_slice(&byte);
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

fn encode(out: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_dots_and_gain_one_encoding() {
        for (raw, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/.", "/"),
            ("/admin/api", "/admin/api"),
            ("/admin/api/", "/admin/api/"),
            ("/a/./b/../c", "/a/c"),
            ("/../..", "/"),
            ("/a%20b", "/a%2520b"),
            ("/a:b", "/a%3Ab"),
        ] {
            assert_eq!(path(raw), canonical, "{raw}");
        }
    }

    #[test]
    fn queries_sort_and_settle_on_one_encoding() {
        for (raw, canonical) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1", "a=1&a=2"),
            ("a", "a="),
            ("a=b=c", "a=b%3Dc"),
            ("a=%2f&&%41=x", "A=x&a=%2F"),
            ("a=%zz%4", "a=%25zz%254"),
            ("a=/~ ", "a=%2F~%20"),
        ] {
            assert_eq!(query(raw), canonical, "{raw}");
        }
    }
}
