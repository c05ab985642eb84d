use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

use super::{Daemon, find, is_root, run};

/// A containerd of the test's own, driven by `ctr`.
pub struct Containerd {
    _daemon: Daemon,
    ctr: PathBuf,
    folder: TempDir,
}

impl Containerd {
    /// `None` where containerd is not installed or we are not root.
    pub fn start() -> Option<Self> {
        let (server, ctr) = (find("containerd")?, find("ctr")?);
        if !is_root() {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{}\"\n",
            at("root"),
            at("state"),
            at("containerd.sock"),
        );
        fs::write(at("config.toml"), config).expect("a configuration file");
        let socket = at("containerd.sock");
        let ready = || {
            let version = Command::new(&ctr.0).args(["-a", &socket, "version"]).output();
            version.is_ok_and(|output| output.status.success())
        };
        let daemon = Daemon::start(Command::new(&server.0).args(["-c", &at("config.toml")]), folder.path(), ready);
        Some(Self { _daemon: daemon, ctr: ctr.0, folder })
    }

    /// `ctr ARGUMENTS…`
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.ctr);
        command.arg("-a").arg(self.folder.path().join("containerd.sock")).args(arguments);
        command
    }

    /// [`Containerd::command`]; standard output when it succeeds.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }
}
