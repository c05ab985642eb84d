use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use flotilla_aws::sigv4::Credentials;
use flotilla_base::Secret;

use super::{DATA_FOLDER, Environment, ini};

/// Keys, and where they came from: a node that does not know them is most often the wrong file's.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) credentials: Credentials,
    pub(crate) source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Variables,
    File {
        path: PathBuf,
        profile: String,
    },
    /// The development node's own file, which no AWS tool would look at.
    Data(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variables => f.write_str("AWS_ACCESS_KEY_ID"),
            Self::File { path, profile } => write!(f, "profile '{profile}' of {}", path.display()),
            Self::Data(path) => path.display().fmt(f),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("{given} is set, but {missing} is not")]
    Half { given: &'static str, missing: &'static str },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has no profile '{profile}' (AWS_PROFILE)", path.display())]
    NoProfile { path: PathBuf, profile: String },
    #[error("profile '{profile}' of {} lacks {key}", path.display())]
    NoKey { path: PathBuf, profile: String, key: &'static str },
    #[error(
        "no keys found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `eval \"$(flotilla env)\"` beside a node \
         that `flotilla dev` started; `flotilla serve --init` writes root's to the file `credentials` in its data folder, \
         for AWS_SHARED_CREDENTIALS_FILE"
    )]
    None,
}

