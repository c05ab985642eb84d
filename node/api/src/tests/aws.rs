use flotilla_aws::{
    Operation,
    ecr::*,
    flotilla::{
        CheckImageReference, CheckImageReferenceInput, CreateCacheRule, CreateCacheRuleInput, DescribeCacheRuleOptions,
        DescribeCacheRuleOptionsInput, GetStatus, GetStatusInput, OptionsToSet, PutCacheRuleOptions,
        PutCacheRuleOptionsInput, RefreshImage, RefreshImageInput, RefreshOutcome,
    },
    json,
};

use super::{
    upstream::digest_of,
    world::{ACCOUNT, SECRET, UPSTREAM, World},
};
use crate::http::test_client::send;

fn named<T: Default>(fill: impl FnOnce(&mut T)) -> T {
    let mut input = T::default();
    fill(&mut input);
    input
}

fn rule(prefix: &str, upstream: &str) -> CreatePullThroughCacheRuleInput {
    named(|input: &mut CreatePullThroughCacheRuleInput| {
        input.ecr_repository_prefix = prefix.into();
        input.upstream_registry_url = upstream.into();
    })
}

/// The code of a call that must fail.
async fn code<O: Operation>(world: &World, input: &O::Input) -> String {
    world.call::<O>(input).await.err().map_or_else(|| "success".to_owned(), |failure| failure.code)
}

#[tokio::test]
async fn a_rule_lives_from_create_to_delete() {
    let world = World::new(false).await;
    let created = world.call::<CreatePullThroughCacheRule>(&rule("hub", "registry-1.docker.io")).await.unwrap();
    assert_eq!((created.registry_id.as_str(), created.upstream_registry.as_deref()), (ACCOUNT, Some("docker-hub")));
    assert_eq!(created.upstream_repository_prefix, None);
    for prefix in ["hub", "hub/"] {
        let again = code::<CreatePullThroughCacheRule>(&world, &rule(prefix, "quay.io")).await;
        assert_eq!(again, "PullThroughCacheRuleAlreadyExistsException");
    }
    let failure = world.call::<CreatePullThroughCacheRule>(&rule("evil", "evil.example")).await.unwrap_err();
    assert_eq!(failure.code, "UnsupportedUpstreamRegistryException");
    let text = "The upstream registry URL evil.example is invalid. Specify a valid upstream registry URL and try again";
    assert_eq!((failure.status, failure.message.as_str()), (400, text));

    let page = |token: Option<String>| DescribePullThroughCacheRulesInput {
        max_results: Some(1),
        next_token: token,
        ..Default::default()
    };
    let first = world.call::<DescribePullThroughCacheRules>(&page(None)).await.unwrap();
    assert_eq!(first.pull_through_cache_rules[0].ecr_repository_prefix, "hub");
    let second = world.call::<DescribePullThroughCacheRules>(&page(first.next_token.clone())).await.unwrap();
    assert_eq!(second.pull_through_cache_rules[0].ecr_repository_prefix, "quay");
    assert_eq!(second.next_token, None);
    let garbage = code::<DescribePullThroughCacheRules>(&world, &page(Some("TOK1".into()))).await;
    assert_eq!(garbage, "InvalidParameterException");
    let other = DescribeRepositoriesInput { next_token: first.next_token, ..Default::default() };
    assert_eq!(code::<DescribeRepositories>(&world, &other).await, "InvalidParameterException");

    let update = named(|i: &mut UpdatePullThroughCacheRuleInput| i.ecr_repository_prefix = "hub".into());
    assert_eq!(world.call::<UpdatePullThroughCacheRule>(&update).await.unwrap().ecr_repository_prefix, "hub");
    let options = PutCacheRuleOptionsInput {
        ecr_repository_prefix: "hub".into(),
        options: OptionsToSet { revalidate_after_seconds: Some(60), mirror: Some(true), ..Default::default() },
    };
    let set = world.call::<PutCacheRuleOptions>(&options).await.unwrap();
    assert_eq!((set.revalidate_after_seconds, set.mirror), (Some(60), true));

    let mut create = CreateCacheRuleInput {
        rule: named(|i: &mut CreatePullThroughCacheRuleInput| {
            i.ecr_repository_prefix = "filtered".into();
            i.upstream_registry_url = "ghcr.io".into();
        }),
        options: OptionsToSet { deny: Some(vec!["UPPER".into()]), ..Default::default() },
    };
    assert_eq!(code::<CreateCacheRule>(&world, &create).await, "InvalidParameterException");
    let gone = named(|i: &mut DeletePullThroughCacheRuleInput| i.ecr_repository_prefix = "filtered".into());
    assert_eq!(code::<DeletePullThroughCacheRule>(&world, &gone).await, "PullThroughCacheRuleNotFoundException");
    create.options.deny = Some(vec!["secret/*".into()]);
    assert_eq!(world.call::<CreateCacheRule>(&create).await.unwrap().upstream_registry_url, "ghcr.io");
    let filtered = CheckImageReferenceInput { name: "filtered/secret/app".into(), ns: None };
    let notes = world.call::<CheckImageReference>(&filtered).await.unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("filters")), "{notes:?}");
    world.call::<DeletePullThroughCacheRule>(&gone).await.unwrap();

    let delete = named(|i: &mut DeletePullThroughCacheRuleInput| i.ecr_repository_prefix = "hub".into());
    let deleted = world.call::<DeletePullThroughCacheRule>(&delete).await.unwrap();
    assert_eq!(deleted.upstream_registry_url, "registry-1.docker.io");
    assert_eq!(code::<DeletePullThroughCacheRule>(&world, &delete).await, "PullThroughCacheRuleNotFoundException");
}

