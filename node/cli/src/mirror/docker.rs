//! docker: `registry-mirrors` in daemon.json. Docker Hub only, and never instead of it.

use serde_json::{Map, Value};

use super::plan::{Content, File, Plan, Wish};
use crate::error::CliError;

pub(super) const FILE: &str = "daemon.json";
const KEY: &str = "registry-mirrors";

pub(super) fn plan(wish: &Wish) -> Result<Plan, CliError> {
    if wish.fail_closed {
        let text = "docker asks Docker Hub itself when its mirrors fail, whatever is configured: --fail-closed cannot be \
                    kept (block registry-1.docker.io in the network, or use containerd)";
        return Err(CliError::Usage(text.into()));
    }
    if let Some(other) = wish.registries.iter().find(|registry| *registry != "docker.io") {
        return Err(CliError::Usage(format!("docker has mirrors for docker.io only, not for '{other}'")));
    }
    let mirrors: Vec<String> = wish.endpoints.iter().map(ToString::to_string).collect();
    let mut notes = vec![
        "the endpoint must be the node's mirror listener ([mirror] listen or hosts); docker restarts with `systemctl \
         reload docker`"
            .to_owned(),
    ];
    if let Some(ca) = wish.ca() {
        let hosts: Vec<&str> = wish.endpoints.iter().map(crate::Endpoint::authority).collect();
        notes.push(format!("docker reads {ca} as /etc/docker/certs.d/HOST/ca.crt: copy it for {}", hosts.join(", ")));
    }
    if wish.authorization.is_some() {
        notes
            .push("docker sends no Authorization of its own choice to mirrors: allow anonymous pulls there".to_owned());
    }
    let file = File { name: FILE.to_owned(), content: Content::DockerMirrors(mirrors), private: false };
    Ok(Plan { files: vec![file], notes })
}

/// `existing` with our mirrors first. `before` is what was there before we first wrote: its own mirrors stay behind ours,
/// those that an earlier run of this command has put there do not.
pub(super) fn merge(
    existing: Option<&str>,
    before: Option<&str>,
    mirrors: &[String],
) -> Result<String, serde_json::Error> {
    let merged = parse(existing)?;
    let others = match before {
        Some(before) => mirrors_of(&parse(Some(before))?),
        None => mirrors_of(&merged),
    };
    let bare = |url: &str| url.trim_end_matches('/').to_owned();
    let mut all = mirrors.to_vec();
    all.extend(others.into_iter().filter(|other| !mirrors.iter().any(|ours| bare(ours) == bare(other))));
    Ok(render(merged, &all))
}

/// `existing` with the mirrors that were there before us; `None` when nothing is left that was not there before.
pub(super) fn unmerge(existing: &str, before: &str) -> Result<Option<String>, serde_json::Error> {
    let (mut existing, mut original) = (parse(Some(existing))?, parse(Some(before))?);
    existing.remove(KEY);
    let mirrors = original.remove(KEY);
    if existing == original {
        return Ok(None);
    }
    if let Some(mirrors) = mirrors {
        existing.insert(KEY.to_owned(), mirrors);
    }
    Ok(Some(pretty(existing)))
}

pub(super) fn render(mut daemon: Map<String, Value>, mirrors: &[String]) -> String {
    daemon.insert(KEY.to_owned(), Value::from(mirrors.to_vec()));
    pretty(daemon)
}

fn pretty(daemon: Map<String, Value>) -> String {
    format!("{:#}\n", Value::Object(daemon))
}

fn parse(text: Option<&str>) -> Result<Map<String, Value>, serde_json::Error> {
    match text.map(str::trim) {
        // dockerd starts with an empty file, too.
        None | Some("") => Ok(Map::new()),
        Some(text) => serde_json::from_str(text),
    }
}

fn mirrors_of(daemon: &Map<String, Value>) -> Vec<String> {
    let mirrors = daemon.get(KEY).and_then(Value::as_array).into_iter().flatten();
    mirrors.filter_map(|mirror| mirror.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::plan::tests::wish, *};

    #[test]
    fn other_keys_and_other_mirrors_stay_and_ours_come_first() {
        let before = r#"{"log-driver": "json-file", "registry-mirrors": ["https://old.example", "http://a:5001/"]}"#;
        let ours = ["http://a:5001".to_owned(), "http://b:5001".to_owned()];
        let merged = merge(Some(before), None, &ours).unwrap();
        let read: Value = serde_json::from_str(&merged).unwrap();
        assert_eq!(read["log-driver"], "json-file");
        assert_eq!(
            read["registry-mirrors"],
            serde_json::json!(["http://a:5001", "http://b:5001", "https://old.example"])
        );
        assert_eq!(merge(Some(&merged), Some(before), &ours).unwrap(), merged, "once more changes nothing");
        let moved = merge(Some(&merged), Some(before), &ours[1..]).unwrap();
        assert!(!moved.contains("\"http://a:5001\""), "a node that is gone goes: {moved}");
        assert_eq!(unmerge(&merged, before).unwrap(), None);
        assert_eq!(
            merge(None, None, &ours[..1]).unwrap(),
            "{\n  \"registry-mirrors\": [\n    \"http://a:5001\"\n  ]\n}\n"
        );
        assert!(merge(Some("{ not json"), None, &ours).is_err());
        assert!(merge(Some("[]"), None, &ours).is_err());
    }

    #[test]
    fn keys_of_a_later_day_survive_the_removal() {
        let ours = ["http://a:5001".to_owned()];
        let merged = merge(None, None, &ours).unwrap();
        let edited = merged.replacen('{', "{\"debug\": true,", 1);
        assert_eq!(unmerge(&edited, "").unwrap().unwrap(), "{\n  \"debug\": true\n}\n");
        let had = r#"{"registry-mirrors": ["https://old.example"]}"#;
        assert!(unmerge(&edited, had).unwrap().unwrap().contains("old.example"));
    }

    #[test]
    fn what_docker_cannot_do_is_not_promised() {
        assert!(plan(&Wish { fail_closed: true, ..wish(&["http://a:5001"]) }).is_err());
        assert!(plan(&Wish { registries: vec!["quay.io".into()], ..wish(&["http://a:5001"]) }).is_err());
    }
}
