use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// One connection, one request at a time.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
    body: Body,
}

/// Status and headers, the latter as written.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

/// What is left of the answer being read.
enum Body {
    Left(u64),
    Chunked { left: u64 },
    UntilClose,
}

impl Connection {
    pub(super) fn open(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        // Body reads larger than this buffer bypass it.
        Ok(Self { stream: BufReader::with_capacity(16 << 10, stream), host: address.to_string(), body: Body::Left(0) })
    }

    /// Sends a request and reads the head of its answer. The body of the answer before must have been read.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not HTTP/1.1.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Head> {
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request += &format!("Host: {}\r\n", self.host);
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || !["GET", "HEAD"].contains(&method) {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        self.send_raw(method, &[request.as_bytes(), body].concat())
    }

    /// Sends `bytes` as they are, and reads the head of the answer as one to `method`.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not HTTP/1.1.
    pub fn send_raw(&mut self, method: &str, bytes: &[u8]) -> io::Result<Head> {
        self.stream.get_mut().write_all(bytes)?;
        let head = loop {
            let head = self.read_head()?;
            if head.status != 100 {
                break head;
            }
        };
        let header = |name: &str| super::find(&head.headers, name);
        self.body = if method == "HEAD" || [204, 304].contains(&head.status) {
            Body::Left(0)
        } else if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            Body::Chunked { left: 0 }
        } else if let Some(length) = header("content-length") {
            Body::Left(length.parse().map_err(|_| bad("Content-Length"))?)
        } else {
            Body::UntilClose
        };
        Ok(head)
    }

    /// The next bytes of the body; 0 at its proper end.
    ///
    /// # Errors
    /// `UnexpectedEof` when the body was cut by a FIN, else what the socket says.
    pub fn read_body(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Body::Chunked { left: 0 } = self.body {
            let size = self.line()?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default(), 16).map_err(|_| bad("chunk"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                self.body = Body::Left(0);
                return Ok(0);
            }
            self.body = Body::Chunked { left: size };
        }
        let (Body::Left(left) | Body::Chunked { left }) = self.body else {
            return self.stream.read(into);
        };
        if left == 0 {
            return Ok(0);
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let n = self.stream.read(&mut into[..wanted])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = left - n as u64;
        self.body = match self.body {
            Body::Chunked { .. } => {
                if left == 0 && !self.line()?.is_empty() {
                    return Err(bad("end of chunk"));
                }
                Body::Chunked { left }
            }
            _ => Body::Left(left),
        };
        Ok(n)
    }

    fn read_head(&mut self) -> io::Result<Head> {
        let first = self.line()?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| bad("status line"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Head { status, headers });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("header"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP/1.1: {what}"))
}
