use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    time::{Duration, Instant},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Large enough that system calls do not count, small enough to stay in the processor's cache.
const BUFFER_BYTES: usize = 256 << 10;

/// One download: how long until the first byte of the body, and until the last.
#[derive(Clone, Copy, Debug)]
pub struct Download {
    pub first_byte: Duration,
    pub took: Duration,
}

/// GETs `path` on a connection of its own, and drops the bytes.
///
/// # Errors
/// When what comes is not a whole answer with status 200.
pub fn download(address: SocketAddr, path: &str, buffer: &mut [u8]) -> io::Result<Download> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let start = Instant::now();
    stream.write_all(request("GET", address, path, None).as_bytes())?;
    let mut filled = 0;
    let (head_bytes, body_bytes) = loop {
        let n = stream.read(&mut buffer[filled..])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += n;
        if let Some(head) = Head::parse(&buffer[..filled])? {
            break (head.len_bytes, head.body_bytes);
        }
    };
    let mut received = (filled - head_bytes) as u64;
    let mut first_byte = (received > 0).then(|| start.elapsed());
    while received < body_bytes {
        let n = stream.read(buffer)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first_byte.get_or_insert_with(|| start.elapsed());
        received += n as u64;
    }
    let took = start.elapsed();
    Ok(Download { first_byte: first_byte.unwrap_or(took), took })
}

/// `clients` downloads at once; the time from the first start to the last end.
pub fn downloads(address: SocketAddr, path: &str, clients: usize) -> Duration {
    let barrier = Barrier::new(clients + 1);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut buffer = vec![0; BUFFER_BYTES];
                    barrier.wait();
                    download(address, path, &mut buffer).expect("a whole download");
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for one in all {
            one.join().expect("a download does not panic");
        }
        start.elapsed()
    })
}

pub fn buffer() -> Vec<u8> {
    vec![0; BUFFER_BYTES]
}

/// What a loop of small requests saw.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub per_second: f64,
    pub p99: Duration,
}

/// Requests one after the other on each of `connections`, for `duration`, from one thread.
/// `authorization` is the value of that header.
pub fn requests(
    address: SocketAddr,
    method: &'static str,
    path: &str,
    authorization: Option<&str>,
    connections: usize,
    duration: Duration,
) -> Rate {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let request = request(method, address, path, authorization);
    let mut latencies = runtime.block_on(async {
        let tasks: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(connection(address, request.clone(), method == "HEAD", Instant::now() + duration)))
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.expect("a connection does not panic").expect("whole answers"));
        }
        latencies
    });
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    Rate { per_second: latencies.len() as f64 / duration.as_secs_f64(), p99: Duration::from_nanos(p99) }
}

/// Nanoseconds per request.
async fn connection(address: SocketAddr, request: String, no_body: bool, until: Instant) -> io::Result<Vec<u64>> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut latencies) = (vec![0; 16 << 10], Vec::new());
    loop {
        let start = Instant::now();
        if start >= until {
            return Ok(latencies);
        }
        stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        loop {
            let n = stream.read(&mut buffer[filled..]).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += n;
            if let Some(head) = Head::parse(&buffer[..filled])?
                && (no_body || (filled - head.len_bytes) as u64 >= head.body_bytes)
            {
                break;
            }
        }
        latencies.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
}

fn request(method: &str, address: SocketAddr, path: &str, authorization: Option<&str>) -> String {
    let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";
    let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n{authorization}\r\n")
}

/// What of the head matters here.
struct Head {
    len_bytes: usize,
    body_bytes: u64,
}

impl Head {
    /// `None` while it is not whole.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&bytes[..end]).map_err(io::Error::other)?;
        if !text.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(text.lines().next().unwrap_or_default().to_owned()));
        }
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let body_bytes = length.ok_or_else(|| io::Error::other("no Content-Length"))?;
        Ok(Some(Self { len_bytes: end + 4, body_bytes }))
    }
}
