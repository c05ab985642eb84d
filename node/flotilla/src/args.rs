//! The command line, and which exit code means what.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use flotilla_base::ByteLen;
use flotilla_cli::{ClientCommand, ClientOptions};

use crate::{Config, config, dev, node::NodeError, reload::LIVE_KEYS, serve};

/// `EX_USAGE`: the configuration or the command line cannot be used; nothing was started.
const EXIT_CONFIG: u8 = 64;

const ABOUT: &str = "A pull through cache for container images that behaves like Amazon ECR.\n\n\
    Start with `flotilla dev`, then follow what it prints.";

#[derive(Parser)]
#[command(name = "flotilla", version, about = "A pull through cache for container images", long_about = ABOUT)]
struct Arguments {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a registry on 127.0.0.1 that works at once: data in ./flotilla-data, rules for the public registries,
    /// anonymous pull
    Dev(DevArguments),
    /// Run a node from a configuration file
    Serve(ServeArguments),
    /// Check a configuration file, or print one with every key and its default
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(flatten)]
    Client(ClientCommand),
}

#[derive(Args)]
pub struct DevArguments {
    /// Folder for everything: the node's data, credentials, endpoint
    #[arg(long, value_name = "DIR", default_value = "flotilla-data")]
    pub data: PathBuf,
    /// Port on 127.0.0.1; 0 takes any that is free
    #[arg(long, default_value_t = 5000)]
    pub port: u16,
    /// Also stand in for Docker Hub at this port of 127.0.0.1, for docker's registry-mirrors; 0 takes any that is free
    #[arg(long, value_name = "PORT")]
    pub mirror_port: Option<u16>,
    /// Send an upstream host to another base URL (repeatable), such as registry-1.docker.io=http://127.0.0.1:15000
    #[arg(long, value_name = "HOST=URL")]
    pub upstream: Vec<String>,
    /// Make no rules for the public registries
    #[arg(long)]
    pub no_default_rules: bool,
    /// Most bytes of cached blobs
    #[arg(long, value_name = "SIZE", default_value = "20GiB")]
    pub max_bytes: ByteLen,
    /// Log as one JSON object a line
    #[arg(long)]
    pub log_json: bool,
    /// Seconds until a tag is validated against its upstream again
    #[arg(long, value_name = "SECONDS", hide = true)]
    pub tag_ttl_seconds: Option<u64>,
}

#[derive(Args)]
pub struct ServeArguments {
    /// The configuration file; `flotilla config default` prints one
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Found a cluster in an empty data folder; without it an empty folder is refused
    #[arg(long)]
    pub init: bool,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Read a file as `serve` would, and say what is wrong with it
    Check {
        file: PathBuf,
        /// Also list the keys that SIGHUP applies to a running node; the rest needs a restart
        #[arg(long)]
        live: bool,
    },
    /// Print a file with every key, its default and what it means
    Default,
}

/// Parses the command line, runs it to its end and says how that was.
pub fn main() -> ExitCode {
    let Arguments { client, command } = Arguments::parse();
    match command {
        Command::Dev(arguments) => node_exit(dev::run(&arguments)),
        Command::Serve(arguments) => node_exit(serve::run(&arguments)),
        Command::Config(command) => configuration(&command),
        Command::Client(command) => flotilla_cli::main(command, &client),
    }
}

fn node_exit(result: Result<(), NodeError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    print_error(&error);
    match error {
        NodeError::Config(_) | NodeError::Usage(_) => ExitCode::from(EXIT_CONFIG),
        _ => ExitCode::FAILURE,
    }
}

#[expect(clippy::print_stdout, reason = "the answer of a command")]
fn configuration(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Default => {
            print!("{}", config::DEFAULT_FILE);
            ExitCode::SUCCESS
        }
        ConfigCommand::Check { file, live } => match Config::read(file) {
            Ok(_) => {
                println!("{}: ok", file.display());
                for key in LIVE_KEYS.iter().filter(|_| *live) {
                    println!("live {key}");
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                print_error(&error);
                ExitCode::from(EXIT_CONFIG)
            }
        },
    }
}

/// The error with its causes, on one line, where a person looks.
#[expect(clippy::print_stderr, reason = "the process ends here, and logging may not have begun")]
fn print_error(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("flotilla: {text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