#[tokio::test]
async fn options_that_are_set_at_once_all_count() {
    let world = World::new(false).await;
    let set = async |options| {
        let input = PutCacheRuleOptionsInput { ecr_repository_prefix: "quay".into(), options };
        world.call::<PutCacheRuleOptions>(&input).await.unwrap();
    };
    let globs = |glob: &str| Some(vec![glob.to_owned()]);
    tokio::join!(
        set(OptionsToSet { mirror: Some(true), ..Default::default() }),
        set(OptionsToSet { anonymous_allowed: Some(true), ..Default::default() }),
        set(OptionsToSet { allow: globs("a/*"), ..Default::default() }),
        set(OptionsToSet { deny: globs("b/*"), ..Default::default() }),
    );
    // A call with the mark of a client's retries, of more than one thing.
    let body = br#"{"ecrRepositoryPrefix": "quay", "revalidateAfterSeconds": 60, "deny": ["c/*"]}"#;
    for _ in 0..2 {
        let extra = [("amz-sdk-invocation-id", "one")];
        assert_eq!(world.signed::<PutCacheRuleOptions>(body, SECRET, "flotilla", &extra).await.status, 200);
    }
    let all = world.call::<DescribeCacheRuleOptions>(&DescribeCacheRuleOptionsInput::default()).await.unwrap();
    let quay = &all.cache_rule_options[0];
    assert!(quay.mirror && quay.anonymous_allowed);
    assert_eq!((&quay.allow[..], &quay.deny[..]), (&["a/*".to_owned()][..], &["c/*".to_owned()][..]));
    assert_eq!(quay.revalidate_after_seconds, Some(60));
}

#[tokio::test]
async fn validation_asks_the_upstream_and_a_bad_outcome_is_no_error() {
    let world = World::new(false).await;
    let input = named(|i: &mut ValidatePullThroughCacheRuleInput| i.ecr_repository_prefix = "quay".into());
    world.upstream.fail();
    let validated = world.call::<ValidatePullThroughCacheRule>(&input).await.unwrap();
    assert_eq!((validated.is_valid, validated.failure.is_some()), (false, true));
    assert_eq!(validated.upstream_registry_url, UPSTREAM);
}

