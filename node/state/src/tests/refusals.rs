//! What each operation on rules, templates, repositories and settings says no to, and what it does otherwise.

use std::{collections::BTreeMap, time::Duration};

use flotilla_registry::{
    Refusal, RepositoryCreation,
    cache_rule::CacheRule,
    repository::{Mutability, RepositorySettings},
};

use super::recount;
use crate::{
    CacheRuleUpdate, LinkBlob, Op, Outcome, TemplateSettingsUpdate, TemplateUpdate,
    format::{BLOBS, META},
    meta::Counters,
    tests::support::*,
};

fn tags(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|n| (format!("k{n}"), "v".into())).collect()
}

fn tagged(count: usize) -> RepositorySettings {
    RepositorySettings { resource_tags: tags(count), ..Default::default() }
}

fn create_repository(text: &str, settings: RepositorySettings) -> Op {
    Op::CreateRepository { name: name(text), settings: Box::new(settings) }
}

fn setting(name: &str, value: &str) -> Op {
    Op::PutAccountSetting { name: name.into(), value: value.into() }
}

fn rule_of(outcome: Outcome) -> CacheRule {
    match outcome {
        Outcome::Rule(rule) => *rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_refusal_leaves_the_facts_alone() {
    let mut world = World::new();
    world.ok(create_repository("own/app", tagged(49)));
    world.ok(Op::CreateTemplate(Box::new(template("hub", RepositorySettings::default()))));
    let absent = || prefix("absent");
    let update_rule =
        CacheRuleUpdate { prefix: absent(), credential_arn: None, custom_role_arn: None, revalidate_after: None };
    let update_template = |prefix, resource_tags| {
        let settings = TemplateSettingsUpdate { resource_tags, ..Default::default() };
        let (description, applied_for, custom_role_arn) = (None, None, None);
        Op::UpdateTemplate(Box::new(TemplateUpdate { prefix, description, settings, applied_for, custom_role_arn }))
    };
    let link = LinkBlob { origin: None, ..world.link("own/none", blob(1), 1) };
    let no_repository = || Err(Refusal::NoRepository(name("own/none")));
    let too_many = || Err(Refusal::TooManyTags(50));
    let put = |put| Op::TagRepository { name: name("own/app"), put, remove: vec![] };
    let extra: BTreeMap<_, _> = [("x".into(), "1".into()), ("y".into(), "2".into())].into();
    let cases = [
        (Op::Found(Box::new(founding())), Err(Refusal::AlreadyFounded)),
        (Op::CreateCacheRule(Box::new(rule("hub"))), Err(Refusal::RuleExists(prefix("hub")))),
        (Op::UpdateCacheRule(update_rule), Err(Refusal::NoRule(absent()))),
        (Op::DeleteCacheRule { prefix: absent() }, Err(Refusal::NoRule(absent()))),
        (
            Op::CreateTemplate(Box::new(template("hub", RepositorySettings::default()))),
            Err(Refusal::TemplateExists(prefix("hub"))),
        ),
        (Op::CreateTemplate(Box::new(template("new", tagged(51)))), too_many()),
        (update_template(absent(), None), Err(Refusal::TemplateMissing(absent()))),
        (update_template(prefix("hub"), Some(tags(51))), too_many()),
        (Op::DeleteTemplate { prefix: absent() }, Err(Refusal::TemplateMissing(absent()))),
        (create_repository("own/app", tagged(0)), Err(Refusal::RepositoryExists(name("own/app")))),
        (create_repository("own/new", tagged(51)), too_many()),
        (Op::DeleteRepository { name: name("own/none"), force: true }, no_repository()),
        (Op::PutMutability { name: name("own/none"), mutability: Mutability::Mutable }, no_repository()),
        (Op::PutScanOnPush { name: name("own/none"), scan_on_push: true }, no_repository()),
        (Op::TagRepository { name: name("own/none"), put: tags(1), remove: vec![] }, no_repository()),
        (put(extra), too_many()),
        (Op::DeleteImages { repository: name("own/none"), images: vec![] }, no_repository()),
        (Op::LinkBlob(link), no_repository()),
        (setting("UNKNOWN", "ENABLED"), Err(Refusal::BadSetting("UNKNOWN".into()))),
        (setting("BLOB_MOUNTING", "V2"), Err(Refusal::BadSetting("BLOB_MOUNTING".into()))),
        (
            setting("PULL_THROUGH_REPOSITORY_CREATION", "defaults"),
            Err(Refusal::BadSetting("PULL_THROUGH_REPOSITORY_CREATION".into())),
        ),
    ];
    for (op, expected) in cases {
        let facts = recount::facts(&world.replica);
        assert_eq!(world.run(op.clone()), expected, "{op:?}");
        assert_eq!(recount::facts(&world.replica), facts, "{op:?}");
        recount::check(&world.replica);
    }
}

#[test]
fn rules_are_stamped_and_their_versions_rise() {
    let mut world = World::new();
    let made = world.tables().rules().unwrap().get(&prefix("hub")).unwrap().clone();
    assert_eq!((made.created_at, made.updated_at, made.version), (START, START, 1));
    world.now = world.now.plus(Duration::from_secs(60));
    let updated = rule_of(world.ok(Op::UpdateCacheRule(CacheRuleUpdate {
        prefix: prefix("hub"),
        credential_arn: None,
        custom_role_arn: Some("arn".into()),
        revalidate_after: None,
    })));
    let (created_at, updated_at, custom_role_arn) = (START, world.now, Some("arn".into()));
    assert_eq!(updated, CacheRule { created_at, updated_at, custom_role_arn, version: 2, ..made });
    assert_eq!(rule_of(world.ok(Op::DeleteCacheRule { prefix: prefix("hub") })), updated);
    assert_eq!(rule_of(world.ok(Op::CreateCacheRule(Box::new(rule("hub"))))).version, 3);
}

#[test]
fn a_default_rule_gives_way_to_a_callers_and_not_to_another_default() {
    let mut world = World::new();
    let default = || Box::new(CacheRule { is_default: true, ..rule("quay") });
    world.ok(Op::CreateCacheRule(default()));
    assert_eq!(world.run(Op::CreateCacheRule(default())), Err(Refusal::RuleExists(prefix("quay"))));
    world.now = world.now.plus(Duration::from_secs(60));
    let own = rule_of(world.ok(Op::CreateCacheRule(Box::new(rule("quay")))));
    assert_eq!((own.created_at, own.version, own.is_default), (world.now, 3, false));
    assert_eq!(world.run(Op::CreateCacheRule(default())), Err(Refusal::RuleExists(prefix("quay"))));
    recount::check(&world.replica);
}

#[test]
fn rules_and_templates_have_a_limit() {
    let mut world = World::new();
    // Ten thousand of each would only be slow: the counter is what is asked.
    let counters = Counters { rules: 10_000, templates: 10_000, ..Counters::default() };
    let mut batch = flotilla_base::store::Batch::default();
    batch.put(META, crate::format::KEY_COUNTERS, crate::format::encode_row(&counters));
    flotilla_base::store::Store::write(&world.replica.store, batch).unwrap();
    let limit = |what: &str| Err(Refusal::Limit { what: what.into(), limit: 10_000 });
    assert_eq!(world.run(Op::CreateCacheRule(Box::new(rule("quay")))), limit("cache rules"));
    let template = template("quay", RepositorySettings::default());
    assert_eq!(world.run(Op::CreateTemplate(Box::new(template))), limit("templates"));
}

#[test]
fn a_templates_update_changes_what_it_names() {
    let mut world = World::new();
    world.ok(Op::CreateTemplate(Box::new(template("hub", tagged(1)))));
    world.now = world.now.plus(Duration::from_secs(60));
    let update = TemplateUpdate {
        prefix: prefix("hub"),
        description: Some(Some("text".into())),
        settings: TemplateSettingsUpdate { policy: Some(Some("{}".into())), ..Default::default() },
        applied_for: None,
        custom_role_arn: None,
    };
    let Outcome::Template(changed) = world.ok(Op::UpdateTemplate(Box::new(update.clone()))) else { panic!() };
    assert_eq!((changed.created_at, changed.updated_at), (START, world.now));
    assert_eq!((changed.description.as_deref(), changed.settings.policy.as_deref()), (Some("text"), Some("{}")));
    assert_eq!(changed.settings.resource_tags, tags(1));
    let cleared = TemplateUpdate { description: Some(None), ..update };
    let Outcome::Template(changed) = world.ok(Op::UpdateTemplate(Box::new(cleared))) else { panic!() };
    assert_eq!(changed.description, None);
}

#[test]
fn resource_tags_overwrite_and_go() {
    let mut world = World::new();
    world.ok(create_repository("own/app", tagged(50)));
    let put: BTreeMap<String, String> = [("k0".into(), "new".into())].into();
    let op = Op::TagRepository { name: name("own/app"), put, remove: vec!["k1".into(), "absent".into()] };
    let Outcome::Repository(changed) = world.ok(op) else { panic!() };
    let mut expected = tags(50);
    expected.remove("k1");
    expected.insert("k0".into(), "new".into());
    assert_eq!(changed.settings.resource_tags, expected);
}

#[test]
fn a_first_pull_can_demand_a_template() {
    let mut world = World::new();
    world.ok(setting("PULL_THROUGH_REPOSITORY_CREATION", "TEMPLATE_REQUIRED"));
    assert_eq!(world.tables().settings().unwrap().repository_creation, RepositoryCreation::TemplateRequired);
    let import = world.import("hub/app", None, &image(&[1], None));
    let refusal = Err(Refusal::NoTemplate(name("hub/app")));
    assert_eq!(world.run(Op::ImportImage(Box::new(import.clone()))), refusal);
    let link = world.link("hub/app", blob(1), 1);
    assert_eq!(world.run(Op::LinkBlob(link)), refusal);
    world.ok(setting("PULL_THROUGH_REPOSITORY_CREATION", "DEFAULTS"));
    world.ok(Op::ImportImage(Box::new(import)));
}

#[test]
fn settings_that_aws_knows_are_stored() {
    let mut world = World::new();
    for (name, value) in
        [("BASIC_SCAN_TYPE_VERSION", "AWS_NATIVE"), ("REGISTRY_POLICY_SCOPE", "V2"), ("BLOB_MOUNTING", "DISABLED")]
    {
        world.ok(setting(name, value));
        assert_eq!(world.tables().settings().unwrap().account_settings[name], value);
    }
    assert_eq!(world.tables().settings().unwrap().home_region, "us-east-1");
}

#[test]
fn a_blob_that_is_being_collected_is_not_linked() {
    let mut world = World::new();
    let link = world.link("hub/app", blob(1), 1);
    world.ok(Op::LinkBlob(link));
    let mut record = world.tables().blob(&blob(1)).unwrap().unwrap();
    record.condemned = true;
    let mut batch = flotilla_base::store::Batch::default();
    batch.put(BLOBS, blob(1).key(), crate::format::encode_row(&record));
    flotilla_base::store::Store::write(&world.replica.store, batch).unwrap();
    let link = world.link("hub/other", blob(1), 1);
    assert_eq!(world.run(Op::LinkBlob(link)), Err(Refusal::Condemned(blob(1))));
}

#[test]
fn a_link_holds_only_where_its_rule_does() {
    let mut world = World::new();
    let good = world.link("hub/app", blob(1), 1);
    let mut elsewhere = good.clone();
    elsewhere.repository = name("own/app");
    assert_eq!(world.run(Op::LinkBlob(elsewhere)), Err(Refusal::Moved));
    let old = LinkBlob { expect_incarnation: Some(7), ..good.clone() };
    assert_eq!(world.run(Op::LinkBlob(old)), Err(Refusal::Moved));
    world.ok(Op::LinkBlob(good));
}

#[test]
fn the_covering_rule_is_the_one_that_the_view_resolves() {
    for rules in [vec![], vec!["ROOT"], vec!["a", "a/b", "ROOT"], vec!["a/b/c", "a"]] {
        let mut world = World::unfounded();
        for text in rules {
            world.ok(Op::CreateCacheRule(Box::new(rule(text))));
        }
        let parsed = world.tables().rules().unwrap();
        for text in ["a", "b", "a/x", "a/b", "a/b/x", "a/b/c/d", "ab/c", "x/a/b"] {
            let covering = world.tables().covering_rule(&name(text)).unwrap().map(|rule| rule.prefix);
            assert_eq!(covering, parsed.resolve(&name(text)).origin.map(|origin| origin.rule), "{text}");
        }
    }
}
