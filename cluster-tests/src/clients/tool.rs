use std::{
    env, fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::wait_for;

/// What a daemon may take to begin and to end.
const DAEMON_DEADLINE: Duration = Duration::from_secs(30);

/// A program that the machine has.
#[derive(Clone, Debug)]
pub struct Tool(pub PathBuf);

/// Looks where Debian puts programs, also for users whose `PATH` lacks `sbin`.
pub fn find(name: &str) -> Option<Tool> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file()).map(Tool)
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `what` when it is there. When it is not, the caller skips its test and this says so; where the machine promises to
/// have everything (`CI=true` or `FLOTILLA_REQUIRE_CLIENTS=1`), that is a failure.
///
/// # Panics
/// See above.
pub fn required<T>(what: Option<T>, name: &str) -> Option<T> {
    if what.is_none() {
        let promised = |variable: &str, value: &str| env::var(variable).is_ok_and(|set| set == value);
        let must = promised("CI", "true") || promised("FLOTILLA_REQUIRE_CLIENTS", "1");
        assert!(!must, "{name} is missing; ./cluster-tests/run installs what the tests need");
        // Past the capture of the test harness: a skipped test must not look like one that passed.
        let _ = writeln!(std::io::stderr(), "SKIP: {name} is missing");
    }
    what
}

/// Runs it; standard output when it succeeds.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// A port that nobody listens on now. Programs that cannot be told "0" may lose a race for it; they are started again.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A program in the background, ended with its handle: asked first, since container daemons have children and mounts.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, with its output in `folder`, and waits until `ready`.
    ///
    /// # Panics
    /// With what it said, when it ends or is not ready in time.
    #[track_caller]
    pub fn start(command: &mut Command, folder: &Path, mut ready: impl FnMut() -> bool) -> Self {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = folder.join(format!("{name}.log"));
        let file = fs::File::create(&log).expect("a log file");
        let twin = file.try_clone().expect("a second handle of the log file");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(twin).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut daemon = Self { child, log };
        wait_for(&format!("{name} to be ready"), DAEMON_DEADLINE, || {
            if let Ok(Some(status)) = daemon.child.try_wait() {
                panic!("{name} ended with {status}:\n{}", daemon.said());
            }
            ready()
        });
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let start = std::time::Instant::now();
        while start.elapsed() < DAEMON_DEADLINE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
