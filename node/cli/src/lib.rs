//! The command line: a client of the AWS API and nothing else. Knows no crate of the server.
//!
//! Invariants:
//! - Settings are looked up in an [`Environment`] that is passed in: only [`run`] reads the process's own.
//! - Standard output carries results only (tables for people, the API's JSON with `--json`); notes go to standard
//!   error.
//! - Text of a server reaches the terminal without control characters.
//! - Every wait is bounded.

mod client;
mod command;
mod env;
mod error;
mod explain;
mod image;
mod instant;
mod key;
mod login;
mod mirror;
mod output;
mod repository;
mod rule;
mod run;
mod secret;
mod settings;
mod status;
mod template;
mod transport;

pub use client::{CallError, Client};
pub use command::{ClientCommand, ClientOptions};
pub use env::EnvCommand;
pub use error::CliError;
pub use flotilla_aws::sigv4::Credentials;
pub use image::ImageCommand;
pub use key::KeyCommand;
pub use mirror::{CheckOptions, MirrorCommand, MirrorOptions};
pub use repository::RepositoryCommand;
pub use rule::{RuleCommand, RuleOptions};
pub use run::{main, run};
pub use secret::{PutSecret, SecretCommand};
pub use settings::Environment;
pub use template::{TemplateCommand, TemplateFields};
pub use transport::{Endpoint, InvalidEndpoint, TransportError};

#[cfg(test)]
mod fake_node;
