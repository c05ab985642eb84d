//! The body of a blob that goes on after cuts and stalls.
//!
//! Invariant: the bytes given out are those of one length and one continuous sequence of offsets; a resumption that does
//! not fit in with them ends the body with an error.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use flotilla_base::ByteLen;
use flotilla_oci::{Digest, Name};
use flotilla_runtime::{ByteStream, StreamError, Trail};
use futures_util::stream;
use http::{Method, StatusCode};
use tokio::time::sleep;

use crate::{
    Download, HttpError, UpstreamError,
    exchange::{Answer, Ask},
    gate::Permit,
    headers::{self, ContentRange},
    session::Session,
    wire::Body,
};

/// Resumptions in a row that bring nothing; with their pauses about 12 s, and minutes when the upstream asks for them.
const ATTEMPTS: u32 = 8;
/// Longer than that we do not wait for an upstream in the middle of a body.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One response that carries a blob from some offset on.
struct Opened {
    body: Body,
    /// To be thrown away first: the response begins earlier than we asked.
    skip: u64,
    /// Of the whole blob, as this response tells.
    total: Option<u64>,
}

struct Resuming {
    session: Arc<Session>,
    name: Name,
    digest: Digest,
    total: u64,
    position: u64,
    opened: Option<Opened>,
    /// Resumptions since the last byte.
    attempts: u32,
    failed: bool,
    /// Of the request that opened it: whoever reads the body may have come by another way, or by none.
    trail: Trail,
    /// Given back with the last byte or the error, even when the stream is kept.
    permit: Option<Permit>,
}

/// Opens `digest` at byte `from`; the permit is held until the body ends.
pub(crate) async fn open(
    session: &Arc<Session>,
    permit: Permit,
    name: &Name,
    digest: &Digest,
    from: u64,
) -> Result<Download, UpstreamError> {
    let host = &session.site.name;
    let get = ask(Method::GET, name, digest, from);
    let opened = session.retrying(|| request(session, &get)).await?;
    let total = match opened.total {
        Some(total) => total,
        None => {
            let len = head(session, name, digest).await?.0;
            len.ok_or_else(|| UpstreamError::Malformed { host: host.clone(), reason: "a blob without a length" })?.0
        }
    };
    if from > total {
        return Err(UpstreamError::Mismatch {
            host: host.clone(),
            reason: "the blob is shorter than the offset asked for",
        });
    }
    let resuming = Resuming {
        session: session.clone(),
        name: name.clone(),
        digest: *digest,
        total,
        position: from,
        opened: Some(opened),
        attempts: 0,
        failed: false,
        trail: Trail::current(),
        permit: Some(permit),
    };
    let body = stream::unfold(Box::new(resuming), |mut resuming| async {
        let chunk = resuming.next().await?;
        Some((chunk.map_err(|error| StreamError(Box::new(error))), resuming))
    });
    Ok(Download { len: ByteLen(total), body: ByteStream::new(body) })
}

/// The length of a blob, if told, and whether the upstream redirects for it.
pub(crate) async fn head(
    session: &Session,
    name: &Name,
    digest: &Digest,
) -> Result<(Option<ByteLen>, bool), UpstreamError> {
    let ask = ask(Method::HEAD, name, digest, 0);
    session.retrying(|| try_head(session, &ask)).await
}

async fn try_head(session: &Session, ask: &Ask) -> Result<(Option<ByteLen>, bool), UpstreamError> {
    let answer = session.exchange(ask).await?;
    if answer.redirected && answer.status.is_client_error() && answer.status != StatusCode::TOO_MANY_REQUESTS {
        // The redirect alone proves the blob. Signed URLs are often good for GET only, and refuse a HEAD.
        return Ok((None, true));
    }
    let answer = session.accept(answer).await?;
    Ok((headers::content_length(&answer.headers), answer.redirected))
}

fn ask(method: Method, name: &Name, digest: &Digest, from: u64) -> Ask {
    Ask { name: Some(name.clone()), from, ..Ask::new(method, format!("/v2/{name}/blobs/{digest}")) }
}

