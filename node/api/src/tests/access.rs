//! Robots, scopes, and what is closed to callers without credentials.

use flotilla_aws::{
    ecr::{
        BatchGetImage, BatchGetImageInput, CreateRepository, CreateRepositoryInput, DescribeRepositories,
        DescribeRepositoriesInput, GetAuthorizationToken, GetAuthorizationTokenInput, ImageIdentifier,
    },
    flotilla::{
        CreateAccessKey, CreateAccessKeyInput, CreateRobot, CreateRobotInput, DeleteAccessKey, DeleteAccessKeyInput,
        DeleteRobot, DeleteRobotInput, GetStatus, GetStatusInput, ListAccessKeys, ListAccessKeysInput, ListRobots,
        ListRobotsInput, UpdateAccessKey, UpdateAccessKeyInput,
    },
    sts::{GetCallerIdentity, GetCallerIdentityInput},
};
use flotilla_base::{ByteLen, Timestamp};
use flotilla_oci::{Algorithm, Digest, MediaType};
use flotilla_registry::{
    Sealed,
    access::PrincipalArn,
    cache_rule::{CacheRule, CacheRuleOptions, Origin},
    secret::{self, SecretVersion},
};
use flotilla_service::Anonymous;
use flotilla_state::{ImportImage, Op, TagUpdate};

use super::{
    upstream::digest_of,
    world::{ACCOUNT, KEY_ID, SECRET, World, basic},
};
use crate::http::test_client::{Reply, send};

const MANIFEST: &str = "/v2/quay/a/b/manifests/v1";

struct Key {
    id: String,
    secret: String,
}

impl Key {
    fn basic(&self) -> String {
        basic(&self.id, &self.secret)
    }

    fn pair(&self) -> (&str, &str) {
        (&self.id, &self.secret)
    }
}

async fn robot(world: &World, name: &str, repositories: &[&str], expires_at: Option<f64>) -> Key {
    let repositories = repositories.iter().map(|glob| (*glob).to_owned()).collect();
    let input = CreateRobotInput { robot_name: name.into(), repositories, expires_at };
    let made = world.call::<CreateRobot>(&input).await.unwrap();
    assert_eq!(made.access_key.principal_arn, format!("arn:aws:iam::{ACCOUNT}:user/{name}"));
    assert_eq!(made.access_key.secret_access_key.len(), 40);
    Key { id: made.access_key.access_key_id, secret: made.access_key.secret_access_key }
}

async fn token(world: &World, scope: &str, lines: &[&str]) -> String {
    let reply = world.get(&format!("/v2/token?service=x&{scope}"), lines).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    format!("Authorization: Bearer {}", reply["token"].as_str().unwrap())
}

async fn set_enabled(world: &World, id: &str, enabled: bool) {
    let input = UpdateAccessKeyInput { access_key_id: id.into(), enabled: Some(enabled) };
    assert_eq!(world.call::<UpdateAccessKey>(&input).await.unwrap().access_key.enabled, enabled);
}

