use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    env::EnvCommand, error::CliError, explain::ExplainCommand, image::ImageCommand, key::KeyCommand,
    mirror::MirrorCommand, repository::RepositoryCommand, rule::RuleCommand, secret::SecretCommand,
    template::TemplateCommand,
};

/// How to reach the node, and how to answer. Every client command takes these.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Node")]
pub struct ClientOptions {
    /// Node to talk to, such as http://127.0.0.1:5000
    ///
    /// Without it: FLOTILLA_ENDPOINT, AWS_ENDPOINT_URL_ECR, AWS_ENDPOINT_URL, the file ./flotilla-data/endpoint that
    /// `flotilla dev` writes, and last http://127.0.0.1:5000. `flotilla mirror` takes several, in the order in which clients
    /// shall try them.
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Vec<String>,

    /// Region to sign for; a label to a node, and what ARNs in its answers carry
    ///
    /// Without it: AWS_REGION, AWS_DEFAULT_REGION, and last us-east-1.
    #[arg(long, global = true, value_name = "NAME")]
    pub region: Option<String>,

    /// Certificates (PEM) to trust besides the machine's own; without it AWS_CA_BUNDLE
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Print the API's answer as JSON instead of text for people
    #[arg(long, global = true)]
    pub json: bool,
}

impl ClientOptions {
    /// # Errors
    /// When there are several, which only some commands have a use for.
    pub(crate) fn one_endpoint(&self) -> Result<Option<&str>, CliError> {
        match self.endpoint.as_slice() {
            [] => Ok(None),
            [endpoint] => Ok(Some(endpoint)),
            _ => Err(CliError::Usage("this command talks to one node: give one --endpoint".into())),
        }
    }
}

/// Commands that ask a node.
#[derive(Subcommand, Clone, Debug)]
pub enum ClientCommand {
    /// Cache rules: which names are fetched from which upstream
    #[command(subcommand)]
    Rule(RuleCommand),

    /// Credentials of upstream registries, sealed in the node
    #[command(subcommand)]
    Secret(SecretCommand),

    /// Repository creation templates: settings of the repositories that first pulls create
    #[command(subcommand)]
    Template(TemplateCommand),

    /// Repositories
    #[command(subcommand)]
    Repository(RepositoryCommand),

    /// Images
    #[command(subcommand)]
    Image(ImageCommand),

    /// Access keys, and robots that may only pull
    #[command(subcommand)]
    Key(KeyCommand),

    /// Make a container engine on this machine pull through nodes, without renaming an image
    #[command(subcommand)]
    Mirror(MirrorCommand),

    /// Walk through a pull step by step and say where it would fail; changes nothing
    Explain(ExplainCommand),

    /// Print a password for `docker login`
    #[command(
        after_help = "Example:\n  flotilla login-password | docker login --username AWS --password-stdin 127.0.0.1:5000"
    )]
    LoginPassword,

    /// Show the node: readiness, storage, upstreams
    Status,

    /// Print what a shell needs to use the node that `flotilla dev` runs
    Env(EnvCommand),
}