#[tokio::test]
async fn templates_shape_what_a_pull_creates() {
    let world = World::new(true).await;
    let create = named(|i: &mut CreateRepositoryCreationTemplateInput| {
        i.prefix = "quay/team".into();
        i.description = Some("of the team".into());
        i.applied_for = Some(vec!["PULL_THROUGH_CACHE".into(), "PULL_THROUGH_CACHE".into()]);
        i.image_tag_mutability = Some("IMMUTABLE".into());
        i.resource_tags = Some(vec![Tag { key: "a".into(), value: "b".into() }]);
    });
    let created = world.call::<CreateRepositoryCreationTemplate>(&create).await.unwrap();
    let template = created.repository_creation_template;
    assert_eq!((created.registry_id.as_str(), template.applied_for.len()), (ACCOUNT, 1));
    assert!(template.created_at > 0.0);
    assert_eq!(code::<CreateRepositoryCreationTemplate>(&world, &create).await, "TemplateAlreadyExistsException");

    world.upstream.put_image("team/app", "v1", b"layer");
    assert_eq!(world.get("/v2/quay/team/app/manifests/v1", &[]).await.status, 200);
    let described = world.call::<DescribeRepositories>(&DescribeRepositoriesInput::default()).await.unwrap();
    assert_eq!(described.repositories[0].image_tag_mutability, "IMMUTABLE");

    let mut bad = create.clone();
    bad.prefix = "other".into();
    bad.lifecycle_policy = Some("{}".into());
    assert_eq!(code::<CreateRepositoryCreationTemplate>(&world, &bad).await, "InvalidParameterException");
    let update = named(|i: &mut UpdateRepositoryCreationTemplateInput| {
        i.prefix = "quay/team".into();
        i.description = Some(String::new());
        i.image_tag_mutability = Some("MUTABLE".into());
    });
    let updated = world.call::<UpdateRepositoryCreationTemplate>(&update).await.unwrap().repository_creation_template;
    assert_eq!((updated.description, updated.image_tag_mutability.as_str()), (None, "MUTABLE"));
    assert_eq!(updated.resource_tags, create.resource_tags);
    let unknown = DescribeRepositoryCreationTemplatesInput { prefixes: Some(vec!["zz".into()]), ..Default::default() };
    let described = world.call::<DescribeRepositoryCreationTemplates>(&unknown).await.unwrap();
    assert!(described.repository_creation_templates.is_empty());
    let delete = DeleteRepositoryCreationTemplateInput { prefix: "quay/team".into() };
    world.call::<DeleteRepositoryCreationTemplate>(&delete).await.unwrap();
    assert_eq!(code::<DeleteRepositoryCreationTemplate>(&world, &delete).await, "TemplateNotFoundException");
}

#[tokio::test]
async fn repositories_carry_the_callers_region_and_our_host() {
    let world = World::new(false).await;
    let create = named(|i: &mut CreateRepositoryInput| i.repository_name = "team/app".into());
    let repository = world.call::<CreateRepository>(&create).await.unwrap().repository;
    assert_eq!(repository.repository_arn, format!("arn:aws:ecr:us-west-2:{ACCOUNT}:repository/team/app"));
    assert_eq!(repository.repository_uri, format!("{}/team/app", world.to));
    assert_eq!(code::<CreateRepository>(&world, &create).await, "RepositoryAlreadyExistsException");

    let tag = |key: &str| Tag { key: key.into(), value: "v".into() };
    let arn = repository.repository_arn.replace("us-west-2", "anywhere-1");
    let tags = TagResourceInput { resource_arn: arn.clone(), tags: Some(vec![tag("a"), tag("b")]) };
    world.call::<TagResource>(&tags).await.unwrap();
    let untag = UntagResourceInput { resource_arn: arn.clone(), tag_keys: Some(vec!["a".into(), "zz".into()]) };
    world.call::<UntagResource>(&untag).await.unwrap();
    let list = ListTagsForResourceInput { resource_arn: arn.clone() };
    assert_eq!(world.call::<ListTagsForResource>(&list).await.unwrap().tags, [tag("b")]);
    let many: Vec<Tag> = (0..50).map(|i| tag(&format!("k{i}"))).collect();
    let many = TagResourceInput { resource_arn: arn.clone(), tags: Some(many) };
    assert_eq!(code::<TagResource>(&world, &many).await, "TooManyTagsException");
    let foreign = ListTagsForResourceInput { resource_arn: arn.replace(ACCOUNT, "000000000001") };
    assert_eq!(code::<ListTagsForResource>(&world, &foreign).await, "RepositoryNotFoundException");

    let put = named(|i: &mut PutImageTagMutabilityInput| {
        i.repository_name = "team/app".into();
        i.image_tag_mutability = "IMMUTABLE".into();
    });
    assert_eq!(world.call::<PutImageTagMutability>(&put).await.unwrap().image_tag_mutability, "IMMUTABLE");
    let unknown = DescribeRepositoriesInput {
        repository_names: Some(vec!["team/app".into(), "zz/zz".into()]),
        ..Default::default()
    };
    let failure = world.call::<DescribeRepositories>(&unknown).await.unwrap_err();
    let text = format!("The repository with name 'zz/zz' does not exist in the registry with id '{ACCOUNT}'");
    assert_eq!((failure.code.as_str(), failure.message), ("RepositoryNotFoundException", text));
    let delete = named(|i: &mut DeleteRepositoryInput| i.repository_name = "team/app".into());
    world.call::<DeleteRepository>(&delete).await.unwrap();
    assert_eq!(code::<DeleteRepository>(&world, &delete).await, "RepositoryNotFoundException");
}