#[tokio::test]
async fn a_robot_pulls_its_repositories_and_does_nothing_else() {
    let world = World::new(false).await;
    let ci = robot(&world, "ci", &["quay/a/*"], None).await;
    world.upstream.put_image("a/b", "v1", b"layer");
    world.upstream.put_image("c/d", "v1", b"other");
    let login = ci.basic();
    assert_eq!(world.get("/v2/", &[&login]).await.status, 200);
    assert_eq!(world.get(MANIFEST, &[&login]).await.status, 200, "an import of its own");
    assert_eq!(world.pull("/v2/quay/c/d/manifests/v1", &[]).await.status, 200);
    for target in ["/v2/quay/c/d/manifests/v1", "/v2/quay/c/d/tags/list", "/v2/quay/e/f/manifests/v1"] {
        let refused = world.get(target, &[&login]).await;
        assert_eq!(refused.status, 403, "{target}");
        assert!(refused.text().contains("DENIED"), "{}", refused.text());
    }
    assert_eq!(world.get("/v2/_catalog", &[&login]).await.text(), r#"{"repositories":["quay/a/b"]}"#);

    let named = |name: &str| DescribeRepositoriesInput {
        repository_names: Some(vec![name.to_owned()]),
        ..DescribeRepositoriesInput::default()
    };
    let all = DescribeRepositoriesInput::default();
    let found = world.call_as::<DescribeRepositories>(ci.pair(), &all).await.unwrap().repositories;
    assert_eq!(found.iter().map(|found| found.repository_name.as_str()).collect::<Vec<_>>(), ["quay/a/b"]);
    assert!(world.call_as::<DescribeRepositories>(ci.pair(), &named("quay/a/b")).await.is_ok());
    let foreign = world.call_as::<DescribeRepositories>(ci.pair(), &named("quay/c/d")).await.unwrap_err();
    let absent = world.call_as::<DescribeRepositories>(ci.pair(), &named("quay/x/y")).await.unwrap_err();
    assert_eq!((foreign.code.as_str(), absent.code.as_str()), ("AccessDeniedException", "AccessDeniedException"));
    let image = |name: &str| BatchGetImageInput {
        repository_name: name.into(),
        image_ids: vec![ImageIdentifier { image_tag: Some("v1".into()), image_digest: None }],
        ..BatchGetImageInput::default()
    };
    assert_eq!(world.call_as::<BatchGetImage>(ci.pair(), &image("quay/a/b")).await.unwrap().images.len(), 1);
    let foreign = world.call_as::<BatchGetImage>(ci.pair(), &image("quay/c/d")).await.unwrap_err();
    assert_eq!(foreign.code, "AccessDeniedException");

    // What its pulls may bring about it may not ask for by itself.
    let create = CreateRepositoryInput { repository_name: "quay/a/new".into(), ..CreateRepositoryInput::default() };
    for code in [
        world.call_as::<CreateRepository>(ci.pair(), &create).await.unwrap_err().code,
        world.call_as::<GetStatus>(ci.pair(), &GetStatusInput {}).await.unwrap_err().code,
        world.call_as::<ListAccessKeys>(ci.pair(), &ListAccessKeysInput::default()).await.unwrap_err().code,
        world.call_as::<CreateAccessKey>(ci.pair(), &CreateAccessKeyInput::default()).await.unwrap_err().code,
    ] {
        assert_eq!(code, "AccessDeniedException");
    }
    let identity = world.call_as::<GetCallerIdentity>(ci.pair(), &GetCallerIdentityInput::default()).await.unwrap();
    assert_eq!(identity.arn, format!("arn:aws:iam::{ACCOUNT}:user/ci"));
    let input = GetAuthorizationTokenInput::default();
    assert!(world.call_as::<GetAuthorizationToken>(ci.pair(), &input).await.is_ok());
}

#[tokio::test]
async fn tokens_end_with_their_key_and_their_robot() {
    let world = World::new(false).await;
    world.upstream.put_image("a/b", "v1", b"layer");
    let ci = robot(&world, "ci", &[], None).await;
    let scope = "scope=repository:quay/a/b:pull";
    let login = {
        let input = GetAuthorizationTokenInput::default();
        let data = world.call_as::<GetAuthorizationToken>(ci.pair(), &input).await.unwrap().authorization_data;
        let text = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &data[0].authorization_token).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (user, password) = text.split_once(':').unwrap();
        basic(user, password)
    };
    let bearer = token(&world, scope, &[&login]).await;
    let all = [ci.basic(), login, bearer];
    let statuses = async |all: &[String]| {
        let mut statuses = Vec::new();
        for line in all {
            statuses.push(world.get(MANIFEST, &[line]).await.status);
        }
        statuses
    };
    assert_eq!(statuses(&all).await, [200, 200, 200]);
    set_enabled(&world, &ci.id, false).await;
    assert_eq!(statuses(&all).await, [401, 401, 401]);
    assert_eq!(
        world.call_as::<GetCallerIdentity>(ci.pair(), &GetCallerIdentityInput::default()).await.unwrap_err().code,
        "UnrecognizedClientException"
    );
    set_enabled(&world, &ci.id, true).await;
    assert_eq!(statuses(&all).await, [200, 401, 401], "tokens of before stay dead");

    let again = token(&world, scope, &[&all[0]]).await;
    let second = world.call::<CreateAccessKey>(&CreateAccessKeyInput { robot_name: Some("ci".into()) }).await.unwrap();
    let second = second.access_key;
    let limit =
        world.call::<CreateAccessKey>(&CreateAccessKeyInput { robot_name: Some("ci".into()) }).await.unwrap_err();
    assert_eq!(limit.code, "LimitExceededException");
    let listed = world.call::<ListAccessKeys>(&ListAccessKeysInput::default()).await.unwrap();
    assert_eq!(listed.access_keys.len(), 3);
    assert!(!serde_json::to_string(&listed).unwrap().contains(&second.secret_access_key));
    world.call::<DeleteAccessKey>(&DeleteAccessKeyInput { access_key_id: ci.id.clone() }).await.unwrap();
    assert_eq!(statuses(&[all[0].clone(), again]).await, [401, 401]);
    let second = basic(&second.access_key_id, &second.secret_access_key);
    let its = token(&world, scope, &[&second]).await;
    assert_eq!(statuses(&[second.clone(), its.clone()]).await, [200, 200]);
    world.call::<DeleteRobot>(&DeleteRobotInput { robot_name: "ci".into() }).await.unwrap();
    assert_eq!(statuses(&[second, its]).await, [401, 401]);
    assert_eq!(world.call::<ListRobots>(&ListRobotsInput::default()).await.unwrap().robots, []);
    let last = DeleteAccessKeyInput { access_key_id: KEY_ID.into() };
    assert_eq!(world.call::<DeleteAccessKey>(&last).await.unwrap_err().code, "DeleteConflictException");
}

