//! Properties of all rules and all tokens.

use proptest::prelude::*;

use super::*;

/// Conditions that read claims in various ways. Depending on the token, each is true, false or fails.
const CONDITIONS: &[&str] = &[
    "true",
    "false",
    "jwt.a",
    "jwt.a == true",
    "has(jwt.a)",
    "has(jwt.a) && jwt.a == 1",
    "jwt.b.contains('x')",
    "'x' in jwt.b",
    "jwt.a > jwt.b",
    "jwt.b.all(x, x == 'x')",
    "jwt.b.exists(x, x > 1)",
    "jwt.c.d.startsWith('x')",
    "claim(jwt, ['c', 'd']) == null",
    "default(jwt.a, 1) == jwt.b",
    "jwt == null",
    "request.path == '/admin'",
    "size(jwt.b) > 1",
    "jwt.a + jwt.b == jwt.c",
    "jwt.b == ['x', 'y'] || jwt.c in [jwt.a, jwt.b]",
    "jwt.a.matches('^x') ? jwt.b : jwt.c",
];

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["x", "y", "xy", "", "é"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((prop::sample::select(vec!["a", "b", "c", "d", "x"]), inner), 0..4).prop_map(
                |entries| Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            ),
        ]
    })
}

/// The claims of a token, or null for none.
fn token() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        5 => prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), json_value()), 0..4).prop_map(
            |entries| Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        ),
    ]
}

fn rules() -> impl Strategy<Value = Vec<(RuleAction, usize)>> {
    let kind = prop::sample::select(vec![RuleAction::Allow, RuleAction::Deny, RuleAction::Require]);
    prop::collection::vec((kind, 0..CONDITIONS.len()), 0..5)
}

fn build_set(rules: &[(RuleAction, usize)], mode: EnforcementMode) -> RuleSet {
    let rules = rules.iter().enumerate().map(|(index, (kind, condition))| {
        Rule::new(*kind, None, index, compile(CONDITIONS[*condition]), SourceLocation::default())
    });
    RuleSet {
        mode,
        level: crate::config::PolicyLevel::Route,
        location: SourceLocation::default(),
        rules: rules.collect(),
    }
}

fn allows(rules: &[(RuleAction, usize)], token: &Value) -> bool {
    let set = build_set(rules, EnforcementMode::Enforce);
    test_request(token.clone()).with_vars(|vars| decide(&set, vars)).allows()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn decision_equals_that_of_a_simple_model(rules in rules(), token in token()) {
        let set = build_set(&rules, EnforcementMode::Enforce);
        let (trace, allowed) = test_request(token).with_vars(|vars| (set.trace(vars), decide(&set, vars).allows()));
        let results_of = |kind| set.rules.iter().zip(&trace.results).filter(move |(rule, _)| rule.action == kind).map(|(_, result)| result);
        let objected = results_of(RuleAction::Deny).any(|result| *result != Ok(false));
        let required = results_of(RuleAction::Require).all(|result| *result == Ok(true));
        let admitted = results_of(RuleAction::Allow).count() == 0 || results_of(RuleAction::Allow).any(|result| *result == Ok(true));
        prop_assert_eq!(allowed, !objected && required && admitted);
    }

    #[test]
    fn trace_agrees_with_the_decision(rules in rules(), token in token()) {
        let sets = [build_set(&rules, EnforcementMode::Enforce)];
        test_request(token).with_vars(|vars| {
            let (trace, decided_by, authorization) = (sets[0].trace(vars), decide(&sets[0], vars), authorize(&sets, vars));
            prop_assert_eq!(trace.decided_by, decided_by);
            prop_assert_eq!(authorization.set_decisions().next(), Some((0, decided_by)));
            Ok(())
        })?;
    }

    #[test]
    fn additional_deny_or_require_never_allows_more(
        rules in rules(), token in token(), objection in prop::sample::select(vec![RuleAction::Deny, RuleAction::Require]),
        condition in 0..CONDITIONS.len(), at in 0..6_usize,
    ) {
        let mut more = rules.clone();
        more.insert(at.min(rules.len()), (objection, condition));
        prop_assert!(!allows(&more, &token) || allows(&rules, &token));
    }

    #[test]
    fn additional_allow_never_rejects_more(rules in rules(), token in token(), condition in 0..CONDITIONS.len()) {
        prop_assume!(rules.iter().any(|(kind, _)| *kind == RuleAction::Allow));
        let mut more = rules.clone();
        more.push((RuleAction::Allow, condition));
        prop_assert!(allows(&more, &token) || !allows(&rules, &token));
    }

    #[test]
    fn order_of_rules_does_not_affect_the_decision(rules in rules(), token in token()) {
        let mut reversed = rules.clone();
        reversed.reverse();
        prop_assert_eq!(allows(&rules, &token), allows(&reversed, &token));
    }

    /// A deny rule that reads a claim without `has()` rejects every request without that claim.
    #[test]
    fn removing_a_claim_that_a_deny_reads_never_allows_the_request(value in json_value()) {
        let set = rule_set(&["deny: jwt.a == true"]);
        let with = json!({"a": value, "b": 1});
        let rejected = !test_request(with).with_vars(|vars| decide(&set, vars)).allows();
        prop_assert_eq!(rejected, value == Value::Bool(true));
        for without in [json!({"b": 1}), Value::Null] {
            let admitted = test_request(without).with_vars(|vars| decide(&set, vars)).allows();
            prop_assert!(!admitted);
        }
    }

    /// A rule that tests only the presence and equality of claims does not allow a request without a token.
    #[test]
    fn request_without_a_token_never_matches_an_allow_that_reads_a_claim(token in token(), condition in 2..12_usize) {
        prop_assume!(!CONDITIONS[condition].contains("null"));
        prop_assert!(!allows(&[(RuleAction::Allow, condition)], &Value::Null), "{token}");
    }

    #[test]
    fn every_enforced_set_must_allow_and_shadow_sets_do_not_count(
        a in rules(), b in rules(), shadow in rules(), token in token(), at in 0..3_usize,
    ) {
        let mut sets = vec![build_set(&a, EnforcementMode::Enforce), build_set(&b, EnforcementMode::Enforce)];
        let expected = allows(&a, &token) && allows(&b, &token);
        sets.insert(at, build_set(&shadow, EnforcementMode::Shadow));
        let authorization = test_request(token).with_vars(|vars| authorize(&sets, vars));
        prop_assert_eq!(authorization.allowed(), expected);
        for (set, decided_by) in authorization.shadow_rejections(&sets) {
            prop_assert!(set.mode == EnforcementMode::Shadow && !decided_by.allows());
        }
    }

    #[test]
    fn equality_is_symmetric(a in json_value(), b in json_value()) {
        let (forward, backward) = (compile("jwt.a == jwt.b"), compile("jwt.b == jwt.a"));
        let (unequal, same) = (compile("jwt.a != jwt.b"), compile("jwt.a == jwt.a"));
        let in_list = compile("[jwt.a] == [jwt.a] && jwt.a in [jwt.a]");
        test_request(json!({"a": a, "b": b})).with_vars(|vars| {
            prop_assert_eq!(forward.eval_bool(vars), backward.eval_bool(vars));
            prop_assert_eq!(forward.eval_bool(vars).map(|equal| !equal), unequal.eval_bool(vars));
            prop_assert_eq!(same.eval_bool(vars), Ok(true));
            prop_assert_eq!(in_list.eval_bool(vars), Ok(true));
            Ok(())
        })?;
    }
}

