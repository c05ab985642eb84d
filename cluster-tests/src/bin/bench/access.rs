use std::{collections::BTreeMap, path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use cluster_tests::{Image, Upstream, aws::Aws};

use crate::{
    Effort, load,
    machine::cpu_seconds,
    servers::in_front_of,
    table::{Bound, Row, Table, median},
};

const CONNECTIONS: usize = 64;

const REPOSITORY: &str = "docker-hub/library/app";

/// What is compared with: whom nobody has to recognise.
const NOBODY: &str = "no credentials";

/// Sign-in may cost a tenth.
const LEAST: f64 = 0.9;
const MOST: f64 = 1.1;

/// HEAD of a held manifest by its tag, by callers who say in different ways who they are, in turn.
pub fn heads(flotilla: &Path, effort: Effort, table: &mut Table) {
    let (hub, image) = (Upstream::start(), Image::oci(1, &[1000]));
    hub.put("library/app", "v1", &image);
    let flotilla = in_front_of(flotilla, &hub.url());
    let path = &format!("/v2/{REPOSITORY}/manifests/v1");
    assert_eq!(flotilla.client().get(path).status, 200, "it is held from here on");
    let callers = callers(&flotilla);
    for (name, authorization) in &callers {
        let client = flotilla.client();
        let client = authorization.iter().fold(client, |client, value| client.with("Authorization", value));
        assert_eq!(client.get(path).status, 200, "{name}");
    }
    let (mut rates, mut costs) = (BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    for _ in 0..effort.rounds {
        for (name, authorization) in &callers {
            let before = cpu_seconds(flotilla.pid());
            let duration = Duration::from_secs(effort.manifest_seconds);
            let address = flotilla.client().address();
            let rate = load::requests(address, "HEAD", path, authorization.as_deref(), CONNECTIONS, duration);
            let requests = rate.per_second * duration.as_secs_f64();
            costs.entry(*name).or_default().push((cpu_seconds(flotilla.pid()) - before) / requests * 1e6);
            rates.entry(*name).or_default().push(rate.per_second);
        }
    }
    let title = |what| format!("manifest HEAD by tag, {CONNECTIONS} connections: {what}");
    let mut row = Row::new(title("rate"), "requests/s");
    let mut cost = Row::new(title("processor time of the server"), "µs/request");
    for (name, _) in &callers {
        row.figure(name, median(&rates[name]), 0, String::new());
        cost.figure(name, median(&costs[name]), 2, String::new());
        if *name != NOBODY {
            row.hold(name, NOBODY, Bound::Least(LEAST));
            cost.hold(name, NOBODY, Bound::Most(MOST));
        }
    }
    table.add(row);
    table.add(cost);
    table.note(
        "The ratios are in the order of the callers, to one without credentials, whom anonymous pull admits."
            .to_owned(),
    );
}

/// Value of `Authorization` by how a caller signs in.
fn callers(flotilla: &cluster_tests::Flotilla) -> Vec<(&'static str, Option<String>)> {
    let basic = |user: &str, password: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    let root = Aws::root(flotilla);
    let key = basic(&root.access_key_id, &root.secret);
    let login = basic("AWS", flotilla.run(&["login-password"]).trim());
    let realm = format!("/v2/token?service=flotilla&scope=repository:{REPOSITORY}:pull");
    let token = flotilla.client().with("Authorization", &key).get(&realm).json();
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    vec![
        (NOBODY, None),
        ("Basic, access key", Some(key)),
        ("Basic, login token", Some(login)),
        ("Bearer token", Some(bearer)),
    ]
}
