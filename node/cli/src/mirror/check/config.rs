//! What containerd reads: its config_path, and the hosts.toml of a registry there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use flotilla_base::Secret;
use toml::{Table, Value};

use crate::transport::Endpoint;

/// Where the CRI plugin keeps its registries: up to version 1.7, and from 2.0 on.
const PLUGINS: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"];

/// A node, and how containerd speaks to it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) authorization: Option<Secret>,
}

/// `config_path` of a configuration, or of a file that it imports by its name.
pub(super) fn config_path(file: &Path) -> Result<String, String> {
    let config = read(file)?;
    if let Some(found) = in_config(&config) {
        return Ok(found);
    }
    let imports = config.get("imports").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for import in imports {
        let import = file.parent().unwrap_or(Path::new("/")).join(import);
        if let Some(found) = read(&import).ok().as_ref().and_then(in_config) {
            return Ok(found);
        }
    }
    let version = config.get("version").and_then(Value::as_integer).unwrap_or(1);
    let plugin = PLUGINS[usize::from(version >= 3)];
    Err(format!(
        "config_path is not set, so that no hosts.toml is read: add [plugins.\"{plugin}\".registry] with config_path = \
         \"/etc/containerd/certs.d\" and restart containerd"
    ))
}

fn in_config(config: &Table) -> Option<String> {
    let plugins = config.get("plugins")?;
    let path = |plugin: &&str| plugins.get(*plugin)?.get("registry")?.get("config_path")?.as_str();
    PLUGINS.iter().filter_map(path).find(|path| !path.is_empty()).map(str::to_owned)
}

/// The hosts.toml that containerd takes for `host`, and the nodes it names, in order.
pub(super) fn targets(folders: &[PathBuf], host: &str) -> Result<(PathBuf, Vec<Target>), String> {
    let names = [host.to_owned(), host.replace(':', "_") + "_", "_default".to_owned()];
    let candidates =
        folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name).join("hosts.toml")));
    let Some(file) = candidates.into_iter().find(|file| file.is_file()) else {
        let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let text = "neither _default/hosts.toml nor";
        return Err(format!(
            "{}: {text} {host}/hosts.toml is there: `flotilla mirror containerd --write` makes it",
            folders.join(":")
        ));
    };
    let hosts = read(&file)?;
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let tables = hosts.get("host").and_then(Value::as_table).into_iter().flatten();
    let mut targets: Vec<Target> = tables.filter_map(|(url, table)| target(url, table.as_table(), &folder)).collect();
    // Closed, the last node is the server. The registry itself is no node; it has no capabilities written there.
    if let Some(url) = hosts.get("server").and_then(Value::as_str).filter(|_| hosts.contains_key("capabilities")) {
        targets.extend(target(url, Some(&hosts), &folder));
    }
    if targets.is_empty() {
        return Err(format!("{} names no host", file.display()));
    }
    Ok((file, targets))
}

fn target(url: &str, table: Option<&Table>, folder: &Path) -> Option<Target> {
    let endpoint = url.parse().ok()?;
    let ca = table.and_then(|table| match table.get("ca")? {
        Value::Array(files) => files.first()?.as_str(),
        file => file.as_str(),
    });
    let header = table.and_then(|table| {
        let header = table.get("header")?.as_table()?;
        let (_, value) = header.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?;
        match value {
            Value::Array(values) => values.first()?.as_str(),
            value => value.as_str(),
        }
    });
    Some(Target {
        endpoint,
        ca_file: ca.map(|file| folder.join(file)),
        authorization: header.map(|value| Secret::from(value.to_owned())),
    })
}

fn read(file: &Path) -> Result<Table, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    // The place and the kind of a mistake, not the line: it may hold a header.
    toml::from_str(&text).map_err(|error| format!("{} is not TOML: {}", file.display(), error.message()))
}

#[cfg(test)]
mod tests {
    use super::{super::super::write::tests::Folder, *};

    #[test]
    fn both_generations_of_containerd_are_read() {
        let folder = Folder::new("config");
        let file = folder.path("config.toml");
        let path = |text: &str| {
            fs::write(&file, text).unwrap();
            config_path(&file)
        };
        for plugin in PLUGINS {
            let text = format!(
                "[plugins.\"{plugin}\".registry]\nconfig_path = \"/etc/containerd/certs.d:/etc/docker/certs.d\""
            );
            assert_eq!(path(&text).unwrap(), "/etc/containerd/certs.d:/etc/docker/certs.d");
        }
        fs::write(folder.path("more.toml"), "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/x\"")
            .unwrap();
        assert_eq!(path("imports = [\"more.toml\"]").unwrap(), "/x");
        let missing =
            path("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"\"").unwrap_err();
        assert!(missing.contains("io.containerd.grpc.v1.cri"), "{missing}");
        assert!(path("version = 3").unwrap_err().contains("io.containerd.cri.v1.images"));
        assert!(path("no toml = [").unwrap_err().contains("not TOML"));
    }

    #[test]
    fn the_registrys_own_file_comes_before_the_default() {
        let folder = Folder::new("targets");
        let put = |name: &str, text: &str| {
            fs::create_dir_all(folder.path(name)).unwrap();
            fs::write(folder.path(name).join("hosts.toml"), text).unwrap();
        };
        let folders = [folder.path("")];
        assert!(targets(&folders, "quay.io").unwrap_err().contains("_default/hosts.toml"));
        put(
            "_default",
            "server = \"https://b\"\ncapabilities = [\"pull\"]\n[host.\"http://a:5000\"]\nca = \"x.pem\"\n[host.\"http://a:5000\".header]\nAuthorization = \"Basic eA==\"",
        );
        put("docker.io", "server = \"https://registry-1.docker.io\"\n[host.\"http://c:5000\"]");
        let (file, found) = targets(&folders, "quay.io").unwrap();
        assert!(file.ends_with("_default/hosts.toml"));
        let named: Vec<String> = found.iter().map(|target| target.endpoint.to_string()).collect();
        assert_eq!(named, ["http://a:5000", "https://b"]);
        assert_eq!(found[0].ca_file.as_deref(), Some(folder.path("_default/x.pem").as_path()));
        assert_eq!(found[0].authorization.as_ref().unwrap().expose(), b"Basic eA==");
        let (_, found) = targets(&folders, "docker.io").unwrap();
        assert_eq!((found.len(), found[0].endpoint.authority()), (1, "c:5000"));
    }
}