/// Variables first, then the shared file, then `./flotilla-data/credentials`.
pub(crate) fn find(environment: &Environment) -> Result<Found, CredentialsError> {
    const KEY: &str = "AWS_ACCESS_KEY_ID";
    const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
    match (environment.get(KEY), environment.get(SECRET)) {
        (Some(key), Some(secret)) => {
            let credentials = credentials(key, secret, environment.get("AWS_SESSION_TOKEN"));
            return Ok(Found { credentials, source: Source::Variables });
        }
        (Some(_), None) => return Err(CredentialsError::Half { given: KEY, missing: SECRET }),
        (None, Some(_)) => return Err(CredentialsError::Half { given: SECRET, missing: KEY }),
        (None, None) => {}
    }
    let asked_profile = environment.get("AWS_PROFILE").or_else(|| environment.get("AWS_DEFAULT_PROFILE"));
    let profile = asked_profile.unwrap_or("default");
    let asked_file = environment.get("AWS_SHARED_CREDENTIALS_FILE").map(|file| expand_home(environment, file));
    let home_file = || Some(environment.path(environment.get("HOME")?).join(".aws/credentials"));
    if let Some(path) = asked_file.clone().or_else(home_file) {
        let source = Source::File { path: path.clone(), profile: profile.to_owned() };
        match read(&path, profile) {
            Ok(Some(credentials)) => return Ok(Found { credentials, source }),
            // What was asked for by name must be there; what is merely a default may be missing.
            Ok(None) if asked_profile.is_some() => {
                return Err(CredentialsError::NoProfile { path, profile: profile.to_owned() });
            }
            Err(CredentialsError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound && asked_file.is_none() && asked_profile.is_none() => {}
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
    let path = environment.path(DATA_FOLDER).join("credentials");
    match read(&path, "default") {
        Ok(Some(credentials)) => Ok(Found { credentials, source: Source::Data(path) }),
        Ok(None) => Err(CredentialsError::None),
        Err(CredentialsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(CredentialsError::None)
        }
        Err(error) => Err(error),
    }
}

/// The keys of a profile in a shared file; `None` when it has no such profile.
pub(crate) fn read(path: &Path, profile: &str) -> Result<Option<Credentials>, CredentialsError> {
    let text =
        fs::read_to_string(path).map_err(|source| CredentialsError::Read { path: path.to_path_buf(), source })?;
    let Some(section) = ini::section(&text, profile) else { return Ok(None) };
    let need = |key: &'static str| {
        ini::value(&section, key).ok_or_else(|| CredentialsError::NoKey {
            path: path.to_path_buf(),
            profile: profile.to_owned(),
            key,
        })
    };
    let (key, secret) = (need("aws_access_key_id")?, need("aws_secret_access_key")?);
    Ok(Some(credentials(key, secret, ini::value(&section, "aws_session_token"))))
}

fn credentials(key: &str, secret: &str, token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: key.to_owned(),
        secret_access_key: Secret::from(secret.to_owned()),
        session_token: token.map(|token| Secret::from(token.to_owned())),
    }
}

/// The AWS tools expand `~/` in this variable themselves: it often comes from a file that no shell reads.
fn expand_home(environment: &Environment, file: &str) -> PathBuf {
    match (file.strip_prefix("~/"), environment.get("HOME")) {
        (Some(rest), Some(home)) => environment.path(home).join(rest),
        _ => environment.path(file),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::settings::tests::environment;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("flotilla-cli-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("home/.aws")).unwrap();
            fs::create_dir_all(path.join(DATA_FOLDER)).unwrap();
            Self(path)
        }

        fn write(&self, file: &str, key: &str) {
            let text = format!(
                "[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n[half]\naws_access_key_id = h\n"
            );
            fs::write(self.0.join(file), text).unwrap();
        }

        fn key(&self, variables: &[(&str, &str)]) -> Result<(String, String), CredentialsError> {
            find(&environment(&self.0, variables))
                .map(|found| (found.credentials.access_key_id, found.source.to_string()))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn keys_are_found_in_the_order_of_the_sdks() {
        let folder = Folder::new("order");
        let home = folder.0.join("home");
        let home = home.to_str().unwrap();
        assert!(matches!(folder.key(&[("HOME", home)]), Err(CredentialsError::None)));
        folder.write("flotilla-data/credentials", "DATA");
        assert_eq!(folder.key(&[("HOME", home)]).unwrap().0, "DATA");
        assert_eq!(folder.key(&[]).unwrap().0, "DATA");
        folder.write("home/.aws/credentials", "HOME");
        let (key, source) = folder.key(&[("HOME", home)]).unwrap();
        assert_eq!((key.as_str(), source), ("HOME", format!("profile 'default' of {home}/.aws/credentials")));
        folder.write("shared", "SHARED");
        assert_eq!(folder.key(&[("HOME", home), ("AWS_SHARED_CREDENTIALS_FILE", "shared")]).unwrap().0, "SHARED");
        let in_home = [("HOME", home), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")];
        assert_eq!(folder.key(&in_home).unwrap().0, "HOME");
        let all = [("AWS_ACCESS_KEY_ID", "VAR"), ("AWS_SECRET_ACCESS_KEY", "s"), ("HOME", home)];
        assert_eq!(folder.key(&all).unwrap(), ("VAR".to_owned(), "AWS_ACCESS_KEY_ID".to_owned()));
        let empty = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("HOME", home)];
        assert_eq!(folder.key(&empty).unwrap().0, "HOME");
    }

    #[test]
    fn what_was_named_must_be_there() {
        let folder = Folder::new("named");
        folder.write("shared", "SHARED");
        folder.write("flotilla-data/credentials", "DATA");
        let half = folder.key(&[("AWS_ACCESS_KEY_ID", "VAR")]);
        assert!(matches!(half, Err(CredentialsError::Half { missing: "AWS_SECRET_ACCESS_KEY", .. })));
        let gone = folder.key(&[("AWS_SHARED_CREDENTIALS_FILE", "gone")]);
        assert!(matches!(gone, Err(CredentialsError::Read { .. })));
        let shared = ("AWS_SHARED_CREDENTIALS_FILE", "shared");
        let profile = folder.key(&[shared, ("AWS_PROFILE", "other")]);
        assert!(matches!(profile, Err(CredentialsError::NoProfile { .. })));
        let key = folder.key(&[shared, ("AWS_PROFILE", "half")]);
        assert!(matches!(key, Err(CredentialsError::NoKey { key: "aws_secret_access_key", .. })));
    }
}
