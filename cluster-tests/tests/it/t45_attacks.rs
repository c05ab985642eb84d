//! Attacks from end to end, with a real secret and an upstream that wants it: by callers without credentials, by a robot
//! that may pull something else, by an upstream's author, and by whoever writes headers and tokens. `docs/security.md`
//! lists them.

use base64::{Engine, prelude::BASE64_STANDARD};
use cluster_tests::{
    Client, Content, Flotilla, Image, Upstream,
    aws::{Aws, AwsError},
    http::Response,
    image::{ACCEPT_ALL, OCI_INDEX, OCI_MANIFEST},
    upstream::{Auth, Fault, On, Times},
    wait_for,
};
use serde_json::{Value, json};

use crate::{
    common::{APP, DOCKER_HUB, SOON, before, blob_path, client, create_rule, manifest_path, pull, with_image},
    t10_robots::Robot,
    t10_secrets::nowhere,
    t30_credentials::signed_in,
};

const PASSWORD: &str = "pW8-of-the-upstream-account-51";
const SECRET: &str = "ecr-pullthroughcache/hub";
const LAYER_BYTES: u64 = 200_000;

/// A hub that wants a password, and a server that has it for the rule `docker-hub`, which is Docker Hub's mirror, too.
struct Sealed {
    hub: Upstream,
    flotilla: Flotilla,
    aws: Aws,
    image: Image,
}

impl Sealed {
    fn start(seed: u64, auth: Auth) -> Self {
        Self::of(Image::oci(seed, &[LAYER_BYTES]), auth)
    }

    fn of(image: Image, auth: Auth) -> Self {
        let hub = Upstream::with_auth(auth);
        hub.put("library/app", "latest", &image);
        let flotilla = before(&hub).arg("--no-default-rules").arg("--mirror-port").arg("0").start();
        let aws = Aws::root(&flotilla);
        let value = json!({"username": "robot", "accessToken": PASSWORD}).to_string();
        let secret = aws.secrets("CreateSecret", &json!({"Name": SECRET, "SecretString": value}));
        let sealed = Self { hub, flotilla, aws, image };
        sealed.put_rule(Some(&secret["ARN"]));
        sealed
    }

    fn put_rule(&self, credential: Option<&Value>) {
        let mut rule = json!({"ecrRepositoryPrefix": "docker-hub", "upstreamRegistryUrl": DOCKER_HUB});
        if let Some(arn) = credential {
            rule["credentialArn"] = arn.clone();
        }
        self.aws.ecr("CreatePullThroughCacheRule", &rule);
        self.flotilla.run(&["rule", "set", "docker-hub", "--mirror"]);
    }

    fn drop_rule(&self) {
        self.aws.ecr("DeletePullThroughCacheRule", &json!({"ecrRepositoryPrefix": "docker-hub"}));
    }

    /// Pulls all of it as root until nothing of it is asked for any more.
    fn hold(&self) {
        let root = signed_in(&self.flotilla);
        wait_for("all of the image to be linked", SOON, || {
            self.hub.forget_requests();
            pull(&root, APP, "latest", &self.image);
            self.hub.requests().is_empty()
        });
    }

    fn nobody(&self) -> Client {
        client(&self.flotilla)
    }

    /// With the token that anybody is given.
    fn anonymous_token(&self) -> Client {
        let scope = format!("/v2/token?service=x&scope=repository:{APP}:pull&scope=registry:catalog:*");
        let token = self.nobody().get(&scope).json();
        self.nobody().with("Authorization", &format!("Bearer {}", token["token"].as_str().unwrap()))
    }

    fn mirror(&self) -> Client {
        let line = self.flotilla.log().into_iter().find_map(|line| Some(line.strip_prefix("mirror ")?.to_owned()));
        Client::new(&line.expect("a mirror listener")).with("Accept", ACCEPT_ALL)
    }