#[tokio::test]
async fn a_robot_that_has_ended_is_refused_with_its_tokens() {
    let world = World::new(false).await;
    world.upstream.put_image("a/b", "v1", b"layer");
    let past = CreateRobotInput { robot_name: "x".into(), expires_at: Some(1.0), ..CreateRobotInput::default() };
    assert_eq!(world.call::<CreateRobot>(&past).await.unwrap_err().code, "InvalidParameterException");
    let ends_at = world.host.clock.now().seconds() + 2.0;
    let ci = robot(&world, "ci", &[], Some(ends_at)).await;
    let bearer = token(&world, "scope=repository:quay/a/b:pull", &[&ci.basic()]).await;
    assert_eq!(world.get(MANIFEST, &[&bearer]).await.status, 200);
    while world.host.clock.now().seconds() < ends_at {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for line in [&bearer, &ci.basic()] {
        assert_eq!(world.get(MANIFEST, &[line]).await.status, 401);
    }
    let listed = world.call::<ListRobots>(&ListRobotsInput::default()).await.unwrap();
    assert!(listed.robots[0].expired);
}

#[tokio::test]
async fn a_token_is_good_for_its_scope_alone() {
    for anonymous in [true, false] {
        let world = World::new(anonymous).await;
        world.upstream.put_image("a/b", "v1", b"layer");
        world.upstream.put_image("c/d", "v1", b"layer");
        let root = basic(KEY_ID, SECRET);
        let pull = token(&world, "scope=repository:quay/a/b:pull", &[&root]).await;
        assert_eq!(world.get(MANIFEST, &[&pull]).await.status, 200);
        assert_eq!(world.get("/v2/", &[&pull]).await.status, 200);
        let refused = |reply: Reply, scope: &str| {
            assert_eq!(reply.status, 401);
            let challenge = reply.header("www-authenticate");
            let wanted = format!("scope=\"{scope}\",error=\"insufficient_scope\"");
            assert!(challenge.starts_with("Bearer realm=") && challenge.ends_with(&wanted), "{challenge}");
        };
        refused(world.get("/v2/quay/c/d/manifests/v1", &[&pull]).await, "repository:quay/c/d:pull");
        refused(world.get("/v2/_catalog", &[&pull]).await, "registry:catalog:*");
        let push = send(world.to, "POST", "/v2/quay/a/b/blobs/uploads/", &[&pull], b"").await;
        refused(push, "repository:quay/a/b:pull,push");
        let login = token(&world, "account=x", &[&root]).await;
        assert_eq!(world.get("/v2/", &[&login]).await.status, 200);
        refused(world.get(MANIFEST, &[&login]).await, "repository:quay/a/b:pull");

        // docker repeats the parameter, OAuth2 clients send one with spaces.
        for both in [
            "repository:quay/a/b:pull&scope=repository:quay/c/d:pull",
            "repository:quay/a/b:pull+repository:quay/c/d:*",
        ] {
            let both = token(&world, &format!("scope={both}"), &[&root]).await;
            for target in [MANIFEST, "/v2/quay/c/d/manifests/v1"] {
                assert_eq!(world.get(target, &[&both]).await.status, 200, "{target}");
            }
        }
        let many = "scope=repository:a:pull&".repeat(17);
        assert_eq!(world.get(&format!("/v2/token?{many}"), &[&root]).await.status, 400);
    }
}

/// A mirror's client, and the door beside it.
async fn with_mirror(anonymous: bool) -> World {
    World::with(anonymous, |mut doors| {
        doors.mirror.hosts = vec!["mirror.example".into()];
        doors
    })
    .await
}

#[tokio::test]
async fn a_mirrors_client_may_send_the_login_of_another_registry() {
    let world = with_mirror(true).await;
    let at = "Host: mirror.example";
    let hub = basic("somebody", "the password of Docker Hub");
    let foreign = basic("AKIAAAAAAAAAAAAAAAAA", "a key of AWS");
    for login in [&hub, &foreign] {
        // Past the sign-in, a mirror has no catalog.
        for (path, status) in [("/v2/token?scope=repository:library/x:pull", 200), ("/v2/_catalog", 404)] {
            assert_eq!(world.get(path, &[at, login]).await.status, status, "{path}");
            assert_eq!(world.get(path, &[login]).await.status, 401, "{path}: elsewhere it is wrong");
        }
        assert_eq!(world.get("/v2/", &[at, login]).await.status, 401, "as without it: where tokens are");
    }
    let form_type = "Content-Type: application/x-www-form-urlencoded";
    let refresh = b"grant_type=refresh_token&refresh_token=x&service=y";
    assert_eq!(send(world.to, "POST", "/v2/token", &[at, form_type], refresh).await.status, 200);
    assert_eq!(send(world.to, "POST", "/v2/token", &[form_type], refresh).await.status, 400);
    // Our own keys are looked at.
    for wrong in [basic(KEY_ID, "wrong"), basic("AWS", "wrong"), "Authorization: Bearer wrong".to_owned()] {
        for path in ["/v2/token", "/v2/", "/v2/_catalog"] {
            assert_eq!(world.get(path, &[at, &wrong]).await.status, 401, "{path} {wrong}");
        }
    }
    let ci = robot(&world, "ci", &[], None).await;
    assert_eq!(world.get("/v2/", &[at, &ci.basic()]).await.status, 200);
    set_enabled(&world, &ci.id, false).await;
    assert_eq!(world.get("/v2/token", &[at, &ci.basic()]).await.status, 401, "a dead key of ours is no stranger's");
    let metrics = world.get("/metrics", &[]).await;
    assert!(metrics.text().contains("flotilla_sign_ins_total{result=\"foreign\"} 7"), "{}", metrics.text());

    let closed = with_mirror(false).await;
    assert_eq!(closed.get("/v2/token", &[at, &hub]).await.status, 401);
}

#[tokio::test]
async fn strangers_from_elsewhere_are_told_basic() {
    let anonymous = Anonymous { pull: true, ..Anonymous::default() };
    let world = World::open_to(anonymous, |mut doors| {
        doors.http.trusted_proxies.push("127.0.0.0/8".parse().unwrap());
        doors.http.allow_plaintext = true;
        doors
    })
    .await;
    world.upstream.put_image("a/b", "v1", b"layer");
    let near = token(&world, "scope=repository:quay/a/b:pull", &[]).await;
    assert_eq!(world.get(MANIFEST, &[&near]).await.status, 200);
    for far in ["192.0.2.1", "\"[2001:db8::1]\""] {
        let from = format!("Forwarded: for={far}");
        for target in ["/v2/", MANIFEST, "/v2/_catalog", "/v2/quay/a/b/tags/list"] {
            let reply = world.get(target, &[&from]).await;
            assert_eq!(reply.status, 401, "{target}");
            assert!(reply.header("www-authenticate").starts_with("Basic realm="), "{target}");
            assert_eq!(world.get(target, &[&from, &near]).await.status, 401, "a token from here is no use there");
        }
        assert_eq!(world.get("/v2/token", &[&from]).await.status, 401);
        assert_eq!(world.get(MANIFEST, &[&from, &basic(KEY_ID, SECRET)]).await.status, 200);
    }
}

#[tokio::test]
async fn anonymous_callers_keep_to_their_rules_and_make_no_repositories_where_they_may_not() {
    let rules = Some(vec!["quay/a".parse().unwrap()]);
    let world = World::open_to(Anonymous { pull: true, rules, ..Anonymous::default() }, |doors| doors).await;
    let input = flotilla_aws::ecr::CreatePullThroughCacheRuleInput {
        ecr_repository_prefix: "quay/a".into(),
        upstream_registry_url: super::world::UPSTREAM.into(),
        ..Default::default()
    };
    world.call::<flotilla_aws::ecr::CreatePullThroughCacheRule>(&input).await.unwrap();
    world.upstream.put_image("b", "v1", b"layer");
    world.upstream.put_image("c/d", "v1", b"layer");
    assert_eq!(world.get(MANIFEST, &[]).await.status, 200);
    assert_eq!(world.pull("/v2/quay/c/d/manifests/v1", &[]).await.status, 200);
    assert_eq!(world.get("/v2/quay/c/d/manifests/v1", &[]).await.status, 401);
    assert_eq!(world.get("/v2/_catalog", &[]).await.text(), r#"{"repositories":["quay/a/b"]}"#);

    let closed = Anonymous { pull: true, create_repositories: false, ..Anonymous::default() };
    let world = World::open_to(closed, |doors| doors).await;
    world.upstream.put_image("a/b", "v1", b"layer");
    let blob = format!("/v2/quay/a/b/blobs/{}", digest_of(b"layer"));
    for target in [MANIFEST, &blob] {
        for method in ["GET", "HEAD"] {
            assert_eq!(send(world.to, method, target, &[], b"").await.status, 401, "{method} {target}");
        }
    }
    assert_eq!(
        world.call::<DescribeRepositories>(&DescribeRepositoriesInput::default()).await.unwrap().repositories,
        []
    );
    assert_eq!(world.pull(MANIFEST, &[]).await.status, 200);
    assert_eq!(world.get(MANIFEST, &[]).await.status, 200, "somebody has made it");
}

/// Makes the rule `team` with a credential, and an image that came through it.
async fn with_private_image(world: &World) {
    let now = world.host.clock.now();
    let propose = async |op| world.consensus.propose(&PrincipalArn::system(), None, op).await.unwrap();
    let version = SecretVersion {
        id: "v1".into(),
        stages: [secret::CURRENT.to_owned()].into(),
        value: Sealed { key_id: 1, bytes: vec![1] },
        created_at: now,
    };
    let secret = secret::Secret {
        name: "ecr-pullthroughcache/q".into(),
        suffix: "AbCdEf".into(),
        description: None,
        kms_key_id: None,
        tags: [].into(),
        versions: vec![version],
        created_at: now,
        changed_at: now,
        deletion: None,
        pinned_host: None,
        revision: 0,
    };
    propose(Op::PutSecret { expect_revision: 0, secret: Box::new(secret) }).await;
    let rule = CacheRule {
        prefix: "team".parse().unwrap(),
        upstream_url: "quay.io".into(),
        upstream_host: "quay.io".into(),
        upstream_prefix: None,
        upstream_prefix_sent: None,
        upstream_registry: None,
        credential_arn: Some("ecr-pullthroughcache/q".into()),
        custom_role_arn: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        version: 0,
        revalidate_after: None,
        is_default: false,
    };
    propose(Op::CreateCacheRule(Box::new(rule))).await;
    let version = world.consensus.view().load().rules.get(&"team".parse().unwrap()).unwrap().version;
    let config = format!("sha256:{}", "00".repeat(32));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]}}"#,
        MediaType::OCI_MANIFEST
    );
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, manifest.as_bytes());
    let import = ImportImage {
        repository: "team/app".parse().unwrap(),
        expect_incarnation: None,
        origin: Origin { rule: "team".parse().unwrap(), name: "app".parse().unwrap() },
        expect_rule_version: version,
        tag: Some(TagUpdate { tag: "v1".parse().unwrap(), expect_version: 0 }),
        digest: Digest::from_hash(Algorithm::Sha256, hash.as_ref()).unwrap(),
        media_type: MediaType(MediaType::OCI_MANIFEST.into()),
        len: ByteLen(manifest.len() as u64),
        bytes: Some(manifest.into()),
    };
    propose(Op::ImportImage(Box::new(import))).await;
}

