//! Whether pulls of this machine arrive at the nodes: what containerd reads, and what the nodes answer.

mod config;
mod pull;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use self::config::Target;
use crate::{
    command::ClientOptions,
    error::CliError,
    output::plain,
    run::{self, Report},
    settings::{self, Environment},
};

const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

#[derive(Args, Clone, Debug)]
pub struct CheckOptions {
    /// containerd's configuration; without it /etc/containerd/config.toml, where that exists
    #[arg(long, value_name = "FILE")]
    pub containerd_config: Option<PathBuf>,
    /// Folder of containerd's hosts.toml files; without it the one that the configuration names
    #[arg(long, value_name = "DIR")]
    pub certs_dir: Option<PathBuf>,
    /// Image whose pull is tried, as people write it
    #[arg(long, value_name = "NAME", default_value = "docker.io/library/busybox:latest")]
    pub image: String,
}

/// What was looked at, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Verdicts(Vec<(Verdict, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Skipped,
    Failed,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Failed => "FAILED",
        }
    }
}

impl Verdicts {
    pub(super) fn say(&mut self, verdict: Verdict, text: impl Into<String>) {
        self.0.push((verdict, text.into()));
    }

    fn failures(&self) -> usize {
        self.0.iter().filter(|(verdict, _)| *verdict == Verdict::Failed).count()
    }
}

pub(super) async fn run(
    check: &CheckOptions,
    options: &ClientOptions,
    environment: &Environment,
) -> Result<Report, CliError> {
    let image = pull::Image::parse(&check.image)?;
    let mut verdicts = Verdicts::default();
    let ca_file = environment.ca_file(options.ca_file.as_deref());
    let mut targets = Vec::new();
    for text in &options.endpoint {
        let endpoint = settings::parse_endpoint_option(text)?;
        targets.push(Target { endpoint, ca_file: ca_file.clone(), authorization: None });
    }
    let found = containerd(check, environment, &image.host, &mut verdicts);
    if targets.is_empty() {
        targets = found;
    } else if !found.is_empty() {
        // What the file says counts for the one who reads it.
        for target in &mut targets {
            match found.iter().find(|found| found.endpoint == target.endpoint) {
                Some(found) => {
                    *target = Target { ca_file: found.ca_file.clone().or(target.ca_file.take()), ..found.clone() }
                }
                None => verdicts.say(Verdict::Failed, format!("{} is not among containerd's hosts", target.endpoint)),
            }
        }
    }
    if targets.is_empty() && verdicts.failures() == 0 {
        verdicts.say(Verdict::Failed, "there is no node to ask: give --endpoint");
    }
    for target in &targets {
        pull::attempt(target, &image, &mut verdicts).await;
    }
    let text = if options.json {
        let lines: Vec<_> =
            verdicts.0.iter().map(|(verdict, text)| json!({ "verdict": verdict.word(), "text": text })).collect();
        run::json(&json!({ "checks": lines }))
    } else {
        verdicts.0.iter().map(|(verdict, text)| format!("{:7} {}\n", verdict.word(), plain(text))).collect()
    };
    let outcome = match verdicts.failures() {
        0 => Ok(()),
        1 => Err(CliError::Outcome("one check failed".into())),
        n => Err(CliError::Outcome(format!("{n} checks failed"))),
    };
    Ok(Report { text, notes: Vec::new(), outcome })
}

/// The nodes that containerd would ask for `host`'s images.
fn containerd(check: &CheckOptions, environment: &Environment, host: &str, verdicts: &mut Verdicts) -> Vec<Target> {
    let default = PathBuf::from(CONTAINERD_CONFIG);
    let file = match &check.containerd_config {
        Some(file) => Some(environment.path(file)),
        None if check.certs_dir.is_none() => Some(default).filter(|file| file.exists()),
        None => None,
    };
    let configured = match &file {
        Some(file) => match config::config_path(file) {
            Ok(folders) => {
                verdicts.say(Verdict::Ok, format!("{}: config_path is '{folders}'", file.display()));
                Some(folders)
            }
            Err(why) => {
                verdicts.say(Verdict::Failed, format!("{}: {why}", file.display()));
                None
            }
        },
        None => None,
    };
    let folders: Vec<PathBuf> = match (&check.certs_dir, configured) {
        (Some(folder), _) => vec![environment.path(folder)],
        (None, Some(folders)) => std::env::split_paths(&folders).collect(),
        (None, None) => {
            if file.is_none() {
                verdicts.say(Verdict::Skipped, format!("containerd: {CONTAINERD_CONFIG} is not there"));
            }
            return Vec::new();
        }
    };
    match config::targets(&folders, host) {
        Ok((file, targets)) => {
            let named: Vec<String> = targets.iter().map(|target| target.endpoint.to_string()).collect();
            verdicts.say(Verdict::Ok, format!("{}: {host} is pulled through {}", file.display(), named.join(", ")));
            targets
        }
        Err(why) => {
            verdicts.say(Verdict::Failed, why);
            Vec::new()
        }
    }
}
