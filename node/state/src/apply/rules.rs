//! Cache rules. Images that came through one stay when it goes.

use std::time::Duration;

use flotilla_base::store::StoreError;
use flotilla_registry::{
    Prefix, Refusal,
    cache_rule::{CacheRule, CacheRuleOptions},
};

use super::{Applier, Halt};
use crate::{
    CacheRuleUpdate, Outcome,
    format::{CACHE_RULES, RULE_OPTIONS},
};

/// Far above AWS's 50; each view holds all of them parsed.
const RULES_MAX: u64 = 10_000;

impl Applier<'_, '_> {
    /// A default rule gives way to one that a caller makes, not to another default: `flotilla dev` may make its own at
    /// every start.
    pub(super) fn create_rule(&mut self, rule: CacheRule, options: Option<CacheRuleOptions>) -> Result<Outcome, Halt> {
        let existing = self.rule(&rule.prefix)?;
        match &existing {
            Some(existing) if rule.is_default || !existing.is_default => {
                return Err(Refusal::RuleExists(rule.prefix).into());
            }
            Some(_) => {}
            None if self.counters.rules >= RULES_MAX => {
                return Err(Refusal::Limit { what: "cache rules".into(), limit: RULES_MAX }.into());
            }
            None => {}
        }
        if let Some(secret) = &rule.credential_arn {
            self.pin_secret(secret, &rule.upstream_host)?;
        }
        match existing {
            Some(_) => self.remove(RULE_OPTIONS, key(&rule.prefix))?,
            None => self.counters.rules += 1,
        }
        if let Some(options) = options {
            self.put(RULE_OPTIONS, key(&rule.prefix), &(rule.prefix.clone(), options))?;
        }
        let created_at = self.meta.time;
        self.put_rule(CacheRule { created_at, ..rule })
    }

    pub(super) fn update_rule(&mut self, update: CacheRuleUpdate) -> Result<Outcome, Halt> {
        let CacheRuleUpdate { prefix, credential_arn, custom_role_arn, revalidate_after } = update;
        let Some(mut rule) = self.rule(&prefix)? else { return Err(Refusal::NoRule(prefix).into()) };
        if let Some(secret) = &credential_arn {
            self.pin_secret(secret, &rule.upstream_host)?;
        }
        rule.credential_arn = credential_arn.or(rule.credential_arn);
        rule.custom_role_arn = custom_role_arn.or(rule.custom_role_arn);
        rule.revalidate_after = revalidate_after.or(rule.revalidate_after);
        self.put_rule(rule)
    }

    pub(super) fn delete_rule(&mut self, prefix: Prefix) -> Result<Outcome, Halt> {
        let Some(rule) = self.rule(&prefix)? else { return Err(Refusal::NoRule(prefix).into()) };
        self.remove(CACHE_RULES, key(&prefix))?;
        self.remove(RULE_OPTIONS, key(&prefix))?;
        self.counters.rules = self.counters.rules.saturating_sub(1);
        Ok(Outcome::Rule(Box::new(rule)))
    }

    /// Whoever read a rule that has changed since would undo what he has not seen.
    pub(super) fn put_rule_options(
        &mut self,
        prefix: Prefix,
        expect_version: u64,
        options: CacheRuleOptions,
        revalidate_after: Option<Duration>,
    ) -> Result<Outcome, Halt> {
        let Some(mut rule) = self.rule(&prefix)? else { return Err(Refusal::NoRule(prefix).into()) };
        if rule.version != expect_version {
            return Err(Refusal::Moved.into());
        }
        rule.revalidate_after = revalidate_after.or(rule.revalidate_after);
        self.put(RULE_OPTIONS, key(&prefix), &(prefix, options))?;
        self.put_rule(rule)
    }

    fn put_rule(&mut self, rule: CacheRule) -> Result<Outcome, Halt> {
        self.renew_rule(CacheRule { updated_at: self.meta.time, ..rule })
    }

    /// Another version of a rule that nobody has changed.
    pub(super) fn renew_rule(&mut self, rule: CacheRule) -> Result<Outcome, Halt> {
        self.meta.last_rule_version += 1;
        let rule = CacheRule { version: self.meta.last_rule_version, ..rule };
        self.put(CACHE_RULES, key(&rule.prefix), &rule)?;
        Ok(Outcome::Rule(Box::new(rule)))
    }

    fn rule(&self, prefix: &Prefix) -> Result<Option<CacheRule>, StoreError> {
        self.tables().row(CACHE_RULES, &key(prefix))
    }
}

/// `ROOT` is no repository's name, so the text is unambiguous.
fn key(prefix: &Prefix) -> Vec<u8> {
    prefix.as_str().as_bytes().to_vec()
}