#[test]
fn deciding_rule_has_a_name() {
    let mut sets =
        vec![rule_set(&["request.path == '/admin'"]), rule_set(&["deny: jwt.none", "true"]), rule_set(&["true"])];
    sets[0].rules[0].name = "admins".into();
    let authorization = test_request(claims()).with_vars(|vars| authorize(&sets, vars));
    assert_eq!(authorization.deciding_set(&sets), Some((1, DecidedBy::Deny(0))));
    assert_eq!(authorization.deciding_rule_name(&sets), Some("deny[0]"));
    let rejection = authorization.rejection().unwrap();
    assert!(rejection.with_token && rejection.reason == crate::reason::Reason::Denied);

    sets[1] = rule_set(&[]);
    let authorization = test_request(claims()).with_vars(|vars| authorize(&sets[..2], vars));
    assert_eq!(authorization.deciding_rule_name(&sets), Some("admins"), "a set without rules decides nothing");
    let none = test_request(claims()).with_vars(|vars| authorize::<RuleSet>(&[], vars));
    assert!(none.allowed() && none.permit().is_some() && none.deciding_set::<RuleSet>(&[]).is_none());
}

#[test]
fn more_sets_than_are_stored_inline_decide_the_same() {
    let mut sets: Vec<RuleSet> = (0..6).map(|_| rule_set(&["true"])).collect();
    let vars = test_request(claims());
    assert_eq!(vars.with_vars(|vars| authorize(&sets, vars)).set_decisions().count(), 6);
    sets[5] = rule_set(&["false"]);
    let authorization = vars.with_vars(|vars| authorize(&sets, vars));
    assert_eq!(authorization.deciding_set(&sets), Some((5, DecidedBy::NoAllowMatched)));
    assert_eq!(authorization.deciding_rule_name(&sets), Some("none"));
}

#[test]
fn failing_rule_is_logged_once_a_minute() {
    let rule = rule(RuleAction::Allow, "true");
    let logged: Vec<bool> =
        [100.0, 100.5, 159.0, 160.0, 161.0, 400.0].map(|at| rule.should_log_failure(UnixTime(at))).to_vec();
    assert_eq!(logged, [true, false, false, true, false, true]);
}
