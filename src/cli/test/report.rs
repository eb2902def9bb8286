//! The results of the tests, and the coverage of the config.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::output::{Style, pluralize};
use crate::auth::{self, Check};
use crate::authz::RuleAction;
use crate::explain::Explanation;
use crate::snapshot::{Policies, Snapshot};

/// The result of one test.
pub(super) struct TestOutcome {
    pub(super) name: String,
    pub(super) place: String,
    /// The fields that differ: the name, the expected and the actual value.
    pub(super) differences: Vec<(String, String, String)>,
    pub(super) explanation: Explanation,
}

impl TestOutcome {
    /// Returns the failed check of the token, whether or not the test expects it.
    fn failed_check(&self) -> Option<&Check> {
        let step = self.explanation.authentication.as_ref()?;
        step.checks.iter().find(|check| check.outcome == auth::CheckOutcome::Failed)
    }
}

/// The results of all tests.
#[derive(Default)]
pub(super) struct Report {
    pub(super) files: Vec<(String, Vec<TestOutcome>)>,
    pub(super) coverage: Coverage,
}

/// The coverage of routes and rules.
#[derive(Default)]
pub(super) struct Coverage {
    routes: BTreeMap<(String, String), bool>,
    /// The rules, by origin and name.
    rules: BTreeMap<(String, String), bool>,
    /// The require rules, which are covered when they reject a request. All others are covered when they are true.
    requires: BTreeSet<(String, String)>,
}

impl Coverage {
    /// Adds everything in a config that can be covered.
    pub(super) fn expect(&mut self, snapshot: &Snapshot) {
        for listener in snapshot.binds.iter().flat_map(|bind| &bind.listeners) {
            self.expect_rules(&listener.policies);
            for route in &listener.routes {
                self.routes.entry((listener.name.to_string(), route.name.to_string())).or_insert(false);
                self.expect_rules(&route.policies);
            }
        }
    }

    fn expect_rules(&mut self, policies: &Policies) {
        for rule in policies.rule_sets.iter().flat_map(|set| &set.rules) {
            let key = (rule.location.to_string(), rule.name.to_string());
            if rule.action == RuleAction::Require {
                self.requires.insert(key.clone());
            }
            self.rules.entry(key).or_insert(false);
        }
    }

    /// Records the route and the rules of one request.
    pub(super) fn record(&mut self, explanation: &Explanation) {
        if let (Some(listener), Some(route)) = (&explanation.listener, &explanation.route) {
            self.routes.insert((listener.name.clone(), route.name.clone()), true);
        }
        for rule in explanation.authorization.iter().flat_map(|set| &set.rules) {
            let key = (rule.origin.clone(), rule.name.clone());
            if (rule.result == "true") != self.requires.contains(&key) {
                self.rules.insert(key, true);
            }
        }
    }

    fn count_covered(items: &BTreeMap<(String, String), bool>) -> (usize, usize) {
        (items.values().filter(|covered| **covered).count(), items.len())
    }

    /// Returns the percentage of covered routes and rules together; 100 if there are none.
    pub(super) fn percent(&self) -> f64 {
        let ((routes, total_routes), (rules, total_rules)) =
            (Self::count_covered(&self.routes), Self::count_covered(&self.rules));
        match total_routes + total_rules {
            0 => 100.0,
            total => (routes + rules) as f64 * 100.0 / total as f64,
        }
    }

    fn uncovered(items: &BTreeMap<(String, String), bool>) -> impl Iterator<Item = &(String, String)> {
        items.iter().filter(|(_, covered)| !**covered).map(|(key, _)| key)
    }
}

impl Report {
    fn outcomes(&self) -> impl Iterator<Item = &TestOutcome> {
        self.files.iter().flat_map(|(_, outcomes)| outcomes)
    }

    pub(super) fn failed(&self) -> usize {
        self.outcomes().filter(|outcome| !outcome.differences.is_empty()).count()
    }

