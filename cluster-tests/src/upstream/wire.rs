use std::{io, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{fault::Cut, record::Line};
use crate::Content;

/// More than any client of a registry sends.
const HEAD_LIMIT_BYTES: usize = 64 << 10;
/// Large enough that the system calls do not slow what is measured, small enough for many connections.
const STEP_BYTES: u64 = 256 << 10;

pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The next request of the connection, its body read and dropped; `None` when the client has left.
    pub(super) async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Self> {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            // A client that tries TLS first must learn at once that there is none.
            if buffer.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
                return None;
            }
            if buffer.len() > HEAD_LIMIT_BYTES || stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = Self::parse(std::str::from_utf8(&buffer[..end]).ok()?)?;
        let body = head.header("content-length").map_or(Some(0), |text| text.parse().ok())?;
        while buffer.len() < end + 4 + body {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        buffer.drain(..end + 4 + body);
        Some(head)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?, first.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines
            .map(|line| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())));
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers.collect::<Option<_>>()?,
        })
    }
}

/// What is written: a head, and a body with the ways in which it can go wrong.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Content,
    /// The part of `body` that is sent.
    pub(super) range: std::ops::Range<u64>,
    /// What `Content-Length` says, when it is not the truth.
    pub(super) claimed_length: Option<u64>,
    pub(super) manner: Manner,
    /// Before the head.
    pub(super) delay: Duration,
}

/// How the body is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Whole,
    CloseAfter,
    Cut { after_bytes: u64, how: Cut },
    Stall { after_bytes: u64 },
    Trickle { step_bytes: u64, every: Duration },
}

/// Whether the connection can be used for another request.
pub(super) enum Then {
    Next,
    Close,
    Reset,
    Silence,
}

impl Answer {
    pub(super) fn new(status: u16, body: Content) -> Self {
        let range = 0..body.len();
        let (headers, manner, delay) = (Vec::new(), Manner::Whole, Duration::ZERO);
        Self { status, headers, body, range, claimed_length: None, manner, delay }
    }

    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self::new(status, Content::held(value.to_string())).with("Content-Type", "application/json")
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        Self::json(status, &json!({"errors": [{"code": code, "message": "the test said so"}]}))
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Writes it for a request of `method`, telling `sent` of every piece.
    pub(super) async fn write(
        self,
        stream: &mut TcpStream,
        method: &str,
        line: Line,
        mut sent: impl FnMut(Line, u64),
    ) -> io::Result<Then> {
        tokio::time::sleep(self.delay).await;
        let length = self.claimed_length.unwrap_or(self.range.end - self.range.start);
        let mut head = format!("HTTP/1.1 {} Scripted\r\nContent-Length: {length}\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).await?;
        if method == "HEAD" {
            return Ok(Then::Next);
        }
        let (limit, end) = match self.manner {
            Manner::Whole | Manner::Trickle { .. } => (u64::MAX, Then::Next),
            Manner::CloseAfter => (u64::MAX, Then::Close),
            Manner::Cut { after_bytes, how: Cut::Fin } => (after_bytes, Then::Close),
            Manner::Cut { after_bytes, how: Cut::Reset } => (after_bytes, Then::Reset),
            Manner::Stall { after_bytes } => (after_bytes, Then::Silence),
        };
        let (mut at, stop) = (self.range.start, self.range.end.min(self.range.start.saturating_add(limit)));
        // A fault beyond the end of the body is none: silence after a whole answer would swallow the next request.
        let end = if stop == self.range.end && limit != u64::MAX { Then::Next } else { end };
        let (step, pause) = match self.manner {
            Manner::Trickle { step_bytes, every } => (step_bytes, every),
            _ => (STEP_BYTES, Duration::ZERO),
        };
        let mut buffer = vec![0; usize::try_from(step.min(stop.saturating_sub(at))).unwrap_or(0)];
        while at < stop {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let wanted = usize::try_from(stop - at).unwrap_or(usize::MAX).min(buffer.len());
            let n = self.body.read_at(at, &mut buffer[..wanted]);
            // Counted before it is written: what a client has received is never missing from the count.
            sent(line, n as u64);
            stream.write_all(&buffer[..n]).await?;
            at += n as u64;
        }
        Ok(end)
    }
}
