//! From a parsed command to text on standard output.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use flotilla_aws::{ErrorCode, Operation};
use flotilla_base::Timestamp;
use serde::Serialize;

use crate::{
    client::{self, CallError, Client},
    command::{ClientCommand, ClientOptions},
    env,
    error::CliError,
    explain, image, key, login, mirror, output, repository, rule, secret,
    settings::{self, Environment, Source},
    status, template,
};

/// No node has more: at the smallest page size, a hundred times the repositories AWS allows.
const MAX_PAGES: usize = 10_000_000 / 100;

/// [`run`] for a binary whose process does nothing else: on a runtime of its own, with errors said on standard error
/// and
/// turned into an exit code.
pub fn main(command: ClientCommand, options: &ClientOptions) -> ExitCode {
    // One thread: a command makes one request at a time.
    let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(command, options)),
        Err(source) => Err(CliError::Runtime(source)),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    // Without standard error the exit code alone has to do.
    let _ = writeln!(io::stderr(), "flotilla: {}", error.chain());
    error.exit_code()
}

/// Does one command: the result goes to standard output, notes to standard error.
///
/// # Errors
/// [`CliError`]: the caller prints [`CliError::chain`] and exits with [`CliError::exit_code`].
pub async fn run(command: ClientCommand, options: &ClientOptions) -> Result<(), CliError> {
    let environment = Environment::of_process().map_err(CliError::WorkingDirectory)?;
    let report = execute(command, options, &environment).await?;
    for note in &report.notes {
        // Nobody may read the notes; that is no failure of the command.
        let _ = writeln!(io::stderr(), "note: {}", output::plain(note));
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(report.text.as_bytes()).and_then(|()| stdout.flush()) {
        // `flotilla rule list | head -1` is a success.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.map_err(CliError::Write)?,
    }
    report.outcome
}

/// What a command has to say.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) text: String,
    pub(crate) notes: Vec<String>,
    pub(crate) outcome: Result<(), CliError>,
}

impl Report {
    pub(crate) fn of(text: String) -> Self {
        Self { text, notes: Vec::new(), outcome: Ok(()) }
    }
}

pub(crate) async fn execute(
    command: ClientCommand,
    options: &ClientOptions,
    environment: &Environment,
) -> Result<Report, CliError> {
    let session = || Session::new(options, environment);
    match command {
        ClientCommand::Rule(command) => rule::run(command, &session()?).await,
        ClientCommand::Secret(command) => secret::run(command, &session()?).await,
        ClientCommand::Template(command) => template::run(command, &session()?, environment).await,
        ClientCommand::Repository(command) => repository::run(command, &session()?).await,
        ClientCommand::Image(command) => image::run(command, &session()?).await,
        ClientCommand::Mirror(command) => mirror::run(&command, options, environment).await,
        ClientCommand::Explain(command) => explain::run(command, &session()?).await,
        ClientCommand::Key(command) => key::run(command, &session()?).await,
        ClientCommand::LoginPassword => login::run(&session()?).await,
        ClientCommand::Status => status::run(&session()?).await,
        // Needs no keys: it is what tells a shell where they are.
        ClientCommand::Env(command) => env::run(&command, options, environment).await,
    }
}

/// What the commands stand on.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) keys: Source,
    pub(crate) json: bool,
    pub(crate) now: Timestamp,
}

impl Session {
    fn new(options: &ClientOptions, environment: &Environment) -> Result<Self, CliError> {
        Self::with(options.one_endpoint()?, options, environment)
    }

    /// With the node at `endpoint`, or the one that the environment names.
    pub(crate) fn with(
        endpoint: Option<&str>,
        options: &ClientOptions,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let endpoint = settings::find_endpoint(endpoint, environment)?;
        let found = settings::find_credentials(environment)?;
        let ca_file = environment.ca_file(options.ca_file.as_deref());
        let region = environment.region(options.region.as_deref());
        let client = Client::new(endpoint, found.credentials, region, ca_file.as_ref())?;
        Ok(Self { client, keys: found.source, json: options.json, now: client::now() })
    }

    /// One call; what the contract forbids is refused here, before a node is asked.
    pub(crate) async fn call<O: Operation>(&self, input: &O::Input) -> Result<O::Output, CliError> {
        O::check(input)?;
        self.client.call::<O>(input).await.map_err(|error| match &error {
            CallError::Service { code, .. }
                if [ErrorCode::UNRECOGNIZED_CLIENT.0, ErrorCode::INVALID_SIGNATURE.0].contains(&code.as_str()) =>
            {
                CliError::UnknownKeys(error, self.keys.to_string())
            }
            _ => error.into(),
        })
    }

    /// All pages of a listing as one output.
    pub(crate) async fn call_all<O: Paged>(&self, mut input: O::Input) -> Result<O::Output, CliError> {
        let mut all = self.call::<O>(&input).await?;
        for _ in 0..MAX_PAGES {
            let Some(token) = O::next_token(&mut all).take() else { return Ok(all) };
            let asked = O::token(&mut input);
            if asked.as_ref() == Some(&token) {
                return Err(CliError::Pages);
            }
            *asked = Some(token);
            let mut page = self.call::<O>(&input).await?;
            *O::next_token(&mut all) = O::next_token(&mut page).take();
            O::append(&mut all, page);
        }
        Err(CliError::Pages)
    }

