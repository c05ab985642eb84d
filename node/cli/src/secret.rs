//! Credentials of upstream registries. A value goes to the node and never comes back to a terminal.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use flotilla_aws::{
    ErrorCode,
    secretsmanager::{
        CreateSecret, CreateSecretInput, DeleteSecret, DeleteSecretInput, DescribeSecret, DescribeSecretInput,
        DescribeSecretOutput, ListSecrets, ListSecretsInput, ListSecretsOutput, NAME_PREFIX, PutSecretValue,
        PutSecretValueInput, Sensitive,
    },
};
use flotilla_base::Timestamp;
use serde_json::json;

use crate::{
    client::CallError,
    error::CliError,
    output::{age, facts, plain, table},
    run::{Report, Session, paged},
};

/// No registry has longer ones.
const MAX_PASSWORD_BYTES: u64 = 16 << 10;

#[derive(Subcommand, Clone, Debug)]
pub enum SecretCommand {
    /// Keep a credential, or replace the one that is kept
    #[command(after_long_help = "Examples:\n  \
        echo \"$TOKEN\" | flotilla secret put hub --username robot --password-stdin\n  \
        flotilla secret put hub --username robot --password-file token.txt\n  \
        flotilla secret put ecr --aws-access-key-id AKIA… --password-file secret-access-key.txt\n\n\
        Then: flotilla rule add docker-hub --secret hub\n\n\
        A new value is used from the answer on. NAME stands for ecr-pullthroughcache/NAME.")]
    Put(PutSecret),
    /// List the credentials, without their values
    List,
    /// Show all of a credential but its value
    Show {
        /// Name of the credential
        name: String,
    },
    /// Remove a credential in 30 days; its rules stop asking their upstream at once
    #[command(after_long_help = "Images that are held stay and keep serving. Until the day comes, \
        `aws secretsmanager restore-secret` takes the removal back.")]
    Remove {
        /// Name of the credential
        name: String,
        /// For good, and at once
        #[arg(long)]
        now: bool,
    },
}

#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("who").required(true))]
#[command(group = clap::ArgGroup::new("password").required(true))]
pub struct PutSecret {
    /// Name of the credential; AWS calls it ecr-pullthroughcache/NAME
    name: String,
    /// User at the upstream
    #[arg(long, group = "who", value_name = "USER")]
    username: Option<String>,
    /// Access key of an Amazon ECR upstream; the password is then its secret access key
    #[arg(long, group = "who", value_name = "ID")]
    aws_access_key_id: Option<String>,
    /// File with the session token that belongs to the access key
    #[arg(long, requires = "aws_access_key_id", value_name = "FILE")]
    aws_session_token_file: Option<PathBuf>,
    /// Read the password or token from standard input
    #[arg(long, group = "password")]
    password_stdin: bool,
    /// Read the password or token from a file
    #[arg(long, group = "password", value_name = "FILE")]
    password_file: Option<PathBuf>,
}

paged!(ListSecrets, secret_list);

pub(crate) async fn run(command: SecretCommand, session: &Session) -> Result<Report, CliError> {
    match command {
        SecretCommand::Put(put) => {
            let value = Some(Sensitive(value(&put)?));
            let name = full_name(&put.name);
            let input = PutSecretValueInput {
                secret_id: name.clone(),
                secret_string: value.clone(),
                ..PutSecretValueInput::default()
            };
            let used = |name: &str| {
                let name = short(name);
                format!(
                    "use it with `flotilla rule add … --secret {name}`, or `flotilla rule set-secret PREFIX {name}`"
                )
            };
            match session.call::<PutSecretValue>(&input).await {
                Ok(put) => Ok(session.report(&put, || format!("{} has a new value\n", plain(&put.name)))),
                Err(error) if is_missing(&error) => {
                    let input = CreateSecretInput { name, secret_string: value, ..CreateSecretInput::default() };
                    let made = session.call::<CreateSecret>(&input).await?;
                    Ok(session.report(&made, || format!("{} is kept\n{}\n", plain(&made.name), used(&made.name))))
                }
                Err(error) => Err(error),
            }
        }
        SecretCommand::List => {
            let input = ListSecretsInput { include_planned_deletion: Some(true), ..ListSecretsInput::default() };
            let secrets = session.call_all::<ListSecrets>(input).await?;
            Ok(session.report(&secrets, || list(&secrets, session.now)))
        }
        SecretCommand::Show { name } => {
            let secret = session.call::<DescribeSecret>(&DescribeSecretInput { secret_id: full_name(&name) }).await?;
            Ok(session.report(&secret, || show(&secret, session.now)))
        }
        SecretCommand::Remove { name, now } => {
            let input = DeleteSecretInput {
                secret_id: full_name(&name),
                force_delete_without_recovery: now.then_some(true),
                ..DeleteSecretInput::default()
            };
            let deleted = session.call::<DeleteSecret>(&input).await?;
            let when = if now { "now" } else { "in 30 days; its rules do not use it any more" };
            Ok(session.report(&deleted, || format!("{} goes {when}\n", plain(&deleted.name))))
        }
    }
}

