//! Renders an explanation as text for a terminal. Everything from a token or a request is escaped.

use std::fmt;

use super::{AuthenticationStep, Explanation, RuleSetStep};
use crate::auth::{Check, CheckOutcome};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} on {}", self.method, self.path.escape_debug(), self.host.escape_debug())?;
        if let Some(note) = &self.note {
            writeln!(f, "note           {note}")?;
        }
        match &self.listener {
            Some(listener) => {
                writeln!(f, "listener       {} ({}) on {}", listener.name, listener.origin, self.bind)?;
            }
            None => writeln!(f, "listener       none on {} serves this host", self.bind)?,
        }
        match (&self.route, &self.matched) {
            (Some(route), Some(matched)) => {
                writeln!(f, "route          {} ({}), by {matched}", route.name, route.origin)?;
            }
            (Some(route), None) => writeln!(f, "route          {} ({})", route.name, route.origin)?,
            (None, _) if self.listener.is_some() => writeln!(f, "route          none matches")?,
            (None, _) => {}
        }
        for near in &self.near_misses {
            writeln!(f, "  not          {} ({}): {}", near.route.name, near.route.origin, near.why)?;
        }
        if let Some(step) = &self.authentication {
            write_authentication(f, step)?;
        }
        for set in &self.authorization {
            write_rule_set(f, set)?;
        }
        if let Some(reason) = self.credentials {
            writeln!(f, "credentials    rejected: {reason}")?;
        }
        if !self.further.is_empty() {
            let all: Vec<_> = self.further.iter().map(|named| format!("{} ({})", named.name, named.origin)).collect();
            writeln!(f, "other policies {}", all.join(", "))?;
        }
        if !self.not_judged.is_empty() && self.reason.is_none() {
            writeln!(f, "not evaluated  {}: needs a running gateway", self.not_judged.join(", "))?;
        }
        match (self.status, self.reason) {
            (Some(status), Some(reason)) => writeln!(f, "=> {status} {reason}")?,
            _ if self.answer.is_some() => writeln!(f, "=> {}", self.answer.as_deref().unwrap_or_default())?,
            _ if self.backends.is_empty() => writeln!(f, "=> allowed")?,
            _ => writeln!(f, "=> forwarded to {}", self.backends.join(" or "))?,
        }
        for (name, value) in self.response_headers.iter().filter(|(name, _)| name == "www-authenticate") {
            writeln!(f, "   {name}: {value}")?;
        }
        if let Some(sentence) = self.sentence {
            writeln!(f, "   {sentence}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

fn write_authentication(f: &mut fmt::Formatter<'_>, step: &AuthenticationStep) -> fmt::Result {
    write!(f, "jwtAuth        ")?;
    match (&step.origin, &step.replaces) {
        (None, _) => return writeln!(f, "none: every request is anonymous"),
        (Some(origin), None) => write!(f, "{} ({origin})", step.mode)?,
        (Some(origin), Some(replaced)) => write!(f, "{} ({origin}, replaces {replaced})", step.mode)?,
    }
    write!(f, ": {}", step.result)?;
    match (step.result, step.reason) {
        ("anonymous", Some(reason)) => writeln!(f, ", because the token was not accepted: {reason}")?,
        ("anonymous", None) => writeln!(f, ", no token")?,
        _ => writeln!(f)?,
    }
    if let Some(credential) = step.credential.as_ref().filter(|_| step.result != "verified") {
        let format_members = |members: &serde_json::Map<String, serde_json::Value>| {
            let members = members.iter().map(|(name, value)| format!("{name} {}", printable(&value.to_string())));
            members.collect::<Vec<_>>().join(", ")
        };
        let unit = if credential.bytes == 1 { "byte" } else { "bytes" };
        writeln!(f, "  UNVERIFIED   {}, {} {unit}", credential.places.join(", "), credential.bytes)?;
        for members in [&credential.unverified_header, &credential.unverified_claims] {
            if !members.is_empty() {
                writeln!(f, "               {}", format_members(members))?;
            }
        }
    }
    // passed structural checks share one line
    let is_structure_check =
        |check: &&Check| check.outcome == CheckOutcome::Ok && STRUCTURE_CHECKS.contains(&check.name);
    let structure: Vec<_> = step.checks.iter().take_while(is_structure_check).map(|check| check.name).collect();
    if !structure.is_empty() {
        writeln!(f, "  ok   {}", structure.join(", "))?;
    }
    step.checks.iter().skip(structure.len()).try_for_each(|check| write_check(f, check))
}

/// The structural checks of a token, which come first.
const STRUCTURE_CHECKS: [&str; 5] = ["token", "size", "parts", "header", "payload"];

/// Writes a line for each informative check. Omitted are checks after a failed one, and checks that are not configured,
/// except those of `iss` and `aud`, whose absence weakens authentication.
fn write_check(f: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
    let (mark, text) = match check.outcome {
        CheckOutcome::NotReached => return Ok(()),
        CheckOutcome::NotChecked if !matches!(check.name, "iss" | "aud") => return Ok(()),
        CheckOutcome::NotChecked if check.found.is_empty() => ("-   ", "not checked".to_owned()),
        CheckOutcome::NotChecked => ("-   ", format!("{}, not checked", check.found)),
        // the failure includes the expected value
        CheckOutcome::Failed => ("FAIL", check.found.clone()),
        CheckOutcome::Ok if check.found.is_empty() => ("ok  ", format!("expected: {}", check.expected)),
        CheckOutcome::Ok => ("ok  ", format!("{}; expected: {}", check.found, check.expected)),
    };
    writeln!(f, "  {mark} {:<9} {}", check.name, printable(&text))
}

fn write_rule_set(f: &mut fmt::Formatter<'_>, set: &RuleSetStep) -> fmt::Result {
    let verdict = match (set.allows, set.mode) {
        (true, _) => "allows",
        (false, "shadow") => "would deny (shadow)",
        (false, _) => "denies",
    };
    writeln!(f, "authorization  {} ({}): {verdict}, {}", set.level, set.origin, set.because)?;
    for rule in &set.rules {
        let mark = if rule.decides { "->" } else { "  " };
        writeln!(f, "  {mark} {:7} {:6} {}  {}", rule.kind, rule.result, rule.name, printable(&rule.expression))?;
        for (name, value) in &rule.reads {
            let value = if value.is_null() { "absent".to_owned() } else { printable(&value.to_string()) };
            writeln!(f, "               {name}: {value}")?;
        }
        if let Some(why) = &rule.why {
            writeln!(f, "               {}", printable(why))?;
        }
    }
    Ok(())
}

/// Replaces control characters, so that none reaches the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
