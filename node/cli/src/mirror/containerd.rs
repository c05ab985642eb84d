//! containerd (and nerdctl, and Kubernetes on it): `certs.d/HOST/hosts.toml`, or one `_default` for every registry.

use super::plan::{Content, File, MARK, Plan, Wish, host};
use crate::{error::CliError, transport::Endpoint};

pub(super) const FILE: &str = "hosts.toml";
const DEFAULT: &str = "_default";

pub(super) fn plan(wish: &Wish) -> Result<Plan, CliError> {
    let folders = match wish.registries.as_slice() {
        [] => vec![DEFAULT],
        registries => registries.iter().map(|registry| host(registry)).collect::<Result<_, _>>()?,
    };
    let files = folders
        .into_iter()
        .map(|folder| File {
            name: format!("{folder}/{FILE}"),
            content: Content::Whole(hosts(wish, folder)),
            private: wish.authorization.is_some(),
        })
        .collect();
    let notes = vec![
        "containerd reads these files for every pull, without a restart, once its config_path names the folder: \
         `flotilla mirror check`"
            .to_owned(),
    ];
    Ok(Plan { files, notes })
}

fn hosts(wish: &Wish, folder: &str) -> String {
    let mut text = MARK.to_owned();
    // `server` is whom containerd asks last. Without one that is the registry itself.
    let (hosts, server) = match wish.endpoints.split_last() {
        Some((last, others)) if wish.fail_closed => (others, Some(last)),
        _ => (wish.endpoints.as_slice(), None),
    };
    match server {
        Some(server) => {
            text.push_str(&format!("server = {}\n{}", quoted(&server.to_string()), settings(wish, server, "")));
            text.push_str(&header(wish, "header", ""));
        }
        None if folder == DEFAULT => {}
        None => text.push_str(&format!("server = {}\n", quoted(&registry(folder)))),
    }
    for endpoint in hosts {
        let table = format!("host.{}", quoted(&endpoint.to_string()));
        text.push_str(&format!("\n[{table}]\n{}", settings(wish, endpoint, "  ")));
        text.push_str(&header(wish, &format!("{table}.header"), "  "));
    }
    text
}

/// No push: what is pushed belongs to the registry itself.
fn settings(wish: &Wish, endpoint: &Endpoint, indent: &str) -> String {
    let mut text = format!("{indent}capabilities = [\"pull\", \"resolve\"]\n");
    if let Some(ca) = wish.ca().filter(|_| endpoint.is_tls()) {
        text.push_str(&format!("{indent}ca = {}\n", quoted(&ca)));
    }
    text
}

fn header(wish: &Wish, table: &str, indent: &str) -> String {
    let line = |value| format!("{indent}[{table}]\n{indent}  authorization = {}\n", quoted(value));
    wish.authorization().map(line).unwrap_or_default()
}

/// Where Docker Hub's API is, and every other registry's own.
fn registry(host: &str) -> String {
    format!("https://{}", if host == "docker.io" { "registry-1.docker.io" } else { host })
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::{super::plan::tests::wish, *};

    fn text(wish: &Wish) -> Vec<(String, String)> {
        let plan = plan(wish).unwrap();
        plan.files.into_iter().map(|file| (file.name.clone(), file.content.alone())).collect()
    }

    fn after_mark(text: &str) -> &str {
        text.strip_prefix(MARK).unwrap()
    }

    #[test]
    fn the_default_names_every_node_in_order_and_falls_back() {
        let files = text(&wish(&["http://a:5000", "https://b:5000"]));
        assert_eq!(files[0].0, "_default/hosts.toml");
        assert_eq!(
            after_mark(&files[0].1),
            "\n[host.\"http://a:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n\
             \n[host.\"https://b:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
    }

    #[test]
    fn a_registry_of_its_own_has_its_server() {
        let registries = vec!["docker.io".to_owned(), "quay.io".to_owned()];
        let files = text(&Wish { registries, ..wish(&["http://a:5000"]) });
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["docker.io/hosts.toml", "quay.io/hosts.toml"]);
        assert!(after_mark(&files[0].1).starts_with("server = \"https://registry-1.docker.io\"\n"));
        assert!(after_mark(&files[1].1).starts_with("server = \"https://quay.io\"\n"));
        assert!(plan(&Wish { registries: vec!["../x".into()], ..wish(&["http://a:5000"]) }).is_err());
    }

    #[test]
    fn closed_the_last_node_stands_in_for_the_registry() {
        let secret = flotilla_base::Secret::from("Basic eA==".to_owned());
        let wish = Wish {
            fail_closed: true,
            ca: Some("/ca.pem".into()),
            authorization: Some(secret),
            ..wish(&["http://a:5000", "https://b:5000"])
        };
        let files = text(&wish);
        assert_eq!(
            after_mark(&files[0].1),
            "server = \"https://b:5000\"\ncapabilities = [\"pull\", \"resolve\"]\nca = \"/ca.pem\"\n\
             [header]\n  authorization = \"Basic eA==\"\n\
             \n[host.\"http://a:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n  \
             [host.\"http://a:5000\".header]\n    authorization = \"Basic eA==\"\n"
        );
        toml::from_str::<toml::Table>(&files[0].1).unwrap();
        assert!(plan(&wish).unwrap().files[0].private);
        let printed = text(&Wish { prints: true, ..wish });
        assert!(!printed[0].1.contains("eA=="), "a secret goes into a file, not to a terminal");
    }
}
