use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use flotilla_aws::flotilla::{
    AccessKey, CreateAccessKey, CreateAccessKeyInput, CreateRobot, CreateRobotInput, DeleteAccessKey,
    DeleteAccessKeyInput, DeleteRobot, DeleteRobotInput, ListAccessKeys, ListAccessKeysInput, ListAccessKeysOutput,
    ListRobots, ListRobotsInput, NewAccessKey, Robot, UpdateAccessKey, UpdateAccessKeyInput,
};
use flotilla_base::Timestamp;
use serde::Serialize;

use crate::{
    error::CliError,
    instant,
    output::{age, duration, facts, plain, table},
    run::{Report, Session, paged},
};

#[derive(Subcommand, Clone, Debug)]
pub enum KeyCommand {
    /// Make a robot, a principal that may only pull, and print its key
    #[command(after_long_help = "Examples:\n  \
        flotilla key create --pull-only --name ci\n  \
        flotilla key create --pull-only --name edge --repositories 'docker-hub/library/*' --expires 90d\n\n\
        The secret is shown once. `docker login -u ID -p SECRET` takes the key as it is.")]
    Create {
        /// It may pull, and nothing else
        #[arg(long, required = true)]
        pull_only: bool,
        /// Name of the robot
        #[arg(long)]
        name: String,
        /// Repositories that it may pull, `*` being any text; without it all
        #[arg(long, value_name = "GLOB", num_args = 1..)]
        repositories: Vec<String>,
        /// When it ends: in 90d, 12h or 30m, or at 2027-01-31T12:00:00Z
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// Write the key to a new file that only you can read, as `aws` takes it, instead of printing its secret
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// List the keys and whose they are
    List,
    /// Switch a key off: it and all its tokens are refused from now on
    Disable {
        /// Id of the key, as `flotilla key list` shows it
        id: String,
    },
    /// Switch a key on again; tokens of before stay refused
    Enable {
        /// Id of the key, as `flotilla key list` shows it
        id: String,
    },
    /// Remove a key for good, or a robot with its keys
    Remove {
        /// Id of the key, as `flotilla key list` shows it
        #[arg(required_unless_present = "robot", conflicts_with = "robot")]
        id: Option<String>,
        /// Robot to remove, with all its keys
        #[arg(long, value_name = "NAME")]
        robot: Option<String>,
    },
    /// Print another key of the same principal, to take the place of ID
    Rotate {
        /// Id of the key, as `flotilla key list` shows it
        id: String,
        /// As for `create`
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
}

paged!(ListAccessKeys, access_keys);
paged!(ListRobots, robots);

/// `key list --json`: the answers of both calls.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    access_keys: Vec<AccessKey>,
    robots: Vec<Robot>,
}

pub(crate) async fn run(command: KeyCommand, session: &Session) -> Result<Report, CliError> {
    match command {
        KeyCommand::Create { pull_only: _, name, repositories, expires, write } => {
            let expires_at = expires.map(|when| instant::parse(&when, session.now)).transpose()?;
            let file = write.as_deref().map(File::create).transpose()?;
            let input =
                CreateRobotInput { robot_name: name, repositories, expires_at: expires_at.map(Timestamp::seconds) };
            let mut made = match session.call::<CreateRobot>(&input).await {
                Ok(made) => made,
                Err(error) => return Err(forget(file, error)),
            };
            let shown = told(&mut made.access_key, file)?;
            Ok(session.report(&made, || {
                let robot = &made.robot;
                let pulls = if robot.repositories.is_empty() { "all".to_owned() } else { robot.repositories.join(" ") };
                let ends = robot.expires_at.map(|at| format!("in {}", duration((at - session.now.seconds()) as u64)));
                facts([("robot", Some(robot.robot_name.clone())), ("pulls", Some(pulls)), ("ends", ends)]) + &shown
            }))
        }
        KeyCommand::List => {
            let ListAccessKeysOutput { access_keys, .. } =
                session.call_all::<ListAccessKeys>(ListAccessKeysInput::default()).await?;
            let robots = session.call_all::<ListRobots>(ListRobotsInput::default()).await?.robots;
            let listed = Listed { access_keys, robots };
            Ok(session.report(&listed, || list(&listed, session.now)))
        }
        KeyCommand::Disable { id } => set_enabled(session, id, false).await,
        KeyCommand::Enable { id } => set_enabled(session, id, true).await,
        KeyCommand::Remove { id: _, robot: Some(robot_name) } => {
            let done = session.call::<DeleteRobot>(&DeleteRobotInput { robot_name: robot_name.clone() }).await?;
            Ok(session.report(&done, || format!("removed robot {} with its keys\n", plain(&robot_name))))
        }
        KeyCommand::Remove { id, robot: None } => {
            let access_key_id = id.unwrap_or_default();
            let input = DeleteAccessKeyInput { access_key_id: access_key_id.clone() };
            let done = session.call::<DeleteAccessKey>(&input).await?;
            Ok(session.report(&done, || format!("removed {}\n", plain(&access_key_id))))
        }
        KeyCommand::Rotate { id, write } => {
            let keys = session.call_all::<ListAccessKeys>(ListAccessKeysInput::default()).await?.access_keys;
            let old = keys.into_iter().find(|key| key.access_key_id == id);
            let old = old.ok_or_else(|| CliError::Usage(format!("there is no key '{id}'; see `flotilla key list`")))?;
            let file = write.as_deref().map(File::create).transpose()?;
            let input = CreateAccessKeyInput { robot_name: old.robot_name.clone() };
            let mut made = match session.call::<CreateAccessKey>(&input).await {
                Ok(made) => made,
                Err(error) => return Err(forget(file, error)),
            };
            let shown = told(&mut made.access_key, file)?;
            let mut report = session.report(&made, || shown);
            report.notes.push(format!(
                "{id} is still good: when everybody uses the new key, `flotilla key disable {id}`, and when nobody misses \
                 it, `flotilla key remove {id}`"
            ));
            Ok(report)
        }
    }
}

async fn set_enabled(session: &Session, access_key_id: String, enabled: bool) -> Result<Report, CliError> {
    let input = UpdateAccessKeyInput { access_key_id, enabled: Some(enabled) };
    let done = session.call::<UpdateAccessKey>(&input).await?;
    let verb = if enabled { "enabled" } else { "disabled" };
    Ok(session.report(&done, || format!("{verb} {}\n", plain(&done.access_key.access_key_id))))
}

fn list(listed: &Listed, now: Timestamp) -> String {
    let robot = |name: &str| listed.robots.iter().find(|robot| robot.robot_name == name);
    let rows = listed.access_keys.iter().map(|key| {
        let robot = key.robot_name.as_deref().and_then(robot);
        let state = match (key.enabled, robot.is_some_and(|robot| robot.expired)) {
            (false, _) => "disabled",
            (true, true) => "expired",
            (true, false) => "enabled",
        };
        let ends = robot.and_then(|robot| robot.expires_at).filter(|at| *at > now.seconds());
        [
            key.access_key_id.clone(),
            key.robot_name.clone().unwrap_or_else(|| "root".into()),
            state.to_owned(),
            robot.map_or_else(
                || "everything".into(),
                |robot| {
                    if robot.repositories.is_empty() {
                        "pull all".into()
                    } else {
                        format!("pull {}", robot.repositories.join(" "))
                    }
                },
            ),
            ends.map_or_else(|| "-".into(), |at| format!("in {}", duration((at - now.seconds()) as u64))),
            age(key.created_at, now),
        ]
    });
    table(["KEY", "WHOSE", "STATE", "MAY", "ENDS", "AGE"], rows)
}

/// A file for a secret, made before the secret is: what cannot be written down must not be made.
struct File {
    path: PathBuf,
    file: std::fs::File,
}

impl File {
    fn create(path: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::WriteFile { path: path.to_owned(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file })
    }
}

/// Leaves no empty file behind when no key was made.
fn forget(file: Option<File>, error: CliError) -> CliError {
    if let Some(File { path, .. }) = file {
        // The error that is told is the one that matters.
        let _ = std::fs::remove_file(path);
    }
    error
}

/// The one time that the secret is told: in the file, or on standard output.
fn told(key: &mut NewAccessKey, file: Option<File>) -> Result<String, CliError> {
    let Some(File { path, mut file }) = file else {
        return Ok(facts([("key", Some(key.access_key_id.clone())), ("secret", Some(key.secret_access_key.clone()))])
            + "the secret is not shown again; `docker login` takes key and secret as user name and password\n");
    };
    let secret = std::mem::take(&mut key.secret_access_key);
    let text =
        format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n", plain(&key.access_key_id));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|source| CliError::WriteFile { path: path.clone(), source })?;
    Ok(facts([("key", Some(key.access_key_id.clone())), ("file", Some(path.display().to_string()))]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_node::FakeNode,
        run::tests::{calls, execute_line},
    };

    const MADE: &str = r#"{"robot": {"robotName": "ci", "repositories": ["hub/*"], "createdAt": 1.0},
        "accessKey": {"accessKeyId": "AKIA1", "secretAccessKey": "hush", "principalArn": "arn:aws:iam::0:user/ci"}}"#;

    #[tokio::test]
    async fn a_robot_is_made_and_its_secret_shown_once() {
        let node = FakeNode::start(&[(200, MADE)]).await;
        let line = ["key", "create", "--pull-only", "--name", "ci", "--repositories", "hub/*"];
        let report = execute_line(&node, &line).await.unwrap();
        assert_eq!(
            report.text,
            "robot  ci\npulls  hub/*\nkey     AKIA1\nsecret  hush\nthe secret is not shown again; `docker login` takes \
             key and secret as user name and password\n"
        );
        let body = r#"{"robotName":"ci","repositories":["hub/*"]}"#;
        assert_eq!(calls(&node), [("CreateRobot".to_owned(), body.to_owned())]);
        let error = execute_line(&node, &["key", "create", "--name", "ci"]).await.unwrap_err();
        assert_eq!(error.code(), 2, "only robots are made here: {error}");
    }

    #[tokio::test]
    async fn a_key_file_is_private_new_and_gone_when_no_key_was_made() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ci.key");
        let line = ["key", "create", "--pull-only", "--name", "ci", "--write", path.to_str().unwrap()];
        let node =
            FakeNode::start(&[(400, r#"{"__type": "EntityAlreadyExistsException", "message": "there"}"#), (200, MADE)])
                .await;
        assert!(execute_line(&node, &line).await.is_err());
        assert!(!path.exists());
        let report = execute_line(&node, &line).await.unwrap();
        assert!(!report.text.contains("hush"), "{}", report.text);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "[default]\naws_access_key_id = AKIA1\naws_secret_access_key = hush\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // An older key is never lost under a new one: the node is not even asked.
        assert!(matches!(execute_line(&node, &line).await, Err(CliError::WriteFile { .. })));
        assert_eq!(calls(&node).len(), 2);
    }

    #[tokio::test]
    async fn keys_are_listed_with_what_they_may() {
        let keys = r#"{"accessKeys": [
            {"accessKeyId": "A", "enabled": true, "createdAt": 9e12},
            {"accessKeyId": "B", "robotName": "ci", "enabled": true, "createdAt": 9e12},
            {"accessKeyId": "C", "robotName": "old", "enabled": true, "createdAt": 9e12},
            {"accessKeyId": "D", "robotName": "ci", "enabled": false, "createdAt": 9e12}]}"#;
        let robots = r#"{"robots": [{"robotName": "ci", "repositories": ["hub/*"]},
            {"robotName": "old", "expired": true, "expiresAt": 1.0}]}"#;
        let node = FakeNode::start(&[(200, keys), (200, robots)]).await;
        let report = execute_line(&node, &["key", "list"]).await.unwrap();
        let text = "KEY  WHOSE  STATE     MAY         ENDS  AGE\n\
                    A    root   enabled   everything  -     0s\n\
                    B    ci     enabled   pull hub/*  -     0s\n\
                    C    old    expired   pull all    -     0s\n\
                    D    ci     disabled  pull hub/*  -     0s\n";
        assert_eq!(report.text, text);
    }

    #[tokio::test]
    async fn a_rotation_makes_a_key_of_the_same_principal_and_says_how_to_retire_the_old_one() {
        let keys = r#"{"accessKeys": [{"accessKeyId": "AKIA0", "robotName": "ci", "enabled": true}]}"#;
        let made = r#"{"accessKey": {"accessKeyId": "AKIA1", "secretAccessKey": "hush"}}"#;
        let node = FakeNode::start(&[(200, keys), (200, made), (200, keys)]).await;
        let report = execute_line(&node, &["key", "rotate", "AKIA0"]).await.unwrap();
        assert!(
            report.text.starts_with("key     AKIA1\nsecret  hush\nthe secret is not shown again"),
            "{}",
            report.text
        );
        assert!(report.notes.iter().any(|note| note.contains("flotilla key disable AKIA0")), "{:?}", report.notes);
        assert_eq!(calls(&node)[1], ("CreateAccessKey".to_owned(), r#"{"robotName":"ci"}"#.to_owned()));
        assert_eq!(execute_line(&node, &["key", "rotate", "AKIA9"]).await.unwrap_err().code(), 2);
    }
}
