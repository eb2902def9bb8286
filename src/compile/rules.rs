//! `authorization`: the rule sets of all levels that hold for a route, compiled.

use std::sync::Arc;

use super::Compiler;
use crate::authz::{Kind, Level, Mode, Origin, Rule, RuleSet, Scope};
use crate::config::place::{Located, Place};
use crate::config::policy::{Authorization, AuthorizationMode, Policies, RuleKind};

impl Compiler<'_> {
    /// The rule sets of `levels` (gateway, listener, route), made once for all routes that have the same.
    pub(super) fn rule_sets(&mut self, levels: &[&Policies]) -> Arc<[RuleSet]> {
        let named = [Level::Gateway, Level::Listener, Level::Route];
        let sets: Vec<(Level, &Located<Authorization>)> = named
            .into_iter()
            .zip(levels)
            .flat_map(|(level, policies)| policies.authorization.0.iter().map(move |set| (level, set)))
            .collect();
        let key: Vec<usize> = sets.iter().map(|(_, set)| set.place.start).collect();
        if let Some(made) = self.rules.get(&key) {
            return Arc::clone(made);
        }
        let made: Arc<[RuleSet]> = sets.into_iter().map(|(level, set)| self.rule_set(level, set)).collect();
        self.rules.insert(key, Arc::clone(&made));
        made
    }

    fn rule_set(&mut self, level: Level, set: &Located<Authorization>) -> RuleSet {
        let mut rules = Vec::with_capacity(set.rules.len());
        for (index, rule) in set.rules.iter().enumerate() {
            let kind = match rule.kind {
                RuleKind::Allow => Kind::Allow,
                RuleKind::Deny => Kind::Deny,
                RuleKind::Require => Kind::Require,
            };
            if let Some(expression) = self.expression(&rule.cel, Scope::Rule) {
                rules.push(Rule::new(kind, rule.name.as_deref(), index, expression, origin(&rule.cel.place)));
            }
        }
        let mode = match set.mode {
            AuthorizationMode::Enforce => Mode::Enforce,
            AuthorizationMode::Shadow => Mode::Shadow,
        };
        RuleSet { mode, level, origin: origin(&set.place), rules }
    }
}

/// `file:line`, as logs and `explain` name it.
fn origin(place: &Place) -> Origin {
    Origin(format!("{}:{}", place.file, place.line).into())
}
