//! `flotilla explain`: each step of a pull, without doing it; the exit code names the first that fails.

use cluster_tests::{Flotilla, Image, aws::Aws, wait_for};
use serde_json::{Value, json};

use crate::common::{APP, SOON, client, pull, with_image};

/// The exit code, and what is printed as JSON.
fn explain(flotilla: &Flotilla, arguments: &[&str]) -> (i32, Value) {
    let output = flotilla.command(&[&["explain", "--json"], arguments].concat()).output().unwrap();
    let explained = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), explained)
}

fn step<'a>(explained: &'a Value, name: &str) -> &'a Value {
    let steps = explained["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no {name} in {explained:#}"))
}

#[test]
fn a_pull_is_explained_before_and_after_it_and_nobody_is_asked() {
    let image = Image::oci(110, &[1000, 2000]);
    let (hub, flotilla) = with_image(&image);
    let reference = format!("{}/{APP}:latest", flotilla.host());
    let (code, before) = explain(&flotilla, &[&reference]);
    assert_eq!((code, &before["failedStep"]), (0, &Value::Null), "{before:#}");
    assert_eq!(before["repositoryName"], APP);
    assert!(step(&before, "RULE")["text"].as_str().unwrap().contains("'library/app' from registry-1.docker.io"));
    assert_eq!(step(&before, "UPSTREAM")["outcome"], "SKIPPED");
    assert_eq!(hub.requests().len(), 0, "explaining asked upstream");

    let (_, live) = explain(&flotilla, &[&reference, "--live"]);
    assert!(step(&live, "UPSTREAM")["text"].as_str().unwrap().contains(image.digest()), "{live:#}");
    let made = Aws::root(&flotilla).ecr("DescribeRepositories", &json!({}));
    assert_eq!(made["repositories"], json!([]), "explaining made a repository");

    pull(&client(&flotilla), APP, "latest", &image);
    let mut after = Value::Null;
    wait_for("the blobs to be sealed", SOON, || {
        let (code, explained) = explain(&flotilla, &[&reference]);
        assert_eq!(code, 0, "{explained:#}");
        after = explained;
        after["blobs"].as_array().unwrap().iter().all(|blob| blob["state"] != "GROWING")
    });
    assert!(step(&after, "TAG")["text"].as_str().unwrap().contains("held and fresh"), "{after:#}");
    let states: Vec<_> = after["blobs"].as_array().unwrap().iter().map(|blob| blob["state"].clone()).collect();
    assert_eq!(states, vec![json!("HELD"); image.blobs.len()]);
    let text = flotilla.run(&["explain", &reference]);
    assert!(text.contains("decision  ok") && text.contains("here"), "{text}");
}

#[test]
fn the_exit_code_names_the_first_step_that_fails() {
    let image = Image::oci(111, &[1000]);
    let (mut hub, flotilla) = with_image(&image);
    let failing = |arguments: &[&str]| {
        let (code, explained) = explain(&flotilla, arguments);
        (code, explained["failedStep"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(failing(&["library/app", "--ns", "unknown.example"]), (11, "MAPPING".to_owned()));
    assert_eq!(failing(&["library/app", "--ns", "docker.io"]), (0, String::new()));
    assert_eq!(failing(&["nobody/covers/this"]), (13, "TEMPLATE".to_owned()));
    assert_eq!(failing(&[APP, "--as", "no-such-robot"]), (14, "DECISION".to_owned()));
    assert_eq!(failing(&[APP, "--as", "anonymous"]), (0, String::new()));
    Aws::root(&flotilla).ecr("CreateRepository", &json!({"repositoryName": "mine"}));
    assert_eq!(failing(&["mine:v1"]), (15, "TAG".to_owned()));
    assert_eq!(failing(&["docker-hub/library/absent", "--live"]), (16, "UPSTREAM".to_owned()));
    let (_, absent) = explain(&flotilla, &["docker-hub/library/absent", "--live"]);
    assert!(step(&absent, "UPSTREAM")["hint"].as_str().unwrap().contains("the name and the tag"), "{absent:#}");
    hub.off();
    assert_eq!(failing(&[APP, "--live"]), (16, "UPSTREAM".to_owned()));
    assert_eq!(failing(&["nginx", "--mirror"]), (10, "LISTENER".to_owned()));
    let said = flotilla.command(&["explain", "mine:v1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("'tag'"), "{said:?}");
}

/// What the door of the registry would decide, and why: the explanation is root's alone.
#[test]
fn a_denial_is_explained_and_what_is_allowed_is_not_called_denied() {
    let image = Image::oci(112, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    let robot = |name: &str, more: &[&str]| {
        flotilla.run(&[&["key", "create", "--pull-only", "--name", name], more].concat());
    };
    robot("all", &[]);
    robot("some", &["--repositories", "own/*"]);
    for (who, wanted) in [
        (&["all"][..], None),
        (&["anonymous"], None),
        (&["some"], Some("the repository is none of the principal's")),
        (&["nobody"], Some("no such principal")),
        (&["anonymous", "--from", "203.0.113.9"], Some("anonymous callers are not served here")),
    ] {
        // Nothing is held at first: a pull would have to import it.
        let (code, explained) = explain(&flotilla, &[&[APP, "--as"], who].concat());
        let step = step(&explained, "DECISION");
        let (text, hint) = (step["text"].as_str().unwrap(), step["hint"].as_str());
        match wanted {
            None => assert_eq!((code, step["outcome"].as_str()), (0, Some("OK")), "{who:?}: {step:#}"),
            Some(wanted) => {
                assert_eq!((code, step["outcome"].as_str()), (14, Some("FAILED")), "{who:?}: {step:#}");
                assert!(text.contains(wanted) && hint.is_some(), "{who:?}: {step:#}");
            }
        }
    }
    pull(&client(&flotilla), APP, "latest", &image);
}
