//! k3s and RKE2: `registries.yaml`, from which they write containerd's hosts.toml at their start.

use super::plan::{Content, File, MARK, Plan, Wish, host};
use crate::error::CliError;

pub(super) const FILE: &str = "registries.yaml";
/// Every registry.
const ALL: &str = "*";

pub(super) fn plan(wish: &Wish) -> Result<Plan, CliError> {
    let registries = match wish.registries.as_slice() {
        [] => vec![ALL],
        registries => registries.iter().map(|registry| host(registry)).collect::<Result<_, _>>()?,
    };
    let mut text = format!("{MARK}mirrors:\n");
    for registry in registries {
        text.push_str(&format!("  {}:\n    endpoint:\n", quoted(registry)));
        for endpoint in &wish.endpoints {
            text.push_str(&format!("      - {}\n", quoted(&endpoint.to_string())));
        }
    }
    let basic = wish.authorization.as_ref().and_then(|value| basic(value.expose_str()?));
    if wish.authorization.is_some() && basic.is_none() {
        return Err(CliError::Usage("k3s signs in with USER:PASSWORD (Basic) only".into()));
    }
    if basic.is_some() || wish.ca.is_some() {
        text.push_str("configs:\n");
        for endpoint in &wish.endpoints {
            text.push_str(&format!("  {}:\n", quoted(endpoint.authority())));
            if let Some(login) = basic {
                let shown = if wish.prints { "<from the authorization file; --write puts it in>" } else { login };
                text.push_str(&format!("    auth:\n      auth: {}\n", quoted(shown)));
            }
            if let Some(ca) = wish.ca() {
                text.push_str(&format!("    tls:\n      ca_file: {}\n", quoted(&ca)));
            }
        }
    }
    let mut notes = vec!["k3s reads it when it starts: `systemctl restart k3s` (or k3s-agent)".to_owned()];
    if wish.fail_closed {
        let text = "start k3s with --disable-default-registry-endpoint as well, on every node: without it k3s asks the \
                    registry itself when no mirror answers";
        notes.push(text.to_owned());
    }
    let private = wish.authorization.is_some();
    Ok(Plan { files: vec![File { name: FILE.to_owned(), content: Content::Whole(text), private }], notes })
}

fn basic(header: &str) -> Option<&str> {
    let (scheme, value) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| value.trim())
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::{super::plan::tests::wish, *};

    #[test]
    fn every_registry_has_every_node_in_order() {
        let text = plan(&wish(&["http://a:5000", "http://b:5000"])).unwrap().files[0].content.alone();
        assert_eq!(
            text.strip_prefix(MARK).unwrap(),
            "mirrors:\n  \"*\":\n    endpoint:\n      - \"http://a:5000\"\n      - \"http://b:5000\"\n"
        );
    }

    #[test]
    fn logins_and_authorities_belong_to_nodes() {
        let secret = |text: &str| Some(flotilla_base::Secret::from(text.to_owned()));
        let wish = Wish {
            registries: vec!["docker.io".into()],
            ca: Some("/ca.pem".into()),
            authorization: secret("Basic eA=="),
            fail_closed: true,
            ..wish(&["https://a:5000"])
        };
        let plan = plan(&wish).unwrap();
        assert_eq!(
            plan.files[0].content.alone().strip_prefix(MARK).unwrap(),
            "mirrors:\n  \"docker.io\":\n    endpoint:\n      - \"https://a:5000\"\nconfigs:\n  \"a:5000\":\n    \
             auth:\n      auth: \"eA==\"\n    tls:\n      ca_file: \"/ca.pem\"\n"
        );
        assert!(plan.files[0].private && plan.notes.iter().any(|note| note.contains("--disable-default")));
        assert!(super::plan(&Wish { authorization: secret("Bearer x"), ..wish }).is_err());
    }
}
