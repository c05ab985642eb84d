use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tempfile::TempDir;

use super::{Daemon, find, is_root, run};

/// A dockerd of the test's own, with the `docker` client pointed at it.
pub struct Docker {
    _daemon: Daemon,
    client: PathBuf,
    folder: TempDir,
}

impl Docker {
    /// `None` where docker is not installed or we are not root.
    pub fn start() -> Option<Self> {
        Self::prepared(|_| ())
    }

    /// As [`Docker::start`], after `prepare` had the folder with its daemon.json.
    pub fn prepared(prepare: impl FnOnce(&Path)) -> Option<Self> {
        let (client, server) = (find("docker")?, find("dockerd")?);
        if !is_root() {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let config = json!({
            "data-root": at("data"),
            "exec-root": at("exec"),
            "pidfile": at("pid"),
            "hosts": [format!("unix://{}", at("docker.sock").display())],
            "iptables": false,
            "bridge": "none",
            // Runs where overlay mounts are not allowed, too.
            "storage-driver": "vfs",
        });
        let file = at("daemon.json");
        fs::write(&file, config.to_string()).expect("a configuration file");
        prepare(folder.path());
        let socket = at("docker.sock");
        let ready = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        let daemon = Daemon::start(Command::new(&server.0).arg("--config-file").arg(&file), folder.path(), ready);
        Some(Self { _daemon: daemon, client: client.0, folder })
    }

    /// For `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// For `DOCKER_CONFIG`: where `docker login` writes.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `docker ARGUMENTS…`
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.args(arguments).env("DOCKER_HOST", self.address()).env("DOCKER_CONFIG", self.config());
        command
    }

    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }
}