#[tokio::test]
async fn images_are_listed_described_fetched_and_deleted() {
    let world = World::new(true).await;
    let layer = b"layer of some length";
    let mut digests = Vec::new();
    for tag in ["v1", "v2", "v3"] {
        let (digest, manifest) = world.upstream.put_image("x/y", tag, layer);
        assert_eq!(world.get(&format!("/v2/quay/x/y/manifests/{tag}"), &[]).await.body, manifest);
        digests.push(digest.to_string());
    }
    let repository = || "quay/x/y".to_owned();
    let (mut listed, mut token) = (Vec::new(), None);
    loop {
        let input = ListImagesInput {
            repository_name: repository(),
            max_results: Some(2),
            next_token: token,
            ..Default::default()
        };
        let page = world.call::<ListImages>(&input).await.unwrap();
        assert!(page.image_ids.len() <= 2);
        listed.extend(page.image_ids.into_iter().map(|id| id.image_tag.unwrap()));
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    listed.sort();
    assert_eq!(listed, ["v1", "v2", "v3"]);

    let id = |digest: Option<&str>, tag: Option<&str>| ImageIdentifier {
        image_digest: digest.map(str::to_owned),
        image_tag: tag.map(str::to_owned),
    };
    let describe = |ids| DescribeImagesInput { repository_name: repository(), image_ids: ids, ..Default::default() };
    let details = world.call::<DescribeImages>(&describe(None)).await.unwrap().image_details;
    assert_eq!(details.len(), 3);
    let v1 = world.call::<DescribeImages>(&describe(Some(vec![id(None, Some("v1"))]))).await.unwrap();
    let v1 = &v1.image_details[0];
    assert_eq!(
        (v1.image_digest.as_str(), v1.image_tags.as_deref()),
        (digests[0].as_str(), Some(&["v1".to_owned()][..]))
    );
    let size = layer.len() as u64 + br#"{"tag":"v1"}"#.len() as u64;
    assert_eq!((v1.image_size_in_bytes, v1.registry_id.as_str()), (Some(size), ACCOUNT));
    let missing = describe(Some(vec![id(None, Some("zz"))]));
    let failure = world.call::<DescribeImages>(&missing).await.unwrap_err();
    let text = format!(
        "The image with imageId {{imageDigest:'null', imageTag:'zz'}} does not exist within the repository with name \
         'quay/x/y' in the registry with id '{ACCOUNT}'"
    );
    assert_eq!((failure.code.as_str(), failure.message), ("ImageNotFoundException", text));

    let asked = vec![
        id(None, Some("v1")),
        id(Some("junk"), None),
        id(None, None),
        id(Some(&digests[1]), Some("v1")),
        id(None, Some("zz")),
    ];
    let input = BatchGetImageInput { repository_name: repository(), image_ids: asked, ..Default::default() };
    let got = world.call::<BatchGetImage>(&input).await.unwrap();
    assert_eq!(got.images.len(), 1);
    assert_eq!(digest_of(got.images[0].image_manifest.as_bytes()).to_string(), digests[0]);
    assert_eq!(got.images[0].image_id, id(Some(&digests[0]), Some("v1")));
    let codes: Vec<&str> = got.failures.iter().map(|failure| failure.failure_code.as_str()).collect();
    assert_eq!(codes, ["InvalidImageDigest", "MissingDigestAndTag", "ImageTagDoesNotMatchDigest", "ImageNotFound"]);

    let asked = vec![id(Some("junk"), None), id(None, Some("v1")), id(Some(&digests[2]), None), id(None, Some("zz"))];
    let input = BatchDeleteImageInput { repository_name: repository(), image_ids: asked, ..Default::default() };
    let deleted = world.call::<BatchDeleteImage>(&input).await.unwrap();
    assert_eq!(deleted.image_ids, [id(Some(&digests[0]), Some("v1")), id(Some(&digests[2]), Some("v3"))]);
    let codes: Vec<&str> = deleted.failures.iter().map(|failure| failure.failure_code.as_str()).collect();
    assert_eq!(codes, ["InvalidImageDigest", "ImageNotFound"]);
    let left = world.call::<DescribeImages>(&describe(None)).await.unwrap().image_details;
    assert_eq!(left.len(), 1);
    let keep = named(|i: &mut DeleteRepositoryInput| i.repository_name = repository());
    assert_eq!(code::<DeleteRepository>(&world, &keep).await, "RepositoryNotEmptyException");
}

#[tokio::test]
async fn a_reply_with_manifests_is_bounded() {
    let world = World::new(true).await;
    let (_, manifest) = world.upstream.put_image("x/y", "small", b"layer");
    let large = [manifest, vec![b' '; 3 << 20]].concat();
    world.upstream.put("/v2/x/y/manifests/large".into(), "application/vnd.oci.image.manifest.v1+json", &large);
    let tagged = |tag: &str| ImageIdentifier { image_digest: None, image_tag: Some(tag.into()) };
    let image_ids = (0..7).map(|_| tagged("large")).chain([tagged("small")]).collect();
    let input = BatchGetImageInput { repository_name: "quay/x/y".into(), image_ids, ..Default::default() };
    let got = world.call::<BatchGetImage>(&input).await.unwrap();
    let codes: Vec<&str> = got.failures.iter().map(|failure| failure.failure_code.as_str()).collect();
    assert_eq!((got.images.len(), codes), (5, vec!["ImageInaccessible"; 3]));
}

#[tokio::test]
async fn our_own_operations_tell_status_and_refresh() {
    let world = World::new(true).await;
    let (old, _) = world.upstream.put_image("x/y", "latest", b"old");
    world.get("/v2/quay/x/y/manifests/latest", &[]).await;
    let status = world.call::<GetStatus>(&GetStatusInput::default()).await.unwrap();
    assert_eq!((status.node_name.as_str(), status.raft.state.as_str(), status.ready), ("n1", "Leader", true));
    assert_eq!((status.counts.rules, status.counts.repositories), (1, 1));

    let (new, _) = world.upstream.put_image("x/y", "latest", b"new");
    let input = RefreshImageInput { repository_name: "quay/x/y".into(), image_tag: Some("latest".into()) };
    let refreshed = world.call::<RefreshImage>(&input).await.unwrap().refreshed;
    assert_eq!(
        (refreshed[0].outcome, refreshed[0].image_digest.as_str()),
        (RefreshOutcome::Moved, new.to_string().as_str())
    );
    assert_eq!(refreshed[0].previous_digest, Some(old.to_string()));

    let input = CheckImageReferenceInput { name: format!("{}/quay/x/y:latest", world.to), ns: None };
    let check = world.call::<CheckImageReference>(&input).await.unwrap();
    assert_eq!((check.repository_name.as_str(), check.upstream_name.as_deref()), ("quay/x/y", Some("x/y")));
    assert!(check.repository_exists);

    let setting = PutAccountSettingInput {
        name: setting::PULL_THROUGH_REPOSITORY_CREATION.into(),
        value: "TEMPLATE_REQUIRED".into(),
    };
    world.call::<PutAccountSetting>(&setting).await.unwrap();
    let get = GetAccountSettingInput { name: setting.name.clone() };
    assert_eq!(world.call::<GetAccountSetting>(&get).await.unwrap().value, "TEMPLATE_REQUIRED");
    world.upstream.put_image("z/z", "latest", b"x");
    let reply = world.get("/v2/quay/z/z/manifests/latest", &[]).await;
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("NAME_UNKNOWN"), "{}", reply.text());
}