    /// The output as JSON, or as text for people.
    pub(crate) fn report<T: Serialize>(&self, output: &T, text: impl FnOnce() -> String) -> Report {
        let mut report = Report::of(if self.json { json(output) } else { text() });
        if let Source::Data(path) = &self.keys {
            report.notes.push(format!("using the keys in {}", path.display()));
        }
        report
    }
}

pub(crate) fn json<T: Serialize>(output: &T) -> String {
    serde_json::to_string_pretty(output).expect("shapes have string keys only and their Serialize does not fail") + "\n"
}

/// A listing in pages.
pub(crate) trait Paged: Operation {
    fn token(input: &mut Self::Input) -> &mut Option<String>;
    fn next_token(output: &mut Self::Output) -> &mut Option<String>;
    fn append(all: &mut Self::Output, page: Self::Output);
}

/// Lists whose items are in `$items`.
macro_rules! paged {
    ($operation:ty, $items:ident) => {
        impl $crate::run::Paged for $operation {
            fn token(input: &mut Self::Input) -> &mut Option<String> {
                &mut input.next_token
            }

            fn next_token(output: &mut Self::Output) -> &mut Option<String> {
                &mut output.next_token
            }

            fn append(all: &mut Self::Output, page: Self::Output) {
                all.$items.extend(page.$items);
            }
        }
    };
}
pub(crate) use paged;

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;
    use crate::fake_node::FakeNode;

    /// The command line as the binary takes it.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ClientOptions,
        #[command(subcommand)]
        command: ClientCommand,
    }

    /// Runs a command line against a scripted node.
    pub(crate) async fn execute_line(node: &FakeNode, line: &[&str]) -> Result<Report, CliError> {
        let line = Line::try_parse_from(["flotilla", "--endpoint", &node.endpoint().to_string()].iter().chain(line))
            .map_err(|error| CliError::Usage(error.to_string()))?;
        let variables = [("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let environment = settings::tests::environment(std::path::Path::new("/nowhere"), &variables);
        let report = execute(line.command, &line.options, &environment).await;
        for call in node.calls() {
            assert_eq!(call.signed, Ok(()));
        }
        report
    }

    /// Target without its prefix, and body, of all calls.
    pub(crate) fn calls(node: &FakeNode) -> Vec<(String, String)> {
        let name = |target: &str| target.split('.').next_back().unwrap().to_owned();
        node.calls().into_iter().map(|call| (name(&call.target), call.body)).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Line::command().debug_assert();
    }

    #[tokio::test]
    async fn listings_follow_pages_to_their_end() {
        let node = FakeNode::start(&[
            (200, r#"{"repositories": [{"repositoryName": "a"}], "nextToken": "1"}"#),
            (200, r#"{"repositories": [{"repositoryName": "b"}], "nextToken": "2"}"#),
            (200, r#"{"repositories": [{"repositoryName": "c"}]}"#),
        ])
        .await;
        let report = execute_line(&node, &["repository", "list", "--json"]).await.unwrap();
        let names: Vec<String> = serde_json::from_str::<serde_json::Value>(&report.text).unwrap()["repositories"]
            .as_array()
            .unwrap()
            .iter()
            .map(|repository| repository["repositoryName"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        let bodies: Vec<String> = calls(&node).into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, ["{}", r#"{"nextToken":"1"}"#, r#"{"nextToken":"2"}"#]);
    }

    #[tokio::test]
    async fn a_page_that_repeats_ends_the_listing() {
        let page = (200, r#"{"repositories": [], "nextToken": "1"}"#);
        let node = FakeNode::start(&[page, page, page]).await;
        assert!(matches!(execute_line(&node, &["repository", "list"]).await, Err(CliError::Pages)));
    }

    #[tokio::test]
    async fn one_node_is_asked_by_commands_that_ask() {
        let node = FakeNode::start(&[]).await;
        let error = execute_line(&node, &["status", "--endpoint", "http://a", "--endpoint", "http://b"]).await;
        assert_eq!((error.unwrap_err().code(), node.calls().len()), (2, 0));
    }

    #[tokio::test]
    async fn what_the_contract_forbids_is_not_sent() {
        let node = FakeNode::start(&[]).await;
        let error = execute_line(&node, &["rule", "remove", "Bad!"]).await.unwrap_err();
        assert_eq!((error.code(), node.calls().len()), (2, 0));
        assert!(error.to_string().starts_with("Invalid parameter at 'ecrRepositoryPrefix'"), "{error}");
    }

    #[tokio::test]
    async fn unknown_keys_are_named_by_where_they_came_from() {
        let node = FakeNode::start(&[(400, r#"{"__type": "UnrecognizedClientException", "message": "no"}"#)]).await;
        let error = execute_line(&node, &["status"]).await.unwrap_err();
        assert_eq!(error.code(), 1);
        assert!(error.to_string().contains("keys: AWS_ACCESS_KEY_ID"), "{error}");
    }
}
