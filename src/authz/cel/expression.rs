//! One CEL expression: compiled and checked when the config is loaded, evaluated against a request.
//!
//! Compilation rejects every error that does not depend on a request (the list is in [`check`](super::check)) and reports
//! all of them with their positions. No text makes it panic or overflow the stack. An evaluation is limited in steps and
//! allocated bytes, and a panic of the engine counts as a failed evaluation.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::check;
use super::deep_stack::with_deep_stack;
use super::engine::common::ast::IdedExpr;
use super::engine::common::types::CelBool;
use super::engine::common::value::CowVal;
use super::error::{CompileError, EvalError, printable};
use super::eval::{Constant, Resolver, eval};
use super::functions;
use super::scope::Scope;
use super::to_json::to_json;
use super::vars::{Activation, Vars};

/// The limit on the length of a source, in bytes.
pub const MAX_SOURCE_LEN: usize = 4096;
/// The depth up to which an expression is evaluated on the calling thread. A worker has 2 MiB of stack, and the engine
/// takes about 2 KiB a level with optimizations and 64 KiB without. Deeper expressions are rare, and run on a dedicated
/// thread.
const MAX_INLINE_DEPTH: usize = if cfg!(debug_assertions) { 12 } else { 128 };

/// A compiled expression. All requests share it, and it contains no data of a request.
#[derive(Debug)]
pub struct Expression {
    source: Box<str>,
    pub(crate) ast: IdedExpr,
    constants: Vec<Constant>,
    unguarded_reads: Vec<String>,
    needs_deep_stack: bool,
}

impl Expression {
    /// Compiles one expression. A caller with many expressions should call this inside of [`with_deep_stack`], which then
    /// starts one thread for all of them.
    ///
    /// # Errors
    /// Returns all errors in the order of the source. A syntax error is always the only one.
    pub fn compile(source: &str, scope: Scope<'_>) -> Result<Self, Vec<CompileError>> {
        with_deep_stack(|| compile(source, &scope)).unwrap_or_else(|reason| Err(vec![CompileError::new(0, reason)]))
    }

    /// Returns the source text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the paths of the claims and headers that the expression reads without a `has()`, `in`, `?` or `default()`
    /// for the same path. If one of them is absent, the evaluation fails.
    pub fn unguarded_reads(&self) -> &[String] {
        &self.unguarded_reads
    }

    /// Evaluates a condition.
    ///
    /// # Errors
    /// Fails if the evaluation fails, and if the result is neither true nor false.
    pub fn eval_bool(&self, vars: &Vars<'_>) -> Result<bool, EvalError> {
        self.eval_bool_in(&Activation::new(vars))
    }

    /// Evaluates to JSON: timestamps as RFC 3339, durations as `1.5s`, bytes as base64.
    ///
    /// # Errors
    /// Fails if the evaluation fails, and if JSON has no representation of the result.
    pub fn eval_json(&self, vars: &Vars<'_>) -> Result<serde_json::Value, EvalError> {
        self.eval(&Activation::new(vars), |val| {
            to_json(val.as_ref())
                .ok_or_else(|| EvalError::Result(format!("a {} can't be written as JSON", val.get_type().name())))
        })
    }

    pub(crate) fn eval_bool_in(&self, activation: &Activation<'_>) -> Result<bool, EvalError> {
        self.eval(activation, |val| match val.downcast_ref::<CelBool>() {
            Some(bool) => Ok(*bool.inner()),
            None => Err(EvalError::Result(format!("the result is a {}, not true or false", val.get_type().name()))),
        })
    }

    fn eval<T: Send>(
        &self,
        activation: &Activation<'_>,
        convert: impl for<'e, 'v> FnOnce(CowVal<'e, 'v>) -> Result<T, EvalError> + Send,
    ) -> Result<T, EvalError> {
        let resolver = Resolver { activation: Some(activation), constants: &self.constants };
        match self.needs_deep_stack {
            true => with_deep_stack(|| eval(&self.ast, &resolver, convert)).unwrap_or(Err(EvalError::Panicked)),
            false => eval(&self.ast, &resolver, convert),
        }
    }
}

fn compile(source: &str, scope: &Scope<'_>) -> Result<Expression, Vec<CompileError>> {
    if source.len() > MAX_SOURCE_LEN {
        let mut error = CompileError::new(MAX_SOURCE_LEN, format!("longer than {MAX_SOURCE_LEN} bytes"));
        error.hint = Some("split it into several".to_owned());
        return Err(vec![error]);
    }
    if source.trim().is_empty() {
        return Err(vec![CompileError::new(0, "the expression is empty")]);
    }
    // Fields in backticks, as in cel-go: request.headers.`x-env`.
    let parser = functions::env().parser().enable_ident_escape_syntax(true);
    let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse_with_source_info(source)));
    match parsed {
        Ok(Ok((ast, info))) => {
            let check::CheckedExpr { expr, constants, unguarded_reads } = check::check(ast, &info, scope)?;
            Ok(Expression {
                source: source.into(),
                needs_deep_stack: check::depth(&expr) > MAX_INLINE_DEPTH,
                ast: expr,
                constants,
                unguarded_reads,
            })
        }
        // Only the first error counts. The parser reports the others while it tries to recover.
        Ok(Err(errors)) => Err(vec![match errors.errors.into_iter().next() {
            Some(error) => syntax_error(source, error.pos, &error.msg),
            None => CompileError::new(0, "not an expression"),
        }]),
        Err(_panic) => Err(vec![CompileError::new(0, "the parser can't read this expression")]),
    }
}

/// Converts an error of the parser, whose lines and columns count from 1.
fn syntax_error(source: &str, (line, column): (isize, isize), message: &str) -> CompileError {
    let line_start: usize =
        source.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
    let column = usize::try_from(column - 1).unwrap_or(0);
    let line_text = source.get(line_start..).unwrap_or_default();
    let column_offset = line_text.char_indices().nth(column).map_or(line_text.len(), |(offset, _)| offset);
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or(message);
    CompileError::new((line_start + column_offset).min(source.len()), format!("not CEL: {}", printable(message)))
}