async fn request(session: &Session, ask: &Ask) -> Result<Opened, UpstreamError> {
    let from = ask.from;
    let answer = session.exchange(ask).await?;
    if answer.redirected && matches!(answer.status.as_u16(), 400..=415 | 417..=428) {
        // The registry vouches for the blob; its storage, or the URL it signed, is in trouble.
        let error = session.unavailable(&answer);
        answer.body.discard().await;
        return Err(error);
    }
    let Answer { status, headers, body, .. } = session.accept(answer).await?;
    let mismatch = |reason| UpstreamError::Mismatch { host: session.site.name.clone(), reason };
    if status == StatusCode::OK {
        return Ok(Opened { body, skip: from, total: headers::content_length(&headers).map(|len| len.0) });
    }
    let ContentRange { start, end, total } = headers::content_range(&headers)
        .ok_or_else(|| mismatch("a partial response without a usable Content-Range"))?;
    if start != from {
        return Err(mismatch("a Content-Range with another offset than asked for"));
    }
    if headers::content_length(&headers).is_some_and(|len| len.0 != end - start) {
        return Err(mismatch("a Content-Range that disagrees with the Content-Length"));
    }
    Ok(Opened { body, skip: 0, total })
}

impl Resuming {
    /// `None` at the end, and after an error.
    async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        if self.failed {
            return None;
        }
        let next = self.try_next().await;
        self.failed = next.is_err();
        // Not one call later: who knows the length may never ask for the end.
        if self.failed || self.position == self.total {
            self.opened = None;
            self.permit = None;
        }
        next.transpose()
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        while self.position < self.total {
            let Some(opened) = &mut self.opened else {
                self.resume().await?;
                continue;
            };
            let error = match opened.body.chunk().await {
                Some(Ok(mut chunk)) => {
                    let skipped = opened.skip.min(chunk.len() as u64);
                    opened.skip -= skipped;
                    // At most the chunk's own length.
                    chunk.advance(skipped as usize);
                    if chunk.is_empty() {
                        continue;
                    }
                    if chunk.len() as u64 > self.total - self.position {
                        return Err(self.mismatch("more bytes than the length it told"));
                    }
                    self.position += chunk.len() as u64;
                    self.attempts = 0;
                    return Ok(Some(chunk));
                }
                Some(Err(error)) => error,
                None => HttpError::Short { target: opened.body.target().clone() },
            };
            self.opened = None;
            let error = self.session.failed(error);
            self.pause(error).await?;
        }
        Ok(None)
    }

    /// One more request, at the registry: the URL it sent us to before has probably expired.
    async fn resume(&mut self) -> Result<(), UpstreamError> {
        let ask = ask(Method::GET, &self.name, &self.digest, self.position);
        // Boxed: rare, and large beside the body's own state.
        let opened = match self.trail.clone().scope(Box::pin(request(&self.session, &ask))).await {
            Ok(opened) => opened,
            Err(error) => return self.pause(error).await,
        };
        if opened.total.is_some_and(|total| total != self.total) {
            return Err(self.mismatch("another length than before"));
        }
        self.opened = Some(opened);
        Ok(())
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// `error`, when there shall be none.
    async fn pause(&mut self, error: UpstreamError) -> Result<(), UpstreamError> {
        let asked = match &error {
            UpstreamError::Throttled { retry_after, .. } => retry_after.unwrap_or_default(),
            UpstreamError::CircuitOpen { retry_after, .. } => *retry_after,
            UpstreamError::Unavailable { .. } | UpstreamError::NotARegistry { .. } => Duration::ZERO,
            _ => return Err(error),
        };
        self.attempts += 1;
        if self.attempts > ATTEMPTS || asked > LONGEST_WAIT {
            return Err(error);
        }
        tracing::debug!(
            upstream = %self.session.site.name,
            digest = %self.digest,
            position = self.position,
            attempt = self.attempts,
            %error,
            "resuming a blob"
        );
        // Less than what it asked for would be in vain, so that chance only adds.
        sleep(asked + self.session.backoff(self.attempts)).await;
        Ok(())
    }

    fn mismatch(&self, reason: &'static str) -> UpstreamError {
        UpstreamError::Mismatch { host: self.session.site.name.clone(), reason }
    }
}
