//! Secrets, robots and the options of rules.

use flotilla_registry::{
    Glob, Refusal,
    access::{AccessKey, PrincipalArn, Robot},
    cache_rule::{CacheRule, CacheRuleOptions},
    secret::{Deletion, Secret},
};

use crate::{CacheRuleUpdate, Op, Outcome, tests::support::*};

const NAME: &str = "ecr-pullthroughcache/hub";

fn put(expect_revision: u64, secret: Secret) -> Op {
    Op::PutSecret { expect_revision, secret: Box::new(secret) }
}

fn with_secret(prefix: &str, host: &str) -> Op {
    let rule = CacheRule { credential_arn: Some(NAME.into()), upstream_host: host.into(), ..rule(prefix) };
    Op::CreateCacheRule(Box::new(rule))
}

#[test]
fn a_secret_changes_only_from_the_revision_that_was_read() {
    let mut world = World::new();
    let Outcome::Secret(made) = world.ok(put(0, secret(NAME))) else { panic!() };
    assert_eq!(made.revision, 1);
    assert_eq!(world.run(put(0, secret(NAME))), Err(Refusal::SecretExists(NAME.into())));
    assert_eq!(world.run(put(7, *made.clone())), Err(Refusal::Moved));
    let another = Secret { suffix: "Other1".into(), ..*made.clone() };
    assert_eq!(world.run(put(1, another)), Err(Refusal::Moved));
    world.ok(put(1, *made.clone()));
    assert_eq!(world.run(put(1, *made)), Err(Refusal::Moved));
    let delete = |expect_revision| Op::DeleteSecret { name: NAME.into(), expect_revision };
    assert_eq!(world.run(delete(1)), Err(Refusal::Moved));
    world.ok(delete(2));
    assert_eq!(world.run(delete(2)), Err(Refusal::NoSecret(NAME.into())));
}

#[test]
fn a_secret_belongs_to_the_upstream_of_its_first_rule() {
    let mut world = World::new();
    assert_eq!(world.run(with_secret("a", "quay.io")), Err(Refusal::NoSecret(NAME.into())));
    assert_eq!(world.tables().rules().unwrap().get(&prefix("a")), None);
    world.ok(put(0, secret(NAME)));
    world.ok(with_secret("a", "quay.io"));
    world.ok(with_secret("b", "quay.io"));
    let pinned = Err(Refusal::SecretPinned { secret: NAME.into(), host: "quay.io".into() });
    assert_eq!(world.run(with_secret("c", "evil.example")), pinned);
    let (custom_role_arn, revalidate_after) = (None, None);
    let arn = world.tables().secret(NAME).unwrap().unwrap().arn("x", "000000000000");
    let update =
        CacheRuleUpdate { prefix: prefix("hub"), credential_arn: Some(arn), custom_role_arn, revalidate_after };
    assert_eq!(world.run(Op::UpdateCacheRule(update)), pinned);
    // Whoever changes the secret cannot take the pin away.
    let held = world.tables().secret(NAME).unwrap().unwrap();
    world.ok(put(held.revision, Secret { pinned_host: None, ..held }));
    assert_eq!(world.run(with_secret("c", "evil.example")), pinned);
}

#[test]
fn a_new_value_is_a_new_version_of_the_rules_that_use_it() {
    let mut world = World::new();
    world.ok(put(0, secret(NAME)));
    world.ok(with_secret("a", "quay.io"));
    let rules = |world: &World| {
        let rules = world.tables().rules().unwrap();
        let of = |name: &str| rules.get(&prefix(name)).map(|rule| (rule.version, rule.updated_at)).unwrap();
        (of("a"), of("hub"))
    };
    let (before, other) = rules(&world);
    world.now.0 += MINUTE;
    let mut change = |change: &dyn Fn(&mut Secret)| {
        let mut held = world.tables().secret(NAME).unwrap().unwrap();
        change(&mut held);
        world.ok(put(held.revision, held));
        rules(&world)
    };
    assert_eq!(change(&|secret| secret.description = None), (before, other), "the value is the same");
    let (after, untouched) = change(&|secret| secret.versions[0].value.bytes = vec![9]);
    assert!(after.0 > before.0 && after.1 == before.1, "nobody has changed the rule itself");
    assert_eq!(untouched, other);
    let deletion = Some(Deletion { requested_at: START, purge_at: START });
    assert!(change(&|secret| secret.deletion = deletion).0.0 > after.0);
}