    /// Every way to ask for the image, or for whether it is there: with the client that asks and the headers.
    fn ways(&self, asker: &Client, mirror: &Client) -> Vec<Way> {
        let (digest, blobs) = (self.image.digest(), &self.image.blobs);
        let tag = format!("\"{digest}\"");
        let mut ways = Vec::new();
        for (client, name, ns) in [(asker, APP, ""), (asker, "app", "?ns=docker.io"), (mirror, "app", "")] {
            for method in ["GET", "HEAD"] {
                for reference in ["latest", digest] {
                    let path = manifest_path(name, reference) + ns;
                    ways.push((client.clone(), method, path.clone(), vec![]));
                    ways.push((client.clone(), method, path, vec![("If-None-Match", tag.clone())]));
                }
                for blob in blobs {
                    let path = blob_path(name, blob) + ns;
                    ways.push((client.clone(), method, path.clone(), vec![]));
                    ways.push((client.clone(), method, path.clone(), vec![("Range", "bytes=0-9".to_owned())]));
                    ways.push((client.clone(), method, path.clone(), vec![("Range", "bytes=0-1,5-9".to_owned())]));
                    ways.push((client.clone(), method, path, vec![("If-None-Match", "*".to_owned())]));
                }
                ways.push((client.clone(), method, format!("/v2/{name}/tags/list{ns}"), vec![]));
                ways.push((client.clone(), method, format!("/v2/{name}/referrers/{digest}{ns}"), vec![]));
            }
        }
        ways
    }

    #[track_caller]
    fn shut_to(&self, asker: &Client, mirror: &Client, status: u16) {
        self.hub.forget_requests();
        for (client, method, path, headers) in self.ways(asker, mirror) {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = client.request(method, &path, &headers, b"");
            assert_eq!(answer.status, status, "{method} {path} {headers:?}: {}", answer.text());
            assert!(!answer.text().contains(PASSWORD));
        }
        assert!(self.hub.requests().is_empty(), "upstream was asked: {:?}", self.hub.requests());
    }
}

/// Who asks, and how: method, path, headers.
type Way = (Client, &'static str, String, Vec<(&'static str, String)>);

fn basic_auth() -> Auth {
    Auth::Basic { user: "robot".into(), password: PASSWORD.into() }
}

fn repositories(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["repositories"].clone()
}

#[test]
fn a_rule_with_a_credential_is_shut_to_nobody_and_nobody_is_asked_for_him() {
    let login = Some(("robot".to_owned(), PASSWORD.to_owned()));
    for auth in [basic_auth(), Auth::Bearer { login, expires_in_seconds: 300, expired_status: 401 }] {
        let sealed = Sealed::start(4500, auth);
        let unsigned = |body: &Value| {
            let target = "AmazonEC2ContainerRegistry_V20150921.BatchGetImage";
            let headers = [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", target)];
            sealed.flotilla.client().request("POST", "/", &headers, body.to_string().as_bytes())
        };
        let ids = [json!({"imageTag": "latest"}), json!({"imageDigest": sealed.image.digest()})];
        let shut = || {
            for asker in [sealed.nobody(), sealed.anonymous_token()] {
                sealed.shut_to(&asker, &sealed.mirror(), 401);
                assert_eq!(repositories(&asker.get("/v2/_catalog")), json!([]));
            }
            let refused = unsigned(&json!({"repositoryName": APP, "imageIds": ids}));
            assert!(matches!(refused.status, 400 | 403) && !refused.text().contains("imageManifest"), "{refused:?}");
        };
        shut();
        assert_eq!(sealed.aws.ecr("DescribeRepositories", &json!({}))["repositories"], json!([]), "nothing was made");
        sealed.hold();
        shut();
        // It is the credential that shuts it: the rule may open it.
        sealed
            .aws
            .flotilla("PutCacheRuleOptions", &json!({"ecrRepositoryPrefix": "docker-hub", "anonymousAllowed": true}));
        pull(&sealed.nobody(), APP, "latest", &sealed.image);
        nowhere(&sealed.flotilla, PASSWORD);
    }
}

#[test]
fn nobody_joins_a_fill_that_somebody_has_begun() {
    let sealed = Sealed::of(Image::oci(4501, &[8 << 20]), basic_auth());
    let quay = Upstream::start();
    quay.put("mallory/app", "v1", &Image::naming(4502, &sealed.image.layers()[0]));
    let layer = sealed.image.layers()[0].clone();
    sealed.hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, Fault::Stall { after_bytes: 4 << 20 });
    let mut fill = signed_in(&sealed.flotilla).connect().unwrap();
    let basic = BASE64_STANDARD.encode(format!("{}:{}", sealed.aws.access_key_id, sealed.aws.secret));
    let authorization = [("Authorization", &*format!("Basic {basic}"))];
    assert_eq!(fill.send("GET", &blob_path(APP, &layer), &authorization, b"").unwrap().status, 200);
    assert!(fill.read_body(&mut [0; 1000]).unwrap() > 0, "the fill runs");
    sealed.shut_to(&sealed.nobody(), &sealed.mirror(), 401);
    sealed.shut_to(&sealed.anonymous_token(), &sealed.mirror(), 401);
}

