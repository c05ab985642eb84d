//! Where a command finds its node and its keys: options, then the environment, then files, as the AWS SDKs do.

mod credentials;
mod endpoint;
mod ini;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

pub(crate) use credentials::{CredentialsError, Source, find as find_credentials, read as read_credentials};
pub(crate) use endpoint::{
    EndpointError, find as find_endpoint, parse_option as parse_endpoint_option, read_file as read_endpoint_file,
};

/// Folder that `flotilla dev` keeps its data in unless told otherwise.
pub(crate) const DATA_FOLDER: &str = "flotilla-data";
/// Of no meaning to a node, for which a region in a signature is a label, but clients demand one.
const DEFAULT_REGION: &str = "us-east-1";

/// What a process finds around itself: variables and its working directory.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub variables: BTreeMap<String, String>,
    pub working_directory: PathBuf,
}

impl Environment {
    /// This process's own. Variables that are not text are left out: none of those we read may be.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn of_process() -> io::Result<Self> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { variables, working_directory: std::env::current_dir()? })
    }

    /// `None` also when the variable is empty, as all AWS tools read it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.working_directory.join(path)
    }

    pub(crate) fn region(&self, option: Option<&str>) -> String {
        option
            .or_else(|| self.get("AWS_REGION"))
            .or_else(|| self.get("AWS_DEFAULT_REGION"))
            .unwrap_or(DEFAULT_REGION)
            .to_owned()
    }

    pub(crate) fn ca_file(&self, option: Option<&Path>) -> Option<PathBuf> {
        option
            .map(Path::to_path_buf)
            .or_else(|| self.get("AWS_CA_BUNDLE").map(PathBuf::from))
            .map(|path| self.path(path))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn environment(folder: &Path, variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            working_directory: folder.to_path_buf(),
        }
    }

    #[test]
    fn regions_come_from_option_variables_then_default() {
        let both = environment(Path::new("/"), &[("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "eu-west-2")]);
        assert_eq!(both.region(Some("local-1")), "local-1");
        assert_eq!(both.region(None), "eu-west-1");
        let old = environment(Path::new("/"), &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "eu-west-2")]);
        assert_eq!(old.region(None), "eu-west-2");
        assert_eq!(Environment::default().region(None), "us-east-1");
    }
}