#[test]
fn a_deleted_secret_goes_when_its_window_ends() {
    let mut world = World::new();
    let deletion = Some(Deletion { requested_at: START, purge_at: START.plus(std::time::Duration::from_secs(600)) });
    world.ok(put(0, Secret { deletion, ..secret(NAME) }));
    assert_eq!(world.run(with_secret("a", "quay.io")), Err(Refusal::SecretDeleted(NAME.into())));
    world.ok(Op::Tick);
    assert!(world.tables().secret(NAME).unwrap().is_some());
    world.now.0 += 11 * MINUTE;
    world.ok(Op::Tick);
    assert_eq!(world.tables().secret(NAME).unwrap(), None);
}

#[test]
fn options_live_and_die_with_their_rule() {
    let mut world = World::new();
    let options = CacheRuleOptions { mirror: true, ..CacheRuleOptions::default() };
    let set = |prefix, expect_version, revalidate_after| Op::PutCacheRuleOptions {
        prefix,
        expect_version,
        options: Box::new(options.clone()),
        revalidate_after,
    };
    assert_eq!(world.run(set(prefix("absent"), 1, None)), Err(Refusal::NoRule(prefix("absent"))));
    let read = world.tables().rules().unwrap().get(&prefix("hub")).unwrap().clone();
    let minute = Some(std::time::Duration::from_secs(60));
    world.ok(set(prefix("hub"), read.version, minute));
    let rules = world.tables().rules().unwrap();
    assert_eq!(rules.options(&prefix("hub")), &options);
    let changed = rules.get(&prefix("hub")).unwrap();
    assert!(changed.version > read.version && changed.revalidate_after == minute);
    assert_eq!(world.run(set(prefix("hub"), read.version, None)), Err(Refusal::Moved), "read before it changed");
    world.ok(set(prefix("hub"), changed.version, None));
    assert_eq!(world.tables().rules().unwrap().get(&prefix("hub")).unwrap().revalidate_after, minute, "it stays");
    world.ok(Op::DeleteCacheRule { prefix: prefix("hub") });
    world.ok(Op::CreateCacheRule(Box::new(rule("hub"))));
    assert_eq!(world.tables().rules().unwrap().options(&prefix("hub")), &CacheRuleOptions::default());
}

#[test]
fn a_rule_is_made_with_its_options_in_one_step() {
    let mut world = World::new();
    let options = CacheRuleOptions { deny: vec![Glob("a/*".into())], ..CacheRuleOptions::default() };
    let create = |text: &str, is_default| Op::CreateCacheRuleWithOptions {
        rule: Box::new(CacheRule { is_default, ..rule(text) }),
        options: Box::new(options.clone()),
    };
    world.ok(create("new", true));
    assert_eq!(world.tables().rules().unwrap().options(&prefix("new")), &options);
    world.ok(Op::CreateCacheRule(Box::new(rule("new"))));
    assert_eq!(world.tables().rules().unwrap().options(&prefix("new")), &CacheRuleOptions::default());
    assert_eq!(world.run(create("new", false)), Err(Refusal::RuleExists(prefix("new"))));
    assert_eq!(world.tables().rules().unwrap().options(&prefix("new")), &CacheRuleOptions::default());
}

#[test]
fn a_robot_goes_with_its_keys_and_roots_last_key_stays() {
    let mut world = World::new();
    let key = |id: &str, principal| AccessKey { id: id.into(), principal, ..access_key() };
    let create = |robot: Robot, id: &str| Op::CreateRobot {
        key: Box::new(key(id, PrincipalArn::user("000000000000", &robot.name))),
        robot: Box::new(robot),
    };
    world.ok(create(robot("ci"), "K1"));
    assert_eq!(world.run(create(robot("ci"), "K2")), Err(Refusal::RobotExists("ci".into())));
    world.ok(create(robot("ci2"), "K3"));
    world.ok(Op::DeleteRobot { name: "ci".into() });
    assert_eq!(world.run(Op::DeleteRobot { name: "ci".into() }), Err(Refusal::NoRobot("ci".into())));
    let ids = |world: &World| {
        let keys = world.tables().access_keys(None, 10).unwrap();
        keys.into_iter().map(|key| key.id).collect::<Vec<_>>()
    };
    let root = access_key().id;
    assert_eq!(ids(&world), [root.clone(), "K3".to_owned()]);
    let delete = |id: &str| Op::DeleteAccessKey { id: id.into() };
    assert_eq!(world.run(delete("K1")), Err(Refusal::NoAccessKey("K1".into())));
    assert_eq!(world.run(delete(&root)), Err(Refusal::LastRootKey(root.clone())));
    world.ok(Op::PutAccessKey(Box::new(key("R2", access_key().principal))));
    world.ok(delete(&root));
    assert_eq!(world.run(delete("R2")), Err(Refusal::LastRootKey("R2".into())));
}

