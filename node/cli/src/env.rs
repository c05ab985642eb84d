//! What a shell needs to use the node beside it: `flotilla dev & eval "$(flotilla env)"`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::{
    client,
    command::ClientOptions,
    error::CliError,
    run::Report,
    settings::{self, DATA_FOLDER, Environment},
    transport::{Endpoint, Transport},
};

/// A node that starts beside us founds its cluster and opens its stores within a second or two; a laptop under load may
/// take ten times as long.
const READY_WITHIN: Duration = Duration::from_secs(15);
const POLL_EVERY: Duration = Duration::from_millis(100);

/// Variables that would lead the AWS tools elsewhere, or to other keys.
const CONFLICTING: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL_ECR",
    "AWS_ENDPOINT_URL_STS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
];

#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Waits up to 15 s for the node to become ready.\n\nExamples:\n  \
    flotilla dev & eval \"$(flotilla env)\"\n  \
    flotilla env --profile flotilla >> ~/.aws/config     # then: aws --profile flotilla ecr ...")]
pub struct EnvCommand {
    /// Data folder of the node
    #[arg(long, value_name = "DIR", default_value = DATA_FOLDER)]
    pub data: PathBuf,
    /// Print a section for ~/.aws/config with this name, keys included, instead of shell exports
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
}

pub(crate) async fn run(
    command: &EnvCommand,
    options: &ClientOptions,
    environment: &Environment,
) -> Result<Report, CliError> {
    if let Some(name) = &command.profile
        && (name.trim() != name || name.is_empty() || name.contains(|c: char| c.is_control() || "[]'\"".contains(c)))
    {
        return Err(CliError::Usage(format!("'{name}' cannot be the name of a profile")));
    }
    let data = environment.path(&command.data);
    let ca_file = environment.ca_file(options.ca_file.as_deref());
    let endpoint = wait_until_ready(options.one_endpoint()?, &data, ca_file.as_ref()).await?;
    let region = environment.region(options.region.as_deref());
    let keys = data.join("credentials");
    let text = match &command.profile {
        None => exports(&endpoint, &region, &keys, ca_file.as_deref(), environment),
        Some(name) => section(name, &endpoint, &region, &keys, ca_file.as_deref())?,
    };
    Ok(Report::of(text))
}

async fn wait_until_ready(option: Option<&str>, data: &Path, ca_file: Option<&PathBuf>) -> Result<Endpoint, CliError> {
    let option = option.map(settings::parse_endpoint_option).transpose()?;
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        // Read anew each time: the file of an earlier run is there until the new node has bound its port.
        let endpoint = match &option {
            Some(endpoint) => Some(endpoint.clone()),
            None => settings::read_endpoint_file(data)?,
        };
        if let Some(endpoint) = endpoint {
            let transport = Transport::new(endpoint.clone(), ca_file)?;
            if client::is_ready(&transport).await {
                return Ok(endpoint);
            }
        }
        if Instant::now() >= deadline {
            return Err(CliError::NotReady { data: data.to_path_buf(), waited_s: READY_WITHIN.as_secs() });
        }
        sleep(POLL_EVERY).await;
    }
}

/// For `eval` in any POSIX shell.
fn exports(
    endpoint: &Endpoint,
    region: &str,
    keys: &Path,
    ca_file: Option<&Path>,
    environment: &Environment,
) -> String {
    let endpoint = endpoint.to_string();
    let keys = keys.display().to_string();
    let ca_file = ca_file.map(|path| path.display().to_string());
    let variables = [
        ("AWS_ENDPOINT_URL", Some(endpoint.as_str())),
        ("AWS_REGION", Some(region)),
        // Version 1 of the AWS CLI reads only this one.
        ("AWS_DEFAULT_REGION", Some(region)),
        ("AWS_SHARED_CREDENTIALS_FILE", Some(&keys)),
        ("AWS_CA_BUNDLE", ca_file.as_deref()),
        ("FLOTILLA_ENDPOINT", Some(&endpoint)),
    ];
    let exported =
        variables.into_iter().filter_map(|(name, value)| Some(format!("export {name}={}\n", quoted(value?))));
    let unset = CONFLICTING
        .iter()
        .filter(|name| environment.variables.contains_key(**name))
        .map(|name| format!("unset {name}\n"));
    exported.chain(unset).collect()
}