#[tokio::test]
async fn sts_is_spoken_in_query_and_xml() {
    let world = World::new(false).await;
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let body = b"Action=GetCallerIdentity&Version=2011-06-15";
    let reply = world.post(body, SECRET, "sts", &form).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/xml"));
    assert!(reply.text().contains(&format!("<Arn>arn:aws:iam::{ACCOUNT}:root</Arn>")), "{}", reply.text());
    assert!(reply.text().contains(reply.header("x-amzn-requestid")));
    let wrong = world.post(body, "wrong", "sts", &form).await;
    assert!(wrong.text().contains("<Code>SignatureDoesNotMatch</Code>"), "{}", wrong.text());
    let other = world.post(b"Action=CreateStack&Version=2010-05-15", SECRET, "cloudformation", &form).await;
    assert!(other.text().contains("see flotilla apply"), "{}", other.text());
}

#[tokio::test]
async fn a_signature_is_checked_before_anything_else() {
    let world = World::new(false).await;
    let body = json::encode(&CreateRepositoryInput::default());
    let error = |reply: crate::http::test_client::Reply| {
        let body: flotilla_aws::ErrorBody = serde_json::from_slice(&reply.body).unwrap();
        body.code
    };
    let wrong = world.signed::<CreateRepository>(&body, "wrong", "ecr", &[]).await;
    assert_eq!(error(wrong), "InvalidSignatureException");
    let scope = world.signed::<CreateRepository>(&body, SECRET, "sts", &[]).await;
    assert_eq!(error(scope), "InvalidSignatureException");
    let invalid = world.signed::<CreateRepository>(&body, SECRET, "ecr", &[]).await;
    assert_eq!(error(invalid), "InvalidParameterException");
    let malformed = world.signed::<CreateRepository>(b"{\"repositoryName\": 5}", SECRET, "ecr", &[]).await;
    assert_eq!(error(malformed), "SerializationException");
    let target = format!("X-Amz-Target: {}", CreateRepository::target());
    let unsigned = send(world.to, "POST", "/", &[&target], &body).await;
    assert_eq!(error(unsigned), "MissingAuthenticationTokenException");
    let token = [("x-amz-security-token", "x")];
    let session = world.signed::<CreateRepository>(&body, SECRET, "ecr", &token).await;
    assert_eq!(error(session), "UnrecognizedClientException");
    let large = vec![b' '; (1 << 20) + 1];
    let anybody = send(world.to, "POST", "/", &[&target], &large).await;
    assert_eq!(error(anybody), "MissingAuthenticationTokenException", "nothing is collected for anybody");
    let large = world.signed::<CreateRepository>(&large, SECRET, "ecr", &[]).await;
    assert_eq!(error(large), "RequestEntityTooLargeException");
}

#[tokio::test]
async fn a_retry_of_one_call_has_the_same_success() {
    let world = World::new(false).await;
    let create = named(|i: &mut CreateRepositoryInput| i.repository_name = "team/app".into());
    let body = json::encode(&create);
    let attempt = |id: &'static str| {
        let body = body.clone();
        let world = &world;
        async move {
            let extra = [("amz-sdk-invocation-id", id)];
            world.signed::<CreateRepository>(&body, SECRET, "ecr", &extra).await
        }
    };
    let first = attempt("one").await;
    let again = attempt("one").await;
    assert_eq!((first.status, again.status), (200, 200), "{}", again.text());
    assert_eq!(first.body, again.body);
    assert_eq!(attempt("two").await.status, 400);
}
