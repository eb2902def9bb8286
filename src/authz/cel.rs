//! Expressions in CEL: the checker, the variables and functions, and the evaluation within a budget.
//!
//! The parser, the interpreter and the standard library are those of the `cel` crate, which only this module names (as
//! [`engine`]). The rest of this module adds what the crate lacks, and replaces what it does incorrectly. Each of these was
//! found with the conformance cases of the CEL project or with tests of this project:
//!
//! * The crate's lists and maps compare equal only to each other, so `["a"] != jwt.groups` was always true. The checker
//!   substitutes an equality of this module wherever an operand may be a list or a map (`check::operators`).
//! * The crate compiles the regex of `matches` at each evaluation, and limits neither steps nor size (`functions`,
//!   `budget`).
//! * The crate's parser and interpreter recurse without a limit, and overflow the stack of a worker on long chains. Deep
//!   expressions are rejected, or run on a thread with a large stack (`deep_stack`).
//! * The crate does not accept `has(a["b"])` (`macros`).
//! * The crate checks nothing before an evaluation, not even names (`check`).
//! * The crate's error messages contain values, which may be claims (`eval`).
//!
//! The modules depend on each other in one direction: `budget`, `json`, `functions` and `variables` at the bottom, then
//! `vars`, `eval`, `check`, `expression` and `facts`.

pub(crate) use cel_interpreter as engine;

pub(crate) mod budget;
pub(crate) mod check;
pub(crate) mod deep_stack;
pub(crate) mod error;
pub(crate) mod eval;
pub(crate) mod expression;
pub(crate) mod facts;
pub(crate) mod functions;
pub(crate) mod json;
pub(crate) mod macros;
pub(crate) mod scope;
pub(crate) mod to_json;
pub(crate) mod types;
pub(crate) mod variables;
pub(crate) mod vars;