#[test]
fn what_came_with_a_credential_stays_shut_whatever_becomes_of_its_rule() {
    let mut sealed = Sealed::start(4503, basic_auth());
    sealed.hold();
    // The end of a node waits for the last link.
    assert!(sealed.flotilla.terminate().success());
    sealed.flotilla.start_again();
    sealed.aws = Aws::root(&sealed.flotilla);
    let nobody = sealed.nobody();
    // Open upstream by now: only what is held here is still to be kept from anybody.
    sealed.hub.set_auth(Auth::None);
    let shut = |what: &str| {
        for (_, method, path, _) in sealed.ways(&nobody, &nobody).into_iter().filter(|way| way.2.contains(APP)) {
            let answer = nobody.request(method, &path, &[], b"");
            assert_eq!(answer.status, 401, "{what}: {method} {path}");
        }
        let listed = repositories(&nobody.get("/v2/_catalog"));
        assert!(!listed.as_array().unwrap().contains(&json!(APP)), "{what}: {listed}");
        pull(&signed_in(&sealed.flotilla), APP, "latest", &sealed.image);
    };
    sealed.drop_rule();
    shut("the rule is gone");
    sealed.put_rule(None);
    shut("another rule without a credential");
    create_rule(&sealed.aws, "docker-hub/library", DOCKER_HUB);
    shut("a longer rule");
    // Another repository of that rule is open, and so is this one when nothing is left of what came before.
    sealed.drop_rule();
    sealed.aws.ecr("DeletePullThroughCacheRule", &json!({"ecrRepositoryPrefix": "docker-hub/library"}));
    sealed.put_rule(None);
    sealed.hub.put("library/open", "latest", &sealed.image);
    pull(&nobody, "docker-hub/library/open", "latest", &sealed.image);
    shut("its neighbour is open");
    sealed.aws.ecr("DeleteRepository", &json!({"repositoryName": APP, "force": true}));
    pull(&nobody, APP, "latest", &sealed.image);
}