#[test]
fn a_key_changes_only_from_the_generation_that_was_read() {
    let mut world = World::new();
    let put = |id: &str, principal: &PrincipalArn, generation, enabled| {
        let principal = principal.clone();
        Op::PutAccessKey(Box::new(AccessKey { id: id.into(), principal, generation, enabled, ..access_key() }))
    };
    let (root, ci) = (access_key().principal, PrincipalArn::user("000000000000", "ci"));
    assert_eq!(world.run(put("K1", &ci, 1, true)), Err(Refusal::NoRobot("ci".into())));
    let key = AccessKey { id: "K1".into(), principal: ci.clone(), ..access_key() };
    world.ok(Op::CreateRobot { robot: Box::new(robot("ci")), key: Box::new(key) });
    world.ok(put("K2", &ci, 1, true));
    assert!(matches!(world.run(put("K3", &ci, 1, true)), Err(Refusal::Limit { limit: 2, .. })));
    // A change from what is no more the truth, or that would give the key to somebody else.
    world.ok(put("K2", &ci, 2, false));
    for stale in [put("K2", &ci, 2, true), put("K2", &ci, 4, true), put("K2", &root, 3, true)] {
        assert_eq!(world.run(stale), Err(Refusal::Moved));
    }
    // What was deleted meanwhile does not come back with a change, nor does a key after its robot.
    world.ok(Op::DeleteAccessKey { id: "K2".into() });
    assert_eq!(world.run(put("K2", &ci, 3, true)), Err(Refusal::NoAccessKey("K2".into())));
    world.ok(Op::DeleteRobot { name: "ci".into() });
    assert_eq!(world.run(put("K1", &ci, 2, true)), Err(Refusal::NoAccessKey("K1".into())));
    // Root keeps one that it can use.
    let id = access_key().id;
    assert_eq!(world.run(put(&id, &root, 2, false)), Err(Refusal::LastRootKey(id.clone())));
    world.ok(put("R2", &root, 1, true));
    world.ok(put(&id, &root, 2, false));
    assert_eq!(world.run(put("R2", &root, 2, false)), Err(Refusal::LastRootKey("R2".into())));
}

#[test]
fn what_came_through_a_credential_stays_private_until_its_repository_goes() {
    let mut world = World::new();
    world.ok(put(0, secret(NAME)));
    world.ok(with_secret("team", "quay.io"));
    let is_private = |world: &World, name: &str| world.tables().is_private(&self::name(name)).unwrap();
    world.pull("team/app", Some("v1"), &image(&[1], None));
    let link = world.link("team/base", blob(1), 100);
    world.ok(Op::LinkBlob(link));
    world.pull("hub/app", Some("v1"), &image(&[1], None));
    for (name, private) in [("team/app", true), ("team/base", true), ("hub/app", false), ("team", false)] {
        assert_eq!(is_private(&world, name), private, "{name}");
    }
    // Neither a longer rule, nor the end of the rule, nor another one in its place opens it.
    world.ok(Op::CreateCacheRule(Box::new(rule("team/app"))));
    world.ok(Op::DeleteCacheRule { prefix: prefix("team") });
    world.ok(Op::CreateCacheRule(Box::new(rule("team"))));
    world.pull("team/app", Some("v2"), &image(&[2], None));
    assert!(is_private(&world, "team/app") && is_private(&world, "team/base"));
    world.ok(Op::DeleteRepository { name: name("team/app"), force: true });
    assert!(!is_private(&world, "team/app"));
    world.pull("team/app", Some("v1"), &image(&[1], None));
    assert!(!is_private(&world, "team/app"), "it came through a rule without a credential");
}