#[tokio::test]
async fn what_came_through_a_credential_is_closed_to_anonymous_callers() {
    let world = World::new(true).await;
    with_private_image(&world).await;
    let private = "/v2/team/app/manifests/v1";
    let root = basic(KEY_ID, SECRET);
    assert_eq!(world.get(private, &[&root]).await.status, 200);
    let bearer = token(&world, "scope=repository:team/app:pull", &[]).await;
    let is_closed = async || {
        for target in [private, "/v2/team/app/tags/list", "/v2/team/other/manifests/v1"] {
            for lines in [&[][..], &[bearer.as_str()]] {
                for method in ["GET", "HEAD"] {
                    assert_eq!(send(world.to, method, target, lines, b"").await.status, 401, "{method} {target}");
                }
            }
        }
    };
    is_closed().await;
    assert_eq!(world.get("/v2/_catalog", &[&bearer]).await.status, 401);
    assert_eq!(world.get("/v2/_catalog", &[]).await.text(), r#"{"repositories":[]}"#);
    let propose = async |op| world.consensus.propose(&PrincipalArn::system(), None, op).await.unwrap();
    let version = |rule: &str| world.consensus.view().load().rules.get(&rule.parse().unwrap()).unwrap().version;
    let options = |anonymous_allowed| Op::PutCacheRuleOptions {
        prefix: "team".parse().unwrap(),
        expect_version: version("team"),
        revalidate_after: None,
        options: Box::new(CacheRuleOptions { anonymous_allowed, ..CacheRuleOptions::default() }),
    };
    propose(options(true)).await;
    assert_eq!(world.get(private, &[]).await.status, 200);
    propose(options(false)).await;
    is_closed().await;

    // A longer rule, the end of the rule, and another in its place open nothing.
    for (prefix, url) in [("team/app", "quay.io"), ("team", "quay.io")] {
        if prefix == "team" {
            propose(Op::DeleteCacheRule { prefix: "team".parse().unwrap() }).await;
            propose(Op::DeleteCacheRule { prefix: "team/app".parse().unwrap() }).await;
            assert_eq!(world.get(private, &[]).await.status, 401, "no rule is left");
        }
        let input = flotilla_aws::ecr::CreatePullThroughCacheRuleInput {
            ecr_repository_prefix: prefix.into(),
            upstream_registry_url: url.into(),
            ..Default::default()
        };
        world.call::<flotilla_aws::ecr::CreatePullThroughCacheRule>(&input).await.unwrap();
        assert_eq!(world.get(private, &[]).await.status, 401, "{prefix}");
    }
    assert_eq!(world.get("/v2/_catalog", &[]).await.text(), r#"{"repositories":[]}"#);
}

#[tokio::test]
async fn page_tokens_are_sealed_for_one_caller_and_operation() {
    let world = World::new(true).await;
    for name in ["aa", "bb", "cc"] {
        let input = CreateRepositoryInput { repository_name: name.into(), ..CreateRepositoryInput::default() };
        world.call::<CreateRepository>(&input).await.unwrap();
    }
    let page = |token: Option<String>| DescribeRepositoriesInput {
        max_results: Some(1),
        next_token: token,
        ..DescribeRepositoriesInput::default()
    };
    let first = world.call::<DescribeRepositories>(&page(None)).await.unwrap().next_token.unwrap();
    let second = world.call::<DescribeRepositories>(&page(Some(first.clone()))).await.unwrap();
    assert_eq!(second.repositories[0].repository_name, "bb");
    let ci = robot(&world, "ci", &["cc"], None).await;
    let foreign = world.call_as::<DescribeRepositories>(ci.pair(), &page(Some(first.clone()))).await.unwrap_err();
    assert_eq!(foreign.code, "InvalidParameterException");
    let input = ListAccessKeysInput { next_token: Some(first.clone()), max_results: None };
    assert_eq!(world.call::<ListAccessKeys>(&input).await.unwrap_err().code, "InvalidParameterException");
    let own = world.call_as::<DescribeRepositories>(ci.pair(), &page(None)).await.unwrap();
    assert_eq!(own.repositories[0].repository_name, "cc");

    // The catalog goes on from what was shown, or from a place that is not told.
    let link = world.get("/v2/_catalog?n=2", &[]).await;
    assert_eq!(link.text(), r#"{"repositories":["aa","bb"]}"#);
    assert_eq!(link.header("link"), "</v2/_catalog?n=2&last=bb>; rel=\"next\"");
    assert_eq!(world.get("/v2/_catalog?n=2&last=bb", &[]).await.text(), r#"{"repositories":["cc"]}"#);
    for bad in ["~", "~x", "~AAAA", "%2F"] {
        assert_eq!(world.get(&format!("/v2/_catalog?last={bad}"), &[]).await.status, 400, "{bad}");
    }
}