#[test]
fn a_robot_reaches_nothing_but_what_it_is_given() {
    let sealed = Sealed::start(4504, basic_auth());
    let robot = Robot::create(&sealed.flotilla, "ci", &["--repositories", "open/*", "docker-hub/library/ap"]);
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", robot.id, robot.secret)));
    let its = sealed.nobody().with("Authorization", &basic);
    let mirror = sealed.mirror().with("Authorization", &basic);
    let aws = Aws { access_key_id: robot.id, secret: robot.secret, ..sealed.aws.clone() };
    for held in [false, true] {
        if held {
            sealed.hold();
        }
        sealed.shut_to(&its, &mirror, 403);
        // A token for it says what it is for, not what its holder may.
        let token = its.get(&format!("/v2/token?scope=repository:{APP}:pull&scope=registry:catalog:*")).json();
        let bearer = sealed.nobody().with("Authorization", &format!("Bearer {}", token["token"].as_str().unwrap()));
        assert_eq!(bearer.get(&manifest_path(APP, "latest")).status, 403);
        for asker in [&its, &bearer] {
            assert_eq!(repositories(&asker.get("/v2/_catalog")), json!([]));
            // Not even what comes after it.
            assert_eq!(repositories(&asker.get("/v2/_catalog?n=1&last=a")), json!([]));
        }
        let arn = format!("arn:aws:ecr:us-east-1:000000000000:repository/{APP}");
        let by_digest = json!([{"imageDigest": sealed.image.digest()}]);
        let layers = json!([sealed.image.layers()[0].digest()]);
        for (operation, input) in [
            ("BatchGetImage", json!({"repositoryName": APP, "imageIds": by_digest})),
            ("BatchGetImage", json!({"repositoryName": APP, "imageIds": [{"imageTag": "latest"}]})),
            ("DescribeImages", json!({"repositoryName": APP, "imageIds": by_digest})),
            ("ListImages", json!({"repositoryName": APP})),
            ("DescribeRepositories", json!({"repositoryNames": [APP]})),
            ("ListTagsForResource", json!({"resourceArn": arn})),
            ("DescribePullThroughCacheRules", json!({})),
            ("ValidatePullThroughCacheRule", json!({"ecrRepositoryPrefix": "docker-hub"})),
            ("DescribeRepositoryCreationTemplates", json!({})),
        ] {
            assert_eq!(aws.ecr_refusal(operation, &input), "AccessDeniedException", "{operation}");
        }
        for (operation, input) in
            [("BatchCheckLayerAvailability", "layerDigests"), ("GetDownloadUrlForLayer", "layerDigest")]
        {
            let layer = if input == "layerDigest" { &layers[0] } else { &layers };
            assert!(aws.try_ecr(operation, &json!({"repositoryName": APP, input: layer})).is_err(), "{operation}");
        }
        let image = format!("{APP}:latest");
        for (operation, input) in [
            ("DescribeCacheRuleOptions", json!({})),
            ("PutCacheRuleOptions", json!({"ecrRepositoryPrefix": "docker-hub", "anonymousAllowed": true})),
            ("ExplainImage", json!({"image": image})),
            ("ExplainImage", json!({"image": image, "live": true, "principal": "root"})),
            ("CheckImageReference", json!({"name": APP})),
            ("RefreshImage", json!({"repositoryName": APP, "imageTag": "latest"})),
            ("ListRobots", json!({})),
            ("CreateAccessKey", json!({"robotName": "ci"})),
            ("CreateAccessKey", json!({})),
            ("DeleteAccessKey", json!({"accessKeyId": sealed.aws.access_key_id})),
        ] {
            let refused = aws.try_flotilla(operation, &input).unwrap_err();
            assert_eq!(refused.code(), "AccessDeniedException", "{operation}");
        }
        let value = json!({"SecretId": SECRET, "SecretString": "x"});
        for operation in [
            "GetSecretValue",
            "DescribeSecret",
            "ListSecrets",
            "PutSecretValue",
            "UpdateSecret",
            "DeleteSecret",
            "RestoreSecret",
            "GetResourcePolicy",
            "ListSecretVersionIds",
            "CreateSecret",
        ] {
            let input = match operation {
                "PutSecretValue" | "UpdateSecret" => value.clone(),
                "CreateSecret" => json!({"Name": "ecr-pullthroughcache/other", "SecretString": "x"}),
                "ListSecrets" => json!({}),
                _ => json!({"SecretId": SECRET}),
            };
            match aws.try_secrets(operation, &input) {
                Err(AwsError::Refused { code, message, .. }) => {
                    assert_eq!(code, "AccessDeniedException", "{operation}: {message}");
                    assert!(!message.contains(PASSWORD));
                }
                other => panic!("{operation}: {other:?}"),
            }
        }
        assert!(sealed.hub.requests().is_empty(), "{:?}", sealed.hub.requests());
    }
}

