use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Flotilla;

/// The virtual environment that `cluster-tests/run` makes, with the unmodified `aws` CLI and boto3.
pub struct Python(PathBuf);

impl Python {
    /// `None` where it was not made.
    pub fn find() -> Option<Self> {
        let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.or_else(|| Some(Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("target")))?;
        Some(target.join("venv")).filter(|folder| folder.join("bin/aws").is_file()).map(Self)
    }

    /// The folder of its programs, for a `PATH`.
    pub fn programs(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// `aws ARGUMENTS…` against the server, as its root principal.
    pub fn aws(&self, flotilla: &Flotilla, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs().join("aws"));
        command.args(arguments);
        at(&mut command, flotilla);
        command
    }

    /// A script that may use boto3, against the server, as its root principal.
    pub fn script(&self, flotilla: &Flotilla, source: &str) -> Command {
        let mut command = Command::new(self.programs().join("python3"));
        command.arg("-c").arg(source);
        at(&mut command, flotilla);
        command
    }
}

fn at(command: &mut Command, flotilla: &Flotilla) {
    command.env("AWS_ENDPOINT_URL", flotilla.endpoint()).env("AWS_SHARED_CREDENTIALS_FILE", flotilla.credentials());
    command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_CONFIG_FILE", "/dev/null").env("AWS_PAGER", "");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("AWS_PROFILE");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
}
