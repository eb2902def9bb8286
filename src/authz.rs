//! Authorization: evaluates CEL rules over the request and the claims, and records which of them decided.
//!
//! Fails closed: a `deny` that fails to evaluate denies, a `require` or an `allow` that fails does not allow, and every
//! level that has rules must allow the request separately. This module performs no I/O, and reads neither the config nor a
//! clock.

mod authorize;
pub(crate) mod cel;
mod reference;
mod rules;

pub use authorize::{Authorization, Permit, RuleFailure, authorize};
pub use cel::deep_stack::with_deep_stack;
pub use cel::error::{CompileError, EvalError};
pub use cel::expression::{Expression, MAX_SOURCE_LEN};
pub use cel::facts::claim_path_text;
pub use cel::scope::Scope;
pub use cel::vars::{ResponseHead, Vars, VerifiedToken};
pub use reference::{Variable, functions, variables};
pub use rules::{DecidedBy, EnforcementMode, Rule, RuleAction, RuleSet, RuleSetTrace, SourceLocation};

#[cfg(test)]
mod tests;