    /// Formats the results as text.
    pub(super) fn to_text(&self) -> String {
        let style = Style::stdout();
        let mut out = String::new();
        for outcome in self.outcomes() {
            if outcome.differences.is_empty() {
                let _ = writeln!(out, "{}    {}", style.good("ok"), outcome.name);
                continue;
            }
            let _ = writeln!(out, "{}  {} ({})", style.bad("FAIL"), outcome.name, outcome.place);
            for (field, expected, got) in &outcome.differences {
                let _ = writeln!(out, "      {field}: expected {expected}, got {got}");
            }
            if let Some(check) = outcome.failed_check() {
                let _ = writeln!(out, "      FAIL {}: {}", check.name, escape_controls(&check.found));
            }
        }
        let (total, failed) = (self.outcomes().count(), self.failed());
        let ((routes, total_routes), (rules, total_rules)) =
            (Coverage::count_covered(&self.coverage.routes), Coverage::count_covered(&self.coverage.rules));
        let _ = writeln!(
            out,
            "{}: {} passed, {failed} failed; covered: routes {routes}/{total_routes}, rules {rules}/{total_rules}",
            pluralize(total, "test"),
            total - failed
        );
        for (listener, route) in Coverage::uncovered(&self.coverage.routes) {
            let _ = writeln!(out, "  not covered: route {route} of listener {listener}");
        }
        for key @ (origin, rule) in Coverage::uncovered(&self.coverage.rules) {
            let problem = if self.coverage.requires.contains(key) { "never rejects" } else { "never true" };
            let _ = writeln!(out, "  {problem}: rule {rule} ({origin})");
        }
        out
    }

    /// Formats the results as JSON.
    pub(super) fn to_json(&self) -> Value {
        let test = |outcome: &TestOutcome| {
            let differences: Vec<Value> = outcome
                .differences
                .iter()
                .map(|(field, expected, got)| json!({"what": field, "expected": expected, "got": got}))
                .collect();
            let ok = differences.is_empty();
            json!({
                "name": outcome.name,
                "place": outcome.place,
                "ok": ok,
                "differences": differences,
                "failedCheck": outcome.failed_check(),
            })
        };
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|(path, outcomes)| json!({"file": path, "tests": outcomes.iter().map(test).collect::<Vec<_>>()}))
            .collect();
        let section = |items: &BTreeMap<(String, String), bool>| {
            let (covered, total) = Coverage::count_covered(items);
            let uncovered: Vec<_> =
                Coverage::uncovered(items).map(|(first, second)| format!("{first} {second}")).collect();
            json!({"covered": covered, "all": total, "missing": uncovered})
        };
        let failed = self.failed();
        json!({
            "files": files,
            "passed": self.outcomes().count() - failed,
            "failed": failed,
            "coverage": {
                "percent": self.coverage.percent().floor(),
                "routes": section(&self.coverage.routes),
                "rules": section(&self.coverage.rules),
            },
        })
    }

    /// Formats the results as JUnit XML.
    pub(super) fn to_junit(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
        for (path, outcomes) in &self.files {
            let failed = outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).count();
            let (name, tests) = (xml_escape(path), outcomes.len());
            let _ = writeln!(out, "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\">");
            for outcome in outcomes {
                let start_tag = format!("    <testcase name=\"{}\" classname=\"{name}\"", xml_escape(&outcome.name));
                if outcome.differences.is_empty() {
                    let _ = writeln!(out, "{start_tag}/>");
                    continue;
                }
                let lines = outcome
                    .differences
                    .iter()
                    .map(|(field, expected, got)| format!("{field}: expected {expected}, got {got}"));
                let message = lines.collect::<Vec<_>>().join("; ");
                let _ = writeln!(
                    out,
                    "{start_tag}>\n      <failure message=\"{}\"/>\n    </testcase>",
                    xml_escape(&message)
                );
            }
            out.push_str("  </testsuite>\n");
        }
        out.push_str("</testsuites>\n");
        out
    }
}

/// Escapes text for an attribute. Replaces characters that XML 1.0 does not allow with `?`.
fn xml_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// Escapes the control characters of text for a terminal.
fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape_controls;

    #[test]
    fn text_output_escapes_control_characters() {
        let found = "no token in any of the policy's \"locations\"\n\u{1b}[31m é";
        assert_eq!(escape_controls(found), "no token in any of the policy's \"locations\"\\n\\u{1b}[31m é");
    }

    #[test]
    fn xml_attributes_are_escaped() {
        assert_eq!(super::xml_escape("a<b>&\"c\"\n\u{1b}"), "a&lt;b&gt;&amp;&quot;c&quot;&#10;?");
    }
}