/// Single quotes keep everything but themselves; plain words stay as they are, for people who read the output.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn section(
    name: &str,
    endpoint: &Endpoint,
    region: &str,
    keys: &Path,
    ca_file: Option<&Path>,
) -> Result<String, CliError> {
    use std::fmt::Write;

    let credentials = settings::read_credentials(keys, "default")?.ok_or(settings::CredentialsError::None)?;
    let secret = credentials.secret_access_key.expose_str().ok_or(settings::CredentialsError::None)?;
    // The default section is the only one whose header has no word before the name.
    let header = if name == "default" { "default".to_owned() } else { format!("profile {name}") };
    let mut text = format!(
        "[{header}]\nregion = {region}\nendpoint_url = {endpoint}\naws_access_key_id = {}\naws_secret_access_key = {secret}\n",
        credentials.access_key_id
    );
    if let Some(path) = ca_file {
        let _ = writeln!(text, "ca_bundle = {}", path.display());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{fake_node::FakeNode, settings::tests::environment};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("flotilla-cli-env-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join(DATA_FOLDER)).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn command(profile: Option<&str>) -> EnvCommand {
        EnvCommand { data: DATA_FOLDER.into(), profile: profile.map(str::to_owned) }
    }

    #[tokio::test]
    async fn a_node_that_is_ready_is_exported_and_conflicts_are_unset() {
        let folder = Folder::new("exports");
        let node = FakeNode::start(&[]).await;
        fs::write(folder.0.join("flotilla-data/endpoint"), format!("{}\n", node.endpoint())).unwrap();
        let variables = [("AWS_PROFILE", "work"), ("AWS_ACCESS_KEY_ID", ""), ("AWS_REGION", "eu-west-1")];
        let environment = environment(&folder.0, &variables);
        let report = run(&command(None), &ClientOptions::default(), &environment).await.unwrap();
        let (endpoint, home) = (node.endpoint(), folder.0.display());
        assert_eq!(
            report.text,
            format!(
                "export AWS_ENDPOINT_URL={endpoint}\nexport AWS_REGION=eu-west-1\nexport AWS_DEFAULT_REGION=eu-west-1\n\
                 export AWS_SHARED_CREDENTIALS_FILE={home}/flotilla-data/credentials\n\
                 export FLOTILLA_ENDPOINT={endpoint}\nunset AWS_ACCESS_KEY_ID\nunset AWS_PROFILE\n"
            )
        );
    }

    #[tokio::test]
    async fn a_profile_is_a_section_with_keys() {
        let folder = Folder::new("profile");
        let node = FakeNode::start(&[]).await;
        fs::write(folder.0.join("flotilla-data/endpoint"), node.endpoint().to_string()).unwrap();
        let keys = "[default]\naws_access_key_id = AKID\naws_secret_access_key = s/+=\n";
        fs::write(folder.0.join("flotilla-data/credentials"), keys).unwrap();
        let environment = environment(&folder.0, &[]);
        let options = ClientOptions { region: Some("local-1".into()), ..Default::default() };
        let report = run(&command(Some("flotilla")), &options, &environment).await.unwrap();
        assert_eq!(
            report.text,
            format!(
                "[profile flotilla]\nregion = local-1\nendpoint_url = {}\naws_access_key_id = AKID\n\
                 aws_secret_access_key = s/+=\n",
                node.endpoint()
            )
        );
        let report = run(&command(Some("default")), &options, &environment).await.unwrap();
        assert!(report.text.starts_with("[default]\n"));
        for bad in ["", "a]b", "a\nb", " a"] {
            let error = run(&command(Some(bad)), &options, &environment).await.unwrap_err();
            assert_eq!(error.code(), 2, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_was_named_goes_before_the_file() {
        let folder = Folder::new("option");
        let node = FakeNode::start(&[]).await;
        let options = ClientOptions { endpoint: vec![node.endpoint().to_string()], ..Default::default() };
        let report = run(&command(None), &options, &environment(&folder.0, &[])).await.unwrap();
        assert!(report.text.contains(&format!("export FLOTILLA_ENDPOINT={}", node.endpoint())));
        let options = ClientOptions { endpoint: vec!["x".into()], ..Default::default() };
        assert_eq!(run(&command(None), &options, &environment(&folder.0, &[])).await.unwrap_err().code(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_no_node_comes() {
        let folder = Folder::new("waiting");
        let start = Instant::now();
        let error = run(&command(None), &ClientOptions::default(), &environment(&folder.0, &[])).await.unwrap_err();
        assert_eq!(error.code(), 3);
        assert!(start.elapsed() >= READY_WITHIN && start.elapsed() < READY_WITHIN + Duration::from_secs(1));
    }

    /// In real time: a paused clock would run ahead of the sockets.
    #[tokio::test]
    async fn the_file_is_waited_for_and_read_anew() {
        let folder = Folder::new("anew");
        let node = FakeNode::start(&[]).await;
        let gone = FakeNode::start(&[]).await.stop().await;
        let file = folder.0.join("flotilla-data/endpoint");
        fs::write(&file, gone.to_string()).unwrap();
        let environment = environment(&folder.0, &[]);
        let (command, options) = (command(None), ClientOptions::default());
        let (report, ()) = tokio::join!(run(&command, &options, &environment), async {
            sleep(3 * POLL_EVERY).await;
            fs::write(&file, node.endpoint().to_string()).unwrap();
        });
        assert!(report.unwrap().text.contains(&node.endpoint().to_string()));
    }

    #[test]
    fn quoting_survives_a_shell() {
        for text in ["", "plain/path", "a b", "it's", "$HOME `x` \"y\" \\ \n;#", "é", "''"] {
            let output =
                std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(text))]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
        assert_eq!(quoted("/plain/path"), "/plain/path");
    }
}
