//! What an engine shall be told, and the files that tell it.

use std::{fs, path::Path, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flotilla_base::Secret;

use super::docker;
use crate::{error::CliError, transport::Endpoint};

/// First line of every file of ours that may carry comments.
pub(super) const MARK: &str =
    "# Written by `flotilla mirror`; the same command with --remove puts back what was here before.\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Docker,
    Containerd,
    Podman,
    Crio,
    K3s,
}

impl Engine {
    /// Where it looks unless told otherwise; only ever printed.
    pub(super) const fn folder(self) -> &'static str {
        match self {
            Self::Docker => "/etc/docker",
            Self::Containerd => "/etc/containerd/certs.d",
            Self::Podman | Self::Crio => "/etc/containers/registries.conf.d",
            Self::K3s => "/etc/rancher/k3s",
        }
    }
}

/// What was asked for.
pub(super) struct Wish {
    /// At least one, in the order in which the engine shall try them.
    pub(super) endpoints: Vec<Endpoint>,
    /// As given; none means all.
    pub(super) registries: Vec<String>,
    pub(super) fail_closed: bool,
    pub(super) ca: Option<PathBuf>,
    /// Value of the header.
    pub(super) authorization: Option<Secret>,
    /// The result goes to a terminal, not into a file.
    pub(super) prints: bool,
}

impl Wish {
    /// The header's value where it may be seen: in a file.
    pub(super) fn authorization(&self) -> Option<&str> {
        let value = self.authorization.as_ref()?.expose_str()?;
        Some(if self.prints { "<from the authorization file; --write puts it in>" } else { value })
    }

    pub(super) fn ca(&self) -> Option<String> {
        self.ca.as_ref().map(|file| file.display().to_string())
    }
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) files: Vec<File>,
    /// What the command cannot do itself.
    pub(super) notes: Vec<String>,
}

#[derive(Debug)]
pub(super) struct File {
    /// Below the engine's folder.
    pub(super) name: String,
    pub(super) content: Content,
    /// Only its owner may read it.
    pub(super) private: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    Whole(String),
    /// `registry-mirrors` of a daemon.json, whose other keys stay.
    DockerMirrors(Vec<String>),
}

impl Content {
    /// As it is where nothing was before.
    pub(super) fn alone(&self) -> String {
        match self {
            Self::Whole(text) => text.clone(),
            Self::DockerMirrors(mirrors) => docker::render(serde_json::Map::new(), mirrors),
        }
    }
}

/// A host with an optional port. It becomes the name of a folder.
pub(super) fn host(text: &str) -> Result<&str, CliError> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-:[]".contains(&c);
    let begins = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'[');
    if begins && text.len() <= 261 && text.bytes().all(plain) {
        Ok(text)
    } else {
        Err(CliError::Usage(format!("'{text}' is not a registry's host")))
    }
}

/// The header that `file` holds, or the one for its `USER:PASSWORD`.
pub(super) fn authorization(file: &Path) -> Result<Secret, CliError> {
    let read = fs::read_to_string(file).map_err(|source| CliError::ReadFile { path: file.to_owned(), source })?;
    let line = read.trim();
    let printable = !line.is_empty() && line.bytes().all(|c| (b' '..=b'~').contains(&c));
    let value = match line.split_once(' ') {
        _ if !printable => None,
        Some((scheme, _)) if ["basic", "bearer"].contains(&scheme.to_ascii_lowercase().as_str()) => {
            Some(line.to_owned())
        }
        None if line.contains(':') => Some(format!("Basic {}", BASE64_STANDARD.encode(line))),
        _ => None,
    };
    let wrong = || {
        let text = format!("{} holds neither USER:PASSWORD nor an Authorization header", file.display());
        CliError::Usage(text)
    };
    value.map(Secret::from).ok_or_else(wrong)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn wish(endpoints: &[&str]) -> Wish {
        Wish {
            endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
            registries: Vec::new(),
            fail_closed: false,
            ca: None,
            authorization: None,
            prints: false,
        }
    }

    #[test]
    fn hosts_are_no_paths() {
        for good in ["docker.io", "registry.example:5000", "[::1]:5000", "10.0.0.1"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in ["", "..", ".", "a/b", "../x", "-x", "a b", "_default", "a\u{0}b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_authorization_file_holds_a_login_or_a_header() {
        let folder = super::super::write::tests::Folder::new("authorization");
        let read = |text: &str| {
            let file = folder.path("a");
            fs::write(&file, text).unwrap();
            authorization(&file).ok().and_then(|secret| secret.expose_str().map(str::to_owned))
        };
        assert_eq!(read("AWS:token\n").as_deref(), Some("Basic QVdTOnRva2Vu"));
        assert_eq!(read("Bearer abc").as_deref(), Some("Bearer abc"));
        for bad in ["", "word", "Digest x", "a:b\nc:d"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
