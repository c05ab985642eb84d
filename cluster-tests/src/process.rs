//! The server as a process: started on a free port with a folder of its own, asked for its memory, stopped in every way
//! there is, and started again on what it left.

mod memory;
mod metrics;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

pub use memory::Memory;
pub use metrics::Metrics;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::{Client, Upstream, wait_for_some};

/// A debug build on a busy machine of two cores starts in far less.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Above the server's own `drain_timeout` of a test.
const STOP_DEADLINE: Duration = Duration::from_secs(40);
/// How much of the log a failed test shows.
const SHOWN_LOG_LINES: usize = 60;

/// How to start one.
#[derive(Clone, Debug)]
pub struct Builder {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    folder: Option<PathBuf>,
    config: Option<PathBuf>,
}

/// A running server. Killed when it goes; its log is printed when the test fails.
pub struct Flotilla {
    builder: Builder,
    /// Kept for its removal, unless the folder is the caller's.
    _temporary: Option<TempDir>,
    folder: PathBuf,
    child: Child,
    endpoint: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Builder {
    /// `program` is the binary under test.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: vec![], environment: vec![], folder: None, config: None }
    }

    /// Sends requests for the upstream `host` to `upstream`.
    #[must_use]
    pub fn upstream(self, host: &str, upstream: &Upstream) -> Self {
        self.upstream_url(host, &upstream.url())
    }

    /// As [`Builder::upstream`], for a registry that is no [`Upstream`].
    #[must_use]
    pub fn upstream_url(self, host: &str, url: &str) -> Self {
        self.arg("--upstream").arg(&format!("{host}={url}"))
    }

    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps the data here, and leaves it.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// `serve --config FILE` instead of `dev`. The file names data folder and port itself.
    #[must_use]
    pub fn serve(mut self, config: &Path) -> Self {
        self.config = Some(config.to_owned());
        self
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start(self) -> Flotilla {
        let temporary = self.folder.is_none().then(|| TempDir::new().expect("a temporary folder"));
        let folder = self.folder.clone().or_else(|| temporary.as_ref().map(|t| t.path().join("data")));
        let folder = folder.expect("a given or a temporary folder");
        let log = Arc::new(Mutex::new(Vec::new()));
        match self.launch(&folder, 0, &log) {
            Ok((child, endpoint)) => Flotilla { builder: self, _temporary: temporary, folder, child, endpoint, log },
            Err(why) => panic!("{why}\n{}", tail(&log)),
        }
    }

    fn command(&self, folder: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        match &self.config {
            Some(file) => command.arg("serve").arg("--config").arg(file),
            None => command.arg("dev").arg("--data").arg(folder).args(["--port", &port.to_string()]),
        };
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        // The environment of whoever runs the tests must not decide them.
        for name in [
            "AWS_PROFILE",
            "AWS_ENDPOINT_URL",
            "FLOTILLA_ENDPOINT",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "http_proxy",
            "https_proxy",
        ] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn launch(&self, folder: &Path, port: u16, log: &Arc<Mutex<Vec<String>>>) -> Result<(Child, String), String> {
        let mut child =
            self.command(folder, port).spawn().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (ready, is_ready) = mpsc::channel();
        if let Some(stdout) = stdout {
            let log = Arc::clone(log);
            follow(stdout, move |line| {
                push(&log, line);
                if let Some(endpoint) = line.strip_prefix("ready ") {
                    let _ = ready.send(endpoint.to_owned());
                }
            });
        }
        if let Some(stderr) = stderr {
            let log = Arc::clone(log);
            follow(stderr, move |line| push(&log, line));
        }
        match is_ready.recv_timeout(START_DEADLINE) {
            Ok(endpoint) => Ok((child, endpoint)),
            Err(_) => {
                let _ = child.kill();
                let status = child.wait();
                Err(format!("flotilla said no 'ready' within {START_DEADLINE:?}: {status:?}"))
            }
        }
    }
}

impl Flotilla {
    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `127.0.0.1:PORT`: what stands before an image's name.
    pub fn host(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    pub fn client(&self) -> Client {
        Client::new(&self.endpoint)
    }

    /// The `--data` folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The AWS shared credentials file of the root principal.
    pub fn credentials(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn memory(&self) -> Memory {
        Memory::of(self.pid()).expect("the server runs")
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.client().get("/metrics").text())
    }

    /// Runs a command of the binary against this server, with its credentials; standard output when it succeeds.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the binary runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "flotilla {arguments:?}: {}\n{out}\n{err}", output.status);
        out.into_owned()
    }

    /// The command that [`Flotilla::run`] runs.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.builder.program);
        command.args(arguments).env("FLOTILLA_ENDPOINT", &self.endpoint).env_remove("AWS_PROFILE");
        command.env("AWS_SHARED_CREDENTIALS_FILE", self.credentials());
        command
    }

    /// `SIGKILL`, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// `SIGTERM`, and waits for the end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        wait_for_some("the server to end", STOP_DEADLINE, || self.child.try_wait().expect("a child of ours"))
    }

    /// Sends a signal and returns at once.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Freezes it (`SIGSTOP`).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again after its end: same folder, same port, same arguments.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_again(&mut self) {
        let port = self.client().address().port();
        match self.builder.launch(&self.folder, port, &self.log) {
            Ok((child, endpoint)) => (self.child, self.endpoint) = (child, endpoint),
            Err(why) => panic!("{why}"),
        }
    }

    /// What it has said so far, a line each.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Flotilla {
    fn drop(&mut self) {
        self.thaw();
        self.kill();
        if std::thread::panicking() {
            // Into the captured output of the test, which the harness shows when it fails.
            #[expect(clippy::print_stderr, reason = "the test harness shows it")]
            {
                eprintln!("{}", tail(&self.log));
            }
        }
    }
}

/// All files below `folder`, unordered.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            Ok(_) => files.push(entry.path()),
            Err(_) => {}
        }
    }
    files
}

fn follow(stream: impl std::io::Read + Send + 'static, mut each: impl FnMut(&str) + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            each(&line);
        }
    });
}

fn push(log: &Mutex<Vec<String>>, line: &str) {
    log.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
}

fn tail(log: &Mutex<Vec<String>>) -> String {
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    let from = log.len().saturating_sub(SHOWN_LOG_LINES);
    format!("--- the last lines of flotilla ({from} before)\n{}\n---", log[from..].join("\n"))
}