/// The ARN that a rule needs, of a secret that is named.
pub(crate) async fn arn(name: &str, session: &Session) -> Result<String, CliError> {
    let secret = session.call::<DescribeSecret>(&DescribeSecretInput { secret_id: full_name(name) }).await;
    match secret {
        Ok(secret) => Ok(secret.arn),
        Err(error) if is_missing(&error) => Err(CliError::Outcome(format!(
            "there is no secret {name}: keep one with `flotilla secret put {name} --username USER --password-stdin`"
        ))),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &CliError) -> bool {
    matches!(error, CliError::Call(CallError::Service { code, .. }) if code == ErrorCode::RESOURCE_NOT_FOUND.0)
}

fn full_name(name: &str) -> String {
    if name.starts_with("arn:") || name.starts_with(NAME_PREFIX) {
        name.to_owned()
    } else {
        format!("{NAME_PREFIX}{name}")
    }
}

fn short(name: &str) -> String {
    plain(name.strip_prefix(NAME_PREFIX).unwrap_or(name))
}

/// What the node takes as a credential.
fn value(put: &PutSecret) -> Result<String, CliError> {
    let password = match &put.password_file {
        Some(path) => read_file(path)?,
        None => {
            let path = Path::new("standard input");
            read(io::stdin().lock(), path)?
        }
    };
    let value = match &put.aws_access_key_id {
        Some(id) => {
            let token = put.aws_session_token_file.as_deref().map(read_file).transpose()?;
            let mut value = json!({"accessKeyId": id, "secretAccessKey": password});
            if let (Some(token), Some(members)) = (token, value.as_object_mut()) {
                members.insert("sessionToken".to_owned(), token.into());
            }
            value
        }
        None => json!({"username": put.username, "accessToken": password}),
    };
    Ok(value.to_string())
}

fn read_file(path: &Path) -> Result<String, CliError> {
    let file = File::open(path).map_err(|source| CliError::ReadFile { path: path.to_owned(), source })?;
    read(file, path)
}

/// The text without the end of its line.
fn read(from: impl Read, path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = from.take(MAX_PASSWORD_BYTES + 1).read_to_string(&mut text);
    read.map_err(|source| CliError::ReadFile { path: path.to_owned(), source })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let usage = |why: String| Err(CliError::Usage(format!("the password in {} {why}", path.display())));
    if text.is_empty() {
        return usage("is empty".to_owned());
    }
    if text.len() as u64 > MAX_PASSWORD_BYTES {
        return usage(format!("is longer than {MAX_PASSWORD_BYTES} bytes"));
    }
    if text.chars().any(char::is_control) {
        return usage("has more than one line, or a control character".to_owned());
    }
    Ok(text.to_owned())
}

fn list(secrets: &ListSecretsOutput, now: Timestamp) -> String {
    table(
        ["NAME", "VALUE", "STATE", "CHANGED"],
        secrets.secret_list.iter().map(|secret| {
            let has_value = secret.secret_versions_to_stages.values().flatten().any(|stage| stage == "AWSCURRENT");
            [
                short(&secret.name),
                if has_value { "sealed" } else { "none" }.to_owned(),
                if secret.deleted_date.is_some() { "scheduled for deletion" } else { "in use" }.to_owned(),
                age(secret.last_changed_date, now),
            ]
        }),
    )
}

fn show(secret: &DescribeSecretOutput, now: Timestamp) -> String {
    let ago = |then: f64| format!("{} ago", age(then, now));
    let stages = secret.version_ids_to_stages.iter().map(|(id, stages)| format!("{id} ({})", stages.join(", ")));
    let tags: Vec<_> = secret.tags.iter().map(|tag| format!("{}={}", tag.key, tag.value)).collect();
    facts([
        ("name", Some(secret.name.clone())),
        ("arn", Some(secret.arn.clone())),
        ("description", secret.description.clone()),
        ("versions", Some(stages.collect::<Vec<_>>().join("; "))),
        ("tags", (!tags.is_empty()).then(|| tags.join(", "))),
        ("created", Some(ago(secret.created_date))),
        ("changed", Some(ago(secret.last_changed_date))),
        ("deleted", secret.deleted_date.map(ago)),
    ])
}

#[cfg(test)]
mod tests {
    use crate::{
        fake_node::FakeNode,
        run::tests::{calls, execute_line},
    };

    const MISSING: (u16, &str) = (400, r#"{"__type": "ResourceNotFoundException", "message": "no"}"#);

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        (folder, path)
    }

    #[tokio::test]
    async fn put_replaces_a_value_or_makes_the_secret() {
        let (_folder, path) = file("hunter2\n");
        let name = "ecr-pullthroughcache/hub";
        let made = format!(r#"{{"ARN": "arn", "Name": "{name}", "VersionId": "v"}}"#);
        let node = FakeNode::start(&[MISSING, (200, &made)]).await;
        let line = ["secret", "put", "hub", "--username", "robot", "--password-file", &path];
        let report = execute_line(&node, &line).await.unwrap();
        assert!(report.text.contains("--secret hub") && !report.text.contains("hunter2"), "{}", report.text);
        let value = r#"{\"accessToken\":\"hunter2\",\"username\":\"robot\"}"#;
        let sent = [
            ("PutSecretValue".to_owned(), format!(r#"{{"SecretId":"{name}","SecretString":"{value}"}}"#)),
            ("CreateSecret".to_owned(), format!(r#"{{"Name":"{name}","SecretString":"{value}"}}"#)),
        ];
        assert_eq!(calls(&node), sent);
    }

    #[tokio::test]
    async fn aws_keys_are_a_credential_too() {
        let (_folder, path) = file("secret-key");
        let put = (200, r#"{"ARN": "arn", "Name": "ecr-pullthroughcache/e", "VersionId": "v", "VersionStages": []}"#);
        let node = FakeNode::start(&[put]).await;
        let line = ["secret", "put", "e", "--aws-access-key-id", "AKID", "--password-file", &path];
        execute_line(&node, &line).await.unwrap();
        let body = calls(&node).remove(0).1;
        assert!(body.contains(r#"{\"accessKeyId\":\"AKID\",\"secretAccessKey\":\"secret-key\"}"#), "{body}");
    }

    #[tokio::test]
    async fn a_password_is_one_line_and_from_one_place() {
        let node = FakeNode::start(&[]).await;
        for text in ["", "\n", "a\nb\n", "a\0"] {
            let (_folder, path) = file(text);
            let line = ["secret", "put", "hub", "--username", "u", "--password-file", &path];
            assert_eq!(execute_line(&node, &line).await.unwrap_err().code(), 2, "{text:?}");
        }
        for line in [
            &["secret", "put", "hub", "--username", "u"][..],
            &["secret", "put", "hub", "--password-stdin"],
            &["secret", "put", "hub", "--username", "u", "--aws-access-key-id", "x", "--password-stdin"],
            &["secret", "put", "hub", "--username", "u", "--password-stdin", "--password-file", "x"],
        ] {
            assert_eq!(execute_line(&node, line).await.unwrap_err().code(), 2, "{line:?}");
        }
    }

    #[tokio::test]
    async fn secrets_are_listed_and_shown() {
        let entry =
            r#"{"ARN": "arn:x", "Name": "ecr-pullthroughcache/hub", "LastChangedDate": 9e12, "CreatedDate": 9e12"#;
        let listed = format!(
            r#"{{"SecretList": [{entry}, "SecretVersionsToStages": {{"v": ["AWSCURRENT"]}}}}, {entry}, "DeletedDate": 9e12}}]}}"#
        );
        let shown = format!(r#"{entry}, "VersionIdsToStages": {{"v": ["AWSCURRENT"]}}}}"#);
        let node = FakeNode::start(&[(200, &listed), (200, &shown)]).await;
        let report = execute_line(&node, &["secret", "list"]).await.unwrap();
        assert_eq!(
            report.text,
            "NAME  VALUE   STATE                   CHANGED\n\
             hub   sealed  in use                  0s\n\
             hub   none    scheduled for deletion  0s\n"
        );
        let report = execute_line(&node, &["secret", "show", "hub"]).await.unwrap();
        assert!(report.text.contains("versions  v (AWSCURRENT)\n"), "{}", report.text);
    }
}
