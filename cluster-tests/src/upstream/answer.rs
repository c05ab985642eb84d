use serde_json::json;

use super::{
    Fault, Shared, lock,
    wire::{Answer, Head, Manner},
};
use crate::Content;

/// What to say to the request; `None` is to hang up.
pub(super) fn decide(shared: &Shared, head: &Head) -> Option<Answer> {
    let fault = lock(&shared.faults).take(head);
    match fault {
        Some(Fault::HangUp) => None,
        Some(Fault::Status(status, headers)) => {
            let mut answer = Answer::error(status, if status == 429 { "TOOMANYREQUESTS" } else { "UNKNOWN" });
            answer.headers.extend(headers);
            Some(answer)
        }
        Some(Fault::Html) => {
            let page = Content::held("<!doctype html><title>Sign in</title><p>Please sign in to the hotel's network.");
            Some(Answer::new(200, page).with("Content-Type", "text/html; charset=utf-8"))
        }
        Some(Fault::NoHead) => Some(Answer::error(405, "UNSUPPORTED")),
        Some(Fault::NoRange) => Some(right(shared, head, false)),
        None => Some(right(shared, head, true)),
        Some(fault) => Some(bend(right(shared, head, true), fault)),
    }
}

fn bend(mut answer: Answer, fault: Fault) -> Answer {
    match fault {
        Fault::CutBody { after_bytes, how } => answer.manner = Manner::Cut { after_bytes, how },
        Fault::Stall { after_bytes } => answer.manner = Manner::Stall { after_bytes },
        Fault::Trickle { step_bytes, every } => answer.manner = Manner::Trickle { step_bytes, every },
        Fault::DelayHead(delay) => answer.delay = delay,
        Fault::WrongBytes => answer.body = Content::seeded(0x0bad, answer.body.len()),
        Fault::WrongLength(off) => {
            let length = answer.range.end - answer.range.start;
            answer.claimed_length = Some(length.saturating_add_signed(off));
            answer.manner = Manner::CloseAfter;
        }
        Fault::Status(..) | Fault::Html | Fault::HangUp | Fault::NoHead | Fault::NoRange => {
            unreachable!("these faults make answers of their own")
        }
    }
    answer
}

/// What a registry that works would say.
fn right(shared: &Shared, head: &Head, ranges: bool) -> Answer {
    if head.path == "/token" {
        return lock(&shared.auth).token(head);
    }
    if let Some(digest) = head.path.strip_prefix("/cdn/blobs/") {
        let content = lock(&shared.store).cdn(digest);
        return content.map_or_else(|| Answer::error(403, "DENIED"), |content| blob(head, content, ranges));
    }
    let Some(rest) = head.path.strip_prefix("/v2/") else {
        return Answer::error(404, "NOT_FOUND");
    };
    let what = What::parse(rest);
    let origin = head.header("host").unwrap_or_default();
    if let Some(refusal) = lock(&shared.auth).refuse(head, what.repository(), origin) {
        return refusal;
    }
    let store = lock(&shared.store);
    match what {
        What::Ping => Answer::json(200, &json!({})),
        What::Manifest(repository, reference) => {
            let Some((media_type, content)) = store.manifest(repository, reference) else {
                return Answer::error(404, "MANIFEST_UNKNOWN");
            };
            let digest = content.digest().to_owned();
            Answer::new(200, content).with("Content-Type", media_type).with("Docker-Content-Digest", &digest)
        }
        What::Blob(repository, digest) => match store.blob(repository, digest) {
            None => Answer::error(404, "BLOB_UNKNOWN"),
            Some(content) => match store.redirect(&content) {
                Some(location) => Answer::new(307, Content::held("")).with("Location", &location),
                None => blob(head, content, ranges),
            },
        },
        What::Tags(repository) => match store.tags(repository) {
            None => Answer::error(404, "NAME_UNKNOWN"),
            Some(tags) => Answer::json(200, &json!({"name": repository, "tags": tags})),
        },
        What::Other => Answer::error(404, "NOT_FOUND"),
    }
}

fn blob(head: &Head, content: Content, ranges: bool) -> Answer {
    let (length, digest) = (content.len(), content.digest().to_owned());
    let mut answer = Answer::new(200, content)
        .with("Content-Type", "application/octet-stream")
        .with("Docker-Content-Digest", &digest)
        .with("Accept-Ranges", if ranges { "bytes" } else { "none" });
    let Some(wanted) = head.header("range").filter(|_| ranges) else { return answer };
    let Some((start, end)) = parse_range(wanted, length) else {
        return Answer::error(416, "RANGE_INVALID").with("Content-Range", &format!("bytes */{length}"));
    };
    answer.status = 206;
    answer.range = start..end;
    answer.with("Content-Range", &format!("bytes {start}-{}/{length}", end - 1))
}

/// One range only; `start..end`.
fn parse_range(text: &str, length: u64) -> Option<(u64, u64)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (start, end) {
        ("", last) => (length.saturating_sub(last.parse().ok()?), length),
        (start, "") => (start.parse().ok()?, length),
        (start, end) => (start.parse().ok()?, end.parse::<u64>().ok()?.saturating_add(1).min(length)),
    };
    (start < end).then_some((start, end))
}

enum What<'a> {
    Ping,
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Tags(&'a str),
    Other,
}

impl<'a> What<'a> {
    fn parse(rest: &'a str) -> Self {
        if rest.is_empty() {
            return Self::Ping;
        }
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Self::Tags(repository);
        }
        if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
            return Self::Manifest(repository, reference);
        }
        rest.rsplit_once("/blobs/").map_or(Self::Other, |(repository, digest)| Self::Blob(repository, digest))
    }

    const fn repository(&self) -> Option<&'a str> {
        match self {
            Self::Manifest(repository, _) | Self::Blob(repository, _) | Self::Tags(repository) => Some(repository),
            Self::Ping | Self::Other => None,
        }
    }
}