#[test]
fn a_blob_that_is_a_web_page_is_shown_as_none() {
    let page = Content::held("<!doctype html><script>fetch('/v2/_catalog')</script>");
    let image = Image::of_layers(4505, vec![page.clone()]);
    let (_hub, flotilla) = with_image(&image);
    let browser = flotilla
        .client()
        .with("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
        .with("Sec-Fetch-Dest", "document")
        .with("User-Agent", "Mozilla/5.0");
    let blob = blob_path(APP, &page);
    for (path, media_type, headers) in [
        (&blob, "application/octet-stream", &[][..]),
        (&blob, "application/octet-stream", &[("Range", "bytes=0-20")]),
        (&manifest_path(APP, "latest"), OCI_MANIFEST, &[]),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = browser.request(method, path, headers, b"");
            assert!(matches!(answer.status, 200 | 206), "{}", answer.text());
            assert_eq!(answer.header("content-type"), Some(media_type));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("content-security-policy"), Some("default-src 'none'; sandbox"));
            assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        }
    }
    // Errors are no pages either, whatever was asked for.
    for path in ["/v2/%3Cscript%3E/manifests/x", "/v2/a/manifests/%3Cscript%3E", "/%3Cscript%3E"] {
        let answer = browser.get(path);
        assert!(answer.status >= 400);
        assert!(!answer.header("content-type").unwrap_or("text/plain").contains("html"), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn a_manifest_that_is_two_things_is_none() {
    let (hub, flotilla) = with_image(&Image::oci(4506, &[10]));
    let layer = Image::oci(4507, &[10]);
    let descriptor = |media_type: &str, content: &Content| json!({"mediaType": media_type, "digest": content.digest(), "size": content.len()});
    let config = descriptor("application/vnd.oci.image.config.v1+json", &layer.blobs[0]);
    let child = descriptor(OCI_MANIFEST, &layer.manifest);
    let manifest = |media_type: Value, layers: bool, manifests: bool| {
        let mut manifest = json!({"schemaVersion": 2, "mediaType": media_type});
        if layers {
            (manifest["config"], manifest["layers"]) = (config.clone(), json!([]));
        }
        if manifests {
            manifest["manifests"] = json!([child]);
        }
        manifest
    };
    let forged = "x\n2026-11-27T00:00:00Z ERROR forged line";
    let cases = [
        ("both", OCI_MANIFEST, manifest(json!(OCI_MANIFEST), true, true)),
        ("both-index", OCI_INDEX, manifest(json!(OCI_INDEX), true, true)),
        ("header", OCI_INDEX, manifest(json!(OCI_MANIFEST), true, false)),
        ("members", OCI_INDEX, manifest(json!(OCI_INDEX), true, false)),
        ("html", "text/html", manifest(json!("text/html"), true, false)),
        ("newline", OCI_MANIFEST, manifest(json!(forged), true, false)),
        ("null", OCI_MANIFEST, manifest(json!({"a": 1}), true, false)),
    ];
    for (tag, media_type, manifest) in &cases {
        let mut image = Image::oci(4508, &[10]);
        (image.media_type, image.manifest) = (media_type, Content::held(manifest.to_string()));
        hub.put("library/app", tag, &image);
        for reference in [tag, image.digest()] {
            let answer = client(&flotilla).get(&manifest_path(APP, reference));
            assert_eq!(answer.status, 502, "{tag}: {}", answer.text());
            assert!(!answer.text().contains("forged line"), "{}", answer.text());
        }
    }
    let images = Aws::root(&flotilla).try_ecr("ListImages", &json!({"repositoryName": APP}));
    assert_eq!(images.unwrap_err().code(), "RepositoryNotFoundException", "none of them was kept");
    assert!(!flotilla.log().iter().any(|line| line.starts_with("2026-11-27T00:00:00Z ERROR")), "a line was forged");
}

#[test]
fn forged_headers_lead_nowhere() {
    let sealed = Sealed::start(4509, basic_auth());
    let path = manifest_path(APP, "latest");
    let forged = sealed
        .nobody()
        .with("X-Forwarded-For", "127.0.0.1")
        .with("X-Forwarded-Host", "evil.example")
        .with("X-Forwarded-Proto", "https")
        .with("Forwarded", "for=127.0.0.1;host=evil.example;proto=https")
        .with("X-Original-URL", "/v2/")
        .with("X-HTTP-Method-Override", "DELETE");
    let refused = forged.get(&path);
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert_eq!(refused.status, 401);
    assert!(challenge.contains(sealed.flotilla.endpoint()) && !challenge.contains("evil"), "{challenge}");

    let cluster = sealed.aws.flotilla("GetStatus", &json!({}))["clusterId"].as_str().unwrap().to_owned();
    let root = signed_in(&sealed.flotilla);
    for hops in [cluster.clone(), format!("a, {cluster}"), ["x"; 9].join(",")] {
        assert_eq!(root.request("GET", &path, &[("flotilla-hop", &hops)], b"").status, 508, "{hops}");
    }
    assert!(sealed.hub.requests().is_empty());
    let odd = "a b, \"quoted\", <x>, other";
    assert_eq!(root.request("GET", &path, &[("flotilla-hop", odd)], b"").status, 200);
    for request in sealed.hub.requests() {
        assert_eq!(request.header("flotilla-hop"), Some(&*format!("other, {cluster}")), "{request:?}");
        for name in ["x-forwarded-for", "forwarded", "x-original-url", "cookie"] {
            assert_eq!(request.header(name), None);
        }
    }
}

#[test]
fn a_token_is_none_of_another_kind_operation_principal_or_cluster() {
    let (_hub, flotilla) = with_image(&Image::oci(4510, &[10]));
    let (_other_hub, other) = with_image(&Image::oci(4510, &[10]));
    let aws = Aws::root(&flotilla);
    let login = flotilla.run(&["login-password"]).trim().to_owned();
    for name in ["own/a", "own/b", "own/c"] {
        aws.ecr("CreateRepository", &json!({"repositoryName": name}));
    }
    let page = aws.ecr("DescribeRepositories", &json!({"maxResults": 1}))["nextToken"].as_str().unwrap().to_owned();
    let basic = |password: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("AWS:{password}")));
    let bearer = |token: &str| format!("Bearer {token}");
    let at = |flotilla: &Flotilla, authorization: &str, path: &str| {
        client(flotilla).with("Authorization", authorization).get(path)
    };
    let scope = "/v2/token?service=x&scope=repository:own/a:pull";
    let token = at(&flotilla, &basic(&login), scope).json()["token"].as_str().unwrap().to_owned();
    assert_eq!(at(&flotilla, &bearer(&token), "/v2/").status, 200);
    assert_eq!(at(&flotilla, &basic(&login), "/v2/").status, 200);
    for (what, authorization) in [
        ("a login as bearer", bearer(&login)),
        ("a bearer as login", basic(&token)),
        ("a page as bearer", bearer(&page)),
        ("a page as login", basic(&page)),
        ("two in one", bearer(&format!("{token}{login}"))),
    ] {
        for path in ["/v2/", "/v2/own/a/tags/list", "/v2/token"] {
            assert_eq!(at(&flotilla, &authorization, path).status, 401, "{what} {path}");
        }
    }
    assert_eq!(at(&flotilla, &bearer(&token), scope).status, 401, "a bearer renews itself");
    assert_eq!(at(&flotilla, &bearer(&token), "/v2/own/a/tags/list").status, 200);
    for path in ["/v2/own/b/tags/list", "/v2/_catalog"] {
        assert_eq!(at(&flotilla, &bearer(&token), path).status, 401, "a token for one thing opens {path}");
    }
    for authorization in [bearer(&token), basic(&login)] {
        assert_eq!(at(&other, &authorization, "/v2/").status, 401, "another cluster");
    }

    let robot = Robot::create(&flotilla, "ci", &[]);
    let its = Aws { access_key_id: robot.id, secret: robot.secret, ..aws.clone() };
    for (what, caller, operation, token) in [
        ("of another operation", &aws, "DescribePullThroughCacheRules", page.as_str()),
        ("of another principal", &its, "DescribeRepositories", &page),
        ("of another cluster", &Aws::root(&other), "DescribeRepositories", &page),
        ("a login", &aws, "DescribeRepositories", &login),
    ] {
        let refusal = caller.ecr_refusal(operation, &json!({"nextToken": token}));
        assert_eq!(refusal, "InvalidParameterException", "{what}");
    }
    let next = aws.ecr("DescribeRepositories", &json!({"nextToken": page}));
    assert_eq!(next["repositories"][0]["repositoryName"], "own/b");
}

