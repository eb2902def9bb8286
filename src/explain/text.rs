//! An explanation as text for a terminal.

use std::fmt;

use super::{AuthenticationStep, Explanation, SetStep};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} on {}", self.method, self.path, self.host)?;
        match &self.listener {
            Some(listener) => writeln!(f, "listener       {} ({})", listener.name, listener.origin)?,
            None => writeln!(f, "listener       none on {} answers for this host", self.bind)?,
        }
        match &self.route {
            Some(route) => writeln!(f, "route          {} ({})", route.name, route.origin)?,
            None => writeln!(f, "route          none matches")?,
        }
        if let Some(step) = &self.authentication {
            authentication(f, step)?;
        }
        for set in &self.authorization {
            rules(f, set)?;
        }
        if !self.further.is_empty() {
            let all: Vec<_> = self.further.iter().map(|named| format!("{} ({})", named.name, named.origin)).collect();
            writeln!(f, "further        {}; not tried here", all.join(", "))?;
        }
        match (self.status, self.reason, self.sentence) {
            (Some(status), Some(reason), Some(sentence)) => writeln!(f, "=> {status} {reason}: {sentence}"),
            _ if self.backends.is_empty() => writeln!(f, "=> let through"),
            _ => writeln!(f, "=> forwarded to {}", self.backends.join(" or ")),
        }
    }
}

fn authentication(f: &mut fmt::Formatter<'_>, step: &AuthenticationStep) -> fmt::Result {
    write!(f, "jwtAuth        ")?;
    match &step.origin {
        None => return writeln!(f, "none: every request is anonymous"),
        Some(origin) => write!(f, "{} ({origin}): {}", step.mode, step.result)?,
    }
    if let Some(reason) = step.reason {
        write!(f, ", {reason}")?;
    }
    if let Some(provider) = &step.provider {
        write!(f, ", provider {provider}")?;
    }
    if let Some(kid) = &step.kid {
        write!(f, ", kid {}", kid.escape_debug())?;
    }
    writeln!(f)?;
    if let Some(detail) = &step.detail {
        writeln!(f, "               {}", detail.escape_debug())?;
    }
    Ok(())
}

fn rules(f: &mut fmt::Formatter<'_>, set: &SetStep) -> fmt::Result {
    let verdict = match (set.allows, set.mode) {
        (true, _) => "allows",
        (false, "shadow") => "would refuse (shadow)",
        (false, _) => "refuses",
    };
    writeln!(f, "authorization  {} ({}): {verdict}, {}", set.level, set.origin, set.because)?;
    for rule in &set.rules {
        let mark = if rule.decides { "->" } else { "  " };
        write!(f, "  {mark} {:7} {:6} {}  {}", rule.kind, rule.result, rule.name, rule.expression.escape_debug())?;
        match &rule.why {
            Some(why) => writeln!(f, "\n               {}", why.escape_debug())?,
            None => writeln!(f)?,
        }
    }
    Ok(())
}
