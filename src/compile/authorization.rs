//! `authorization`: the rule sets of all levels that hold for a route, compiled.

use std::sync::Arc;

use super::Compiler;
use crate::authz::{EnforcementMode, Rule, RuleAction, RuleSet, RuleSetLevel, Scope, SourceLocation};
use crate::config::policy::{Authorization, AuthorizationMode, PoliciesConfig, RuleKind};
use crate::config::span::{SourceSpan, Spanned};

impl Compiler<'_> {
    /// The rule sets of `levels` (gateway, listener, route), made once for all routes that have the same.
    pub(super) fn rule_sets(&mut self, levels: &[&PoliciesConfig]) -> Arc<[RuleSet]> {
        let all_levels = [RuleSetLevel::Gateway, RuleSetLevel::Listener, RuleSetLevel::Route];
        let sets: Vec<(RuleSetLevel, &Spanned<Authorization>)> = all_levels
            .into_iter()
            .zip(levels)
            .flat_map(|(level, policies)| policies.authorization.0.iter().map(move |set| (level, set)))
            .collect();
        let key: Vec<usize> = sets.iter().map(|(_, set)| set.span.start).collect();
        if let Some(cached) = self.rule_sets.get(&key) {
            return Arc::clone(cached);
        }
        let compiled: Arc<[RuleSet]> = sets.into_iter().map(|(level, set)| self.rule_set(level, set)).collect();
        self.rule_sets.insert(key, Arc::clone(&compiled));
        compiled
    }

    fn rule_set(&mut self, level: RuleSetLevel, set: &Spanned<Authorization>) -> RuleSet {
        let mut rules = Vec::with_capacity(set.rules.len());
        for (index, rule) in set.rules.iter().enumerate() {
            let kind = match rule.kind {
                RuleKind::Allow => RuleAction::Allow,
                RuleKind::Deny => RuleAction::Deny,
                RuleKind::Require => RuleAction::Require,
            };
            if let Some(expression) = self.expression(&rule.cel, Scope::Rule) {
                rules.push(Rule::new(kind, rule.name.as_deref(), index, expression, rule_origin(&rule.cel.span)));
            }
        }
        let mode = match set.mode {
            AuthorizationMode::Enforce => EnforcementMode::Enforce,
            AuthorizationMode::Shadow => EnforcementMode::Shadow,
        };
        RuleSet { mode, level, location: rule_origin(&set.span), rules }
    }
}

/// `file:line`, as logs and `explain` name it.
fn rule_origin(span: &SourceSpan) -> SourceLocation {
    SourceLocation(format!("{}:{}", span.file, span.line).into())
}
