//! Compiles `authorization`: the rule sets of all levels of a route.

use std::sync::Arc;

use crate::authz::{EnforcementMode, Rule, RuleAction, RuleSet, Scope, SourceLocation};
use crate::compile::Compiler;
use crate::config::PolicyLevel;
use crate::config::policy::{Authorization, AuthorizationMode, RuleKind};
use crate::config::span::{SourceSpan, Spanned};

impl Compiler<'_> {
    /// Compiles rule sets, once for all routes that have the same ones.
    pub(in crate::compile) fn rule_sets(&mut self, sets: &[(&Spanned<Authorization>, PolicyLevel)]) -> Arc<[RuleSet]> {
        let key: Vec<usize> = sets.iter().map(|(set, _)| set.span.start).collect();
        if let Some(cached) = self.rule_sets.get(&key) {
            return Arc::clone(cached);
        }
        let compiled: Arc<[RuleSet]> = sets.iter().map(|(set, level)| self.rule_set(*level, set)).collect();
        self.rule_sets.insert(key, Arc::clone(&compiled));
        compiled
    }

    fn rule_set(&mut self, level: PolicyLevel, set: &Spanned<Authorization>) -> RuleSet {
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

/// Returns `FILE:LINE`, as logs and `explain` cite it.
fn rule_origin(span: &SourceSpan) -> SourceLocation {
    SourceLocation(span.file_line().into())
}