#[test]
fn no_error_repeats_a_secret() {
    const DIGITS: u64 = 7_261_948_350_172;
    let (_hub, flotilla) = with_image(&Image::oci(4511, &[10]));
    let aws = Aws::root(&flotilla);
    aws.secrets("CreateSecret", &json!({"Name": SECRET, "SecretString": "first"}));
    let long = PASSWORD.repeat(3000);
    let wrong = [
        ("SecretString", json!(DIGITS)),
        ("SecretString", json!({"accessToken": PASSWORD})),
        ("SecretString", json!([PASSWORD])),
        ("SecretString", json!(long)),
        ("SecretBinary", json!(format!("{PASSWORD}!"))),
        ("SecretBinary", json!(DIGITS)),
        ("Tags", json!(PASSWORD)),
        ("ClientRequestToken", json!({"a": PASSWORD})),
    ];
    for (member, value) in wrong {
        for operation in ["CreateSecret", "PutSecretValue", "UpdateSecret"] {
            if operation == "PutSecretValue" && member == "Tags" {
                continue;
            }
            if operation == "UpdateSecret" && member == "Tags" {
                continue;
            }
            let id = if operation == "CreateSecret" { "Name" } else { "SecretId" };
            let id_value = if operation == "CreateSecret" { "ecr-pullthroughcache/new" } else { SECRET };
            match aws.try_secrets(operation, &json!({id: id_value, member: value})) {
                Err(AwsError::Refused { code, message, .. }) => {
                    let told = format!("{code}: {message}");
                    assert!(!told.contains(PASSWORD) && !told.contains(&DIGITS.to_string()), "{operation}: {told}");
                }
                other => panic!("{operation} {member}: {other:?}"),
            }
        }
    }
    // Where credentials do not belong, and some send them.
    let nobody = client(&flotilla);
    nobody.get(&format!("/v2/token?service=x&account=a&username=a&password={PASSWORD}"));
    let form = format!("grant_type=password&username=somebody&password={PASSWORD}");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(nobody.request("POST", "/v2/token", &headers, form.as_bytes()).status, 401);
    let basic = BASE64_STANDARD.encode(format!("AKIAAAAAAAAAAAAAAAAA:{PASSWORD}"));
    assert_eq!(nobody.with("Authorization", &format!("Basic {basic}")).get("/v2/").status, 401);
    nowhere(&flotilla, PASSWORD);
    assert!(!flotilla.log().join("\n").contains(&DIGITS.to_string()));
}
