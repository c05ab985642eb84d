use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{DATA_FOLDER, Environment};
use crate::transport::{Endpoint, InvalidEndpoint};

/// Where `flotilla dev` answers unless told otherwise.
const DEFAULT: &str = "http://127.0.0.1:5000";

#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("the endpoint from {from} cannot be used")]
    Invalid { from: String, source: InvalidEndpoint },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// The option, the variables from the most to the least specific, the file a development node writes, the default.
pub(crate) fn find(option: Option<&str>, environment: &Environment) -> Result<Endpoint, EndpointError> {
    if let Some(text) = option {
        return parse_option(text);
    }
    for name in ["FLOTILLA_ENDPOINT", "AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL"] {
        if let Some(text) = environment.get(name) {
            return parse(text, name);
        }
    }
    match read_file(&environment.path(DATA_FOLDER))? {
        Some(endpoint) => Ok(endpoint),
        None => parse(DEFAULT, "the default"),
    }
}

pub(crate) fn parse_option(text: &str) -> Result<Endpoint, EndpointError> {
    parse(text, "--endpoint")
}

/// The endpoint a node wrote into its data folder; `None` when it has not (yet).
pub(crate) fn read_file(data_folder: &Path) -> Result<Option<Endpoint>, EndpointError> {
    let path = data_folder.join("endpoint");
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text, &path.display().to_string()).map(Some),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EndpointError::Read { path, source }),
    }
}

fn parse(text: &str, from: &str) -> Result<Endpoint, EndpointError> {
    text.parse().map_err(|source| EndpointError::Invalid { from: from.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::environment;

    #[test]
    fn endpoints_are_found_from_specific_to_general() {
        let folder = std::env::temp_dir().join(format!("flotilla-cli-endpoint-{}", std::process::id()));
        fs::create_dir_all(folder.join(DATA_FOLDER)).unwrap();
        let found = |option: Option<&str>, variables: &[(&str, &str)]| {
            find(option, &environment(&folder, variables)).map(|endpoint| endpoint.to_string())
        };
        let mut variables = vec![];
        assert_eq!(found(None, &variables).unwrap(), "http://127.0.0.1:5000");
        fs::write(folder.join(DATA_FOLDER).join("endpoint"), "http://127.0.0.1:5001\n").unwrap();
        assert_eq!(found(None, &variables).unwrap(), "http://127.0.0.1:5001");
        for (name, url) in
            [("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_ECR", "http://b"), ("FLOTILLA_ENDPOINT", "http://c")]
        {
            variables.push((name, url));
            assert_eq!(found(None, &variables).unwrap(), url);
        }
        assert_eq!(found(Some("https://d"), &variables).unwrap(), "https://d");
        let error = found(None, &[("FLOTILLA_ENDPOINT", "node:5000")]).unwrap_err();
        assert_eq!(error.to_string(), "the endpoint from FLOTILLA_ENDPOINT cannot be used");
        fs::remove_dir_all(folder).unwrap();
    }
}
